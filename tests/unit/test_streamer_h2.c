/* SPDX-License-Identifier: Apache-2.0
 *
 * The HTTP/2 transport against an upstream in memory: what becomes of a request in each way that an upstream can treat
 * it, how answers are held back, which connections there are, and what is limited.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "h2_support.h"

/* HPACK. We allow no table of fields, which must be confirmed. */
#define NO_TABLE            "\x20"
#define STATUS_200          NO_TABLE "\x88"       /* from the static table */
#define STATUS(s)           NO_TABLE "\x08\x03" s /* its name from there */
#define FIELD(n, nl, v, vl) "\x00" nl n vl v      /* both as they are */

static struct text said; /* by the upstream, not sent yet */

static int setup(void **state)
{
	(void)state;
	h2_support_begin();
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	h2_support_end();
	text_free(&said);
	assert_int_equal(h2_transport->n_connections, 0);
	assert_int_equal(h2_transport->n_waiting, 0);
	assert_int_equal(h2_transport->n_free, 0);
	assert_int_equal(h2_transport->n_draining, 0);
	return 0;
}

static void add_settings(uint32_t streams)
{
	const uint8_t payload[] = {0,
	                           NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS,
	                           (uint8_t)(streams >> 24),
	                           (uint8_t)(streams >> 16),
	                           (uint8_t)(streams >> 8),
	                           (uint8_t)streams};

	add_frame(&said, NGHTTP2_SETTINGS, 0, 0, payload, sizeof(payload));
	add_frame(&said, NGHTTP2_SETTINGS, NGHTTP2_FLAG_ACK, 0, NULL, 0);
}

static void add_head(uint32_t stream, const char *block, size_t len, bool end)
{
	add_frame(&said, NGHTTP2_HEADERS, (uint8_t)(NGHTTP2_FLAG_END_HEADERS | (end ? NGHTTP2_FLAG_END_STREAM : 0)),
	          stream, block, len);
}

static void add_data(uint32_t stream, const char *data, bool end)
{
	add_frame(&said, NGHTTP2_DATA, end ? NGHTTP2_FLAG_END_STREAM : 0, stream, data, strlen(data));
}

static void add_reset(uint32_t stream, uint8_t code)
{
	add_frame(&said, NGHTTP2_RST_STREAM, 0, stream, (const uint8_t[]){0, 0, 0, code}, 4);
}

static void add_goaway(uint8_t last)
{
	add_frame(&said, NGHTTP2_GOAWAY, 0, 0, (const uint8_t[]){0, 0, 0, last, 0, 0, 0, 0}, 8);
}

static void say(struct wire *wire)
{
	h2_say(wire, said.data, said.len);
	text_reset(&said, SIZE_MAX);
}

/* The next connection, whose upstream allows so many streams. */
static struct wire *connect_wire(uint32_t streams)
{
	size_t number = n_wires;

	h2_dialled(0);
	assert_int_equal(n_wires, number + 1);
	add_settings(streams);
	say(&wires[number]);
	return &wires[number];
}

/* ---------------------------------------------------------------- answers */

static void test_answer(void **state)
{
	struct asked asked = {0};
	struct span fields = SPAN_EMPTY;

	(void)state;
	ask(&asked, 1000);
	struct wire *wire = connect_wire(100);
	assert_int_equal(frames_sent(wire, NGHTTP2_HEADERS, 1, &fields), 1);
	assert_int_equal(frames_sent(wire, NGHTTP2_DATA, 1, NULL), 1);
	assert_true(fields.len > 60);
	add_head(1, STATUS_200, 2, false);
	add_data(1, "one ", false);
	add_data(1, "two", true);
	say(wire);
	assert_int_equal(asked.heads, 1);
	assert_int_equal(asked.head.status, 200);
	assert_int_equal(asked.sent, 1);
	assert_int_equal(asked.ends, 1);
	assert_int_equal(asked.error, TRANSFER_OK);
	assert_true(span_equal_string(text_span(&asked.answer), "one two"));
	assert_int_equal(h2_connection_of(wire)->n_streams, 0);
	asked_free(&asked);
}

static void test_any_boundary(void **state)
{
	static const char head[] = STATUS_200 FIELD("content-type", "\x0c", "application/json", "\x10");

	(void)state;
	for (size_t piece = 1; piece < 40; piece++) {
		struct asked asked = {0};

		ask(&asked, 10);
		struct wire *wire = connect_wire(100);
		wire->piece = piece;
		add_head(1, STATUS("103"), 6, false);
		add_head(1, head, sizeof(head) - 1, false);
		add_data(1, "", false);
		add_data(1, "one two", false);
		add_head(1, FIELD("trailer", "\x07", "x", "\x01"), 11, true);
		say(wire);
		assert_int_equal(asked.heads, 1);
		assert_true(asked.head.is_json);
		assert_int_equal(asked.error, TRANSFER_OK);
		assert_int_equal(asked.ends, 1);
		assert_true(span_equal_string(text_span(&asked.answer), "one two"));
		asked_free(&asked);
		h2_support_end();
	}
}

static void test_ends_that_are_none(void **state)
{
	static const struct {
		const char *what;
		bool head;
		int reset; /* -1: the connection closes */
		enum transfer_error error;
	} ends[] = {
	    {"refused", false, NGHTTP2_REFUSED_STREAM, TRANSFER_UNSEEN},
	    {"failed", false, NGHTTP2_INTERNAL_ERROR, TRANSFER_BROKEN},
	    {"no error, and no answer", false, NGHTTP2_NO_ERROR, TRANSFER_BROKEN},
	    {"failed behind the head", true, NGHTTP2_INTERNAL_ERROR, TRANSFER_BROKEN},
	    {"no error, and half an answer", true, NGHTTP2_NO_ERROR, TRANSFER_BROKEN},
	    {"closed", false, -1, TRANSFER_BROKEN},
	    {"closed behind the head", true, -1, TRANSFER_BROKEN},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
		struct asked asked = {0};

		ask(&asked, 10);
		struct wire *wire = connect_wire(100);
		if (ends[i].head)
			add_head(1, STATUS_200, 2, false);
		if (ends[i].reset >= 0)
			add_reset(1, (uint8_t)ends[i].reset);
		say(wire);
		if (ends[i].reset < 0)
			h2_hang_up(wire);
		if (asked.ends != 1 || asked.error != ends[i].error)
			fail_msg("%s: %u ends, error %d", ends[i].what, asked.ends, (int)asked.error);
		asked_free(&asked);
		h2_support_end();
	}
}

static void test_status_that_is_none(void **state)
{
	struct asked asked = {0};

	(void)state;
	ask(&asked, 10);
	struct wire *wire = connect_wire(100);
	add_head(1, STATUS("042"), 6, true);
	say(wire);
	assert_int_equal(asked.heads, 0);
	assert_int_equal(asked.error, TRANSFER_BROKEN);
	asked_free(&asked);
}

/* ---------------------------------------------------------------- connections that close */

/* Whoever's connection says goodbye before it has begun moves on; the others end where they are. */
static void test_goaway(void **state)
{
	struct asked asked[3] = {0};

	(void)state;
	h2_upstream.max_connections = 1;
	ask(&asked[0], 10);
	ask(&asked[1], 10);
	struct wire *wire = connect_wire(100);
	add_head(1, STATUS_200, 2, false);
	add_goaway(1);
	say(wire);
	assert_int_equal(asked[1].ends, 1);
	assert_int_equal(asked[1].error, TRANSFER_MOVED);
	assert_int_equal(asked[0].ends, 0);
	assert_int_equal(h2_transport->n_draining, 1);
	/* It does not count for max-connections. */
	ask(&asked[2], 10);
	struct wire *other = connect_wire(100);
	assert_int_equal(frames_sent(other, NGHTTP2_HEADERS, 0, NULL), 1);
	add_data(1, "x", true);
	say(wire);
	assert_int_equal(asked[0].error, TRANSFER_OK);
	assert_int_equal(asked[0].ends, 1);
	for (size_t i = 0; i < 3; i++)
		asked_free(&asked[i]);
}

/* A connection that served before and closes at once was about to. */
static void test_kept_connection_that_closes(void **state)
{
	struct asked first = {0}, second = {0};

	(void)state;
	ask(&first, 10);
	struct wire *wire = connect_wire(100);
	add_head(1, STATUS_200, 2, true);
	say(wire);
	assert_int_equal(first.error, TRANSFER_OK);
	ask(&second, 10);
	h2_hang_up(wire);
	assert_int_equal(second.ends, 1);
	assert_int_equal(second.error, TRANSFER_MOVED);
	asked_free(&first);
	asked_free(&second);
}

static void test_no_connection(void **state)
{
	struct asked asked[2] = {0};

	(void)state;
	ask(&asked[0], 10);
	h2_dialled(-ECONNREFUSED);
	assert_int_equal(asked[0].error, TRANSFER_UNREACHABLE);
	ask(&asked[1], 10);
	h2_dialled(-ETIMEDOUT);
	assert_int_equal(asked[1].error, TRANSFER_TIMEOUT);
	asked_free(&asked[0]);
	asked_free(&asked[1]);
}

/* ---------------------------------------------------------------- streams and their room */

static void test_upstream_allows_one(void **state)
{
	struct asked asked[3] = {0};

	(void)state;
	h2_upstream.max_connections = 1;
	for (size_t i = 0; i < 3; i++)
		ask(&asked[i], 10);
	struct wire *wire = connect_wire(1);
	assert_int_equal(frames_sent(wire, NGHTTP2_HEADERS, 0, NULL), 1);
	add_head(1, STATUS_200, 2, true);
	say(wire);
	/* In order, and one that leaves leaves no gap. */
	assert_int_equal(asked[0].ends, 1);
	assert_int_equal(frames_sent(wire, NGHTTP2_HEADERS, 0, NULL), 2);
	asked_cancel(&asked[1]);
	h2_turn();
	assert_int_equal(frames_sent(wire, NGHTTP2_RST_STREAM, 3, NULL), 1);
	assert_int_equal(frames_sent(wire, NGHTTP2_HEADERS, 0, NULL), 3);
	assert_int_equal(asked[1].ends, 0);
	for (size_t i = 0; i < 3; i++)
		asked_free(&asked[i]);
}

static void pause_it(struct asked *asked)
{
	transport_h2.pause(asked->transfer, true);
}

/* While an answer is held back the upstream gets no more room for it, and still some for the others. */
static void test_pause(void **state)
{
	static char piece[H2_STREAM_WINDOW - 1];
	struct asked slow = {.on_head = pause_it}, quick = {0};

	(void)state;
	memset(piece, 'a', sizeof(piece) - 1);
	ask(&slow, 10);
	ask(&quick, 10);
	struct wire *wire = connect_wire(100);
	add_head(1, STATUS_200, 2, false);
	add_head(3, STATUS_200, 2, false);
	add_data(1, piece, false);
	add_data(3, piece, false);
	say(wire);
	assert_int_equal(slow.answer.len, sizeof(piece) - 1);
	assert_int_equal(frames_sent(wire, NGHTTP2_WINDOW_UPDATE, 1, NULL), 0);
	assert_int_equal(frames_sent(wire, NGHTTP2_WINDOW_UPDATE, 3, NULL), 1);
	transport_h2.pause(slow.transfer, false);
	h2_turn();
	assert_int_equal(frames_sent(wire, NGHTTP2_WINDOW_UPDATE, 1, NULL), 1);
	/* More than it was allowed is the upstream's fault. */
	transport_h2.pause(slow.transfer, true);
	add_data(1, piece, false);
	add_data(1, piece, false);
	say(wire);
	assert_int_equal(slow.ends, 1);
	assert_int_equal(slow.error, TRANSFER_BROKEN);
	asked_free(&slow);
	asked_free(&quick);
}

/* What the socket does not take waits, in order, and is sent later; nothing is lost or sent twice. */
static void test_socket_that_takes_little(void **state)
{
	struct asked asked = {0};
	size_t body = 0;

	(void)state;
	ask(&asked, 40000);
	h2_dialled(0);
	struct wire *wire = &wires[0];
	add_settings(100);
	wire->room = 10;
	say(wire);
	for (int i = 0; i < 5000; i++) {
		wire->room += 17;
		h2_ready(wire, EV_WRITE);
	}
	assert_null(h2_connection_of(wire)->pending);
	for (size_t at = PREFACE; at < wire->out.len;) {
		const uint8_t *frame = (const uint8_t *)wire->out.data + at;
		size_t len = (size_t)frame[0] << 16 | (size_t)frame[1] << 8 | frame[2];

		body += frame[3] == NGHTTP2_DATA ? len : 0;
		at += H2_FRAME_HEADER + len;
	}
	assert_int_equal(body, 40000);
	asked_free(&asked);
}

/* ---------------------------------------------------------------- what is limited */

static void test_frames_that_say_nothing(void **state)
{
	struct asked asked = {0};

	(void)state;
	ask(&asked, 10);
	struct wire *wire = connect_wire(100);
	for (int i = 0; i < 1100; i++)
		add_frame(&said, NGHTTP2_PRIORITY, 0, 1, "\0\0\0\3\1", 5);
	say(wire);
	assert_null(h2_connection_of(wire));
	assert_int_equal(asked.error, TRANSFER_BROKEN);
	asked_free(&asked);
}

static void test_bytes_that_say_nothing(void **state)
{
	static const char ignored[16000];
	struct asked asked = {0};

	(void)state;
	ask(&asked, 10);
	struct wire *wire = connect_wire(100);
	for (int i = 0; i < 100; i++)
		add_frame(&said, 0x7f, 0, 0, ignored, sizeof(ignored));
	say(wire);
	assert_null(h2_connection_of(wire));
	assert_int_equal(asked.error, TRANSFER_BROKEN);
	asked_free(&asked);
}

static void test_settings_only(void **state)
{
	struct asked asked = {0};

	(void)state;
	ask(&asked, 10);
	connect_wire(0); /* no streams at all */
	assert_int_equal(asked.error, TRANSFER_UNREACHABLE);
	asked_free(&asked);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(test_answer, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_any_boundary, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_ends_that_are_none, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_status_that_is_none, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_goaway, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_kept_connection_that_closes, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_no_connection, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_upstream_allows_one, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_pause, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_socket_that_takes_little, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_frames_that_say_nothing, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_bytes_that_say_nothing, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_settings_only, setup, teardown),
	};

	return cmocka_run_group_tests_name("streamer-h2", tests, NULL, NULL);
}
