/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sched-exporter/plan: plans that were worked out by hand, what holds for
 * large ones, planning again, and how long it takes.
 */
#include "tests/unit/deploy.h"

#include <errno.h>
#include <time.h>

static const struct ql_deploy_fetch *fetch_of(const struct ql_deploy_plan *plan,
					      uint32_t node, uint32_t piece)
{
	for (uint32_t i = 0; i < plan->n_targets; i++) {
		const struct ql_deploy_target *t = &plan->targets[i];

		for (uint32_t k = t->first; k < t->first + t->n; k++)
			if (t->node == node && plan->fetches[k].piece == piece)
				return &plan->fetches[k];
	}
	return NULL;
}

/* One piece, one node: its way is the registry's, and the whole uplink its
 * own.  10 MiB at 12.5 MB/s, and a round trip and a chunk before it. */
static void test_one_node_asks_the_registry(void **state)
{
	struct ql_deploy_plan plan = { 0 };
	const struct ql_deploy_fetch *f;
	struct deploy d;

	(void)state;
	deploy_init(&d, 1, 1, 1);
	deploy_plan(&d, &plan);
	assert_plan(&d.in, &plan, NULL);
	f = fetch_of(&plan, 0, 0);
	assert_non_null(f);
	assert_int_equal(f->from, QL_DEPLOY_REGISTRY);
	assert_int_equal(f->fallback, QL_DEPLOY_NONE);
	assert_int_equal(f->share, 1000);
	assert_int_equal(plan.load_ns, 10 * MIB * 80);
	assert_int_equal(plan.hops_ns, 40 * MS + MIB * 80);
	assert_int_equal(plan.uplink_sum, 10 * MIB);
	ql_deploy_plan_release(&plan);
	deploy_release(&d);
}

/* Four nodes and four pieces of a size: each brings one in, with a quarter of
 * the uplink, and the others have it from there, one hop away. */
static void test_each_brings_a_part(void **state)
{
	struct ql_deploy_plan plan = { 0 };
	uint32_t brought[4] = { 0 };
	struct deploy d;

	(void)state;
	deploy_init(&d, 1, 4, 4);
	deploy_plan(&d, &plan);
	assert_plan(&d.in, &plan, NULL);
	for (uint32_t n = 0; n < 4; n++)
		for (uint32_t p = 0; p < 4; p++) {
			const struct ql_deploy_fetch *f = fetch_of(&plan, n, p);

			if (f->from != QL_DEPLOY_REGISTRY)
				continue;
			assert_int_equal(f->share, 250);
			brought[n]++;
		}
	for (uint32_t n = 0; n < 4; n++)
		assert_int_equal(brought[n], 1);
	assert_int_equal(plan.uplink_sum, 40 * MIB);
	assert_int_equal(plan.load_ns, 40 * MIB * 80);
	/* the registry's hop and the LAN's */
	assert_int_equal(plan.hops_ns, 40 * MS + MIB * 80 + MS + MIB * 20);
	ql_deploy_plan_release(&plan);
	deploy_release(&d);
}

/* What a node of the site has is not asked of the registry. */
static void test_what_is_here_is_passed_on(void **state)
{
	struct ql_deploy_plan plan = { 0 };
	struct deploy d;

	(void)state;
	deploy_init(&d, 1, 3, 2);
	deploy_give(&d, 2, 0);
	deploy_plan(&d, &plan);
	assert_plan(&d.in, &plan, NULL);
	assert_int_equal(fetch_of(&plan, 0, 0)->from, 2);
	assert_int_equal(fetch_of(&plan, 1, 0)->from, 2);
	assert_null(fetch_of(&plan, 2, 0));
	assert_int_equal(plan.uplink_sum, 10 * MIB);
	/* When node 2 dies, one of them asks the registry, the other that one.
	 */
	assert_int_equal(fetch_of(&plan, 0, 0)->fallback, QL_DEPLOY_REGISTRY);
	assert_int_equal(fetch_of(&plan, 1, 0)->fallback, 0);
	ql_deploy_plan_release(&plan);
	deploy_release(&d);
}

/* A neighbour at 200 Mbit/s is faster than the registry at 100; both together
 * are faster than either, where there is more than one piece. */
static void test_neighbours_and_registry_share_the_work(void **state)
{
	struct ql_deploy_plan plan = { 0 };
	struct deploy d;

	(void)state;
	deploy_init(&d, 2, 1, 3);
	deploy_link(&d, 0, 1, 200 * MBIT, 10 * MS);
	for (uint32_t p = 0; p < 3; p++)
		deploy_give(&d, 0, p);
	deploy_plan(&d, &plan);
	assert_plan(&d.in, &plan, NULL);
	assert_int_equal(plan.uplink_sum, 10 * MIB);
	assert_int_equal(plan.links_sum, 20 * MIB);
	assert_int_equal(plan.load_ns, 10 * MIB * 80);
	ql_deploy_plan_release(&plan);
	/* With one of them, it is the link, and the registry stands by. */
	d.in.n_pieces = 1;
	deploy_plan(&d, &plan);
	assert_int_equal(fetch_of(&plan, 1, 0)->from, 0);
	assert_int_equal(fetch_of(&plan, 1, 0)->fallback, QL_DEPLOY_REGISTRY);
	assert_int_equal(fetch_of(&plan, 1, 0)->share, 1000);
	ql_deploy_plan_release(&plan);
	deploy_release(&d);
}

/* A site whose uplink is down is supplied by its neighbour while that one is
 * still receiving. */
static void test_a_site_without_an_uplink(void **state)
{
	struct ql_deploy_plan plan = { 0 };
	struct deploy d;

	(void)state;
	deploy_init(&d, 2, 2, 1);
	deploy_link(&d, 0, 1, 100 * MBIT, 10 * MS);
	d.sites[1].uplink_alive = false;
	deploy_plan(&d, &plan);
	assert_plan(&d.in, &plan, NULL);
	assert_int_equal(plan.n_lost, 0);
	assert_int_equal(plan.uplink_bytes[0], 10 * MIB);
	assert_int_equal(plan.uplink_bytes[1], 0);
	assert_int_equal(plan.links_sum, 10 * MIB);
	assert_int_equal(plan.load_ns, 10 * MIB * 80);
	ql_deploy_plan_release(&plan);
	deploy_release(&d);
}

static void test_what_cannot_be_reached_is_named(void **state)
{
	struct ql_deploy_plan plan = { 0 };
	struct ql_error err = QL_ERROR_INIT;
	struct deploy d;

	(void)state;
	deploy_init(&d, 2, 2, 3);
	d.sites[1].uplink_alive = false;
	deploy_give(&d, 3, 1);
	deploy_plan(&d, &plan);
	assert_plan(&d.in, &plan, NULL);
	assert_int_equal(plan.n_lost, 2);
	/* The other site has everything, and here is had what can be. */
	assert_int_equal(plan.uplink_bytes[0], 30 * MIB);
	assert_int_equal(fetch_of(&plan, 2, 1)->from, 3);
	assert_int_equal(ql_deploy_plan_lost(&d.in, &plan, &err),
			 -EHOSTUNREACH);
	assert_non_null(strstr(err.text, "site site1: piece sha256:0000"));
	assert_non_null(strstr(err.text, "1 more"));
	ql_deploy_plan_release(&plan);
	d.sites[1].uplink_alive = true;
	deploy_plan(&d, &plan);
	assert_int_equal(ql_deploy_plan_lost(&d.in, &plan, &err), 0);
	ql_deploy_plan_release(&plan);
	deploy_release(&d);
}

/* Where nodes of a site do not reach each other, each asks for itself; one
 * that has the piece is of no use to the other. */
static void test_a_site_without_a_network(void **state)
{
	struct ql_deploy_plan plan = { 0 };
	struct deploy d;

	(void)state;
	deploy_init(&d, 1, 3, 1);
	d.sites[0].lan = 0;
	deploy_give(&d, 0, 0);
	deploy_plan(&d, &plan);
	assert_plan(&d.in, &plan, NULL);
	assert_int_equal(plan.uplink_sum, 20 * MIB);
	ql_deploy_plan_release(&plan);
	d.sites[0].uplink_alive = false;
	deploy_plan(&d, &plan);
	assert_int_equal(plan.n_fetches, 0);
	assert_int_equal(plan.n_lost, 1);
	ql_deploy_plan_release(&plan);
	deploy_release(&d);
}

/* One piece for fifty nodes: it takes the uplink 4 times as long as a node's
 * own link, so that whoever brings it in serves four at most in that time; the
 * tree below is as flat as that leaves it. */
static void test_a_large_site_has_a_tree(void **state)
{
	struct ql_deploy_plan plan = { 0 };
	struct deploy d;
	uint64_t hop = MS + MIB * 20;

	(void)state;
	deploy_init(&d, 1, 50, 1);
	d.pieces[0].bytes = 100 * MIB;
	deploy_plan(&d, &plan);
	assert_plan(&d.in, &plan, NULL);
	assert_int_equal(plan.uplink_sum, 100 * MIB);
	assert_int_equal(plan.load_ns, 100 * MIB * 80);
	/* 1 + 4 + 16 + 64 */
	assert_int_equal(plan.hops_ns, 40 * MS + MIB * 80 + 3 * hop);
	ql_deploy_plan_release(&plan);
	deploy_release(&d);
}

/* Fetches go by priority, and each priority has the whole uplink. */
static void test_what_is_needed_first_comes_first(void **state)
{
	struct ql_deploy_plan plan = { 0 };
	uint32_t sums[2] = { 0 };
	struct deploy d;

	(void)state;
	deploy_init(&d, 1, 2, 3);
	d.pieces[0].priority = 7;
	d.pieces[1].priority = 7;
	deploy_plan(&d, &plan);
	assert_plan(&d.in, &plan, NULL);
	for (uint32_t i = 0; i < plan.n_targets; i++) {
		const struct ql_deploy_fetch *f =
			&plan.fetches[plan.targets[i].first];

		assert_int_equal(f[0].piece, 2);
		assert_int_equal(f[1].piece, 0);
		assert_int_equal(f[2].piece, 1);
		sums[0] += f[0].share;
		sums[1] += f[1].share + f[2].share;
	}
	assert_int_equal(sums[0], 1000);
	/* 500 each where two bring one each, 1000 twice where one brings both
	 */
	assert_true(sums[1] == 1000 || sums[1] == 2000);
	ql_deploy_plan_release(&plan);
	deploy_release(&d);
}

/* The same whole in fewer bytes is not given up for a little time. */
static void test_a_copy_is_made_only_where_it_is_worth_it(void **state)
{
	struct ql_deploy_plan plan = { 0 };
	struct deploy d;

	(void)state;
	/* A second site's slow uplink takes the time; here, copies would save a
	 * hop of 20 ms in 8 s. */
	deploy_init(&d, 2, 2, 1);
	d.sites[1].uplink = 10 * MBIT;
	deploy_plan(&d, &plan);
	assert_int_equal(plan.uplink_bytes[0], 10 * MIB);
	ql_deploy_plan_release(&plan);
	/* A network of 10 Mbit/s in the site: both had better ask outside. */
	d.sites[0].lan = 400 * MBIT;
	d.nodes[0].up = d.nodes[1].up = 10 * MBIT;
	d.sites[1].uplink = 100 * MBIT;
	deploy_plan(&d, &plan);
	assert_plan(&d.in, &plan, NULL);
	assert_int_equal(plan.uplink_bytes[0], 20 * MIB);
	assert_int_equal(plan.uplink_bytes[1], 10 * MIB);
	ql_deploy_plan_release(&plan);
	deploy_release(&d);
}

/* ---- bounds ---- */

static void refused(const struct deploy *d, const char *what)
{
	struct ql_deploy_plan plan = { 0 };
	struct ql_error err = QL_ERROR_INIT;

	assert_int_equal(ql_deploy_plan_make(&d->in, &plan, &err), -EINVAL);
	if (!strstr(err.text, what))
		fail_msg("\"%s\" does not say \"%s\"", err.text, what);
}

static void test_what_is_out_of_bounds_is_refused(void **state)
{
	struct deploy d;

	(void)state;
	deploy_init(&d, 2, 2, 2);
	d.nodes[1].site = 2;
	refused(&d, "node node1: there is no such site");
	d.nodes[1].site = 0;
	d.nodes[1].down = 0;
	refused(&d, "node node1: a rate");
	d.nodes[1].down = MBIT;
	d.pieces[1].bytes = 0;
	refused(&d, "piece sha256:0001");
	d.pieces[0].bytes = d.pieces[1].bytes = QL_DEPLOY_BYTES_MAX / 2 + 1;
	refused(&d, "piece sha256:0001");
	d.pieces[0].bytes = d.pieces[1].bytes = QL_DEPLOY_BYTES_MAX / 2;
	d.targets[3] = 0;
	refused(&d, "node node0 is a target twice");
	d.targets[3] = 4;
	refused(&d, "target 4");
	d.targets[3] = 3;
	d.sites[1].uplink = QL_DEPLOY_RATE_MAX + 1;
	refused(&d, "site site1");
	d.sites[1].uplink = 0;
	d.links[1].rtt_ns = QL_DEPLOY_RTT_MAX + 1;
	refused(&d, "the link from site site0 to site1");
	deploy_release(&d);
}

/* ---- by chance, and large ---- */

static void large_make(struct deploy *d, uint64_t *rng)
{
	uint32_t sites = 1 + (uint32_t)chance(rng, 12);
	uint32_t nodes = 1 + (uint32_t)chance(rng, 12);

	deploy_init(d, sites, nodes, 1 + (uint32_t)chance(rng, 70));
	for (uint32_t s = 0; s < sites; s++) {
		d->sites[s].uplink = (20 + chance(rng, 200)) * MBIT;
		d->sites[s].uplink_rtt_ns = chance(rng, 100) * MS;
		d->sites[s].uplink_alive = chance(rng, 8) != 0;
		if (chance(rng, 12) == 0)
			d->sites[s].lan = 0;
		for (uint32_t o = 0; o < s; o++)
			if (chance(rng, 5) == 0)
				deploy_link(d, s, o, chance(rng, 200) * MBIT,
					    chance(rng, 50) * MS);
	}
	for (uint32_t p = 0; p < d->in.n_pieces; p++) {
		d->pieces[p].bytes = 1 + chance(rng, 1 + chance(rng, 90 * MIB));
		d->pieces[p].priority = (uint32_t)chance(rng, 3);
	}
	for (uint32_t n = 0; n < d->in.n_nodes; n++) {
		uint64_t sparse = 1 + chance(rng, 40);

		d->nodes[n].up = (10 + chance(rng, 400)) * MBIT;
		d->nodes[n].alive = chance(rng, 10) != 0;
		for (uint32_t p = 0; p < d->in.n_pieces; p++)
			if (chance(rng, 40) < sparse / 8)
				deploy_give(d, n, p);
	}
	d->in.n_targets -= (uint32_t)chance(rng, d->in.n_targets);
}

static void assert_same(const struct ql_deploy_plan *a,
			const struct ql_deploy_plan *b)
{
	assert_int_equal(a->n_fetches, b->n_fetches);
	assert_int_equal(a->time_ns, b->time_ns);
	assert_memory_equal(a->fetches, b->fetches,
			    a->n_fetches * sizeof(*a->fetches));
}

static void test_any_plan_is_whole_and_sound(void **state)
{
	uint64_t rng = 2463534242u;

	(void)state;
	for (int i = 0; i < 60; i++) {
		struct ql_deploy_plan plan = { 0 }, again = { 0 };
		struct deploy d;

		large_make(&d, &rng);
		deploy_plan(&d, &plan);
		assert_plan(&d.in, &plan, NULL);
		if (i % 4 == 0) {
			deploy_plan(&d, &again);
			assert_same(&plan, &again);
			ql_deploy_plan_release(&again);
		}
		ql_deploy_plan_release(&plan);
		deploy_release(&d);
	}
}

/* Where a site's own network is four times its uplink: what is missing there
 * comes in once, however it is spread; and the time is near what no plan goes
 * below. */
static void test_an_uplink_carries_each_byte_once(void **state)
{
	uint64_t rng = 362436069u;
	double worst = 1;

	(void)state;
	for (int i = 0; i < 30; i++) {
		struct ql_deploy_plan plan = { 0 };
		struct deploy d;

		deploy_init(&d, 1 + (uint32_t)chance(&rng, 8),
			    1 + (uint32_t)chance(&rng, 30),
			    1 + (uint32_t)chance(&rng, 40));
		for (uint32_t p = 0; p < d.in.n_pieces; p++)
			d.pieces[p].bytes = MIB + chance(&rng, 40 * MIB);
		for (uint32_t n = 0; n < d.in.n_nodes; n++)
			for (uint32_t p = 0; p < d.in.n_pieces; p++)
				if (chance(&rng, 50) == 0)
					deploy_give(&d, n, p);
		deploy_plan(&d, &plan);
		assert_plan(&d.in, &plan, NULL);
		for (uint32_t s = 0; s < d.in.n_sites; s++) {
			uint64_t missing = 0;

			for (uint32_t p = 0; p < d.in.n_pieces; p++) {
				bool here = false;

				for (uint32_t n = 0; n < d.in.n_nodes; n++)
					here |= d.nodes[n].site == s &&
						deploy_has(&d.in, n, p);
				missing += here ? 0 : d.pieces[p].bytes;
			}
			assert_int_equal(plan.uplink_bytes[s], missing);
		}
		if (plan.bound_ns > 1000 * MS)
			worst = most(worst, (double)plan.load_ns /
						    (double)plan.bound_ns);
		ql_deploy_plan_release(&plan);
		deploy_release(&d);
	}
	print_message("# load/bound at worst %.4f\n", worst);
	assert_true(worst < 1.05);
}

/* ---- planning again ---- */

static uint32_t changed(const struct ql_deploy_plan *a,
			const struct ql_deploy_plan *b)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < a->n_targets; i++)
		for (uint32_t k = 0; k < a->targets[i].n; k++) {
			const struct ql_deploy_fetch *f =
				&a->fetches[a->targets[i].first + k];
			const struct ql_deploy_fetch *g =
				fetch_of(b, a->targets[i].node, f->piece);

			n += g && g->from != f->from;
		}
	return n;
}

static void test_a_node_dies(void **state)
{
	struct ql_deploy_plan plan = { 0 }, again = { 0 };
	uint32_t on_dead = 0;
	struct deploy d;

	(void)state;
	deploy_init(&d, 4, 10, 30);
	deploy_plan(&d, &plan);
	for (uint32_t i = 0; i < plan.n_fetches; i++)
		on_dead += plan.fetches[i].from == 5;
	assert_true(on_dead > 0);
	d.nodes[5].alive = false;
	d.in.previous = &plan;
	deploy_plan(&d, &again);
	assert_plan(&d.in, &again, NULL);
	/* What went by it has moved, and little else. */
	assert_true(changed(&plan, &again) >= on_dead);
	assert_true(changed(&plan, &again) <= on_dead + 3);
	assert_int_equal(again.n_kept,
			 again.n_fetches - changed(&plan, &again));
	ql_deploy_plan_release(&plan);
	ql_deploy_plan_release(&again);
	deploy_release(&d);
}

static void test_nothing_happened(void **state)
{
	struct ql_deploy_plan plan = { 0 }, again = { 0 };
	struct deploy d;

	(void)state;
	deploy_init(&d, 3, 5, 20);
	deploy_plan(&d, &plan);
	d.in.previous = &plan;
	deploy_plan(&d, &again);
	assert_same(&plan, &again);
	assert_int_equal(again.n_kept, again.n_fetches);
	ql_deploy_plan_release(&plan);
	ql_deploy_plan_release(&again);
	deploy_release(&d);
}

/* A plan that has become bad is not kept: a neighbour that had been slow is
 * fast now, and the uplink slow. */
static void test_a_bad_plan_is_left(void **state)
{
	struct ql_deploy_plan plan = { 0 }, again = { 0 }, fresh = { 0 };
	struct deploy d;

	(void)state;
	deploy_init(&d, 2, 2, 10);
	for (uint32_t p = 0; p < 10; p++)
		deploy_give(&d, 0, p);
	deploy_link(&d, 0, 1, 5 * MBIT, 10 * MS);
	deploy_plan(&d, &plan);
	assert_true(plan.uplink_bytes[1] >= 90 * MIB);
	d.sites[1].uplink = 5 * MBIT;
	deploy_link(&d, 0, 1, 200 * MBIT, 10 * MS);
	deploy_plan(&d, &fresh);
	d.in.previous = &plan;
	deploy_plan(&d, &again);
	assert_plan(&d.in, &again, NULL);
	assert_true(again.time_ns <= fresh.time_ns / 10 * 11 + 10);
	assert_true(again.uplink_bytes[1] <= 10 * MIB);
	/* Inside of the site nothing had to move. */
	assert_true(again.n_kept >= 10);
	ql_deploy_plan_release(&plan);
	ql_deploy_plan_release(&again);
	ql_deploy_plan_release(&fresh);
	deploy_release(&d);
}

/* Mending has its bounds; what is still bad then is planned afresh.  Most of
 * 400 nodes have become slow, and sources of too much to be moved one by one.
 */
static void test_a_plan_that_is_past_mending_is_left(void **state)
{
	struct ql_deploy_plan plan = { 0 }, again = { 0 }, fresh = { 0 };
	struct deploy d;

	(void)state;
	deploy_init(&d, 1, 400, 50);
	deploy_plan(&d, &plan);
	for (uint32_t n = 0; n < 400; n++)
		if (n % 4)
			d.nodes[n].up = 2 * MBIT;
	deploy_plan(&d, &fresh);
	d.in.previous = &plan;
	deploy_plan(&d, &again);
	assert_plan(&d.in, &again, NULL);
	assert_true(again.time_ns <= fresh.time_ns / 10 * 11 + 10);
	ql_deploy_plan_release(&plan);
	ql_deploy_plan_release(&again);
	ql_deploy_plan_release(&fresh);
	deploy_release(&d);
}

static void test_any_replan_is_sound(void **state)
{
	uint64_t rng = 521288629u;

	(void)state;
	for (int i = 0; i < 30; i++) {
		struct ql_deploy_plan plan = { 0 }, again = { 0 },
				      fresh = { 0 };
		struct deploy d;

		large_make(&d, &rng);
		deploy_plan(&d, &plan);
		for (uint32_t n = 0; n < d.in.n_nodes; n++) {
			if (chance(&rng, 10) == 0)
				d.nodes[n].alive ^= true;
			if (i % 2)
				d.nodes[n].up = (1 + chance(&rng, 400)) * MBIT;
			for (uint32_t p = 0; p < d.in.n_pieces; p++)
				if (chance(&rng, 3) == 0)
					deploy_give(&d, n, p);
		}
		d.sites[0].uplink_alive ^= true;
		for (uint32_t s = 0; i % 2 && s < d.in.n_sites; s++)
			d.sites[s].uplink = (1 + chance(&rng, 400)) * MBIT;
		deploy_plan(&d, &fresh);
		d.in.previous = &plan;
		deploy_plan(&d, &again);
		assert_plan(&d.in, &again, NULL);
		assert_true(again.time_ns <= fresh.time_ns / 10 * 11 + 10);
		assert_true(again.n_kept >= fresh.n_kept);
		ql_deploy_plan_release(&plan);
		ql_deploy_plan_release(&again);
		ql_deploy_plan_release(&fresh);
		deploy_release(&d);
	}
}

/* ---- how long it takes ---- */

static double ms_of(const struct deploy *d, struct ql_deploy_plan *plan)
{
	struct timespec a, b;

	assert_int_equal(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &a), 0);
	deploy_plan(d, plan);
	assert_int_equal(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &b), 0);
	return (double)(b.tv_sec - a.tv_sec) * 1e3 +
	       (double)(b.tv_nsec - a.tv_nsec) / 1e6;
}

/* 1,000 nodes and 50 pieces.  It takes tens of ms; what is asserted leaves
 * room for sanitizers and a busy machine. */
static void thousand(uint32_t sites, bool links)
{
	uint64_t rng = 1000 + sites;
	struct ql_deploy_plan plan = { 0 }, again = { 0 };
	struct deploy d;
	double ms, ms_again;

	deploy_init(&d, sites, 1000 / sites, 50);
	for (uint32_t p = 0; p < 50; p++)
		d.pieces[p].bytes =
			1 + chance(&rng, 1 + chance(&rng, 60 * MIB));
	for (uint32_t s = 0; links && s < sites; s++) {
		d.sites[s].uplink = (50 + chance(&rng, 100)) * MBIT;
		for (uint32_t o = 0; o < s; o++)
			deploy_link(&d, s, o, (10 + chance(&rng, 100)) * MBIT,
				    (5 + chance(&rng, 40)) * MS);
	}
	for (uint32_t n = 0; links && n < 1000; n++) {
		d.nodes[n].up = (20 + chance(&rng, 380)) * MBIT;
		for (uint32_t p = 0; p < 50; p++)
			if (chance(&rng, 30) == 0)
				deploy_give(&d, n, p);
	}
	ms = ms_of(&d, &plan);
	assert_plan(&d.in, &plan, NULL);
	d.in.previous = &plan;
	d.nodes[7].alive = false;
	ms_again = ms_of(&d, &again);
	assert_plan(&d.in, &again, NULL);
	print_message("# 1,000 nodes in %u sites%s, 50 pieces: %.1f ms, again "
		      "%.1f ms; load %.3f s + hops %.3f s (load at least %.3f "
		      "s); %u of %u fetches kept\n",
		      sites, links ? " with links" : "", ms, ms_again,
		      (double)plan.load_ns / 1e9, (double)plan.hops_ns / 1e9,
		      (double)plan.bound_ns / 1e9, again.n_kept,
		      again.n_fetches);
	assert_true(ms < 2000 && ms_again < 4000);
	ql_deploy_plan_release(&plan);
	ql_deploy_plan_release(&again);
	deploy_release(&d);
}

static void test_a_thousand_nodes_are_planned_quickly(void **state)
{
	(void)state;
	thousand(1, false);
	thousand(20, false);
	thousand(20, true);
	thousand(100, true);
	thousand(250, true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one_node_asks_the_registry),
		cmocka_unit_test(test_each_brings_a_part),
		cmocka_unit_test(test_what_is_here_is_passed_on),
		cmocka_unit_test(test_neighbours_and_registry_share_the_work),
		cmocka_unit_test(test_a_site_without_an_uplink),
		cmocka_unit_test(test_what_cannot_be_reached_is_named),
		cmocka_unit_test(test_a_site_without_a_network),
		cmocka_unit_test(test_a_large_site_has_a_tree),
		cmocka_unit_test(test_what_is_needed_first_comes_first),
		cmocka_unit_test(test_a_copy_is_made_only_where_it_is_worth_it),
		cmocka_unit_test(test_what_is_out_of_bounds_is_refused),
		cmocka_unit_test(test_any_plan_is_whole_and_sound),
		cmocka_unit_test(test_an_uplink_carries_each_byte_once),
		cmocka_unit_test(test_a_node_dies),
		cmocka_unit_test(test_nothing_happened),
		cmocka_unit_test(test_a_bad_plan_is_left),
		cmocka_unit_test(test_a_plan_that_is_past_mending_is_left),
		cmocka_unit_test(test_any_replan_is_sound),
		cmocka_unit_test(test_a_thousand_nodes_are_planned_quickly),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
