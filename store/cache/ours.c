/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ours: the improved ARC.  In ARC's notation (Megiddo & Modha, FAST'03, fig.
 * 4), with sizes and stacks:
 *
 *	T   layers here, ARC's T1 and T2                     list 1
 *	B   layers that went, with what is known of them     ghosts 1
 *	F   families (repositories) and their pulls          ghosts 2
 *
 *	hit, or miss in B:  rate(x) += 1;  x to the head of T
 *	miss elsewhere:     rate(x) = 1;   x to the head of T
 *	first of a pull of f:  rate(f) += 1; all of f's layers are valued anew
 *	REPLACE:  of T, the lowest
 *	              cost(x) / |x| * (rate(x) + rate(f) * P(missed)) / 2
 *	          of those that nothing here stands on; to B
 *
 * Departures, and where they are from:
 *
 *  - Instead of p, which shares the bytes between recency (T1) and frequency
 *    (T2), each layer has a rate: requests, of which one counts half after
 *    HALF others (LRFU's combined recency and frequency, Lee et al., IEEE ToC
 *    50(12), 2001).  ARC's p in bytes hardly moves by a step of one, and where
 *    it moves by sizes it swings with every large layer.
 *  - B is as long as a multiple of what is here in number, not in bytes: a
 *    ghost costs no disk, and rates are worth keeping.
 *  - Cost: bytes over the bandwidth of the cheapest holder, by size, as GDSF
 *    has it (Cherkasova, 1998).
 *  - Family: which versions of an image are alive is not seen in one layer's
 *    requests.  P(missed) is learned with every pull: of layers that their
 *    family's last `missed` pulls did without, how many the next one asked
 *    for.  A layer of several families counts what is the most.
 *  - Stack: only leaves of what is here are in the heap, so that a base
 *    outlives what stands on it.
 *  - Background fills count for nothing and enter with the value that their
 *    family gives them, the lowest where nobody pulls it.
 */
#include "store/cache/cache-private.h"

#include <errno.h>
#include <math.h>
#include <string.h>

enum {
	FAMILIES = QL_LIST_GHOST_2,
	GHOSTS = QL_LIST_GHOST_1,
	MISSED = 8, /* pulls; more are the same */
	/* Ghosts and families for each layer here, and at least. */
	REMEMBER = 4,
	REMEMBER_LEAST = 1024,
	KIN_MAX = 64, /* layers that a pull values anew at once */
	FORGET = 2,   /* at most, for each that goes */
};
enum { FAMILY = 1, STACK = 2, COST = 4, MEMORY = 8, ALL = 15 };

static const double HALF = 8000;      /* requests of layers, as above */
static const double FRAME = 10000;    /* in which keys fade */
static const double LEARN_MAX = 2000; /* trials, then both are halved */

struct ours {
	double hits[MISSED];
	double trials[MISSED];
};

static int ours_init(struct ql_cache *c)
{
	struct ours *o = calloc(1, sizeof(*o));

	if (!o)
		return -ENOMEM;
	/* A guess that a few observations move. */
	for (int m = 0; m < MISSED; m++) {
		o->trials[m] = 4;
		o->hits[m] = m == 0 ? 3 : 2.0 / (m + 1);
	}
	c->state = o;
	return 0;
}

static void ours_release(struct ql_cache *c)
{
	free(c->state);
}

static bool has(const struct ql_cache *c, unsigned int part)
{
	return (c->policy->parts & part) != 0;
}

/* ---- rates ---- */

static double faded(const struct ql_cache *c, uint32_t i)
{
	const struct ql_cache_entry *e = &c->e[i];

	return e->rate * exp2(-(double)(c->clock - e->when) / HALF);
}

static void count_use(struct ql_cache *c, uint32_t i)
{
	c->e[i].rate = (float)(faded(c, i) + 1);
	c->e[i].when = c->clock;
	ql_cache_changed(c, i);
}

/* Expected requests a request. */
static double rate(const struct ql_cache *c, uint32_t i)
{
	return faded(c, i) / HALF;
}

/* ---- families ---- */

static void kin_take(struct ql_cache *c, uint32_t i)
{
	struct ql_cache_entry *e = &c->e[i];

	if (!e->kin)
		return;
	if (e->kin_prev)
		c->e[e->kin_prev].kin_next = e->kin_next;
	else
		c->e[e->kin].kin_next = e->kin_next;
	if (e->kin_next)
		c->e[e->kin_next].kin_prev = e->kin_prev;
	c->e[e->kin].children--;
	e->kin = e->kin_prev = e->kin_next = 0;
}

/* A family's kin_next is the first of its members; these are in the order of
 * their stamps, as they are when they are loaded. */
static void kin_push(struct ql_cache *c, uint32_t i, uint32_t f)
{
	struct ql_cache_entry *e = &c->e[i];

	e->kin = f;
	e->kin_next = c->e[f].kin_next;
	if (e->kin_next)
		c->e[e->kin_next].kin_prev = i;
	c->e[f].kin_next = i;
	c->e[f].children++;
}

static void kin_again(struct ql_cache *c, uint32_t i)
{
	uint32_t f = c->e[i].kin;

	kin_take(c, i);
	if (f)
		kin_push(c, i, f);
}

/* Its pulls since the one that last asked for the layer; one that is under way
 * has not missed it yet. */
static uint32_t missed(const struct ql_cache *c, uint32_t i, bool under_way)
{
	uint32_t pulls = c->e[c->e[i].kin].count - c->e[i].count;

	if (under_way && pulls > 0)
		pulls--;
	return pulls < MISSED ? pulls : MISSED - 1;
}

/* A pull of the family begins: will it ask for what it knows? */
static void try_kin(struct ql_cache *c, uint32_t f)
{
	struct ours *o = c->state;
	uint32_t i = c->e[f].kin_next;

	for (int n = 0; i && n < KIN_MAX; i = c->e[i].kin_next, n++) {
		uint32_t m = missed(c, i, true);

		o->trials[m]++;
		if (o->trials[m] > LEARN_MAX) {
			o->trials[m] /= 2;
			o->hits[m] /= 2;
		}
	}
}

/* It does; once a pull. */
static void learn_hit(struct ql_cache *c, uint32_t i)
{
	const struct ql_cache_entry *e = &c->e[i];
	struct ours *o = c->state;

	if (c->e[e->kin].count > e->count)
		o->hits[missed(c, i, true)]++;
}

/* ---- values ---- */

enum { SHARED = 1 }; /* in mark: by families */

/* What a family's pulls say; 0: it has none. */
static double family_rate(const struct ql_cache *c, uint32_t i)
{
	const struct ours *o = c->state;
	uint32_t f = c->e[i].kin;
	/* u[1]: the family whose pull began last. */
	uint32_t m = missed(c, i, c->e[f].id == c->u[1]);

	return rate(c, f) * o->hits[m] / o->trials[m];
}

static double value(const struct ql_cache *c, uint32_t i)
{
	const struct ql_cache_entry *e = &c->e[i];
	double v = rate(c, i);

	if (e->kin && has(c, FAMILY)) {
		double w = family_rate(c, i);

		if (!(e->mark & SHARED))
			v = (v + w) / 2;
		else if (w > v)
			v = w;
	}
	if (has(c, COST) && e->size)
		v *= ((double)e->cost + 1) / (double)e->size;
	return v;
}

/* Values fade; in logarithms, and in a frame that fades too, they nearly stand
 * still, so that those of others need not be touched. */
static void rekey(struct ql_cache *c, uint32_t i)
{
	struct ql_cache_entry *e = &c->e[i];

	/* What may not go needs no key: ours_held() gives it one in time. */
	if (e->holds || (e->children && has(c, STACK))) {
		ql_heap_take(c, i);
		return;
	}
	ql_heap_set(c, i, log2(value(c, i) + 1e-30) + (double)c->clock / FRAME);
	ql_cache_changed(c, i);
}

/* The hand goes over what is here, so that what nobody asks for fades too. */
static void refresh(struct ql_cache *c)
{
	uint32_t i = c->u[0] ? ql_cache_find(c, c->u[0]) : 0;

	i = i && ql_list_is_here(c->e[i].list) ? c->e[i].prev : 0;
	if (!i)
		i = c->lists[QL_LIST_1].tail;
	c->u[0] = c->e[i].id;
	if (i)
		rekey(c, i);
}

/* ---- requests ---- */

static uint32_t family(struct ql_cache *c, uint64_t name, bool make)
{
	/* Not a layer's id, even if somebody names both alike. */
	uint64_t id = (name ^ 0x66616d696c69U) * 0x9e3779b97f4a7c15U;
	uint32_t f;

	id = id ? id : 1;
	f = ql_cache_find(c, id);
	if (f && c->e[f].list != FAMILIES)
		return 0;
	if (!f && make) {
		f = ql_cache_add(c, id);
		c->e[f].when = c->clock;
		ql_list_push(c, f, FAMILIES);
	}
	return f;
}

static void rekey_kin(struct ql_cache *c, uint32_t f)
{
	uint32_t i = c->e[f].kin_next;

	for (int n = 0; i && n < KIN_MAX; i = c->e[i].kin_next, n++)
		if (ql_list_is_here(c->e[i].list))
			rekey(c, i);
}

/* Which also ends the one before: what that did without is known now. */
static void begin_pull(struct ql_cache *c, uint32_t f)
{
	uint32_t last = c->u[1] ? ql_cache_find(c, c->u[1]) : 0;

	c->u[1] = c->e[f].id;
	c->e[f].count++;
	count_use(c, f);
	ql_list_move(c, f, FAMILIES);
	try_kin(c, f);
	rekey_kin(c, f);
	if (last && last != f && c->e[last].list == FAMILIES)
		rekey_kin(c, last);
}

static void join_family(struct ql_cache *c, uint32_t i, uint32_t f)
{
	struct ql_cache_entry *e = &c->e[i];

	kin_take(c, i);
	if (!f)
		return;
	kin_push(c, i, f);
	e->count = c->e[f].count;
}

/* i is in no list. */
static void use(struct ql_cache *c, uint32_t i, uint8_t from,
		const struct ql_cache_request *req)
{
	bool asked = !(req->flags & QL_CACHE_SCAN);
	uint32_t f = req->family ? family(c, req->family, asked) : 0;
	struct ql_cache_entry *e = &c->e[i];

	(void)from;
	if (f && asked && ((req->flags & QL_CACHE_START) || !c->e[f].count))
		begin_pull(c, f);
	if (asked) {
		if (e->kin && e->kin == f)
			learn_hit(c, i);
		else if (e->kin)
			e->mark |= SHARED;
		count_use(c, i);
	}
	if (asked || !e->kin) {
		e->family = f ? c->e[f].id : 0;
		join_family(c, i, f);
	}
	ql_list_push(c, i, QL_LIST_1);
	if (!asked)
		kin_again(c, i);
	rekey(c, i);
	refresh(c);
}

static void ours_hit(struct ql_cache *c, uint32_t i,
		     const struct ql_cache_request *req)
{
	uint8_t from = c->e[i].list;

	ql_list_take(c, i);
	use(c, i, from, req);
}

static uint32_t ours_victim(struct ql_cache *c)
{
	return ql_heap_first_free(c);
}

/* ---- what is remembered ---- */

static void forget_families(struct ql_cache *c, uint32_t most)
{
	for (int n = 0; n < FORGET && c->lists[FAMILIES].n > most; n++) {
		uint32_t f = c->lists[FAMILIES].tail;

		if (c->e[f].children) {
			ql_list_move(c, f, FAMILIES);
			continue;
		}
		ql_list_take(c, f);
		ql_cache_forget(c, f);
	}
}

static void ours_evict(struct ql_cache *c, uint32_t i, uint8_t from)
{
	uint32_t most = REMEMBER * ql_cache_here(c) + REMEMBER_LEAST;

	(void)from;
	if (!has(c, MEMORY)) {
		ql_cache_forget(c, i);
	} else {
		ql_list_push(c, i, GHOSTS);
		kin_again(c, i);
		for (int n = 0; n < FORGET && c->lists[GHOSTS].n > most; n++) {
			uint32_t last = c->lists[GHOSTS].tail;

			ql_list_take(c, last);
			ql_cache_forget(c, last);
		}
	}
	forget_families(c, most);
}

static void ours_forget(struct ql_cache *c, uint32_t i)
{
	kin_take(c, i);
}

static void ours_held(struct ql_cache *c, uint32_t i)
{
	if (ql_list_is_here(c->e[i].list))
		rekey(c, i);
}

/* ---- state ---- */

static int add_double(struct ql_buf *buf, double v)
{
	uint64_t bits;

	memcpy(&bits, &v, sizeof(bits));
	return ql_buf_add_le64(buf, bits);
}

static int ours_save(const struct ql_cache *c, struct ql_buf *buf)
{
	const struct ours *o = c->state;
	int r = 0;

	for (int m = 0; r == 0 && m < MISSED; m++) {
		r = add_double(buf, o->hits[m]);
		if (r == 0)
			r = add_double(buf, o->trials[m]);
	}
	return r;
}

static int read_double(struct ql_cursor *in, double min, double *ret)
{
	uint64_t bits = ql_cursor_le64(in);

	memcpy(ret, &bits, sizeof(*ret));
	return *ret >= min && *ret <= 1e9 ? 0 : -EBADMSG;
}

static int ours_load(struct ql_cache *c, struct ql_cursor *in)
{
	struct ours *o = c->state;
	int r = 0;

	for (int m = 0; r == 0 && m < MISSED; m++) {
		r = read_double(in, 0, &o->hits[m]);
		if (r == 0)
			r = read_double(in, 0.5, &o->trials[m]);
	}
	return r;
}

/* Of layers in the order of their stamps, when all are there. */
static void ours_loaded(struct ql_cache *c, uint32_t i)
{
	uint32_t f = c->e[i].family ? ql_cache_find(c, c->e[i].family) : 0;

	if (f && f != i && c->e[f].list == FAMILIES &&
	    c->e[i].list != FAMILIES && c->e[f].count >= c->e[i].count)
		kin_push(c, i, f);
}

#define OURS(its_name, its_parts, what)                                        \
	{                                                                      \
		.name = (its_name), .source = (what), .parts = (its_parts),    \
		.part = (its_parts) != ALL, .heap = true,                      \
		.stacks = ((its_parts)&STACK) != 0, .init = ours_init,         \
		.release = ours_release, .hit = ours_hit, .enter = use,        \
		.victim = ours_victim, .evict = ours_evict,                    \
		.forget = ours_forget, .held = ours_held, .save = ours_save,   \
		.load = ours_load, .loaded = ours_loaded,                      \
	}

const struct ql_cache_policy ql_cache_ours[] = {
	OURS("ours", ALL, "ARC with rates, costs, families and stacks"),
	OURS("ours-nofamily", ALL & ~FAMILY, "without families"),
	OURS("ours-nostack", ALL & ~STACK, "bases may go before their leaves"),
	OURS("ours-nocost", ALL & ~COST, "all bytes cost the same"),
	OURS("ours-noghosts", ALL & ~MEMORY, "who goes is forgotten"),
	{ .name = NULL },
};
