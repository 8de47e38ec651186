/* SPDX-License-Identifier: Apache-2.0
 *
 * unused: what of a policy the system calls of a run made no use of. They come on standard input, one a line, as
 * tests/policy-usage.py takes them from strace: the name and up to six arguments as numbers. An allow or errno line
 * with several values is one grant for each of them.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "tool.h"

struct made {
	char name[64];
	uint64_t args[POLICY_ARGS];
};

/* What is not given is 0, as strace leaves out what a call does not take. */
static int made_parse(char *line, struct made *made)
{
	char *rest = line;
	char *word = strtok_r(rest, " \t\n", &rest);

	*made = (struct made){0};
	if (word == NULL || strlen(word) >= sizeof(made->name))
		return -EINVAL;
	snprintf(made->name, sizeof(made->name), "%s", word);
	for (size_t i = 0; (word = strtok_r(NULL, " \t\n", &rest)) != NULL; i++) {
		char *end;

		if (i == POLICY_ARGS)
			return -EINVAL;
		made->args[i] = strtoull(word, &end, 0);
		if (*end != '\0')
			return -EINVAL;
	}
	return 0;
}

static bool meets(const struct policy_rule *rule, const struct made *made)
{
	if (strcmp(rule->call, made->name) != 0)
		return false;
	for (size_t i = 0; i < POLICY_ARGS; i++)
		if ((made->args[i] & rule->conditions[i].mask) != rule->conditions[i].value)
			return false;
	return true;
}

/* FILE:LINE, the line, and which of its alternatives: the values that are compared. */
static void print_unused(const struct policy_rule *rule)
{
	char *text = tool_text(rule->file);
	struct span line = text != NULL ? tool_line(text, rule->line) : SPAN_EMPTY;

	printf("%s:%u", rule->file, rule->line);
	for (size_t i = 0; i < POLICY_ARGS; i++)
		if (rule->conditions[i].mask != 0)
			printf(" %zu=0x%llx/0x%llx", i, (unsigned long long)rule->conditions[i].value,
			       (unsigned long long)rule->conditions[i].mask);
	printf("\t%.*s\n", (int)line.len, (const char *)line.data);
	free(text);
}

static int read_calls(const struct policy *policy, bool *used)
{
	char line[512];
	struct made made;

	while (fgets(line, sizeof(line), stdin) != NULL) {
		if (made_parse(line, &made) != 0)
			return tool_error("unused reads lines of a name and numbers");
		for (size_t i = 0; i < policy->n_rules; i++)
			used[i] = used[i] || meets(&policy->rules[i], &made);
	}
	return ferror(stdin) ? tool_error("standard input: %s", strerror(errno)) : TOOL_OK;
}

int tool_unused(const struct tool_options *options, int argc, char **argv)
{
	struct policy *policy = argc == 2 ? tool_policy(options, argv[1]) : NULL;
	size_t n = 0;
	bool *used;
	int status;

	if (argc != 2)
		return tool_error("unused wants a role");
	if (policy == NULL)
		return TOOL_ERROR;
	used = calloc(policy->n_rules + 1, sizeof(*used));
	if (used == NULL) {
		policy_free(policy);
		return tool_error("out of memory");
	}
	status = read_calls(policy, used);
	for (size_t i = 0; status == TOOL_OK && i < policy->n_rules; i++) {
		if (used[i] || policy->rules[i].error != 0)
			continue;
		print_unused(&policy->rules[i]);
		n++;
	}
	free(used);
	policy_free(policy);
	return status == TOOL_OK && n > 0 ? TOOL_FAULT : status;
}
