/* SPDX-License-Identifier: Apache-2.0
 *
 * Attachment: see attachment.h.
 */
#include "attachment.h"

#include <strings.h>

#include "lib/base64.h"
#include "lib/utf8.h"

#define MAGIC_MAX 12 /* bytes from the start that tell the kinds apart */

/* ---------------------------------------------------------------- types */

struct binary_type {
	const char *type;
	enum attachment_kind kind;
	struct span magic;
	struct span magic_at_8; /* WebP is one of several kinds of RIFF */
};

static const struct binary_type binary_types[] = {
    {"image/png", ATTACHMENT_IMAGE, SPAN_LITERAL("\x89PNG\r\n\x1a\n"), SPAN_EMPTY},
    {"image/jpeg", ATTACHMENT_IMAGE, SPAN_LITERAL("\xff\xd8\xff"), SPAN_EMPTY},
    {"image/gif", ATTACHMENT_IMAGE, SPAN_LITERAL("GIF8"), SPAN_EMPTY},
    {"image/webp", ATTACHMENT_IMAGE, SPAN_LITERAL("RIFF"), SPAN_LITERAL("WEBP")},
    {"application/pdf", ATTACHMENT_PDF, SPAN_LITERAL("%PDF-"), SPAN_EMPTY},
};

static const char *const text_types[] = {
    "application/json",       "application/xml",  "application/yaml",     "application/x-yaml",
    "application/javascript", "application/toml", "application/x-ndjson", "application/sql",
};

static bool type_is(struct span type, const char *name)
{
	return type.len == strlen(name) && strncasecmp((const char *)type.data, name, type.len) == 0;
}

static bool type_ends(struct span type, const char *suffix)
{
	size_t len = strlen(suffix);

	return type.len > len && strncasecmp((const char *)type.data + type.len - len, suffix, len) == 0;
}

static bool is_text_type(struct span type)
{
	for (size_t i = 0; i < sizeof(text_types) / sizeof(text_types[0]); i++)
		if (type_is(type, text_types[i]))
			return true;
	return (type.len > 5 && strncasecmp((const char *)type.data, "text/", 5) == 0) || type_ends(type, "+json") ||
	       type_ends(type, "+xml");
}

static const struct binary_type *find_binary_type(struct span type)
{
	if (type_is(type, "image/jpg"))
		type = SPAN_LITERAL("image/jpeg");
	for (size_t i = 0; i < sizeof(binary_types) / sizeof(binary_types[0]); i++)
		if (type_is(type, binary_types[i].type))
			return &binary_types[i];
	return NULL;
}

/* The type of a JSON string, without parameters. */
static struct span type_of(const json_t *value)
{
	const char *text = json_string_value(value);
	size_t len = strcspn(text, ";");

	while (len > 0 && text[len - 1] == ' ')
		len--;
	return span_of(text, len);
}

/* ---------------------------------------------------------------- contents */

static bool has_at(struct span bytes, size_t at, struct span wanted)
{
	return bytes.len >= at + wanted.len && memcmp(bytes.data + at, wanted.data, wanted.len) == 0;
}

static bool begins_as(struct span bytes, const struct binary_type *type)
{
	return has_at(bytes, 0, type->magic) && (type->magic_at_8.len == 0 || has_at(bytes, 8, type->magic_at_8));
}

static const char *check_text(struct span bytes)
{
	if (bytes.len > ATTACHMENT_TEXT_MAX)
		return "an attachment of text is larger than 1 MiB";
	if (memchr(bytes.data, '\0', bytes.len) != NULL || !utf8_valid(bytes))
		return "an attachment of text is not UTF-8";
	return NULL;
}

/* Kind and type of an attachment whose bytes are there. */
static const char *classify(struct span type, struct attachment *attachment)
{
	const struct binary_type *binary = find_binary_type(type);

	if (binary == NULL && is_text_type(type)) {
		attachment->kind = ATTACHMENT_TEXT;
		return check_text(attachment->bytes);
	}
	if (binary == NULL)
		return "an attachment's type is not one that is taken";
	attachment->kind = binary->kind;
	attachment->type = binary->type;
	if (attachment->bytes.len > ATTACHMENT_BINARY_MAX)
		return "an attachment is larger than 20 MiB";
	return begins_as(attachment->bytes, binary) ? NULL : "an attachment's bytes are not of its type";
}

/* ---------------------------------------------------------------- the list of parts */

static bool name_valid(struct span name)
{
	if (name.len == 0 || name.len > ATTACHMENT_NAME_MAX || span_equal(name, SPAN_LITERAL(".")) ||
	    span_equal(name, SPAN_LITERAL("..")))
		return false;
	for (size_t i = 0; i < name.len; i++)
		if (name.data[i] < 0x20 || name.data[i] == 0x7f || name.data[i] == '/' || name.data[i] == '\\')
			return false;
	return true;
}

/* Takes the next bytes of blobs. */
static const char *take_one(const json_t *item, struct span blobs, size_t *taken, struct attachment *out)
{
	json_t *name = json_object_get(item, "name");
	json_t *type = json_object_get(item, "type");
	json_t *offset = json_object_get(item, "offset");
	json_t *length = json_object_get(item, "length");
	json_int_t len = json_integer_value(length);

	if (!json_is_string(name) || !json_is_string(type) || !json_is_integer(offset) || !json_is_integer(length))
		return "an attachment is not an object with name, type, offset and length";
	out->name = span_of(json_string_value(name), json_string_length(name));
	if (!name_valid(out->name))
		return "an attachment's name is not allowed";
	/* One after another, without gaps: then they neither overlap nor leave the data. */
	if (json_integer_value(offset) < 0 || (uint64_t)json_integer_value(offset) != *taken)
		return "an attachment does not begin where the one before ends";
	if (len < 0 || (uint64_t)len > blobs.len - *taken)
		return "an attachment is longer than the data";
	out->bytes = span_of(blobs.data + *taken, (size_t)len);
	*taken += (size_t)len;
	return classify(type_of(type), out);
}

const char *attachment_take_list(json_t *list, struct span blobs, struct attachment *out)
{
	size_t i, taken = 0;
	const char *wrong;
	json_t *item;

	json_array_foreach(list, i, item)
	{
		wrong = take_one(item, blobs, &taken, &out[i]);
		if (wrong != NULL)
			return wrong;
		for (size_t j = 0; j < i; j++)
			if (span_equal(out[i].name, out[j].name))
				return "two attachments have the same name";
	}
	return taken == blobs.len ? NULL : "there are bytes after the last attachment";
}

/* ---------------------------------------------------------------- images in the JSON */

/* Whole groups of the alphabet, padding at the end only. That its unused bits are zero is not asked for. */
static bool is_base64(struct span text)
{
	size_t len = text.len;

	if (len == 0 || len % 4 != 0)
		return false;
	for (int padding = 0; padding < 2 && text.data[len - 1] == '='; padding++)
		len--;
	for (size_t i = 0; i < len; i++) {
		uint8_t c = text.data[i];

		if (!(c >= 'A' && c <= 'Z') && !(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9') && c != '+' &&
		    c != '/')
			return false;
	}
	return true;
}

const char *attachment_take_image(json_t *base64, json_t *type, struct attachment *out)
{
	struct span name = SPAN_LITERAL("image/jpeg");
	const struct binary_type *binary;
	uint8_t magic[MAGIC_MAX];

	if (json_is_null(type))
		type = NULL;
	if (!json_is_string(base64) || (type != NULL && !json_is_string(type)))
		return "an image is not an object with base64 and mime_type";
	if (type != NULL)
		name = type_of(type);
	binary = find_binary_type(name);
	if (binary == NULL || binary->kind != ATTACHMENT_IMAGE)
		return "an image's type is not one that is taken";
	out->kind = ATTACHMENT_IMAGE;
	out->type = binary->type;
	out->is_base64 = true;
	out->bytes = span_of(json_string_value(base64), json_string_length(base64));
	if (!is_base64(out->bytes))
		return "an image is not base64";
	if (out->bytes.len / 4 * 3 > ATTACHMENT_BINARY_MAX + 2)
		return "an image is larger than 20 MiB";
	if (out->bytes.len < MAGIC_MAX / 3 * 4 ||
	    !base64_decode(magic, sizeof(magic), span_of(out->bytes.data, MAGIC_MAX / 3 * 4), BASE64_STANDARD) ||
	    !begins_as(span_of(magic, sizeof(magic)), binary))
		return "an image's bytes are not of its type";
	return NULL;
}
