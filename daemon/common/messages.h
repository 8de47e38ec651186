/* SPDX-License-Identifier: Apache-2.0
 *
 * Messages: everything that one role may say to another, in one table. channel.c
 * refuses, on both sides, whatever is not in it.
 *
 * Every message starts with struct message_header; its body follows. Sockets are
 * SOCK_SEQPACKET, both ends are on one machine and built together, so bodies are
 * plain structs of fixed-width members without padding.
 */
#ifndef HANDOFFD_MESSAGES_H
#define HANDOFFD_MESSAGES_H

#include <assert.h>
#include <stdint.h>

#include "lib/wire.h"

enum role { ROLE_GATE, ROLE_STREAMER, ROLE_DIALER, ROLE_LAUNCHER, ROLE_SUPERVISOR, ROLE_COUNT };

struct message_header {
	uint32_t type;   /* enum message_type */
	uint32_t length; /* of the whole message, header included */
};
#define MESSAGE_MAX (WIRE_REQUEST_MAX + 256)

/* gate -> streamer. A verified handoff. The body is followed by the handoff/1 request without token and binding
 * (WIRE_TOKEN and WIRE_BINDING are absent). Descriptors: client socket, reply socket, and the data's memfd with
 * WIRE_FLAG_MEMFD. Whoever receives it answers on the reply socket. */
struct message_handoff {
	uint64_t stream_id;  /* unique for one run of the gate; in the log lines of every role */
	uint64_t arrived_us; /* at the gate, CLOCK_MONOTONIC */
	uint32_t listener;   /* number of the listen section, from 0 */
	uint32_t flags;      /* MESSAGE_HANDOFF_* */
};

#define MESSAGE_HANDOFF_COUNTED 1 /* the gate wants to hear of the stream's end */

/* gate -> streamer. Introduces the dialer. Descriptor: the streamer's end of the channel to it. Replaces an earlier
 * one. */
struct message_dialer_channel {
	uint32_t zero[2];
};

/* gate -> dialer, launcher. Introduces a streamer. Descriptor: the receiver's end. Only the upstream or handler of this
 * backend may be asked for on it. */
struct message_streamer_channel {
	uint32_t backend; /* number of the backend section, from 0 */
	uint32_t worker;  /* instance of the pool, from 0 */
};

/* streamer -> dialer. Asks for a connection. */
struct message_dial {
	uint32_t id;       /* chosen by the streamer, returned in the answer */
	uint32_t upstream; /* number of the upstream section, from 0 */
};

/* dialer -> streamer. The answer: a connected non-blocking socket, or an error and no descriptor. */
struct message_dialed {
	uint32_t id;
	int32_t error; /* 0, or -errno */
};

/* gate -> streamer. Introduces the launcher of its backend's handler. Descriptor: the streamer's end of the channel to
 * it. Replaces an earlier one. */
struct message_launcher_channel {
	uint32_t zero[2];
};

/* streamer -> launcher. May one more run begin? It waits its turn; nothing was accepted yet. */
struct message_place {
	uint32_t id; /* chosen by the streamer, of this run in all that follows on this channel */
	uint32_t zero;
};

/* launcher -> streamer. The answer. */
struct message_placed {
	uint32_t id;
	int32_t
	    error; /* 0: there is a place, until it is left or its run has ended; -EBUSY: none, and the queue is full */
};

/* streamer -> launcher. The place is not wanted any more, whether it was given or is waited for. */
struct message_leave {
	uint32_t id;
	uint32_t zero;
};

/* streamer -> launcher. Start the program in the place that was given: the client is accepted. The body is followed by
 * n_facts strings NAME=VALUE, each with its NUL, and by the data, when there is no descriptor. Descriptor: the data's
 * sealed memfd. */
struct message_launch {
	uint32_t id;
	uint32_t flags;     /* 0 */
	uint32_t facts_len; /* bytes of all facts, NULs included */
	uint32_t n_facts;
};

/* launcher -> streamer. It runs, descriptors: the read ends of the pipes of its standard output and standard error; or
 * it does not, without: MESSAGE_EXITED does not follow then, and the place is free. */
struct message_launched {
	uint32_t id;
	int32_t error; /* 0, or -errno */
};

/* streamer -> launcher. End the run: it is asked, and made to end after a while. For its output, or because nobody
 * wants it any more. */
struct message_stop {
	uint32_t id;
	uint32_t limit; /* enum run_limit: RUN_LIMIT_OUTPUT or RUN_LIMIT_NONE */
};

/* Which limit has ended a run. */
enum run_limit {
	RUN_LIMIT_NONE,
	RUN_LIMIT_WALL_TIME,
	RUN_LIMIT_CPU_TIME,
	RUN_LIMIT_MEMORY,
	RUN_LIMIT_OUTPUT,
	RUN_LIMIT_STOPPED, /* the streamer wanted it */
	RUN_LIMIT_COUNT,
};

/* launcher -> streamer. Everything of the run is gone and its place is free. */
struct message_exited {
	uint32_t id;
	int32_t status; /* as wait() gives it */
	uint32_t limit; /* enum run_limit */
	uint32_t zero;
	uint64_t user_us;
	uint64_t system_us;
	uint64_t max_rss_kib;
};

/* streamer, dialer, launcher -> gate. The first message on the connection. Descriptor: the memfd that the sender counts
 * in, see metrics.h. */
struct message_metrics {
	uint64_t layout;   /* metrics_layout() of the sender */
	uint64_t sections; /* config_sections_id() of its configuration: numbers of sections mean the same to both */
};

/* streamer -> gate. These streams of the connection, which the gate counts, have ended, or were not accepted. The body
 * is followed by their ids, 8 bytes each. */
struct message_streams_ended {
	uint64_t n;
};
#define MESSAGE_STREAMS_ENDED_MAX 512

/* streamer -> gate. It ends when its streams have, and takes no handoff that is not on its way already. */
struct message_stopping {
	uint32_t zero[2];
};

/* gate -> streamer, dialer, launcher: are you there? And the answer, with the same number. */
struct message_ping {
	uint64_t number;
};

/*      symbol                    from           to             body                               more bytes fds min
 * max */
#define MESSAGES(X)                                                                                                    \
	X(MESSAGE_HANDOFF, ROLE_GATE, ROLE_STREAMER, struct message_handoff, WIRE_REQUEST_MAX, 2, 3)                   \
	X(MESSAGE_DIALER_CHANNEL, ROLE_GATE, ROLE_STREAMER, struct message_dialer_channel, 0, 1, 1)                    \
	X(MESSAGE_STREAMER_CHANNEL, ROLE_GATE, ROLE_DIALER, struct message_streamer_channel, 0, 1, 1)                  \
	X(MESSAGE_DIAL, ROLE_STREAMER, ROLE_DIALER, struct message_dial, 0, 0, 0)                                      \
	X(MESSAGE_DIALED, ROLE_DIALER, ROLE_STREAMER, struct message_dialed, 0, 0, 1)                                  \
	X(MESSAGE_STREAMER_METRICS, ROLE_STREAMER, ROLE_GATE, struct message_metrics, 0, 1, 1)                         \
	X(MESSAGE_DIALER_METRICS, ROLE_DIALER, ROLE_GATE, struct message_metrics, 0, 1, 1)                             \
	X(MESSAGE_STREAMS_ENDED, ROLE_STREAMER, ROLE_GATE, struct message_streams_ended,                               \
	  MESSAGE_STREAMS_ENDED_MAX * sizeof(uint64_t), 0, 0)                                                          \
	X(MESSAGE_STOPPING, ROLE_STREAMER, ROLE_GATE, struct message_stopping, 0, 0, 0)                                \
	X(MESSAGE_STREAMER_PING, ROLE_GATE, ROLE_STREAMER, struct message_ping, 0, 0, 0)                               \
	X(MESSAGE_STREAMER_PONG, ROLE_STREAMER, ROLE_GATE, struct message_ping, 0, 0, 0)                               \
	X(MESSAGE_DIALER_PING, ROLE_GATE, ROLE_DIALER, struct message_ping, 0, 0, 0)                                   \
	X(MESSAGE_DIALER_PONG, ROLE_DIALER, ROLE_GATE, struct message_ping, 0, 0, 0)                                   \
	X(MESSAGE_LAUNCHER_CHANNEL, ROLE_GATE, ROLE_STREAMER, struct message_launcher_channel, 0, 1, 1)                \
	X(MESSAGE_LAUNCHER_STREAMER, ROLE_GATE, ROLE_LAUNCHER, struct message_streamer_channel, 0, 1, 1)               \
	X(MESSAGE_LAUNCHER_METRICS, ROLE_LAUNCHER, ROLE_GATE, struct message_metrics, 0, 1, 1)                         \
	X(MESSAGE_LAUNCHER_PING, ROLE_GATE, ROLE_LAUNCHER, struct message_ping, 0, 0, 0)                               \
	X(MESSAGE_LAUNCHER_PONG, ROLE_LAUNCHER, ROLE_GATE, struct message_ping, 0, 0, 0)                               \
	X(MESSAGE_PLACE, ROLE_STREAMER, ROLE_LAUNCHER, struct message_place, 0, 0, 0)                                  \
	X(MESSAGE_PLACED, ROLE_LAUNCHER, ROLE_STREAMER, struct message_placed, 0, 0, 0)                                \
	X(MESSAGE_LEAVE, ROLE_STREAMER, ROLE_LAUNCHER, struct message_leave, 0, 0, 0)                                  \
	X(MESSAGE_LAUNCH, ROLE_STREAMER, ROLE_LAUNCHER, struct message_launch, WIRE_REQUEST_MAX, 0, 1)                 \
	X(MESSAGE_LAUNCHED, ROLE_LAUNCHER, ROLE_STREAMER, struct message_launched, 0, 0, 2)                            \
	X(MESSAGE_STOP, ROLE_STREAMER, ROLE_LAUNCHER, struct message_stop, 0, 0, 0)                                    \
	X(MESSAGE_EXITED, ROLE_LAUNCHER, ROLE_STREAMER, struct message_exited, 0, 0, 0)

enum message_type {
#define MESSAGE_ENUM(symbol, from, to, body, more, fds_min, fds_max) symbol,
	MESSAGES(MESSAGE_ENUM)
#undef MESSAGE_ENUM
	    MESSAGE_COUNT
};

static_assert(sizeof(struct message_header) == 8, "no padding");
static_assert(sizeof(struct message_handoff) == 24, "no padding");
static_assert(sizeof(struct message_streamer_channel) == 8, "no padding");
static_assert(sizeof(struct message_dial) == 8, "no padding");
static_assert(sizeof(struct message_dialed) == 8, "no padding");
static_assert(sizeof(struct message_metrics) == 16, "no padding");
static_assert(sizeof(struct message_ping) == 8, "no padding");
static_assert(sizeof(struct message_place) == 8, "no padding");
static_assert(sizeof(struct message_placed) == 8, "no padding");
static_assert(sizeof(struct message_leave) == 8, "no padding");
static_assert(sizeof(struct message_launch) == 16, "no padding");
static_assert(sizeof(struct message_launched) == 8, "no padding");
static_assert(sizeof(struct message_stop) == 8, "no padding");
static_assert(sizeof(struct message_exited) == 40, "no padding");

#endif
