/* SPDX-License-Identifier: Apache-2.0
 *
 * The policy language: what the parser refuses and with which words, what the lint finds, that the shipped policies
 * pass it, and that the compiled program decides exactly as the rules read.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <linux/audit.h>
#include <linux/seccomp.h>
#include <seccomp.h>

#include "policy/language.h"

static const char *const roles[] = {"gate", "streamer", "dialer", "launcher", "handler", "supervisor"};
#define N_ROLES (sizeof(roles) / sizeof(roles[0]))

/* Everything that a role's file must say besides its rules. */
#define FACTS    FACTS_OF("no")
#define EXECUTES FACTS_OF("yes")
#define FACTS_OF(exec)                                                                                                 \
	"default kill\nunknown ENOSYS\ncapabilities none\ndumpable no\nexec " exec "\nfork no\n"                       \
	"landlock fs deny abi 1 required\nlandlock fs-refer deny abi 2 where-available\n"                              \
	"landlock fs-truncate deny abi 3 where-available\nlandlock fs-ioctl-dev deny abi 5 where-available\n"          \
	"landlock net-bind deny abi 4 where-available\nlandlock net-connect deny abi 4 where-available\n"              \
	"landlock scope-abstract-unix deny abi 6 where-available\nlandlock scope-signal deny abi 6 where-available\n"  \
	"mdwe where-available\nrlimit core 0\n"

static struct policy *parse(const char *text, char error[256])
{
	error[0] = '\0';
	return policy_parse("t.policy", span_of_string(text), error, 256);
}

static struct policy *parse_good(const char *text)
{
	char error[256];
	struct policy *policy = parse(text, error);

	if (policy == NULL)
		fail_msg("%s", error);
	return policy;
}

static void refuse(const char *text, const char *expected)
{
	char error[256];
	struct policy *policy = parse(text, error);

	assert_null(policy);
	assert_string_equal(error, expected);
}

/* ---------------------------------------------------------------- parser */

static void test_refusals(void **state)
{
	(void)state;
	refuse("", "t.policy:1: the file is empty");
	refuse("\n# only a comment\n", "t.policy:3: the file is empty");
	refuse("allow read\n", "t.policy:1: a policy begins with `role NAME` or `list NAME`");
	refuse("list t\nalow read\n", "t.policy:2: unknown statement alow");
	refuse("list t\nallow\n", "t.policy:2: expected the name of a system call");
	refuse("list t\nallow raed\n", "t.policy:2: no system call raed on x86-64 or aarch64");
	refuse("list t\nallow send\n", "t.policy:2: no system call send on x86-64 or aarch64");
	refuse("list t\nallow read fd\n", "t.policy:2: expected `if` after read");
	refuse("list t\nerrno read\n", "t.policy:2: expected `errno ENAME CALL`");
	refuse("list t\nerrno ENONE read\n", "t.policy:2: expected `errno ENAME CALL`");
	refuse("list t\nerrno AF_UNIX read\n", "t.policy:2: expected `errno ENAME CALL`");
	refuse("list t\nallow read\x01\n", "t.policy:2: byte 0x01 outside a comment");
	refuse("list t\nrlimit core 0\n", "t.policy:2: rlimit stands in a role's file, not in a list");
	refuse("list t\nexec no\n", "t.policy:2: unknown statement exec");
	refuse("list t\ninclude nothing\n", "t.policy:2: there is no list nothing");
	refuse("list t\ninclude gate\n", "gate.policy:6: only a list can be included");
}

static void test_condition_refusals(void **state)
{
	(void)state;
	refuse("list t\nallow socket if\n", "t.policy:2: socket has no argument  (known: domain type protocol)");
	refuse("list t\nallow socket if family == AF_UNIX\n",
	       "t.policy:2: socket has no argument family (known: domain type protocol)");
	refuse("list t\nallow read if fd == 0\n", "t.policy:2: read has no argument fd (known: none)");
	refuse("list t\nallow socket if domain == AF_UNIXX\n", "t.policy:2: unknown constant AF_UNIXX");
	refuse("list t\nallow socket if domain == 1x\n", "t.policy:2: 1x is not a number");
	refuse("list t\nallow socket if domain ==\n", "t.policy:2: a value is missing");
	refuse("list t\nallow socket if type == SOCK_STREAM|\n", "t.policy:2: a value is missing after |");
	refuse("list t\nallow socket if type in SOCK_STREAM,\n", "t.policy:2: a value is missing after ,");
	refuse("list t\nallow socket if type < 3\n", "t.policy:2: expected ==, in, within, has, or & MASK ==");
	refuse("list t\nallow socket if type & 3 2\n", "t.policy:2: expected ==, in, within, has, or & MASK ==");
	refuse("list t\nallow socket if type == 1 or domain == 1\n", "t.policy:2: expected `and`");
	refuse("list t\nallow socket if type == 1 and type == 2\n",
	       "t.policy:2: the conditions on type exclude each other");
	refuse("list t\nallow socket if type in 1,2 and type has 1\n", "t.policy:2: type already has a condition");
	refuse("list t\nallow socket if type has 1 and type in 1,2\n", "t.policy:2: type already has a condition");
	refuse("list t\nallow socket if type & 1 == 2\n", "t.policy:2: the condition on type can never be met");
	refuse("list t\nallow socket if type == 0x100000000\n", "t.policy:2: the condition on type can never be met");
	refuse("list t\nallow socket if type has 0\n", "t.policy:2: the condition on type is always met");
	refuse("list t\nallow sendto if addr == 1\n", "t.policy:2: addr is a pointer: it can only be == NULL");
	refuse("list t\nallow sendto if addr has 1\n", "t.policy:2: addr is a pointer: it can only be == NULL");
}

static void test_overlap_refusals(void **state)
{
	(void)state;
	refuse("list t\nallow read\nallow read\n",
	       "t.policy:3: read is granted already, in whole or in part, in t.policy:2");
	refuse("list t\nallow socket if domain == 1\nallow socket\n",
	       "t.policy:3: socket is granted already, in whole or in part, in t.policy:2");
	refuse("list t\nallow socket\nallow socket if domain == 1\n",
	       "t.policy:3: socket is granted already, in whole or in part, in t.policy:2");
	refuse("list t\nallow socket if type within 3\nallow socket if type == 1\n",
	       "t.policy:3: socket is granted already, in whole or in part, in t.policy:2");
	refuse("list t\nallow socket if type in 1,1\n",
	       "t.policy:2: socket is granted already, in whole or in part, in t.policy:2");
	refuse("list t\nallow connect\nerrno EPERM connect\n",
	       "t.policy:3: connect has another result for the same arguments in t.policy:2");
	refuse("list t\nallow socket if domain == 1\nerrno EPERM socket if type == 1\n",
	       "t.policy:3: socket has another result for the same arguments in t.policy:2");
	refuse("role t\ninclude libc\n" FACTS "allow brk\n",
	       "t.policy:19: brk is granted already, in whole or in part, in libc.policy:9");
}

static void test_role_refusals(void **state)
{
	(void)state;
	refuse("role t\nallow read\n", "t.policy:3: `default kill` is missing");
	refuse("role t\ndefault log\n", "t.policy:2: default can only be kill or allow");
	refuse("role t\ndefault allow\n", "t.policy:2: default allow without a reason");
	refuse("role t\ncapabilities kept\n", "t.policy:2: capabilities kept without a reason");
	refuse("role t\nunknown EPERM\n", "t.policy:2: unknown can only be ENOSYS");
	refuse("role t\ndefault allow # x\nallow read\n", "t.policy:3: everything is allowed already: default allow");
	refuse("role t\ndefault allow # x\nallow close if fd == 1 # x\n",
	       "t.policy:3: everything is allowed already: default allow");
	refuse("role t\nkill read\n", "t.policy:2: kill stands where the default is allow, and below it");
	refuse("list t\nkill read\n", "t.policy:2: kill stands in a role's file, not in a list");
	refuse("role t\nallow read\ndefault allow # x\n", "t.policy:3: default allow stands before the first rule");
	refuse("role t\nexec no\nexec no\n", "t.policy:3: stated twice");
	refuse("role t\n" FACTS "allow execve\n", "t.policy:19: exec is no, yet t.policy:18 allows execve");
	refuse("role t\n" FACTS "allow clone if flags == 0\n", "t.policy:19: fork is no, yet t.policy:18 allows clone");
	refuse("role t\nlandlock fs deny abi 2 required\n", "t.policy:2: fs needs Landlock ABI 1");
	refuse("role t\nlandlock fs deny abi 1 always\n", "t.policy:2: expected `required` or `where-available`");
	refuse("role t\nlandlock fs open\n", "t.policy:2: fs is left open without a reason");
	refuse("role t\nlandlock net deny abi 4 required\n", "t.policy:2: unknown Landlock right net");
	refuse("role t\nlandlock path read-file etc\n", "t.policy:2: expected `landlock path ACCESS /PATH`");
	refuse("role t\nlandlock path write /etc\n", "t.policy:2: access is read-file, read-dir, read or execute");
	refuse("role t\nexec no\nlandlock path execute /usr\n", "t.policy:3: exec is no, yet /usr may be executed");
	refuse("role t\ndumpable yes\n", "t.policy:2: dumpable yes without a reason");
	refuse("role t\ndefault kill\nunknown ENOSYS\ncapabilities none\ndumpable yes # x\nexec no\nfork no\n"
	       "landlock fs open # x\nlandlock fs-refer open # x\nlandlock fs-truncate open # x\n"
	       "landlock fs-ioctl-dev open # x\nlandlock net-bind open # x\nlandlock net-connect open # x\n"
	       "landlock scope-abstract-unix open # x\nlandlock scope-signal open # x\nmdwe where-available\n"
	       "rlimit core 0\n",
	       "t.policy:18: dumpable yes is for what executes programs");
	refuse("role t\ndefault kill\nunknown ENOSYS\ncapabilities none\ndumpable no\nexec no\nfork no\nlandlock fs "
	       "open # x\n"
	       "landlock path read-file /etc/hosts\nlandlock fs-refer open # x\nlandlock fs-truncate open # x\n"
	       "landlock fs-ioctl-dev open # x\nlandlock net-bind open # x\nlandlock net-connect open # x\n"
	       "landlock scope-abstract-unix open # x\nlandlock scope-signal open # x\n",
	       "t.policy:17: paths are granted, yet `landlock fs` is open");
	refuse("role t\nrlimit cores 0\n", "t.policy:2: unknown limit cores");
	refuse("role t\nrlimit core 0\nrlimit core 1\n", "t.policy:3: stated twice");
	refuse("role t\nmdwe\n", "t.policy:2: expected `mdwe required|where-available`");
}

static void test_conditions_read(void **state)
{
	struct policy *policy = parse_good("list t\n"
	                                   "allow socket if domain == 1 and type & 0xf == 2 # why\n"
	                                   "allow sendto if flags within 0x40 and addr == NULL\n"
	                                   "allow shutdown if how in 0,1\n"
	                                   "allow fcntl if fd in 5,6 and cmd in 7,8\n");
	const struct policy_rule *rules = policy->rules;

	(void)state;
	assert_int_equal(policy->n_rules, 8);
	assert_string_equal(rules[0].reason, "why");
	assert_int_equal(rules[0].line, 2);
	assert_true(rules[0].conditions[0].mask == 0xffffffff && rules[0].conditions[0].value == 1);
	assert_true(rules[0].conditions[1].mask == 0xf && rules[0].conditions[1].value == 2);
	assert_true(rules[0].conditions[2].mask == 0);
	assert_null(rules[1].reason);
	assert_true(rules[1].conditions[3].mask == 0xffffffbf && rules[1].conditions[3].value == 0);
	assert_true(rules[1].conditions[4].mask == UINT64_MAX && rules[1].conditions[4].value == 0);
	assert_true(rules[2].conditions[1].value == 0 && rules[3].conditions[1].value == 1);
	for (uint64_t i = 0; i < 4; i++)
		assert_true(rules[4 + i].conditions[0].value == 5 + i % 2 &&
		            rules[4 + i].conditions[1].value == 7 + i / 2);
	policy_free(policy);
}

static void test_missing_role(void **state)
{
	char error[256];

	(void)state;
	assert_null(policy_load("nobody", NULL, error, sizeof(error)));
	assert_string_equal(error, "there is no policy for nobody");
	assert_null(policy_load("libc", NULL, error, sizeof(error)));
	assert_string_equal(error, "libc.policy: is not the policy of role libc");
}

/* ---------------------------------------------------------------- lint */

static char findings[4096];

static void collect(void *context, const char *finding)
{
	(void)context;
	strncat(findings, finding, sizeof(findings) - strlen(findings) - 1);
	strncat(findings, "\n", sizeof(findings) - strlen(findings) - 1);
}

static void lint(const char *text, const char *expected)
{
	struct policy *policy = parse_good(text);

	findings[0] = '\0';
	policy_lint(policy, collect, NULL);
	assert_string_equal(findings, expected);
	policy_free(policy);
}

static void test_lint_findings(void **state)
{
	(void)state;
	lint("list t\nallow read\nallow close\n", "");
	lint("list t\nallow listen\n", "t.policy:2: listen without a reason\n");
	lint("list t\nerrno ENOSYS read\n", "t.policy:2: read without a reason\n");
	lint("list t\nallow ioctl # why\n", "t.policy:2: ioctl without a condition on request\n");
	lint("list t\nallow prctl # why\n", "t.policy:2: prctl without a condition on option\n");
	lint("list t\nallow clone # why\n", "t.policy:2: clone without a condition on flags\n");
	lint("list t\nallow socket if domain == AF_UNIX # why\n",
	     "t.policy:2: socket without a condition on type\n"
	     "t.policy:2: socket without a condition on protocol\n");
	lint("list t\nallow mmap # why\n", "t.policy:2: mmap without a condition on prot\n"
	                                   "t.policy:2: mmap without a condition on flags\n"
	                                   "t.policy:2: mmap does not exclude PROT_EXEC\n");
	lint("list t\nallow mprotect if prot within PROT_READ|PROT_EXEC # why\n",
	     "t.policy:2: mprotect does not exclude PROT_EXEC\n");
	lint("list t\nallow sendmsg if flags has MSG_DONTWAIT # why\n",
	     "t.policy:2: sendmsg does not exclude MSG_FASTOPEN\n");
	/* Whoever executes programs maps them, from files only; and may lower its own limits. */
	lint("role t\n" EXECUTES "allow mmap if prot within PROT_READ|PROT_EXEC and flags within MAP_PRIVATE # why\n",
	     "");
	lint("role t\n" EXECUTES "allow mmap if prot within PROT_READ|PROT_EXEC and flags within MAP_SHARED # why\n",
	     "t.policy:18: mmap does not exclude PROT_EXEC\n");
	lint("role t\n" EXECUTES
	     "allow mmap if prot within PROT_READ|PROT_EXEC and flags within MAP_PRIVATE|MAP_ANONYMOUS # why\n",
	     "t.policy:18: mmap does not exclude PROT_EXEC\n");
	lint("role t\n" EXECUTES "allow prlimit64 if pid == 0 # why\n", "");
	lint("role t\n" EXECUTES "allow prlimit64 if pid == 1 # why\n",
	     "t.policy:18: prlimit64 without a condition on new\n");
	lint("role t\n" FACTS "allow prlimit64 if pid == 0 # why\n",
	     "t.policy:18: prlimit64 without a condition on new\n");
	lint("list t\nallow ptrace # why\n", "t.policy:2: ptrace is granted to nobody\n");
	lint("list t\nallow io_uring_setup # why\n", "t.policy:2: io_uring_setup is granted to nobody\n");
}

/* Everything that a spawner's file must say besides its rules. */
#define SPAWNER_FACTS                                                                                                  \
	"default allow # x\nunknown ENOSYS\ncapabilities kept # x\ndumpable no\nexec yes\nfork yes\n"                  \
	"landlock fs open # x\nlandlock fs-refer open # x\nlandlock fs-truncate open # x\n"                            \
	"landlock fs-ioctl-dev open # x\nlandlock net-bind open # x\nlandlock net-connect open # x\n"                  \
	"landlock scope-abstract-unix open # x\nlandlock scope-signal open # x\nmdwe where-available\n"

static void lint_spawner(const char *spawner_text, const char *child_text, const char *expected)
{
	struct policy *spawner = parse_good(spawner_text);
	struct policy *child = parse_good(child_text);

	findings[0] = '\0';
	policy_lint_spawner(spawner, child, collect, NULL);
	assert_string_equal(findings, expected);
	policy_free(spawner);
	policy_free(child);
}

static void test_lint_spawner(void **state)
{
	struct policy *policy = parse_good("role t\n" SPAWNER_FACTS "rlimit core 0\nkill ptrace\n");

	(void)state;
	findings[0] = '\0';
	policy_lint(policy, collect, NULL);
	assert_non_null(strstr(findings, "t:0: bpf is not denied\n"));
	assert_null(strstr(findings, "ptrace"));
	policy_free(policy);
	/* Two that it may leave, when it names them. */
	assert_non_null(strstr(findings, "t:0: mount is not denied\n"));
	policy = parse_good("role t\n" SPAWNER_FACTS "rlimit core 0\nallow mount # x\nallow setns # x\n");
	findings[0] = '\0';
	policy_lint(policy, collect, NULL);
	assert_null(strstr(findings, "mount"));
	assert_non_null(strstr(findings, "setns is granted to nobody\n"));
	assert_non_null(strstr(findings, "t:0: setns is not denied\n"));
	policy_free(policy);

	lint_spawner("role t\n" SPAWNER_FACTS "rlimit core 0\nallow read # x\n", "role c\n" FACTS "errno EPERM read\n",
	             "");
	/* Of two errors the child's own counts. */
	lint_spawner("role t\n" SPAWNER_FACTS "rlimit core 0\nerrno EPERM read # x\n",
	             "role c\n" FACTS "errno EACCES read\n", "");
	lint_spawner("role t\n" SPAWNER_FACTS "rlimit core 0\nerrno EPERM read # x\n", "role c\n" FACTS "allow read\n",
	             "t.policy:18: read is denied, and has another result for a child: c\n");
	lint_spawner("role t\n" SPAWNER_FACTS "rlimit core 0\nkill ptrace\n", "role c\n" FACTS "allow read\n", "");
	lint_spawner("role t\n" SPAWNER_FACTS "rlimit core 0\nkill read\n", "role c\n" FACTS "allow read\n",
	             "t.policy:18: read is denied, and has another result for a child: c\n");
	lint_spawner("role t\n" SPAWNER_FACTS "rlimit core 0\nkill sendto if flags has 1\n",
	             "role c\n" FACTS "errno EPERM sendto if flags has 1\nallow sendto if flags within 2\n",
	             "t.policy:18: sendto is denied, and has another result for a child: c\n");
	lint_spawner("role t\n" SPAWNER_FACTS "rlimit core 0\nrlimit nofile 9\n", "role c\n" FACTS "rlimit nofile 10\n",
	             "t: rlimit 7 is lower than that of c\n");
	lint_spawner(
	    "role t\ndefault allow # x\nunknown ENOSYS\ncapabilities kept # x\ndumpable no\nexec yes\nfork yes\n"
	    "landlock fs open # x\nlandlock fs-refer open # x\nlandlock fs-truncate open # x\n"
	    "landlock fs-ioctl-dev open # x\nlandlock net-bind deny abi 4 required\nlandlock net-connect open # x\n"
	    "landlock scope-abstract-unix open # x\nlandlock scope-signal open # x\nmdwe where-available\n"
	    "rlimit core 0\n",
	    "role c\n" FACTS, "t: landlock net-bind is denied, which its children inherit\n");
}

/* What the supervisor denies, no child is granted, nor does a launcher, itself a spawner, name it as left. */
static void test_lint_family(void **state)
{
	char error[256];
	struct policy *spawner = policy_load("supervisor", NULL, error, sizeof(error));

	(void)state;
	assert_non_null(spawner);
	findings[0] = '\0';
	for (size_t i = 0; i < N_ROLES; i++) {
		struct policy *child = policy_load(roles[i], NULL, error, sizeof(error));

		if (strcmp(roles[i], "supervisor") != 0)
			policy_lint_spawner(spawner, child, collect, NULL);
		policy_free(child);
	}
	assert_string_equal(findings, "");
	policy_free(spawner);
}

static void test_lint_shipped(void **state)
{
	(void)state;
	for (size_t i = 0; i < N_ROLES; i++) {
		char error[256];
		struct policy *policy = policy_load(roles[i], NULL, error, sizeof(error));

		if (policy == NULL)
			fail_msg("%s", error);
		findings[0] = '\0';
		policy_lint(policy, collect, NULL);
		assert_string_equal(findings, "");
		policy_free(policy);
	}
}

/* ---------------------------------------------------------------- compiler */

static void test_both_architectures(void **state)
{
	static const uint32_t architectures[] = {SCMP_ARCH_X86_64, SCMP_ARCH_AARCH64};

	(void)state;
	for (size_t i = 0; i < N_ROLES; i++) {
		char error[256];
		struct policy *policy = policy_load(roles[i], NULL, error, sizeof(error));

		for (size_t a = 0; a < 2; a++) {
			struct sock_fprog program;

			if (policy_compile(policy, architectures[a], POLICY_ENFORCE, &program, error, sizeof(error)) !=
			    0)
				fail_msg("%s: %s", roles[i], error);
			assert_true(program.len > (policy->allows_the_rest ? 50 : 100));
			free(program.filter);
		}
		policy_free(policy);
	}
}

/* What the rules say, read one by one. */
static uint32_t read_rules(const struct policy *policy, const struct seccomp_data *data)
{
	char *name;

	for (const struct policy_rule *rule = policy->rules; rule < policy->rules + policy->n_rules; rule++) {
		bool met = seccomp_syscall_resolve_name(rule->call) == data->nr;

		for (size_t arg = 0; arg < POLICY_ARGS; arg++)
			met = met && (data->args[arg] & rule->conditions[arg].mask) == rule->conditions[arg].value;
		if (met && rule->error == POLICY_KILL)
			return SECCOMP_RET_KILL_PROCESS;
		if (met)
			return rule->error == 0 ? SECCOMP_RET_ALLOW : SECCOMP_RET_ERRNO | (uint32_t)rule->error;
	}
	/* No call has the number -1, by which a debugger skips one. */
	if (data->nr > 511 || data->nr == -1)
		return policy->allows_the_rest ? SECCOMP_RET_ALLOW : SECCOMP_RET_KILL_PROCESS;
	name = seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, data->nr);
	if (name == NULL)
		return SECCOMP_RET_ERRNO | ENOSYS;
	free(name);
	return policy->allows_the_rest ? SECCOMP_RET_ALLOW : SECCOMP_RET_KILL_PROCESS;
}

static uint64_t random_word(void)
{
	uint64_t word = 0;

	for (int i = 0; i < 5; i++)
		word = word << 15 ^ (uint64_t)rand();
	return word;
}

static void compare(const struct policy *policy, const struct sock_fprog *program, const struct seccomp_data *data)
{
	uint32_t expected = read_rules(policy, data);
	uint32_t actual = policy_program_run(program, data);

	if (expected != actual)
		fail_msg("%s: call %d (%#llx, %#llx, %#llx, %#llx, %#llx, %#llx): rules say %#x, the program %#x",
		         policy->role, data->nr, data->args[0], data->args[1], data->args[2], data->args[3],
		         data->args[4], data->args[5], expected, actual);
}

/* Arguments that meet a rule; then the same with one bit that matters, or one that does not, turned. */
static void compare_around(const struct policy *policy, const struct sock_fprog *program,
                           const struct policy_rule *rule)
{
	struct seccomp_data data = {.nr = seccomp_syscall_resolve_name(rule->call), .arch = seccomp_arch_native()};

	if (data.nr < 0)
		return;
	for (int round = 0; round < 200; round++) {
		for (size_t arg = 0; arg < POLICY_ARGS; arg++) {
			const struct policy_condition *condition = &rule->conditions[arg];
			uint64_t noise = round < 10 ? 0 : random_word();

			data.args[arg] = (noise & ~condition->mask) | condition->value;
		}
		compare(policy, program, &data);
		data.args[rand() % POLICY_ARGS] ^= UINT64_C(1) << (rand() % 64);
		compare(policy, program, &data);
	}
}

static void test_program_decides_as_rules_read(void **state)
{
	(void)state;
	srand(1);
	for (size_t i = 0; i < N_ROLES; i++) {
		char error[256];
		struct policy *policy = policy_load(roles[i], NULL, error, sizeof(error));
		struct sock_fprog program;

		assert_int_equal(
		    policy_compile(policy, SCMP_ARCH_NATIVE, POLICY_ENFORCE, &program, error, sizeof(error)), 0);
		for (size_t r = 0; r < policy->n_rules; r++)
			compare_around(policy, &program, &policy->rules[r]);
		for (int number = -1; number < 1100; number++) {
			struct seccomp_data data = {.nr = number, .arch = seccomp_arch_native()};

			compare(policy, &program, &data);
			for (size_t arg = 0; arg < POLICY_ARGS; arg++)
				data.args[arg] = random_word();
			compare(policy, &program, &data);
		}
		free(program.filter);
		policy_free(policy);
	}
}

static void test_foreign_architectures_are_killed(void **state)
{
	static const uint32_t foreign[] = {AUDIT_ARCH_I386, AUDIT_ARCH_ARM, AUDIT_ARCH_RISCV64, 0};

	(void)state;
	for (size_t i = 0; i < N_ROLES; i++) {
		char error[256];
		struct policy *policy = policy_load(roles[i], NULL, error, sizeof(error));
		struct sock_fprog program;

		assert_int_equal(
		    policy_compile(policy, SCMP_ARCH_NATIVE, POLICY_ENFORCE, &program, error, sizeof(error)), 0);
		for (int number = 0; number < 600; number++) {
			struct seccomp_data data = {.nr = number};

			for (size_t f = 0; f < sizeof(foreign) / sizeof(foreign[0]); f++) {
				data.arch = foreign[f];
				assert_int_equal(policy_program_run(&program, &data), SECCOMP_RET_KILL_PROCESS);
			}
			data.arch = seccomp_arch_native();
			data.nr |= 0x40000000; /* x32 */
			assert_int_equal(policy_program_run(&program, &data), SECCOMP_RET_KILL_PROCESS);
		}
		free(program.filter);
		policy_free(policy);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_refusals),
	    cmocka_unit_test(test_condition_refusals),
	    cmocka_unit_test(test_overlap_refusals),
	    cmocka_unit_test(test_role_refusals),
	    cmocka_unit_test(test_conditions_read),
	    cmocka_unit_test(test_missing_role),
	    cmocka_unit_test(test_lint_findings),
	    cmocka_unit_test(test_lint_shipped),
	    cmocka_unit_test(test_lint_spawner),
	    cmocka_unit_test(test_lint_family),
	    cmocka_unit_test(test_both_architectures),
	    cmocka_unit_test(test_program_decides_as_rules_read),
	    cmocka_unit_test(test_foreign_architectures_are_killed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
