import Glibc
import Testing
import Varlink

/// Attacks by way of sockets that were handed in.
extension HandedInTests {
  /// Whether programs of 32 bits run here.
  var hasI386: Bool {
    #if arch(x86_64)
      true
    #else
      false
    #endif
  }

  /// How often each attack is tried at each of the four addresses: `make test-handoff` tries 100,000 times in all. A socket
  /// is good for 32 of them.
  private static let tries = max(
    64, (getenv("HENGE_HANDOFF_TRIES").flatMap { Int(String(cString: $0)) } ?? 0) / 128 * 32)

  /// Of whoever comes, in milliseconds: to the end of the test, which ends them.
  private static let lifetime = "3600000"

  /// One that listens waits for somebody to come.
  private static func tries(_ way: String) -> Int { way == "bind" ? max(64, tries / 256 * 32) : tries }

  /// A socket whose client is gone is turned to where its new owner may not go: every way to do that leads nowhere.
  @Test(.needsRoot, .needsPrograms, .needsImages, .needsCompiler, arguments: [false, true])
  func noSocketThatWasHandedInLeadsToTheHost(withoutBPF: Bool) throws {
    try withServers("attack", ["9000/4/epoll/quick"], withoutBPF: withoutBPF) { lab, name in
      #expect(try lab.network(of: name)["guarded"]?.boolValue == !withoutBPF)
      let log = "\(lab.sandbox.folder)/visitors"
      let targets = ["127.0.0.1", NetworkLab.host4, "::1", NetworkLab.host6]
      let counter = try lab.startOnHost(
        [try NetworkProgram.made("handoff"), "count", log] + targets.map { "\($0)/8081" })
      var comers: [RunningProgram] = []
      defer {
        for program in comers + [counter] {
          program.signal(SIGKILL)
          _ = try? program.wait(deadline: 5)
        }
      }
      try until("somebody counts") { read(log)?.hasPrefix("ready") ?? false }
      comers = try [(Self.four, "9010"), (Self.six, "9011")].map { try start(lab, "come", $0, $1, Self.lifetime) }
      // Who on the host knocks at a port that is not the machine's.
      let program = try NetworkProgram.made("handedin")
      func knock(_ target: String) throws {
        comers.append(try lab.startOnHost([program, "come", target, "8082", Self.lifetime]))
      }
      for target in targets { try knock(target) }
      func attack(_ way: String, _ target: String, onHost: Bool) throws -> [Int] {
        let isV4 = !target.contains(":")
        let words =
          ["attack", way, "\(Self.tries(way))", isV4 ? "\(onHost ? 9040 : 9010)" : "\(onHost ? 9041 : 9011)"]
          + [isV4 ? "4" : "6only", target, way == "bind" ? "8082" : "8081"]
        let deadline = 60 + Double(Self.tries) / 50
        let outcome =
          try onHost
          ? lab.startOnHost([program] + words).wait(deadline: deadline)
          : lab.sandbox.hengectl(["exec", name, "--", "/opt/test/handedin"] + words, deadline: deadline)
        guard outcome.succeeded else { throw Complaint("\(way) \(target) \(outcome)") }
        // hits, tries, of the host's, those that forgot their client or their filter
        return outcome.text.split(separator: " ").compactMap { Int($0) }
      }
      for target in targets {
        for way in ["connect", "unspec", "dup2", "i386", "fastopen", "sendmmsg", "filter", "bind", "uring"] {
          let found = try attack(way, target, onHost: false)
          if Self.tries > 64 { print("handed in\(withoutBPF ? " without BPF" : ""), \(way) to \(target): \(found)") }
          #expect(found.count == 4 && found[0] == 0 && found[1] == Self.tries(way), "\(way) to \(target): \(found)")
          #expect(found.count == 4 && found[2] > 0, "no socket of the host's was tried: \(found)")
        }
      }
      let visitors = Set((read(log) ?? "").split(separator: "\n").dropFirst())
      // Without the guard the host's own addresses are open to the machine's packets: not to be told from these.
      #expect(visitors.isSubset(of: withoutBPF ? ["\(Self.four)/8081", "\(Self.six)/8081"] : []), "\(visitors)")

      // The same program with sockets that nothing keeps gets there, and is seen.
      comers += try [(Self.four, "9040"), (Self.six, "9041")].map { try start(lab, "come", $0, $1, Self.lifetime) }
      for target in targets {
        // Each gets there on most runs; that one did is all that this is about.
        var hits = 0
        for way in ["unspec", "dup2"] + (hasI386 ? ["i386", "sendmmsg", "filter"] : []) {
          hits += try attack(way, target, onHost: true).first ?? 0
        }
        #expect(hits > 0, "\(target)")
        let seen = Set((read(log) ?? "").split(separator: "\n"))
        #expect(seen.contains("\(target)/8081"), "\(seen)")
        guard hasI386 else { continue }
        // The one before waits for an answer for a while.
        try knock(target)
        #expect(try attack("bind", target, onHost: true).first ?? 0 > 0, "\(target)")
      }
    }
  }
}
