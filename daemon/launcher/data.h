/* SPDX-License-Identifier: Apache-2.0
 *
 * Data: what a program is given of its request's data. A sealed memfd always; and the bytes once more as a variable of
 * the environment, when they can be one.
 */
#ifndef LAUNCHER_DATA_H
#define LAUNCHER_DATA_H

#include "lib/bytes.h"

/* The longest string of an environment that the kernel takes, NUL included (MAX_ARG_STRLEN). */
#define DATA_VARIABLE_MAX 131072

struct data {
	int fd;         /* owned, offset 0 */
	char *variable; /* owned, "HANDOFF_DATA=..."; NULL when the data is longer than that, or has a NUL in it */
};

/* Data that came in the message. Returns 0, or -errno of the system. */
int data_of_bytes(struct span bytes, struct data *data);

/* Data in somebody else's memfd, which becomes the data's: closed on failure. Returns 0; -EBADMSG when it is not a
 * memfd that is sealed against every change; -EACCES when it may be executed, on a system where memfds need not be; or
 * -errno of the system. */
int data_of_memfd(int fd, struct data *data);

/* Closes and wipes. */
void data_free(struct data *data);

#endif
