/* SPDX-License-Identifier: Apache-2.0
 *
 * Configuration: the options, their defaults and ranges, and how sections refer
 * to each other. libconfuse takes the text apart; values are checked here.
 */
#include <errno.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/un.h>

#include "config_loader.h"
#include "config_text.h"
#include "config_value.h"

static_assert(CONFIG_PATH_MAX == sizeof(((struct sockaddr_un *)0)->sun_path), "paths of sockets fit their address");

/* The options. Numbers have their default here and their range where they are taken. */

static cfg_opt_t options[] = {
    CFG_STR("runtime-dir", "/run/handoffd", CFGF_NONE),
    CFG_STR("key-file", "/etc/handoffd/keys", CFGF_NONE),
    CFG_BOOL("log-debug", cfg_false, CFGF_NONE),
    CFG_INT("watchdog", 30, CFGF_NONE),
    CFG_STR("policy-dir", HANDOFFD_POLICY_DIR, CFGF_NONE),
    CFG_STR("seccomp", "enforce", CFGF_NONE),
    CFG_STR("access-log", "", CFGF_NONE),
    CFG_STR("access-log-format", "combined", CFGF_NONE),
    CFG_STR("gate-user", "", CFGF_NONE),
    CFG_STR("streamer-user", "", CFGF_NONE),
    CFG_STR("dialer-user", "", CFGF_NONE),
    CFG_STR("launcher-user", "", CFGF_NONE),
    CFG_SEC("listen", config_listen_options, CFGF_MULTI | CFGF_TITLE | CFGF_NO_TITLE_DUPES),
    CFG_SEC("backend", config_backend_options, CFGF_MULTI | CFGF_TITLE | CFGF_NO_TITLE_DUPES),
    CFG_SEC("upstream", config_upstream_options, CFGF_MULTI | CFGF_TITLE | CFGF_NO_TITLE_DUPES),
    CFG_SEC("handler", config_handler_options, CFGF_MULTI | CFGF_TITLE | CFGF_NO_TITLE_DUPES),
    CFG_SEC("profile", config_profile_options, CFGF_MULTI | CFGF_TITLE | CFGF_NO_TITLE_DUPES),
    CFG_END(),
};

/* libconfuse's callbacks carry no argument. */
static struct config_loader *loading;

__attribute__((format(printf, 3, 0))) static void complain_list(struct config_loader *loader, int line,
                                                                const char *format, va_list arguments)
{
	if (line > 0)
		fprintf(loader->errors, "%s:%d: ", loader->file, line);
	else
		fprintf(loader->errors, "%s: ", loader->file);
	vfprintf(loader->errors, format, arguments);
	fputc('\n', loader->errors);
	loader->n_errors++;
}

void config_complain(struct config_loader *loader, int line, const char *format, ...)
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

static struct place *find_place(const struct config_loader *loader, const cfg_opt_t *option)
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

const char *config_string(cfg_t *section, const char *name)
{
	const char *value = cfg_getstr(section, name);

	return value != NULL ? value : "";
}

bool config_is_set(cfg_t *section, const char *name)
{
	return cfg_size(section, name) > 0;
}

/* Where a section begins: libconfuse knows where it ended. */
int config_section_line(const struct config_loader *loader, const cfg_t *section)
{
	return section == loader->root ? section->line : config_text_opening(loader->text, section->line);
}

/* Line of an option that is set, of the section otherwise. */
int config_line_in(const struct config_loader *loader, cfg_t *section, const char *name)
{
	const struct place *place = find_place(loader, cfg_getopt(section, name));

	return place != NULL ? place->line : config_section_line(loader, section);
}

/* Report what is wrong with the value of an option; NULL is nothing. */
void config_judge(struct config_loader *loader, cfg_t *section, const char *name, const char *wrong)
{
	if (wrong != NULL)
		config_complain(loader, config_line_in(loader, section, name), "%s \"%s\": %s", name,
		                config_string(section, name), wrong);
}

size_t config_size(struct config_loader *loader, cfg_t *section, const char *name, long min, long max)
{
	long value = cfg_getint(section, name);

	if (value < min || value > max) {
		config_complain(loader, config_line_in(loader, section, name), "%s must be from %ld to %ld", name, min,
		                max);
		return (size_t)min;
	}
	return (size_t)value;
}

unsigned config_number(struct config_loader *loader, cfg_t *section, const char *name, long min, long max)
{
	return (unsigned)config_size(loader, section, name, min, max);
}

const char *config_path(struct config_loader *loader, cfg_t *section, const char *name, bool may_be_empty)
{
	const char *value = config_string(section, name);

	if (value[0] != '\0' || !may_be_empty)
		config_judge(loader, section, name, value_path(value, CONFIG_VALUE_MAX));
	return value;
}

unsigned config_choice(struct config_loader *loader, cfg_t *section, const char *name, const char *const names[])
{
	const char *value = config_string(section, name);

	for (unsigned i = 0; names[i] != NULL; i++)
		if (strcmp(value, names[i]) == 0)
			return i;
	config_complain(loader, config_line_in(loader, section, name), "%s \"%s\" is not known", name, value);
	return 0;
}

/* A role never runs as root. */
void config_role_user(struct config_loader *loader, cfg_t *section, const char *name, struct config_user *user)
{
	const char *wrong = value_user(config_string(section, name), user);

	if (wrong == NULL && user->uid == 0)
		wrong = "no role may run as root";
	config_judge(loader, section, name, wrong);
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

size_t config_reference(struct config_loader *loader, cfg_t *section, const char *kind)
{
	const char *title = config_string(section, kind);
	size_t found = find_section(loader->root, kind, title);

	if (found == cfg_size(loader->root, kind)) {
		config_complain(loader, config_line_in(loader, section, kind), "there is no section %s \"%s\"", kind,
		                title);
		return 0;
	}
	return found;
}

/* Complain when a required option is absent. */
bool config_require(struct config_loader *loader, cfg_t *section, const char *kind, const char *name)
{
	if (config_is_set(section, name))
		return true;
	config_complain(loader, config_section_line(loader, section), "%s \"%s\" has no %s", kind, cfg_title(section),
	                name);
	return false;
}

/* ---------------------------------------------------------------- the file */

static const char *const seccomp_modes[] = {
    [POLICY_ENFORCE] = "enforce", [POLICY_LOG] = "log", [POLICY_TRAP] = "trap", NULL};
static const char *const log_formats[] = {[LOG_FORMAT_COMBINED] = "combined", [LOG_FORMAT_JSON] = "json", NULL};

static void take_top_level(struct config_loader *loader)
{
	struct config *config = loader->config;
	cfg_t *root = loader->root;
	static const struct {
		enum role role;
		const char *option;
	} users[] = {{ROLE_GATE, "gate-user"},
	             {ROLE_STREAMER, "streamer-user"},
	             {ROLE_DIALER, "dialer-user"},
	             {ROLE_LAUNCHER, "launcher-user"}};

	config->runtime_dir = config_path(loader, root, "runtime-dir", false);
	config->key_file = config_path(loader, root, "key-file", false);
	config->log_debug = cfg_getbool(root, "log-debug") == cfg_true;
	config->watchdog_s = config_number(loader, root, "watchdog", 0, 3600);
	config->policy_dir = config_path(loader, root, "policy-dir", false);
	config->seccomp = config_choice(loader, root, "seccomp", seccomp_modes);
	config->access_log = config_path(loader, root, "access-log", true);
	config_judge(loader, root, "access-log", value_pattern(config->access_log));
	config->access_log_format = config_choice(loader, root, "access-log-format", log_formats);
	for (size_t i = 0; i < ROLE_COUNT; i++)
		config->user[i].name = "";
	for (size_t i = 0; i < sizeof(users) / sizeof(users[0]); i++)
		if (config_string(root, users[i].option)[0] != '\0')
			config_role_user(loader, root, users[i].option, &config->user[users[i].role]);
}

/* Room for the sections of a kind, all zero; *n gets their number. */
static void *make_sections(struct config_loader *loader, const char *kind, size_t size, size_t *n)
{
	*n = cfg_size(loader->root, kind);
	if (*n > CONFIG_SECTIONS_MAX) {
		config_complain(loader, loader->root->line, "there are more than %d sections %s", CONFIG_SECTIONS_MAX,
		                kind);
		*n = 0;
	}

	void *sections = calloc(*n + 1, size);
	if (sections == NULL) {
		config_complain(loader, 0, "out of memory");
		*n = 0;
	}
	return sections;
}

static void take_sections(struct config_loader *loader)
{
	struct config *config = loader->config;
	cfg_t *root = loader->root;

	config->listens = make_sections(loader, "listen", sizeof(*config->listens), &config->n_listens);
	config->backends = make_sections(loader, "backend", sizeof(*config->backends), &config->n_backends);
	config->upstreams = make_sections(loader, "upstream", sizeof(*config->upstreams), &config->n_upstreams);
	config->handlers = make_sections(loader, "handler", sizeof(*config->handlers), &config->n_handlers);
	config->profiles = make_sections(loader, "profile", sizeof(*config->profiles), &config->n_profiles);
	for (unsigned i = 0; i < config->n_profiles; i++)
		config_take_profile(loader, cfg_getnsec(root, "profile", i), &config->profiles[i]);
	for (unsigned i = 0; i < config->n_listens; i++)
		config_take_listen(loader, cfg_getnsec(root, "listen", i), &config->listens[i]);
	for (unsigned i = 0; i < config->n_backends; i++)
		config_take_backend(loader, cfg_getnsec(root, "backend", i), &config->backends[i]);
	for (unsigned i = 0; i < config->n_upstreams; i++)
		config_take_upstream(loader, cfg_getnsec(root, "upstream", i), &config->upstreams[i]);
	for (unsigned i = 0; i < config->n_handlers; i++)
		config_take_handler(loader, cfg_getnsec(root, "handler", i), &config->handlers[i]);
	if (config->n_listens == 0)
		config_complain(loader, root->line, "there is no section listen");
}

/* What can only be seen with everything at hand. */
static void check_internal_paths(struct config_loader *loader)
{
	const struct config *config = loader->config;
	char socket[CONFIG_PATH_MAX];

	for (size_t i = 0; i < config->n_backends; i++) {
		if (config_streamer_socket(config, i, config->backends[i].workers - 1, socket) == 0)
			continue;
		config_complain(loader, config_line_in(loader, loader->root, "runtime-dir"),
		                "the path of backend \"%s\"'s socket in %s is too long", config->backends[i].name,
		                config->runtime_dir);
	}
	for (size_t i = 0; i < config->n_handlers; i++)
		if (config_launcher_socket(config, i, socket) != 0)
			config_complain(loader, config_line_in(loader, loader->root, "runtime-dir"),
			                "the path of handler \"%s\"'s socket in %s is too long",
			                config->handlers[i].name, config->runtime_dir);
}

/* A launcher's places are for one backend: what another's clients do is not to keep them busy. */
static void check_handlers(struct config_loader *loader)
{
	const struct config *config = loader->config;

	for (unsigned i = 0; i < config->n_backends; i++)
		for (unsigned k = 0; k < i && config->backends[i].type == BACKEND_HANDLER; k++) {
			if (config->backends[k].type != BACKEND_HANDLER ||
			    config->backends[k].handler != config->backends[i].handler)
				continue;
			config_complain(loader,
			                config_line_in(loader, cfg_getnsec(loader->root, "backend", i), "handler"),
			                "handler \"%s\" is that of backend \"%s\" already",
			                config->handlers[config->backends[i].handler].name, config->backends[k].name);
			break;
		}
}

/* Nothing that comes in by a legacy listener is signed: what it can spend is not to be a credential. */
static void check_legacy(struct config_loader *loader)
{
	const struct config *config = loader->config;

	for (unsigned i = 0; i < config->n_listens; i++) {
		const struct config_listen *listen = &config->listens[i];
		const struct config_backend *backend = &config->backends[listen->backend];

		if (listen->legacy && !listen->legacy_unsafe && backend->credential_file[0] != '\0')
			config_complain(loader,
			                config_line_in(loader, cfg_getnsec(loader->root, "listen", i), "legacy"),
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

static bool parse(struct config_loader *loader)
{
	bool parsed = false;
	FILE *stream = fmemopen(loader->text, strlen(loader->text), "r");

	loader->root = cfg_init(options, CFGF_NONE);
	if (stream == NULL || loader->root == NULL) {
		config_complain(loader, 0, "out of memory");
		goto out;
	}
	cfg_set_error_function(loader->root, on_error);
	watch_options(loader->root, "", options);
	watch_options(loader->root, "listen", config_listen_options);
	watch_options(loader->root, "backend", config_backend_options);
	watch_options(loader->root, "upstream", config_upstream_options);
	watch_options(loader->root, "handler", config_handler_options);
	watch_options(loader->root, "profile", config_profile_options);
	loading = loader;
	parsed = cfg_parse_fp(loader->root, stream) == CFG_SUCCESS;
	loading = NULL;
out:
	if (stream != NULL)
		fclose(stream);
	return parsed;
}

/* After an error: everything but the message. */
static void discard(struct config_loader *loader)
{
	struct config *config = loader->config;

	if (loader->root != NULL)
		cfg_free(loader->root);
	if (config == NULL)
		return;
	for (size_t i = 0; i < config->n_listens; i++)
		free(config->listens[i].allow_peer);
	for (size_t i = 0; i < config->n_backends; i++) {
		free(config->backends[i].request.models);
		free(config->backends[i].request.profiles);
	}
	for (size_t i = 0; i < config->n_upstreams; i++) {
		free((char *)(uintptr_t)config->upstreams[i].url);
		free((char *)(uintptr_t)config->upstreams[i].host);
	}
	for (size_t i = 0; i < config->n_handlers; i++)
		config_free_handler(&config->handlers[i]);
	free(config->listens);
	free(config->backends);
	free(config->upstreams);
	free(config->handlers);
	free(config->profiles);
	free(loader->kept);
}

static void hash_string(crypto_generichash_state *hash, const char *string)
{
	/* With its NUL, so that no two lists look alike. */
	crypto_generichash_update(hash, (const unsigned char *)string, strlen(string) + 1);
}

uint64_t config_sections_id(const struct config *config)
{
	crypto_generichash_state hash;
	uint8_t digest[crypto_generichash_BYTES_MIN];

	crypto_generichash_init(&hash, NULL, 0, sizeof(digest));
	for (size_t i = 0; i < config->n_listens; i++)
		hash_string(&hash, config->listens[i].path);
	hash_string(&hash, "");
	for (size_t i = 0; i < config->n_backends; i++)
		hash_string(&hash, config->backends[i].name);
	hash_string(&hash, "");
	for (size_t i = 0; i < config->n_upstreams; i++)
		hash_string(&hash, config->upstreams[i].name);
	hash_string(&hash, "");
	for (size_t i = 0; i < config->n_handlers; i++)
		hash_string(&hash, config->handlers[i].name);
	crypto_generichash_final(&hash, digest, sizeof(digest));
	return get_le64(digest);
}

struct config *config_load(const char *file, char **errors)
{
	struct config_loader loader = {.file = file};
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
		config_complain(&loader, line, "%s", wrong);
		goto out;
	}
	if (!parse(&loader)) {
		if (loader.n_errors == 0)
			config_complain(&loader, 0, "cannot be read");
		goto out;
	}
	take_top_level(&loader);
	take_sections(&loader);
	if (loader.n_errors == 0) {
		check_internal_paths(&loader);
		check_legacy(&loader);
		check_handlers(&loader);
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
