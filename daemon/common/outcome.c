/* SPDX-License-Identifier: Apache-2.0
 *
 * Outcomes: see outcome.h.
 */
#include "outcome.h"

static const char *const names[OUTCOME_COUNT] = {
#define OUTCOME_NAME(symbol, name) [symbol] = (name),
    OUTCOMES(OUTCOME_NAME)
#undef OUTCOME_NAME
};

const char *outcome_name(enum outcome outcome)
{
	return (unsigned)outcome < OUTCOME_COUNT ? names[outcome] : "unknown";
}
