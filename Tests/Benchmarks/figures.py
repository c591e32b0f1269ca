"""Every figure of the benchmark: each takes the host and the report, and adds its rows."""

import os
import random
import statistics
import tarfile
import time

import launchers
from host import BASE, Failed, call, unpack


def spread(values, unit="ms"):
  """Least, median and greatest, for the detail column."""
  least, middle, most = min(values), statistics.median(values), max(values)
  return f"{least:.4g} / {middle:.4g} / {most:.4g} {unit} (min/median/max of {len(values)})"


def paired(ours, theirs, draws=2000):
  """The median of the ratios within each round, and where it lies in 95 of 100 redrawn sets of rounds.

  What slows the host for seconds slows both of a round, so this is known far better than a ratio of medians.
  """
  chance = random.Random(0)
  ratios = [one / other for one, other in zip(ours, theirs) if one and other]
  medians = sorted(statistics.median(chance.choices(ratios, k=len(ratios))) for _ in range(draws))
  return statistics.median(ratios), (medians[int(draws * 0.025)], medians[int(draws * 0.975)])


def race(host, rounds, *commands, env=None, warm=True, pause=50, timeout=300):
  """Run commands in turn for some rounds, each after a pause in ms; a list of times in microseconds for each."""
  argv = [host.tool("race")] + (["-w"] if warm else []) + ["-p", str(pause), str(rounds)]
  for i, command in enumerate(commands):
    argv += ([":::"] if i else []) + list(command)
  return [[float(t) for t in line.split()] for line in call(*argv, env=env, timeout=timeout).splitlines()]


def boots(host, report, tar, rounds, hengectl):
  """Start to ready of the same tree by every launcher, one after the other in each round; then memory and state."""
  kinds = (launchers.Bare, launchers.Control, launchers.Nspawn, launchers.LXC, launchers.Podman)
  runners = [kind(host) for kind in kinds]
  if hengectl:
    runners += [kind(host, hengectl) for kind in (launchers.Henge, launchers.Networked)]
  times, burnt, usable = {}, {}, []
  for runner in runners:
    try:
      report.header[runner.name] = runner.version() or "Tests/Benchmarks/bare.c"
      runner.prepare(tar)
      # The first boot makes the machine's id and its caches: not counted, and asked how it went.
      watch = runner.start()
      if isinstance(runner, launchers.Bare):
        runner.stop()
        state, units = runner.check()
      else:
        state, units = runner.state()
        # What a machine costs as it runs on, not while its manager still has the start in mind.
        time.sleep(2)
        kb, names = runner.pss_kb()
        goal = 5.0 if runner.name == "henge" else None
        report.add(f"PSS per machine: {runner.name}", kb / 1000, "MB", goal, " ".join(names))
        runner.stop()
      say(f"{runner.name}: first boot {watch.ms:.0f} ms, {state}, {units} failed units")
      report.header[runner.name] += f" (guest: {state}, failed units: {units})"
      times[runner.name], burnt[runner.name] = [], []
      usable.append(runner)
    except (Failed, OSError) as error:
      say(f"{runner.name}: {error}")
      report.failed(f"start to ready: {runner.name}", error)
      for give_back in (runner.stop, runner.finish):
        try:
          give_back()
        except (Failed, OSError):
          pass  # the cgroup's end takes the rest
  try:
    for n in range(rounds):
      # Shuffled, the same way in every run: by mere rotation each would nearly always follow the same neighbour.
      for runner in random.Random(n).sample(usable, len(usable)):
        took = burn = None
        try:
          before = runner.burnt()
          took = runner.start().ms
          burn = runner.burnt() - before
        except Failed as error:
          say(f"{runner.name}: round {n + 1}: {error}")
          report.notes.append(f"{runner.name}: round {n + 1} failed: {error}")
        finally:
          runner.stop()
          # A round that failed keeps its place: rounds are compared with each other.
          times[runner.name].append(took)
          burnt[runner.name].append(burn)
      say(f"round {n + 1}/{rounds}: " + ", ".join(f"{k} {v[-1]:.0f}" for k, v in times.items() if v[-1]) + " ms")
  finally:
    for runner in usable:
      try:
        runner.stop()
        runner.finish()
      except Failed as error:
        report.notes.append(f"{runner.name}: {error}")
  taken = {name: [ms for ms in all if ms] for name, all in times.items()}
  if not taken.get("bare"):
    return
  report.add("start to ready: bare", statistics.median(taken["bare"]), "ms", None, spread(taken["bare"]))
  others = [name for name in taken if name != "bare" and taken[name]]
  for name in others:
    ratio, within = paired(times[name], times["bare"])
    report.add(f"start to ready: {name} / bare", ratio, "", 1.05 if name.startswith("henge") else None, spread(taken[name]),
               within=within)
  if "henge" in others:
    for name in [name for name in others if name not in ("control", "henge", "henge-networked")]:
      ratio, within = paired(times["henge"], times[name])
      report.add(f"start to ready: henge / {name}", ratio, "", 1.0, below=True, within=within)
  # Processor time says where a difference is a launcher's own doing and not the host's.
  report.add("processor time to ready: bare", statistics.median([ms for ms in burnt["bare"] if ms]), "ms")
  for name in others:
    ratio, within = paired(burnt[name], burnt["bare"])
    report.add(f"processor time to ready: {name} / bare", ratio, within=within)


def tick_tree(host):
  """A root file system whose init only tells when it was executed; returns its tar."""
  folder, tar = host.path("tick-tree"), host.path("tick.tar")
  if os.path.exists(tar):
    return tar
  for name in "dev proc sys run tmp etc var sbin usr/lib".split():
    os.makedirs(os.path.join(folder, name))
  for name, text in {"etc/os-release": "ID=tick\nNAME=tick\n", "etc/machine-id": "", "etc/hostname": "tick\n"}.items():
    with open(os.path.join(folder, name), "w") as f:
      f.write(text)
  with open(host.tool("tick-init"), "rb") as source, open(os.path.join(folder, "sbin/init"), "wb") as init:
    init.write(source.read())
  os.chmod(os.path.join(folder, "sbin/init"), 0o755)
  with tarfile.open(tar, "w") as archive:
    archive.add(folder, arcname=".")
  return tar


MOMENT = "tick.monotonic"


def taken_tick(below, seconds=5):
  """The moment that a tick-init wrote somewhere below a folder, taken away so that the next start writes its own."""
  end = time.monotonic() + seconds
  while time.monotonic() < end:
    for folder, _, files in os.walk(below):
      if MOMENT in files:
        path = os.path.join(folder, MOMENT)
        with open(path) as f:
          moment = int(f.read())
        os.unlink(path)
        return moment
    time.sleep(0.002)
  raise Failed(f"no tick came below {below}")


class TickBare(launchers.Bare):
  name = "tick-bare"


class TickHenge(launchers.Henge):
  name = "tick-henge"

  def prepare(self, tar):
    self.ctl("import-tar", tar, "tick")
    self.ctl("create", "tick", "tick")

  def command(self):
    return [self.hengectl, "start", "--no-wait", "tick"]

  def halt(self):
    self.ctl("terminate", "tick")

  def finish(self):
    self.ctl("remove", "tick")
    self.ctl("remove-image", "tick")


def exec_delay(host, report, rounds, hengectl):
  """From spawning the launcher to the exec of PID 1, told by PID 1 itself, henge less bare."""
  tar = tick_tree(host)
  runners = [(TickBare(host), lambda r: r.root)]
  if hengectl:
    runners.append((TickHenge(host, hengectl), lambda r: r.env["HENGE_STATE_DIR"]))
  times = {runner.name: [] for runner, _ in runners}
  try:
    for runner, _ in runners:
      runner.prepare(tar)
    for n in range(rounds + 1):
      for runner, where in runners:
        try:
          watch = runner.start()
          moment = taken_tick(where(runner))
          if n > 0:
            times[runner.name].append((moment - watch.start) / 1e6)
        finally:
          runner.stop()
  finally:
    for runner, _ in runners:
      runner.finish()
  mark = statistics.median(times["tick-bare"])
  report.add("spawn to exec of PID 1: bare", mark, "ms", None, spread(times["tick-bare"]))
  if hengectl:
    over = statistics.median(times["tick-henge"]) - mark
    report.add("spawn to exec of PID 1: henge over bare", over, "ms", 25.0, spread(times["tick-henge"]))


def commands(host, report, rounds, hengectl):
  """What the operator waits for at every command, against `machinectl --version`."""
  henge = TickHenge(host, hengectl)
  henge.ctl("import-tar", tick_tree(host), "tick")
  for n in range(100):
    henge.ctl("create", "tick", f"machine-{n:03}")
  peer, version, listing = race(
    host, rounds, ["machinectl", "--version"], [hengectl, "version"], [hengectl, "list"], env=henge.env)
  mark = statistics.median(peer)
  report.add("machinectl --version", mark / 1000, "ms", None, spread([t / 1000 for t in peer]))
  report.add("hengectl version / machinectl --version", statistics.median(version) / mark, "", 1.0,
             spread([t / 1000 for t in version]))
  report.add("hengectl list, 100 machines / machinectl --version", statistics.median(listing) / mark, "", 2.0,
             spread([t / 1000 for t in listing]))


def ownership(host, report, rounds, importer, files=100_000):
  """Shifting the ids of a large tree and back, against `chown -R` on its twin, page cache warm."""
  trees = []
  for name in ("ours", "theirs"):
    root = host.path("shift", name)
    for folder in range(files // 100):
      path = os.path.join(root, f"{folder % 10}", f"{folder}")
      os.makedirs(path)
      for n in range(100):
        os.close(os.open(os.path.join(path, f"file-{n}"), os.O_CREAT | os.O_WRONLY, 0o644))
    trees.append(root)
  ours, theirs = trees
  state = host.path("shift", "state")
  os.mkdir(state)
  os.sync()
  there, chown_there, back, chown_back = race(
    host, rounds,
    [importer, "shift", ours, "0", str(BASE), state],
    ["chown", "-R", f"{BASE}:{BASE}", theirs],
    [importer, "shift", ours, str(BASE), "0", state],
    ["chown", "-R", "0:0", theirs])
  for name, mine, other in (("there", there, chown_there), ("back", back, chown_back)):
    report.add(f"chown mode, {files} files, {name} / chown -R", statistics.median(mine) / statistics.median(other), "",
               1.0, f"{spread([t / 1000 for t in mine])}; chown -R {statistics.median(other) / 1000:.4g} ms")


def images(host, report, rounds, tar, hengectl):
  """`create` from a large image against an empty one, and import-tar against tar."""
  henge = TickHenge(host, hengectl)
  large = host.path("large")
  for n in range(2048):
    folder = os.path.join(large, "data", f"{n % 64}")
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, f"{n}"), "wb") as f:
      f.write(os.urandom(4096) * 256)
  unpack(tick_tree(host), host.path("large-root"))
  os.rename(os.path.join(large, "data"), host.path("large-root", "data"))
  henge.ctl("import-fs", host.path("large-root"), "large", timeout=300)
  if "tick" not in henge.ctl("list-images"):
    henge.ctl("import-tar", tick_tree(host), "tick")
  big, small = race(host, 4 * rounds, [hengectl, "create", "large", "large-{}"], [hengectl, "create", "tick", "small-{}"],
                    env=henge.env)
  report.add("create from a 2 GB image / from an empty one", statistics.median(big) / statistics.median(small), "",
             1.1, spread([t / 1000 for t in big]))
  os.mkdir(host.path("untar"))
  ours, theirs = race(
    host, 3, [hengectl, "import-tar", tar, "tar-{}"],
    ["sh", "-c", 'mkdir "$1" && tar -C "$1" --numeric-owner --xattrs -xpf "$2" && sync -f "$1"', "sh",
     host.path("untar", "{}"), tar], env=henge.env)
  report.add("import-tar / tar x and sync", statistics.median(ours) / statistics.median(theirs), "", None,
             spread([t / 1000 for t in ours]))


def say(text):
  print(f"bench: {text}", flush=True)
