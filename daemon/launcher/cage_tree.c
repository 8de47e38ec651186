/* SPDX-License-Identifier: Apache-2.0
 *
 * Killing a tree of processes without a pid namespace: by its parent, the subreaper, to whom every orphan below it
 * comes. First all are stopped, until a look finds nobody new: a program that forks without end runs into its limit and
 * then no longer runs. Then all are killed.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cage_internal.h"
#include "lib/fdpass.h"

/* Looks in which everything is only stopped. */
#define STOP_ROUNDS 16
#define DEPTH_MAX   32

/* /proc/PID/task/PID/children, without stdio. */
static void children_file(pid_t pid, char out[64])
{
	char digits[16];
	size_t n = 0, len;

	for (pid_t rest = pid; rest > 0; rest /= 10)
		digits[n++] = (char)('0' + rest % 10);
	strcpy(out, "/proc/"); /* NOLINT: 64 bytes are enough for two pids and the words */
	for (int part = 0; part < 2; part++) {
		len = strlen(out);
		for (size_t i = 0; i < n; i++)
			out[len + i] = digits[n - 1 - i];
		strcpy(out + len + n, part == 0 ? "/task/" : "/children"); /* NOLINT: the same */
	}
}

/* Sends a signal to all below pid that can be found. Returns how many there are. */
static size_t signal_below(pid_t pid, int number, unsigned depth)
{
	char path[64], buffer[4096];
	size_t found = 0;
	pid_t child = 0;
	ssize_t len;
	int fd FD_CLEANUP = -1;

	children_file(pid, path);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	while (fd >= 0 && (len = read(fd, buffer, sizeof(buffer))) > 0) {
		for (ssize_t i = 0; i < len; i++) {
			if (buffer[i] >= '0' && buffer[i] <= '9') {
				child = child * 10 + (buffer[i] - '0');
			} else if (child > 0) {
				kill(child, number);
				found += 1 + (depth < DEPTH_MAX ? signal_below(child, number, depth + 1) : 0);
				child = 0;
			}
		}
	}
	return found;
}

static bool reap_all(void)
{
	int status;
	pid_t pid;

	do
		pid = waitpid(-1, &status, WNOHANG);
	while (pid > 0);
	return pid < 0 && errno == ECHILD;
}

void cage_tree_kill(void)
{
	pid_t self = getpid();
	size_t before = 0;

	/* Most leave nothing behind. */
	if (reap_all())
		return;
	for (int round = 0; round < STOP_ROUNDS; round++) {
		size_t found = signal_below(self, SIGSTOP, 0);

		if (found == before)
			break;
		before = found;
	}
	while (!reap_all()) {
		struct timespec pause = {.tv_nsec = 1000000};

		signal_below(self, SIGKILL, 0);
		if (!reap_all())
			nanosleep(&pause, NULL);
	}
}
