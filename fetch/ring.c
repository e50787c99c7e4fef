/* SPDX-License-Identifier: Apache-2.0 */
/* A ring of bytes of a fixed size; its user locks it. */
#include "fetch/fetch-private.h"

#include <errno.h>
#include <string.h>

int ql_ring_init(struct ql_ring *ring, size_t size)
{
	*ring = (struct ql_ring){ .data = malloc(size), .size = size };
	return ring->data ? 0 : -ENOMEM;
}

void ql_ring_release(struct ql_ring *ring)
{
	free(ring->data);
	*ring = (struct ql_ring){ 0 };
}

size_t ql_ring_room(const struct ql_ring *ring)
{
	return ring->size - ring->len;
}

void ql_ring_put(struct ql_ring *ring, const char *data, size_t len)
{
	size_t end = (ring->pos + ring->len) % ring->size;
	size_t first = ring->size - end;

	if (first > len)
		first = len;
	memcpy(ring->data + end, data, first);
	memcpy(ring->data, data + first, len - first);
	ring->len += len;
}

size_t ql_ring_get(struct ql_ring *ring, char *buf, size_t len)
{
	size_t n = len < ring->len ? len : ring->len;
	size_t first = ring->size - ring->pos;

	if (first > n)
		first = n;
	memcpy(buf, ring->data + ring->pos, first);
	memcpy(buf + first, ring->data, n - first);
	ring->pos = (ring->pos + n) % ring->size;
	ring->len -= n;
	if (ring->len == 0)
		ring->pos = 0; /* so that little of the memory is touched */
	return n;
}
