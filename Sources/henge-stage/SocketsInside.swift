import CLinux
import Glibc
import Linux

/// Opens sockets in the machine's network namespace, by a child that goes there: this process could not come back from it.
///
/// - Parameters:
///   - network: the machine's network namespace.
///   - count: how many there will be.
///   - make: called in the child; gives each socket to what it is called with.
func openSockets(
  in network: Descriptor, count: Int, _ make: ((Descriptor) throws(Failure) -> Void) throws(Failure) -> Void
) throws(Failure) -> [Descriptor] {
  let pair = try SocketPair(packets: true)
  let child = clinux_fork()
  try check(child, "fork")
  if child == 0 {
    do throws(Failure) {
      try joinNamespaces(network, .network)
      try make { (socket) throws(Failure) in try pair.second.send([0], passing: socket) }
    } catch {
      try? pair.second.send(Array(error.description.utf8))
    }
    exit(0)
  }
  var sockets: [Descriptor] = []
  // One after the other: a queue that is full has the child wait, and this process reads.
  while sockets.count < count {
    guard let (bytes, socket) = try pair.first.receive(limit: 4096) else { break }
    guard let socket else { throw Failure(line: String(decoding: bytes, as: UTF8.self), kind: .failed) }
    sockets.append(socket)
  }
  _ = waitFor(child)
  return sockets
}
