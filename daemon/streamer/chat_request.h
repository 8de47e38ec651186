/* SPDX-License-Identifier: Apache-2.0
 *
 * Chat request: a handoff's request as the body of a chat completion, as OpenAI and the compatible services take it.
 * What the data leaves open comes from the profile that it names, then from the backend's section.
 */
#ifndef HANDOFFD_STREAMER_CHAT_REQUEST_H
#define HANDOFFD_STREAMER_CHAT_REQUEST_H

#include "request.h"
#include "request_body.h"

/* 0 with the body, which keeps the request's data when it needs it; -EINVAL with *error (static storage) when the
 * request asks for what the configuration does not offer; -ENOMEM. */
int chat_request_make(const struct config_backend *backend, const struct request *request, struct request_body **body,
                      const char **error);

#endif
