import Linux

// The record on disk: `KEY=VALUE` lines, `\` and bytes that are not printable ASCII or UTF-8 as `\xNN`. Keys that are
// not known are passed over, so that an older program reads a newer one's store.

extension ImageRecord {
  /// The record as lines.
  var lines: String {
    var result = "record=1\n"
    func put(_ key: String, _ value: String?) {
      if let value { result += "\(key)=\(Self.escape(value))\n" }
    }
    put("name", name)
    put("created", String(created))
    put("source", source)
    for layer in layers { put("layer", layer) }
    put("entries", String(entries))
    put("bytes", String(bytes))
    put("pretty-name", prettyName)
    put("os-id", osID)
    put("os-version", osVersion)
    put("architecture", architecture)
    return result
  }

  /// Reads lines, whatever they are.
  ///
  /// - Throws: `Failure` when they are not a whole record.
  init(lines bytes: [UInt8], path: String) throws(Failure) {
    let corrupt = { (why: String) in
      Failure("read the image record", path, why, advice: "remove the image and import it again")
    }
    var single: [String: String] = [:]
    var layers: [String] = []
    if bytes.last != 10 { throw corrupt("it is cut off") }
    for line in bytes.split(separator: 10) {
      guard let equals = line.firstIndex(of: 61), let value = Self.unescape(line[(equals + 1)...]) else {
        throw corrupt("it has a line that is no 'key=value'")
      }
      let key = String(decoding: line[..<equals], as: UTF8.self)
      if key == "layer" {
        layers.append(value)
      } else {
        single[key] = value
      }
    }
    guard single["record"] == "1" else { throw corrupt("it is of another version, or no record") }
    guard let name = single["name"], let source = single["source"], let created = single["created"].flatMap(Int64.init),
      let entries = single["entries"].flatMap(UInt64.init), let bytes = single["bytes"].flatMap(UInt64.init)
    else { throw corrupt("one of name, source, created, entries, bytes is missing or no number") }
    // A layer is a folder of the store's own making: anything else would lead out of it.
    guard !layers.isEmpty, layers.indices.allSatisfy({ layers[$0] == "layer-\($0)" }) else {
      throw corrupt("its layers are not layer-0, layer-1 and so on")
    }
    self.init(
      name: name, created: created, source: source, layers: layers, entries: entries, bytes: bytes,
      prettyName: single["pretty-name"], osID: single["os-id"], osVersion: single["os-version"],
      architecture: single["architecture"])
  }

  static func escape(_ text: String) -> String {
    var result: [UInt8] = []
    for byte in text.utf8 {
      if byte < 0x20 || byte == 0x7f || byte == 92 {
        result += [92, 120, hex(byte >> 4), hex(byte & 15)]
      } else {
        result.append(byte)
      }
    }
    return String(decoding: result, as: UTF8.self)
  }

  static func unescape(_ bytes: ArraySlice<UInt8>) -> String? {
    var result: [UInt8] = []
    var rest = bytes
    while let byte = rest.popFirst() {
      guard byte == 92 else {
        result.append(byte)
        continue
      }
      guard rest.popFirst() == 120, let high = rest.popFirst().flatMap(value), let low = rest.popFirst().flatMap(value)
      else { return nil }
      result.append(high << 4 | low)
    }
    return String(validating: result, as: UTF8.self)
  }

  private static func hex(_ digit: UInt8) -> UInt8 { digit < 10 ? 48 + digit : 87 + digit }

  private static func value(_ digit: UInt8) -> UInt8? {
    switch digit {
    case 48...57: digit - 48
    case 97...102: digit - 87
    default: nil
    }
  }
}
