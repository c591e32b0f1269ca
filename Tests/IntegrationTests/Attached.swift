import Glibc
import Linux

/// A program that runs on a terminal of the test's, as an operator's shell would have it.
final class Attached {
  let process: Pidfd
  private let side: Descriptor
  private var controller: Int32 { side.raw }
  /// All that it wrote, as far as it was read.
  private(set) var output = ""
  private var seen = 0
  private var bytes: [UInt8] = []

  /// - Parameters:
  ///   - size: of the terminal.
  ///   - arguments: the program, with an absolute path, and its arguments.
  init(_ arguments: [String], environment: [String], size: (columns: Int, rows: Int) = (80, 24)) throws {
    let pty = try Pty(in: try Descriptor.open("/dev/pts", .directory))
    let terminal = pty.terminal
    side = pty.controller
    setTerminalSize(of: side.raw, columns: size.columns, rows: size.rows)
    guard let setsid = findProgram("setsid") else { throw Complaint("there is no setsid") }
    // A session of its own that has the terminal as its controlling one: signals of the terminal's need that.
    process = try ProcessRequest(
      .path(setsid), arguments: ["setsid", "--ctty", "--wait"] + arguments,
      environment: ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm", "LC_ALL=C.UTF-8"] + environment,
      descriptors: [terminal, terminal, terminal]
    ).start().process
  }

  deinit {
    _ = try? process.signal(SIGKILL)
    _ = try? process.reap(wait: true)
  }

  var settings: termios {
    var settings = termios()
    tcgetattr(controller, &settings)
    return settings
  }

  /// Types something.
  func send(_ text: String) { _ = Glibc.write(controller, Array(text.utf8), text.utf8.count) }

  func resize(columns: Int, rows: Int) { setTerminalSize(of: controller, columns: columns, rows: rows) }

  /// Reads until a text comes that was not there at the last call.
  func expect(_ text: String, seconds: Double = 20) throws {
    let end = now() + UInt64(seconds * 1e9)
    while true {
      let wanted = Array(text.utf8)
      if let place = bytes.indices.dropFirst(seen).first(where: { bytes[$0...].starts(with: wanted) }) {
        seen = place + wanted.count
        return
      }
      guard now() < end, try readSome(until: end) else { throw Complaint("no '\(text)' in: \(output)") }
    }
  }

  /// Reads until the end, and returns the exit code.
  func finish(seconds: Double = 20) throws -> Int32 {
    let end = now() + UInt64(seconds * 1e9)
    while now() < end, try readSome(until: end) {}
    guard now() < end else { throw Complaint("it did not end: \(output)") }
    return switch try process.reap(wait: true) {
    case .exited(let status): status
    case .signalled(let number): 128 + number
    case nil: -1
    }
  }

  private func readSome(until end: UInt64) throws -> Bool {
    var entry = pollfd(fd: controller, events: Int16(POLLIN), revents: 0)
    let moment = now()
    guard poll(&entry, 1, Int32(clamping: (max(end, moment) - moment) / 1_000_000)) > 0 else { return false }
    var buffer = [UInt8](repeating: 0, count: 4096)
    let count = Glibc.read(controller, &buffer, buffer.count)
    guard count > 0 else { return false }
    bytes += buffer[..<count]
    output = String(decoding: bytes, as: UTF8.self)
    return true
  }
}

extension Sandbox {
  /// hengectl on a terminal.
  func attach(_ arguments: String..., size: (columns: Int, rows: Int) = (80, 24)) throws -> Attached {
    try Attached(["\(Checkout.programs)/hengectl"] + arguments, environment: environment, size: size)
  }

  /// A line of shell on the host, in which `$h` is hengectl.
  func shell(_ line: String, deadline: Double = 120) throws -> Outcome {
    try run(["sh", "-c", line], environment: environment + ["h=\(Checkout.programs)/hengectl"], deadline: deadline)
  }
}

/// What was done with each guest, to be printed as a table.
struct Matrix {
  private let guests: [String]
  private var rows: [(name: String, cells: [String: String])] = []

  init(_ guests: [String]) { self.guests = guests }

  /// Does something with a guest, and keeps how it went.
  mutating func check(_ name: String, _ guest: String, _ body: () throws -> Void) throws {
    let began = now()
    if !rows.contains(where: { $0.name == name }) { rows.append((name, [:])) }
    let row = rows.firstIndex { $0.name == name } ?? 0
    rows[row].cells[guest] = "FAILED"
    do {
      try body()
    } catch {
      throw Complaint("\(name) in \(guest): \(error)")
    }
    rows[row].cells[guest] = "\(rounded(Double(now() - began) / 1e9)) s"
  }

  func show(_ title: String) {
    let width = (rows.map(\.name.count) + [title.count]).max() ?? 0
    func line(_ name: String, _ cells: [String]) -> String {
      name + String(repeating: " ", count: width - name.count + 2)
        + cells.map { $0 + String(repeating: " ", count: max(1, 12 - $0.count)) }.joined()
    }
    print(line(title, guests))
    for row in rows { print(line(row.name, guests.map { row.cells[$0] ?? "-" })) }
  }
}

/// Throws unless something holds, with what was seen.
func demand(_ holds: Bool, _ seen: @autoclosure () -> String) throws {
  if !holds { throw Complaint(seen()) }
}
