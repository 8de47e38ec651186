/* SPDX-License-Identifier: Apache-2.0
 *
 * The status request and its answer: see wire_status.h.
 */
#include "wire_status.h"

#include <errno.h>

#define MAGIC     "HANDSTAT"
#define MAGIC_LEN 8

void wire_status_write(uint8_t out[WIRE_STATUS_REQUEST_LEN])
{
	memcpy(out, MAGIC, MAGIC_LEN);
	put_le32(out + 8, WIRE_STATUS_REQUEST_LEN);
	put_le32(out + 12, 0);
}

bool wire_status_meant(struct span message)
{
	return message.len >= MAGIC_LEN && memcmp(message.data, MAGIC, MAGIC_LEN) == 0;
}

int wire_status_parse(struct span message)
{
	if (message.len != WIRE_STATUS_REQUEST_LEN || !wire_status_meant(message) ||
	    get_le32(message.data + 8) != message.len || get_le32(message.data + 12) != 0)
		return -EBADMSG;
	return 0;
}

void wire_status_part_write(const struct wire_status_part *part, uint8_t out[WIRE_STATUS_PART_HEADER_LEN])
{
	memset(out, 0, WIRE_STATUS_PART_HEADER_LEN);
	memcpy(out, MAGIC, MAGIC_LEN);
	put_le32(out + 8, (uint32_t)(WIRE_STATUS_PART_HEADER_LEN + part->text.len));
	put_le32(out + 12, part->sequence);
	put_le64(out + 16, part->instance);
	put_le16(out + 24, part->last);
}

int wire_status_part_parse(struct span message, struct wire_status_part *part)
{
	static const uint8_t zero[6];

	memset(part, 0, sizeof(*part));
	if (message.len < WIRE_STATUS_PART_HEADER_LEN || message.len > WIRE_STATUS_PART_MAX ||
	    !wire_status_meant(message) || get_le32(message.data + 8) != message.len)
		return -EBADMSG;
	uint16_t last = get_le16(message.data + 24);
	if (last > 1 || memcmp(message.data + 26, zero, sizeof(zero)) != 0)
		return -EBADMSG;
	part->sequence = get_le32(message.data + 12);
	part->instance = get_le64(message.data + 16);
	part->last = last == 1;
	part->text = span_of(message.data + WIRE_STATUS_PART_HEADER_LEN, message.len - WIRE_STATUS_PART_HEADER_LEN);
	return 0;
}
