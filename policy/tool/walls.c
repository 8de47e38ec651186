/* SPDX-License-Identifier: Apache-2.0
 *
 * What the outer walls grant beyond the policies: see walls.h. Each reason is for a reviewer.
 */
#include "walls.h"

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

/* A role opens files before its cage closes; systemd's sandbox, AppArmor and SELinux know no "before". */
const struct wall_path wall_paths[] = {
    /* ---- the program */
    {WALL_GATE, "mr", "/usr/libexec/handoffd/handoffd-gate", "handoffd_gate_exec_t", "itself"},
    {WALL_STREAMER, "mr", "/usr/libexec/handoffd/handoffd-streamer", "handoffd_streamer_exec_t", "itself"},
    {WALL_DIALER, "mr", "/usr/libexec/handoffd/handoffd-dialer", "handoffd_dialer_exec_t", "itself"},
    {WALL_ALL, "mr", "/{usr/,}lib{,32,64}/**", NULL, "libraries; Debian's policy gives them to every domain"},
    {WALL_ALL, "r", "/etc/ld.so.cache", NULL, "the same"},
    {WALL_ALL, "r", "/etc/ld.so.preload", NULL, "the same"},

    /* ---- read at the start */
    {WALL_ALL, "r", "/etc/handoffd/handoffd.conf", "handoffd_etc_t", "the configuration"},
    {WALL_ALL, "r", "/etc/handoffd/policy.d/", "handoffd_etc_t", "who can write there is asked"},
    {WALL_ALL, "r", "/etc/handoffd/policy.d/*.policy", "handoffd_etc_t", "policies that replace the built-in ones"},
    {WALL_ALL, "r", "/etc/{passwd,group,nsswitch.conf}", "etc_t", "names of users in the configuration"},
    {WALL_ALL, "r", "/etc/localtime", "locale_t", "the C library's time zone"},
    {WALL_ALL, "r", "/usr/share/zoneinfo/**", "locale_t", "the same"},
    {WALL_ALL, "r", "/dev/urandom", "urandom_device_t", "libsodium, where getrandom() is missing"},
    {WALL_ALL, "rw", "/dev/null", NULL, "standard input; Debian's policy gives it to every domain"},
    {WALL_ALL, "r", "@{PROC}/@{pid}/{attr/current,maps,status}", NULL,
     "its own, before the cage closes; Debian's policy gives it to every domain"},
    {WALL_ALL, "r", "@{PROC}/sys/kernel/{cap_last_cap,seccomp/actions_avail}", NULL,
     "what the kernel has; Debian's policy gives it to every domain"},
    {WALL_ALL, "w", "/run/systemd/notify", "init_runtime_t",
     "readiness and watchdog; connected before the cage closes"},
    {WALL_ALL, "w", "/run/handoffd/.notify*", NULL, "the supervisor's; SELinux's domains are entered from units"},

    /* ---- the gate */
    {WALL_GATE, "r", "/run/credentials/handoffd-gate.service/keys", "ramfs_t", "the key ring: LoadCredential="},
    {WALL_GATE, "r", "/etc/handoffd/keys", NULL, "the key ring under the supervisor; in SELinux only init reads it"},
    {WALL_GATE, "rw", "/run/handoffd/*.sock", NULL, "connects to the other roles, whose sockets are the next row's"},
    {WALL_GATE, "w", NULL, "handoffd_runtime_t", "the same; AppArmor cannot tell them from the listeners"},
    {WALL_GATE, "r", "/", NULL, "what a memfd's path is disconnected from"},
    {WALL_GATE, "r", "/memfd:handoff-*", NULL, "asks about the seals of data"},
    {WALL_GATE, "rw", NULL, "httpd_tmpfs_t", "the same: SELinux asks for what Apache opened it for; its seals hold"},

    /* ---- streamers */
    {WALL_STREAMER, "r", "/run/credentials/handoffd-streamer@*.service/api-key", "ramfs_t", "LoadCredential="},
    {WALL_STREAMER, "r", "/etc/handoffd/*.key", NULL, "the same under the supervisor; in SELinux only init reads it"},
    {WALL_STREAMER, "r", "/etc/ssl/openssl.cnf", "cert_t", "how OpenSSL is set up, before the cage closes"},
    {WALL_STREAMER, "r", "/etc/ssl/certs/{,**}", "cert_t", "whom it believes, read before the cage closes"},
    {WALL_STREAMER, "r", "/usr/share/ca-certificates/{,**}", "cert_t", "where those are links to"},
    {WALL_STREAMER, "r", "/usr/local/share/ca-certificates/{,**}", "cert_t", "the same"},
    {WALL_STREAMER, "w", "/var/log/handoffd/{,**/}*.log", "handoffd_log_t", "the access log: LogsDirectory="},
    {WALL_STREAMER, "mr", "/memfd:handoff-*", NULL, "data of handoffs, mapped to be read"},
    {WALL_STREAMER, "rw", NULL, "httpd_tmpfs_t",
     "the same: SELinux asks for what Apache opened it for; its seals hold"},

    /* ---- the dialer */
    {WALL_DIALER, "r", "/etc/hosts", "net_conf_t", "landlock path of its policy"},
    {WALL_DIALER, "r", "/etc/{host.conf,resolv.conf,gai.conf}", "net_conf_t", "name servers, before the cage closes"},
    {WALL_DIALER, "r", "/run/systemd/resolve/{stub-resolv,resolv}.conf", "systemd_resolved_runtime_t", "the same"},

    /* ---- what SELinux's interfaces bring along */
    {WALL_ALL, "rw", NULL, "handoffd_tmpfs_t", "the page it counts in; AppArmor does not ask about one's own memfd"},
    {WALL_ALL, "rw", NULL, "tmpfs_t", "that page's name in the kernel's tmpfs, of which there is no directory"},
    {WALL_ALL, "rw", NULL, "init_tmpfs_t", "init_daemon_domain(): what init passes"},
    {WALL_ALL, "rw", NULL, "initrc_devpts_t", "init_daemon_domain(): terminals, of which a unit has none"},
    {WALL_ALL, "r", NULL, "device_t", "init_daemon_domain(): the list of /dev, not the devices"},
    {WALL_ALL, "r", NULL, "devpts_t", "init_daemon_domain(): the list of /dev/pts"},
    {WALL_ALL, "rw", NULL, "nscd_runtime_t",
     "init_daemon_domain(): the cache of user names; the unit's file system hides none"},
};
const size_t wall_n_paths = sizeof(wall_paths) / sizeof(wall_paths[0]);

const struct wall_grant wall_grants[] = {
    {WALL_ALL, "capability setgid", NULL,
     "under the supervisor a role is started as root and sheds it; units and SELinux's "
     "domains are entered without"},
    {WALL_ALL, "capability setpcap", NULL, "the same"},
    {WALL_ALL, "capability setuid", NULL, "the same"},
    {WALL_ALL, "unix dgram", "unix_dgram_socket", "NOTIFY_SOCKET, opened before the cage closes"},
    {WALL_ALL, "unix stream", "unix_stream_socket",
     "standard error under systemd, received; clients of Apache on a unix socket"},
    {WALL_STREAMER | WALL_DIALER, "unix seqpacket", "unix_stream_socket", "the gate's connection, accepted"},
    {WALL_GATE | WALL_STREAMER, "inet stream", NULL,
     "a received socket needs the same as making one; the filter's and the "
     "empty network's part"},
    {WALL_GATE | WALL_STREAMER, "inet6 stream", NULL, "the same"},
};
const size_t wall_n_grants = sizeof(wall_grants) / sizeof(wall_grants[0]);

const struct socket_kind socket_kinds[] = {
    {"unix stream", AF_UNIX, SOCK_STREAM, "unix_stream_socket"},
    {"unix seqpacket", AF_UNIX, SOCK_SEQPACKET, "unix_stream_socket"},
    {"unix dgram", AF_UNIX, SOCK_DGRAM, "unix_dgram_socket"},
    {"inet stream", AF_INET, SOCK_STREAM, "tcp_socket"},
    {"inet6 stream", AF_INET6, SOCK_STREAM, "tcp_socket"},
    {"inet dgram", AF_INET, SOCK_DGRAM, "udp_socket"},
    {"inet6 dgram", AF_INET6, SOCK_DGRAM, "udp_socket"},
    {"inet raw", AF_INET, SOCK_RAW, "rawip_socket"},
    {"inet6 raw", AF_INET6, SOCK_RAW, "rawip_socket"},
    {"netlink raw", AF_NETLINK, SOCK_RAW, "netlink_route_socket"},
    {"packet raw", AF_PACKET, SOCK_RAW, "packet_socket"},
};
const size_t n_socket_kinds = sizeof(socket_kinds) / sizeof(socket_kinds[0]);

static bool meets(const struct policy_condition *condition, uint64_t value)
{
	return (value & condition->mask) == condition->value;
}

bool policy_has_socket(const struct policy *policy, const struct socket_kind *kind)
{
	for (size_t i = 0; i < policy->n_rules; i++) {
		const struct policy_rule *rule = &policy->rules[i];
		uint64_t type = kind->type | (rule->conditions[1].value & (SOCK_CLOEXEC | SOCK_NONBLOCK));

		if (rule->error == 0 && (strcmp(rule->call, "socket") == 0 || strcmp(rule->call, "socketpair") == 0) &&
		    meets(&rule->conditions[0], kind->family) && meets(&rule->conditions[1], type))
			return true;
	}
	return false;
}

unsigned wall_role(const char *name)
{
	static const char *const names[] = {"gate", "streamer", "dialer"};

	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strcmp(name, names[i]) == 0)
			return 1U << i;
	return 0;
}

unsigned wall_access(const char *letters)
{
	unsigned access = 0;

	for (; *letters != '\0'; letters++)
		access |= *letters == 'r'   ? ACCESS_READ
		          : *letters == 'm' ? ACCESS_MAP
		          : *letters == 'x' ? ACCESS_RUN
		                            : ACCESS_WRITE; /* w, a, and what no row of ours has: l, k */
	return access;
}

void wall_find(struct wall_file *wall, const char *what, const char *detail)
{
	printf("%s: %s%s\n", wall->file, what, detail);
	wall->findings++;
}
