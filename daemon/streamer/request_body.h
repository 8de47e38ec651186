/* SPDX-License-Identifier: Apache-2.0
 *
 * Request body: what is POSTed to an upstream, read piece by piece as the connection takes it.
 */
#ifndef HANDOFFD_STREAMER_REQUEST_BODY_H
#define HANDOFFD_STREAMER_REQUEST_BODY_H

#include "lib/bytes.h"

struct request_body;

/* A body of this text, a malloc'ed buffer that is taken over (also on failure). NULL: no memory. */
struct request_body *request_body_new(char *text, size_t len);
void request_body_free(struct request_body *body);

/* Of the whole body, however much of it was read. */
uint64_t request_body_length(const struct request_body *body);
/* The next bytes, at most size; 0 at the end. */
size_t request_body_read(struct request_body *body, void *out, size_t size);
/* Read it from the start again. */
void request_body_rewind(struct request_body *body);
/* All of it when it lies in memory in one piece; no data otherwise. */
struct span request_body_text(const struct request_body *body);

#endif
