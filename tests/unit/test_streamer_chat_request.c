/* SPDX-License-Identifier: Apache-2.0
 *
 * From the data of a handoff to what the upstream gets, byte for byte: attachments, placeholders, defaults and limits,
 * and a body that is read in pieces of any size.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "daemon/streamer/chat_request.h"
#include "lib/base64.h"
#include "lib/fdpass.h"
#include "lib/utf8.h"

#define PNG "\x89PNG\r\n\x1a\n"
#define PDF "%PDF-1.7"

static struct config_profile short_profile = {
    .name = "short", .model = "small", .system = "Be \"brief\".", .max_tokens = 5, .temperature = 0.25};
static struct config_profile empty_profile = {.name = "empty", .model = "", .system = "", .temperature = -1};
static const struct config_profile *profiles[] = {&short_profile, &empty_profile};
static const char *models[] = {"other"};

/* Limits that are in nobody's way, no defaults. */
static struct config_backend plain_backend(void)
{
	return (struct config_backend){
	    .model = "m",
	    .request = {.max_data = 1 << 30,
	                .max_prompt = 1 << 20,
	                .max_messages = 100,
	                .max_attachments = 8,
	                .temperature = -1,
	                .profiles = profiles,
	                .n_profiles = 2},
	};
}

/* JSON and bytes as parts; to be freed. */
static struct text parts(const char *json, struct span blobs)
{
	struct text text = {0};
	uint8_t len[8];

	put_le64(len, strlen(json));
	text_add(&text, len, sizeof(len));
	text_add_string(&text, json);
	text_add_span(&text, blobs);
	assert_true(text_ok(&text));
	return text;
}

static int make(const struct config_backend *backend, struct data *data, struct request_body **body, const char **error)
{
	struct request request;
	int rc = request_parse(&request, data, &backend->request, error);

	if (rc == 0)
		rc = chat_request_make(backend, &request, body, error);
	request_free(&request);
	return rc;
}

/* Read it in pieces of this size. */
static void expect_read(struct request_body *body, size_t size, const char *expected)
{
	char *all = calloc(1, strlen(expected) + size + 1);
	size_t len = 0, piece;

	assert_non_null(all);
	while (len <= strlen(expected) && (piece = request_body_read(body, all + len, size)) > 0)
		len += piece;
	assert_string_equal(all, expected);
	assert_int_equal(request_body_length(body), len);
	request_body_rewind(body);
	free(all);
}

static void expect_body(const struct config_backend *backend, struct span bytes, const char *expected)
{
	uint8_t *copy = malloc(bytes.len + 1), piece[64];
	struct data data = data_borrow(span_of(copy, bytes.len));
	struct request_body *body = NULL;
	const char *error = NULL;
	json_t *json;

	assert_non_null(copy);
	memcpy(copy, bytes.data, bytes.len);
	if (make(backend, &data, &body, &error) != 0)
		fail_msg("refused (%s)", error);
	/* The message of the gate is gone. */
	memset(copy, 'x', bytes.len);
	for (size_t size = 1; size < 20; size++)
		expect_read(body, size, expected);
	expect_read(body, 16384, expected);
	/* From the start again, wherever it has stopped. */
	for (size_t stop = 1; stop < strlen(expected); stop++) {
		for (size_t len = 0; len < stop; len += sizeof(piece))
			request_body_read(body, piece, stop - len < sizeof(piece) ? stop - len : sizeof(piece));
		request_body_rewind(body);
		expect_read(body, 16384, expected);
	}
	assert_true(request_bodies_held() > 0);
	request_body_free(body);
	assert_int_equal(request_bodies_held(), 0);
	json = json_loads(expected, JSON_REJECT_DUPLICATES, NULL);
	assert_non_null(json);
	json_decref(json);
	free(copy);
}

static void expect_parts(const char *json, struct span blobs, const char *content)
{
	struct config_backend backend = plain_backend();
	struct text data = parts(json, blobs);
	struct text expected = {0};

	text_add_string(&expected, "{\"messages\":[{\"role\":\"user\",\"content\":");
	text_add_string(&expected, content);
	text_add_string(&expected, "}],\"stream\":true,\"model\":\"m\"}");
	text_add(&expected, "", 1);
	expect_body(&backend, text_span(&data), expected.data);
	text_free(&expected);
	text_free(&data);
}

static void refuse_with(const struct config_backend *backend, struct span bytes, const char *why)
{
	struct data data = data_borrow(bytes);
	struct request_body *body = NULL;
	const char *error = NULL;

	assert_int_equal(make(backend, &data, &body, &error), -EINVAL);
	assert_null(body);
	assert_string_equal(error, why);
	assert_int_equal(request_bodies_held(), 0);
}

static void refuse_parts(const char *json, struct span blobs, const char *why)
{
	struct config_backend backend = plain_backend();
	struct text data = parts(json, blobs);

	refuse_with(&backend, text_span(&data), why);
	text_free(&data);
}

/* ---------------------------------------------------------------- attachments */

#define ITEM(name, type, offset, length)                                                                               \
	"{\"name\":\"" name "\",\"type\":\"" type "\",\"offset\":" #offset ",\"length\":" #length "}"
#define TEXT_PART(text)  "{\"type\":\"text\",\"text\":\"" text "\"}"
#define PNG_PART(base64) "{\"type\":\"image_url\",\"image_url\":{\"url\":\"data:image/png;base64," base64 "\"}}"

static void test_text(void **state)
{
	(void)state;
	expect_parts(
	    "{\"prompt\":\"a {x.txt} b {x.txt} {y} {\",\"attachments\":[" ITEM("x.txt", "text/plain", 0, 5) "]}",
	    SPAN_LITERAL("\"\n\xc3\xbc{"), "\"a \\\"\\n\xc3\xbc{ b {x.txt} {y} {\"");
	/* Not named: in front. */
	expect_parts("{\"prompt\":\"p\",\"attachments\":[" ITEM("x", "Text/X; charset=utf-8", 0,
	                                                        1) "," ITEM("y", "application/ld+json", 1, 2) "]}",
	             SPAN_LITERAL("1{}"), "\"1\\n\\n{}\\n\\np\"");
	/* Empty ones, and nothing around them. */
	expect_parts("{\"prompt\":\"{x}\",\"attachments\":[" ITEM("x", "text/plain", 0, 0) "]}", SPAN_LITERAL(""),
	             "\"\"");
	/* A text is not searched for names. */
	expect_parts("{\"prompt\":\"{x}{y}\",\"attachments\":[" ITEM("x", "text/plain", 0,
	                                                             3) "," ITEM("y", "text/plain", 3, 3) "]}",
	             SPAN_LITERAL("{y}{x}"), "\"{y}{x}\"");
	/* Once, also when there are others. */
	expect_parts("{\"prompt\":\"{x}{x}{y}\",\"attachments\":[" ITEM("x", "text/plain", 0,
	                                                                1) "," ITEM("y", "text/plain", 1, 1) "]}",
	             SPAN_LITERAL("12"), "\"1{x}2\"");
	/* Braces in names and around them. */
	expect_parts("{\"prompt\":\"{{x}} {a}b} {} {x\",\"attachments\":[" ITEM("x", "text/plain", 0, 1) "," ITEM(
	                 "a}b", "text/plain", 1, 1) "]}",
	             SPAN_LITERAL("12"), "\"2\\n\\n{1} {a}b} {} {x\"");
}

static void test_binary(void **state)
{
	(void)state;
	/* Not named: before the text. */
	expect_parts("{\"prompt\":\"what?\",\"attachments\":[" ITEM("x.png", "image/png", 0, 8) "]}", SPAN_LITERAL(PNG),
	             "[" PNG_PART("iVBORw0KGgo=") "," TEXT_PART("what?") "]");
	/* Named: where the name stands; bytes of each length modulo 3. */
	expect_parts("{\"prompt\":\"a {2} b {1} c\",\"attachments\":[" ITEM("1", "IMAGE/PNG", 0,
	                                                                    9) "," ITEM("2", "image/png", 9, 10) "]}",
	             SPAN_LITERAL(PNG "1" PNG "22"),
	             "[" TEXT_PART("a ") "," PNG_PART("iVBORw0KGgoyMg==") "," TEXT_PART(" b ") "," PNG_PART(
	                 "iVBORw0KGgox") "," TEXT_PART(" c") "]");
	/* PDF, and text in between. */
	expect_parts("{\"prompt\":\"{p}{t}{i}\",\"attachments\":[" ITEM("p", "application/pdf", 0, 8) "," ITEM(
	                 "t", "text/plain", 8, 1) "," ITEM("i", "image/png", 9,
	                                                   8) "," ITEM("\\u00fc\\\"", "application/pdf", 17, 8) "]}",
	             SPAN_LITERAL(PDF "t" PNG PDF),
	             "[{\"type\":\"file\",\"file\":{\"filename\":\"\xc3\xbc\\\"\",\"file_data\":\"data:application/"
	             "pdf;base64,JVBERi0xLjc=\"}},{\"type\":\"file\",\"file\":{\"filename\":\"p\",\"file_data\":\"data:"
	             "application/pdf;base64,JVBERi0xLjc=\"}}," TEXT_PART("t") "," PNG_PART("iVBORw0KGgo=") "]");
	expect_parts("{\"prompt\":\"\",\"attachments\":[" ITEM("g", "image/gif", 0, 6) "," ITEM(
	                 "w", "image/webp", 6, 12) "," ITEM("j", "image/jpg", 18, 3) "]}",
	             SPAN_LITERAL("GIF89aRIFF1234WEBP\xff\xd8\xff"),
	             "[{\"type\":\"image_url\",\"image_url\":{\"url\":\"data:image/gif;base64,R0lGODlh\"}},"
	             "{\"type\":\"image_url\",\"image_url\":{\"url\":\"data:image/webp;base64,UklGRjEyMzRXRUJQ\"}},"
	             "{\"type\":\"image_url\",\"image_url\":{\"url\":\"data:image/jpeg;base64,/9j/\"}}]");
}

static void test_last_message(void **state)
{
	struct config_backend backend = plain_backend();
	struct text data =
	    parts("{\"messages\":[{\"role\":\"user\",\"content\":\"{x}\"},{\"role\":\"user\",\"name\":\"n\","
	          "\"content\":\"see {x}\"}],\"attachments\":[" ITEM("x", "image/png", 0, 8) "]}",
	          SPAN_LITERAL(PNG));

	(void)state;
	expect_body(
	    &backend, text_span(&data),
	    "{\"messages\":[{\"role\":\"user\",\"content\":\"{x}\"},{\"role\":\"user\",\"name\":\"n\",\"content\":"
	    "[" TEXT_PART("see ") "," PNG_PART("iVBORw0KGgo=") "]}],\"stream\":true,\"model\":\"m\"}");
	text_free(&data);
	refuse_parts("{\"messages\":[{\"role\":\"tool\",\"content\":\"{x}\"}],\"attachments\":[" ITEM("x", "text/plain",
	                                                                                              0, 1) "]}",
	             SPAN_LITERAL("x"), "attachments need a last message of the user with text");
	refuse_parts(
	    "{\"messages\":[{\"role\":\"user\",\"content\":[]}],\"attachments\":[" ITEM("x", "text/plain", 0, 1) "]}",
	    SPAN_LITERAL("x"), "attachments need a last message of the user with text");
}

/* Images in the JSON itself. */
static void test_images(void **state)
{
	struct config_backend backend = plain_backend();

	(void)state;
	expect_body(&backend,
	            SPAN_LITERAL("{\"prompt\":\"p\",\"images\":[{\"base64\":\"iVBORw0KGgoAAAAA\",\"mime_type\":\"image/"
	                         "png\"}],\"image_base64\":\"/9j/4AAQSkZJRgAB\"}"),
	            "{\"messages\":[{\"role\":\"user\",\"content\":[" PNG_PART(
	                "iVBORw0KGgoAAAAA") ",{\"type\":\"image_"
	                                    "url\",\"image_url\":{\"url\":\"data:image/jpeg;base64,/9j/"
	                                    "4AAQSkZJRgAB\"}}," TEXT_PART("p") "]}],\"stream\":true,\"model\":\"m\"}");
	refuse_with(&backend, SPAN_LITERAL("{\"prompt\":\"p\",\"images\":[{\"base64\":\"iVBORw0KGgoAAAAA\"}]}"),
	            "an image's bytes are not of its type");
	refuse_with(&backend, SPAN_LITERAL("{\"prompt\":\"p\",\"images\":[{\"base64\":\"iVBORw0KGgoAAAA\"}]}"),
	            "an image is not base64");
	refuse_with(&backend, SPAN_LITERAL("{\"prompt\":\"p\",\"images\":[{\"base64\":\"/9j/4AAQSkZJRgAB====\"}]}"),
	            "an image is not base64");
	refuse_with(&backend,
	            SPAN_LITERAL("{\"prompt\":\"p\",\"images\":[{\"base64\":\"/9j/4AAQSkZJRgAB\\\"}]\\n\"}]}"),
	            "an image is not base64");
	refuse_with(&backend,
	            SPAN_LITERAL("{\"prompt\":\"p\",\"image_base64\":\"/9j/4AAQSkZJRgAB\",\"image_mime_type\":"
	                         "\"image/svg+xml\"}"),
	            "an image's type is not one that is taken");
	refuse_with(&backend, SPAN_LITERAL("{\"prompt\":\"p\",\"images\":[{\"base64\":\"\"}]}"),
	            "an image is not base64");
}

static void test_wrong_lists(void **state)
{
	static const struct {
		const char *list, *why;
	} wrong[] = {
	    {"[1]", "an attachment is not an object with name, type, offset and length"},
	    {"[{\"name\":\"x\",\"type\":\"text/plain\",\"offset\":0}]",
	     "an attachment is not an object with name, type, offset and length"},
	    {"[" ITEM("x", "text/plain", 0, 4.0) "]",
	     "an attachment is not an object with name, type, offset and length"},
	    {"[" ITEM("x", "text/plain", 1, 3) "]", "an attachment does not begin where the one before ends"},
	    {"[" ITEM("x", "text/plain", -1, 4) "]", "an attachment does not begin where the one before ends"},
	    {"[" ITEM("x", "text/plain", 0, 2) "," ITEM("y", "text/plain", 1, 3) "]",
	     "an attachment does not begin where the one before ends"},
	    {"[" ITEM("x", "text/plain", 0, 1) "," ITEM("y", "text/plain", 2, 2) "]",
	     "an attachment does not begin where the one before ends"},
	    {"[" ITEM("x", "text/plain", 0, 5) "]", "an attachment is longer than the data"},
	    {"[" ITEM("x", "text/plain", 0, -1) "]", "an attachment is longer than the data"},
	    {"[" ITEM("x", "text/plain", 0, 9223372036854775807) "]", "an attachment is longer than the data"},
	    {"[" ITEM("x", "text/plain", 0, 2) "," ITEM("y", "text/plain", 2, 3) "]",
	     "an attachment is longer than the data"},
	    {"[" ITEM("x", "text/plain", 0, 3) "]", "there are bytes after the last attachment"},
	    {"[]", "there are bytes after the last attachment"},
	    {"null", "there are bytes after the last attachment"},
	    {"{}", "attachments is not an array"},
	    {"[" ITEM("x", "text/plain", 0, 2) "," ITEM("x", "text/plain", 2, 2) "]",
	     "two attachments have the same name"},
	    {"[" ITEM("", "text/plain", 0, 4) "]", "an attachment's name is not allowed"},
	    {"[" ITEM("..", "text/plain", 0, 4) "]", "an attachment's name is not allowed"},
	    {"[" ITEM("a/b", "text/plain", 0, 4) "]", "an attachment's name is not allowed"},
	    {"[" ITEM("a\\\\b", "text/plain", 0, 4) "]", "an attachment's name is not allowed"},
	    {"[" ITEM("a\\nb", "text/plain", 0, 4) "]", "an attachment's name is not allowed"},
	    {"[" ITEM("x", "image/png", 0, 4) "]", "an attachment's bytes are not of its type"},
	    {"[" ITEM("x", "application/pdf", 0, 4) "]", "an attachment's bytes are not of its type"},
	    {"[" ITEM("x", "application/octet-stream", 0, 4) "]", "an attachment's type is not one that is taken"},
	    {"[" ITEM("x", "text/", 0, 4) "]", "an attachment's type is not one that is taken"},
	    {"[" ITEM("x", "", 0, 4) "]", "an attachment's type is not one that is taken"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		char json[512];

		snprintf(json, sizeof(json), "{\"prompt\":\"p\",\"attachments\":%s}", wrong[i].list);
		refuse_parts(json, SPAN_LITERAL("abcd"), wrong[i].why);
	}
	refuse_parts("{\"prompt\":\"p\",\"attachments\":[" ITEM("x", "text/plain", 0, 1) "]}", SPAN_LITERAL("\xff"),
	             "an attachment of text is not UTF-8");
	refuse_parts("{\"prompt\":\"p\",\"attachments\":[" ITEM("x", "text/plain", 0, 1) "]}", SPAN_LITERAL("\0"),
	             "an attachment of text is not UTF-8");
	/* Another kind of RIFF. */
	refuse_parts("{\"prompt\":\"p\",\"attachments\":[" ITEM("x", "image/webp", 0, 12) "]}",
	             SPAN_LITERAL("RIFF1234WAVE"), "an attachment's bytes are not of its type");
	refuse_parts("{\"prompt\":\"p\"", SPAN_EMPTY, "the data is not valid JSON");
	refuse_parts("[]", SPAN_EMPTY, "the data is not a JSON object");
}

/* Images of the JSON and attachments together. */
static void test_count(void **state)
{
	struct config_backend backend = plain_backend();
	struct text data = parts("{\"prompt\":\"p\",\"image_base64\":\"/9j/4AAQSkZJRgAB\",\"attachments\":[" ITEM(
	                             "x", "text/plain", 0, 1) "]}",
	                         SPAN_LITERAL("x"));
	struct data borrowed = data_borrow(text_span(&data));
	struct request_body *body = NULL;
	const char *error = NULL;

	(void)state;
	backend.request.max_attachments = 2;
	assert_int_equal(make(&backend, &borrowed, &body, &error), 0);
	request_body_free(body);
	backend.request.max_attachments = 1;
	refuse_with(&backend, text_span(&data), "more attachments than max-attachments allows");
	text_free(&data);
}

/* The length in front against the data. */
static void test_wrong_length(void **state)
{
	struct config_backend backend = plain_backend();
	struct text data = parts("{\"prompt\":\"p\"}", SPAN_EMPTY);

	(void)state;
	data.data[0]++;
	refuse_with(&backend, text_span(&data), "the JSON is longer than the data");
	data.data[6] = 1;
	refuse_with(&backend, text_span(&data), "the JSON is longer than the data");
	data.data[6] = 0;
	data.data[0] -= 2;
	refuse_with(&backend, text_span(&data), "the data is not valid JSON");
	data.data[0] = 0;
	refuse_with(&backend, text_span(&data), "the data is not valid JSON");
	refuse_with(&backend, span_of(data.data, 7), "the data is not valid JSON");
	text_free(&data);
}

/* As large as they may be, and a byte more. */
static void test_sizes(void **state)
{
	static const struct {
		const char *type, *start, *why;
		size_t max;
	} sizes[] = {
	    {"text/plain", "a", "an attachment of text is larger than 1 MiB", 1 << 20},
	    {"image/png", PNG, "an attachment is larger than 20 MiB", 20 << 20},
	};
	struct config_backend backend = plain_backend();
	char json[256];

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		for (size_t more = 0; more < 2; more++) {
			size_t len = sizes[i].max + more;
			char *blob = malloc(len);
			struct text bytes;

			assert_non_null(blob);
			memset(blob, 'x', len);
			memcpy(blob, sizes[i].start, strlen(sizes[i].start));
			snprintf(json, sizeof(json),
			         "{\"prompt\":\"p\",\"attachments\":[{\"name\":\"x\",\"type\":\"%s\",\"offset\":0,"
			         "\"length\":%zu}]}",
			         sizes[i].type, len);
			bytes = parts(json, span_of(blob, len));
			struct data data = data_borrow(text_span(&bytes));
			struct request_body *body = NULL;
			const char *error = NULL;

			if (more > 0)
				refuse_with(&backend, data.span, sizes[i].why);
			else
				assert_int_equal(make(&backend, &data, &body, &error), 0);
			request_body_free(body);
			text_free(&bytes);
			free(blob);
		}
	}
}

/* Mapped data goes to the body, with nothing copied, and is there until the body is freed. */
static void test_mapped(void **state)
{
	struct config_backend backend = plain_backend();
	struct text bytes =
	    parts("{\"prompt\":\"p\",\"attachments\":[" ITEM("x", "image/png", 0, 8) "]}", SPAN_LITERAL(PNG));
	int fd FD_CLEANUP = memfd_make_sealed(text_span(&bytes));
	struct request_body *body = NULL;
	const char *error = NULL;
	struct data data;
	void *mapping;

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(data_map(&data, fd, bytes.len), 0);
	mapping = data.mapping;
	assert_int_equal(make(&backend, &data, &body, &error), 0);
	assert_null(data.mapping);
	data_close(&data);
	assert_int_equal(request_body_text(body).len, 0);
	expect_read(body, 7,
	            "{\"messages\":[{\"role\":\"user\",\"content\":[" PNG_PART("iVBORw0KGgo=") "," TEXT_PART(
	                "p") "]}],\"stream\":true,\"model\":\"m\"}");
	assert_true(request_bodies_held() >= bytes.len);
	assert_memory_equal(mapping, bytes.data, bytes.len);
	request_body_free(body);
	assert_int_equal(request_bodies_held(), 0);
	/* Without bytes to be encoded it is not needed any longer. */
	text_free(&bytes);
	bytes = parts("{\"prompt\":\"p\"}", SPAN_EMPTY);
	data = data_borrow(text_span(&bytes));
	assert_int_equal(make(&backend, &data, &body, &error), 0);
	text_free(&bytes);
	assert_true(span_equal_string(
	    request_body_text(body),
	    "{\"messages\":[{\"role\":\"user\",\"content\":\"p\"}],\"stream\":true,\"model\":\"m\"}"));
	request_body_free(body);
}

/* ---------------------------------------------------------------- defaults and limits */

static void expect_options(const struct config_backend *backend, const char *data, const char *expected)
{
	expect_body(backend, span_of_string(data), expected);
}

#define P "{\"messages\":[{\"role\":\"user\",\"content\":\"p\"}],\"stream\":true"

static void test_defaults(void **state)
{
	struct config_backend backend = plain_backend();

	(void)state;
	expect_options(&backend, "{\"prompt\":\"p\",\"model\":\"x\",\"unknown\":1}", P ",\"model\":\"x\"}");
	backend.model = "";
	expect_options(&backend, "{\"prompt\":\"p\"}", P "}");
	backend.model = "m";
	backend.request.max_tokens_limit = 9;
	expect_options(&backend, "{\"prompt\":\"p\"}", P ",\"model\":\"m\",\"max_tokens\":9}");
	backend.request.max_tokens = 7;
	backend.request.temperature = 0.1;
	backend.request.include_usage = true;
#define U P ",\"stream_options\":{\"include_usage\":true},\"model\":"
	expect_options(&backend, "{\"prompt\":\"p\"}", U "\"m\",\"max_tokens\":7,\"temperature\":0.1}");
	expect_options(&backend, "{\"prompt\":\"p\",\"max_completion_tokens\":9,\"temperature\":0}",
	               U "\"m\",\"temperature\":0,\"max_tokens\":9}");
	backend.request.max_completion_tokens = true;
	expect_options(&backend, "{\"prompt\":\"p\",\"max_tokens\":8,\"temperature\":1.5,\"stream\":false}",
	               U "\"m\",\"temperature\":1.5,\"max_completion_tokens\":8}");
	refuse_with(&backend, SPAN_LITERAL("{\"prompt\":\"p\",\"max_tokens\":10}"),
	            "max_tokens is above max-tokens-limit");
	refuse_with(&backend, SPAN_LITERAL("{\"prompt\":\"p\",\"max_completion_tokens\":10}"),
	            "max_tokens is above max-tokens-limit");
	refuse_with(&backend, SPAN_LITERAL("{}"), "neither prompt nor messages");
}

static void test_passed_on(void **state)
{
	struct config_backend backend = plain_backend();

	(void)state;
	expect_options(
	    &backend,
	    "{\"prompt\":\"p\",\"system\":\"s\\\"\",\"user\":\"u\",\"stop\":[\"\\n\"],\"seed\":-3,\"top_p\":0.1,"
	    "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"x\":1e3}}],\"n\":1,\"logprobs\":false}",
	    "{\"messages\":[{\"role\":\"system\",\"content\":\"s\\\"\"},{\"role\":\"user\",\"content\":\"p\"}],"
	    "\"stream\":true,\"model\":\"m\",\"top_p\":0.1,\"seed\":-3,\"n\":1,\"stop\":[\"\\n\"],\"logprobs\":false,"
	    "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"x\":1000.0}}],\"user\":\"u\"}");
	expect_options(
	    &backend,
	    "{\"system\":\"s\",\"messages\":[{\"role\":\"user\",\"content\":\"\\u00fc\\\\\"},{\"role\":\"tool\","
	    "\"tool_call_id\":\"1\"}]}",
	    "{\"messages\":[{\"role\":\"system\",\"content\":\"s\"},{\"role\":\"user\",\"content\":\"\xc3\xbc\\\\\"},"
	    "{\"role\":\"tool\",\"tool_call_id\":\"1\"}],\"stream\":true,\"model\":\"m\"}");
}

static void test_profiles(void **state)
{
	struct config_backend backend = plain_backend();

	(void)state;
	backend.request.max_tokens = 7;
	backend.request.temperature = 1;
#define BRIEF                                                                                                          \
	"{\"messages\":[{\"role\":\"system\",\"content\":\"Be "                                                        \
	"\\\"brief\\\".\"},{\"role\":\"user\",\"content\":\"p\"}],"                                                    \
	"\"stream\":true"
	expect_options(&backend, "{\"prompt\":\"p\",\"profile\":\"short\"}",
	               BRIEF ",\"model\":\"small\",\"max_tokens\":5,\"temperature\":0.25}");
	expect_options(&backend, "{\"prompt\":\"p\",\"profile\":\"empty\"}",
	               P ",\"model\":\"m\",\"max_tokens\":7,\"temperature\":1}");
	expect_options(&backend,
	               "{\"prompt\":\"p\",\"profile\":\"short\",\"model\":\"x\",\"max_tokens\":1,\"temperature\":2,"
	               "\"system\":\"s\"}",
	               "{\"messages\":[{\"role\":\"system\",\"content\":\"s\"},{\"role\":\"user\",\"content\":\"p\"}],"
	               "\"stream\":true,\"model\":\"x\",\"temperature\":2,\"max_tokens\":1}");
	refuse_with(&backend, SPAN_LITERAL("{\"prompt\":\"p\",\"profile\":\"long\"}"), "there is no such profile");
	refuse_with(&backend, SPAN_LITERAL("{\"prompt\":\"p\",\"profile\":\"\"}"), "there is no such profile");
}

static void test_models(void **state)
{
	struct config_backend backend = plain_backend();

	(void)state;
	backend.request.models = models;
	backend.request.n_models = 1;
	expect_options(&backend, "{\"prompt\":\"p\",\"model\":\"other\"}", P ",\"model\":\"other\"}");
	expect_options(&backend, "{\"prompt\":\"p\",\"model\":\"m\"}", P ",\"model\":\"m\"}");
	refuse_with(&backend, SPAN_LITERAL("{\"prompt\":\"p\",\"model\":\"oth\"}"),
	            "the model is not one that the configuration allows");
	refuse_with(&backend, SPAN_LITERAL("{\"prompt\":\"p\",\"model\":\"small\"}"),
	            "the model is not one that the configuration allows");
	/* A profile is the configuration's own. */
	backend.request.max_tokens_limit = 5;
	expect_options(&backend, "{\"prompt\":\"p\",\"profile\":\"short\"}",
	               BRIEF ",\"model\":\"small\",\"max_tokens\":5,\"temperature\":0.25}");
}

/* ---------------------------------------------------------------- what it is made of */

static void test_base64(void **state)
{
	static const char *const texts[] = {"", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"};
	uint8_t all[256], again[256];
	char letters[345];

	(void)state;
	for (size_t len = 0; len <= 6; len++) {
		memset(letters, 0, sizeof(letters));
		base64_encode(letters, span_of("foobar", len));
		assert_string_equal(letters, texts[len]);
		assert_int_equal(base64_length(len), strlen(texts[len]));
	}
	for (size_t i = 0; i < sizeof(all); i++)
		all[i] = (uint8_t)(i * 37 ^ i >> 3);
	base64_encode(letters, span_of(all, sizeof(all)));
	assert_true(base64_decode(again, sizeof(again), span_of(letters, base64_length(sizeof(all))), BASE64_STANDARD));
	assert_memory_equal(all, again, sizeof(all));
}

static void test_utf8(void **state)
{
	static const char *const right[] = {"",
	                                    "a",
	                                    "\x7f",
	                                    "\xc2\x80",
	                                    "\xdf\xbf",
	                                    "\xe0\xa0\x80",
	                                    "\xec\xbf\xbf",
	                                    "\xed\x9f\xbf",
	                                    "\xee\x80\x80",
	                                    "\xef\xbf\xbf",
	                                    "\xf0\x90\x80\x80",
	                                    "\xf3\xbf\xbf\xbf",
	                                    "\xf4\x8f\xbf\xbf",
	                                    "a\xc3\xbc\xe2\x82\xac\xf0\x9f\x98\x80z"};
	static const char *const wrong[] = {"\x80",
	                                    "\xbf",
	                                    "\xc0\x80",
	                                    "\xc1\xbf",
	                                    "\xc2",
	                                    "\xc2\x7f",
	                                    "\xc2\xc0",
	                                    "\xe0\x9f\xbf",
	                                    "\xe0\xa0",
	                                    "\xe1\x80\x7f",
	                                    "\xed\xa0\x80",
	                                    "\xf0\x8f\xbf\xbf",
	                                    "\xf0\x90\x80",
	                                    "\xf4\x90\x80\x80",
	                                    "\xf5\x80\x80\x80",
	                                    "\xff",
	                                    "a\xe2\x82z"};

	(void)state;
	for (size_t i = 0; i < sizeof(right) / sizeof(right[0]); i++)
		assert_true(utf8_valid(span_of_string(right[i])));
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		if (utf8_valid(span_of_string(wrong[i])))
			fail_msg("taken: number %zu", i);
	/* Cut, with the rest of the character behind the end. */
	assert_false(utf8_valid(span_of("\xe2\x82\xac", 2)));
	assert_false(utf8_valid(span_of("\xc3\xbc", 1)));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_text),     cmocka_unit_test(test_binary),      cmocka_unit_test(test_last_message),
	    cmocka_unit_test(test_images),   cmocka_unit_test(test_wrong_lists), cmocka_unit_test(test_wrong_length),
	    cmocka_unit_test(test_count),    cmocka_unit_test(test_sizes),       cmocka_unit_test(test_mapped),
	    cmocka_unit_test(test_defaults), cmocka_unit_test(test_passed_on),   cmocka_unit_test(test_profiles),
	    cmocka_unit_test(test_models),   cmocka_unit_test(test_base64),      cmocka_unit_test(test_utf8),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
