import CSystemd
import Glibc

/// A D-Bus message, to be filled and sent, or to be read from front to back.
public final class Message {
  let pointer: OpaquePointer

  /// Takes over a reference.
  init(owning pointer: OpaquePointer) {
    self.pointer = pointer
  }

  /// Adds a reference.
  init(sharing pointer: OpaquePointer) {
    self.pointer = sd_bus_message_ref(pointer) ?? pointer
  }

  deinit { sd_bus_message_unref(pointer) }

  /// The types of the contents.
  public var signature: String { boundedString(sd_bus_message_get_signature(pointer, 1)) }

  /// Who sent it; empty on a connection without a bus daemon.
  public var sender: String { boundedString(sd_bus_message_get_sender(pointer)) }

  /// The object that it is about.
  public var path: String { boundedString(sd_bus_message_get_path(pointer)) }

  /// The interface that it belongs to.
  public var interface: String { boundedString(sd_bus_message_get_interface(pointer)) }

  /// The method's or the signal's name.
  public var member: String { boundedString(sd_bus_message_get_member(pointer)) }

  /// Goes back to the front.
  ///
  /// The corresponding C function is `sd_bus_message_rewind`.
  public func rewind() throws(BusError) {
    try checkBus(sd_bus_message_rewind(pointer, 1), "sd_bus_message_rewind")
  }
}

extension Message {
  /// Appends text. The corresponding C function is `sd_bus_message_append_basic`, as for all that follow.
  public func append(_ value: String) throws(BusError) {
    try append("s", value)
  }

  /// Appends an object's path; `EINVAL` where it is not valid.
  public func append(objectPath value: String) throws(BusError) {
    try append("o", value)
  }

  /// Appends a type signature; `EINVAL` where it is not valid.
  public func append(signature value: String) throws(BusError) {
    try append("g", value)
  }

  /// Appends a truth value.
  public func append(_ value: Bool) throws(BusError) {
    try append("b", bytesOf: Int32(value ? 1 : 0))
  }

  /// Appends a byte.
  public func append(_ value: UInt8) throws(BusError) {
    try append("y", bytesOf: value)
  }

  /// Appends a number of 32 bits.
  public func append(_ value: UInt32) throws(BusError) {
    try append("u", bytesOf: value)
  }

  /// Appends a number of 32 bits with a sign.
  public func append(_ value: Int32) throws(BusError) {
    try append("i", bytesOf: value)
  }

  /// Appends a number of 64 bits.
  public func append(_ value: UInt64) throws(BusError) {
    try append("t", bytesOf: value)
  }

  /// Appends a number of 64 bits with a sign.
  public func append(_ value: Int64) throws(BusError) {
    try append("x", bytesOf: value)
  }

  /// Appends a floating-point number.
  public func append(_ value: Double) throws(BusError) {
    try append("d", bytesOf: value)
  }

  /// Appends an array of texts.
  public func append(_ values: [String]) throws(BusError) {
    try appendArray(of: "s") { message throws(BusError) in
      for value in values { try message.append(value) }
    }
  }

  /// Appends an array of bytes.
  public func append(bytes values: [UInt8]) throws(BusError) {
    let result = values.withUnsafeBytes {
      sd_bus_message_append_array(pointer, typeCode("y"), $0.baseAddress, $0.count)
    }
    try checkBus(result, "sd_bus_message_append_array")
  }

  /// Appends a copy of a descriptor, which stays the caller's. The connection must have been made to pass descriptors.
  public func append(descriptor value: Int32) throws(BusError) {
    try append("h", bytesOf: value)
  }

  /// Appends an array.
  ///
  /// - Parameters:
  ///   - contents: the signature of one element.
  ///   - body: appends the elements.
  public func appendArray(
    of contents: String, _ body: (Message) throws(BusError) -> Void
  ) throws(BusError) {
    try appendContainer("a", contents, body)
  }

  /// Appends a structure.
  ///
  /// - Parameters:
  ///   - contents: the signatures of its members, one after another.
  ///   - body: appends the members.
  public func appendStruct(
    of contents: String, _ body: (Message) throws(BusError) -> Void
  ) throws(BusError) {
    try appendContainer("r", contents, body)
  }

  /// Appends a variant.
  ///
  /// - Parameters:
  ///   - contents: the signature of what is in it.
  ///   - body: appends that.
  public func appendVariant(
    of contents: String, _ body: (Message) throws(BusError) -> Void
  ) throws(BusError) {
    try appendContainer("v", contents, body)
  }

  /// Appends an entry of a dictionary, within an array of entries.
  ///
  /// - Parameters:
  ///   - contents: the signatures of key and value.
  ///   - body: appends key and value.
  public func appendEntry(
    of contents: String, _ body: (Message) throws(BusError) -> Void
  ) throws(BusError) {
    try appendContainer("e", contents, body)
  }

  private func append(_ type: Unicode.Scalar, _ value: String) throws(BusError) {
    // C would read up to the NUL and send another text than was meant.
    guard !value.utf8.contains(0) else { throw BusError("sd_bus_message_append_basic", errno: EINVAL) }
    let result = value.withCString { sd_bus_message_append_basic(pointer, typeCode(type), $0) }
    try checkBus(result, "sd_bus_message_append_basic")
  }

  private func append(_ type: Unicode.Scalar, bytesOf value: some BitwiseCopyable) throws(BusError) {
    let result = withUnsafePointer(to: value) { sd_bus_message_append_basic(pointer, typeCode(type), $0) }
    try checkBus(result, "sd_bus_message_append_basic")
  }

  private func appendContainer(
    _ type: Unicode.Scalar, _ contents: String, _ body: (Message) throws(BusError) -> Void
  ) throws(BusError) {
    try checkBus(
      sd_bus_message_open_container(pointer, typeCode(type), contents), "sd_bus_message_open_container")
    try body(self)
    try checkBus(sd_bus_message_close_container(pointer), "sd_bus_message_close_container")
  }
}

/// A type's letter as C wants it.
func typeCode(_ scalar: Unicode.Scalar) -> CChar {
  CChar(truncatingIfNeeded: scalar.value)
}
