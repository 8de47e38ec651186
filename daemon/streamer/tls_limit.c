/* SPDX-License-Identifier: Apache-2.0
 *
 * TLS limit: see tls_limit.h.
 */
#include "tls_limit.h"

#include <errno.h>
#include <stdint.h>

#include "daemon/common/log.h"

/* The handshake takes less than ten; keys change after millions of records. */
#define MESSAGES_MAX 256

static int messages_index = -1; /* of the counter that each connection has */

int tls_limit_init(void)
{
	if (messages_index < 0)
		messages_index = SSL_get_ex_new_index(0, NULL, NULL, NULL, NULL);
	return messages_index < 0 ? -ENOMEM : 0;
}

static void on_message(int is_sent, int version, int type, const void *message, size_t len, SSL *ssl, void *user)
{
	uintptr_t n;

	(void)version;
	(void)message;
	(void)len;
	(void)user;
	if (is_sent || type != SSL3_RT_HANDSHAKE)
		return;
	n = (uintptr_t)SSL_get_ex_data(ssl, messages_index) + 1;
	if (n == MESSAGES_MAX)
		log_event(LOG_WARNING, "upstream-tls", LOG_STR("error", "too many messages that carry no data"));
	if (n >= MESSAGES_MAX || SSL_set_ex_data(ssl, messages_index, (void *)n) != 1)
		SSL_set_shutdown(ssl, SSL_RECEIVED_SHUTDOWN); /* nothing is read from now on */
}

void tls_limit(SSL_CTX *context)
{
	SSL_CTX_set_msg_callback(context, on_message);
}
