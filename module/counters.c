/* SPDX-License-Identifier: Apache-2.0
 *
 * Counters: how handoffs ended, in memory that all children share. It stays when httpd restarts gracefully: children of
 * the old configuration go on counting in it, and totals only grow.
 */
#include <errno.h>
#include <sys/mman.h>

#include "module.h"

#define RETAINED "mod_socket_handoff:counters"

/* Outlives the module's code, which a restart loads anew. */
struct retained {
	struct counters *counters;
	size_t size; /* another one: this is another version of the module */
};

static struct counters *counters;

int counters_init(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp, server_rec *s)
{
	struct retained *retained = ap_retained_data_get(RETAINED);

	(void)pconf;
	(void)plog;
	(void)ptemp;
	if (!retained)
		retained = ap_retained_data_create(RETAINED, sizeof(*retained));
	if (!retained->counters || retained->size != sizeof(*counters)) {
		void *memory = mmap(NULL, sizeof(*counters), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
		if (memory == MAP_FAILED) {
			ap_log_error(APLOG_MARK, APLOG_EMERG, errno, s, "AHSH0004: no memory to count handoffs in");
			return HTTP_INTERNAL_SERVER_ERROR;
		}
		if (retained->counters)
			munmap(retained->counters, retained->size);
		*retained = (struct retained){.counters = memory, .size = sizeof(*counters)};
	}
	counters = retained->counters;
	return OK;
}

void counters_outcome(const struct handoff *handoff, const struct outcome *outcome)
{
	_Atomic uint64_t *counter = &counters->result[RESULT_ACCEPTED];

	if (outcome->lost)
		counter = &counters->result[RESULT_LOST];
	else if (outcome->reason != REASON_OK)
		counter = &counters->refused[outcome->by_daemon][outcome->reason];
	else if (handoff->relay)
		counter = &counters->result[RESULT_RELAYED];
	else if (setting(handoff->config, SETTING_PROTOCOL) == PROTOCOL_RAW)
		counter = &counters->result[RESULT_SENT];
	atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
}

uint64_t counters_result(enum result result)
{
	return atomic_load_explicit(&counters->result[result], memory_order_relaxed);
}

uint64_t counters_refused(bool by_daemon, enum reason reason)
{
	return atomic_load_explicit(&counters->refused[by_daemon][reason], memory_order_relaxed);
}
