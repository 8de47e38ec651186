/* SPDX-License-Identifier: Apache-2.0
 *
 * The handler backend: a program answers, which the launcher starts for each request. Here: its run, from the place
 * that the handoff waits for to the last that is heard of it. A run lives longer than its stream: the program is let
 * end by itself after a whole answer, or made to, and what it says until then is logged and counted.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "backend.h"
#include "clock.h"
#include "daemon/common/log.h"
#include "handler_log.h"
#include "handler_output.h"
#include "handler_request.h"

#define READ_AT_ONCE   16384
#define READS_AT_END   64     /* more than a pipe holds */
#define STDERR_BYTES_S 262144 /* more is not read in one second: who floods it waits */

struct run {
	struct streamer *streamer;
	const struct config_handler *handler;
	struct stream *stream;           /* NULL: not started yet, or nobody wants its output any more */
	struct launch *launch;           /* NULL: there is none, or it is over */
	struct reservation *reservation; /* of the handoff, until there is a place */
	struct handler_request request;
	struct handler_output output;
	struct handler_log log;
	ev_io out; /* standard output, fd -1 when it is not open */
	ev_io err;
	ev_timer breath; /* until standard error is read again */
	int64_t second;  /* that its bytes are counted in */
	size_t err_bytes;
	uint64_t id;
	uint64_t bytes; /* of standard output */
	bool head_only;
	bool detached;   /* stop() was called */
	bool out_ended;  /* standard output has ended */
	bool over_limit; /* output-bytes */
	bool exited;     /* end is there */
	struct launch_end end;
};

static char buffer[READ_AT_ONCE];

/* ---------------------------------------------------------------- the pipes */

static void pipe_close(struct run *run, ev_io *pipe)
{
	int fd = pipe->fd;

	ev_io_stop(run->streamer->loop, pipe);
	ev_io_set(pipe, -1, 0);
	fd_close(&fd);
}

static void pipe_open(struct run *run, ev_io *pipe, int fd)
{
	/* The description of this end is ours alone. */
	(void)fcntl(fd, F_SETFL, O_NONBLOCK);
	ev_io_set(pipe, fd, EV_READ);
	ev_io_start(run->streamer->loop, pipe);
}

/* Whatever there is, at most READ_AT_ONCE bytes, in buffer; 0 at the end, -EAGAIN when there is none. */
static ssize_t pipe_read(const ev_io *pipe)
{
	ssize_t len = read(pipe->fd, buffer, sizeof(buffer));

	return len < 0 && (errno == EAGAIN || errno == EINTR) ? -EAGAIN : len < 0 ? 0 : len;
}

/* ---------------------------------------------------------------- its end */

static const char *limit_name(const struct run *run)
{
	static const char *const names[RUN_LIMIT_COUNT] = {
	    [RUN_LIMIT_NONE] = "none",     [RUN_LIMIT_WALL_TIME] = "wall-time", [RUN_LIMIT_CPU_TIME] = "cpu-time",
	    [RUN_LIMIT_MEMORY] = "memory", [RUN_LIMIT_OUTPUT] = "output",       [RUN_LIMIT_STOPPED] = "stopped",
	};

	return names[run->over_limit ? RUN_LIMIT_OUTPUT : run->end.limit];
}

static void log_exit(const struct run *run)
{
	const struct launch_end *end = &run->end;
	bool signalled = WIFSIGNALED(end->status);
	/* Without its client it ends by a signal, or because nobody reads what it writes. */
	bool expected = end->status == 0 || (run->detached && !run->over_limit && run->output.wrong == NULL);

	if (end->lost) {
		log_event(LOG_WARNING, "handler-lost", LOG_INT("id", run->id), LOG_STR("handler", run->handler->name));
		return;
	}
	log_event(
	    expected ? LOG_INFO : LOG_WARNING, "handler-exited", LOG_INT("id", run->id),
	    LOG_STR("handler", run->handler->name),
	    LOG_INT(signalled ? "signal" : "status", signalled ? WTERMSIG(end->status) : WEXITSTATUS(end->status)),
	    LOG_STR("limit", limit_name(run)), LOG_INT("user_ms", end->user_us / 1000),
	    LOG_INT("system_ms", end->system_us / 1000), LOG_INT("max_rss_kib", end->max_rss_kib),
	    LOG_INT("bytes", run->bytes), LOG_INT("excess", run->output.excess));
}

static void run_free(struct run *run)
{
	struct ev_loop *loop = run->streamer->loop;

	pipe_close(run, &run->out);
	pipe_close(run, &run->err);
	ev_timer_stop(loop, &run->breath);
	handler_request_free(&run->request);
	handler_output_free(&run->output);
	free(run);
}

static void fail(struct run *run, enum outcome outcome, unsigned status, const char *message)
{
	stream_fail(run->stream, &(struct stream_error){.outcome = outcome,
	                                                .status = status,
	                                                .message = message,
	                                                .retry_after = status == 503 ? 1 : 0});
}

static void not_understood(struct run *run)
{
	log_event(LOG_WARNING, "handler-output", LOG_INT("id", run->id), LOG_STR("handler", run->handler->name),
	          LOG_STR("error", run->output.wrong));
	fail(run, OUTCOME_HANDLER_FAILED, 502, "The program that answers said something that is no answer.");
}

static void add_body(struct run *run, struct span piece)
{
	if (run->output.form != HANDLER_FORM_TEXT) {
		stream_bytes(run->stream, piece);
		return;
	}
	stream_begin(run->stream);
	if (piece.len > 0)
		stream_content(run->stream, piece);
}

/* Whether somebody still wants the output. */
static bool is_wanted(const struct run *run)
{
	return run->stream != NULL && stream_is_live(run->stream);
}

/* Output and program have ended, and both are known. */
static void judge(struct run *run)
{
	struct span rest;

	if (!is_wanted(run) || !run->out_ended || !run->exited)
		return;
	if (run->end.lost)
		fail(run, OUTCOME_HANDLER_UNAVAILABLE, 503, "The program that answers was ended.");
	else if (run->end.limit == RUN_LIMIT_WALL_TIME)
		fail(run, OUTCOME_HANDLER_LIMIT, 504, "The program that answers took longer than allowed.");
	else if (run->end.limit != RUN_LIMIT_NONE)
		fail(run, OUTCOME_HANDLER_LIMIT, 502, "The program that answers reached a limit.");
	else if (run->end.status != 0)
		fail(run, OUTCOME_HANDLER_FAILED, 502, "The program that answers failed.");
	else if (handler_output_end(&run->output, &rest) != 0)
		not_understood(run);
	else {
		add_body(run, rest);
		stream_done(run->stream);
	}
}

/* ---------------------------------------------------------------- standard output */

static void take_head(struct run *run)
{
	const struct handler_head *head = &run->output.head;
	int rc = stream_answer(run->stream, &(struct stream_answer){.status = head->status,
	                                                            .headers = text_span(&head->lines),
	                                                            .length = head->content_length,
	                                                            .bodiless = head->bodiless});

	if (rc != 0) {
		run->output.wrong = "the headers are too long together with those of the application";
		not_understood(run);
	} else if (run->head_only) {
		stream_done(run->stream);
	}
}

static void take_output(struct run *run, struct span input)
{
	struct span piece;
	int event;

	do {
		bool wanted = is_wanted(run);

		event = handler_output_next(&run->output, &input, &piece);
		if (!wanted)
			continue;
		if (event == HANDLER_HEAD)
			take_head(run);
		else if (event == HANDLER_BODY)
			add_body(run, piece);
		else if (event == HANDLER_END)
			stream_done(run->stream);
		else if (event < 0)
			not_understood(run);
	} while (event == HANDLER_HEAD || event == HANDLER_BODY);
}

/* Nothing more is read of it. */
static void give_up(struct run *run)
{
	pipe_close(run, &run->out);
	if (run->launch != NULL)
		launch_stop(run->launch, run->over_limit ? RUN_LIMIT_OUTPUT : RUN_LIMIT_NONE);
}

/* One read; false at the end, or when there is nothing for now. */
static bool read_output(struct run *run)
{
	ssize_t len = pipe_read(&run->out);
	size_t left = run->handler->output_bytes - (size_t)run->bytes;

	if (len == -EAGAIN)
		return false;
	if (len == 0) {
		pipe_close(run, &run->out);
		run->out_ended = true;
		judge(run);
		return false;
	}
	run->over_limit = (size_t)len > left;
	if (run->over_limit)
		len = (ssize_t)left;
	run->bytes += (size_t)len;
	take_output(run, span_of(buffer, (size_t)len));
	if (run->output.wrong != NULL || run->over_limit) {
		if (run->over_limit && run->stream != NULL)
			fail(run, OUTCOME_HANDLER_LIMIT, 502, "The program that answers said more than allowed.");
		give_up(run);
		return false;
	}
	return true;
}

static void on_out(struct ev_loop *loop, ev_io *watcher, int revents)
{
	(void)loop;
	(void)revents;
	(void)read_output(watcher->data);
}

/* ---------------------------------------------------------------- standard error */

/* One read; false at the end, or when there is nothing for now. */
static bool read_error(struct run *run)
{
	ssize_t len = pipe_read(&run->err);

	if (len == -EAGAIN)
		return false;
	if (len == 0) {
		pipe_close(run, &run->err);
		return false;
	}
	handler_log_feed(&run->log, span_of(buffer, (size_t)len), clock_ms());
	run->err_bytes += (size_t)len;
	return true;
}

static void on_err(struct ev_loop *loop, ev_io *watcher, int revents)
{
	struct run *run = watcher->data;
	int64_t now = clock_ms();

	(void)revents;
	if (run->second != now / 1000) {
		run->second = now / 1000;
		run->err_bytes = 0;
	}
	if (!read_error(run) || run->err_bytes < STDERR_BYTES_S)
		return;
	ev_io_stop(loop, &run->err);
	ev_timer_set(&run->breath, (double)(1000 - now % 1000) / 1000, 0.0);
	ev_timer_start(loop, &run->breath);
}

static void on_breath(struct ev_loop *loop, ev_timer *timer, int revents)
{
	struct run *run = timer->data;

	(void)revents;
	if (run->err.fd >= 0)
		ev_io_start(loop, &run->err);
}

/* ---------------------------------------------------------------- what the launcher says */

static void on_placed(void *user, int error)
{
	struct run *run = user;
	struct reservation *reservation = run->reservation;

	if (error != 0)
		run->launch = NULL;
	run->reservation = NULL;
	reservation->done(reservation, error == 0 ? REASON_OK : REASON_HANDLER_BUSY);
}

static void on_launched(void *user, int error, int out, int err)
{
	struct run *run = user;

	if (error == 0) {
		pipe_open(run, &run->out, out);
		pipe_open(run, &run->err, err);
		if (run->detached)
			pipe_close(run, &run->out);
		return;
	}
	run->launch = NULL;
	log_event(LOG_WARNING, "handler-not-started", LOG_INT("id", run->id), LOG_STR("handler", run->handler->name),
	          LOG_STR("error", strerror(-error)));
	if (run->detached)
		run_free(run);
	else
		fail(run, OUTCOME_HANDLER_UNAVAILABLE, 503, "The program that answers could not be started.");
}

/* Nobody writes to the pipes any more: what is in them is all. */
static void on_exited(void *user, const struct launch_end *end)
{
	struct run *run = user;

	run->launch = NULL;
	run->end = *end;
	run->exited = true;
	ev_timer_stop(run->streamer->loop, &run->breath);
	for (int i = 0; i < READS_AT_END && run->err.fd >= 0 && read_error(run); i++)
		;
	pipe_close(run, &run->err);
	handler_log_end(&run->log, clock_ms());
	for (int i = 0; i < READS_AT_END && !is_wanted(run) && run->out.fd >= 0 && read_output(run); i++)
		;
	if (end->lost) {
		/* What its end would have told is not known, and the program may be about to end still. */
		pipe_close(run, &run->out);
		run->out_ended = true;
	}
	log_exit(run);
	metrics_add(METRIC_HANDLER_EXCESS, run->output.excess);
	if (run->detached)
		run_free(run);
	else
		judge(run);
}

static const struct launch_events launch_events = {.placed = on_placed, .launched = on_launched, .exited = on_exited};

/* ---------------------------------------------------------------- the backend */

static enum handler_form form_of(enum config_mode mode)
{
	return mode == MODE_HTTP ? HANDLER_FORM_HTTP : mode == MODE_CGI ? HANDLER_FORM_CGI : HANDLER_FORM_TEXT;
}

static void init(struct streamer *streamer)
{
	static const enum config_output outputs[] = {
	    [MODE_HTTP] = OUTPUT_RAW, [MODE_CGI] = OUTPUT_RAW, [MODE_TEXT] = OUTPUT_TEXT, [MODE_SSE] = OUTPUT_CONTENT};

	streamer->output = outputs[streamer->config->handlers[streamer->backend->handler].mode];
}

static int prepare(struct streamer *streamer, const struct request *request, void **work, const char **error)
{
	const struct config_handler *handler = &streamer->config->handlers[streamer->backend->handler];
	struct run *run = calloc(1, sizeof(*run));

	(void)error;
	if (run == NULL)
		return -ENOMEM;
	run->streamer = streamer;
	run->handler = handler;
	run->id = request->id;
	run->head_only = span_equal_string(request->wire->field[WIRE_METHOD], "HEAD");
	run->log = (struct handler_log){.handler = handler->name, .id = run->id};
	handler_output_init(&run->output, form_of(handler->mode));
	ev_io_init(&run->out, on_out, -1, EV_READ);
	ev_io_init(&run->err, on_err, -1, EV_READ);
	ev_timer_init(&run->breath, on_breath, 0.0, 0.0);
	run->out.data = run->err.data = run->breath.data = run;
	if (handler_request_init(&run->request, request, run->id) != 0) {
		run_free(run);
		return -ENOMEM;
	}
	*work = run;
	return 0;
}

/* A head of ours needs no program. */
static int reserve(void *work, struct reservation *reservation)
{
	struct run *run = work;

	if (run->head_only && run->output.form == HANDLER_FORM_TEXT)
		return 0;
	run->launch = launch_place(&run->streamer->launcher, &launch_events, run);
	run->reservation = reservation;
	return run->launch != NULL ? 1 : -ENOMEM;
}

static enum reason not_reserved(const struct streamer *streamer)
{
	return launch_has_channel(&streamer->launcher) ? REASON_HANDLER_BUSY : REASON_HANDLER_UNAVAILABLE;
}

static void start(struct stream *stream)
{
	struct run *run = stream->work;
	struct handler_request *request = &run->request;

	run->stream = stream;
	launch_start(run->launch, &request->text, request->facts_len, request->n_facts, &request->memfd);
}

static void pause_output(struct stream *stream, bool paused)
{
	struct run *run = stream->work;

	if (run->out.fd < 0)
		return;
	if (paused)
		ev_io_stop(stream->streamer->loop, &run->out);
	else
		ev_io_start(stream->streamer->loop, &run->out);
}

/* After a whole answer the program may end by itself; what else it writes is counted. */
static void stop(void *work, bool whole)
{
	struct run *run = work;
	bool started = run->stream != NULL;

	run->stream = NULL;
	run->detached = true;
	if (run->launch == NULL) {
		run_free(run);
	} else if (!started) {
		launch_leave(run->launch);
		run_free(run);
	} else if (!whole) {
		give_up(run);
	} else if (run->out.fd >= 0) {
		ev_io_start(run->streamer->loop, &run->out);
	}
}

const struct backend_type_ops backend_handler = {
    .type = BACKEND_HANDLER,
    .opaque = true,
    .init = init,
    .prepare = prepare,
    .reserve = reserve,
    .not_reserved = not_reserved,
    .start = start,
    .pause = pause_output,
    .stop = stop,
};
