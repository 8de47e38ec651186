/* SPDX-License-Identifier: Apache-2.0
 *
 * The request's JSON, strictly; what an upstream answers; escaping.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "daemon/streamer/chat_event.h"
#include "daemon/streamer/request.h"
#include "daemon/streamer/text.h"
#include "daemon/streamer/upstream_head.h"

static void refuse_bytes(const char *data, size_t len)
{
	struct request request;
	const char *error = NULL;

	if (request_parse(&request, span_of(data, len), &error) != -EINVAL)
		fail_msg("taken: %s", data);
	assert_non_null(error);
	request_free(&request);
}

static void refuse(const char *data)
{
	refuse_bytes(data, strlen(data));
}

static void take(struct request *request, const char *data)
{
	const char *error = NULL;

	if (request_parse(request, span_of_string(data), &error) != 0)
		fail_msg("refused (%s): %s", error, data);
	assert_null(error);
}

static void test_prompt(void **state)
{
	struct request request;

	(void)state;
	take(&request, "{\"prompt\":\"say \\\"hi\\\"\\n\\u00fc \\ud83d\\ude00\",\"model\":\"m\",\"system\":\"s\","
	               "\"max_tokens\":7,\"temperature\":0.5,\"unknown\":[{}],\"user_id\":3}");
	assert_string_equal(request.prompt, "say \"hi\"\n\xc3\xbc \xf0\x9f\x98\x80");
	assert_int_equal(request.prompt_len, strlen(request.prompt));
	assert_string_equal(request.model, "m");
	assert_string_equal(request.system, "s");
	assert_int_equal(json_integer_value(request.max_tokens), 7);
	assert_true(json_number_value(request.temperature) == 0.5);
	assert_null(request.messages);
	request_free(&request);
}

static void test_optional(void **state)
{
	struct request request;

	(void)state;
	take(&request, "");
	assert_null(request.prompt);
	request_free(&request);
	take(&request, "{}");
	request_free(&request);
	take(&request, " {\"prompt\":null,\"model\":null,\"max_tokens\":null,\"temperature\":null,\"messages\":null} ");
	assert_null(request.prompt);
	assert_null(request.max_tokens);
	request_free(&request);
	take(&request, "{\"temperature\":1}");
	request_free(&request);
	take(&request, "{\"messages\":[{\"role\":\"user\",\"content\":\"x\"},{\"role\":\"assistant\",\"content\":null},"
	               "{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"y\"}]},{\"role\":\"tool\"}]}");
	assert_int_equal(json_array_size(request.messages), 4);
	request_free(&request);
}

static void test_wrong(void **state)
{
	static const char *const wrong[] = {
	    "x",
	    "[]",
	    "\"prompt\"",
	    "null",
	    "{",
	    "{\"prompt\":\"a\"",
	    "{\"prompt\":\"a\"}}",
	    "{\"prompt\":\"a\"} x",
	    "{'prompt':'a'}",
	    "{\"prompt\":\"a\",}",
	    "{\"prompt\":1}",
	    "{\"prompt\":[\"a\"]}",
	    "{\"prompt\":true}",
	    "{\"prompt\":\"a\",\"prompt\":\"b\"}",
	    "{\"a\":{\"b\":1,\"b\":2}}",
	    "{\"prompt\":\"a\",\"p\\u0072ompt\":\"b\"}",
	    "{\"prompt\":\"a\\u0000b\"}",
	    "{\"prompt\":\"\\ud800\"}",
	    "{\"prompt\":\"\\x\"}",
	    "{\"prompt\":\"a\nb\"}",
	    "{\"prompt\":\"\xff\"}",
	    "{\"prompt\":\"\xc3\"}",
	    "{\"prompt\":\"\xed\xa0\x80\"}",
	    "{\"prompt\":\"\xc0\x80\"}",
	    "{\"messages\":\"a\"}",
	    "{\"messages\":[]}",
	    "{\"messages\":[\"a\"]}",
	    "{\"messages\":[{\"content\":\"a\"}]}",
	    "{\"messages\":[{\"role\":1,\"content\":\"a\"}]}",
	    "{\"messages\":[{\"role\":\"user\",\"content\":1}]}",
	    "{\"prompt\":\"a\",\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]}",
	    "{\"system\":1}",
	    "{\"model\":[]}",
	    "{\"max_tokens\":\"1\"}",
	    "{\"max_tokens\":1.5}",
	    "{\"max_tokens\":0}",
	    "{\"max_tokens\":-1}",
	    "{\"max_tokens\":99999999999999999999999}",
	    "{\"temperature\":\"0\"}",
	    "{\"temperature\":-1}",
	    "{\"temperature\":1e999}",
	    "{\"temperature\":NaN}",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		refuse(wrong[i]);
	refuse_bytes("{\"prompt\":\"a\"}\0", 15);
	refuse_bytes("\0", 1);
}

/* {"a":[[[...]]]} with this many levels in all. */
static char *nested(size_t levels)
{
	char *data = malloc(2 * levels + 16);
	size_t len = (size_t)snprintf(data, 16, "{\"a\":");

	for (size_t i = 1; i < levels; i++)
		data[len++] = '[';
	for (size_t i = 1; i < levels; i++)
		data[len++] = ']';
	data[len++] = '}';
	data[len] = '\0';
	return data;
}

static void test_depth(void **state)
{
	struct request request;
	char *data = nested(REQUEST_DEPTH_MAX);

	(void)state;
	take(&request, data);
	request_free(&request);
	free(data);
	data = nested(REQUEST_DEPTH_MAX + 1);
	refuse(data);
	free(data);
	data = nested(1000000);
	refuse(data);
	free(data);
	/* Brackets in strings are no levels. */
	take(&request,
	     "{\"prompt\":\"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\\\"[[[[[[\"}");
	request_free(&request);
}

static void expect_event(const char *name, const char *data, enum chat_event_kind kind, const char *content)
{
	struct chat_event event;
	uint16_t half = 0;

	chat_event_parse(&event, &(struct sse_event){.name = span_of_string(name), .data = span_of_string(data)},
	                 &half);
	assert_int_equal(half, 0);
	assert_int_equal(event.joined_len, 0);
	assert_int_equal(event.kind, kind);
	if (content != NULL)
		assert_true(span_equal_string(event.content, content));
	chat_event_free(&event);
}

static void test_events(void **state)
{
	(void)state;
	expect_event("", "[DONE]", CHAT_EVENT_DONE, NULL);
	expect_event("", "{\"choices\":[{\"delta\":{\"content\":\"a \\\"b\\\"\\u00fc\"}}]}", CHAT_EVENT_CONTENT,
	             "a \"b\"\xc3\xbc");
	expect_event("", "{ \"choices\" : [ { \"delta\" : { \"content\" : \"a\" } } ] }", CHAT_EVENT_CONTENT, "a");
	expect_event("", "{\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}", CHAT_EVENT_NOTHING,
	             NULL);
	expect_event("", "{\"choices\":[{\"delta\":{\"content\":null}}]}", CHAT_EVENT_NOTHING, NULL);
	expect_event("", "{\"choices\":[],\"usage\":{\"total_tokens\":3}}", CHAT_EVENT_NOTHING, NULL);
	expect_event("", "{\"choices\":[{\"delta\":{\"content\":\"a\"}}],\"error\":null}", CHAT_EVENT_CONTENT, "a");
	expect_event("", "{\"error\":{\"message\":\"m\"}}", CHAT_EVENT_ERROR, NULL);
	expect_event("", "{\"error\":\"m\"}", CHAT_EVENT_ERROR, NULL);
	expect_event("error", "whatever", CHAT_EVENT_ERROR, NULL);
	expect_event("", "whatever", CHAT_EVENT_INVALID, NULL);
	expect_event("", "[1]", CHAT_EVENT_INVALID, NULL);
	expect_event("", "", CHAT_EVENT_INVALID, NULL);
	expect_event("", "{\"choices\":[{\"delta\":{\"content\":\"\xff\"}}]}", CHAT_EVENT_INVALID, NULL);
}

static void test_finish(void **state)
{
	struct chat_event event;
	uint16_t half = 0;

	(void)state;
	chat_event_parse(
	    &event,
	    &(struct sse_event){.data = SPAN_LITERAL("{\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}")},
	    &half);
	assert_true(event.finished);
	chat_event_free(&event);
	chat_event_parse(
	    &event, &(struct sse_event){.data = SPAN_LITERAL("{\"choices\":[{\"delta\":{},\"finish_reason\":null}]}")},
	    &half);
	assert_false(event.finished);
	chat_event_free(&event);
}

/* Contents (JSON text of each) that come in a row, and what the client is to get. */
static void expect_joined(const char *const *contents, const char *expected)
{
	struct text out = {0};
	uint16_t half = 0;

	for (; *contents != NULL; contents++) {
		struct chat_event event;
		char data[256];

		snprintf(data, sizeof(data), "{\"choices\":[{\"delta\":{\"content\":\"%s\"}}]}", *contents);
		chat_event_parse(&event, &(struct sse_event){.data = span_of_string(data)}, &half);
		assert_int_equal(event.kind, CHAT_EVENT_CONTENT);
		text_add(&out, event.joined, event.joined_len);
		text_add_span(&out, event.content);
		chat_event_free(&event);
	}
	assert_true(span_equal_string(text_span(&out), expected));
	text_free(&out);
}

static void test_halves(void **state)
{
	(void)state;
	expect_joined((const char *[]){"a\\ud83d", "\\ude00b", NULL}, "a\xf0\x9f\x98\x80"
	                                                              "b");
	expect_joined((const char *[]){"\\uD83D", "\\uDE00", NULL}, "\xf0\x9f\x98\x80");
	expect_joined((const char *[]){"\\ud83d\\ude00\\ud83d", "\\ude01\\ud83d", "\\ude02", NULL},
	              "\xf0\x9f\x98\x80\xf0\x9f\x98\x81\xf0\x9f\x98\x82");
	expect_joined((const char *[]){"a\\ud83d", "b", NULL}, "a\xef\xbf\xbd"
	                                                       "b");
	expect_joined((const char *[]){"a", "\\ude00b", NULL}, "a\xef\xbf\xbd"
	                                                       "b");
	expect_joined((const char *[]){"a\\ud83d-\\ude00b", NULL}, "a\xef\xbf\xbd-\xef\xbf\xbd"
	                                                           "b");
	expect_joined((const char *[]){"\\\\ud83d\\ud83d", "\\ude00", NULL}, "\\ud83d\xf0\x9f\x98\x80");
	expect_joined((const char *[]){"\\ufdd0", "\\ufdd1", NULL}, "\xef\xb7\x90\xef\xb7\x91");
}

/* Whatever goes in comes out of a JSON parser unchanged, and the escaped form has no line end. */
static void test_escape(void **state)
{
	struct text text = {0};
	char all[0x80 + 8];
	size_t len = 0;

	(void)state;
	for (char c = 1; c < 0x7f; c++)
		all[len++] = c;
	memcpy(all + len, "\xc3\xbc\xe2\x80\xa8", 5);
	len += 5;
	text_add_string(&text, "[\"");
	text_add_json(&text, span_of(all, len));
	text_add_string(&text, "\"]");
	assert_true(text_ok(&text));
	assert_null(memchr(text.data, '\n', text.len));
	assert_null(memchr(text.data, '\r', text.len));
	json_t *root = json_loadb(text.data, text.len, 0, NULL);
	json_t *string = json_array_get(root, 0);
	assert_int_equal(json_string_length(string), len);
	assert_memory_equal(json_string_value(string), all, len);
	json_decref(root);
	text_free(&text);
}

static void test_upstream_head(void **state)
{
	struct transfer_head head = {0};

	(void)state;
	assert_true(upstream_head_take(&head, "retry-after", "17"));
	assert_int_equal(head.retry_after, 17);
	assert_true(upstream_head_take(&head, "Retry-After", "99999999999999999999"));
	assert_int_equal(head.retry_after, 86400);
	assert_true(upstream_head_take(&head, "Retry-After", "-5"));
	assert_int_equal(head.retry_after, 0);
	assert_true(upstream_head_take(&head, "Retry-After", "Fri, 01 Jan 2038 00:00:00 GMT"));
	assert_int_equal(head.retry_after, 86400);
	assert_true(upstream_head_take(&head, "Retry-After", "Sat, 01 Jan 2000 00:00:00 GMT"));
	assert_int_equal(head.retry_after, 0);
	assert_true(upstream_head_take(&head, "Retry-After", "soon"));
	assert_int_equal(head.retry_after, 0);
	assert_true(upstream_head_take(&head, "Content-Type", "Application/JSON; charset=utf-8"));
	assert_true(head.is_json);
	assert_true(upstream_head_take(&head, "content-type", "application/json-seq"));
	assert_false(head.is_json);
	assert_true(upstream_head_take(&head, "Content-Encoding", "identity"));
	assert_true(upstream_head_take(&head, "Transfer-Encoding", "chunked"));
	assert_false(upstream_head_take(&head, "Content-Encoding", "gzip"));
	assert_false(upstream_head_take(&head, "transfer-encoding", "gzip, chunked"));
	assert_false(upstream_head_take(&head, "transfer-encoding", "chunked, gzip"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_prompt), cmocka_unit_test(test_optional), cmocka_unit_test(test_wrong),
	    cmocka_unit_test(test_depth),  cmocka_unit_test(test_events),   cmocka_unit_test(test_finish),
	    cmocka_unit_test(test_escape), cmocka_unit_test(test_halves),   cmocka_unit_test(test_upstream_head),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
