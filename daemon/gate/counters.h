/* SPDX-License-Identifier: Apache-2.0
 *
 * Counters of the gate: one for each reason; REASON_OK counts the handoffs that
 * went to a streamer.
 */
#ifndef GATE_COUNTERS_H
#define GATE_COUNTERS_H

#include <stdint.h>

#include "lib/reason.h"

void counters_add(enum reason reason);
uint64_t counters_get(enum reason reason);

/* One log line for each that is not zero, and always one for REASON_OK. */
void counters_report(void);

#endif
