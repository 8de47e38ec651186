/* SPDX-License-Identifier: Apache-2.0
 *
 * Chat content: the content of a user's message with its attachments, as chat completions take it: a string, or an
 * array of parts when there are images or PDFs.
 *
 * The first "{name}" in the text is where the attachment of this name goes; later ones, and names that are not there,
 * stay as they are. What the text does not name comes before it. A name that holds a brace cannot be named.
 */
#ifndef HANDOFFD_STREAMER_CHAT_CONTENT_H
#define HANDOFFD_STREAMER_CHAT_CONTENT_H

#include "attachment.h"
#include "request_body.h"

/* The body that is being written. */
struct chat_writer {
	struct text text;
	struct request_blob *blobs; /* room for one each attachment */
	size_t n_blobs;
};

/* Write the JSON value. 0 or -ENOMEM; that memory ran out for the text is known to the text. */
int chat_content_write(struct chat_writer *writer, struct span text, const struct attachment *attachments, size_t n);

#endif
