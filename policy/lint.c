/* SPDX-License-Identifier: Apache-2.0
 *
 * Lint: what a reviewer would ask about a policy that parses.
 */
#include <stdio.h>

#include "language.h"

/* Calls that reach outside the process or change what it may do: a grant or a false answer carries its reason. */
static const char *const wants_reason[] = {
    "accept4", "bind",     "clone",      "connect",    "fcntl",  "ioctl",      "kill",      "listen",  "memfd_create",
    "mmap",    "mprotect", "mremap",     "newfstatat", "openat", "prctl",      "prlimit64", "recvmsg", "sendmmsg",
    "sendmsg", "sendto",   "setsockopt", "shutdown",   "socket", "socketpair", "statx",     "tgkill",  "getdents64",
};

/* The arguments that such a grant must say something about. */
static const struct {
	const char *call;
	const char *args[3];
} wants_conditions[] = {
    {"accept4", {"flags"}},
    {"clone", {"flags"}},
    {"fcntl", {"cmd"}},
    {"getsockopt", {"level", "name"}},
    {"ioctl", {"request"}},
    {"madvise", {"advice"}},
    {"memfd_create", {"flags"}},
    {"mmap", {"prot", "flags"}},
    {"mprotect", {"prot"}},
    {"openat", {"flags"}},
    {"prctl", {"option"}},
    {"prlimit64", {"new"}},
    {"recvmsg", {"flags"}},
    {"sendmmsg", {"flags"}},
    {"sendmsg", {"flags"}},
    {"sendto", {"flags"}},
    {"setsockopt", {"level", "name"}},
    {"socket", {"domain", "type", "protocol"}},
    {"socketpair", {"domain", "type", "protocol"}},
};

/* Granted to nobody, whatever the reason: each undoes the filter or the separation. */
static const char *const never[] = {
    "bpf",
    "io_uring_enter",
    "io_uring_register",
    "io_uring_setup",
    "kexec_load",
    "mount",
    "open_by_handle_at",
    "perf_event_open",
    "pidfd_getfd",
    "process_vm_readv",
    "process_vm_writev",
    "ptrace",
    "setns",
    "unshare",
    "userfaultfd",
};

/* Bits that no argument of a granted call may have. */
static const struct {
	const char *call;
	const char *arg;
	const char *bits;
} forbidden_bits[] = {
    {"mmap", "prot", "PROT_EXEC"},        {"mprotect", "prot", "PROT_EXEC"},     {"sendto", "flags", "MSG_FASTOPEN"},
    {"sendmsg", "flags", "MSG_FASTOPEN"}, {"sendmmsg", "flags", "MSG_FASTOPEN"},
};

/* What a spawner may leave, saying why: each run of a handler is caged with them, before it drops them. */
static const char *const spawners[] = {"mount", "unshare"};

struct findings {
	void (*report)(void *context, const char *finding);
	void *context;
	size_t n;
};

static void find(struct findings *findings, const struct policy_rule *rule, const char *what, const char *detail)
{
	char text[256];

	snprintf(text, sizeof(text), "%s:%u: %s %s%s", rule->file, rule->line, rule->call, what, detail);
	findings->report(findings->context, text);
	findings->n++;
}

static const struct policy_condition *condition_on(const struct policy_rule *rule, const char *arg)
{
	unsigned width;
	int number = policy_argument(rule->call, span_of_string(arg), &width);

	return number < 0 ? NULL : &rule->conditions[number];
}

static bool in_list(const char *call, const char *const *list, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(call, list[i]) == 0)
			return true;
	return false;
}
#define IN_LIST(call, list) in_list((call), (list), sizeof(list) / sizeof((list)[0]))

static bool has_condition(const struct policy_rule *rule, const char *arg)
{
	const struct policy_condition *condition = condition_on(rule, arg);

	return condition != NULL && condition->mask != 0;
}

static bool excludes(const struct policy_rule *rule, const char *arg, const char *constant)
{
	const struct policy_condition *condition = condition_on(rule, arg);
	uint64_t bits = 0;

	return policy_constant(span_of_string(constant), &bits) && condition != NULL &&
	       (condition->mask & bits) == bits && (condition->value & bits) == 0;
}

/* Whoever may execute files may map them as code. */
static bool maps_a_program(const struct policy *policy, const struct policy_rule *rule)
{
	return policy->facts[FACT_EXEC] == FACT_WIDE && strcmp(rule->call, "mmap") == 0 &&
	       excludes(rule, "prot", "PROT_WRITE") && excludes(rule, "flags", "MAP_ANONYMOUS") &&
	       excludes(rule, "flags", "MAP_SHARED");
}

/* A program that is executed may lower its own limits. */
static bool limits_itself(const struct policy *policy, const struct policy_rule *rule)
{
	const struct policy_condition *pid = condition_on(rule, "pid");

	return policy->facts[FACT_EXEC] == FACT_WIDE && strcmp(rule->call, "prlimit64") == 0 &&
	       pid->mask == UINT32_MAX && pid->value == 0;
}

static void lint_conditions(struct findings *findings, const struct policy *policy, const struct policy_rule *rule)
{
	for (size_t i = 0; i < sizeof(wants_conditions) / sizeof(wants_conditions[0]); i++) {
		if (strcmp(rule->call, wants_conditions[i].call) != 0 || limits_itself(policy, rule))
			continue;
		for (size_t a = 0; a < 3 && wants_conditions[i].args[a] != NULL; a++)
			if (!has_condition(rule, wants_conditions[i].args[a]))
				find(findings, rule, "without a condition on ", wants_conditions[i].args[a]);
	}
	for (size_t i = 0; i < sizeof(forbidden_bits) / sizeof(forbidden_bits[0]); i++) {
		if (strcmp(rule->call, forbidden_bits[i].call) != 0 || maps_a_program(policy, rule))
			continue;
		if (!excludes(rule, forbidden_bits[i].arg, forbidden_bits[i].bits))
			find(findings, rule, "does not exclude ", forbidden_bits[i].bits);
	}
}

/* A list of what is denied holds at least what is granted to nobody; what a spawner may leave it names. */
static void lint_denied(struct findings *findings, const struct policy *policy)
{
	for (size_t i = 0; i < sizeof(never) / sizeof(never[0]); i++) {
		const struct policy_rule bare = {.call = (char *)(uintptr_t)never[i], .file = policy->role};
		bool settled = false;

		for (const struct policy_rule *rule = policy->rules; rule < policy->rules + policy->n_rules; rule++)
			if (strcmp(rule->call, never[i]) == 0 && policy_rule_covers(rule, &bare) &&
			    (rule->error == POLICY_KILL || (rule->error == 0 && IN_LIST(never[i], spawners))))
				settled = true;
		if (!settled)
			find(findings, &bare, "is not denied", "");
	}
}

size_t policy_lint(const struct policy *policy, void (*report)(void *context, const char *finding), void *context)
{
	struct findings findings = {.report = report, .context = context};

	for (const struct policy_rule *rule = policy->rules; rule < policy->rules + policy->n_rules; rule++) {
		if (rule->error == POLICY_KILL)
			continue;                                        /* a denial needs no excuse */
		bool left = policy->allows_the_rest && rule->error == 0; /* said for its reason only */

		if (rule->reason == NULL && (rule->error != 0 || left || IN_LIST(rule->call, wants_reason)))
			find(&findings, rule, "without a reason", "");
		if (rule->error != 0)
			continue;
		if (IN_LIST(rule->call, never) && !(left && IN_LIST(rule->call, spawners)))
			find(&findings, rule, "is granted to nobody", "");
		lint_conditions(&findings, policy, rule);
	}
	if (policy->allows_the_rest)
		lint_denied(&findings, policy);
	for (const struct policy_path *path = policy->paths; path < policy->paths + policy->n_paths; path++) {
		char text[256];

		if (path->reason != NULL)
			continue;
		snprintf(text, sizeof(text), "line %u: %s without a reason", path->line, path->path);
		report(context, text);
		findings.n++;
	}
	return findings.n;
}

/* Filters are asked one after the other and the strictest answer counts, of two errors the inner: what the spawner
 * denies must not be granted below it, and must not turn an error into a kill. */
static void lint_inherited_rules(struct findings *findings, const struct policy_rule *denied,
                                 const struct policy *child)
{
	for (const struct policy_rule *rule = child->rules; rule < child->rules + child->n_rules; rule++) {
		bool matters = denied->error == POLICY_KILL ? rule->error != POLICY_KILL : rule->error == 0;

		if (matters && strcmp(rule->call, denied->call) == 0 && policy_rules_overlap(rule, denied))
			find(findings, denied, "is denied, and has another result for a child: ", child->role);
	}
}

size_t policy_lint_spawner(const struct policy *spawner, const struct policy *child,
                           void (*report)(void *context, const char *finding), void *context)
{
	struct findings findings = {.report = report, .context = context};
	char text[256];

	for (size_t i = 0; i < spawner->n_rules; i++)
		if (spawner->rules[i].error != 0)
			lint_inherited_rules(&findings, &spawner->rules[i], child);
	for (size_t i = 0; i < RIGHT_COUNT; i++) {
		if (spawner->landlock[i] == NEED_OPEN)
			continue;
		snprintf(text, sizeof(text), "%s: landlock %s is denied, which its children inherit", spawner->role,
		         landlock_rights[i].name);
		report(context, text);
		findings.n++;
	}
	for (size_t i = 0; i < RLIMIT_NLIMITS; i++) {
		const struct policy_rlimit *above = &spawner->rlimits[i], *below = &child->rlimits[i];

		if (!above->stated || above->hard || (below->stated && !below->hard && below->value <= above->value))
			continue;
		snprintf(text, sizeof(text), "%s: rlimit %zu is lower than that of %s", spawner->role, i, child->role);
		report(context, text);
		findings.n++;
	}
	return findings.n;
}
