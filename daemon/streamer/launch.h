/* SPDX-License-Identifier: Apache-2.0
 *
 * Launch: runs of the handler's program, which only the launcher can start. A run begins with the wish for a place,
 * when nothing was accepted yet; started, it gives the ends of its pipes, and tells when it is over. A wish survives
 * the launcher: it is uttered again on the next channel. A run does not.
 */
#ifndef HANDOFFD_STREAMER_LAUNCH_H
#define HANDOFFD_STREAMER_LAUNCH_H

#include <ev.h>
#include <sys/queue.h>

#include "daemon/common/channel.h"
#include "text.h"

#define LAUNCH_BUCKETS 256
#define LAUNCH_PIPES   2 /* descriptors that come with a program */

struct launch;
LIST_HEAD(launch_list, launch);
STAILQ_HEAD(launch_queue, launch);

struct launcher_link {
	struct ev_loop *loop;
	struct channel channel;
	int next_fd; /* of the channel that is used when this one has ended; -1: none */
	ev_io watcher;
	struct launch_queue unsaid;             /* those that have something to say to the launcher */
	struct launch_list all[LAUNCH_BUCKETS]; /* by id */
	size_t n_expected;                      /* programs that may come yet, with their pipes */
	uint32_t next_id;
};

/* How a run ended. */
struct launch_end {
	bool lost;      /* with the launcher: nothing more is known */
	int32_t status; /* as wait() gives it */
	enum run_limit limit;
	uint64_t user_us, system_us, max_rss_kib;
};

/* Called from the event loop only, never from a function below. */
struct launch_events {
	/* There is a place: launch_start() or launch_leave() it. Or there will be none, -EBUSY: then it is over. */
	void (*placed)(void *user, int error);
	/* The program runs; the read ends of its standard output and standard error are the callee's. Or -errno,
	 * without descriptors: then it is over. */
	void (*launched)(void *user, int error, int out, int err);
	/* It is over. */
	void (*exited)(void *user, const struct launch_end *end);
};

void launch_init(struct launcher_link *link, struct ev_loop *loop);
/* A (new) channel to the launcher; the descriptor is taken over. Runs end with the channel that they began on: one that
 * still works, as after a restart of the gate, is used on, and the new one after it. */
void launch_set_channel(struct launcher_link *link, int fd);
bool launch_has_channel(const struct launcher_link *link);

/* Wish for a place. NULL: no memory. The launch is the link's, and gone once it is over. */
struct launch *launch_place(struct launcher_link *link, const struct launch_events *events, void *user);
/* Start the program in the place that was given. request: n_facts strings with their NULs, facts_len bytes, then the
 * data, unless that is in *memfd (-1: it is not). Both are taken over. */
void launch_start(struct launch *launch, struct text *request, size_t facts_len, size_t n_facts, int *memfd);
/* End the run, for a limit that is seen here: RUN_LIMIT_OUTPUT, or RUN_LIMIT_NONE; exited() comes when that is done.
 * The first call counts. */
void launch_stop(struct launch *launch, enum run_limit limit);
/* The place is not wanted, or not any more: it is over. */
void launch_leave(struct launch *launch);

#endif
