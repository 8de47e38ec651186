/* SPDX-License-Identifier: Apache-2.0
 *
 * Channel: both ends follow the table of messages.h: type, direction, size, descriptors.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "daemon/common/channel.h"

static _Alignas(8) uint8_t buffer[MESSAGE_MAX];
/* A body of any of the messages. */
static const union {
#define BODY(symbol, from, to, body, more, fds_min, fds_max) body of_##symbol;
	MESSAGES(BODY)
#undef BODY
} zeros;
static int spare[FDPASS_MAX]; /* descriptors to send */

static struct channel left, right;

static size_t count_fds(void)
{
	DIR *directory = opendir("/proc/self/fd");
	size_t n = 0;

	assert_non_null(directory);
	while (readdir(directory) != NULL)
		n++;
	closedir(directory);
	return n;
}

static void connect_roles(enum role from, enum role to)
{
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	left = (struct channel){.fd = pair[0], .self = from, .peer = to};
	right = (struct channel){.fd = pair[1], .self = to, .peer = from};
}

static void disconnect_roles(void)
{
	channel_close(&left);
	channel_close(&right);
	assert_int_equal(left.fd, -1);
	/* Twice does no harm. */
	channel_close(&right);
}

static const struct {
	enum message_type type;
	enum role from;
	enum role to;
	size_t body;
	size_t more;
	size_t fds_min;
	size_t fds_max;
} table[] = {
#define TABLE_ROW(symbol, from, to, body, more, fds_min, fds_max)                                                      \
	{symbol, from, to, sizeof(body), more, fds_min, fds_max},
    MESSAGES(TABLE_ROW)
#undef TABLE_ROW
};

static void test_every_message_passes(void **state)
{
	(void)state;
	for (size_t i = 0; i < MESSAGE_COUNT; i++) {
		connect_roles(table[i].from, table[i].to);
		for (size_t n = table[i].fds_min; n <= table[i].fds_max; n++) {
			struct message message;

			assert_int_equal(channel_send(&left, table[i].type, &zeros, NULL, 0, spare, n), 0);
			assert_int_equal(channel_receive(&right, buffer, &message), 1);
			assert_int_equal(message.type, table[i].type);
			assert_ptr_equal(message.body, buffer + sizeof(struct message_header));
			assert_int_equal(message.more.len, 0);
			assert_int_equal(message.n_fds, n);
			for (size_t k = 0; k < FDPASS_MAX; k++) {
				assert_int_equal(message.fds[k] >= 0, k < n);
				if (k < n)
					assert_true((fcntl(message.fds[k], F_GETFD) & FD_CLOEXEC) != 0);
			}
			message_close_fds(&message);
		}
		disconnect_roles();
	}
}

static void test_nobody_sends_what_is_not_his(void **state)
{
	(void)state;
	for (enum role from = 0; from < ROLE_COUNT; from++)
		for (enum role to = 0; to < ROLE_COUNT; to++)
			for (size_t i = 0; i < MESSAGE_COUNT; i++) {
				if (table[i].from == from && table[i].to == to)
					continue;
				connect_roles(from, to);
				assert_int_equal(
				    channel_send(&left, table[i].type, &zeros, NULL, 0, spare, table[i].fds_min),
				    -EINVAL);
				disconnect_roles();
			}
}

static void test_nobody_takes_what_is_not_for_him(void **state)
{
	(void)state;
	for (enum role to = 0; to < ROLE_COUNT; to++)
		for (size_t i = 0; i < MESSAGE_COUNT; i++) {
			struct message message;
			size_t before = count_fds();

			if (table[i].to == to)
				continue;
			connect_roles(table[i].from, table[i].to);
			right.self = to;
			assert_int_equal(channel_send(&left, table[i].type, &zeros, NULL, 0, spare, table[i].fds_min),
			                 0);
			assert_int_equal(channel_receive(&right, buffer, &message), -EBADMSG);
			disconnect_roles();
			assert_int_equal(count_fds(), before);
		}
}

static void test_send_refuses_wrong_counts(void **state)
{
	uint8_t byte = 0;
	struct span more = span_of(&byte, 1);

	(void)state;
	for (size_t i = 0; i < MESSAGE_COUNT; i++) {
		connect_roles(table[i].from, table[i].to);
		if (table[i].fds_min > 0)
			assert_int_equal(
			    channel_send(&left, table[i].type, &zeros, NULL, 0, spare, table[i].fds_min - 1), -EINVAL);
		if (table[i].fds_max < FDPASS_MAX)
			assert_int_equal(
			    channel_send(&left, table[i].type, &zeros, NULL, 0, spare, table[i].fds_max + 1), -EINVAL);
		if (table[i].more == 0)
			assert_int_equal(channel_send(&left, table[i].type, &zeros, &more, 1, spare, table[i].fds_min),
			                 -EINVAL);
		disconnect_roles();
	}
	connect_roles(ROLE_GATE, ROLE_STREAMER);
	assert_int_equal(channel_send(&left, MESSAGE_COUNT, &zeros, NULL, 0, spare, 2), -EINVAL);
	disconnect_roles();
	assert_int_equal(channel_send(&left, MESSAGE_HANDOFF, &zeros, NULL, 0, spare, 2), -EPIPE);
}

/* What arrives is judged by itself, whoever sent it. */
static void check_raw(uint32_t type, uint32_t length, size_t send_len, size_t n_fds)
{
	static uint8_t raw[MESSAGE_MAX + 64];
	struct message_header header = {.type = type, .length = length};
	struct iovec iov = {.iov_base = raw, .iov_len = send_len};
	struct message message;
	size_t before = count_fds();

	memcpy(raw, &header, sizeof(header));
	connect_roles(ROLE_GATE, ROLE_STREAMER);
	assert_int_equal(fdpass_send(left.fd, &iov, 1, spare, n_fds, 0), 0);
	assert_int_equal(channel_receive(&right, buffer, &message), -EBADMSG);
	disconnect_roles();
	assert_int_equal(count_fds(), before);
}

static void test_receive_refuses(void **state)
{
	const uint32_t whole = sizeof(struct message_header) + sizeof(struct message_handoff);

	(void)state;
	check_raw(MESSAGE_HANDOFF, 4, 4, 2);
	check_raw(MESSAGE_HANDOFF, whole + 1, whole, 2);
	check_raw(MESSAGE_HANDOFF, whole - 1, whole, 2);
	check_raw(MESSAGE_HANDOFF, whole - 1, whole - 1, 2);
	check_raw(MESSAGE_HANDOFF, whole, whole, 0);
	check_raw(MESSAGE_HANDOFF, whole, whole, 1);
	check_raw(MESSAGE_HANDOFF, whole, whole, 4);
	check_raw(MESSAGE_HANDOFF, whole + WIRE_REQUEST_MAX + 1, whole + WIRE_REQUEST_MAX + 1, 2);
	check_raw(MESSAGE_HANDOFF, MESSAGE_MAX + 1, MESSAGE_MAX + 1, 2);
	check_raw(MESSAGE_DIALER_CHANNEL, 17, 17, 1);
	check_raw(MESSAGE_DIALER_CHANNEL, 16, 16, 2);
	check_raw(MESSAGE_COUNT, whole, whole, 2);
	check_raw(UINT32_MAX, whole, whole, 2);
}

static void test_more_is_put_together(void **state)
{
	static uint8_t large[WIRE_REQUEST_MAX];
	struct message_handoff body = {.stream_id = 77, .listener = 3};
	struct message_handoff received;
	struct message message;
	struct span more[3] = {span_of("ab", 2), SPAN_EMPTY, span_of("cde", 3)};

	(void)state;
	connect_roles(ROLE_GATE, ROLE_STREAMER);
	assert_int_equal(channel_send(&left, MESSAGE_HANDOFF, &body, more, 3, spare, 2), 0);
	assert_int_equal(channel_receive(&right, buffer, &message), 1);
	memcpy(&received, message.body, sizeof(received));
	assert_int_equal(received.stream_id, 77);
	assert_int_equal(received.listener, 3);
	assert_true(span_equal(message.more, span_of_string("abcde")));
	message_close_fds(&message);

	more[0] = span_of(large, sizeof(large));
	assert_int_equal(channel_send(&left, MESSAGE_HANDOFF, &body, more, 1, spare, 3), 0);
	assert_int_equal(channel_receive(&right, buffer, &message), 1);
	assert_int_equal(message.more.len, sizeof(large));
	message_close_fds(&message);
	more[1] = span_of("x", 1);
	assert_int_equal(channel_send(&left, MESSAGE_HANDOFF, &body, more, 2, spare, 3), -EINVAL);
	disconnect_roles();
}

static void test_ends(void **state)
{
	struct message message;

	(void)state;
	connect_roles(ROLE_STREAMER, ROLE_DIALER);
	assert_int_equal(channel_receive(&right, buffer, &message), -EAGAIN);
	int result = 0;
	for (int i = 0; i < 100000 && result == 0; i++)
		result = channel_send(&left, MESSAGE_DIAL, &zeros, NULL, 0, NULL, 0);
	assert_int_equal(result, -EAGAIN);
	channel_close(&left);
	while ((result = channel_receive(&right, buffer, &message)) == 1)
		;
	assert_int_equal(result, 0);
	assert_int_equal(channel_send(&right, MESSAGE_DIALED, &zeros, NULL, 0, NULL, 0), -EPIPE);
	channel_close(&right);
	assert_int_equal(channel_receive(&right, buffer, &message), 0);
}

static void test_names(void **state)
{
	(void)state;
	for (enum role role = 0; role < ROLE_COUNT; role++)
		assert_string_not_equal(role_name(role), "unknown");
	assert_string_equal(role_name(ROLE_COUNT), "unknown");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_every_message_passes),
	    cmocka_unit_test(test_nobody_sends_what_is_not_his),
	    cmocka_unit_test(test_nobody_takes_what_is_not_for_him),
	    cmocka_unit_test(test_send_refuses_wrong_counts),
	    cmocka_unit_test(test_receive_refuses),
	    cmocka_unit_test(test_more_is_put_together),
	    cmocka_unit_test(test_ends),
	    cmocka_unit_test(test_names),
	};

	for (size_t i = 0; i < FDPASS_MAX; i++) {
		spare[i] = open("/dev/null", O_RDONLY | O_CLOEXEC);
		if (spare[i] < 0)
			return 1;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
