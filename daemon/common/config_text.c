/* SPDX-License-Identifier: Apache-2.0
 *
 * Configuration text: what libconfuse 3.3 should not see.
 *
 * It counts the lines of comments twice, so comments are blanked here. It takes the end of the file for the end of a
 * section. And it would put environment variables in place of ${NAME}: a configuration that depends on who starts us is
 * none, so a text with "${" outside comments is refused (the roles' environment is empty anyway).
 */
#include "config_text.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "lib/fdpass.h"

#define CONFIG_FILE_MAX (1024 * 1024)

/* The bytes of an open file, or NULL with what is wrong. */
static char *read_all(int fd, const char **wrong)
{
	struct stat status;
	char *text;

	if (fstat(fd, &status) < 0) {
		*wrong = strerror(errno);
		return NULL;
	}
	*wrong = NULL;
	if (!S_ISREG(status.st_mode) || status.st_size > CONFIG_FILE_MAX)
		*wrong = "not a regular file of at most 1 MiB";
	else if ((status.st_mode & S_IWOTH) != 0)
		*wrong = "everybody may write to this file";
	else if (status.st_size == 0)
		*wrong = "the file is empty";
	if (*wrong != NULL)
		return NULL;

	text = calloc(1, (size_t)status.st_size + 1);
	if (text == NULL) {
		*wrong = "out of memory";
		return NULL;
	}
	if (pread(fd, text, (size_t)status.st_size, 0) != status.st_size || strlen(text) != (size_t)status.st_size) {
		*wrong = "the file cannot be read whole, or holds a NUL byte";
		free(text);
		return NULL;
	}
	return text;
}

/* First byte after a quoted string that starts at c. */
static const char *skip_string(const char *c)
{
	char quote = *c++;

	while (*c != '\0' && *c != quote)
		c += c[0] == '\\' && c[1] != '\0' ? 2 : 1;
	return *c == '\0' ? c : c + 1;
}

/* Blank from c up to end, keeping the lines. */
static void blank(char *c, const char *end)
{
	for (; c < end; c++)
		if (*c != '\n')
			*c = ' ';
}

static void blank_comments(char *text)
{
	for (char *c = text; *c != '\0';) {
		char *end = c;

		if (*c == '"' || *c == '\'') {
			c += skip_string(c) - c;
			continue;
		}
		if (*c == '#' || (c[0] == '/' && c[1] == '/')) {
			end = c + strcspn(c, "\n");
		} else if (c[0] == '/' && c[1] == '*') {
			end = strstr(c + 2, "*/");
			/* One that does not end is left for libconfuse to complain about. */
			if (end == NULL)
				return;
			end += 2;
		}
		blank(c, end);
		c = end > c ? end : c + 1;
	}
}

static int line_at(const char *text, const char *place)
{
	int line = 1;

	for (; text < place; text++)
		line += *text == '\n';
	return line;
}

/* The next brace from c on that is not quoted, or the end of the text. */
static const char *next_brace(const char *c)
{
	while (*c != '\0' && *c != '{' && *c != '}')
		c = *c == '"' || *c == '\'' ? skip_string(c) : c + 1;
	return c;
}

/* The opening brace of the section that is still open at the end of the text, or NULL. */
static const char *find_unclosed(const char *text)
{
	const char *opening = NULL;
	int depth = 0;

	for (const char *c = next_brace(text); *c != '\0'; c = next_brace(c + 1)) {
		if (*c == '{' && depth++ == 0)
			opening = c;
		else if (*c == '}')
			depth--;
	}
	return depth > 0 ? opening : NULL;
}

int config_text_opening(const char *text, int closing_line)
{
	const char *opening = text;
	int depth = 0;

	for (const char *c = next_brace(text); *c != '\0'; c = next_brace(c + 1)) {
		if (*c == '{' && depth++ == 0)
			opening = c;
		else if (*c == '}' && --depth == 0 && line_at(text, c) == closing_line)
			break;
	}
	return line_at(text, opening);
}

/* Where the text has what it must not have, or NULL. */
static const char *find_wrong(const char *text, const char **wrong)
{
	const char *found = strstr(text, "${");

	*wrong = "\"${\" is not allowed: environment variables are not put in here";
	if (found != NULL)
		return found;
	*wrong = "this section is not closed";
	return find_unclosed(text);
}

char *config_text_read(const char *file, const char **wrong, int *line)
{
	int fd FD_CLEANUP = open(file, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	char *text;

	*line = 0;
	if (fd < 0) {
		*wrong = strerror(errno);
		return NULL;
	}
	text = read_all(fd, wrong);
	if (text == NULL)
		return NULL;
	blank_comments(text);

	const char *found = find_wrong(text, wrong);
	if (found != NULL) {
		*line = line_at(text, found);
		free(text);
		return NULL;
	}
	return text;
}
