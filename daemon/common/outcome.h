/* SPDX-License-Identifier: Apache-2.0
 *
 * Outcomes: every way a stream can end, once, with its stable name (log lines, metrics, error events); what is known of
 * the tokens that it took; and every way a run of a handler's program can end.
 */
#ifndef HANDOFFD_OUTCOME_H
#define HANDOFFD_OUTCOME_H

#include <stdint.h>

/*      symbol                    name                 how a stream ended */
#define OUTCOMES(X)                                                                                                    \
	X(OUTCOME_DONE, "done")                               /* whole */                                              \
	X(OUTCOME_CLIENT_GONE, "client-gone")                 /* the client hung up */                                 \
	X(OUTCOME_WRITE_TIMEOUT, "write-timeout")             /* the client took nothing for too long */               \
	X(OUTCOME_MAX_DURATION, "max-duration")               /* longer than a stream may last */                      \
	X(OUTCOME_UPSTREAM_REFUSED, "upstream-refused")       /* the upstream answered with an error status */         \
	X(OUTCOME_UPSTREAM_ERROR, "upstream-error")           /* not reached, broken off or not understood */          \
	X(OUTCOME_UPSTREAM_TIMEOUT, "upstream-timeout")       /* the upstream was silent for too long */               \
	X(OUTCOME_STOPPED, "stopped")                         /* the process ended first */                            \
	X(OUTCOME_HANDLER_FAILED, "handler-failed")           /* exit status, or an output that is no answer */        \
	X(OUTCOME_HANDLER_LIMIT, "handler-limit")             /* one of its limits ended the program */                \
	X(OUTCOME_HANDLER_UNAVAILABLE, "handler-unavailable") /* not started, or ended with the launcher */            \
	X(OUTCOME_NO_MEMORY, "no-memory")

enum outcome {
#define OUTCOME_ENUM(symbol, name) symbol,
	OUTCOMES(OUTCOME_ENUM)
#undef OUTCOME_ENUM
	    OUTCOME_COUNT
};

/*      symbol             name          where the numbers are from */
#define USAGES(X)                                                                                                      \
	X(USAGE_ABSENT, "absent")       /* there are none: nothing came */                                             \
	X(USAGE_ESTIMATED, "estimated") /* pieces of content that came were counted */                                 \
	X(USAGE_EXACT, "exact")         /* the upstream said so */

enum usage_kind {
#define USAGE_ENUM(symbol, name) symbol,
	USAGES(USAGE_ENUM)
#undef USAGE_ENUM
	    USAGE_COUNT
};

struct usage {
	uint32_t prompt;     /* exact only */
	uint32_t completion; /* unless absent */
	enum usage_kind kind;
};

/*      symbol             name          how a run ended */
#define ENDINGS(X)                                                                                                     \
	X(ENDING_DONE, "done")           /* exit status 0 */                                                           \
	X(ENDING_FAILED, "failed")       /* another exit status */                                                     \
	X(ENDING_SIGNAL, "signal")       /* a signal that the launcher did not send */                                 \
	X(ENDING_WALL_TIME, "wall-time") /* the launcher ended it for one of its limits */                             \
	X(ENDING_CPU_TIME, "cpu-time")                                                                                 \
	X(ENDING_MEMORY, "memory")                                                                                     \
	X(ENDING_OUTPUT, "output")                                                                                     \
	X(ENDING_STOPPED, "stopped") /* nobody wanted its answer any more */

enum ending {
#define ENDING_ENUM(symbol, name) symbol,
	ENDINGS(ENDING_ENUM)
#undef ENDING_ENUM
	    ENDING_COUNT
};

/* Stable names, "unknown" when out of range. Static storage. */
const char *outcome_name(enum outcome outcome);
const char *usage_name(enum usage_kind kind);
const char *ending_name(enum ending ending);

#endif
