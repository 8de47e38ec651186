/* SPDX-License-Identifier: Apache-2.0
 *
 * Configuration values: the forms a single value may have, apart from where it
 * stands in the file. Each returns NULL when the value is right, else what is wrong with it, in static storage.
 */
#ifndef HANDOFFD_CONFIG_VALUE_H
#define HANDOFFD_CONFIG_VALUE_H

#include "config.h"

/* Longest name of a backend or upstream: it stands in file names, log lines and metrics. */
#define CONFIG_NAME_MAX 32

/* 1-32 of [A-Za-z0-9_-]. */
const char *value_name(const char *text);

/* An absolute path in its shortest form, shorter than size with its NUL, without control bytes. */
const char *value_path(const char *text, size_t size);

/* A user by name, or by number, which need not be in the password file: then the group has the same number.
 * user->name is text itself, not a copy. */
const char *value_user(const char *text, struct config_user *user);

/* A group by name or number. */
const char *value_group(const char *text, gid_t *gid);

/* Octal permission bits of a socket: read and write only. */
const char *value_mode(const char *text, mode_t *mode);

/* Printable ASCII, blanks within allowed. */
const char *value_text(const char *text);

/* UTF-8 text, line ends and tabs allowed, other control bytes not. */
const char *value_utf8(const char *text);

/* %b and %w are the only uses of a percent sign. */
const char *value_pattern(const char *text);

/* A base URL, http or https, without user information, query and fragment. Fills url, tls, host and port of upstream
 * with memory that is never freed. */
const char *value_url(const char *text, struct config_upstream *upstream);

#endif
