/* SPDX-License-Identifier: Apache-2.0
 *
 * Outcomes: see outcome.h.
 */
#include "outcome.h"

static const char *const outcomes[OUTCOME_COUNT] = {
#define OUTCOME_NAME(symbol, name) [symbol] = (name),
    OUTCOMES(OUTCOME_NAME)
#undef OUTCOME_NAME
};

static const char *const usages[USAGE_COUNT] = {
#define USAGE_NAME(symbol, name) [symbol] = (name),
    USAGES(USAGE_NAME)
#undef USAGE_NAME
};

static const char *const endings[ENDING_COUNT] = {
#define ENDING_NAME(symbol, name) [symbol] = (name),
    ENDINGS(ENDING_NAME)
#undef ENDING_NAME
};

const char *outcome_name(enum outcome outcome)
{
	return (unsigned)outcome < OUTCOME_COUNT ? outcomes[outcome] : "unknown";
}

const char *usage_name(enum usage_kind kind)
{
	return (unsigned)kind < USAGE_COUNT ? usages[kind] : "unknown";
}

const char *ending_name(enum ending ending)
{
	return (unsigned)ending < ENDING_COUNT ? endings[ending] : "unknown";
}
