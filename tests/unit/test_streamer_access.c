/* SPDX-License-Identifier: Apache-2.0
 *
 * Lines of the access log: both forms, what is absent, and that nothing from outside gets out of its field.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <jansson.h>

#include "daemon/streamer/access_line.h"

struct fixture {
	struct wire_request wire;
	struct access_request *request;
	struct access_entry entry;
};

static struct fixture fixture;

static int setup(void **state)
{
	(void)state;
	fixture = (struct fixture){.entry = {.backend = "llm",
	                                     .id = 7,
	                                     .began = {.tv_sec = 784111777, .tv_nsec = 42000000},
	                                     .duration_ms = 1234,
	                                     .first_byte_ms = 12,
	                                     .status = 200,
	                                     .bytes = 5678,
	                                     .subject = SPAN_LITERAL("user-42"),
	                                     .request_id = SPAN_LITERAL("abc"),
	                                     .usage = {.kind = USAGE_EXACT, .prompt = 3, .completion = 17}}};
	fixture.wire.field[WIRE_METHOD] = SPAN_LITERAL("GET");
	fixture.wire.field[WIRE_TARGET] = SPAN_LITERAL("/chat?x=1");
	fixture.wire.field[WIRE_PROTOCOL] = SPAN_LITERAL("HTTP/1.1");
	fixture.wire.field[WIRE_CLIENT_ADDRESS] = SPAN_LITERAL("192.0.2.7");
	fixture.wire.field[WIRE_SERVER_NAME] = SPAN_LITERAL("www.example.org");
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	free(fixture.request);
	return 0;
}

/* The line, in memory that the caller frees. */
static char *line_of(enum config_log_format format)
{
	struct text out = {0};

	free(fixture.request);
	fixture.request = access_request_new(&fixture.wire);
	assert_non_null(fixture.request);
	fixture.entry.request = fixture.request;
	access_line_write(&out, format, &fixture.entry);
	assert_true(text_ok(&out));
	text_add(&out, "", 1);
	for (size_t i = 0; i + 2 < out.len; i++)
		assert_in_range(out.data[i], 0x20, 0x7e);
	assert_string_equal(out.data + out.len - 2, "\n");
	return out.data;
}

static void expect(enum config_log_format format, const char *expected)
{
	char *line = line_of(format);

	assert_string_equal(line, expected);
	free(line);
}

static void test_combined(void **state)
{
	(void)state;
	expect(LOG_FORMAT_COMBINED,
	       "192.0.2.7 - user-42 [06/Nov/1994:08:49:37 +0000] \"GET /chat?x=1 HTTP/1.1\" 200 5678 "
	       "\"-\" \"-\" id=7 request=abc backend=llm outcome=done duration_ms=1234 "
	       "first_byte_ms=12 usage=exact prompt_tokens=3 completion_tokens=17\n");
}

static void test_json(void **state)
{
	(void)state;
	expect(LOG_FORMAT_JSON,
	       "{\"time\":\"1994-11-06T08:49:37.042Z\",\"id\":7,\"request\":\"abc\",\"backend\":\"llm\","
	       "\"client\":\"192.0.2.7\",\"server\":\"www.example.org\",\"subject\":\"user-42\",\"method\":\"GET\","
	       "\"target\":\"/chat?x=1\",\"protocol\":\"HTTP/1.1\",\"status\":200,\"bytes\":5678,\"outcome\":\"done\","
	       "\"relayed\":false,\"duration_ms\":1234,\"first_byte_ms\":12,\"usage\":\"exact\",\"prompt_tokens\":3,"
	       "\"completion_tokens\":17}\n");
}

/* What is not known is not there, and never 0. */
static void test_absent(void **state)
{
	(void)state;
	fixture.wire.flags = WIRE_FLAG_LEGACY; /* nobody told a method, a target or an address */
	fixture.entry.subject = fixture.entry.request_id = SPAN_EMPTY;
	fixture.entry.status = 0;
	fixture.entry.first_byte_ms = -1;
	fixture.entry.bytes = 0;
	fixture.entry.outcome = OUTCOME_CLIENT_GONE;
	fixture.entry.relayed = true;
	fixture.entry.usage = (struct usage){0};
	expect(LOG_FORMAT_COMBINED,
	       "- - - [06/Nov/1994:08:49:37 +0000] \"-\" - 0 \"-\" \"-\" id=7 request=- backend=llm "
	       "outcome=client-gone duration_ms=1234 usage=absent\n");
	expect(LOG_FORMAT_JSON,
	       "{\"time\":\"1994-11-06T08:49:37.042Z\",\"id\":7,\"backend\":\"llm\",\"bytes\":0,"
	       "\"outcome\":\"client-gone\",\"relayed\":true,\"duration_ms\":1234,\"usage\":\"absent\"}\n");
	fixture.entry.usage = (struct usage){.kind = USAGE_ESTIMATED, .completion = 5};
	expect(LOG_FORMAT_COMBINED,
	       "- - - [06/Nov/1994:08:49:37 +0000] \"-\" - 0 \"-\" \"-\" id=7 request=- backend=llm "
	       "outcome=client-gone duration_ms=1234 usage=estimated completion_tokens=5\n");
}

#define NASTY "\" \\ \n\r\t\x1b[31m\x7f\xc2\x9b\xff\xe2\x80\xa8 200 0"

/* Quotes, line ends, terminal escapes (C1 as UTF-8, too), bytes that are no UTF-8. */
static void test_escapes(void **state)
{
	char *line;

	(void)state;
	fixture.entry.subject = SPAN_LITERAL(NASTY);
	fixture.wire.field[WIRE_TARGET] = SPAN_LITERAL("/" NASTY);
	fixture.entry.request_id = SPAN_LITERAL("a b=c");
	line = line_of(LOG_FORMAT_COMBINED);
	assert_non_null(strstr(line,
	                       "192.0.2.7 - \\\"\\x20\\\\\\x20\\n\\x0d\\t\\x1b[31m\\x7f\\xc2\\x9b\\xff\\xe2\\x80\\xa8"
	                       "\\x20200\\x200 [06/Nov"));
	assert_non_null(strstr(line, "\"GET /\\\" \\\\ \\n\\x0d\\t\\x1b[31m\\x7f\\xc2\\x9b\\xff\\xe2\\x80\\xa8 200 0 "
	                             "HTTP/1.1\" 200 5678"));
	assert_non_null(strstr(line, " request=a\\x20b=c backend=llm "));
	free(line);
	line = line_of(LOG_FORMAT_JSON);
	assert_non_null(strstr(line,
	                       "\"subject\":\"\\\" \\\\ \\u000a\\u000d\\u0009\\u001b[31m\\u007f\\u009b\\ufffd\\u2028 "
	                       "200 0\","));
	free(line);
}

/* Each character as it is, after JSON has been read. */
static void expect_subject(struct span subject, const char *expected)
{
	char *line;
	json_t *root;

	fixture.entry.subject = subject;
	line = line_of(LOG_FORMAT_JSON);
	root = json_loads(line, JSON_REJECT_DUPLICATES, NULL);
	assert_non_null(root);
	assert_string_equal(json_string_value(json_object_get(root, "subject")), expected);
	json_decref(root);
	free(line);
}

static void test_unicode(void **state)
{
	(void)state;
	expect_subject(SPAN_LITERAL("gr\xc3\xbc\xc3\x9f \xe6\x97\xa5 \xf0\x9f\x98\x80 \xf4\x8f\xbf\xbf"),
	               "gr\xc3\xbc\xc3\x9f \xe6\x97\xa5 \xf0\x9f\x98\x80 \xf4\x8f\xbf\xbf");
	/* Overlong, halves, beyond the last, cut short: one U+FFFD a byte. */
	expect_subject(SPAN_LITERAL("\xc0\xaf"), "\xef\xbf\xbd\xef\xbf\xbd");
	expect_subject(SPAN_LITERAL("\xe0\x80\x80"), "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd");
	expect_subject(SPAN_LITERAL("\xed\xa0\x80"), "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd");
	expect_subject(SPAN_LITERAL("\xf4\x90\x80\x80"), "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd");
	expect_subject(SPAN_LITERAL("\xf8x"), "\xef\xbf\xbdx");
	expect_subject(SPAN_LITERAL("a\xe6\x97"), "a\xef\xbf\xbd\xef\xbf\xbd");
	expect_subject(SPAN_LITERAL("\xe6z"), "\xef\xbf\xbdz");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(test_combined, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_json, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_absent, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_escapes, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_unicode, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
