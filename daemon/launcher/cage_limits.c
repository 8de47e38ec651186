/* SPDX-License-Identifier: Apache-2.0
 *
 * Limits of a run's processes: what the section says. Those of the policy come on top.
 */
#include <errno.h>

#include "cage_internal.h"

/* In a user namespace of its own a run is counted alone, its init included. Otherwise all runs of the user are counted
 * together, the launcher included. */
static rlim_t processes(const struct cage *cage)
{
	const struct config_handler *handler = cage->handler;
	rlim_t run = (rlim_t)handler->processes + 1;

	return cage->namespaces ? run : run * handler->concurrency + 1;
}

int cage_limits_apply(const struct cage *cage)
{
	const struct config_handler *handler = cage->handler;
	const struct {
		__rlimit_resource_t resource;
		rlim_t soft, hard;
	} limits[] = {
	    {RLIMIT_AS, handler->memory, handler->memory},
	    /* SIGXCPU first, which says what happened; SIGKILL a second later. */
	    {RLIMIT_CPU, handler->cpu_time_s, (rlim_t)handler->cpu_time_s + 1},
	    {RLIMIT_FSIZE, handler->file_size, handler->file_size},
	    {RLIMIT_NOFILE, handler->files, handler->files},
	    {RLIMIT_NPROC, processes(cage), processes(cage)},
	};

	for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
		struct rlimit now, wanted = {limits[i].soft, limits[i].hard};

		if (getrlimit(limits[i].resource, &now) != 0)
			return -errno;
		/* Whoever started the launcher may have been stricter. */
		if (wanted.rlim_max > now.rlim_max)
			wanted.rlim_max = now.rlim_max;
		if (wanted.rlim_cur > wanted.rlim_max)
			wanted.rlim_cur = wanted.rlim_max;
		if (setrlimit(limits[i].resource, &wanted) != 0)
			return -errno;
	}
	return 0;
}
