/// What the store knows of an image.
public struct ImageRecord: Sendable, Equatable {
  /// The image's name.
  public var name: String
  /// When it was imported, in seconds since 1970.
  public var created: Int64
  /// What it was imported from, as the operator called it.
  public var source: String
  /// The folders of its layers in the image's own folder, base first.
  public var layers: [String]
  /// How many files, directories and links it has.
  public var entries: UInt64
  /// How many bytes of contents were written.
  public var bytes: UInt64
  /// `PRETTY_NAME` of its os-release.
  public var prettyName: String?
  /// `ID` of its os-release.
  public var osID: String?
  /// `VERSION_ID` of its os-release.
  public var osVersion: String?
  /// The machine that its init was built for, in systemd's words (`x86-64`, `arm64`); nil when no init was found.
  public var architecture: String?

  /// Describes an image.
  public init(
    name: String, created: Int64, source: String, layers: [String], entries: UInt64, bytes: UInt64,
    prettyName: String? = nil, osID: String? = nil, osVersion: String? = nil, architecture: String? = nil
  ) {
    self.name = name
    self.created = created
    self.source = source
    self.layers = layers
    self.entries = entries
    self.bytes = bytes
    self.prettyName = prettyName
    self.osID = osID
    self.osVersion = osVersion
    self.architecture = architecture
  }
}
