/// A JSON value, as Varlink carries it.
///
/// Whole numbers that fit into 64 bits with a sign are `.int`, every other number is `.double`.
public enum JSON: Sendable {
  /// The literal `null`.
  case null
  /// The literals `true` and `false`.
  case bool(Bool)
  /// A whole number.
  case int(Int64)
  /// A number with a fraction or an exponent, or too large for `.int`.
  case double(Double)
  /// Text.
  case string(String)
  /// A list of values.
  case array([JSON])
  /// Named values in the order in which they were written.
  case object(JSONObject)
}

extension JSON: Equatable {
  /// Compares two values; the order of an object's keys does not count, and `1` is not `1.0`.
  public static func == (left: JSON, right: JSON) -> Bool {
    switch (left, right) {
    case (.null, .null): true
    case (.bool(let left), .bool(let right)): left == right
    case (.int(let left), .int(let right)): left == right
    case (.double(let left), .double(let right)): left == right
    case (.string(let left), .string(let right)): left.utf8.elementsEqual(right.utf8)
    case (.array(let left), .array(let right)): left == right
    case (.object(let left), .object(let right)): left == right
    default: false
    }
  }
}

extension JSON {
  /// The value is `null`.
  public var isNull: Bool {
    if case .null = self { true } else { false }
  }

  /// The truth value, unless this is something else.
  public var boolValue: Bool? {
    if case .bool(let value) = self { value } else { nil }
  }

  /// The whole number, unless this is something else.
  public var intValue: Int64? {
    if case .int(let value) = self { value } else { nil }
  }

  /// The number, whole or not, unless this is something else.
  public var doubleValue: Double? {
    switch self {
    case .int(let value): Double(value)
    case .double(let value): value
    default: nil
    }
  }

  /// The text, unless this is something else.
  public var stringValue: String? {
    if case .string(let value) = self { value } else { nil }
  }

  /// The list, unless this is something else.
  public var arrayValue: [JSON]? {
    if case .array(let value) = self { value } else { nil }
  }

  /// The named values, unless this is something else.
  public var objectValue: JSONObject? {
    if case .object(let value) = self { value } else { nil }
  }

  /// The value under a key; nil where there is none, or where this is no object.
  ///
  /// Setting a key of something that is no object makes it an object first; setting nil removes the key.
  public subscript(key: String) -> JSON? {
    get { objectValue?[key] }
    set {
      var object = objectValue ?? JSONObject()
      object[key] = newValue
      self = .object(object)
    }
  }

  /// The element at a place; nil where there is none, or where this is no array.
  public subscript(index: Int) -> JSON? {
    guard case .array(let elements) = self, elements.indices.contains(index) else { return nil }
    return elements[index]
  }
}

extension JSON: ExpressibleByNilLiteral, ExpressibleByBooleanLiteral, ExpressibleByIntegerLiteral,
  ExpressibleByFloatLiteral, ExpressibleByStringLiteral, ExpressibleByStringInterpolation, ExpressibleByArrayLiteral,
  ExpressibleByDictionaryLiteral
{
  /// Makes `null`.
  public init(nilLiteral: ()) { self = .null }

  /// Makes a truth value.
  public init(booleanLiteral value: Bool) { self = .bool(value) }

  /// Makes a whole number.
  public init(integerLiteral value: Int64) { self = .int(value) }

  /// Makes a number.
  public init(floatLiteral value: Double) { self = .double(value) }

  /// Makes text.
  public init(stringLiteral value: String) { self = .string(value) }

  /// Makes a list.
  public init(arrayLiteral elements: JSON...) { self = .array(elements) }

  /// Makes an object; of two equal keys the last one wins.
  public init(dictionaryLiteral elements: (String, JSON)...) {
    var object = JSONObject()
    for (key, value) in elements { object[key] = value }
    self = .object(object)
  }
}

extension JSON {
  /// Makes a whole number from any integer; one that does not fit into 64 bits with a sign becomes a `.double`.
  public init(_ value: some BinaryInteger) {
    if let exact = Int64(exactly: value) {
      self = .int(exact)
    } else {
      self = .double(Double(value))
    }
  }

  /// Makes a list of texts.
  public init(_ values: some Sequence<String>) {
    self = .array(values.map { .string($0) })
  }

  /// Makes text, or `null` from nil.
  public init(_ value: String?) {
    self = value.map { .string($0) } ?? .null
  }
}
