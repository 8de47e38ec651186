/* SPDX-License-Identifier: Apache-2.0
 *
 * Handler log: see handler_log.h.
 */
#include "handler_log.h"

#include "daemon/common/log.h"
#include "daemon/common/metrics.h"

static void tell_dropped(struct handler_log *log)
{
	if (log->dropped > 0)
		log_event(LOG_NOTICE, "handler-stderr-dropped", LOG_INT("id", log->id),
		          LOG_STR("handler", log->handler), LOG_INT("lines", log->dropped));
	metrics_add(METRIC_HANDLER_LINES_DROPPED, log->dropped);
	log->dropped = 0;
}

/* Whether one more line may be written in this second. */
static bool may_write(struct handler_log *log, int64_t now_ms)
{
	if (log->second != now_ms / 1000) {
		tell_dropped(log);
		log->second = now_ms / 1000;
		log->lines = 0;
	}
	if (log->lines < HANDLER_LOG_LINES_MAX) {
		log->lines++;
		return true;
	}
	log->dropped++;
	return false;
}

static void write_line(struct handler_log *log, int64_t now_ms)
{
	struct span line = text_span(&log->line);

	if (line.len > 0 && line.data[line.len - 1] == '\r' && !log->cut)
		line.len--;
	if (line.len > 0 && may_write(log, now_ms))
		log_event(LOG_NOTICE, "handler-stderr", LOG_INT("id", log->id), LOG_STR("handler", log->handler),
		          LOG_SPAN("line", line), LOG_STR("cut", log->cut ? "yes" : "no"));
	text_reset(&log->line, HANDLER_LOG_LINE_MAX);
	log->cut = false;
}

void handler_log_feed(struct handler_log *log, struct span piece, int64_t now_ms)
{
	while (piece.len > 0) {
		const uint8_t *end = memchr(piece.data, '\n', piece.len);
		size_t len = end == NULL ? piece.len : (size_t)(end - piece.data);
		size_t room = HANDLER_LOG_LINE_MAX - log->line.len;

		text_add(&log->line, piece.data, len < room ? len : room);
		log->cut = log->cut || len > room;
		if (end != NULL) {
			write_line(log, now_ms);
			len++;
		}
		piece = span_of(piece.data + len, piece.len - len);
	}
}

void handler_log_end(struct handler_log *log, int64_t now_ms)
{
	write_line(log, now_ms);
	tell_dropped(log);
	text_free(&log->line);
}
