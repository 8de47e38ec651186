/* SPDX-License-Identifier: Apache-2.0
 *
 * Request body: see request_body.h.
 */
#include "request_body.h"

#include <stdlib.h>

struct request_body {
	char *text;
	size_t len;
	size_t position;
};

struct request_body *request_body_new(char *text, size_t len)
{
	struct request_body *body = calloc(1, sizeof(*body));

	if (body == NULL) {
		free(text);
		return NULL;
	}
	body->text = text;
	body->len = len;
	return body;
}

void request_body_free(struct request_body *body)
{
	if (body == NULL)
		return;
	free(body->text);
	free(body);
}

uint64_t request_body_length(const struct request_body *body)
{
	return body->len;
}

size_t request_body_read(struct request_body *body, void *out, size_t size)
{
	size_t len = body->len - body->position < size ? body->len - body->position : size;

	memcpy(out, body->text + body->position, len);
	body->position += len;
	return len;
}

void request_body_rewind(struct request_body *body)
{
	body->position = 0;
}

struct span request_body_text(const struct request_body *body)
{
	return span_of(body->text, body->len);
}
