/* SPDX-License-Identifier: Apache-2.0
 *
 * The streamer's link to the launcher, with a launcher that is this test; handoffs that wait; and the log of what
 * programs write to their standard error.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "daemon/streamer/handler_log.h"
#include "daemon/streamer/launch.h"
#include "daemon/streamer/waiting.h"

/* ---------------------------------------------------------------- support */

struct world {
	struct ev_loop *loop;
	struct launcher_link link;
	struct channel launcher; /* the other end */
};

static char buffer[MESSAGE_MAX];

/* What one launch has heard. */
struct heard {
	int n_placed, placed;
	int n_launched, launched;
	int n_exited;
	struct launch_end end;
};

static void on_placed(void *user, int error)
{
	struct heard *heard = user;

	heard->n_placed++;
	heard->placed = error;
}

static void on_launched(void *user, int error, int out, int err)
{
	struct heard *heard = user;

	heard->n_launched++;
	heard->launched = error;
	fd_close(&out);
	fd_close(&err);
}

static void on_exited(void *user, const struct launch_end *end)
{
	struct heard *heard = user;

	heard->n_exited++;
	heard->end = *end;
}

static const struct launch_events events = {.placed = on_placed, .launched = on_launched, .exited = on_exited};

static void turn(const struct world *world)
{
	for (int i = 0; i < 4; i++)
		ev_run(world->loop, EVRUN_NOWAIT);
}

static void connect_launcher(struct world *world)
{
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
	channel_close(&world->launcher);
	world->launcher = (struct channel){.fd = pair[1], .self = ROLE_LAUNCHER, .peer = ROLE_STREAMER};
	launch_set_channel(&world->link, pair[0]);
	turn(world);
}

static int setup(void **state)
{
	static struct world world;

	world = (struct world){.loop = ev_loop_new(EVBACKEND_EPOLL), .launcher = {.fd = -1}};
	launch_init(&world.link, world.loop);
	connect_launcher(&world);
	*state = &world;
	return 0;
}

static int teardown(void **state)
{
	struct world *world = *state;

	channel_close(&world->launcher);
	turn(world);
	assert_int_equal(world->link.n_expected, 0);
	for (size_t i = 0; i < LAUNCH_BUCKETS; i++)
		assert_null(LIST_FIRST(&world->link.all[i]));
	ev_loop_destroy(world->loop);
	return 0;
}

/* The next message that the launcher gets; its id. */
static uint32_t expect_message(const struct world *world, enum message_type type, struct message *message)
{
	struct channel launcher = world->launcher;
	struct message local;

	message = message != NULL ? message : &local;
	assert_int_equal(channel_receive(&launcher, buffer, message), 1);
	assert_int_equal(message->type, type);
	return ((const struct message_place *)message->body)->id;
}

static void expect_silence(const struct world *world)
{
	struct channel launcher = world->launcher;
	struct message message;

	assert_int_equal(channel_receive(&launcher, buffer, &message), -EAGAIN);
}

static void say_placed(struct world *world, uint32_t id, int error)
{
	struct message_placed placed = {.id = id, .error = error};

	assert_int_equal(channel_send(&world->launcher, MESSAGE_PLACED, &placed, NULL, 0, NULL, 0), 0);
	turn(world);
}

static void say_launched(struct world *world, uint32_t id, int error)
{
	struct message_launched launched = {.id = id, .error = error};
	int fds[2];

	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	assert_int_equal(channel_send(&world->launcher, MESSAGE_LAUNCHED, &launched, NULL, 0, fds, error == 0 ? 2 : 0),
	                 0);
	fd_close_all(fds, 2);
	turn(world);
}

static void say_exited(struct world *world, uint32_t id, int status, uint32_t limit)
{
	struct message_exited exited = {.id = id, .status = status, .limit = limit, .max_rss_kib = 7};

	assert_int_equal(channel_send(&world->launcher, MESSAGE_EXITED, &exited, NULL, 0, NULL, 0), 0);
	turn(world);
}

static void start(struct launch *launch, const char *facts, size_t facts_len, size_t n_facts, const char *data,
                  int *memfd)
{
	struct text request = {0};

	text_add(&request, facts, facts_len);
	text_add_string(&request, data);
	launch_start(launch, &request, facts_len, n_facts, memfd);
	assert_null(request.data);
	assert_int_equal(*memfd, -1);
}

/* A launch that has its place. */
static struct launch *placed(struct world *world, struct heard *heard, uint32_t *id)
{
	struct launch *launch = launch_place(&world->link, &events, heard);

	assert_non_null(launch);
	turn(world);
	*id = expect_message(world, MESSAGE_PLACE, NULL);
	say_placed(world, *id, 0);
	assert_int_equal(heard->n_placed, 1);
	assert_int_equal(heard->placed, 0);
	return launch;
}

static struct launch *running(struct world *world, struct heard *heard, uint32_t *id)
{
	struct launch *launch = placed(world, heard, id);
	int memfd = -1;

	start(launch, "A=b", 4, 1, "data", &memfd);
	turn(world);
	assert_int_equal(expect_message(world, MESSAGE_LAUNCH, NULL), *id);
	say_launched(world, *id, 0);
	assert_int_equal(heard->n_launched, 1);
	assert_int_equal(heard->launched, 0);
	assert_int_equal(world->link.n_expected, 0);
	return launch;
}

/* ---------------------------------------------------------------- runs */

static void test_a_run(void **state)
{
	struct world *world = *state;
	struct heard heard = {0}, other = {0};
	struct message message;
	uint32_t id;
	struct launch *launch = placed(world, &heard, &id);
	const struct message_launch *body;
	int memfd = -1;

	start(launch, "A=b\0C=d", 8, 2, "data", &memfd);
	assert_int_equal(world->link.n_expected, 1);
	expect_silence(world); /* it is said from the loop */
	turn(world);
	assert_int_equal(expect_message(world, MESSAGE_LAUNCH, &message), id);
	body = message.body;
	assert_int_equal(body->facts_len, 8);
	assert_int_equal(body->n_facts, 2);
	assert_int_equal(message.n_fds, 0);
	assert_true(span_equal(message.more, SPAN_LITERAL("A=b\0C=d\0data")));
	say_launched(world, id, 0);
	assert_int_equal(heard.launched, 0);
	launch_stop(launch, RUN_LIMIT_OUTPUT);
	turn(world);
	assert_int_equal(expect_message(world, MESSAGE_STOP, &message), id);
	assert_int_equal(((const struct message_stop *)message.body)->limit, RUN_LIMIT_OUTPUT);
	launch_stop(launch, RUN_LIMIT_NONE);
	turn(world);
	expect_silence(world);
	say_exited(world, id, 15, RUN_LIMIT_STOPPED);
	assert_int_equal(heard.n_exited, 1);
	assert_int_equal(heard.end.status, 15);
	assert_int_equal(heard.end.limit, RUN_LIMIT_STOPPED);
	assert_int_equal(heard.end.max_rss_kib, 7);
	assert_false(heard.end.lost);
	/* What comes twice finds nobody, and a number that is no limit is none. */
	say_exited(world, id, 0, 0);
	assert_int_equal(heard.n_exited, 1);
	running(world, &other, &id);
	say_exited(world, id, 0, 4711);
	assert_int_equal(other.n_exited, 1);
	assert_int_equal(other.end.limit, RUN_LIMIT_NONE);
}

static void test_data_in_a_memfd(void **state)
{
	struct world *world = *state;
	struct heard heard = {0};
	struct message message;
	uint32_t id;
	struct launch *launch = placed(world, &heard, &id);
	int memfd = memfd_make_sealed(SPAN_LITERAL("data"));
	size_t size;

	start(launch, "A=b", 4, 1, "", &memfd);
	turn(world);
	expect_message(world, MESSAGE_LAUNCH, &message);
	assert_int_equal(message.n_fds, 1);
	assert_int_equal(memfd_check_sealed(message.fds[0], &size), 0);
	assert_int_equal(size, 4);
	assert_int_equal(message.more.len, 4);
	message_close_fds(&message);
	say_launched(world, id, -ENOMEM);
	assert_int_equal(heard.launched, -ENOMEM);
}

static void test_no_place(void **state)
{
	struct world *world = *state;
	struct heard heard = {0};

	launch_place(&world->link, &events, &heard);
	turn(world);
	say_placed(world, expect_message(world, MESSAGE_PLACE, NULL), -EBUSY);
	assert_int_equal(heard.n_placed, 1);
	assert_int_equal(heard.placed, -EBUSY);
}

static void test_leave(void **state)
{
	struct world *world = *state;
	struct heard heard = {0};
	struct launch *launch;
	uint32_t id;

	/* Before it was asked for: nothing is said. */
	launch_leave(launch_place(&world->link, &events, &heard));
	turn(world);
	expect_silence(world);
	/* While it waits; the answer comes too late. */
	launch = launch_place(&world->link, &events, &heard);
	turn(world);
	id = expect_message(world, MESSAGE_PLACE, NULL);
	launch_leave(launch);
	turn(world);
	assert_int_equal(expect_message(world, MESSAGE_LEAVE, NULL), id);
	say_placed(world, id, 0);
	assert_int_equal(heard.n_placed, 0);
	/* With the place. */
	launch = placed(world, &heard, &id);
	launch_leave(launch);
	turn(world);
	assert_int_equal(expect_message(world, MESSAGE_LEAVE, NULL), id);
	expect_silence(world);
}

/* As after a restart of the gate: runs go on, on the channel that they began on; the new one is used after that. */
static void test_a_later_channel(void **state)
{
	struct world *world = *state;
	struct heard runs = {0}, waits = {0}, later = {0};
	struct channel first = world->launcher;
	uint32_t id, waiting;

	running(world, &runs, &id);
	launch_place(&world->link, &events, &waits);
	turn(world);
	waiting = expect_message(world, MESSAGE_PLACE, NULL);
	world->launcher.fd = -1;
	for (int i = 0; i < 2; i++) {
		connect_launcher(world);
		expect_silence(world);
	}
	assert_int_equal(runs.n_exited, 0);
	struct channel last = world->launcher;
	world->launcher = first;
	say_placed(world, waiting, -EBUSY);
	assert_int_equal(waits.placed, -EBUSY);
	say_exited(world, id, 0, RUN_LIMIT_NONE);
	assert_int_equal(runs.n_exited, 1);
	assert_false(runs.end.lost);
	channel_close(&world->launcher);
	world->launcher = last;
	turn(world);
	assert_true(launch_has_channel(&world->link));
	launch_leave(placed(world, &later, &id));
	turn(world);
	assert_int_equal(expect_message(world, MESSAGE_LEAVE, NULL), id);
}

/* A wish outlives the launcher, a run does not. */
static void test_lost(void **state)
{
	struct world *world = *state;
	struct heard waits = {0}, left = {0}, starts = {0}, runs = {0};
	int memfd = -1;
	uint32_t id, again;

	running(world, &runs, &id);
	start(placed(world, &starts, &id), "A=b", 4, 1, "", &memfd);
	launch_place(&world->link, &events, &waits);
	turn(world);
	expect_message(world, MESSAGE_LAUNCH, NULL);
	id = expect_message(world, MESSAGE_PLACE, NULL);
	channel_close(&world->launcher);
	turn(world);
	assert_false(launch_has_channel(&world->link));
	assert_int_equal(runs.n_exited, 1);
	assert_true(runs.end.lost);
	assert_int_equal(starts.n_launched, 1);
	assert_int_equal(starts.launched, -EPIPE);
	assert_int_equal(waits.n_placed, 0);
	/* Wishes of the time between. */
	launch_leave(launch_place(&world->link, &events, &left));
	turn(world);
	connect_launcher(world);
	assert_true(launch_has_channel(&world->link));
	again = expect_message(world, MESSAGE_PLACE, NULL);
	assert_int_equal(again, id);
	expect_silence(world);
	say_placed(world, again, -EBUSY);
	assert_int_equal(waits.n_placed, 1);
	assert_int_equal(left.n_placed, 0);
}

/* A message that this end may not send ends the channel. */
static void test_misused(void **state)
{
	struct world *world = *state;
	struct heard heard = {0};
	uint32_t id;

	running(world, &heard, &id);
	assert_int_equal(send(world->launcher.fd, "garbage", 7, 0), 7);
	turn(world);
	assert_false(launch_has_channel(&world->link));
	assert_true(heard.end.lost);
}

/* More than the socket takes: in order, and all of it. */
static void test_a_full_socket(void **state)
{
	enum { LAUNCHES = 2000 };
	static struct heard heard[LAUNCHES];
	struct world *world = *state;

	memset(heard, 0, sizeof(heard));
	for (int i = 0; i < LAUNCHES; i++)
		assert_non_null(launch_place(&world->link, &events, &heard[i]));
	turn(world);
	for (int i = 0; i < LAUNCHES; i++) {
		uint32_t id = expect_message(world, MESSAGE_PLACE, NULL);

		turn(world);
		say_placed(world, id, -EBUSY);
		assert_int_equal(heard[i].n_placed, 1);
	}
	expect_silence(world);
}

/* ---------------------------------------------------------------- handoffs that wait */

struct waiter {
	struct wait wait;
	int why;
};

static void on_over(struct wait *wait, int why)
{
	((struct waiter *)wait)->why = why;
}

static void test_waiting(void **state)
{
	struct world *world = *state;
	struct waiting waiting;
	struct waiter client_goes = {.wait.over = on_over}, reply_goes = client_goes, late = client_goes;
	int client[2], reply[2], copy;

	assert_int_equal(waiting_init(&waiting, world->loop, 100), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, client), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, reply), 0);
	/* Others hold the socket too; and what is sent on it is not looked at. */
	copy = dup(client[0]);
	assert_int_equal(write(client[1], "x", 1), 1);
	assert_int_equal(waiting_add(&waiting, &client_goes.wait, client[0], reply[0]), 0);
	assert_int_equal(waiting_add(&waiting, &late.wait, copy, -1), 0);
	turn(world);
	assert_int_equal(waiting.n, 2);
	waiting_remove(&waiting, &late.wait);
	assert_int_equal(shutdown(client[1], SHUT_WR), 0);
	turn(world);
	assert_int_equal(client_goes.why, -ENOTCONN);
	assert_int_equal(waiting.n, 0);
	assert_int_equal(late.why, 0);
	close(client[0]);
	turn(world);
	close(client[1]);
	close(copy);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, client), 0);
	assert_int_equal(waiting_add(&waiting, &reply_goes.wait, client[0], reply[0]), 0);
	assert_int_equal(shutdown(reply[1], SHUT_RDWR), 0);
	turn(world);
	assert_int_equal(reply_goes.why, -EPIPE);
	/* Nobody hangs up, and no place comes. */
	assert_int_equal(waiting_add(&waiting, &late.wait, client[0], -1), 0);
	turn(world);
	assert_int_equal(late.why, 0);
	usleep(120000);
	turn(world);
	assert_int_equal(late.why, -ETIMEDOUT);
	late.why = 0;
	assert_int_equal(waiting_add(&waiting, &late.wait, client[0], -1), 0);
	waiting_end(&waiting);
	assert_int_equal(late.why, -ECANCELED);
	ev_io_stop(world->loop, &waiting.hangups);
	ev_timer_stop(world->loop, &waiting.timer);
	close(waiting.hangups.fd);
	for (int i = 0; i < 2; i++) {
		close(client[i]);
		close(reply[i]);
	}
}

/* ---------------------------------------------------------------- standard error */

/* Feed pieces, each in its own second, and return what was logged. */
static char *logged(const char *const *pieces, size_t n)
{
	struct handler_log log = {.handler = "h", .id = 3};
	int saved = dup(STDERR_FILENO), pipe_ends[2];
	static char text[262144];
	ssize_t len;

	assert_int_equal(pipe2(pipe_ends, O_NONBLOCK), 0);
	assert_true(fcntl(pipe_ends[1], F_SETPIPE_SZ, 262144) >= 0);
	assert_int_equal(dup2(pipe_ends[1], STDERR_FILENO), STDERR_FILENO);
	for (size_t i = 0; i < n; i++)
		handler_log_feed(&log, span_of_string(pieces[i]), (int64_t)(i + 1) * 1000);
	handler_log_end(&log, (int64_t)n * 1000);
	assert_int_equal(dup2(saved, STDERR_FILENO), STDERR_FILENO);
	len = read(pipe_ends[0], text, sizeof(text) - 1);
	text[len > 0 ? len : 0] = '\0';
	close(saved);
	close(pipe_ends[0]);
	close(pipe_ends[1]);
	return text;
}

static size_t count(const char *text, const char *what)
{
	size_t n = 0;

	for (; (text = strstr(text, what)) != NULL; text++)
		n++;
	return n;
}

static void test_stderr_lines(void **state)
{
	static const char *const pieces[] = {"one\ntw", "o\r\n\n\x1b[2J\"quoted\" \xc3\xbc", "\nlast"};
	const char *text = logged(pieces, 3);

	(void)state;
	assert_int_equal(count(text, "event=handler-stderr id=3 handler=h line="), 4);
	assert_non_null(strstr(text, "line=one cut=no\n"));
	assert_non_null(strstr(text, "line=two cut=no\n"));
	assert_non_null(strstr(text, "line=\"\\x1b[2J\\\"quoted\\\" \\xc3\\xbc\" cut=no\n"));
	assert_non_null(strstr(text, "line=last cut=no\n"));
}

static void test_stderr_long_line(void **state)
{
	static char piece[3000];
	const char *pieces[] = {piece, piece, "\nnext\n"};
	const char *text;

	(void)state;
	memset(piece, 'x', sizeof(piece) - 1);
	text = logged(pieces, 3);
	assert_int_equal(count(text, "event=handler-stderr"), 2);
	assert_int_equal(count(text, "x"), 1024 + 1);
	assert_non_null(strstr(text, " cut=yes\n"));
	assert_non_null(strstr(text, "line=next cut=no\n"));
}

static void test_stderr_flood(void **state)
{
	static char piece[400 + 1];
	const char *pieces[] = {piece, "a\n"};
	const char *text;

	(void)state;
	for (size_t i = 0; i < 400; i += 2)
		memcpy(piece + i, "y\n", 2);
	text = logged(pieces, 2);
	assert_int_equal(count(text, "line=y "), 50);
	assert_non_null(strstr(text, "event=handler-stderr-dropped id=3 handler=h lines=150\n"));
	assert_non_null(strstr(text, "line=a "));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(test_a_run, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_data_in_a_memfd, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_no_place, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_leave, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_a_later_channel, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_lost, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_misused, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_a_full_socket, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_waiting, setup, teardown),
	    cmocka_unit_test(test_stderr_lines),
	    cmocka_unit_test(test_stderr_long_line),
	    cmocka_unit_test(test_stderr_flood),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
