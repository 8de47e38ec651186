/* SPDX-License-Identifier: Apache-2.0
 *
 * Breaker: see breaker.h.
 */
#include "breaker.h"

#include "daemon/common/log.h"
#include "daemon/common/metrics.h"

bool breaker_ask(struct breaker *breaker, int64_t now_ms, bool *probe, unsigned *retry_after_s)
{
	*probe = false;
	*retry_after_s = 0;
	if (breaker->state == BREAKER_CLOSED)
		return true;
	if (breaker->state == BREAKER_OPEN && now_ms >= breaker->until_ms) {
		breaker->state = BREAKER_PROBING;
		*probe = true;
		log_event(LOG_NOTICE, "breaker-probes", LOG_STR("upstream", breaker->upstream->name));
		return true;
	}
	metrics_add(METRIC_BREAKER_REFUSED, 1);
	*retry_after_s = breaker->state == BREAKER_OPEN ? (unsigned)((breaker->until_ms - now_ms + 999) / 1000) : 1;
	return false;
}

static void open_breaker(struct breaker *breaker, int64_t now_ms)
{
	if (breaker->state == BREAKER_CLOSED) {
		metrics_add(METRIC_BREAKER_OPENED, 1);
		metrics_set(METRIC_BREAKER_OPEN, 1);
	}
	breaker->state = BREAKER_OPEN;
	breaker->until_ms = now_ms + (int64_t)breaker->upstream->breaker_time_s * 1000;
	log_event(LOG_WARNING, "breaker-open", LOG_STR("upstream", breaker->upstream->name),
	          LOG_INT("failures", breaker->failures), LOG_INT("seconds", breaker->upstream->breaker_time_s));
}

void breaker_failed(struct breaker *breaker, int64_t now_ms)
{
	if (breaker->upstream->breaker_failures == 0)
		return;
	breaker->failures++;
	/* What was under way when it opened does not prolong it. */
	if (breaker->state == BREAKER_PROBING ||
	    (breaker->state == BREAKER_CLOSED && breaker->failures >= breaker->upstream->breaker_failures))
		open_breaker(breaker, now_ms);
}

void breaker_succeeded(struct breaker *breaker)
{
	breaker->failures = 0;
	if (breaker->state == BREAKER_CLOSED)
		return;
	breaker->state = BREAKER_CLOSED;
	metrics_set(METRIC_BREAKER_OPEN, 0);
	log_event(LOG_NOTICE, "breaker-closed", LOG_STR("upstream", breaker->upstream->name));
}

void breaker_forget(struct breaker *breaker)
{
	/* The next request is the probe. */
	if (breaker->state == BREAKER_PROBING)
		breaker->state = BREAKER_OPEN;
}
