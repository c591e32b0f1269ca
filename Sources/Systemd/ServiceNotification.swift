import CSystemd
import Glibc

/// Tells our own service manager how we are.
public enum ServiceNotification {
  /// A service manager wants to be told: `NOTIFY_SOCKET` is set.
  public static var isWanted: Bool { getenv("NOTIFY_SOCKET") != nil }

  /// Sends assignments in one datagram.
  ///
  /// The corresponding C function is `sd_notify`.
  ///
  /// - Parameter assignments: names and values, such as `("READY", "1")`; an end of line in a value becomes a space, so
  ///   that no text from a machine can add an assignment.
  /// - Returns: false where no manager wants to be told.
  @discardableResult
  public static func send(_ assignments: (name: String, value: String)...) throws(SystemdError) -> Bool {
    let text = assignments.map { "\($0.name)=\(oneLine($0.value))" }.joined(separator: "\n")
    return try check(sd_notify(0, text), "sd_notify") > 0
  }

  static func oneLine(_ value: String) -> String {
    String(decoding: value.utf8.map { $0 == 0x0a || $0 == 0x0d || $0 == 0 ? 0x20 : $0 }, as: UTF8.self)
  }
}
