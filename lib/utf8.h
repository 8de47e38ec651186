/* SPDX-License-Identifier: Apache-2.0
 *
 * UTF-8, strictly: the shortest form of each character, no surrogates, nothing above U+10FFFF (RFC 3629).
 */
#ifndef HANDOFF_UTF8_H
#define HANDOFF_UTF8_H

#include "bytes.h"

bool utf8_valid(struct span text);

/* How much of the text is valid from its start. *wrong: how many of the bytes behind that stand for one character that
 * is none (U+FFFD, as The Unicode Standard counts them, 3.9); 0: nothing is behind it, or a character that is cut. */
size_t utf8_valid_part(struct span text, size_t *wrong);

#endif
