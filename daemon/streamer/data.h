/* SPDX-License-Identifier: Apache-2.0
 *
 * Data: the bytes of a handoff's data, where they lie: in the gate's message, mapped from the memfd, or copied.
 */
#ifndef HANDOFFD_STREAMER_DATA_H
#define HANDOFFD_STREAMER_DATA_H

#include "lib/bytes.h"

struct data {
	struct span span;
	void *mapping; /* to be unmapped; NULL: not mapped */
	void *copy;    /* to be freed; NULL: not copied */
};

/* Data that lies in somebody else's memory. */
static inline struct data data_borrow(struct span span)
{
	return (struct data){.span = span};
}

/* Map a memfd that is sealed, of this size. 0 or -errno. */
int data_map(struct data *data, int fd, size_t size);

/* Keep it beyond the life of the message: mapped bytes change their owner (from stays readable until kept is closed),
 * borrowed ones are copied. 0 or -ENOMEM. */
int data_keep(struct data *kept, struct data *from);

void data_close(struct data *data);

#endif
