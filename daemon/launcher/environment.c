/* SPDX-License-Identifier: Apache-2.0
 *
 * Environment: see environment.h.
 */
#include "environment.h"

#include <errno.h>
#include <stdlib.h>

static const char *const fact_names[] = {
#define FACT_NAME(name) "HANDOFF_" name "=",
    ENVIRONMENT_FACTS(FACT_NAME)
#undef FACT_NAME
};
#define N_FACTS (sizeof(fact_names) / sizeof(fact_names[0]))

static char default_path[] = "PATH=/usr/bin:/bin";
static char data_fd[] = "HANDOFF_DATA_FD=3";

static bool begins_with(const char *text, const char *with)
{
	return strncmp(text, with, strlen(with)) == 0;
}

static bool has_control(const char *text)
{
	for (; *text != '\0'; text++)
		if ((unsigned char)*text < 0x20 || *text == 0x7f)
			return true;
	return false;
}

/* Which fact a string tells, or -EBADMSG. */
static int fact_of(const char *text)
{
	for (size_t i = 0; i < N_FACTS; i++)
		if (begins_with(text, fact_names[i]))
			return (int)i;
	return -EBADMSG;
}

/* Check the n strings that fill block, and add those that can be told to variables. Returns how many, or -EBADMSG. */
static int facts_add(char *block, size_t len, size_t n, char **variables)
{
	bool told[N_FACTS] = {false};
	int added = 0;

	for (size_t i = 0; i < n; i++) {
		size_t end = strnlen(block, len);
		int fact = end < len ? fact_of(block) : -EBADMSG;

		if (fact < 0 || told[fact])
			return -EBADMSG;
		told[fact] = true;
		if (!has_control(block))
			variables[added++] = block;
		block += end + 1;
		len -= end + 1;
	}
	return len == 0 ? added : -EBADMSG;
}

/* What the section says; its PATH takes the place of ours. */
static size_t section_add(const struct config_handler *handler, char **variables)
{
	size_t n = 1;

	variables[0] = default_path;
	for (size_t i = 0; i < handler->environment.n; i++) {
		/* execve() takes what it does not write to without const. */
		char *variable = (char *)(uintptr_t)handler->environment.item[i];

		if (begins_with(variable, "PATH="))
			variables[0] = variable;
		else
			variables[n++] = variable;
	}
	return n;
}

int environment_make(struct environment *environment, const struct config_handler *handler, struct span facts, size_t n,
                     char *data)
{
	size_t used;
	int added;

	*environment = (struct environment){0};
	if (n > N_FACTS)
		return -EBADMSG;
	environment->block = malloc(facts.len + 1);
	environment->block_len = facts.len;
	environment->variables = calloc(handler->environment.n + N_FACTS + 4, sizeof(char *));
	if (environment->block == NULL || environment->variables == NULL) {
		environment_free(environment);
		return -ENOMEM;
	}
	if (facts.len > 0)
		memcpy(environment->block, facts.data, facts.len);
	used = section_add(handler, environment->variables);
	added = facts_add(environment->block, facts.len, n, environment->variables + used);
	if (added < 0) {
		environment_free(environment);
		return added;
	}
	used += (size_t)added;
	environment->variables[used++] = data_fd;
	environment->variables[used] = data;
	return 0;
}

void environment_free(struct environment *environment)
{
	if (environment->block != NULL)
		explicit_bzero(environment->block, environment->block_len);
	free(environment->block);
	free((void *)environment->variables);
	*environment = (struct environment){0};
}
