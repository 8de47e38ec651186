/* SPDX-License-Identifier: Apache-2.0
 *
 * Chat request: a handoff's request as the body of a chat completion, as OpenAI and the compatible services take it.
 */
#ifndef HANDOFFD_STREAMER_CHAT_REQUEST_H
#define HANDOFFD_STREAMER_CHAT_REQUEST_H

#include "daemon/common/config.h"
#include "request.h"
#include "request_body.h"

/* NULL when there is no memory. */
struct request_body *chat_request_make(const struct config_backend *backend, const struct request *request);

#endif
