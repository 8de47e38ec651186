#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# build.sh DIRECTORY: the Debian packages of what is committed, into DIRECTORY, and what lintian says of them.
set -eu
out=$1
cd "$(dirname "$0")/../.."
version=$(sed -n '1s/.*(\(.*\)).*/\1/p' debian/changelog)
rm -rf "$out"
mkdir -p "$out"
out=$(realpath "$out")
git archive --prefix="handoffd-$version/" HEAD | tar -C "$out" -xf -
cd "$out/handoffd-$version"
dpkg-buildpackage -b -us -uc >"$out/build.log" 2>&1 || {
	tail -40 "$out/build.log"
	exit 1
}
cd "$out"
rm -rf "handoffd-$version"
ls ./*.deb
lintian --fail-on error --tag-display-limit 0 ./*.changes
