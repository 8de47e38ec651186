/* SPDX-License-Identifier: Apache-2.0
 *
 * show: a policy as it is in force, lists included, each statement with the place where it stands; and what this kernel
 * has of the layers. lint: what the parser accepts but a reviewer must not.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "tool.h"

#define INCLUDES_MAX 8

/* Statements only, long comments stay in the files. */
static void show_file(const char *file, unsigned depth)
{
	char *text = tool_text(file);
	unsigned number = 1;

	if (text == NULL || depth > INCLUDES_MAX) {
		free(text);
		return;
	}
	for (const char *line = text; *line != '\0'; number++) {
		size_t len = strcspn(line, "\n");
		size_t blanks = strspn(line, " \t");

		if (blanks < len && line[blanks] != '#')
			printf("%s:%u\t%.*s\n", file, number, (int)len, line);
		if (strncmp(line, "include ", 8) == 0) {
			char included[64];

			snprintf(included, sizeof(included), "%.*s.policy", (int)strcspn(line + 8, " \t\n"), line + 8);
			show_file(included, depth + 1);
		}
		line += len + (line[len] == '\n');
	}
	free(text);
}

static void show_kernel(const struct policy *policy)
{
	int abi = landlock_abi();

	printf("\nkernel: Landlock ABI %d\n", abi);
	for (size_t i = 0; i < RIGHT_COUNT; i++) {
		const struct landlock_right_info *right = &landlock_rights[i];
		const char *state = policy->landlock[i] == NEED_OPEN ? "open by policy"
		                    : right->abi <= abi              ? "on"
		                                                     : "off: the kernel lacks it";

		printf("landlock %s\t%s\n", right->name, state);
	}
}

int tool_show(const struct tool_options *options, int argc, char **argv)
{
	struct policy *policy;
	char file[64];

	if (argc != 2)
		return tool_error("show wants a role");
	policy = tool_policy(options, argv[1]);
	if (policy == NULL)
		return TOOL_ERROR;
	snprintf(file, sizeof(file), "%s.policy", argv[1]);
	if (policy_override(policy) != NULL)
		printf("%s replaces the built-in policy\n", policy_override(policy));
	show_file(policy_override(policy) != NULL ? policy_override(policy) : file, 0);
	if (!policy->is_list && !policy->allows_the_rest)
		show_kernel(policy);
	policy_free(policy);
	return TOOL_OK;
}

/* ---------------------------------------------------------------- lint */

static void on_finding(void *context, const char *finding)
{
	printf("%s: %s\n", (const char *)context, finding);
}

static size_t lint_text(const char *file, struct span text)
{
	char error[512], name[256];
	struct policy *policy = policy_parse(file, text, error, sizeof(error));
	size_t n;

	if (policy == NULL) {
		puts(error);
		return 1;
	}
	snprintf(name, sizeof(name), "%s", file);
	n = policy_lint(policy, on_finding, name);
	policy_free(policy);
	return n;
}

static size_t lint_file(const char *file)
{
	char *text = tool_text(file);
	size_t n;

	if (text == NULL) {
		tool_error("%s: %s", file, strerror(errno));
		return 1;
	}
	n = lint_text(file, span_of_string(text));
	free(text);
	return n;
}

/* What the supervisor denies against what its children are granted, and the launcher's denials against its programs'.
 */
static size_t lint_family(struct policy *const policies[])
{
	size_t n = 0;

	for (size_t s = 0; tool_roles[s] != NULL; s++)
		for (size_t c = 0; policies[s] != NULL && policies[s]->allows_the_rest && tool_roles[c] != NULL; c++)
			if (policies[c] != NULL && c != s &&
			    (strcmp(tool_roles[s], "supervisor") == 0 || strcmp(tool_roles[c], "handler") == 0))
				n += policy_lint_spawner(policies[s], policies[c], on_finding, (char *)"family");
	return n;
}

static size_t lint_all(const struct tool_options *options)
{
	struct policy *policies[8] = {NULL};
	char name[32];
	size_t n = 0;

	for (size_t i = 0; tool_roles[i] != NULL; i++) {
		policies[i] = tool_policy(options, tool_roles[i]);
		snprintf(name, sizeof(name), "%s", tool_roles[i]);
		n += policies[i] == NULL ? 1 : policy_lint(policies[i], on_finding, name);
	}
	n += lint_family(policies);
	for (size_t i = 0; tool_roles[i] != NULL; i++)
		policy_free(policies[i]);
	return n;
}

int tool_lint(const struct tool_options *options, int argc, char **argv)
{
	size_t n = argc == 1 ? lint_all(options) : 0;

	for (int i = 1; i < argc; i++) {
		if (strchr(argv[i], '/') == NULL)
			return tool_error("%s: name a file with its folder (./FILE)", argv[i]);
		n += lint_file(argv[i]);
	}
	printf("%zu findings\n", n);
	return n == 0 ? TOOL_OK : TOOL_FAULT;
}
