/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Size-aware W-TinyLFU: Einziger, Eytan, Friedman & Manes, "Lightweight Robust
 * Size Aware Cache Management", ACM TOS 18(3), 2022, with its aggregated
 * victims (AV): who leaves the window comes in if it is asked for more often
 * than all of those together that would have to go for it.
 *
 * Window = list 1 (LRU, a hundredth of the bytes); main = SLRU of probation,
 * list 2, and protected, list 3 (four fifths of main).  Frequency: a count-min
 * sketch of 4 rows with counters up to 15, halved every 10 requests a counter
 * of a row (Einziger & Friedman, "TinyLFU", 2014).
 *
 * u[0] = requests since the halving; u[1] = the id that was refused.
 */
#include "store/cache/cache-private.h"

#include <errno.h>
#include <string.h>

enum { ROWS = 4, COUNTER_MAX = 15, SAMPLE = 10, LEAST = 1 << 10 };

struct sketch {
	uint32_t width; /* of a row: a power of two */
	uint8_t *cells; /* owned */
};

static uint32_t cell(const struct sketch *s, uint64_t id, uint32_t row)
{
	uint64_t h = (id + row * 0x9e3779b97f4a7c15U) * 0xbf58476d1ce4e5b9U;

	h = (h ^ (h >> 29)) * 0x94d049bb133111ebU;
	return row * s->width + (uint32_t)((h >> 32) & (s->width - 1));
}

static uint32_t frequency(const struct ql_cache *c, uint64_t id)
{
	const struct sketch *s = c->state;
	uint32_t least = COUNTER_MAX;

	for (uint32_t row = 0; row < ROWS; row++) {
		uint32_t n = s->cells[cell(s, id, row)];

		least = n < least ? n : least;
	}
	return least;
}

static void record(struct ql_cache *c, uint64_t id)
{
	struct sketch *s = c->state;
	uint32_t least = frequency(c, id);

	for (uint32_t row = 0; row < ROWS; row++) {
		uint8_t *n = &s->cells[cell(s, id, row)];

		if (*n == least && *n < COUNTER_MAX)
			(*n)++;
	}
	if (++c->u[0] < (uint64_t)SAMPLE * s->width)
		return;
	c->u[0] /= 2;
	for (size_t i = 0; i < (size_t)s->width * ROWS; i++)
		s->cells[i] /= 2;
}

static int wt_init(struct ql_cache *c)
{
	struct sketch *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	s->width = LEAST;
	s->cells = calloc(ROWS, s->width);
	if (!s->cells) {
		free(s);
		return -ENOMEM;
	}
	c->state = s;
	return 0;
}

static void wt_release(struct ql_cache *c)
{
	struct sketch *s = c->state;

	if (s)
		free(s->cells);
	free(s);
}

/* Twice as wide where more objects are here; what was a cell's is then both
 * of those that it became. */
static int wt_prepare(struct ql_cache *c)
{
	struct sketch *s = c->state;
	uint32_t half = s->width;
	uint8_t *cells;

	if (ql_cache_here(c) < half || half >= 1U << 26)
		return 0;
	cells = malloc((size_t)half * 2 * ROWS);
	if (!cells)
		return -ENOMEM;
	for (uint32_t row = 0; row < ROWS; row++) {
		uint8_t *to = cells + (size_t)row * 2 * half;

		memcpy(to, s->cells + (size_t)row * half, half);
		memcpy(to + half, s->cells + (size_t)row * half, half);
	}
	free(s->cells);
	s->cells = cells;
	s->width = 2 * half;
	return 0;
}

static uint64_t window_size(const struct ql_cache *c)
{
	return c->capacity / 100;
}

static void shrink_protected(struct ql_cache *c)
{
	uint64_t most = (c->capacity - window_size(c)) / 5 * 4;

	while (c->lists[QL_LIST_3].bytes > most && c->lists[QL_LIST_3].n > 1)
		ql_list_move(c, c->lists[QL_LIST_3].tail, QL_LIST_2);
}

static void wt_hit(struct ql_cache *c, uint32_t i,
		   const struct ql_cache_request *req)
{
	(void)req;
	record(c, c->e[i].id);
	if (c->e[i].list == QL_LIST_1) {
		ql_list_move(c, i, QL_LIST_1);
		return;
	}
	ql_list_move(c, i, QL_LIST_3);
	shrink_protected(c);
}

/* What would have to go from main for `need` bytes, in its order; false where
 * they are together worth as much as the candidate. */
static bool beats_victims(const struct ql_cache *c, uint32_t i, uint64_t need)
{
	uint32_t own = frequency(c, c->e[i].id);
	uint32_t sum = 0;
	uint64_t freed = 0;

	for (unsigned int list = QL_LIST_2; list <= QL_LIST_3; list++) {
		uint32_t v = c->lists[list].tail;

		for (; v && freed < need; v = c->e[v].prev) {
			if (c->e[v].holds)
				continue;
			sum += frequency(c, c->e[v].id);
			freed += c->e[v].size;
			if (sum >= own)
				return false;
		}
	}
	return freed >= need;
}

/* Who leaves the window goes into main, or is refused. */
static bool leave_window(struct ql_cache *c, uint32_t i)
{
	uint64_t room = c->capacity - window_size(c);
	uint64_t have = c->lists[QL_LIST_2].bytes + c->lists[QL_LIST_3].bytes;
	uint64_t size = c->e[i].size;

	if (have + size > room &&
	    (size > room || !beats_victims(c, i, have + size - room)))
		return false;
	ql_list_move(c, i, QL_LIST_2);
	return true;
}

static void wt_enter(struct ql_cache *c, uint32_t i, uint8_t from,
		     const struct ql_cache_request *req)
{
	(void)from;
	(void)req;
	record(c, c->e[i].id);
	ql_list_push(c, i, QL_LIST_1);
}

static uint32_t wt_victim(struct ql_cache *c)
{
	uint32_t i;

	while (c->lists[QL_LIST_1].bytes > window_size(c)) {
		i = ql_list_last_free(c, QL_LIST_1);
		if (!i)
			break;
		if (!leave_window(c, i))
			return i;
	}
	for (unsigned int list = QL_LIST_2; list <= QL_LIST_3; list++) {
		i = ql_list_last_free(c, (uint8_t)list);
		if (i)
			return i;
	}
	return ql_list_last_free(c, QL_LIST_1);
}

static void wt_evict(struct ql_cache *c, uint32_t i, uint8_t from)
{
	(void)from;
	ql_cache_forget(c, i);
}

static int wt_save(const struct ql_cache *c, struct ql_buf *buf)
{
	const struct sketch *s = c->state;
	int r = ql_buf_add_le32(buf, s->width);

	return r < 0 ? r : ql_buf_add(buf, s->cells, (size_t)s->width * ROWS);
}

static int wt_load(struct ql_cache *c, struct ql_cursor *in)
{
	struct sketch *s = c->state;
	uint32_t width = ql_cursor_le32(in);
	const uint8_t *from;
	uint8_t *cells;

	if (width < LEAST || width > 1U << 26 || (width & (width - 1)))
		return -EBADMSG;
	from = ql_cursor_bytes(in, (size_t)width * ROWS);
	if (!from)
		return -EBADMSG;
	cells = malloc((size_t)width * ROWS);
	if (!cells)
		return -ENOMEM;
	memcpy(cells, from, (size_t)width * ROWS);
	free(s->cells);
	s->cells = cells;
	s->width = width;
	return 0;
}

static size_t wt_memory(const struct ql_cache *c)
{
	const struct sketch *s = c->state;

	return sizeof(*s) + (size_t)s->width * ROWS;
}

const struct ql_cache_policy ql_cache_wtinylfu = {
	.name = "wtinylfu",
	.source = "Einziger et al., ACM TOS 18(3), 2022, aggregated victims",
	.init = wt_init,
	.release = wt_release,
	.prepare = wt_prepare,
	.hit = wt_hit,
	.enter = wt_enter,
	.victim = wt_victim,
	.evict = wt_evict,
	.save = wt_save,
	.load = wt_load,
	.memory = wt_memory,
};
