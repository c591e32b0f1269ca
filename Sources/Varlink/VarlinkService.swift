/// What a server answers: methods by name, without any input or output of its own.
public final class VarlinkService {
  /// Takes a call; the reply may be kept and answered later. What it throws becomes the answer.
  public typealias Handler = (VarlinkCall, VarlinkResponder) throws -> Void

  private struct Method {
    let needsMore: Bool
    let handler: Handler
  }

  private let information: JSON
  private var interfaces: [InterfaceDescription] = [.service]
  private var methods: [String: Method] = [:]

  /// Makes a service that has only `org.varlink.service`.
  ///
  /// - Parameters:
  ///   - vendor: who made it.
  ///   - product: what it is.
  ///   - version: which one.
  ///   - url: where to read more.
  public init(vendor: String, product: String, version: String, url: String) {
    information = [
      "vendor": .string(vendor), "product": .string(product), "version": .string(version), "url": .string(url),
    ]
  }

  /// Adds an interface; its methods are there once `method` has given them a handler.
  ///
  /// - Parameter description: what `GetInterfaceDescription` hands out.
  public func add(_ description: InterfaceDescription) {
    interfaces.append(description)
  }

  /// Puts a handler behind a method.
  ///
  /// - Parameters:
  ///   - name: the full name: interface, dot, method.
  ///   - needsMore: a call without `more` is refused with `ExpectedMore`.
  ///   - handler: called for each call.
  public func method(_ name: String, needsMore: Bool = false, _ handler: @escaping Handler) {
    methods[name] = Method(needsMore: needsMore, handler: handler)
  }

  /// The methods that are described but have no handler, or have one and are not described: empty in a sound service.
  public var mismatches: [String] {
    let described = Set(
      interfaces.dropFirst().flatMap { interface in interface.methods.map { "\(interface.name).\($0)" } })
    return described.symmetricDifference(methods.keys).sorted()
  }

  /// Answers a call, now or later.
  ///
  /// - Parameters:
  ///   - call: what came from a client.
  ///   - responder: where the answer goes.
  public func handle(_ call: VarlinkCall, _ responder: VarlinkResponder) {
    do {
      if let method = methods[call.method] {
        guard call.more || !method.needsMore else { throw VarlinkError.expectedMore }
        return try method.handler(call, responder)
      }
      responder.finish(try builtIn(call))
    } catch let error as VarlinkError {
      responder.fail(error)
    } catch {
      // Only Varlink errors have a name to give a client; the rest must not end in silence.
      responder.fail(VarlinkError("\(call.interface).Failed", ["reason": .string("\(error)")]))
    }
  }

  private func builtIn(_ call: VarlinkCall) throws(VarlinkError) -> JSON {
    switch call.method {
    case "org.varlink.service.GetInfo":
      var information = information
      information["interfaces"] = JSON(interfaces.map(\.name).sorted())
      return information
    case "org.varlink.service.GetInterfaceDescription":
      guard let name = call.parameters["interface"]?.stringValue else { throw .invalidParameter("interface") }
      guard let found = interfaces.first(where: { $0.name == name }) else { throw .interfaceNotFound(name) }
      return ["description": .string(found.text)]
    default:
      guard let interface = interfaces.first(where: { $0.name == call.interface }) else {
        throw .interfaceNotFound(call.interface)
      }
      let name = String(call.method.dropFirst(call.interface.count + 1))
      throw interface.methods.contains(name) ? .methodNotImplemented(call.method) : .methodNotFound(call.method)
    }
  }
}
