/* SPDX-License-Identifier: Apache-2.0 */
/*
 * State that outlives the process: a record for each entry, and a head.  All
 * integers little-endian; doubles and floats by their IEEE 754 bits.
 *
 *	record  id, size, cost, parent, family, stamp, when, key: 8 each
 *	        rate, count: 4 each
 *	        list, mark, stands (on its parent), 5 reserved (0)
 *	head    "QLC2", length and name of the policy (1, n)
 *	        capacity, stamp, clock, u[4], f[4]: 8 each
 *	        what the policy adds
 */
#include "store/cache/cache-private.h"

#include <errno.h>
#include <math.h>
#include <string.h>

static void put_le(uint8_t **p, uint64_t v, int bytes)
{
	for (int i = 0; i < bytes; i++)
		*(*p)++ = (uint8_t)(v >> (8 * i));
}

static uint64_t bits_of(double v)
{
	uint64_t bits;

	memcpy(&bits, &v, sizeof(bits));
	return bits;
}

static double double_of(uint64_t bits)
{
	double v;

	memcpy(&v, &bits, sizeof(v));
	return v;
}

static void write_record(const struct ql_cache_entry *e,
			 uint8_t record[QL_CACHE_RECORD])
{
	uint8_t *p = record;
	uint32_t rate;

	memset(record, 0, QL_CACHE_RECORD);
	put_le(&p, e->id, 8);
	put_le(&p, e->size, 8);
	put_le(&p, e->cost, 8);
	put_le(&p, e->parent, 8);
	put_le(&p, e->family, 8);
	put_le(&p, e->stamp, 8);
	put_le(&p, e->when, 8);
	put_le(&p, bits_of(e->key), 8);
	memcpy(&rate, &e->rate, sizeof(rate));
	put_le(&p, rate, 4);
	put_le(&p, e->count, 4);
	put_le(&p, e->list, 1);
	put_le(&p, e->mark, 1);
	put_le(&p, e->base != 0, 1);
}

/* ---- changes ---- */

static int begin_tracking(struct ql_cache *c)
{
	c->dirty = calloc(c->cap, sizeof(*c->dirty));
	if (!c->dirty)
		return -ENOMEM;
	c->tracking = true;
	return ql_cache_reserve(c, 4);
}

static int give_gone(struct ql_cache *c, ql_cache_record_fn *fn, void *arg)
{
	while (c->gone_n > 0) {
		uint64_t id = c->gone[c->gone_n - 1];
		/* It may have come back since; its record follows. */
		int r = fn(id, NULL, arg);

		if (r != 0)
			return r;
		c->gone_n--;
	}
	return 0;
}

int ql_cache_changes(struct ql_cache *c, ql_cache_record_fn *fn, void *arg)
{
	uint8_t record[QL_CACHE_RECORD];
	int r = 0;

	if (!c->tracking) {
		r = begin_tracking(c);
		for (uint32_t i = 1; r == 0 && i < c->used_slots; i++)
			if (c->e[i].id)
				ql_cache_changed(c, i);
	}
	if (r == 0)
		r = give_gone(c, fn, arg);
	while (r == 0 && c->dirty_n > 0) {
		struct ql_cache_entry *e = &c->e[c->dirty[c->dirty_n - 1]];

		if (e->id) {
			write_record(e, record);
			r = fn(e->id, record, arg);
			if (r != 0)
				break;
		}
		e->dirty = false;
		c->dirty_n--;
	}
	return r;
}

int ql_cache_head(const struct ql_cache *c, struct ql_buf *buf)
{
	size_t n = strlen(c->policy->name);
	int r = ql_buf_adds(buf, "QLC2");

	if (r == 0)
		r = ql_buf_add_u8(buf, (uint8_t)n);
	if (r == 0)
		r = ql_buf_add(buf, c->policy->name, n);
	if (r == 0)
		r = ql_buf_add_le64(buf, c->capacity);
	if (r == 0)
		r = ql_buf_add_le64(buf, c->stamp);
	if (r == 0)
		r = ql_buf_add_le64(buf, c->clock);
	for (int i = 0; r == 0 && i < 4; i++)
		r = ql_buf_add_le64(buf, c->u[i]);
	for (int i = 0; r == 0 && i < 4; i++)
		r = ql_buf_add_le64(buf, bits_of(c->f[i]));
	if (r == 0 && c->policy->save)
		r = c->policy->save(c, buf);
	return r;
}

/* ---- loading ---- */

static int bad(struct ql_error *err, const char *what)
{
	return ql_error_set(err, -EBADMSG, "cache state: %s", what);
}

static int check_name(struct ql_cursor *in,
		      const struct ql_cache_policy *policy,
		      struct ql_error *err)
{
	const uint8_t *magic = ql_cursor_bytes(in, 4);
	size_t n = ql_cursor_u8(in);
	const uint8_t *name = ql_cursor_bytes(in, n);

	if (!magic || !name || memcmp(magic, "QLC2", 4) != 0)
		return bad(err, "not a head of format 2");
	if (n != strlen(policy->name) || memcmp(name, policy->name, n) != 0)
		return bad(err, "it is of another policy");
	return 0;
}

int ql_cache_load_start(const struct ql_cache_policy *policy, const void *head,
			size_t len, struct ql_cache **ret_cache,
			struct ql_error *err)
{
	_cleanup_(ql_cache_freep) struct ql_cache *c = NULL;
	struct ql_cursor in;
	int r;

	ql_cursor_init(&in, head, len);
	r = check_name(&in, policy, err);
	if (r == 0)
		r = ql_cache_new(policy, ql_cursor_le64(&in), &c, err);
	if (r < 0)
		return r;
	c->stamp = ql_cursor_le64(&in);
	c->clock = ql_cursor_le64(&in);
	for (int i = 0; i < 4; i++)
		c->u[i] = ql_cursor_le64(&in);
	for (int i = 0; i < 4; i++) {
		c->f[i] = double_of(ql_cursor_le64(&in));
		if (!isfinite(c->f[i]))
			return bad(err, "a figure is none");
	}
	if (policy->load) {
		r = policy->load(c, &in);
		if (r == -ENOMEM)
			return ql_error_nomem(err);
		if (r < 0)
			return bad(err, "the policy's figures");
	}
	if (in.bad || ql_cursor_left(&in) > 0)
		return bad(err, "a head of another length");
	*ret_cache = ql_take_ptr(c);
	return 0;
}

static int read_record(struct ql_cursor *in, struct ql_cache_entry *e,
		       bool *ret_stands)
{
	uint32_t rate;

	e->size = ql_cursor_le64(in);
	e->cost = ql_cursor_le64(in);
	e->parent = ql_cursor_le64(in);
	e->family = ql_cursor_le64(in);
	e->stamp = ql_cursor_le64(in);
	e->when = ql_cursor_le64(in);
	e->key = double_of(ql_cursor_le64(in));
	rate = ql_cursor_le32(in);
	memcpy(&e->rate, &rate, sizeof(rate));
	if (!isfinite(e->rate) || e->rate < 0)
		return -EBADMSG;
	e->count = ql_cursor_le32(in);
	e->list = ql_cursor_u8(in);
	e->mark = ql_cursor_u8(in);
	*ret_stands = ql_cursor_u8(in) == 1;
	return isfinite(e->key) && e->list > QL_LIST_NONE &&
			       e->list < QL_LISTS && e->mark <= 3
		       ? 0
		       : -EBADMSG;
}

int ql_cache_load_record(struct ql_cache *c, const void *record, size_t len,
			 struct ql_error *err)
{
	struct ql_cache_entry e = { 0 };
	struct ql_cache_entry *to;
	struct ql_cursor in;
	bool stands = false;
	uint64_t id;

	ql_cursor_init(&in, record, len);
	id = ql_cursor_le64(&in);
	if (len != QL_CACHE_RECORD || id == 0 ||
	    read_record(&in, &e, &stands) < 0 || e.stamp > c->stamp ||
	    e.when > c->clock)
		return bad(err, "a record is none");
	if (ql_cache_find(c, id))
		return bad(err, "a layer stands twice in it");
	if (ql_cache_reserve(c, 1) < 0)
		return ql_error_nomem(err);
	to = &c->e[ql_cache_add(c, id)];
	e.id = id;
	e.chain = to->chain;
	*to = e;
	to->holds = stands; /* until load_end() */
	return 0;
}

static int by_stamp(const void *a, const void *b, void *arg)
{
	const struct ql_cache *c = arg;
	const struct ql_cache_entry *x = &c->e[*(const uint32_t *)a];
	const struct ql_cache_entry *y = &c->e[*(const uint32_t *)b];

	return (x->stamp > y->stamp) - (x->stamp < y->stamp);
}

static void load_base(struct ql_cache *c, uint32_t i)
{
	struct ql_cache_entry *e = &c->e[i];
	bool stands = e->holds && c->policy->stacks && ql_list_is_here(e->list);
	uint32_t base = stands ? ql_cache_find(c, e->parent) : 0;

	e->holds = 0;
	if (!base || base == i || !ql_list_is_here(c->e[base].list))
		return;
	e->base = base;
	c->e[base].children++;
}

/* Records that disagree could stand on each other in a circle. */
static bool is_circle(const struct ql_cache *c, uint32_t i)
{
	uint32_t steps = 0;

	for (; i && steps <= c->n; i = c->e[i].base)
		steps++;
	return i != 0;
}

int ql_cache_load_end(struct ql_cache *c, struct ql_error *err)
{
	_cleanup_free_ uint32_t *order =
		calloc((size_t)c->n + 1, sizeof(*order));

	if (!order)
		return ql_error_nomem(err);
	for (uint32_t i = 0; i < c->n; i++)
		order[i] = i + 1; /* nothing was forgotten: slots are dense */
	qsort_r(order, c->n, sizeof(*order), by_stamp, c);
	for (uint32_t i = 0; i < c->n; i++) {
		if (i > 0 && c->e[order[i]].stamp == c->e[order[i - 1]].stamp)
			return bad(err, "two records of one moment");
		load_base(c, order[i]);
		ql_list_append(c, order[i]);
	}
	for (uint32_t i = 0; i < c->n; i++) {
		const struct ql_cache_entry *e = &c->e[order[i]];

		if (c->policy->loaded)
			c->policy->loaded(c, order[i]);
		if (e->base && is_circle(c, order[i]))
			return bad(err, "layers stand on each other");
		if (c->policy->heap && ql_list_is_here(e->list) && !e->children)
			ql_heap_set(c, order[i], e->key);
	}
	return begin_tracking(c) < 0 ? ql_error_nomem(err) : 0;
}
