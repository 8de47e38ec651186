/* SPDX-License-Identifier: Apache-2.0
 *
 * Metrics: see metrics.h.
 */
#include "metrics.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <time.h>

#include "lib/fdpass.h"
#include "log.h"

#define SEALS_WANTED (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL)

static const struct metric_info infos[METRIC_COUNT] = {
#define METRIC_INFO(symbol, name, type, label, by, help)                                                               \
	[symbol] = {                                                                                                   \
	    (name), (help), METRIC_##type, METRIC_##label, (by), symbol##_FIRST, symbol##_LAST - symbol##_FIRST + 1},
    METRICS(METRIC_INFO)
#undef METRIC_INFO
};

static const uint64_t bounds[] = {METRIC_BOUNDS, UINT64_MAX};
static_assert(sizeof(bounds) / sizeof(bounds[0]) == METRIC_BUCKETS, "a bucket for each bound and one for the rest");

static struct metrics_page own;
static struct metrics_page *page = &own;
static int page_fd = -1;

const struct metric_info *metric_info(enum metric metric)
{
	return &infos[metric];
}

const char *metric_label_value(const struct metric_info *info, size_t slot)
{
	if (info->label == METRIC_REASON)
		return reason_name((enum reason)(slot - info->first));
	if (info->label == METRIC_USAGE)
		return usage_name((enum usage_kind)(slot - info->first));
	if (info->label == METRIC_ENDING)
		return ending_name((enum ending)(slot - info->first));
	return outcome_name((enum outcome)(slot - info->first));
}

uint64_t metric_bound(size_t bucket)
{
	return bounds[bucket];
}

/* ---------------------------------------------------------------- counting */

uint64_t metrics_get(size_t slot)
{
	return atomic_load_explicit(&page->slot[slot], memory_order_relaxed);
}

/* There is one writer, so that nothing is lost between load and store; readers see the one number or the other. */
static void slot_set(size_t slot, uint64_t value)
{
	atomic_store_explicit(&page->slot[slot], value, memory_order_relaxed);
}

static void slot_add(size_t slot, uint64_t n)
{
	slot_set(slot, metrics_get(slot) + n);
}

void metrics_add(enum metric metric, uint64_t n)
{
	slot_add(infos[metric].first, n);
}

void metrics_count(enum metric metric, size_t label)
{
	if (label < infos[metric].slots)
		slot_add(infos[metric].first + label, 1);
}

void metrics_set(enum metric metric, uint64_t value)
{
	if (infos[metric].type != METRIC_PEAK || value > metrics_get(infos[metric].first))
		slot_set(infos[metric].first, value);
}

void metrics_observe(enum metric metric, int64_t microseconds)
{
	uint64_t value = microseconds > 0 ? (uint64_t)microseconds : 0;
	size_t bucket = 0;

	while (value > bounds[bucket])
		bucket++;
	slot_add(infos[metric].first + bucket, 1);
	slot_add(infos[metric].first + METRIC_BUCKETS, value);
}

uint64_t metrics_clock_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static void log_metric(const struct metric_info *info)
{
	for (size_t i = 0; i < info->slots; i++) {
		uint64_t value = metrics_get(info->first + i);

		if (info->label == METRIC_NONE)
			log_event(LOG_NOTICE, "counter", LOG_STR("name", info->name), LOG_INT("value", value));
		else if (value != 0 && info->label == METRIC_BACKEND)
			log_event(LOG_NOTICE, "counter", LOG_STR("name", info->name), LOG_INT("value", value));
		else if (value != 0)
			log_event(LOG_NOTICE, "counter", LOG_STR("name", info->name),
			          LOG_STR("label", metric_label_value(info, info->first + i)), LOG_INT("value", value));
	}
}

void metrics_log(enum role role)
{
	static const unsigned bits[ROLE_COUNT] = {
	    [ROLE_GATE] = BY_GATE,
	    [ROLE_STREAMER] = BY_STREAMER,
	    [ROLE_DIALER] = BY_DIALER,
	    [ROLE_LAUNCHER] = BY_LAUNCHER,
	};
	unsigned by = bits[role];

	for (size_t i = 0; i < METRIC_COUNT; i++)
		if ((infos[i].by & by) != 0 && infos[i].type != METRIC_HISTOGRAM)
			log_metric(&infos[i]);
}

/* ---------------------------------------------------------------- sharing */

static uint64_t hash_add(uint64_t hash, const char *text)
{
	for (; *text != '\0'; text++)
		hash = (hash ^ (uint8_t)*text) * 0x100000001b3;
	return hash * 0x100000001b3;
}

/* FNV-1a over everything that says where a number lies and what it means. */
uint64_t metrics_layout(void)
{
	uint64_t hash = 0xcbf29ce484222325;

	for (size_t i = 0; i < METRIC_COUNT; i++)
		hash = hash_add(hash, infos[i].name) + infos[i].first;
	for (size_t i = 0; i < REASON_COUNT; i++)
		hash = hash_add(hash, reason_name((enum reason)i));
	for (size_t i = 0; i < OUTCOME_COUNT; i++)
		hash = hash_add(hash, outcome_name((enum outcome)i));
	for (size_t i = 0; i < USAGE_COUNT; i++)
		hash = hash_add(hash, usage_name((enum usage_kind)i));
	for (size_t i = 0; i < ENDING_COUNT; i++)
		hash = hash_add(hash, ending_name((enum ending)i));
	for (size_t i = 0; i < METRIC_BUCKETS; i++)
		hash = (hash ^ bounds[i]) * 0x100000001b3;
	return hash;
}

int metrics_share(void)
{
	int fd FD_CLEANUP = memfd_open("handoffd-metrics");
	void *mapping;

	if (fd < 0)
		return fd;
	if (ftruncate(fd, METRICS_PAGE_SIZE) != 0)
		return -errno;
	mapping = mmap(NULL, METRICS_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (mapping == MAP_FAILED)
		return -errno;
	/* Our mapping stays writable; there will be no other. */
	if (fcntl(fd, F_ADD_SEALS, SEALS_WANTED) != 0) {
		int error = -errno;

		munmap(mapping, METRICS_PAGE_SIZE);
		return error;
	}
	page = mapping;
	page_fd = fd;
	fd = -1;
	return 0;
}

int metrics_announce(struct channel *gate, uint64_t sections)
{
	static const enum message_type types[ROLE_COUNT] = {
	    [ROLE_STREAMER] = MESSAGE_STREAMER_METRICS,
	    [ROLE_DIALER] = MESSAGE_DIALER_METRICS,
	    [ROLE_LAUNCHER] = MESSAGE_LAUNCHER_METRICS,
	};
	struct message_metrics body = {.layout = metrics_layout(), .sections = sections};

	if (page_fd < 0)
		return -ENOENT;
	return channel_send(gate, types[gate->self], &body, NULL, 0, &page_fd, 1);
}

int metrics_check(int fd)
{
	size_t size;
	int result = memfd_check_seals(fd, SEALS_WANTED, &size);

	if (result < 0)
		return result;
	return size == METRICS_PAGE_SIZE ? 0 : -EINVAL;
}

int metrics_read(int fd, uint64_t slots[METRIC_SLOT_COUNT])
{
	const size_t size = METRIC_SLOT_COUNT * sizeof(slots[0]);
	/* Not mapped: whatever the writer does to its file, this can only fail, not raise a signal. */
	ssize_t len = pread(fd, slots, size, 0);

	if (len < 0)
		return -errno;
	return (size_t)len == size ? 0 : -EIO;
}
