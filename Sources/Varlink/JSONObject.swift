/// The named values of a JSON object, in the order in which the keys first came.
///
/// Keys are told apart byte by byte: two spellings of one accented letter are two keys, as they are for every other
/// reader of the same JSON.
public struct JSONObject: Sendable {
  /// A key and its value.
  public struct Entry: Sendable {
    /// The key.
    public var key: String
    /// The value under it.
    public var value: JSON
  }

  /// A string that is equal to another only when the bytes are.
  private struct ByteKey: Hashable {
    let string: String

    static func == (left: ByteKey, right: ByteKey) -> Bool {
      left.string.utf8.elementsEqual(right.string.utf8)
    }

    func hash(into hasher: inout Hasher) {
      for byte in string.utf8 { hasher.combine(byte) }
    }
  }

  // An index costs more than a search in a small object, and without one a large object from a stranger would make
  // reading it quadratic.
  private static let indexedFrom = 16

  /// The keys and values, in order.
  public private(set) var entries: [Entry] = []
  private var index: [ByteKey: Int] = [:]

  /// Makes an object without any key.
  public init() {}

  /// The number of keys.
  public var count: Int { entries.count }

  /// There is no key.
  public var isEmpty: Bool { entries.isEmpty }

  /// The keys, in order.
  public var keys: [String] { entries.map(\.key) }

  /// The value under a key; setting nil removes the key, setting a present one keeps its place.
  public subscript(key: String) -> JSON? {
    get { position(of: key).map { entries[$0].value } }
    set {
      switch (position(of: key), newValue) {
      case (let position?, let value?): entries[position].value = value
      case (let position?, nil):
        entries.remove(at: position)
        rebuildIndex()
      case (nil, let value?):
        entries.append(Entry(key: key, value: value))
        if entries.count > Self.indexedFrom {
          if index.isEmpty { rebuildIndex() } else { index[ByteKey(string: key)] = entries.count - 1 }
        }
      case (nil, nil): break
      }
    }
  }

  private func position(of key: String) -> Int? {
    if index.isEmpty { return entries.firstIndex { $0.key.utf8.elementsEqual(key.utf8) } }
    return index[ByteKey(string: key)]
  }

  private mutating func rebuildIndex() {
    index.removeAll()
    guard entries.count > Self.indexedFrom else { return }
    for (position, entry) in entries.enumerated() { index[ByteKey(string: entry.key)] = position }
  }
}

extension JSONObject: Equatable {
  /// Compares two objects without regard to the order of their keys.
  public static func == (left: JSONObject, right: JSONObject) -> Bool {
    left.count == right.count && left.entries.allSatisfy { right[$0.key] == $0.value }
  }
}

extension JSONObject: ExpressibleByDictionaryLiteral {
  /// Makes an object; of two equal keys the last one wins.
  public init(dictionaryLiteral elements: (String, JSON)...) {
    for (key, value) in elements { self[key] = value }
  }
}
