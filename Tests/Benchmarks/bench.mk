# `make bench`: henge's speed against a bare launcher and its peers, side by side in one run. Needs root.
# A bench is no test: it prints ratios and goals, and fails only when it leaves something behind.

BENCH_SOURCES := Tests/Benchmarks
BENCH_BUILD ?= build/bench
BENCH_HENGE ?=
BENCH_ROOT ?= $(BENCH_BUILD)/trixie.tar
BENCH_ROUNDS ?= 40
BENCH_PACKAGES := systemd-container lxc podman crun uidmap mmdebstrap python3 gcc libc6-dev
BENCH_CFLAGS := -O2 -Wall -Wextra -Werror

.PHONY: bench bench-tools bench-programs

bench: bench-tools bench-programs $(BENCH_ROOT)
	python3 -B $(BENCH_SOURCES)/bench.py --tools $(BENCH_BUILD) --root $(BENCH_ROOT) --rounds $(BENCH_ROUNDS) \
	  $(if $(BENCH_HENGE),--henge $(BENCH_HENGE)) --json build/bench.json

# The peers come from the host's own distribution; only what is missing is installed.
bench-tools:
	@missing=$$(for p in $(BENCH_PACKAGES); do dpkg-query -Wf '$${db:Status-Abbrev}' $$p 2>/dev/null | grep -q ^ii || \
	  echo $$p; done); \
	if [ -n "$$missing" ]; then \
	  echo "bench: installing" $$missing; \
	  apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends $$missing; \
	fi

bench-programs: $(addprefix $(BENCH_BUILD)/,bare race stopwatch tick-init)

$(BENCH_BUILD)/%: $(BENCH_SOURCES)/%.c
	@mkdir -p $(BENCH_BUILD)
	$(CC) $(BENCH_CFLAGS) -o $@ $<

# Static: it runs in a tree that has no library.
$(BENCH_BUILD)/tick-init: BENCH_CFLAGS += -static

# Only where no image of the project's own is given: the same packages as its trixie guest.
$(BENCH_BUILD)/trixie.tar: | bench-tools
	@mkdir -p $(BENCH_BUILD)
	mmdebstrap --variant=apt --include=systemd,systemd-sysv,dbus,libpam-systemd,iproute2 trixie $@.partial.tar
	mv $@.partial.tar $@
