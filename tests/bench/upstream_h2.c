/* SPDX-License-Identifier: Apache-2.0
 *
 * Upstream: HTTP/2.
 */
#include <nghttp2/nghttp2.h>
#include <stdlib.h>
#include <string.h>

#include "upstream.h"

#define STREAMS_MAX 250

#define HEADER(name, value)                                                                                            \
	{                                                                                                              \
		(uint8_t *)(uintptr_t)name, (uint8_t *)(uintptr_t)value, sizeof(name) - 1, sizeof(value) - 1,          \
		    NGHTTP2_NV_FLAG_NONE                                                                               \
	}

static const nghttp2_nv head[] = {HEADER(":status", "200"), HEADER("content-type", "text/event-stream")};

static ssize_t read_answer(nghttp2_session *session, int32_t stream_id, uint8_t *out, size_t size, uint32_t *flags,
                           nghttp2_data_source *source, void *user)
{
	struct call *call = source->ptr;
	size_t len = call_read(call, (char *)out, size);

	(void)session;
	(void)stream_id;
	(void)user;
	if (call->position == call->text->len)
		*flags |= NGHTTP2_DATA_FLAG_EOF;
	else if (len == 0)
		call->suspended = true;
	return call->suspended ? NGHTTP2_ERR_DEFERRED : (ssize_t)len;
}

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
	if (frame->hd.type != NGHTTP2_HEADERS || frame->headers.cat != NGHTTP2_HCAT_REQUEST)
		return 0;
	struct call *call = call_new(user);

	call->stream_id = frame->hd.stream_id;
	return nghttp2_session_set_stream_user_data(session, frame->hd.stream_id, call);
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t stream_id, const uint8_t *bytes, size_t len,
                   void *user)
{
	struct call *call = nghttp2_session_get_stream_user_data(session, stream_id);

	(void)flags;
	(void)user;
	if (call == NULL || call->request == NULL || len > REQUEST_MAX - call->request_len)
		return 0;
	memcpy(call->request + call->request_len, bytes, len);
	call->request_len += len;
	return 0;
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
	struct call *call = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);

	(void)user;
	if (call == NULL || (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) == 0)
		return 0;
	nghttp2_data_provider provider = {.source.ptr = call, .read_callback = read_answer};

	call_begin(call);
	return nghttp2_submit_response(session, call->stream_id, head, sizeof(head) / sizeof(head[0]), &provider);
}

static int on_close(nghttp2_session *session, int32_t stream_id, uint32_t error, void *user)
{
	struct call *call = nghttp2_session_get_stream_user_data(session, stream_id);

	(void)user;
	if (call != NULL)
		call_end(call, error == NGHTTP2_NO_ERROR && call->text != NULL && call->position == call->text->len);
	return 0;
}

int h2_open(struct connection *connection)
{
	nghttp2_session_callbacks *callbacks;
	nghttp2_settings_entry settings[] = {{NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, STREAMS_MAX}};

	if (nghttp2_session_callbacks_new(&callbacks) != 0)
		return -1;
	nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, on_begin_headers);
	nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
	nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
	nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_close);
	int rc = nghttp2_session_server_new(&connection->h2, callbacks, connection);

	nghttp2_session_callbacks_del(callbacks);
	return rc == 0 ? nghttp2_submit_settings(connection->h2, NGHTTP2_FLAG_NONE, settings, 1) : -1;
}

int h2_receive(struct connection *connection, const uint8_t *bytes, size_t len)
{
	return nghttp2_session_mem_recv(connection->h2, bytes, len) < 0 ? -1 : 0;
}

int h2_flush(struct connection *connection)
{
	const uint8_t *bytes;
	char batch[16384];
	size_t n = 0;
	ssize_t len;

	/* Frames together, so that one record holds many. */
	while (connection->pending == NULL && (len = nghttp2_session_mem_send(connection->h2, &bytes)) != 0) {
		if (len < 0)
			return -1;
		if (n + (size_t)len > sizeof(batch)) {
			if (!connection_write(connection, batch, n))
				return -1;
			n = 0;
		}
		if ((size_t)len > sizeof(batch)) {
			if (!connection_write(connection, (const char *)bytes, (size_t)len))
				return -1;
			continue;
		}
		memcpy(batch + n, bytes, (size_t)len);
		n += (size_t)len;
	}
	return n == 0 || connection_write(connection, batch, n) ? 0 : -1;
}

void h2_more(struct call *call)
{
	if (call->suspended)
		nghttp2_session_resume_data(call->connection->h2, call->stream_id);
	call->suspended = false;
}

void h2_close(struct connection *connection)
{
	nghttp2_session_del(connection->h2);
	connection->h2 = NULL;
}
