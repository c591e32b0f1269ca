"""What a machine's network costs: packets through a forwarder, connections handed over, published ports.

All of it in network namespaces of the run's own: one plays the host, a veth pair leads from it to the world outside.
Everything is a ratio to the host's loopback, taken in the same round.
"""

import json
import os
import random
import statistics
import subprocess
import time

import launchers
from figures import paired, say, spread
from host import Failed, call

HOST, OUTSIDE = "192.0.2.1", "192.0.2.2"
PORT = 5201
SECONDS = 1.0
FIGURES = ("up 1", "up 4", "down 1", "down 4", "connect", "trip")


class Lab:
  """A host and a world outside of it, each the network namespace of a process."""

  def __init__(self, talk):
    self.talk, self.running = talk, []
    self.host, self.outside = (self.spawn(["unshare", "--net", "sleep", "3600"]).pid for _ in range(2))
    own = os.readlink("/proc/self/ns/net")
    end = time.monotonic() + 10
    while any(os.readlink(f"/proc/{pid}/ns/net") == own for pid in (self.host, self.outside)):
      if time.monotonic() > end:
        raise Failed("no network namespace of our own")
      time.sleep(0.01)
    call("sh", "-ec", f"""
      h="nsenter -t {self.host} -n" o="nsenter -t {self.outside} -n"
      $h ip link add up0 mtu 65520 type veth peer name down0 mtu 65520 netns {self.outside}
      $h ip link set lo up; $h ip link set up0 up; $o ip link set lo up; $o ip link set down0 up
      $h ip addr add {HOST}/24 dev up0; $o ip addr add {OUTSIDE}/24 dev down0
      $h ip route add default via {OUTSIDE}""")
    for place in (self.host, self.outside):
      self.serve(place, PORT)

  def spawn(self, argv, **more):
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, **{"stderr": subprocess.DEVNULL, **more})
    self.running.append(process)
    return process

  def at(self, process, *argv):
    return ["nsenter", "-t", str(process), "-n", *argv]

  def serve(self, process, port):
    server = self.spawn(self.at(process, self.talk, "serve", str(port)), stdout=subprocess.PIPE)
    if server.stdout.readline() != b"ready\n":
      raise Failed(f"no server in the network namespace of {process}")

  def end(self):
    # The newest first: what serves in a namespace goes before it.
    for process in reversed(self.running):
      process.kill()
      process.wait()


class Way:
  """A way from a client to a server; `client` is what stands before the command of one."""

  def __init__(self, name, client, address, port=PORT, figures=FIGURES):
    self.name, self.client, self.address, self.port, self.figures = name, client, address, port, figures
    self.taken = {figure: [] for figure in figures}

  def take(self, figure):
    kind, _, streams = figure.partition(" ")
    if streams:
      words = [kind, self.address, str(self.port), streams, str(SECONDS)]
    elif kind == "connect":
      words = [kind, self.address, str(self.port + 1), "200"]
    else:
      words = [kind, self.address, str(self.port), "1000"]
    return float(call(*self.client, *words, timeout=60))


def bare(lab, program, arguments):
  """A forwarder as it comes, with henge's options for it, for a namespace that nothing else is in."""
  inner = lab.spawn(["unshare", "--user", "--map-root-user", "--net", "sleep", "3600"]).pid
  own, end = os.readlink("/proc/self/ns/net"), time.monotonic() + 10
  while os.readlink(f"/proc/{inner}/ns/net") == own and time.monotonic() < end:
    time.sleep(0.01)
  lab.spawn(lab.at(lab.host, program, *(word.format(pid=inner) for word in arguments)), stdout=subprocess.DEVNULL)
  client = ["nsenter", "-t", str(inner), "-U", "--preserve-credentials", "-n", lab.talk]
  probe = Way("", client, OUTSIDE)
  while time.monotonic() < end:
    try:
      probe.take("trip")
      return client
    except Failed:
      time.sleep(0.1)
  raise Failed(f"{program} carries nothing")


class Machines:
  """Henge's machines, started on the lab's host."""

  def __init__(self, host, lab, hengectl, tar):
    self.lab, self.henge, self.names = lab, launchers.Henge(host, hengectl), []
    self.henge.ctl("import-tar", tar, "bench-net")

  def ctl(self, *words, timeout=120):
    return call(*self.lab.at(self.lab.host, self.henge.hengectl), *words, env=self.henge.env, timeout=timeout)

  def start(self, name, *settings):
    """A machine with `talk` in it; what a command in it begins with."""
    words = [word for setting in settings for word in ("--set", setting)]
    self.ctl("create", "bench-net", name, *words)
    self.names.append(name)
    self.ctl("start", name)
    self.ctl("copy-to", name, self.lab.talk, "/usr/local/bin/talk")
    return self.command(name, "talk")

  def command(self, name, *words):
    # As a program of the machine's own: what is handed over is asked for by such, and not by one that joined it.
    env = [f"{key}={value}" for key, value in self.henge.env.items() if key.startswith("HENGE_")]
    return ["env", *env, *self.lab.at(self.lab.host, self.henge.hengectl), "exec", name, "--", *words]

  def status(self, name):
    return json.loads(self.ctl("status", "--json", name))

  def end(self, report):
    def attempt(*words):
      try:
        self.ctl(*words)
      except Failed as error:
        report.notes.append(f"network: {error}")

    for name in self.names:
      if self.status(name)["state"] != "stopped":
        attempt("terminate", name)
      attempt("remove", name)
    attempt("remove-image", "bench-net")


def network(host, report, rounds, tar, hengectl):
  """Every way in turn, in shuffled order, for some rounds."""
  lab, machines, ways = None, None, []
  try:
    lab = Lab(host.tool("talk"))
    ways += [Way("loopback", lab.at(lab.host, lab.talk), "127.0.0.1"), Way("veth", lab.at(lab.host, lab.talk), OUTSIDE)]
    peers(lab, report, ways)
    if hengectl:
      machines = Machines(host, lab, hengectl, tar)
      starts(machines, report, 3 * rounds)
      outward(machines, report, ways)
      inward(machines, lab, report, ways)
    for number in range(rounds):
      for way in random.Random(number).sample(ways, len(ways)):
        for figure in way.figures:
          try:
            way.taken[figure].append(way.take(figure))
          except (Failed, ValueError) as error:
            way.taken[figure].append(None)
            report.notes.append(f"{way.name}, {figure}: round {number + 1}: {error}")
      say(f"round {number + 1}/{rounds}: " + ", ".join(
        f"{way.name} {(way.taken['up 1'][-1] or 0) / 1e9:.3g}" for way in ways if "up 1" in way.taken) + " Gbit/s up")
    tell(report, ways)
  finally:
    if machines:
      machines.end(report)
    if lab:
      lab.end()


def peers(lab, report, ways):
  """The forwarders by themselves. bypass4netns is told by an OCI runtime what to look at, and has no namespace alone."""
  for program, arguments in (
    ("slirp4netns", ["--configure", "--mtu=65520", "--disable-host-loopback", "--enable-sandbox", "--enable-seccomp",
                     "{pid}", "eth0"]),
    ("pasta", ["--foreground", "--quiet", "--runas", "0", "--config-net", "--ns-ifname", "eth0", "--mtu", "65520", "--address",
               "10.0.2.100", "--netmask", "24", "--gateway", "10.0.2.2", "--no-map-gw", "-t", "none", "-u", "none",
               "-T", "none", "-U", "none", "{pid}"]),
  ):
    try:
      ways.append(Way(program, bare(lab, program, arguments), OUTSIDE))
    except (Failed, OSError) as error:
      report.failed(f"network: {program} in a bare namespace", error)
  report.failed("network: bypass4netns", "not taken: it wants an OCI runtime that hands it the container's connects")


def starts(machines, report, rounds):
  """A start with a forwarder against one without, in turn: it is begun beside the boot, and must not be in its way."""
  modes = ("user", "none")
  taken = {mode: [] for mode in modes}
  for mode in modes:
    name = f"bench-{mode}"
    machines.ctl("create", "bench-net", name, "--set", f"Mode={mode}")
    machines.names.append(name)
  for number in range(rounds + 1):
    for mode in random.Random(number).sample(modes, 2):
      began = time.monotonic()
      machines.ctl("start", f"bench-{mode}")
      # The first start of each makes the machine's id and its caches.
      if number:
        taken[mode].append((time.monotonic() - began) * 1000)
      machines.ctl("terminate", f"bench-{mode}")
  ratio, within = paired(taken["user"], taken["none"])
  report.add("network: start to running, Mode=user / Mode=none", ratio, "", 1.05, spread(taken["user"]), within=within)


def outward(machines, report, ways):
  for name, settings in (
    ("slirp4netns", ["Forwarder=slirp4netns"]), ("pasta", ["Forwarder=pasta"]), ("hand-off", ["HandOff=yes"]),
  ):
    title = f"henge, {name}"
    try:
      client = machines.start(f"bench-{name}", *settings)
      if name == "hand-off" and not machines.status("bench-hand-off").get("networkState", {}).get("handOff"):
        raise Failed("HandOff=yes has no effect with this henge")
      ways.append(Way(title, client, OUTSIDE))
    except (Failed, OSError) as error:
      report.failed(f"network: {title}", error)


def inward(machines, lab, report, ways):
  """From outside to a port of the host's, by the relay and by the host's own socket in a socket unit of the machine."""
  try:
    name = "bench-ports"
    machines.start(name, f"Port=6201-6202:{PORT}-{PORT + 1}", "Port=6301:6301:talk.socket")
    call(*machines.command(
      name, "sh", "-ec",
      "cd /etc/systemd/system; printf '[Socket]\\nListenStream=6301\\n[Install]\\nWantedBy=sockets.target\\n' >talk.socket;"
      " printf '[Service]\\nExecStart=/usr/local/bin/talk serve 6301\\n' >talk.service;"
      f" printf '[Service]\\nExecStart=/usr/local/bin/talk serve {PORT}\\n[Install]\\nWantedBy=multi-user.target\\n'"
      " >plain.service; systemctl enable talk.socket plain.service"))
    machines.ctl("reboot", name)
    client = lab.at(lab.outside, lab.talk)
    ways.append(Way("published, no machine", client, HOST))
    ways.append(Way("henge, published by relay", client, HOST, 6201))
    # Connections of the socket unit's come to one port only.
    ways.append(Way("henge, published by LISTEN_FDS", client, HOST, 6301, [f for f in FIGURES if f != "connect"]))
  except (Failed, OSError) as error:
    report.failed("network: published ports", error)


def tell(report, ways):
  by_name = {way.name: way for way in ways}
  loopback = by_name["loopback"]
  for figure in FIGURES:
    timed = figure in ("connect", "trip")
    unit, scale = ("us", 1) if timed else ("Gbit/s", 1e9)
    for way in ways:
      values = [value / scale for value in way.taken.get(figure, []) if value]
      if not values:
        continue
      detail = spread(values, unit)
      if way is loopback:
        report.add(f"network, {figure}: loopback", statistics.median(values), unit, None, detail)
        continue
      ratio, within = paired(way.taken[figure], loopback.taken[figure])
      goal, most = goals(way.name, figure)
      report.add(f"network, {figure}: {way.name} / loopback", ratio, "", most, detail, within=within, least=goal)
  # What henge adds to the forwarder that it took.
  for name in ("slirp4netns", "pasta"):
    ours, theirs = by_name.get(f"henge, {name}"), by_name.get(name)
    for figure in FIGURES[:4] if ours and theirs else ():
      ratio, within = paired(ours.taken[figure], theirs.taken[figure])
      report.add(f"network, {figure}: henge / {name} alone", ratio, "", None, within=within, least=0.97)


def goals(name, figure):
  """The least, or the most, that a way should be of loopback."""
  kind = figure.split()[0]
  if name == "henge, hand-off":
    return (0.95, None) if kind in ("up", "down") else (None, 5.0 if kind == "connect" else 1.1)
  if kind in ("up", "down"):
    if name == "henge, published by LISTEN_FDS":
      return 0.95, None
    if name == "henge, published by relay":
      return (0.9 if kind == "up" else 0.6), None
  return None, None
