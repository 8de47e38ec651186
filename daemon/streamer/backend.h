/* SPDX-License-Identifier: Apache-2.0
 *
 * Backend: what answers a request. A further backend is one file with a struct of these functions, and one row of the
 * table in backends.c.
 *
 * A backend gives its output to the stream (stream_begin, stream_content, stream_done, stream_fail) and hears from it
 * through the functions below. Its state for one stream is the stream's work pointer.
 */
#ifndef HANDOFFD_STREAMER_BACKEND_H
#define HANDOFFD_STREAMER_BACKEND_H

#include "request.h"
#include "stream.h"

/* Embedded in a handoff that waits. done(): REASON_OK, what start() needs is there; else why there will be none. */
struct reservation {
	void (*done)(struct reservation *reservation, enum reason reason);
};

struct backend_type_ops {
	enum backend_type type;
	/* The data is for the backend to understand: it is verified, not looked into, and the request has no members.
	 */
	bool opaque;
	/* Silence is an error after first_byte_timeout_s and idle_timeout_s. */
	bool has_upstream;
	/* Once, before the process is caged: read the credential, initialise libraries. fatal() when it cannot. NULL:
	 * nothing to do. */
	void (*init)(struct streamer *streamer);
	/* Before the handoff is accepted: check the request and keep of it what start() needs, in *work. The request
	 * and its data go away afterwards, but for what data_keep() keeps. 0; -EINVAL with *error (static storage) when
	 * this backend cannot answer it; -ENOMEM. */
	int (*prepare)(struct streamer *streamer, const struct request *request, void **work, const char **error);
	/* Then, before it is accepted: ask for what start() cannot do without. 0: for nothing; 1: done() tells, never
	 * from inside a call to the backend, unless stop() comes first; -errno. NULL: for nothing. */
	int (*reserve)(void *work, struct reservation *reservation);
	/* Why it waited in vain for so long. */
	enum reason (*not_reserved)(const struct streamer *streamer);
	/* After it was accepted: begin. */
	void (*start)(struct stream *stream);
	/* The client is slow: produce nothing until it is false again. */
	void (*pause)(struct stream *stream, bool paused);
	/* No output is wanted any more: free work, at once or when what it does has ended. Called once for each work,
	 * also when start() was not, and never from inside a call that the backend made. whole: the backend said
	 * stream_done(). */
	void (*stop)(void *work, bool whole);
};

extern const struct backend_type_ops backend_demo;
extern const struct backend_type_ops backend_openai;
extern const struct backend_type_ops backend_handler;

/* The functions of this type, NULL when there are none. */
const struct backend_type_ops *backend_find(enum backend_type type);

#endif
