import Glibc
import Linux
import Testing
import Varlink

/// The control socket as systemd's own client sees it, and as a client sees it that means no good.
@Suite("Varlink from outside", .serialized)
struct VarlinkctlTests {
  /// Runs varlinkctl out of a guest's image, in a mount namespace in which the socket's folder lies below it.
  private func varlinkctl(
    _ sandbox: Sandbox, _ image: String, _ machine: String, _ verb: String, _ arguments: String...
  ) throws -> Outcome {
    let script = """
      root=$1 folder=$2; shift 2
      mount --bind "$root" "$root" && mount --bind "$folder" "$root/mnt" && mount -t proc proc "$root/proc" || exit 99
      exec chroot "$root" varlinkctl "$@"
      """
    let root = "\(sandbox.state)/images/\(image)/layer-0"
    return try run(
      [
        "unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", root,
        "\(sandbox.runtime)/machines/\(machine)", "--json=short",
      ] + verb.split(separator: " ").map(String.init) + ["/mnt/control"] + arguments,
      deadline: 20)
  }

  @Test(.needsRoot, .needsPrograms, .needsImages, arguments: ["trixie", "forky"])
  func systemdsOwnClientUnderstandsIt(_ image: String) throws {
    try withSandbox("varlink-\(image)") { sandbox in
      try sandbox.image(image)
      let name = sandbox.name("v")
      try sandbox.succeed("create", image, name)
      try sandbox.succeed("start", name)
      let guest = try sandbox.guest(name)

      let info = try varlinkctl(sandbox, image, name, "info").json()
      #expect(info["product"]?.stringValue == "henge-supervisor" && info["vendor"]?.stringValue == "Henge")
      #expect(info["interfaces"]?.arrayValue?.contains("io.henge.Machine") ?? false)
      let description = try varlinkctl(sandbox, image, name, "introspect", "io.henge.Machine")
      // Parsed and checked by it, and printed again from what it understood.
      #expect(description.code == 0, "\(description)")
      for method in [
        "Start", "Wait", "WaitUnit", "PowerOff", "Reboot", "Terminate", "Kill", "Freeze", "Thaw", "GetState",
      ] {
        #expect(description.output.contains("method \(method)"), "\(method)")
      }
      let state = try varlinkctl(sandbox, image, name, "call", "io.henge.Machine.GetState", "{}").json()
      #expect(state["state"]?["leader"]?.intValue == Int64(guest.leader))
      let units = try varlinkctl(sandbox, image, name, "call", "io.henge.Machine.ListUnits", "{}").json()
      #expect(units["units"]?.arrayValue?.count ?? 0 > 20)
      let unit = try varlinkctl(
        sandbox, image, name, "call", "io.henge.Machine.WaitUnit", "{\"unit\":\"dbus.service\"}"
      ).json()
      #expect(unit["unit"]?["active"] == "active")
      for (method, parameters, words) in [
        ("Kill", "{\"whom\":\"all\",\"signal\":99}", "Failed"), ("Nope", "{}", "failed"),
        ("WaitUnit", "{\"unit\":\"none.service\"}", "Failed"),
      ] {
        let outcome = try varlinkctl(sandbox, image, name, "call", "io.henge.Machine.\(method)", parameters)
        #expect(outcome.code != 0 && (outcome.output + outcome.errors).contains(words), "\(outcome)")
      }
      // More than one answer: the progress of a reboot, and at its end the state.
      let reboot = try varlinkctl(sandbox, image, name, "--more call", "io.henge.Machine.Reboot", "{}")
      #expect(reboot.code == 0, "\(reboot)")
      let states = try reboot.output.split(separator: "\n").flatMap { line in
        let reply = try JSON(parsing: String(line.drop { $0 == "\u{1e}" }))
        return [reply["progress"]?["state"]?.stringValue, reply["state"]?["state"]?.stringValue].compactMap { $0 }
      }
      #expect(states.contains("rebooting") && states.contains("booting") && states.last == "running", "\(states)")
      #expect(try sandbox.guest(name).leader != guest.leader)
      try sandbox.succeed("poweroff", name)
    }
  }

  /// Requests without an end, nonsense, and clients that never read: each is cut off or waits, and the machine and
  /// everybody else go on.
  @Test(.needsRoot, .needsPrograms, .needsImages)
  func aClientThatMeansNoGoodHarmsNobody() throws {
    try withSandbox("flooded") { sandbox in
      try sandbox.image("trixie")
      let name = sandbox.name("f")
      try sandbox.succeed("create", "trixie", name)
      try sandbox.succeed("start", name)
      let supervisor = try #require(try sandbox.status(name, "supervisor")?.intValue.flatMap { Int32(exactly: $0) })
      let descriptors = names(in: "/proc/\(supervisor)/fd").count
      let script = """
        import socket, sys, time
        path, how = sys.argv[1:]
        def connect():
            s = socket.socket(socket.AF_UNIX); s.settimeout(10); s.connect(path); return s
        call = b'{"method":"io.henge.Machine.GetState"}\\0'
        if how == "long":
            s = connect(); sent = 0
            try:
                while sent < 64 << 20: sent += s.send(b"a" * 65536)
                print("all was taken")
            except OSError: print("cut off" if sent < 8 << 20 else "late")
        elif how == "nonsense":
            for text in [b"\\0", b"{}\\0", b"[" * 100000 + b"\\0", b'{"method":7}\\0', b"\\xff\\xfe\\0", b'{"method":"a"}\\0']:
                s = connect(); s.sendall(text); s.shutdown(socket.SHUT_WR)
                while s.recv(65536): pass
            print("ended")
        elif how == "deaf":
            s = connect(); s.setblocking(False); sent = 0
            end = time.time() + 2
            while time.time() < end:
                try: sent += s.send(call * 1000)
                except BlockingIOError: time.sleep(0.01)
                except OSError: break
            print("bounded" if sent < 64 << 20 else "unbounded")
        elif how == "many":
            kept = [connect() for _ in range(40)]
            for s in kept: s.sendall(b'{"method":"io.henge.Machine.Wait","more":true,"parameters":{"goal":"stopped"}}\\0')
            print(sum(1 for s in kept if s.recv(4096)))
        """
      for (how, answer) in [("long", "cut off"), ("nonsense", "ended"), ("deaf", "bounded"), ("many", "40")] {
        let outcome = try run(
          ["python3", "-c", script, "\(sandbox.runtime)/machines/\(name)/control", how], deadline: 30)
        #expect(outcome.text == answer, "\(how): \(outcome)")
        let status = try sandbox.hengectl("status", name, deadline: 10)
        #expect(status.code == 0 && status.seconds < 8, "\(how): \(status)")
      }
      let resident = Host.status(supervisor, "VmRSS")?.split(separator: " ").first.flatMap { Int($0) }
      #expect((resident ?? .max) < 64 << 10)
      // Those who went away are let go of.
      try until("their connections are closed") { names(in: "/proc/\(supervisor)/fd").count <= descriptors + 2 }
      // Another user's: the folder is the owner's alone, and so is the socket.
      let other = try run(
        [
          "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "python3", "-c", script,
          "\(sandbox.runtime)/machines/\(name)/control", "many",
        ], deadline: 10)
      #expect(other.code != 0 && other.errors.contains("PermissionError"), "\(other)")
      try sandbox.succeed("poweroff", name)
    }
  }
}
