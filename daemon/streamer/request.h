/* SPDX-License-Identifier: Apache-2.0
 *
 * Request: the data of a handoff as the backends see it: a JSON object, alone or as "parts" with attachments after it
 * (docs/protocol.md, section 1). docs/request.md describes the members.
 *
 * Which of the two it is the bytes say: the first eight of parts are the length of the JSON, whose last byte is 0, and
 * a JSON text holds no NUL.
 *
 * All members are optional here (a backend may demand more), unknown ones are ignored, null stands for absent. Parsed
 * strictly: duplicate members, invalid UTF-8, NUL characters, more than REQUEST_DEPTH_MAX levels, wrong types and what
 * is out of range or above the configuration's limits are errors.
 */
#ifndef HANDOFFD_STREAMER_REQUEST_H
#define HANDOFFD_STREAMER_REQUEST_H

#include "attachment.h"
#include "daemon/common/config.h"
#include "data.h"

#define REQUEST_DEPTH_MAX 64

struct wire_request;

/* Everything is borrowed from root and data; absent members are NULL. */
struct request {
	uint64_t id;                     /* of the stream */
	const struct wire_request *wire; /* that the data came with */
	int *memfd;                      /* that holds the data, to be taken over by making it -1; NULL: none does */
	json_t *root;
	struct data *data;
	const char *prompt;
	size_t prompt_len;
	json_t *messages; /* not empty; objects with a role */
	const char *system;
	const char *model;
	const char *profile;
	const char *test_pattern; /* printable ASCII, not empty */
	json_t *max_tokens;
	json_t *response_headers; /* response_headers_check() */
	/* Images of the JSON, then the attachments of parts. */
	struct attachment *attachments;
	size_t n_attachments;
};

/* Take the data apart; no data at all is an empty request. Returns 0; -ENOMEM; -EINVAL with what is wrong in error
 * (static storage, holds nothing of the data); request_free() in all cases. The request must not outlive the data. */
int request_parse(struct request *request, struct data *data, const struct config_request *limits, const char **error);

/* A member of the object, NULL when it is absent or null. */
json_t *request_member(const struct request *request, const char *name);

void request_free(struct request *request);

#endif
