/* SPDX-License-Identifier: Apache-2.0
 *
 * Environment: the variables that a program starts with. PATH, what its section lists, the facts of the request, and
 * its data; nothing of the launcher's own.
 */
#ifndef LAUNCHER_ENVIRONMENT_H
#define LAUNCHER_ENVIRONMENT_H

#include "daemon/common/config.h"
#include "lib/bytes.h"

/* The facts that a streamer may tell, HANDOFF_NAME=value each, once. */
#define ENVIRONMENT_FACTS(X)                                                                                           \
	X("ID")                                                                                                        \
	X("METHOD")                                                                                                    \
	X("TARGET") X("PROTOCOL") X("CLIENT") X("SERVER_NAME") X("REQUEST_ID") X("SUBJECT") X("LISTENER") X("STATUS")

struct environment {
	char **variables; /* NULL-terminated; those that are not in block are borrowed */
	char *block;      /* the facts */
	size_t block_len;
};

/* facts: n strings, each with its NUL, as MESSAGE_LAUNCH carries them; one whose value has control bytes in it is left
 * out. data is "HANDOFF_DATA=..." or NULL, borrowed as handler's own strings are. Returns 0; -EBADMSG when facts is
 * anything else than known facts, each once; or -ENOMEM. */
int environment_make(struct environment *environment, const struct config_handler *handler, struct span facts, size_t n,
                     char *data);

/* Frees, and wipes the facts. */
void environment_free(struct environment *environment);

#endif
