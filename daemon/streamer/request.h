/* SPDX-License-Identifier: Apache-2.0
 *
 * Request: the data of a handoff as the backends see it, a JSON object:
 *
 *     prompt       string     what the user says; or
 *     messages     array      of objects with a role, a whole conversation; one of the two
 *     system       string     put before it
 *     model        string
 *     max_tokens   integer, 1 or more
 *     temperature  number, 0 or more
 *
 * All are optional here (a backend may demand more), unknown members are ignored, null stands for absent. Parsed
 * strictly: duplicate members, invalid UTF-8, NUL characters, more than REQUEST_DEPTH_MAX levels and wrong types are
 * errors.
 */
#ifndef HANDOFFD_STREAMER_REQUEST_H
#define HANDOFFD_STREAMER_REQUEST_H

#include <jansson.h>

#include "lib/bytes.h"

#define REQUEST_DEPTH_MAX 64

/* Everything is borrowed from root; absent members are NULL. */
struct request {
	json_t *root;
	const char *prompt;
	size_t prompt_len;
	json_t *messages;
	const char *system;
	const char *model;
	json_t *max_tokens;
	json_t *temperature;
};

/* Take the data apart; no data at all is an empty request. Returns 0; -EINVAL with what is wrong in error (static
 * storage, holds nothing of the data); request_free() in both cases. */
int request_parse(struct request *request, struct span data, const char **error);

void request_free(struct request *request);

#endif
