#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# vmtest.sh - run a script as root inside a throw-away Debian 12 VM that boots systemd with a real LSM.
#
#   vmtest.sh [-l apparmor|selinux|selinux-permissive|none] [-k 6.12|6.1] [-t SECONDS] [-m MiB] [-c CPUS]
#             [-p PATH]... [-o OUTDIR] [-a "extra kernel args"] SCRIPT [ARG...]
#   vmtest.sh -B [-w ...]   only build (and cache) kernel, initrd and root image (and the warm state)
#
#   -l  which major LSM enforces in the guest                   (default apparmor)
#   -p  file or directory to put beside SCRIPT in /vmtest       (repeatable)
#   -o  what the guest left in /vmtest-out is unpacked here     (default: a temp dir, removed)
#   -t  wall-clock limit for boot + script + power-off          (default 300)
#   -S  SELinux module package (.pp) to link into the guest's policy on this host and load in the guest (repeatable)
#   -w  warm start: freeze a booted VM once per (-l -k -m -c -a), thaw it for every run instead of booting
#
# SCRIPT's stdout/stderr are copied to our stdout as they appear; our exit status is SCRIPT's own.
# 124 = time limit, 125 = the guest died (panic, no verdict) or we could not build.
#
# How it works.  No KVM is needed (QEMU TCG), nothing is downloaded but Debian packages, and the guest has no network.
#   kernel   Debian's linux-image-*-cloud-amd64, unpacked to its ELF vmlinux so that QEMU enters it through PVH: the
#            bzImage decompressor, which TCG is slow at, never runs
#   initrd   busybox + virtio_blk.ko + 12 lines of sh (1.5 MB): no initramfs-tools
#   root     mmdebstrap -> SELinux labels (setfiles, on this host) -> mke2fs -d -> a raw ext4 image.  Runs use it
#            with snapshot=on: nothing a test does is kept, and any number of VMs may share it
#   in/out   the payload goes in as a tar on a read-only virtio disk, results come back as a tar on another one, the
#            script's output over virtio-console, kernel messages over ttyS0 (build/.../console.log)
# Cache: $VMTEST_BUILD (default ./build/vm), keyed by a hash of the recipe; remove the directory to rebuild.
set -euo pipefail
BUILD=${VMTEST_BUILD:-$PWD/build/vm}
LSM=apparmor KVER=6.12 LIMIT=300 MEM=1024 CPUS=2 OUT="" EXTRA="" ONLYBUILD="" WARM="" PAYLOAD=() SEMOD=()
die() { echo "vmtest: $*" >&2; exit 125; }
while getopts l:k:t:m:c:p:o:a:S:Bw o; do
	case $o in
	l) LSM=$OPTARG ;; k) KVER=$OPTARG ;; t) LIMIT=$OPTARG ;; m) MEM=$OPTARG ;; c) CPUS=$OPTARG ;;
	p) PAYLOAD+=("$OPTARG") ;; o) OUT=$OPTARG ;; a) EXTRA=$OPTARG ;; B) ONLYBUILD=1 ;; w) WARM=1 ;; S) SEMOD+=("$(realpath "$OPTARG")") ;; *) exit 125 ;;
	esac
done
shift $((OPTIND - 1))

# ---------------------------------------------------------------- recipe
PACKAGES=(systemd-sysv systemd udev dbus kmod
	apparmor apparmor-utils
	policycoreutils selinux-policy-default selinux-utils semodule-utils checkpolicy auditd
	apache2 php-fpm php-cli
	libseccomp2 libcap-ng0 libcap2-bin libsodium23 libcurl4 libev4 libconfuse2 libjansson4 libc-ares2 libnghttp2-14 openssl ca-certificates curl
	adduser iproute2 procps python3-minimal strace util-linux)
# apt options for host-side package downloads (apt's sandbox user cannot write under build/)
APT=(-o APT::Sandbox::User=root)

need() { command -v "$1" >/dev/null || die "needs $1 (apt-get install $2)"; }

build_kernel() { # $1 = 6.12 or 6.1 -> $BUILD/kernel-$1/{vmlinux,initrd,modules/}
	local d=$BUILD/kernel-$1 pkg w m
	[ "$(cat "$d/ok" 2>/dev/null)" = "$(declare -f build_kernel | sha256sum)" ] && return
	rm -rf "$d"; mkdir -p "$d"
	case $1 in
	6.12) pkg=linux-image-6.12-cloud-amd64 ;;
	6.1) pkg=linux-image-cloud-amd64 ;;
	*) die "no kernel $1" ;;
	esac
	# the metapackage depends on exactly one versioned image
	pkg=$(apt-cache depends --important "$pkg" | awk '/Depends: linux-image/ {print $2; exit}')
	[ -n "$pkg" ] || die "no kernel package found: apt-get update?"
	(cd "$d" && apt-get "${APT[@]}" -qq download "$pkg") || die "cannot download $pkg"
	dpkg-deb -x "$d"/linux-image-*.deb "$d/x"
	python3 - "$d"/x/boot/vmlinuz-* "$d/vmlinux" <<'PY'
# bzImage -> ELF vmlinux (boot protocol: payload offset 0x248, length 0x24c, after the setup sectors)
import struct, subprocess, sys
d = open(sys.argv[1], 'rb').read()
off, length = struct.unpack_from('<II', d, 0x248)
start = ((d[0x1f1] or 4) + 1) * 512 + off
p = d[start:start + length]
for magic, cmd in ((b'\xfd7zXZ\0', ['xz', '-dc', '--single-stream']), (b'\x28\xb5\x2f\xfd', ['zstd', '-dcq']),
                   (b'\x1f\x8b', ['gzip', '-dc']), (b'\x02\x21\x4c\x18', ['lz4', '-dcq'])):
    if p.startswith(magic):
        out = subprocess.run(cmd, input=p, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
        break
else:
    sys.exit('unknown kernel compression %r' % p[:6])
if out[:4] != b'\x7fELF':
    sys.exit('payload is not an ELF vmlinux')
open(sys.argv[2], 'wb').write(out)
PY
	# modules: kept for the root image; decompressed, so that busybox insmod can load the few the initrd wants
	mkdir -p "$d/modules" && mv "$d"/x/lib/modules/* "$d/modules/"
	w=$d/initrd.d; mkdir -p "$w"/{bin,lib,dev,proc,newroot}
	cp "$(command -v busybox)" "$w/bin/busybox"
	: >"$w/lib/order"
	for m in virtio_ring virtio virtio_pci_legacy_dev virtio_pci_modern_dev virtio_pci virtio_console virtio_blk; do
		f=$(find "$d/modules" -name "$m.ko*" | head -1)
		[ -n "$f" ] || continue # built in
		case $f in *.xz) xz -dc "$f" >"$w/lib/$m.ko" ;; *) cp "$f" "$w/lib/$m.ko" ;; esac
		echo "$m" >>"$w/lib/order"
	done
	cat >"$w/init" <<'SH'
#!/bin/busybox sh
/bin/busybox mount -t devtmpfs devtmpfs /dev
while read m; do /bin/busybox insmod /lib/$m.ko; done </lib/order
n=0
while [ ! -b /dev/vda ] && [ $n -lt 100 ]; do /bin/busybox usleep 50000; n=$((n + 1)); done
/bin/busybox mount -t ext4 -o rw,noatime /dev/vda /newroot || /bin/busybox poweroff -f
/bin/busybox mount -o move /dev /newroot/dev
exec /bin/busybox switch_root /newroot /sbin/init
SH
	chmod 755 "$w/init"
	(cd "$w" && find . | cpio -o -H newc --quiet) >"$d/initrd"
	rm -rf "$d/x" "$d/initrd.d"
	declare -f build_kernel | sha256sum >"$d/ok"
}

build_root() { # -> $BUILD/root.ext4
	local key r
	key=$( (declare -f build_root guest_files; printf '%s\n' "${PACKAGES[@]}"; cat "$BUILD"/kernel-*/ok "$BUILD"/kernel-*/modules/*/modules.order 2>/dev/null) | sha256sum | cut -c1-16)
	[ "$(cat "$BUILD/root.key" 2>/dev/null)" = "$key" ] && return
	need mmdebstrap mmdebstrap; need setfiles policycoreutils; need mke2fs e2fsprogs
	r=$BUILD/root.d
	# 1. the packages (cached apart: a changed guest file must not cost a new bootstrap)
	local pkey; pkey=$(printf '%s\n' "${PACKAGES[@]}" | sha256sum | cut -c1-16)
	if [ ! -e "$BUILD/base-$pkey.tar" ]; then
		rm -f "$BUILD"/base-*.tar
		mmdebstrap --quiet --mode=root --variant=minbase --format=tar \
			--include="$(IFS=,; echo "${PACKAGES[*]}")" \
			--aptopt='APT::Install-Recommends "false"' --aptopt='Acquire::Languages "none"' \
			--dpkgopt='force-unsafe-io' \
			--dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
			--dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/info/*' \
			bookworm "$BUILD/base.tmp" /etc/apt/sources.list.d/debian.sources || die "mmdebstrap failed"
		mv "$BUILD/base.tmp" "$BUILD/base-$pkey.tar"
	fi
	# 2. unpack, add kernel modules and our units, label, make the image
	rm -rf "$r"; mkdir -p "$r"
	tar -C "$r" --xattrs --xattrs-include='*' -xpf "$BUILD/base-$pkey.tar"
	mkdir -p "$r/lib/modules"
	for k in "$BUILD"/kernel-*/modules/*; do cp -a "$k" "$r/lib/modules/"; chroot "$r" depmod "$(basename "$k")"; done
	guest_files "$r"
	# SELinux labels, from the guest's own policy.  setfiles needs CAP_SYS_ADMIN, not an SELinux kernel.
	setfiles -F -r "$r" "$r/etc/selinux/default/contexts/files/file_contexts" "$r"
	rm -f "$BUILD/root.ext4"
	mke2fs -q -t ext4 -d "$r" -L vmroot -m 0 -O ^has_journal,^metadata_csum -E lazy_itable_init=0,nodiscard "$BUILD/root.ext4" 2G
	rm -rf "$r"
	echo "$key" >"$BUILD/root.key"
}

guest_files() { # what the guest gets beyond its packages
	local r=$1 u
	echo vmtest >"$r/etc/hostname"
	echo '127.0.0.1 localhost vmtest' >"$r/etc/hosts"
	: >"$r/etc/machine-id"
	printf '/dev/vda / ext4 rw,noatime 0 0\n' >"$r/etc/fstab"
	passwd -q -R "$r" -d root 2>/dev/null || sed -i 's/^root:[^:]*:/root::/' "$r/etc/shadow"
	# selinux: which policy; enforcing or not comes from the kernel command line
	printf 'SELINUX=enforcing\nSELINUXTYPE=default\n' >"$r/etc/selinux/config"
	# journald: in memory, nothing lost to rate limits
	mkdir -p "$r/etc/systemd/journald.conf.d" "$r/etc/systemd/system.conf.d"
	printf '[Journal]\nStorage=volatile\nRateLimitBurst=0\nForwardToConsole=no\n' >"$r/etc/systemd/journald.conf.d/vmtest.conf"
	printf '[Manager]\nDefaultTimeoutStartSec=60\nDefaultTimeoutStopSec=10\n' >"$r/etc/systemd/system.conf.d/vmtest.conf"
	# nothing of Debian's starts by itself but what sysinit/basic need
	for u in apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer dpkg-db-backup.timer \
		systemd-random-seed.service systemd-update-utmp.service systemd-pcrphase.service systemd-pcrphase-sysinit.service \
		systemd-remount-fs.service systemd-binfmt.service proc-sys-fs-binfmt_misc.automount systemd-hwdb-update.service \
		systemd-udev-trigger.service systemd-modules-load.service systemd-journal-flush.service systemd-sysusers.service \
		modprobe@configfs.service modprobe@dm_mod.service modprobe@efi_pstore.service modprobe@fuse.service modprobe@loop.service \
		modprobe@drm.service sys-fs-fuse-connections.mount sys-kernel-config.mount sys-kernel-debug.mount sys-kernel-tracing.mount \
		dev-hugepages.mount kmod-static-nodes.service selinux-autorelabel-mark.service systemd-initctl.socket \
		systemd-ask-password-console.path systemd-ask-password-wall.path getty.target; do
		ln -sf /dev/null "$r/etc/systemd/system/$u"
	done
	# Debian's stock AppArmor profiles cost 4 s of compiling under TCG and confine nothing here
	find "$r/etc/apparmor.d" -maxdepth 1 -type f -delete
	cat >"$r/etc/systemd/system/vmtest.target" <<'U'
[Unit]
Description=vmtest
Requires=basic.target
After=basic.target
AllowIsolate=yes
U
	cat >"$r/etc/systemd/system/vmtest.service" <<'U'
[Unit]
Description=vmtest agent
After=basic.target apparmor.service
FailureAction=poweroff-force
SuccessAction=poweroff-force
[Service]
Type=oneshot
ExecStart=/usr/local/sbin/vmtest-agent
StandardInput=null
StandardOutput=tty
StandardError=tty
TTYPath=/dev/hvc0
TimeoutStartSec=infinity
# under SELinux, be the administrator, not a half-confined initrc_t (ignored when SELinux is off)
SELinuxContext=-unconfined_u:unconfined_r:unconfined_t:s0-s0:c0.c1023
U
	mkdir -p "$r/etc/systemd/system/vmtest.target.wants"
	ln -sf ../vmtest.service "$r/etc/systemd/system/vmtest.target.wants/vmtest.service"
	cat >"$r/usr/local/sbin/vmtest-agent" <<'U'
#!/bin/bash
# disks: vda root, vdb payload (tar), vdc results (tar)
stty -F /dev/hvc0 -opost -echo 2>/dev/null
export HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin VMTEST_OUT=/vmtest-out
mkdir -p /vmtest /vmtest-out
# A cold start finds its payload at once.  A warm one (-w) was frozen in this loop and thawed with another vdb.
grep -q vmtest.warm /proc/cmdline && echo VMTEST-READY
until [ "$(dd if=/dev/vdb iflag=direct bs=512 count=1 2>/dev/null | tr -d '\0' | wc -c)" -gt 0 ]; do sleep 0.1; done
blockdev --flushbufs /dev/vdb # the kernel's partition scan cached the empty disk's first pages
tar -C /vmtest --warning=no-timestamp -xf /dev/vdb
date -s "@$(cat /vmtest/.now)" >/dev/null
# a label that confined tools (semodule, apparmor_parser, daemons) may read; /vmtest would be root_t/default_t
if selinuxenabled 2>/dev/null; then
	chcon -R -t usr_t /vmtest
	if [ -e /vmtest/.sepolicy.tar ]; then # built by the host (-S): semodule -i takes 45 s under TCG, this takes 2 s
		tar -C / --warning=no-timestamp -xf /vmtest/.sepolicy.tar && load_policy || exit 1
		restorecon -R /etc/selinux /var/lib/selinux
	fi
fi
cd /vmtest
mapfile -d '' -t args <.args
/bin/bash ./.script "${args[@]}"
rc=$?
echo $rc >/vmtest-out/.rc
dmesg >/vmtest-out/dmesg 2>/dev/null
journalctl -b --no-pager -o short-monotonic >/vmtest-out/journal 2>/dev/null
tar -C /vmtest-out -cf /dev/vdc .
sync
exit 0
U
	chmod 755 "$r/usr/local/sbin/vmtest-agent"
}

# ---------------------------------------------------------------- build
need qemu-system-x86_64 qemu-system-x86; need busybox busybox-static; need cpio cpio; need zstd zstd; need python3 python3
mkdir -p "$BUILD"
exec 9>"$BUILD/.lock"; flock 9 # two tests at once must not both build
build_kernel 6.12; build_kernel 6.1
build_root
flock -u 9

# ---------------------------------------------------------------- run
case $LSM in
apparmor) lsm="lsm=landlock,lockdown,yama,integrity,apparmor,bpf apparmor=1" ;;
selinux) lsm="lsm=landlock,lockdown,yama,integrity,selinux,bpf selinux=1 enforcing=1" ;;
selinux-permissive) lsm="lsm=landlock,lockdown,yama,integrity,selinux,bpf selinux=1 enforcing=0" ;;
none) lsm="lsm=landlock,lockdown,yama,integrity" ;;
*) die "no LSM $LSM" ;;
esac
# mitigations=off, no watchdogs: TCG pays for them.  audit=1: processes are auditable from the start.
append="console=ttyS0 quiet panic=-1 mitigations=off nowatchdog no_timer_check tsc=reliable random.trust_cpu=on audit=1 audit_backlog_limit=8192 net.ifnames=0 systemd.unit=vmtest.target systemd.show_status=no $lsm $EXTRA"
W=$(mktemp -d "${TMPDIR:-/tmp}/vmtest.XXXXXX"); trap 'rm -rf "$W"' EXIT

qemu() { # $1 root disk, $2 its format, $3 console log; the rest: more options
	local root=$1 fmt=$2 log=$3; shift 3
	timeout -k 5 "$LIMIT" qemu-system-x86_64 -accel tcg,thread=multi -cpu max -smp "$CPUS" -m "$MEM" -M q35 \
		-nodefaults -no-user-config -no-reboot -display none \
		-kernel "$BUILD/kernel-$KVER/vmlinux" -initrd "$BUILD/kernel-$KVER/initrd" -append "$append" \
		-drive "file=$root,format=$fmt,if=virtio,cache=unsafe$SNAP" \
		-drive "file=$W/in.img,format=raw,if=virtio,readonly=on" \
		-drive "file=$W/out.img,format=raw,if=virtio,cache=unsafe" \
		-device virtio-rng-pci \
		-device virtio-serial-pci -chardev stdio,id=h,signal=off -device virtconsole,chardev=h \
		-serial "file:$log" "$@" </dev/null
}
disks() { truncate -s 256M "$W/in.img" "$W/out.img"; } # sizes are fixed: a thawed guest already knows them

if [ -n "$WARM" ]; then
	wk=$(printf '%s\n' "$append" "$MEM" "$CPUS" "$KVER" "$(cat "$BUILD/root.key" "$BUILD/kernel-$KVER/ok")" | sha256sum | cut -c1-16)
	S=$BUILD/warm-$LSM-$wk
	exec 9>"$BUILD/.lock"; flock 9
	if [ ! -e "$S/ok" ]; then
		rm -rf "$BUILD/warm-$LSM-"*; mkdir -p "$S"; : >"$W/in.img"; disks
		qemu-img create -q -f qcow2 -F raw -b "$BUILD/root.ext4" "$S/root.qcow2"
		append+=" vmtest.warm"
		SNAP='' qemu "$S/root.qcow2" qcow2 "$S/console.log" -qmp "unix:$W/mon,server=on,wait=off" >"$S/ready" 9>&- &
		python3 - "$W/mon" "$S" "$LIMIT" <<'PY' || die "could not freeze a VM: see $S/console.log"
import json, socket, sys, time
mon, state, limit = sys.argv[1], sys.argv[2], float(sys.argv[3])
end = time.time() + limit
while b'VMTEST-READY' not in open(state + '/ready', 'rb').read():
    if time.time() > end: sys.exit('guest never got ready')
    time.sleep(0.1)
time.sleep(1)                           # let systemd settle
s = socket.socket(socket.AF_UNIX); s.connect(mon); f = s.makefile('rw')
f.readline()                            # QMP greeting
def qmp(c, **a):
    f.write(json.dumps({'execute': c, 'arguments': a}) + '\n'); f.flush()
    while True:
        r = json.loads(f.readline())
        if 'return' in r: return r['return']
        if 'error' in r: sys.exit(r['error']['desc'])
qmp('qmp_capabilities')
qmp('migrate-set-parameters', **{'max-bandwidth': 10 ** 11})
# no "stop" first: a VM migrated while stopped comes back stopped
qmp('migrate', uri='exec:cat > %s/state' % state)
while (st := qmp('query-migrate').get('status')) != 'completed':
    if st in ('failed', 'cancelled') or time.time() > end: sys.exit('migration %s' % st)
    time.sleep(0.1)
qmp('quit')
PY
		wait $! || :
		touch "$S/ok"
	fi
	flock -u 9
fi
[ -z "$ONLYBUILD" ] || exit 0

[ $# -ge 1 ] || die "no script"
mkdir "$W/in"
for p in "${PAYLOAD[@]+"${PAYLOAD[@]}"}"; do cp -a "$p" "$W/in/"; done
cp "$1" "$W/in/.script"; shift
if [ ${#SEMOD[@]} -gt 0 ]; then
	mkdir "$W/se"
	tar -C "$W/se" -xf "$BUILD"/base-*.tar ./etc/selinux ./var/lib/selinux ./usr/share/selinux
	semodule -p "$W/se" -s default -n -i "${SEMOD[@]}" 2>"$W/se.log" || { cat "$W/se.log" >&2; die "semodule failed"; }
	tar -C "$W/se" -cf "$W/in/.sepolicy.tar" etc/selinux var/lib/selinux
fi
if [ $# -gt 0 ]; then printf '%s\0' "$@"; fi >"$W/in/.args"
date +%s >"$W/in/.now"
tar -C "$W/in" --owner=0 --group=0 -cf "$W/in.img" .
[ "$(stat -c %s "$W/in.img")" -le 268435456 ] || die "payload over 256 MiB"
disks
set +e
if [ -n "$WARM" ]; then
	append+=" vmtest.warm"
	SNAP=,snapshot=on qemu "$S/root.qcow2" qcow2 "$W/console.log" -incoming "exec:cat $S/state"
else
	SNAP=,snapshot=on qemu "$BUILD/root.ext4" raw "$W/console.log"
fi
q=$?
set -e
cp "$W/console.log" "$BUILD/console.log"
mkdir "$W/out"
tar -C "$W/out" -xf "$W/out.img" 2>/dev/null || :
[ -z "$OUT" ] || { mkdir -p "$OUT"; cp -a "$W/out/." "$OUT/"; cp "$W/console.log" "$OUT/"; }
if [ -s "$W/out/.rc" ]; then exit "$(cat "$W/out/.rc")"; fi
echo "vmtest: no verdict from the guest (qemu status $q); last console lines:" >&2
tail -n 20 "$W/console.log" >&2
[ $q = 124 ] && exit 124
exit 125
