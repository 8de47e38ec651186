#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# What the SELinux domains must have and must not have, asked of Debian's policy with our module linked into it. The policy
# comes from the guest's root image (tests/vm), so that the host needs none. Exit status 0 also when it was skipped.
#
#   check-selinux.sh MODULE.pp VM-BUILD-DIRECTORY
set -eu
module=$1 build=$2
passed=0 failed=0
if ! command -v sesearch >/dev/null || ! ls "$build"/base-*.tar >/dev/null 2>&1; then
	echo "selinux: skipped, needs sesearch and the guest's image (make vm-image)"
	echo "0 passed, 0 failed, 1 skipped"
	exit 0
fi
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
tar -C "$root" -xf "$build"/base-*.tar ./etc/selinux ./var/lib/selinux ./usr/share/selinux
semodule -p "$root" -s default -n -i "$module" 2>"$root/log" || {
	cat "$root/log"
	exit 1
}
policy=$(ls "$root"/etc/selinux/default/policy/policy.*)

verdict() { # STATUS WHAT
	if [ "$1" -eq 0 ]; then
		passed=$((passed + 1))
	else
		failed=$((failed + 1))
		echo "selinux: $2: FAILED"
	fi
}

# none WHAT SESEARCH-OPTION...: no rule grants it, whatever the booleans say.
none() {
	local what=$1 found
	shift
	found=$(sesearch -A "$@" "$policy")
	[ -z "$found" ] || printf '%s\n' "$found"
	verdict "$([ -z "$found" ]; echo $?)" "nobody grants: $what"
}

some() {
	local what=$1
	shift
	verdict "$([ -n "$(sesearch -A "$@" "$policy")" ]; echo $?)" "granted: $what"
}

for role in gate streamer dialer; do
	t=handoffd_${role}_t
	none "$role runs a program" -s $t -c file -p execute_no_trans
	none "$role reads the key ring" -s $t -t handoffd_key_t -c file -p read
	none "$role reads credentials by path" -s $t -t handoffd_credential_t -c file -p read
	none "$role reads shadow" -s $t -t shadow_t -c file -p read
	none "$role writes configuration" -s $t -t handoffd_etc_t -c file -p write,append
	none "$role traces" -s $t -c process -p ptrace
	none "$role forks into another domain" -s $t -c process -p transition,dyntransition
	none "$role has writable code" -s $t -t $t -c process -p execmem
	none "$role makes raw sockets" -s $t -t $t -c rawip_socket -p create
	none "$role makes packet sockets" -s $t -t $t -c packet_socket -p create
	none "$role mounts" -s $t -c filesystem -p mount
	none "$role loads modules" -s $t -c system -p module_load
	none "$role uses io_uring" -s $t -c io_uring -p sqpoll,override_creds
	none "$role uses bpf" -s $t -c bpf -p prog_load,map_create
	some "$role is entered from init" -s init_t -t $t -c process -p transition
done
for role in gate streamer; do
	t=handoffd_${role}_t
	none "$role makes TCP sockets" -s $t -t $t -c tcp_socket -p create
	none "$role makes UDP sockets" -s $t -t $t -c udp_socket -p create
	none "$role connects clients' sockets" -s $t -t httpd_t -c tcp_socket -p connect
	none "$role connects to ports" -s $t -c tcp_socket -p name_connect
done
none "the gate changes clients' sockets" -s handoffd_gate_t -t httpd_t -c tcp_socket -p setopt,shutdown
none "the streamer re-aims upstreams" -s handoffd_streamer_t -t handoffd_dialer_t -c tcp_socket -p connect
none "streamers connect to other roles" -s handoffd_streamer_t -t handoffd_role -c unix_stream_socket -p connectto
none "the dialer uses Apache's descriptors" -s handoffd_dialer_t -t httpd_t -c fd -p use
none "Apache connects to streamers" -s httpd_t -t handoffd_streamer_t -c unix_stream_socket -p connectto
none "Apache connects to the dialer" -s httpd_t -t handoffd_dialer_t -c unix_stream_socket -p connectto
none "Apache reads credentials" -s httpd_t -t handoffd_credential_t -c file -p read
none "Apache writes the key ring" -s httpd_t -t handoffd_key_t -c file -p write,append
none "Apache reaches the roles' own sockets" -s httpd_t -t handoffd_runtime_t -c sock_file -p write
some "Apache connects to the gate" -s httpd_t -t handoffd_gate_t -c unix_stream_socket -p connectto
some "Apache signs, by the boolean" -s httpd_t -t handoffd_key_t -c file -p read -b handoffd_apache_can_sign
some "the streamer writes to clients" -s handoffd_streamer_t -t httpd_t -c tcp_socket -p write
some "the dialer connects" -s handoffd_dialer_t -t http_port_t -c tcp_socket -p name_connect
some "any port, by the boolean" -s handoffd_dialer_t -t port_type -c tcp_socket -p name_connect -b handoffd_connect_any_port
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
