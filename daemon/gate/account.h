/* SPDX-License-Identifier: Apache-2.0
 *
 * Account: what the processes in the place of one peer have counted, those that are gone included, so that totals only
 * grow for as long as the gate lives.
 */
#ifndef GATE_ACCOUNT_H
#define GATE_ACCOUNT_H

#include <sys/stat.h>

#include "daemon/common/metrics.h"

/* What one process counts in. */
struct account_page {
	int fd;       /* -1: none */
	dev_t device; /* which file that is */
	ino_t inode;
};

struct account {
	struct account_page page;            /* of the process that was introduced last */
	uint64_t retired[METRIC_SLOT_COUNT]; /* of the processes before it */
	uint64_t lost; /* clients that those still served when they ended, until somebody has told of it */
};

void account_init(struct account *account);

/* A process has sent its page; the descriptor is taken over. One that is known already (the process has lost its
 * connection, not its life) is not counted twice. 0 or -errno: the page is not one. */
int account_take(struct account *account, int fd);

/* Take the page of a process that is being replaced out of the account... */
struct account_page account_part(struct account *account);
/* ... add what it shows to slots as long as it runs... */
void account_page_add(const struct account_page *page, uint64_t slots[METRIC_SLOT_COUNT]);
/* ... and put its last numbers back. */
void account_settle(struct account *account, struct account_page *page);

/* Add everything to slots; gauges only when the process is connected, as they end with it. */
void account_add(const struct account *account, bool connected, uint64_t slots[METRIC_SLOT_COUNT]);

#endif
