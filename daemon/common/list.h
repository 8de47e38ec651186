/* SPDX-License-Identifier: Apache-2.0
 *
 * List: doubly linked, the nodes inside what is listed. A node that is in no
 * list points to itself, so that removing it twice does no harm.
 */
#ifndef HANDOFFD_LIST_H
#define HANDOFFD_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct list {
	struct list *previous;
	struct list *next;
};

#define LIST_ENTRY(node, type, member) ((type *)(void *)((char *)(node)-offsetof(type, member)))

static inline void list_init(struct list *list)
{
	list->previous = list;
	list->next = list;
}

static inline bool list_empty(const struct list *list)
{
	return list->next == list;
}

static inline void list_append(struct list *list, struct list *node)
{
	node->previous = list->previous;
	node->next = list;
	list->previous->next = node;
	list->previous = node;
}

/* All nodes of one list become another's, which is made by that. */
static inline void list_take(struct list *list, struct list *from)
{
	list_init(list);
	if (list_empty(from))
		return;
	*list = *from;
	list->next->previous = list;
	list->previous->next = list;
	list_init(from);
}

static inline void list_remove(struct list *node)
{
	/* The analyzer cannot see that a node which was taken out is never found again.
	 * NOLINTNEXTLINE(clang-analyzer-unix.Malloc) */
	node->previous->next = node->next;
	node->next->previous = node->previous;
	list_init(node);
}

#endif
