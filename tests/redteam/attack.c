/* SPDX-License-Identifier: Apache-2.0
 *
 * Attack: see attack.h. Calls nothing but write(), read() and _exit() once the cage has closed.
 */
#include "attack.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct attack *const tables[] = {
    attacks_files, attacks_kernel, attacks_memory, attacks_network, attacks_process, attacks_resources,
};
#define N_TABLES (sizeof(tables) / sizeof(tables[0]))

static char parameters[8192];
static int result_fd = ATTACK_FD_RESULT, hold_fd = ATTACK_FD_HOLD;

static void say(const char *text)
{
	size_t len = strlen(text);

	while (len > 0) {
		ssize_t n = write(result_fd, text, len);

		if (n <= 0)
			_exit(1);
		text += n;
		len -= (size_t)n;
	}
}

void attack_step(const char *call)
{
	say("try ");
	say(call);
	say("\n");
}

long attack_result(long result)
{
	int error = errno;
	const char *name = result == -1 ? strerrorname_np(error) : "0";

	say("saw ");
	say(name != NULL ? name : "?");
	say("\n");
	errno = error;
	return result;
}

void attack_give(const void *data, size_t len)
{
	static const char digits[] = "0123456789abcdef";
	char hex[3] = "";

	say("got ");
	for (size_t i = 0; i < len; i++) {
		unsigned char byte = ((const unsigned char *)data)[i];

		hex[0] = digits[byte >> 4];
		hex[1] = digits[byte & 15];
		say(hex);
	}
	say("\n");
}

void attack_give_file(int fd)
{
	char buffer[4096];
	ssize_t n = TRY(read, read(fd, buffer, sizeof(buffer)));

	if (n > 0)
		attack_give(buffer, (size_t)n);
}

const char *attack_text(const char *name)
{
	size_t len = strlen(name);
	const char *at = parameters;

	/* NUL-separated, as attack_from_environment() left them. */
	for (; *at != '\0'; at += strlen(at) + 1)
		if (strncmp(at, name, len) == 0 && at[len] == '=')
			return at + len + 1;
	return "";
}

uint64_t attack_number(const char *name)
{
	return strtoull(attack_text(name), NULL, 0);
}

static const struct attack *find(const char *name)
{
	for (size_t i = 0; i < N_TABLES; i++)
		for (const struct attack *attack = tables[i]; attack->name != NULL; attack++)
			if (strcmp(attack->name, name) == 0)
				return attack;
	return NULL;
}

const struct attack *attack_from_environment(void)
{
	const char *name = getenv("REDTEAM_ATTACK");
	const char *given = getenv("REDTEAM_PARAMETERS");

	if (name == NULL)
		return NULL;
	if (getenv("REDTEAM_PROGRAM") != NULL && getenv("REDTEAM_LAYERS") == NULL) {
		/* A launcher's program: its output, and its data. */
		result_fd = STDOUT_FILENO;
		hold_fd = 3;
	}
	if (given != NULL)
		snprintf(parameters, sizeof(parameters) - 1, "%s", given);
	for (char *at = parameters; *at != '\0'; at++)
		if (*at == '\n')
			*at = '\0';
	return find(name);
}

void attack_run(const struct attack *attack)
{
	char byte;

	attack->attempt();
	say("end\n");
	/* The runner looks at this process now; what it holds, it holds until then. */
	while (read(hold_fd, &byte, 1) < 0 && errno == EINTR)
		;
	_exit(0);
}

void attack_list(void)
{
	for (size_t i = 0; i < N_TABLES; i++)
		for (const struct attack *attack = tables[i]; attack->name != NULL; attack++)
			printf("{\"name\": \"%s\", \"number\": %d, \"object\": \"%s\", \"primitive\": \"%s\", "
			       "\"base\": \"%s\"}\n",
			       attack->name, attack->number, attack->object, attack->primitive,
			       attack->base == BASE_ROOT ? "root" : "user");
}
