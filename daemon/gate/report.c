/* SPDX-License-Identifier: Apache-2.0
 *
 * Report: everything that all roles have counted, as Prometheus text. No subjects, addresses or request data: names of
 * backends and numbers.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "daemon/common/metrics.h"
#include "peer.h"
#include "pool.h"
#include "status.h"

/* Names of backends are short and need no escapes: config_value.h. */
#define LABELS_MAX 128

/* Sums of all pages. Backends follow the whole, each with METRIC_SLOT_COUNT numbers. */
struct sums {
	uint64_t *whole;
	uint64_t *backends;
};

static bool sums_make(struct sums *sums, const struct gate *gate)
{
	const struct config *config = gate->config;

	sums->whole = calloc((config->n_backends + 1) * METRIC_SLOT_COUNT, sizeof(uint64_t));
	if (sums->whole == NULL)
		return false;
	sums->backends = sums->whole + METRIC_SLOT_COUNT;
	for (size_t i = 0; i < METRIC_SLOT_COUNT; i++)
		sums->whole[i] = metrics_get(i);
	account_add(&gate->dialer->account, peer_connected(gate->dialer), sums->whole);
	for (size_t i = 0; i < config->n_handlers; i++)
		account_add(&gate->launchers[i].account, peer_connected(&gate->launchers[i]), sums->whole);
	for (size_t i = 0; i < config->n_backends; i++) {
		uint64_t *backend = sums->backends + i * METRIC_SLOT_COUNT;

		for (size_t k = 0; k < gate->pools[i].n_workers; k++) {
			const struct peer *worker = &gate->pools[i].workers[k];

			account_add(&worker->account, peer_connected(worker), backend);
			peer_add_retired(worker, backend);
		}
		for (size_t slot = 0; slot < METRIC_SLOT_COUNT; slot++)
			sums->whole[slot] += backend[slot];
	}
	return true;
}

static void write_head(FILE *out, const char *name, const char *type, const char *help)
{
	fprintf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

/* labels: "" or name="value" */
static void write_number(FILE *out, const char *name, const char *labels, uint64_t value)
{
	bool some = labels[0] != '\0';

	fprintf(out, "%s%s%s%s %" PRIu64 "\n", name, some ? "{" : "", labels, some ? "}" : "", value);
}

static void write_seconds(FILE *out, uint64_t microseconds)
{
	fprintf(out, "%" PRIu64 ".%06" PRIu64, microseconds / 1000000, microseconds % 1000000);
}

static void write_histogram(FILE *out, const char *name, const char *labels, const uint64_t *slots)
{
	const char *comma = labels[0] != '\0' ? "," : "";
	const char *open = labels[0] != '\0' ? "{" : "";
	const char *close = labels[0] != '\0' ? "}" : "";
	uint64_t count = 0;

	for (size_t i = 0; i < METRIC_BUCKETS; i++) {
		count += slots[i];
		fprintf(out, "%s_bucket{%s%sle=\"", name, labels, comma);
		if (i + 1 < METRIC_BUCKETS)
			write_seconds(out, metric_bound(i));
		else
			fputs("+Inf", out);
		fprintf(out, "\"} %" PRIu64 "\n", count);
	}
	fprintf(out, "%s_sum%s%s%s ", name, open, labels, close);
	write_seconds(out, slots[METRIC_BUCKETS]);
	fprintf(out, "\n%s_count%s%s%s %" PRIu64 "\n", name, open, labels, close, count);
}

/* The original's daemon calls the outcome of a failed stream a reason. */
static const char *label_name(const struct metric_info *info)
{
	if (info->label == METRIC_USAGE)
		return "usage";
	if (info->label == METRIC_ENDING)
		return "ending";
	return info->label == METRIC_OUTCOME && info->first != METRIC_STREAM_ERRORS_FIRST ? "outcome" : "reason";
}

static void write_values(FILE *out, const struct metric_info *info, const char *labels, const uint64_t *slots)
{
	char label[64];

	if (info->type == METRIC_HISTOGRAM) {
		write_histogram(out, info->name, labels, slots + info->first);
		return;
	}
	if (info->label == METRIC_NONE || info->label == METRIC_BACKEND) {
		write_number(out, info->name, labels, slots[info->first]);
		return;
	}
	for (size_t slot = info->first; slot < info->first + info->slots; slot++) {
		snprintf(label, sizeof(label), "%s=\"%s\"", label_name(info), metric_label_value(info, slot));
		write_number(out, info->name, label, slots[slot]);
	}
}

static void write_metric(FILE *out, const struct gate *gate, const struct metric_info *info, const struct sums *sums)
{
	static const char *const types[] = {
	    [METRIC_COUNTER] = "counter",
	    [METRIC_GAUGE] = "gauge",
	    [METRIC_PEAK] = "gauge",
	    [METRIC_HISTOGRAM] = "histogram",
	};
	char labels[LABELS_MAX];

	write_head(out, info->name, types[info->type], info->help);
	if (info->label != METRIC_BACKEND) {
		write_values(out, info, "", sums->whole);
		return;
	}
	for (size_t i = 0; i < gate->config->n_backends; i++) {
		snprintf(labels, sizeof(labels), "backend=\"%s\"", gate->config->backends[i].name);
		write_values(out, info, labels, sums->backends + i * METRIC_SLOT_COUNT);
	}
}

static void write_workers(FILE *out, const struct gate *gate)
{
	char labels[LABELS_MAX];

	write_head(out, "handoffd_worker_up", "gauge", "Whether the gate is connected to this process");
	write_number(out, "handoffd_worker_up", "role=\"dialer\"", peer_connected(gate->dialer));
	for (size_t i = 0; i < gate->config->n_handlers; i++) {
		snprintf(labels, sizeof(labels), "role=\"launcher\",handler=\"%s\"", gate->config->handlers[i].name);
		write_number(out, "handoffd_worker_up", labels, peer_connected(&gate->launchers[i]));
	}
	for (size_t i = 0; i < gate->config->n_backends; i++)
		for (size_t k = 0; k < gate->pools[i].n_workers; k++) {
			snprintf(labels, sizeof(labels), "role=\"streamer\",backend=\"%s\",worker=\"%zu\"",
			         gate->config->backends[i].name, k);
			write_number(out, "handoffd_worker_up", labels, peer_connected(&gate->pools[i].workers[k]));
		}
}

char *report_make(const struct gate *gate, size_t *len)
{
	struct sums sums;
	char *text = NULL;
	FILE *out = open_memstream(&text, len);

	if (out == NULL)
		return NULL;
	bool complete = sums_make(&sums, gate);
	if (complete) {
		write_head(out, "handoffd_info", "gauge", "The gate's version");
		write_number(out, "handoffd_info", "version=\"" HANDOFFD_VERSION "\"", 1);
		write_head(out, "handoffd_start_time_seconds", "gauge", "When the gate was started, in Unix time");
		write_number(out, "handoffd_start_time_seconds", "", (uint64_t)gate->started);
		write_workers(out, gate);
		for (size_t i = 0; i < METRIC_COUNT; i++)
			write_metric(out, gate, metric_info((enum metric)i), &sums);
		free(sums.whole);
	}
	complete = !ferror(out) && complete;
	if (fclose(out) == 0 && complete)
		return text;
	free(text);
	*len = 0;
	return NULL;
}
