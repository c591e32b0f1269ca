import CSystemd
import Glibc

/// Reading goes from front to back. A message that does not hold what is asked for gives `ENXIO` or `EBADMSG`.
extension Message {
  /// How many elements of an array are read; the rest is skipped.
  public static var elementLimit: Int { 10_000 }

  /// Reads text, cut at `limit` bytes. The corresponding C function is `sd_bus_message_read_basic`, as for all that
  /// follow.
  public func readString(limit: Int = 4096) throws(BusError) -> String {
    try readText("s", limit)
  }

  /// Reads an object's path, cut at `limit` bytes.
  public func readObjectPath(limit: Int = 4096) throws(BusError) -> String {
    try readText("o", limit)
  }

  /// Reads a truth value.
  public func readBool() throws(BusError) -> Bool {
    try read("b", into: Int32(0)) != 0
  }

  /// Reads a byte.
  public func readUInt8() throws(BusError) -> UInt8 {
    try read("y", into: 0)
  }

  /// Reads a number of 32 bits.
  public func readUInt32() throws(BusError) -> UInt32 {
    try read("u", into: 0)
  }

  /// Reads a number of 32 bits with a sign.
  public func readInt32() throws(BusError) -> Int32 {
    try read("i", into: 0)
  }

  /// Reads a number of 64 bits.
  public func readUInt64() throws(BusError) -> UInt64 {
    try read("t", into: 0)
  }

  /// Reads a number of 64 bits with a sign.
  public func readInt64() throws(BusError) -> Int64 {
    try read("x", into: 0)
  }

  /// Reads a floating-point number.
  public func readDouble() throws(BusError) -> Double {
    try read("d", into: 0)
  }

  /// Reads a descriptor.
  ///
  /// - Returns: a copy that the caller closes, not inherited by programs.
  public func readDescriptor() throws(BusError) -> Int32 {
    let borrowed = try read("h", into: Int32(-1))
    let copy = fcntl(borrowed, F_DUPFD_CLOEXEC, 3)
    guard copy >= 0 else { throw BusError("fcntl", errno: Glibc.errno) }
    return copy
  }

  /// Reads an array of texts, each cut at 4096 bytes.
  ///
  /// - Parameter limit: how many to keep.
  public func readStrings(limit: Int = elementLimit) throws(BusError) -> [String] {
    var strings: [String] = []
    try readArray(of: "s", limit: limit) { message throws(BusError) in strings.append(try message.readString()) }
    return strings
  }

  /// Reads an array.
  ///
  /// - Parameters:
  ///   - contents: the signature of one element.
  ///   - limit: how many elements to read; the rest is skipped.
  ///   - body: reads one element, all of it.
  public func readArray(
    of contents: String, limit: Int = elementLimit, _ body: (Message) throws(BusError) -> Void
  ) throws(BusError) {
    try readContainer("a", contents) { message throws(BusError) in
      var count = 0
      while try !message.isAtEnd() {
        if count < limit {
          try body(message)
        } else {
          try message.skip(contents)
        }
        count += 1
      }
    }
  }

  /// Reads a structure.
  ///
  /// - Parameters:
  ///   - contents: the signatures of its members.
  ///   - body: reads the members, all of them.
  public func readStruct(
    of contents: String, _ body: (Message) throws(BusError) -> Void
  ) throws(BusError) {
    try readContainer("r", contents, body)
  }

  /// Reads an entry of a dictionary.
  ///
  /// - Parameters:
  ///   - contents: the signatures of key and value.
  ///   - body: reads key and value.
  public func readEntry(
    of contents: String, _ body: (Message) throws(BusError) -> Void
  ) throws(BusError) {
    try readContainer("e", contents, body)
  }

  /// Reads a variant that holds a known type.
  ///
  /// - Parameters:
  ///   - contents: the signature that must be in it.
  ///   - body: reads that.
  public func readVariant<Value>(
    of contents: String, _ body: (Message) throws(BusError) -> Value
  ) throws(BusError) -> Value {
    try enter("v", contents)
    let value = try body(self)
    try exitContainer()
    return value
  }

  /// Skips values.
  ///
  /// The corresponding C function is `sd_bus_message_skip`.
  ///
  /// - Parameter types: the signatures of what to skip.
  public func skip(_ types: String) throws(BusError) {
    try checkBus(sd_bus_message_skip(pointer, types), "sd_bus_message_skip")
  }

  /// The type of the next value, and for a container what is in it; nil at the end.
  ///
  /// The corresponding C function is `sd_bus_message_peek_type`.
  public func peekType() throws(BusError) -> (type: Character, contents: String)? {
    var type: CChar = 0
    var contents: UnsafePointer<CChar>?
    let result = try checkBus(sd_bus_message_peek_type(pointer, &type, &contents), "sd_bus_message_peek_type")
    guard result > 0 else { return nil }
    return (Character(Unicode.Scalar(UInt8(bitPattern: type))), boundedString(contents))
  }

  /// Nothing is left in the container that is being read.
  ///
  /// The corresponding C function is `sd_bus_message_at_end`.
  public func isAtEnd() throws(BusError) -> Bool {
    try checkBus(sd_bus_message_at_end(pointer, 0), "sd_bus_message_at_end") > 0
  }

  private func readText(_ type: Unicode.Scalar, _ limit: Int) throws(BusError) -> String {
    var text: UnsafePointer<CChar>?
    // The message keeps the text; it is copied before anything else can happen to the message.
    try found(sd_bus_message_read_basic(pointer, typeCode(type), &text))
    return boundedString(text, limit: max(limit, 0))
  }

  private func read<Value: BitwiseCopyable>(_ type: Unicode.Scalar, into initial: Value) throws(BusError) -> Value {
    var value = initial
    try found(withUnsafeMutablePointer(to: &value) { sd_bus_message_read_basic(pointer, typeCode(type), $0) })
    return value
  }

  /// Zero means that the container ended where a value was wanted.
  private func found(_ result: Int32) throws(BusError) {
    guard try checkBus(result, "sd_bus_message_read_basic") > 0 else {
      throw BusError("sd_bus_message_read_basic", errno: ENXIO)
    }
  }

  private func enter(_ type: Unicode.Scalar, _ contents: String) throws(BusError) {
    let result = sd_bus_message_enter_container(pointer, typeCode(type), contents)
    guard try checkBus(result, "sd_bus_message_enter_container") > 0 else {
      throw BusError("sd_bus_message_enter_container", errno: ENXIO)
    }
  }

  private func exitContainer() throws(BusError) {
    try checkBus(sd_bus_message_exit_container(pointer), "sd_bus_message_exit_container")
  }

  private func readContainer(
    _ type: Unicode.Scalar, _ contents: String, _ body: (Message) throws(BusError) -> Void
  ) throws(BusError) {
    try enter(type, contents)
    try body(self)
    try exitContainer()
  }
}
