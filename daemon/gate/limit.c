/* SPDX-License-Identifier: Apache-2.0
 *
 * Limits: see limit.h. Rates are counted by the generic cell rate algorithm (ITU-T I.371): one number for each quota.
 */
#include "limit.h"

#include <search.h>
#include <stdlib.h>
#include <string.h>

#define MINUTE_US             ((int64_t)60000000)
#define SECOND_US             ((int64_t)1000000)
#define RETRY_AFTER_STREAMS_S 5 /* nobody knows when a stream ends */

struct subject {
	struct limiter *limiter;
	struct quota quota;
	struct list node; /* in the limiter's idle */
	struct span name; /* text */
	uint8_t text[];
};

struct ticket {
	struct limiter *limiter;
	struct subject *subject; /* NULL where subjects are not limited */
	uint64_t stream_id;
};

/* ---------------------------------------------------------------- quotas */

/* 0 when another handoff may come now, else the microseconds until it may. As many as the rate has in a minute may come
 * at once. */
static int64_t wait_of(const struct quota *quota, unsigned rate, int64_t now_us)
{
	int64_t interval = rate > 0 ? MINUTE_US / rate : 0;
	int64_t ahead = quota->due_us - now_us;

	return rate > 0 && ahead > MINUTE_US - interval ? ahead - (MINUTE_US - interval) : 0;
}

static void take(struct quota *quota, unsigned rate, int64_t now_us)
{
	int64_t from = quota->due_us > now_us ? quota->due_us : now_us;

	quota->streams++;
	if (rate > 0)
		quota->due_us = from + MINUTE_US / rate;
}

static enum reason judge(const struct quota *quota, size_t max_streams, unsigned rate, int64_t now_us,
                         unsigned *retry_after_s)
{
	int64_t wait = wait_of(quota, rate, now_us);

	if (wait > 0) {
		*retry_after_s = (unsigned)((wait + SECOND_US - 1) / SECOND_US);
		return REASON_RATE_LIMITED;
	}
	if (max_streams > 0 && quota->streams >= max_streams) {
		*retry_after_s = RETRY_AFTER_STREAMS_S;
		return REASON_STREAMS_LIMITED;
	}
	return REASON_OK;
}

/* ---------------------------------------------------------------- subjects */

static int compare_subjects(const void *a, const void *b)
{
	const struct subject *left = a, *right = b;

	if (left->name.len != right->name.len)
		return left->name.len < right->name.len ? -1 : 1;
	return left->name.len == 0 ? 0 : memcmp(left->name.data, right->name.data, left->name.len);
}

static void subject_forget(struct subject *subject)
{
	list_remove(&subject->node);
	tdelete(subject, &subject->limiter->subjects, compare_subjects);
	free(subject);
}

static void forget_old(struct limiter *limiter, int64_t now_us)
{
	while (!list_empty(&limiter->idle)) {
		struct subject *subject = LIST_ENTRY(limiter->idle.next, struct subject, node);

		/* See list_remove(). NOLINTNEXTLINE(clang-analyzer-unix.Malloc) */
		if (subject->quota.due_us > now_us)
			return;
		subject_forget(subject);
	}
}

/* What is known of the subject; NULL: no memory. */
static struct subject *subject_of(struct limiter *limiter, struct span name)
{
	struct subject key = {.name = name};
	void *found = tfind(&key, &limiter->subjects, compare_subjects);
	struct subject *subject;

	if (found != NULL)
		return *(struct subject **)found;
	subject = calloc(1, sizeof(*subject) + name.len);
	if (subject == NULL)
		return NULL;
	if (name.len > 0)
		memcpy(subject->text, name.data, name.len);
	subject->name = span_of(subject->text, name.len);
	subject->limiter = limiter;
	if (tsearch(subject, &limiter->subjects, compare_subjects) == NULL) {
		free(subject);
		return NULL;
	}
	list_append(&limiter->idle, &subject->node);
	return subject;
}

/* ---------------------------------------------------------------- handoffs */

void limiter_init(struct limiter *limiter, const struct config_listen *config)
{
	*limiter = (struct limiter){.config = config};
	list_init(&limiter->idle);
}

enum reason limiter_enter(struct limiter *limiter, struct span name, int64_t now_us, struct ticket **ticket,
                          unsigned *retry_after_s)
{
	const struct config_listen *config = limiter->config;
	bool by_subject = config->max_streams_per_subject > 0 || config->rate_per_subject > 0;
	struct subject *subject = NULL;
	enum reason reason;

	*ticket = NULL;
	if (!by_subject && config->max_streams == 0 && config->rate == 0)
		return REASON_OK;
	forget_old(limiter, now_us);
	reason = judge(&limiter->quota, config->max_streams, config->rate, now_us, retry_after_s);
	if (reason == REASON_OK && by_subject) {
		subject = subject_of(limiter, name);
		reason = subject == NULL ? REASON_NO_MEMORY
		                         : judge(&subject->quota, config->max_streams_per_subject,
		                                 config->rate_per_subject, now_us, retry_after_s);
	}
	if (reason == REASON_OK && (*ticket = calloc(1, sizeof(**ticket))) == NULL)
		reason = REASON_NO_MEMORY;
	if (reason != REASON_OK)
		return reason;
	**ticket = (struct ticket){.limiter = limiter, .subject = subject};
	take(&limiter->quota, config->rate, now_us);
	if (subject != NULL) {
		take(&subject->quota, config->rate_per_subject, now_us);
		list_remove(&subject->node);
	}
	return REASON_OK;
}

void ticket_end(struct ticket *ticket)
{
	if (ticket == NULL)
		return;
	ticket->limiter->quota.streams--;
	if (ticket->subject != NULL && --ticket->subject->quota.streams == 0)
		list_append(&ticket->limiter->idle, &ticket->subject->node);
	free(ticket);
}

/* ---------------------------------------------------------------- tickets by stream */

static int compare_tickets(const void *a, const void *b)
{
	const struct ticket *left = a, *right = b;

	return (left->stream_id > right->stream_id) - (left->stream_id < right->stream_id);
}

void tickets_add(void **tickets, struct ticket *ticket, uint64_t stream_id)
{
	if (ticket == NULL)
		return;
	ticket->stream_id = stream_id;
	/* Without memory the stream does not count, rather than for ever. */
	if (tsearch(ticket, tickets, compare_tickets) == NULL)
		ticket_end(ticket);
}

void tickets_end(void **tickets, uint64_t stream_id)
{
	struct ticket key = {.stream_id = stream_id};
	void *found = tfind(&key, tickets, compare_tickets);
	struct ticket *ticket;

	if (found == NULL)
		return;
	ticket = *(struct ticket **)found;
	tdelete(ticket, tickets, compare_tickets);
	ticket_end(ticket);
}

static void end_node(void *ticket)
{
	ticket_end(ticket);
}

void tickets_end_all(void **tickets)
{
	tdestroy(*tickets, end_node);
	*tickets = NULL;
}
