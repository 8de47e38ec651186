/* SPDX-License-Identifier: Apache-2.0
 *
 * audit: whether the running processes have exactly what their policies say. Finds them by their command lines: those
 * that were started with this configuration.
 */
#include "audit.h"

#include <dirent.h>
#include <errno.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "daemon/common/role.h"

static const char *const verdict_names[] = {
    [VERDICT_OK] = "ok", [VERDICT_NOTE] = "note", [VERDICT_UNSEEN] = "not seen", [VERDICT_FAULT] = "FAULT"};

struct audit {
	const struct config *config;
	char config_file[PATH_MAX]; /* resolved */
	struct policy *policies[8]; /* in the order of tool_roles */
	struct process *processes;
	size_t n;
	struct process missing; /* what is said of no process in particular */
};

void found(struct process *process, const char *check, enum verdict verdict, const char *format, ...)
{
	struct finding *finding = &process->findings[process->n_findings];
	va_list arguments;

	if (process->n_findings == FINDINGS_MAX)
		return;
	process->n_findings++;
	finding->check = check;
	finding->verdict = verdict;
	va_start(arguments, format);
	vsnprintf(finding->detail, sizeof(finding->detail), format, arguments);
	va_end(arguments);
}

/* ---------------------------------------------------------------- which processes */

/* The value of an option in a command line of NUL-separated words. */
static const char *option_of(const char *words, size_t len, const char *option)
{
	for (const char *word = words; word < words + len; word += strlen(word) + 1)
		if (strcmp(word, option) == 0 && word + strlen(word) + 1 < words + len)
			return word + strlen(word) + 1;
	return NULL;
}

static const char *role_of(const char *program)
{
	const char *name = strrchr(program, '/');

	name = name != NULL ? name + 1 : program;
	if (strcmp(name, "handoffd") == 0)
		return "supervisor";
	for (size_t i = 0; tool_roles[i] != NULL; i++)
		if (strncmp(name, "handoffd-", 9) == 0 && strcmp(name + 9, tool_roles[i]) == 0)
			return tool_roles[i];
	return NULL;
}

static bool is_config(const struct audit *audit, const char *file)
{
	char path[PATH_MAX];

	return realpath(file != NULL ? file : CONFIG_DEFAULT_FILE, path) != NULL &&
	       strcmp(path, audit->config_file) == 0;
}

static size_t policy_index(const char *role)
{
	size_t i = 0;

	while (strcmp(tool_roles[i], role) != 0)
		i++;
	return i;
}

static const struct config_user *user_of(const struct audit *audit, const struct process *process)
{
	const struct config *config = audit->config;

	if (strcmp(process->role, "gate") == 0)
		return &config->user[ROLE_GATE];
	if (strcmp(process->role, "dialer") == 0)
		return &config->user[ROLE_DIALER];
	for (size_t i = 0; i < config->n_handlers; i++)
		if (strcmp(process->role, "launcher") == 0 && strcmp(config->handlers[i].name, process->section) == 0)
			return &config->handlers[i].user;
	for (size_t i = 0; i < config->n_backends; i++)
		if (strcmp(config->backends[i].name, process->section) == 0)
			return &config->backends[i].user;
	return &config->user[ROLE_STREAMER];
}

/* BACKEND, of `-b BACKEND` or `-i BACKEND-N`; of a launcher HANDLER, of `-H HANDLER` or `-i HANDLER`. */
static void take_section(struct process *process, const char *words, size_t len)
{
	bool is_launcher = strcmp(process->role, "launcher") == 0;
	const char *name = option_of(words, len, is_launcher ? "-H" : "-b");
	const char *instance = option_of(words, len, "-i");

	if (name == NULL && is_launcher)
		name = instance;
	if (name != NULL)
		snprintf(process->section, sizeof(process->section), "%s", name);
	else if (instance != NULL && strrchr(instance, '-') != NULL)
		snprintf(process->section, sizeof(process->section), "%.*s", (int)(strrchr(instance, '-') - instance),
		         instance);
}

static bool is_unit(pid_t pid, pid_t parent)
{
	const char *text = parent == 1 ? proc_read(pid, "cgroup", NULL) : NULL;

	return text != NULL && strstr(text, "handoffd-") != NULL && strstr(text, ".service") != NULL;
}

/* Whom it should have become; the supervisor stays root where it makes others change users. */
static void expect_user(const struct audit *audit, struct process *process)
{
	bool is_supervisor = strcmp(process->role, "supervisor") == 0;
	const struct config_user *user = is_supervisor ? NULL : user_of(audit, process);

	if (user != NULL && user->name[0] != '\0') {
		process->uid = user->uid;
		process->gid = user->gid;
	} else if (!is_supervisor || audit->config->user[ROLE_GATE].name[0] == '\0') {
		process->uid = geteuid();
		process->gid = getegid();
	}
}

/* Add it when it is one of ours. 0 or -ENOMEM. */
static int consider(struct audit *audit, pid_t pid)
{
	size_t len = 0;
	char *words = proc_read(pid, "cmdline", &len);
	const char *role = words != NULL && len > 0 ? role_of(words) : NULL;
	struct process *process;

	if (role == NULL || !is_config(audit, option_of(words, len, "-c")))
		return 0;
	process = reallocarray(audit->processes, audit->n + 1, sizeof(*process));
	if (process == NULL)
		return -ENOMEM;
	audit->processes = process;
	process = &audit->processes[audit->n++];
	*process = (struct process){.pid = pid, .role = role, .config = audit->config};
	take_section(process, words, len);
	process->policy = audit->policies[policy_index(role)];
	process->parent = (pid_t)strtol(proc_status(pid, "PPid"), NULL, 10);
	process->is_unit = is_unit(pid, process->parent);
	expect_user(audit, process);
	return 0;
}

/* The first process of a run is the launcher's own program, and looks like it. It is of the run's cage, not a role. */
static void leave_runs_out(struct audit *audit)
{
	size_t n = 0;

	for (size_t i = 0; i < audit->n; i++)
		for (size_t k = 0; k < audit->n; k++)
			audit->processes[i].is_run |= audit->processes[i].parent == audit->processes[k].pid &&
			                              strcmp(audit->processes[k].role, "launcher") == 0;
	for (size_t i = 0; i < audit->n; i++)
		if (!audit->processes[i].is_run)
			audit->processes[n++] = audit->processes[i];
	audit->n = n;
}

static int find_processes(struct audit *audit)
{
	struct dirent *entry;
	DIR *folder = opendir("/proc");
	int rc = 0;

	if (folder == NULL)
		return tool_error("/proc: %s", strerror(errno));
	while (rc == 0 && (entry = readdir(folder)) != NULL)
		if (entry->d_name[0] >= '1' && entry->d_name[0] <= '9')
			rc = consider(audit, (pid_t)strtol(entry->d_name, NULL, 10));
	closedir(folder);
	leave_runs_out(audit);
	return rc == 0 ? TOOL_OK : tool_error("out of memory");
}

/* The policy whose filter a process has inherited, NULL when no supervisor has started it. */
static const struct policy *inherited_by(const struct audit *audit, const struct process *process)
{
	for (size_t i = 0; i < audit->n; i++)
		if (audit->processes[i].pid == process->parent && strcmp(audit->processes[i].role, "supervisor") == 0)
			return audit->processes[i].policy;
	return NULL;
}

static void expect(struct audit *audit, const char *role, const char *section, size_t wanted)
{
	size_t n = 0;

	for (size_t i = 0; i < audit->n; i++)
		n += strcmp(audit->processes[i].role, role) == 0 && strcmp(audit->processes[i].section, section) == 0;
	if (n < wanted)
		found(&audit->missing, "running", VERDICT_FAULT, "%zu of %zu %s %s", n, wanted, role, section);
}

static void expect_all(struct audit *audit)
{
	expect(audit, "gate", "", 1);
	expect(audit, "dialer", "", 1);
	for (size_t i = 0; i < audit->config->n_backends; i++)
		expect(audit, "streamer", audit->config->backends[i].name, audit->config->backends[i].workers);
	for (size_t i = 0; i < audit->config->n_handlers; i++)
		expect(audit, "launcher", audit->config->handlers[i].name, 1);
	if (audit->missing.n_findings == 0)
		found(&audit->missing, "running", VERDICT_OK, "%zu processes", audit->n);
	for (size_t i = 0; tool_roles[i] != NULL; i++)
		if (policy_override(audit->policies[i]) != NULL)
			found(&audit->missing, "policy", VERDICT_NOTE, "%s replaces the built-in one",
			      policy_override(audit->policies[i]));
	found(&audit->missing, "kernel", VERDICT_NOTE, "Landlock ABI %d", landlock_abi());
}

/* ---------------------------------------------------------------- reports */

static void print_process(const struct process *process)
{
	for (size_t i = 0; i < process->n_findings; i++) {
		const struct finding *finding = &process->findings[i];
		char name[96];

		if (process->role == NULL)
			snprintf(name, sizeof(name), "-");
		else
			snprintf(name, sizeof(name), "%s%s%s[%d]", process->role,
			         process->section[0] != '\0' ? "-" : "", process->section, (int)process->pid);
		printf("%-28s %-14s %-9s %s\n", name, finding->check, verdict_names[finding->verdict], finding->detail);
	}
}

static json_t *json_of(const struct process *process)
{
	static const char *const json_names[] = {
	    [VERDICT_OK] = "ok", [VERDICT_NOTE] = "note", [VERDICT_UNSEEN] = "not-seen", [VERDICT_FAULT] = "fault"};
	json_t *findings = json_array();

	for (size_t i = 0; i < process->n_findings; i++) {
		const struct finding *finding = &process->findings[i];

		json_array_append_new(findings, json_pack("{s:s, s:s, s:s}", "check", finding->check, "verdict",
		                                          json_names[finding->verdict], "detail", finding->detail));
	}
	if (process->role == NULL)
		return json_pack("{s:o}", "findings", findings);
	bool is_launcher = strcmp(process->role, "launcher") == 0;

	return json_pack("{s:s, s:i, s:s, s:o}", "role", process->role, "pid", (int)process->pid,
	                 is_launcher ? "handler" : "backend", process->section, "findings", findings);
}

static size_t count(const struct audit *audit, enum verdict verdict)
{
	size_t n = 0;

	for (size_t i = 0; i <= audit->n; i++) {
		const struct process *process = i < audit->n ? &audit->processes[i] : &audit->missing;

		for (size_t k = 0; k < process->n_findings; k++)
			n += process->findings[k].verdict == verdict;
	}
	return n;
}

static void print_json(const struct audit *audit)
{
	json_t *processes = json_array();
	json_t *root;

	for (size_t i = 0; i < audit->n; i++)
		json_array_append_new(processes, json_of(&audit->processes[i]));
	root =
	    json_pack("{s:s, s:b, s:i, s:i, s:o, s:o}", "version", HANDOFFD_VERSION, "equal",
	              count(audit, VERDICT_FAULT) == 0, "faults", (int)count(audit, VERDICT_FAULT), "not_seen",
	              (int)count(audit, VERDICT_UNSEEN), "general", json_of(&audit->missing), "processes", processes);
	json_dumpf(root, stdout, JSON_INDENT(2));
	putchar('\n');
	json_decref(root);
}

static void print_table(const struct audit *audit)
{
	print_process(&audit->missing);
	for (size_t i = 0; i < audit->n; i++)
		print_process(&audit->processes[i]);
	printf("%zu faults, %zu not seen, %zu as the policies say\n", count(audit, VERDICT_FAULT),
	       count(audit, VERDICT_UNSEEN), count(audit, VERDICT_OK));
}

/* ---------------------------------------------------------------- all of it */

static int load(struct audit *audit, const struct tool_options *options)
{
	struct tool_options own = *options;
	char *errors = NULL;

	audit->config = config_load(options->config_file, &errors);
	if (audit->config == NULL) {
		fputs(errors != NULL ? errors : "out of memory\n", stderr);
		free(errors);
		return TOOL_ERROR;
	}
	if (realpath(options->config_file, audit->config_file) == NULL)
		return tool_error("%s: %s", options->config_file, strerror(errno));
	own.policy_dir = audit->config->policy_dir;
	for (size_t i = 0; tool_roles[i] != NULL; i++)
		if ((audit->policies[i] = tool_policy(&own, tool_roles[i])) == NULL)
			return TOOL_ERROR;
	return TOOL_OK;
}

static int verdict_of(const struct audit *audit)
{
	if (count(audit, VERDICT_FAULT) > 0)
		return TOOL_FAULT;
	return count(audit, VERDICT_UNSEEN) > 0 ? TOOL_ERROR : TOOL_OK;
}

int tool_audit(const struct tool_options *options, int argc, char **argv)
{
	struct audit audit = {0};
	bool json = argc > 1 && strcmp(argv[1], "--json") == 0;
	int status;

	if (argc > 2 || (argc == 2 && !json))
		return tool_error("audit wants nothing but --json");
	status = load(&audit, options);
	if (status == TOOL_OK)
		status = find_processes(&audit);
	if (status == TOOL_OK) {
		expect_all(&audit);
		for (size_t i = 0; i < audit.n; i++) {
			audit_status(&audit.processes[i]);
			audit_descriptors(&audit.processes[i]);
			audit_filters(&audit.processes[i], inherited_by(&audit, &audit.processes[i]));
			audit_landlock(&audit.processes[i]);
		}
		if (json)
			print_json(&audit);
		else
			print_table(&audit);
		status = verdict_of(&audit);
	}
	for (size_t i = 0; tool_roles[i] != NULL; i++)
		policy_free(audit.policies[i]);
	free(audit.processes);
	return status;
}
