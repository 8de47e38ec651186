/* SPDX-License-Identifier: Apache-2.0
 *
 * explain: which line of a policy decides about a system call, and why the others do not. When all arguments that
 * matter are given, the compiled program is asked too.
 */
#include <errno.h>
#include <seccomp.h>
#include <stdio.h>
#include <stdlib.h>

#include "policy/condition.h"
#include "tool.h"

struct call {
	const char *name;
	bool given[POLICY_ARGS];
	uint64_t value[POLICY_ARGS];
};

enum match { MATCH_NO, MATCH_PERHAPS, MATCH_YES };

/* NAME=VALUE, or VALUE in its place. 0 or TOOL_ERROR after a complaint. */
static int take_argument(struct call *call, const char *text, int place)
{
	const char *equals = strchr(text, '=');
	const char *value = equals != NULL ? equals + 1 : text;
	char error[256], names[256];
	int arg = place;
	unsigned width;

	if (equals != NULL)
		arg = policy_argument(call->name, span_of(text, (size_t)(equals - text)), &width);
	if (arg < 0) {
		policy_argument_names(call->name, names, sizeof(names));
		return tool_error("%s has no argument %.*s; known are: %s", call->name, (int)(equals - text), text,
		                  names);
	}
	if (arg >= POLICY_ARGS)
		return tool_error("a system call has %d arguments at most", POLICY_ARGS);
	if (value_parse(span_of_string(value), &call->value[arg], error, sizeof(error)) != 0)
		return tool_error("%s: %s", text, error);
	call->given[arg] = true;
	return 0;
}

/* wrong: the argument that speaks against it, or the first that would have to be known. */
static enum match match_of(const struct policy_rule *rule, const struct call *call, int *wrong)
{
	enum match match = MATCH_YES;

	for (int arg = 0; arg < POLICY_ARGS; arg++) {
		const struct policy_condition *condition = &rule->conditions[arg];

		if (condition->mask == 0)
			continue;
		if (!call->given[arg]) {
			if (match == MATCH_YES)
				*wrong = arg;
			match = MATCH_PERHAPS;
		} else if ((call->value[arg] & condition->mask) != condition->value) {
			*wrong = arg;
			return MATCH_NO;
		}
	}
	return match;
}

/* The name of argument number arg, from the blank-separated list of all. */
static struct span argument_name(const char *call, int arg)
{
	static char names[256];
	const char *at = names;

	policy_argument_names(call, names, sizeof(names));
	while (arg-- > 0) {
		at += strcspn(at, " ");
		at += *at == ' ';
	}
	return span_of(at, strcspn(at, " "));
}

static void print_rule(const struct policy_rule *rule, enum match match, int wrong)
{
	static const char *const words[] = {[MATCH_NO] = "no", [MATCH_PERHAPS] = "perhaps", [MATCH_YES] = "decides"};
	char *text = tool_text(rule->file);
	struct span line = text != NULL ? tool_line(text, rule->line) : SPAN_EMPTY;
	struct span name = match != MATCH_YES ? argument_name(rule->call, wrong) : SPAN_EMPTY;

	printf("%-8s %s:%u\t%.*s\n", words[match], rule->file, rule->line, (int)line.len, (const char *)line.data);
	if (match == MATCH_NO)
		printf("         %.*s is something else\n", (int)name.len, (const char *)name.data);
	else if (match == MATCH_PERHAPS)
		printf("         depends on %.*s\n", (int)name.len, (const char *)name.data);
	free(text);
}

/* A line with several values made several rules: show it once, with the best that any of them says. */
static enum match explain_line(const struct policy *policy, size_t *at, const struct call *call)
{
	const struct policy_rule *first = &policy->rules[*at];
	enum match best = MATCH_NO;
	int wrong = 0;

	for (; *at < policy->n_rules; ++*at) {
		const struct policy_rule *rule = &policy->rules[*at];
		int why = 0;
		enum match match;

		if (rule->line != first->line || rule->file != first->file)
			break;
		match = match_of(rule, call, &why);
		if (rule == first || match > best) {
			best = match;
			wrong = why;
		}
	}
	print_rule(first, best, wrong);
	return best;
}

static void print_action(uint32_t action)
{
	uint32_t data = action & SECCOMP_RET_DATA;

	switch (action & SECCOMP_RET_ACTION_FULL) {
	case SECCOMP_RET_ALLOW:
		puts("the program: allowed");
		break;
	case SECCOMP_RET_ERRNO:
		printf("the program: fails with %s\n", strerrorname_np((int)data));
		break;
	case SECCOMP_RET_KILL_PROCESS:
		puts("the program: the process is killed");
		break;
	default:
		printf("the program: 0x%08x\n", action);
	}
}

static int ask_program(const struct policy *policy, const struct call *call)
{
	struct sock_fprog program;
	struct seccomp_data data = {.arch = seccomp_arch_native(), .nr = seccomp_syscall_resolve_name(call->name)};
	char error[256];

	if (data.nr < 0) {
		puts("this architecture has no such call");
		return TOOL_OK;
	}
	for (size_t i = 0; i < POLICY_ARGS; i++)
		data.args[i] = call->value[i];
	if (policy_compile(policy, SCMP_ARCH_NATIVE, POLICY_ENFORCE, &program, error, sizeof(error)) != 0)
		return tool_error("%s", error);
	print_action(policy_program_run(&program, &data));
	free(program.filter);
	return TOOL_OK;
}

static int explain(const struct policy *policy, const struct call *call)
{
	enum match best = MATCH_NO;
	bool is_error = false;

	for (size_t i = 0; i < policy->n_rules;) {
		const struct policy_rule *rule = &policy->rules[i];

		if (strcmp(rule->call, call->name) != 0) {
			i++;
			continue;
		}
		enum match match = explain_line(policy, &i, call);
		if (match > best) {
			best = match;
			is_error = rule->error != 0;
		}
	}
	if (best == MATCH_PERHAPS) {
		puts("more arguments would decide");
		return TOOL_OK;
	}
	if (best == MATCH_NO)
		puts(policy->allows_the_rest ? "no line speaks of it: allowed" : "no line grants it");
	else if (is_error)
		puts("answered without being made");
	return ask_program(policy, call);
}

int tool_explain(const struct tool_options *options, int argc, char **argv)
{
	struct call call = {0};
	struct policy *policy;
	int status = TOOL_OK;

	if (argc < 3)
		return tool_error("explain wants a role and a system call");
	call.name = argv[2];
	if (seccomp_syscall_resolve_name(call.name) == __NR_SCMP_ERROR)
		return tool_error("there is no system call %s", call.name);
	for (int i = 3; i < argc && status == TOOL_OK; i++)
		status = take_argument(&call, argv[i], i - 3);
	policy = status == TOOL_OK ? tool_policy(options, argv[1]) : NULL;
	if (policy == NULL)
		return TOOL_ERROR;
	status = explain(policy, &call);
	policy_free(policy);
	return status;
}
