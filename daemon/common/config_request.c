/* SPDX-License-Identifier: Apache-2.0
 *
 * Configuration: what becomes of a request's data, the options of a section profile and those of a section backend that
 * are about requests; see config.h.
 */
#include <stdlib.h>

#include "config_loader.h"
#include "config_value.h"

#define TEMPERATURE_MAX 2.0

/* Numbers have their default here and their range where they are taken. */
cfg_opt_t config_profile_options[] = {
    CFG_STR("model", "", CFGF_NONE),
    CFG_STR("system", "", CFGF_NONE),
    CFG_INT("max-tokens", 0, CFGF_NONE),
    CFG_FLOAT("temperature", 0, CFGF_NODEFAULT),
    CFG_END(),
};

/* Below 0 when it is not set. */
static double take_temperature(struct config_loader *loader, cfg_t *section)
{
	double value = config_is_set(section, "temperature") ? cfg_getfloat(section, "temperature") : -1;

	if (config_is_set(section, "temperature") && !(value >= 0 && value <= TEMPERATURE_MAX))
		config_complain(loader, config_line_in(loader, section, "temperature"),
		                "temperature must be from 0 to 2");
	return value;
}

void config_take_profile(struct config_loader *loader, cfg_t *section, struct config_profile *profile)
{
	const char *wrong;

	profile->name = cfg_title(section);
	wrong = value_name(profile->name);
	if (wrong != NULL)
		config_complain(loader, config_section_line(loader, section), "profile \"%s\": %s", profile->name,
		                wrong);
	profile->model = config_string(section, "model");
	config_judge(loader, section, "model", value_text(profile->model));
	profile->system = config_string(section, "system");
	config_judge(loader, section, "system", value_utf8(profile->system));
	profile->max_tokens = config_number(loader, section, "max-tokens", 0, CONFIG_TOKENS_MAX);
	profile->temperature = take_temperature(loader, section);
}

/* Room for the values of a list, NULL when there are none. */
static void *make_list(struct config_loader *loader, cfg_t *section, const char *name)
{
	unsigned n = cfg_size(section, name);
	void *list = n > 0 ? calloc(n, sizeof(void *)) : NULL;

	if (n > 0 && list == NULL)
		config_complain(loader, 0, "out of memory");
	return list;
}

static void take_models(struct config_loader *loader, cfg_t *section, struct config_request *request)
{
	request->models = make_list(loader, section, "models");
	for (unsigned i = 0; request->models != NULL && i < cfg_size(section, "models"); i++) {
		const char *model = cfg_getnstr(section, "models", i);
		const char *wrong = model[0] == '\0' ? "a model has a name" : value_text(model);

		if (wrong != NULL)
			config_complain(loader, config_line_in(loader, section, "models"), "models \"%s\": %s", model,
			                wrong);
		request->models[request->n_models++] = model;
	}
}

static const struct config_profile *find_profile(const struct config *config, const char *name)
{
	for (size_t i = 0; i < config->n_profiles; i++)
		if (strcmp(config->profiles[i].name, name) == 0)
			return &config->profiles[i];
	return NULL;
}

/* A default above the limit would be refused each time. */
static void check_tokens(struct config_loader *loader, cfg_t *section, const struct config_request *request)
{
	unsigned limit = request->max_tokens_limit;

	if (limit > 0 && request->max_tokens > limit)
		config_complain(loader, config_line_in(loader, section, "max-tokens"),
		                "max-tokens is above max-tokens-limit");
}

static void take_profile(struct config_loader *loader, cfg_t *section, const char *name, struct config_request *request)
{
	const struct config_profile *profile = find_profile(loader->config, name);
	unsigned limit = request->max_tokens_limit;
	int line = config_line_in(loader, section, "profiles");

	if (profile == NULL) {
		config_complain(loader, line, "there is no section profile \"%s\"", name);
		return;
	}
	if (limit > 0 && profile->max_tokens > limit)
		config_complain(loader, line, "the max-tokens of profile \"%s\" is above max-tokens-limit", name);
	request->profiles[request->n_profiles++] = profile;
}

static void take_profiles(struct config_loader *loader, cfg_t *section, struct config_request *request)
{
	request->profiles = make_list(loader, section, "profiles");
	for (unsigned i = 0; request->profiles != NULL && i < cfg_size(section, "profiles"); i++)
		take_profile(loader, section, cfg_getnstr(section, "profiles", i), request);
}

void config_take_request(struct config_loader *loader, cfg_t *section, struct config_request *request)
{
	request->max_data = config_number(loader, section, "max-data", 1, 1073741824);
	request->max_prompt = config_number(loader, section, "max-prompt", 1, 1073741824);
	request->max_messages = config_number(loader, section, "max-messages", 1, 100000);
	request->max_attachments = config_number(loader, section, "max-attachments", 0, 64);
	request->memory = config_number(loader, section, "request-memory", 1048576, 2147483647);
	request->max_tokens = config_number(loader, section, "max-tokens", 0, CONFIG_TOKENS_MAX);
	request->max_tokens_limit = config_number(loader, section, "max-tokens-limit", 0, CONFIG_TOKENS_MAX);
	request->max_completion_tokens = cfg_getbool(section, "max-completion-tokens") == cfg_true;
	request->temperature = take_temperature(loader, section);
	request->include_usage = cfg_getbool(section, "include-usage") == cfg_true;
	check_tokens(loader, section, request);
	take_models(loader, section, request);
	take_profiles(loader, section, request);
}
