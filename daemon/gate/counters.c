/* SPDX-License-Identifier: Apache-2.0
 *
 * Counters of the gate.
 */
#include "counters.h"

#include "daemon/common/log.h"

static uint64_t counts[REASON_COUNT];

void counters_add(enum reason reason)
{
	counts[reason]++;
}

uint64_t counters_get(enum reason reason)
{
	return counts[reason];
}

void counters_report(void)
{
	for (int i = 0; i < REASON_COUNT; i++)
		if (counts[i] > 0 || i == REASON_OK)
			log_event(LOG_INFO, "counter",
			          LOG_STR("name", i == REASON_OK ? "forwarded" : reason_name((enum reason)i)),
			          LOG_INT("count", counts[i]));
}
