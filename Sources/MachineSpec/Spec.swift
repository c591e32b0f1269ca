/// What an operator asked for: one machine's `NAME.machine`, its drop-ins, and the command line over them.
public struct Spec: Equatable, Sendable {
  /// `[Machine]`: identity and the start of PID 1.
  public var machine = MachineSection()
  /// `[Image]` and `[Files]`: the root and the mounts in it.
  public var files = FilesSection()
  /// `[Exec]`: capabilities, credentials, stopping.
  public var exec = ExecSection()
  /// `[Resources]`: limits.
  public var resources = ResourcesSection()
  /// `[Network]`: mode, ports, name servers.
  public var network = NetworkSection()

  /// The defaults.
  public init() {}

  /// One text that takes part in a spec.
  public struct File: Hashable, Sendable {
    /// The name for diagnostics.
    public var name: String
    /// What is in it.
    public var bytes: [UInt8]

    /// Takes a file's bytes.
    ///
    /// - Parameters:
    ///   - name: the name for diagnostics.
    ///   - bytes: what is in it.
    public init(name: String, bytes: [UInt8]) {
      self.name = name
      self.bytes = bytes
    }
  }

  /// The effective spec as unit-file text, which parses to an equal spec; keys with their default are left out.
  public var text: String {
    var blocks: [String] = []
    for section in SpecTable.sections {
      let lines = section.keys.flatMap { key in key.render(self).map { "\(key.name)=\($0)\n" } }
      if !lines.isEmpty { blocks.append("[\(section.name)]\n" + lines.joined()) }
    }
    return blocks.joined(separator: "\n")
  }
}

/// All keys, by the header that each is printed under.
enum SpecTable {
  static let sections: [(name: String, keys: [SpecKey])] = [
    ("Machine", MachineSection.keys), ("Image", FilesSection.imageKeys), ("Files", FilesSection.keys),
    ("Exec", ExecSection.keys), ("Resources", ResourcesSection.keys), ("Network", NetworkSection.keys),
  ]

  /// Keys by header and name; `[Image]` and `[Files]` take each other's.
  static let keys: [String: [String: SpecKey]] = {
    var table: [String: [String: SpecKey]] = [:]
    for (section, keys) in sections { for key in keys { table[section, default: [:]][key.name] = key } }
    let files = (table["Image"] ?? [:]).merging(table["Files"] ?? [:]) { first, _ in first }
    table["Image"] = files
    table["Files"] = files
    return table
  }()

  /// The header that a key is printed under, for keys written without one.
  static let home: [String: String] = {
    var table: [String: String] = [:]
    for (section, keys) in sections { for key in keys { table[key.name] = section } }
    return table
  }()
}
