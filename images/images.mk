# The guest images; images/README.md tells what they are. Meant to be included by the Makefile one folder up.

# What making the images needs of Debian's packages.
HENGE_IMAGE_PACKAGES := mmdebstrap debian-archive-keyring gpg ca-certificates uidmap
# What checking the builder needs.
HENGE_IMAGE_CHECK_PACKAGES := shellcheck

HENGE_IMAGES := $(basename $(notdir $(wildcard images/*.image)))

.PHONY: images install-image-tools check-images

# All of them; cached ones cost nothing. Two at a time with make -j2.
images: $(addprefix image-,$(HENGE_IMAGES))

# Pattern rules cannot be phony; a prerequisite that never exists makes them run each time.
image-%: images-always
	@images/build $(IMAGE_FLAGS) $*

.PHONY: images-always
images-always:

# Lists of packages may be missing or old: they are fetched only when installing without them fails.
install-image-tools:
	@dpkg-query --show --showformat='$${db:Status-Status}\n' $(HENGE_IMAGE_PACKAGES) 2>&1 | grep -qv '^installed$$' || \
	  exit 0; \
	echo "images: installing $(HENGE_IMAGE_PACKAGES)"; \
	install="apt-get install --yes --no-install-recommends $(HENGE_IMAGE_PACKAGES)"; \
	export DEBIAN_FRONTEND=noninteractive; \
	$$install </dev/null || { apt-get update </dev/null && $$install </dev/null; }

check-images:
	@images/check
