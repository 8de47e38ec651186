/* SPDX-License-Identifier: Apache-2.0
 *
 * Counters: what this process has done since its start, each by a stable name, in one table. Refusals count by their
 * reason, ends of streams by their outcome.
 */
#ifndef HANDOFFD_STREAMER_COUNTERS_H
#define HANDOFFD_STREAMER_COUNTERS_H

#include <stdint.h>

#include "lib/reason.h"

/*      symbol                    name */
#define COUNTERS(X)                                                                                                    \
	X(COUNTER_HANDOFFS, "handoffs")                       /* messages received */                                  \
	X(COUNTER_ACCEPTED, "accepted")                       /* `accepted` sent */                                    \
	X(COUNTER_ACCEPT_TOO_LATE, "accept-too-late")         /* nobody waited for `accepted` any more */              \
	X(COUNTER_GATE_CONNECTIONS, "gate-connections")       /* connections of the gate */                            \
	X(COUNTER_PEER_FORBIDDEN, "peer-forbidden")           /* connections of somebody else */                       \
	X(COUNTER_MESSAGE_MALFORMED, "message-malformed")     /* connections closed for what came by them */           \
	X(COUNTER_EVENTS, "events")                           /* events sent to clients */                             \
	X(COUNTER_BYTES, "bytes")                             /* bytes sent to clients */                              \
	X(COUNTER_DIALS, "dials")                             /* connections asked for */                              \
	X(COUNTER_DIALS_FAILED, "dials-failed")               /* and not got */                                        \
	X(COUNTER_TRANSFERS, "transfers")                     /* requests to the upstream */                           \
	X(COUNTER_TRANSFERS_CANCELLED, "transfers-cancelled") /* ended by us before their end */                       \
	X(COUNTER_PAUSES, "pauses")                           /* upstream held back for a slow client */

/*      symbol                    name                 how a stream ended */
#define OUTCOMES(X)                                                                                                    \
	X(OUTCOME_DONE, "done")                         /* whole */                                                    \
	X(OUTCOME_CLIENT_GONE, "client-gone")           /* the client hung up */                                       \
	X(OUTCOME_WRITE_TIMEOUT, "write-timeout")       /* the client took nothing for too long */                     \
	X(OUTCOME_MAX_DURATION, "max-duration")         /* longer than a stream may last */                            \
	X(OUTCOME_UPSTREAM_REFUSED, "upstream-refused") /* the upstream answered with an error status */               \
	X(OUTCOME_UPSTREAM_ERROR, "upstream-error")     /* not reached, broken off or not understood */                \
	X(OUTCOME_UPSTREAM_TIMEOUT, "upstream-timeout") /* the upstream was silent for too long */                     \
	X(OUTCOME_STOPPED, "stopped")                   /* the process ended first */                                  \
	X(OUTCOME_NO_MEMORY, "no-memory")

enum counter {
#define COUNTER_ENUM(symbol, name) symbol,
	COUNTERS(COUNTER_ENUM)
#undef COUNTER_ENUM
	    COUNTER_COUNT
};

enum outcome {
#define OUTCOME_ENUM(symbol, name) symbol,
	OUTCOMES(OUTCOME_ENUM)
#undef OUTCOME_ENUM
	    OUTCOME_COUNT
};

void counter_add(enum counter counter, uint64_t n);
void counter_refused(enum reason reason);
void counter_outcome(enum outcome outcome);

const char *outcome_name(enum outcome outcome);

/* One log line for each counter that is not 0. */
void counters_log(void);

#endif
