/* SPDX-License-Identifier: Apache-2.0
 *
 * Breaker: whether an upstream is worth asking. After a number of failures in a row requests are refused at once for
 * some time; then one goes out as a probe, and what becomes of it decides.
 */
#ifndef HANDOFFD_STREAMER_BREAKER_H
#define HANDOFFD_STREAMER_BREAKER_H

#include "daemon/common/config.h"

struct breaker {
	const struct config_upstream *upstream;
	enum { BREAKER_CLOSED, BREAKER_OPEN, BREAKER_PROBING } state;
	unsigned failures; /* in a row */
	int64_t until_ms;  /* open */
};

/* Whether a request may go out. When not, *retry_after_s says when it is worth asking again. *probe: the breaker waits
 * to hear of this one. */
bool breaker_ask(struct breaker *breaker, int64_t now_ms, bool *probe, unsigned *retry_after_s);

/* What became of a request. */
void breaker_succeeded(struct breaker *breaker);
void breaker_failed(struct breaker *breaker, int64_t now_ms);
/* Nobody will know: the probe was called off. */
void breaker_forget(struct breaker *breaker);

#endif
