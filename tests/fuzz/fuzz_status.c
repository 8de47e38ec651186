/* SPDX-License-Identifier: Apache-2.0
 *
 * Fuzzing the status: a part that is accepted would be written again byte for byte; a text that is accepted, put
 * together again from its pieces, is the text.
 */
#include <stdlib.h>

#include "lib/exposition.h"
#include "lib/wire_status.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A broken promise ends the run. */
static void must(bool kept)
{
	if (!kept)
		abort();
}

static void check_part(struct span message)
{
	struct wire_status_part part;
	uint8_t header[WIRE_STATUS_PART_HEADER_LEN];

	if (wire_status_part_parse(message, &part) != 0)
		return;
	wire_status_part_write(&part, header);
	must(memcmp(header, message.data, sizeof(header)) == 0);
	must(part.text.data == message.data + sizeof(header) && part.text.len == message.len - sizeof(header));
}

static void check_labels(struct span labels)
{
	struct span name, value;

	while (labels.len > 0) {
		const uint8_t *start = labels.data;

		must(exposition_label(&labels, &name, &value) == 1);
		must(name.data == start && value.data == name.data + name.len + 2);
		must(name.len > 0 && value.data[value.len] == '"');
		for (size_t i = 0; i < value.len; i++) {
			must(value.data[i] != '"' && value.data[i] >= 0x20 && value.data[i] < 0x7f);
			i += value.data[i] == '\\';
		}
	}
}

static void check_text(struct span text)
{
	struct exposition_line line;
	const uint8_t *at = text.data;

	while (exposition_next(&text, &line) == 1) {
		must(text.data[-1] == '\n' && line.value.data + line.value.len == text.data - 1);
		must(line.name.len > 0 && line.name.data >= at);
		if (line.kind == EXPOSITION_SAMPLE)
			check_labels(line.labels);
		at = text.data;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct span input = span_of(data, size);

	check_part(input);
	check_text(input);
	return 0;
}
