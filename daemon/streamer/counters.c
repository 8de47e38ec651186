/* SPDX-License-Identifier: Apache-2.0
 *
 * Counters: see counters.h.
 */
#include "counters.h"

#include "daemon/common/log.h"

static uint64_t counters[COUNTER_COUNT];
static uint64_t refused[REASON_COUNT];
static uint64_t outcomes[OUTCOME_COUNT];

static const char *const counter_names[COUNTER_COUNT] = {
#define COUNTER_NAME(symbol, name) [symbol] = (name),
    COUNTERS(COUNTER_NAME)
#undef COUNTER_NAME
};

static const char *const outcome_names[OUTCOME_COUNT] = {
#define OUTCOME_NAME(symbol, name) [symbol] = (name),
    OUTCOMES(OUTCOME_NAME)
#undef OUTCOME_NAME
};

void counter_add(enum counter counter, uint64_t n)
{
	counters[counter] += n;
}

void counter_refused(enum reason reason)
{
	refused[reason]++;
}

void counter_outcome(enum outcome outcome)
{
	outcomes[outcome]++;
}

const char *outcome_name(enum outcome outcome)
{
	return outcome < OUTCOME_COUNT ? outcome_names[outcome] : "unknown";
}

static void log_one(const char *group, const char *name, uint64_t value)
{
	if (value != 0)
		log_event(LOG_NOTICE, "counter", LOG_STR("group", group), LOG_STR("name", name),
		          LOG_INT("value", value));
}

void counters_log(void)
{
	for (size_t i = 0; i < COUNTER_COUNT; i++)
		log_one("streamer", counter_names[i], counters[i]);
	for (size_t i = 0; i < REASON_COUNT; i++)
		log_one("refused", reason_name((enum reason)i), refused[i]);
	for (size_t i = 0; i < OUTCOME_COUNT; i++)
		log_one("outcome", outcome_names[i], outcomes[i]);
}
