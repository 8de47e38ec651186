#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# The units as they would be installed: systemd-analyze verify has nothing to say, and the exposure of each stays at or
# below what its role needs. Prints the scores.
set -eu

units=$(cd "$(dirname "$0")/../systemd" && pwd)
generator=${BUILD:-build}/bin/handoffd-generator
passed=0
failed=0

if ! command -v systemd-analyze >/dev/null; then
	echo "systemd: skipped, systemd-analyze is not installed"
	echo "0 passed, 0 failed"
	exit 0
fi
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
export HOME="$root"

# verify looks for the executables; theirs are built elsewhere. The units that handoffd-generator adds are made from the
# sample configuration, with users that this machine has.
mkdir -p "$root/libexec" "$root/units" "$root/made"
for role in gate streamer dialer launcher; do
	ln -s /bin/true "$root/libexec/handoffd-$role"
done
for unit in "$units"/*.service "$units"/*.socket "$units"/*.target; do
	sed -e "s|@LIBEXECDIR@|$root/libexec|g" -e "s|@SYSCONFDIR@|/etc|g" "$unit" >"$root/units/${unit##*/}"
done
sed -e 's/"handoffd-gate"/daemon/' -e 's/"handoffd-dialer"/bin/' -e 's/"handoffd-streamer"/sys/' -e 's/"handoffd-launcher"/man/' -e 's/"handoffd-openai"/games/' \
	-e '/^#listen/,/^#}/s/^#//' -e '/^#backend/,/^#}/s/^#//' -e '/^#profile/,/^#}/s/^#//' -e '/^#upstream/,/^#}/s/^#//' \
	"$units/../examples/handoffd.conf" >"$root/handoffd.conf"
for more in '' 'legacy-stream = yes'; do
	printf 'listen "/run/handoffd/%s.sock" {\n backend = demo\n allow-peer = {"33"}\n legacy = yes\n %s\n}\n' \
		"${more:+early-}legacy" "$more" >>"$root/handoffd.conf"
done

cat >>"$root/handoffd.conf" <<-EOF
	backend "program" {
	 type = handler
	 handler = cat
	 workers = 2
	 user = sync
	}
	handler "cat" {
	 command = {"/bin/cat"}
	 write-paths = {"/var/lib/%cat", "/srv/cat"}
	 user = mail
	}
EOF

# check WHAT COMMAND...: passes when the command succeeds and prints nothing.
check() {
	what=$1
	shift
	if output=$("$@" 2>&1) && [ -z "$output" ]; then
		passed=$((passed + 1))
		echo "systemd: $what: ok"
	else
		failed=$((failed + 1))
		echo "systemd: $what: FAILED"
		printf '%s\n' "$output"
	fi
}

# Missing manual pages are not the units' fault: --man=no.
verify() {
	SYSTEMD_UNIT_PATH="$root/made:$root/units:" systemd-analyze verify --man=no "$@"
}

# It tells what it created: that is no complaint.
sysusers() {
	systemd-sysusers --root="$root/image" "$1" 2>&1 | grep -v '^Creating \(group\|user\) ' || true
}

# exposure UNIT MOST: most is ten times the score that is allowed.
exposure() {
	score=$(SYSTEMD_UNIT_PATH="$root/made:$root/units:" systemd-analyze security --offline=true --no-pager "$1" 2>/dev/null |
		sed -n 's/.*Overall exposure level for .*: \([0-9]*\)\.\([0-9]\).*/\1\2/p')
	if [ -n "$score" ] && [ "$score" -le "$2" ]; then
		passed=$((passed + 1))
		echo "systemd: exposure of $1 $((score / 10)).$((score % 10)): ok"
	else
		failed=$((failed + 1))
		echo "systemd: exposure of $1 '$score' (times ten), allowed $2: FAILED"
	fi
}

check "handoffd-generator" "$generator" "$root/made" "$root/handoffd.conf"
for name in handoffd-gate.service handoffd-dialer.service handoffd-dialer.socket handoffd.target \
	handoffd-streamer@demo-0.service handoffd-streamer@demo-0.socket handoffd-streamer@openai-0.service \
	handoffd-launcher@cat.service handoffd-launcher@cat.socket \
	handoffd-listen-0.socket handoffd-listen-1.socket handoffd-listen-3.socket; do
	check "verify $name" verify "$name"
done
check "socket of a legacy listener" sh -c "grep -q '^ListenSequentialPacket=/run/handoffd/legacy.sock$' $root/made/handoffd-listen-2.socket"
check "socket of a legacy stream" sh -c "grep -q '^ListenStream=/run/handoffd/early-legacy.sock$' $root/made/handoffd-listen-3.socket"
drop_in="$root/made/handoffd-launcher@cat.service.d"
check "user of a launcher" sh -c "grep -q '^User=$(id -u mail)$' $drop_in/50-user.conf"
check "writable paths of a launcher" sh -c "[ \"\$(grep -c '^ReadWritePaths=-/\(var/lib/%%cat\|srv/cat\)$' $drop_in/50-handler.conf)\" = 2 ]"
check "a launcher ends after its streamers" sh -c "[ \"\$(grep -c '^Before=handoffd-streamer@program-[01].service$' $drop_in/50-handler.conf)\" = 2 ]"
check "a launcher is started with the rest" test -L "$root/made/handoffd.target.wants/handoffd-launcher@cat.service"
if command -v systemd-sysusers >/dev/null && command -v systemd-tmpfiles >/dev/null; then
	mkdir -p "$root/image/etc"
	check "sysusers.d" sysusers "$units/sysusers.d/handoffd.conf"
	check "tmpfiles.d" systemd-tmpfiles --create --root="$root/image" "$units/tmpfiles.d/handoffd.conf"
fi
# What is left, and why, is said in the units.
exposure handoffd-gate.service 5
exposure handoffd-streamer@demo-0.service 4
exposure handoffd-dialer.service 12
exposure handoffd-launcher@cat.service 15
# Nobody else may make cgroups or namespaces.
check "only launchers delegate" sh -c "[ \"\$(grep -l '^Delegate=' $units/*.service)\" = $units/handoffd-launcher@.service ]"

# Apache with the drop-in: Debian's own unit, from its package, which need not be installed.
skipped=0
if (cd "$root" && apt-get -o APT::Sandbox::User=root -qq download apache2 && dpkg-deb -x apache2_*.deb apache2) >/dev/null 2>&1; then
	cp "$root/apache2/lib/systemd/system/apache2.service" "$root/units/"
	cp -r "$units/apache2.service.d" "$root/units/"
	exposure apache2.service 50
else
	skipped=1
	echo "systemd: exposure of apache2.service: skipped, Debian's package cannot be had here"
fi

echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
