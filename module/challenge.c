/* SPDX-License-Identifier: Apache-2.0 */
#include "challenge.h"

#include <pthread.h>
#include <sodium.h>
#include <string.h>
#include <sys/mman.h>

#define CHALLENGES 256

/* All zero, which is how a forked process finds it, it is an empty store with its lock open. */
struct store {
	pthread_mutex_t lock;
	size_t left;
	uint8_t bytes[CHALLENGES][BINDING_CHALLENGE_LEN];
};

static struct store *store;

void challenge_init(void)
{
	void *memory = mmap(NULL, sizeof(*store), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED)
		return;
	if (madvise(memory, sizeof(*store), MADV_WIPEONFORK) != 0) {
		munmap(memory, sizeof(*store));
		return;
	}
	/* Nothing that a core file should have; where it cannot be kept out, it is no key either. */
	madvise(memory, sizeof(*store), MADV_DONTDUMP);
	store = memory;
}

void challenge_take(uint8_t challenge[BINDING_CHALLENGE_LEN])
{
	if (!store) {
		randombytes_buf(challenge, BINDING_CHALLENGE_LEN);
		return;
	}
	pthread_mutex_lock(&store->lock);
	if (store->left == 0) {
		randombytes_buf(store->bytes, sizeof(store->bytes));
		store->left = CHALLENGES;
	}
	uint8_t *next = store->bytes[--store->left];
	memcpy(challenge, next, BINDING_CHALLENGE_LEN);
	sodium_memzero(next, BINDING_CHALLENGE_LEN);
	pthread_mutex_unlock(&store->lock);
}
