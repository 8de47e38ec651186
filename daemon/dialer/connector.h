/* SPDX-License-Identifier: Apache-2.0
 *
 * Connector: one connection on its way: resolve, then try the addresses, each a moment after the one before, until one
 * answers or the upstream's connect-timeout ends (RFC 8305). Only a socket whose connect() has completed comes out:
 * another could be re-aimed by whoever gets it.
 *
 * An upstream that failed several times in a row is left alone for a while: meanwhile the answer is its last error.
 */
#ifndef DIALER_CONNECTOR_H
#define DIALER_CONNECTOR_H

#include <ev.h>

#include "daemon/common/config.h"

struct connector;

/* Before the cage takes away what this asks. */
void connector_init(const struct config *config);

/* Called once: fd is the callee's when error is 0, else fd is -1 and error is -errno. The connector is gone then. */
typedef void connector_done(void *data, int fd, int error);

/* Begin with the upstream of this number. Returns NULL when out of memory. done is never called before this has
 * returned. */
struct connector *connector_start(struct ev_loop *loop, const struct config *config, size_t upstream,
                                  connector_done *done, void *data);

/* Give up; done is not called. */
void connector_cancel(struct connector *connector);

#endif
