/* SPDX-License-Identifier: Apache-2.0
 *
 * Handler request: what a handler's program is told of a request, as MESSAGE_LAUNCH carries it: the facts, then the
 * data, unless that is in a memfd.
 */
#ifndef HANDOFFD_STREAMER_HANDLER_REQUEST_H
#define HANDOFFD_STREAMER_HANDLER_REQUEST_H

#include "request.h"
#include "text.h"

struct handler_request {
	struct text text; /* facts, each HANDOFF_NAME=value with its NUL, then the data */
	size_t facts_len;
	size_t n_facts;
	int memfd; /* with the data; -1: it is in the text */
};

/* Take over what the request has. A fact that is not known, or has control bytes in it, is left out. 0 or -ENOMEM;
 * handler_request_free() in both cases. */
int handler_request_init(struct handler_request *out, const struct request *request, uint64_t id);
void handler_request_free(struct handler_request *request);

#endif
