/* SPDX-License-Identifier: Apache-2.0
 *
 * Request body: see request_body.h.
 */
#include "request_body.h"

#include <stdlib.h>

#include "daemon/common/metrics.h"
#include "lib/base64.h"

#define GROUP_BYTES   3
#define GROUP_LETTERS 4

struct request_body {
	struct text text;
	struct data data;
	uint64_t length;
	uint64_t held;
	/* How far it was read: */
	size_t text_position;
	size_t blob;          /* the first that is not read whole */
	size_t blob_position; /* letters of it */
	size_t n_blobs;
	struct request_blob blobs[];
};

static uint64_t held_by_all;

static void count_held(int64_t change)
{
	held_by_all += (uint64_t)change;
	metrics_set(METRIC_REQUEST_BYTES, held_by_all);
}

uint64_t request_bodies_held(void)
{
	return held_by_all;
}

/* The blobs' bytes move when the data is copied. */
static int keep_blobs(struct request_body *body, const struct request_blob *blobs, size_t n_blobs, struct data *data)
{
	const uint8_t *before = data->span.data;
	int rc = data_keep(&body->data, data);

	for (size_t i = 0; i < n_blobs && rc == 0; i++) {
		struct span bytes = blobs[i].bytes;

		body->blobs[i].at = blobs[i].at;
		body->blobs[i].bytes = span_of(body->data.span.data + (bytes.data - before), bytes.len);
		body->length += base64_length(bytes.len);
	}
	body->n_blobs = n_blobs;
	return rc;
}

struct request_body *request_body_new(struct text *text, const struct request_blob *blobs, size_t n_blobs,
                                      struct data *data)
{
	struct request_body *body = calloc(1, sizeof(*body) + n_blobs * sizeof(*blobs));

	if (body == NULL || !text_ok(text)) {
		text_free(text);
		free(body);
		return NULL;
	}
	body->text = *text;
	*text = (struct text){0};
	body->length = body->text.len;
	if (n_blobs > 0 && keep_blobs(body, blobs, n_blobs, data) != 0) {
		text_free(&body->text);
		free(body);
		return NULL;
	}
	body->held = body->text.capacity + body->data.span.len;
	count_held((int64_t)body->held);
	return body;
}

void request_body_free(struct request_body *body)
{
	if (body == NULL)
		return;
	count_held(-(int64_t)body->held);
	text_free(&body->text);
	data_close(&body->data);
	free(body);
}

uint64_t request_body_length(const struct request_body *body)
{
	return body->length;
}

/* From the text up to the next blob. */
static size_t read_text(struct request_body *body, char *out, size_t size)
{
	size_t end = body->blob < body->n_blobs ? body->blobs[body->blob].at : body->text.len;
	size_t len = end - body->text_position < size ? end - body->text_position : size;

	if (len > 0)
		memcpy(out, body->text.data + body->text_position, len);
	body->text_position += len;
	return len;
}

/* Up to the end of a group of letters that a read before left in the middle, or that does not fit whole. */
static size_t read_group(struct request_body *body, struct span bytes, char *out, size_t size)
{
	char letters[GROUP_LETTERS];
	size_t start = body->blob_position / GROUP_LETTERS * GROUP_BYTES;
	size_t skip = body->blob_position % GROUP_LETTERS;
	size_t left = bytes.len - start;
	size_t len = GROUP_LETTERS - skip < size ? GROUP_LETTERS - skip : size;

	base64_encode(letters, span_of(bytes.data + start, left < GROUP_BYTES ? left : GROUP_BYTES));
	memcpy(out, letters + skip, len);
	return len;
}

/* From the blob that is next. */
static size_t read_blob(struct request_body *body, char *out, size_t size)
{
	struct span bytes = body->blobs[body->blob].bytes;
	size_t start = body->blob_position / GROUP_LETTERS * GROUP_BYTES;
	size_t left = bytes.len - start;
	size_t fit = size / GROUP_LETTERS * GROUP_BYTES;
	size_t len;

	if (body->blob_position == base64_length(bytes.len)) {
		len = 0;
	} else if (body->blob_position % GROUP_LETTERS != 0 || fit == 0) {
		len = read_group(body, bytes, out, size);
	} else {
		left = left < fit ? left : fit;
		base64_encode(out, span_of(bytes.data + start, left));
		len = base64_length(left);
	}
	body->blob_position += len;
	if (body->blob_position == base64_length(bytes.len)) {
		body->blob++;
		body->blob_position = 0;
	}
	return len;
}

size_t request_body_read(struct request_body *body, void *out, size_t size)
{
	char *next = out;

	while (size > 0) {
		bool has_blob = body->blob < body->n_blobs;
		size_t len = read_text(body, next, size);

		if (len == 0 && !has_blob)
			break;
		if (len == 0)
			len = read_blob(body, next, size);
		next += len;
		size -= len;
	}
	return (size_t)(next - (char *)out);
}

void request_body_rewind(struct request_body *body)
{
	body->text_position = 0;
	body->blob = 0;
	body->blob_position = 0;
}

struct span request_body_text(const struct request_body *body)
{
	return body->n_blobs == 0 ? text_span(&body->text) : SPAN_EMPTY;
}
