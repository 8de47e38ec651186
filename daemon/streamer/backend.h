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

struct backend_type_ops {
	enum backend_type type;
	/* Silence is an error after first_byte_timeout_s and idle_timeout_s. */
	bool has_upstream;
	/* Once, before the process is caged: read the credential, initialise libraries. fatal() when it cannot. NULL:
	 * nothing to do. */
	void (*init)(struct streamer *streamer);
	/* Before the handoff is accepted: check the request and keep of it what start() needs, in *work. The request
	 * and its data go away afterwards, but for what data_keep() keeps. 0; -EINVAL with *error (static storage) when
	 * this backend cannot answer it; -ENOMEM. */
	int (*prepare)(struct streamer *streamer, const struct request *request, void **work, const char **error);
	/* After it was accepted: begin. */
	void (*start)(struct stream *stream);
	/* The client is slow: produce nothing until it is false again. */
	void (*pause)(struct stream *stream, bool paused);
	/* No output is wanted any more: free work. Called once for each work, also when start() was not, and never from
	 * inside a call that the backend made. whole: the backend said stream_done(). */
	void (*stop)(void *work, bool whole);
};

extern const struct backend_type_ops backend_demo;
extern const struct backend_type_ops backend_openai;

/* The functions of this type, NULL when there are none. */
const struct backend_type_ops *backend_find(enum backend_type type);

#endif
