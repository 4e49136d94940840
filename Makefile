# The front door: thin. Meson and Ninja build, tools/ holds what is longer than a line, build/ holds everything made.
MAKEFLAGS += --no-builtin-rules --no-print-directory
PREFIX ?= /usr/local
T ?=
export T

.DEFAULT_GOAL := all
.PHONY: help all guest deps run stop check check-kvm check-full check-reference bench bench-client bench-vm bench-layer bench-image bench-build bench-pull bench-registry install clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

all: ## build the programs into build/bin (the default)
	@tools/build

guest: ## make what microVMs boot: Debian's cloud kernel and an initramfs, in build/guest (root)
	@tools/guest

deps: ## install the packages that building, running and testing need (root)
	@tools/deps build run check

# What follows is Python, which a bare machine lacks: it can't install itself.
guest check check-kvm check-full check-reference bench bench-client bench-vm bench-image bench-build bench-pull bench-registry: /usr/bin/python3
/usr/bin/python3:
	@tools/deps build run check

run: ## from a bare checkout to a running engine with a Debian image (root)
	@tools/run

stop: ## end what `make run` started; images stay in build/run/data (root)
	@tools/stop

check: ## all tests, with one closing line; T=word picks unit and end-to-end tests by name (root)
	@tools/check

check-kvm: ## microVMs on a real KVM, made by emulation: Debian's kernel under berth-vmm; needs no /dev/kvm (root)
	@tools/check-kvm

check-full: ## check, then both clients, a real dockerd beside ours, runc's and crun's own tests, kill loops; writes docs/test-report.md (root)
	@tools/check-full

check-reference: ## the end-to-end tests against two dockerds: do they tell the truth? Part of check-full (root)
	@tools/check-full 'end-to-end against dockerd 20.10' 'end-to-end against dockerd 28.5'

bench: ## the engine beside real dockerds, berth-oci beside runc and crun, the shim beside the bare system calls (root)
	@bench/engine
	@bench/oci
	@bench/shim

bench-client: ## `berth` beside the docker CLI on one berthd (root)
	@bench/client

bench-vm: ## berth-vmm beside QEMU's microvm on an emulated KVM; the VM wall beside QEMU by hand, emulated (root)
	@bench/vm
	@bench/vm-emulated

bench-layer: ## a layer as an EROFS image, as folders, and by MKFS_EROFS=PROGRAM (1.7 or later) if given (root)
	@bench/layer

bench-image: ## docker load here with both storage drivers, and on Debian 12's and sid's dockerd (root)
	@bench/image

bench-build: ## builds by either door, beside Debian 12's dockerd and sid's with buildx (root)
	@bench/build

bench-pull: ## docker pull and push here and on Debian 12's and sid's dockerd, from a registry on loopback (root)
	@bench/pull

bench-registry: ## berth-registry beside Debian's docker-registry: blobs and manifests fetched, a blob pushed
	@bench/registry

install: all ## install the programs below $(DESTDIR)$(PREFIX), and the microVMs' kernel if `make guest` made it
	@tools/install "$(DESTDIR)$(PREFIX)"

clean: ## remove everything that was built, cached or stored (stops a running engine first)
	@tools/clean
