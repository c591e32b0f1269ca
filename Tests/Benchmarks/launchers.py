"""Everything that boots the same tree: the bare launcher, the peers and henge, each by the quickest way it offers.

All get loopback only, and no limits. Each is told of the guest's readiness by the guest itself (READY=1 from its
PID 1), except hengectl, which returns at `running` and so pays for asking systemd over the bus as well.
"""

import os
import signal
import subprocess

from host import BASE, RANGE, Failed, Watch, call, empty_cgroup, members, unpack


class Launcher:
  """One way to boot; a subclass says how."""

  name = ""
  mode = "ready"
  shifted = True

  def __init__(self, host):
    self.host = host
    self.key = self.name.split()[0].lower()
    self.group = host.group(self.key + "/run")
    self.root = host.path(self.key, "root")
    self.log = host.path(self.key, "log")
    self.socket = host.path(self.key, "notify")
    self.view = None
    self.env = dict(os.environ)
    self.watch = None

  def version(self):
    return ""

  def prepare(self, tar):
    os.makedirs(self.host.path(self.key), exist_ok=True)
    # Another figure of the same run may have unpacked it already.
    if not os.path.isdir(self.root):
      unpack(tar, self.root, BASE if self.shifted else 0)
    self.view = self.host.view(self.key)

  def command(self):
    raise NotImplementedError

  def start(self):
    """Start once, timed; the watch stays open until `stop`."""
    try:
      self.watch = Watch(
        self.host, self.group, self.mode, self.command(), view=self.view,
        socket=self.socket if self.mode == "ready" else None, log=self.log, env=self.env)
    except Failed:
      # What came up halfway must not meet the next start.
      empty_cgroup(os.path.dirname(self.group))
      raise
    return self.watch

  def halt(self):
    """Stop what was started, quickly."""

  def stop(self):
    if self.watch:
      try:
        self.halt()
      finally:
        self.watch.close()
        self.watch = None

  def finish(self):
    """Give back what `prepare` made outside the work folder."""

  def burnt(self):
    """Processor time of everything that this launcher ever ran, in milliseconds."""
    with open(os.path.join(os.path.dirname(self.group), "cpu.stat")) as lines:
      return next(int(line.split()[1]) for line in lines if line.startswith("usage_usec")) / 1000

  def leader(self):
    """The guest's PID 1: the process that is 1 in a PID namespace one below ours."""
    for pid in members(os.path.dirname(self.group)):
      try:
        with open(f"/proc/{pid}/status") as lines:
          numbers = next(line.split()[1:] for line in lines if line.startswith("NSpid"))
      except (OSError, StopIteration):
        continue
      if len(numbers) == 2 and numbers[1] == "1":
        return pid
    raise Failed("no PID 1 found")

  def state(self):
    """What the guest's systemd says, and how many units failed."""
    inside = ["nsenter", "-t", str(self.leader()), "-U", "-m", "-p", "-n", "-u", "-i", "-C", "--", "systemctl"]
    ask = lambda *words: subprocess.run(inside + list(words), capture_output=True, text=True, timeout=30).stdout
    return ask("is-system-running").strip(), len(ask("--failed", "--plain", "--no-legend", "--no-pager").splitlines())

  def pss_kb(self):
    """PSS of the manager's own processes: those outside the machine's user namespace, and henge's helpers anywhere."""
    own, total, names = os.readlink("/proc/self/ns/user"), 0, []
    for pid in members(os.path.dirname(self.group)):
      if pid == self.watch.process.pid:
        continue
      try:
        with open(f"/proc/{pid}/comm") as f:
          comm = f.read().strip()
        if os.readlink(f"/proc/{pid}/ns/user") != own and not comm.startswith("henge"):
          continue
        with open(f"/proc/{pid}/smaps_rollup") as lines:
          total += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
        names.append(comm)
      except (OSError, StopIteration):
        continue
    return total, names


class Bare(Launcher):
  """The mark: tells by a line of its own, and ends its machine at once."""

  name = "bare"
  mode = "line"

  def prepare(self, tar):
    os.makedirs(self.host.path(self.key), exist_ok=True)
    unpack(tar, self.root, BASE)

  def command(self):
    return [self.host.tool("bare"), self.root, str(BASE)]

  def check(self):
    """What the guest says, asked in a boot of its own."""
    lines = call(self.host.tool("bare"), "--check", self.root, str(BASE)).splitlines()
    return lines[1], len(lines) - 2


class Control(Bare):
  """The mark once more: how far its ratio is from 1 says how far any ratio of this run may be trusted."""

  name = "control"


class Nspawn(Launcher):
  name = "nspawn -U"
  shifted = False  # -U maps ids at mount time

  def version(self):
    return call("systemd-nspawn", "--version").split("\n")[0]

  def command(self):
    return [
      "systemd-nspawn", "-U", "--boot", "--directory", self.root, "--machine", self.host.name, "--private-network",
      "--notify-ready=yes", "--register=no", "--keep-unit", "--console=read-only"]

  def halt(self):
    # nspawn ends when its leader does; killing nspawn itself would leave the guest running.
    os.kill(self.leader(), signal.SIGKILL)


class LXC(Launcher):
  name = "lxc"

  def version(self):
    return "lxc " + call("lxc-start", "--version").strip()

  def prepare(self, tar):
    super().prepare(tar)
    folder = self.host.path(self.key, "lxc", self.host.name)
    os.makedirs(folder)
    with open(os.path.join(folder, "config"), "w") as f:
      f.write("\n".join([
        f"lxc.rootfs.path = dir:{self.root}", "lxc.uts.name = lxc",
        f"lxc.idmap = u 0 {BASE} {RANGE}", f"lxc.idmap = g 0 {BASE} {RANGE}",
        "lxc.net.0.type = empty", "lxc.mount.auto = proc:mixed sys:mixed cgroup:mixed",
        "lxc.tty.max = 0", "lxc.pty.max = 1024", "lxc.cgroup.relative = 1",
        # Kept, they would let units run that then fail, and the guest would come up degraded.
        "lxc.cap.drop = sys_module sys_rawio audit_control audit_read",
        # LXC waits for no readiness; so the guest's own message is led out.
        f"lxc.mount.entry = {self.socket} henge-notify none bind,create=file 0 0",
        "lxc.environment = NOTIFY_SOCKET=/henge-notify", ""]))

  def command(self):
    return ["lxc-start", "-P", self.host.path(self.key, "lxc"), "-n", self.host.name, "-o", self.log, "-l", "WARN"]

  def halt(self):
    call("lxc-stop", "-k", "-P", self.host.path(self.key, "lxc"), "-n", self.host.name, ns=self.view)


class Podman(Launcher):
  name = "podman"

  def version(self):
    return call("podman", "--version").strip() + ", " + call("crun", "--version").split("\n")[0]

  def prepare(self, tar):
    super().prepare(tar)
    at = lambda name: self.host.path(self.key, name)
    with open(at("containers.conf"), "w") as f:
      f.write(f'[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "none"\nlock_type = "file"\nruntime = "crun"\n'
              f'static_dir = "{at("static")}"\nvolume_path = "{at("volumes")}"\ntmp_dir = "{at("tmp")}"\n')
    with open(at("storage.conf"), "w") as f:
      f.write(f'[storage]\ndriver = "vfs"\ngraphroot = "{at("graph")}"\nrunroot = "{at("runroot")}"\n')
    self.env["CONTAINERS_CONF"] = at("containers.conf")
    self.env["CONTAINERS_STORAGE_CONF"] = at("storage.conf")
    self.group = self.host.group(self.key + "/run")
    # Made here, so that only `start` is timed, as with hengectl. The socket is remembered from the making.
    call(
      "podman", "create", "--name", self.host.name, "--systemd=always", "--sdnotify=container", "--network=none",
      f"--uidmap=0:{BASE}:{RANGE}", f"--gidmap=0:{BASE}:{RANGE}", "--pids-limit=-1", "--ulimit=nofile=1024:4096",
      "--ulimit=nproc=4096:4096", f"--cgroup-parent={self.host.below}/{self.key}/machine", "--rootfs", self.root,
      "/sbin/init", env={**self.env, "NOTIFY_SOCKET": self.socket}, ns=self.view)

  def command(self):
    return ["podman", "start", self.host.name]

  def halt(self):
    call("podman", "stop", "-t", "0", self.host.name, env=self.env, ns=self.view)

  def finish(self):
    call("podman", "rm", "-f", "-t", "0", self.host.name, env=self.env, ns=self.view)


class Henge(Launcher):
  """`hengectl start`, which returns once the guest's systemd says `running`."""

  name = "henge"
  mode = "exit"
  # Loopback only, like the others.
  network = "none"

  def __init__(self, host, hengectl):
    super().__init__(host)
    self.hengectl = hengectl
    for word in ("CONFIG", "STATE", "RUNTIME"):
      folder = host.path(self.key, word.lower())
      os.makedirs(folder, mode=0o700, exist_ok=True)
      self.env[f"HENGE_{word}_DIR"] = folder

  def version(self):
    return call(self.hengectl, "version", env=self.env).split("\n")[0]

  def ctl(self, *words, timeout=120):
    return call(self.hengectl, *words, env=self.env, timeout=timeout)

  def prepare(self, tar):
    self.ctl("import-tar", tar, "bench-trixie")
    self.ctl("create", "bench-trixie", "bench", "--set", f"Mode={self.network}")

  def command(self):
    return [self.hengectl, "start", "bench"]

  def halt(self):
    self.ctl("terminate", "bench")

  def finish(self):
    # A disk that discards what is freed takes a minute for some ten thousand files.
    self.ctl("remove", "bench", timeout=900)
    self.ctl("remove-image", "bench-trixie", timeout=900)


class Networked(Henge):
  """The same with a forwarder, which the others do without."""

  name = "henge-networked"
  network = "user"
