/* SPDX-License-Identifier: Apache-2.0
 *
 * Attacks from a process that is no role: a user of the machine, a program that a launcher has started.
 *
 *     alone list            all attacks, as JSON
 *     alone run             the attack of the environment, as whoever started this
 *     alone decoy SECRET    a victim: waits, and says at each line of its input whether it is what it was
 *     alone prove           prints the effective uid, and a file named by REDTEAM_PROOF: what a setuid program can do
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "attack.h"

#define DECOY_FD 100 /* a descriptor worth stealing */

static char memory[64];

/* DECOY_SECRET is in its environment as well, and in its arguments. */
static int decoy(const char *secret, bool dumpable)
{
	char line[16];
	int fd = memfd_create("decoy", 0);

	snprintf(memory, sizeof(memory), "%s", secret);
	if (fd < 0 || dup2(fd, DECOY_FD) < 0 || pwrite(DECOY_FD, secret, strlen(secret), 0) < 0)
		return 1;
	prctl(PR_SET_DUMPABLE, dumpable, 0, 0, 0);
	/* Whoever loses its parent ends, whatever was done to it. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	printf("%d %lu %zu\n", (int)getpid(), (unsigned long)memory, sizeof(memory));
	fflush(stdout);
	while (fgets(line, sizeof(line), stdin) != NULL) {
		puts(memory);
		fflush(stdout);
	}
	return 0;
}

static int prove(void)
{
	char text[256];
	const char *path = getenv("REDTEAM_PROOF");
	int fd = path == NULL ? -1 : open(path, O_RDONLY);
	ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof(text));

	attack_step("read");
	if (n > 0)
		attack_give(text, (size_t)n);
	return 0;
}

static int run(void)
{
	const struct attack *attack = attack_from_environment();

	if (attack == NULL)
		return 98;
	if (attack->setup != NULL)
		attack->setup();
	attack_run(attack);
}

int main(int argc, char **argv)
{
	if (argc == 2 && strcmp(argv[1], "list") == 0)
		attack_list();
	else if (argc == 2 && strcmp(argv[1], "run") == 0)
		return run();
	else if (argc == 2 && strcmp(argv[1], "prove") == 0)
		return prove();
	else if (argc == 4 && strcmp(argv[1], "decoy") == 0)
		return decoy(argv[2], argv[3][0] == '1');
	else
		return 2;
	return 0;
}
