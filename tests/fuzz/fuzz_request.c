/* SPDX-License-Identifier: Apache-2.0
 *
 * Fuzzing requests: whatever data comes, what is made of it for the upstream is one JSON text that is the same however
 * it is read, and the header lines for the client are such that may go to one.
 */
#include <stdlib.h>

#include "daemon/streamer/chat_request.h"
#include "daemon/streamer/response_headers.h"
#include "lib/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct config_profile profile = {
    .name = "short", .model = "a", .system = "b\"", .max_tokens = 2, .temperature = 0.5};
static const struct config_profile *profiles[] = {&profile};
static const struct config_backend backend = {
    .model = "m",
    .request = {.max_prompt = 1 << 20,
                .max_messages = 16,
                .max_attachments = 8,
                .temperature = -1,
                .profiles = profiles,
                .n_profiles = 1,
                .include_usage = true},
};

/* A broken promise ends the run. */
static void must(bool kept)
{
	if (!kept)
		abort();
}

/* All of the body, read in pieces of this size. */
static struct text read_all(struct request_body *body, size_t piece)
{
	struct text all = {0};
	char buffer[4096];
	size_t len;

	while ((len = request_body_read(body, buffer, piece)) > 0) {
		must(len <= piece);
		text_add(&all, buffer, len);
	}
	must(text_ok(&all) && all.len == request_body_length(body));
	request_body_rewind(body);
	return all;
}

static void check_body(struct request_body *body, size_t piece)
{
	struct text whole = read_all(body, 4096);
	struct text pieces = read_all(body, piece);
	struct span text = request_body_text(body);
	json_t *root = json_loadb(whole.data, whole.len, JSON_REJECT_DUPLICATES, NULL);

	must(json_is_object(root));
	must(json_is_true(json_object_get(root, "stream")));
	must(json_array_size(json_object_get(root, "messages")) > 0);
	must(span_equal(text_span(&whole), text_span(&pieces)));
	must(text.data == NULL || span_equal(text_span(&whole), text));
	json_decref(root);
	text_free(&whole);
	text_free(&pieces);
}

static void check_headers(const struct request *request)
{
	struct text lines = {0};

	if (request->response_headers == NULL)
		return;
	must(response_headers_merge(SPAN_LITERAL("X-A: 1\r\nSet-Cookie: a=b\r\n"), request->response_headers, &lines) ==
	         0 ||
	     lines.len > RESPONSE_HEADERS_MAX);
	must(wire_headers_valid(text_span(&lines)));
	text_free(&lines);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	/* As the message of the gate does, these end where the data ends. */
	uint8_t *copy = malloc(size + 1);
	struct data data = data_borrow(span_of(copy, size));
	struct request_body *body = NULL;
	struct request request;
	const char *error = NULL;

	must(copy != NULL);
	memcpy(copy, bytes, size);
	int rc = request_parse(&request, &data, &backend.request, &error);
	must((rc == 0) == (error == NULL));
	if (rc == 0)
		check_headers(&request);
	if (rc == 0)
		rc = chat_request_make(&backend, &request, &body, &error);
	must((rc == 0) == (body != NULL));
	request_free(&request);
	data_close(&data);
	/* What the body needs of the data it has of its own. */
	memset(copy, 'x', size);
	free(copy);
	if (body != NULL)
		check_body(body, 1 + size % 7);
	request_body_free(body);
	must(request_bodies_held() == 0);
	return 0;
}
