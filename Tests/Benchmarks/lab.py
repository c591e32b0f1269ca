"""A host and a world outside of it, in network namespaces of the run's own, and ways from the one to the other."""

import os
import subprocess
import time

from host import Failed, call, empty_cgroup, unpack

HOST, OUTSIDE = "192.0.2.1", "192.0.2.2"
PORT = 5201
# Short, and often: what the host does meanwhile lasts for seconds.
SECONDS = 0.4
# A forwarder that stalls for longer has no figure in that round.
LIMIT = 12
FIGURES = ("up 1", "up 4", "down 1", "down 4", "connect", "trip")


class Lab:
  """The host and the outside, each the network namespace of a process, with a veth pair between the two."""

  def __init__(self, host):
    self.talk, self.running = host.tool("talk"), []
    # What is left of a run that is cut off is found in its control group.
    self.group = host.group("lab")
    self.host, self.outside = (self.spawn(["unshare", "--net", "sleep", "3600"]).pid for _ in range(2))
    for process in (self.host, self.outside):
      wait_for(lambda: other_network(process), "no network namespace of our own")
    call("sh", "-ec", f"""
      h="nsenter -t {self.host} -n" o="nsenter -t {self.outside} -n"
      $h ip link add up0 mtu 65520 type veth peer name down0 mtu 65520 netns {self.outside}
      $h ip link set lo up; $h ip link set up0 up; $o ip link set lo up; $o ip link set down0 up
      $h ip addr add {HOST}/24 dev up0; $o ip addr add {OUTSIDE}/24 dev down0
      $h ip route add default via {OUTSIDE}""")
    for place in (self.host, self.outside):
      self.serve(place, PORT)

  def spawn(self, argv, **more):
    into = ["sh", "-c", 'echo $$ >"$0/cgroup.procs"; exec "$@"', self.group]
    process = subprocess.Popen([*into, *argv], stdin=subprocess.DEVNULL, **{"stderr": subprocess.DEVNULL, **more})
    self.running.append(process)
    return process

  def kill(self, process):
    self.running.remove(process)
    process.kill()
    process.wait()

  def client(self, process):
    # In a session of its own, as the programs of a machine are: on a busy host the scheduler shares between sessions.
    return ["setsid", "--wait", *self.at(process, self.talk)]

  def at(self, process, *argv):
    return ["nsenter", "-t", str(process), "-n", *argv]

  def serve(self, process, port):
    server = self.spawn(self.at(process, self.talk, "serve", str(port)), stdout=subprocess.PIPE, start_new_session=True)
    if server.stdout.readline() != b"ready\n":
      raise Failed(f"no server in the network namespace of {process}")

  def end(self):
    # The newest first: what serves in a namespace goes before it.
    for process in reversed(list(self.running)):
      self.kill(process)
    # What they started does not always end with them.
    empty_cgroup(self.group)


class Way:
  """A way from a client to a server; `client` is what stands before the command of one."""

  def __init__(self, name, client, address, port=PORT, figures=FIGURES):
    self.name, self.client, self.address, self.port, self.figures = name, client, address, port, figures
    self.taken = {figure: [] for figure in figures}

  def take(self, figure):
    kind, _, streams = figure.partition(" ")
    if streams:
      return float(self.run([kind, self.address, str(self.port), streams, str(SECONDS)]))
    if kind == "connect":
      return float(self.run([kind, self.address, str(self.port + 1), "300"]))
    return float(self.run([kind, self.address, str(self.port), "1000"]))

  def run(self, words):
    return call(*self.client, *words, timeout=LIMIT)


class Tree:
  """The tree of the image `bench-services`, where it can be run from in the lab as from a root of its own."""

  def __init__(self, host, lab, tar):
    self.lab, self.root = lab, host.path("services")
    unpack(tar, self.root)
    self.view = host.view("services-view")
    call("sh", "-ec", 'mount -t proc proc "$0/proc"; mount -t tmpfs tmpfs "$0/dev/shm"', self.root, ns=self.view)

  def at(self, process, *argv):
    """A command line that runs a program of the tree in the network namespace of a process."""
    return [*self.outside_of(process), "chroot", self.root, *argv]

  def outside_of(self, process):
    """What begins one of a program of the host's with the same view of mounts and networks."""
    return ["nsenter", f"--net=/proc/{process}/ns/net", f"--mount=/proc/{self.view}/ns/mnt"]


def other_network(process):
  return os.readlink(f"/proc/{process}/ns/net") != os.readlink("/proc/self/ns/net")


def wait_for(condition, otherwise, seconds=10):
  """Until `condition` is true; `Failed` with its own words or `otherwise` when it does not come."""
  end = time.monotonic() + seconds
  while True:
    why = otherwise
    try:
      if condition():
        return
    except Failed as error:
      why = f"{otherwise}: {error}"
    if time.monotonic() > end:
      raise Failed(why)
    time.sleep(0.02)
