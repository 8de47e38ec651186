/* SPDX-License-Identifier: Apache-2.0
 *
 * Attacks by the network, and with sockets that a role has. `port` is a listener's of the runner, who sees what arrives
 * there: `token` is what it looks for in datagrams. A socket in hand is ATTACK_FD_OBJECT.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/vm_sockets.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "attack.h"

#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif
#ifndef AF_ALG
#define AF_ALG 38
#endif

static struct sockaddr_in there(void)
{
	struct sockaddr_in name = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};

	name.sin_port = htons((uint16_t)attack_number("port"));
	return name;
}

static socklen_t unix_name(struct sockaddr_un *name)
{
	const char *path = attack_text("unix");

	*name = (struct sockaddr_un){.sun_family = AF_UNIX};
	/* @: abstract. */
	memcpy(name->sun_path, path, strlen(path));
	if (path[0] == '@')
		name->sun_path[0] = '\0';
	return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path));
}

static void connect_with(int type, int protocol)
{
	struct sockaddr_in name = there();
	int fd = (int)TRY(socket, socket(AF_INET, type, protocol));

	if (fd >= 0 && TRY(connect, connect(fd, (struct sockaddr *)&name, sizeof(name))) == 0)
		TRY(write, write(fd, attack_text("token"), strlen(attack_text("token"))));
}

static void connect_tcp(void)
{
	connect_with(SOCK_STREAM, 0);
}

/* With the flags that a role's own sockets have. */
static void connect_as_role(void)
{
	connect_with(SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
}

static void connect_mptcp(void)
{
	connect_with(SOCK_STREAM, IPPROTO_MPTCP);
}

static void connect_sctp(void)
{
	connect_with(SOCK_STREAM, IPPROTO_SCTP);
}

static void connect_udp(void)
{
	connect_with(SOCK_DGRAM, 0);
}

static void connect_udplite(void)
{
	connect_with(SOCK_DGRAM, IPPROTO_UDPLITE);
}

static void connect_tcp6(void)
{
	struct sockaddr_in6 name = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	int fd = (int)TRY(socket, socket(AF_INET6, SOCK_STREAM, 0));

	name.sin6_port = htons((uint16_t)attack_number("port"));
	if (fd >= 0)
		TRY(connect, connect(fd, (struct sockaddr *)&name, sizeof(name)));
}

static void send_datagram(void)
{
	struct sockaddr_in name = there();
	const char *token = attack_text("token");
	int fd = (int)TRY(socket, socket(AF_INET, SOCK_DGRAM, 0));

	if (fd >= 0)
		TRY(sendto, sendto(fd, token, strlen(token), 0, (struct sockaddr *)&name, sizeof(name)));
}

static void send_many(void)
{
	struct sockaddr_in name = there();
	struct iovec text = {(char *)(uintptr_t)attack_text("token"), strlen(attack_text("token"))};
	struct mmsghdr message = {.msg_hdr = {&name, sizeof(name), &text, 1, NULL, 0, 0}};
	int fd = (int)TRY(socket, socket(AF_INET, SOCK_DGRAM, 0));

	if (fd >= 0)
		TRY(sendmmsg, sendmmsg(fd, &message, 1, 0));
}

static void fast_open(int fd)
{
	struct sockaddr_in name = there();
	const char *token = attack_text("token");

	TRY(sendto, sendto(fd, token, strlen(token), MSG_FASTOPEN, (struct sockaddr *)&name, sizeof(name)));
}

static void connect_fast_open(void)
{
	int fd = (int)TRY(socket, socket(AF_INET, SOCK_STREAM, 0));

	if (fd >= 0)
		fast_open(fd);
}

/* A UDP datagram made by hand, below the filter of ports. */
static size_t datagram(unsigned char *out, bool with_ip)
{
	const char *token = attack_text("token");
	size_t len = strlen(token), at = with_ip ? sizeof(struct iphdr) : 0;
	struct udphdr udp = {.uh_sport = htons(9999), .uh_dport = htons((uint16_t)attack_number("port"))};
	struct iphdr ip = {.version = 4, .ihl = 5, .ttl = 64, .protocol = IPPROTO_UDP};
	uint32_t sum = 0;
	uint16_t words[sizeof(ip) / 2];

	udp.uh_ulen = htons((uint16_t)(sizeof(udp) + len));
	memcpy(out + at, &udp, sizeof(udp));
	memcpy(out + at + sizeof(udp), token, len);
	len += at + sizeof(udp);
	if (!with_ip)
		return len;
	ip.tot_len = htons((uint16_t)len);
	ip.saddr = ip.daddr = htonl(INADDR_LOOPBACK);
	memcpy(words, &ip, sizeof(ip));
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		sum += words[i];
	while (sum >> 16 != 0)
		sum = (sum & 0xffff) + (sum >> 16);
	ip.check = (uint16_t)~sum;
	memcpy(out, &ip, sizeof(ip));
	return len;
}

static void send_raw(void)
{
	unsigned char packet[256];
	struct sockaddr_in name = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	size_t len = datagram(packet, false);
	int fd = (int)TRY(socket, socket(AF_INET, SOCK_RAW, IPPROTO_UDP));

	if (fd >= 0)
		TRY(sendto, sendto(fd, packet, len, 0, (struct sockaddr *)&name, sizeof(name)));
}

static void send_frame(void)
{
	unsigned char packet[256];
	struct sockaddr_ll name = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_IP), .sll_halen = 6};
	size_t len = datagram(packet, true);
	int fd = (int)TRY(socket, socket(AF_PACKET, SOCK_DGRAM, htons(ETH_P_IP)));

	name.sll_ifindex = (int)attack_number("loopback");
	if (fd >= 0)
		TRY(sendto, sendto(fd, packet, len, 0, (struct sockaddr *)&name, sizeof(name)));
}

/* Reads what goes by on the loopback interface: here a datagram of its own, for want of others'. */
static void sniff(void)
{
	unsigned char packet[2048];
	struct sockaddr_in name = there();
	const char *token = attack_text("token");
	int fd = (int)TRY(socket, socket(AF_PACKET, SOCK_DGRAM, htons(ETH_P_ALL)));
	int sender = fd < 0 ? -1 : (int)TRY(socket, socket(AF_INET, SOCK_DGRAM, 0));
	ssize_t n;

	if (sender < 0)
		return;
	sendto(sender, token, strlen(token), 0, (struct sockaddr *)&name, sizeof(name));
	n = TRY(recvfrom, recv(fd, packet, sizeof(packet), 0));
	if (n > 0)
		attack_give(packet, (size_t)n);
}

/* An address of its own on the loopback interface. */
static void add_address(void)
{
	struct {
		struct nlmsghdr header;
		struct ifaddrmsg message;
		struct rtattr attribute;
		uint32_t address;
	} request = {
	    .header = {.nlmsg_len = sizeof(request),
	               .nlmsg_type = RTM_NEWADDR,
	               .nlmsg_flags = NLM_F_REQUEST | NLM_F_CREATE},
	    .message = {.ifa_family = AF_INET, .ifa_prefixlen = 32},
	    .attribute = {.rta_len = RTA_LENGTH(4), .rta_type = IFA_LOCAL},
	};
	int fd = (int)TRY(socket, socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE));

	request.message.ifa_index = (unsigned)attack_number("loopback");
	request.address = inet_addr(attack_text("address"));
	if (fd >= 0)
		TRY(sendto, send(fd, &request, sizeof(request), 0));
}

static void connect_machine(void)
{
	struct sockaddr_vm name = {.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_LOCAL};
	int fd = (int)TRY(socket, socket(AF_VSOCK, SOCK_STREAM, 0));

	name.svm_port = (unsigned)attack_number("port");
	if (fd >= 0)
		TRY(connect, connect(fd, (struct sockaddr *)&name, sizeof(name)));
}

static void make_algorithm(void)
{
	TRY(socket, socket(AF_ALG, SOCK_SEQPACKET, 0));
}

static void make_express(void)
{
	TRY(socket, socket(44 /* AF_XDP */, SOCK_RAW, 0));
}

static void connect_unix(int type)
{
	struct sockaddr_un name;
	socklen_t len = unix_name(&name);
	int fd = (int)TRY(socket, socket(AF_UNIX, type, 0));

	if (fd >= 0)
		TRY(connect, connect(fd, (struct sockaddr *)&name, len));
}

static void connect_unix_stream(void)
{
	connect_unix(SOCK_STREAM);
}

static void connect_unix_packets(void)
{
	connect_unix(SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK);
}

static void connect_unix_datagrams(void)
{
	connect_unix(SOCK_DGRAM);
}

static void send_unix_datagram(void)
{
	struct sockaddr_un name;
	socklen_t len = unix_name(&name);
	const char *token = attack_text("token");
	int fd = (int)TRY(socket, socket(AF_UNIX, SOCK_DGRAM, 0));

	if (fd >= 0)
		TRY(sendto, sendto(fd, token, strlen(token), 0, (struct sockaddr *)&name, len));
}

/* ---------------------------------------------------------------- listeners of its own */

static void listen_tcp(void)
{
	struct sockaddr_in name = there();
	int one = 1;
	int fd = (int)TRY(socket, socket(AF_INET, SOCK_STREAM, 0));

	if (fd < 0)
		return;
	TRY(setsockopt, setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)));
	if (TRY(bind, bind(fd, (struct sockaddr *)&name, sizeof(name))) == 0)
		TRY(listen, listen(fd, 8));
}

/* Without bind() the kernel chooses a port. */
static void listen_unbound(void)
{
	struct sockaddr_in name;
	socklen_t len = sizeof(name);
	char text[16];
	int fd = (int)TRY(socket, socket(AF_INET, SOCK_STREAM, 0));

	if (fd < 0 || TRY(listen, listen(fd, 8)) < 0)
		return;
	if (TRY(getsockname, getsockname(fd, (struct sockaddr *)&name, &len)) == 0) {
		snprintf(text, sizeof(text), "port %d.", ntohs(name.sin_port));
		attack_give(text, strlen(text));
	}
}

static void bind_datagram(void)
{
	struct sockaddr_in name = there();
	int fd = (int)TRY(socket, socket(AF_INET, SOCK_DGRAM, 0));

	if (fd >= 0)
		TRY(bind, bind(fd, (struct sockaddr *)&name, sizeof(name)));
}

static void listen_abstract(void)
{
	struct sockaddr_un name;
	socklen_t len = unix_name(&name);
	int fd = (int)TRY(socket, socket(AF_UNIX, SOCK_STREAM, 0));

	if (fd >= 0 && TRY(bind, bind(fd, (struct sockaddr *)&name, len)) == 0)
		TRY(listen, listen(fd, 8));
}

/* ---------------------------------------------------------------- a socket in hand */

static void aim_again(void)
{
	struct sockaddr nobody = {.sa_family = AF_UNSPEC};
	struct sockaddr_in name = there();

	TRY(connect, connect(ATTACK_FD_OBJECT, &nobody, sizeof(nobody)));
	TRY(connect, connect(ATTACK_FD_OBJECT, (struct sockaddr *)&name, sizeof(name)));
}

/* Each twice: the first call on a refused socket tells of the refusal. */
static void aim_refused_again(void)
{
	fast_open(ATTACK_FD_OBJECT);
	fast_open(ATTACK_FD_OBJECT);
}

static void aim_refused_by_sendmsg(void)
{
	struct sockaddr_in name = there();
	struct iovec text = {(char *)(uintptr_t)attack_text("token"), strlen(attack_text("token"))};
	struct msghdr message = {.msg_name = &name, .msg_namelen = sizeof(name), .msg_iov = &text, .msg_iovlen = 1};

	for (int i = 0; i < 2; i++)
		TRY(sendmsg, sendmsg(ATTACK_FD_OBJECT, &message, MSG_FASTOPEN));
}

static void aim_refused_by_sendmmsg(void)
{
	struct sockaddr_in name = there();
	struct iovec text = {(char *)(uintptr_t)attack_text("token"), strlen(attack_text("token"))};
	struct mmsghdr message = {.msg_hdr = {&name, sizeof(name), &text, 1, NULL, 0, 0}};

	for (int i = 0; i < 2; i++)
		TRY(sendmmsg, sendmmsg(ATTACK_FD_OBJECT, &message, 1, MSG_FASTOPEN));
}

static void connect_refused(void)
{
	struct sockaddr_in name = there();

	for (int i = 0; i < 2; i++)
		TRY(connect, connect(ATTACK_FD_OBJECT, (struct sockaddr *)&name, sizeof(name)));
}

/* Then write() connects. */
static void aim_by_option(void)
{
	TRY(setsockopt, setsockopt(ATTACK_FD_OBJECT, SOL_TCP, TCP_FASTOPEN_CONNECT, &(int){1}, sizeof(int)));
	connect_refused();
	TRY(write, write(ATTACK_FD_OBJECT, "x", 1));
}

static void pass_on_by(int type)
{
	struct sockaddr_un name;
	socklen_t len = unix_name(&name);
	char space[CMSG_SPACE(sizeof(int))] = {0};
	struct iovec text = {(char *)(uintptr_t) "x", 1};
	struct msghdr message = {
	    .msg_iov = &text, .msg_iovlen = 1, .msg_control = space, .msg_controllen = sizeof(space)};
	struct cmsghdr *control = CMSG_FIRSTHDR(&message);
	int client = ATTACK_FD_OBJECT;
	int fd = (int)TRY(socket, socket(AF_UNIX, type, 0));

	*control =
	    (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
	memcpy(CMSG_DATA(control), &client, sizeof(client));
	if (fd >= 0 && TRY(connect, connect(fd, (struct sockaddr *)&name, len)) == 0)
		TRY(sendmsg, sendmsg(fd, &message, MSG_NOSIGNAL));
}

static void pass_on_stream(void)
{
	pass_on_by(SOCK_STREAM);
}

static void pass_on_packets(void)
{
	pass_on_by(SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK);
}

static void pretend(void)
{
	struct sockaddr_un name;
	socklen_t len = unix_name(&name);
	char space[CMSG_SPACE(sizeof(struct ucred))] = {0};
	struct iovec text = {(char *)(uintptr_t) "x", 1};
	struct msghdr message = {
	    .msg_iov = &text, .msg_iovlen = 1, .msg_control = space, .msg_controllen = sizeof(space)};
	struct cmsghdr *control = CMSG_FIRSTHDR(&message);
	struct ucred credentials = {
	    .pid = getpid(), .uid = (uid_t)attack_number("uid"), .gid = (gid_t)attack_number("uid")};
	int fd = (int)TRY(socket, socket(AF_UNIX, SOCK_STREAM, 0));

	*control = (struct cmsghdr){
	    .cmsg_len = CMSG_LEN(sizeof(credentials)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_CREDENTIALS};
	memcpy(CMSG_DATA(control), &credentials, sizeof(credentials));
	if (fd >= 0 && TRY(connect, connect(fd, (struct sockaddr *)&name, len)) == 0)
		TRY(sendmsg, sendmsg(fd, &message, MSG_NOSIGNAL));
}

static void set_option(int level, int name, const void *value, size_t len)
{
	TRY(setsockopt, setsockopt(ATTACK_FD_OBJECT, level, name, value, (socklen_t)len));
}

static void set_mark(void)
{
	set_option(SOL_SOCKET, SO_MARK, &(int){77}, sizeof(int));
}

static void bind_to_device(void)
{
	set_option(SOL_SOCKET, SO_BINDTODEVICE, "lo", 3);
}

static void repair(void)
{
	set_option(SOL_TCP, TCP_REPAIR, &(int){1}, sizeof(int));
}

static void attach_filter(void)
{
	struct sock_filter all = {.code = BPF_RET | BPF_K, .k = 0xffff};
	struct sock_fprog program = {.len = 1, .filter = &all};

	set_option(SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program));
}

static void be_transparent(void)
{
	set_option(SOL_IP, IP_TRANSPARENT, &(int){1}, sizeof(int));
}

static void force_buffer(void)
{
	set_option(SOL_SOCKET, SO_RCVBUFFORCE, &(int){64 << 20}, sizeof(int));
}

static void set_priority(void)
{
	set_option(SOL_SOCKET, SO_PRIORITY, &(int){7}, sizeof(int));
}

static void set_congestion(void)
{
	set_option(SOL_TCP, TCP_CONGESTION, attack_text("congestion"), strlen(attack_text("congestion")));
}

static void change_upper_layer(void)
{
	set_option(SOL_TCP, TCP_ULP, "tls", 4);
}

static void never_linger(void)
{
	set_option(SOL_SOCKET, SO_LINGER, &(struct linger){1, 0}, sizeof(struct linger));
}

static void set_service_type(void)
{
	set_option(SOL_IP, IP_TOS, &(int){0x10}, sizeof(int));
}

static void change_interface(void)
{
	struct ifreq request = {.ifr_mtu = (int)attack_number("mtu")};

	snprintf(request.ifr_name, sizeof(request.ifr_name), "lo");
	TRY(ioctl, ioctl(ATTACK_FD_OBJECT, SIOCSIFMTU, &request));
}

#define ON_CLIENT(name, primitive, attempt)                                                                            \
	{                                                                                                              \
		name "-client", 37, "client-options", primitive, BASE_ROOT, NULL, attempt                              \
	}

const struct attack attacks_network[] = {
    {"tcp-connect", 31, "tcp-service", "connect", BASE_ROOT, NULL, connect_tcp},
    {"tcp-connect-as-role", 31, "tcp-service", "connect of a socket made like a role's", BASE_ROOT, NULL,
     connect_as_role},
    {"tcp6-connect", 31, "tcp6-service", "connect", BASE_ROOT, NULL, connect_tcp6},
    {"mptcp-connect", 32, "tcp-service", "connect by MPTCP", BASE_ROOT, NULL, connect_mptcp},
    {"sctp-connect", 32, "tcp-service", "connect by SCTP", BASE_ROOT, NULL, connect_sctp},
    {"fast-open", 32, "tcp-service", "sendto MSG_FASTOPEN", BASE_ROOT, NULL, connect_fast_open},
    {"udp-connect", 33, "udp-service", "connect and write", BASE_ROOT, NULL, connect_udp},
    {"udp-sendto", 33, "udp-service", "sendto", BASE_ROOT, NULL, send_datagram},
    {"udp-sendmmsg", 33, "udp-service", "sendmmsg", BASE_ROOT, NULL, send_many},
    {"udplite-connect", 33, "udplite-service", "connect and write", BASE_ROOT, NULL, connect_udplite},
    {"raw-socket", 33, "udp-service", "raw socket", BASE_ROOT, NULL, send_raw},
    {"packet-socket", 33, "wire", "packet socket: send", BASE_ROOT, NULL, send_frame},
    {"packet-sniff", 33, "traffic", "packet socket: receive", BASE_ROOT, NULL, sniff},
    {"netlink-address", 33, "addresses", "netlink RTM_NEWADDR", BASE_ROOT, NULL, add_address},
    {"vsock-connect", 33, "vsock-service", "connect", BASE_ROOT, NULL, connect_machine},
    {"alg-socket", 33, "alg-socket", "socket AF_ALG", BASE_ROOT, NULL, make_algorithm},
    {"xdp-socket", 33, "xdp-socket", "socket AF_XDP", BASE_ROOT, NULL, make_express},
    {"abstract-connect", 35, "abstract-service", "connect", BASE_ROOT, NULL, connect_unix_stream},
    {"abstract-datagram", 35, "abstract-datagrams", "sendto", BASE_ROOT, NULL, send_unix_datagram},
    {"abstract-datagram-connect", 35, "abstract-datagrams", "connect", BASE_ROOT, NULL, connect_unix_datagrams},
    {"abstract-packets", 35, "abstract-packets", "connect", BASE_ROOT, NULL, connect_unix_packets},
    {"unix-connect", 35, "unix-service", "connect", BASE_ROOT, NULL, connect_unix_stream},
    {"unix-datagram", 35, "unix-datagrams", "sendto", BASE_ROOT, NULL, send_unix_datagram},
    {"unix-packets", 35, "unix-packets", "connect", BASE_ROOT, NULL, connect_unix_packets},
    {"private-unix-connect", 35, "private-service", "connect", BASE_ROOT, NULL, connect_unix_stream},
    {"private-unix-packets", 35, "private-packets", "connect", BASE_ROOT, NULL, connect_unix_packets},
    {"tcp-listen", 28, "port", "bind and listen", BASE_ROOT, NULL, listen_tcp},
    {"tcp-listen-unbound", 28, "any-port", "listen without bind", BASE_ROOT, NULL, listen_unbound},
    {"udp-bind", 28, "udp-port", "bind", BASE_ROOT, NULL, bind_datagram},
    {"abstract-listen", 28, "abstract-name", "bind and listen", BASE_ROOT, NULL, listen_abstract},
    {"re-aim-client", 34, "client", "connect AF_UNSPEC, connect", BASE_ROOT, NULL, aim_again},
    {"re-aim-refused-sendto", 34, "refused-socket", "sendto MSG_FASTOPEN", BASE_ROOT, NULL, aim_refused_again},
    {"re-aim-refused-sendmsg", 34, "refused-socket", "sendmsg MSG_FASTOPEN", BASE_ROOT, NULL, aim_refused_by_sendmsg},
    {"re-aim-refused-sendmmsg", 34, "refused-socket", "sendmmsg MSG_FASTOPEN", BASE_ROOT, NULL,
     aim_refused_by_sendmmsg},
    {"re-aim-refused-connect", 34, "refused-socket", "connect", BASE_ROOT, NULL, connect_refused},
    {"re-aim-refused-option", 34, "refused-socket", "TCP_FASTOPEN_CONNECT", BASE_ROOT, NULL, aim_by_option},
    {"pass-client-stream", 36, "accomplice", "SCM_RIGHTS by a stream", BASE_ROOT, NULL, pass_on_stream},
    {"pass-client-packets", 36, "accomplice-packets", "SCM_RIGHTS by packets", BASE_ROOT, NULL, pass_on_packets},
    {"forge-credentials", 46, "credentials-reader", "SCM_CREDENTIALS of another uid", BASE_ROOT, NULL, pretend},
    ON_CLIENT("mark", "setsockopt SO_MARK", set_mark),
    ON_CLIENT("device", "setsockopt SO_BINDTODEVICE", bind_to_device),
    ON_CLIENT("repair", "setsockopt TCP_REPAIR", repair),
    ON_CLIENT("filter", "setsockopt SO_ATTACH_FILTER", attach_filter),
    ON_CLIENT("transparent", "setsockopt IP_TRANSPARENT", be_transparent),
    ON_CLIENT("buffer-force", "setsockopt SO_RCVBUFFORCE", force_buffer),
    ON_CLIENT("priority", "setsockopt SO_PRIORITY", set_priority),
    ON_CLIENT("congestion", "setsockopt TCP_CONGESTION", set_congestion),
    ON_CLIENT("upper-layer", "setsockopt TCP_ULP", change_upper_layer),
    ON_CLIENT("linger", "setsockopt SO_LINGER", never_linger),
    ON_CLIENT("type-of-service", "setsockopt IP_TOS", set_service_type),
    {"ioctl-mtu", 37, "interface", "ioctl SIOCSIFMTU", BASE_ROOT, NULL, change_interface},
    {0},
};
