/// One key of a spec: its name, and how its text becomes a value and a value its text.
struct SpecKey: Sendable {
  /// The most values that one key may list, so that no file makes the checks slow.
  static let maximumListLength = 4096

  /// What holds where nothing is set.
  private static let defaults = Spec()

  let name: String
  /// Parses a value that is not empty and stores it. Returns how many values it added to a list.
  let assign: @Sendable (inout Spec, String) throws(SpecError) -> Int
  /// What an empty value does.
  let reset: @Sendable (inout Spec) -> Void
  /// The values to print; none where the default holds.
  let render: @Sendable (Spec) -> [String]

  /// Whether its values must not be shown in messages.
  var isSecret: Bool { name == "SetCredential" }

  /// A key with one value and a default.
  static func value<V: SpecValue>(_ name: String, _ path: any WritableKeyPath<Spec, V> & Sendable) -> SpecKey {
    custom(name, path, parse: V.init, print: \.description)
  }

  /// A key with one value, parsed and printed by functions.
  static func custom<V: Equatable & Sendable>(
    _ name: String, _ path: any WritableKeyPath<Spec, V> & Sendable,
    parse: @escaping @Sendable (String) throws(SpecError) -> V, print: @escaping @Sendable (V) -> String
  ) -> SpecKey {
    SpecKey(
      name: name,
      assign: { (spec: inout Spec, text: String) throws(SpecError) -> Int in
        spec[keyPath: path] = try parse(text)
        return 0
      },
      reset: { $0[keyPath: path] = defaults[keyPath: path] },
      render: { $0[keyPath: path] == defaults[keyPath: path] ? [] : [print($0[keyPath: path])] })
  }

  /// A key with yes or no.
  static func flag(_ name: String, _ path: any WritableKeyPath<Spec, Bool> & Sendable) -> SpecKey {
    custom(name, path, parse: parseBoolean, print: { $0 ? "yes" : "no" })
  }

  /// A key that is nil until it is set.
  ///
  /// - Parameter check: gives the reason why a value, well formed as it is, is not allowed here.
  static func optional<V: SpecValue>(
    _ name: String, _ path: any WritableKeyPath<Spec, V?> & Sendable,
    check: @escaping @Sendable (V) -> String? = { _ in nil }
  ) -> SpecKey {
    custom(
      name, path,
      parse: { (text: String) throws(SpecError) -> V? in
        let value = try V(text)
        if let reason = check(value) { throw SpecError("value", text, reason) }
        return value
      }, print: { $0?.description ?? "" })
  }

  /// A key that adds one value to a list each time.
  ///
  /// - Parameter replaces: whether a new value takes the place of an old one.
  static func list<V: SpecValue>(
    _ name: String, _ path: any WritableKeyPath<Spec, [V]> & Sendable,
    replaces: @escaping @Sendable (V, V) -> Bool = { _, _ in false }
  ) -> SpecKey {
    SpecKey(
      name: name,
      assign: { (spec: inout Spec, text: String) throws(SpecError) -> Int in
        try append(V(text), to: &spec[keyPath: path], text, replaces)
      },
      reset: { $0[keyPath: path] = [] }, render: { $0[keyPath: path].map(\.description) })
  }

  /// A key whose value is words, quoted where needed, each adding to a list.
  ///
  /// - Parameters:
  ///   - isPrinted: false for a second name of a key.
  ///   - replaces: whether a new value takes the place of an old one.
  static func words<V: SpecValue>(
    _ name: String, _ path: any WritableKeyPath<Spec, [V]> & Sendable, isPrinted: Bool = true,
    replaces: @escaping @Sendable (V, V) -> Bool = { _, _ in false }
  ) -> SpecKey {
    SpecKey(
      name: name,
      assign: { (spec: inout Spec, text: String) throws(SpecError) -> Int in
        // Into a copy: an assignment is taken whole or not at all.
        var list = spec[keyPath: path]
        var added = 0
        for word in try splitWords(text) { added += try append(V(word), to: &list, text, replaces) }
        spec[keyPath: path] = list
        return added
      },
      reset: { $0[keyPath: path] = [] },
      render: { isPrinted ? $0[keyPath: path].map { quoteWord($0.description) } : [] })
  }

  /// A key whose assignments add up to one set.
  static func union<V: SpecSet>(_ name: String, _ path: any WritableKeyPath<Spec, V> & Sendable) -> SpecKey {
    SpecKey(
      name: name,
      assign: { (spec: inout Spec, text: String) throws(SpecError) -> Int in
        let more = try V(text)
        spec[keyPath: path].formUnion(more)
        return 0
      },
      reset: { $0[keyPath: path] = V() },
      render: { $0[keyPath: path] == V() ? [] : [$0[keyPath: path].description] })
  }
}

/// A value that repeated assignments add to.
protocol SpecSet: SpecValue {
  init()
  mutating func formUnion(_ more: Self)
}

/// Puts a value at the end of a list, or in the place of the one that it replaces.
private func append<V>(
  _ value: V, to list: inout [V], _ text: String, _ replaces: (V, V) -> Bool
) throws(SpecError) -> Int {
  if let old = list.firstIndex(where: { replaces(value, $0) }) {
    list[old] = value
    return 0
  }
  guard list.count < SpecKey.maximumListLength else {
    throw SpecError("value", text, "no more than \(SpecKey.maximumListLength) values are allowed")
  }
  list.append(value)
  return 1
}
