/* SPDX-License-Identifier: Apache-2.0
 *
 * Notify: see notify.h.
 */
#include "notify.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "lib/fdpass.h"

int notify_open(const char *address)
{
	struct sockaddr_un name = {.sun_family = AF_UNIX};
	size_t len = strlen(address);
	int fd;

	if ((address[0] != '/' && address[0] != '@') || len < 2)
		return -EINVAL;
	if (len >= sizeof(name.sun_path))
		return -ENAMETOOLONG;
	memcpy(name.sun_path, address, len);
	if (address[0] == '@')
		name.sun_path[0] = '\0';
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (connect(fd, (const struct sockaddr *)&name, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len)) !=
	    0) {
		int error = errno;

		fd_close(&fd);
		return -error;
	}
	return fd;
}

int notify_send(int fd, const char *state)
{
	if (fd < 0)
		return 0;
	if (send(fd, state, strlen(state), MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
		return -errno;
	return 0;
}
