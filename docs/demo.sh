#!/bin/bash
# A whole Debian, from an archive to `running` and back to nothing: `make demo`, or docs/demo.sh IMAGE-TAR with hengectl
# in PATH. It uses folders of its own, so it meets no other machine of this host; whatever happens, they go when it ends.
set -euo pipefail

readonly image=trixie machine=demo

if [[ $# -ne 1 || $1 == -* ]]; then
  echo "usage: $0 IMAGE-TAR" >&2
  exit 2
fi
if [[ ! -r $1 ]]; then
  echo "demo: cannot read '$1'; 'make image-$image' makes it" >&2
  exit 1
fi
if ! command -v hengectl >/dev/null; then
  echo "demo: hengectl is not in PATH; 'make demo' builds it" >&2
  exit 1
fi
archive=$(realpath -- "$1")
readonly archive

# On disk and not in memory: /tmp may be a tmpfs.
folder=$(mktemp --directory /var/tmp/henge-demo.XXXXXX)
readonly folder
export HENGE_CONFIG_DIR=$folder/etc HENGE_STATE_DIR=$folder/state HENGE_RUNTIME_DIR=$folder/run

# Says a command as it could be typed, and runs it.
step() {
  echo
  echo "\$ ${*@Q}" | sed "s/'\([A-Za-z0-9_.,:=/+-]*\)'/\1/g"
  "$@"
}

state() {
  hengectl show "$machine" 2>/dev/null | sed -n 's/^state=//p'
}

# Runs once, however the demo ends. A supervisor that is just beginning or ending answers at a second or third asking.
clean_up() {
  local code=$? tries
  trap - EXIT
  trap '' INT TERM HUP
  for tries in 1 2 3 4 5; do
    [[ -n $(state) ]] || break
    [[ $(state) == stopped ]] || hengectl terminate --timeout 10 "$machine" >/dev/null 2>&1 || true
    ! hengectl remove "$machine" 2>/dev/null || break
    sleep "$tries"
  done
  if [[ -n $(state) ]]; then
    echo "demo: the machine is still there, in $folder" >&2
    exit 1
  fi
  rm --recursive --force --one-file-system -- "$folder"
  exit "$code"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 129' HUP

echo "demo: machines and images of this demo are in $folder, and are removed when it ends"
step hengectl version
hengectl image-status "$image" >/dev/null 2>&1 || step hengectl import-tar "$archive" "$image"
step hengectl list-images
step hengectl create "$image" "$machine"
step hengectl start "$machine"
step hengectl list
step hengectl status "$machine"
step hengectl units "$machine" --failed
step hengectl units "$machine" --state active

reached=$(state)
if [[ $reached != running ]]; then
  echo "demo: the machine is ${reached:-gone}, not running" >&2
  exit 1
fi

step hengectl exec "$machine" -- sh -c 'id; cat /proc/self/uid_map'
echo "from the host" >"$folder/note"
mkdir "$folder/shared"
step hengectl copy-to "$machine" "$folder/note" /srv/note
step hengectl bind --mkdir "$machine" "$folder/shared" /srv/shared
step hengectl exec "$machine" -- sh -c 'cat /srv/note; echo "from the machine" >/srv/shared/answer'
step cat "$folder/shared/answer"
step hengectl unbind "$machine" /srv/shared
step hengectl journal "$machine" --no-pager --lines 5
step hengectl top
step hengectl reboot "$machine"
step hengectl poweroff "$machine"
step hengectl events "$machine"
step hengectl list
step hengectl remove "$machine"
step hengectl remove-image "$image"

echo
echo "demo: a whole Debian was running, and nothing of it is left"
