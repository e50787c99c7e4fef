/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Our own policy, whole and with each part off, against what ours.c says of
 * itself, written down plainly (cachemodel.h): every order is found by looking
 * at all there is.
 *
 * A layer's key is computed where ours.c says that it is: what is decided
 * depends on that, since keys stand still between.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include <math.h>

#include "tests/unit/cachemodel.h"

enum { FEWER = 100, FAMILIES = 2500 };
enum { MISSED = 8, AT_ONCE = 64 };
enum place { NOWHERE, HERE, GHOST };

struct parts {
	bool families, stacks, costs, ghosts;
};

struct ours {
	struct parts parts;
	/* Of layers. */
	enum place place[IDS];
	float rate[IDS];
	uint64_t when[IDS], stamp[IDS];
	uint64_t family[IDS], seen[IDS]; /* its pulls when it was asked for */
	uint64_t base[IDS];
	bool shared[IDS];
	/* Of families. */
	bool known[FAMILIES];
	float family_rate[FAMILIES];
	uint64_t family_when[FAMILIES], family_stamp[FAMILIES];
	uint64_t pulls[FAMILIES];
	double hits[MISSED], trials[MISSED];
	uint64_t last; /* family that was pulled */
	uint64_t hand; /* layer */
	uint64_t stamps;
};

static struct ours *of(const struct model *m)
{
	return m->own;
}

/* ---- looking at all ---- */

/* Of a place, the next newer; 0 begins with the oldest and ends it. */
static uint64_t newer(const struct model *m, enum place place, uint64_t id)
{
	const struct ours *o = of(m);
	uint64_t best = 0;

	for (uint64_t i = 1; i <= m->top; i++)
		if (o->place[i] == place &&
		    (!id || o->stamp[i] > o->stamp[id]) &&
		    (!best || o->stamp[i] < o->stamp[best]))
			best = i;
	return best;
}

static uint64_t count_at(const struct model *m, enum place place)
{
	uint64_t n = 0;

	for (uint64_t i = 1; i <= m->top; i++)
		n += of(m)->place[i] == place;
	return n;
}

static bool is_base(const struct model *m, uint64_t id)
{
	for (uint64_t i = 1; i <= m->top; i++)
		if (of(m)->place[i] == HERE && of(m)->base[i] == id)
			return true;
	return false;
}

/* The latest members of a family, at most as many as are looked at at once. */
static size_t members(const struct model *m, uint64_t f, uint64_t ret[AT_ONCE])
{
	const struct ours *o = of(m);
	uint64_t before = UINT64_MAX;
	size_t n = 0;

	while (f && n < AT_ONCE) {
		uint64_t best = 0;

		for (uint64_t i = 1; i <= m->top; i++)
			if (o->family[i] == f && o->stamp[i] < before &&
			    (!best || o->stamp[i] > o->stamp[best]))
				best = i;
		if (!best)
			break;
		ret[n++] = best;
		before = o->stamp[best];
	}
	return n;
}

/* ---- what it is worth ---- */

static double fade(const struct model *m, float rate, uint64_t when)
{
	return rate * exp2(-(double)(m->clock - when) / 8000);
}

static size_t missed(const struct ours *o, uint64_t id, bool under_way)
{
	uint64_t n = o->pulls[o->family[id]] - o->seen[id];

	if (under_way && n > 0)
		n--;
	return n < MISSED ? n : MISSED - 1;
}

static double worth(const struct model *m, uint64_t id)
{
	const struct ours *o = of(m);
	uint64_t f = o->family[id];
	double v = fade(m, o->rate[id], o->when[id]) / 8000;

	if (f && o->parts.families) {
		size_t n = missed(o, id, f == o->last);
		double w = fade(m, o->family_rate[f], o->family_when[f]) /
			   8000 * o->hits[n] / o->trials[n];

		v = !o->shared[id] ? (v + w) / 2 : w > v ? w : v;
	}
	if (o->parts.costs)
		v *= ((double)m->cost[id] + 1) / (double)m->size[id];
	return v;
}

static void value(struct model *m, uint64_t id)
{
	if (of(m)->place[id] == HERE && !m->holds[id] && !is_base(m, id))
		m->key[id] =
			log2(worth(m, id) + 1e-30) + (double)m->clock / 10000;
}

static void value_members(struct model *m, uint64_t f)
{
	uint64_t ids[AT_ONCE];
	size_t n = members(m, f, ids);

	for (size_t i = 0; i < n; i++)
		value(m, ids[i]);
}

/* ---- requests ---- */

static void begin_pull(struct model *m, uint64_t f)
{
	struct ours *o = of(m);
	uint64_t last = o->last;
	uint64_t ids[AT_ONCE];
	size_t n;

	o->last = f;
	o->pulls[f]++;
	o->family_rate[f] =
		(float)(fade(m, o->family_rate[f], o->family_when[f]) + 1);
	o->family_when[f] = m->clock;
	o->family_stamp[f] = ++o->stamps;
	n = members(m, f, ids);
	for (size_t i = 0; i < n; i++) {
		size_t k = missed(o, ids[i], true);

		if (++o->trials[k] > 2000) {
			o->trials[k] /= 2;
			o->hits[k] /= 2;
		}
	}
	value_members(m, f);
	if (last != f && o->known[last])
		value_members(m, last);
}

static uint64_t find_family(struct model *m, uint64_t f, bool make)
{
	struct ours *o = of(m);

	if (f && !o->known[f] && make) {
		o->known[f] = true;
		o->family_rate[f] = 0;
		o->pulls[f] = 0;
		o->family_stamp[f] = ++o->stamps;
	}
	return o->known[f] ? f : 0;
}

static void ask(struct model *m, uint64_t id, uint64_t f)
{
	struct ours *o = of(m);

	if (o->family[id] && o->family[id] != f)
		o->shared[id] = true;
	else if (f && o->family[id] && o->pulls[f] > o->seen[id])
		o->hits[missed(o, id, true)]++;
	o->rate[id] = (float)(fade(m, o->rate[id], o->when[id]) + 1);
	o->when[id] = m->clock;
}

static void look_on(struct model *m)
{
	struct ours *o = of(m);
	uint64_t id = o->place[o->hand] == HERE && o->hand
			      ? newer(m, HERE, o->hand)
			      : 0;

	o->hand = id ? id : newer(m, HERE, 0);
	value(m, o->hand);
}

static void use(struct model *m, const struct ql_cache_request *req)
{
	struct ours *o = of(m);
	uint64_t id = req->id;
	bool asked = !(req->flags & QL_CACHE_SCAN);
	uint64_t f = find_family(m, req->family, asked);

	if (f && asked && ((req->flags & QL_CACHE_START) || !o->pulls[f]))
		begin_pull(m, f);
	if (asked)
		ask(m, id, f);
	if (asked || !o->family[id]) {
		o->family[id] = f;
		o->seen[id] = f ? o->pulls[f] : o->seen[id];
	}
	o->place[id] = HERE;
	o->stamp[id] = ++o->stamps;
	value(m, id);
	look_on(m);
}

static void ours_come(struct model *m, const struct ql_cache_request *req)
{
	struct ours *o = of(m);

	if (o->parts.stacks && req->parent != req->id &&
	    o->place[req->parent] == HERE && req->parent)
		o->base[req->id] = req->parent;
	use(m, req);
}

static uint64_t ours_victim(struct model *m)
{
	const struct ours *o = of(m);
	uint64_t best = 0;

	for (uint64_t i = 1; i <= m->top; i++) {
		if (o->place[i] != HERE || m->holds[i] ||
		    (best && m->key[i] > m->key[best]) || is_base(m, i))
			continue;
		if (!best || m->key[i] < m->key[best] ||
		    o->stamp[i] < o->stamp[best])
			best = i;
	}
	return best;
}

/* ---- departures ---- */

static void forget(struct model *m, uint64_t id)
{
	struct ours *o = of(m);

	o->place[id] = NOWHERE;
	o->rate[id] = 0;
	o->family[id] = o->seen[id] = 0;
	o->shared[id] = false;
}

static void leave(struct model *m, uint64_t id)
{
	struct ours *o = of(m);
	uint64_t base = o->base[id];

	for (uint64_t i = 1; i <= m->top; i++)
		if (o->base[i] == id)
			o->base[i] = 0;
	o->base[id] = 0;
	if (base && !is_base(m, base))
		value(m, base);
	o->place[id] = NOWHERE;
}

static uint64_t oldest_family(const struct ours *o)
{
	uint64_t best = 0;

	for (uint64_t f = 1; f < FAMILIES; f++)
		if (o->known[f] &&
		    (!best || o->family_stamp[f] < o->family_stamp[best]))
			best = f;
	return best;
}

static uint64_t count_families(const struct ours *o)
{
	uint64_t n = 0;

	for (uint64_t f = 1; f < FAMILIES; f++)
		n += o->known[f];
	return n;
}

static void ours_evict(struct model *m, uint64_t id)
{
	struct ours *o = of(m);
	uint64_t most;
	uint64_t ids[AT_ONCE];

	leave(m, id);
	most = 4 * count_at(m, HERE) + 1024;
	if (o->parts.ghosts) {
		o->place[id] = GHOST;
		o->stamp[id] = ++o->stamps;
	} else {
		forget(m, id);
	}
	for (int n = 0; n < 2 && count_at(m, GHOST) > most; n++)
		forget(m, newer(m, GHOST, 0));
	for (int n = 0; n < 2 && count_families(o) > most; n++) {
		uint64_t f = oldest_family(o);

		if (members(m, f, ids) > 0)
			o->family_stamp[f] = ++o->stamps;
		else
			o->known[f] = false;
	}
}

static void ours_removed(struct model *m, uint64_t id)
{
	leave(m, id);
	forget(m, id);
}

static void ours_remembered(const struct model *m, uint64_t *n, uint64_t *bytes)
{
	*n = count_at(m, GHOST) + count_families(of(m));
	for (uint64_t i = 1; i <= m->top; i++)
		*bytes += of(m)->place[i] == GHOST ? m->size[i] : 0;
}

static bool ours_close(const struct model *m, uint64_t a, uint64_t b)
{
	double off = m->key[a] - m->key[b];

	return off != 0 && off < 1e-9 && off > -1e-9 && m->here[a] &&
	       !m->holds[a] && !is_base(m, a);
}

/* ---- against store/cache/ ---- */

static const struct trace wide[] = {
	/* More ghosts than are kept. */
	{ .seed = 1001,
	  .rng = 1001,
	  .objects = 2500,
	  .families = 9,
	  .steps = 5000,
	  .largest = 50,
	  .capacity = 1500,
	  .skew = 1,
	  .pulls = 3 },
	/* Many pulls: what is learned is halved. */
	{ .seed = 1002,
	  .rng = 1002,
	  .objects = 90,
	  .families = 3,
	  .steps = 6000,
	  .largest = 50,
	  .capacity = 900,
	  .skew = 2,
	  .pulls = 3 },
	/* Families without number. */
	{ .seed = 1003,
	  .rng = 1003,
	  .objects = 3000,
	  .families = 2400,
	  .steps = 3000,
	  .largest = 2,
	  .capacity = 60,
	  .skew = 1,
	  .pulls = 3 },
	/* Of more layers than are looked at at once, and few pulls. */
	{ .seed = 1004,
	  .rng = 1004,
	  .objects = 400,
	  .families = 2,
	  .steps = 6000,
	  .largest = 50,
	  .capacity = 900,
	  .skew = 2,
	  .pulls = 40 },
};

static void play(const char *name, const struct parts *parts, struct trace t)
{
	struct model_policy policy = {
		.name = name,
		.hit = use,
		.come = ours_come,
		.victim = ours_victim,
		.evict = ours_evict,
		.removed = ours_removed,
		.released = value,
		.remembered = ours_remembered,
		.close = ours_close,
	};
	_cleanup_free_ struct ours *o = calloc(1, sizeof(*o));

	assert_non_null(o);
	o->parts = *parts;
	/* A guess to begin with. */
	for (int n = 0; n < MISSED; n++) {
		o->trials[n] = 4;
		o->hits[n] = n == 0 ? 3 : 2.0 / (n + 1);
	}
	pair_play(&policy, &t, o);
}

static void whole(void **state)
{
	static const struct parts all = { true, true, true, true };

	(void)state;
	for (uint64_t seed = 1; seed <= SEEDS; seed++)
		play("ours", &all, trace_small(seed));
}

static void whole_and_wide(void **state)
{
	static const struct parts all = { true, true, true, true };

	(void)state;
	for (size_t i = 0; i < sizeof(wide) / sizeof(wide[0]); i++)
		play("ours", &all, wide[i]);
}

static void each_part_off(void **state)
{
	static const struct {
		const char *name;
		struct parts parts;
	} variants[] = {
		{ "ours-nofamily", { false, true, true, true } },
		{ "ours-nostack", { true, false, true, true } },
		{ "ours-nocost", { true, true, false, true } },
		{ "ours-noghosts", { true, true, true, false } },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(variants) / sizeof(variants[0]); i++)
		for (uint64_t seed = 1; seed <= FEWER; seed++)
			play(variants[i].name, &variants[i].parts,
			     trace_small(seed));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(whole),
		cmocka_unit_test(whole_and_wide),
		cmocka_unit_test(each_part_off),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
