/* SPDX-License-Identifier: Apache-2.0
 *
 * Transport: one HTTP request to the upstream and its answer, piece by piece. Two implementations: HTTP/1.1 through
 * libcurl and HTTP/2 through nghttp2. Connections come from the dialer only.
 *
 * Every function may be called from inside the events below. None of them calls an event itself but pause(false).
 */
#ifndef HANDOFFD_STREAMER_TRANSPORT_H
#define HANDOFFD_STREAMER_TRANSPORT_H

#include "request_body.h"
#include "streamer.h"
#include "upstream_head.h"

/* A connection that served before and closes within this time of a request, without a byte of an answer, was about to
 * close anyway: the request goes out on another. Later than that the upstream may have been at work on it. */
#define TRANSFER_CROSSED_MS 1000

struct transport;
struct transfer;

enum transfer_error {
	TRANSFER_OK,
	TRANSFER_UNREACHABLE, /* no connection */
	TRANSFER_UNSEEN,      /* the upstream has refused the request before it began to deal with it */
	TRANSFER_MOVED,       /* its connection was about to close, and the upstream has not begun to deal with it */
	TRANSFER_TLS,         /* the peer is not who it should be, or does not speak TLS */
	TRANSFER_TIMEOUT,     /* connecting took too long */
	TRANSFER_BROKEN,      /* broke off, or is not HTTP as we accept it */
	TRANSFER_BUSY,        /* none of the connections that there may be became free in time */
	TRANSFER_NO_MEMORY,
};

struct transfer_events {
	/* At most once: the body is not needed any more. */
	void (*request_sent)(void *user);
	/* Once, when the final head is there. */
	void (*head)(void *user, const struct transfer_head *head);
	/* Pieces of the body. */
	void (*body)(void *user, struct span piece);
	/* Once, the last: the upstream has ended its answer, or failed. Not after release() or cancel(). */
	void (*end)(void *user, enum transfer_error error);
};

/* A header field of one request, besides the transport's own: name in lower case, value not empty and without control
 * bytes. */
struct transfer_field {
	const char *name;
	const char *value;
};

struct transfer_request {
	/* A JSON body, borrowed until request_sent() or end() was called, or release() or cancel() has returned. */
	struct request_body *body;
	/* Borrowed until start() has returned; what they point to as long as the body. */
	const struct transfer_field *fields;
	size_t n_fields;
};

struct transport_ops {
	/* Before the process is caged. authorization: the whole header line, "" for none; borrowed for good. fatal()
	 * when it cannot. */
	struct transport *(*init)(struct streamer *streamer, const struct config_upstream *upstream, const char *path,
	                          const char *authorization);
	/* POST it. NULL: no memory. */
	struct transfer *(*start)(struct transport *transport, const struct transfer_request *request,
	                          const struct transfer_events *events, void *user);
	/* No more body for now; false: go on. At most what the upstream was already allowed to send still comes: one
	 * read's worth, or one window of the HTTP/2 stream. */
	void (*pause)(struct transfer *transfer, bool paused);
	/* What was wanted has come: no more events, but the answer may end by itself so that its connection can serve
	 * again. */
	void (*release)(struct transfer *transfer);
	/* No more events, and the upstream is to notice at once. */
	void (*cancel)(struct transfer *transfer);
};

extern const struct transport_ops transport_curl; /* HTTP/1.1 */
extern const struct transport_ops transport_h2;   /* HTTP/2 over TLS */

#endif
