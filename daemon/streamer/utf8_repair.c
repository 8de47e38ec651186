/* SPDX-License-Identifier: Apache-2.0
 *
 * UTF-8 repair: see utf8_repair.h.
 */
#include "utf8_repair.h"

#include "lib/utf8.h"

#define REPLACEMENT SPAN_LITERAL("\xef\xbf\xbd")

/* Complete the character that was cut, as far as the piece goes. */
static void complete(struct utf8_repair *repair, struct span *piece, struct text *room)
{
	size_t wrong;

	while (repair->n_cut > 0 && piece->len > 0) {
		repair->cut[repair->n_cut] = piece->data[0];
		if (utf8_valid_part(span_of(repair->cut, repair->n_cut + 1u), &wrong) > 0) {
			text_add(room, repair->cut, repair->n_cut + 1u);
			repair->n_cut = 0;
		} else if (wrong > 0) {
			/* Not this one's; it may begin the next. */
			text_add_span(room, REPLACEMENT);
			repair->n_cut = 0;
			return;
		} else {
			repair->n_cut++;
		}
		*piece = span_of(piece->data + 1, piece->len - 1);
	}
}

struct span utf8_repair_piece(struct utf8_repair *repair, struct span piece, struct text *room)
{
	size_t valid, wrong;

	if (repair->n_cut == 0) {
		valid = utf8_valid_part(piece, &wrong);
		if (valid == piece.len)
			return piece;
	}
	text_reset(room, SIZE_MAX);
	complete(repair, &piece, room);
	while (piece.len > 0) {
		valid = utf8_valid_part(piece, &wrong);
		text_add(room, piece.data, valid);
		piece = span_of(piece.data + valid, piece.len - valid);
		if (wrong == 0) {
			memcpy(repair->cut, piece.data, piece.len);
			repair->n_cut = (uint8_t)piece.len;
			break;
		}
		text_add_span(room, REPLACEMENT);
		piece = span_of(piece.data + wrong, piece.len - wrong);
	}
	return text_span(room);
}

struct span utf8_repair_end(struct utf8_repair *repair)
{
	bool was_cut = repair->n_cut > 0;

	repair->n_cut = 0;
	return was_cut ? REPLACEMENT : SPAN_EMPTY;
}
