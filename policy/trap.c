/* SPDX-License-Identifier: Apache-2.0
 *
 * Trap: for diagnosis, the log line of a system call that the policy does not grant. The kernel's audit record is not
 * at hand everywhere.
 */
#include <errno.h>
#include <seccomp.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "daemon/common/log.h"
#include "language.h"

#define NUMBER_MAX 511

/* Resolved beforehand: in the handler nothing may be allocated. */
static char *names[NUMBER_MAX + 1];

static void on_trap(int signal, siginfo_t *info, void *context)
{
	const char *name = info->si_syscall >= 0 && info->si_syscall <= NUMBER_MAX ? names[info->si_syscall] : NULL;

	(void)context;
	log_event(LOG_CRIT, "seccomp-trap", LOG_STR("call", name != NULL ? name : "unknown"),
	          LOG_INT("number", info->si_syscall));
	_exit(128 + signal);
}

int policy_trap_prepare(void)
{
	struct sigaction action = {.sa_sigaction = on_trap, .sa_flags = SA_SIGINFO | SA_NODEFER};

	for (int number = 0; number <= NUMBER_MAX; number++)
		names[number] = seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, number);
	return sigaction(SIGSYS, &action, NULL) == 0 ? 0 : -errno;
}
