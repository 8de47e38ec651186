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

static bool same_page(const struct account_page *a, const struct account_page *b)
{
	return a->fd >= 0 && b->fd >= 0 && a->device == b->device && a->inode == b->inode;
}

void account_init(struct account *account)
{
	*account = (struct account){.page = {.fd = -1}};
}

struct account_page account_part(struct account *account)
{
	struct account_page page = account->page;

	account->page.fd = -1;
	return page;
}

void account_page_add(const struct account_page *page, uint64_t slots[METRIC_SLOT_COUNT])
{
	uint64_t numbers[METRIC_SLOT_COUNT];

	if (page->fd >= 0 && metrics_read(page->fd, numbers) == 0)
		add_page(numbers, true, slots);
}

void account_settle(struct account *account, struct account_page *page)
{
	uint64_t numbers[METRIC_SLOT_COUNT];

	/* A process that came back on another connection goes on counting in the same page. */
	if (page->fd >= 0 && !same_page(page, &account->page) && metrics_read(page->fd, numbers) == 0) {
		add_page(numbers, false, account->retired);
		account->lost += numbers[METRIC_ACTIVE_STREAMS_FIRST];
	}
	fd_close(&page->fd);
}

int account_take(struct account *account, int fd)
{
	struct account_page page = {.fd = fd};
	struct account_page before = account->page;
	struct stat st;
	int result = metrics_check(fd);

	if (result == 0 && fstat(fd, &st) != 0)
		result = -errno;
	if (result != 0) {
		fd_close(&fd);
		return result;
	}
	page.device = st.st_dev;
	page.inode = st.st_ino;
	account->page = page;
	/* The file outlives the process that wrote it, so its last numbers are all there. */
	account_settle(account, &before);
	return 0;
}

void account_add(const struct account *account, bool connected, uint64_t slots[METRIC_SLOT_COUNT])
{
	uint64_t sum[METRIC_SLOT_COUNT];
	uint64_t page[METRIC_SLOT_COUNT];

	memcpy(sum, account->retired, sizeof(sum));
	if (account->page.fd >= 0 && metrics_read(account->page.fd, page) == 0)
		add_page(page, connected, sum);
	/* Peaks of one place are the highest of its processes; those of several places add up. */
	for (size_t i = 0; i < METRIC_SLOT_COUNT; i++)
		slots[i] += sum[i];
}
