#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Starts the demo: a private Apache, php-fpm and handoffd, each under its own uid, on a port of the loopback interface.
# Ctrl-C stops everything and leaves nothing but logs in $BUILD/demo. README.md says what the environment may set.
# fill() reads variables by name; stop_all() is called by the trap:
# shellcheck disable=SC2034,SC2317
set -euo pipefail

# The key is for one file, not for the environment of everything that is started here.
api_key=${OPENAI_API_KEY:-}
api_base=${OPENAI_API_BASE:-}
unset OPENAI_API_KEY OPENAI_API_BASE

here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
build=$(cd "$top" && realpath -m "${BUILD:-build}")
oneshot=${ONESHOT:-}
delay=${DELAY:-50}
model=${OPENAI_MODEL:-gpt-4o-mini}

# Numbers without an account: one for each part that must not read what another holds.
GATE_UID=64200 DIALER_UID=64201 STREAMER_UID=64210 PHP_UID=64203
# Apache wants a user that has a name; this one exists on every Debian system.
APACHE_USER=www-data

STATE=
LOGS=$build/demo
pids=()
umask 022

die() {
	echo "demo: $*" >&2
	exit 1
}

# ---------------------------------------------------------------- the end

# wait_gone PID TENTHS
wait_gone() {
	local i
	for ((i = 0; i < $2; i++)); do
		kill -0 "$1" 2>/dev/null || return 0
		sleep 0.1
	done
	return 1
}

stop_all() {
	local status=$? i pid
	trap '' INT TERM HUP
	trap - EXIT
	# Last started, first stopped: Apache before what it hands clients to.
	for ((i = ${#pids[@]} - 1; i >= 0; i--)); do
		pid=${pids[i]}
		kill -TERM "$pid" 2>/dev/null || continue
		wait_gone "$pid" 200 || kill -KILL -- "-$pid" 2>/dev/null || true
	done
	wait 2>/dev/null || true
	[ -z "$STATE" ] || rm -rf "$STATE"
	exit "$status"
}

# ---------------------------------------------------------------- before the start

check_machine() {
	local tool
	if [ "$(id -u)" -ne 0 ]; then
		echo "demo: needs root: Apache, PHP and each process of handoffd run under a user of their own." >&2
		exit 2
	fi
	for tool in bin/handoffd bin/handoffctl mod_socket_handoff.so; do
		[ -e "$build/$tool" ] || die "$build/$tool is missing: run make first"
	done
	APACHE=$(command -v apache2 || command -v httpd || echo /usr/sbin/apache2)
	MODULES=$(apxs -q LIBEXECDIR 2>/dev/null || echo /usr/lib/apache2/modules)
	FPM=$(find /usr/sbin /usr/local/sbin -maxdepth 1 -name 'php-fpm*' 2>/dev/null | sort -V | tail -n 1)
	APACHE_UID=$(id -u "$APACHE_USER") || die "there is no user $APACHE_USER for Apache"
	[ -x "$APACHE" ] || die "no Apache found"
	[ -n "$FPM" ] || die "no php-fpm found"
	[[ $delay =~ ^[0-9]{1,5}$ ]] || die "DELAY is a number of milliseconds"
	[[ ${PORT:-1} =~ ^[0-9]{1,5}$ ]] || die "PORT is a port number"
	# These go into handoffd.conf between quotes.
	[[ $model =~ ^[A-Za-z0-9._:/@+-]+$ ]] || die "OPENAI_MODEL holds characters that no model's name has"
	[[ $api_base =~ ^(https?://[][A-Za-z0-9._:/~%-]+)?$ ]] || die "OPENAI_API_BASE is not an http or https URL"
}

free_port() {
	# shellcheck disable=SC2016 # PHP's variables
	php -n -r '$s = stream_socket_server("tcp://127.0.0.1:0"); echo substr(strrchr(stream_socket_get_name($s, false), ":"), 1);'
}

# Everything that other users must reach. The tree itself may be in a home directory that they cannot enter.
make_state() {
	mkdir -p "$LOGS"
	rm -f "$LOGS"/*.log
	STATE=$(mktemp -d /tmp/handoffd-demo.XXXXXX)
	chmod 0711 "$STATE"
	mkdir "$STATE/keys" "$STATE/php" "$STATE/bin"
	cp "$build"/bin/handoff* "$STATE/bin/"
	cp -R "$here/site" "$STATE/site"
	cp -R "$top/php/src" "$STATE/site/handoff"
	# Also where the tree was made under a strict umask.
	chmod -R u=rwX,go=rX "$STATE/site" "$STATE/bin"
	install -d -o "$PHP_UID" -g "$PHP_UID" -m 0700 "$STATE/sessions"
}

# One key, in three copies: each part reads its own, and no part can read or change another's.
make_keys() {
	"$STATE/bin/handoffctl" keygen --path "$STATE/run/chat.sock" "$STATE/keys/new"
	install -o 0 -g 0 -m 0600 "$STATE/keys/new" "$STATE/keys/apache"
	install -o 0 -g "$GATE_UID" -m 0640 "$STATE/keys/new" "$STATE/keys/gate"
	install -o 0 -g "$PHP_UID" -m 0640 "$STATE/keys/new" "$STATE/keys/php"
	rm "$STATE/keys/new"
}

# fill TEMPLATE FILE: puts the values of the variables in place of their @NAMES@.
fill() {
	local text name
	text=$(<"$1")
	for name in STATE LOGS PORT MODULES HANDOFF_MODULE GATE_UID DIALER_UID STREAMER_UID PHP_UID APACHE_USER APACHE_UID; do
		text=${text//"@$name@"/${!name}}
	done
	printf '%s\n' "$text" >"$2"
}

backend_section() {
	if [ -z "$api_key$api_base" ]; then
		printf 'backend "chat" {\n\ttype = "demo"\n\tdelay = %d\n\tstop-grace = 1\n}\n' "$((10#$delay))"
		return
	fi
	printf 'backend "chat" {\n\ttype = "openai"\n\tupstream = "api"\n\tmodel = "%s"\n\tstop-grace = 1\n' "$model"
	[ -z "$api_key" ] || printf '\tcredential-file = "%s/keys/openai"\n' "$STATE"
	printf '}\nupstream "api" {\n\turl = "%s"\n}\n' "${api_base:-https://api.openai.com/v1}"
}

make_configuration() {
	PORT=${PORT:-$(free_port)}
	HANDOFF_MODULE=$build/mod_socket_handoff.so
	fill "$here/apache.conf.in" "$STATE/apache.conf"
	fill "$here/php-fpm.conf.in" "$STATE/php-fpm.conf"
	fill "$here/handoffd.conf.in" "$STATE/handoffd.conf"
	backend_section >>"$STATE/handoffd.conf"
	if [ -n "$api_key" ]; then
		(umask 077 && printf '%s\n' "$api_key" >"$STATE/keys/openai")
		chown "$STREAMER_UID:$STREAMER_UID" "$STATE/keys/openai"
		chmod 0400 "$STATE/keys/openai"
	fi
}

# ---------------------------------------------------------------- the start

# start NAME COMMAND...: in the background, with its output in NAME.log. In a session of its own: what the terminal sends
# (Ctrl-C, hang-up) is for this script alone, which then ends one after the other. Apache would take a hang-up as a wish
# for a restart, and lose the request to end that follows.
start() {
	local name=$1
	shift
	setsid "$@" >>"$LOGS/$name.log" 2>&1 </dev/null &
	pids+=($!)
}

# wait_for PID NAME COMMAND...: until the command succeeds; the end of the log when that does not happen.
wait_for() {
	local pid=$1 name=$2 i
	shift 2
	for ((i = 0; i < 150; i++)); do
		"$@" >/dev/null 2>&1 && return 0
		kill -0 "$pid" 2>/dev/null || break
		sleep 0.1
	done
	tail -n 20 "$LOGS/$name"*.log "$LOGS/apache-error.log" >&2 2>/dev/null || true
	die "$name did not start"
}

start_all() {
	start handoffd "$STATE/bin/handoffd" -c "$STATE/handoffd.conf" -x "$STATE/bin"
	wait_for "${pids[-1]}" handoffd grep -q '^[^ ]* *event=ready processes=' "$LOGS/handoffd.log"
	start php-fpm "$FPM" -F -p "$STATE" -y "$STATE/php-fpm.conf"
	wait_for "${pids[-1]}" php-fpm test -S "$STATE/php/php.sock"
	start apache "$APACHE" -DFOREGROUND -d "$STATE" -f "$STATE/apache.conf"
	wait_for "${pids[-1]}" apache curl -sf -o /dev/null --max-time 5 "http://127.0.0.1:$PORT/"
}

all_run() {
	local pid
	for pid in "${pids[@]}"; do
		kill -0 "$pid" 2>/dev/null || return 1
	done
}

# ---------------------------------------------------------------- one request, as the page makes it

ask_once() {
	local url=http://127.0.0.1:$PORT page token status=0 last
	page=$(curl -sSf --max-time 10 -c "$STATE/cookies" "$url/")
	token=$(sed -n 's/.*name="csrf-token" content="\([0-9a-f]*\)".*/\1/p' <<<"$page")
	[ -n "$token" ] || die "the page holds no CSRF token"
	curl -sSN --fail-with-body --max-time 120 -b "$STATE/cookies" -H "X-CSRF-Token: $token" -H 'Content-Type: application/json' \
		-d '{"messages":[{"role":"user","content":"Hello from the other side of the socket"}]}' "$url/stream.php" |
		tee "$STATE/answer" || status=$?
	last=$(grep -v '^[[:space:]]*$' "$STATE/answer" | tail -n 1 | tr -d '\r')
	[ "$(ps -o user= --ppid "${pids[-1]}" | sort -u | tr -d ' ')" = "$APACHE_USER" ] || die "Apache's workers do not run as $APACHE_USER"
	if [ "$status" -ne 0 ] || [ "$last" != "data: [DONE]" ]; then
		tail -n 20 "$LOGS/handoffd.log" "$LOGS/apache-error.log" "$LOGS/php-fpm.log" >&2 || true
		die "the stream did not come whole (curl's status $status)"
	fi
	echo "demo: the stream came whole"
}

check_machine
trap stop_all EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 129' HUP
make_state
make_keys
make_configuration
start_all
if [ -n "$oneshot" ] && [ "$oneshot" != 0 ]; then
	ask_once
	exit 0
fi
echo
echo "  handoffd demo: http://127.0.0.1:$PORT/"
echo "  logs in $LOGS; Ctrl-C stops everything"
echo
# Until one of the three ends, which none should. Not by wait -n: it goes on waiting for the others when one has been killed
# a moment before.
mkfifo "$STATE/nothing"
exec {nothing}<>"$STATE/nothing"
while all_run; do
	read -rt 1 -u "$nothing" || true
done
die "one of the processes ended by itself; see $LOGS"
