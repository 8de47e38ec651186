/* SPDX-License-Identifier: Apache-2.0
 *
 * Run: see run.h.
 */
#include "run.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/common/log.h"
#include "daemon/common/metrics.h"
#include "lib/fdpass.h"

static size_t n_running;

static void timer_set(struct run *run, double seconds, void (*callback)(struct ev_loop *, ev_timer *, int))
{
	ev_timer_stop(run->runner->loop, &run->timer);
	ev_timer_init(&run->timer, callback, seconds, 0.);
	run->timer.data = run;
	ev_timer_start(run->runner->loop, &run->timer);
}

static void on_grace_over(struct ev_loop *loop, ev_timer *timer, int events)
{
	struct run *run = timer->data;

	(void)loop;
	(void)events;
	cage_signal(run->runner->cage, &run->cage, SIGKILL);
}

static void on_wall_time(struct ev_loop *loop, ev_timer *timer, int events)
{
	(void)loop;
	(void)events;
	run_stop(timer->data, RUN_LIMIT_WALL_TIME);
}

void run_stop(struct run *run, enum run_limit limit)
{
	if (run->limit != RUN_LIMIT_NONE)
		return;
	run->limit = limit;
	cage_signal(run->runner->cage, &run->cage, SIGTERM);
	timer_set(run, run->runner->handler->kill_grace_s, on_grace_over);
}

void run_kill(struct run *run, enum run_limit limit)
{
	if (run->limit == RUN_LIMIT_NONE)
		run->limit = limit;
	ev_timer_stop(run->runner->loop, &run->timer);
	cage_signal(run->runner->cage, &run->cage, SIGKILL);
}

/* What we told it comes before what the cage saw: a program may well die of its next limit while it is ending. */
static enum run_limit limit_hit(const struct run *run, enum cage_limit seen)
{
	if (run->limit != RUN_LIMIT_NONE)
		return run->limit;
	return seen == CAGE_LIMIT_CPU_TIME ? RUN_LIMIT_CPU_TIME
	       : seen == CAGE_LIMIT_MEMORY ? RUN_LIMIT_MEMORY
	                                   : RUN_LIMIT_NONE;
}

static enum ending ending_of(const struct run_end *end)
{
	static const enum ending by_limit[RUN_LIMIT_COUNT] = {
	    [RUN_LIMIT_WALL_TIME] = ENDING_WALL_TIME, [RUN_LIMIT_CPU_TIME] = ENDING_CPU_TIME,
	    [RUN_LIMIT_MEMORY] = ENDING_MEMORY,       [RUN_LIMIT_OUTPUT] = ENDING_OUTPUT,
	    [RUN_LIMIT_STOPPED] = ENDING_STOPPED,
	};

	if (end->limit != RUN_LIMIT_NONE)
		return by_limit[end->limit];
	if (WIFSIGNALED(end->status))
		return ENDING_SIGNAL;
	return end->status == 0 ? ENDING_DONE : ENDING_FAILED;
}

/* Whether the program runs, once that is known. */
static void learn(struct run *run)
{
	int result = run->executed || run->error < 0 ? 0 : cage_started(&run->cage);

	if (result < 0)
		run->error = run->limit == RUN_LIMIT_NONE ? result : -ECANCELED;
	if (result == 1) {
		run->executed = true;
		metrics_add(METRIC_RUNS_STARTED, 1);
		run->started(run);
	}
}

static void on_report(struct ev_loop *loop, ev_io *watcher, int events)
{
	struct run *run = watcher->data;

	(void)events;
	learn(run);
	/* What went wrong is told when it is gone. */
	if (run->executed || run->error < 0)
		ev_io_stop(loop, watcher);
}

static void on_gone(struct ev_loop *loop, ev_io *watcher, int events)
{
	struct run *run = watcher->data;
	struct cage_result result;

	(void)events;
	/* It may be over before its start was seen. */
	learn(run);
	ev_io_stop(loop, &run->report);
	ev_io_stop(loop, watcher);
	ev_timer_stop(loop, &run->timer);
	cage_finish(run->runner->cage, &run->cage, &result);
	n_running--;
	metrics_set(METRIC_RUNS_RUNNING, n_running);

	const struct run_end end = {
	    .error = run->error,
	    .status = result.status,
	    .limit = limit_hit(run, result.limit),
	    .user_us = result.user_us,
	    .system_us = result.system_us,
	    .max_rss_kib = result.max_rss_kib,
	};
	if (run->executed)
		metrics_count(METRIC_RUNS_ENDED, ending_of(&end));
	run->ended(run, &end);
}

/* Two pipes, whose read ends are the run's. */
static int pipes_make(struct run *run, struct cage_io *io)
{
	int out[2], err[2];

	if (pipe2(out, O_CLOEXEC) != 0)
		return -errno;
	run->stdout_fd = out[0];
	io->stdout_fd = out[1];
	if (pipe2(err, O_CLOEXEC) != 0)
		return -errno;
	run->stderr_fd = err[0];
	io->stderr_fd = err[1];
	return 0;
}

int run_start(struct run *run, const struct runner *runner, const struct data *data,
              const struct environment *environment)
{
	struct cage_io io = {
	    .stdout_fd = -1, .stderr_fd = -1, .data_fd = data->fd, .environment = environment->variables};
	int result;

	run->runner = runner;
	run->limit = RUN_LIMIT_NONE;
	run->executed = false;
	run->error = 0;
	run->stdout_fd = -1;
	run->stderr_fd = -1;
	result = pipes_make(run, &io);
	if (result == 0)
		result = cage_start(runner->cage, &io, &run->cage);
	fd_close(&io.stdout_fd);
	fd_close(&io.stderr_fd);
	if (result < 0) {
		run_close(run);
		return result;
	}
	n_running++;
	metrics_set(METRIC_RUNS_RUNNING, n_running);
	ev_io_init(&run->report, on_report, run->cage.report_fd, EV_READ);
	ev_io_init(&run->gone, on_gone, run->cage.pidfd, EV_READ);
	run->report.data = run;
	run->gone.data = run;
	ev_io_start(runner->loop, &run->report);
	ev_io_start(runner->loop, &run->gone);
	ev_init(&run->timer, on_wall_time);
	timer_set(run, runner->handler->wall_time_s, on_wall_time);
	return 0;
}

void run_close(struct run *run)
{
	fd_close(&run->stdout_fd);
	fd_close(&run->stderr_fd);
}
