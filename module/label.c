/* SPDX-License-Identifier: Apache-2.0 */
#include "label.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define LABEL_MAX 4096 /* longer ones are not compared */

bool label_matches(const char *configured, const char *actual)
{
	size_t len = strlen(configured);

	if (len == 0 || strncmp(actual, configured, len) != 0)
		return false;
	return actual[len] == '\0' || strcmp(actual + len, " (enforce)") == 0;
}

int label_read(int sock, char **label)
{
	char text[LABEL_MAX];
	socklen_t len = sizeof(text) - 1;

	*label = NULL;
	if (getsockopt(sock, SOL_SOCKET, SO_PEERSEC, text, &len) != 0)
		return -errno;
	/* Some kernels count a NUL at the end, some a newline. */
	while (len > 0 && (text[len - 1] == '\0' || text[len - 1] == '\n'))
		len--;
	text[len] = '\0';
	/* A label with a NUL inside would be compared by its beginning. */
	if (len == 0 || strlen(text) != len)
		return -EINVAL;
	*label = strdup(text);
	return *label ? 0 : -ENOMEM;
}
