import Testing

@testable import StageProtocol

private let bind = Bind(
  source: "/srv/log", path: "/var/log", recursive: true, mapped: true, optional: false, attributes: .readOnly)

private let views = [
  ViewRequest.Source.running(paths: ["/var/log/journal/0123", "/run/log/journal"]),
  .stopped(root: .directory("/srv/tree", mapped: true), binds: []),
  .stopped(
    root: .overlay(
      layers: [RootLayer(path: "/upper", mapped: false), RootLayer(path: "/l", mapped: true)], upper: .memory),
    binds: [bind, bind]),
].map {
  ViewRequest(
    rootID: 524288, mountPoint: "/var/lib/henge/machines/web", source: $0, folders: ["/var/log/journal"],
    program: ["/usr/bin/journalctl", "-f"], environment: ["LANG=C.UTF-8"])
}

@Test(arguments: views)
func aViewSurvivesTheWire(view: ViewRequest) throws {
  #expect(try ViewRequest(decoding: view.encoded) == view)
  let bytes = view.encoded
  for length in 0..<bytes.count {
    #expect(throws: WireError.self) { try ViewRequest(decoding: Array(bytes[..<length])) }
  }
  #expect(throws: WireError.self) { try ViewRequest(decoding: bytes + [0]) }
  for index in bytes.indices {
    var damaged = bytes
    damaged[index] ^= 0xff
    _ = try? ViewRequest(decoding: damaged)
  }
}

@Test func aRequestForFoldersSurvivesTheWire() throws {
  let request = FolderRequest(paths: ["/var/log/journal", "/run/log/journal"])
  #expect(try FolderRequest(decoding: request.encoded) == request)
  #expect(throws: WireError.self) { try FolderRequest(decoding: request.encoded + [0]) }
  #expect(throws: WireError.self) { try FolderRequest(decoding: Array(request.encoded.dropLast())) }
}
