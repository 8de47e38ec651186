/* SPDX-License-Identifier: Apache-2.0
 *
 * Channel: sends and receives what the table in messages.h allows between two
 * roles, and nothing else.
 */
#include "channel.h"

#include <errno.h>

/* Spans that may follow a body in one message: a handoff has two, its new header and the rest of the request. */
#define CHANNEL_MORE_MAX 4

struct rule {
	enum role from;
	enum role to;
	size_t body; /* bytes, exactly */
	size_t more; /* bytes, at most */
	size_t fds_min;
	size_t fds_max;
};

static const struct rule rules[MESSAGE_COUNT] = {
#define MESSAGE_RULE(symbol, from, to, body, more, fds_min, fds_max)                                                   \
	[symbol] = {from, to, sizeof(body), more, fds_min, fds_max},
    MESSAGES(MESSAGE_RULE)
#undef MESSAGE_RULE
};

#define MESSAGE_FITS(symbol, from, to, body, more, fds_min, fds_max)                                                   \
	static_assert(sizeof(struct message_header) + sizeof(body) + (more) <= MESSAGE_MAX, #symbol " fits");          \
	static_assert((fds_max) <= FDPASS_MAX, #symbol " descriptors fit");
MESSAGES(MESSAGE_FITS)
#undef MESSAGE_FITS

const char *role_name(enum role role)
{
	static const char *const names[ROLE_COUNT] = {
	    [ROLE_GATE] = "gate",         [ROLE_STREAMER] = "streamer",     [ROLE_DIALER] = "dialer",
	    [ROLE_LAUNCHER] = "launcher", [ROLE_SUPERVISOR] = "supervisor",
	};

	return (unsigned)role < ROLE_COUNT ? names[role] : "unknown";
}

static size_t span_total(const struct span *spans, size_t n)
{
	size_t total = 0;

	for (size_t i = 0; i < n; i++)
		total += spans[i].len;
	return total;
}

int channel_send(struct channel *channel, enum message_type type, const void *body, const struct span *more,
                 size_t n_more, const int *fds, size_t n_fds)
{
	if ((unsigned)type >= MESSAGE_COUNT || n_more > CHANNEL_MORE_MAX)
		return -EINVAL;

	const struct rule *rule = &rules[type];
	size_t more_len = span_total(more, n_more);

	if (rule->from != channel->self || rule->to != channel->peer || more_len > rule->more ||
	    n_fds < rule->fds_min || n_fds > rule->fds_max)
		return -EINVAL;
	if (channel->fd < 0)
		return -EPIPE;

	struct message_header header = {
	    .type = (uint32_t)type,
	    .length = (uint32_t)(sizeof(header) + rule->body + more_len),
	};
	struct iovec iov[2 + CHANNEL_MORE_MAX] = {
	    {.iov_base = &header, .iov_len = sizeof(header)},
	    {.iov_base = (void *)(uintptr_t)body, .iov_len = rule->body},
	};
	size_t n = 2;

	for (size_t i = 0; i < n_more; i++) {
		if (more[i].len == 0)
			continue;
		iov[n].iov_base = (void *)(uintptr_t)more[i].data;
		iov[n].iov_len = more[i].len;
		n++;
	}
	return fdpass_send(channel->fd, iov, n, fds, n_fds, MSG_DONTWAIT);
}

/* Room for the descriptors of any message that may come in here. */
static size_t fds_expected(const struct channel *channel)
{
	size_t most = 0;

	for (size_t i = 0; i < MESSAGE_COUNT; i++)
		if (rules[i].from == channel->peer && rules[i].to == channel->self && rules[i].fds_max > most)
			most = rules[i].fds_max;
	return most;
}

static int message_check(const struct channel *channel, const uint8_t *buffer, size_t len, struct message *message)
{
	struct message_header header;

	if (len < sizeof(header))
		return -EBADMSG;
	memcpy(&header, buffer, sizeof(header));
	if (header.length != len || header.type >= MESSAGE_COUNT)
		return -EBADMSG;

	const struct rule *rule = &rules[header.type];
	size_t rest = len - sizeof(header);

	if (rule->from != channel->peer || rule->to != channel->self || rest < rule->body ||
	    rest - rule->body > rule->more || message->n_fds < rule->fds_min || message->n_fds > rule->fds_max)
		return -EBADMSG;
	message->type = (enum message_type)header.type;
	message->body = buffer + sizeof(header);
	message->more = span_of(buffer + sizeof(header) + rule->body, rest - rule->body);
	return 0;
}

int channel_receive(struct channel *channel, void *buffer, struct message *message)
{
	*message = (struct message){.fds = {-1, -1, -1, -1}};
	if (channel->fd < 0)
		return 0;

	ssize_t len = fdpass_receive(channel->fd, buffer, MESSAGE_MAX, message->fds, fds_expected(channel),
	                             &message->n_fds, MSG_DONTWAIT);
	if (len == -EMSGSIZE)
		return -EBADMSG;
	if (len < 0)
		return (int)len;
	/* An empty message looks like the end of file. One that carries descriptors is neither. */
	if (len == 0 && message->n_fds == 0)
		return 0;

	int result = message_check(channel, buffer, (size_t)len, message);
	if (result < 0) {
		message_close_fds(message);
		return result;
	}
	return 1;
}

void message_close_fds(struct message *message)
{
	fd_close_all(message->fds, FDPASS_MAX);
	message->n_fds = 0;
}

void channel_close(struct channel *channel)
{
	fd_close(&channel->fd);
}
