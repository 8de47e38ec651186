/* SPDX-License-Identifier: Apache-2.0
 *
 * Layers: see layers.h.
 */
#include "layers.h"

#include <cap-ng.h>
#include <grp.h>
#include <seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "policy/language.h"

#ifndef PR_SET_MDWE
#define PR_SET_MDWE              65
#define PR_MDWE_REFUSE_EXEC_GAIN 1
#endif

static void must(bool right, const char *what)
{
	if (right)
		return;
	perror(what);
	_exit(99);
}

static bool has(const char *list, const char *name)
{
	size_t len = strlen(name);

	for (const char *at = list; *at != '\0'; at += strcspn(at, ",") + (at[strcspn(at, ",")] == ','))
		if (strcspn(at, ",") == len && strncmp(at, name, len) == 0)
			return true;
	return false;
}

void layers_from_environment(struct layers *layers)
{
	const char *list = getenv("REDTEAM_LAYERS");

	must(list != NULL, "REDTEAM_LAYERS");
	*layers = (struct layers){
	    .whole = has(list, "whole"),
	    .user = has(list, "user"),
	    .privileges = has(list, "privileges"),
	    .no_new_privs = has(list, "no-new-privs"),
	    .seccomp = has(list, "seccomp"),
	    .landlock = has(list, "landlock"),
	    .rlimits = has(list, "rlimits"),
	    .process = has(list, "process"),
	};
}

/* As privileges_drop(), but for no_new_privs. */
static void become(const struct config_user *user)
{
	capng_clear(CAPNG_SELECT_ALL);
	must(capng_change_id((int)user->uid, (int)user->gid,
	                     (capng_flags_t)(CAPNG_DROP_SUPP_GRP | CAPNG_CLEAR_BOUNDING | CAPNG_CLEAR_AMBIENT)) == 0,
	     "capng_change_id");
}

/* The user alone: what it may regain by a program it keeps. */
static void become_user(const struct config_user *user)
{
	must(setgroups(0, NULL) == 0 && setresgid(user->gid, user->gid, user->gid) == 0 &&
	         setresuid(user->uid, user->uid, user->uid) == 0,
	     "user");
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
		must(setrlimit((__rlimit_resource_t)resource, &wanted) == 0, "setrlimit");
	}
}

static void filter(const struct policy *policy)
{
	char error[256];
	struct sock_fprog program;

	must(policy_compile(policy, SCMP_ARCH_NATIVE, POLICY_ENFORCE, &program, error, sizeof(error)) == 0 &&
	         syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) == 0,
	     "seccomp");
	free(program.filter);
}

void layers_apply(const struct layers *layers, const char *role, const struct config_user *user)
{
	char error[512], off[512] = "";
	struct policy *policy = policy_load(role, NULL, error, sizeof(error));

	must(policy != NULL, "policy");
	if (layers->privileges)
		become(user);
	else if (layers->user)
		become_user(user);
	must(!layers->no_new_privs || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0, "no_new_privs");
	must(!layers->process || (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == 0 &&
	                          prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0) == 0),
	     "process");
	if (layers->rlimits)
		limit(policy);
	must(!layers->landlock || landlock_apply(policy, landlock_abi(), off, sizeof(off), error, sizeof(error)) == 0,
	     "landlock");
	if (layers->seccomp)
		filter(policy);
	policy_free(policy);
}
