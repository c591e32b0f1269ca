import Linux

extension UIDRange {
  private static let own = try? OwnIDs.current()

  /// The ids as the host numbers them, which is how an ordinary user's operator meets them in lists of processes and
  /// files; inside the user's namespace they have other numbers.
  var shown: String {
    guard let own = Self.own, own.standsForUser, let first = own.outside(base), let last = own.outside(last) else {
      return description
    }
    return "\(first)-\(last)"
  }
}
