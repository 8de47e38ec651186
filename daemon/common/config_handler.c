/* SPDX-License-Identifier: Apache-2.0
 *
 * Configuration: the options of a section handler, see config.h.
 */
#include <stdlib.h>

#include "config_loader.h"
#include "config_value.h"

#define BYTES_MAX 1099511627776 /* of any limit: a tebibyte */

/* Numbers have their default here and their range where they are taken. */
cfg_opt_t config_handler_options[] = {
    CFG_STR_LIST("command", NULL, CFGF_NODEFAULT),
    CFG_STR("directory", "/", CFGF_NONE),
    CFG_STR_LIST("environment", NULL, CFGF_NODEFAULT),
    CFG_STR("policy", "", CFGF_NONE),
    CFG_STR("user", NULL, CFGF_NODEFAULT),
    CFG_STR("mode", "http", CFGF_NONE),
    CFG_STR_LIST("read-paths", NULL, CFGF_NODEFAULT),
    CFG_STR_LIST("write-paths", NULL, CFGF_NODEFAULT),
    CFG_STR_LIST("execute-paths", NULL, CFGF_NODEFAULT),
    CFG_INT("memory", 268435456, CFGF_NONE),
    CFG_INT("cpu-time", 30, CFGF_NONE),
    CFG_INT("processes", 32, CFGF_NONE),
    CFG_INT("files", 64, CFGF_NONE),
    CFG_INT("file-size", 67108864, CFGF_NONE),
    CFG_INT("temporary", 16777216, CFGF_NONE),
    CFG_INT("output-bytes", 67108864, CFGF_NONE),
    CFG_INT("wall-time", 300, CFGF_NONE),
    CFG_INT("kill-grace", 2, CFGF_NONE),
    CFG_INT("concurrency", 64, CFGF_NONE),
    CFG_INT("queue", 64, CFGF_NONE),
    CFG_INT("queue-time", 500, CFGF_NONE),
    CFG_STR("namespaces", "where-available", CFGF_NONE),
    CFG_STR("cgroup", "where-available", CFGF_NONE),
    CFG_STR("proc", "private", CFGF_NONE),
    CFG_END(),
};

static const char *const modes[] = {
    [MODE_HTTP] = "http", [MODE_CGI] = "cgi", [MODE_TEXT] = "text", [MODE_SSE] = "sse", NULL};
static const char *const layers[] = {
    [LAYER_REQUIRED] = "required", [LAYER_WHERE_AVAILABLE] = "where-available", [LAYER_OFF] = "off", NULL};
static const char *const procs[] = {[PROC_PRIVATE] = "private", [PROC_NONE] = "none", NULL};

/* An argument may be any text. */
static const char *judge_argument(const char *value)
{
	(void)value;
	return NULL;
}

static const char *judge_path(const char *value)
{
	/* The one path that ends with a slash. */
	return strcmp(value, "/") == 0 ? NULL : value_path(value, CONFIG_VALUE_MAX);
}

static const char *judge_variable(const char *value)
{
	size_t name = strcspn(value, "=");

	if (name == 0 || value[name] == '\0')
		return "a variable is NAME=VALUE";
	if (strspn(value, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_") != name ||
	    (value[0] >= '0' && value[0] <= '9'))
		return "a variable's name is of letters, digits and _";
	if (strncmp(value, "HANDOFF_", 8) == 0)
		return "the names that begin with HANDOFF_ are taken";
	return NULL;
}

static void take_list(struct config_loader *loader, cfg_t *section, const char *name,
                      const char *(*judge)(const char *value), struct config_list *list)
{
	unsigned n = cfg_size(section, name);

	list->item = calloc(n + 1, sizeof(*list->item));
	if (list->item == NULL) {
		config_complain(loader, 0, "out of memory");
		return;
	}
	for (unsigned i = 0; i < n; i++) {
		const char *value = cfg_getnstr(section, name, i);
		const char *wrong = judge(value);

		if (wrong != NULL)
			config_complain(loader, config_line_in(loader, section, name), "%s \"%s\": %s", name, value,
			                wrong);
		list->item[i] = value;
	}
	list->n = n;
}

static void take_command(struct config_loader *loader, cfg_t *section, struct config_handler *handler)
{
	const char *wrong;

	take_list(loader, section, "command", judge_argument, &handler->command);
	if (!config_require(loader, section, "handler", "command") || handler->command.n == 0)
		return;
	wrong = value_path(handler->command.item[0], CONFIG_VALUE_MAX);
	if (wrong != NULL)
		config_complain(loader, config_line_in(loader, section, "command"), "command \"%s\": %s",
		                handler->command.item[0], wrong);
}

static void take_variables(struct config_loader *loader, cfg_t *section, struct config_handler *handler)
{
	const struct config_list *list = &handler->environment;

	take_list(loader, section, "environment", judge_variable, &handler->environment);
	/* Programs do not agree on which of two counts. */
	for (size_t i = 0; i < list->n; i++) {
		size_t name = strcspn(list->item[i], "=") + 1;

		for (size_t k = 0; k < i; k++)
			if (strncmp(list->item[i], list->item[k], name) == 0)
				config_complain(loader, config_line_in(loader, section, "environment"),
				                "environment \"%s\": the name is there twice", list->item[i]);
	}
}

static void take_limits(struct config_loader *loader, cfg_t *section, struct config_handler *handler)
{
	handler->memory = config_size(loader, section, "memory", 1048576, BYTES_MAX);
	handler->cpu_time_s = config_number(loader, section, "cpu-time", 1, 604800);
	handler->processes = config_number(loader, section, "processes", 1, 100000);
	handler->files = config_number(loader, section, "files", 8, 65536);
	handler->file_size = config_size(loader, section, "file-size", 0, BYTES_MAX);
	handler->temporary = config_size(loader, section, "temporary", 4096, BYTES_MAX);
	handler->output_bytes = config_size(loader, section, "output-bytes", 1, BYTES_MAX);
	handler->wall_time_s = config_number(loader, section, "wall-time", 1, 604800);
	handler->kill_grace_s = config_number(loader, section, "kill-grace", 0, 600);
	handler->concurrency = config_number(loader, section, "concurrency", 1, 10000);
	handler->queue = config_number(loader, section, "queue", 0, 10000);
	handler->queue_time_ms = config_number(loader, section, "queue-time", 1, 60000);
}

void config_take_handler(struct config_loader *loader, cfg_t *section, struct config_handler *handler)
{
	const char *wrong;

	handler->name = cfg_title(section);
	wrong = value_name(handler->name);
	if (wrong != NULL)
		config_complain(loader, config_section_line(loader, section), "handler \"%s\": %s", handler->name,
		                wrong);
	take_command(loader, section, handler);
	handler->directory = config_string(section, "directory");
	config_judge(loader, section, "directory", judge_path(handler->directory));
	take_variables(loader, section, handler);
	handler->policy = config_path(loader, section, "policy", true);
	handler->user = loader->config->user[ROLE_LAUNCHER];
	if (config_is_set(section, "user"))
		config_role_user(loader, section, "user", &handler->user);
	handler->mode = config_choice(loader, section, "mode", modes);
	take_list(loader, section, "read-paths", judge_path, &handler->read_paths);
	take_list(loader, section, "write-paths", judge_path, &handler->write_paths);
	take_list(loader, section, "execute-paths", judge_path, &handler->execute_paths);
	take_limits(loader, section, handler);
	handler->namespaces = config_choice(loader, section, "namespaces", layers);
	handler->cgroup = config_choice(loader, section, "cgroup", layers);
	handler->proc = config_choice(loader, section, "proc", procs);
}

void config_free_handler(struct config_handler *handler)
{
	free(handler->command.item);
	free(handler->environment.item);
	free(handler->read_paths.item);
	free(handler->write_paths.item);
	free(handler->execute_paths.item);
}
