/* SPDX-License-Identifier: Apache-2.0
 *
 * The SSE parser: every legal form, cut at every place.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "daemon/streamer/sse.h"

/* Events as text: name=data| */
struct seen {
	char text[1024];
	int stop_after; /* events; 0: never */
};

static int collect(void *user, const struct sse_event *event)
{
	struct seen *seen = user;
	size_t len = strlen(seen->text);

	/* An id or a retry in front; no = where there is no data. */
	for (size_t i = 0; i < event->fields.len; i++)
		seen->text[len++] = event->fields.data[i] == '\n' ? ';' : (char)event->fields.data[i];
	snprintf(seen->text + len, sizeof(seen->text) - len, "%.*s%s%.*s|", (int)event->name.len,
	         (const char *)event->name.data, event->has_data ? "=" : "", (int)event->data.len,
	         (const char *)event->data.data);
	return seen->stop_after > 0 && --seen->stop_after == 0 ? 7 : 0;
}

/* The pieces lie in memory of their own size, so that a read beyond them is found by the sanitizer. */
static int feed_copy(struct sse *sse, const char *data, size_t len, struct seen *seen)
{
	uint8_t *copy = malloc(len > 0 ? len : 1);
	int rc;

	assert_non_null(copy);
	memcpy(copy, data, len);
	rc = sse_feed(sse, span_of(copy, len), collect, seen);
	free(copy);
	return rc;
}

static void expect(const char *stream, const char *events)
{
	size_t len = strlen(stream);

	/* Cut in three, at every pair of places; and into single bytes. */
	for (size_t a = 0; a <= len; a++) {
		for (size_t b = a; b <= len; b++) {
			struct sse sse = {0};
			struct seen seen = {0};

			assert_int_equal(feed_copy(&sse, stream, a, &seen), 0);
			assert_int_equal(feed_copy(&sse, stream + a, b - a, &seen), 0);
			assert_int_equal(feed_copy(&sse, stream + b, len - b, &seen), 0);
			assert_string_equal(seen.text, events);
			sse_free(&sse);
		}
	}
	struct sse sse = {0};
	struct seen seen = {0};
	for (size_t i = 0; i < len; i++)
		assert_int_equal(feed_copy(&sse, stream + i, 1, &seen), 0);
	assert_string_equal(seen.text, events);
	sse_free(&sse);
}

static void test_forms(void **state)
{
	(void)state;
	expect("data: a\n\ndata: b\n\n", "=a|=b|");
	expect("data:a\r\n\r\ndata:b\r\n\r\n", "=a|=b|");
	expect("data: a\r\rdata: b\r\r", "=a|=b|");
	expect("data: a\r\n\ndata: b\n\r\n", "=a|=b|");
	expect("data:  two blanks\n\n", "= two blanks|");
	expect("data: one\ndata: two\ndata:\ndata: four\n\n", "=one\ntwo\n\nfour|");
	expect(": comment\ndata: a\n: another\n\n", "=a|");
	expect("event: error\ndata: a\n\ndata: b\n\n", "error=a|=b|");
	expect("id: 1\nretry: 5\nunknown: x\nunknown\ndata: a\n\ndata: b\n\n", "id: 1;retry: 5;=a|=b|");
	expect("retry:3000\n\nid\n\ndata: a\r\rid: \xc3\xbc\revent: x\rdata: b\r\r",
	       "retry: 3000;|id: ;|=a|id: \xc3\xbc;x=b|");
	expect("retry: soon\nretry:\nretry: -1\nidx: 1\nid : 1\ndata: a\n\n", "=a|");
	expect("data\n\n", "=|");
	expect("data:\n\n", "=|");
	expect("event: lonely\n\ndata: a\n\n", "=a|");
	expect("\n\n\n", "");
	expect("\xef\xbb\xbf"
	       "data: a\n\n",
	       "=a|");
	expect("data: \xef\xbb\xbf"
	       "a\n\n",
	       "=\xef\xbb\xbf"
	       "a|");
	expect("data: gr\xc3\xbc\xc3\x9f \xf0\x9f\x98\x80\n\n", "=gr\xc3\xbc\xc3\x9f \xf0\x9f\x98\x80|");
	expect("datax: a\nxdata: b\n data: c\n\n", "");
	expect("data: not ended", "");
	expect("data: not dispatched\n", "");
	expect("event: response.function_call_arguments.delta\ndata: a\n\n",
	       "response.function_call_arguments.delta=a|");
	expect("event: a\nevent: b\nevent\ndata: a\n\n", "=a|");
}

static void test_no_memory_between_events(void **state)
{
	struct sse sse = {0};
	struct seen seen = {0};

	(void)state;
	assert_int_equal(feed_copy(&sse, "data: a\n\n", 9, &seen), 0);
	assert_null(sse.line.data);
	assert_null(sse.data.data);
	assert_int_equal(feed_copy(&sse, "event: x\nid: 1\ndata: a\n\n", 24, &seen), 0);
	assert_null(sse.name.data);
	assert_null(sse.fields.data);
}

/* An id with a NUL is none. */
static void test_nul(void **state)
{
	struct sse sse = {0};
	struct seen seen = {0};

	(void)state;
	assert_int_equal(feed_copy(&sse, "id: a\0b\ndata: c\n\n", 18, &seen), 0);
	assert_string_equal(seen.text, "=c|");
	sse_free(&sse);
}

/* ---------------------------------------------------------------- written again */

static int write_again(void *user, const struct sse_event *event)
{
	sse_write(user, event);
	return 0;
}

static void expect_again(const char *stream, const char *expected)
{
	struct sse sse = {0};
	struct text out = {0};

	assert_int_equal(sse_feed(&sse, span_of_string(stream), write_again, &out), 0);
	assert_true(text_ok(&out));
	assert_true(span_equal_string(text_span(&out), expected));
	sse_free(&sse);
	text_free(&out);
}

static void test_write(void **state)
{
	(void)state;
	expect_again("data: a\n\n", "data: a\n\n");
	expect_again("data:a\r\n\r\n: comment\rdata:  b\r\r", "data: a\n\ndata:  b\n\n");
	expect_again("data\n\ndata:\ndata:\n\n", "data: \n\ndata: \ndata: \n\n");
	expect_again("data: one\r\nignored: x\r\ndata: two\r\n:\r\ndata: three\r\n\r\n",
	             "data: one\ndata: two\ndata: three\n\n");
	expect_again("data: {\nid: 7\ndata: }\nevent: x\nretry: 10\n\n",
	             "event: x\nid: 7\nretry: 10\ndata: {\ndata: }\n\n");
	expect_again("retry: 10\n\nevent: lonely\n\n", "retry: 10\n\n");
	expect_again("data: cut\n", "");
}

static void test_stops(void **state)
{
	struct sse sse = {0};
	struct seen seen = {.stop_after = 2};

	(void)state;
	assert_int_equal(feed_copy(&sse, "data: a\n\ndata: b\n\ndata: c\n\n", 27, &seen), 7);
	assert_string_equal(seen.text, "=a|=b|");
	sse_free(&sse);
}

static int ignore(void *user, const struct sse_event *event)
{
	(void)user;
	(void)event;
	return 0;
}

/* The first error when this is fed again and again, up to twice the limit. */
static int feed_until(const char *start, const char *piece)
{
	struct sse sse = {0};
	int rc = sse_feed(&sse, span_of_string(start), ignore, NULL);
	size_t most = 0;

	for (size_t fed = 0; rc == 0 && fed < 2 * SSE_EVENT_MAX; fed += strlen(piece)) {
		rc = sse_feed(&sse, span_of_string(piece), ignore, NULL);
		most = sse.line.len + sse.data.len > most ? sse.line.len + sse.data.len : most;
	}
	assert_true(most <= 2 * SSE_EVENT_MAX);
	sse_free(&sse);
	return rc;
}

static void test_limits(void **state)
{
	(void)state;
	assert_int_equal(feed_until("data: ", "endless line, never ended; "), -EMSGSIZE);
	assert_int_equal(feed_until("", "data: endless event\n"), -EMSGSIZE);
	assert_int_equal(feed_until("", "data:\n"), 0); /* empty lines add up, too, but slowly */
	assert_int_equal(feed_until("", ": comments for ever\n"), 0);
	assert_int_equal(feed_until("", "data: many events\n\n"), 0);
	assert_int_equal(feed_until("event: ", "endless name"), -EMSGSIZE);
	assert_int_equal(feed_until("", "id: one id after the other\n"), -EMSGSIZE);
	assert_int_equal(feed_until("", "id: an id for each\n\n"), 0);
}

static void test_long_line(void **state)
{
	size_t len = SSE_EVENT_MAX - 1;
	char *line = malloc(len + 3);
	struct sse sse = {0};

	(void)state;
	assert_non_null(line);
	memset(line, 'x', len);
	memcpy(line, "data: ", 6);
	memcpy(line + len, "\n\n", 3);
	assert_int_equal(sse_feed(&sse, span_of(line, len + 2), ignore, NULL), 0);
	sse_free(&sse);
	free(line);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_forms),     cmocka_unit_test(test_no_memory_between_events),
	    cmocka_unit_test(test_stops),     cmocka_unit_test(test_limits),
	    cmocka_unit_test(test_long_line), cmocka_unit_test(test_nul),
	    cmocka_unit_test(test_write),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
