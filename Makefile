# SPDX-License-Identifier: Apache-2.0
#
#   make            build everything under $(BUILD)
#   make demo       install what is missing, build, start the demo (ONESHOT=1: one request, then stop)
#   make check      install what is missing, build, run every test this machine can run
#   make install    DESTDIR, PREFIX, SYSCONFDIR, APACHE_MODULES_DIR
#
# Variables: CC, BUILD (default build), SANITIZE=1 (address and undefined behaviour; leaves the seccomp filter out), WERROR=1 (CI).

BUILD     ?= build
PREFIX    ?= /usr/local
SYSCONFDIR ?= /etc
LIBEXECDIR ?= $(PREFIX)/libexec/handoffd
MANDIR    ?= $(PREFIX)/share/man
UNITDIR   ?= /lib/systemd/system
GENERATORDIR ?= /lib/systemd/system-generators
CI        ?=
WERROR    ?= $(if $(CI),1,)
SANITIZE  ?=
VERSION   := 0.1.0

# ---------------------------------------------------------------- packages
PACKAGES_BUILD := gcc make pkg-config apache2-dev libsodium-dev libseccomp-dev libcap-ng-dev libcurl4-openssl-dev \
	libconfuse-dev libjansson-dev libev-dev libssl-dev libnghttp2-dev libc-ares-dev
PACKAGES_DEMO  := apache2-bin php-cli php-fpm curl openssl ca-certificates procps
PACKAGES_CHECK := libapache2-mod-php libcmocka-dev python3 python3-pytest python3-h2 nginx spin clang clang-tidy clang-format \
	libclang-rt-14-dev cppcheck shellcheck mandoc systemd binutils util-linux strace valgrind figlet \
	phpunit php-codesniffer php-xml php-mbstring php-guzzlehttp-psr7 php-symfony-http-foundation composer \
	chromium chromium-driver python3-selenium
PACKAGES_DEB   := build-essential debhelper dh-apparmor dpkg-dev selinux-policy-dev lintian
PACKAGES_VM    := apparmor setools qemu-system-x86 mmdebstrap busybox-static cpio zstd xz-utils policycoreutils e2fsprogs systemd-container
# A machine may have npm from elsewhere than Debian; then it is left alone.
PACKAGES_NPM   := $(if $(shell command -v npm),,nodejs npm)

# What is installed for tests starts no service: see policy-rc.d(8).
NO_SERVICES    := /usr/sbin/policy-rc.d
define install_missing
missing=; for p in $(1); do dpkg-query -W -f='$${Status}\n' $$p 2>/dev/null | grep -q '^install ok installed' || missing="$$missing $$p"; done; \
if [ -n "$$missing" ]; then echo "installing:$$missing"; \
if [ ! -e $(NO_SERVICES) ]; then printf '\043!/bin/sh\nexit 101\n' >$(NO_SERVICES) && chmod 755 $(NO_SERVICES) && trap 'rm -f $(NO_SERVICES)' EXIT; fi; \
apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $$missing >/dev/null || exit 1; fi
endef

# ---------------------------------------------------------------- flags
ifeq ($(origin CC),default)
CC        := gcc
endif
# V=1 shows the commands whole.
Q         := $(if $(V),,@)
say        = $(if $(V),,@printf '  %-6s %s\n' '$(1)' '$(patsubst $(BUILD)/%,%,$@)')
OBJCOPY   ?= objcopy
ARCH      := $(shell uname -m)
pkg        = $(shell pkg-config $(1) $(2) 2>/dev/null)

WARNINGS  := -Wall -Wextra -Wconversion -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wformat=2 -Wvla \
	-Wundef -Wimplicit-fallthrough $(if $(WERROR),-Werror)
# clang 14 takes it only with a second option that it calls perilous.
ZERO_INIT := $(shell echo | $(CC) -ftrivial-auto-var-init=zero -c -x c -o /dev/null - 2>/dev/null && echo -ftrivial-auto-var-init=zero)
HARDENING := -fstack-protector-strong -fstack-clash-protection $(ZERO_INIT) -fPIC \
	$(if $(filter x86_64,$(ARCH)),-fcf-protection=full) $(if $(filter aarch64,$(ARCH)),-mbranch-protection=standard)
ifdef SANITIZE
OPTIMISE  := -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=undefined -DHANDOFF_SANITIZE
LDOPTS    := -fsanitize=address,undefined
else
OPTIMISE  := -O2 -g -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3
LDOPTS    :=
endif
LDHARDEN  := -Wl,-z,relro,-z,now,-z,noexecstack,-z,separate-code -Wl,--as-needed
CFLAGS_ALL = -std=gnu17 -D_GNU_SOURCE -I. $(OPTIMISE) $(WARNINGS) $(HARDENING) $(CFLAGS) \
	-DHANDOFFD_VERSION='"$(VERSION)"' -DHANDOFFD_LIBEXECDIR='"$(LIBEXECDIR)"' -DHANDOFFD_CONFIG='"$(SYSCONFDIR)/handoffd/handoffd.conf"' \
	-DHANDOFFD_POLICY_DIR='"$(SYSCONFDIR)/handoffd/policy.d"' -DHANDOFFD_UNITDIR='"$(UNITDIR)"'
LDFLAGS_ALL = $(LDOPTS) $(LDHARDEN) $(LDFLAGS)
EXE_FLAGS  := -pie

LIBS_LIB      := -lsodium
LIBS_COMMON   := -lconfuse -lev -lseccomp -lcap-ng
LIBS_STREAMER := -lcurl -lnghttp2 -lssl -lcrypto -ljansson
LIBS_DIALER   := -lcares
APACHE_CFLAGS  = $(patsubst -I%,-isystem %,$(shell apr-1-config --includes --cppflags 2>/dev/null) -I$(shell apxs -q INCLUDEDIR 2>/dev/null))

# ---------------------------------------------------------------- what is built
ROLES     := gate streamer dialer launcher
LIB_SRC   := $(wildcard lib/*.c)
COMMON_SRC := $(wildcard daemon/common/*.c) $(wildcard policy/*.c)
MODULE_SRC := $(wildcard module/*.c)
CTL_SRC   := $(wildcard daemon/ctl/*.c)
UNIT_SRC  := $(wildcard tests/unit/test_*.c)

obj        = $(patsubst %.c,$(BUILD)/obj/%.o,$(1))
ROLE_BINS := $(ROLES:%=$(BUILD)/bin/handoffd-%)
BINS      := $(ROLE_BINS) $(BUILD)/bin/handoffd $(BUILD)/bin/handoffctl $(BUILD)/bin/handoffd-generator $(BUILD)/bin/handoff-policy
MODULE    := $(BUILD)/mod_socket_handoff.so
UNIT_BINS := $(UNIT_SRC:tests/unit/%.c=$(BUILD)/unit/%)
ARCHIVES   = $(ROLES:%=$(BUILD)/lib%.a) $(BUILD)/libctl.a $(BUILD)/libcommon.a $(BUILD)/liblib.a

.PHONY: all
all: $(BINS) $(MODULE)

$(BUILD)/obj/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(call say,CC)
	$(Q)$(CC) $(CFLAGS_ALL) -MMD -MP -c -o $@ $<
$(BUILD)/obj/module/%.o: module/%.c Makefile
	@mkdir -p $(@D)
	$(call say,CC)
	$(Q)$(CC) $(CFLAGS_ALL) $(APACHE_CFLAGS) -MMD -MP -c -o $@ $<
# The shipped policies are part of the binaries.
$(BUILD)/obj/policy/builtin.o: $(wildcard policy/*.policy)

define archive
$(Q)rm -f $@ && $(AR) rcs $@ $^
endef
$(BUILD)/liblib.a: $(call obj,$(LIB_SRC));       $(archive)
$(BUILD)/libcommon.a: $(call obj,$(COMMON_SRC)); $(archive)
$(BUILD)/libctl.a: $(call obj,$(filter-out %/main.c,$(CTL_SRC))); $(archive)
define role_archive
$(BUILD)/lib$(1).a: $$(call obj,$$(filter-out %/main.c,$$(wildcard daemon/$(1)/*.c))); $$(archive)
endef
$(foreach r,$(ROLES),$(eval $(call role_archive,$(r))))

define link
@mkdir -p $(@D)
$(call say,LINK)
$(Q)$(CC) $(EXE_FLAGS) $(LDFLAGS_ALL) -o $@ $(filter %.o,$^) $(filter %.a,$^) $(1)
endef
$(BUILD)/bin/handoffd-gate: $(BUILD)/obj/daemon/gate/main.o $(BUILD)/libgate.a $(BUILD)/libcommon.a $(BUILD)/liblib.a
	$(call link,$(LIBS_COMMON) $(LIBS_LIB))
$(BUILD)/bin/handoffd-streamer: $(BUILD)/obj/daemon/streamer/main.o $(BUILD)/libstreamer.a $(BUILD)/libcommon.a $(BUILD)/liblib.a
	$(call link,$(LIBS_STREAMER) $(LIBS_COMMON) $(LIBS_LIB))
$(BUILD)/bin/handoffd-dialer: $(BUILD)/obj/daemon/dialer/main.o $(BUILD)/libdialer.a $(BUILD)/libcommon.a $(BUILD)/liblib.a
	$(call link,$(LIBS_DIALER) $(LIBS_COMMON) $(LIBS_LIB))
$(BUILD)/bin/handoffd-launcher: $(BUILD)/obj/daemon/launcher/main.o $(BUILD)/liblauncher.a $(BUILD)/libcommon.a $(BUILD)/liblib.a
	$(call link,$(LIBS_COMMON) $(LIBS_LIB))
$(BUILD)/bin/handoffd: $(call obj,$(wildcard daemon/supervisor/*.c)) $(BUILD)/libcommon.a $(BUILD)/liblib.a
	$(call link,$(LIBS_COMMON) $(LIBS_LIB))
$(BUILD)/bin/handoffctl: $(BUILD)/obj/daemon/ctl/main.o $(BUILD)/libctl.a $(BUILD)/libcommon.a $(BUILD)/liblib.a
	$(call link,$(LIBS_COMMON) $(LIBS_LIB))
$(BUILD)/bin/handoffd-generator: $(BUILD)/obj/systemd/generator.o $(BUILD)/libcommon.a $(BUILD)/liblib.a
	$(call link,$(LIBS_COMMON) $(LIBS_LIB))
$(BUILD)/bin/handoff-policy: $(call obj,$(wildcard policy/tool/*.c)) $(BUILD)/libcommon.a $(BUILD)/liblib.a
	$(call link,-ljansson $(LIBS_COMMON) $(LIBS_LIB))
$(MODULE): $(call obj,$(MODULE_SRC)) $(BUILD)/liblib.a module/exports.map
	@mkdir -p $(@D)
	$(call say,LINK)
	$(Q)$(CC) -shared $(LDFLAGS_ALL) -Wl,--version-script=module/exports.map -o $@ $(filter %.o,$^) $(filter %.a,$^) $(LIBS_LIB)

$(BUILD)/unit/%: $(BUILD)/obj/tests/unit/%.o $(ARCHIVES)
	$(call link,-lcmocka $(LIBS_STREAMER) $(LIBS_DIALER) $(LIBS_COMMON) $(LIBS_LIB))

# What the cage of a handler costs.
$(BUILD)/tests/bench_cage: $(BUILD)/obj/tests/bench/bench_cage.o $(BUILD)/liblauncher.a $(BUILD)/libcommon.a $(BUILD)/liblib.a
	$(call link,$(LIBS_COMMON) $(LIBS_LIB))

# The cage of a role around calls by number, for the guest.
$(BUILD)/tests/caged: $(BUILD)/obj/tests/vm/caged.o $(BUILD)/libcommon.a $(BUILD)/liblib.a
	$(call link,$(LIBS_COMMON) $(LIBS_LIB))

# A role with a planted fault, for the tests of the audit.
$(BUILD)/tests/weakened: $(BUILD)/obj/tests/integration/weakened.o $(BUILD)/libcommon.a $(BUILD)/liblib.a
	$(call link,$(LIBS_COMMON) $(LIBS_LIB))

# The red team: each role's own program once more, with a door for attacks where its event loop would begin, and a program
# for attackers that are no role. Nothing of it is installed.
REDTEAM_OBJ := $(call obj,$(filter-out %/door.c %/door_launcher.c %/alone.c,$(wildcard tests/redteam/*.c)))
REDTEAM_WRAP := -Wl,--wrap=close_range,--wrap=role_confine,--wrap=ev_run
LIBS_gate     := $(LIBS_COMMON) $(LIBS_LIB)
LIBS_streamer := $(LIBS_STREAMER) $(LIBS_COMMON) $(LIBS_LIB)
LIBS_dialer   := $(LIBS_DIALER) $(LIBS_COMMON) $(LIBS_LIB)
LIBS_launcher := $(LIBS_COMMON) $(LIBS_LIB)
$(BUILD)/redteam/handoffd-launcher: $(BUILD)/obj/tests/redteam/door_launcher.o
$(BUILD)/redteam/handoffd-launcher: REDTEAM_WRAP += -Wl,--wrap=cage_prepare
REDTEAM_BINS := $(ROLES:%=$(BUILD)/redteam/handoffd-%) $(BUILD)/redteam/alone
$(ROLES:%=$(BUILD)/redteam/handoffd-%): $(BUILD)/redteam/handoffd-%: $(BUILD)/obj/daemon/%/main.o $(BUILD)/obj/tests/redteam/door.o $(REDTEAM_OBJ) $(BUILD)/lib%.a \
		$(BUILD)/libcommon.a $(BUILD)/liblib.a
	$(call link,$(REDTEAM_WRAP) $(LIBS_$*))
$(BUILD)/redteam/alone: $(BUILD)/obj/tests/redteam/alone.o $(call obj,$(filter-out %/door.c %/door_launcher.c %/alone.c %/layers.c,$(wildcard tests/redteam/*.c)))
	$(call link,)

-include $(shell find $(BUILD)/obj -name '*.d' 2>/dev/null)

.PHONY: clean
clean:
	rm -rf $(BUILD)

# ---------------------------------------------------------------- outer walls and packages
SELINUX_DEVEL := /usr/share/selinux/devel/Makefile
.PHONY: selinux-module deb
selinux-module: $(BUILD)/selinux/handoffd.pp
$(BUILD)/selinux/handoffd.pp: selinux/handoffd.te selinux/handoffd.if selinux/handoffd.fc
	@mkdir -p $(@D)
	$(call say,POLICY)
	$(Q)cp $^ $(@D)/ && $(MAKE) -s -C $(@D) -f $(SELINUX_DEVEL) handoffd.pp >$(@D)/log 2>&1 || { cat $(@D)/log; exit 1; }

.PHONY: walls-check check-vm vm-image
# The static parts; where an image of the guest can be had, the units in a container, and one short run in a guest.
walls-check: all selinux-module
	@$(BUILD)/bin/handoff-policy -b check systemd apparmor $(BUILD)/selinux/handoffd.pp
	@tests/check-apparmor.sh
	@tests/packages/build.sh $(BUILD)/deb
	@if $(MAKE) --no-print-directory vm-image; then \
		tests/check-selinux.sh $(BUILD)/selinux/handoffd.pp $(VMTEST_BUILD) && \
		BUILD=$(BUILD) VMTEST_BUILD=$(VMTEST_BUILD) tests/vm/nspawn.sh && \
		BUILD=$(BUILD) VMTEST_BUILD=$(VMTEST_BUILD) tests/vm/run.sh apparmor 6.12 short; \
	else echo "vm: skipped, the image of the guest cannot be built here"; echo "0 passed, 0 failed, 3 skipped"; fi
# The image is kept outside of the build directory, so that a fresh clone need not build it again; removed by hand.
VMTEST_BUILD ?= /var/tmp/handoffd-vm
vm-image:
	@VMTEST_BUILD=$(VMTEST_BUILD) tests/vm/vmtest.sh -B
# All of it: both LSMs on both kernels, forbidden acts included; about ten minutes on two idle cores.
check-vm: check-packages selinux-module deb vm-image
	@failed=; for lsm in apparmor selinux; do for kernel in 6.12 6.1; do \
		BUILD=$(BUILD) VMTEST_BUILD=$(VMTEST_BUILD) tests/vm/run.sh $$lsm $$kernel || failed="$$failed $$lsm-$$kernel"; \
	done; done; if [ -n "$$failed" ]; then echo "failed:$$failed"; exit 1; fi

# Debian packages in $(BUILD)/deb, from what is committed.
deb: deb-packages
	tests/packages/build.sh $(BUILD)/deb
.PHONY: deb-packages
deb-packages:
	@$(call install_missing,$(PACKAGES_BUILD) $(PACKAGES_DEB))

# ---------------------------------------------------------------- demo
.PHONY: demo demo-packages
demo-packages:
	@$(call install_missing,$(PACKAGES_BUILD) $(PACKAGES_DEMO))
demo: demo-packages
	@$(MAKE) --no-print-directory -j$$(nproc) all
	@BUILD=$(BUILD) ONESHOT=$(ONESHOT) examples/demo/run.sh

# ---------------------------------------------------------------- check
.PHONY: check check-packages lint format unit unit-sanitize fuzz model redteam redteam-short hardening systemd-check manual vectors php integration integration-modes integration-sanitize
check-packages:
	@$(call install_missing,$(PACKAGES_BUILD) $(PACKAGES_DEMO) $(PACKAGES_CHECK) $(PACKAGES_DEB) $(PACKAGES_VM) $(PACKAGES_NPM))

# Static parts beside each other, then what runs longest; each stage ends with its runner's own closing lines.
check: check-packages
	@$(MAKE) --no-print-directory -j$$(nproc) all $(if $(CI),WERROR=1)
	@$(MAKE) --no-print-directory -j$$(nproc) --output-sync=target \
		walls-check lint unit unit-sanitize model fuzz php hardening systemd-check manual vectors
	@$(MAKE) --no-print-directory redteam-short
	@$(MAKE) --no-print-directory -j2 integration-sanitize integration integration-modes

# Whether this make runs several targets at once, and the option for one that it starts: all cores, or a share of its own jobs.
BESIDE     = $(findstring --jobserver,$(MAKEFLAGS))
JOBS       = $(if $(BESIDE),,-j$$(nproc))

C_SOURCES := $(shell git ls-files '*.c' 2>/dev/null)
C_HEADERS := $(shell git ls-files '*.h' 2>/dev/null)
SHELL_SCRIPTS := $(shell git ls-files '*.sh' .ci/run 2>/dev/null)
TIDY_SOURCES := $(filter-out tests/%,$(C_SOURCES))

format:
	clang-format -i $(C_SOURCES) $(C_HEADERS)

lint:
	@clang-format --dry-run -Werror $(C_SOURCES) $(C_HEADERS)
	@shellcheck $(SHELL_SCRIPTS)
	@cppcheck --quiet -j$$(nproc) --std=c11 --enable=warning,performance,portability --inline-suppr --error-exitcode=1 \
		--suppressions-list=.cppcheck -I. -D__x86_64__ -D__linux__ '-D__VA_OPT__(x)=x' $(TIDY_SOURCES)
	@printf '%s\n' $(TIDY_SOURCES) | xargs -P$$(nproc) -n4 sh -c 'clang-tidy --quiet --warnings-as-errors="*" "$$@" -- \
		-std=gnu17 -D_GNU_SOURCE -I. $(APACHE_CFLAGS) -DHANDOFFD_VERSION="\"\"" -DHANDOFFD_LIBEXECDIR="\"\"" -DHANDOFFD_CONFIG="\"\"" -DHANDOFFD_POLICY_DIR="\"\"" -DHANDOFFD_UNITDIR="\"\"" 2>$(BUILD)/tidy.$$$$.log \
		|| { cat $(BUILD)/tidy.$$$$.log; exit 1; }' tidy
	@$(MAKE) --no-print-directory $(JOBS) BUILD=$(BUILD)/clang CC=clang WERROR=1 all
	@$(BUILD)/clang/bin/handoff-policy -b lint >$(BUILD)/policy-lint.log || { cat $(BUILD)/policy-lint.log; exit 1; }
	@echo "lint: no findings"

hardening: all
	tests/check-hardening.sh $(BINS) $(MODULE)

systemd-check: all
	BUILD=$(BUILD) tests/check-systemd.sh
	$(BUILD)/bin/handoff-policy -b check systemd

manual:
	tests/check-manual.sh

vectors:
	/usr/bin/python3 tests/vectors/make_vectors.py --check

unit: $(UNIT_BINS)
	@set -e; for t in $(UNIT_BINS); do echo "== $$t"; $$t; done

unit-sanitize:
	@$(MAKE) --no-print-directory $(JOBS) BUILD=$(BUILD)/sanitize SANITIZE=1 unit

# PSR-12, and PHPUnit with ext-sodium and without.
php:
	tests/php/run.sh

fuzz:
	BUILD=$(BUILD) tests/fuzz/run.sh $(or $(FUZZ_SECONDS),5)

model:
	BUILD=$(BUILD) tests/model/run.sh

PYTEST := /usr/bin/python3 -m pytest -p no:cacheprovider -rs -q
integration: all
	BUILD=$(BUILD) $(PYTEST) tests/php tests/integration tests/browser $(PYTEST_ARGS)

# Every attack from inside every role: without a cage, with each layer alone, with the whole; to be read in
# $(BUILD)/redteam/matrix.html. The short form leaves the single layers out.
redteam: all $(REDTEAM_BINS)
	/usr/bin/python3 tests/redteam/runner.py --build $(BUILD)
redteam-short: all $(REDTEAM_BINS)
	BUILD=$(BUILD) $(PYTEST) tests/redteam $(PYTEST_ARGS)

# The same programs with the sanitizers in them; the seccomp filter is left out there, and the tests that need it say so. Tests
# wait more than they work, so it runs beside the others; then what it says is shown when it has ended.
integration-sanitize:
	@$(MAKE) --no-print-directory $(JOBS) BUILD=$(BUILD)/sanitize SANITIZE=1 all
	HANDOFF_SANITIZE=1 BUILD=$(BUILD)/sanitize $(PYTEST) tests/integration $(PYTEST_ARGS) \
		$(if $(BESIDE),>$(BUILD)/sanitize/integration.log 2>&1; status=$$?; cat $(BUILD)/sanitize/integration.log; exit $$status)

# A part of them again: in the modes of the filter for diagnosis, and as another user than root.
MODE_TESTS := tests/integration/test_e2e_chat.py tests/integration/test_streamer_demo.py tests/integration/test_e2e_openai.py
PLAIN_USER := setpriv --reuid=64250 --regid=64250 --clear-groups env HOME=/tmp PYTHONDONTWRITEBYTECODE=1
integration-modes: all
	HANDOFF_SECCOMP=log BUILD=$(BUILD) $(PYTEST) $(MODE_TESTS)
	HANDOFF_SECCOMP=trap BUILD=$(BUILD) $(PYTEST) $(MODE_TESTS)
	@if [ "$$(id -u)" != 0 ]; then echo "integration-modes: not root, so all tests have run as another user"; \
	elif $(PLAIN_USER) test -r "$(CURDIR)/Makefile"; then BUILD=$(BUILD) $(PLAIN_USER) $(PYTEST) $(MODE_TESTS); \
	else echo "integration-modes: skipped as another user, who cannot read this folder"; fi

# Slow ones, on demand.
.PHONY: policy-usage bench bench-stream bench-cage ownership-long
# What of the policies no test makes use of: the tests that together need all of it, under strace.
policy-usage: check-packages all
	@rm -rf $(BUILD)/trace && mkdir -p -m 0777 $(BUILD)/trace
	HANDOFF_TRACE=$(abspath $(BUILD)/trace) BUILD=$(BUILD) $(PYTEST) tests/integration/test_e2e_openai.py \
		tests/integration/test_streamer_openai.py tests/integration/test_gate_crash.py tests/integration/test_dialer.py tests/integration/test_upstream.py
	BUILD=$(BUILD) tests/policy-usage.py $(BUILD)/trace
bench: check-packages all
	BUILD=$(BUILD) /usr/bin/python3 tests/bench/bench_handoff.py $(BENCH_ARGS)
bench-stream: check-packages all
	BUILD=$(BUILD) /usr/bin/python3 tests/bench/bench_stream.py $(BENCH_ARGS)
bench-cage: $(BUILD)/tests/bench_cage
	$< $(BENCH_ARGS)
ownership-long: check-packages all
	HANDOFF_LONG=1 BUILD=$(BUILD) $(PYTEST) -s tests/integration/test_ownership.py

# ---------------------------------------------------------------- install
.PHONY: install
install: all
	install -d $(DESTDIR)$(PREFIX)/sbin $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(LIBEXECDIR) $(DESTDIR)$(APACHE_MODULES_DIR) \
		$(DESTDIR)$(SYSCONFDIR)/handoffd $(DESTDIR)$(UNITDIR)
	install -m 0755 $(BUILD)/bin/handoffd $(DESTDIR)$(PREFIX)/sbin/
	install -m 0755 $(BUILD)/bin/handoffctl $(BUILD)/bin/handoff-policy $(DESTDIR)$(PREFIX)/bin/
	install -m 0755 $(ROLE_BINS) $(DESTDIR)$(LIBEXECDIR)/
	install -d $(DESTDIR)$(GENERATORDIR)
	install -m 0755 $(BUILD)/bin/handoffd-generator $(DESTDIR)$(GENERATORDIR)/
	install -m 0644 $(MODULE) $(DESTDIR)$(APACHE_MODULES_DIR)/
	test -e $(DESTDIR)$(SYSCONFDIR)/handoffd/handoffd.conf || \
		install -m 0644 examples/handoffd.conf $(DESTDIR)$(SYSCONFDIR)/handoffd/handoffd.conf
	install -d $(DESTDIR)$(MANDIR)/man5 $(DESTDIR)$(MANDIR)/man8
	install -m 0644 docs/man/*.5 $(DESTDIR)$(MANDIR)/man5/
	install -m 0644 docs/man/*.8 $(DESTDIR)$(MANDIR)/man8/
	install -d $(DESTDIR)/usr/lib/sysusers.d $(DESTDIR)/usr/lib/tmpfiles.d
	install -m 0644 systemd/sysusers.d/handoffd.conf $(DESTDIR)/usr/lib/sysusers.d/
	install -m 0644 systemd/tmpfiles.d/handoffd.conf $(DESTDIR)/usr/lib/tmpfiles.d/
	install -d $(DESTDIR)$(PREFIX)/share/handoffd/apache2.service.d
	install -m 0644 systemd/apache2.service.d/handoffd.conf $(DESTDIR)$(PREFIX)/share/handoffd/apache2.service.d/
	install -d $(DESTDIR)$(SYSCONFDIR)/apparmor.d/abstractions
	install -m 0644 $(wildcard apparmor/handoffd-*) $(DESTDIR)$(SYSCONFDIR)/apparmor.d/
	install -m 0644 apparmor/abstractions/* $(DESTDIR)$(SYSCONFDIR)/apparmor.d/abstractions/
	if [ -e $(BUILD)/selinux/handoffd.pp ]; then \
		install -d $(DESTDIR)$(PREFIX)/share/selinux/packages && \
		install -m 0644 $(BUILD)/selinux/handoffd.pp $(DESTDIR)$(PREFIX)/share/selinux/packages/; fi
	for u in systemd/*.service systemd/*.socket systemd/*.target; do \
		sed 's|@LIBEXECDIR@|$(LIBEXECDIR)|g;s|@SYSCONFDIR@|$(SYSCONFDIR)|g' $$u >$(DESTDIR)$(UNITDIR)/$${u##*/} || exit 1; done
APACHE_MODULES_DIR ?= $(shell apxs -q LIBEXECDIR 2>/dev/null)
