/* SPDX-License-Identifier: Apache-2.0
 *
 * Chat content: see chat_content.h.
 */
#include "chat_content.h"

#include <errno.h>
#include <stdlib.h>

struct content {
	struct chat_writer *writer;
	bool is_array;
	bool in_text; /* a part of text is open */
	bool has_part;
};

/* Where an attachment is named. */
struct place {
	size_t at; /* of the brace */
	const struct attachment *attachment;
};

/* ---------------------------------------------------------------- placeholders */

/* The attachment of this name that has no place yet. */
static const struct attachment *find(struct span name, const struct attachment *attachments, size_t n,
                                     const struct place *places, size_t n_places)
{
	for (size_t i = 0; i < n; i++) {
		if (!span_equal(attachments[i].name, name))
			continue;
		for (size_t j = 0; j < n_places; j++)
			if (places[j].attachment == &attachments[i])
				return NULL;
		return &attachments[i];
	}
	return NULL;
}

/* The end of a name that begins here: the next brace, when it closes. */
static const uint8_t *name_end(const uint8_t *name, const uint8_t *end)
{
	while (name < end && *name != '{' && *name != '}')
		name++;
	return name < end && *name == '}' ? name : NULL;
}

/* Fill in the places, in the order of the text; returns how many. Each byte is looked at twice at most. */
static size_t find_places(struct span text, const struct attachment *attachments, size_t n, struct place *places)
{
	const uint8_t *end = text.data + text.len, *next = text.data;
	size_t n_places = 0;

	while (n_places < n && next < end && (next = memchr(next, '{', (size_t)(end - next))) != NULL) {
		const uint8_t *brace = next++;
		const uint8_t *closing = name_end(next, end);
		const struct attachment *found;

		if (closing == NULL || closing == next)
			continue;
		found = find(span_of(next, (size_t)(closing - next)), attachments, n, places, n_places);
		if (found != NULL)
			places[n_places++] = (struct place){.at = (size_t)(brace - text.data), .attachment = found};
		next = closing;
	}
	return n_places;
}

/* ---------------------------------------------------------------- parts */

static void add(struct content *content, const char *string)
{
	text_add_string(&content->writer->text, string);
}

static void begin_part(struct content *content)
{
	if (content->has_part)
		add(content, ",");
	content->has_part = true;
}

static void end_text(struct content *content)
{
	if (content->is_array && content->in_text)
		add(content, "\"}");
	content->in_text = false;
}

static void add_text(struct content *content, struct span utf8)
{
	if (content->is_array && !content->in_text && utf8.len > 0) {
		begin_part(content);
		add(content, "{\"type\":\"text\",\"text\":\"");
		content->in_text = true;
	}
	text_add_json(&content->writer->text, utf8);
}

static void add_bytes(struct content *content, const struct attachment *attachment)
{
	struct chat_writer *writer = content->writer;

	text_add_format(&writer->text, "data:%s;base64,", attachment->type);
	if (attachment->is_base64)
		text_add_span(&writer->text, attachment->bytes);
	else
		writer->blobs[writer->n_blobs++] =
		    (struct request_blob){.at = writer->text.len, .bytes = attachment->bytes};
}

static void add_attachment(struct content *content, const struct attachment *attachment)
{
	if (attachment->kind == ATTACHMENT_TEXT) {
		add_text(content, attachment->bytes);
		return;
	}
	end_text(content);
	begin_part(content);
	if (attachment->kind == ATTACHMENT_IMAGE) {
		add(content, "{\"type\":\"image_url\",\"image_url\":{\"url\":\"");
	} else {
		add(content, "{\"type\":\"file\",\"file\":{\"filename\":\"");
		text_add_json(&content->writer->text, attachment->name);
		add(content, "\",\"file_data\":\"");
	}
	add_bytes(content, attachment);
	add(content, "\"}}");
}

/* Those that the text does not name. */
static void add_others(struct content *content, const struct attachment *attachments, size_t n,
                       const struct place *places, size_t n_places)
{
	for (size_t i = 0; i < n; i++) {
		size_t j = 0;

		while (j < n_places && places[j].attachment != &attachments[i])
			j++;
		if (j < n_places)
			continue;
		add_attachment(content, &attachments[i]);
		if (attachments[i].kind == ATTACHMENT_TEXT)
			add_text(content, SPAN_LITERAL("\n\n"));
	}
}

int chat_content_write(struct chat_writer *writer, struct span text, const struct attachment *attachments, size_t n)
{
	struct content content = {.writer = writer};
	struct place *places = calloc(n + 1, sizeof(*places));
	size_t n_places, from = 0;

	if (places == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++)
		content.is_array = content.is_array || attachments[i].kind != ATTACHMENT_TEXT;
	n_places = find_places(text, attachments, n, places);
	add(&content, content.is_array ? "[" : "\"");
	add_others(&content, attachments, n, places, n_places);
	for (size_t i = 0; i < n_places; i++) {
		add_text(&content, span_of(text.data + from, places[i].at - from));
		add_attachment(&content, places[i].attachment);
		from = places[i].at + places[i].attachment->name.len + 2;
	}
	add_text(&content, span_of(text.data + from, text.len - from));
	end_text(&content);
	add(&content, content.is_array ? "]" : "\"");
	free(places);
	return 0;
}
