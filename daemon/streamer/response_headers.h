/* SPDX-License-Identifier: Apache-2.0
 *
 * Response headers: those that a request's data asks for, put together with those of the application's response.
 */
#ifndef HANDOFFD_STREAMER_RESPONSE_HEADERS_H
#define HANDOFFD_STREAMER_RESPONSE_HEADERS_H

#include <jansson.h>

#include "text.h"

#define RESPONSE_HEADERS_FIELDS_MAX 64
#define RESPONSE_HEADERS_MAX        65536 /* bytes in all, as WIRE_RESPONSE_HEADERS has them */

/* Whether the value is an object of header fields that may go to a client (lib/wire.h), each a string, no two names the
 * same but for case. NULL, or what is wrong (static storage). */
const char *response_headers_check(json_t *fields);

/* Into out: the application's lines, but for those that a checked field replaces, then the fields. Cookies replace
 * none. 0; -EINVAL when they are more than a handoff can carry; -ENOMEM. */
int response_headers_merge(struct span application, json_t *fields, struct text *out);

/* Into out: the application's lines, but for those that a line of an answer's own replaces and those that describe its
 * body or are the streamer's (Content-Type, Date), then the answer's. Cookies replace none. 0, -EINVAL and
 * -ENOMEM as above. */
int response_headers_replace(struct span application, struct span answer, struct text *out);

#endif
