/* SPDX-License-Identifier: Apache-2.0
 *
 * check: an AppArmor profile against the policy and walls.c, in both directions. A rule of another kind than files,
 * sockets, capabilities and received signals is a finding: no role has one.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "walls.h"

#define RULES_MAX 128

struct rule {
	char words[128]; /* "capability setuid", "unix dgram", "/etc/hosts" */
	unsigned access; /* of a path */
};

struct profile {
	struct wall_file wall;
	struct rule rules[RULES_MAX];
	size_t n_rules;
};

static const struct rule *profile_rule(const struct profile *profile, const char *words)
{
	for (size_t i = 0; i < profile->n_rules; i++)
		if (strcmp(profile->rules[i].words, words) == 0)
			return &profile->rules[i];
	return NULL;
}

static void rule_add(struct profile *profile, const char *words, unsigned access)
{
	struct rule *rule = &profile->rules[profile->n_rules];

	if (profile->n_rules == RULES_MAX || strlen(words) >= sizeof(rule->words)) {
		wall_find(&profile->wall, "too long for this check: ", words);
		return;
	}
	snprintf(rule->words, sizeof(rule->words), "%s", words);
	rule->access = access;
	profile->n_rules++;
}

/* What stands around the rules. */
static bool is_frame(const char *line)
{
	static const char *const beginnings[] = {"profile handoffd-",
	                                         "}",
	                                         "abi <",
	                                         "include <tunables/global>",
	                                         "include <abstractions/handoffd-role>",
	                                         "include if exists <local/"};

	for (size_t i = 0; i < sizeof(beginnings) / sizeof(beginnings[0]); i++)
		if (strncmp(line, beginnings[i], strlen(beginnings[i])) == 0)
			return true;
	return line[0] == '\0';
}

static void rule_read(struct profile *profile, char *line)
{
	const char *path = strncmp(line, "owner ", 6) == 0 ? line + 6 : line;
	char *access = strrchr(line, ' ');
	size_t len = strlen(line);

	if (is_frame(line) || strncmp(line, "deny ", 5) == 0 || strncmp(line, "signal (receive) ", 17) == 0)
		return;
	if (line[len - 1] != ',')
		wall_find(&profile->wall, "a rule that does not end in its line: ", line);
	line[len - 1] = '\0';
	if (strncmp(line, "capability ", 11) == 0)
		rule_add(profile, line, 0);
	else if (strncmp(line, "network ", 8) == 0)
		rule_add(profile, line + 8, 0);
	else if ((path[0] == '/' || path[0] == '@') && access != NULL && access > path) {
		*access = '\0';
		rule_add(profile, path, wall_access(access + 1));
	} else
		wall_find(&profile->wall, "grants what no policy grants: ", line);
}

static int profile_read(struct profile *profile, const char *directory, const char *name)
{
	char path[PATH_MAX], line[512];
	FILE *stream;

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	stream = fopen(path, "re");
	if (stream == NULL)
		return tool_error("%s: %s", path, strerror(errno));
	while (fgets(line, sizeof(line), stream) != NULL) {
		char *start = line + strspn(line, " \t");
		size_t len;

		start[strcspn(start, "#\n")] = '\0';
		for (len = strlen(start); len > 0 && strchr(" \t", start[len - 1]) != NULL; len--)
			start[len - 1] = '\0';
		rule_read(profile, start);
	}
	fclose(stream);
	return TOOL_OK;
}

/* ---------------------------------------------------------------- what it grants */

static bool is_granted(const struct wall_file *wall, const char *words)
{
	for (size_t i = 0; i < n_socket_kinds; i++)
		if (strcmp(socket_kinds[i].words, words) == 0 && policy_has_socket(wall->policy, &socket_kinds[i]))
			return true;
	for (size_t i = 0; i < wall_n_grants; i++)
		if ((wall_grants[i].roles & wall->role) != 0 && wall_grants[i].apparmor != NULL &&
		    strcmp(wall_grants[i].apparmor, words) == 0)
			return true;
	return false;
}

static unsigned path_access(const struct wall_file *wall, const char *path)
{
	unsigned access = 0;

	for (size_t i = 0; i < wall_n_paths; i++)
		if ((wall_paths[i].roles & wall->role) != 0 && wall_paths[i].path != NULL &&
		    strcmp(wall_paths[i].path, path) == 0)
			access |= wall_access(wall_paths[i].access);
	return access;
}

static void check_grants(struct profile *profile)
{
	for (size_t i = 0; i < profile->n_rules; i++) {
		const struct rule *rule = &profile->rules[i];
		bool is_path = rule->words[0] == '/' || rule->words[0] == '@';

		if (is_path && (rule->access & ~path_access(&profile->wall, rule->words)) != 0)
			wall_find(&profile->wall, "grants a path beyond the policy, unexplained: ", rule->words);
		else if (!is_path && !is_granted(&profile->wall, rule->words))
			wall_find(&profile->wall, "grants beyond the policy, unexplained: ", rule->words);
	}
}

/* ---------------------------------------------------------------- what it lacks */

static void check_lacks(struct profile *profile)
{
	const struct policy *policy = profile->wall.policy;

	for (size_t i = 0; i < n_socket_kinds; i++)
		if (policy_has_socket(policy, &socket_kinds[i]) && profile_rule(profile, socket_kinds[i].words) == NULL)
			wall_find(&profile->wall,
			          "takes away a kind of socket that the policy grants: ", socket_kinds[i].words);
	for (size_t i = 0; i < policy->n_paths; i++)
		if (profile_rule(profile, policy->paths[i].path) == NULL)
			wall_find(&profile->wall, "takes away a path that the policy grants: ", policy->paths[i].path);
	for (size_t i = 0; i < wall_n_grants; i++)
		if ((wall_grants[i].roles & profile->wall.role) != 0 && wall_grants[i].apparmor != NULL &&
		    profile_rule(profile, wall_grants[i].apparmor) == NULL)
			wall_find(&profile->wall, "does not grant what is explained: ", wall_grants[i].apparmor);
	for (size_t i = 0; i < wall_n_paths; i++) {
		const struct wall_path *path = &wall_paths[i];
		const struct rule *rule = path->path != NULL ? profile_rule(profile, path->path) : NULL;

		if ((path->roles & profile->wall.role) != 0 && path->path != NULL &&
		    (rule == NULL || (wall_access(path->access) & ~rule->access) != 0))
			wall_find(&profile->wall, "does not grant a path that another wall grants: ", path->path);
	}
}

int check_profile(const char *directory, const struct policy *policy, size_t *findings)
{
	char name[64];
	struct profile profile = {.wall = {.file = name, .policy = policy, .role = wall_role(policy->role)}};

	snprintf(name, sizeof(name), "handoffd-%s", policy->role);
	if (profile_read(&profile, directory, name) != TOOL_OK ||
	    profile_read(&profile, directory, "abstractions/handoffd-role") != TOOL_OK)
		return TOOL_ERROR;
	check_grants(&profile);
	check_lacks(&profile);
	*findings += profile.wall.findings;
	return TOOL_OK;
}
