/// Tar archives made byte by byte, so that they may say anything.
struct TarBytes {
  private(set) var bytes: [UInt8] = []

  /// Appends a header and its contents.
  mutating func add(
    _ name: String, type: Character = "0", link: String = "", contents: [UInt8] = [], size: UInt64? = nil,
    mode: UInt32 = 0o644, owner: UInt32 = 0, major: UInt32 = 0
  ) {
    var header = [UInt8](repeating: 0, count: 512)
    func put(_ offset: Int, _ text: String) {
      for (index, byte) in text.utf8.prefix(512 - offset).enumerated() { header[offset + index] = byte }
    }
    func octal(_ value: UInt64, _ width: Int) -> String {
      let digits = String(value, radix: 8)
      return String(repeating: "0", count: max(0, width - digits.utf8.count)) + digits
    }
    put(0, String(name.prefix(100)))
    put(100, octal(UInt64(mode), 7))
    put(108, octal(UInt64(owner), 7))
    put(116, octal(0, 7))
    put(124, octal(size ?? UInt64(contents.count), 11))
    put(136, octal(1000, 11))
    put(148, "        ")
    put(156, String(type))
    put(157, String(link.prefix(100)))
    put(257, "ustar\u{0}00")
    put(329, octal(UInt64(major), 7))
    put(337, octal(0, 7))
    put(148, octal(UInt64(header.reduce(0) { $0 + Int($1) }), 6) + "\u{0} ")
    bytes += header + contents
    bytes += [UInt8](repeating: 0, count: (512 - contents.count % 512) % 512)
  }

  /// Appends a pax header for the next entry.
  mutating func addPax(_ records: [(String, [UInt8])]) {
    var body: [UInt8] = []
    for (key, value) in records {
      let rest = 3 + key.utf8.count + value.count
      var length = rest + String(rest).utf8.count
      length = rest + String(length).utf8.count
      body += Array("\(length) \(key)=".utf8) + value + [10]
    }
    add("pax", type: "x", contents: body)
  }

  /// The archive with its end mark.
  var finished: [UInt8] { bytes + [UInt8](repeating: 0, count: 1024) }
}
