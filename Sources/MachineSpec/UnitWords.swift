// Quoting as in systemd.syntax(7): words at white space, single or double quotes, C-style escapes in all of them.

/// Splits a value into its words.
///
/// - Parameters:
///   - text: the value.
///   - subject: what to call it in errors.
/// - Throws: `SpecError` for an open quote, an unknown escape, and bytes that are no text.
func splitWords(_ text: String, _ subject: String = "value") throws(SpecError) -> [String] {
  var words: [String] = []
  var word: [UInt8]?
  var quote: UInt8?
  var rest = Array(text.utf8)[...]
  while let byte = rest.popFirst() {
    if let open = quote {
      if byte == open {
        quote = nil
        continue
      }
    } else if byte.isSpace {
      if let done = word { words.append(try checkedText(done, text, subject)) }
      word = nil
      continue
    } else if byte == 0x22 || byte == 0x27 {
      quote = byte
      word = word ?? []
      continue
    }
    if byte == .backslash {
      word = (word ?? []) + (try unescape(&rest, text, subject))
    } else {
      word = word ?? []
      word?.append(byte)
    }
  }
  if quote != nil { throw SpecError(subject, text, "a quote is not closed") }
  if let done = word { words.append(try checkedText(done, text, subject)) }
  return words
}

/// Replaces C-style escapes by the bytes that they stand for, NUL included.
///
/// - Throws: `SpecError` for an unknown escape.
func unescapeBytes(_ text: String, _ subject: String) throws(SpecError) -> [UInt8] {
  var result: [UInt8] = []
  var rest = Array(text.utf8)[...]
  while let byte = rest.popFirst() {
    if byte == .backslash {
      result += try unescape(&rest, text, subject)
    } else {
      result.append(byte)
    }
  }
  return result
}

/// Writes bytes with C-style escapes so that they survive trimming, joining of lines and `unescapeBytes`.
func escapeBytes(_ bytes: [UInt8]) -> String {
  var result = ""
  for (index, byte) in bytes.enumerated() {
    let atEnd = index == 0 || index == bytes.count - 1
    switch byte {
    case 0x0a: result += "\\n"
    case .backslash: result += "\\\\"
    case 0x21...0x7e: result.unicodeScalars.append(Unicode.Scalar(byte))
    case 0x20 where !atEnd: result += " "
    default: result += "\\x" + hex(byte)
    }
  }
  return result
}

/// Writes a word so that `splitWords` gives it back: as it is where it can be, else in double quotes.
func quoteWord(_ word: String) -> String {
  let plain = word.utf8.allSatisfy { $0 > 0x20 && $0 != 0x7f && $0 != 0x22 && $0 != 0x27 && $0 != .backslash }
  if plain, !word.isEmpty { return word }
  var result: [UInt8] = [0x22]
  for byte in word.utf8 {
    switch byte {
    case 0x22, .backslash: result += [.backslash, byte]
    case 0x0a: result += Array("\\n".utf8)
    case _ where byte.isControl: result += Array("\\x\(hex(byte))".utf8)
    default: result.append(byte)
    }
  }
  return String(decoding: result + [0x22], as: UTF8.self)
}

private func checkedText(_ bytes: [UInt8], _ value: String, _ subject: String) throws(SpecError) -> String {
  guard !bytes.contains(0), let text = String(validating: bytes, as: UTF8.self) else {
    throw SpecError(subject, value, "escapes must not make NUL bytes or broken UTF-8")
  }
  return text
}

/// Reads what follows a backslash.
private func unescape(
  _ rest: inout ArraySlice<UInt8>, _ value: String, _ subject: String
) throws(SpecError) -> [UInt8] {
  let wrong = SpecError(
    subject, value, "after a backslash are allowed a b f n r t v s, quotes, a backslash, xHH, OOO, uHHHH, UHHHHHHHH")
  guard let letter = rest.popFirst() else { throw wrong }
  switch letter {
  case UInt8(ascii: "a"): return [0x07]
  case UInt8(ascii: "b"): return [0x08]
  case UInt8(ascii: "f"): return [0x0c]
  case UInt8(ascii: "n"): return [0x0a]
  case UInt8(ascii: "r"): return [0x0d]
  case UInt8(ascii: "t"): return [0x09]
  case UInt8(ascii: "v"): return [0x0b]
  case UInt8(ascii: "s"): return [0x20]
  case 0x22, 0x27, .backslash: return [letter]
  case UInt8(ascii: "x"):
    guard let number = takeDigits(&rest, 2, radix: 16) else { throw wrong }
    return [UInt8(truncatingIfNeeded: number)]
  case 0x30...0x37:
    guard let tail = takeDigits(&rest, 2, radix: 8) else { throw wrong }
    guard let byte = UInt8(exactly: UInt32(letter - 0x30) * 64 + tail) else { throw wrong }
    return [byte]
  case UInt8(ascii: "u"), UInt8(ascii: "U"):
    guard let number = takeDigits(&rest, letter == UInt8(ascii: "u") ? 4 : 8, radix: 16),
      let scalar = Unicode.Scalar(number)
    else { throw wrong }
    return Array(String(Character(scalar)).utf8)
  default: throw wrong
  }
}

/// Takes exactly `count` digits, at most eight, or none at all.
private func takeDigits(_ rest: inout ArraySlice<UInt8>, _ count: Int, radix: UInt32) -> UInt32? {
  var number: UInt32 = 0
  guard rest.count >= count else { return nil }
  for byte in rest.prefix(count) {
    guard let digit = byte.hexValue, UInt32(digit) < radix else { return nil }
    number = number &* radix &+ UInt32(digit)
  }
  rest = rest.dropFirst(count)
  return number
}
