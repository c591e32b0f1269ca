// One machine's supervisor; started by hengectl.
//   henge-supervisor NAME            serves the connection that is open as descriptor 3, and starts when told to;
//                                    descriptor 4 is a file that a copy of the stage comes into, 5 ends when it is there
//   henge-supervisor --service NAME  starts at once, as a service of the host's systemd
//   henge-supervisor --plan NAME …   prints the plan of a start as JSON
//   henge-supervisor --journal NAME follow|once ENVIRONMENT… -- ARGUMENTS…
//                                    shows the journal of a machine as journalctl does
//   henge-supervisor --probe FOLDER  prints what is known of this host as JSON

import Glibc
import Linux
import Logging
import MachineRuntime
import MachineSpec
import MachineStore
import Rootless

LoggingSystem.bootstrap(LineLog.init)

do {
  var arguments = CommandLine.arguments.dropFirst()
  let wantsPlan = arguments.first == "--plan"
  let isService = arguments.first == "--service"
  if wantsPlan || isService { arguments = arguments.dropFirst() }
  if arguments.first == "--probe", arguments.count == 2, let folder = arguments.last {
    print(try Supervisor.probeJSON(folder: folder).compact)
    exit(0)
  }
  let wantsJournal = arguments.first == "--journal"
  if wantsJournal { arguments = arguments.dropFirst() }
  guard let text = arguments.first else {
    throw Failure("run", "henge-supervisor", "it needs a machine's name", kind: .usage)
  }
  let name = try MachineName(text)
  let places = try Places.current()
  if wantsJournal {
    let supervisor = try Supervisor(name: name, places: places, connection: nil, log: Logger(label: "henge"))
    let words = arguments.dropFirst().split(separator: "--", maxSplits: 1, omittingEmptySubsequences: false)
    let (settings, rest) = (words.first ?? [], words.count > 1 ? Array(words[1]) : [])
    exit(
      try supervisor.showJournal(
        rest, follows: settings.first == "follow", environment: Array(settings.dropFirst())))
  }
  if wantsPlan {
    let supervisor = try Supervisor(name: name, places: places, connection: nil, log: Logger(label: "henge"))
    print(try supervisor.planJSON(overrides: Array(arguments.dropFirst())).compact)
  } else if isService {
    // As hengectl does for a user whose machine it is.
    if geteuid() != 0 { try ParentNamespace.enter(environment: places.environment) }
    try Supervisor(name: name, places: places, connection: nil, log: Logger(label: "henge")).runService()
  } else {
    try Supervisor(name: name, places: places, connection: 3, stage: (4, 5), log: Logger(label: "henge")).run()
  }
} catch let failure as Failure {
  LineLog.write("henge-supervisor: \(failure)")
  exit(failure.kind.rawValue)
} catch {
  LineLog.write("henge-supervisor: \(printable("\(error)"))")
  exit(1)
}
