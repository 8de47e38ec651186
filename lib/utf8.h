/* SPDX-License-Identifier: Apache-2.0
 *
 * UTF-8, strictly: the shortest form of each character, no surrogates, nothing above U+10FFFF (RFC 3629).
 */
#ifndef HANDOFF_UTF8_H
#define HANDOFF_UTF8_H

#include "bytes.h"

bool utf8_valid(struct span text);

#endif
