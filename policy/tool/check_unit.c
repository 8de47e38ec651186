/* SPDX-License-Identifier: Apache-2.0
 *
 * check: a systemd unit against the policy. What it grants beyond its role's policy, or takes away although the policy
 * grants it, is a finding, unless it is explained here.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/fdpass.h"
#include "walls.h"

#define CALLS_MAX 600

/* What a unit says, the last setting of each name; lists are joined. */
struct unit {
	struct wall_file wall;
	char text[16384];
};

struct call_set {
	char *names[CALLS_MAX];
	size_t n;
};

static void find(struct unit *unit, const char *what, const char *detail)
{
	wall_find(&unit->wall, what, detail);
}

static int unit_read(struct unit *unit, const char *directory)
{
	char path[PATH_MAX];
	FILE *stream;
	size_t len;

	snprintf(path, sizeof(path), "%s/%s", directory, unit->wall.file);
	stream = fopen(path, "re");
	if (stream == NULL)
		return tool_error("%s: %s", path, strerror(errno));
	len = fread(unit->text, 1, sizeof(unit->text) - 1, stream);
	unit->text[len] = '\0';
	fclose(stream);
	return TOOL_OK;
}

/* The next value of NAME= after *at, or no data. */
static struct span setting_next(const char **at, const char *name)
{
	size_t name_len = strlen(name);

	while (**at != '\0') {
		const char *line = *at;
		size_t len = strcspn(line, "\n");

		*at += len + (line[len] == '\n');
		if (len > name_len && strncmp(line, name, name_len) == 0 && line[name_len] == '=')
			return span_of(line + name_len + 1, len - name_len - 1);
	}
	return SPAN_EMPTY;
}

static struct span setting(const struct unit *unit, const char *name)
{
	const char *at = unit->text;
	struct span value = SPAN_EMPTY, next;

	while ((next = setting_next(&at, name)).data != NULL)
		value = next;
	return value;
}

static void want(struct unit *unit, const char *name, const char *value, const char *why)
{
	struct span found = setting(unit, name);

	if (found.data == NULL || !span_equal_string(found, value)) {
		char what[128];

		snprintf(what, sizeof(what), "%s=%s is missing: ", name, value);
		find(unit, what, why);
	}
}

/* ---------------------------------------------------------------- address families */

static bool policy_has_family(const struct policy *policy, uint64_t family)
{
	for (size_t i = 0; i < policy->n_rules; i++) {
		const struct policy_rule *rule = &policy->rules[i];

		if (rule->error == 0 && strcmp(rule->call, "socket") == 0 && rule->conditions[0].value == family)
			return true;
	}
	return false;
}

static void check_families(struct unit *unit, const struct policy *policy)
{
	static const char *const families[] = {"AF_UNIX", "AF_INET", "AF_INET6", "AF_NETLINK", "AF_PACKET"};
	struct span granted = setting(unit, "RestrictAddressFamilies");
	char list[256];

	snprintf(list, sizeof(list), " %.*s ", (int)granted.len, (const char *)granted.data);
	if (granted.data == NULL)
		find(unit, "RestrictAddressFamilies= is missing", "");
	for (size_t i = 0; i < sizeof(families) / sizeof(families[0]); i++) {
		uint64_t number = 0;
		char word[32];
		bool in_policy, in_unit;

		snprintf(word, sizeof(word), " %s ", families[i]);
		in_unit = strstr(list, word) != NULL;
		in_policy = policy_constant(span_of_string(families[i]), &number) && policy_has_family(policy, number);
		if (in_policy && !in_unit)
			find(unit, "takes away an address family that the policy grants: ", families[i]);
		/* Every role reports to NOTIFY_SOCKET, and opens that socket before its cage closes. */
		if (in_unit && !in_policy && i != 0)
			find(unit, "grants an address family that the policy does not: ", families[i]);
	}
}

/* ---------------------------------------------------------------- paths */

/* Of those that start nothing none needs namespaces, nor cgroups of its own. */
static void check_processes(struct unit *unit, const struct policy *policy)
{
	if (policy->facts[FACT_FORK] != FACT_STRICT)
		return;
	want(unit, "RestrictNamespaces", "yes", "fork no");
	if (setting(unit, "Delegate").len > 0)
		find(unit, "grants cgroups, although the policy says fork no", "");
}

/* No policy lets a role write a file or execute one, so no unit makes one writable; but a streamer opens its access log
 * before its cage closes. */
static void check_paths(struct unit *unit, const char *role)
{
	static const char *const grants[] = {"ReadWritePaths",         "BindPaths",     "StateDirectory",
	                                     "CacheDirectory",         "LogsDirectory", "RuntimeDirectory",
	                                     "ConfigurationDirectory", "ExecPaths"};

	for (size_t i = 0; i < sizeof(grants) / sizeof(grants[0]); i++)
		if (setting(unit, grants[i]).len > 0 &&
		    (strcmp(role, "streamer") != 0 || strcmp(grants[i], "LogsDirectory") != 0))
			find(unit, "grants paths that the policy does not: ", grants[i]);
}

/* What the policy lets the role read must be there to be read. */
static void check_readable(struct unit *unit, const struct policy *policy)
{
	struct span hidden = setting(unit, "InaccessiblePaths");
	char list[1024];

	snprintf(list, sizeof(list), " %.*s ", (int)hidden.len, (const char *)hidden.data);
	for (size_t i = 0; i < policy->n_paths; i++) {
		char word[256];

		snprintf(word, sizeof(word), " %s ", policy->paths[i].path);
		if (strstr(list, word) != NULL)
			find(unit, "hides a path that the policy grants: ", policy->paths[i].path);
	}
}

/* ---------------------------------------------------------------- system calls */

static bool set_has(const struct call_set *set, const char *name)
{
	for (size_t i = 0; i < set->n; i++)
		if (strcmp(set->names[i], name) == 0)
			return true;
	return false;
}

static void set_change(struct call_set *set, const char *name, bool add)
{
	if (add && !set_has(set, name) && set->n < CALLS_MAX) {
		set->names[set->n] = strdup(name);
		set->n += set->names[set->n] != NULL;
	}
	for (size_t i = 0; !add && i < set->n; i++)
		if (strcmp(set->names[i], name) == 0) {
			free(set->names[i]);
			set->names[i--] = set->names[--set->n];
		}
}

/* The output of `systemd-analyze syscall-filter GROUP`; NULL when it cannot be started. */
static FILE *group_open(const char *group, pid_t *pid)
{
	int ends[2];

	if (pipe2(ends, O_CLOEXEC) != 0)
		return NULL;
	*pid = fork();
	if (*pid == 0) {
		int null = open("/dev/null", O_WRONLY | O_CLOEXEC);

		if (dup2(ends[1], STDOUT_FILENO) >= 0 && dup2(null, STDERR_FILENO) >= 0)
			execlp("systemd-analyze", "systemd-analyze", "syscall-filter", group, (char *)NULL);
		_exit(127);
	}
	fd_close(&ends[1]);
	if (*pid > 0)
		return fdopen(ends[0], "r");
	fd_close(&ends[0]);
	return NULL;
}

/* A call, or the calls of a group as systemd knows it. False when systemd is not there to ask. */
static bool set_change_word(struct call_set *set, const char *word, bool add)
{
	char line[256];
	FILE *stream;
	size_t n = 0;
	int status = -1;
	pid_t pid;

	if (word[0] != '@') {
		set_change(set, word, add);
		return true;
	}
	stream = group_open(word, &pid);
	if (stream == NULL)
		return false;
	while (fgets(line, sizeof(line), stream) != NULL) {
		char *name = line + strspn(line, " \t");

		name[strcspn(name, " \t\n")] = '\0';
		if (line[0] == ' ' && name[0] != '#' && name[0] != '\0' && strcmp(name, word) != 0 && ++n > 0)
			set_change_word(set, name, add);
	}
	fclose(stream);
	return waitpid(pid, &status, 0) == pid && status == 0 && n > 0;
}

static bool set_read(struct call_set *set, const struct unit *unit)
{
	const char *at = unit->text;
	struct span value;
	char list[2048];

	while ((value = setting_next(&at, "SystemCallFilter")).data != NULL) {
		bool add = value.len == 0 || value.data[0] != '~';
		char *rest = list;

		snprintf(list, sizeof(list), "%.*s", (int)value.len - !add, (const char *)value.data + !add);
		for (char *word = strtok_r(rest, " \t", &rest); word != NULL; word = strtok_r(NULL, " \t", &rest))
			if (!set_change_word(set, word, add))
				return false;
	}
	return true;
}

/* What the unit takes away fails in the role with ENOSYS, whatever the policy says. */
static void check_calls(struct unit *unit, const struct policy *policy)
{
	struct call_set set = {.n = 0};
	const char *last = "";

	if (!set_read(&set, unit))
		printf("%s: SystemCallFilter= not compared: systemd-analyze is not there\n", unit->wall.file);
	for (size_t i = 0; set.n > 0 && i < policy->n_rules; i++) {
		const struct policy_rule *rule = &policy->rules[i];

		if (rule->error == 0 && !set_has(&set, rule->call) && strcmp(last, rule->call) != 0)
			find(unit, "SystemCallFilter= takes away a call that the policy grants: ", rule->call);
		last = rule->call;
	}
	for (size_t i = 0; i < set.n; i++)
		free(set.names[i]);
}

/* ---------------------------------------------------------------- all of it */

static void compare(struct unit *unit, const struct policy *policy)
{
	want(unit, "NoNewPrivileges", "yes", "every role sets no_new_privs");
	want(unit, "SystemCallArchitectures", "native", "the filter kills foreign architectures");
	if (policy->facts[FACT_CAPABILITIES] == FACT_STRICT) {
		want(unit, "CapabilityBoundingSet", "", "capabilities none");
		want(unit, "AmbientCapabilities", "", "capabilities none");
	}
	if (policy->mdwe != NEED_OPEN)
		want(unit, "MemoryDenyWriteExecute", "yes", "mdwe");
	if (policy->rlimits[RLIMIT_CORE].stated && policy->rlimits[RLIMIT_CORE].value == 0)
		want(unit, "LimitCORE", "0", "rlimit core 0");
	if (!policy_has_family(policy, 2))
		want(unit, "PrivateNetwork", "yes", "no socket() for the network");
	want(unit, "ProtectSystem", "strict", "no file is written");
	check_processes(unit, policy);
	check_families(unit, policy);
	check_paths(unit, policy->role);
	check_readable(unit, policy);
	check_calls(unit, policy);
}

int check_unit(const char *directory, const struct policy *policy, size_t *findings)
{
	/* A handler's program is in the unit of its launcher. */
	const char *name = strcmp(policy->role, "handler") == 0 ? "launcher" : policy->role;
	bool has_instances = strcmp(name, "streamer") == 0 || strcmp(name, "launcher") == 0;
	char file[64];
	struct unit unit = {.wall = {.file = file, .policy = policy, .role = wall_role(policy->role)}};

	snprintf(file, sizeof(file), "handoffd-%s%s.service", name, has_instances ? "@" : "");
	if (unit_read(&unit, directory) != TOOL_OK)
		return TOOL_ERROR;
	compare(&unit, policy);
	*findings += unit.wall.findings;
	return TOOL_OK;
}
