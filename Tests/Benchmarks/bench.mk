# `make bench`: henge's speed against a bare launcher and its peers, side by side in one run. Needs root, takes some
# twenty minutes. BENCH_HENGE= measures only the peers, BENCH_HENGE=DIR the programs in another folder.
# A bench is no test: it prints ratios and goals, and fails only when it leaves something behind.

BENCH_SOURCES := Tests/Benchmarks
BENCH_BUILD ?= build/bench
BENCH_HENGE ?= $(BUILD)
BENCH_ROOT ?= $(BENCH_BUILD)/trixie.tar
BENCH_ROUNDS ?= 40
BENCH_PACKAGES := systemd-container lxc podman crun uidmap python3 gcc libc6-dev iproute2 passt slirp4netns \
  nftables
# Servers and clients of the network part, and the one peer that not every Debian has: an image of the bench's own.
BENCH_SERVICES ?= $(BENCH_BUILD)/services.tar
# Only some figures: make bench BENCH_ONLY=network,servers BENCH_ROUNDS=3 takes six minutes.
BENCH_ONLY ?=
BENCH_NETWORK := $(if $(BENCH_ONLY),$(or $(findstring network,$(BENCH_ONLY)),$(findstring servers,$(BENCH_ONLY))),network)
BENCH_CFLAGS := -O2 -Wall -Wextra -Werror

.PHONY: bench bench-tools bench-programs

bench: bench-tools bench-programs $(BENCH_ROOT) $(if $(BENCH_NETWORK),$(BENCH_SERVICES)) \
  $(if $(filter $(BUILD),$(BENCH_HENGE)),build)
	python3 -B $(BENCH_SOURCES)/bench.py --tools $(BENCH_BUILD) --root $(BENCH_ROOT) --rounds $(BENCH_ROUNDS) \
	  $(if $(BENCH_HENGE),--henge $(BENCH_HENGE)) $(if $(BENCH_NETWORK),--services $(BENCH_SERVICES)) \
	  $(if $(BENCH_ONLY),--only $(BENCH_ONLY)) --json build/bench.json

# The peers come from the host's own distribution; only what is missing is installed.
bench-tools:
	@missing=$$(for p in $(BENCH_PACKAGES); do dpkg-query -Wf '$${db:Status-Abbrev}' $$p 2>/dev/null | grep -q ^ii || \
	  echo $$p; done); \
	if [ -n "$$missing" ]; then \
	  echo "bench: installing" $$missing; \
	  apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends $$missing; \
	fi

bench-programs: $(addprefix $(BENCH_BUILD)/,bare race stopwatch talk tick-init)

$(BENCH_BUILD)/%: $(BENCH_SOURCES)/%.c
	@mkdir -p $(BENCH_BUILD)
	$(CC) $(BENCH_CFLAGS) -o $@ $<

# Static: they run in trees that have no library, or another one.
$(BENCH_BUILD)/tick-init $(BENCH_BUILD)/talk: BENCH_CFLAGS += -static

# The image that everything else boots as well.
$(BENCH_BUILD)/trixie.tar: image-trixie
	@ln -sf "$$(images/build --path trixie)" $@

# The builder knows whether there is anything to do.
.PHONY: $(BENCH_BUILD)/services.tar
$(BENCH_BUILD)/services.tar: install-image-tools
	@mkdir -p $(BENCH_BUILD)
	@ln -sf "$$(images/build $(IMAGE_FLAGS) --from $(BENCH_SOURCES)/images bench-services)" $@
