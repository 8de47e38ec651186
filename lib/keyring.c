/* SPDX-License-Identifier: Apache-2.0
 *
 * Key ring: reading the file and looking keys up.
 *
 * The file's text is key material: it is read into sodium_malloc memory and wiped with it, and no error message quotes
 * any of it, because a key may stand in the wrong column.
 */
#include "keyring.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base64.h"
#include "fdpass.h"

/* "0640 or tighter", and none of the set-id and sticky bits. */
#define MODE_FORBIDDEN  (07777 & ~0640)
#define SOCKET_PATH_MAX (sizeof(((struct sockaddr_un *)0)->sun_path) - 1)

struct keyring {
	struct keyring_key *keys;
	size_t *lines; /* where each key stands in the file */
	size_t count;
	uint8_t *secrets;                      /* sodium_malloc: KEYRING_KEYS_MAX keys */
	crypto_auth_hmacsha512256_state *macs; /* sodium_malloc: one for each key */
};

/* State of one keyring_load(). */
struct loading {
	const char *file;
	size_t line;
	char *error;
	size_t error_size;
};

/* Say what is wrong with the line at hand (or the file, when line is 0); returns code. */
__attribute__((format(printf, 3, 4))) static int fail(const struct loading *loading, int code, const char *format, ...)
{
	char what[160];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(what, sizeof(what), format, arguments);
	va_end(arguments);
	if (loading->line)
		snprintf(loading->error, loading->error_size, "%s:%zu: %s", loading->file, loading->line, what);
	else
		snprintf(loading->error, loading->error_size, "%s: %s", loading->file, what);
	return code;
}

/* ---------------------------------------------------------------- one line */

static bool is_blank(uint8_t c)
{
	return c == ' ' || c == '\t';
}

/* Take the next word off *rest; an empty span when there is none. */
static struct span next_word(struct span *rest)
{
	size_t start = 0, end;

	while (start < rest->len && is_blank(rest->data[start]))
		start++;
	for (end = start; end < rest->len && !is_blank(rest->data[end]);)
		end++;
	struct span word = span_of(rest->data + start, end - start);
	*rest = span_of(rest->data + end, rest->len - end);
	return word;
}

static int parse_kid(const struct loading *loading, struct span word, char kid[KEYRING_KID_MAX + 1])
{
	if (word.len == 0 || word.len > KEYRING_KID_MAX)
		return fail(loading, -EINVAL, "a kid has 1 to %d characters", KEYRING_KID_MAX);
	for (size_t i = 0; i < word.len; i++) {
		uint8_t c = word.data[i];
		if (!(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9') && c != '_' && c != '-')
			return fail(loading, -EINVAL, "a kid is made of a-z, 0-9, _ and -");
	}
	memcpy(kid, word.data, word.len);
	kid[word.len] = '\0';
	return 0;
}

static int parse_state(const struct loading *loading, struct span word, enum key_state *state)
{
	if (span_equal_string(word, "sign"))
		*state = KEY_SIGN;
	else if (span_equal_string(word, "verify"))
		*state = KEY_VERIFY;
	else if (span_equal_string(word, "revoked"))
		*state = KEY_REVOKED;
	else
		return fail(loading, -EINVAL, "the state is sign, verify or revoked");
	return 0;
}

static int parse_secret(const struct loading *loading, struct span word, uint8_t secret[KEYRING_KEY_LEN])
{
	if (!base64_decode(secret, KEYRING_KEY_LEN, word, BASE64_STANDARD))
		return fail(loading, -EINVAL, "the key is not base64 of %d bytes with padding", KEYRING_KEY_LEN);
	return 0;
}

static int check_path(const struct loading *loading, struct span path)
{
	if (span_equal_string(path, "*"))
		return 0;
	if (path.data[0] != '/')
		return fail(loading, -EINVAL, "a socket path begins with / (or is *)");
	if (path.len > SOCKET_PATH_MAX)
		return fail(loading, -EINVAL, "a socket path has at most %zu bytes", SOCKET_PATH_MAX);
	return 0;
}

static void paths_free(char **paths)
{
	for (size_t i = 0; paths && paths[i]; i++)
		free(paths[i]);
	free(paths);
}

/* The words that are left are paths. */
static int parse_paths(const struct loading *loading, struct span rest, char ***out)
{
	char **paths = NULL;
	size_t n = 0;
	int error;

	for (;;) {
		struct span word = next_word(&rest);
		if (word.len == 0)
			break;
		error = check_path(loading, word);
		if (error)
			goto out;
		char **more = reallocarray(paths, n + 2, sizeof(*paths));
		if (!more) {
			error = fail(loading, -ENOMEM, "out of memory");
			goto out;
		}
		paths = more;
		paths[n + 1] = NULL;
		paths[n] = strndup((const char *)word.data, word.len);
		if (!paths[n]) {
			error = fail(loading, -ENOMEM, "out of memory");
			goto out;
		}
		n++;
	}
	if (n == 0)
		return fail(loading, -EINVAL, "no socket path (or *) after the key");
	*out = paths;
	return 0;
out:
	paths_free(paths);
	return error;
}

/* Control bytes would end up in comparisons and log lines. */
static bool has_control_bytes(struct span line)
{
	for (size_t i = 0; i < line.len; i++)
		if ((line.data[i] < 0x20 && line.data[i] != '\t') || line.data[i] == 0x7f)
			return true;
	return false;
}

static int parse_key(struct keyring *ring, const struct loading *loading, struct span line)
{
	struct keyring_key *key = &ring->keys[ring->count];
	int error;

	if (has_control_bytes(line))
		return fail(loading, -EINVAL, "control bytes in the line");
	if (ring->count == KEYRING_KEYS_MAX)
		return fail(loading, -EINVAL, "more than %d keys", KEYRING_KEYS_MAX);
	error = parse_kid(loading, next_word(&line), key->kid);
	if (error)
		return error;
	const struct keyring_key *same = keyring_find(ring, span_of_string(key->kid));
	if (same)
		return fail(loading, -EINVAL, "the kid was used before, on line %zu", ring->lines[same - ring->keys]);
	error = parse_state(loading, next_word(&line), &key->state);
	if (error)
		return error;
	uint8_t *secret = ring->secrets + ring->count * KEYRING_KEY_LEN;
	error = parse_secret(loading, next_word(&line), secret);
	if (error)
		return error;
	error = parse_paths(loading, line, &key->paths);
	if (error)
		return error;
	key->secret = secret;
	ring->lines[ring->count++] = loading->line;
	return 0;
}

static bool is_skipped(struct span line)
{
	return (line.len > 0 && line.data[0] == '#') || next_word(&line).len == 0;
}

static int parse_text(struct keyring *ring, struct loading *loading, struct span text)
{
	while (text.len > 0) {
		const uint8_t *newline = memchr(text.data, '\n', text.len);
		size_t len = newline ? (size_t)(newline - text.data) : text.len;
		struct span line = span_of(text.data, len);

		loading->line++;
		if (!is_skipped(line)) {
			int error = parse_key(ring, loading, line);
			if (error)
				return error;
		}
		size_t step = newline ? len + 1 : len;
		text = span_of(text.data + step, text.len - step);
	}
	loading->line = 0;
	return ring->count > 0 ? 0 : fail(loading, -EINVAL, "no key in it");
}

/* ---------------------------------------------------------------- the file */

static int check_file(const struct loading *loading, int fd, uid_t reader)
{
	struct stat st;

	if (fstat(fd, &st) != 0)
		return fail(loading, -errno, "%s", strerror(errno));
	if (!S_ISREG(st.st_mode))
		return fail(loading, -EINVAL, "not a regular file");
	if (st.st_uid != 0 && st.st_uid != reader)
		return fail(loading, -EPERM, "owned by uid %u, must be root or uid %u", st.st_uid, reader);
	if (st.st_mode & MODE_FORBIDDEN)
		return fail(loading, -EPERM, "mode is %04o, must be 0640 or tighter", st.st_mode & 07777);
	return 0;
}

/* Read the whole file into buffer, which has room for KEYRING_FILE_MAX + 1 bytes. */
static int read_file(const struct loading *loading, int fd, uint8_t *buffer, size_t *len)
{
	*len = 0;
	while (*len <= KEYRING_FILE_MAX) {
		ssize_t n = read(fd, buffer + *len, KEYRING_FILE_MAX + 1 - *len);
		if (n == 0)
			return 0;
		if (n > 0)
			*len += (size_t)n;
		else if (errno != EINTR)
			return fail(loading, -errno, "%s", strerror(errno));
	}
	return fail(loading, -EFBIG, "larger than %d bytes", KEYRING_FILE_MAX);
}

static struct keyring *keyring_new(void)
{
	struct keyring *ring = calloc(1, sizeof(*ring));

	if (!ring)
		return NULL;
	ring->keys = calloc(KEYRING_KEYS_MAX, sizeof(*ring->keys));
	ring->lines = calloc(KEYRING_KEYS_MAX, sizeof(*ring->lines));
	ring->secrets = sodium_allocarray(KEYRING_KEYS_MAX, KEYRING_KEY_LEN);
	if (!ring->keys || !ring->lines || !ring->secrets) {
		keyring_free(ring);
		return NULL;
	}
	return ring;
}

static int load(struct keyring *ring, struct loading *loading, uint8_t *buffer, uid_t reader)
{
	/* O_NONBLOCK: opening a FIFO must not wait for a writer; it is refused right after. */
	int fd FD_CLEANUP = open(loading->file, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	size_t len;

	if (fd < 0)
		return fail(loading, -errno, "%s", errno == ELOOP ? "is a symbolic link" : strerror(errno));
	int error = check_file(loading, fd, reader);
	if (error)
		return error;
	error = read_file(loading, fd, buffer, &len);
	if (error)
		return error;
	return parse_text(ring, loading, span_of(buffer, len));
}

static int begin_macs(struct keyring *ring)
{
	ring->macs = sodium_allocarray(ring->count, sizeof(*ring->macs));
	if (!ring->macs)
		return -ENOMEM;
	for (size_t i = 0; i < ring->count; i++) {
		crypto_auth_hmacsha512256_init(&ring->macs[i], ring->keys[i].secret, KEYRING_KEY_LEN);
		ring->keys[i].mac = &ring->macs[i];
	}
	return 0;
}

int keyring_load(struct keyring **out, const char *file, uid_t reader, char *error, size_t error_size)
{
	struct loading loading = {.file = file, .error = error, .error_size = error_size};
	struct keyring *ring = keyring_new();
	uint8_t *buffer = sodium_malloc(KEYRING_FILE_MAX + 1);
	int result;

	*out = NULL;
	if (!ring || !buffer) {
		result = fail(&loading, -ENOMEM, "out of memory");
		goto out;
	}
	result = load(ring, &loading, buffer, reader);
	if (result)
		goto out;
	result = begin_macs(ring);
	if (result) {
		fail(&loading, result, "out of memory");
		goto out;
	}
	if (sodium_mprotect_readonly(ring->secrets) != 0 || sodium_mprotect_readonly(ring->macs) != 0) {
		result = fail(&loading, -errno, "cannot protect the keys: %s", strerror(errno));
		goto out;
	}
	*out = ring;
	ring = NULL;
out:
	sodium_free(buffer);
	keyring_free(ring);
	return result;
}

void keyring_free(struct keyring *ring)
{
	if (!ring)
		return;
	for (size_t i = 0; i < ring->count; i++)
		paths_free(ring->keys[i].paths);
	free(ring->keys);
	free(ring->lines);
	/* Makes the memory writable again by itself and wipes it. */
	sodium_free(ring->secrets);
	sodium_free(ring->macs);
	free(ring);
}

/* ---------------------------------------------------------------- look-ups */

const struct keyring_key *keyring_find(const struct keyring *ring, struct span kid)
{
	for (size_t i = 0; i < ring->count; i++)
		if (span_equal_string(kid, ring->keys[i].kid))
			return &ring->keys[i];
	return NULL;
}

const struct keyring_key *keyring_signing_key(const struct keyring *ring, struct span socket_path)
{
	for (size_t i = 0; i < ring->count; i++)
		if (ring->keys[i].state == KEY_SIGN && keyring_key_allows(&ring->keys[i], socket_path))
			return &ring->keys[i];
	return NULL;
}

bool keyring_key_allows(const struct keyring_key *key, struct span socket_path)
{
	for (char **path = key->paths; *path; path++)
		if (strcmp(*path, "*") == 0 || span_equal_string(socket_path, *path))
			return true;
	return false;
}

size_t keyring_count(const struct keyring *ring)
{
	return ring->count;
}

const struct keyring_key *keyring_at(const struct keyring *ring, size_t i)
{
	return i < ring->count ? &ring->keys[i] : NULL;
}
