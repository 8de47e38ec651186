/* SPDX-License-Identifier: Apache-2.0
 *
 * The parser of the policy language: one statement a line, read into struct policy. docs/policy.md describes the
 * language.
 */
#include <errno.h>
#include <seccomp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "condition.h"
#include "language.h"

#define INCLUDE_DEPTH_MAX 4

struct parser {
	struct policy *policy;
	const char *file;
	unsigned line;
	unsigned depth; /* of includes */
	char *reason;   /* of the current line; whoever keeps it makes this NULL */
	char *error;
	size_t error_size;
};

#define WORD(w) (int)(w).len, (const char *)(w).data

__attribute__((format(printf, 2, 3))) static int faulty(const struct parser *parser, const char *format, ...)
{
	va_list arguments;
	int n = snprintf(parser->error, parser->error_size, "%s:%u: ", parser->file, parser->line);

	va_start(arguments, format);
	if (n >= 0 && (size_t)n < parser->error_size)
		vsnprintf(parser->error + n, parser->error_size - (size_t)n, format, arguments);
	va_end(arguments);
	return -EINVAL;
}

/* Room for one more element. Returns the new, zeroed one, or NULL. */
static void *append(void **array, size_t *n, size_t size)
{
	uint8_t *grown = realloc(*array, (*n + 1) * size);

	if (grown == NULL)
		return NULL;
	*array = grown;
	return memset(grown + (*n)++ * size, 0, size);
}

static char *copy_word(struct span word)
{
	return strndup((const char *)word.data, word.len);
}

/* ---------------------------------------------------------------- system calls */

/* A name that neither of the supported architectures has is a misspelling; one that only the other has is kept, and
 * skipped by the compiler. */
static bool call_exists(const char *call)
{
	return seccomp_syscall_resolve_name_arch(SCMP_ARCH_X86_64, call) >= 0 ||
	       seccomp_syscall_resolve_name_arch(SCMP_ARCH_AARCH64, call) >= 0;
}

/* libseccomp would silently widen a conditional rule by an unconditional one, and the order of overlapping rules with
 * different results would decide; so neither is accepted. */
static int check_against_others(const struct parser *parser, const struct policy_rule *rule)
{
	for (const struct policy_rule *other = parser->policy->rules; other < rule; other++) {
		if (strcmp(other->call, rule->call) != 0 || !policy_rules_overlap(other, rule))
			continue;
		if (other->error != rule->error)
			return faulty(parser, "%s has another result for the same arguments in %s:%u", rule->call,
			              other->file, other->line);
		if (policy_rule_covers(other, rule) || policy_rule_covers(rule, other))
			return faulty(parser, "%s is granted already, in whole or in part, in %s:%u", rule->call,
			              other->file, other->line);
	}
	return 0;
}

/* chosen: for each argument which of its alternatives. */
static int add_rule(struct parser *parser, const char *call, int error, const struct condition_list *list,
                    const size_t chosen[POLICY_ARGS])
{
	struct policy *policy = parser->policy;
	struct policy_rule *rule = append((void **)&policy->rules, &policy->n_rules, sizeof(*policy->rules));

	if (rule == NULL)
		return faulty(parser, "out of memory");
	rule->call = strdup(call);
	rule->error = error;
	rule->file = parser->file;
	rule->line = parser->line;
	rule->reason = parser->reason == NULL ? NULL : strdup(parser->reason);
	for (size_t arg = 0; arg < POLICY_ARGS; arg++)
		rule->conditions[arg] = list->args[arg].alternatives[chosen[arg]];
	if (rule->call == NULL || (parser->reason != NULL && rule->reason == NULL))
		return faulty(parser, "out of memory");
	return check_against_others(parser, rule);
}

/* Counts through all combinations of alternatives; false after the last. */
static bool next_choice(const struct condition_list *list, size_t chosen[POLICY_ARGS])
{
	for (size_t arg = 0; arg < POLICY_ARGS; arg++) {
		if (++chosen[arg] < list->args[arg].n)
			return true;
		chosen[arg] = 0;
	}
	return false;
}

/* CALL [if CONDITIONS], from words[at] on. */
static int parse_call(struct parser *parser, const struct words *words, size_t at, int error)
{
	struct condition_list list = {0};
	size_t chosen[POLICY_ARGS] = {0};
	char call[64];
	char wrong[256];
	int rc;

	if (at >= words->n || words->word[at].len >= sizeof(call))
		return faulty(parser, "expected the name of a system call");
	snprintf(call, sizeof(call), "%.*s", WORD(words->word[at]));
	if (!call_exists(call))
		return faulty(parser, "no system call %s on x86-64 or aarch64", call);
	if (at + 1 < words->n) {
		if (!span_equal_string(words->word[at + 1], "if"))
			return faulty(parser, "expected `if` after %s", call);
		if (condition_list_parse(call, words, at + 2, &list, wrong, sizeof(wrong)) != 0)
			return faulty(parser, "%s", wrong);
	}
	do
		rc = add_rule(parser, call, error, &list, chosen);
	while (rc == 0 && next_choice(&list, chosen));
	return rc;
}

static int parse_allow(struct parser *parser, const struct words *words)
{
	/* What a spawner leaves though others are denied it may be said, with its reason. */
	if (parser->policy->allows_the_rest && (words->n != 2 || parser->reason == NULL))
		return faulty(parser, "everything is allowed already: default allow");
	return parse_call(parser, words, 1, 0);
}

static int parse_kill(struct parser *parser, const struct words *words)
{
	if (!parser->policy->allows_the_rest)
		return faulty(parser, "kill stands where the default is allow, and below it");
	return parse_call(parser, words, 1, POLICY_KILL);
}

static int parse_errno(struct parser *parser, const struct words *words)
{
	uint64_t error;

	if (words->n < 3 || words->word[1].data[0] != 'E' || !policy_constant(words->word[1], &error))
		return faulty(parser, "expected `errno ENAME CALL`");
	return parse_call(parser, words, 2, (int)error);
}

/* ---------------------------------------------------------------- Landlock, rlimits, MDWE */

static int parse_need(struct parser *parser, struct span word, enum policy_need *need)
{
	if (*need != NEED_UNSTATED)
		return faulty(parser, "stated twice");
	if (span_equal_string(word, "required"))
		*need = NEED_REQUIRED;
	else if (span_equal_string(word, "where-available"))
		*need = NEED_WHERE_AVAILABLE;
	else
		return faulty(parser, "expected `required` or `where-available`");
	return 0;
}

/* landlock path ACCESS PATH */
static int parse_path(struct parser *parser, const struct words *words)
{
	struct policy *policy = parser->policy;
	struct policy_path *path;
	uint64_t access;

	if (words->n != 4 || words->word[3].data[0] != '/')
		return faulty(parser, "expected `landlock path ACCESS /PATH`");
	if (span_equal_string(words->word[2], "read-file"))
		access = PATH_READ_FILE;
	else if (span_equal_string(words->word[2], "read-dir"))
		access = PATH_READ_DIR;
	else if (span_equal_string(words->word[2], "read"))
		access = PATH_READ_FILE | PATH_READ_DIR;
	else if (span_equal_string(words->word[2], "execute"))
		access = PATH_READ_FILE | PATH_READ_DIR | PATH_EXECUTE;
	else
		return faulty(parser, "access is read-file, read-dir, read or execute");
	if ((access & PATH_EXECUTE) != 0 && policy->facts[FACT_EXEC] == FACT_STRICT)
		return faulty(parser, "exec is no, yet %.*s may be executed", WORD(words->word[3]));
	path = append((void **)&policy->paths, &policy->n_paths, sizeof(*policy->paths));
	if (path == NULL)
		return faulty(parser, "out of memory");
	path->access = access;
	path->line = parser->line;
	path->path = copy_word(words->word[3]);
	path->reason = parser->reason;
	parser->reason = NULL;
	return path->path == NULL ? faulty(parser, "out of memory") : 0;
}

/* landlock RIGHT deny abi N NEED | landlock RIGHT open | landlock path ... */
static int parse_landlock(struct parser *parser, const struct words *words)
{
	size_t right = 0;
	char abi[8];

	if (words->n < 3)
		return faulty(parser, "expected `landlock RIGHT deny abi N required|where-available`");
	if (span_equal_string(words->word[1], "path"))
		return parse_path(parser, words);
	while (right < RIGHT_COUNT && !span_equal_string(words->word[1], landlock_rights[right].name))
		right++;
	if (right == RIGHT_COUNT)
		return faulty(parser, "unknown Landlock right %.*s", WORD(words->word[1]));
	if (words->n == 3 && span_equal_string(words->word[2], "open")) {
		if (parser->policy->landlock[right] != NEED_UNSTATED)
			return faulty(parser, "stated twice");
		if (parser->reason == NULL)
			return faulty(parser, "%s is left open without a reason", landlock_rights[right].name);
		parser->policy->landlock[right] = NEED_OPEN;
		return 0;
	}
	if (words->n != 6 || !span_equal_string(words->word[2], "deny") || !span_equal_string(words->word[3], "abi"))
		return faulty(parser, "expected `landlock RIGHT deny abi N required|where-available`");
	snprintf(abi, sizeof(abi), "%d", landlock_rights[right].abi);
	if (!span_equal_string(words->word[4], abi))
		return faulty(parser, "%s needs Landlock ABI %s", landlock_rights[right].name, abi);
	return parse_need(parser, words->word[5], &parser->policy->landlock[right]);
}

static int parse_mdwe(struct parser *parser, const struct words *words)
{
	if (words->n != 2)
		return faulty(parser, "expected `mdwe required|where-available`");
	return parse_need(parser, words->word[1], &parser->policy->mdwe);
}

static int parse_rlimit(struct parser *parser, const struct words *words)
{
	static const struct {
		const char *name;
		int resource;
	} names[] = {{"core", RLIMIT_CORE},         {"data", RLIMIT_DATA},     {"fsize", RLIMIT_FSIZE},
	             {"memlock", RLIMIT_MEMLOCK},   {"nofile", RLIMIT_NOFILE}, {"nproc", RLIMIT_NPROC},
	             {"msgqueue", RLIMIT_MSGQUEUE}, {"stack", RLIMIT_STACK}};
	struct policy_rlimit *rlimit;
	uint64_t value = 0;
	char wrong[128];
	size_t i = 0;

	if (words->n != 3)
		return faulty(parser, "expected `rlimit NAME N|hard`");
	while (i < sizeof(names) / sizeof(names[0]) && !span_equal_string(words->word[1], names[i].name))
		i++;
	if (i == sizeof(names) / sizeof(names[0]))
		return faulty(parser, "unknown limit %.*s", WORD(words->word[1]));
	rlimit = &parser->policy->rlimits[names[i].resource];
	if (rlimit->stated)
		return faulty(parser, "stated twice");
	rlimit->stated = true;
	rlimit->hard = span_equal_string(words->word[2], "hard");
	if (!rlimit->hard && value_parse(words->word[2], &value, wrong, sizeof(wrong)) != 0)
		return faulty(parser, "%s", wrong);
	rlimit->value = value;
	return 0;
}

/* ---------------------------------------------------------------- files */

static const struct {
	const char *name;
	const char *strict;
	const char *wide; /* NULL: there is no other value */
} facts[FACT_COUNT] = {
    [FACT_DEFAULT] = {"default", "kill", "allow"},
    [FACT_UNKNOWN] = {"unknown", "ENOSYS", NULL},
    [FACT_CAPABILITIES] = {"capabilities", "none", "kept"},
    [FACT_DUMPABLE] = {"dumpable", "no", "yes"},
    [FACT_EXEC] = {"exec", "no", "yes"},
    [FACT_FORK] = {"fork", "no", "yes"},
};

static int parse_fact(struct parser *parser, const struct words *words, enum policy_fact fact)
{
	bool strict = words->n == 2 && span_equal_string(words->word[1], facts[fact].strict);
	bool wide = words->n == 2 && facts[fact].wide != NULL && span_equal_string(words->word[1], facts[fact].wide);

	if (!strict && !wide)
		return faulty(parser, "%s can only be %s%s%s", facts[fact].name, facts[fact].strict,
		              facts[fact].wide != NULL ? " or " : "", facts[fact].wide != NULL ? facts[fact].wide : "");
	if (parser->policy->facts[fact] != FACT_UNSTATED)
		return faulty(parser, "stated twice");
	if (wide && parser->reason == NULL &&
	    (fact == FACT_DEFAULT || fact == FACT_CAPABILITIES || fact == FACT_DUMPABLE))
		return faulty(parser, "%s %s without a reason", facts[fact].name, facts[fact].wide);
	parser->policy->facts[fact] = wide ? FACT_WIDE : FACT_STRICT;
	if (fact == FACT_DEFAULT && wide && parser->policy->n_rules > 0)
		return faulty(parser, "default allow stands before the first rule");
	parser->policy->allows_the_rest |= fact == FACT_DEFAULT && wide;
	return 0;
}

static int parse_text(struct parser *parser, struct span text);

static int parse_include(struct parser *parser, const struct words *words)
{
	struct parser included = *parser;
	struct span text;
	char name[32];

	if (words->n != 2 || words->word[1].len >= sizeof(name))
		return faulty(parser, "expected `include NAME`");
	snprintf(name, sizeof(name), "%.*s", WORD(words->word[1]));
	text = policy_builtin(name, &included.file);
	if (text.data == NULL)
		return faulty(parser, "there is no list %s", name);
	if (parser->depth == INCLUDE_DEPTH_MAX)
		return faulty(parser, "includes are nested too deeply");
	included.depth++;
	included.reason = NULL;
	return parse_text(&included, text);
}

/* First statement of each file: `role NAME`, or `list NAME` where it is included. */
static int parse_title(struct parser *parser, const struct words *words)
{
	bool is_list = span_equal_string(words->word[0], "list");

	if (words->n != 2 || (!is_list && !span_equal_string(words->word[0], "role")))
		return faulty(parser, "a policy begins with `role NAME` or `list NAME`");
	if (parser->depth > 0)
		return is_list ? 0 : faulty(parser, "only a list can be included");
	if (words->word[1].len >= sizeof(parser->policy->role))
		return faulty(parser, "the name is too long");
	memcpy(parser->policy->role, words->word[1].data, words->word[1].len);
	parser->policy->is_list = is_list;
	return 0;
}

static int parse_statement(struct parser *parser, const struct words *words)
{
	static const struct {
		const char *name;
		bool in_list;
		int (*parse)(struct parser *parser, const struct words *words);
	} statements[] = {
	    {"allow", true, parse_allow},        {"errno", true, parse_errno}, {"include", true, parse_include},
	    {"landlock", false, parse_landlock}, {"mdwe", false, parse_mdwe},  {"rlimit", false, parse_rlimit},
	    {"kill", false, parse_kill},
	};
	bool in_list = parser->depth > 0 || parser->policy->is_list;

	for (size_t i = 0; i < sizeof(statements) / sizeof(statements[0]); i++) {
		if (!span_equal_string(words->word[0], statements[i].name))
			continue;
		if (in_list && !statements[i].in_list)
			return faulty(parser, "%s stands in a role's file, not in a list", statements[i].name);
		return statements[i].parse(parser, words);
	}
	for (enum policy_fact fact = 0; fact < FACT_COUNT; fact++)
		if (!in_list && span_equal_string(words->word[0], facts[fact].name))
			return parse_fact(parser, words, fact);
	return faulty(parser, "unknown statement %.*s", WORD(words->word[0]));
}

static bool is_blank(uint8_t byte)
{
	return byte == ' ' || byte == '\t';
}

static struct span trim(struct span text)
{
	while (text.len > 0 && is_blank(text.data[0]))
		text = span_of(text.data + 1, text.len - 1);
	while (text.len > 0 && is_blank(text.data[text.len - 1]))
		text.len--;
	return text;
}

static int split_words(const struct parser *parser, struct span text, struct words *words)
{
	words->n = 0;
	for (size_t i = 0; i < text.len;) {
		size_t start;

		while (i < text.len && is_blank(text.data[i]))
			i++;
		start = i;
		while (i < text.len && !is_blank(text.data[i])) {
			if (text.data[i] <= ' ' || text.data[i] > '~')
				return faulty(parser, "byte 0x%02x outside a comment", text.data[i]);
			i++;
		}
		if (i == start)
			break;
		if (words->n == WORDS_MAX)
			return faulty(parser, "more than %d words", WORDS_MAX);
		words->word[words->n++] = span_of(text.data + start, i - start);
	}
	return 0;
}

/* Take the trailing comment off a line and keep it as the line's reason. */
static int take_reason(struct parser *parser, struct span *line)
{
	const uint8_t *hash = line->len == 0 ? NULL : memchr(line->data, '#', line->len);
	struct span comment;

	if (hash == NULL)
		return 0;
	comment = trim(span_of(hash + 1, line->len - (size_t)(hash - line->data) - 1));
	line->len = (size_t)(hash - line->data);
	if (comment.len == 0)
		return 0;
	parser->reason = copy_word(comment);
	return parser->reason == NULL ? faulty(parser, "out of memory") : 0;
}

static int parse_text(struct parser *parser, struct span text)
{
	struct words words;
	bool titled = false;
	int rc = 0;

	for (parser->line = 1; rc == 0 && text.len > 0; parser->line++) {
		const uint8_t *end = memchr(text.data, '\n', text.len);
		struct span line = span_of(text.data, end == NULL ? text.len : (size_t)(end - text.data));

		text = span_of(line.data + line.len + (end != NULL), text.len - line.len - (end != NULL));
		parser->reason = NULL;
		rc = take_reason(parser, &line);
		if (rc == 0)
			rc = split_words(parser, line, &words);
		if (rc == 0 && words.n > 0) {
			rc = titled ? parse_statement(parser, &words) : parse_title(parser, &words);
			titled = true;
		}
		free(parser->reason);
	}
	parser->reason = NULL;
	if (rc == 0 && !titled)
		return faulty(parser, "the file is empty");
	return rc;
}

/* A role's file says everything; what it grants agrees with what it says. */
static int check_whole(struct parser *parser)
{
	static const char *const forks[] = {"clone", "clone3", "fork", "vfork"};
	static const char *const execs[] = {"execve", "execveat"};
	const struct policy *policy = parser->policy;

	for (enum policy_fact fact = 0; fact < FACT_COUNT; fact++)
		if (policy->facts[fact] == FACT_UNSTATED)
			return faulty(parser, "`%s %s` is missing", facts[fact].name, facts[fact].strict);
	if (policy->allows_the_rest && (policy->facts[FACT_FORK] != FACT_WIDE || policy->facts[FACT_EXEC] != FACT_WIDE))
		return faulty(parser, "default allow is for what forks and executes others");
	for (size_t right = 0; right < RIGHT_COUNT; right++)
		if (policy->landlock[right] == NEED_UNSTATED)
			return faulty(parser, "`landlock %s` is missing", landlock_rights[right].name);
	if (policy->facts[FACT_DUMPABLE] == FACT_WIDE && policy->facts[FACT_EXEC] == FACT_STRICT)
		return faulty(parser, "dumpable yes is for what executes programs");
	if (policy->landlock[RIGHT_FS] == NEED_OPEN && policy->n_paths > 0)
		return faulty(parser, "paths are granted, yet `landlock fs` is open");
	if (policy->mdwe == NEED_UNSTATED)
		return faulty(parser, "`mdwe` is missing");
	if (!policy->rlimits[RLIMIT_CORE].stated)
		return faulty(parser, "`rlimit core` is missing");
	for (const struct policy_rule *rule = policy->rules; rule < policy->rules + policy->n_rules; rule++) {
		for (size_t i = 0; rule->error == 0 && i < sizeof(forks) / sizeof(forks[0]); i++)
			if (policy->facts[FACT_FORK] == FACT_STRICT && strcmp(rule->call, forks[i]) == 0)
				return faulty(parser, "fork is no, yet %s:%u allows %s", rule->file, rule->line,
				              rule->call);
		for (size_t i = 0; rule->error == 0 && i < sizeof(execs) / sizeof(execs[0]); i++)
			if (policy->facts[FACT_EXEC] == FACT_STRICT && strcmp(rule->call, execs[i]) == 0)
				return faulty(parser, "exec is no, yet %s:%u allows %s", rule->file, rule->line,
				              rule->call);
	}
	return 0;
}

struct policy *policy_parse(const char *file, struct span text, char *error, size_t error_size)
{
	struct parser parser = {.file = file, .error = error, .error_size = error_size};
	int rc;

	parser.policy = calloc(1, sizeof(*parser.policy));
	if (parser.policy == NULL) {
		snprintf(error, error_size, "%s: out of memory", file);
		return NULL;
	}
	rc = parse_text(&parser, text);
	if (rc == 0 && !parser.policy->is_list)
		rc = check_whole(&parser);
	if (rc != 0) {
		policy_free(parser.policy);
		return NULL;
	}
	return parser.policy;
}

void policy_free(struct policy *policy)
{
	if (policy == NULL)
		return;
	for (size_t i = 0; i < policy->n_rules; i++) {
		free(policy->rules[i].call);
		free(policy->rules[i].reason);
	}
	for (size_t i = 0; i < policy->n_paths; i++) {
		free(policy->paths[i].path);
		free(policy->paths[i].reason);
	}
	free(policy->rules);
	free(policy->paths);
	free(policy->override);
	free(policy);
}
