/* SPDX-License-Identifier: Apache-2.0
 *
 * Run: one run of the handler's program, from its start in the cage until everything of it is gone. It is ended by
 * itself, when its time is over, or when somebody wants it to: SIGTERM, the section's grace, SIGKILL.
 */
#ifndef LAUNCHER_RUN_H
#define LAUNCHER_RUN_H

#include <ev.h>

#include "cage.h"
#include "daemon/common/messages.h"
#include "data.h"
#include "environment.h"

/* What all runs of a launcher share. */
struct runner {
	struct ev_loop *loop;
	const struct config_handler *handler;
	struct cage *cage;
};

/* How it came to an end. */
struct run_end {
	int error;  /* -errno: the program was never executed, -ECANCELED because it was told to end; else 0 */
	int status; /* as of wait(2) */
	enum run_limit limit;
	uint64_t user_us, system_us, max_rss_kib;
};

/* Embedded in whatever has one. */
struct run {
	const struct runner *runner;
	struct cage_run cage;
	ev_io report;
	ev_io gone;
	ev_timer timer;       /* the wall time, then the grace */
	enum run_limit limit; /* why it was told to end, NONE while it was not */
	bool executed;
	int error;     /* -errno: the program was not executed and will not be */
	int stdout_fd; /* read ends, for whoever takes them; -1 */
	int stderr_fd;
	/* The program was executed. */
	void (*started)(struct run *run);
	/* Everything of it is gone; the last call. Only stdout_fd and stderr_fd are left to close. */
	void (*ended)(struct run *run, const struct run_end *end);
};

/* Begin. Set started and ended before; neither is called from here. data and environment stay the caller's and are not
 * needed after. Returns 0, or -errno and then nothing is left. */
int run_start(struct run *run, const struct runner *runner, const struct data *data,
              const struct environment *environment);

/* Tell it to end, for this reason unless there is one already. */
void run_stop(struct run *run, enum run_limit limit);

/* The same, without grace. */
void run_kill(struct run *run, enum run_limit limit);

/* Close what nobody took. */
void run_close(struct run *run);

#endif
