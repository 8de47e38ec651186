/* SPDX-License-Identifier: Apache-2.0
 *
 * Curl headers: lists of header lines for libcurl. What all requests share is not copied, the credential above all;
 * what belongs to one request stands in front of it.
 */
#ifndef HANDOFFD_STREAMER_CURL_HEADERS_H
#define HANDOFFD_STREAMER_CURL_HEADERS_H

#include <curl/curl.h>

#include "transport.h"

/* Put a node in front of next around a string that stays where it is. fatal() when there is no memory. */
struct curl_slist *curl_headers_node(const char *line, struct curl_slist *next);

/* Put a copy of a request's own field in front. 0 or -ENOMEM. */
int curl_headers_add(struct curl_slist **list, const struct transfer_field *field);
/* Free a request's own, as far as those that are shared. */
void curl_headers_free(struct curl_slist *list, const struct curl_slist *shared);

#endif
