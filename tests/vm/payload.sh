#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# payload.sh DIRECTORY [short]: what guest.sh works with: the packages of build/deb, the same of a lower version (they differ in
# that and in one conffile), and the programs that try things.
set -eu
cd "$(dirname "$0")/../.."
out=$1 short=${2:-} build=${BUILD:-build}

older() { # PACKAGE
	local tree=$out/tree
	dpkg-deb -R "$1" "$tree"
	sed -i 's/^Version: .*/Version: 0.0.9/; s/(= [^)]*)/(= 0.0.9)/' "$tree/DEBIAN/control"
	[ ! -e "$tree/etc/apparmor.d/abstractions/handoffd-php" ] || echo '# of 0.0.9' >>"$tree/etc/apparmor.d/abstractions/handoffd-php"
	dpkg-deb --root-owner-group -Znone -b "$tree" "$out/old/" >/dev/null
	rm -rf "$tree"
}

mkdir -p "$out/old"
make -s BUILD="$build" "$build/tests/caged"
cp "$build/tests/caged" tests/vm/guest.sh tests/vm/lifecycle.sh "$out/"
gcc -O1 -Wall -Wextra -Werror -D_GNU_SOURCE -static -o "$out/probe" tests/vm/probe.c
for package in "$build"/deb/*.deb; do
	case $package in *-dbgsym_*) continue ;; esac
	cp "$package" "$out/"
	[ -n "$short" ] || older "$package"
done
