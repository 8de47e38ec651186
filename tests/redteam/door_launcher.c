/* SPDX-License-Identifier: Apache-2.0
 *
 * The launcher's door for programs: where the launcher would enter its event loop it starts the program of its section,
 * by the product's own functions and in the cage that it has just prepared; the program makes the attempt (alone run).
 * The pipe of its standard output is the runner's, and its data is what holds it.
 */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "attack.h"
#include "daemon/launcher/cage.h"
#include "door.h"

/* The linker's names. */
int __wrap_cage_prepare(struct cage **cage, const struct config_handler *handler, const struct policy *policy,
                        enum policy_mode mode, char *error, size_t error_size);
int __real_cage_prepare(struct cage **cage, const struct config_handler *handler, const struct policy *policy,
                        enum policy_mode mode, char *error, size_t error_size);

static struct cage *prepared;

int __wrap_cage_prepare(struct cage **cage, const struct config_handler *handler, const struct policy *policy,
                        enum policy_mode mode, char *error, size_t error_size)
{
	int result = __real_cage_prepare(cage, handler, policy, mode, error, error_size);

	prepared = *cage;
	return result;
}

static int copy_of(int fd)
{
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, ATTACK_FD_FIRST);

	if (copy < 0)
		_exit(97);
	return copy;
}

void door_start_program(char *const *environment)
{
	const struct cage_io io = {.stdout_fd = copy_of(ATTACK_FD_RESULT),
	                           .stderr_fd = copy_of(STDERR_FILENO),
	                           .data_fd = copy_of(ATTACK_FD_HOLD),
	                           .environment = environment};
	struct cage_run run = {0};
	struct cage_result result;
	int error = cage_start(prepared, &io, &run);

	if (error != 0) {
		dprintf(STDERR_FILENO, "cage_start: %s: %d\n", run.step, error);
		_exit(96);
	}
	/* What the program has ended with it. */
	close(io.stdout_fd);
	for (int fd = ATTACK_FD_FIRST; fd <= ATTACK_FD_SECOND; fd++)
		close(fd);
	poll(&(struct pollfd){.fd = run.pidfd, .events = POLLIN}, 1, -1);
	cage_started(&run);
	cage_finish(prepared, &run, &result);
	if (result.error != 0)
		dprintf(STDERR_FILENO, "the program was not executed: %s: %d\n", run.step, result.error);
	_exit(WIFSIGNALED(result.status) ? 128 + WTERMSIG(result.status) : WEXITSTATUS(result.status));
}
