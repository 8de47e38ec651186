/* SPDX-License-Identifier: Apache-2.0
 *
 * Attachment: bytes that come with a request, as one of the kinds that a model takes. The type that the application
 * gives decides, and the bytes have to agree with it: text is UTF-8, images and PDF begin as their kind does.
 */
#ifndef HANDOFFD_STREAMER_ATTACHMENT_H
#define HANDOFFD_STREAMER_ATTACHMENT_H

#include <jansson.h>

#include "lib/bytes.h"

#define ATTACHMENT_TEXT_MAX   ((size_t)1024 * 1024)
#define ATTACHMENT_BINARY_MAX ((size_t)20 * 1024 * 1024)
#define ATTACHMENT_NAME_MAX   255

enum attachment_kind { ATTACHMENT_TEXT, ATTACHMENT_IMAGE, ATTACHMENT_PDF };

struct attachment {
	enum attachment_kind kind;
	struct span name;  /* empty for an image without one */
	const char *type;  /* media type in its usual form; static storage; NULL for text */
	struct span bytes; /* borrowed: of the data, or base64 text of the JSON */
	bool is_base64;    /* the bytes are base64 already */
};

/* The list that "parts" data begins with, for the bytes that follow the JSON. Adds to out, which has room for
 * json_array_size(list). NULL, or what is wrong (static storage). */
const char *attachment_take_list(json_t *list, struct span blobs, struct attachment *out);

/* One image given in the JSON itself: base64 text, and its type (NULL: image/jpeg). The same answer. */
const char *attachment_take_image(json_t *base64, json_t *type, struct attachment *out);

#endif
