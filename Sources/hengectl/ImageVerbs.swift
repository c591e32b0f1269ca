import ArgumentParser
import Images
import MachineSpec
import Linux
import MachineManager
import MachineStore
import Varlink

struct ListImages: ParsableCommand {
  static let configuration = CommandConfiguration(commandName: "list-images", abstract: "List all images.")

  @Flag(help: "Print JSON.") var json = false

  func run() throws {
    let listed = try manager().store.images().list()
    if json {
      let objects = listed.map { item -> JSON in
        switch item {
        case .image(let record): record.json
        case .broken(let name, let failure): ["name": .string(name), "error": .string(failure.description)]
        }
      }
      print(JSON.array(objects).pretty)
      return
    }
    var table = Table("IMAGE", "OS", "ENTRIES", "SIZE", "IMPORTED")
    for item in listed {
      switch item {
      case .image(let record):
        table.add(
          record.name, record.prettyName ?? "-", "\(record.entries)", size(record.bytes),
          date(UInt64(clamping: record.created)))
      case .broken(let name, _): table.add(name, "(record damaged)", "-", "-", "-")
      }
    }
    table.show(empty: "no images; 'hengectl import-tar FILE NAME' imports one")
  }
}

struct ImageStatus: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "image-status", abstract: "Show what is known of an image.")

  @Argument(help: "The image.") var name: String
  @Flag(help: "Print JSON.") var json = false

  func run() throws {
    let manager = try manager()
    let record = try manager.store.images().status(try ImageName(name))
    let users = try manager.users(of: record.name).map(\.description)
    if json {
      var object = record.json
      object["usedBy"] = JSON(users)
      print(object.pretty)
      return
    }
    print(record.name)
    print("        OS: \(printable(record.prettyName ?? "not known", limit: 200))")
    print("   Init of: \(record.architecture ?? "no init found")")
    print("    Source: \(printable(record.source))")
    print("  Imported: \(date(UInt64(clamping: record.created)))")
    print("      Size: \(size(record.bytes)) in \(record.entries) entries")
    print("    Layers: \(record.layers.map { printable($0) }.joined(separator: ", "))")
    print("   Used by: \(users.isEmpty ? "nobody" : users.joined(separator: ", "))")
  }
}

extension ImageRecord {
  var json: JSON {
    [
      "name": .string(name), "created": JSON(created), "source": .string(source), "layers": JSON(layers),
      "entries": JSON(entries), "bytes": JSON(bytes), "prettyName": JSON(prettyName), "osID": JSON(osID),
      "osVersion": JSON(osVersion), "architecture": JSON(architecture),
    ]
  }
}

struct ImportFS: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "import-fs", abstract: "Import a directory tree as an image.")

  @Argument(help: "The directory.") var directory: String
  @Argument(help: "The image to make.") var name: String
  @Flag(help: "Keep device nodes, which no machine can use.") var keepDevices = false
  @Flag(name: .customLong("squash-ids"), help: "Give files with ids above 65535 to nobody instead of failing.")
  var squashIDs = false

  func run() throws {
    let options = (keepDevices ? ["--keep-devices"] : []) + (squashIDs ? ["--squash-ids"] : [])
    try manager().runImport(options + ["fs", "--", directory, name])
  }
}

struct ImportTar: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "import-tar", abstract: "Import a tar archive as an image.",
    discussion: "Plain or compressed with gzip, xz, zstd or bzip2; '-' is standard input.")

  @Argument(help: "The archive.") var file: String
  @Argument(help: "The image to make.") var name: String
  @Flag(help: "Keep device nodes, which no machine can use.") var keepDevices = false
  @Flag(name: .customLong("squash-ids"), help: "Give files with ids above 65535 to nobody instead of failing.")
  var squashIDs = false
  @Option(help: "The most entries that the archive may have; 10 millions without it.") var maxEntries: UInt64?
  @Option(help: "The most bytes that its files may have, holes included; without it what is free on the disk.")
  var maxBytes: UInt64?

  func run() throws {
    var options = (keepDevices ? ["--keep-devices"] : []) + (squashIDs ? ["--squash-ids"] : [])
    if let maxEntries { options += ["--max-entries", "\(maxEntries)"] }
    if let maxBytes { options += ["--max-bytes", "\(maxBytes)"] }
    try manager().runImport(options + ["tar", "--", file, name])
  }
}

struct RemoveImage: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "remove-image", abstract: "Remove images that no machine lies over.")

  @Argument(help: "The images.") var names: [String]

  func run() throws {
    let manager = try manager()
    for name in names { try manager.removeImage(name) }
  }
}
