/* SPDX-License-Identifier: Apache-2.0
 *
 * Configuration: what a right file says, and each error with its line.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/common/config.h"

static char directory[] = "/tmp/test-config-XXXXXX";
static char file[64];
/* A configuration is never freed; kept, so that it is not taken for lost. */
static struct config *kept[64];
static size_t n_kept;

static void write_file(const char *text)
{
	FILE *stream = fopen(file, "w");

	assert_non_null(stream);
	assert_int_equal(fputs(text, stream) < 0, 0);
	assert_int_equal(fclose(stream), 0);
	assert_int_equal(chmod(file, 0600), 0);
}

static struct config *load_right(const char *text)
{
	char *errors = NULL;
	struct config *config;

	write_file(text);
	config = config_load(file, &errors);
	if (config == NULL)
		print_message("%s", errors);
	assert_non_null(config);
	assert_null(errors);
	assert_true(n_kept < sizeof(kept) / sizeof(kept[0]));
	kept[n_kept++] = config;
	return config;
}

/* expected: one line an error, "LINE: text" or ": text", as they follow the file's name. */
static void check_errors(const char *text, const char *expected)
{
	char *errors = NULL;
	char wanted[4096] = "";
	char copy[4096];
	char *rest = copy;

	snprintf(copy, sizeof(copy), "%s", expected);
	for (char *line = strtok_r(rest, "\n", &rest); line != NULL; line = strtok_r(NULL, "\n", &rest)) {
		size_t len = strlen(wanted);

		snprintf(wanted + len, sizeof(wanted) - len, "%s%s%s\n", file, line[0] == ':' ? "" : ":", line);
	}
	write_file(text);
	assert_null(config_load(file, &errors));
	assert_non_null(errors);
	assert_string_equal(errors, wanted);
	free(errors);
}

#define LISTEN  "listen \"/run/a.sock\" {\n backend = demo\n allow-peer = {33}\n}\n"
#define BACKEND "backend \"demo\" { type = demo }\n"

static void test_defaults(void **state)
{
	struct config *config = load_right(LISTEN BACKEND);

	(void)state;
	assert_string_equal(config->file, file);
	assert_string_equal(config->runtime_dir, "/run/handoffd");
	assert_string_equal(config->key_file, "/etc/handoffd/keys");
	assert_false(config->log_debug);
	for (int i = 0; i < ROLE_COUNT; i++)
		assert_string_equal(config->user[i].name, "");
	assert_int_equal(config->n_listens, 1);
	assert_string_equal(config->listens[0].path, "/run/a.sock");
	assert_int_equal(config->listens[0].backend, 0);
	assert_int_equal(config->listens[0].n_allow_peer, 1);
	assert_int_equal(config->listens[0].allow_peer[0], 33);
	assert_int_equal(config->listens[0].mode, 0660);
	assert_int_equal(config->listens[0].group, 33);
	assert_int_equal(config->listens[0].max_connections, 4096);
	assert_false(config->listens[0].relay);
	assert_false(config->listens[0].legacy);
	assert_false(config->listens[0].legacy_unsafe);
	assert_false(config->listens[0].legacy_stream);
	assert_int_equal(config->n_backends, 1);
	assert_string_equal(config->backends[0].name, "demo");
	assert_int_equal(config->backends[0].type, BACKEND_DEMO);
	assert_string_equal(config->backends[0].user.name, "");
	assert_int_equal(config->backends[0].workers, 1);
	assert_int_equal(config->backends[0].max_streams, 10000);
	assert_int_equal(config->backends[0].delay_ms, 50);
	assert_string_equal(config->backends[0].model, "");
	assert_string_equal(config->backends[0].credential_file, "");
	assert_int_equal(config->backends[0].first_byte_timeout_s, 60);
	assert_int_equal(config->backends[0].idle_timeout_s, 120);
	assert_int_equal(config->backends[0].write_timeout_s, 60);
	assert_int_equal(config->backends[0].max_duration_s, 3600);
	assert_int_equal(config->backends[0].keepalive_s, 15);
	assert_int_equal(config->n_upstreams, 0);
	assert_int_equal(config->watchdog_s, 30);
	assert_int_equal(config->n_profiles, 0);
	const struct config_request *request = &config->backends[0].request;
	assert_int_equal(request->max_data, 33554432);
	assert_int_equal(request->max_prompt, 8388608);
	assert_int_equal(request->max_messages, 1024);
	assert_int_equal(request->max_attachments, 16);
	assert_int_equal(request->memory, 268435456);
	assert_int_equal(request->n_models, 0);
	assert_int_equal(request->n_profiles, 0);
	assert_int_equal(request->max_tokens, 0);
	assert_int_equal(request->max_tokens_limit, 0);
	assert_false(request->max_completion_tokens);
	assert_true(request->temperature < 0);
	assert_true(request->include_usage);
}

static void test_everything(void **state)
{
	struct config *config =
	    load_right("# comment with ${HOME}\n"
	               "runtime-dir = /run/x // another\n"
	               "key-file = /etc/k\n"
	               "log-debug = true\nwatchdog = 0\n"
	               "gate-user = 9001\n"
	               "streamer-user = 9003\n"
	               "dialer-user = 9002\n"
	               "/* a long\n one */\n"
	               "listen \"/run/b.sock\" {\n backend = ai\n allow-peer = {www-data, 77}\n"
	               " mode = 0600\n group = 5\n max-connections = 7\n relay = yes\n}\n" LISTEN BACKEND
	               "backend \"ai\" { type = openai upstream = up user = 9004 workers = 3\n"
	               " max-streams = 5 model = \"gpt 4\" credential-file = /etc/c\n"
	               " first-byte-timeout = 1 idle-timeout = 2 write-timeout = 3\n"
	               " max-duration = 4 keepalive = 0 delay = 0 }\n"
	               "upstream \"up\" { url = \"https://api.example.org/v1/\" ca-file = /etc/ca\n"
	               " connect-timeout = 9 }\n"
	               "upstream \"spare\" { url = \"http://[::1]:8080\" }\n");
	const struct config_backend *ai = &config->backends[1];

	(void)state;
	assert_string_equal(config->runtime_dir, "/run/x");
	assert_string_equal(config->key_file, "/etc/k");
	assert_true(config->log_debug);
	assert_int_equal(config->watchdog_s, 0);
	assert_string_equal(config->user[ROLE_GATE].name, "9001");
	assert_int_equal(config->user[ROLE_GATE].uid, 9001);
	assert_int_equal(config->user[ROLE_GATE].gid, 9001);
	assert_int_equal(config->user[ROLE_DIALER].uid, 9002);
	assert_string_equal(config->listens[0].path, "/run/b.sock");
	assert_int_equal(config->listens[0].backend, 1);
	assert_int_equal(config->listens[1].backend, 0);
	assert_int_equal(config->listens[0].n_allow_peer, 2);
	assert_int_equal(config->listens[0].allow_peer[0], 33);
	assert_int_equal(config->listens[0].allow_peer[1], 77);
	assert_int_equal(config->listens[0].mode, 0600);
	assert_int_equal(config->listens[0].group, 5);
	assert_int_equal(config->listens[0].max_connections, 7);
	assert_true(config->listens[0].relay);
	assert_int_equal(config->backends[0].user.uid, 9003);
	assert_int_equal(ai->type, BACKEND_OPENAI);
	assert_int_equal(ai->user.uid, 9004);
	assert_int_equal(ai->workers, 3);
	assert_int_equal(ai->upstream, 0);
	assert_int_equal(ai->keepalive_s, 0);
	assert_string_equal(ai->model, "gpt 4");
	assert_string_equal(config->upstreams[0].url, "https://api.example.org/v1");
	assert_true(config->upstreams[0].tls);
	assert_string_equal(config->upstreams[0].host, "api.example.org");
	assert_int_equal(config->upstreams[0].port, 443);
	assert_int_equal(config->upstreams[0].connect_timeout_ms, 9);
	assert_false(config->upstreams[1].tls);
	assert_string_equal(config->upstreams[1].host, "::1");
	assert_int_equal(config->upstreams[1].port, 8080);
}

static void test_request(void **state)
{
	struct config *config = load_right(
	    LISTEN
	    "backend \"demo\" {\n type = demo\n max-data = 1 max-prompt = 2 max-messages = 3 max-attachments = 0\n"
	    " request-memory = 1048576 models = {a, \"b c\"} profiles = {short, long} max-tokens = 5\n"
	    " max-tokens-limit = 6 max-completion-tokens = yes temperature = 0.5 include-usage = no\n}\n"
	    "profile \"long\" { }\n"
	    "profile \"short\" {\n model = m\n system = \"Be brief.\nBe \xc3\xbc.\"\n max-tokens = 6\n"
	    " temperature = 2\n}\n");
	const struct config_request *request = &config->backends[0].request;

	(void)state;
	assert_int_equal(request->max_data, 1);
	assert_int_equal(request->max_prompt, 2);
	assert_int_equal(request->max_messages, 3);
	assert_int_equal(request->max_attachments, 0);
	assert_int_equal(request->memory, 1048576);
	assert_int_equal(request->n_models, 2);
	assert_string_equal(request->models[0], "a");
	assert_string_equal(request->models[1], "b c");
	assert_int_equal(request->max_tokens, 5);
	assert_int_equal(request->max_tokens_limit, 6);
	assert_true(request->max_completion_tokens);
	assert_true(request->temperature == 0.5);
	assert_false(request->include_usage);
	assert_int_equal(request->n_profiles, 2);
	assert_string_equal(request->profiles[0]->name, "short");
	assert_string_equal(request->profiles[0]->model, "m");
	assert_string_equal(request->profiles[0]->system, "Be brief.\nBe \xc3\xbc.");
	assert_int_equal(request->profiles[0]->max_tokens, 6);
	assert_true(request->profiles[0]->temperature == 2);
	assert_string_equal(request->profiles[1]->system, "");
	assert_true(request->profiles[1]->temperature < 0);
}

static void test_request_errors(void **state)
{
	(void)state;
	check_errors(LISTEN "backend \"demo\" {\n type = demo\n"
	                    " temperature = 2.1\n"
	                    " models = {a, \"\"}\n"
	                    " profiles = {short,\n nowhere}\n"
	                    " max-tokens = 7\n"
	                    " max-tokens-limit = 6\n"
	                    " max-messages = 0\n"
	                    "}\n"
	                    "profile \"short\" { max-tokens = 8 }\n"
	                    "profile \"a b\" {\n"
	                    " system = \"\xc3\"\n"
	                    " model = \"\xc3\xbc\"\n"
	                    " temperature = -1\n"
	                    "}\n"
	                    "profile \"bell\" {\n system = \"\a\"\n}\n",
	             "16: profile \"a b\": a name is 1 to 32 of A-Z a-z 0-9 _ -\n"
	             "18: model \"\xc3\xbc\": only printable ASCII is allowed here\n"
	             "17: system \"\xc3\": the text is not UTF-8\n"
	             "19: temperature must be from 0 to 2\n"
	             "22: system \"\a\": control bytes other than line ends and tabs are not allowed here\n"
	             "13: max-messages must be from 1 to 100000\n"
	             "7: temperature must be from 0 to 2\n"
	             "11: max-tokens is above max-tokens-limit\n"
	             "8: models \"\": a model has a name\n"
	             "9: the max-tokens of profile \"short\" is above max-tokens-limit\n"
	             "9: there is no section profile \"nowhere\"");
}

static void test_output(void **state)
{
	const struct config_backend *plain = load_right(LISTEN BACKEND)->backends;
	const struct config_backend *all =
	    load_right(LISTEN "backend \"demo\" { type = openai upstream = up output = passthrough head-after = 5\n"
	                      " first-token-timeout = 6 on-disconnect = drain drain-bytes = 7 stop-grace = 8 }\n"
	                      "upstream \"up\" { url = \"http://a\" }\n")
	        ->backends;

	(void)state;
	assert_int_equal(plain->output, OUTPUT_CONTENT);
	assert_int_equal(plain->head_after_s, 0);
	assert_int_equal(plain->first_token_timeout_s, 0);
	assert_int_equal(plain->on_disconnect, DISCONNECT_CANCEL);
	assert_int_equal(all->output, OUTPUT_PASSTHROUGH);
	assert_int_equal(all->head_after_s, 5);
	assert_int_equal(all->first_token_timeout_s, 6);
	assert_int_equal(all->on_disconnect, DISCONNECT_DRAIN);
	assert_int_equal(all->drain_bytes, 7);
	assert_int_equal(all->stop_grace_s, 8);
	check_errors(LISTEN "backend \"demo\" { type = demo output = html }\n", "5: output \"html\" is not known");
	check_errors(LISTEN "backend \"demo\" { type = demo\n output = passthrough }\n",
	             "6: output \"passthrough\": a demo backend has no upstream whose events could be passed on");
}

#define HANDLER "handler \"figlet\" {\n command = {\"/usr/bin/figlet\"}\n}\n"
#define PROGRAM "backend \"demo\" {\n type = handler\n handler = figlet\n}\n"

static void test_handler(void **state)
{
	struct config *config = load_right("launcher-user = 9005\n" LISTEN PROGRAM HANDLER);
	const struct config_handler *plain = &config->handlers[0];

	(void)state;
	assert_int_equal(config->n_handlers, 1);
	assert_int_equal(config->user[ROLE_LAUNCHER].uid, 9005);
	assert_int_equal(config->backends[0].type, BACKEND_HANDLER);
	assert_int_equal(config->backends[0].handler, 0);
	assert_string_equal(plain->name, "figlet");
	assert_int_equal(plain->user.uid, 9005);
	assert_int_equal(plain->command.n, 1);
	assert_string_equal(plain->command.item[0], "/usr/bin/figlet");
	assert_null(plain->command.item[1]);
	assert_string_equal(plain->directory, "/");
	assert_int_equal(plain->environment.n, 0);
	assert_null(plain->environment.item[0]);
	assert_string_equal(plain->policy, "");
	assert_int_equal(plain->mode, MODE_HTTP);
	assert_int_equal(plain->read_paths.n, 0);
	assert_int_equal(plain->write_paths.n, 0);
	assert_int_equal(plain->execute_paths.n, 0);
	assert_int_equal(plain->memory, 268435456);
	assert_int_equal(plain->cpu_time_s, 30);
	assert_int_equal(plain->processes, 32);
	assert_int_equal(plain->files, 64);
	assert_int_equal(plain->file_size, 67108864);
	assert_int_equal(plain->temporary, 16777216);
	assert_int_equal(plain->output_bytes, 67108864);
	assert_int_equal(plain->wall_time_s, 300);
	assert_int_equal(plain->kill_grace_s, 2);
	assert_int_equal(plain->concurrency, 64);
	assert_int_equal(plain->queue, 64);
	assert_int_equal(plain->queue_time_ms, 500);
	assert_int_equal(plain->namespaces, LAYER_WHERE_AVAILABLE);
	assert_int_equal(plain->cgroup, LAYER_WHERE_AVAILABLE);
	assert_int_equal(plain->proc, PROC_PRIVATE);
}

static void test_handler_everything(void **state)
{
	struct config *config = load_right(
	    LISTEN PROGRAM HANDLER
	    "handler \"all\" {\n command = {\"/usr/bin/env\", \"-i\", \"\", \"a b\"}\n directory = \"/srv\"\n"
	    " environment = {\"LANG=C.UTF-8\", \"EMPTY=\", \"_a1=b=c\"}\n policy = /etc/p\n user = 9006\n"
	    " mode = sse\n read-paths = {\"/srv/a\", \"/\"}\n write-paths = {\"/var/w\"}\n"
	    " execute-paths = {\"/opt\"}\n memory = 8589934592\n cpu-time = 1\n processes = 2\n files = 8\n"
	    " file-size = 0\n temporary = 4096\n output-bytes = 5368709120\n wall-time = 3\n kill-grace = 0\n"
	    " concurrency = 5\n queue = 0\n queue-time = 6\n namespaces = required\n cgroup = off\n"
	    " proc = none\n}\n");
	const struct config_handler *all = &config->handlers[1];

	(void)state;
	assert_string_equal(config->handlers[0].user.name, "");
	assert_int_equal(all->command.n, 4);
	assert_string_equal(all->command.item[2], "");
	assert_string_equal(all->command.item[3], "a b");
	assert_null(all->command.item[4]);
	assert_string_equal(all->directory, "/srv");
	assert_int_equal(all->environment.n, 3);
	assert_string_equal(all->environment.item[2], "_a1=b=c");
	assert_string_equal(all->policy, "/etc/p");
	assert_int_equal(all->user.uid, 9006);
	assert_int_equal(all->mode, MODE_SSE);
	assert_int_equal(all->read_paths.n, 2);
	assert_string_equal(all->read_paths.item[1], "/");
	assert_string_equal(all->write_paths.item[0], "/var/w");
	assert_string_equal(all->execute_paths.item[0], "/opt");
	assert_true(all->memory == 8589934592);
	assert_int_equal(all->cpu_time_s, 1);
	assert_int_equal(all->processes, 2);
	assert_int_equal(all->files, 8);
	assert_int_equal(all->file_size, 0);
	assert_int_equal(all->temporary, 4096);
	assert_true(all->output_bytes == 5368709120);
	assert_int_equal(all->wall_time_s, 3);
	assert_int_equal(all->kill_grace_s, 0);
	assert_int_equal(all->concurrency, 5);
	assert_int_equal(all->queue, 0);
	assert_int_equal(all->queue_time_ms, 6);
	assert_int_equal(all->namespaces, LAYER_REQUIRED);
	assert_int_equal(all->cgroup, LAYER_OFF);
	assert_int_equal(all->proc, PROC_NONE);
}

static void test_handler_errors(void **state)
{
	(void)state;
	check_errors(LISTEN PROGRAM "handler \"figlet\" {\n}\n", "9: handler \"figlet\" has no command");
	check_errors(LISTEN PROGRAM "handler \"figlet\" {\n command = {}\n}\n", "9: handler \"figlet\" has no command");
	check_errors(LISTEN PROGRAM "handler \"figlet\" {\n command = {figlet}\n}\n",
	             "10: command \"figlet\": the path must be absolute");
	check_errors(LISTEN PROGRAM HANDLER HANDLER, "12: found duplicate title 'figlet'");
	check_errors(LISTEN PROGRAM HANDLER "handler \"a/b\" {\n command = {\"/a\"}\n}\n",
	             "12: handler \"a/b\": a name is 1 to 32 of A-Z a-z 0-9 _ -");
	check_errors(
	    LISTEN PROGRAM
	    "handler \"figlet\" {\n command = {\"/a\"}\n directory = srv\n"
	    " environment = {A, \"1=2\",\n \"HANDOFF_ID=1\", \"B=1\", \"B=2\", \"=\"}\n"
	    " policy = p\n user = 0\n mode = fcgi\n read-paths = {\"/a/\", \"b\"}\n write-paths = {\"/a//b\"}\n"
	    " execute-paths = {\"\"}\n memory = 1\n cpu-time = 0\n processes = 0\n files = 7\n file-size = -1\n"
	    " temporary = 0\n output-bytes = 0\n wall-time = 0\n kill-grace = 601\n concurrency = 0\n"
	    " queue = -1\n queue-time = 0\n namespaces = on\n cgroup = no\n proc = all\n}\n",
	    "11: directory \"srv\": the path must be absolute\n"
	    "12: environment \"A\": a variable is NAME=VALUE\n"
	    "12: environment \"1=2\": a variable's name is of letters, digits and _\n"
	    "12: environment \"HANDOFF_ID=1\": the names that begin with HANDOFF_ are taken\n"
	    "12: environment \"=\": a variable is NAME=VALUE\n"
	    "12: environment \"B=2\": the name is there twice\n"
	    "14: policy \"p\": the path must be absolute\n"
	    "15: user \"0\": no role may run as root\n"
	    "16: mode \"fcgi\" is not known\n"
	    "17: read-paths \"/a/\": the path ends with /\n"
	    "17: read-paths \"b\": the path must be absolute\n"
	    "18: write-paths \"/a//b\": the path holds //, /./ or /../\n"
	    "19: execute-paths \"\": the path must be absolute\n"
	    "20: memory must be from 1048576 to 1099511627776\n"
	    "21: cpu-time must be from 1 to 604800\n"
	    "22: processes must be from 1 to 100000\n"
	    "23: files must be from 8 to 65536\n"
	    "24: file-size must be from 0 to 1099511627776\n"
	    "25: temporary must be from 4096 to 1099511627776\n"
	    "26: output-bytes must be from 1 to 1099511627776\n"
	    "27: wall-time must be from 1 to 604800\n"
	    "28: kill-grace must be from 0 to 600\n"
	    "29: concurrency must be from 1 to 10000\n"
	    "30: queue must be from 0 to 10000\n"
	    "31: queue-time must be from 1 to 60000\n"
	    "32: namespaces \"on\" is not known\n"
	    "33: cgroup \"no\" is not known\n"
	    "34: proc \"all\" is not known");
}

static void test_handler_backends(void **state)
{
	(void)state;
	check_errors(LISTEN "backend \"demo\" {\n type = handler\n}\n" HANDLER, "5: backend \"demo\" has no handler");
	check_errors(LISTEN "backend \"demo\" {\n type = handler\n handler = no\n}\n" HANDLER,
	             "7: there is no section handler \"no\"");
	check_errors(LISTEN "backend \"demo\" {\n type = demo\n handler = figlet\n}\n" HANDLER,
	             "7: handler \"figlet\": a demo backend has none");
	check_errors(LISTEN "backend \"demo\" {\n type = openai\n upstream = up\n handler = figlet\n}\n"
	                    "upstream \"up\" { url = \"http://a\" }\n" HANDLER,
	             "8: handler \"figlet\": an openai backend has none");
	check_errors(LISTEN "backend \"demo\" {\n type = handler\n handler = figlet\n upstream = up\n}\n"
	                    "upstream \"up\" { url = \"http://a\" }\n" HANDLER,
	             "8: upstream \"up\": a handler backend has none");
	check_errors(LISTEN
	             "backend \"demo\" {\n type = handler\n handler = figlet\n output = passthrough\n}\n" HANDLER,
	             "8: output \"passthrough\": a handler backend has no upstream whose events could be passed on");
	check_errors(LISTEN PROGRAM "backend \"two\" {\n type = handler\n handler = figlet\n}\n" HANDLER,
	             "11: handler \"figlet\" is that of backend \"demo\" already");
	check_errors(LISTEN "backend \"demo\" {\n type = program\n}\n",
	             "6: type \"program\": the types are demo, openai and handler");
}

static void test_sections_id(void **state)
{
	(void)state;
	uint64_t none = config_sections_id(load_right(LISTEN BACKEND));
	uint64_t one = config_sections_id(load_right(LISTEN BACKEND HANDLER));
	uint64_t upstream =
	    config_sections_id(load_right(LISTEN BACKEND "upstream \"figlet\" { url = \"http://a\" }\n"));

	assert_true(none != one);
	assert_true(one != upstream);
	assert_true(one == config_sections_id(load_right("watchdog = 1\n" LISTEN BACKEND HANDLER)));
}

static void expect_access_log(const char *value, const char *expected)
{
	char text[512], path[16];
	struct config *config;

	snprintf(text, sizeof(text), "access-log = \"%s\"\n" LISTEN BACKEND, value);
	config = load_right(text);
	if (expected == NULL) {
		assert_int_equal(config_access_log(config, 0, 12, path, sizeof(path)), -ENAMETOOLONG);
		return;
	}
	assert_int_equal(config_access_log(config, 0, 12, path, sizeof(path)), 0);
	assert_string_equal(path, expected);
}

static void test_access_log(void **state)
{
	(void)state;
	expect_access_log("", "");
	expect_access_log("/log/a", "/log/a");
	expect_access_log("/%b-%w/x%b", "/demo-12/xdemo");
	expect_access_log("/23456789/12345", "/23456789/12345");
	expect_access_log("/23456789/123456", NULL);
	expect_access_log("/23456789/12%b", NULL);
	assert_int_equal(load_right("access-log-format = json\n" LISTEN BACKEND)->access_log_format, LOG_FORMAT_JSON);
	check_errors("access-log = \"log\"\n" LISTEN BACKEND, "1: access-log \"log\": the path must be absolute");
	check_errors("access-log = \"/a%\"\n" LISTEN BACKEND,
	             "1: access-log \"/a%\": after % comes b, the backend's name, or w, the worker's number");
	check_errors("access-log = \"/a%b%s\"\n" LISTEN BACKEND,
	             "1: access-log \"/a%b%s\": after % comes b, the backend's name, or w, the worker's number");
	check_errors("access-log-format = xml\n" LISTEN BACKEND, "1: access-log-format \"xml\" is not known");
}

static void test_syntax(void **state)
{
	(void)state;
	check_errors("\n# a\n\nworkers = 3\n", "4: no such option 'workers'");
	check_errors(LISTEN "backend \"demo\" { typo = demo }\n", "5: no such option 'typo'");
	check_errors("listen \"/a\" {\n allow-peer = {1\n", "1: this section is not closed");
	check_errors(LISTEN "backend \"demo\" {\n type = demo\n", "5: this section is not closed");
	check_errors(LISTEN "}\n" BACKEND, "5: unexpected closing brace");
	check_errors(LISTEN "backend \"de}mo {\n type = demo\n", "7: premature end of file");
	check_errors("listen \"/a\" {\n", "1: this section is not closed");
	check_errors(LISTEN LISTEN BACKEND, "5: found duplicate title '/run/a.sock'");
	check_errors(LISTEN BACKEND BACKEND, "6: found duplicate title 'demo'");
	check_errors("backend \"b\" {\n workers = x\n}\n", "2: invalid integer value for option 'workers'");
	check_errors("watchdog = 3601\n" LISTEN BACKEND, "1: watchdog must be from 0 to 3600");
	check_errors("log-debug = maybe\n", "1: invalid boolean value for option 'log-debug'");
	check_errors("key-file = /a\nkey-file = /b\n", "2: key-file was set already in line 1");
	check_errors("listen \"/a\" {\n allow-peer = {1}\n allow-peer = {2}\n}\n",
	             "3: allow-peer was set already in line 2");
	check_errors("include(\"/etc/passwd\")\n", "1: no such option 'include'");
	check_errors("# ${X}\nkey-file = \"/${HOME}\"\n",
	             "2: \"${\" is not allowed: environment variables are not put in here");
	check_errors("", ": the file is empty");
}

static void test_all_errors_are_reported(void **state)
{
	(void)state;
	check_errors("runtime-dir = run\n"
	             "key-file = \"/a/../b\"\n"
	             "gate-user = root\n"
	             "dialer-user = no-such-user\n"
	             "listen \"relative\" {\n"
	             " backend = missing\n"
	             " allow-peer = {nobody}\n"
	             " mode = 0777\n"
	             " group = no-such-group\n"
	             " max-connections = 0\n"
	             "}\n"
	             "backend \"a b\" {\n"
	             " type = other\n"
	             " workers = 65\n"
	             " credential-file = key\n"
	             "}\n"
	             "backend \"c\" { type = openai }\n"
	             "backend \"d\" {\n"
	             " type = openai\n"
	             " upstream = nowhere\n"
	             "}\n",
	             "1: runtime-dir \"run\": the path must be absolute\n"
	             "2: key-file \"/a/../b\": the path holds //, /./ or /../\n"
	             "3: gate-user \"root\": no role may run as root\n"
	             "4: dialer-user \"no-such-user\": no such user\n"
	             "5: listen \"relative\": the path must be absolute\n"
	             "6: there is no section backend \"missing\"\n"
	             "7: allow-peer \"nobody\": uid 65534 stands for users that are not mapped and cannot be told "
	             "apart\n"
	             "8: mode \"0777\": a socket has read and write permissions only\n"
	             "9: group \"no-such-group\": no such group\n"
	             "10: max-connections must be from 1 to 65536\n"
	             "12: backend \"a b\": a name is 1 to 32 of A-Z a-z 0-9 _ -\n"
	             "13: type \"other\": the types are demo, openai and handler\n"
	             "14: workers must be from 1 to 64\n"
	             "15: credential-file \"key\": the path must be absolute\n"
	             "17: backend \"c\" has no upstream\n"
	             "20: there is no section upstream \"nowhere\"");
}

#define AI                                                                                                             \
	"backend \"ai\" { type = openai upstream = up credential-file = /etc/c }\n"                                    \
	"upstream \"up\" { url = \"http://127.0.0.1\" }\n"

static void test_legacy(void **state)
{
	struct config *config =
	    load_right("listen \"/a\" {\n backend = demo\n allow-peer = {33}\n legacy = yes\n}\n" BACKEND);

	(void)state;
	assert_true(config->listens[0].legacy);
	assert_false(config->listens[0].legacy_unsafe);
	check_errors("listen \"/a\" {\n backend = demo\n allow-peer = {33}\n relay = yes\n legacy = yes\n}\n" BACKEND,
	             "5: legacy and relay exclude each other");
	check_errors("listen \"/a\" {\n backend = ai\n allow-peer = {33}\n legacy = yes\n}\n" AI,
	             "4: legacy takes handoffs that nobody has signed, and backend \"ai\" has a credential-file: this "
	             "needs legacy-unsafe = yes");
	config = load_right("listen \"/a\" {\n backend = ai\n allow-peer = {33}\n legacy = yes\n"
	                    " legacy-unsafe = yes\n}\n" AI);
	assert_true(config->listens[0].legacy && config->listens[0].legacy_unsafe);
	config = load_right("listen \"/a\" {\n backend = demo\n allow-peer = {33}\n legacy = yes\n"
	                    " legacy-stream = yes\n}\n" BACKEND);
	assert_true(config->listens[0].legacy && config->listens[0].legacy_stream);
	check_errors("listen \"/a\" {\n backend = demo\n allow-peer = {33}\n legacy-stream = yes\n}\n" BACKEND,
	             "4: legacy-stream is for legacy listeners");
}

static void test_required(void **state)
{
	(void)state;
	check_errors(BACKEND, "2: there is no section listen");
	check_errors("listen \"/a\" {\n}\n" BACKEND,
	             "1: listen \"/a\" has no backend\n1: listen \"/a\" has no allow-peer");
	check_errors("listen \"/a\" {\n backend = demo\n allow-peer = {}\n}\n" BACKEND,
	             "1: listen \"/a\" has no allow-peer");
	check_errors(LISTEN "backend \"demo\" {\n}\n", "5: backend \"demo\" has no type");
	check_errors(LISTEN BACKEND "upstream \"u\" {\n}\n", "6: upstream \"u\" has no url");
}

static void test_lengths(void **state)
{
	char text[512];
	char path[128];

	(void)state;
	memset(path, 'x', sizeof(path));
	path[0] = '/';
	path[107] = '\0';
	snprintf(text, sizeof(text), "listen \"%s\" {\n backend = demo\n allow-peer = {33}\n}\n" BACKEND, path);
	load_right(text);
	path[107] = 'x';
	path[108] = '\0';
	snprintf(text, sizeof(text), "listen \"%s\" {\n backend = demo\n allow-peer = {33}\n}\n" BACKEND, path);
	char expected[256];
	snprintf(expected, sizeof(expected), "1: listen \"%s\": the path is too long", path);
	check_errors(text, expected);

	path[100] = '\0';
	snprintf(text, sizeof(text), "\nruntime-dir = %s\n" LISTEN BACKEND, path);
	snprintf(expected, sizeof(expected), "2: the path of backend \"demo\"'s socket in %s is too long", path);
	check_errors(text, expected);

	/* 12 bytes longer in the path of a launcher's socket. */
	path[77] = '\0';
	snprintf(text, sizeof(text),
	         "\nruntime-dir = %s\n" LISTEN BACKEND "handler \"a-name-that-is-long\" { command = {\"/a\"} }\n",
	         path);
	snprintf(expected, sizeof(expected),
	         "2: the path of handler \"a-name-that-is-long\"'s socket in %s is too long", path);
	check_errors(text, expected);
}

static void check_url(const char *url, const char *wrong)
{
	char text[512];
	char expected[512];

	snprintf(text, sizeof(text), LISTEN BACKEND "upstream \"u\" {\n url = \"%s\"\n}\n", url);
	if (wrong == NULL) {
		load_right(text);
		return;
	}
	snprintf(expected, sizeof(expected), "7: url \"%s\": %s", url, wrong);
	check_errors(text, expected);
}

static void test_urls(void **state)
{
	(void)state;
	check_url("http://localhost:11434", NULL);
	check_url("http://127.0.0.1:1/a/b", NULL);
	check_url("https://[2001:db8::1]/v1", NULL);
	check_url("ftp://a/", "the URL must begin with http:// or https:// (and stand in quotes)");
	check_url("https://", "the URL has no proper host");
	check_url("https://:80/", "the URL has no proper host");
	check_url("https://a b/", "the URL holds characters that a URL has not");
	check_url("https://user:pw@host/", "the URL must not hold a user or password");
	check_url("https://host/?key=1", "the URL must not have a query or fragment");
	check_url("https://host/#a", "the URL must not have a query or fragment");
	check_url("https://host:0/", "the URL's port is not a number from 1 to 65535");
	check_url("https://host:65536/", "the URL's port is not a number from 1 to 65535");
	check_url("https://host:/", "the URL's port is not a number from 1 to 65535");
	check_url("https://host:8a/", "the URL's port is not a number from 1 to 65535");
	check_url("https://[::1/", "the URL's host is not an IPv6 address in brackets");
	check_url("https://[127.0.0.1]/", "the URL's host is not an IPv6 address in brackets");
	check_url("https://[::1]x/", "the URL has no proper host");
}

static void test_file(void **state)
{
	char *errors = NULL;
	char expected[128];

	(void)state;
	assert_null(config_load("/nonexistent/handoffd.conf", &errors));
	assert_string_equal(errors, "/nonexistent/handoffd.conf: No such file or directory\n");
	free(errors);

	write_file(LISTEN BACKEND);
	assert_int_equal(chmod(file, 0666), 0);
	assert_null(config_load(file, &errors));
	snprintf(expected, sizeof(expected), "%s: everybody may write to this file\n", file);
	assert_string_equal(errors, expected);
	free(errors);
}

static void test_paths(void **state)
{
	struct config *config = load_right("runtime-dir = /run/x\n" LISTEN BACKEND);
	char path[CONFIG_PATH_MAX];
	char small[8];

	(void)state;
	assert_int_equal(config_streamer_socket(config, 0, 3, path), 0);
	assert_string_equal(path, "/run/x/streamer-demo-3.sock");
	assert_int_equal(config_dialer_socket(config, path), 0);
	assert_string_equal(path, "/run/x/dialer.sock");
	config = load_right("runtime-dir = /run/x\n" LISTEN BACKEND HANDLER);
	assert_int_equal(config_launcher_socket(config, 0, path), 0);
	assert_string_equal(path, "/run/x/launcher-figlet.sock");
	config->generation = 2;
	assert_int_equal(config_launcher_socket(config, 0, path), 0);
	assert_string_equal(path, "/run/x/launcher-figlet.2.sock");

	assert_int_equal(unsetenv("CREDENTIALS_DIRECTORY"), 0);
	assert_int_equal(config_secret_path("keys", "/etc/k", path, sizeof(path)), 0);
	assert_string_equal(path, "/etc/k");
	assert_true(config_secret_path("keys", "/etc/keys", small, sizeof(small)) < 0);
	/* The credential counts where it exists. */
	assert_int_equal(setenv("CREDENTIALS_DIRECTORY", directory, 1), 0);
	assert_int_equal(config_secret_path("keys", "/etc/k", path, sizeof(path)), 0);
	assert_string_equal(path, "/etc/k");
	assert_int_equal(config_secret_path("handoffd.conf", "/etc/k", path, sizeof(path)), 0);
	assert_string_equal(path, file);
	assert_int_equal(unsetenv("CREDENTIALS_DIRECTORY"), 0);
}

static int make_directory(void **state)
{
	(void)state;
	if (mkdtemp(directory) == NULL)
		return -1;
	snprintf(file, sizeof(file), "%s/handoffd.conf", directory);
	return 0;
}

static int remove_directory(void **state)
{
	(void)state;
	unlink(file);
	return rmdir(directory);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_defaults),       cmocka_unit_test(test_everything),
	    cmocka_unit_test(test_output),         cmocka_unit_test(test_access_log),
	    cmocka_unit_test(test_syntax),         cmocka_unit_test(test_all_errors_are_reported),
	    cmocka_unit_test(test_request),        cmocka_unit_test(test_request_errors),
	    cmocka_unit_test(test_required),       cmocka_unit_test(test_legacy),
	    cmocka_unit_test(test_lengths),        cmocka_unit_test(test_urls),
	    cmocka_unit_test(test_file),           cmocka_unit_test(test_paths),
	    cmocka_unit_test(test_handler),        cmocka_unit_test(test_handler_everything),
	    cmocka_unit_test(test_handler_errors), cmocka_unit_test(test_handler_backends),
	    cmocka_unit_test(test_sections_id),
	};

	return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
