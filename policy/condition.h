/* SPDX-License-Identifier: Apache-2.0
 *
 * Conditions: what follows `if` in a policy line, brought to the form (argument & mask) == value.
 */
#ifndef HANDOFFD_POLICY_CONDITION_H
#define HANDOFFD_POLICY_CONDITION_H

#include "language.h"

/* Words of one line, borrowed from the text. */
#define WORDS_MAX 64
struct words {
	struct span word[WORDS_MAX];
	size_t n;
};

#define ALTERNATIVES_MAX 32

/* All conditions of a line: for each argument nothing, one condition, or one for each value of an `in`. */
struct condition_list {
	struct {
		struct policy_condition alternatives[ALTERNATIVES_MAX];
		size_t n;
	} args[POLICY_ARGS];
};

/* Read words[first..] ("NAME OP VALUE and ...") for a call. Returns 0, or -EINVAL with what is wrong (no file and
 * line) in error. */
int condition_list_parse(const char *call, const struct words *words, size_t first, struct condition_list *list,
                         char *error, size_t error_size);

/* A number, a constant, or several joined by |. 0 or -EINVAL as above. */
int value_parse(struct span text, uint64_t *value, char *error, size_t error_size);

#endif
