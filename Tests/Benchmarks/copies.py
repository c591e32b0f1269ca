"""Copying a tree of small files into a running machine, against tar through `podman exec` into the same system."""

import os
import random
import shlex

import launchers
from figures import paired, race, spread
from host import Failed


class CopyHenge(launchers.Henge):
  name = "copy-henge"


class CopyPodman(launchers.Podman):
  name = "copy-podman"


def tree(host, files=10_000):
  """Small files of 64 to 8192 bytes, a hundred in each folder."""
  top, chance = host.path("copies"), random.Random(0)
  for folder in range(files // 100):
    path = os.path.join(top, f"{folder % 10}", f"{folder}")
    os.makedirs(path)
    for n in range(100):
      with open(os.path.join(path, f"file-{n}"), "wb") as f:
        f.write(chance.randbytes(chance.randint(64, 8192)))
  return top


def copies(host, report, rounds, tar, hengectl):
  """The tree into a machine and out of it again, each in turn with the peer."""
  source = tree(host)
  henge, podman = CopyHenge(host, hengectl), CopyPodman(host)
  ready = []
  try:
    for runner in (henge, podman):
      runner.prepare(tar)
      ready.append(runner)
      runner.start()
    inside = f"nsenter --mount=/proc/{podman.view}/ns/mnt -- podman exec -i {host.name}"
    q = shlex.quote
    into, tar_into = race(
      host, rounds, [hengectl, "copy-to", "bench", source, "/root/copy-{}"],
      ["sh", "-c", f"""tar -C {q(source)} -cf - . | {inside} sh -c 'mkdir "$0" && tar -C "$0" -xf -' "$0" """,
       "/root/copy-{}"],
      env={**podman.env, **henge.env})
    back, tar_back = race(
      host, rounds, [hengectl, "copy-from", "bench", "/root/copy-1", host.path("back-{}")],
      ["sh", "-c", f"""mkdir "$0" && {inside} tar -C /root/copy-1 -cf - . | tar -C "$0" -xf -""", host.path("tar-{}")],
      env={**podman.env, **henge.env})
    for name, ours, theirs, goal in (("to", into, tar_into, 1.0), ("from", back, tar_back, None)):
      ratio, within = paired(ours, theirs)
      report.add(f"copy-{name}, 10,000 files / tar through podman exec", ratio, "", goal,
                 f"{spread([t / 1000 for t in ours])}; tar {spread([t / 1000 for t in theirs])}", within=within)
  finally:
    for runner in ready:
      for give_back in (runner.stop, runner.finish):
        try:
          give_back()
        except Failed as error:
          report.notes.append(f"{runner.name}: {error}")
