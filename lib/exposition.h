/* SPDX-License-Identifier: Apache-2.0
 *
 * Exposition: reading the part of the Prometheus text format that the gate writes, strictly, so that what passed can be
 * shown in other formats.
 *
 *     # HELP name text
 *     # TYPE name counter|gauge|histogram
 *     name 12
 *     name{label="value",...} 0.5
 *
 * Printable ASCII only. Names are letters, digits and underscores, values decimal numbers without sign or exponent;
 * within a label's value \\, \" and \n stand for backslash, quote and end of line.
 */
#ifndef HANDOFF_EXPOSITION_H
#define HANDOFF_EXPOSITION_H

#include "bytes.h"

enum exposition_kind { EXPOSITION_HELP, EXPOSITION_TYPE, EXPOSITION_SAMPLE };

/* All spans borrow from the text. */
struct exposition_line {
	enum exposition_kind kind;
	struct span name;
	struct span labels; /* between the braces; empty when there are none */
	struct span value;  /* help text, type or number */
};

/* Take the next line off text. 1; 0 when there is none; -EBADMSG when it is not one of the above. */
int exposition_next(struct span *text, struct exposition_line *line);

/* Take the next label off labels. 1 with its name and its value, escapes as they are; 0 or -EBADMSG. */
int exposition_label(struct span *labels, struct span *name, struct span *value);

#endif
