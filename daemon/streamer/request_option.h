/* SPDX-License-Identifier: Apache-2.0
 *
 * Request options: members of a request that go to the upstream under their own name, unchanged.
 */
#ifndef HANDOFFD_STREAMER_REQUEST_OPTION_H
#define HANDOFFD_STREAMER_REQUEST_OPTION_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

struct request_option {
	const char *name;
	bool (*valid)(const json_t *value, double min, double max);
	double min, max; /* of a number, of an array's or a string's length */
	const char *wrong;
};

extern const struct request_option request_options[];
extern const size_t request_options_count;

#endif
