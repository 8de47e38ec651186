/* SPDX-License-Identifier: Apache-2.0
 *
 * Configuration loader: what the files that take a kind of section have of config.c. For nobody else.
 */
#ifndef HANDOFFD_CONFIG_LOADER_H
#define HANDOFFD_CONFIG_LOADER_H

#include <confuse.h>
#include <stdio.h>

#include "config.h"

#define CONFIG_VALUE_MAX 4096

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

struct config_loader {
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

/* The tables of options. */
extern cfg_opt_t config_listen_options[];
extern cfg_opt_t config_backend_options[];
extern cfg_opt_t config_upstream_options[];
extern cfg_opt_t config_profile_options[];
extern cfg_opt_t config_handler_options[];

/* Check a section's values and take them over. */
void config_take_listen(struct config_loader *loader, cfg_t *section, struct config_listen *listen);
void config_take_backend(struct config_loader *loader, cfg_t *section, struct config_backend *backend);
void config_take_upstream(struct config_loader *loader, cfg_t *section, struct config_upstream *upstream);
void config_take_profile(struct config_loader *loader, cfg_t *section, struct config_profile *profile);
void config_take_handler(struct config_loader *loader, cfg_t *section, struct config_handler *handler);
/* What config_take_handler() has made. */
void config_free_handler(struct config_handler *handler);
/* The options of a section backend that are about requests. The profiles are there. */
void config_take_request(struct config_loader *loader, cfg_t *section, struct config_request *request);

/* One line "FILE:LINE: what is wrong"; line 0: none in particular. */
__attribute__((format(printf, 3, 4))) void config_complain(struct config_loader *loader, int line, const char *format,
                                                           ...);

/* Value of an option, "" when it has none. */
const char *config_string(cfg_t *section, const char *name);
bool config_is_set(cfg_t *section, const char *name);
/* Where a section begins. */
int config_section_line(const struct config_loader *loader, const cfg_t *section);
/* Line of an option that is set, of the section otherwise. */
int config_line_in(const struct config_loader *loader, cfg_t *section, const char *name);
/* Report what is wrong with the value of an option; NULL is nothing. */
void config_judge(struct config_loader *loader, cfg_t *section, const char *name, const char *wrong);
size_t config_size(struct config_loader *loader, cfg_t *section, const char *name, long min, long max);
unsigned config_number(struct config_loader *loader, cfg_t *section, const char *name, long min, long max);
const char *config_path(struct config_loader *loader, cfg_t *section, const char *name, bool may_be_empty);
/* A role never runs as root. */
void config_role_user(struct config_loader *loader, cfg_t *section, const char *name, struct config_user *user);
/* Number of the section of this kind that the option of the same name refers to. */
size_t config_reference(struct config_loader *loader, cfg_t *section, const char *kind);
/* Complain when a required option is absent. */
bool config_require(struct config_loader *loader, cfg_t *section, const char *kind, const char *name);
/* Position in names (NULL ends them) of an option's value; complains and returns 0 when it is none of them. */
unsigned config_choice(struct config_loader *loader, cfg_t *section, const char *name, const char *const names[]);

#endif
