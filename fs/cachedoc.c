/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the store keeps, what may go and what went, as JSON; and the limits
 * that people set.
 */
#include <errno.h>
#include <string.h>
#include <time.h>

#include "fetch/fetch.h"
#include "fs/fs.h"

enum { PATHS_MAX = 1000 }; /* that are named; all are counted */

/* Takes json; NULL: out of memory. */
static int done(json_t *json, json_t **ret_json, struct ql_error *err)
{
	if (!json)
		return ql_error_nomem(err);
	*ret_json = json;
	return 0;
}

/* ---- limits ---- */

/* What the limits will be; unsaid ones are what they are. */
static int limits_of(const struct ql_space *s, const struct ql_budget *budget,
		     const struct ql_budget *reserve, struct ql_space *ret)
{
	*ret = *s;
	if (budget->kind != QL_BUDGET_UNSAID)
		ret->budget = ql_budget_bytes(budget, s->size);
	if (reserve->kind != QL_BUDGET_UNSAID)
		ret->reserve = ql_budget_bytes(reserve, s->size);
	return ret->budget != s->budget || ret->reserve != s->reserve;
}

int ql_cache_limits(struct ql_store *store, const struct ql_budget *budget,
		    const struct ql_budget *reserve, struct ql_error *err)
{
	struct ql_space now, then;
	int r = ql_space_get(store, &now, err);

	if (r < 0)
		return r;
	if (!limits_of(&now, budget, reserve, &then))
		return 0;
	return ql_space_limits(store, then.budget, then.reserve, err);
}

static int limit_parse(const char *what, const char *text,
		       struct ql_budget *ret, struct ql_error *err)
{
	bool reserve = strcmp(what, "reserve") == 0;

	if (!text)
		return 0;
	if (ql_units_budget(text, ret) < 0 ||
	    (reserve && ret->kind != QL_BUDGET_BYTES))
		return ql_error_set(
			err, -EINVAL, "%s %s: bytes, as in 500MiB%s are wanted",
			what, text,
			reserve ? ","
				: ", a share of the filesystem, as in 40%, or "
				  "none");
	return 0;
}

/* ---- how it stands ---- */

static json_t *refusal_json(const struct ql_keep_status *k)
{
	if (k->refused_at == 0)
		return json_null();
	return json_pack("{s:I, s:o}", "at", (json_int_t)k->refused_at, "why",
			 ql_json_text(k->refusal));
}

int ql_doc_cache(struct ql_store *store, json_t **ret_json,
		 struct ql_error *err)
{
	struct ql_keep_status k;
	struct ql_space s;
	int r = ql_space_get(store, &s, err);

	if (r == 0)
		r = ql_keep_status(store, &k, err);
	if (r < 0)
		return r;
	return done(
		json_pack("{s:o, s:I, s:I, s:I, s:I, s:{s:I, s:I, s:I, s:I}, "
			  "s:I, s:I, s:{s:I, s:I, s:I, s:I}, s:I, s:I, s:I, "
			  "s:o}",
			  "budget",
			  s.budget ? json_integer((json_int_t)s.budget)
				   : json_null(),
			  "reserve", (json_int_t)s.reserve, "used",
			  (json_int_t)s.used, "free", (json_int_t)s.free,
			  "size", (json_int_t)s.size, "tiers", "plain",
			  (json_int_t)s.objects, "packed", (json_int_t)s.packed,
			  "partial", (json_int_t)s.partial, "metadata",
			  (json_int_t)s.metadata, "units", (json_int_t)k.units,
			  "evictable", (json_int_t)k.evictable, "held",
			  "pinned", (json_int_t)k.pinned, "mounted",
			  (json_int_t)k.mounted, "promised",
			  (json_int_t)k.promised, "in_flight",
			  (json_int_t)k.in_flight, "evictions",
			  (json_int_t)k.evictions, "evicted_bytes",
			  (json_int_t)k.evicted_bytes, "refused",
			  (json_int_t)k.refused, "last_refusal",
			  refusal_json(&k)),
		ret_json, err);
}

/* ---- what would go ---- */

struct plan {
	json_t *steps; /* borrowed */
	json_t *names; /* borrowed: digest to a list of names */
	uint64_t bytes, again_bytes, again_ns;
	bool nomem;
};

static int names_collect(const char *name, const struct ql_image_info *info,
			 void *arg)
{
	char text[QL_DIGEST_TEXT + 1];
	json_t *list;

	ql_digest_text(&info->manifest, text);
	list = json_object_get(arg, text);
	if (!list) {
		list = json_array();
		if (json_object_set_new(arg, text, list) < 0)
			return -ENOMEM;
	}
	if (name && json_array_append_new(list, ql_json_text(name)) < 0)
		return -ENOMEM;
	return 0;
}

/* By their names; one that has none by its digest. */
static json_t *images_json(const struct plan *p,
			   const struct ql_keep_step *step)
{
	json_t *list = json_array();

	for (size_t i = 0; list && i < step->n_images; i++) {
		char text[QL_DIGEST_TEXT + 1];
		const json_t *names;

		ql_digest_text(&step->images[i], text);
		names = json_object_get(p->names, text);
		if (json_array_size(names) > 0)
			(void)json_array_extend(list, (json_t *)names);
		else
			(void)json_array_append_new(list, json_string(text));
	}
	return list;
}

static int on_step(const struct ql_keep_step *step, void *arg)
{
	static const char *const what[] = {
		[QL_KEEP_DEMOTE] = "demote",
		[QL_KEEP_PUNCH] = "punch",
		[QL_KEEP_DROP] = "drop",
	};
	struct plan *p = arg;
	json_t *one = json_pack(
		"{s:s, s:o, s:o, s:I, s:I, s:f, s:o}", "what", what[step->what],
		step->is_image ? "image" : "layer", ql_json_digest(&step->unit),
		"images", images_json(p, step), "bytes",
		(json_int_t)step->bytes, "again_bytes",
		(json_int_t)step->again_bytes, "again_seconds",
		(double)step->again_ns / 1e9, "why", ql_json_text(step->why));

	p->bytes += step->bytes;
	p->again_bytes += step->again_bytes;
	p->again_ns += step->again_ns;
	if (json_array_append_new(p->steps, one) == 0)
		return 0;
	p->nomem = true;
	return -ENOMEM;
}

/* Into doc; text of a shortage in ret_short. */
static int plan_add(struct ql_store *store, uint64_t bytes, json_t *doc,
		    struct ql_error *ret_short, struct ql_error *err)
{
	_cleanup_json_ json_t *names = json_object();
	_cleanup_json_ json_t *steps = json_array();
	struct plan p = { .steps = steps, .names = names };
	int r = names && steps ? ql_image_each(store, names_collect, names, err)
			       : -ENOMEM;

	if (r == 0)
		r = ql_keep_plan(store, bytes, on_step, &p, ret_short);
	if (r == -ENOMEM || p.nomem)
		return ql_error_nomem(err);
	if (r < 0 && r != -ENOSPC) {
		if (err && ret_short->code < 0)
			*err = *ret_short;
		return r;
	}
	if (json_object_set(doc, "steps", steps) < 0 ||
	    json_object_set_new(
		    doc, "evicted",
		    json_pack("{s:I, s:I, s:f}", "bytes", (json_int_t)p.bytes,
			      "again_bytes", (json_int_t)p.again_bytes,
			      "again_seconds", (double)p.again_ns / 1e9)) < 0)
		return ql_error_nomem(err);
	return 0;
}

static int evict_add(struct ql_store *store, uint64_t bytes, json_t *doc,
		     struct ql_error *ret_short, struct ql_error *err)
{
	struct ql_keep_stats st = { 0 };
	int r = ql_keep_make_room(store, bytes, &st, ret_short);

	if (r < 0 && r != -ENOSPC) {
		if (err)
			*err = *ret_short;
		return r;
	}
	if (json_object_set_new(doc, "evicted",
				json_pack("{s:I, s:I, s:I, s:I, s:I, s:I}",
					  "bytes", (json_int_t)st.freed,
					  "demoted", (json_int_t)st.demoted,
					  "punched", (json_int_t)st.punched,
					  "layers", (json_int_t)st.units,
					  "images", (json_int_t)st.images,
					  "files", (json_int_t)st.objects)) < 0)
		return ql_error_nomem(err);
	return 0;
}

/* ---- what nothing needs ---- */

static void on_path(const char *path, uint64_t bytes, void *arg)
{
	if (json_array_size(arg) < PATHS_MAX)
		(void)json_array_append_new(
			arg, json_pack("{s:o, s:I}", "path", ql_json_text(path),
				       "bytes", (json_int_t)bytes));
}

/* Somebody at work is no failure: the rest is done, and it is said. */
static int unreferenced_add(struct ql_store *store, bool dry_run, json_t *doc,
			    struct ql_error *err)
{
	_cleanup_json_ json_t *paths = json_array();
	struct ql_remove_stats st = { 0 };
	struct ql_error why = QL_ERROR_INIT;
	json_t *one;
	int r = paths ? ql_store_gc(store, dry_run, on_path, paths, &st, &why)
		      : -ENOMEM;

	if (r < 0 && r != -EAGAIN) {
		if (err)
			*err = why;
		return r == -ENOMEM ? ql_error_nomem(err) : r;
	}
	one = json_pack("{s:I, s:I, s:O}", "files", (json_int_t)st.objects,
			"bytes", (json_int_t)st.bytes, "paths", paths);
	if (r == -EAGAIN && one)
		(void)json_object_set_new(one, "later", ql_json_text(why.text));
	return json_object_set_new(doc, "unreferenced", one) < 0
		       ? ql_error_nomem(err)
		       : 0;
}

/* ---- gc ---- */

static int shortage_add(json_t *doc, const struct ql_error *why,
			struct ql_error *err)
{
	json_t *text = why->code < 0 ? ql_json_text(why->text) : json_null();

	return json_object_set_new(doc, "short", text) < 0 ? ql_error_nomem(err)
							   : 0;
}

/* What has to fit so that so much is freed: with what fits already. */
static uint64_t fits_with(const struct ql_space *s, uint64_t bytes)
{
	const uint64_t all = UINT64_MAX / 4; /* no disk has so much */
	uint64_t lacks = ql_space_lacks(s, all);
	uint64_t room = lacks < all ? all - lacks : 0;

	if (bytes == 0)
		return 0;
	return bytes < all ? room + bytes : room + all;
}

/* Under limits that may not be those that hold: how much more they lack. */
static uint64_t lacks_more(const struct ql_space *now,
			   const struct ql_space *then)
{
	uint64_t a = ql_space_lacks(now, 0), b = ql_space_lacks(then, 0);

	return b > a ? b - a : 0;
}

static int gc_dry(struct ql_store *store, const struct ql_gc_ask *ask,
		  const struct ql_budget *budget,
		  const struct ql_budget *reserve, json_t *doc,
		  struct ql_error *err)
{
	struct ql_error why = QL_ERROR_INIT;
	struct ql_space now, then;
	uint64_t bytes;
	int r = unreferenced_add(store, true, doc, err);

	if (r == 0)
		r = ql_space_recount(store, &now, err);
	if (r < 0)
		return r;
	(void)limits_of(&now, budget, reserve, &then);
	if (__builtin_add_overflow(ask->free, lacks_more(&now, &then), &bytes))
		bytes = UINT64_MAX;
	bytes = fits_with(&now, bytes);
	r = plan_add(store, bytes, doc, &why, err);
	return r < 0 ? r : shortage_add(doc, &why, err);
}

static int gc_now(struct ql_store *store, const struct ql_gc_ask *ask,
		  const struct ql_budget *budget,
		  const struct ql_budget *reserve, json_t *doc,
		  struct ql_error *err)
{
	struct ql_error why = QL_ERROR_INIT;
	struct ql_space s;
	int r = ql_cache_limits(store, budget, reserve, err);

	if (r == 0)
		r = ql_keep_recover(store, err);
	if (r == 0)
		r = unreferenced_add(store, false, doc, err);
	if (r == 0)
		r = ql_space_recount(store, &s, err);
	if (r < 0)
		return r;
	if (ask->free == 0 && ql_space_lacks(&s, 0) == 0)
		return json_object_set_new(doc, "short", json_null()) < 0
			       ? ql_error_nomem(err)
			       : 0;
	r = evict_add(store, fits_with(&s, ask->free), doc, &why, err);
	return r < 0 ? r : shortage_add(doc, &why, err);
}

int ql_doc_gc(struct ql_store *store, const struct ql_gc_ask *ask,
	      json_t **ret_json, struct ql_error *err)
{
	struct ql_budget budget = { 0 }, reserve = { 0 };
	_cleanup_json_ json_t *doc =
		json_pack("{s:b}", "dry_run", ask->dry_run);
	json_t *cache = NULL;
	int r = doc ? limit_parse("budget", ask->budget, &budget, err)
		    : ql_error_nomem(err);

	if (r == 0)
		r = limit_parse("reserve", ask->reserve, &reserve, err);
	if (r == 0)
		r = (ask->dry_run ? gc_dry : gc_now)(store, ask, &budget,
						     &reserve, doc, err);
	if (r == 0)
		r = ql_doc_cache(store, &cache, err);
	if (r < 0)
		return r;
	if (json_object_set_new(doc, "cache", cache) < 0)
		return ql_error_nomem(err);
	return done(ql_take_ptr(doc), ret_json, err);
}

/* ---- promises ---- */

/* The second that has begun is not taken from what is asked for, but from the
 * longest, which would be too long then. */
static uint64_t ends_after(uint64_t seconds)
{
	struct timespec ts = { 0 };

	(void)clock_gettime(CLOCK_REALTIME, &ts);
	return (uint64_t)ts.tv_sec + (seconds < QL_PROMISE_MAX) + seconds;
}

int ql_doc_promise(struct ql_store *store, const char *text, uint64_t seconds,
		   json_t **ret_json, struct ql_error *err)
{
	uint64_t until = seconds ? ends_after(seconds) : 0;
	_cleanup_free_ char *name = NULL;
	struct ql_digest manifest;
	int r = 0;

	if (seconds > QL_PROMISE_MAX)
		return ql_error_set(err, -EINVAL,
				    "%s: no promise is longer than %d days",
				    text, QL_PROMISE_MAX / 86400);
	r = ql_find_image(store, text, &manifest, &name, err);
	if (r < 0)
		return r;
	r = ql_image_promise(store, &manifest, until, err);
	if (r < 0)
		return ql_error_prefix(err, "%s", text);
	return done(json_pack("{s:o, s:o, s:I}", "image", ql_json_text(text),
			      "digest", ql_json_digest(&manifest), "promised",
			      (json_int_t)until),
		    ret_json, err);
}
