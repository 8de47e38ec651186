/* SPDX-License-Identifier: Apache-2.0
 *
 * Stream: the life of one client, from `accepted` to the close.
 *
 *     WAITING    nothing was sent yet: an error still becomes an HTTP status
 *     OPEN       the head is out: content, keep-alive comments; an error becomes an event
 *     FLUSHING   nothing more will be added; unsent output is still going out
 *     LINGERING  all is sent and our side is shut; the client reads the rest and closes
 *     CLOSED     only the memory is left
 *
 * Any state can end in CLOSED at once when the client goes; with on-disconnect = drain the answer still comes in, for
 * the account, and is discarded. Backends call the functions below; none of them frees the stream or calls back into
 * the backend, so that they are safe inside callbacks of a library: a stream that has ended is let go of when the event
 * batch is over, and what a backend adds after the end is dropped.
 */
#ifndef HANDOFFD_STREAMER_STREAM_H
#define HANDOFFD_STREAMER_STREAM_H

#include "access_line.h"
#include "client.h"
#include "daemon/common/metrics.h"
#include "lib/wire.h"
#include "sse.h"
#include "streamer.h"

enum stream_state { STREAM_WAITING, STREAM_OPEN, STREAM_FLUSHING, STREAM_LINGERING, STREAM_CLOSED };

struct stream {
	struct client client;
	ev_timer timer; /* the nearest deadline of all, see next_deadline() */
	struct streamer *streamer;
	void *work; /* the backend's; NULL once it was stopped */
	LIST_ENTRY(stream) all;
	STAILQ_ENTRY(stream) deferred;
	uint64_t id;
	uint32_t gate; /* the gate's connection that wants to hear of the end, 0: none */
	int64_t accepted_ms;
	int64_t heard_ms;  /* when the upstream last gave a sign of life */
	int64_t spoken_ms; /* when something was last sent to the client */
	int64_t armed_ms;  /* when timer fires */
	int64_t shut_ms;   /* when our side was shut */
	uint32_t events;   /* sent to the client, comments aside */
	uint32_t pieces;   /* of content that came */
	struct usage usage;
	int32_t first_event_ms; /* after the acceptance; -1: none yet */
	uint16_t application_status;
	uint16_t status; /* that the client got; 0: none */
	uint8_t state;   /* enum stream_state */
	uint8_t outcome; /* enum outcome, once it has ended */
	bool head_only;  /* the request was HEAD */
	bool asked;      /* the backend was asked for an answer */
	bool relayed;    /* through a module: see lib/wire.h */
	bool answered;   /* the backend said stream_begin(): the head is no promise of ours */
	bool paused;
	bool draining;    /* the client has gone */
	bool is_deferred; /* in the queue of those to see to after the event batch */
	bool whole;       /* stream_done() was called */
	uint32_t headers_len;
	char *headers;                 /* the application's, until the head is out */
	struct access_request *access; /* NULL: there is no access log */
	uint32_t subject_len;
	uint32_t request_id_len;
	char text[]; /* subject, then request id */
};

/* A head as the backend has it. */
struct stream_answer {
	unsigned status;
	struct span headers; /* lines as a head has them, none of wire_answer_header_forbidden(); they replace the
	                        application's of the same name, but for cookies */
	int64_t length;      /* of the body, -1: not known */
	bool bodiless;       /* the status has no body */
};

/* An error as the client gets it, before the head as a status and a JSON body, afterwards as an event. */
struct stream_error {
	enum outcome outcome; /* its name is the error's code */
	unsigned status;
	const char *message; /* one sentence; holds nothing of the upstream's */
	uint32_t retry_after;
};

/* A stream that is not accepted yet: memory only, no descriptor. NULL when there is none. stream_discard() it or
 * stream_start() it. */
struct stream *stream_new(struct streamer *streamer, uint64_t id, const struct wire_request *wire);
void stream_discard(struct stream *stream);
/* After `accepted` was sent: take over the client and start the backend. */
void stream_start(struct stream *stream, int client);

/* For backends. */
/* The upstream gave a sign of life. */
void stream_heard(struct stream *stream);
/* The answer begins: the head goes out, together with the first content or, when none comes, after the event batch. */
void stream_begin(struct stream *stream);
/* An event of the upstream, for clients that get those as they are: output = passthrough. */
void stream_event(struct stream *stream, const struct sse_event *event);
/* One piece of content, valid UTF-8, for all other clients; call it in any case. */
void stream_content(struct stream *stream, struct span utf8);
/* The head of an answer of the backend's own: output = raw. Its body is stream_bytes() then, until stream_done(). 0, or
 * -EINVAL when the header lines, with those of the application, are more than an answer can have. */
int stream_answer(struct stream *stream, const struct stream_answer *answer);
void stream_bytes(struct stream *stream, struct span bytes);
/* What the upstream says that the answer took, in tokens; the last time counts. */
void stream_usage(struct stream *stream, uint32_t prompt, uint32_t completion);
/* The answer is whole. */
void stream_done(struct stream *stream);
/* It will not be. */
void stream_fail(struct stream *stream, const struct stream_error *error);
/* Whether output is of any use still. */
bool stream_is_live(const struct stream *stream);

/* Start seeing to streams after each event batch. */
void streams_init(struct streamer *streamer);
/* End all of them, with an error to those clients that can still get one. */
void streams_end(struct streamer *streamer);

#endif
