/* SPDX-License-Identifier: Apache-2.0
 *
 * What the cage of a handler costs: a program that does nothing, by fork and execve alone, in the cage without
 * namespaces and in the whole cage, one after the other in turns, so that all three meet the same machine. From the
 * start of a run until everything of it is gone.
 *
 *     make bench-cage [BENCH_ARGS=RUNS]
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "daemon/launcher/cage.h"
#include "lib/fdpass.h"

#define NOBODYS_ID 64250

enum { BARE, WITHOUT, WITH, KINDS };
static const char *const names[KINDS] = {"fork and execve", "cage without namespaces", "cage with namespaces"};
static const char *command[] = {"/usr/bin/true", NULL};
static char *const environment[] = {NULL};

static double milliseconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

static void must(int result, const char *what)
{
	if (result < 0) {
		fprintf(stderr, "%s: %s\n", what, strerror(errno));
		exit(1);
	}
}

static void run_bare(const struct cage_io *io)
{
	int status = 0;
	pid_t pid = fork();

	must(pid, "fork");
	if (pid == 0) {
		dup2(io->stdout_fd, 1);
		dup2(io->stderr_fd, 2);
		execve(command[0], (char *const *)(uintptr_t)command, environment);
		_exit(127);
	}
	must(waitpid(pid, &status, 0), "waitpid");
	if (status != 0)
		exit(1);
}

static void run_caged(struct cage *cage, const struct cage_io *io)
{
	struct cage_run run;
	struct cage_result result;
	int rc = cage_start(cage, io, &run);

	if (rc != 0) {
		fprintf(stderr, "%s: %s\n", run.step, strerror(-rc));
		exit(1);
	}
	struct pollfd gone = {.fd = run.pidfd, .events = POLLIN};
	must(poll(&gone, 1, -1), "poll");
	cage_finish(cage, &run, &result);
	if (result.error != 0 || result.status != 0) {
		fprintf(stderr, "%s: %s, status %x\n", run.step, strerror(-result.error), (unsigned)result.status);
		exit(1);
	}
}

static struct cage *prepare(struct config_handler *handler, enum config_layer namespaces)
{
	char error[512] = "";
	struct policy *policy = policy_load("handler", NULL, error, sizeof(error));
	struct cage *cage = NULL;

	*handler = (struct config_handler){.name = "bench",
	                                   .command = {.item = command, .n = 1},
	                                   .directory = "/",
	                                   .memory = 268435456,
	                                   .cpu_time_s = 30,
	                                   .processes = 32,
	                                   .files = 64,
	                                   .file_size = 67108864,
	                                   .temporary = 16777216,
	                                   .concurrency = 64,
	                                   .namespaces = namespaces,
	                                   .cgroup = LAYER_OFF};
	if (policy == NULL || cage_prepare(&cage, handler, policy, POLICY_ENFORCE, error, sizeof(error)) != 0) {
		fprintf(stderr, "%s\n", error);
		exit(1);
	}
	return cage;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

int main(int argc, char **argv)
{
	size_t runs = argc > 1 ? (size_t)atol(argv[1]) : 1000;
	double *times[KINDS], sums[KINDS] = {0};
	struct config_handler handlers[KINDS];
	struct cage *cages[KINDS] = {NULL};
	struct cage_io io = {.environment = environment};

	if (geteuid() == 0 && (setgroups(0, NULL) != 0 || setresgid(NOBODYS_ID, NOBODYS_ID, NOBODYS_ID) != 0 ||
	                       setresuid(NOBODYS_ID, NOBODYS_ID, NOBODYS_ID) != 0))
		must(-1, "setresuid");
	cages[WITHOUT] = prepare(&handlers[WITHOUT], LAYER_OFF);
	cages[WITH] = prepare(&handlers[WITH], LAYER_REQUIRED);
	io.stdout_fd = io.stderr_fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
	io.data_fd = memfd_make_sealed(SPAN_EMPTY);
	must(io.stdout_fd, "/dev/null");
	must(io.data_fd, "memfd");
	for (int kind = 0; kind < KINDS; kind++)
		times[kind] = calloc(runs, sizeof(double));
	for (size_t i = 0; i < runs; i++) {
		for (int kind = 0; kind < KINDS; kind++) {
			double before = milliseconds();

			if (kind == BARE)
				run_bare(&io);
			else
				run_caged(cages[kind], &io);
			times[kind][i] = milliseconds() - before;
			sums[kind] += times[kind][i];
		}
	}
	/* The tenth part that was disturbed least says what it costs, the rest what else the machine had to do. */
	printf("%-26s %8s %8s %8s %8s %16s %16s\n", "ms", "mean", "p10", "p50", "p90", "p10 over bare",
	       "p50 over bare");
	for (int kind = 0; kind < KINDS; kind++) {
		qsort(times[kind], runs, sizeof(double), by_value);
		printf("%-26s %8.2f %8.2f %8.2f %8.2f %16.2f %16.2f\n", names[kind], sums[kind] / (double)runs,
		       times[kind][runs / 10], times[kind][runs / 2], times[kind][runs * 9 / 10],
		       times[kind][runs / 10] - times[BARE][runs / 10], times[kind][runs / 2] - times[BARE][runs / 2]);
	}
	for (int kind = 0; kind < KINDS; kind++) {
		free(times[kind]);
		cage_free(cages[kind]);
	}
	return 0;
}
