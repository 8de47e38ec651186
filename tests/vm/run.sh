#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# run.sh LSM KERNEL [short]: the packages of build/deb in a guest with that LSM enforcing (apparmor, selinux) and that kernel (6.12,
# 6.1). Exit status of guest.sh; what it printed stands on standard output.
set -eu
cd "$(dirname "$0")/../.."
lsm=$1 kernel=$2 short=${3:-}
build=${BUILD:-build}
options=(-l "$lsm" -k "$kernel" -t 580 -p "$build/vm/probe")
for package in "$build"/deb/*.deb; do
	case $package in *-dbgsym_*) ;; *) options+=(-p "$package") ;; esac
done
[ "$lsm" != selinux ] || options+=(-S "$build/selinux/handoffd.pp")
mkdir -p "$build/vm"
gcc -O1 -Wall -Wextra -Werror -D_GNU_SOURCE -static -o "$build/vm/probe" tests/vm/probe.c
# shellcheck disable=SC2086  # nothing is nothing
exec tests/vm/vmtest.sh "${options[@]}" tests/vm/guest.sh "$lsm" $short
