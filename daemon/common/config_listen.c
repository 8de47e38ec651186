/* SPDX-License-Identifier: Apache-2.0
 *
 * Configuration: the options of a section listen, see config.h.
 */
#include <stdlib.h>

#include "config_loader.h"
#include "config_value.h"

/* Numbers have their default here and their range where they are taken. */
cfg_opt_t config_listen_options[] = {
    CFG_STR("backend", NULL, CFGF_NODEFAULT),
    CFG_STR_LIST("allow-peer", NULL, CFGF_NODEFAULT),
    CFG_STR("mode", "0660", CFGF_NONE),
    CFG_STR("group", NULL, CFGF_NODEFAULT),
    CFG_INT("max-connections", 4096, CFGF_NONE),
    CFG_BOOL("relay", cfg_false, CFGF_NONE),
    CFG_BOOL("legacy", cfg_false, CFGF_NONE),
    CFG_BOOL("legacy-unsafe", cfg_false, CFGF_NONE),
    CFG_BOOL("legacy-stream", cfg_false, CFGF_NONE),
    CFG_INT("max-streams", 0, CFGF_NONE),
    CFG_INT("max-streams-per-subject", 0, CFGF_NONE),
    CFG_INT("rate", 0, CFGF_NONE),
    CFG_INT("rate-per-subject", 0, CFGF_NONE),
    CFG_END(),
};

static void take_allow_peer(struct config_loader *loader, cfg_t *section, struct config_listen *listen)
{
	unsigned n = cfg_size(section, "allow-peer");
	struct config_user user;

	if (!config_require(loader, section, "listen", "allow-peer"))
		return;
	listen->allow_peer = calloc(n, sizeof(*listen->allow_peer));
	if (listen->allow_peer == NULL) {
		config_complain(loader, 0, "out of memory");
		return;
	}
	for (unsigned i = 0; i < n; i++) {
		const char *text = cfg_getnstr(section, "allow-peer", i);
		const char *wrong = value_user(text, &user);

		if (wrong != NULL) {
			config_complain(loader, config_line_in(loader, section, "allow-peer"), "allow-peer \"%s\": %s",
			                text, wrong);
			continue;
		}
		/* Unless told otherwise the socket file is for the group of the first. */
		if (listen->n_allow_peer == 0)
			listen->group = user.gid;
		listen->allow_peer[listen->n_allow_peer++] = user.uid;
	}
}

void config_take_listen(struct config_loader *loader, cfg_t *section, struct config_listen *listen)
{
	const char *wrong;

	listen->path = cfg_title(section);
	wrong = value_path(listen->path, CONFIG_PATH_MAX);
	if (wrong != NULL)
		config_complain(loader, config_section_line(loader, section), "listen \"%s\": %s", listen->path, wrong);
	if (config_require(loader, section, "listen", "backend"))
		listen->backend = config_reference(loader, section, "backend");
	take_allow_peer(loader, section, listen);
	config_judge(loader, section, "mode", value_mode(config_string(section, "mode"), &listen->mode));
	if (config_is_set(section, "group"))
		config_judge(loader, section, "group", value_group(config_string(section, "group"), &listen->group));
	listen->max_connections = config_number(loader, section, "max-connections", 1, 65536);
	listen->max_streams = config_number(loader, section, "max-streams", 0, 10000000);
	listen->max_streams_per_subject = config_number(loader, section, "max-streams-per-subject", 0, 10000000);
	listen->rate = config_number(loader, section, "rate", 0, 10000000);
	listen->rate_per_subject = config_number(loader, section, "rate-per-subject", 0, 10000000);
	listen->relay = cfg_getbool(section, "relay") == cfg_true;
	listen->legacy = cfg_getbool(section, "legacy") == cfg_true;
	listen->legacy_unsafe = cfg_getbool(section, "legacy-unsafe") == cfg_true;
	listen->legacy_stream = cfg_getbool(section, "legacy-stream") == cfg_true;
	if (listen->legacy_stream && !listen->legacy)
		config_complain(loader, config_line_in(loader, section, "legacy-stream"),
		                "legacy-stream is for legacy listeners");
	if (listen->legacy && listen->relay)
		config_complain(loader, config_line_in(loader, section, "legacy"),
		                "legacy and relay exclude each other");
}
