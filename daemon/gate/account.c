/* SPDX-License-Identifier: Apache-2.0
 *
 * Account: see account.h.
 */
#include "account.h"

#include <errno.h>

#include "lib/fdpass.h"

/* Add the numbers of one page. gauges: whether what is now counts too. */
static void add_page(const uint64_t page[METRIC_SLOT_COUNT], bool gauges, uint64_t slots[METRIC_SLOT_COUNT])
{
	for (size_t i = 0; i < METRIC_COUNT; i++) {
		const struct metric_info *info = metric_info((enum metric)i);

		for (size_t slot = info->first; slot < info->first + info->slots; slot++) {
			if (info->type == METRIC_PEAK)
				slots[slot] = page[slot] > slots[slot] ? page[slot] : slots[slot];
			else if (info->type != METRIC_GAUGE || gauges)
				slots[slot] += page[slot];
		}
	}
}

void account_init(struct account *account)
{
	*account = (struct account){.fd = -1};
}

int account_take(struct account *account, int fd)
{
	uint64_t page[METRIC_SLOT_COUNT];
	struct stat st;
	int result = metrics_check(fd);

	if (result == 0 && fstat(fd, &st) != 0)
		result = -errno;
	if (result != 0) {
		fd_close(&fd);
		return result;
	}
	/* The file outlives the process that wrote it, so its last numbers are all there. */
	bool known = account->fd >= 0 && st.st_dev == account->device && st.st_ino == account->inode;
	if (account->fd >= 0 && !known && metrics_read(account->fd, page) == 0)
		add_page(page, false, account->retired);
	fd_close(&account->fd);
	account->fd = fd;
	account->device = st.st_dev;
	account->inode = st.st_ino;
	return 0;
}

void account_add(const struct account *account, bool connected, uint64_t slots[METRIC_SLOT_COUNT])
{
	uint64_t sum[METRIC_SLOT_COUNT];
	uint64_t page[METRIC_SLOT_COUNT];

	memcpy(sum, account->retired, sizeof(sum));
	if (account->fd >= 0 && metrics_read(account->fd, page) == 0)
		add_page(page, connected, sum);
	/* Peaks of one place are the highest of its processes; those of several places add up. */
	for (size_t i = 0; i < METRIC_SLOT_COUNT; i++)
		slots[i] += sum[i];
}
