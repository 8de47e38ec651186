/* SPDX-License-Identifier: Apache-2.0
 *
 * The dialer as a streamer sees it: only its own upstream, only connected sockets, an answer to every wish.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/common/channel.h"
#include "daemon/common/log.h"
#include "daemon/dialer/connector.h"
#include "daemon/dialer/names.h"
#include "daemon/dialer/resolver.h"
#include "daemon/dialer/streamer.h"

static struct config_backend backends[2] = {
    {.name = "demo", .type = BACKEND_DEMO, .workers = 1},
    {.name = "ai", .type = BACKEND_OPENAI, .workers = 1, .upstream = 1},
};
static struct config_upstream upstreams[4] = {
    {.name = "other", .host = "127.0.0.1", .unix_socket = "", .connect_timeout_ms = 1000},
    {.name = "up", .host = "127.0.0.1", .unix_socket = "", .connect_timeout_ms = 1000},
};
static struct config config = {.backends = backends, .n_backends = 2, .upstreams = upstreams, .n_upstreams = 2};

static struct ev_loop *loop;
static struct channel channel = {.fd = -1, .self = ROLE_STREAMER, .peer = ROLE_DIALER};
static int listener = -1;
static _Alignas(8) uint8_t buffer[MESSAGE_MAX];

static uint16_t listen_somewhere(void)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(address);

	listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(listener, (struct sockaddr *)&address, len), 0);
	assert_int_equal(listen(listener, 16), 0);
	assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &len), 0);
	return ntohs(address.sin_port);
}

static void open_channel(uint32_t backend)
{
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
	assert_int_equal(streamer_open(loop, &config, backend, 0, pair[1]), 0);
	channel.fd = pair[0];
}

static void ask(uint32_t id, uint32_t upstream)
{
	struct message_dial dial = {.id = id, .upstream = upstream};

	assert_int_equal(channel_send(&channel, MESSAGE_DIAL, &dial, NULL, 0, NULL, 0), 0);
}

static void on_tick(struct ev_loop *unused, ev_timer *watcher, int events)
{
	(void)unused;
	(void)watcher;
	(void)events;
}

/* The next answer within five seconds; its descriptor, or -1. */
static int wait_answer(struct message_dialed *dialed)
{
	struct message message;
	ev_timer tick;
	int result = -EAGAIN;

	ev_timer_init(&tick, on_tick, 0.01, 0.01);
	ev_timer_start(loop, &tick);
	for (int i = 0; i < 500 && result == -EAGAIN; i++) {
		ev_run(loop, EVRUN_ONCE);
		result = channel_receive(&channel, buffer, &message);
	}
	ev_timer_stop(loop, &tick);
	assert_int_equal(result, 1);
	assert_int_equal(message.type, MESSAGE_DIALED);
	memcpy(dialed, message.body, sizeof(*dialed));
	assert_int_equal(message.n_fds, dialed->error == 0 ? 1 : 0);
	return message.fds[0];
}

static void close_channel(void)
{
	channel_close(&channel);
	for (int i = 0; i < 5; i++)
		ev_run(loop, EVRUN_NOWAIT);
}

static void test_connected_socket(void **state)
{
	struct sockaddr_in peer;
	socklen_t len = sizeof(peer);
	struct message_dialed dialed;
	static const struct {
		int level, name, value;
	} set[] = {
	    {IPPROTO_TCP, TCP_NODELAY, 1},    {SOL_SOCKET, SO_KEEPALIVE, 1},          {IPPROTO_TCP, TCP_KEEPIDLE, 30},
	    {IPPROTO_TCP, TCP_KEEPINTVL, 10}, {IPPROTO_TCP, TCP_USER_TIMEOUT, 60000},
	};
	int value = 0;

	(void)state;
	upstreams[1].host = "127.0.0.1";
	open_channel(1);
	ask(7, 1);
	int fd FD_CLEANUP = wait_answer(&dialed);
	assert_int_equal(dialed.id, 7);
	assert_int_equal(dialed.error, 0);
	assert_int_equal(getpeername(fd, (struct sockaddr *)&peer, &len), 0);
	assert_int_equal(ntohs(peer.sin_port), upstreams[1].port);
	assert_true((fcntl(fd, F_GETFL) & O_NONBLOCK) != 0);
	for (size_t i = 0; i < sizeof(set) / sizeof(set[0]); i++) {
		len = sizeof(value);
		assert_int_equal(getsockopt(fd, set[i].level, set[i].name, &value, &len), 0);
		assert_int_equal(value, set[i].value);
	}
	close_channel();
}

static void test_by_name(void **state)
{
	struct message_dialed dialed;

	(void)state;
	/* Nobody listens on [::1], which may come first: the next address is tried. */
	upstreams[1].host = "localhost";
	open_channel(1);
	ask(8, 1);
	int fd FD_CLEANUP = wait_answer(&dialed);
	assert_true(fd >= 0);
	assert_int_equal(dialed.error, 0);
	close_channel();
}

static void test_only_the_own_upstream(void **state)
{
	struct message_dialed dialed;
	static const uint32_t forbidden[] = {0, 2, 3, 64, UINT32_MAX};

	(void)state;
	open_channel(1);
	for (size_t i = 0; i < sizeof(forbidden) / sizeof(forbidden[0]); i++) {
		ask((uint32_t)i, forbidden[i]);
		assert_int_equal(wait_answer(&dialed), -1);
		assert_int_equal(dialed.id, i);
		assert_int_equal(dialed.error, -EACCES);
	}
	close_channel();
	/* A demo backend has no upstream, not even the one with number 0. */
	open_channel(0);
	ask(1, 0);
	assert_int_equal(wait_answer(&dialed), -1);
	assert_int_equal(dialed.error, -EACCES);
	close_channel();
}

static void test_refused(void **state)
{
	struct message_dialed dialed;
	uint16_t port = upstreams[1].port;

	(void)state;
	upstreams[1].host = "127.0.0.1";
	upstreams[1].port = 1;
	open_channel(1);
	ask(3, 1);
	assert_int_equal(wait_answer(&dialed), -1);
	assert_int_equal(dialed.id, 3);
	assert_int_equal(dialed.error, -ECONNREFUSED);
	upstreams[1].port = port;
	close_channel();
}

static void test_time_out(void **state)
{
	struct message_dialed dialed;
	int full FD_CLEANUP = -1;
	uint16_t port = upstreams[1].port;
	int kept = listener;
	int fillers[8];

	(void)state;
	/* A listener whose queue is full answers no further SYN. */
	upstreams[1].port = listen_somewhere();
	upstreams[1].connect_timeout_ms = 200;
	full = listener;
	assert_int_equal(listen(full, 0), 0);
	struct sockaddr_in address = {
	    .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons(upstreams[1].port)};
	for (size_t i = 0; i < 8; i++) {
		fillers[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		(void)connect(fillers[i], (struct sockaddr *)&address, sizeof(address));
	}
	usleep(50000);
	open_channel(1);
	ask(4, 1);
	assert_int_equal(wait_answer(&dialed), -1);
	assert_int_equal(dialed.error, -ETIMEDOUT);
	upstreams[1].port = port;
	upstreams[1].connect_timeout_ms = 1000;
	listener = kept;
	fd_close_all(fillers, 8);
	close_channel();
}

static void test_unknown_streamers(void **state)
{
	int pair[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
	assert_int_equal(streamer_open(loop, &config, 2, 0, dup(pair[0])), -EINVAL);
	assert_int_equal(streamer_open(loop, &config, 0, 1, dup(pair[0])), -EINVAL);
	fd_close_all(pair, 2);
}

static void test_streamer_goes_while_dialing(void **state)
{
	(void)state;
	upstreams[1].host = "localhost";
	open_channel(1);
	for (uint32_t i = 0; i < 100; i++)
		ask(i, 1);
	ev_run(loop, EVRUN_NOWAIT);
	close_channel();
}

static int start(void **state)
{
	(void)state;
	loop = ev_default_loop(EVFLAG_AUTO);
	names_init(loop);
	connector_init(&config);
	if (resolver_init(loop) != ARES_SUCCESS)
		return -1;
	upstreams[1].port = listen_somewhere();
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_connected_socket),
	    cmocka_unit_test(test_by_name),
	    cmocka_unit_test(test_only_the_own_upstream),
	    cmocka_unit_test(test_refused),
	    cmocka_unit_test(test_time_out),
	    cmocka_unit_test(test_unknown_streamers),
	    cmocka_unit_test(test_streamer_goes_while_dialing),
	};

	log_level(LOG_CRIT);
	return cmocka_run_group_tests(tests, start, NULL);
}
