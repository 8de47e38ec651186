/* SPDX-License-Identifier: Apache-2.0
 *
 * Listener: without descriptors it neither spins nor gives up; without slots the longest silent connection goes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "daemon/common/log.h"
#include "daemon/gate/listener.h"
#include "daemon/gate/pool.h"
#include "lib/fdpass.h"

static char path[64];
static struct config_listen section;
static struct config config = {.listens = &section, .n_listens = 1};
static struct pool pool;
static struct gate gate = {.config = &config, .pools = &pool};
static struct listener listener;
static int listening = -1;

static int connect_one(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}

static void on_time(struct ev_loop *loop, ev_timer *watcher, int events)
{
	(void)watcher;
	(void)events;
	ev_break(loop, EVBREAK_ALL);
}

/* Run the loop for a while; returns how often it went round. */
static unsigned run_for(double seconds)
{
	ev_timer timer;
	unsigned before = ev_iteration(gate.loop);

	ev_timer_init(&timer, on_time, seconds, 0.);
	ev_now_update(gate.loop);
	ev_timer_start(gate.loop, &timer);
	ev_run(gate.loop, 0);
	return ev_iteration(gate.loop) - before;
}

static int set_up(void **state)
{
	static uid_t allowed;
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	(void)state;
	allowed = geteuid();
	section = (struct config_listen){.path = path, .allow_peer = &allowed, .n_allow_peer = 1, .max_connections = 3};
	snprintf(path, sizeof(path), "/tmp/test-gate-listener-%d", (int)getpid());
	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	unlink(path);
	listening = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(listening, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(listening, 16), 0);
	gate.loop = ev_default_loop(EVFLAG_AUTO);
	pool_init(&pool, &gate, 0, connection_resume);
	assert_int_equal(listener_init(&listener, &gate, 0, listening), 0);
	listener_start(&listener);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	listener_stop(&listener);
	fd_close(&listening);
	return unlink(path);
}

static void test_no_descriptors(void **state)
{
	struct rlimit limit, none;
	int waiting = connect_one();

	(void)state;
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	none = limit;
	none.rlim_cur = (rlim_t)waiting + 1; /* what is open stays open, and there is no gap */
	int fill = open("/dev/null", O_RDONLY | O_CLOEXEC);
	while (fill >= 0 && fill < waiting)
		fill = open("/dev/null", O_RDONLY | O_CLOEXEC);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	unsigned rounds = run_for(0.35);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	assert_in_range(rounds, 2, 20);
	assert_int_equal(listener.n_connections, 0);
	run_for(0.2);
	assert_int_equal(listener.n_connections, 1);
	fd_close(&waiting);
	run_for(0.05);
	assert_int_equal(listener.n_connections, 0);
}

static bool is_closed(int fd)
{
	char byte;

	return recv(fd, &byte, 1, MSG_DONTWAIT) == 0;
}

static void test_slots(void **state)
{
	int fds[5];

	(void)state;
	for (int i = 0; i < 3; i++)
		fds[i] = connect_one();
	run_for(0.05);
	assert_int_equal(listener.n_connections, 3);
	/* All of them are young: the newcomer has to go. */
	fds[3] = connect_one();
	run_for(0.05);
	assert_int_equal(listener.n_connections, 3);
	assert_true(is_closed(fds[3]));
	run_for(0.6);
	fds[4] = connect_one();
	run_for(0.05);
	assert_int_equal(listener.n_connections, 3);
	assert_true(is_closed(fds[0]));
	assert_false(is_closed(fds[1]));
	assert_false(is_closed(fds[4]));
	fd_close_all(fds, 5);
	run_for(0.05);
	assert_int_equal(listener.n_connections, 0);
}

static void test_other_uid(void **state)
{
	uid_t other = geteuid() + 1;
	int fd;

	(void)state;
	section.allow_peer = &other;
	fd = connect_one();
	run_for(0.05);
	assert_int_equal(listener.n_connections, 0);
	assert_true(is_closed(fd));
	fd_close(&fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(test_no_descriptors, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(test_slots, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(test_other_uid, set_up, tear_down),
	};

	log_level(LOG_CRIT);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
