/* SPDX-License-Identifier: Apache-2.0
 *
 * Configuration: the options of a section backend, see config.h.
 */
#include "config_loader.h"
#include "config_value.h"

/* Numbers have their default here and their range where they are taken. */
cfg_opt_t config_backend_options[] = {
    CFG_STR("type", NULL, CFGF_NODEFAULT),
    CFG_STR("user", NULL, CFGF_NODEFAULT),
    CFG_INT("workers", 1, CFGF_NONE),
    CFG_INT("max-streams", 10000, CFGF_NONE),
    CFG_INT("delay", 50, CFGF_NONE),
    CFG_STR("upstream", NULL, CFGF_NODEFAULT),
    CFG_STR("handler", NULL, CFGF_NODEFAULT),
    CFG_STR("model", "", CFGF_NONE),
    CFG_STR("credential-file", "", CFGF_NONE),
    CFG_INT("first-byte-timeout", 60, CFGF_NONE),
    CFG_INT("first-token-timeout", 0, CFGF_NONE),
    CFG_INT("idle-timeout", 120, CFGF_NONE),
    CFG_INT("write-timeout", 60, CFGF_NONE),
    CFG_INT("max-duration", 3600, CFGF_NONE),
    CFG_INT("keepalive", 15, CFGF_NONE),
    CFG_INT("head-after", 0, CFGF_NONE),
    CFG_STR("output", "content", CFGF_NONE),
    CFG_STR("on-disconnect", "cancel", CFGF_NONE),
    CFG_INT("drain-bytes", 1048576, CFGF_NONE),
    CFG_INT("stop-grace", 10, CFGF_NONE),
    CFG_INT("max-data", 33554432, CFGF_NONE),
    CFG_INT("max-prompt", 8388608, CFGF_NONE),
    CFG_INT("max-messages", 1024, CFGF_NONE),
    CFG_INT("max-attachments", 16, CFGF_NONE),
    CFG_INT("request-memory", 268435456, CFGF_NONE),
    CFG_STR_LIST("models", NULL, CFGF_NODEFAULT),
    CFG_STR_LIST("profiles", NULL, CFGF_NODEFAULT),
    CFG_INT("max-tokens", 0, CFGF_NONE),
    CFG_INT("max-tokens-limit", 0, CFGF_NONE),
    CFG_BOOL("max-completion-tokens", cfg_false, CFGF_NONE),
    CFG_FLOAT("temperature", 0, CFGF_NODEFAULT),
    CFG_BOOL("include-usage", cfg_true, CFGF_NONE),
    CFG_END(),
};

static const char *const outputs[] = {
    [OUTPUT_CONTENT] = "content", [OUTPUT_PASSTHROUGH] = "passthrough", [OUTPUT_TEXT] = "text", NULL};
static const char *const disconnects[] = {[DISCONNECT_CANCEL] = "cancel", [DISCONNECT_DRAIN] = "drain", NULL};

static const struct {
	const char *name;
	const char *refers_to; /* option that it must have, and the kind of section it names; NULL for none */
	const char *has_no_upstream;
	const char *has_no_handler;
	const char *passes_nothing_on;
} types[] = {
    [BACKEND_DEMO] = {"demo", NULL, "a demo backend has none", "a demo backend has none",
                      "a demo backend has no upstream whose events could be passed on"},
    [BACKEND_OPENAI] = {"openai", "upstream", NULL, "an openai backend has none", NULL},
    [BACKEND_HANDLER] = {"handler", "handler", "a handler backend has none", NULL,
                         "a handler backend has no upstream whose events could be passed on"},
};
#define TYPES (sizeof(types) / sizeof(types[0]))

static void take_backend_type(struct config_loader *loader, cfg_t *section, struct config_backend *backend)
{
	const char *name = config_string(section, "type");
	size_t type = 0;

	if (!config_require(loader, section, "backend", "type"))
		return;
	while (type < TYPES && strcmp(types[type].name, name) != 0)
		type++;
	if (type == TYPES) {
		config_judge(loader, section, "type", "the types are demo, openai and handler");
		return;
	}
	backend->type = (enum backend_type)type;
	if (config_is_set(section, "upstream"))
		config_judge(loader, section, "upstream", types[type].has_no_upstream);
	if (config_is_set(section, "handler"))
		config_judge(loader, section, "handler", types[type].has_no_handler);
	if (types[type].refers_to == NULL || !config_require(loader, section, "backend", types[type].refers_to))
		return;
	*(backend->type == BACKEND_OPENAI ? &backend->upstream : &backend->handler) =
	    config_reference(loader, section, types[type].refers_to);
}

void config_take_backend(struct config_loader *loader, cfg_t *section, struct config_backend *backend)
{
	const char *wrong;

	backend->name = cfg_title(section);
	wrong = value_name(backend->name);
	if (wrong != NULL)
		config_complain(loader, config_section_line(loader, section), "backend \"%s\": %s", backend->name,
		                wrong);
	take_backend_type(loader, section, backend);
	backend->user = loader->config->user[ROLE_STREAMER];
	if (config_is_set(section, "user"))
		config_role_user(loader, section, "user", &backend->user);
	backend->workers = config_number(loader, section, "workers", 1, CONFIG_WORKERS_MAX);
	backend->max_streams = config_number(loader, section, "max-streams", 1, 1000000);
	backend->delay_ms = config_number(loader, section, "delay", 0, 60000);
	backend->model = config_string(section, "model");
	config_judge(loader, section, "model", value_text(backend->model));
	backend->credential_file = config_path(loader, section, "credential-file", true);
	backend->first_byte_timeout_s = config_number(loader, section, "first-byte-timeout", 1, 86400);
	backend->first_token_timeout_s = config_number(loader, section, "first-token-timeout", 0, 86400);
	backend->idle_timeout_s = config_number(loader, section, "idle-timeout", 1, 86400);
	backend->write_timeout_s = config_number(loader, section, "write-timeout", 1, 86400);
	backend->max_duration_s = config_number(loader, section, "max-duration", 1, 604800);
	backend->head_after_s = config_number(loader, section, "head-after", 0, 86400);
	backend->output = config_choice(loader, section, "output", outputs);
	if (backend->output == OUTPUT_PASSTHROUGH)
		config_judge(loader, section, "output", types[backend->type].passes_nothing_on);
	backend->on_disconnect = config_choice(loader, section, "on-disconnect", disconnects);
	backend->drain_bytes = config_number(loader, section, "drain-bytes", 0, 1073741824);
	backend->stop_grace_s = config_number(loader, section, "stop-grace", 0, 86400);
	backend->keepalive_s = config_number(loader, section, "keepalive", 0, 3600);
	config_take_request(loader, section, &backend->request);
}
