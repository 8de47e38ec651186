/* SPDX-License-Identifier: Apache-2.0
 *
 * Configuration text: the file's bytes, made ready for libconfuse.
 */
#ifndef HANDOFFD_CONFIG_TEXT_H
#define HANDOFFD_CONFIG_TEXT_H

/* The text of the file, NUL-terminated and at least one byte long, with comments replaced by blanks; the caller frees
 * it. NULL with *wrong (static storage) and *line (0: none in particular) when it cannot be used. */
char *config_text_read(const char *file, const char **wrong, int *line);

/* The line in which the section opens that is closed in this line. */
int config_text_opening(const char *text, int closing_line);

#endif
