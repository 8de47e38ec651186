/* SPDX-License-Identifier: Apache-2.0
 *
 * Backoff: see backoff.h.
 */
#include "backoff.h"

/* Seconds after the second failure in a row; each further one doubles them, up to the longest. */
#define FIRST   0.1
#define LONGEST 2.

void backoff_failed(struct backoff *backoff, double began, double now, int error)
{
	double seconds = FIRST;

	if (backoff->failures > 0 && began < backoff->until)
		return;
	backoff->failures++;
	backoff->error = error;
	for (unsigned i = 2; i < backoff->failures && seconds < LONGEST; i++)
		seconds *= 2;
	if (seconds > LONGEST)
		seconds = LONGEST;
	backoff->until = backoff->failures > 1 ? now + seconds : now;
}

void backoff_succeeded(struct backoff *backoff)
{
	backoff->failures = 0;
	backoff->until = 0;
}

int backoff_error(const struct backoff *backoff, double now)
{
	return now < backoff->until ? backoff->error : 0;
}
