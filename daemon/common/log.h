/* SPDX-License-Identifier: Apache-2.0
 *
 * Log: one line an event on standard error, in logfmt, which the journal or the
 * supervisor's terminal takes from there:
 *
 *     <6>handoffd-gate[4711]: event=refused reason=token-mac listener=/run/handoffd/chat.sock peer=127.0.0.1:4242
 *
 * The <N> prefix (syslog severity) is written when JOURNAL_STREAM says that the journal reads. Values are
 * escaped: quotes, backslashes, control and non-ASCII bytes never reach the log raw. A line that the reader does not
 * take at once is dropped and counted, so that logging never stops a role. No secrets: callers pass kid, never keys or
 * tokens.
 */
#ifndef HANDOFFD_LOG_H
#define HANDOFFD_LOG_H

#include <stdint.h>
#include <syslog.h>

#include "lib/bytes.h"

struct log_field {
	const char *name; /* NULL ends a list */
	struct span value;
	int64_t number;
	bool is_number;
};

#define LOG_STR(n, s)  ((struct log_field){.name = (n), .value = span_of_string(s)})
#define LOG_SPAN(n, s) ((struct log_field){.name = (n), .value = (s)})
#define LOG_INT(n, i)  ((struct log_field){.name = (n), .number = (int64_t)(i), .is_number = true})
#define LOG_END        ((struct log_field){.name = NULL})

/* ident: "handoffd-gate"... Kept, not copied. Sets standard error non-blocking only where it is a socket or pipe of our
 * own. */
void log_open(const char *ident);
/* Lowest severity that is written, LOG_INFO at start. */
void log_level(int severity);

/* log_event(LOG_WARNING, "refused", LOG_STR("reason", name), LOG_INT("stream", id));
 * The element in front is skipped: it lets the list of fields be empty. */
#define log_event(severity, event, ...)                                                                                \
	log_fields((severity), (event), (const struct log_field[]){LOG_END, ##__VA_ARGS__, LOG_END} + 1)
void log_fields(int severity, const char *event, const struct log_field *fields);

/* How one byte stands inside quotes: itself, or \" \\ \n \t \xNN. Returns the length. */
size_t log_escape(uint8_t byte, char out[5]);

/* Log at LOG_CRIT and exit(1). For a role's main, before its loop, and for broken invariants; never for input from
 * outside. */
__attribute__((noreturn, format(printf, 1, 2))) void fatal(const char *format, ...);

#endif
