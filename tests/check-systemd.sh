#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# The units as they would be installed: systemd-analyze verify has nothing to say, and the exposure of each stays at or
# below what its role needs. Prints the scores.
set -eu

units=$(cd "$(dirname "$0")/../systemd" && pwd)
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

# verify looks for the executables; theirs are built elsewhere.
mkdir -p "$root/libexec" "$root/units"
for role in gate streamer dialer; do
	ln -s /bin/true "$root/libexec/handoffd-$role"
done
for unit in "$units"/*.service "$units"/*.socket "$units"/*.target; do
	sed -e "s|@LIBEXECDIR@|$root/libexec|g" -e "s|@SYSCONFDIR@|/etc|g" "$unit" >"$root/units/${unit##*/}"
done

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
	SYSTEMD_UNIT_PATH="$root/units:" systemd-analyze verify --man=no "$@"
}

# It tells what it created: that is no complaint.
sysusers() {
	systemd-sysusers --root="$root/image" "$1" 2>&1 | grep -v '^Creating \(group\|user\) ' || true
}

# exposure UNIT MOST: most is ten times the score that is allowed.
exposure() {
	score=$(SYSTEMD_UNIT_PATH="$root/units:" systemd-analyze security --offline=true --no-pager "$root/units/$1" 2>/dev/null |
		sed -n 's/.*Overall exposure level for .*: \([0-9]*\)\.\([0-9]\).*/\1\2/p')
	if [ -n "$score" ] && [ "$score" -le "$2" ]; then
		passed=$((passed + 1))
		echo "systemd: exposure of $1 $((score / 10)).$((score % 10)): ok"
	else
		failed=$((failed + 1))
		echo "systemd: exposure of $1 '$score' (times ten), allowed $2: FAILED"
	fi
}

for name in handoffd-gate.service handoffd-gate.socket handoffd-dialer.service handoffd-dialer.socket handoffd.target; do
	check "verify $name" verify "$root/units/$name"
done
check "verify handoffd-streamer@demo-0.service" verify "$root/units/handoffd-streamer@demo-0.service"
check "verify handoffd-streamer@demo-0.socket" verify "$root/units/handoffd-streamer@demo-0.socket"
if command -v systemd-sysusers >/dev/null && command -v systemd-tmpfiles >/dev/null; then
	mkdir -p "$root/image/etc"
	check "sysusers.d" sysusers "$units/sysusers.d/handoffd.conf"
	check "tmpfiles.d" systemd-tmpfiles --create --root="$root/image" "$units/tmpfiles.d/handoffd.conf"
fi
# capset, which a role needs to shed what it may have, costs 0.2; seeing the uids of peers (no PrivateUsers=) 0.2.
exposure handoffd-gate.service 5
exposure handoffd-streamer@.service 5
exposure handoffd-dialer.service 14

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
