import Testing
import Varlink

@Suite struct JSONTests {
  @Test(arguments: [
    ("null", "null"), (" true ", "true"), ("false", "false"), ("0", "0"), ("-0", "0"), ("-12", "-12"),
    ("9223372036854775807", "9223372036854775807"), ("-9223372036854775808", "-9223372036854775808"),
    ("9223372036854775808", "9.223372036854776e+18"), ("1.5", "1.5"), ("1e3", "1000.0"), ("1E-2", "0.01"),
    ("\"\"", "\"\""), (#""\u0041\u00e9\ud83d\ude00""#, "\"Aé😀\""),
    (#""\b\f\n\r\t\/\\\"""#, #""\u0008\u000c\n\r\t/\\\"""#),
    ("[]", "[]"), ("[1, [2]]", "[1,[2]]"), ("{}", "{}"), ("{\"b\":1,\"a\":{}}", "{\"b\":1,\"a\":{}}"),
    ("{\"a\":1,\"b\":2,\"a\":3}", "{\"a\":3,\"b\":2}"), ("\r\n\t[ ]\n", "[]"),
    ("\"\u{7f}\u{9b}\u{202e}\"", #""\u007f\u009b\u202e""#),
  ])
  func validTextIsReadAndWritten(_ text: String, _ written: String) throws {
    #expect(try JSON(parsing: text).compact == written)
  }

  @Test(arguments: [
    "", " ", "nul", "nullx", "True", "+1", "01", "-", "-a", "1.", ".5", "1e", "1e+", "1e400", "-1e400", "0x10", "NaN",
    "\"", "\"\\", "\"\\x\"", "\"\\u12\"", "\"\\u12g4\"", "\"\\ud800\"", "\"\\ud800\\u0041\"", "\"\\udc00\"",
    "\"\\ud800\\ud800\"", "\"\n\"", "\"\0\"", "[", "[1", "[1,", "[1,]", "[,1]", "[1 2]", "]", "{", "{a:1}", "{\"a\"}",
    "{\"a\":}", "{\"a\":1,}", "{\"a\":1 \"b\":2}", "{1:2}", "{}{}", "1 2", "// a\n1", "'a'", "\u{feff}1",
  ])
  func invalidTextIsRefused(_ text: String) {
    #expect(throws: JSONError.self) { try JSON(parsing: text) }
  }

  @Test(
    arguments: [
      [0xff], [0xc0, 0x80], [0xed, 0xa0, 0x80], [0xf4, 0x90, 0x80, 0x80], [0xe2, 0x82], [0x80],
    ] as [[UInt8]])
  func stringsAreStrictUTF8(_ bytes: [UInt8]) {
    #expect(throws: JSONError.self) { try JSON(parsing: [0x22] + bytes + [0x22]) }
  }

  @Test func depthIsBounded() throws {
    func nested(_ depth: Int) -> String {
      String(repeating: "[", count: depth) + String(repeating: "]", count: depth)
    }
    _ = try JSON(parsing: nested(64))
    #expect(throws: JSONError.self) { try JSON(parsing: nested(65)) }
    #expect(throws: JSONError.self) { try JSON(parsing: String(repeating: "{\"a\":", count: 1_000_000)) }
  }

  @Test func hugeNumbersAreRefusedQuickly() {
    #expect(throws: JSONError.self) { try JSON(parsing: String(repeating: "9", count: 1_000_000)) }
  }

  @Test func manyKeysStayFast() throws {
    let members = (0..<100_000).map { "\"k\($0 % 50_000)\":\($0)" }.joined(separator: ",")
    let object = try #require(try JSON(parsing: "{\(members)}").objectValue)
    #expect(object.count == 50_000)
    #expect(object["k7"] == 50_007)
  }

  @Test func keysAreToldApartByBytes() throws {
    let object = try #require(try JSON(parsing: "{\"\u{e9}\":1,\"e\u{301}\":2}").objectValue)
    #expect(object.count == 2)
    #expect(object["\u{e9}"] == 1)
  }

  @Test func keysCanBeRemovedFromLargeObjects() {
    var object = JSONObject()
    for number in 0..<40 { object["\(number)"] = JSON(number) }
    object["3"] = nil
    object["39"] = "last"
    #expect(object["3"] == nil)
    #expect(object["4"] == 4)
    #expect(object.keys.last == "39" && object["39"] == "last")
    for number in 0..<35 { object["\(number)"] = nil }
    #expect(object.keys == ["35", "36", "37", "38", "39"])
    #expect(object["36"] == 36)
  }

  @Test func accessorsAndLiterals() {
    var json: JSON = ["name": "a", "list": [1, 2.5, nil, true], "big": JSON(UInt64.max)]
    #expect(json["name"]?.stringValue == "a")
    #expect(json["list"]?[0]?.intValue == 1)
    #expect(json["list"]?[1]?.doubleValue == 2.5)
    #expect(json["list"]?[2]?.isNull == true)
    #expect(json["list"]?[3]?.boolValue == true)
    #expect(json["list"]?[4] == nil && json["list"]?[-1] == nil)
    #expect(json["big"]?.doubleValue == 1.8446744073709552e19)
    json["name"] = nil
    #expect(json["name"] == nil)
    #expect(json.pretty.hasPrefix("{\n  \"list\": [\n    1,\n    2.5,\n    null"))
    #expect(JSON.double(.nan).compact == "null")
    #expect(JSON.object(["a": 1, "b": 2]) == JSON.object(["b": 2, "a": 1]))
  }

  @Test func randomValuesSurviveWritingAndReading() throws {
    var random = SeededRandom(seed: 1)
    for _ in 0..<2_000 {
      let value = Self.value(&random, depth: 4)
      #expect(try JSON(parsing: value.compact) == value)
      #expect(try JSON(parsing: value.pretty) == value)
    }
  }

  @Test func mutatedBytesNeverTrap() throws {
    var random = SeededRandom(seed: 2)
    let seed: JSON = [
      "method": "org.example.Do", "parameters": ["a": [1, -2.5e10, "x\u{1F600}\n\u{1}", nil], "b": ["c": true]],
      "more": true,
    ]
    let original = seed.compactBytes
    var valid = 0
    for _ in 0..<50_000 {
      var bytes = original
      for _ in 0..<Int.random(in: 1...4, using: &random) where !bytes.isEmpty {
        let place = Int.random(in: 0..<bytes.count, using: &random)
        switch Int.random(in: 0..<4, using: &random) {
        case 0: bytes[place] = UInt8.random(in: 0...255, using: &random)
        case 1: bytes.remove(at: place)
        case 2: bytes.insert(bytes[Int.random(in: 0..<bytes.count, using: &random)], at: place)
        default: bytes.removeLast(min(place, bytes.count - 1))
        }
      }
      guard let value = try? JSON(parsing: bytes) else { continue }
      valid += 1
      #expect(try JSON(parsing: value.compactBytes) == value)
      _ = try? VarlinkMessage(parsing: bytes)
    }
    #expect(valid > 100)
  }

  private static func value(_ random: inout SeededRandom, depth: Int) -> JSON {
    switch Int.random(in: 0..<(depth > 0 ? 8 : 6), using: &random) {
    case 0: return .null
    case 1: return .bool(Bool.random(using: &random))
    case 2: return .int(Int64(bitPattern: random.next()))
    case 3:
      let number = Double(bitPattern: random.next())
      return .double(number.isFinite ? number : 0.5)
    case 4, 5: return .string(text(&random))
    case 6: return .array((0..<Int.random(in: 0..<5, using: &random)).map { _ in value(&random, depth: depth - 1) })
    default:
      var object = JSONObject()
      for _ in 0..<Int.random(in: 0..<25, using: &random) { object[text(&random)] = value(&random, depth: depth - 2) }
      return .object(object)
    }
  }

  private static func text(_ random: inout SeededRandom) -> String {
    var text = ""
    for _ in 0..<Int.random(in: 0..<12, using: &random) {
      let limit: UInt32 = Bool.random(using: &random) ? 0x100 : 0x10ffff
      if let scalar = Unicode.Scalar(UInt32.random(in: 0...limit, using: &random)) {
        text.unicodeScalars.append(scalar)
      }
    }
    return text
  }
}

/// The same numbers in every run.
struct SeededRandom: RandomNumberGenerator {
  private var state: UInt64

  init(seed: UInt64) {
    state = seed
  }

  mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var mixed = state
    mixed = (mixed ^ (mixed >> 30)) &* 0xbf58_476d_1ce4_e5b9
    mixed = (mixed ^ (mixed >> 27)) &* 0x94d0_49bb_1331_11eb
    return mixed ^ (mixed >> 31)
  }
}
