/* SPDX-License-Identifier: Apache-2.0
 *
 * Log: see log.h. A line is put together in one buffer and written with one call that cannot block: send() with
 * MSG_DONTWAIT on a socket, write() on an open file description of our own with O_NONBLOCK elsewhere.
 */
#include "log.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

/* Writes of up to PIPE_BUF bytes to a pipe are whole or not at all, so lines of several roles never mix. */
#define LINE_MAX_LEN PIPE_BUF
/* Always left for the end of the line: " log-dropped=<number>" and the newline. */
#define LINE_RESERVE 48

static struct {
	const char *ident;
	pid_t pid;
	int level;
	bool severity_prefix;
	bool is_socket;
	uint64_t dropped;
} log_state = {.ident = "handoffd", .level = LOG_INFO};

struct line {
	char text[LINE_MAX_LEN];
	size_t len;
};

static void line_put(struct line *line, const char *text, size_t len, size_t limit)
{
	if (len > limit - line->len)
		len = limit - line->len;
	memcpy(line->text + line->len, text, len);
	line->len += len;
}

static void line_put_string(struct line *line, const char *text)
{
	line_put(line, text, strlen(text), LINE_MAX_LEN - LINE_RESERVE);
}

size_t log_escape(uint8_t byte, char out[5])
{
	switch (byte) {
	case '"':
	case '\\':
		return (size_t)snprintf(out, 5, "\\%c", byte);
	case '\n':
		return (size_t)snprintf(out, 5, "\\n");
	case '\t':
		return (size_t)snprintf(out, 5, "\\t");
	default:
		if (byte < 0x20 || byte > 0x7e)
			return (size_t)snprintf(out, 5, "\\x%02x", byte);
		out[0] = (char)byte;
		return 1;
	}
}

static bool needs_quotes(struct span value)
{
	if (value.len == 0)
		return true;
	for (size_t i = 0; i < value.len; i++)
		if (value.data[i] <= ' ' || value.data[i] > '~' || strchr("\"\\=", value.data[i]) != NULL)
			return true;
	return false;
}

/* A value that does not fit is cut at a whole escape and its closing quote is kept. */
static void line_put_value(struct line *line, struct span value)
{
	const size_t limit = LINE_MAX_LEN - LINE_RESERVE;
	bool quotes = needs_quotes(value);

	if (quotes)
		line_put(line, "\"", 1, limit);
	for (size_t i = 0; i < value.len; i++) {
		char escaped[5];
		size_t len = log_escape(value.data[i], escaped);

		if (len > limit - line->len)
			break;
		line_put(line, escaped, len, limit);
	}
	if (quotes)
		line_put(line, "\"", 1, limit + 1);
}

static void line_put_field(struct line *line, const struct log_field *field)
{
	char number[24];

	if (line->len >= LINE_MAX_LEN - LINE_RESERVE - strlen(field->name) - sizeof(number))
		return;
	line_put_string(line, " ");
	line_put_string(line, field->name);
	line_put_string(line, "=");
	if (field->is_number) {
		snprintf(number, sizeof(number), "%" PRId64, field->number);
		line_put_string(line, number);
	} else {
		line_put_value(line, field->value);
	}
}

static bool write_line(const struct line *line)
{
	ssize_t n;

	if (log_state.is_socket) {
		n = send(STDERR_FILENO, line->text, line->len, MSG_DONTWAIT | MSG_NOSIGNAL);
	} else {
		/* Where the description is not ours (log_open() could not get one), asking first is the next best. */
		struct pollfd writable = {.fd = STDERR_FILENO, .events = POLLOUT};

		if (poll(&writable, 1, 0) != 1 || (writable.revents & POLLOUT) == 0)
			return false;
		n = write(STDERR_FILENO, line->text, line->len);
	}
	return n == (ssize_t)line->len;
}

/* Whether JOURNAL_STREAM ("device:inode") names our standard error. */
static bool journal_reads(const struct stat *status)
{
	const char *stream = getenv("JOURNAL_STREAM");
	char expected[64];

	snprintf(expected, sizeof(expected), "%" PRIuMAX ":%" PRIuMAX, (uintmax_t)status->st_dev,
	         (uintmax_t)status->st_ino);
	return stream != NULL && strcmp(stream, expected) == 0;
}

/* O_NONBLOCK belongs to the open file description, which a terminal or pipe shares with our starter: open another. */
static void own_description(void)
{
	int fd = open("/proc/self/fd/2", O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);

	if (fd < 0)
		return;
	dup2(fd, STDERR_FILENO);
	close(fd);
}

void log_open(const char *ident)
{
	struct stat status;

	log_state.ident = ident;
	log_state.pid = getpid();
	if (fstat(STDERR_FILENO, &status) != 0)
		return;
	log_state.severity_prefix = journal_reads(&status);
	log_state.is_socket = S_ISSOCK(status.st_mode);
	if (S_ISFIFO(status.st_mode) || S_ISCHR(status.st_mode))
		own_description();
}

void log_level(int severity)
{
	log_state.level = severity;
}

void log_fields(int severity, const char *event, const struct log_field *fields)
{
	struct line line = {.len = 0};
	char start[96];
	char dropped[LINE_RESERVE];
	int saved_errno = errno;

	if (severity > log_state.level)
		return;
	if (log_state.severity_prefix)
		snprintf(start, sizeof(start), "<%d>%s[%d]: event=", severity, log_state.ident, (int)log_state.pid);
	else
		snprintf(start, sizeof(start), "%s[%d]: event=", log_state.ident, (int)log_state.pid);
	line_put_string(&line, start);
	line_put_value(&line, span_of_string(event));
	for (; fields->name != NULL; fields++)
		line_put_field(&line, fields);
	if (log_state.dropped != 0) {
		snprintf(dropped, sizeof(dropped), " log-dropped=%" PRIu64, log_state.dropped);
		line_put(&line, dropped, strlen(dropped), LINE_MAX_LEN - 1);
	}
	line_put(&line, "\n", 1, LINE_MAX_LEN);
	if (write_line(&line))
		log_state.dropped = 0;
	else
		log_state.dropped++;
	errno = saved_errno;
}

void fatal(const char *format, ...)
{
	char message[1024];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(message, sizeof(message), format, arguments);
	va_end(arguments);
	log_event(LOG_CRIT, "fatal", LOG_STR("message", message));
	exit(1);
}
