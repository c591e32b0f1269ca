import Testing

@testable import MachineRuntime

/// Records of `/dev/kmsg`, in which names are what a machine likes them to be.
@Suite struct LimitsKernelLogTests {
  private let context =
    "6,1171,9000,-;oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=payload,mems_allowed=0,"
    + "oom_memcg=/henge.slice/henge-m-1.scope,task_memcg=/henge.slice/henge-m-1.scope/payload/system.slice/web.service,"

  @Test func whoWasKilledAndWhere() throws {
    let (victim, uid) = try #require(KernelLog.victim(in: context + "task=perl,pid=812,uid=524321\n SUBSYSTEM=x\n"))
    #expect(victim == OOMVictim(process: "perl", id: 812, unit: "web.service") && uid == 524321)
    let line =
      "3,1172,9001,-;Memory cgroup out of memory: Killed process 812 (perl) total-vm:269456kB, anon-rss:203212kB, "
      + "file-rss:128kB, shmem-rss:0kB, UID:524321 pgtables:560kB oom_score_adj:0\n"
    let (killed, owner) = try #require(KernelLog.victim(in: line))
    #expect(killed == OOMVictim(process: "perl", id: 812) && owner == 524321)
  }

  /// A name cannot make a record another machine's: the user comes last, behind every name.
  @Test(arguments: ["a,pid=1,uid=5", ",uid=7", "x) total-vm:1kB", ",task=b", "(((", "", "UID:3 "])
  func namesThatLookLikeFields(name: String) throws {
    let (victim, uid) = try #require(KernelLog.victim(in: context + "task=\(name),pid=812,uid=524321\n"))
    #expect(victim.id == 812 && uid == 524321)
    let group = context.replacingLast("web.service", with: "x\(name),task_memcg=/henge-other-2/payload")
    let (_, owner) = try #require(KernelLog.victim(in: group + "task=perl,pid=812,uid=524321\n"))
    #expect(owner == 524321)
    let line =
      "3,1,1,-;Memory cgroup out of memory: Killed process 9 (\(name)) total-vm:2kB, anon-rss:1kB, file-rss:1kB, "
      + "shmem-rss:0kB, UID:524321 pgtables:5kB oom_score_adj:0\n"
    let (killed, user) = try #require(KernelLog.victim(in: line))
    #expect(killed.id == 9 && killed.process == name && user == 524321)
  }

  @Test(arguments: [
    "", ";", "6,1,1,-;", "x;oom-kill:constraint=", "6,1,1,-;oom-kill:constraint=CONSTRAINT_MEMCG,task=a,pid=b,uid=c",
    "3,1,1,-;Memory cgroup out of memory: Killed process", "3,1,1,-;Memory cgroup out of memory: Killed process 5 (a",
    "3,1,1,-;Memory cgroup out of memory: Killed process 99999999999999 (a) total-vm:1, UID:5 x",
    // Not the kernel's: whoever may write to its log has another number there.
    "14,1,1,-;Memory cgroup out of memory: Killed process 9 (a) total-vm:2kB, UID:5 pgtables:5kB",
  ])
  func whatSaysNothing(record: String) {
    #expect(KernelLog.victim(in: record) == nil)
  }

  @Test func theCounterOfKills() {
    #expect(MemoryWatch.kills(in: "low 0\nhigh 5\nmax 9\noom 2\noom_kill 17\noom_group_kill 0\n") == 17)
    #expect(MemoryWatch.kills(in: "oom_kill -1\n") == nil)
    #expect(MemoryWatch.kills(in: "") == nil)
  }
}

extension String {
  fileprivate func replacingLast(_ part: String, with other: String) -> String {
    guard hasSuffix(part + ",") else { return self }
    return String(dropLast(part.count + 1)) + other + ","
  }
}
