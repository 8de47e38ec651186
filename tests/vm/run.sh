#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# run.sh LSM KERNEL [short]: the packages of build/deb in one guest with that LSM enforcing (apparmor, selinux) and that kernel (6.12,
# 6.1). Exit status of guest.sh; what it printed stands on standard output.
set -eu
cd "$(dirname "$0")/../.."
lsm=$1 kernel=$2 short=${3:-}
build=${BUILD:-build}
payload=$build/vm/$lsm-$kernel
rm -rf "$payload"
tests/vm/payload.sh "$payload" "$short"
options=(-l "$lsm" -k "$kernel" -t 1500)
for file in "$payload"/*; do
	options+=(-p "$file")
done
[ "$lsm" != selinux ] || options+=(-S "$build/selinux/handoffd.pp")
# shellcheck disable=SC2086  # nothing is nothing
exec tests/vm/vmtest.sh "${options[@]}" tests/vm/guest.sh "$lsm" $short
