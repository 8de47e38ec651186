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

static int watchdog_fd = -1;

static void on_period(struct ev_loop *loop, ev_timer *timer, int events)
{
	(void)loop;
	(void)timer;
	(void)events;
	/* Whoever asked for it may be gone; the next time tells. */
	notify_send(watchdog_fd, "WATCHDOG=1");
}

void notify_watchdog(struct ev_loop *loop, int fd, uint64_t period_us)
{
	static ev_timer timer;
	double half = (double)period_us / 2e6;

	if (fd < 0 || period_us == 0)
		return;
	watchdog_fd = fd;
	ev_timer_init(&timer, on_period, half, half);
	ev_timer_start(loop, &timer);
}
