/* SPDX-License-Identifier: Apache-2.0
 *
 * Metrics: what a process counts, in one table for all roles. Each process has one page and is its only writer.
 *
 * The page of a streamer, dialer or launcher is a memfd, which nobody else can map writable (F_SEAL_FUTURE_WRITE); the
 * gate gets the descriptor and reads it when somebody asks for the status. The page outlives a process that crashes, so
 * that what it had counted is not lost. docs/metrics.md lists the table for those who read the numbers.
 */
#ifndef HANDOFFD_METRICS_H
#define HANDOFFD_METRICS_H

#include <stdatomic.h>
#include <stddef.h>

#include "channel.h"
#include "lib/reason.h"
#include "outcome.h"

/* Who counts. */
enum metric_by { BY_GATE = 1, BY_STREAMER = 2, BY_DIALER = 4, BY_LAUNCHER = 8 };

/* COUNTER only grows, GAUGE is what is now, PEAK the highest that a gauge had, HISTOGRAM a distribution of durations.
 * label: NONE, REASON, OUTCOME, USAGE, ENDING (one number for each of its values), or BACKEND (the backend of the
 * streamer's pool).
 *
 *      symbol, name, type, label, by, help */
#define METRICS(X)                                                                                                     \
	/* names of the original's daemon */                                                                           \
	X(METRIC_ACTIVE_CONNECTIONS, "daemon_active_connections", GAUGE, NONE, BY_GATE,                                \
	  "Connections of Apache that are open now")                                                                   \
	X(METRIC_CONNECTIONS, "daemon_connections_total", COUNTER, NONE, BY_GATE,                                      \
	  "Connections of Apache that were accepted")                                                                  \
	X(METRIC_CONNECTIONS_REJECTED, "daemon_connections_rejected_total", COUNTER, NONE, BY_GATE,                    \
	  "Connections that were closed at once: a uid that is not allowed, or no slot")                               \
	X(METRIC_HANDOFFS, "daemon_handoffs_total", COUNTER, NONE, BY_STREAMER, "Clients that were accepted")          \
	X(METRIC_HANDOFF_ERRORS, "daemon_handoff_errors_total", COUNTER, REASON, BY_GATE | BY_STREAMER,                \
	  "Refusals by gate or streamer, by reason")                                                                   \
	X(METRIC_HANDOFF_DURATION, "daemon_handoff_duration_seconds", HISTOGRAM, NONE, BY_STREAMER,                    \
	  "From the arrival of a handoff at the gate until it was accepted or refused by the streamer")                \
	X(METRIC_ACTIVE_STREAMS, "daemon_active_streams", GAUGE, NONE, BY_STREAMER, "Clients that are served now")     \
	X(METRIC_PEAK_STREAMS, "daemon_peak_streams", PEAK, NONE, BY_STREAMER,                                         \
	  "The most clients served at once, of each streamer, added up")                                               \
	X(METRIC_BYTES_SENT, "daemon_bytes_sent_total", COUNTER, NONE, BY_STREAMER, "Bytes sent to clients")           \
	X(METRIC_CHUNKS_SENT, "daemon_chunks_sent_total", COUNTER, NONE, BY_STREAMER, "Events sent to clients")        \
	X(METRIC_STREAM_ERRORS, "daemon_stream_errors_total", COUNTER, OUTCOME, BY_STREAMER,                           \
	  "Streams that did not end whole, by reason")                                                                 \
	X(METRIC_STREAM_DURATION, "daemon_stream_duration_seconds", HISTOGRAM, NONE, BY_STREAMER,                      \
	  "From the acceptance of a client to the end of its stream")                                                  \
	X(METRIC_BACKEND_REQUESTS, "daemon_backend_requests_total", COUNTER, BACKEND, BY_STREAMER,                     \
	  "Answers that a backend was asked for")                                                                      \
	X(METRIC_BACKEND_ERRORS, "daemon_backend_errors_total", COUNTER, BACKEND, BY_STREAMER,                         \
	  "Answers that the upstream refused, broke off or did not begin in time")                                     \
	X(METRIC_BACKEND_DURATION, "daemon_backend_duration_seconds", HISTOGRAM, BACKEND, BY_STREAMER,                 \
	  "From asking a backend to the end of the stream")                                                            \
	X(METRIC_BACKEND_TTFB, "daemon_backend_ttfb_seconds", HISTOGRAM, BACKEND, BY_STREAMER,                         \
	  "From asking a backend to its first piece of content")                                                       \
	/* ours */                                                                                                     \
	X(METRIC_FORWARDED, "handoffd_forwarded_total", COUNTER, NONE, BY_GATE,                                        \
	  "Verified handoffs that went to a streamer")                                                                 \
	X(METRIC_STATUS_REQUESTS, "handoffd_status_requests_total", COUNTER, NONE, BY_GATE,                            \
	  "Requests for this status")                                                                                  \
	X(METRIC_PEER_HUNG, "handoffd_peer_hung_total", COUNTER, NONE, BY_GATE,                                        \
	  "Times that another process left the gate's pings unanswered")                                               \
	X(METRIC_STREAMS_LOST, "handoffd_streams_lost_total", COUNTER, NONE, BY_GATE,                                  \
	  "Clients that a streamer still served when its process ended")                                               \
	X(METRIC_RECEIVED, "handoffd_received_total", COUNTER, NONE, BY_STREAMER, "Handoffs that reached a streamer")  \
	X(METRIC_RELAYED, "handoffd_relayed_total", COUNTER, NONE, BY_STREAMER,                                        \
	  "Clients that were accepted and get their answer through Apache (TLS, HTTP/2)")                              \
	X(METRIC_ACTIVE_RELAYS, "handoffd_active_relays", GAUGE, NONE, BY_STREAMER,                                    \
	  "Clients that get their answer through Apache now")                                                          \
	X(METRIC_REQUEST_BYTES, "handoffd_request_bytes", GAUGE, NONE, BY_STREAMER,                                    \
	  "Bytes of requests that their upstream has not got yet, attachments included")                               \
	X(METRIC_ACCEPT_TOO_LATE, "handoffd_accept_too_late_total", COUNTER, NONE, BY_STREAMER,                        \
	  "Handoffs that Apache no longer waited for")                                                                 \
	X(METRIC_WAITING, "handoffd_waiting_handoffs", GAUGE, NONE, BY_STREAMER,                                       \
	  "Handoffs that wait for a place before they are accepted")                                                   \
	X(METRIC_HANDLER_EXCESS, "handoffd_handler_excess_bytes_total", COUNTER, NONE, BY_STREAMER,                    \
	  "Bytes that programs wrote behind the end of their answers")                                                 \
	X(METRIC_HANDLER_LINES_DROPPED, "handoffd_handler_lines_dropped_total", COUNTER, NONE, BY_STREAMER,            \
	  "Lines on the standard error of programs that were too many for the log")                                    \
	X(METRIC_STREAMS, "handoffd_streams_total", COUNTER, OUTCOME, BY_STREAMER, "Streams that ended, by outcome")   \
	X(METRIC_USAGES, "handoffd_usage_total", COUNTER, USAGE, BY_STREAMER,                                          \
	  "Answers of upstreams, by where the numbers of their tokens are from")                                       \
	X(METRIC_PROMPT_TOKENS, "handoffd_prompt_tokens_total", COUNTER, BACKEND, BY_STREAMER,                         \
	  "Tokens of prompts, as far as upstreams told of them")                                                       \
	X(METRIC_COMPLETION_TOKENS, "handoffd_completion_tokens_total", COUNTER, BACKEND, BY_STREAMER,                 \
	  "Tokens of answers, exact or estimated")                                                                     \
	X(METRIC_ACCESS_LOG_LOST, "handoffd_access_log_lost_total", COUNTER, NONE, BY_STREAMER,                        \
	  "Lines of the access log that could not be written")                                                         \
	X(METRIC_PAUSES, "handoffd_pauses_total", COUNTER, NONE, BY_STREAMER,                                          \
	  "Times that an upstream was held back for a slow client")                                                    \
	X(METRIC_TRANSFERS, "handoffd_upstream_requests_total", COUNTER, NONE, BY_STREAMER,                            \
	  "HTTP requests to upstreams")                                                                                \
	X(METRIC_TRANSFERS_CANCELLED, "handoffd_upstream_cancelled_total", COUNTER, NONE, BY_STREAMER,                 \
	  "HTTP requests to upstreams that were ended before their answer did")                                        \
	X(METRIC_RETRIES, "handoffd_upstream_retries_total", COUNTER, NONE, BY_STREAMER,                               \
	  "HTTP requests that were sent once more because the upstream had not begun with them")                       \
	X(METRIC_BREAKER_OPEN, "handoffd_breaker_open", GAUGE, NONE, BY_STREAMER,                                      \
	  "Streamers that ask their upstream nothing now because it failed")                                           \
	X(METRIC_BREAKER_OPENED, "handoffd_breaker_opened_total", COUNTER, NONE, BY_STREAMER,                          \
	  "Times that an upstream failed so often that it was no longer asked")                                        \
	X(METRIC_BREAKER_REFUSED, "handoffd_breaker_refused_total", COUNTER, NONE, BY_STREAMER,                        \
	  "Requests that were not sent for that")                                                                      \
	X(METRIC_CONNECTION_WAITS, "handoffd_connection_waits_total", COUNTER, NONE, BY_STREAMER,                      \
	  "HTTP/1.1 requests that had to wait for one of max-connections")                                             \
	X(METRIC_DIALS, "handoffd_dials_total", COUNTER, NONE, BY_STREAMER,                                            \
	  "Connections that streamers asked the dialer for")                                                           \
	X(METRIC_DIALS_FAILED, "handoffd_dials_failed_total", COUNTER, NONE, BY_STREAMER,                              \
	  "Connections that streamers asked for and did not get")                                                      \
	X(METRIC_UPSTREAM_CONNECTIONS, "handoffd_upstream_connections", GAUGE, NONE, BY_STREAMER,                      \
	  "HTTP/2 connections to upstreams that are open or on their way now")                                         \
	X(METRIC_TLS_HANDSHAKES, "handoffd_upstream_tls_handshakes_total", COUNTER, NONE, BY_STREAMER,                 \
	  "TLS handshakes with upstreams of HTTP/2")                                                                   \
	X(METRIC_TLS_RESUMED, "handoffd_upstream_tls_resumed_total", COUNTER, NONE, BY_STREAMER,                       \
	  "Those of them that went on with an earlier session")                                                        \
	X(METRIC_GATE_CONNECTIONS, "handoffd_gate_connections_total", COUNTER, NONE,                                   \
	  BY_STREAMER | BY_DIALER | BY_LAUNCHER, "Connections of the gate to the other roles")                         \
	X(METRIC_PEER_FORBIDDEN, "handoffd_peer_forbidden_total", COUNTER, NONE,                                       \
	  BY_STREAMER | BY_DIALER | BY_LAUNCHER, "Connections to another role that were not the gate's")               \
	X(METRIC_MESSAGE_MALFORMED, "handoffd_message_malformed_total", COUNTER, NONE,                                 \
	  BY_GATE | BY_STREAMER | BY_DIALER | BY_LAUNCHER,                                                             \
	  "Connections between roles that were closed for what came by them")                                          \
	X(METRIC_DIALER_CONNECTED, "handoffd_dialer_connected_total", COUNTER, NONE, BY_DIALER,                        \
	  "Connections to upstreams that the dialer made")                                                             \
	X(METRIC_DIALER_FAILED, "handoffd_dialer_failed_total", COUNTER, NONE, BY_DIALER,                              \
	  "Connections to upstreams that failed")                                                                      \
	X(METRIC_DIALER_REFUSED, "handoffd_dialer_refused_total", COUNTER, NONE, BY_DIALER,                            \
	  "Connections that the dialer did not try: another backend's upstream, or too many at once")                  \
	X(METRIC_RUNS_WAITING, "handoffd_runs_waiting", GAUGE, NONE, BY_LAUNCHER,                                      \
	  "Requests that wait for a place to run a handler's program")                                                 \
	X(METRIC_RUNS_RUNNING, "handoffd_runs_running", GAUGE, NONE, BY_LAUNCHER, "Programs of handlers that run now") \
	X(METRIC_RUNS_REFUSED, "handoffd_runs_refused_total", COUNTER, NONE, BY_LAUNCHER,                              \
	  "Requests for a place that were refused: places and queue were full, or the launcher was stopping")          \
	X(METRIC_RUNS_ENDED, "handoffd_runs_ended_total", COUNTER, ENDING, BY_LAUNCHER,                                \
	  "Programs of handlers that ended, with all that they had started, by how")                                   \
	X(METRIC_RUNS_STARTED, "handoffd_runs_started_total", COUNTER, NONE, BY_LAUNCHER,                              \
	  "Programs of handlers that were started")                                                                    \
	X(METRIC_RUNS_NOT_STARTED, "handoffd_runs_not_started_total", COUNTER, NONE, BY_LAUNCHER,                      \
	  "Programs of handlers that could not be started")

enum metric {
#define METRIC_ENUM(symbol, name, type, label, by, help) symbol,
	METRICS(METRIC_ENUM)
#undef METRIC_ENUM
	    METRIC_COUNT
};

enum metric_type { METRIC_COUNTER, METRIC_GAUGE, METRIC_PEAK, METRIC_HISTOGRAM };
enum metric_label { METRIC_NONE, METRIC_REASON, METRIC_OUTCOME, METRIC_USAGE, METRIC_ENDING, METRIC_BACKEND };

/* Upper bounds of the buckets in microseconds; a last one takes the rest. */
#define METRIC_BOUNDS                                                                                                  \
	100, 250, 500, 1000, 2500, 5000, 10000, 25000, 50000, 100000, 250000, 500000, 1000000, 2500000, 5000000,       \
	    10000000, 30000000, 60000000, 300000000, 1800000000
#define METRIC_BUCKETS 21

/* Where the numbers of a metric lie in the page: symbol_FIRST to symbol_LAST. Those of a histogram are its buckets, not
 * added up, then the sum in microseconds. */
enum {
	METRIC_VALUES_NONE = 1,
	METRIC_VALUES_BACKEND = 1,
	METRIC_VALUES_REASON = REASON_COUNT,
	METRIC_VALUES_OUTCOME = OUTCOME_COUNT,
	METRIC_VALUES_USAGE = USAGE_COUNT,
	METRIC_VALUES_ENDING = ENDING_COUNT,
};
#define METRIC_SLOTS_COUNTER(label)   METRIC_VALUES_##label
#define METRIC_SLOTS_GAUGE(label)     METRIC_VALUES_##label
#define METRIC_SLOTS_PEAK(label)      METRIC_VALUES_##label
#define METRIC_SLOTS_HISTOGRAM(label) (METRIC_BUCKETS + 1)

enum metric_slot {
#define METRIC_SLOT(symbol, name, type, label, by, help)                                                               \
	symbol##_FIRST, symbol##_LAST = symbol##_FIRST + METRIC_SLOTS_##type(label) - 1,
	METRICS(METRIC_SLOT)
#undef METRIC_SLOT
	    METRIC_SLOT_COUNT
};

struct metric_info {
	const char *name; /* as Prometheus shows it */
	const char *help; /* one line, without a full stop */
	enum metric_type type;
	enum metric_label label;
	unsigned by;  /* enum metric_by, one or several */
	size_t first; /* slot */
	size_t slots;
};

/* A row of the table. Static storage. */
const struct metric_info *metric_info(enum metric metric);
/* What stands in a label for this slot of a metric by reason, outcome, usage or ending. Static storage. */
const char *metric_label_value(const struct metric_info *info, size_t slot);
/* Upper bound of a bucket in microseconds; UINT64_MAX for the last. */
uint64_t metric_bound(size_t bucket);

/* ---------------------------------------------------------------- the page of this process */

#define METRICS_PAGE_SIZE 4096

struct metrics_page {
	_Atomic uint64_t slot[METRIC_SLOT_COUNT];
};
static_assert(sizeof(struct metrics_page) <= METRICS_PAGE_SIZE, "the table fits one page");

void metrics_add(enum metric metric, uint64_t n);
/* One more for a reason, an outcome, a kind of usage or an ending. */
void metrics_count(enum metric metric, size_t label);
/* A gauge; for a peak only when it is higher. */
void metrics_set(enum metric metric, uint64_t value);
void metrics_observe(enum metric metric, int64_t microseconds);
uint64_t metrics_get(size_t slot);

/* CLOCK_MONOTONIC, which all processes of a machine share. */
uint64_t metrics_clock_us(void);

/* One log line for each number of this role that is not 0, and for each one without a label. */
void metrics_log(enum role role);

/* ---------------------------------------------------------------- sharing it with the gate */

/* Different when the table is: a gate and a streamer of different builds do not misread each other. */
uint64_t metrics_layout(void);

/* Move the page into a memfd that can be sent. Before the cage closes and before anything is counted. 0 or -errno. */
int metrics_share(void);

/* Send the page to the gate, the first message on its connection, with the id of our configuration's sections: before
 * that the gate gives us nothing. 0 or -errno. */
int metrics_announce(struct channel *gate, uint64_t sections);

/* Whether a descriptor is a page that somebody else writes: a memfd, of the right size, that can neither shrink nor be
 * changed by whoever has the descriptor. 0 or -errno. */
int metrics_check(int fd);

/* Read a page. 0 or -errno. */
int metrics_read(int fd, uint64_t slots[METRIC_SLOT_COUNT]);

#endif
