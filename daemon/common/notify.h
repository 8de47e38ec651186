/* SPDX-License-Identifier: Apache-2.0
 *
 * Notify: the start and end of a role and its signs of life, told to systemd or the supervisor (sd_notify(3)'s
 * datagrams). The socket is connected while files and sockets may still be opened; afterwards only the descriptor is
 * used.
 */
#ifndef HANDOFFD_NOTIFY_H
#define HANDOFFD_NOTIFY_H

#include <ev.h>
#include <stdint.h>

/* Connect to NOTIFY_SOCKET's value (a path, or an abstract name that begins with @). Returns a descriptor that the
 * caller owns, or -errno. */
int notify_open(const char *address);

/* Send WATCHDOG=1 on fd twice in every period, as long as the loop runs: what does not run is not alive. period_us is
 * WATCHDOG_USEC's value, 0: nobody waits for it. Once in a process. */
void notify_watchdog(struct ev_loop *loop, int fd, uint64_t period_us);

/* Send a state ("READY=1"). Nothing happens when fd is negative: nobody asked to be told. Returns 0 or -errno. */
int notify_send(int fd, const char *state);

#endif
