/* SPDX-License-Identifier: Apache-2.0
 *
 * Status: a module may ask the gate, on the connection it hands off by, for everything that the daemon has counted. The
 * answer, Prometheus text in messages of at most WIRE_STATUS_PART_MAX bytes, goes to the reply socket that came with
 * the request, as fast as that takes it. docs/protocol.md, section 6.
 */
#ifndef GATE_STATUS_H
#define GATE_STATUS_H

#include "listener.h"
#include "request.h"

/* Answer a message that wire_status_meant() knows. REASON_OK (the reply socket is taken out of the request), or why it
 * is a violation. */
enum reason status_take(struct gate *gate, struct request *request);

/* Drop answers that are still under way; the gate stops. */
void status_stop(struct gate *gate);

/* report.c: the text, malloc()ed; NULL when there is no memory. */
char *report_make(const struct gate *gate, size_t *len);

#endif
