import Glibc
import Linux
import Testing
import Varlink

@Suite("Copying into machines and out of them", .serialized)
struct CopyTests {
  /// A machine of an image that runs.
  private func withMachine(_ purpose: String, image: String = "trixie", _ body: (Sandbox, String, Guest) throws -> Void)
    throws
  {
    try withSandbox("copy-\(purpose)") { sandbox in
      try sandbox.image(image)
      try sandbox.makeWork()
      let name = sandbox.name("c")
      try sandbox.succeed("create", image, name)
      let start = try sandbox.hengectl("start", name)
      guard [0, 3].contains(start.code) else { throw Complaint("\(start)") }
      try body(sandbox, name, try sandbox.guest(name))
      // No end of a copy outlives it.
      #expect(
        Host.processes.allSatisfy { !(read("/proc/\($0)/cmdline") ?? "").hasPrefix("henge-stage\0join\0\(name)") })
    }
  }

  @Test(.needsRoot, .needsPrograms, .needsImages, arguments: ["bullseye", "bookworm", "trixie", "forky"])
  func aTreeOfTenThousandFilesComesBackTheSame(_ image: String) throws {
    try withMachine("tree-\(image)", image: image) { sandbox, name, guest in
      let source = "\(sandbox.work)/tree"
      try CopyTree.make(source, files: 10_000)
      let into = try sandbox.hengectl("copy-to", name, source, "/root/")
      #expect(into.code == 0 && into.errors.isEmpty, "\(into)")
      let expected = try CopyTree.manifest(source)
      #expect(try CopyTree.manifest("/root/tree", in: guest) == expected)
      // What the machine sees as 1000 is the machine's own id on the host.
      let upper = "\(sandbox.upper(name))/root/tree"
      let link = try #require(try Descriptor.open(upper, .directory).status(of: "dangling"))
      #expect(link.uid == guest.uidBase + 1000 && link.gid == guest.uidBase + 1001)
      #expect(try runWell(["getcap", "-n", "\(upper)/0/0/file 5"]).contains("rootid=\(guest.uidBase)"))
      let list = try runWell(["getfacl", "-n", "\(upper)/0/0/file 4"])
      #expect(list.contains("user:\(guest.uidBase + 54321):r--") && list.contains("group:\(guest.uidBase + 65535):rw-"))
      #expect(try Int(runWell(["du", "-k", "\(upper)/holes"]).split(separator: "\t")[0]) ?? .max < 1024)

      let from = try sandbox.hengectl("copy-from", "--keep-privileges", name, "/root/tree", "\(sandbox.work)/back")
      #expect(from.code == 0 && from.errors.isEmpty, "\(from)")
      #expect(try CopyTree.manifest("\(sandbox.work)/back") == expected)
      #expect(try CopyTree.attributes("\(sandbox.work)/back") == CopyTree.attributes(source))
      print("copy of 10,000 files, \(image): in \(rounded(into.seconds)) s, out \(rounded(from.seconds)) s, equal")
      #expect(names(in: sandbox.work).sorted() == ["back", "tree"])
    }
  }

  @Test(.needsRoot, .needsPrograms, .needsImages)
  func archivesGoThroughPipesBothWays() throws {
    try withMachine("tar") { sandbox, name, guest in
      let source = "\(sandbox.work)/tree"
      try CopyTree.make(source, files: 300)
      let expected = try CopyTree.manifest(source)
      let tar = "tar --xattrs --xattrs-include='*' --acls --numeric-owner --sparse -C \(sandbox.work)"
      for (round, pack) in ["", "-z", "--zstd"].enumerated() {
        let outcome = try sandbox.pipeline("\(tar) \(pack) -c tree | $H copy-to --mkdir \(name) - /srv/\(round)")
        #expect(outcome.code == 0, "\(outcome)")
        #expect(try CopyTree.manifest("/srv/\(round)/tree", in: guest) == expected, "\(pack)")
      }
      mkdir("\(sandbox.work)/out", 0o755)
      let out = try sandbox.pipeline(
        "$H copy-from --keep-privileges \(name) /srv/1/tree - | \(tar)/out --same-permissions --same-owner -x")
      #expect(out.code == 0, "\(out)")
      #expect(try CopyTree.manifest("\(sandbox.work)/out/tree") == expected)
      #expect(try CopyTree.attributes("\(sandbox.work)/out/tree") == CopyTree.attributes(source))
      // One that is cut off, and none at all.
      for line in ["\(tar) -c tree | head -c 100000", "echo nonsense", "true"] {
        let broken = try sandbox.pipeline(
          "set +o pipefail; \(line) 2>/dev/null | $H copy-to --mkdir \(name) - /srv/broken")
        #expect(broken.code != 0 && broken.errorLines.count == 1, "\(broken)")
      }
      #expect(try guest.succeed("ls", "-A", "/srv") == "0\n1\n2")
    }
  }

  @Test(.needsRoot, .needsPrograms, .needsImages)
  func refusalsAreOneLineAndLeaveNothing() throws {
    try withMachine("refusals") { sandbox, name, guest in
      let work = sandbox.work
      try write("text", to: "\(work)/file")
      try sandbox.succeed("copy-to", name, "\(work)/file", "/root")
      #expect(try guest.succeed("cat", "/root/file") == "text")
      func refused(_ arguments: [String], code: Int32 = 1, _ words: String) throws {
        expectRefusal(try sandbox.hengectl(arguments, deadline: 20), code: code, words)
      }
      try refused(["copy-to", name, "\(work)/file", "/root"], "it is there already; pass --force")
      try refused(["copy-to", name, "\(work)/file", "/root/no/such"], "pass --mkdir")
      try refused(["copy-to", name, "\(work)/file"], "there is no such folder")
      try refused(["copy-to", name, "\(work)/none", "/root"], "no such file")
      try refused(["copy-to", name, "/dev/null", "/root"], "it is a device")
      try refused(["copy-to", name, "\(work)/file", "root"], code: 2, "must begin with '/'")
      try refused(["copy-to", name, "\(work)/file", "/root/file/x"], "not a directory")
      try refused(["copy-to", name, "\(work)/file", "/proc/self/fd/3/x"], "")
      try refused(["copy-to", name, "\(work)/file", "/proc"], "/proc")
      try refused(["copy-to", name, "-", "file", "/root"], code: 2, "only source")
      try refused(["copy-to", name, "file"], code: 2, "wants a destination")
      try refused(["copy-to", sandbox.name("none"), "\(work)/file", "/root"], code: 4, "none")
      try refused(["copy-from", name, "/etc/none", work], "no such file")
      try refused(["copy-from", name, "/", work], code: 2, "no name of its own")
      try refused(["copy-from", name, "/run", work], "it is a socket")
      try refused(["copy-from", name, "/dev/null", work], "it is a device")
      // Links that lead to open files instead of names are none for an operator's path.
      try refused(["copy-from", name, "/proc/self/root/etc/hostname", work], "/proc/self/root/etc")
      // An id that no machine has.
      chown("\(work)/file", 65536, 0)
      try refused(["copy-to", name, "\(work)/file", "/root/other"], "65536")
      let squashed = try sandbox.hengectl("copy-to", "--squash-ids", name, "\(work)/file", "/root/other")
      #expect(squashed.code == 0 && squashed.errors.contains("gave 1 id to nobody"), "\(squashed)")
      #expect(try guest.succeed("stat", "-c", "%u", "/root/other") == "65534")
      let skipped = try sandbox.hengectl("copy-from", "--skip-special", name, "/run", "\(work)/run")
      #expect(skipped.code == 0 && skipped.errors.contains("sockets or devices"), "\(skipped)")
      #expect(
        try guest.succeed("ls", "-A", "/root").split(separator: "\n").filter { !$0.hasPrefix(".") } == [
          "file", "other",
        ])
      #expect(names(in: work).sorted() == ["file", "run"])
      try sandbox.succeed("poweroff", name)
      try refused(["copy-to", name, "\(work)/file", "/root/x"], "it is not running; hengectl start")
    }
  }

  @Test(.needsRoot, .needsPrograms, .needsImages)
  func noRightsComeOutOfAMachine() throws {
    try withMachine("rights") { sandbox, name, guest in
      try guest.succeed(
        "/bin/sh", "-c",
        "mkdir /root/t; cp /bin/true /root/t/suid; chmod 6755 /root/t/suid; chown 1000:1000 /root/t; chmod 2777 /root/t"
      )
      let source = "\(sandbox.work)/capable"
      try write("x", to: source, mode: 0o755)
      try runWell(["setcap", "cap_sys_admin+ep", source])
      try sandbox.succeed("copy-to", name, source, "/root/t")
      let outcome = try sandbox.hengectl("copy-from", name, "/root/t", "\(sandbox.work)/t")
      #expect(outcome.code == 0, "\(outcome)")
      #expect(outcome.errors.contains("took the set-id bits from 1 file"), "\(outcome)")
      #expect(outcome.errors.contains("took the capabilities from 1 file"), "\(outcome)")
      let folder = try Descriptor.open("\(sandbox.work)/t", .directory)
      #expect(try folder.status(of: "suid")?.mode == 0o755)
      #expect(try runWell(["getcap", "\(sandbox.work)/t/capable"]) == "")
      #expect(try folder.status().uid == 1000)
      let tar = try sandbox.pipeline("$H copy-from \(name) /root/t - | tar -tv")
      #expect(tar.code == 0 && !tar.output.contains("-rws"), "\(tar)")
    }
  }

  @Test(.needsRoot, .needsPrograms, .needsImages)
  func aFullDiskLeavesNothing() throws {
    try withMachine("full") { sandbox, name, guest in
      try runWell(["dd", "if=/dev/urandom", "of=\(sandbox.work)/big", "bs=1M", "count=20", "status=none"])
      try guest.succeed("mount", "-t", "tmpfs", "-o", "size=4m", "none", "/mnt")
      expectRefusal(try sandbox.hengectl("copy-to", name, "\(sandbox.work)/big", "/mnt"), code: 1, "no ", "room")
      #expect(try guest.succeed("ls", "-A", "/mnt") == "")
      // Many small ones: it is the file system that says no, in the middle.
      try guest.succeed("umount", "/mnt")
      try guest.succeed("mount", "-t", "tmpfs", "-o", "size=64m,nr_inodes=40", "none", "/mnt")
      try runWell(["sh", "-c", "mkdir $0/m; for n in $(seq 100); do echo $n >$0/m/$n; done", sandbox.work])
      expectRefusal(try sandbox.hengectl("copy-to", name, "\(sandbox.work)/m", "/mnt"), code: 1, "no space")
      #expect(try guest.succeed("ls", "-A", "/mnt") == "")
      try sandbox.succeed("copy-to", name, "\(sandbox.work)/big", "/root")
      mkdir("\(sandbox.work)/small", 0o700)
      let disk = try PrivateMounts("mount -t tmpfs -o size=4m none \(sandbox.work)/small", sandbox)
      expectRefusal(try disk.hengectl("copy-from", name, "/root/big", "\(sandbox.work)/small"), code: 1, "room")
      #expect(try disk.shell("ls -A \(sandbox.work)/small") == "")
    }
  }

  @Test(.needsRoot, .needsPrograms, .needsImages)
  func aTreeMayBeDeeperThanAPathMayBeLong() throws {
    try withMachine("deep") { sandbox, name, guest in
      let script = """
        import os, sys
        os.chdir(sys.argv[1])
        for number in range(60):
          for name in ["deep", "d" * 200]:
            os.mkdir(name)
            os.chdir(name)
        open("bottom", "w").write("bottom")
        """
      mkdir("\(sandbox.work)/top", 0o755)
      try runWell(["python3", "-c", script, "\(sandbox.work)/top"])
      try sandbox.succeed("copy-to", name, "\(sandbox.work)/top", "/root/")
      #expect(try guest.succeed("sh", "-c", "find /root/top | wc -l") == "122")
      try sandbox.succeed("copy-from", name, "/root/top", "\(sandbox.work)/back")
      #expect(try runWell(["sh", "-c", "find $0 -name bottom | wc -c", "\(sandbox.work)/back"]).utf8.count == 5)
      #expect(try runWell(["sh", "-c", "find $0 | wc -l", "\(sandbox.work)/back"]) == "122")
    }
  }
}
