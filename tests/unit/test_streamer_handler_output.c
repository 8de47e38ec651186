/* SPDX-License-Identifier: Apache-2.0
 *
 * What a handler's program writes, in each mode: heads, bodies and their ends, cut at every place.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "daemon/streamer/handler_output.h"

/* ---------------------------------------------------------------- support */

/* What became of an output, as text: [status length lines] body, then the end. */
struct seen {
	struct text text;
	bool ended;
	int rc;
};

static void note(struct seen *seen, const struct handler_output *output, int event, struct span piece)
{
	const struct handler_head *head = &output->head;

	if (event == HANDLER_HEAD) {
		text_add_format(&seen->text, "[%u %lld ", head->status, (long long)head->content_length);
		text_add_span(&seen->text, text_span(&head->lines));
		text_add_string(&seen->text, "]");
	} else if (event == HANDLER_BODY) {
		text_add_span(&seen->text, piece);
	} else if (event == HANDLER_END) {
		seen->ended = true;
	} else if (event < 0) {
		seen->rc = event;
	}
}

/* Feed bytes in memory of their own size, so that a read beyond them is found by the sanitizer. */
static void feed(struct handler_output *output, struct seen *seen, const char *data, size_t len)
{
	uint8_t *copy = malloc(len > 0 ? len : 1);
	struct span input = span_of(copy, len), piece;
	int event = HANDLER_MORE;

	assert_non_null(copy);
	memcpy(copy, data, len);
	while (seen->rc == 0) {
		event = handler_output_next(output, &input, &piece);
		note(seen, output, event, piece);
		if (event == HANDLER_MORE || event == HANDLER_END)
			break;
	}
	assert_true(seen->rc != 0 || input.len == 0);
	free(copy);
}

static void finish(struct handler_output *output, struct seen *seen)
{
	struct span piece;

	if (seen->rc == 0)
		seen->rc = handler_output_end(output, &piece);
	if (seen->rc == 0)
		text_add_span(&seen->text, piece);
	assert_true(text_ok(&seen->text));
	text_add(&seen->text, "", 1);
}

/* The output, in pieces that end at a and b: what is seen, whether its body has an end of its own, and the excess. */
static void expect_cut(enum handler_form form, struct span bytes, size_t a, size_t b, const char *expected, bool ended,
                       uint64_t excess)
{
	const char *data = (const char *)bytes.data;
	struct handler_output output;
	struct seen seen = {0};

	handler_output_init(&output, form);
	feed(&output, &seen, data, a);
	feed(&output, &seen, data + a, b - a);
	feed(&output, &seen, data + b, bytes.len - b);
	finish(&output, &seen);
	if (seen.rc != 0)
		fail_msg("%s", output.wrong);
	assert_string_equal(seen.text.data, expected);
	assert_int_equal(seen.ended, ended);
	assert_int_equal(output.excess, excess);
	text_free(&seen.text);
	handler_output_free(&output);
}

static void expect_bytes(enum handler_form form, struct span bytes, const char *expected, bool ended, uint64_t excess)
{
	for (size_t a = 0; a <= bytes.len; a++)
		for (size_t b = a; b <= bytes.len; b++)
			expect_cut(form, bytes, a, b, expected, ended, excess);
}

static void expect(enum handler_form form, const char *output, const char *expected, bool ended, uint64_t excess)
{
	expect_bytes(form, span_of_string(output), expected, ended, excess);
}

/* It is refused for this, wherever it is cut, by its end at the latest. Returns whether before. */
static bool expect_wrong_bytes(enum handler_form form, struct span bytes, const char *wrong)
{
	bool before_end = false;

	for (size_t cut = 0; cut <= bytes.len; cut++) {
		struct handler_output output;
		struct seen seen = {0};

		handler_output_init(&output, form);
		feed(&output, &seen, (const char *)bytes.data, cut);
		feed(&output, &seen, (const char *)bytes.data + cut, bytes.len - cut);
		before_end = seen.rc != 0;
		finish(&output, &seen);
		assert_int_equal(seen.rc, -EBADMSG);
		assert_string_equal(output.wrong, wrong);
		text_free(&seen.text);
		handler_output_free(&output);
	}
	return before_end;
}

static void expect_wrong(enum handler_form form, const char *output, const char *wrong)
{
	assert_true(expect_wrong_bytes(form, span_of_string(output), wrong));
}

static void expect_short(enum handler_form form, const char *output, const char *wrong)
{
	assert_false(expect_wrong_bytes(form, span_of_string(output), wrong));
}

/* ---------------------------------------------------------------- http */

static void test_http_until_the_end(void **state)
{
	(void)state;
	expect(HANDLER_FORM_HTTP, "HTTP/1.1 200 OK\r\nContent-Type: a/b\r\n\r\nbody\r\n",
	       "[200 -1 Content-Type: a/b\r\n]body\r\n", false, 0);
	expect(HANDLER_FORM_HTTP, "HTTP/1.0 404 Not here\nX:y\n\nbody", "[404 -1 X: y\r\n]body", false, 0);
	expect(HANDLER_FORM_HTTP, "HTTP/1.1 599\r\nA:\t b c \t\nB:\r\n\n", "[599 -1 A: b c\r\nB: \r\n]", false, 0);
	expect(HANDLER_FORM_HTTP, "HTTP/1.1 200 \r\n\r\n\r\n\n", "[200 -1 ]\r\n\n", false, 0);
}

static void test_http_length(void **state)
{
	(void)state;
	expect(HANDLER_FORM_HTTP, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody", "[200 4 ]body", true, 0);
	expect(HANDLER_FORM_HTTP, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "[200 0 ]", true, 0);
	expect(HANDLER_FORM_HTTP, "HTTP/1.1 200 OK\ncontent-length: 004\n\nbodyHTTP/1.1 200 OK\n\n", "[200 4 ]body",
	       true, 17);
	expect_short(HANDLER_FORM_HTTP, "HTTP/1.1 200 OK\nContent-Length: 5\n\nbody",
	             "the body is shorter than its head says");
	expect_short(HANDLER_FORM_HTTP, "HTTP/1.1 200 OK\nContent-Length: 999999999999999999\n\nbody",
	             "the body is shorter than its head says");
}

static void test_http_without_a_body(void **state)
{
	(void)state;
	expect(HANDLER_FORM_HTTP, "HTTP/1.1 204 None\r\n\r\n", "[204 -1 ]", true, 0);
	expect(HANDLER_FORM_HTTP, "HTTP/1.1 304 Same\r\nContent-Length: 4\r\nETag: \"a\"\r\n\r\nbody",
	       "[304 4 ETag: \"a\"\r\n]", true, 4);
	expect(HANDLER_FORM_HTTP, "HTTP/1.1 204 None\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "[204 -1 ]", true,
	       5);
}

static void test_http_chunks(void **state)
{
	static const char head[] = "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n";
	static const struct {
		const char *body, *expected;
		uint64_t excess;
	} right[] = {
	    {"4\r\nbody\r\n0\r\n\r\n", "body", 0},
	    {"0\r\n\r\n", "", 0},
	    {"001\r\na\r\nA\r\n0123456789\r\n00\r\n\r\n", "a0123456789", 0},
	    {"1;x=\"y\"\r\na\r\n1 \r\nb\r\n0;\r\n\r\n", "ab", 0},
	    {"1\r\na\r\n0\r\nX: y\r\nContent-Length: 7\r\n\r\n", "a", 0},
	    {"1\r\na\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n", "a", 17},
	};
	static const char *const wrong[] = {
	    "x\r\n",
	    "\r\n",
	    "-1\r\n",
	    "0x1\r\na\r\n",
	    "1\na\n",
	    "1\r\nab\r\n",
	    "1\r\na\n0\r\n\r\n",
	    "1;\x01\r\na\r\n",
	    "0\r\nX: y\n\r\n",
	    "0\r\n\r\r",
	    "1000000000000000\r\n",
	    " 1\r\na\r\n",
	    "0\r\n\x7f\r\n\r\n",
	    "1;a\nb\r\n",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(right) / sizeof(right[0]); i++) {
		char output[256], expected[256];

		snprintf(output, sizeof(output), "%s%s", head, right[i].body);
		snprintf(expected, sizeof(expected), "[200 -1 ]%s", right[i].expected);
		expect(HANDLER_FORM_HTTP, output, expected, true, right[i].excess);
	}
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		char output[256];

		snprintf(output, sizeof(output), "%s%s", head, wrong[i]);
		expect_wrong(HANDLER_FORM_HTTP, output, "the chunks of the body are broken");
	}
	for (size_t len = 0; len < 15; len++) {
		char output[256];

		snprintf(output, sizeof(output), "%s%.*s", head, (int)len, "4\r\nbody\r\n0\r\n\r\n");
		if (len < 14)
			expect_short(HANDLER_FORM_HTTP, output, "the body is shorter than its head says");
	}
}

/* Extensions and trailers are passed over, but not for ever. */
static void test_chunks_that_never_come(void **state)
{
	static const char head[] = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
	struct handler_output output;
	struct seen seen = {0};

	(void)state;
	handler_output_init(&output, HANDLER_FORM_HTTP);
	feed(&output, &seen, head, strlen(head));
	for (int i = 0; i < 100000 && seen.rc == 0; i++)
		feed(&output, &seen, "1;xxxxxxx\r\na\r\n", 14);
	assert_int_equal(seen.rc, -EBADMSG);
	assert_in_range(output.body, 9000, 9400);
	text_free(&seen.text);
	handler_output_free(&output);
}

static void test_http_names_removed(void **state)
{
	(void)state;
	expect(HANDLER_FORM_HTTP,
	       "HTTP/1.1 200 OK\nConnection: x\nkeep-alive: 5\nTE: a\nTrailer: b\nUpgrade: c\nDate: now\nX-Kept: 1\n"
	       "Proxy_Connection: y\nX-Handoff-Data: d\nX-Socket-Handoff: e\nStatus: 500\n\n",
	       "[200 -1 X-Kept: 1\r\nStatus: 500\r\n]", false, 0);
	expect(HANDLER_FORM_HTTP, "HTTP/1.1 206 Part\nContent-Range: bytes 0-1/2\nContent-Encoding: gzip\nETag: x\n\n",
	       "[206 -1 Content-Range: bytes 0-1/2\r\nContent-Encoding: gzip\r\nETag: x\r\n]", false, 0);
	expect(HANDLER_FORM_HTTP, "HTTP/1.1 200 OK\nSet-Cookie: a=b\nset-cookie: c=d\nX: \xc3\xbc\n\n",
	       "[200 -1 Set-Cookie: a=b\r\nset-cookie: c=d\r\nX: \xc3\xbc\r\n]", false, 0);
}

static void test_http_wrong(void **state)
{
	static const char *const no_start[] = {
	    "hello\n\n", "HTTP/2 200 OK\n\n",    "HTTP/1.1\n\n",   "HTTP/1.2 200 OK\n\n", "http/1.1 200 OK\n\n",
	    "\r\n\r\n",  " HTTP/1.1 200 OK\n\n", "ICY 200 OK\n\n", "HTTP/1.1\t200\n\n",   "\n\nHTTP/1.1 200\n",
	};
	static const char *const no_status[] = {
	    "HTTP/1.1 000 X\n\n", "HTTP/1.1 20 OK\n\n", "HTTP/1.1  200\n\n",       "HTTP/1.1 2000 OK\n\n",
	    "HTTP/1.1 OK\n\n",    "HTTP/1.1 +20\n\n",   "HTTP/1.1 200 a\rb\r\n\n", "HTTP/1.1 200\tOK\n\n",
	};
	static const char *const no_range[] = {
	    "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
	    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
	    "HTTP/1.1 600 X\n\n",
	    "HTTP/1.1 199 X\n\n",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(no_start) / sizeof(no_start[0]); i++)
		expect_wrong(HANDLER_FORM_HTTP, no_start[i],
		             "the output does not begin with a status line of HTTP/1.0 or HTTP/1.1");
	for (size_t i = 0; i < sizeof(no_status) / sizeof(no_status[0]); i++)
		expect_wrong(HANDLER_FORM_HTTP, no_status[i], "the status line has no status");
	for (size_t i = 0; i < sizeof(no_range) / sizeof(no_range[0]); i++)
		expect_wrong(HANDLER_FORM_HTTP, no_range[i], "the status is not one from 200 to 599");
	expect_short(HANDLER_FORM_HTTP, "", "there was no output");
	expect_short(HANDLER_FORM_HTTP, "HTTP/1.1 200 OK\r\nX: y\r\n", "the head has no end");
	expect_short(HANDLER_FORM_HTTP, "HTTP/1.1 200 OK\r\n\r", "the head has no end");
	/* A NUL in the middle. */
	assert_true(expect_wrong_bytes(HANDLER_FORM_HTTP, SPAN_LITERAL("HTTP/1.1 200 OK\nX: a\0b\n\n"),
	                               "the value of a header holds control bytes"));
	assert_true(expect_wrong_bytes(HANDLER_FORM_HTTP, SPAN_LITERAL("HTTP/1.1 200 OK\nX\0: b\n\n"),
	                               "the name of a header is not valid"));
}

static void test_fields_wrong(void **state)
{
	static const struct {
		const char *fields, *wrong;
	} cases[] = {
	    {"X: a\r\n b\r\n", "a header is continued on the next line"},
	    {"X: a\n\tb\n", "a header is continued on the next line"},
	    {" X: a\n", "a header is continued on the next line"},
	    {"nothing\n", "a line of the head is no header"},
	    {"X : a\n", "the name of a header is not valid"},
	    {": a\n", "the name of a header is not valid"},
	    {"X(y): a\n", "the name of a header is not valid"},
	    {"\xc3\xbc: a\n", "the name of a header is not valid"},
	    {"X: a\rb\n", "the value of a header holds control bytes"},
	    {"X: a\rSet-Cookie: x\r\n", "the value of a header holds control bytes"},
	    {"X: a\r\r\n", "the value of a header holds control bytes"},
	    {"X: \x1b[2J\n", "the value of a header holds control bytes"},
	    {"X: \x7f\n", "the value of a header holds control bytes"},
	    {"Content-Length: 1\nContent-Length: 1\n", "a header that may occur once occurs twice"},
	    {"Content-Type: a\ncontent-type: a\n", "a header that may occur once occurs twice"},
	    {"Location: a\nLocation: b\n", "a header that may occur once occurs twice"},
	    {"Content-Length: 1, 1\n", "Content-Length is not a number"},
	    {"Content-Length: -1\n", "Content-Length is not a number"},
	    {"Content-Length: +1\n", "Content-Length is not a number"},
	    {"Content-Length: 0x1\n", "Content-Length is not a number"},
	    {"Content-Length:\n", "Content-Length is not a number"},
	    {"Content-Length: 9999999999999999999\n", "Content-Length is not a number"},
	};
	static const struct {
		const char *fields, *wrong;
	} http[] = {
	    {"Transfer-Encoding: chunked\nTransfer-Encoding: chunked\n", "a header that may occur once occurs twice"},
	    {"Transfer-Encoding: gzip\n", "Transfer-Encoding is something else than chunked"},
	    {"Transfer-Encoding: gzip, chunked\n", "Transfer-Encoding is something else than chunked"},
	    {"Transfer-Encoding: chunked\nContent-Length: 1\n",
	     "Content-Length and Transfer-Encoding exclude each other"},
	    {"Content-Length: 1\nTransfer-Encoding: chunked\n",
	     "Content-Length and Transfer-Encoding exclude each other"},
	};
	char output[256];

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		snprintf(output, sizeof(output), "HTTP/1.1 200 OK\r\n%s\r\n", cases[i].fields);
		expect_wrong(HANDLER_FORM_HTTP, output, cases[i].wrong);
		snprintf(output, sizeof(output), "Status: 200\n%s\r\n", cases[i].fields);
		expect_wrong(HANDLER_FORM_CGI, output, cases[i].wrong);
	}
	for (size_t i = 0; i < sizeof(http) / sizeof(http[0]); i++) {
		snprintf(output, sizeof(output), "HTTP/1.1 200 OK\r\n%s\r\nbody", http[i].fields);
		expect_wrong(HANDLER_FORM_HTTP, output, http[i].wrong);
	}
	expect_wrong(HANDLER_FORM_HTTP, "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
	             "HTTP/1.0 has no Transfer-Encoding");
}

/* ---------------------------------------------------------------- limits of a head */

static struct seen feed_long(const char *start, const char *line, size_t n, const char *end)
{
	struct handler_output output;
	struct seen seen = {0};

	handler_output_init(&output, HANDLER_FORM_HTTP);
	feed(&output, &seen, start, strlen(start));
	for (size_t i = 0; i < n && seen.rc == 0; i++)
		feed(&output, &seen, line, strlen(line));
	if (seen.rc == 0)
		feed(&output, &seen, end, strlen(end));
	assert_true(output.room.len <= HANDLER_HEAD_MAX);
	if (seen.rc != 0)
		text_add_string(&seen.text, output.wrong);
	text_add(&seen.text, "", 1);
	handler_output_free(&output);
	return seen;
}

static void test_head_limits(void **state)
{
	struct seen seen;

	(void)state;
	seen = feed_long("HTTP/1.1 200 OK\n", "X: y\n", 256, "\n");
	assert_int_equal(seen.rc, 0);
	text_free(&seen.text);
	seen = feed_long("HTTP/1.1 200 OK\n", "X: y\n", 257, "\n");
	assert_string_equal(seen.text.data, "the head has more than 256 fields");
	text_free(&seen.text);
	/* 65536 bytes are a head, one more is none. */
	seen = feed_long("HTTP/1.1 200 OK\nXXXX:", "y", 65536 - 16 - 5 - 2, "\n\n");
	assert_int_equal(seen.rc, 0);
	text_free(&seen.text);
	seen = feed_long("HTTP/1.1 200 OK\nXXXX:", "y", 65536 - 16 - 5 - 1, "\n\n");
	assert_string_equal(seen.text.data, "the head is longer than 64 KiB");
	text_free(&seen.text);
	seen = feed_long("", "a long line that never ends ", 100000, "");
	assert_string_equal(seen.text.data, "the head is longer than 64 KiB");
	text_free(&seen.text);
}

/* ---------------------------------------------------------------- cgi */

static void test_cgi(void **state)
{
	(void)state;
	expect(HANDLER_FORM_CGI, "Content-Type: text/plain\n\nbody\n\n",
	       "[200 -1 Content-Type: text/plain\r\n]body\n\n", false, 0);
	expect(HANDLER_FORM_CGI, "Status: 404 Not there\r\nContent-type: a/b\r\n\r\nbody",
	       "[404 -1 Content-type: a/b\r\n]body", false, 0);
	expect(HANDLER_FORM_CGI, "Location: /other\n\n", "[302 -1 Location: /other\r\n]", false, 0);
	expect(HANDLER_FORM_CGI, "Status: 201\nLocation: /made\n\n", "[201 -1 Location: /made\r\n]", false, 0);
	expect(HANDLER_FORM_CGI, "Status: 204\n\nx", "[204 -1 ]", true, 1);
	expect(HANDLER_FORM_CGI, "Content-Type: a/b\nContent-Length: 2\n\nbody", "[200 2 Content-Type: a/b\r\n]bo",
	       true, 2);
}

static void test_cgi_wrong(void **state)
{
	(void)state;
	expect_wrong(HANDLER_FORM_CGI, "Status: 200\n\nbody", "there is neither a Content-Type nor a Location");
	expect_wrong(HANDLER_FORM_CGI, "HTTP/1.1 200 OK\nContent-Type: a/b\n\n", "a line of the head is no header");
	expect_wrong(HANDLER_FORM_CGI, "Status: OK\nContent-Type: a/b\n\n", "Status is not a status");
	expect_wrong(HANDLER_FORM_CGI, "Status: 200OK\nContent-Type: a/b\n\n", "Status is not a status");
	expect_wrong(HANDLER_FORM_CGI, "Status: 200\nStatus: 200\nContent-Type: a/b\n\n",
	             "a header that may occur once occurs twice");
	expect_wrong(HANDLER_FORM_CGI, "Status: 101\nContent-Type: a/b\n\n", "the status is not one from 200 to 599");
	expect_wrong(HANDLER_FORM_CGI, "Content-Type: a/b\nTransfer-Encoding: chunked\n\n",
	             "Transfer-Encoding is not a CGI program's to set");
	expect_wrong(HANDLER_FORM_CGI, "\r\n\r\nbody", "there is neither a Content-Type nor a Location");
	expect_short(HANDLER_FORM_CGI, "Content-Type: a/b\n", "the head has no end");
	expect_short(HANDLER_FORM_CGI, "", "there was no output");
	expect_short(HANDLER_FORM_CGI, "Content-Type: a/b\nContent-Length: 9\n\nbody",
	             "the body is shorter than its head says");
}

/* ---------------------------------------------------------------- text */

#define FFFD "\xef\xbf\xbd"

static void test_text(void **state)
{
	static const char *const cases[][2] = {
	    {"", ""},
	    {"hello\r\n\n", "hello\r\n\n"},
	    {"gr\xc3\xbc\xc3\x9f \xf0\x9f\x98\x80 \xe6\x97\xa5!", "gr\xc3\xbc\xc3\x9f \xf0\x9f\x98\x80 \xe6\x97\xa5!"},
	    {"a\x80z", "a" FFFD "z"},
	    {"a\xff\xfez", "a" FFFD FFFD "z"},
	    {"a\xc3(z", "a" FFFD "(z"},
	    {"a\xe2\x82(z", "a" FFFD "(z"},
	    {"a\xf0\x9f\x98(z", "a" FFFD "(z"},
	    {"\xe2\x82\xe2\x82\xac", FFFD "\xe2\x82\xac"},
	    {"\xf0\x9f\xc3\xbc", FFFD "\xc3\xbc"},
	    {"\xc0\xaf", FFFD FFFD},
	    {"\xed\xa0\x80", FFFD FFFD FFFD},
	    {"\xf4\x90\x80\x80", FFFD FFFD FFFD FFFD},
	    {"cut \xc3", "cut " FFFD},
	    {"cut \xf0\x9f\x98", "cut " FFFD},
	    {"HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		expect(HANDLER_FORM_TEXT, cases[i][0], cases[i][1], false, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_http_until_the_end),
	    cmocka_unit_test(test_http_length),
	    cmocka_unit_test(test_http_without_a_body),
	    cmocka_unit_test(test_http_chunks),
	    cmocka_unit_test(test_chunks_that_never_come),
	    cmocka_unit_test(test_http_names_removed),
	    cmocka_unit_test(test_http_wrong),
	    cmocka_unit_test(test_fields_wrong),
	    cmocka_unit_test(test_head_limits),
	    cmocka_unit_test(test_cgi),
	    cmocka_unit_test(test_cgi_wrong),
	    cmocka_unit_test(test_text),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
