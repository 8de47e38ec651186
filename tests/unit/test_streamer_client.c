/* SPDX-License-Identifier: Apache-2.0
 *
 * The response head; and writing to a client: chunks, what a full socket leaves, hang-up, close.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "daemon/streamer/client.h"
#include "daemon/streamer/head.h"
#include "lib/fdpass.h"
#include "lib/wire.h"

/* ---------------------------------------------------------------- head */

static void expect_head(const struct head *head, const char *expected)
{
	struct text out = {0};

	head_write(&out, head);
	assert_true(text_ok(&out));
	text_add(&out, "", 1);
	assert_string_equal(out.data, expected);
	text_free(&out);
}

static void test_head_stream(void **state)
{
	struct head head = {.status = 200, .content_type = HEAD_EVENT_STREAM, .now = 784111777, .content_length = -1};

	(void)state;
	head.chunked = true;
	expect_head(&head, "HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
	                   "Content-Type: text/event-stream; charset=utf-8\r\nCache-Control: no-cache\r\n"
	                   "X-Accel-Buffering: no\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n");
	head.chunked = false;
	head.status = 201;
	head.application = SPAN_LITERAL("Set-Cookie: a=b\r\ncontent-TYPE: text/html\r\nDate: now\r\nSet-Cookie: c=d\r\n"
	                                "cache-control: private\r\nContent-Typed: kept\r\nX-Accel-Buffering: yes\r\n");
	expect_head(&head, "HTTP/1.1 201 Created\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
	                   "Set-Cookie: a=b\r\nSet-Cookie: c=d\r\ncache-control: private\r\nContent-Typed: kept\r\n"
	                   "Content-Type: text/event-stream; charset=utf-8\r\nX-Accel-Buffering: no\r\n"
	                   "Connection: close\r\n\r\n");
}

static void test_head_error(void **state)
{
	struct head head = {.status = 429, .content_type = HEAD_JSON, .retry_after = 7, .content_length = 12};

	(void)state;
	head.application = SPAN_LITERAL("Cache-Control: public\r\nRetry-After: 1\r\nSet-Cookie: a=b\r\n");
	expect_head(&head,
	            "HTTP/1.1 429 Too Many Requests\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\nSet-Cookie: a=b\r\n"
	            "Content-Type: application/json; charset=utf-8\r\nCache-Control: no-store\r\n"
	            "Retry-After: 7\r\nContent-Length: 12\r\nConnection: close\r\n\r\n");
}

static void test_head_relay(void **state)
{
	struct head head = {
	    .status = 503, .content_type = HEAD_JSON, .retry_after = 7, .content_length = 12, .relay = true};
	struct wire_relay_head parsed;
	struct text out = {0};

	(void)state;
	head.application = SPAN_LITERAL("Set-Cookie: a=b\r\nDate: now\r\n");
	head_write(&out, &head);
	assert_true(text_ok(&out));
	assert_int_equal(wire_relay_head_parse(text_span(&out), &parsed), 0);
	assert_int_equal(parsed.status, 503);
	assert_true(span_equal_string(parsed.headers,
	                              "Set-Cookie: a=b\r\nContent-Type: application/json; charset=utf-8\r\n"
	                              "Cache-Control: no-store\r\nRetry-After: 7\r\n"));
	text_free(&out);
}

static void test_status(void **state)
{
	(void)state;
	assert_int_equal(head_stream_status(200), 200);
	assert_int_equal(head_stream_status(201), 201);
	assert_int_equal(head_stream_status(204), 200);
	assert_int_equal(head_stream_status(206), 200);
	assert_int_equal(head_stream_status(302), 200);
	assert_int_equal(head_stream_status(500), 200);
}

/* ---------------------------------------------------------------- client */

struct fixture {
	struct ev_loop *loop;
	struct client client;
	int peer;
	int gone;
	int drained;
};

static struct fixture fixture;

static void on_gone(struct client *client)
{
	fixture.gone++;
	client_close(client);
}

static void on_drained(struct client *client)
{
	(void)client;
	fixture.drained++;
}

static const struct client_events events = {.gone = on_gone, .drained = on_drained};

static int setup(void **state)
{
	int pair[2];

	(void)state;
	fixture = (struct fixture){.loop = ev_loop_new(EVBACKEND_EPOLL)};
	if (fixture.loop == NULL || socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0)
		return -1;
	fixture.peer = pair[1];
	client_open(&fixture.client, fixture.loop, pair[0], FRAMING_NONE, &events, 1000);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	client_close(&fixture.client);
	fd_close(&fixture.peer);
	ev_loop_destroy(fixture.loop);
	return 0;
}

static void expect_received(const char *expected)
{
	char buffer[4096];
	ssize_t len = recv(fixture.peer, buffer, sizeof(buffer) - 1, MSG_DONTWAIT);

	assert_true(len >= 0);
	buffer[len] = '\0';
	assert_string_equal(buffer, expected);
}

static void test_chunks(void **state)
{
	struct client *client = &fixture.client;

	(void)state;
	client->framing = FRAMING_CHUNKED;
	assert_int_equal(client_hold(client, SPAN_LITERAL("HEAD;")), 0);
	assert_int_equal(client_unsent(client), 0);
	assert_int_equal(client_send(client, SPAN_LITERAL("0123456789abcdef"), false), 0);
	expect_received("HEAD;10\r\n0123456789abcdef\r\n");
	assert_int_equal(client_send(client, SPAN_LITERAL("x"), true), 0);
	expect_received("1\r\nx\r\n0\r\n\r\n");
	assert_int_equal(client_send(client, SPAN_EMPTY, true), 0);
	expect_received("0\r\n\r\n");
	assert_null(client->pending);
	assert_int_equal(client->sent, 27 + 11 + 5);
}

/* Lengths in front, an empty piece as the end. */
static void test_relay(void **state)
{
	struct client *client = &fixture.client;
	uint8_t buffer[64];

	(void)state;
	client->framing = FRAMING_RELAY;
	assert_int_equal(client_hold(client, SPAN_LITERAL("HEAD;")), 0);
	assert_int_equal(client_send(client, SPAN_LITERAL("abc"), false), 0);
	assert_int_equal(client_send(client, SPAN_EMPTY, false), 0);
	assert_int_equal(client_send(client, SPAN_LITERAL("d"), true), 0);
	assert_int_equal(recv(fixture.peer, buffer, sizeof(buffer), MSG_DONTWAIT), 21);
	assert_memory_equal(buffer, "HEAD;\3\0\0\0abc\1\0\0\0d\0\0\0\0", 21);
	assert_int_equal(client_send(client, SPAN_EMPTY, true), 0);
	assert_int_equal(recv(fixture.peer, buffer, sizeof(buffer), MSG_DONTWAIT), 4);
	assert_memory_equal(buffer, "\0\0\0\0", 4);
}

static void test_plain(void **state)
{
	struct client *client = &fixture.client;

	(void)state;
	assert_int_equal(client_hold(client, SPAN_LITERAL("HEAD;")), 0);
	assert_int_equal(client_flush(client), 0);
	expect_received("HEAD;");
	assert_int_equal(client_send(client, SPAN_LITERAL("x"), true), 0);
	expect_received("x");
	assert_null(client->pending);
}

/* Number of bytes received that are the expected sequence, until there are no more. */
static size_t receive_sequence(size_t position)
{
	char buffer[65536];
	ssize_t len;

	while ((len = recv(fixture.peer, buffer, sizeof(buffer), MSG_DONTWAIT)) > 0) {
		for (ssize_t i = 0; i < len; i++)
			assert_int_equal((uint8_t)buffer[i], (uint8_t)(position++ % 251));
		ev_run(fixture.loop, EVRUN_NOWAIT);
	}
	return position;
}

static void test_full_socket(void **state)
{
	struct client *client = &fixture.client;
	char piece[1000];
	size_t sent = 0;

	(void)state;
	while (client_unsent(client) < 100000) {
		for (size_t i = 0; i < sizeof(piece); i++)
			piece[i] = (char)(uint8_t)(sent++ % 251);
		assert_int_equal(client_send(client, span_of(piece, sizeof(piece)), false), 0);
	}
	assert_int_equal(fixture.drained, 0);
	assert_int_equal(receive_sequence(0), sent);
	assert_int_equal(fixture.drained, 1);
	assert_int_equal(client_unsent(client), 0);
	assert_null(client->pending);
	assert_int_equal(client->sent, sent);
}

/* A head that the full socket takes only in part. */
static void test_held_and_full(void **state)
{
	struct client *client = &fixture.client;
	size_t len = 1000000;
	uint8_t *head = malloc(len);

	(void)state;
	assert_non_null(head);
	for (size_t i = 0; i < len; i++)
		head[i] = (uint8_t)(i % 251);
	assert_int_equal(client_hold(client, span_of(head, len - 1)), 0);
	assert_int_equal(client_send(client, span_of(head + len - 1, 1), false), 0);
	assert_true(client_unsent(client) > 0);
	assert_int_equal(receive_sequence(0), len);
	assert_null(client->pending);
	free(head);
}

static void test_hang_up(void **state)
{
	(void)state;
	assert_int_equal(send(fixture.peer, "pipelined", 9, 0), 9);
	ev_run(fixture.loop, EVRUN_NOWAIT);
	assert_int_equal(fixture.gone, 0);
	fd_close(&fixture.peer);
	ev_run(fixture.loop, EVRUN_NOWAIT);
	assert_int_equal(fixture.gone, 1);
	assert_false(client_is_open(&fixture.client));
}

static void test_lost(void **state)
{
	(void)state;
	fd_close(&fixture.peer);
	assert_int_equal(client_send(&fixture.client, SPAN_LITERAL("x"), false), -EPIPE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_head_stream),
	    cmocka_unit_test(test_head_error),
	    cmocka_unit_test(test_head_relay),
	    cmocka_unit_test(test_status),
	    cmocka_unit_test_setup_teardown(test_chunks, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_relay, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_plain, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_full_socket, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_held_and_full, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_hang_up, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_lost, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
