/* SPDX-License-Identifier: Apache-2.0
 *
 * Key ring: what a file may be, what a line may hold, and that no message shows a key.
 */
#include "lib/keyring.h"
#include "lib_support.h"

#include <errno.h>
#include <signal.h>
#include <sodium.h>
#include <sys/wait.h>

#define KEY_1  "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
#define KEY_2  "ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8="
#define LINE_1 "k1 sign " KEY_1 " *\n"

static struct scratch scratch;
static char error[256];

static int make(void **state)
{
	(void)state;
	scratch_make(&scratch);
	return 0;
}

static int clean(void **state)
{
	(void)state;
	scratch_remove(&scratch);
	return 0;
}

/* Load the scratch file; the result of keyring_load(), with the message in error. */
static int load_file(struct keyring **ring)
{
	size_t fds = count_open_fds();

	*ring = (struct keyring *)&scratch; /* must be set in any case */
	memset(error, 0, sizeof(error));
	int result = keyring_load(ring, scratch.file, getuid(), error, sizeof(error));
	assert_int_equal(count_open_fds(), fds);
	return result;
}

static int load_text(struct keyring **ring, const char *text, size_t len)
{
	scratch_write(&scratch, text, len, 0600);
	return load_file(ring);
}

/* The text is refused, with this said about this line (0: the file), and nothing of the text repeated. */
static void refused_bytes(const char *text, size_t len, size_t line, const char *what)
{
	struct keyring *ring;
	char prefix[160];

	assert_int_equal(load_text(&ring, text, len), -EINVAL);
	assert_null(ring);
	if (line)
		snprintf(prefix, sizeof(prefix), "%s:%zu: ", scratch.file, line);
	else
		snprintf(prefix, sizeof(prefix), "%s: ", scratch.file);
	if (strncmp(error, prefix, strlen(prefix)) != 0 || !strstr(error, what))
		fail_msg("'%s' instead of '%s...%s'", error, prefix, what);
	assert_null(strstr(error, "AAEC"));
	assert_null(strstr(error, "ICEi"));
}

static void refused(const char *text, size_t line, const char *what)
{
	refused_bytes(text, strlen(text), line, what);
}

/* ---------------------------------------------------------------- right ones */

static void reads_keys(void **state)
{
	const char *text = "# a comment\n"
	                   "\n"
	                   " \t \n"
	                   "a-key_2026 sign " KEY_1 " /run/a.sock /run/b.sock\n"
	                   "0123456789abcdef\tverify\t" KEY_2 "   *  \n"
	                   "x revoked " KEY_2 " /run/c.sock"; /* no newline at the end */
	struct keyring *ring;
	uint8_t key[KEYRING_KEY_LEN];

	(void)state;
	assert_int_equal(load_text(&ring, text, strlen(text)), 0);
	assert_int_equal(keyring_count(ring), 3);
	const struct keyring_key *one = keyring_at(ring, 0), *two = keyring_at(ring, 1), *three = keyring_at(ring, 2);
	assert_null(keyring_at(ring, 3));
	assert_string_equal(one->kid, "a-key_2026");
	assert_string_equal(two->kid, "0123456789abcdef");
	assert_int_equal(one->state, KEY_SIGN);
	assert_int_equal(two->state, KEY_VERIFY);
	assert_int_equal(three->state, KEY_REVOKED);
	for (uint8_t i = 0; i < sizeof(key); i++)
		key[i] = i;
	assert_memory_equal(one->secret, key, sizeof(key));
	for (uint8_t i = 0; i < sizeof(key); i++)
		key[i] = (uint8_t)(i + 32);
	assert_memory_equal(two->secret, key, sizeof(key));
	assert_string_equal(one->paths[0], "/run/a.sock");
	assert_string_equal(one->paths[1], "/run/b.sock");
	assert_null(one->paths[2]);
	assert_string_equal(two->paths[0], "*");
	assert_null(two->paths[1]);
	keyring_free(ring);
}

static void finds_keys(void **state)
{
	struct keyring *ring = keyring_of("v verify " KEY_1 " *\n"
	                                  "r revoked " KEY_1 " *\n"
	                                  "a sign " KEY_1 " /run/a.sock\n"
	                                  "b sign " KEY_2 " /run/b.sock /run/a.sock\n");

	(void)state;
	assert_ptr_equal(keyring_find(ring, SPAN_LITERAL("a")), keyring_at(ring, 2));
	assert_ptr_equal(keyring_find(ring, SPAN_LITERAL("r")), keyring_at(ring, 1));
	assert_null(keyring_find(ring, SPAN_LITERAL("c")));
	assert_null(keyring_find(ring, SPAN_LITERAL("")));
	assert_null(keyring_find(ring, SPAN_LITERAL("aa")));
	assert_null(keyring_find(ring, SPAN_LITERAL("a\0")));
	assert_string_equal(keyring_signing_key(ring, SPAN_LITERAL("/run/a.sock"))->kid, "a");
	assert_string_equal(keyring_signing_key(ring, SPAN_LITERAL("/run/b.sock"))->kid, "b");
	/* The verify and revoked keys for * do not sign. */
	assert_null(keyring_signing_key(ring, SPAN_LITERAL("/run/c.sock")));
	assert_true(keyring_key_allows(keyring_at(ring, 0), SPAN_LITERAL("/run/anything")));
	assert_false(keyring_key_allows(keyring_at(ring, 2), SPAN_LITERAL("/run/a.soc")));
	assert_false(keyring_key_allows(keyring_at(ring, 2), SPAN_LITERAL("/run/a.sock\0")));
	assert_false(keyring_key_allows(keyring_at(ring, 2), SPAN_LITERAL("/RUN/a.sock")));
	assert_false(keyring_key_allows(keyring_at(ring, 2), SPAN_EMPTY));
	keyring_free(ring);
	keyring_free(NULL);
}

static void most_keys(void **state)
{
	char *text = calloc(KEYRING_KEYS_MAX + 1, 80);
	struct keyring *ring;
	size_t len = 0;

	(void)state;
	for (int i = 0; i < KEYRING_KEYS_MAX; i++)
		len += (size_t)sprintf(text + len, "k%d sign %s *\n", i, KEY_1);
	assert_int_equal(load_text(&ring, text, len), 0);
	assert_int_equal(keyring_count(ring), KEYRING_KEYS_MAX);
	keyring_free(ring);
	strcpy(text + len, "onemore sign " KEY_1 " *\n");
	refused(text, KEYRING_KEYS_MAX + 1, "more than 256 keys");
	free(text);
}

static void keys_are_read_only(void **state)
{
	struct keyring *ring = keyring_of(LINE_1);
	int status;

	(void)state;
	pid_t child = fork();
	if (child == 0) {
		signal(SIGSEGV, SIG_DFL);
		*(volatile uint8_t *)keyring_at(ring, 0)->secret = 0;
		_exit(0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
	keyring_free(ring);
}

/* ---------------------------------------------------------------- wrong lines */

static void wrong_lines(void **state)
{
	(void)state;
	refused("", 0, "no key");
	refused("# only a comment\n\n", 0, "no key");
	refused(" # not at the line's beginning\n", 1, "a-z");
	refused("0123456789abcdefg sign " KEY_1 " *\n", 1, "1 to 16");
	refused("K1 sign " KEY_1 " *\n", 1, "a-z");
	refused("k.1 sign " KEY_1 " *\n", 1, "a-z");
	refused("k\xc3\xa9 sign " KEY_1 " *\n", 1, "a-z");
	refused("k1\n", 1, "state");
	refused("k1 Sign " KEY_1 " *\n", 1, "state");
	refused("k1 signs " KEY_1 " *\n", 1, "state");
	refused("k1 sign\n", 1, "base64");
	refused("k1 sign " KEY_1 "\n", 1, "no socket path");
	refused("k1 sign " KEY_1 " run/a.sock\n", 1, "begins with /");
	refused("k1 sign " KEY_1 " /run/a.sock **\n", 1, "begins with /");
	refused("k1 sign " KEY_1 " *\r\n", 1, "control");
	refused("k1 sign " KEY_1 " /run/\x7f\n", 1, "control");
	refused(LINE_1 "# two\n\nk2 wrong " KEY_1 " *\n", 4, "state");
	refused(LINE_1 "k2 sign " KEY_2 " *\nk1 verify " KEY_2 " *\n", 3, "before, on line 1");
	refused("#\n\n" LINE_1 "k1 revoked " KEY_2 " *\n", 4, "before, on line 3");
	/* Columns in the wrong order: the key is not repeated. */
	refused(KEY_1 " k1 sign *\n", 1, "kid");
	refused("k1 " KEY_1 " sign *\n", 1, "state");
	refused("k1 sign /run/a.sock " KEY_1 "\n", 1, "base64");
	refused("k1 sign " KEY_1 " " KEY_2 "\n", 1, "begins with /");
}

static void wrong_keys(void **state)
{
	static const char *const keys[] = {
	    "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8",   /* no padding */
	    "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8==", /* too much */
	    "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh9=",  /* unused bits */
	    "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHg==",  /* 31 bytes */
	    "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8g",  /* 33 bytes */
	    "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh-=",  /* other alphabet */
	    "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdH\3778=",
	    "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
	};
	char text[160];

	(void)state;
	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
		snprintf(text, sizeof(text), "k1 sign %s *\n", keys[i]);
		refused(text, 1, "base64 of 32 bytes");
		assert_null(strstr(error, keys[i]));
	}
}

static void wrong_bytes(void **state)
{
	static const char nul[] = "k1 sign " KEY_1 " /run/a\0b\n";
	char text[256];
	struct keyring *ring;

	(void)state;
	refused_bytes(nul, sizeof(nul) - 1, 1, "control");
	memset(text, 'p', sizeof(text));
	int start = sprintf(text, "k1 sign %s ", KEY_1);
	text[start] = '/';
	assert_int_equal(load_text(&ring, text, (size_t)start + 107), 0);
	keyring_free(ring);
	text[start + 107] = 'p';
	text[start] = '/';
	refused_bytes(text, (size_t)start + 108, 1, "at most 107");
}

/* ---------------------------------------------------------------- the file */

static void modes(void **state)
{
	struct keyring *ring;

	(void)state;
	for (mode_t mode = 0; mode <= 07777; mode++) {
		scratch_write(&scratch, LINE_1, strlen(LINE_1), mode);
		bool tight = (mode & ~(mode_t)0640) == 0;
		/* Only root reads a file without a read bit. */
		if (tight && geteuid() != 0 && !(mode & 0400))
			continue;
		if (!tight && geteuid() != 0 && !(mode & 0400)) {
			assert_true(load_file(&ring) < 0);
			continue;
		}
		int result = load_file(&ring);
		assert_int_equal(result, tight ? 0 : -EPERM);
		if (!tight)
			assert_non_null(strstr(error, "must be 0640 or tighter"));
		keyring_free(ring);
	}
}

static void owners(void **state)
{
	struct keyring *ring;

	(void)state;
	if (geteuid() != 0) {
		print_message("skipped: giving files away needs root\n");
		skip();
	}
	scratch_write(&scratch, LINE_1, strlen(LINE_1), 0640);
	assert_int_equal(chown(scratch.file, 12345, 0), 0);
	assert_int_equal(keyring_load(&ring, scratch.file, 12345, error, sizeof(error)), 0);
	keyring_free(ring);
	assert_int_equal(keyring_load(&ring, scratch.file, 12346, error, sizeof(error)), -EPERM);
	assert_non_null(strstr(error, "owned by uid 12345, must be root or uid 12346"));
	assert_int_equal(keyring_load(&ring, scratch.file, 0, error, sizeof(error)), -EPERM);
	assert_int_equal(chown(scratch.file, 0, 0), 0);
	assert_int_equal(keyring_load(&ring, scratch.file, 12346, error, sizeof(error)), 0);
	keyring_free(ring);
}

static void kinds_of_file(void **state)
{
	struct keyring *ring;
	char target[128];

	(void)state;
	assert_int_equal(load_file(&ring), -ENOENT);
	assert_null(ring);
	/* A FIFO that nobody writes to must not be waited for. */
	assert_int_equal(mkfifo(scratch.file, 0600), 0);
	assert_int_equal(load_file(&ring), -EINVAL);
	assert_non_null(strstr(error, "not a regular file"));
	unlink(scratch.file);
	assert_int_equal(mkdir(scratch.file, 0600), 0);
	assert_int_equal(load_file(&ring), -EINVAL);
	rmdir(scratch.file);
	scratch_write(&scratch, LINE_1, strlen(LINE_1), 0600);
	snprintf(target, sizeof(target), "%s/target", scratch.directory);
	assert_int_equal(rename(scratch.file, target), 0);
	assert_int_equal(symlink(target, scratch.file), 0);
	assert_int_equal(load_file(&ring), -ELOOP);
	assert_non_null(strstr(error, "symbolic link"));
	unlink(target);
	assert_int_equal(keyring_load(&ring, "/dev/null", 0, error, sizeof(error)), -EINVAL);
}

static void sizes_of_file(void **state)
{
	char *text = malloc(KEYRING_FILE_MAX + 1);
	struct keyring *ring;

	(void)state;
	memset(text, '\n', KEYRING_FILE_MAX + 1);
	memcpy(text, LINE_1, strlen(LINE_1));
	assert_int_equal(load_text(&ring, text, KEYRING_FILE_MAX), 0);
	keyring_free(ring);
	assert_int_equal(load_text(&ring, text, KEYRING_FILE_MAX + 1), -EFBIG);
	assert_null(ring);
	assert_non_null(strstr(error, "larger than 65536 bytes"));
	free(text);
}

/* A message that does not fit is cut, not written behind the end. */
static void small_error_buffer(void **state)
{
	struct keyring *ring;
	char small[8] = "xxxxxxx";

	(void)state;
	scratch_write(&scratch, "k1\n", 3, 0600);
	assert_int_equal(keyring_load(&ring, scratch.file, getuid(), small, 4), -EINVAL);
	assert_memory_equal(small, "/tm\0xxx", 8);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make, clean)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(reads_keys),  TEST(finds_keys),    TEST(most_keys),     TEST(keys_are_read_only),
	    TEST(wrong_lines), TEST(wrong_keys),    TEST(wrong_bytes),   TEST(modes),
	    TEST(owners),      TEST(kinds_of_file), TEST(sizes_of_file), TEST(small_error_buffer),
	};

	if (sodium_init() < 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
