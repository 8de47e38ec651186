/* SPDX-License-Identifier: Apache-2.0
 *
 * Stream clients: hands off clients to a gate, as many Apache workers would, is these clients, and checks every byte
 * that they get. In several processes, because each may have only so many descriptors.
 *
 *     stream_clients -s SOCKET -k KEYRING -b BODY -n STREAMS [-t SECONDS] [-p PROCESSES] [-w SECONDS] [-r]
 *                    [-m WORD] [-x TEXT] [-l MILLISECONDS] [-R BYTES]
 *
 *     -b  the body of a whole stream; see answer.h
 *     -t  offer the streams evenly over so many seconds; without, all at once
 *     -w  how long the last one may take until it counts as hung
 *     -r  relayed clients: socketpairs in the place of TCP connections
 *     -m  what prompts begin with, six characters
 *     -x  what follows in each prompt
 *     -l  all clients leave at once, so long after the last has got its first data
 *     -R  read so many bytes a second of each stream, through small buffers
 *
 * Prints "open" once each stream has got its first data (or has ended), then one line of JSON: how many streams came to
 * which end, and milliseconds from the handoff to the reply, to the first byte and to the end of the first line with
 * data, from the moment a handoff was due to its first byte, and the longest silence of each stream.
 */
#include <errno.h>
#include <sodium.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>

#include "lib/fdpass.h"
#include "offer.h"

#define GATE_CONNECTIONS 16
#define EVENTS_MAX       256
#define WRONG_SHOWN      3
#define SLOW_TURNS       10 /* a second */
#define SLOW_ROOM        4096

#define STATES(X)                                                                                                      \
	X(STREAM_HUNG, "hung")                                                                                         \
	X(STREAM_WHOLE, "whole")                                                                                       \
	X(STREAM_WRONG, "wrong")                                                                                       \
	X(STREAM_CUT, "cut")                                                                                           \
	X(STREAM_REFUSED, "refused")                                                                                   \
	X(STREAM_UNANSWERED, "unanswered")                                                                             \
	X(STREAM_LEFT, "left")

enum stream_state {
#define STATE_ENUM(symbol, name) symbol,
	STATES(STATE_ENUM)
#undef STATE_ENUM
	    STREAM_STATES
};

/* What became of a stream, for the process that adds it all up. Microseconds; 0: has not happened. */
struct record {
	int64_t due, sent, replied, first_byte, first_line, last_byte, silence, ended;
	enum stream_state state;
};

struct shared {
	_Atomic(size_t) ready, opened;
	_Atomic(int64_t) start;
	_Atomic(bool) leave;
	struct record records[];
};

struct stream {
	int client;
	struct offer offer;
	bool has_opened;
	struct record *record;
	struct answer answer;
};

static struct {
	struct offerer offerer;
	struct body body;
	const char *word;
	size_t n_streams, n_processes;
	double seconds, patience;
	long leave_ms;
	size_t rate;
	struct shared *shared;
} run = {.n_streams = 100, .n_processes = 1, .patience = 60, .leave_ms = -1, .word = "bench-", .offerer.more = ""};

/* One process's share. */
static struct {
	size_t first, n, begun, ended;
	struct stream *streams;
	int epoll;
	int gates[GATE_CONNECTIONS];
	size_t next_gate, n_wrong;
} share;

static int64_t now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

/* Processes take turns, so that each offers evenly. */
static size_t number_of(size_t i)
{
	return share.first + i * run.n_processes;
}

/* ---------------------------------------------------------------- one stream */

static void watch(int fd, size_t index, bool is_reply)
{
	struct epoll_event event = {.events = EPOLLIN, .data.u64 = index << 1 | is_reply};

	if (epoll_ctl(share.epoll, EPOLL_CTL_ADD, fd, &event) != 0)
		fail("epoll_ctl");
}

static void opened(struct stream *stream)
{
	if (!stream->has_opened)
		atomic_fetch_add(&run.shared->opened, 1);
	stream->has_opened = true;
}

static void end(struct stream *stream, enum stream_state state)
{
	if (stream->client < 0)
		return;
	stream->record->state = state;
	stream->record->ended = now_us();
	opened(stream);
	fd_close(&stream->client);
	fd_close(&stream->offer.reply);
	share.ended++;
}

/* A new connection, and the handoff of it. False when there are no descriptors for now: many handoffs have no reply. */
static bool prepare_stream(size_t i)
{
	struct stream *stream = &share.streams[i];
	size_t number = number_of(i);
	char prompt[32];
	int server = -1;

	*stream = (struct stream){.client = -1, .record = &run.shared->records[number]};
	stream->answer.relayed = run.offerer.relayed;
	snprintf(prompt, sizeof(prompt), "%.6s%010zu", run.word, number);
	memcpy(stream->answer.prompt, prompt, PROMPT_LEN);
	if (offer_connect(&run.offerer, &stream->client, &server) != 0 ||
	    offer_make(&run.offerer, server, prompt, number, &stream->offer) != 0) {
		if (errno != EMFILE)
			fail("a connection");
		fd_close(&stream->client);
		fd_close(&server);
		stream->record = NULL;
		return false;
	}
	watch(stream->offer.reply, i, true);
	if (run.rate == 0)
		watch(stream->client, i, false);
	return true;
}

/* False when the gate takes nothing for now. */
static bool begin(struct stream *stream)
{
	int rc = -EAGAIN;

	for (size_t tried = 0; tried < GATE_CONNECTIONS && rc == -EAGAIN; tried++) {
		stream->record->sent = now_us();
		rc = offer_send(&stream->offer, share.gates[share.next_gate++ % GATE_CONNECTIONS]);
	}
	if (rc == -EAGAIN || rc == -ETOOMANYREFS)
		return false;
	if (rc != 0) {
		fprintf(stderr, "stream_clients: sending a handoff: %s\n", strerror(-rc));
		end(stream, STREAM_UNANSWERED);
	}
	return true;
}

static void take_reply(struct stream *stream)
{
	uint8_t bytes[WIRE_REPLY_LEN + 1];
	struct wire_reply reply;
	ssize_t len = recv(stream->offer.reply, bytes, sizeof(bytes), MSG_DONTWAIT);

	if (len < 0 && errno == EAGAIN)
		return;
	fd_close(&stream->offer.reply);
	stream->record->replied = now_us();
	if (len <= 0 || wire_reply_parse(span_of(bytes, (size_t)len), &reply) != 0)
		end(stream, STREAM_UNANSWERED);
	else if (reply.kind != WIRE_ACCEPTED)
		end(stream, STREAM_REFUSED);
}

/* Nobody has the client any more: what its handoff came to is in the reply, where that says so. */
static enum stream_state end_of(const struct stream *stream)
{
	if (stream->answer.step == ANSWER_WHOLE)
		return STREAM_WHOLE;
	return stream->offer.reply >= 0 ? STREAM_UNANSWERED : STREAM_CUT;
}

static void take_bytes(struct stream *stream, const uint8_t *bytes, size_t len)
{
	struct record *record = stream->record;
	int64_t now = now_us();

	if (record->first_byte == 0)
		record->first_byte = now;
	else if (now - record->last_byte > record->silence)
		record->silence = now - record->last_byte;
	record->last_byte = now;
	answer_take(&stream->answer, &run.body, bytes, len);
	if (record->first_line == 0 && stream->answer.body_len >= run.body.first_line) {
		record->first_line = now;
		opened(stream);
	}
}

/* Up to so many bytes. */
static void take_some(struct stream *stream, size_t most)
{
	static uint8_t buffer[65536];
	ssize_t len = recv(stream->client, buffer, most < sizeof(buffer) ? most : sizeof(buffer), MSG_DONTWAIT);

	if (len < 0 && errno == EAGAIN)
		return;
	if (len > 0)
		take_bytes(stream, buffer, (size_t)len);
	if (stream->answer.step == ANSWER_WRONG) {
		if (share.n_wrong++ < WRONG_SHOWN)
			fprintf(stderr, "stream_clients: %.16s: wrong behind %u bytes of the body: %.*s\n",
			        stream->answer.prompt, stream->answer.body_len, len > 0 ? (int)len : 0, buffer);
		end(stream, STREAM_WRONG);
	} else if (len <= 0) {
		if (stream->offer.reply >= 0)
			take_reply(stream);
		end(stream, end_of(stream));
	}
}

/* ---------------------------------------------------------------- one process */

static int64_t due(size_t i)
{
	return run.shared->start + (int64_t)(run.seconds * 1e6 * (double)number_of(i) / (double)run.n_streams);
}

/* Begin what is due. Microseconds until there is something to do again. */
static int64_t begin_due(void)
{
	while (share.begun < share.n) {
		int64_t at = due(share.begun);
		int64_t wait = at - now_us();

		if (wait > 0)
			return wait;
		if (share.streams[share.begun].record == NULL && !prepare_stream(share.begun))
			return 500;
		share.streams[share.begun].record->due = at;
		if (!begin(&share.streams[share.begun]))
			return 500;
		share.begun++;
	}
	return 20000;
}

static void read_slowly(void)
{
	static int64_t last;
	int64_t now = now_us();

	if (run.rate == 0 || now - last < 1000000 / SLOW_TURNS)
		return;
	last = now;
	for (size_t i = 0; i < share.begun; i++)
		if (share.streams[i].client >= 0)
			take_some(&share.streams[i], run.rate / SLOW_TURNS);
}

static void take_events(int64_t wait_us)
{
	struct epoll_event events[EVENTS_MAX];
	struct timespec wait = {.tv_sec = wait_us / 1000000, .tv_nsec = wait_us % 1000000 * 1000};
	int n = epoll_pwait2(share.epoll, events, EVENTS_MAX, &wait, NULL);

	for (int i = 0; i < n; i++) {
		struct stream *stream = &share.streams[events[i].data.u64 >> 1];
		bool is_reply = events[i].data.u64 & 1;

		if (is_reply && stream->offer.reply >= 0)
			take_reply(stream);
		else if (!is_reply && stream->client >= 0)
			take_some(stream, SIZE_MAX);
	}
}

static void leave(void)
{
	for (size_t i = 0; i < share.begun; i++)
		end(&share.streams[i], STREAM_LEFT);
}

static void prepare(size_t process)
{
	share.first = process;
	share.n = (run.n_streams + run.n_processes - 1 - process) / run.n_processes;
	share.streams = calloc(share.n + 1, sizeof(*share.streams));
	share.epoll = epoll_create1(EPOLL_CLOEXEC);
	if (share.streams == NULL || share.epoll < 0 || offerer_init(&run.offerer) != 0)
		fail("start");
	for (size_t i = 0; i < GATE_CONNECTIONS; i++)
		if ((share.gates[i] = offer_gate(&run.offerer)) < 0)
			fail(run.offerer.path);
	for (size_t i = 0; run.seconds <= 0 && i < share.n; i++)
		if (!prepare_stream(i))
			fail("a connection");
}

static void run_share(size_t process)
{
	prepare(process);
	atomic_fetch_add(&run.shared->ready, 1);
	while (run.shared->start == 0)
		usleep(200);
	while (share.ended < share.n && now_us() < run.shared->start + (int64_t)((run.seconds + run.patience) * 1e6)) {
		take_events(begin_due());
		read_slowly();
		if (run.shared->leave)
			leave();
	}
	exit(0);
}

/* ---------------------------------------------------------------- all of it */

static int compare(const void *a, const void *b)
{
	int64_t first = *(const int64_t *)a, second = *(const int64_t *)b;

	return (first > second) - (first < second);
}

static void report_times(const char *name, size_t from, size_t to)
{
	int64_t *took = calloc(run.n_streams + 1, sizeof(*took));
	size_t n = 0;

	for (size_t i = 0; took != NULL && i < run.n_streams; i++) {
		const char *record = (const char *)&run.shared->records[i];
		int64_t end_us = *(const int64_t *)(const void *)(record + to);

		if (end_us != 0)
			took[n++] = end_us - (from == SIZE_MAX ? 0 : *(const int64_t *)(const void *)(record + from));
	}
	qsort(took, n, sizeof(*took), compare);
	printf("\"%s\": {", name);
	for (size_t i = 0; n > 0 && i < 4; i++) {
		static const struct {
			const char *name;
			double part;
		} parts[] = {{"p50", 0.5}, {"p99", 0.99}, {"p999", 0.999}, {"max", 1}};

		printf("%s\"%s\": %.3f", i > 0 ? ", " : "", parts[i].name,
		       (double)took[(size_t)(parts[i].part * (double)(n - 1))] / 1000);
	}
	printf("}, ");
	free(took);
}

static void report(int64_t left)
{
	static const char *const names[] = {
#define STATE_NAME(symbol, name) [symbol] = name,
	    STATES(STATE_NAME)
#undef STATE_NAME
	};
	size_t counts[STREAM_STATES] = {0};
	struct rusage usage;
	int64_t last = 0;

	for (size_t i = 0; i < run.n_streams; i++) {
		counts[run.shared->records[i].state]++;
		if (run.shared->records[i].sent > last)
			last = run.shared->records[i].sent;
	}
	getrusage(RUSAGE_CHILDREN, &usage);
	printf("{\"streams\": %zu, ", run.n_streams);
	for (size_t i = 0; i < STREAM_STATES; i++)
		printf("\"%s\": %zu, ", names[i], counts[i]);
	report_times("reply", offsetof(struct record, sent), offsetof(struct record, replied));
	report_times("first_byte", offsetof(struct record, sent), offsetof(struct record, first_byte));
	report_times("first_line", offsetof(struct record, sent), offsetof(struct record, first_line));
	report_times("from_due", offsetof(struct record, due), offsetof(struct record, first_byte));
	report_times("duration", offsetof(struct record, sent), offsetof(struct record, ended));
	report_times("silence", SIZE_MAX, offsetof(struct record, silence));
	printf("\"left_at\": %.6f, \"rate\": %.1f, \"cpu\": %.3f}\n", (double)left / 1e6,
	       (double)run.n_streams * 1e6 / (double)(last - run.shared->start),
	       (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
	           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6);
}

static const char *key_file, *body_file;

static void option_take(int option)
{
	switch (option) {
	case 's':
		run.offerer.path = optarg;
		break;
	case 'k':
		key_file = optarg;
		break;
	case 'b':
		body_file = optarg;
		break;
	case 'n':
		run.n_streams = strtoul(optarg, NULL, 10);
		break;
	case 't':
		run.seconds = strtod(optarg, NULL);
		break;
	case 'p':
		run.n_processes = strtoul(optarg, NULL, 10);
		break;
	case 'w':
		run.patience = strtod(optarg, NULL);
		break;
	case 'r':
		run.offerer.relayed = true;
		break;
	case 'm':
		run.word = optarg;
		break;
	case 'x':
		run.offerer.more = optarg;
		break;
	case 'l':
		run.leave_ms = strtol(optarg, NULL, 10);
		break;
	case 'R':
		run.rate = strtoul(optarg, NULL, 10);
		break;
	default:
		exit(2);
	}
}

static void options_take(int argc, char **argv)
{
	struct keyring *ring;
	char error[256];
	int option;

	while ((option = getopt(argc, argv, "s:k:b:n:t:p:w:rm:x:l:R:")) != -1)
		option_take(option);
	if (run.offerer.path == NULL || key_file == NULL || body_file == NULL || run.n_processes < 1) {
		fprintf(stderr, "usage: stream_clients -s SOCKET -k KEYRING -b BODY -n STREAMS ...\n");
		exit(2);
	}
	run.offerer.room = run.rate > 0 ? SLOW_ROOM : 0;
	if (body_load(&run.body, body_file) != 0)
		fail(body_file);
	if (sodium_init() < 0 || keyring_load(&ring, key_file, getuid(), error, sizeof(error)) != 0)
		fail("the key ring");
	run.offerer.key = keyring_signing_key(ring, span_of_string(run.offerer.path));
	if (run.offerer.key == NULL)
		fail("no key for the socket");
}

/* Say when all streams are open, have all leave when that is wanted, and wait for their ends. Microseconds when they
 * were told to leave. */
static int64_t watch_processes(void)
{
	size_t left = run.n_processes;
	int64_t left_at = 0;
	bool said = false;

	while (left > 0) {
		usleep(2000);
		if (!said && run.shared->opened == run.n_streams) {
			puts("open");
			fflush(stdout);
			said = true;
		}
		if (said && run.leave_ms >= 0 && left_at == 0) {
			usleep((useconds_t)run.leave_ms * 1000);
			left_at = now_us();
			run.shared->leave = true;
		}
		while (left > 0 && waitpid(-1, NULL, WNOHANG) > 0)
			left--;
	}
	return left_at;
}

int main(int argc, char **argv)
{
	options_take(argc, argv);
	run.shared = mmap(NULL, sizeof(*run.shared) + run.n_streams * sizeof(struct record), PROT_READ | PROT_WRITE,
	                  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (run.shared == MAP_FAILED)
		fail("memory");
	for (size_t i = 0; i < run.n_processes; i++)
		if (fork() == 0)
			run_share(i);
	while (run.shared->ready < run.n_processes) {
		if (waitpid(-1, NULL, WNOHANG) > 0)
			return 1; /* it has said why */
		usleep(1000);
	}
	run.shared->start = now_us() + 100000;
	report(watch_processes());
	return 0;
}
