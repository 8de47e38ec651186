/* SPDX-License-Identifier: Apache-2.0
 *
 * handoffctl: input and output of its commands, and the checks of their arguments.
 */
#include "ctl.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/un.h>
#include <unistd.h>

#include "lib/keyring.h"

int ctl_help(const struct command *command)
{
	return ctl_print(span_of_string(command->help));
}

int ctl_write(int fd, struct span bytes)
{
	while (bytes.len > 0) {
		ssize_t n = write(fd, bytes.data, bytes.len);
		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0)
			bytes = span_of(bytes.data + n, bytes.len - (size_t)n);
	}
	return 0;
}

int ctl_print(struct span bytes)
{
	int error = ctl_write(STDOUT_FILENO, bytes);

	return error ? ctl_error("standard output: %s", strerror(-error)) : CTL_OK;
}

int ctl_read(int fd, size_t max, uint8_t **data, size_t *len)
{
	size_t size = 0;
	int error;

	*data = NULL;
	*len = 0;
	for (;;) {
		/* One byte more than allowed shows that there is more. */
		if (*len == size) {
			size = size ? size * 2 : 65536;
			uint8_t *more = realloc(*data, size);
			if (!more) {
				error = -ENOMEM;
				goto out;
			}
			*data = more;
		}
		ssize_t n = read(fd, *data + *len, size - *len);
		if (n == 0)
			return 0;
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			error = -errno;
			goto out;
		}
		*len += (size_t)n;
		if (*len > max) {
			error = -EFBIG;
			goto out;
		}
	}
out:
	free(*data);
	*data = NULL;
	return error;
}

bool ctl_kid_valid(const char *text)
{
	size_t len = strlen(text);

	return len >= 1 && len <= KEYRING_KID_MAX && strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789_-") == len;
}

bool ctl_path_valid(const char *text)
{
	if (strcmp(text, "*") == 0)
		return true;
	if (text[0] != '/' || strlen(text) >= sizeof(((struct sockaddr_un *)0)->sun_path))
		return false;
	/* A blank would end the word in the key ring's line. */
	for (const char *c = text; *c; c++)
		if (*c <= 0x20 || *c >= 0x7f)
			return false;
	return true;
}
