#!/usr/bin/env python3
"""Henge's speed, side by side with a bare launcher and with its peers, in one run on one host.

  bench.py --tools DIR --root TAR-OR-TREE [--henge DIR] [--services TAR] [--rounds N] [--only NAME,…] [--json FILE]

Root is needed, a terminal is not. Ratios are what counts: absolute times say how busy the host was.
"""

import argparse
import os
import platform
import signal
import sys
import time

import copies
import figures
import inside
import network
from figures import say
from host import Failed, Host, call
from report import Report


def main():
  parser = argparse.ArgumentParser(description="henge's speed against a bare launcher and its peers")
  parser.add_argument("--tools", required=True, help="folder of the built C programs")
  parser.add_argument("--root", required=True, help="trixie root file system: a tar or a tree")
  parser.add_argument("--henge", help="folder of hengectl and henge-import; without it only the peers are measured")
  parser.add_argument("--services", help="tar of the image bench-services, for the network's servers and bypass4netns")
  parser.add_argument("--rounds", type=int, default=10, help="boots of each launcher (at least 10 for the goals)")
  parser.add_argument("--only", default="boots,exec,commands,inside,chown,images,copies,network,servers",
                      help="figures to take; there are also streams and packets")
  parser.add_argument("--json", default="build/bench.json")
  given = parser.parse_args()
  if os.geteuid() != 0:
    sys.exit("bench: it makes namespaces and cgroups for others: run it as root")
  for end in (signal.SIGTERM, signal.SIGHUP):
    signal.signal(end, lambda *_: sys.exit("bench: terminated"))

  began = time.monotonic()
  report = Report()
  report.header.update(kernel=platform.release(), cpus=os.cpu_count(), load=f"{os.getloadavg()[0]:.2f} at the start",
                       rounds=given.rounds)
  host = Host(os.path.abspath(given.tools))
  left = []
  try:
    tar = os.path.abspath(given.root)
    if os.path.isdir(tar):
      tar = host.path("root.tar")
      tree = os.path.abspath(given.root)
      call("tar", "-C", tree, "--numeric-owner", "--xattrs", "--xattrs-include=*", "-cpf", tar, ".")
    hengectl = importer = None
    if given.henge:
      hengectl, importer = (os.path.join(os.path.abspath(given.henge), name) for name in ("hengectl", "henge-import"))
      for program in (hengectl, importer):
        if not os.access(program, os.X_OK):
          sys.exit(f"bench: {program} is missing: build henge first")
    take(given, host, report, tar, hengectl, importer)
  finally:
    left = host.clean()
  report.header["took"] = f"{time.monotonic() - began:.0f} s, load {os.getloadavg()[0]:.2f} at the end"
  report.notes += [f"LEFT BEHIND: {what}" for what in left]
  print("\n" + report.text())
  report.write(given.json)
  missed = [row["figure"] for row in report.rows if row["met"] is False]
  say(f"{given.json} written; " + (f"goals not met: {', '.join(missed)}" if missed else "no goal missed"))
  return 1 if left else 0


def take(given, host, report, tar, hengectl, importer):
  steps = [
    ("boots", False, lambda: figures.boots(host, report, tar, given.rounds, hengectl)),
    ("exec", False, lambda: figures.exec_delay(host, report, max(given.rounds, 10), hengectl)),
    ("commands", True, lambda: figures.commands(host, report, 50, hengectl)),
    ("inside", True, lambda: inside.commands_inside(host, report, max(given.rounds, 20), tar, hengectl)),
    ("chown", True, lambda: figures.ownership(host, report, 5, importer)),
    ("images", True, lambda: figures.images(host, report, 10, tar, hengectl)),
    ("network", False, lambda: network.network(host, report, max(3, min(given.rounds, 5)), tar, hengectl,
                                               given.services)),
    ("streams", True, lambda: network.streams(host, report, given.rounds, tar, hengectl)),
    ("packets", True, lambda: network.packets(host, report, given.rounds, tar, hengectl)),
    ("servers", True, lambda: network.servers(host, report, max(3, min(given.rounds, 5)), hengectl, given.services)),
    ("copies", True, lambda: copies.copies(host, report, 4, tar, hengectl)),
  ]
  for name, needs_henge, step in steps:
    if name not in given.only.split(",") or (needs_henge and not hengectl):
      continue
    say(f"taking {name}")
    try:
      step()
    except (Failed, OSError) as error:
      say(f"{name}: {error}")
      report.failed(name, error)


if __name__ == "__main__":
  sys.exit(main())
