/* SPDX-License-Identifier: Apache-2.0
 *
 * Status: see status.h.
 */
#include "status.h"

#include <errno.h>
#include <stdlib.h>

#include "daemon/common/list.h"
#include "daemon/common/log.h"
#include "daemon/common/metrics.h"
#include "lib/fdpass.h"
#include "lib/wire_status.h"

/* Answers whose readers are slow; each holds its whole text. */
#define ANSWERS_MAX 8
/* Seconds that a reader may take. */
#define PATIENCE    2.0

struct answer {
	struct list node;
	struct gate *gate;
	int fd;
	char *text;
	size_t len;
	size_t sent;
	uint32_t sequence;
	ev_io writable;
	ev_timer patience;
};

static struct list answers = {&answers, &answers};
static size_t n_answers;

/* Whoever gets no last part knows that it is not whole. */
static void answer_close(struct answer *answer)
{
	ev_io_stop(answer->gate->loop, &answer->writable);
	ev_timer_stop(answer->gate->loop, &answer->patience);
	list_remove(&answer->node);
	n_answers--;
	fd_close(&answer->fd);
	free(answer->text);
	free(answer);
}

/* The next part. 0 or -errno. */
static int send_part(struct answer *answer)
{
	const size_t room = WIRE_STATUS_PART_MAX - WIRE_STATUS_PART_HEADER_LEN;
	size_t left = answer->len - answer->sent;
	struct wire_status_part part = {
	    .sequence = answer->sequence,
	    .last = left <= room,
	    .instance = answer->gate->instance,
	    .text = span_of(answer->text + answer->sent, left <= room ? left : room),
	};
	uint8_t header[WIRE_STATUS_PART_HEADER_LEN];
	struct iovec iov[2] = {
	    {.iov_base = header, .iov_len = sizeof(header)},
	    {.iov_base = answer->text + answer->sent, .iov_len = part.text.len},
	};

	wire_status_part_write(&part, header);
	int result = fdpass_send(answer->fd, iov, 2, NULL, 0, MSG_DONTWAIT);
	if (result == 0) {
		answer->sent += part.text.len;
		answer->sequence++;
	}
	return result;
}

/* Send what the socket takes; the answer may be gone afterwards. */
static void answer_go_on(struct answer *answer)
{
	int result = 0;

	while (result == 0 && answer->sent < answer->len)
		result = send_part(answer);
	if (result == -EAGAIN)
		ev_io_start(answer->gate->loop, &answer->writable);
	else
		answer_close(answer);
}

static void on_writable(struct ev_loop *loop, ev_io *watcher, int events)
{
	(void)loop;
	(void)events;
	answer_go_on(watcher->data);
}

static void on_patience_end(struct ev_loop *loop, ev_timer *watcher, int events)
{
	(void)loop;
	(void)events;
	log_event(LOG_INFO, "status-not-read");
	answer_close(watcher->data);
}

/* NULL when there are too many already, or no memory: closing the reply socket says so. */
static struct answer *answer_make(struct gate *gate, int fd)
{
	struct answer *answer = n_answers < ANSWERS_MAX ? calloc(1, sizeof(*answer)) : NULL;

	if (answer == NULL) {
		fd_close(&fd);
		return NULL;
	}
	answer->gate = gate;
	answer->fd = fd;
	list_append(&answers, &answer->node);
	n_answers++;
	ev_io_init(&answer->writable, on_writable, fd, EV_WRITE);
	ev_timer_init(&answer->patience, on_patience_end, PATIENCE, 0.);
	answer->writable.data = answer;
	answer->patience.data = answer;
	ev_timer_start(gate->loop, &answer->patience);
	return answer;
}

enum reason status_take(struct gate *gate, struct request *request)
{
	struct answer *answer;

	if (wire_status_parse(request->message) < 0)
		return REASON_MESSAGE_MALFORMED;
	if (request->n_fds != 1 || !request_is_reply_socket(request->fds[0]))
		return REASON_DESCRIPTORS;
	metrics_add(METRIC_STATUS_REQUESTS, 1);
	answer = answer_make(gate, request->fds[0]);
	request->fds[0] = -1;
	request->n_fds = 0;
	if (answer == NULL)
		return REASON_OK;
	answer->text = report_make(gate, &answer->len);
	answer_go_on(answer);
	return REASON_OK;
}

void status_stop(struct gate *gate)
{
	(void)gate;
	while (!list_empty(&answers))
		answer_close(LIST_ENTRY(answers.next, struct answer, node));
}
