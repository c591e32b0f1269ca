"""What a run takes from the host, all of it in one folder, one cgroup and private mount namespaces, and gives back."""

import fcntl
import os
import secrets
import shutil
import signal
import stat
import subprocess
import time


class Failed(Exception):
  """A figure or a launcher that could not be measured; its text is one line for the table."""


def call(*argv, env=None, timeout=120, ns=None):
  """Run a command to its end and return its standard output; `ns` is a process whose mount namespace it joins."""
  if ns:
    argv = ("nsenter", f"--mount=/proc/{ns}/ns/mnt", "--", *argv)
  try:
    done = subprocess.run(argv, env=env, timeout=timeout, stdin=subprocess.DEVNULL, capture_output=True, text=True)
  except FileNotFoundError:
    raise Failed(f"{argv[0]}: not installed (make bench-tools)")
  except subprocess.TimeoutExpired:
    raise Failed(f"{argv[0]}: no answer within {timeout} s")
  if done.returncode:
    said = (done.stderr.strip() or done.stdout.strip()).splitlines()
    raise Failed(f"{os.path.basename(argv[0])}: status {done.returncode}: {said[-1][:160] if said else 'silent'}")
  return done.stdout


def unified_mount():
  """Where this host has cgroup v2, and the cgroup below it that we are in."""
  mount = None
  with open("/proc/self/mounts") as lines:
    for line in lines:
      field = line.split()
      if field[2] == "cgroup2":
        mount = field[1]
  if mount is None:
    raise SystemExit("bench: no cgroup2 is mounted: mount one, or run it on a host that has it")
  with open("/proc/self/cgroup") as lines:
    own = next(line.split(":", 2)[2].strip() for line in lines if line.startswith("0::"))
  return mount, own


class Host:
  """The work folder and the cgroup of one run."""

  def __init__(self, tools):
    self.tools = tools
    mount, own = unified_mount()
    sweep(os.path.join(mount, own.lstrip("/")))
    # Hexadecimal, since the name is also a machine's, and nspawn takes only what may be a host name.
    self.folder = os.path.join(PLACE, PREFIX + secrets.token_hex(4))
    os.mkdir(self.folder, 0o700)
    # Held as long as we live: its being free tells the next run that we were killed.
    self.lock = os.open(self.path("lock"), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    fcntl.flock(self.lock, fcntl.LOCK_EX)
    # Ids other than root pass through it to the trees.
    os.chmod(self.folder, 0o711)
    self.name = os.path.basename(self.folder).replace(".", "-")
    self.below = os.path.join(own, self.name)
    self.cgroup = mount.rstrip("/") + self.below
    self.views = []
    os.mkdir(self.cgroup)

  def path(self, *parts):
    return os.path.join(self.folder, *parts)

  def tool(self, name):
    return os.path.join(self.tools, name)

  def group(self, name):
    """A cgroup of its own for a launcher: everything that it leaves is found there."""
    path = os.path.join(self.cgroup, name)
    os.makedirs(path, exist_ok=True)
    return path

  def view(self, name):
    """A mount namespace that shows a pure cgroup v2 host with a /run and subordinate ids of its own.

    Peers need it on hybrid hosts, and it keeps what they write into /run out of the host's.
    """
    run, ids = self.path(name, "run"), self.path("subid")
    os.makedirs(run, exist_ok=True)
    with open(ids, "w") as f:
      f.write(f"root:{BASE}:{RANGE}\n")
    script = (
      'set -e; if [ "$(stat -f -c %T /sys/fs/cgroup)" != cgroup2fs ]; then umount -R /sys/fs/cgroup;'
      " mount -t cgroup2 cgroup2 /sys/fs/cgroup; fi;"
      ' mount --bind "$1" /run; mount --bind "$2" /etc/subuid; mount --bind "$2" /etc/subgid; echo up; exec cat')
    holder = subprocess.Popen(
      ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", run, ids],
      stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    self.views.append(holder)
    if holder.stdout.readline() != "up\n":
      raise Failed("a private mount namespace could not be set up")
    return holder.pid

  def clean(self):
    """Give everything back; what is still there afterwards is returned as a list of complaints."""
    left = []
    if os.path.isdir(self.cgroup):
      empty_cgroup(self.cgroup)
      left += [f"cgroup {path}" for path in remove_cgroup(self.cgroup)]
    for holder in self.views:
      holder.stdin.close()
      holder.wait()
    shutil.rmtree(self.folder, ignore_errors=True)
    if os.path.exists(self.folder):
      left.append(f"folder {self.folder}")
    with open("/proc/self/mounts") as lines:
      left += [f"mount {line.split()[1]}" for line in lines if self.folder in line]
    return left


BASE, RANGE = 1_000_000_000, 65536
PLACE, PREFIX = "/var/tmp", "henge-bench."


def sweep(own):
  """Give back what a run that was killed left in our cgroup and in the place for work folders."""
  for name in os.listdir(PLACE):
    folder = os.path.join(PLACE, name)
    if not name.startswith(PREFIX) or os.path.islink(folder) or os.lstat(folder).st_uid != 0:
      continue
    try:
      lock = os.open(os.path.join(folder, "lock"), os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
      fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
      continue  # in use, or not ours
    cgroup = os.path.join(own, name.replace(".", "-"))
    if os.path.isdir(cgroup):
      empty_cgroup(cgroup)
      remove_cgroup(cgroup)
    shutil.rmtree(folder, ignore_errors=True)
    os.close(lock)


def members(cgroup):
  """Every process in a cgroup and below."""
  found = []
  for folder, _, _ in os.walk(cgroup):
    try:
      with open(os.path.join(folder, "cgroup.procs")) as f:
        found += [int(pid) for pid in f.read().split()]
    except OSError:
      pass
  return found


def empty_cgroup(cgroup, seconds=10):
  """Kill whatever is in a cgroup and wait until nothing is."""
  with open(os.path.join(cgroup, "cgroup.kill"), "w") as f:
    f.write("1")
  end = time.monotonic() + seconds
  while members(cgroup) and time.monotonic() < end:
    time.sleep(0.01)


def remove_cgroup(cgroup):
  """Remove a cgroup and those below; returns those that would not go."""
  left = []
  for folder, _, _ in os.walk(cgroup, topdown=False):
    for attempt in range(50):
      try:
        os.rmdir(folder)
        break
      except FileNotFoundError:
        break
      except OSError:
        time.sleep(0.02)
    else:
      left.append(folder)
  return left


def unpack(tar, folder, base=0):
  """Unpack a tar into a new folder and shift its owners to `base`, set-id bits kept."""
  os.makedirs(folder)
  call("tar", "-C", folder, "--numeric-owner", "--xattrs", "--xattrs-include=*", "-xpf", tar)
  if base:
    shift(folder, base)


def shift(folder, base):
  """Add `base` to the owner and group of everything below a folder, set-id bits kept."""
  def one(path):
    info = os.lstat(path)
    os.lchown(path, info.st_uid + base, info.st_gid + base)
    # chown takes the set-id bits away.
    if info.st_mode & 0o6000 and not stat.S_ISLNK(info.st_mode):
      os.chmod(path, stat.S_IMODE(info.st_mode))

  seen = set()
  one(folder)
  for parent, folders, files in os.walk(folder):
    for name in folders + files:
      path = os.path.join(parent, name)
      info = os.lstat(path)
      # A hard link is one file with several names: shifted once.
      if info.st_nlink > 1 and not stat.S_ISDIR(info.st_mode):
        if (info.st_dev, info.st_ino) in seen:
          continue
        seen.add((info.st_dev, info.st_ino))
      one(path)


class Watch:
  """One timed start: the stopwatch program, held open so that the guest's notifications stay drained."""

  def __init__(self, host, group, mode, argv, view=None, socket=None, log=None, env=None, limit=60):
    command = [host.tool("stopwatch"), "-c", group, "-t", str(limit)]
    if view:
      command += ["-m", f"/proc/{view}/ns/mnt"]
    if socket:
      command += ["-n", socket]
    if log:
      command += ["-l", log]
    self.process = subprocess.Popen(
      command + [mode] + argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env, text=True)
    said = self.process.stdout.readline().strip()
    if not said or said.startswith("failed"):
      self.close()
      raise Failed(f"{os.path.basename(argv[0])}: {said or 'stopwatch ended'} (log: {tail(log)})")
    self.start, self.end = (int(part) for part in said.split())

  @property
  def ms(self):
    return (self.end - self.start) / 1e6

  def close(self):
    """Stop watching; what was started must have been stopped before."""
    self.process.stdin.close()
    try:
      self.process.wait(timeout=15)
    except subprocess.TimeoutExpired:
      self.process.send_signal(signal.SIGKILL)
      self.process.wait()


def tail(log):
  """The last line of a log, for an error."""
  try:
    with open(log, errors="replace") as f:
      lines = f.read().strip().splitlines()
    return lines[-1][:200] if lines else "empty"
  except (OSError, TypeError):
    return "none"
