/* SPDX-License-Identifier: Apache-2.0
 *
 * Request body: what is POSTed to an upstream, read piece by piece as the connection takes it: text, and between it
 * bytes of the handoff's data in base64, which are encoded as they are read.
 */
#ifndef HANDOFFD_STREAMER_REQUEST_BODY_H
#define HANDOFFD_STREAMER_REQUEST_BODY_H

#include "data.h"
#include "text.h"

struct request_body;

/* Bytes of the data that stand in base64 behind this many bytes of the text. */
struct request_blob {
	size_t at;
	struct span bytes;
};

/* A body of this text, whose memory is taken over. Blobs come in ascending order of their place; where there are any
 * they lie in data, which is kept (data_keep()). NULL: no memory; the text is freed then too. */
struct request_body *request_body_new(struct text *text, const struct request_blob *blobs, size_t n_blobs,
                                      struct data *data);
void request_body_free(struct request_body *body);

/* Of the whole body, however much of it was read. */
uint64_t request_body_length(const struct request_body *body);
/* The next bytes, at most size; 0 at the end. */
size_t request_body_read(struct request_body *body, void *out, size_t size);
/* Read it from the start again. */
void request_body_rewind(struct request_body *body);
/* All of it when it lies in memory in one piece; no data otherwise. */
struct span request_body_text(const struct request_body *body);

/* Bytes that the bodies of this process hold now, their data included. */
uint64_t request_bodies_held(void);

#endif
