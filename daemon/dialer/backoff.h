/* SPDX-License-Identifier: Apache-2.0
 *
 * Backoff: how long an upstream is left alone that could not be reached several times in a row.
 */
#ifndef DIALER_BACKOFF_H
#define DIALER_BACKOFF_H

struct backoff {
	unsigned failures; /* in a row */
	double until;
	int error; /* of the last one, -errno */
};

/* An attempt that began at one time has failed at another. What began before the last failure was known says nothing
 * new. */
void backoff_failed(struct backoff *backoff, double began, double now, int error);
void backoff_succeeded(struct backoff *backoff);

/* 0: try. Else the error to answer with. */
int backoff_error(const struct backoff *backoff, double now);

#endif
