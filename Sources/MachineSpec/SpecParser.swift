extension Spec {
  /// Reads a spec from its files and the command line, later ones over earlier ones.
  ///
  /// A key with one value keeps the last, a list adds up, an empty value goes back to the default. Whatever is wrong is
  /// reported and left out, so the result is usable for display even with errors; it must not be started then.
  ///
  /// - Parameters:
  ///   - files: `NAME.machine` first, then its drop-ins in the order of their names.
  ///   - commandLine: assignments `Section.Key=Value`, or `Key=Value` as no two sections share a key.
  /// - Returns: the effective spec, and all findings in the order of the text, conflicts last.
  public static func parse(
    files: [File], commandLine: [String] = []
  ) -> (spec: Spec, diagnostics: [Diagnostic]) {
    var parser = SpecParser()
    for file in files { parser.read(UnitFile(name: file.name, bytes: file.bytes)) }
    for (index, argument) in commandLine.enumerated() { parser.read(argument, at: index + 1) }
    parser.checkConflicts()
    return (parser.spec, parser.log.all)
  }
}

/// Applies assignments to a spec and remembers where the values of lists came from.
struct SpecParser {
  /// The file name of assignments that come from the command line.
  static let commandLine = "command line"

  var spec = Spec()
  var log = DiagnosticLog()
  /// For each key, where each value of its list, or its one value, was written.
  private(set) var origins: [String: [Origin]] = [:]

  mutating func read(_ file: UnitFile) {
    // Merged by line, so that findings come in the order of the text.
    let before = log.all.count
    for finding in file.diagnostics { log.add(finding) }
    for header in file.headers where SpecTable.keys[header.name] == nil && !header.name.hasPrefix("X-") {
      if log.isFull(.warning) { break }
      log.add(
        .warning, Origin(file: file.name, line: header.line),
        "unknown section [\(escaped(header.name.utf8))], ignored" + Self.hint(header.name))
    }
    for assignment in file.assignments { apply(assignment) }
    log.sort(from: before)
  }

  mutating func read(_ argument: String, at place: Int) {
    let origin = Origin(file: Self.commandLine, line: place)
    guard let (left, value) = argument.cut(UInt8(ascii: "=")), !argument.utf8.contains(0),
      argument.utf8.count <= UnitFile.maximumLineLength
    else {
      // Only the key is shown: the value may be a secret.
      let shown = escaped(argument.utf8.prefix { $0 != UInt8(ascii: "=") })
      return log.add(.error, origin, "\"\(shown)\" is not [SECTION.]KEY=VALUE, without NUL and below 128 KiB")
    }
    let name = left.trimmed
    let (section, key) = name.cut(UInt8(ascii: ".")) ?? (SpecTable.home[name] ?? "", name)
    guard SpecTable.keys[section]?[key] != nil else {
      return log.add(.error, origin, "unknown key \"\(escaped(name.utf8))\"" + Self.hint(section, key))
    }
    apply(
      UnitFile.Assignment(
        section: section, key: key, value: value.trimmed, file: Self.commandLine, line: place))
  }

  /// Where the value number `index` of a key was written.
  func origin(_ key: String, _ index: Int = 0) -> Origin {
    guard let list = origins[key], list.indices.contains(index) else { return Origin(file: "spec", line: 0) }
    return list[index]
  }

  private mutating func apply(_ assignment: UnitFile.Assignment) {
    // With that many errors nothing can be used any more, and reading on would only take time.
    guard !log.isFull(.error), let keys = SpecTable.keys[assignment.section], !assignment.key.hasPrefix("X-") else {
      return
    }
    let shown = escaped(assignment.key.utf8)
    guard let key = keys[assignment.key] else {
      if log.isFull(.warning) { return }
      let hint = Self.hint(assignment.section, assignment.key)
      return log.add(.warning, assignment.origin, "unknown key \(shown)= in [\(assignment.section)], ignored" + hint)
    }
    // BootArguments= is another name of Parameters=, and its values are not looked up by origin.
    guard !assignment.value.isEmpty else {
      key.reset(&spec)
      origins[key.name] = nil
      return
    }
    do {
      let added = try key.assign(&spec, assignment.value)
      let places = Array(repeating: assignment.origin, count: max(added, 1))
      if added == 0 { origins[key.name] = places } else { origins[key.name, default: []] += places }
    } catch {
      let value = key.isSecret ? "(hidden)" : escaped(assignment.value.utf8)
      let isWhole = error.subject == "value" || error.escapedValue == value
      let detail = isWhole ? error.reason : error.description
      log.add(.error, assignment.origin, "bad value \"\(value)\" for \(shown)=: \(detail)")
    }
  }

  /// What the writer of an unknown section may have meant.
  private static func hint(_ section: String) -> String {
    nearest(to: section, among: SpecTable.sections.map(\.name)).map { "; did you mean [\($0)]?" } ?? ""
  }

  /// What the writer of an unknown key may have meant.
  private static func hint(_ section: String, _ key: String) -> String {
    if let home = SpecTable.home[key] { return "; it belongs in [\(home)]" }
    let near = SpecTable.keys[section].flatMap { nearest(to: key, among: $0.keys) }
    return (near ?? nearest(to: key, among: SpecTable.home.keys)).map { "; did you mean \($0)=?" } ?? ""
  }
}
