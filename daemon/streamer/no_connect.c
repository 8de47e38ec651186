/* SPDX-License-Identifier: Apache-2.0
 *
 * No connect: see no_connect.h. The program's definition comes before libc's for every library that is linked.
 */
#include "no_connect.h"

#include <errno.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

static bool begun;

void no_connect_begin(void)
{
	begun = true;
}

int connect(int fd, __CONST_SOCKADDR_ARG address, socklen_t len)
{
	if (!begun)
		return (int)syscall(SYS_connect, fd, address.__sockaddr__, len);
	errno = EINPROGRESS;
	return -1;
}
