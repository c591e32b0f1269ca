import Glibc
import Testing

@testable import Systemd

private let program = "/usr/bin/dbus-daemon"
private let name = "org.freedesktop.DBus"
private let path = "/org/freedesktop/DBus"

/// A bus daemon of our own, which ends with the value.
private final class Daemon {
  let loop: EventLoop
  let bus: Bus
  private let pid: pid_t
  private let folder: TemporaryFolder

  init() throws {
    folder = try TemporaryFolder()
    let output = try Pipe()
    pid = try spawn(
      program, "--session", "--nofork", "--nopidfile", "--address=unix:path=\(folder.path)/bus", "--print-address=1",
      output: output.writer)
    // The address is written once the daemon listens.
    var byte: UInt8 = 0
    try #require(read(output.reader, &byte, 1) == 1)
    loop = try EventLoop()
    bus = try Bus(descriptor: try Self.connection(to: "\(folder.path)/bus"), kind: .daemon, on: loop)
  }

  deinit {
    kill(pid, SIGKILL)
    waitpid(pid, nil, 0)
    unlink("\(folder.path)/bus")
  }

  func stop() { kill(pid, SIGKILL) }

  private static func connection(to path: String) throws -> Int32 {
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: Array(path.utf8)) }
    let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
    let result = withUnsafeBytes(of: &address) { raw in
      raw.withMemoryRebound(to: sockaddr.self) { connect(descriptor, $0.baseAddress, socklen_t(raw.count)) }
    }
    try #require(result == 0)
    return descriptor
  }

  func call(
    _ member: String, arguments: (Message) throws(BusError) -> Void = { _ in }
  ) throws -> Message {
    var result: Result<Message, BusError>?
    bus.call(name, path, name, member, arguments: arguments, completion: { result = $0 })
    try run { result != nil }
    return try #require(result).get()
  }

  func run(until done: () -> Bool) throws {
    while !done() {
      guard try loop.runOnce(timeout: 5_000_000) else { return }
    }
  }
}

@Suite(.enabled(if: access(program, X_OK) == 0, "needs dbus-daemon")) struct BusDaemonTests {
  @Test func methodsAreAnswered() throws {
    let daemon = try Daemon()
    #expect(try daemon.call("GetId").readString().utf8.count == 32)
    let names = try daemon.call("ListNames").readStrings()
    #expect(names.contains(name) && names.contains(":1.0"))
    let peek = try daemon.call("ListNames")
    #expect(try peek.peekType()?.type == "a" && peek.peekType()?.contents == "s")
    #expect(throws: BusError.self) { try peek.readUInt32() }
    #expect(try peek.readStrings(limit: 1).count == 1)
    #expect(peek.signature == "as" && peek.sender == name)
  }

  @Test func dictionariesAreUnderstood() throws {
    let daemon = try Daemon()
    _ = try daemon.call("UpdateActivationEnvironment") { message throws(BusError) in
      try message.appendArray(of: "{ss}") { message throws(BusError) in
        try message.appendEntry(of: "ss") { message throws(BusError) in
          try message.append("NAME")
          try message.append("value")
        }
      }
    }
  }

  @Test func errorsHaveNames() throws {
    let daemon = try Daemon()
    let error = #expect(throws: BusError.self) { try daemon.call("NoSuchMethod") }
    #expect(error?.name == "org.freedesktop.DBus.Error.UnknownMethod")
    #expect(error?.message.isEmpty == false)
  }

  @Test func propertiesAreRead() throws {
    let daemon = try Daemon()
    var result: Result<[String], BusError>?
    daemon.bus.property(
      name, path, name, "Features", type: "as", read: { message throws(BusError) in try message.readStrings() },
      completion: { result = $0 })
    try daemon.run { result != nil }
    #expect(try result?.get().isEmpty == false)
  }

  @Test func signalsArriveFromTheSenderThatWasAskedFor() throws {
    let daemon = try Daemon()
    var changed: [String] = []
    var others = 0
    var installed: [BusError?] = []
    let match = try daemon.bus.match(
      sender: name, interface: name, member: "NameOwnerChanged", onInstalled: { installed.append($0) }
    ) { message in
      do { changed.append(try message.readString()) } catch { changed.append("\(error)") }
    }
    let other = try daemon.bus.match(sender: "org.example.Other", member: "NameOwnerChanged") { _ in others += 1 }
    _ = try daemon.call("RequestName") { message throws(BusError) in
      try message.append("org.example.Mine")
      try message.append(UInt32(0))
    }
    try daemon.run { !changed.isEmpty }
    #expect(installed == [nil])
    #expect(changed == ["org.example.Mine"] && others == 0)
    withExtendedLifetime((match, other)) {}
  }

  @Test func theEndOfTheDaemonIsNoticed() throws {
    let daemon = try Daemon()
    _ = try daemon.call("GetId")
    var gone: BusError?
    daemon.bus.onDisconnect = { gone = $0 }
    daemon.stop()
    try daemon.run { gone != nil }
    #expect(gone?.isDisconnected == true)
  }
}
