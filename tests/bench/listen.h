/* SPDX-License-Identifier: Apache-2.0
 *
 * Listen: where the bench's receivers take handoffs.
 */
#ifndef BENCH_LISTEN_H
#define BENCH_LISTEN_H

#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

/* A listening socket of the kind that the module looks for, which every user may connect to. -1: it failed. */
static inline int listen_at(const char *path)
{
	struct sockaddr_un name = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	if (strlen(path) >= sizeof(name.sun_path))
		return -1;
	memcpy(name.sun_path, path, strlen(path));
	if (bind(fd, (struct sockaddr *)&name, sizeof(name)) != 0 || chmod(path, 0666) != 0 || listen(fd, 1024) != 0)
		return -1;
	return fd;
}

#endif
