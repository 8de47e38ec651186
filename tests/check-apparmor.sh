#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Each AppArmor profile compiles, and grants what the table here says it must not in no line.
set -eu
cd "$(dirname "$0")/.."
passed=0
failed=0

if ! command -v apparmor_parser >/dev/null; then
	echo "apparmor: skipped, apparmor_parser is not installed"
	echo "0 passed, 0 failed, 1 skipped"
	exit 0
fi

verdict() { # STATUS WHAT
	if [ "$1" -eq 0 ]; then
		passed=$((passed + 1))
		echo "apparmor: $2: ok"
	else
		failed=$((failed + 1))
		echo "apparmor: $2: FAILED"
	fi
}

# The profile with what it includes of ours, as rules a line.
rules() {
	cat "apparmor/$1" apparmor/abstractions/handoffd-role | sed 's/#.*//; s/^[[:space:]]*//' | grep ',$'
}

for profile in apparmor/handoffd-*; do
	name=${profile##*/}
	status=0
	apparmor_parser -Q -K -I /etc/apparmor.d -I apparmor "$profile" 2>/dev/null || status=1
	verdict $status "$name compiles"
	# It makes the roots of its runs; what is left to them is tried in the guest.
	[ "$name" != handoffd-launcher ] || continue
	status=0
	if rules "$name" | grep -v 'network netlink raw' |
		grep -E '^(allow )?(ptrace|mount|umount|pivot_root|change_profile|unix|dbus|userns)|^network.* (raw|packet),|^(owner )?/.* [a-z]*[xlk][a-z]*,$'; then
		status=1
	fi
	verdict $status "$name executes, traces, mounts and links nothing"
	status=0
	if rules "$name" | grep -E '^capability' | grep -vE 'capability set(uid|gid|pcap),'; then status=1; fi
	verdict $status "$name has no capability but those to shed them"
	status=0
	if rules "$name" | grep -E '^(owner )?/[^ ]* [a-z]*[wa]' | grep -vE '^/(dev/null|run/|var/log/handoffd/)'; then status=1; fi
	verdict $status "$name writes no file but sockets and logs"
done
for denied in streamer:inet-dgram gate:inet-dgram streamer:netlink gate:netlink; do
	status=0
	if rules "handoffd-${denied%%:*}" | grep -E "^network ($(printf %s "${denied#*:}" | tr - ' ')|inet6? dgram)"; then status=1; fi
	verdict $status "handoffd-${denied%%:*} has no ${denied#*:}"
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
