/* SPDX-License-Identifier: Apache-2.0
 *
 * Seat: one request of a streamer, from its wish for a place until everything of its run is gone and the streamer was
 * told so. What a streamer is to be told waits in order until its socket takes it. So long nothing is read from it: who
 * does not read what it asked for cannot ask for more.
 */
#ifndef LAUNCHER_SEAT_H
#define LAUNCHER_SEAT_H

#include "daemon/common/channel.h"
#include "queue.h"
#include "run.h"

/* Seats of a streamer are found by their id in so many lists. */
#define SEAT_LISTS 256

struct streamer {
	struct list node;
	const struct config_backend *backend;
	uint32_t worker;
	struct channel channel;
	ev_io readable;     /* active unless writable is */
	ev_io writable;     /* active while there is news that the socket does not take */
	struct list outbox; /* seats with news */
	struct list seats[SEAT_LISTS];
};

enum seat_state {
	SEAT_WAITS, /* for a place */
	SEAT_GIVEN, /* may begin a run */
	SEAT_RUNS,
	SEAT_REFUSED, /* got no place; to be told */
	SEAT_OVER,    /* its launch failed, or its run has ended; to be told */
};

/* What the streamer was not told yet, in the order in which it is. */
enum seat_news { NEWS_PLACED = 1, NEWS_LAUNCHED = 2, NEWS_EXITED = 4 };

struct seat {
	struct streamer *streamer; /* NULL: the channel is closed, the run is being killed */
	struct list node;          /* in one of the streamer's lists, or in no list */
	struct list outbox;
	uint32_t id;
	enum seat_state state;
	unsigned news; /* enum seat_news */
	int placed;    /* answer to its wish, 0 or -errno */
	int launched;  /* answer to its launch */
	struct place place;
	struct run run;
	struct run_end end;
};

/* Before the first. */
void seats_init(const struct runner *runner);

/* Ask for a place for a new seat. Returns 0; -EBADMSG when this streamer has one of this id; or -ENOMEM. */
int seat_place(struct streamer *streamer, uint32_t id);

/* NULL when there is none. */
struct seat *seat_find(struct streamer *streamer, uint32_t id);

/* Begin the run of a seat that was given its place; when that fails, the streamer is told so. */
void seat_launch(struct seat *seat, const struct data *data, const struct environment *environment);

/* The same for one that could not be tried. */
void seat_launch_failed(struct seat *seat, int error);

/* The end of a seat that has no run; its place goes to the next. */
void seat_free(struct seat *seat);

/* The streamer is gone: the end of all its seats. Their runs are killed. */
void seats_abandon(struct streamer *streamer);

/* Tell the runs of a streamer to end. */
void seats_stop(struct streamer *streamer);

/* Tell a streamer what it can be told; reading goes on when that is all. */
void seats_tell(struct streamer *streamer);

/* Give no more places. idle is called, perhaps at once, when no seat is left. */
void seats_close(void (*idle)(void));

#endif
