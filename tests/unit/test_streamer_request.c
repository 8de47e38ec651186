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
#include "daemon/streamer/response_headers.h"
#include "daemon/streamer/text.h"
#include "daemon/streamer/upstream_head.h"
#include "lib/wire.h"

static const struct config_request limits = {.max_prompt = 4096, .max_messages = 4, .max_attachments = 2};

static void refuse_bytes(const char *bytes, size_t len)
{
	struct data data = data_borrow(span_of(bytes, len));
	struct request request;
	const char *error = NULL;

	if (request_parse(&request, &data, &limits, &error) != -EINVAL)
		fail_msg("taken: %s", bytes);
	assert_non_null(error);
	request_free(&request);
}

static void refuse(const char *data)
{
	refuse_bytes(data, strlen(data));
}

static void take(struct request *request, const char *text)
{
	static struct data data;
	const char *error = NULL;

	data = data_borrow(span_of_string(text));
	if (request_parse(request, &data, &limits, &error) != 0)
		fail_msg("refused (%s): %s", error, text);
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
	assert_true(json_number_value(request_member(&request, "temperature")) == 0.5);
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
    "{\"temperature\":2.1}",
    "{\"model\":\"\"}",
    "{\"profile\":1}",
    "{\"max_tokens\":100000001}",
    "{\"max_completion_tokens\":0}",
    "{\"max_completion_tokens\":5,\"max_tokens\":5}",
    "{\"top_p\":1.1}",
    "{\"top_p\":-0.1}",
    "{\"top_p\":\"1\"}",
    "{\"presence_penalty\":-2.1}",
    "{\"frequency_penalty\":2.1}",
    "{\"seed\":1.5}",
    "{\"seed\":9223372036854775808}",
    "{\"n\":2}",
    "{\"n\":1.0}",
    "{\"stop\":\"\"}",
    "{\"stop\":[]}",
    "{\"stop\":[\"a\",\"\"]}",
    "{\"stop\":[\"a\",1]}",
    "{\"stop\":[\"a\",\"b\",\"c\",\"d\",\"e\"]}",
    "{\"stop\":{}}",
    "{\"logit_bias\":{\"50256\":-101}}",
    "{\"logit_bias\":{\"50256\":\"-100\"}}",
    "{\"logit_bias\":[]}",
    "{\"logprobs\":1}",
    "{\"top_logprobs\":21}",
    "{\"reasoning_effort\":\"\"}",
    "{\"response_format\":\"json_object\"}",
    "{\"response_format\":{}}",
    "{\"tools\":[]}",
    "{\"tools\":[{\"function\":{}}]}",
    "{\"tools\":{\"type\":\"function\"}}",
    "{\"tool_choice\":1}",
    "{\"tool_choice\":{}}",
    "{\"parallel_tool_calls\":\"yes\"}",
    "{\"user\":\"\"}",
    "{\"user\":7}",
    "{\"test_pattern\":\"\"}",
    "{\"test_pattern\":\" a\"}",
    "{\"test_pattern\":\"a \"}",
    "{\"test_pattern\":\"a\\r\\nX-Evil: 1\"}",
    "{\"test_pattern\":\"\\u00fc\"}",
    "{\"image_path\":\"/etc/passwd\"}",
    "{\"image_paths\":[]}",
    "{\"attachments\":{\"a\":\"b.png\"}}",
    "{\"images\":{}}",
    "{\"images\":[{}]}",
    "{\"images\":[\"aGVsbG8=\"]}",
    "{\"image_base64\":1}",
    /* limits */
    "{\"messages\":[{\"role\":\"a\"},{\"role\":\"b\"},{\"role\":\"c\"},{\"role\":\"d\"},{\"role\":\"e\"}]}",
    "{\"images\":[{},{},{}]}",
};

static void test_wrong(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		refuse(wrong[i]);
	refuse_bytes("{\"prompt\":\"a\"}\0", 15);
	refuse_bytes("\0", 1);
}

/* What is at the edge of its range, and null in the place of everything. */
static void test_options(void **state)
{
	static const char *const right[] = {
	    "{\"temperature\":0,\"top_p\":1,\"presence_penalty\":-2,\"frequency_penalty\":2.0,\"n\":1}",
	    "{\"temperature\":2,\"top_p\":0.0,\"seed\":-9223372036854775808,\"top_logprobs\":20,\"logprobs\":true}",
	    "{\"stop\":\"a\"}",
	    "{\"stop\":[\"a\",\"b\",\"c\",\"d\"],\"logit_bias\":{\"1\":-100,\"2\":100.0},\"user\":\"u\"}",
	    "{\"tools\":[{\"type\":\"function\"}],\"tool_choice\":\"auto\",\"parallel_tool_calls\":false}",
	    "{\"tool_choice\":{\"type\":\"function\"},\"response_format\":{\"type\":\"json_object\"}}",
	    "{\"max_completion_tokens\":100000000,\"reasoning_effort\":\"low\",\"test_pattern\":\"a b\"}",
	    "{\"temperature\":null,\"top_p\":null,\"seed\":null,\"n\":null,\"stop\":null,\"tools\":null,\"user\":null,"
	    "\"images\":null,\"attachments\":null,\"image_path\":null,\"response_headers\":null,\"profile\":null,"
	    "\"max_tokens\":null,\"max_completion_tokens\":null,\"test_pattern\":null,\"image_base64\":null}",
	    "{\"messages\":[{\"role\":\"a\"},{\"role\":\"b\"},{\"role\":\"c\"},{\"role\":\"d\"}],\"attachments\":[]}",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(right) / sizeof(right[0]); i++) {
		struct request request;

		take(&request, right[i]);
		request_free(&request);
	}
}

/* As many bytes as the limit says, and one more. */
static void test_length(void **state)
{
	char text[4097 + 1];
	struct request request;

	(void)state;
	memset(text, ' ', sizeof(text));
	text[0] = '{';
	text[4095] = '}';
	text[4096] = '\0';
	take(&request, text);
	request_free(&request);
	text[4096] = ' ';
	text[4097] = '\0';
	refuse(text);
}

static void merge(const char *application, const char *fields, const char *expected)
{
	struct text out = {0};
	json_t *object = json_loads(fields, JSON_REJECT_DUPLICATES, NULL);

	assert_null(response_headers_check(object));
	assert_int_equal(response_headers_merge(span_of_string(application), object, &out), 0);
	assert_true(span_equal_string(text_span(&out), expected));
	assert_true(wire_headers_valid(text_span(&out)));
	text_free(&out);
	json_decref(object);
}

static void test_response_headers(void **state)
{
	static const char *const refused[] = {
	    "[]",
	    "\"X-A: 1\"",
	    "{\"X-A\":1}",
	    "{\"X-A\":null}",
	    "{\"X-A\":[\"1\"]}",
	    "{\"X-A\":\"1\",\"x-a\":\"2\"}",
	    "{\"\":\"1\"}",
	    "{\"X A\":\"1\"}",
	    "{\"X-A:\":\"1\"}",
	    "{\"X-\\u00fc\":\"1\"}",
	    "{\"X-A\":\"1\\r\\nX-B: 2\"}",
	    "{\"X-A\":\"1\\n\"}",
	    "{\"X-A\":\"1\\u0001\"}",
	    "{\"X-A\":\"1\\u007f\"}",
	    "{\"X-A\\r\\nX-B\":\"1\"}",
	    "{\"X-A: 1\\r\\nX-B\":\"1\"}",
	    "{\"Transfer-Encoding\":\"chunked\"}",
	    "{\"content-length\":\"1\"}",
	    "{\"Connection\":\"keep-alive\"}",
	    "{\"Upgrade\":\"h2c\"}",
	    "{\"Trailer\":\"a\"}",
	    "{\"ETag\":\"a\"}",
	    "{\"X-Socket-Handoff\":\"/run/x\"}",
	    "{\"X_Handoff_Data\":\"a\"}",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
		json_t *object = json_loads(refused[i], JSON_DECODE_ANY, NULL);

		assert_non_null(object);
		if (response_headers_check(object) == NULL)
			fail_msg("taken: %s", refused[i]);
		json_decref(object);
	}
	merge("", "{}", "");
	merge("", "{\"X-A\":\"\",\"X-B\":\"a, \\u00fc\"}", "X-A: \r\nX-B: a, \xc3\xbc\r\n");
	merge("X-A: 1\r\nX-AB: 2\r\nVary: a\r\n", "{\"x-a\":\"9\"}", "X-AB: 2\r\nVary: a\r\nx-a: 9\r\n");
	merge("X-A: 1\r\n", "{\"X-AB\":\"9\"}", "X-A: 1\r\nX-AB: 9\r\n");
	merge("Set-Cookie: a=1\r\nSet-Cookie: b=2\r\n", "{\"set-cookie\":\"c=3\"}",
	      "Set-Cookie: a=1\r\nSet-Cookie: b=2\r\nset-cookie: c=3\r\n");
}

/* More fields than are taken, and more bytes than a handoff carries. */
static void test_response_headers_limits(void **state)
{
	json_t *object = json_object();
	struct text out = {0}, application = {0};
	char name[16];

	(void)state;
	for (int i = 0; i < RESPONSE_HEADERS_FIELDS_MAX; i++) {
		snprintf(name, sizeof(name), "X-%d", i);
		json_object_set_new(object, name, json_string("1"));
	}
	assert_null(response_headers_check(object));
	while (application.len < RESPONSE_HEADERS_MAX)
		text_add_string(&application, "A: 345678901234\r\n");
	assert_int_equal(response_headers_merge(span_of(application.data, (size_t)17 * 1024), object, &out), 0);
	text_free(&out);
	assert_int_equal(response_headers_merge(text_span(&application), object, &out), -EINVAL);
	text_free(&out);
	json_object_set_new(object, "X-One-More", json_string("1"));
	assert_non_null(response_headers_check(object));
	text_free(&application);
	json_decref(object);
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

static void expect_usage(const char *data, bool has_usage, bool only_usage)
{
	struct chat_event event;
	uint16_t half = 0;

	chat_event_parse(&event, &(struct sse_event){.data = span_of_string(data)}, &half);
	assert_int_equal(event.has_usage, has_usage);
	assert_int_equal(event.only_usage, only_usage);
	if (has_usage) {
		assert_int_equal(event.prompt_tokens, 3);
		assert_int_equal(event.completion_tokens, 0);
	}
	chat_event_free(&event);
}

#define USAGE "\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":0}"

static void test_usage(void **state)
{
	(void)state;
	expect_usage("{\"choices\":[]," USAGE "}", true, true);
	expect_usage("{" USAGE "}", true, true);
	expect_usage("{\"choices\":[{\"delta\":{\"content\":\"x\"}}]," USAGE "}", true, false);
	expect_usage("{\"choices\":[],\"usage\":null}", false, false);
	expect_usage("{\"choices\":[],\"usage\":{\"prompt_tokens\":3}}", false, false);
	expect_usage("{\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":-1}}", false, false);
	expect_usage("{\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4294967296}}", false, false);
	expect_usage("{\"usage\":{\"prompt_tokens\":3.0,\"completion_tokens\":0}}", false, false);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_prompt),
	    cmocka_unit_test(test_optional),
	    cmocka_unit_test(test_wrong),
	    cmocka_unit_test(test_options),
	    cmocka_unit_test(test_length),
	    cmocka_unit_test(test_response_headers),
	    cmocka_unit_test(test_response_headers_limits),
	    cmocka_unit_test(test_depth),
	    cmocka_unit_test(test_events),
	    cmocka_unit_test(test_finish),
	    cmocka_unit_test(test_escape),
	    cmocka_unit_test(test_halves),
	    cmocka_unit_test(test_usage),
	    cmocka_unit_test(test_upstream_head),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
