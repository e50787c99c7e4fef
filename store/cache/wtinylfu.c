/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Size-aware W-TinyLFU: Einziger, Eytan, Friedman & Manes, "Lightweight Robust
 * Size Aware Cache Management", ACM TOS 18(3), 2022, algorithms 1 and 4, with
 * its aggregated victims (AV): who leaves the window comes in if it is asked
 * for as often as all of those together that would have to go for it, which go
 * on as if they had been asked for where it does not.
 *
 * Window = list 1 (LRU, a hundredth of the bytes; what is larger passes it by);
 * main = SLRU of probation, list 2, and protected, list 3 (four fifths of
 * main).  Frequency: a count-min sketch of 4 rows with counters up to 15,
 * halved every 10 requests a counter of a row (Einziger & Friedman, "TinyLFU",
 * 2014).
 *
 * Nothing goes while all fits, so main may have what the window leaves.
 *
 * u[0] = requests since the halving; u[1] = the id that was let into main and
 * for which others go now; u[2] = the one that was not and goes next.
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

static uint64_t main_room(const struct ql_cache *c)
{
	return c->capacity - window_size(c);
}

static uint64_t main_bytes(const struct ql_cache *c)
{
	return c->lists[QL_LIST_2].bytes + c->lists[QL_LIST_3].bytes;
}

/* Main's, as an access does it. */
static void promote(struct ql_cache *c, uint32_t i)
{
	uint64_t most = main_room(c) - main_room(c) / 5;

	ql_list_move(c, i, QL_LIST_3);
	while (c->lists[QL_LIST_3].bytes > most)
		ql_list_move(c, c->lists[QL_LIST_3].tail, QL_LIST_2);
}

/* It is asked for again, or gone. */
static void forgive(struct ql_cache *c, uint32_t i)
{
	if (c->u[2] == c->e[i].id)
		c->u[2] = 0;
}

static void wt_hit(struct ql_cache *c, uint32_t i,
		   const struct ql_cache_request *req)
{
	(void)req;
	record(c, c->e[i].id);
	forgive(c, i);
	if (c->e[i].list == QL_LIST_1)
		ql_list_move(c, i, QL_LIST_1);
	else
		promote(c, i);
}

/* ---- from the window into main ---- */

/* Who leaves the window next; 0: nobody has to, or may. */
static uint32_t candidate(const struct ql_cache *c)
{
	uint32_t n = c->newest;

	if (c->lists[QL_LIST_1].bytes <= window_size(c))
		return 0;
	if (n && c->e[n].list == QL_LIST_1 && c->e[n].size > window_size(c) &&
	    !c->e[n].holds)
		return n;
	return ql_list_last_free(c, QL_LIST_1);
}

static bool has_room(const struct ql_cache *c, uint32_t i)
{
	return main_bytes(c) + c->e[i].size <= main_room(c);
}

/* Adds to the chain through kin_next what would have to go from main, in its
 * order, as long as `i` is worth it; true: it is worth all of them. */
static bool beats_victims(struct ql_cache *c, uint32_t i, uint32_t *ret_chain)
{
	uint64_t need = main_bytes(c) + c->e[i].size - main_room(c);
	uint32_t own = frequency(c, c->e[i].id);
	uint32_t sum = 0;
	uint64_t freed = 0;
	uint32_t *end = ret_chain;

	for (unsigned int list = QL_LIST_2; list <= QL_LIST_3; list++) {
		uint32_t v = c->lists[list].tail;

		for (; v && freed < need && sum <= own; v = c->e[v].prev) {
			if (c->e[v].holds)
				continue;
			sum += frequency(c, c->e[v].id);
			freed += c->e[v].size;
			*end = v;
			end = &c->e[v].kin_next;
		}
	}
	*end = 0;
	return freed >= need && sum <= own;
}

/* Into main, or u[2]. */
static void try_candidate(struct ql_cache *c, uint32_t i)
{
	uint32_t victims = 0;
	bool large = c->e[i].size > main_room(c);
	bool in = !large && beats_victims(c, i, &victims);

	while (victims) {
		uint32_t next = c->e[victims].kin_next;

		c->e[victims].kin_next = 0;
		if (!in)
			promote(c, victims);
		victims = next;
	}
	if (in) {
		ql_list_move(c, i, QL_LIST_2);
		c->u[1] = c->e[i].id;
	} else {
		c->u[2] = c->e[i].id;
	}
}

static void wt_enter(struct ql_cache *c, uint32_t i, uint8_t from,
		     const struct ql_cache_request *req)
{
	(void)from;
	(void)req;
	record(c, c->e[i].id);
	ql_list_push(c, i, QL_LIST_1);
	c->u[1] = 0;
	while ((i = candidate(c)) != 0 && has_room(c, i))
		ql_list_move(c, i, QL_LIST_2);
}

/* From main, but not what the room is made for; 0: nothing may go. */
static uint32_t main_victim(const struct ql_cache *c)
{
	for (unsigned int list = QL_LIST_2; list <= QL_LIST_3; list++) {
		uint32_t i = c->lists[list].tail;

		while (i && (c->e[i].holds || c->e[i].id == c->u[1]))
			i = c->e[i].prev;
		if (i)
			return i;
	}
	return 0;
}

static uint32_t refused(const struct ql_cache *c)
{
	uint32_t i = c->u[2] ? ql_cache_find(c, c->u[2]) : 0;

	return i && c->e[i].list == QL_LIST_1 && !c->e[i].holds ? i : 0;
}

static uint32_t wt_victim(struct ql_cache *c)
{
	uint32_t i = refused(c);

	while (!i && main_bytes(c) <= main_room(c)) {
		uint32_t next = candidate(c);

		if (!next)
			break;
		if (has_room(c, next))
			ql_list_move(c, next, QL_LIST_2);
		else
			try_candidate(c, next);
		i = refused(c);
	}
	if (!i)
		i = main_victim(c);
	if (!i)
		i = ql_list_last_free(c, QL_LIST_1);
	return i ? i : ql_list_last_free(c, QL_LIST_2);
}

static void wt_evict(struct ql_cache *c, uint32_t i, uint8_t from)
{
	(void)from;
	ql_cache_forget(c, i);
	if (main_bytes(c) <= main_room(c) || ql_cache_used(c) <= c->capacity)
		c->u[1] = 0;
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
	.leave = forgive,
	.evict = wt_evict,
	.save = wt_save,
	.load = wt_load,
	.memory = wt_memory,
};
