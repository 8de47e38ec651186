/* SPDX-License-Identifier: Apache-2.0
 *
 * Configuration: the options, their defaults and ranges, and how sections refer
 * to each other. libconfuse takes the text apart; values are checked here.
 */
#include "config.h"

#include <confuse.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/un.h>

#include "config_text.h"
#include "config_value.h"

#define CONFIG_VALUE_MAX 4096

static_assert(CONFIG_PATH_MAX == sizeof(((struct sockaddr_un *)0)->sun_path), "paths of sockets fit their address");

/* The options. Numbers have their default here and their range where they are taken. */

static cfg_opt_t listen_options[] = {
    CFG_STR("backend", NULL, CFGF_NODEFAULT),
    CFG_STR_LIST("allow-peer", NULL, CFGF_NODEFAULT),
    CFG_STR("mode", "0660", CFGF_NONE),
    CFG_STR("group", NULL, CFGF_NODEFAULT),
    CFG_INT("max-connections", 4096, CFGF_NONE),
    CFG_BOOL("relay", cfg_false, CFGF_NONE),
    CFG_BOOL("legacy", cfg_false, CFGF_NONE),
    CFG_BOOL("legacy-unsafe", cfg_false, CFGF_NONE),
    CFG_END(),
};

static cfg_opt_t backend_options[] = {
    CFG_STR("type", NULL, CFGF_NODEFAULT),
    CFG_STR("user", NULL, CFGF_NODEFAULT),
    CFG_INT("workers", 1, CFGF_NONE),
    CFG_INT("max-streams", 10000, CFGF_NONE),
    CFG_INT("delay", 50, CFGF_NONE),
    CFG_STR("upstream", NULL, CFGF_NODEFAULT),
    CFG_STR("model", "", CFGF_NONE),
    CFG_STR("credential-file", "", CFGF_NONE),
    CFG_INT("first-byte-timeout", 60, CFGF_NONE),
    CFG_INT("idle-timeout", 120, CFGF_NONE),
    CFG_INT("write-timeout", 60, CFGF_NONE),
    CFG_INT("max-duration", 3600, CFGF_NONE),
    CFG_INT("keepalive", 15, CFGF_NONE),
    CFG_END(),
};

static cfg_opt_t upstream_options[] = {
    CFG_STR("url", NULL, CFGF_NODEFAULT),
    CFG_STR("ca-file", "", CFGF_NONE),
    CFG_INT("connect-timeout", 5000, CFGF_NONE),
    CFG_END(),
};

static cfg_opt_t options[] = {
    CFG_STR("runtime-dir", "/run/handoffd", CFGF_NONE),
    CFG_STR("key-file", "/etc/handoffd/keys", CFGF_NONE),
    CFG_BOOL("log-debug", cfg_false, CFGF_NONE),
    CFG_STR("gate-user", "", CFGF_NONE),
    CFG_STR("streamer-user", "", CFGF_NONE),
    CFG_STR("dialer-user", "", CFGF_NONE),
    CFG_SEC("listen", listen_options, CFGF_MULTI | CFGF_TITLE | CFGF_NO_TITLE_DUPES),
    CFG_SEC("backend", backend_options, CFGF_MULTI | CFGF_TITLE | CFGF_NO_TITLE_DUPES),
    CFG_SEC("upstream", upstream_options, CFGF_MULTI | CFGF_TITLE | CFGF_NO_TITLE_DUPES),
    CFG_END(),
};

/* The values point into libconfuse's memory, which is kept with them. */
struct kept_config {
	struct config config;
	cfg_t *root;
};

/* Where an option was set: libconfuse does not remember. */
struct place {
	const cfg_opt_t *option;
	int line;
	unsigned n_calls; /* of on_set() */
};

struct loader {
	const char *file;
	char *text;
	FILE *errors;
	size_t n_errors;
	struct place *places;
	size_t n_places;
	cfg_t *root;
	struct kept_config *kept;
	struct config *config; /* &kept->config */
};

/* libconfuse's callbacks carry no argument. */
static struct loader *loading;

__attribute__((format(printf, 3, 0))) static void complain_list(struct loader *loader, int line, const char *format,
                                                                va_list arguments)
{
	if (line > 0)
		fprintf(loader->errors, "%s:%d: ", loader->file, line);
	else
		fprintf(loader->errors, "%s: ", loader->file);
	vfprintf(loader->errors, format, arguments);
	fputc('\n', loader->errors);
	loader->n_errors++;
}

__attribute__((format(printf, 3, 4))) static void complain(struct loader *loader, int line, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	complain_list(loader, line, format, arguments);
	va_end(arguments);
}

__attribute__((format(printf, 2, 0))) static void on_error(cfg_t *cfg, const char *format, va_list arguments)
{
	complain_list(loading, cfg->line, format, arguments);
}

static struct place *find_place(const struct loader *loader, const cfg_opt_t *option)
{
	for (size_t i = 0; i < loader->n_places; i++)
		if (loader->places[i].option == option)
			return &loader->places[i];
	return NULL;
}

/* Called by libconfuse when an option got its value; for a list at each value and at its end. */
static int on_set(cfg_t *cfg, cfg_opt_t *option)
{
	struct place *place = find_place(loading, option);

	if (place != NULL) {
		unsigned most = (option->flags & CFGF_LIST) != 0 ? cfg_opt_size(option) + 1 : 1;

		if (++place->n_calls <= most)
			return 0;
		cfg_error(cfg, "%s was set already in line %d", option->name, place->line);
		return -1;
	}

	struct place *grown = realloc(loading->places, (loading->n_places + 1) * sizeof(*grown));
	if (grown == NULL) {
		cfg_error(cfg, "out of memory");
		return -1;
	}
	grown[loading->n_places] = (struct place){.option = option, .line = cfg->line, .n_calls = 1};
	loading->places = grown;
	loading->n_places++;
	return 0;
}

/* ---------------------------------------------------------------- single values */

static const char *string(cfg_t *section, const char *name)
{
	const char *value = cfg_getstr(section, name);

	return value != NULL ? value : "";
}

static bool is_set(cfg_t *section, const char *name)
{
	return cfg_size(section, name) > 0;
}

/* Where a section begins: libconfuse knows where it ended. */
static int section_line(const struct loader *loader, const cfg_t *section)
{
	return section == loader->root ? section->line : config_text_opening(loader->text, section->line);
}

/* Line of an option that is set, of the section otherwise. */
static int line_in(const struct loader *loader, cfg_t *section, const char *name)
{
	const struct place *place = find_place(loader, cfg_getopt(section, name));

	return place != NULL ? place->line : section_line(loader, section);
}

/* Report what is wrong with the value of an option; NULL is nothing. */
static void judge(struct loader *loader, cfg_t *section, const char *name, const char *wrong)
{
	if (wrong != NULL)
		complain(loader, line_in(loader, section, name), "%s \"%s\": %s", name, string(section, name), wrong);
}

static unsigned number(struct loader *loader, cfg_t *section, const char *name, long min, long max)
{
	long value = cfg_getint(section, name);

	if (value < min || value > max) {
		complain(loader, line_in(loader, section, name), "%s must be from %ld to %ld", name, min, max);
		return (unsigned)min;
	}
	return (unsigned)value;
}

static const char *path(struct loader *loader, cfg_t *section, const char *name, bool may_be_empty)
{
	const char *value = string(section, name);

	if (value[0] != '\0' || !may_be_empty)
		judge(loader, section, name, value_path(value, CONFIG_VALUE_MAX));
	return value;
}

/* A role never runs as root. */
static void role_user(struct loader *loader, cfg_t *section, const char *name, struct config_user *user)
{
	const char *wrong = value_user(string(section, name), user);

	if (wrong == NULL && user->uid == 0)
		wrong = "no role may run as root";
	judge(loader, section, name, wrong);
}

/* Number of the section of this kind with this title, or n_sections. */
static size_t find_section(cfg_t *root, const char *kind, const char *title)
{
	size_t n = cfg_size(root, kind);

	for (unsigned i = 0; i < n; i++)
		if (strcmp(cfg_title(cfg_getnsec(root, kind, i)), title) == 0)
			return i;
	return n;
}

static size_t reference(struct loader *loader, cfg_t *section, const char *kind)
{
	const char *title = string(section, kind);
	size_t found = find_section(loader->root, kind, title);

	if (found == cfg_size(loader->root, kind)) {
		complain(loader, line_in(loader, section, kind), "there is no section %s \"%s\"", kind, title);
		return 0;
	}
	return found;
}

/* Complain when a required option is absent. */
static bool require(struct loader *loader, cfg_t *section, const char *kind, const char *name)
{
	if (is_set(section, name))
		return true;
	complain(loader, section_line(loader, section), "%s \"%s\" has no %s", kind, cfg_title(section), name);
	return false;
}

/* ---------------------------------------------------------------- sections */

static void take_allow_peer(struct loader *loader, cfg_t *section, struct config_listen *listen)
{
	unsigned n = cfg_size(section, "allow-peer");
	struct config_user user;

	if (!require(loader, section, "listen", "allow-peer"))
		return;
	listen->allow_peer = calloc(n, sizeof(*listen->allow_peer));
	if (listen->allow_peer == NULL) {
		complain(loader, 0, "out of memory");
		return;
	}
	for (unsigned i = 0; i < n; i++) {
		const char *text = cfg_getnstr(section, "allow-peer", i);
		const char *wrong = value_user(text, &user);

		if (wrong != NULL) {
			complain(loader, line_in(loader, section, "allow-peer"), "allow-peer \"%s\": %s", text, wrong);
			continue;
		}
		/* Unless told otherwise the socket file is for the group of the first. */
		if (listen->n_allow_peer == 0)
			listen->group = user.gid;
		listen->allow_peer[listen->n_allow_peer++] = user.uid;
	}
}

static void take_listen(struct loader *loader, cfg_t *section, struct config_listen *listen)
{
	const char *wrong;

	listen->path = cfg_title(section);
	wrong = value_path(listen->path, CONFIG_PATH_MAX);
	if (wrong != NULL)
		complain(loader, section_line(loader, section), "listen \"%s\": %s", listen->path, wrong);
	if (require(loader, section, "listen", "backend"))
		listen->backend = reference(loader, section, "backend");
	take_allow_peer(loader, section, listen);
	judge(loader, section, "mode", value_mode(string(section, "mode"), &listen->mode));
	if (is_set(section, "group"))
		judge(loader, section, "group", value_group(string(section, "group"), &listen->group));
	listen->max_connections = number(loader, section, "max-connections", 1, 65536);
	listen->relay = cfg_getbool(section, "relay") == cfg_true;
	listen->legacy = cfg_getbool(section, "legacy") == cfg_true;
	listen->legacy_unsafe = cfg_getbool(section, "legacy-unsafe") == cfg_true;
	if (listen->legacy && listen->relay)
		complain(loader, line_in(loader, section, "legacy"), "legacy and relay exclude each other");
}

static void take_backend_type(struct loader *loader, cfg_t *section, struct config_backend *backend)
{
	const char *type = string(section, "type");

	if (!require(loader, section, "backend", "type"))
		return;
	if (strcmp(type, "demo") == 0)
		backend->type = BACKEND_DEMO;
	else if (strcmp(type, "openai") == 0)
		backend->type = BACKEND_OPENAI;
	else
		judge(loader, section, "type", "the types are demo and openai");

	if (backend->type == BACKEND_OPENAI && require(loader, section, "backend", "upstream"))
		backend->upstream = reference(loader, section, "upstream");
	else if (backend->type == BACKEND_DEMO && is_set(section, "upstream"))
		judge(loader, section, "upstream", "a demo backend has none");
}

static void take_backend(struct loader *loader, cfg_t *section, struct config_backend *backend)
{
	const char *wrong;

	backend->name = cfg_title(section);
	wrong = value_name(backend->name);
	if (wrong != NULL)
		complain(loader, section_line(loader, section), "backend \"%s\": %s", backend->name, wrong);
	take_backend_type(loader, section, backend);
	backend->user = loader->config->user[ROLE_STREAMER];
	if (is_set(section, "user"))
		role_user(loader, section, "user", &backend->user);
	backend->workers = number(loader, section, "workers", 1, CONFIG_WORKERS_MAX);
	backend->max_streams = number(loader, section, "max-streams", 1, 1000000);
	backend->delay_ms = number(loader, section, "delay", 0, 60000);
	backend->model = string(section, "model");
	judge(loader, section, "model", value_text(backend->model));
	backend->credential_file = path(loader, section, "credential-file", true);
	backend->first_byte_timeout_s = number(loader, section, "first-byte-timeout", 1, 86400);
	backend->idle_timeout_s = number(loader, section, "idle-timeout", 1, 86400);
	backend->write_timeout_s = number(loader, section, "write-timeout", 1, 86400);
	backend->max_duration_s = number(loader, section, "max-duration", 1, 604800);
	backend->keepalive_s = number(loader, section, "keepalive", 0, 3600);
}

static const char *without_trailing_slash(const char *url)
{
	size_t len = strlen(url);

	while (len > 0 && url[len - 1] == '/')
		len--;
	return strndup(url, len);
}

static void take_upstream(struct loader *loader, cfg_t *section, struct config_upstream *upstream)
{
	const char *wrong;

	upstream->name = cfg_title(section);
	wrong = value_name(upstream->name);
	if (wrong != NULL)
		complain(loader, section_line(loader, section), "upstream \"%s\": %s", upstream->name, wrong);
	if (require(loader, section, "upstream", "url")) {
		judge(loader, section, "url", value_url(string(section, "url"), upstream));
		upstream->url = without_trailing_slash(string(section, "url"));
		if (upstream->url == NULL)
			complain(loader, 0, "out of memory");
	}
	upstream->ca_file = path(loader, section, "ca-file", true);
	upstream->connect_timeout_ms = number(loader, section, "connect-timeout", 1, 600000);
}

/* ---------------------------------------------------------------- the file */

static void take_top_level(struct loader *loader)
{
	struct config *config = loader->config;
	cfg_t *root = loader->root;
	static const struct {
		enum role role;
		const char *option;
	} users[] = {{ROLE_GATE, "gate-user"}, {ROLE_STREAMER, "streamer-user"}, {ROLE_DIALER, "dialer-user"}};

	config->runtime_dir = path(loader, root, "runtime-dir", false);
	config->key_file = path(loader, root, "key-file", false);
	config->log_debug = cfg_getbool(root, "log-debug") == cfg_true;
	for (size_t i = 0; i < ROLE_COUNT; i++)
		config->user[i].name = "";
	for (size_t i = 0; i < sizeof(users) / sizeof(users[0]); i++)
		if (string(root, users[i].option)[0] != '\0')
			role_user(loader, root, users[i].option, &config->user[users[i].role]);
}

/* Room for the sections of a kind, all zero; *n gets their number. */
static void *make_sections(struct loader *loader, const char *kind, size_t size, size_t *n)
{
	*n = cfg_size(loader->root, kind);
	if (*n > CONFIG_SECTIONS_MAX) {
		complain(loader, loader->root->line, "there are more than %d sections %s", CONFIG_SECTIONS_MAX, kind);
		*n = 0;
	}

	void *sections = calloc(*n + 1, size);
	if (sections == NULL) {
		complain(loader, 0, "out of memory");
		*n = 0;
	}
	return sections;
}

static void take_sections(struct loader *loader)
{
	struct config *config = loader->config;
	cfg_t *root = loader->root;

	config->listens = make_sections(loader, "listen", sizeof(*config->listens), &config->n_listens);
	config->backends = make_sections(loader, "backend", sizeof(*config->backends), &config->n_backends);
	config->upstreams = make_sections(loader, "upstream", sizeof(*config->upstreams), &config->n_upstreams);
	for (unsigned i = 0; i < config->n_listens; i++)
		take_listen(loader, cfg_getnsec(root, "listen", i), &config->listens[i]);
	for (unsigned i = 0; i < config->n_backends; i++)
		take_backend(loader, cfg_getnsec(root, "backend", i), &config->backends[i]);
	for (unsigned i = 0; i < config->n_upstreams; i++)
		take_upstream(loader, cfg_getnsec(root, "upstream", i), &config->upstreams[i]);
	if (config->n_listens == 0)
		complain(loader, root->line, "there is no section listen");
}

/* What can only be seen with everything at hand. */
static void check_internal_paths(struct loader *loader)
{
	const struct config *config = loader->config;
	char socket[CONFIG_PATH_MAX];

	for (size_t i = 0; i < config->n_backends; i++) {
		if (config_streamer_socket(config, i, config->backends[i].workers - 1, socket) == 0)
			continue;
		complain(loader, line_in(loader, loader->root, "runtime-dir"),
		         "the path of backend \"%s\"'s socket in %s is too long", config->backends[i].name,
		         config->runtime_dir);
	}
}

/* Nothing that comes in by a legacy listener is signed: what it can spend is not to be a credential. */
static void check_legacy(struct loader *loader)
{
	const struct config *config = loader->config;

	for (unsigned i = 0; i < config->n_listens; i++) {
		const struct config_listen *listen = &config->listens[i];
		const struct config_backend *backend = &config->backends[listen->backend];

		if (listen->legacy && !listen->legacy_unsafe && backend->credential_file[0] != '\0')
			complain(loader, line_in(loader, cfg_getnsec(loader->root, "listen", i), "legacy"),
			         "legacy takes handoffs that nobody has signed, and backend \"%s\" has a "
			         "credential-file: this needs legacy-unsafe = yes",
			         backend->name);
	}
}

/* Let libconfuse call on_set() for each option of a section, "" for the top level. */
static void watch_options(cfg_t *root, const char *section, const cfg_opt_t *list)
{
	char name[64];

	for (; list->name != NULL; list++) {
		if (list->type == CFGT_SEC)
			continue;
		snprintf(name, sizeof(name), "%s%s%s", section, section[0] == '\0' ? "" : "|", list->name);
		cfg_set_validate_func(root, name, on_set);
	}
}

static bool parse(struct loader *loader)
{
	bool parsed = false;
	FILE *stream = fmemopen(loader->text, strlen(loader->text), "r");

	loader->root = cfg_init(options, CFGF_NONE);
	if (stream == NULL || loader->root == NULL) {
		complain(loader, 0, "out of memory");
		goto out;
	}
	cfg_set_error_function(loader->root, on_error);
	watch_options(loader->root, "", options);
	watch_options(loader->root, "listen", listen_options);
	watch_options(loader->root, "backend", backend_options);
	watch_options(loader->root, "upstream", upstream_options);
	loading = loader;
	parsed = cfg_parse_fp(loader->root, stream) == CFG_SUCCESS;
	loading = NULL;
out:
	if (stream != NULL)
		fclose(stream);
	return parsed;
}

/* After an error: everything but the message. */
static void discard(struct loader *loader)
{
	struct config *config = loader->config;

	if (loader->root != NULL)
		cfg_free(loader->root);
	if (config == NULL)
		return;
	for (size_t i = 0; i < config->n_listens; i++)
		free(config->listens[i].allow_peer);
	for (size_t i = 0; i < config->n_upstreams; i++) {
		free((char *)(uintptr_t)config->upstreams[i].url);
		free((char *)(uintptr_t)config->upstreams[i].host);
	}
	free(config->listens);
	free(config->backends);
	free(config->upstreams);
	free(loader->kept);
}

struct config *config_load(const char *file, char **errors)
{
	struct loader loader = {.file = file};
	size_t errors_size = 0;
	const char *wrong = NULL;
	int line = 0;

	*errors = NULL;
	loader.errors = open_memstream(errors, &errors_size);
	loader.kept = calloc(1, sizeof(*loader.kept));
	if (loader.errors == NULL || loader.kept == NULL)
		goto out;
	loader.config = &loader.kept->config;
	loader.config->file = file;
	loader.text = config_text_read(file, &wrong, &line);
	if (loader.text == NULL) {
		complain(&loader, line, "%s", wrong);
		goto out;
	}
	if (!parse(&loader)) {
		if (loader.n_errors == 0)
			complain(&loader, 0, "cannot be read");
		goto out;
	}
	take_top_level(&loader);
	take_sections(&loader);
	if (loader.n_errors == 0) {
		check_internal_paths(&loader);
		check_legacy(&loader);
	}
out:
	free(loader.text);
	free(loader.places);
	if (loader.errors != NULL)
		fclose(loader.errors);
	if (loader.errors == NULL || loader.kept == NULL || loader.n_errors > 0) {
		discard(&loader);
		return NULL;
	}
	loader.kept->root = loader.root;
	free(*errors);
	*errors = NULL;
	return loader.config;
}
