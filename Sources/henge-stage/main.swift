// The program between the host and a machine: it sets a machine up and becomes its process 1 (`boot`), goes into a
// machine that runs and hands something out (`join`), attaches a mount there (`mounts`), carries its traffic (`carry`),
// or becomes a program of the host's that sees a few of a machine's folders (`view`). Single-threaded and static;
// started from a sealed anonymous file with its three descriptors in place, by henge-supervisor only.

import Glibc
import Linux
import StageProtocol

let channel = Channel(Descriptor(adopting: StageDescriptor.channel))
let namespace = Descriptor(adopting: StageDescriptor.namespace)
let input = Descriptor(adopting: StageDescriptor.plan)

do throws(Failure) {
  try hideFromOthers()
  let bytes = try input.readAll(limit: 64 << 20, subject: "the plan")
  switch CommandLine.arguments.dropFirst().first {
  case "boot": try boot(bytes, userNamespace: UserNamespace(descriptor: namespace), channel: channel)
  case "carry": try carry(bytes, userNamespace: UserNamespace(descriptor: namespace), channel: channel)
  case "join": try join(bytes, leader: namespace, channel: channel)
  case "mounts": try changeMounts(bytes, leader: namespace, channel: channel)
  case "folders": try openFolders(bytes, leader: namespace, channel: channel)
  case "view": try view(bytes, users: UserNamespace(descriptor: namespace), channel: channel)
  default: throw Failure("run", "henge-stage", "only henge-supervisor starts it", kind: .usage)
  }
} catch {
  channel.report(error)
  exit(1)
}
