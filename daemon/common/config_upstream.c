/* SPDX-License-Identifier: Apache-2.0
 *
 * Configuration: the options of a section upstream, see config.h.
 */
#include "config_loader.h"
#include "config_value.h"

/* Numbers have their default here and their range where they are taken. */
cfg_opt_t config_upstream_options[] = {
    CFG_STR("url", NULL, CFGF_NODEFAULT),
    CFG_STR("ca-file", "", CFGF_NONE),
    CFG_INT("connect-timeout", 5000, CFGF_NONE),
    CFG_STR("unix-socket", "", CFGF_NONE),
    CFG_BOOL("allow-private", cfg_false, CFGF_NONE),
    CFG_STR("http", "1.1", CFGF_NONE),
    CFG_INT("max-connections", 1024, CFGF_NONE),
    CFG_INT("streams-per-connection", 25, CFGF_NONE),
    CFG_INT("spare-connections", 1, CFGF_NONE),
    CFG_INT("retries", 1, CFGF_NONE),
    CFG_INT("breaker-failures", 10, CFGF_NONE),
    CFG_INT("breaker-time", 10, CFGF_NONE),
    CFG_END(),
};

static const char *const http_versions[] = {[HTTP_1_1] = "1.1", [HTTP_2] = "2", NULL};

static const char *without_trailing_slash(const char *url)
{
	size_t len = strlen(url);

	while (len > 0 && url[len - 1] == '/')
		len--;
	return strndup(url, len);
}

void config_take_upstream(struct config_loader *loader, cfg_t *section, struct config_upstream *upstream)
{
	const char *wrong;

	upstream->name = cfg_title(section);
	wrong = value_name(upstream->name);
	if (wrong != NULL)
		config_complain(loader, config_section_line(loader, section), "upstream \"%s\": %s", upstream->name,
		                wrong);
	if (config_require(loader, section, "upstream", "url")) {
		config_judge(loader, section, "url", value_url(config_string(section, "url"), upstream));
		upstream->url = without_trailing_slash(config_string(section, "url"));
		if (upstream->url == NULL)
			config_complain(loader, 0, "out of memory");
	}
	upstream->ca_file = config_path(loader, section, "ca-file", true);
	upstream->unix_socket = config_path(loader, section, "unix-socket", true);
	if (strlen(upstream->unix_socket) >= CONFIG_PATH_MAX)
		config_judge(loader, section, "unix-socket", "too long for a socket");
	upstream->allow_private = cfg_getbool(section, "allow-private") == cfg_true;
	upstream->http = config_choice(loader, section, "http", http_versions);
	if (upstream->http == HTTP_2 && upstream->url != NULL && !upstream->tls)
		config_judge(loader, section, "http", "HTTP/2 needs an https url");
	upstream->max_connections = config_number(loader, section, "max-connections", 1, 65536);
	upstream->streams_per_connection = config_number(loader, section, "streams-per-connection", 1, 1000);
	upstream->spare_connections = config_number(loader, section, "spare-connections", 0, 1024);
	upstream->retries = config_number(loader, section, "retries", 0, 10);
	upstream->breaker_failures = config_number(loader, section, "breaker-failures", 0, 1000000);
	upstream->breaker_time_s = config_number(loader, section, "breaker-time", 1, 3600);
	upstream->connect_timeout_ms = config_number(loader, section, "connect-timeout", 1, 600000);
}
