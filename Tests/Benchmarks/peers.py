"""What henge's network is held against, each without a machine: slirp4netns, pasta, bypass4netns, veth with NAT."""

import json
import os
import subprocess

from host import Failed, call
from lab import LIMIT, OUTSIDE, PORT, Way, other_network, wait_for

SLIRP = ["slirp4netns", "--configure", "--mtu=65520", "--disable-host-loopback", "--enable-sandbox", "--enable-seccomp",
         "{pid}", "eth0"]
PASTA = ["pasta", "--foreground", "--quiet", "--runas", "0", "--config-net", "--ns-ifname", "eth0", "--mtu", "65520",
         "--address", "10.0.2.100", "--netmask", "24", "--gateway", "10.0.2.2", "--no-map-gw",
         "-t", "none", "-u", "none", "-T", "none", "-U", "none", "{pid}"]
# What its own example profile has it told of.
TRAPPED = ["bind", "close", "connect", "setsockopt", "fcntl", "_exit", "exit_group", "getpeername"]


def peers(host, lab, report, ways, tree):
  for words in (SLIRP, PASTA):
    try:
      ways.append(forwarder(lab, words))
    except (Failed, OSError) as error:
      report.failed(f"network: {words[0]} in a bare namespace", error)
  try:
    ways.append(routed(lab))
  except (Failed, OSError) as error:
    report.failed("network: veth, routed", error)
  try:
    if not tree:
      raise Failed("no image with it was given (--services)")
    # It does not know itself.
    report.header["bypass4netns"] = call(*tree.at(lab.host, "dpkg-query", "-Wf", "${Version}", "bypass4netns"))
    ways.append(Bypass(host, lab, tree, bare(lab, SLIRP)))
    ways[-1].take("trip")
  except (Failed, OSError, ValueError) as error:
    ways[:] = [way for way in ways if not isinstance(way, Bypass)]
    report.failed("network: bypass4netns", error)


def forwarder(lab, words):
  return Way(words[0], client(lab, bare(lab, words)), OUTSIDE)


def routed(lab):
  """What Mode=veth is made of: a pair of devices with the usual MTU, and a host that forwards and masquerades."""
  host, inner = (lab.spawn(["unshare", "--net", "sleep", "3600"]).pid for _ in range(2))
  for process in (host, inner):
    wait_for(lambda: other_network(process), "no network namespace of our own")
  # A host of its own: the rules of machines on the lab's would be gone through here as well.
  call("sh", "-ec", f"""
    h="nsenter -t {host} -n" o="nsenter -t {lab.outside} -n" i="nsenter -t {inner} -n"
    $h ip link add up1 mtu 65520 type veth peer name down1 mtu 65520 netns {lab.outside}
    $h ip link add in0 mtu 1500 type veth peer name eth0 mtu 1500 netns {inner}
    $h ip addr add 198.51.100.1/24 dev up1; $o ip addr add 198.51.100.2/24 dev down1
    $h ip addr add 203.0.113.1/30 dev in0; $i ip addr add 203.0.113.2/30 dev eth0
    $h ip link set up1 up; $h ip link set in0 up; $o ip link set down1 up; $i ip link set eth0 up
    $i ip route add default via 203.0.113.1
    $h sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward'
    $h nft 'table ip nat {{ chain leave {{
      type nat hook postrouting priority srcnat; oifname up1 masquerade; }}; }}'""")
  way = Way("veth, routed", lab.client(inner), "198.51.100.2")
  wait_for(lambda: way.take("trip"), "the pair carries nothing")
  return way


def bare(lab, words):
  """A forwarder as it comes, with henge's options for it, for a namespace that nothing else is in: a process there."""
  inner = lab.spawn(["unshare", "--user", "--map-root-user", "--net", "sleep", "3600"]).pid
  wait_for(lambda: other_network(inner), "no network namespace of our own")
  lab.spawn(lab.at(lab.host, *(word.format(pid=inner) for word in words)), stdout=subprocess.DEVNULL,
            start_new_session=True)
  probe = Way("", client(lab, inner), OUTSIDE)
  wait_for(lambda: probe.take("trip"), f"{words[0]} carries nothing")
  return inner


def client(lab, inner):
  return ["setsid", "--wait", "nsenter", "-t", str(inner), "-U", "--preserve-credentials", "-n", lab.talk]


class Bypass(Way):
  """bypass4netns: an OCI runtime gives it the trap on a container's calls. Each client is a container here.

  Each has a bypass4netns of its own, as from nerdctl: 0.4.2 takes a processor for itself once a container has ended.
  """

  def __init__(self, host, lab, tree, inner):
    super().__init__("bypass4netns", [], OUTSIDE, PORT)
    self.lab, self.tree, self.inner, self.bundle = lab, tree, inner, host.path("bundle")
    for folder in ("dev", "proc"):
      os.makedirs(os.path.join(self.bundle, "rootfs", folder))
    call("cp", lab.talk, os.path.join(self.bundle, "rootfs", "talk"))

  def run(self, words):
    socket = f"{self.tree.root}/tmp/bypass4netns.sock"
    # Between the two is what slirp4netns has: 10.0.2.0/24.
    agent = self.lab.spawn(
      self.tree.at(self.lab.host, "env", "XDG_RUNTIME_DIR=/tmp", "bypass4netns", "--ignore=127.0.0.0/8,10.0.2.0/24"),
      stdout=subprocess.DEVNULL, start_new_session=True)
    try:
      wait_for(lambda: os.path.exists(socket), "bypass4netns made no socket")
      with open(os.path.join(self.bundle, "config.json"), "w") as file:
        json.dump(self.config(["/talk", *words], socket), file)
      return call(
        "setsid", "--wait", *self.tree.outside_of(self.lab.host), "crun", "--root", os.path.join(self.bundle, "state"),
        "--cgroup-manager=disabled", "run", "--bundle", self.bundle, "talk", timeout=LIMIT)
    finally:
      self.lab.kill(agent)
      os.unlink(socket)

  def config(self, words, socket):
    ours = [{"type": kind, "path": f"/proc/{self.inner}/ns/{file}"}
            for kind, file in (("user", "user"), ("network", "net"))]
    return {
      "ociVersion": "1.0.2",
      "root": {"path": "rootfs"},
      "process": {"cwd": "/", "args": words, "user": {"uid": 0, "gid": 0}, "env": ["PATH=/"]},
      "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"},
                 {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755", "size=64k"]}],
      "linux": {
        "namespaces": [*ours, {"type": "mount"}, {"type": "pid"}],
        "seccomp": {
          "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": socket,
          "syscalls": [{"names": TRAPPED, "action": "SCMP_ACT_NOTIFY"}]}}}
