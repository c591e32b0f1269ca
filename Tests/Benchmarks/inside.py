"""Commands in a machine that runs: how soon they are done, how many at once, how much goes through them."""

import os
import statistics
import subprocess
import time

import launchers
from figures import paired, race, spread
from host import Failed

# So much that the start of a command does not count.
AMOUNT = 4 << 30
# In ms: after so long a rest nothing of the command before, in the kernel or in Henge, is of use to the next.
REST = 1200


def commands_inside(host, report, rounds, tar, hengectl):
  """`exec` of `true` against systemd-run in the same guest and against podman exec; then many, and much."""
  henge, podman = launchers.Henge(host, hengectl), launchers.Podman(host)
  runners, env = [henge], henge.env
  try:
    henge.prepare(tar)
    henge.start()
    inside = ["nsenter", "-t", str(henge.leader()), "-a"]
    ours = [hengectl, "exec", "bench", "--", "true"]
    contenders = [ours, [*inside, "systemd-run", "-q", "--wait", "--pipe", "true"], [*inside, "true"]]
    try:
      runners.append(podman)
      podman.prepare(tar)
      podman.start()
      env = {**podman.env, **henge.env, **{key: podman.env[key] for key in podman.env if key.startswith("CONTAINERS_")}}
      contenders.append(["nsenter", f"--mount=/proc/{podman.view}/ns/mnt", "podman", "exec", host.name, "true"])
    except (Failed, OSError) as error:
      report.failed("exec: henge / podman exec", error)
    times = race(host, rounds, *contenders, env=env)
    in_ms = [[t / 1000 for t in each] for each in times]
    report.add("nsenter into a machine, no service", statistics.median(in_ms[2]), "ms", None, spread(in_ms[2]))
    ratio, within = paired(times[0], times[1])
    report.add("exec true: henge / nsenter, systemd-run", ratio, "", 1.0,
               f"{spread(in_ms[0])}; systemd-run {statistics.median(in_ms[1]):.4g} ms", within=within)
    if len(times) > 3:
      ratio, within = paired(times[0], times[3])
      report.add("exec true: henge / podman exec", ratio, "", 0.3, f"podman {statistics.median(in_ms[3]):.4g} ms",
                 within=within)
    alone(host, report, contenders[:2] + contenders[3:], env)
    crowd(report, ours, env)
    stream(host, report, hengectl, env)
  finally:
    for runner in reversed(runners):
      for give_back in (runner.stop, runner.finish):
        try:
          give_back()
        except (Failed, OSError) as error:
          report.notes.append(f"{runner.name}: {error}")


def alone(host, report, contenders, env):
  """The same commands, each after a rest: as an operator types them."""
  ours, run, *podman = race(host, 20, *contenders, env=env, pause=REST)
  for name, goal, theirs in [("nsenter, systemd-run", 1.0, run)] + [("podman exec", 0.3, each) for each in podman]:
    ratio, within = paired(ours, theirs)
    report.add(f"exec true, alone: henge / {name}", ratio, "", goal,
               f"{spread([t / 1000 for t in ours])}; {name.split(', ')[-1]} {statistics.median(theirs) / 1000:.4g} ms",
               within=within)


def crowd(report, command, env, number=100):
  """A hundred at once: each must succeed."""
  began = time.monotonic()
  running = [subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL) for _ in range(number)]
  failed = sum(process.wait(timeout=120) != 0 for process in running)
  report.add(f"exec true, {number} at once: how many failed", failed, "", 0,
             f"{(time.monotonic() - began) * 1000:.0f} ms for all")


def stream(host, report, hengectl, env):
  """Pipes through a machine, out of it and into it, against the same pipe without one.

  Most programs write as much at a time as a pipe holds, and two that share a small pipe take turns. One that writes a
  page at a time, as head does, is the harder case for whoever stands in between: it stays in its caches otherwise.
  """
  command, sink = f"{hengectl} exec bench", "sh -c 'cat >/dev/null'"
  for size, source in (
    ("128 KiB", f"dd if=/dev/zero bs=128K count={AMOUNT >> 17} status=none"), ("4 KiB", f"head -c {AMOUNT} /dev/zero"),
  ):
    lines = {
      "out of a machine": f"{command} -- {source} | cat >/dev/null",
      "into a machine": f"{source} | {command} -- {sink}",
      "out of a machine, --direct": f"{command} --direct -- {source} | cat >/dev/null",
      "into a machine, --direct": f"{source} | {command} --direct -- {sink}",
    }
    local, *taken = race(
      host, 5, *(["sh", "-c", line] for line in (f"{source} | cat >/dev/null", *lines.values())), env=env)
    for name, times in zip(lines, taken):
      ratio, within = paired(times, local)
      rate = AMOUNT / statistics.median(times)
      report.add(f"a pipe {name}, {size} at a time / a local pipe, time", ratio, "", 1 / 0.9, f"{rate:.0f} MB/s",
                 within=within)
