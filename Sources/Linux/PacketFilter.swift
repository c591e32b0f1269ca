import Glibc

/// The host's packet filter, by nft(8): the one program that speaks nftables' whole language to every kernel.
public enum PacketFilter {
  /// Where nft is; nil where it is not installed.
  public static var program: String? {
    ["/usr/sbin/nft", "/sbin/nft", "/usr/local/sbin/nft"].first { access($0, X_OK) == 0 }
  }

  /// Has a script carried out, all of it or nothing.
  ///
  /// - Parameter script: what nft(8) reads.
  /// - Throws: `Failure` with what nft says.
  public static func apply(_ script: String) throws(Failure) {
    guard let program else {
      throw Failure(
        "change", "the packet filter", "nft is not installed", advice: "apt-get install nftables", kind: .refused)
    }
    let (process, errors) = try start(program, script)
    let words = String(decoding: try errors.readAll(limit: 65536, subject: "nft"), as: UTF8.self)
    let exit = try process.reap(wait: true)
    guard exit != .exited(0) else { return }
    let line = words.split(separator: "\n").first.map(String.init) ?? "nft failed without a word"
    throw Failure("change", "the packet filter", line, kind: .refused)
  }

  /// Removes a table of the family `inet`; one that is not there is no error.
  public static func remove(table: String) throws(Failure) {
    try apply("add table inet \(table)\ndelete table inet \(table)\n")
  }

  /// A function of its own, so that our copy of the program's end is closed when it returns, and reading ends.
  private static func start(_ program: String, _ script: String) throws(Failure) -> (process: Pidfd, errors: Descriptor)
  {
    let errors = try SocketPair(packets: false)
    let request = ProcessRequest(
      .path(program), arguments: ["nft", "-f", "-"],
      descriptors: [try .sealedBytes(Array(script.utf8), name: "nft"), errors.second, errors.second])
    return (try request.start().process, errors.first)
  }
}
