/* SPDX-License-Identifier: Apache-2.0
 *
 * handoffctl: the subcommands and what they share. Each subcommand is one file that ends with its struct command.
 */
#ifndef HANDOFFD_CTL_H
#define HANDOFFD_CTL_H

#include "lib/bytes.h"

enum ctl_exit { CTL_OK = 0, CTL_FAILED = 1, CTL_USAGE = 2 };
/* What the parsing of options returns when the command is to go on, beside the exits above. */
#define CTL_CONTINUE (-1)

struct command {
	const char *name;
	const char *title; /* "handoffctl NAME", which getopt_long() prints before its complaints */
	const char *summary;
	const char *help; /* what --help prints */
	/* argv[0] is the title. Returns an enum ctl_exit. */
	int (*run)(const struct command *command, int argc, char **argv);
};

extern const struct command command_keygen;
extern const struct command command_sign;
extern const struct command command_check;
extern const struct command command_revoke;

/* "handoffctl: " and the message on standard error; returns CTL_FAILED. */
__attribute__((format(printf, 1, 2))) int ctl_error(const char *format, ...);
/* The same, with a hint at the help; returns CTL_USAGE. */
__attribute__((format(printf, 1, 2))) int ctl_usage(const char *format, ...);
/* Print the help; returns CTL_OK. */
int ctl_help(const struct command *command);

/* Write all bytes, without a buffer in between that would keep a copy of them. 0 or -errno. */
int ctl_write(int fd, struct span bytes);
/* Write all bytes on standard output; returns an enum ctl_exit and complains by itself. */
int ctl_print(struct span bytes);
/* Read up to the end of file. 0 and malloc'ed data, -EFBIG when there are more than max bytes, or -errno. */
int ctl_read(int fd, size_t max, uint8_t **data, size_t *len);

/* Whether text could stand in a key ring: a kid, a socket path (or *). */
bool ctl_kid_valid(const char *text);
bool ctl_path_valid(const char *text);

/* Add a line, which ends with a newline, to a key ring file, in one step for whoever reads it. A file that is not there
 * is made with mode 0640; one that is there keeps owner and group and gets no wider mode. The result must be a right
 * key ring, else the file stays as it was. Returns an enum ctl_exit and complains by itself. */
int key_file_append(const char *file, struct span line);
/* Give a key the state revoked, in the same way. That it is revoked already is no error; that it is not there is one.
 */
int key_file_revoke(const char *file, const char *kid);

/* Make the handoffd that runs with this configuration read it and its keys again, and wait until no process of before
 * takes handoffs any more. Returns an enum ctl_exit and complains by itself; says on standard output what it did. */
struct config;
int daemon_reload(const struct config *config);

#endif
