/* SPDX-License-Identifier: Apache-2.0
 *
 * Stream: what the files stream*.c have of each other. For nobody else.
 */
#ifndef HANDOFFD_STREAMER_STREAM_INTERNAL_H
#define HANDOFFD_STREAMER_STREAM_INTERNAL_H

#include "stream.h"

/* See to it once the event batch is over: send a held head, let go of the backend's work after the end, and of the
 * stream itself when it is closed. */
void stream_defer(struct stream *stream);
/* Nothing more will be added; what is unsent still goes out. */
void stream_end_output(struct stream *stream, enum outcome outcome);
/* The client does not get the rest: close at once. */
void stream_lost(struct stream *stream, enum outcome outcome);
void stream_close(struct stream *stream);
/* The client has hung up: let the upstream's answer come to its end where the configuration wants that, else lost. */
void stream_gone(struct stream *stream);

/* After something was given to the client, with what client_send() said: notice a lost or slow one. */
void stream_sent(struct stream *stream, int rc);
/* Send the head of an answer, be it before the backend has one: head-after. */
void stream_open(struct stream *stream);
/* A comment, which is for nobody but proxies on the way. */
void stream_keep_alive(struct stream *stream);

/* It has ended: tell everybody who counts or logs. Once. */
void stream_account(struct stream *stream);

void stream_deadlines_init(struct stream *stream);
/* Make sure that the timer fires no later than the nearest deadline. */
void stream_schedule(struct stream *stream);

#endif
