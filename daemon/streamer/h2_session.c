/* SPDX-License-Identifier: Apache-2.0
 *
 * HTTP/2: what is said on a connection, see h2.h. nghttp2 knows the protocol; here is what we ask it to say, and what
 * becomes of what it heard.
 *
 * Flow control: what was received is taken at once as far as the connection is concerned, so that a slow client holds
 * back its own stream and no other; the stream's own window is opened again only while the transfer is not paused.
 */
#include <errno.h>
#include <stdlib.h>

#include "clock.h"
#include "daemon/common/log.h"
#include "daemon/common/role.h"
#include "h2.h"
#include "wiped_memory.h"

#define FIELDS_OWN       9    /* header fields of a request, besides the transfer's */
#define ACKS_MAX         128  /* answers to PING and SETTINGS that may wait to be sent */
#define QUIET_FRAMES_MAX 1000 /* a second */

/* ---------------------------------------------------------------- the request */

static ssize_t read_body(nghttp2_session *session, int32_t stream_id, uint8_t *out, size_t size, uint32_t *flags,
                         nghttp2_data_source *source, void *user)
{
	struct transfer *transfer = nghttp2_session_get_stream_user_data(session, stream_id);
	struct h2_connection *connection = user;
	size_t n;

	(void)source;
	if (transfer == NULL || transfer->body == NULL)
		return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
	n = request_body_read(transfer->body, out, size);
	transfer->sent += n;
	connection->quiet_frames = 0; /* who takes much of us may say so often */
	if (transfer->sent == request_body_length(transfer->body)) {
		*flags |= NGHTTP2_DATA_FLAG_EOF;
		transfer_body_sent(transfer);
	} else if (n == 0) {
		return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
	}
	return (ssize_t)n;
}

/* kept: the strings outlive the stream, so that nghttp2 need not copy them. */
static nghttp2_nv field(const char *name, const char *value, bool kept)
{
	union {
		const char *in;
		uint8_t *out;
	} name_pointer = {.in = name}, value_pointer = {.in = value}; /* nghttp2 only reads them */

	return (nghttp2_nv){.name = name_pointer.out,
	                    .value = value_pointer.out,
	                    .namelen = strlen(name),
	                    .valuelen = strlen(value),
	                    .flags = kept ? NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE
	                                  : NGHTTP2_NV_FLAG_NONE};
}

/* out: room for FIELDS_OWN and the transfer's. */
static size_t fields_make(const struct transfer *transfer, const char *content_length, nghttp2_nv *out)
{
	const struct transport *transport = transfer->transport;
	const char *next = transfer->fields;
	size_t n = 0;

	out[n++] = field(":method", "POST", true);
	out[n++] = field(":scheme", "https", true);
	out[n++] = field(":authority", transport->authority, true);
	out[n++] = field(":path", transport->path, true);
	out[n++] = field("user-agent", "handoffd/" HANDOFFD_VERSION, true);
	out[n++] = field("content-type", "application/json", true);
	out[n++] = field("accept", "text/event-stream", true);
	out[n++] = field("content-length", content_length, false);
	if (transport->authorization[0] != '\0') {
		out[n] = field("authorization", transport->authorization, true);
		out[n++].flags |= NGHTTP2_NV_FLAG_NO_INDEX; /* no copy of it in the tables of either side */
	}
	for (size_t i = 0; i < transfer->n_fields; i++) {
		const char *value = next + strlen(next) + 1;

		out[n++] = field(next, value, false);
		next = value + strlen(value) + 1;
	}
	return n;
}

int h2_session_request(struct h2_connection *connection, struct transfer *transfer)
{
	nghttp2_data_provider provider = {.read_callback = read_body};
	nghttp2_nv *fields = calloc(FIELDS_OWN + transfer->n_fields, sizeof(*fields));
	char content_length[24];
	size_t n;
	int32_t id;

	if (fields == NULL)
		return -ENOMEM;
	snprintf(content_length, sizeof(content_length), "%llu",
	         (unsigned long long)request_body_length(transfer->body));
	n = fields_make(transfer, content_length, fields);
	id = nghttp2_submit_request(connection->session, NULL, fields, n, &provider, transfer);
	free(fields);
	if (id < 0)
		return id == NGHTTP2_ERR_NOMEM ? -ENOMEM : -EAGAIN;
	transfer->stream_id = id;
	transfer->heard_at = connection->n_heard;
	transfer->begun_ms = clock_ms();
	connection->n_streams++;
	h2_connection_unsent(connection);
	return 0;
}

void h2_session_forget(struct transfer *transfer, bool reset, uint32_t error_code)
{
	struct h2_connection *connection = transfer->connection;
	nghttp2_session *session = connection->session;

	nghttp2_session_set_stream_user_data(session, transfer->stream_id, NULL);
	if (!reset)
		return;
	if (nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, transfer->stream_id, error_code) != 0)
		h2_connection_break(connection, TRANSFER_NO_MEMORY, "no memory");
	h2_connection_unsent(connection);
}

void h2_session_resume(struct transfer *transfer)
{
	nghttp2_session_consume_stream(transfer->connection->session, transfer->stream_id, transfer->unconsumed);
	transfer->unconsumed = 0;
	h2_connection_unsent(transfer->connection);
}

/* ---------------------------------------------------------------- the answer */

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name, size_t name_len,
                     const uint8_t *value, size_t value_len, uint8_t flags, void *user)
{
	struct transfer *transfer = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);

	(void)flags;
	(void)user;
	if (transfer == NULL)
		return 0;
	transfer->headers_len += (uint32_t)(name_len + value_len + 32);
	if (transfer->headers_len > H2_HEADERS_MAX)
		return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
	if (transfer->has_head)
		return 0; /* trailers */
	/* nghttp2 ends both with a NUL, and has checked that a status is three digits; it takes 0xx for a final one. */
	if (strcmp((const char *)name, ":status") == 0) {
		transfer->head.status = (unsigned)strtoul((const char *)value, NULL, 10);
		return transfer->head.status >= 100 ? 0 : NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
	}
	return upstream_head_take(&transfer->head, (const char *)name, (const char *)value)
	           ? 0
	           : NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
}

static void head_received(struct transfer *transfer)
{
	if (transfer->has_head)
		return;
	if (transfer->head.status < 200) {
		transfer->head = (struct transfer_head){0}; /* an interim one; the final one follows */
		return;
	}
	transfer->has_head = true;
	transfer_take_head(transfer);
}

/* Called for HEADERS and DATA, also without anything in it. */
static void stream_frame_received(struct h2_connection *connection, const nghttp2_frame *frame)
{
	nghttp2_session *session = connection->session;
	struct transfer *transfer = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);

	if (transfer != NULL && frame->hd.type == NGHTTP2_HEADERS)
		head_received(transfer);
	if ((frame->hd.flags & NGHTTP2_FLAG_END_STREAM) == 0)
		return;
	/* The head's receiver may have cancelled it. */
	transfer = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
	if (transfer != NULL)
		transfer_take_end(transfer);
}

static void settings_received(struct h2_connection *connection)
{
	uint32_t allowed =
	    nghttp2_session_get_remote_settings(connection->session, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS);
	uint32_t wanted = (uint32_t)connection->transport->upstream->streams_per_connection;

	connection->capacity = allowed < wanted ? allowed : wanted;
	if (connection->capacity == 0 && connection->n_streams == 0)
		h2_connection_break(connection, TRANSFER_UNREACHABLE, "allows no streams");
	else if (connection->state == H2_SETTINGS)
		h2_pool_enter(connection, H2_OPEN);
	else
		h2_pool_update(connection);
}

static void goaway_received(struct h2_connection *connection)
{
	if (connection->state < H2_OPEN)
		h2_connection_break(connection, TRANSFER_UNREACHABLE, "goes away at once");
	else if (connection->state == H2_OPEN)
		h2_pool_enter(connection, H2_DRAINING);
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
	struct h2_connection *connection = user;

	(void)session;
	switch (frame->hd.type) {
	case NGHTTP2_DATA:
	case NGHTTP2_HEADERS:
		stream_frame_received(connection, frame);
		break;
	case NGHTTP2_SETTINGS:
		if ((frame->hd.flags & NGHTTP2_FLAG_ACK) == 0)
			settings_received(connection);
		break;
	case NGHTTP2_GOAWAY:
		goaway_received(connection);
		break;
	default:
		break;
	}
	return 0;
}

/* Before a frame's payload: whatever does not bring an answer further is allowed in moderation only. */
static int on_frame_begin(nghttp2_session *session, const nghttp2_frame_hd *header, void *user)
{
	struct h2_connection *connection = user;

	bool has_content = header->type == NGHTTP2_HEADERS || (header->type == NGHTTP2_DATA && header->length > 0);

	if (has_content && nghttp2_session_get_stream_user_data(session, header->stream_id) != NULL)
		connection->quiet_bytes -= (int64_t)header->length + H2_FRAME_HEADER;
	if (has_content || ++connection->quiet_frames <= QUIET_FRAMES_MAX)
		return 0;
	connection->fault = "too many frames that say nothing";
	return NGHTTP2_ERR_CALLBACK_FAILURE;
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t stream_id, const uint8_t *data, size_t len,
                   void *user)
{
	struct transfer *transfer = nghttp2_session_get_stream_user_data(session, stream_id);

	(void)flags;
	(void)user;
	if (transfer != NULL)
		transfer_take_body(transfer, span_of(data, len));
	if (nghttp2_session_consume_connection(session, len) != 0)
		return NGHTTP2_ERR_CALLBACK_FAILURE;
	/* It may be gone now. */
	transfer = nghttp2_session_get_stream_user_data(session, stream_id);
	if (transfer != NULL && transfer->paused)
		transfer->unconsumed += (uint32_t)len;
	else if (nghttp2_session_consume_stream(session, stream_id, len) != 0)
		return NGHTTP2_ERR_CALLBACK_FAILURE;
	return 0;
}

static enum transfer_error error_of(uint32_t code)
{
	return code == NGHTTP2_REFUSED_STREAM ? TRANSFER_UNSEEN : TRANSFER_BROKEN;
}

/* Also for streams that are forgotten already: a place on the connection is free. */
static int on_close(nghttp2_session *session, int32_t stream_id, uint32_t code, void *user)
{
	struct h2_connection *connection = user;
	struct transfer *transfer = nghttp2_session_get_stream_user_data(session, stream_id);

	connection->n_streams--;
	connection->was_used = true;
	connection->since_ms = clock_ms();
	h2_pool_update(connection);
	if (code == NGHTTP2_FLOW_CONTROL_ERROR && connection->state == H2_OPEN)
		h2_pool_enter(connection, H2_DRAINING); /* more of that kind would break it */
	if (transfer == NULL)
		return 0;
	if (transfer->events != NULL && code != NGHTTP2_REFUSED_STREAM)
		log_event(LOG_WARNING, "upstream-failed", LOG_STR("upstream", connection->transport->upstream->name),
		          LOG_STR("error", nghttp2_http2_strerror(code)));
	transfer_fail(transfer, error_of(code));
	return 0;
}

/* The last complaint of nghttp2's is why it ends the connection. */
static int on_fault(nghttp2_session *session, int code, const char *text, size_t len, void *user)
{
	struct h2_connection *connection = user;

	(void)session;
	(void)text; /* holds what the peer sent */
	(void)len;
	connection->fault = nghttp2_strerror(code);
	return 0;
}

/* ---------------------------------------------------------------- sessions */

static void *take(size_t size, void *user)
{
	(void)user;
	return malloc(size);
}

static void *take_empty(size_t n, size_t size, void *user)
{
	(void)user;
	return calloc(n, size);
}

static void *move(void *memory, size_t size, void *user)
{
	(void)user;
	return wiped_realloc(memory, size);
}

static void give_back(void *memory, void *user)
{
	(void)user;
	wiped_free(memory);
}

void h2_session_init(struct transport *transport)
{
	nghttp2_session_callbacks *callbacks;

	if (nghttp2_session_callbacks_new(&callbacks) != 0 || nghttp2_option_new(&transport->option) != 0)
		fatal("out of memory");
	nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
	nghttp2_session_callbacks_set_on_begin_frame_callback(callbacks, on_frame_begin);
	nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
	nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
	nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_close);
	nghttp2_session_callbacks_set_error_callback2(callbacks, on_fault);
	transport->callbacks = callbacks;
	nghttp2_option_set_no_auto_window_update(transport->option, 1);
	nghttp2_option_set_max_outbound_ack(transport->option, ACKS_MAX);
	/* Requests are few and short: a table of what was sent costs more memory than it saves bytes. */
	nghttp2_option_set_max_deflate_dynamic_table_size(transport->option, 0);
}

nghttp2_session *h2_session_new(struct h2_connection *connection)
{
	const struct transport *transport = connection->transport;
	const nghttp2_settings_entry settings[] = {
	    {NGHTTP2_SETTINGS_HEADER_TABLE_SIZE, 0},
	    {NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
	    {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, H2_STREAM_WINDOW},
	    {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, H2_HEADERS_MAX},
	};
	int32_t window = (int32_t)(transport->upstream->streams_per_connection * H2_STREAM_WINDOW);
	nghttp2_mem memory = {.malloc = take, .calloc = take_empty, .realloc = move, .free = give_back};
	nghttp2_session *session = NULL;

	if (window < NGHTTP2_INITIAL_CONNECTION_WINDOW_SIZE)
		window = NGHTTP2_INITIAL_CONNECTION_WINDOW_SIZE;
	if (nghttp2_session_client_new3(&session, transport->callbacks, connection, transport->option, &memory) != 0)
		return NULL;
	if (nghttp2_submit_settings(session, NGHTTP2_FLAG_NONE, settings, sizeof(settings) / sizeof(settings[0])) ==
	        0 &&
	    nghttp2_session_set_local_window_size(session, NGHTTP2_FLAG_NONE, 0, window) == 0)
		return session;
	nghttp2_session_del(session);
	return NULL;
}
