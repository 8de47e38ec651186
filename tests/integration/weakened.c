/* SPDX-License-Identifier: Apache-2.0
 *
 * A process that is caged like the gate, but for one fault that is named in its command line; for the tests of
 * `handoff-policy audit`. Started as root:
 *
 *     handoffd-gate -c CONFIG FAULT
 *
 * It writes "ready" and waits for its end. With the fault "none" it is caged as the gate is.
 */
#include <cap-ng.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "daemon/common/config.h"
#include "policy/language.h"

static const char *fault;

static bool is(const char *name)
{
	return strcmp(fault, name) == 0;
}

static void must(bool right, const char *what)
{
	if (right)
		return;
	perror(what);
	exit(1);
}

static void become(const struct config_user *user)
{
	uid_t uid = user->uid + is("wrong-uid");
	gid_t group = 27;

	for (int capability = 0; prctl(PR_CAPBSET_READ, capability, 0, 0, 0) >= 0; capability++)
		must(prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) == 0, "bounding set");
	must(!is("capability") || prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) == 0, "keepcaps");
	must(setgroups(is("extra-group"), &group) == 0 && setresgid(user->gid, user->gid, user->gid) == 0 &&
	         setresuid(uid, uid, uid) == 0,
	     "user");
	if (!is("capability"))
		return;
	capng_clear(CAPNG_SELECT_CAPS);
	capng_update(CAPNG_ADD, (capng_type_t)(CAPNG_EFFECTIVE | CAPNG_PERMITTED), CAP_NET_RAW);
	must(capng_apply(CAPNG_SELECT_CAPS) == 0, "capability");
}

static void limit(const struct policy *policy)
{
	for (int resource = 0; resource < RLIMIT_NLIMITS; resource++) {
		struct rlimit wanted;

		if (!policy->rlimits[resource].stated)
			continue;
		must(getrlimit((__rlimit_resource_t)resource, &wanted) == 0, "getrlimit");
		if (!policy->rlimits[resource].hard)
			wanted.rlim_max = policy->rlimits[resource].value;
		wanted.rlim_cur = wanted.rlim_max;
		if (resource == RLIMIT_NOFILE && is("rlimit"))
			wanted.rlim_cur--;
		must(setrlimit((__rlimit_resource_t)resource, &wanted) == 0, "setrlimit");
	}
}

static void filter(const char *role)
{
	char error[256];
	struct policy *policy = policy_load(role, NULL, error, sizeof(error));
	struct sock_fprog program;

	must(policy != NULL &&
	         policy_compile(policy, SCMP_ARCH_NATIVE, POLICY_ENFORCE, &program, error, sizeof(error)) == 0 &&
	         syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) == 0,
	     "filter");
}

static void allow_all(void)
{
	struct sock_filter instruction = {.code = BPF_RET | BPF_K, .k = SECCOMP_RET_ALLOW};
	struct sock_fprog program = {.len = 1, .filter = &instruction};

	must(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) == 0, "additional filter");
}

/* Its parent is kept in the kernel for as long as this lives, where ptrace cannot stop it. */
static void keep_parent(void)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	must(write(STDERR_FILENO, "ready\n", 6) == 6, "write");
	for (;;)
		poll(NULL, 0, -1);
}

int main(int argc, char **argv)
{
	char error[512], off[512] = "";
	struct policy *policy = policy_load("gate", NULL, error, sizeof(error));
	struct config *config;
	char *errors = NULL;

	must(argc == 4 && policy != NULL, "arguments");
	fault = argv[3];
	config = config_load(argv[2], &errors);
	must(config != NULL, "configuration");
	must(!is("descriptor") || open("/etc/hostname", O_RDONLY) >= 0, "descriptor");
	must(!is("map") ||
	         mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED,
	     "map");
	become(&config->user[ROLE_GATE]);
	if (is("never-stops") && vfork() == 0)
		keep_parent();
	must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_DUMPABLE, is("dumpable"), 0, 0, 0) == 0,
	     "prctl");
	limit(policy);
	must(is("no-landlock") || landlock_apply(policy, landlock_abi(), off, sizeof(off), error, sizeof(error)) == 0,
	     "landlock");
	if (is("additional-filter"))
		allow_all();
	if (!is("no-filter"))
		filter(is("other-filter") ? "streamer" : "gate");
	must(write(STDERR_FILENO, "ready\n", 6) == 6, "write");
	for (;;)
		poll(NULL, 0, -1);
}
