/* SPDX-License-Identifier: Apache-2.0
 *
 * Upstream: requests to the service that answers, whatever HTTP it speaks: sent once more where that is safe, and
 * refused at once while the service fails.
 *
 * Safe is what the service has not begun to deal with: no connection came about, or it said so itself. What may have
 * been dealt with is never sent again: it costs money and, where a model acts, more.
 */
#ifndef HANDOFFD_STREAMER_UPSTREAM_H
#define HANDOFFD_STREAMER_UPSTREAM_H

#include "transport.h"

struct upstream;
struct upstream_call;

/* Before the process is caged; as transport_ops.init. */
struct upstream *upstream_init(struct streamer *streamer, const char *path, const char *authorization);

/* POST it; see transport.h for the request, which must stay likewise, and for the events, none of which comes before
 * this has returned. NULL: no memory, or, with *retry_after_s not 0, refused. */
struct upstream_call *upstream_start(struct upstream *upstream, const struct transfer_request *request,
                                     const struct transfer_events *events, void *user, unsigned *retry_after_s);
void upstream_pause(struct upstream_call *call, bool paused);
/* As those of a transfer; the call is gone then. */
void upstream_release(struct upstream_call *call);
/* silent: because the service did not answer in time, which counts as a failure. */
void upstream_cancel(struct upstream_call *call, bool silent);

#endif
