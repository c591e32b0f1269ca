import Glibc
import Linux
import Testing

// Trees to copy, and how the host and a machine see them.

enum CopyTree {
  /// A tree with something of everything, made on the host: 10,000 files with ids, modes, links, holes, attributes.
  static func make(_ path: String, files: Int) throws {
    let script = """
      import os, sys
      top, count = sys.argv[1], int(sys.argv[2])
      os.umask(0)
      os.mkdir(top)
      for number in range(count):
        if number % 100 == 0:
          folder = f"{top}/{number // 1000}/{number // 100}"
          os.makedirs(folder)
          os.chown(folder, number % 65536, 7)
        file = f"{folder}/file {number}"
        with open(file, "wb") as f:
          f.write(bytes(str(number) * (number % 700), "ascii"))
        if number % 3 == 0: os.chown(file, number % 65536, (number * 7) % 65536)
        os.chmod(file, [0o644, 0o600, 0o4755, 0o2711, 0o400, 0o777][number % 6])
        os.utime(file, ns=(0, number * 1_000_000_007))
      for name in [b"line\\nbreak", b"\\x1b[31mred", "\\u202eright to left".encode(), b"\\xff\\xfe bytes", b"-rf", b"n" * 255]:
        with open(os.path.join(os.fsencode(top), name), "wb") as f: f.write(name)
      os.symlink("/etc/passwd", f"{top}/absolute")
      os.symlink("../../nowhere", f"{top}/dangling")
      os.lchown(f"{top}/dangling", 1000, 1001)
      os.link(f"{top}/0/0/file 1", f"{top}/again")
      os.mkfifo(f"{top}/pipe", 0o640)
      with open(f"{top}/holes", "wb") as f:
        f.truncate(1 << 28)
        f.seek(1 << 27)
        f.write(b"in the middle")
      os.setxattr(f"{top}/0/0/file 1", "user.colour", b"red\\0blue")
      os.utime(top, ns=(0, 1_234_567_890_123_456_789))
      os.utime(f"{top}/0/0", ns=(0, 987_654_321_000_000_001))
      """
    try runWell(["python3", "-c", script, path, "\(files)"])
    try runWell(["setfacl", "-m", "u:54321:r,g:65535:rw", "\(path)/0/0/file 4"])
    try runWell(["setfacl", "-d", "-m", "u:54321:rx", "\(path)/0"])
    try runWell(["setcap", "cap_net_raw+ep", "\(path)/0/0/file 5"])
    try runWell(["touch", "-d", "@1000000000.5", "\(path)/0"])
  }

  /// One line that stands for all there is to see of a tree: names, kinds, modes, owners, times, links, contents.
  static func manifest(_ path: String, in guest: Guest? = nil) throws -> String {
    let script = """
      export LC_ALL=C
      cd "$0" && {
        find . -printf '%P %y %m %U %G %l %T@\\0' | sort -z
        find . -type f -printf '%P %s %n\\0' | sort -z
        find . -type f -print0 | sort -z | xargs -0 -r sha256sum
      } | sha256sum
      find . | wc -l
      """
    if let guest { return try guest.succeed("/bin/sh", "-c", script, path, deadline: 120) }
    return try runWell(["sh", "-c", script, path], deadline: 120)
  }

  /// Extended attributes and ACLs, which only the host has tools for.
  static func attributes(_ path: String) throws -> String {
    try runWell(["sh", "-c", #"cd "$0" && getfattr -R -h -P -d -m - -e hex . | sort | sha256sum"#, path])
  }
}

extension Sandbox {
  /// What a machine over layers has above its image, as the host sees it.
  func upper(_ machine: String) -> String { "\(state)/machines/\(machine)/upper" }

  /// Runs a line of shell in which `$H` is hengectl.
  func pipeline(_ line: String, deadline: Double = 60) throws -> Outcome {
    try run(
      ["bash", "-c", "set -o pipefail; \(line)"], environment: environment + ["H=\(Checkout.programs)/hengectl"],
      deadline: deadline)
  }
}

/// Tells of whatever anybody does to the files in some folders of the host.
final class Watch {
  private let descriptor: Descriptor

  init(_ folders: String...) throws {
    descriptor = Descriptor(adopting: try check(inotify_init1(Int32(O_NONBLOCK | O_CLOEXEC)), "watch"))
    for folder in folders {
      // Everything: opening, reading, writing, attributes, names.
      try check(inotify_add_watch(descriptor.raw, folder, 0xfff), "watch", folder)
    }
  }

  /// Whether nothing happened since the beginning.
  var isQuiet: Bool {
    var buffer = [UInt8](repeating: 0, count: 4096)
    return Glibc.read(descriptor.raw, &buffer, buffer.count) < 0 && errno == EAGAIN
  }
}

/// A program for a machine that exchanges each component of a path for something else, as fast as it can.
enum Swapper {
  static func compile(to path: String) throws {
    guard let compiler = HostileInit.compiler else { throw Complaint("there is no C compiler") }
    try write(source, to: "\(path).c")
    try runWell([compiler, "-O1", "-static", "-w", "-o", path, "\(path).c"])
  }

  private static let source = #"""
    #define _GNU_SOURCE
    #include <fcntl.h>
    #include <linux/fs.h>
    #include <stdio.h>
    #include <stdlib.h>
    #include <string.h>
    #include <sys/socket.h>
    #include <sys/stat.h>
    #include <sys/syscall.h>
    #include <sys/un.h>
    #include <time.h>
    #include <unistd.h>

    /* swapper FOLDER DECOY SECONDS */
    int main(int count, char **arguments) {
      const char *decoy = arguments[2];
      char path[4096];
      mkdir(arguments[1], 0755);
      if (chdir(arguments[1])) return 1;
      mkdir("v", 0755);
      mkdir("a", 0755), mkdir("a/b", 0755), mkdir("a/b/c", 0755);
      close(open("a/b/c/file", O_CREAT | O_WRONLY, 0644));
      symlink(decoy, "v/0");
      mkfifo("v/1", 0666);
      struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "v/2"};
      bind(socket(AF_UNIX, SOCK_STREAM, 0), (void *)&address, sizeof(address));
      mknod("v/3", S_IFCHR | 0666, 0);
      mkdir("v/4", 0755), mkdir("v/4/b", 0755), mkdir("v/4/b/c", 0755);
      close(open("v/5", O_CREAT | O_WRONLY, 0644));
      snprintf(path, sizeof path, "%s/victim", decoy);
      symlink(path, "v/6");
      const char *names[] = {"a", "a/b", "a/b/c", "a/b/c/file"};
      time_t end = time(0) + atoi(arguments[3]);
      for (unsigned i = 0; time(0) < end; i++) {
        char variant[8];
        snprintf(variant, sizeof variant, "v/%d", rand() % 7);
        /* There and back, so that the plain tree is there now and then. */
        const char *name = names[rand() % 4];
        syscall(SYS_renameat2, AT_FDCWD, variant, AT_FDCWD, name, RENAME_EXCHANGE);
        if (i % 3) usleep(rand() % 50);
        syscall(SYS_renameat2, AT_FDCWD, variant, AT_FDCWD, name, RENAME_EXCHANGE);
        if (i % 2) usleep(rand() % 300);
      }
      return 0;
    }
    """#
}
