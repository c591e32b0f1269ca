import CLinux
import Glibc
import SystemPackage

/// Two connected Unix sockets.
public struct SocketPair: Sendable {
  /// One end.
  public let first: Descriptor
  /// The other end.
  public let second: Descriptor

  /// Makes a pair. The corresponding C function is `socketpair`.
  ///
  /// - Parameter packets: whether the bounds of messages are kept (`SOCK_SEQPACKET`).
  public init(packets: Bool) throws(Failure) {
    var pair: (Int32, Int32) = (-1, -1)
    let result = withUnsafeMutablePointer(to: &pair) { tuple in
      tuple.withMemoryRebound(to: Int32.self, capacity: 2) { clinux_socketpair(packets, $0) }
    }
    try check(result, "make a pair of sockets")
    first = Descriptor(adopting: pair.0)
    second = Descriptor(adopting: pair.1)
  }
}

extension Descriptor {
  /// Sends one packet, with a descriptor where one is given. The corresponding C function is `sendmsg`.
  public func send(_ bytes: [UInt8], passing descriptor: Descriptor? = nil) throws(Failure) {
    try check(clinux_send(raw, bytes, bytes.count, descriptor?.raw ?? -1), "send a message")
  }

  /// Receives one packet and the descriptor that came along; nil at the end, or when a non-blocking socket has none.
  public func receive(limit: Int = 65536) throws(Failure) -> (bytes: [UInt8], descriptor: Descriptor?)? {
    var passed: Int32 = -1
    var length = 0
    var number: Int32 = 0
    let bytes = [UInt8](unsafeUninitializedCapacity: limit) { buffer, count in
      length = clinux_receive(raw, buffer.baseAddress, limit, &passed)
      number = Glibc.errno
      count = max(0, length)
    }
    if length < 0 {
      if number == EAGAIN || number == ECONNRESET { return nil }
      throw Failure("receive a message", errno: Errno(rawValue: number))
    }
    if length == 0 && passed < 0 { return nil }
    return (bytes, passed < 0 ? nil : Descriptor(adopting: passed))
  }

  /// A socket bound to a name in this directory, however long the directory's own path is.
  ///
  /// - Parameters:
  ///   - name: the socket's name in this directory.
  ///   - datagram: a datagram socket, or else one that listens for streams.
  public func bindSocket(_ name: String, datagram: Bool) throws(Failure) -> Descriptor {
    let socket = Descriptor(adopting: try check(clinux_unix_socket(datagram), "make a socket"))
    try check(clinux_unix_bind(socket.raw, "\(selfPath)/\(name)"), "bind the socket", name)
    if !datagram { try check(clinux_listen(socket.raw, 128), "listen on the socket", name) }
    return socket
  }

  /// A stream connected to a socket in this directory. Only for directories that no machine controls.
  public func connectSocket(_ name: String) throws(Failure) -> Descriptor {
    let socket = Descriptor(adopting: try check(clinux_unix_socket(false), "make a socket"))
    try check(clinux_unix_connect(socket.raw, "\(selfPath)/\(name)"), "connect to the socket", name)
    return socket
  }
}

extension Descriptor {
  /// Sends what a stream takes at once, with descriptors beside the first byte. The corresponding C function is
  /// `sendmsg`.
  ///
  /// - Returns: how many bytes it took; nil when it takes none just now.
  /// - Throws: `Failure` when the peer is gone, or more than 16 descriptors are to go along.
  public func sendSome(_ bytes: some Collection<UInt8>, passing descriptors: [Descriptor] = []) throws(Failure) -> Int?
  {
    let numbers = descriptors.map(\.raw)
    let body = { (buffer: UnsafeRawBufferPointer) in
      clinux_stream_send(self.raw, buffer.baseAddress, buffer.count, numbers, Int32(numbers.count))
    }
    let contiguous = bytes.withContiguousStorageIfAvailable { body(UnsafeRawBufferPointer($0)) }
    let count = withExtendedLifetime(descriptors) { contiguous ?? Array(bytes).withUnsafeBytes(body) }
    let number = Glibc.errno
    if count >= 0 { return count }
    if number == EAGAIN { return nil }
    throw Failure("send a message", errno: Errno(rawValue: number))
  }

  /// Receives what is there on a stream, and the descriptors that came along.
  ///
  /// - Parameter limit: how many bytes at most.
  /// - Returns: no bytes at the end of the stream; nil when there is nothing just now.
  public func receiveSome(limit: Int) throws(Failure) -> (bytes: [UInt8], descriptors: [Descriptor])? {
    var numbers = [Int32](repeating: -1, count: Int(clinux_stream_descriptors))
    var passed: Int32 = 0
    var length = 0
    var number: Int32 = 0
    let bytes = [UInt8](unsafeUninitializedCapacity: limit) { buffer, count in
      length = clinux_stream_receive(raw, buffer.baseAddress, limit, &numbers, Int32(numbers.count), &passed)
      number = Glibc.errno
      count = max(0, length)
    }
    if length < 0 {
      if number == EAGAIN { return nil }
      throw Failure("receive a message", errno: Errno(rawValue: number))
    }
    return (bytes, numbers.prefix(Int(passed)).map { Descriptor(adopting: $0) })
  }
}
