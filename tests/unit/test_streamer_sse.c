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

static int collect(void *user, const char *name, struct span data)
{
	struct seen *seen = user;
	size_t len = strlen(seen->text);

	snprintf(seen->text + len, sizeof(seen->text) - len, "%s=%.*s|", name, (int)data.len, (const char *)data.data);
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
	expect("id: 1\nretry: 5\nunknown: x\nunknown\ndata: a\n\n", "=a|");
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
	expect("event: 0123456789012345678901234567890123456789\ndata: a\n\n", "0123456789012345678901234567890=a|");
}

static void test_no_memory_between_events(void **state)
{
	struct sse sse = {0};
	struct seen seen = {0};

	(void)state;
	assert_int_equal(feed_copy(&sse, "data: a\n\n", 9, &seen), 0);
	assert_null(sse.line.data);
	assert_null(sse.data.data);
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

static int ignore(void *user, const char *name, struct span data)
{
	(void)user;
	(void)name;
	(void)data;
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
	    cmocka_unit_test(test_long_line),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
