/// What `set-limit` takes and keeps: assignments of `[Resources]`, and the drop-in that holds them.
public enum LimitsDropIn {
  /// The file's name in `NAME.machine.d`.
  public static let name = "50-limits.conf"

  /// Checks that assignments are about limits and nothing else, and says them as a spec's command line takes them.
  ///
  /// A list of processors replaces the one before, as with systemd's set-property; in a file it would add to it.
  ///
  /// - Parameter arguments: `KEY=VALUE` each, or `KEY=` to be without.
  /// - Throws: `SpecError` for what is no key of `[Resources]`; values are left to the parser.
  public static func assignments(_ arguments: [String]) throws(SpecError) -> [String] {
    var result: [String] = []
    for argument in arguments {
      guard let (left, value) = argument.cut(UInt8(ascii: "=")), !argument.utf8.contains(where: \.isControl) else {
        throw SpecError("limit", argument, "write KEY=VALUE, or KEY= to be without")
      }
      let name = left.trimmed.hasPrefix("Resources.") ? String(left.trimmed.dropFirst(10)) : left.trimmed
      guard ResourcesSection.keys.contains(where: { $0.name == name }) else {
        let near = nearest(to: name, among: ResourcesSection.keys.map(\.name)).map { "; did you mean \($0)=?" } ?? ""
        throw SpecError("limit", name, "it is no key of [Resources]" + near)
      }
      if name == "AllowedCPUs", !value.trimmed.isEmpty { result.append("\(name)=") }
      result.append("\(name)=\(value.trimmed)")
    }
    return result
  }

  /// The drop-in's text with some more assignments in it. What they make void goes, so that it does not grow.
  ///
  /// - Parameters:
  ///   - old: the drop-in as it is; nil where there is none. What is not about limits is not kept.
  ///   - added: assignments as `assignments` returns them.
  public static func text(_ old: Spec.File?, adding added: [String]) -> String {
    let before = old.map { UnitFile(name: $0.name, bytes: $0.bytes).assignments } ?? []
    var lines = before.filter { $0.section == "Resources" }.map { (key: $0.key, value: $0.value) }
    for assignment in added {
      guard let (key, value) = assignment.cut(UInt8(ascii: "=")) else { continue }
      // A list has an entry for each subject, its first word; other keys have one value, and an empty one ends all.
      lines.removeAll { line in
        guard line.key == key else { return false }
        if value.isEmpty { return true }
        if key == "AllowedCPUs" { return !line.value.isEmpty }
        return !isList(key) || firstWord(line.value) == firstWord(value)
      }
      lines.append((key, value))
    }
    return "# Kept by 'hengectl set-limit --persist'.\n[Resources]\n" + lines.map { "\($0.key)=\($0.value)\n" }.joined()
  }

  private static func isList(_ key: String) -> Bool {
    ResourcesSection.listKeys.contains { $0.name == key }
  }

  private static func firstWord(_ value: String) -> String? { (try? splitWords(value))?.first }
}
