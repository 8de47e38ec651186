#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# nspawn.sh [short]: the packages of build/deb in a container that systemd boots, on this machine's kernel: the guest's system and
# the guest's script, without a security module and at full speed. Exit status of guest.sh, or 125 when the container ended without
# one; 0 where there is none to be had, which is said.
set -eu
cd "$(dirname "$0")/../.."
image=${VMTEST_BUILD:-/var/tmp/handoffd-vm} short=${1:-}
base=$(ls "$image"/base-*.tar 2>/dev/null || true)
skip() {
	echo "nspawn: skipped, $1"
	echo "0 passed, 0 failed, 1 skipped"
	exit 0
}
if [ "$(id -u)" != 0 ] || [ -z "$base" ] || ! command -v systemd-nspawn >/dev/null; then
	skip "needs root, systemd-nspawn and the guest's image (make vm-image)"
fi
root=$(mktemp -d "${TMPDIR:-/tmp}/handoffd-nspawn.XXXXXX")
trap 'rm -rf "$root"' EXIT
tar -C "$root" -xpf "$base"
systemd-nspawn -q -D "$root" --register=no --keep-unit --private-network /bin/true </dev/null || skip "no container can be had here"
: >"$root/etc/machine-id"
mkdir -p "$root/vmtest"
tests/vm/payload.sh "$root/vmtest" "$short"
cat >"$root/etc/systemd/system/vmtest.service" <<'U'
[Unit]
After=basic.target
SuccessAction=exit-force
FailureAction=exit-force
[Service]
Type=oneshot
WorkingDirectory=/vmtest
Environment=HOME=/root
ExecStart=/bin/sh -c './guest.sh none $SHORT >output 2>&1; echo $? >status'
U
sed -i "s/\$SHORT/$short/" "$root/etc/systemd/system/vmtest.service"
# Its own filter would answer for the roles' and the units'. No network but a loopback of its own.
SYSTEMD_SECCOMP=0 timeout -k 5 600 systemd-nspawn -q -D "$root" --register=no --keep-unit --private-network --capability=all \
	--console=pipe -b -- --unit=vmtest.service </dev/null >"$root/console" 2>&1 || true
cat "$root/vmtest/output" 2>/dev/null || true
if [ ! -s "$root/vmtest/status" ]; then
	tail -20 "$root/console"
	echo "nspawn: no verdict from the container"
	exit 125
fi
exit "$(cat "$root/vmtest/status")"
