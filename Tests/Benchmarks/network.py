"""What a machine's network costs: packets through a forwarder, connections handed over, published ports.

All of it in network namespaces of the run's own: one plays the host, a veth pair leads from it to the world outside.
Everything is a ratio to the host's loopback, or to the same without a machine, taken in the same round.
"""

import contextlib
import random
import statistics

from figures import paired, say, spread
from host import Failed
from lab import FIGURES, OUTSIDE, Lab, Tree, Way
from machines import Machines, inward, outward, starts
from peers import SLIRP, forwarder, peers, routed
from services import services

# Starts with a forwarder, each beside one without, in half a second. Fewer do not tell 1.02 from 1.05.
PAIRS = 40
# Of each figure in a round.
PASSES = 2
STREAMS = FIGURES[:4]
# Who goes the way of whom between the host and the world outside, which is no loopback.
SAME = (("hand-off", "veth"), ("Mode=sockets", "veth"), ("published by LISTEN_FDS", "published, no machine"),
        ("published by hand-off", "published, no machine"), ("published by relay", "published, no machine"))


@contextlib.contextmanager
def laboratory(host, report, hengectl, services_tar):
  """A lab, henge's machines in it and the tree of the servers; None for each that there is nothing to make of."""
  lab, machines, tree = None, None, None
  try:
    lab = Lab(host)
    if services_tar:
      tree = Tree(host, lab, services_tar)
    if hengectl:
      machines = Machines(host, lab, hengectl)
    yield lab, machines, tree
  finally:
    if machines:
      machines.end(report)
    if lab:
      lab.end()


def network(host, report, rounds, tar, hengectl, services_tar):
  """Every way in turn, in shuffled order, for some rounds."""
  with laboratory(host, report, hengectl, services_tar) as (lab, machines, tree):
    ways = [Way("loopback", lab.client(lab.host), "127.0.0.1"), Way("veth", lab.client(lab.host), OUTSIDE)]
    peers(host, lab, report, ways, tree)
    if machines:
      machines.add("bench-net", tar)
      starts(machines, report, PAIRS)
      outward(machines, report, ways)
      inward(machines, lab, report, ways)
    take(report, rounds, ways)
    tell(report, ways)


def streams(host, report, rounds, tar, hengectl):
  """Only what is to be as fast as the host, and only how fast: in enough rounds to tell some hundredths."""
  with laboratory(host, report, hengectl, None) as (lab, machines, _):
    ways = [Way("loopback", lab.client(lab.host), "127.0.0.1"), Way("veth", lab.client(lab.host), OUTSIDE)]
    machines.add("bench-net", tar)
    outward(machines, report, ways, ("hand-off", "Mode=sockets"))
    inward(machines, lab, report, ways)
    ways = [way for way in ways if "relay" not in way.name]
    take(report, rounds, ways, STREAMS)
    tell(report, ways)


def packets(host, report, rounds, tar, hengectl):
  """Only packets, through what a machine has by itself, and the same without one: its rate comes and goes."""
  with laboratory(host, report, hengectl, None) as (lab, machines, _):
    ways = [Way("loopback", lab.client(lab.host), "127.0.0.1"), forwarder(lab, SLIRP), routed(lab)]
    machines.add("bench-net", tar)
    outward(machines, report, ways, ("slirp4netns", "Mode=veth"))
    take(report, rounds, ways, STREAMS)
    tell(report, ways)


def servers(host, report, rounds, hengectl, services_tar):
  """Servers as an operator has them."""
  with laboratory(host, report, hengectl, services_tar) as (lab, machines, tree):
    services(lab, machines, tree, services_tar, report, PASSES * rounds)


def take(report, rounds, ways, figures=FIGURES):
  for number in range(PASSES * rounds):
    for figure in figures:
      for way in order([way for way in ways if figure in way.figures], random.Random(f"{number} {figure}")):
        try:
          way.taken[figure].append(way.take(figure))
        except (Failed, ValueError) as error:
          way.taken[figure].append(None)
          report.notes.append(f"{way.name}, {figure}: pass {number + 1}: {error}")
    say(f"pass {number + 1}/{PASSES * rounds}: " + ", ".join(
      f"{way.name} {(way.taken['up 1'][-1] or 0) / 1e9:.3g}" for way in ways if "up 1" in way.taken) + " Gbit/s up")


def order(ways, chance):
  """Shuffled, with a forwarder and henge with that forwarder right after each other."""
  families = {}
  for way in ways:
    family = way.name.removeprefix("henge, ")
    families.setdefault("Mode=veth" if family == "veth, routed" else family, []).append(way)
  families = list(families.values())
  return [way for family in chance.sample(families, len(families)) for way in chance.sample(family, len(family))]


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
  for name, same in SAME:
    ours, theirs = by_name.get(f"henge, {name}"), by_name.get(same)
    for figure in STREAMS if ours and theirs else ():
      ratio, within = paired(ours.taken[figure], theirs.taken[figure])
      report.add(f"network, {figure}: henge, {name} / {same}", ratio, "", None, within=within)
  # What henge adds to what carries its packets.
  for name, machine in (("slirp4netns", "slirp4netns"), ("pasta", "pasta"), ("veth, routed", "Mode=veth")):
    ours, theirs = by_name.get(f"henge, {machine}"), by_name.get(name)
    for figure in STREAMS if ours and theirs else ():
      ratio, within = paired(ours.taken[figure], theirs.taken[figure])
      report.add(f"network, {figure}: henge / {name} alone", ratio, "", None, within=within, least=0.97)


def goals(name, figure):
  """The least, or the most, that a way should be of loopback."""
  kind = figure.split()[0]
  if name in ("henge, hand-off", "henge, Mode=sockets"):
    return (0.95, None) if kind in ("up", "down") else (None, 5.0 if kind == "connect" else 1.1)
  if kind in ("up", "down"):
    if name in ("henge, published by LISTEN_FDS", "henge, published by hand-off"):
      return 0.95, None
    if name == "henge, published by relay":
      return (0.9 if kind == "up" else 0.6), None
  return None, None
