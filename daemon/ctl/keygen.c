/* SPDX-License-Identifier: Apache-2.0
 *
 * handoffctl keygen: a line with a new key, on standard output or at the end of a key ring file.
 */
#include <getopt.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "ctl.h"
#include "lib/keyring.h"

/* As many paths as one line of a key ring can reasonably have. */
#define PATHS_MAX 64
#define LINE_SIZE 8192 /* 64 paths of 107 bytes, and the rest */

struct options {
	char kid[KEYRING_KID_MAX + 1];
	const char *paths[PATHS_MAX];
	size_t n_paths;
	const char *file;
};

static const char help[] = "Usage: handoffctl keygen [--kid KID] [--path PATH]... [FILE]\n"
                           "\n"
                           "Make a key and write its line of the key ring,\n"
                           "\n"
                           "    KID sign KEY PATH...\n"
                           "\n"
                           "to standard output, or add it to FILE in one step. FILE is made with mode 0640 when it is\n"
                           "not there; it keeps its owner, group and mode when it is.\n"
                           "\n"
                           "  --kid KID    name of the key, 1 to 16 of a-z, 0-9, _ and - (default: of today's date)\n"
                           "  --path PATH  socket path the key may sign for; may be given again (default: *, all)\n"
                           "  --help       this text\n";

/* kYYYYMMDD-xxxx: says how old the key is, and two keys of one day differ. */
static void default_kid(char kid[KEYRING_KID_MAX + 1])
{
	time_t now = time(NULL);
	struct tm tm;
	char date[9] = "";

	if (gmtime_r(&now, &tm))
		strftime(date, sizeof(date), "%Y%m%d", &tm);
	snprintf(kid, KEYRING_KID_MAX + 1, "k%s-%04x", date, randombytes_uniform(0x10000));
}

/* Returns CTL_CONTINUE or an enum ctl_exit. */
static int parse(const struct command *command, int argc, char **argv, struct options *options)
{
	static const struct option long_options[] = {{"kid", required_argument, NULL, 'k'},
	                                             {"path", required_argument, NULL, 'p'},
	                                             {"help", no_argument, NULL, 'h'},
	                                             {0}};
	int c;

	default_kid(options->kid);
	while ((c = getopt_long(argc, argv, "k:p:h", long_options, NULL)) != -1) {
		switch (c) {
		case 'k':
			if (!ctl_kid_valid(optarg))
				return ctl_usage("a kid is 1 to %d of a-z, 0-9, _ and -", KEYRING_KID_MAX);
			snprintf(options->kid, sizeof(options->kid), "%s", optarg);
			break;
		case 'p':
			if (!ctl_path_valid(optarg))
				return ctl_usage("not a socket path (or *): %s", optarg);
			if (options->n_paths == PATHS_MAX)
				return ctl_usage("more than %d paths", PATHS_MAX);
			options->paths[options->n_paths++] = optarg;
			break;
		case 'h':
			return ctl_help(command);
		default:
			return ctl_usage("wrong option");
		}
	}
	if (argc - optind > 1)
		return ctl_usage("more than one file");
	options->file = argv[optind];
	if (options->n_paths == 0)
		options->paths[options->n_paths++] = "*";
	return CTL_CONTINUE;
}

/* Write the line into text, which is sodium_malloc memory of size bytes; its length. */
static size_t make_line(const struct options *options, char *text, size_t size)
{
	uint8_t key[KEYRING_KEY_LEN];
	size_t len = (size_t)snprintf(text, size, "%s sign ", options->kid);

	randombytes_buf(key, sizeof(key));
	sodium_bin2base64(text + len, size - len, key, sizeof(key), sodium_base64_VARIANT_ORIGINAL);
	sodium_memzero(key, sizeof(key));
	len = strlen(text);
	for (size_t i = 0; i < options->n_paths; i++)
		len += (size_t)snprintf(text + len, size - len, " %s", options->paths[i]);
	text[len++] = '\n';
	return len;
}

static int run(const struct command *command, int argc, char **argv)
{
	struct options options = {.n_paths = 0};

	int result = parse(command, argc, argv, &options);
	if (result != CTL_CONTINUE)
		return result;
	char *text = sodium_malloc(LINE_SIZE);
	if (!text)
		return ctl_error("out of memory");
	struct span line = span_of(text, make_line(&options, text, LINE_SIZE));
	result = options.file ? key_file_append(options.file, line) : ctl_print(line);
	sodium_free(text);
	return result;
}

const struct command command_keygen = {
    .name = "keygen",
    .title = "handoffctl keygen",
    .summary = "make a key",
    .help = help,
    .run = run,
};
