/* SPDX-License-Identifier: Apache-2.0
 *
 * Account: what the processes in the place of one peer have counted, those that are gone included, so that totals only
 * grow for as long as the gate lives.
 */
#ifndef GATE_ACCOUNT_H
#define GATE_ACCOUNT_H

#include <sys/stat.h>

#include "daemon/common/metrics.h"

struct account {
	int fd;       /* page of the process that was introduced last; -1: none yet */
	dev_t device; /* and which file that is */
	ino_t inode;
	uint64_t retired[METRIC_SLOT_COUNT]; /* of the processes before it */
};

void account_init(struct account *account);

/* A process has sent its page; the descriptor is taken over. One that is known already (the process has lost its
 * connection, not its life) is not counted twice. 0 or -errno: the page is not one. */
int account_take(struct account *account, int fd);

/* Add everything to slots; gauges only when the process is connected, as they end with it. */
void account_add(const struct account *account, bool connected, uint64_t slots[METRIC_SLOT_COUNT]);

#endif
