/* SPDX-License-Identifier: Apache-2.0
 *
 * Conditions: see condition.h, and docs/policy.md for the operators.
 */
#include "condition.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

struct position {
	const char *call;
	const struct words *words;
	size_t next;
	char *error;
	size_t error_size;
};

__attribute__((format(printf, 3, 4))) static int wrong(char *error, size_t size, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(error, size, format, arguments);
	va_end(arguments);
	return -EINVAL;
}

#define QUOTED(s) (int)(s).len, (const char *)(s).data

static int single_value(struct span text, uint64_t *value, char *error, size_t error_size)
{
	char number[32];
	char *end;

	if (text.len == 0)
		return wrong(error, error_size, "a value is missing");
	if (text.data[0] < '0' || text.data[0] > '9') {
		if (!policy_constant(text, value))
			return wrong(error, error_size, "unknown constant %.*s", QUOTED(text));
		return 0;
	}
	if (text.len >= sizeof(number))
		return wrong(error, error_size, "%.*s is not a number", QUOTED(text));
	memcpy(number, text.data, text.len);
	number[text.len] = '\0';
	errno = 0;
	*value = strtoull(number, &end, 0);
	if (*end != '\0' || errno != 0)
		return wrong(error, error_size, "%s is not a number", number);
	return 0;
}

/* The part of text before the separator, which is taken off text together with it. */
static struct span split(struct span *text, char separator)
{
	struct span part = *text;
	const uint8_t *end = text->len == 0 ? NULL : memchr(text->data, separator, text->len);

	if (end == NULL) {
		*text = SPAN_EMPTY;
		return part;
	}
	part.len = (size_t)(end - part.data);
	*text = span_of(end + 1, text->len - part.len - 1);
	return part;
}

int value_parse(struct span text, uint64_t *value, char *error, size_t error_size)
{
	/* A trailing separator leaves nothing to split off, and is seen here. */
	if (text.len > 0 && text.data[text.len - 1] == '|')
		return wrong(error, error_size, "a value is missing after |");
	*value = 0;
	do {
		uint64_t bits = 0;
		int rc = single_value(split(&text, '|'), &bits, error, error_size);

		if (rc != 0)
			return rc;
		*value |= bits;
	} while (text.len > 0);
	return 0;
}

static struct span next_word(struct position *at)
{
	return at->next < at->words->n ? at->words->word[at->next++] : SPAN_EMPTY;
}

static int next_value(struct position *at, uint64_t *value)
{
	return value_parse(next_word(at), value, at->error, at->error_size);
}

/* `in A,B,C`: an alternative for each. */
static int parse_in(struct position *at, struct span name, uint64_t width_mask, struct policy_condition *alternatives,
                    size_t *n)
{
	struct span values = next_word(at);

	if (*n != 0)
		return wrong(at->error, at->error_size, "%.*s already has a condition", QUOTED(name));
	if (values.len > 0 && values.data[values.len - 1] == ',')
		return wrong(at->error, at->error_size, "a value is missing after ,");
	do {
		int rc;

		if (*n == ALTERNATIVES_MAX)
			return wrong(at->error, at->error_size, "more than %d values", ALTERNATIVES_MAX);
		rc = value_parse(split(&values, ','), &alternatives[*n].value, at->error, at->error_size);
		if (rc != 0)
			return rc;
		alternatives[(*n)++].mask = width_mask;
	} while (values.len > 0);
	return 0;
}

/* What follows the argument's name: `== V`, `within M`, `has M`, `& M == V`. */
static int parse_operator(struct position *at, uint64_t width_mask, struct policy_condition *condition)
{
	struct span operation = next_word(at);
	uint64_t mask = 0;
	int rc;

	if (span_equal_string(operation, "==")) {
		condition->mask = width_mask;
		return next_value(at, &condition->value);
	}
	rc = next_value(at, &mask);
	if (rc != 0)
		return rc;
	if (span_equal_string(operation, "within")) {
		condition->mask = width_mask & ~mask;
		condition->value = 0;
		return 0;
	}
	condition->mask = mask;
	condition->value = mask;
	if (span_equal_string(operation, "has"))
		return 0;
	if (!span_equal_string(operation, "&") || !span_equal_string(next_word(at), "=="))
		return wrong(at->error, at->error_size, "expected ==, in, within, has, or & MASK ==");
	return next_value(at, &condition->value);
}

static int check_condition(struct position *at, struct span name, unsigned width, uint64_t width_mask,
                           const struct policy_condition *condition)
{
	if (width == 0 && (condition->mask != UINT64_MAX || condition->value != 0))
		return wrong(at->error, at->error_size, "%.*s is a pointer: it can only be == NULL", QUOTED(name));
	if ((condition->mask & ~width_mask) != 0 || (condition->value & ~condition->mask) != 0)
		return wrong(at->error, at->error_size, "the condition on %.*s can never be met", QUOTED(name));
	if (condition->mask == 0)
		return wrong(at->error, at->error_size, "the condition on %.*s is always met", QUOTED(name));
	return 0;
}

/* Several conditions on one argument hold together: the filter compares each argument once. */
static int merge(struct position *at, struct span name, struct policy_condition *into,
                 const struct policy_condition *from)
{
	if (((into->value ^ from->value) & into->mask & from->mask) != 0)
		return wrong(at->error, at->error_size, "the conditions on %.*s exclude each other", QUOTED(name));
	into->mask |= from->mask;
	into->value |= from->value;
	return 0;
}

static int parse_one(struct position *at, struct condition_list *list)
{
	struct span name = next_word(at);
	struct policy_condition condition = {0};
	struct policy_condition *alternatives;
	char names[128];
	unsigned width = 0;
	uint64_t width_mask;
	int arg = policy_argument(at->call, name, &width);
	size_t *n;
	int rc;

	if (arg < 0) {
		policy_argument_names(at->call, names, sizeof(names));
		return wrong(at->error, at->error_size, "%s has no argument %.*s (known: %s)", at->call, QUOTED(name),
		             names[0] == '\0' ? "none" : names);
	}
	width_mask = width == 32 ? UINT32_MAX : UINT64_MAX;
	alternatives = list->args[arg].alternatives;
	n = &list->args[arg].n;
	if (at->next < at->words->n && span_equal_string(at->words->word[at->next], "in")) {
		at->next++;
		rc = parse_in(at, name, width_mask, alternatives, n);
		for (size_t i = 0; rc == 0 && i < *n; i++)
			rc = check_condition(at, name, width, width_mask, &alternatives[i]);
		return rc;
	}
	if (*n > 1)
		return wrong(at->error, at->error_size, "%.*s already has a condition", QUOTED(name));
	*n = 1;
	rc = parse_operator(at, width_mask, &condition);
	if (rc == 0)
		rc = check_condition(at, name, width, width_mask, &condition);
	return rc == 0 ? merge(at, name, &alternatives[0], &condition) : rc;
}

int condition_list_parse(const char *call, const struct words *words, size_t first, struct condition_list *list,
                         char *error, size_t error_size)
{
	struct position at = {.call = call, .words = words, .next = first, .error = error, .error_size = error_size};

	*list = (struct condition_list){0};
	for (;;) {
		int rc = parse_one(&at, list);

		if (rc != 0 || at.next == words->n)
			return rc;
		if (!span_equal_string(next_word(&at), "and"))
			return wrong(error, error_size, "expected `and`");
	}
}

bool policy_rules_overlap(const struct policy_rule *a, const struct policy_rule *b)
{
	for (size_t i = 0; i < POLICY_ARGS; i++) {
		const struct policy_condition *x = &a->conditions[i];
		const struct policy_condition *y = &b->conditions[i];

		if (((x->value ^ y->value) & x->mask & y->mask) != 0)
			return false;
	}
	return true;
}

bool policy_rule_covers(const struct policy_rule *outer, const struct policy_rule *inner)
{
	for (size_t i = 0; i < POLICY_ARGS; i++) {
		const struct policy_condition *wide = &outer->conditions[i];
		const struct policy_condition *narrow = &inner->conditions[i];

		if ((wide->mask & ~narrow->mask) != 0 || (narrow->value & wide->mask) != wide->value)
			return false;
	}
	return true;
}
