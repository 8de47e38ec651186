/* SPDX-License-Identifier: Apache-2.0
 *
 * Access line: one stream as a line of the access log, in the combined format with more fields behind it, or as JSON.
 * docs/streams.md describes both. What is not known is absent, never 0. Whatever came from outside is escaped: a line
 * is printable ASCII and ends where it should.
 */
#ifndef HANDOFFD_STREAMER_ACCESS_LINE_H
#define HANDOFFD_STREAMER_ACCESS_LINE_H

#include <time.h>

#include "daemon/common/config.h"
#include "daemon/common/outcome.h"
#include "lib/wire.h"
#include "text.h"

/* What the request was, kept until the stream's end. */
struct access_request;

/* NULL: no memory. free() it. */
struct access_request *access_request_new(const struct wire_request *wire);

struct access_entry {
	const struct access_request *request;
	struct span subject;
	struct span request_id;
	const char *backend;
	uint64_t id;
	struct timespec began; /* CLOCK_REALTIME */
	int64_t duration_ms;
	int64_t first_byte_ms; /* of the answer's body, from the acceptance; -1: there was none */
	unsigned status;       /* that the client got, 0: none */
	uint64_t bytes;        /* that the client's socket took, head and framing included */
	enum outcome outcome;
	bool relayed;
	struct usage usage;
};

/* Add the line, with the newline at its end. */
void access_line_write(struct text *out, enum config_log_format format, const struct access_entry *entry);

#endif
