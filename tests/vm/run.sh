#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# run.sh LSM KERNEL [short]: the packages of build/deb in a guest with that LSM enforcing (apparmor, selinux) and that kernel (6.12,
# 6.1). Exit status of guest.sh; what it printed stands on standard output. Without "short" they are upgraded there as well, from
# packages of a lower version, which differ from them in that and in one conffile.
set -eu
cd "$(dirname "$0")/../.."
lsm=$1 kernel=$2 short=${3:-}
build=${BUILD:-build}
options=(-l "$lsm" -k "$kernel" -t 1500 -p "$build/vm/probe" -p "$build/tests/caged" -p tests/vm/lifecycle.sh -p "$build/vm/old")
for package in "$build"/deb/*.deb; do
	case $package in *-dbgsym_*) ;; *) options+=(-p "$package") ;; esac
done
[ "$lsm" != selinux ] || options+=(-S "$build/selinux/handoffd.pp")
rm -rf "$build/vm"
mkdir -p "$build/vm/old"
make -s BUILD="$build" "$build/tests/caged"
gcc -O1 -Wall -Wextra -Werror -D_GNU_SOURCE -static -o "$build/vm/probe" tests/vm/probe.c
older() { # PACKAGE
	local tree=$build/vm/tree
	rm -rf "$tree"
	dpkg-deb -R "$1" "$tree"
	sed -i 's/^Version: .*/Version: 0.0.9/; s/(= [^)]*)/(= 0.0.9)/' "$tree/DEBIAN/control"
	[ ! -e "$tree/etc/apparmor.d/abstractions/handoffd-php" ] || echo '# of 0.0.9' >>"$tree/etc/apparmor.d/abstractions/handoffd-php"
	dpkg-deb --root-owner-group -Znone -b "$tree" "$build/vm/old/" >/dev/null
	rm -rf "$tree"
}
if [ -z "$short" ]; then
	for package in "$build"/deb/*.deb; do
		case $package in *-dbgsym_*) ;; *) older "$package" ;; esac
	done
fi
# shellcheck disable=SC2086  # nothing is nothing
exec tests/vm/vmtest.sh "${options[@]}" tests/vm/guest.sh "$lsm" $short
