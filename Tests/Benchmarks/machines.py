"""Henge's machines on the lab's host, and the ways out of them and into them."""

import json
import os
import random
import time

import launchers
from figures import paired, spread
from host import Failed, call
from lab import FIGURES, HOST, OUTSIDE, PORT, Way

# Each in a machine of its own: the title, its settings, and the mode that its status must tell.
OUTWARD = {
  "slirp4netns": ["Forwarder=slirp4netns"],
  "pasta": ["Forwarder=pasta"],
  "hand-off": ["HandOff=yes"],
  "Mode=sockets": ["Mode=sockets"],
  "Mode=veth": ["Mode=veth"],
}


class Machines:
  """Machines of one run, and the images that they are made of."""

  def __init__(self, host, lab, hengectl):
    self.lab, self.henge, self.names, self.images = lab, launchers.Henge(host, hengectl), [], []

  def add(self, image, tar):
    self.ctl("import-tar", tar, image)
    self.images.append(image)

  def ctl(self, *words, timeout=120):
    # In the run's own control group: what is left of a run that is cut off is found there.
    into = ["sh", "-c", 'echo $$ >"$0/cgroup.procs"; exec "$@"', self.henge.group]
    return call(*into, *self.lab.at(self.lab.host, self.henge.hengectl), *words, env=self.henge.env, timeout=timeout)

  def make(self, image, name, *settings):
    self.ctl("create", image, name, *(word for setting in settings for word in ("--set", setting)))
    self.names.append(name)

  def start(self, name, *settings):
    """A machine with `talk` in it; what a command in it begins with."""
    self.make("bench-net", name, *settings)
    self.ctl("start", name)
    self.ctl("copy-to", name, self.lab.talk, "/usr/local/bin/talk")
    return self.command(name, "talk")

  def command(self, name, *words):
    # As a program of the machine's own: what is handed over is asked for by such, and not by one that joined it.
    env = [f"{key}={value}" for key, value in self.henge.env.items() if key.startswith("HENGE_")]
    return ["env", *env, *self.lab.at(self.lab.host, self.henge.hengectl), "exec", name, "--", *words]

  def network(self, name):
    return json.loads(self.ctl("status", "--json", name)).get("networkState", {})

  def state(self, name):
    return json.loads(self.ctl("status", "--json", name))["state"]

  def handed_over(self, name):
    return self.network(name).get("handOff", {}).get("handedOver", 0)

  def handed_in(self, name):
    return self.network(name).get("handOff", {}).get("handedIn", 0)

  def end(self, report):
    def attempt(*words):
      try:
        self.ctl(*words, timeout=900)
      except Failed as error:
        report.notes.append(f"network: {error}")

    for name in self.names:
      if self.state(name) != "stopped":
        attempt("terminate", name)
      attempt("remove", name)
    for image in self.images:
      attempt("remove-image", image)


def starts(machines, report, pairs):
  """A start with a forwarder against one without, in turn: it is begun beside the boot, and must not be in its way."""
  modes = ("user", "none")
  taken = {mode: [] for mode in modes}
  for mode in modes:
    machines.make("bench-net", f"bench-{mode}", f"Mode={mode}")
  for number in range(pairs + 1):
    for mode in random.Random(number).sample(modes, 2):
      began = time.monotonic()
      machines.ctl("start", f"bench-{mode}")
      # The first start of each makes the machine's id and its caches.
      if number:
        taken[mode].append((time.monotonic() - began) * 1000)
      machines.ctl("terminate", f"bench-{mode}")
  ratio, within = paired(taken["user"], taken["none"])
  report.add("network: start to running, Mode=user / Mode=none", ratio, "", 1.05,
             f"{spread(taken['user'])} / {spread(taken['none'])}", within=within)


def outward(machines, report, ways, titles=tuple(OUTWARD)):
  for title in titles:
    settings = OUTWARD[title]
    name = "bench-" + title.lower().replace("mode=", "")
    try:
      client = machines.start(name, *settings)
      way = Way(f"henge, {title}", client, OUTSIDE)
      way.take("connect")
      if title in ("hand-off", "Mode=sockets") and not machines.handed_over(name):
        raise Failed("nothing was handed over")
      ways.append(way)
    except (Failed, OSError, ValueError) as error:
      report.failed(f"network: henge, {title}", error)


def inward(machines, lab, report, ways):
  """From outside to a port of the host's: by the relay, by a socket unit of the machine, and handed over as accepted."""
  try:
    name, handing = "bench-ports", "bench-ports-handed"
    machines.start(name, f"Port=6201-6202:{PORT}-{PORT + 1}", "Port=6301:6301:talk.socket")
    machines.start(handing, f"Port=6401-6402:{PORT}-{PORT + 1}", "HandOff=yes")
    call(*machines.command(
      name, "sh", "-ec",
      "cd /etc/systemd/system;"
      " printf '[Socket]\\nListenStream=6301\\n[Install]\\nWantedBy=sockets.target\\n' >talk.socket;"
      " printf '[Service]\\nExecStart=/usr/local/bin/talk serve 6301\\n' >talk.service;"
      " systemctl enable talk.socket"))
    for one in (name, handing):
      call(*machines.command(
        one, "sh", "-ec",
        f"cd /etc/systemd/system; printf '[Service]\\nExecStart=/usr/local/bin/talk serve {PORT}\\n[Install]\\n"
        "WantedBy=multi-user.target\\n' >plain.service; systemctl enable --now plain.service"))
    machines.ctl("reboot", name)
    client = lab.client(lab.outside)
    ways.append(Way("published, no machine", client, HOST))
    ways.append(Way("henge, published by relay", client, HOST, 6201))
    handed = Way("henge, published by hand-off", client, HOST, 6401)
    handed.take("trip")
    if not machines.handed_in(handing):
      raise Failed("nothing was handed over to who accepted it")
    ways.append(handed)
    # Connections of the socket unit's come to one port only.
    ways.append(Way("henge, published by LISTEN_FDS", client, HOST, 6301, [f for f in FIGURES if f != "connect"]))
  except (Failed, OSError) as error:
    report.failed("network: published ports", error)
