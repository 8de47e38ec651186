/* SPDX-License-Identifier: Apache-2.0
 *
 * check: the outer walls against the policies: systemd units, AppArmor profiles, the SELinux module. What one of them
 * grants beyond a role's policy, or takes away although the policy grants it, is a finding, unless walls.c explains it.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/fdpass.h"
#include "walls.h"

#define MODULE_MAX (1 << 20)
#define COMPILER   "/usr/libexec/selinux/hll/pp" /* of policycoreutils: a module as CIL on standard output */

static const char *const roles[] = {"gate", "streamer", "dialer", "launcher", "handler"};

static bool is_there(const char *directory, const char *name)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	return access(path, F_OK) == 0;
}

static bool ends_in(const char *name, const char *end)
{
	size_t len = strlen(name), end_len = strlen(end);

	return len > end_len && strcmp(name + len - end_len, end) == 0;
}

static pid_t compiler_start(const char *file, int out)
{
	pid_t pid = fork();

	if (pid == 0) {
		if (dup2(out, STDOUT_FILENO) >= 0)
			execl(COMPILER, COMPILER, file, (char *)NULL);
		_exit(127);
	}
	return pid;
}

/* The text of FILE.cil, or of FILE.pp by the compiler; malloc'ed, NULL after a complaint. */
static char *module_text(const char *file)
{
	char *text = calloc(1, MODULE_MAX);
	int ends[2] = {-1, -1}, status = 0;
	size_t len = 0;
	ssize_t n = 0;
	pid_t pid = 0;

	if (ends_in(file, ".cil"))
		ends[0] = open(file, O_RDONLY | O_CLOEXEC);
	else if (pipe2(ends, O_CLOEXEC) == 0)
		pid = compiler_start(file, ends[1]);
	fd_close(&ends[1]);
	while (text != NULL && ends[0] >= 0 && (n = read(ends[0], text + len, MODULE_MAX - 1 - len)) > 0)
		len += (size_t)n;
	fd_close(&ends[0]);
	if (pid > 0 && waitpid(pid, &status, 0) != pid)
		status = -1;
	if (len > 0 && len < MODULE_MAX - 1 && n == 0 && status == 0)
		return text;
	free(text);
	tool_error("%s: cannot be read%s", file, pid > 0 ? " by " COMPILER : "");
	return NULL;
}

/* What lies there says which wall it is. */
static int check_place(const char *place, const struct policy *policy, const char *module, size_t *findings)
{
	if (module == NULL && is_there(place, "handoffd-gate.service"))
		return check_unit(place, policy, findings);
	/* A launcher and its programs have a unit and a profile of denials, which the guest tries. */
	if (wall_role(policy->role) == 0)
		return TOOL_OK;
	if (module != NULL)
		return check_module(place, module, policy, findings);
	if (is_there(place, "handoffd-gate"))
		return check_profile(place, policy, findings);
	return tool_error("%s: neither units nor profiles of handoffd, nor a module", place);
}

static int check_roles(const struct tool_options *options, const char *place, size_t *findings)
{
	bool is_module = ends_in(place, ".pp") || ends_in(place, ".cil");
	char *module = is_module ? module_text(place) : NULL;
	int status = is_module && module == NULL ? TOOL_ERROR : TOOL_OK;

	for (size_t i = 0; i < sizeof(roles) / sizeof(roles[0]) && status == TOOL_OK; i++) {
		struct policy *policy = tool_policy(options, roles[i]);

		status = policy == NULL ? TOOL_ERROR : check_place(place, policy, module, findings);
		policy_free(policy);
	}
	free(module);
	return status;
}

int tool_check(const struct tool_options *options, int argc, char **argv)
{
	static const char *const installed[] = {"/lib/systemd/system", "/etc/apparmor.d",
	                                        "/usr/share/selinux/packages/handoffd.pp"};
	size_t findings = 0;
	int status = TOOL_OK;

	for (int i = 1; i < argc && status == TOOL_OK; i++)
		status = check_roles(options, argv[i], &findings);
	for (size_t i = 0; argc == 1 && i < sizeof(installed) / sizeof(installed[0]) && status == TOOL_OK; i++)
		if (i == 2 && access(COMPILER, X_OK) != 0)
			printf("%s: not compared: %s is not there\n", installed[i], COMPILER);
		else
			status = check_roles(options, installed[i], &findings);
	if (status != TOOL_OK)
		return status;
	printf("%zu findings\n", findings);
	return findings == 0 ? TOOL_OK : TOOL_FAULT;
}
