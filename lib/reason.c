/* SPDX-License-Identifier: Apache-2.0
 *
 * Reasons: the table of reason.h made into look-ups.
 */
#include "reason.h"

struct reason_text {
	const char *name;
	const char *meaning;
	int status;
};

static const struct reason_text reason_texts[REASON_COUNT] = {
#define REASON_TEXT(symbol, name, status, meaning) [symbol] = {name, meaning, status},
    REASONS(REASON_TEXT)
#undef REASON_TEXT
};

static const struct reason_text reason_unknown = {"unknown", "a reason that this version does not know", 500};

/* The number may come from another process, so any value is possible. */
static const struct reason_text *reason_text(enum reason reason)
{
	return (unsigned)reason < REASON_COUNT ? &reason_texts[reason] : &reason_unknown;
}

const char *reason_name(enum reason reason)
{
	return reason_text(reason)->name;
}

const char *reason_meaning(enum reason reason)
{
	return reason_text(reason)->meaning;
}

int reason_status(enum reason reason)
{
	return reason_text(reason)->status;
}
