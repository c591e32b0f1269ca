import CLinux
import Glibc
import Linux
import Systemd
import Varlink

/// The control socket: connections of hengectl, varlinkctl and whoever else the machine's owner runs.
final class ControlServer {
  static let name = "control"
  /// More clients than an operator has, each command that runs in the machine being one; each may hold a megabyte of
  /// answers.
  private static let limit = 512

  private let service: VarlinkService
  private let loop: EventLoop
  private var listener: (socket: Descriptor, source: EventLoop.Source)?
  private var clients: [Int32: Client] = [:]
  private var isClosing = false
  /// Called when the last client has gone.
  var onIdle: () -> Void = {}

  init(service: VarlinkService, on loop: EventLoop) {
    self.service = service
    self.loop = loop
  }

  func listen(in folder: Descriptor) throws {
    let socket = try folder.bindSocket(Self.name, datagram: false)
    try check(clinux_set_nonblocking(socket.raw, true), "listen on", Self.name)
    let source = try loop.addIO(socket.raw, .readable) { [unowned self] _ in accept() }
    listener = (socket, source)
  }

  private func accept() {
    guard let listener else { return }
    let socket = clinux_accept(listener.socket.raw)
    guard socket >= 0 else { return }
    var process: Int32 = 0
    var uid = UInt32.max
    // The folder is the owner's alone already; that a way in is found some day must not be enough.
    guard clinux_peer_credentials(socket, &process, &uid) == 0, uid == geteuid() || uid == 0,
      clients.count < Self.limit
    else {
      Glibc.close(socket)
      return
    }
    try? serve(socket)
  }

  /// Serves a connected socket, which is taken over.
  func serve(_ socket: Int32) throws {
    let descriptor = Descriptor(adopting: socket)
    try check(clinux_set_nonblocking(socket, true), "serve", "a client")
    let client = Client(descriptor, VarlinkConnection(service: service))
    client.source = try loop.addIO(socket, .readable) { [unowned self] events in handle(client, events) }
    client.connection.onChange = { [unowned self, unowned client] in update(client) }
    clients[socket] = client
  }

  private func handle(_ client: Client, _ events: IOEvents) {
    if events.contains(.writable) { send(client) }
    if events.contains(.readHangUp) { client.hasSaidAll = true }
    let isGone = !events.intersection([.hangUp, .error]).isEmpty
    if isGone, !client.connection.wantsInput {
      // Nobody is there for the answer; what it still may have sent is for nobody either.
      client.connection.hangUp()
    } else if isGone || events.contains(.readable) {
      do {
        if let piece = try client.socket.receiveSome(limit: 4096) {
          client.connection.receive(piece.bytes, descriptors: piece.descriptors)
        }
      } catch {
        client.connection.hangUp()
      }
    }
    update(client)
  }

  private func send(_ client: Client) {
    while !client.connection.output.isEmpty {
      do {
        let connection = client.connection
        guard let count = try client.socket.sendSome(connection.output, passing: connection.outputDescriptors)
        else { return }
        connection.didSend(count)
      } catch {
        client.connection.hangUp()
      }
    }
  }

  private func update(_ client: Client) {
    send(client)
    if client.connection.isClosed {
      clients[client.socket.raw] = nil
      client.source = nil
      if clients.isEmpty { onIdle() }
    } else {
      // Also without input wanted: that the peer went away must be seen while its call is being answered.
      // Once: it stays true, and would be told again and again.
      var events: IOEvents = client.hasSaidAll ? [] : .readHangUp
      if client.connection.wantsInput { events.insert(.readable) }
      if !client.connection.output.isEmpty { events.insert(.writable) }
      try? client.source?.setEvents(events)
    }
    endWhenDone()
  }

  /// Takes no new clients, and ends the loop once those that there are have their answers.
  func close() {
    listener = nil
    isClosing = true
    _ = try? loop.post { [unowned self] in endWhenDone() }
  }

  private func endWhenDone() {
    // Whoever started this program went away before it said what for, and nobody else has a way in.
    let isForsaken = clients.isEmpty && listener == nil
    guard isForsaken || isClosing && clients.values.allSatisfy({ $0.connection.output.isEmpty }) else { return }
    loop.exit(0)
  }

  private final class Client {
    let socket: Descriptor
    let connection: VarlinkConnection
    var source: EventLoop.Source?
    /// Whether it sends nothing more; it may still read.
    var hasSaidAll = false

    init(_ socket: Descriptor, _ connection: VarlinkConnection) {
      self.socket = socket
      self.connection = connection
    }
  }
}
