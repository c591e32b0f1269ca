import Glibc
import Linux
import Testing

/// The legacy monolith, used the way its people use it: what they did is there whatever happens to the machine, and
/// not in the image.
@Suite("The monolith at work")
struct MonolithTests {
  /// What there is to be found of the day's work.
  private struct Traces: Equatable {
    var row = ""
    var mail = ""
    var entry = ""
    var stocktakings = false
    var page = false
  }

  private let expected = Traces(
    row: "heel stone|1", mail: "Subject: Where is the heel stone", entry: "mail: druid@monolith.example",
    stocktakings: true, page: true)

  private func inside(
    _ sandbox: Sandbox, _ machine: String, user: String = "root", _ line: String
  ) throws -> Outcome {
    try sandbox.hengectl("exec", "--user", user, machine, "--", "/bin/sh", "-c", line, deadline: 60)
  }

  /// Asks until the answer is there: a mail and a job of cron's come when they come.
  private func comes(
    within seconds: Double, _ sandbox: Sandbox, _ machine: String, _ line: String
  ) throws -> Bool {
    let end = now() + UInt64(seconds * 1e9)
    while true {
      if try inside(sandbox, machine, line).code == 0 { return true }
      guard now() < end else { return false }
      pause(milliseconds: 500)
    }
  }

  private func traces(_ sandbox: Sandbox, _ machine: String) throws -> Traces {
    var traces = Traces()
    // Clients come through nginx, with a password.
    traces.row = try inside(
      sandbox, machine, user: "mason",
      "PGPASSWORD=mason psql -h 127.0.0.1 -p 6432 -tA -c 'SELECT name, stock FROM parts WHERE number = 5' monolith"
    ).text
    traces.mail = try inside(sandbox, machine, "grep -m 1 -h ^Subject: /var/mail/mason").text
    traces.entry = try inside(
      sandbox, machine, "ldapsearch -x -LLL -b dc=monolith,dc=example uid=druid mail | grep ^mail:"
    ).text
    let count = try inside(
      sandbox, machine, user: "postgres", "psql -tA -c 'SELECT count(*) FROM stocktaking' monolith")
    traces.stocktakings = (Int(count.text) ?? 0) > 0
    traces.page = try inside(sandbox, machine, "curl -sS --max-time 30 http://127.0.0.1/").output.contains("heel stone")
    return traces
  }

  private func look(_ sandbox: Sandbox, _ machine: String, _ when: String) throws {
    let found = try traces(sandbox, machine)
    #expect(found == expected, "\(when): \(found)")
  }

  @Test(.needsRoot, .needsPrograms, .needsImages)
  func itsDataOutliveRebootPoweroffAndClone() throws {
    try withSandbox("monolith") { sandbox in
      try sandbox.image("monolith")
      let machine = sandbox.name("mono")
      try sandbox.succeed("create", "monolith", machine)
      try sandbox.succeed("start", machine)
      let uuid = try sandbox.hengectl("status", "--json", machine).json()["uuid"]?.stringValue

      let work = [
        (
          "mason",
          "PGPASSWORD=mason psql -h 127.0.0.1 -p 6432 -c \"INSERT INTO parts VALUES (5, 'heel stone', 1)\" monolith"
        ),
        ("mason", "echo 'Gone since the morning.' | mail -s 'Where is the heel stone' mason"),
        (
          "root",
          """
          ldapadd -x -D cn=admin,dc=monolith,dc=example -w mason <<END
          dn: uid=druid,ou=people,dc=monolith,dc=example
          objectClass: inetOrgPerson
          uid: druid
          cn: Druid
          sn: Druid
          mail: druid@monolith.example
          END
          """
        ),
      ]
      for (user, line) in work {
        let outcome = try inside(sandbox, machine, user: user, line)
        #expect(outcome.code == 0, "\(outcome)")
      }
      #expect(try comes(within: 30, sandbox, machine, "grep -q heel /var/mail/mason"), "the mail did not come")
      // cron's own minute.
      #expect(
        try comes(
          within: 90, sandbox, machine,
          "test $(su postgres -c \"psql -tA -c 'SELECT count(*) FROM stocktaking' monolith\") -gt 0"
        ),
        "cron's job did not run")
      try look(sandbox, machine, "at once")

      try sandbox.succeed("reboot", machine)
      try look(sandbox, machine, "after reboot")
      try sandbox.succeed("poweroff", machine)
      try sandbox.succeed("start", machine)
      try look(sandbox, machine, "after poweroff and start")
      #expect(try sandbox.hengectl("status", "--json", machine).json()["uuid"]?.stringValue == uuid)
      try sandbox.succeed("poweroff", machine)

      let clone = sandbox.name("clone")
      try sandbox.succeed("clone", machine, clone)
      try sandbox.succeed("start", clone)
      try look(sandbox, clone, "after clone")
      #expect(try sandbox.hengectl("status", "--json", clone).json()["uuid"]?.stringValue != uuid)

      // And the image knows nothing of it.
      let fresh = sandbox.name("fresh")
      try sandbox.succeed("create", "monolith", fresh)
      try sandbox.succeed("start", fresh)
      let found = try traces(sandbox, fresh)
      #expect(found.row.isEmpty && found.mail.isEmpty && found.entry.isEmpty && !found.page, "in the image: \(found)")
      try sandbox.succeed("poweroff", clone, fresh)
      print("monolith: a row through nginx, a mail, a directory's entry and cron's job outlive reboot, poweroff, clone")
    }
  }
}
