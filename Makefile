# Everything that is done with this checkout. Two targets suffice: `make demo` and `make test`.

SHELL := /bin/bash
PREFIX ?= /usr/local
DESTDIR ?=
BUILD := $(CURDIR)/.build/release
# The C++ library that Swift's own is written with is linked in: loading it, with its thousands of relocations, was a
# fifth of the time that a command takes to start. The linker takes it from a folder that has no other form of it.
STATIC_CXX := $(CURDIR)/.build/static-cxx
SWIFT_FLAGS := -c release --static-swift-stdlib -Xswiftc -L$(STATIC_CXX)
PROGRAMS := hengectl henge-supervisor henge-stage henge-import

# Debian's packages that building takes, besides a Swift toolchain.
BUILD_PACKAGES := libsystemd-dev libcap-dev libmount-dev libarchive-dev pkg-config
# Those that machines take to be on the net: one of the first two would do, nftables is for Mode=veth.
RUN_PACKAGES := passt slirp4netns nftables
# And those that the tests take: tools that make the trees to import, and real peers to talk with.
TEST_PACKAGES := acl attr crun curl dbus-daemon gcc iproute2 iputils-ping libc6-dev libcap2-bin podman python3 uidmap xz-utils zstd

include images/images.mk
include Tests/Benchmarks/bench.mk
include Tests/VirtualHost/virtual-host.mk

.PHONY: all build test test-network test-handoff unit-tests integration-tests demo man completions install lint format install-build-tools \
  install-run-tools install-test-tools clean

all: build

build: install-build-tools
	@echo "build: the four programs, in $(BUILD)"
	@mkdir -p $(STATIC_CXX)
	@ln -sf "$$($(CC) -print-file-name=libstdc++.a)" $(STATIC_CXX)/libstdc++.a
	@ln -sf "$$($(CC) -print-file-name=libgcc_eh.a)" $(STATIC_CXX)/libgcc_s.a
	@swift build $(SWIFT_FLAGS)

# Installs only what is missing, so that a second run asks no mirror for anything.
define install-packages
	@missing=$$(for package in $(1); do \
	    [ "$$(dpkg-query -Wf '$${db:Status-Status}' $$package 2>/dev/null)" = installed ] || echo $$package; done); \
	  [ -z "$$missing" ] || { \
	    echo "install: " $$missing; \
	    export DEBIAN_FRONTEND=noninteractive; \
	    apt-get install --yes --no-install-recommends $$missing </dev/null >/dev/null 2>&1 || \
	    { apt-get update </dev/null && apt-get install --yes --no-install-recommends $$missing </dev/null; }; }
endef

install-build-tools:
	$(call install-packages,$(BUILD_PACKAGES))

install-test-tools: install-build-tools install-image-tools
	$(call install-packages,$(TEST_PACKAGES) $(RUN_PACKAGES))

# Not into a package that is being made: that one names what it needs.
install-run-tools:
	$(if $(DESTDIR),,$(call install-packages,$(RUN_PACKAGES)))

# What CI runs: style, the builder of the images, the images, the programs, and every test.
# VM=no leaves out those on the emulated host, which are some ten minutes of it.
test: install-test-tools lint check-images images build $(if $(filter no,$(VM)),,vm-staging)
	@echo "test: every target's own tests, the programs against real guests, then on a host with systemd"
	@HENGE_PROGRAMS=$(BUILD) HENGE_VM_STAGING=$(if $(filter no,$(VM)),,$(VM_STAGING)) Tests/run

# Traffic in earnest: a gibibyte each way, thousands of connections, some that rest for minutes, in each guest behind each
# forwarder. Some ten minutes; `make test` has less of it.
test-network: install-test-tools images build
	@swift build --build-tests
	@HENGE_PROGRAMS=$(BUILD) HENGE_TEST_NETWORK=1 swift test --skip-build --no-parallel --filter NetworkLoadTests

# The attacks on hand-off in earnest: each way to have a socket of the host's go where nothing was decided on, so many
# times, to four addresses of the host's in turn, with the guard and without.
HANDOFF_TRIES ?= 100000
test-handoff: install-test-tools images build
	@swift build --build-tests
	@HENGE_PROGRAMS=$(BUILD) HENGE_HANDOFF_TRIES=$(HANDOFF_TRIES) swift test --skip-build --no-parallel \
	  --filter "HandOffTests|HandedInTests.noSocket"

lint:
	@echo "lint: swift-format, strict"
	@swift format lint --strict --recursive Package.swift Sources Tests docs

format:
	@swift format --in-place --recursive Package.swift Sources Tests docs

demo: install-image-tools install-run-tools build image-trixie
	@PATH="$(BUILD):$$PATH" docs/demo.sh "$$(images/build --path trixie)"

# Generated from the built program, so that neither can say anything else than it.
man: build
	@mkdir -p build/man
	@$(BUILD)/hengectl --experimental-dump-help | swift docs/manual.swift docs/man/hengectl.1.end >build/man/hengectl.1

completions: build
	@mkdir -p build/completions
	@for shell in bash zsh fish; do \
	  $(BUILD)/hengectl --generate-completion-script $$shell >build/completions/hengectl.$$shell || exit 1; done

SHARE = $(DESTDIR)$(PREFIX)/share
# Where systemd looks for the units of packages (/usr) and of the administrator's own (/usr/local).
SYSTEMD = $(DESTDIR)$(PREFIX)/lib/systemd

install: build man completions install-run-tools
	@echo "install: programs, manual and completions below $(DESTDIR)$(PREFIX)"
	@install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/libexec/henge $(SHARE)/man/man1 $(SHARE)/man/man5 \
	  $(SHARE)/man/man8 $(SHARE)/bash-completion/completions $(SHARE)/zsh/site-functions $(SHARE)/fish/vendor_completions.d
	@install -m 0755 $(BUILD)/hengectl $(DESTDIR)$(PREFIX)/bin/
	@install -m 0755 $(BUILD)/henge-supervisor $(BUILD)/henge-stage $(BUILD)/henge-import $(DESTDIR)$(PREFIX)/libexec/henge/
	@install -m 0644 build/man/hengectl.1 $(SHARE)/man/man1/
	@install -m 0644 docs/man/*.5 $(SHARE)/man/man5/
	@install -m 0644 docs/man/*.8 $(SHARE)/man/man8/
	@install -m 0644 build/completions/hengectl.bash $(SHARE)/bash-completion/completions/hengectl
	@install -m 0644 build/completions/hengectl.zsh $(SHARE)/zsh/site-functions/_hengectl
	@install -m 0644 build/completions/hengectl.fish $(SHARE)/fish/vendor_completions.d/

	@for unit in units/*.service.in; do sed 's,@libexec@,$(PREFIX)/libexec,' $$unit >build/$$(basename $$unit .in) || exit 1; done
	@install -d $(SYSTEMD)/system $(SYSTEMD)/system-preset $(SYSTEMD)/user
	@install -m 0644 build/henge@.service units/henge.slice units/henge.target $(SYSTEMD)/system/
	@install -m 0644 units/*.preset $(SYSTEMD)/system-preset/
	@install -m 0644 units/henge.slice $(SYSTEMD)/user/
	@sed '/^RequiresMountsFor=/d' build/henge@.service >$(SYSTEMD)/user/henge@.service
	@sed 's/multi-user\.target/default.target/' units/henge.target >$(SYSTEMD)/user/henge.target

clean:
	@rm -rf .build build
