# The tests on a host with systemd, in an emulator. Meant to be included by the Makefile two folders up.

VM_PACKAGES := e2fsprogs
VM_STAGING := $(CURDIR)/build/virtual-host-staging

.PHONY: test-vm vm-staging install-vm-tools

install-vm-tools: install-image-tools
	$(call install-packages,$(VM_PACKAGES))

# Only some of the tests: make test-vm VM_TESTS="10-root-boots".
test-vm: vm-staging
	@Tests/VirtualHost/run $(VM_STAGING) $(VM_TESTS)

# What the host in the emulator has of ours.
vm-staging: install-vm-tools
	@rm -rf $(VM_STAGING)
	@$(MAKE) --no-print-directory install DESTDIR=$(VM_STAGING) PREFIX=/usr
