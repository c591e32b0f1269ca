import Linux

/// A call of a Varlink method.
public struct VarlinkCall: Sendable, Equatable {
  /// The full name: interface, dot, method.
  public var method: String
  /// The named parameters.
  public var parameters: JSON
  /// The caller takes more than one reply.
  public var more: Bool
  /// The caller wants no reply at all.
  public var oneway: Bool
  /// Open files that go along with it.
  public var descriptors: [Descriptor]

  /// Describes a call.
  ///
  /// - Parameters:
  ///   - method: the full name: interface, dot, method.
  ///   - parameters: the named parameters, an object.
  ///   - more: the caller takes more than one reply.
  ///   - oneway: the caller wants no reply at all.
  ///   - descriptors: open files that go along with it, at most 16.
  public init(
    method: String, parameters: JSON = [:], more: Bool = false, oneway: Bool = false, descriptors: [Descriptor] = []
  ) {
    self.method = method
    self.parameters = parameters
    self.more = more
    self.oneway = oneway
    self.descriptors = descriptors
  }

  /// Compares everything; open files by identity.
  public static func == (left: Self, right: Self) -> Bool {
    left.method == right.method && left.parameters == right.parameters && left.more == right.more
      && left.oneway == right.oneway && left.descriptors.elementsEqual(right.descriptors, by: ===)
  }

  /// The part of the method's name before the last dot; empty where there is no dot.
  public var interface: String {
    method.lastIndex(of: ".").map { String(method[..<$0]) } ?? ""
  }

  /// The call as it goes over a socket, ended by NUL.
  public var frame: [UInt8] {
    var object: JSON = ["method": .string(method)]
    if parameters != [:] { object["parameters"] = parameters }
    if more { object["more"] = true }
    if oneway { object["oneway"] = true }
    return object.compactBytes + [0]
  }
}

/// A reply to a Varlink call.
public struct VarlinkReply: Sendable, Equatable {
  /// The named results, or those of the error.
  public var parameters: JSON
  /// Another reply to the same call follows.
  public var continues: Bool
  /// The full name of an error, if this is one.
  public var error: String?
  /// Open files that go along with it.
  public var descriptors: [Descriptor]

  /// Describes a reply.
  ///
  /// - Parameters:
  ///   - parameters: the named results, an object.
  ///   - continues: another reply to the same call follows.
  ///   - error: the full name of an error, if this is one.
  ///   - descriptors: open files that go along with it, at most 16.
  public init(
    parameters: JSON = [:], continues: Bool = false, error: String? = nil, descriptors: [Descriptor] = []
  ) {
    self.parameters = parameters
    self.continues = continues
    self.error = error
    self.descriptors = descriptors
  }

  /// Compares everything; open files by identity.
  public static func == (left: Self, right: Self) -> Bool {
    left.parameters == right.parameters && left.continues == right.continues && left.error == right.error
      && left.descriptors.elementsEqual(right.descriptors, by: ===)
  }

  /// The reply as it goes over a socket, ended by NUL.
  public var frame: [UInt8] {
    var object: JSON = [:]
    if let error { object["error"] = .string(error) }
    // Some clients take a reply without parameters for a broken one, so an empty object is sent too.
    object["parameters"] = parameters
    if continues { object["continues"] = true }
    return object.compactBytes + [0]
  }
}

/// One Varlink message, either way.
public enum VarlinkMessage: Sendable, Equatable {
  /// From client to server.
  case call(VarlinkCall)
  /// From server to client.
  case reply(VarlinkReply)

  /// Reads one frame.
  ///
  /// - Parameter frame: the bytes without the NUL that ends them.
  /// - Throws: `JSONError` where they are no JSON object with members of the right types.
  public init(parsing frame: [UInt8]) throws(JSONError) {
    guard let object = try JSON(parsing: frame).objectValue else {
      throw JSONError(offset: 0, reason: "a message must be an object")
    }
    let parameters = try Self.parameters(of: object)
    if let method = try Self.text("method", of: object) {
      self = .call(
        VarlinkCall(
          method: method, parameters: parameters, more: try Self.flag("more", of: object),
          oneway: try Self.flag("oneway", of: object)))
    } else {
      self = .reply(
        VarlinkReply(
          parameters: parameters, continues: try Self.flag("continues", of: object),
          error: try Self.text("error", of: object)))
    }
  }

  private static func parameters(of object: JSONObject) throws(JSONError) -> JSON {
    switch object["parameters"] {
    case nil, .null: return [:]
    case .object(let parameters): return .object(parameters)
    default: throw JSONError(offset: 0, reason: "the parameters must be an object")
    }
  }

  private static func text(_ key: String, of object: JSONObject) throws(JSONError) -> String? {
    switch object[key] {
    case nil, .null: return nil
    case .string(let text): return text
    default: throw JSONError(offset: 0, reason: "the \(key) must be a string")
    }
  }

  private static func flag(_ key: String, of object: JSONObject) throws(JSONError) -> Bool {
    switch object[key] {
    case nil, .null: return false
    case .bool(let flag): return flag
    default: throw JSONError(offset: 0, reason: "'\(key)' must be true or false")
    }
  }
}
