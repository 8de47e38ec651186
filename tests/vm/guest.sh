#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Runs inside the guest, as root, beside the packages: installs them, starts everything as a site would, and looks whether
# each role is where it should be and does its work there, without a denial; then tries what must be denied.
#
#   guest.sh apparmor|selinux|none [short]    short: without the forbidden acts and without upgrade and removal
set -u
lsm=$1 short=${2:-}
passed=0 failed=0
roles=(handoffd-gate handoffd-dialer handoffd-streamer@demo-0 handoffd-streamer@demo-1 handoffd-streamer@run-0 handoffd-launcher@run)

# check WHAT COMMAND...
check() {
	local what=$1 output
	shift
	if output=$("$@" 2>&1); then
		passed=$((passed + 1))
		echo "ok   $what"
	else
		failed=$((failed + 1))
		echo "FAIL $what"
		printf '%s\n' "$output" | tail -20 | sed 's/^/     /'
	fi
}

pid_of() {
	systemctl show -p MainPID --value "$1"
}

status_of() { # UNIT FIELD: of /proc/PID/status
	sed -n "s/^$2:[[:space:]]*//p" "/proc/$(pid_of "$1")/status"
}

# Denials that concern us since the last look; none is what legitimate work leaves.
looked=0
denials() {
	local lines
	lines=$(dmesg | tail -n "+$((looked + 1))" | grep -E 'apparmor="DENIED"|avc:  denied' | grep -E 'handoff|httpd_t|apache2|php-fpm' || true)
	looked=$(dmesg | wc -l)
	printf '%s' "$lines"
}
no_denials() {
	local lines
	lines=$(denials)
	printf '%s\n' "$lines"
	[ -z "$lines" ]
}

# ---------------------------------------------------------------- install and configure, as README.md says
install_packages() {
	dpkg -i ./*.deb
}

configure() {
	sed -i 's/#workers     = 1 /workers = 2 #/; s/#delay       = 50 /delay = 20 #/
		s|^#access-log  = ""|access-log = "/var/log/handoffd/%b-%w/access.log" #|' /etc/handoffd/handoffd.conf
	cat >>/etc/handoffd/handoffd.conf <<'CONF'
listen "/run/handoffd/run.sock" {
    backend = run
    allow-peer = {"www-data"}
}
backend "run" {
    type = handler
    handler = run
}
handler "run" {
    command = {"/bin/sh", "-c", "case $HANDOFF_DATA in *sleep*) sleep 5;; *greedy*) for i in 1 2 3 4; do cat /dev/zero | tail -c 25000000 & done; wait;; esac; cat /proc/self/attr/current; cat /etc/passwd /etc/shadow /etc/handoffd/keys; echo x >/tmp/x && cat /tmp/x; echo for $HANDOFF_SUBJECT; echo end"}
    mode = text
    read-paths = {"/etc/passwd"}
    namespaces = required
    memory = 67108864
}
CONF
	mkdir -p /var/www/html/chat
	cat >/var/www/html/chat/run.php <<'PHP'
<?php
require 'Handoffd/autoload.php';
(new Handoffd\Handoff(new Handoffd\Signer('/etc/handoffd/keys')))
    ->to('/run/handoffd/run.sock')->data(['prompt' => $_GET['do'] ?? 'x'])->subject('vm')->send();
PHP
	cat >/var/www/html/chat/stream.php <<'PHP'
<?php
require 'Handoffd/autoload.php';
(new Handoffd\Handoff(new Handoffd\Signer('/etc/handoffd/keys')))
    ->to('/run/handoffd/chat.sock')->data(['prompt' => $_GET['prompt'] ?? 'hello'])->subject('vm')->send();
PHP
	[ "$lsm" != selinux ] || restorecon -R /var/www
	adduser --quiet www-data handoff-sign
	a2enmod -q proxy_fcgi setenvif socket_handoff
	a2enconf -q php8.2-fpm
	a2dismod -q -f mpm_prefork mpm_worker 2>/dev/null
	a2enmod -q mpm_event
	mkdir -p /etc/systemd/system/apache2.service.d /run/systemd/system/apache2.service.d
	printf '[Service]\nTimeoutStartSec=300\n' >/run/systemd/system/apache2.service.d/slow-machine.conf
	sed -i 's|^SocketHandoffSocket .*|& /run/handoffd/run.sock|' /etc/apache2/mods-available/socket_handoff.conf
	cp /usr/share/handoffd/apache2.service.d/handoffd.conf /etc/systemd/system/apache2.service.d/
}

start_all() {
	systemctl daemon-reload
	systemctl restart handoffd.target && systemctl restart php8.2-fpm apache2 && sleep 2 &&
		systemctl is-active apache2 php8.2-fpm "${roles[@]}"
}

# ---------------------------------------------------------------- at work
streams() { # SIZE: a signed handoff through Apache and php-fpm comes whole
	local out
	out=$(curl -sS --max-time 20 -G --data-urlencode "prompt=$(head -c "$1" /dev/zero | tr '\0' x)" http://127.0.0.1/chat/stream.php)
	printf '%s\n' "$out" | tail -3
	[ "$(printf '%s\n' "$out" | grep -c '^data: \[DONE\]$')" = 1 ]
}

body_streams() { # a prompt above 64 KiB travels in a memfd
	cat >/var/www/html/chat/stream.php <<'PHP'
<?php
require 'Handoffd/autoload.php';
(new Handoffd\Handoff(new Handoffd\Signer('/etc/handoffd/keys')))
    ->to('/run/handoffd/chat.sock')->data(['prompt' => str_repeat('x', 100000)])->subject('vm')->send();
PHP
	streams 5
}

# A handler's program, in its cage and its profile: it reads what its section names and its own /tmp, and nothing of ours.
handler_runs() {
	local out
	out=$(curl -sS --max-time 20 http://127.0.0.1/chat/run.php)
	printf '%s\n' "$out"
	[ "$(printf '%s\n' "$out" | tail -3)" = "$(printf 'x\nfor vm\nend')" ] && [[ $out == *root:x:0* ]] && [[ $out != *'root:*'* ]] &&
		[ "$(printf '%s\n' "$out" | grep -c '[0-9a-zA-Z_-]\{40\}')" = 0 ] || return 1
	[ "$lsm" != apparmor ] || [[ $out == *handoffd-handler*"(enforce)"* ]]
}

# A run's own cgroup bounds all of its processes together, each of which keeps to the limit; nothing of it stays.
handler_has_cgroup() {
	local tree
	tree=/sys/fs/cgroup$(systemctl show -P ControlGroup handoffd-launcher@run.service)
	journalctl -b -o cat -u handoffd-launcher@run | grep event=cage-prepared | tail -1
	curl -sS -o /tmp/slept --max-time 20 'http://127.0.0.1/chat/run.php?do=sleep' &
	sleep 2
	echo "memory.max: $(cat "$tree"/run-*/memory.max)"
	[ "$(cat "$tree"/run-*/memory.max)" = 67108864 ] && [ "$(cat "$tree"/run-*/pids.max)" = 33 ] || return 1
	wait $!
	[ "$(tail -1 /tmp/slept)" = end ] || return 1
	curl -sS --max-time 60 'http://127.0.0.1/chat/run.php?do=greedy'
	sleep 1
	journalctl -b -o cat -u handoffd-streamer@run-0 | grep event=handler-exited | tail -1
	journalctl -b -o cat -u handoffd-streamer@run-0 | grep event=handler-exited | tail -1 | grep -q limit=memory &&
		[ -z "$(find "$tree" -name 'run-*')" ]
}

unsigned_is_refused() {
	[ "$(curl -s -o /dev/null -w '%{http_code}' --max-time 5 http://127.0.0.1/chat/plain.php)" = 403 ]
}

domain_is() { # UNIT LABEL
	local label
	label=$(tr -d '\0' <"/proc/$(pid_of "$1")/attr/current")
	echo "$1: $label"
	case $label in *"$2"*) ;; *) return 1 ;; esac
}

cage_is_on() { # UNIT
	[ "$(status_of "$1" Seccomp)" = 2 ] && [ "$(status_of "$1" NoNewPrivs)" = 1 ] &&
		[ "$(status_of "$1" CapPrm)$(status_of "$1" CapEff)$(status_of "$1" CapBnd)" = "$(printf '%048d' 0)" ]
}

user_is() { # UNIT NAME
	[ "$(stat -c %U "/proc/$(pid_of "$1")")" = "$2" ] || [ "$(id -u "$2")" = "$(status_of "$1" Uid | cut -f1)" ]
}

own_namespace() { # UNIT KIND
	[ "$(readlink "/proc/$(pid_of "$1")/ns/$2")" != "$(readlink "/proc/1/ns/$2")" ]
}

replaced_while_streaming() { # UNIT that is restarted while a stream runs on the other worker or the same one
	local out pid
	out=$(mktemp)
	curl -sS --max-time 30 -G --data-urlencode "prompt=$(printf "word %.0s" {1..100})" http://127.0.0.1/chat/stream.php >"$out" &
	pid=$!
	sleep 0.5
	systemctl restart "$1" || return 1
	wait $pid || return 1
	grep -q '^data: \[DONE\]$' "$out" && streams 5
}

new_key() { # a second key, and the first one revoked: the gate knows at once, Apache after a reload, and nothing is lost
	local old
	old=$(awk 'NF > 2 { print $1; exit }' /etc/handoffd/keys)
	handoffctl keygen --kid vm2 /etc/handoffd/keys && systemctl restart handoffd-gate && systemctl reload apache2 && sleep 1 &&
		streams 5 && handoffctl revoke "$old" && systemctl reload apache2 && sleep 1 && streams 5 &&
		grep -q "^$old revoked" /etc/handoffd/keys
}

# A line in the journal under the role's own name, from its own unit and no other.
own_name() { # UNIT
	local others
	journalctl --sync
	others=$(journalctl -q -b -o json -t "${1%%@*}" | sed -n 's/.*"_SYSTEMD_UNIT":"\([^"]*\)".*/\1/p' | sort -u)
	printf '%s\n' "$others"
	[ -n "$(journalctl -q -b -t "${1%%@*}" "_SYSTEMD_UNIT=$1.service")" ] && ! printf '%s\n' "$others" | grep -v "^${1%%@*}[@.]"
}

# Each stream has its line in the file of the streamer that had it, in a directory that its unit made.
access_is_logged() {
	local log lines=0 before
	before=$(cat /var/log/handoffd/demo-*/access.log | wc -l)
	streams 5 && streams 5 && sleep 1 || return 1
	for log in /var/log/handoffd/demo-{0,1}/access.log; do
		stat -c '%U %a %n' "$log" "${log%/*}"
		[ "$(stat -c %U "$log")" = handoffd-streamer ] && [ "$(stat -c %a "${log%/*}")" = 750 ] || return 1
		lines=$((lines + $(wc -l <"$log")))
	done
	[ "$lines" = $((before + 2)) ] && tail -qn 1 /var/log/handoffd/demo-*/access.log | grep '"POST\|"GET'
}

# ---------------------------------------------------------------- forbidden acts
# unit_settings UNIT: what confines it, without what is the role's own.
unit_settings() {
	sed -n '/^\[Service\]/,$p' "/lib/systemd/system/$1.service" |
		grep -vE '^(\[|#|$|Type=|ExecStart=|LoadCredential=|Restart|AppArmorProfile=|WatchdogSec=|NotifyAccess=)'
}

# Numbers that no filter has a name for look unimplemented through both filters, the unit's and the role's; and what
# the unit's filter alone refuses looks so to a program without a cage.
unknown_calls() { # UNIT
	local role=${1%@} out
	out=$(run_probe "$(unit_settings "$1")" /usr/lib/handoff-caged "${role#handoffd-} 471 500 511")
	printf '%s\n' "$out"
	[ "$out" = "$(printf '%s ENOSYS\n' 471 500 511)" ]
}

# The probe takes the place of a role, as root, inside one outer wall and nothing else.
declare -A acts=([handoffd-gate]="read-shadow write-config exec ptrace raw-socket mount"
	[handoffd-streamer]="read-shadow read-keys write-config exec ptrace raw-socket"
	[handoffd-dialer]="read-shadow read-keys write-config exec ptrace raw-socket")
# So far in AppArmor only.
[ "$lsm" != apparmor ] || acts+=([handoffd-launcher]="read-shadow read-keys write-config ptrace raw-socket"
	[handoffd-handler]="read-shadow read-keys write-config ptrace raw-socket mount")

# run_probe UNIT-SETTINGS PROGRAM ACT...: what it printed. A real unit: SELinux rightly refuses systemd-run.
run_probe() {
	local settings=$1 program=$2 name
	shift 2
	name=probe-$(date +%s%N) # in the journal
	printf '[Service]\nType=oneshot\nExecStart=%s %s\nStandardOutput=journal\nSyslogIdentifier=%s\n%s\n' "$program" "$*" \
		"$name" "$settings" >/run/systemd/system/probe.service
	systemctl daemon-reload && systemctl start probe
	journalctl --sync
	journalctl -q -b -o cat -t "$name"
}

# The act succeeds without the wall, or its refusal says nothing about it.
baseline() {
	local out
	[ "$lsm" != selinux ] || chcon -t bin_t /usr/lib/handoff-probe
	out=$(run_probe "" /usr/lib/handoff-probe read-shadow read-keys write-config exec ptrace raw-socket mount)
	printf '%s\n' "$out"
	[ "$(printf '%s\n' "$out" | grep -c ' 0$')" = 7 ]
}

# by_lsm ROLE ACT: refused by the LSM alone, with a record of it.
by_lsm() {
	local role=$1 act=$2 out record settings="" program=/usr/lib/handoff-probe
	denials >/dev/null
	case $lsm in
	apparmor) settings="AppArmorProfile=$role" ;;
	selinux)
		program=/usr/lib/handoff-probe-$role
		cp /usr/lib/handoff-probe "$program" && chcon -t "$(printf %s "$role" | tr - _)_exec_t" "$program" || return 1
		;;
	esac
	out=$(run_probe "$settings" "$program" "$act")
	record=$(denials)
	printf '%s\n%s\n' "$out" "$record"
	case $out in "$act EACCES" | "$act EPERM") ;; *) return 1 ;; esac
	[ -n "$record" ]
}

# by_unit UNIT ACT: refused by the unit's settings alone: no profile, no domain, no cage.
by_unit() {
	local out
	out=$(run_probe "$(unit_settings "$1")" /usr/lib/handoff-probe "$2")
	printf '%s\n' "$out"
	case $out in "$2 0" | "") return 1 ;; esac
}

forbidden() {
	local role act unit
	install -m 0755 ./probe /usr/lib/handoff-probe
	check "without a wall every forbidden act succeeds" baseline
	[ "$lsm" = none ] || for role in "${!acts[@]}"; do
		for act in ${acts[$role]}; do
			check "$role: $act denied by $lsm alone, with its record" by_lsm "$role" "$act"
		done
	done
	[ "$lsm" != selinux ] || for role in handoffd-gate handoffd-streamer; do
		check "$role: tcp-socket denied by selinux alone, with its record" by_lsm "$role" tcp-socket
	done
	for unit in handoffd-gate handoffd-streamer@ handoffd-dialer; do
		for act in read-shadow write-cron raw-socket ptrace mount namespace writable-code; do
			check "$unit: $act denied by the unit alone" by_unit "$unit" "$act"
		done
	done
	for unit in handoffd-gate handoffd-streamer@; do
		check "$unit: tcp-connect denied by the unit alone" by_unit "$unit" tcp-connect
	done
	install -m 0755 ./caged /usr/lib/handoff-caged
	[ "$lsm" != selinux ] || chcon -t bin_t /usr/lib/handoff-caged
	for unit in handoffd-gate handoffd-streamer@ handoffd-dialer; do
		check "$unit: unknown calls get ENOSYS through both filters" unknown_calls "$unit"
	done
}

# shellcheck disable=SC1091
. ./lifecycle.sh
echo "== $lsm, kernel $(uname -r)"
[ "$lsm" != apparmor ] || systemctl start apparmor
echo '<?php header("X-Socket-Handoff: /run/handoffd/chat.sock"); header("X-Handoff-Data: {}"); echo "no";' >/tmp/plain.php
before=$(files)
check "install" install_packages
check "configure" configure
cp /tmp/plain.php /var/www/html/chat/plain.php
sed -i 's|<Location "/chat/stream.php">|<Location "/chat">|' /etc/apache2/mods-available/socket_handoff.conf
check "start" start_all
check "a signed handoff streams" streams 20
check "one of 100 KB streams" body_streams
check "a handler's program answers, in its cage" handler_runs
[ "$lsm" = none ] || check "a handler's run has a cgroup of its own" handler_has_cgroup
check "an unsigned handoff is refused" unsigned_is_refused
for unit in "${roles[@]}"; do
	name=${unit%%@*}
	check "$unit: seccomp, no_new_privs, no capability" cage_is_on "$unit"
	check "$unit: its own user" user_is "$unit" "$name"
	check "$unit: its own mount namespace" own_namespace "$unit" mnt
	[ "$name" = handoffd-dialer ] || check "$unit: its own network namespace" own_namespace "$unit" net
	case $lsm in
	apparmor) check "$unit: its profile, enforced" domain_is "$unit" "$name (enforce)" ;;
	selinux) check "$unit: its domain" domain_is "$unit" ":$(printf %s "$name" | tr - _)_t:" ;;
	esac
	check "$unit: its own name in the journal" own_name "$unit"
done
check "the access log, where each unit may write" access_is_logged
audit() { # what it finds, and how much
	handoff-policy audit >/run/audit.out && return
	grep -vE "  (ok|note)  " /run/audit.out
	return 1
}

check "a streamer restarted while streams run" replaced_while_streaming handoffd-streamer@demo-0
check "the gate restarted while streams run" replaced_while_streaming handoffd-gate
check "a new key, and the old one revoked" new_key
check "everything restarted" start_all
check "a signed handoff streams again" streams 20
[ "$lsm" = none ] || check "no denial for legitimate work" no_denials
# What it makes them try is denied, so it comes after the look at denials.
check "handoff-policy audit: every process is as its policy says" audit
[ -n "$short" ] || forbidden
if [ -z "$short" ]; then
	rm -f /usr/lib/handoff-* /etc/cron.d/handoff-probe
	check "remove" remove
	check "install an older version over what was left" older_installs
	check "upgrade: the new processes, the old keys" upgrade
	check "upgrade: conffiles" conffiles_are_kept
	check "remove again" remove
	check "purge: nothing of ours is left" purge "$before"
fi
if [ "$failed" -gt 0 ]; then
	journalctl -b --no-pager -o cat -u 'handoffd*' -u apache2 -u php8.2-fpm | tail -60
	tail -5 /var/log/apache2/error.log
fi
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
