/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sched-exporter/plan: small plans against the exact optimum of the same time
 * model, which a branch-and-bound over all assignments of sources finds (for
 * each piece every forest over the nodes that lack it).
 */
#include "tests/unit/deploy.h"

enum {
	CASES = 400,
	NODES = 4,
	SITES = 2,
	PIECES = 4,
	RESOURCES = SITES + SITES * SITES + NODES,
	WAYS_MAX = 8 * 8 * 8 * 8,
};

/* One way to have one piece everywhere. */
struct one_way {
	double load[RESOURCES]; /* ns */
	double way;		/* ns */
};

struct optimum {
	const struct ql_deploy_input *in;
	struct one_way *ways[PIECES];
	uint32_t n_ways[PIECES];
	double received;
	double best;
};

static bool allowed(const struct ql_deploy_input *in, uint32_t p, uint32_t n,
		    uint32_t from)
{
	uint32_t site = in->nodes[n].site, other;

	if (from == QL_DEPLOY_REGISTRY)
		return in->sites[site].uplink_alive &&
		       in->sites[site].uplink > 0;
	other = in->nodes[from].site;
	return from != n && in->nodes[from].alive &&
	       (other == site ? in->sites[site].lan > 0
			      : in->links[other * SITES + site].rate > 0) &&
	       p < in->n_pieces;
}

/* from[]: of each node; its own number where it has the piece. */
static void way_put(struct optimum *o, uint32_t p, const uint32_t *from)
{
	const struct ql_deploy_input *in = o->in;
	double bytes = (double)in->pieces[p].bytes * 1e9;
	struct one_way w = { 0 };

	for (uint32_t n = 0; n < NODES; n++) {
		uint32_t q = n, site = in->nodes[n].site;
		double t = 0;

		for (uint32_t steps = 0; from[q] != q; q = from[q]) {
			if (steps++ > NODES)
				return; /* a cycle */
			t += model_hop(in, p, q, from[q]);
			if (from[q] == QL_DEPLOY_REGISTRY)
				break;
		}
		w.way = most(w.way, t);
		if (from[n] == n)
			continue;
		if (from[n] == QL_DEPLOY_REGISTRY) {
			w.load[site] += bytes / (double)in->sites[site].uplink;
			continue;
		}
		q = from[n];
		w.load[SITES + SITES * SITES + q] +=
			bytes / model_rate(in, q, in->nodes[q].up);
		q = in->nodes[q].site * SITES + site;
		if (q % SITES != q / SITES)
			w.load[SITES + q] += bytes / (double)in->links[q].rate;
	}
	assert_true(o->n_ways[p] < WAYS_MAX);
	o->ways[p][o->n_ways[p]++] = w;
}

static void ways_list(struct optimum *o, uint32_t p, uint32_t n, uint32_t *from)
{
	const struct ql_deploy_input *in = o->in;

	if (n == NODES) {
		way_put(o, p, from);
		return;
	}
	from[n] = n;
	/* A dead node has nothing and needs nothing. */
	if (!in->nodes[n].alive || deploy_has(in, n, p)) {
		ways_list(o, p, n + 1, from);
		return;
	}
	for (uint32_t q = 0; q <= NODES; q++) {
		from[n] = q < NODES ? q : QL_DEPLOY_REGISTRY;
		if (allowed(in, p, n, from[n]))
			ways_list(o, p, n + 1, from);
	}
}

static int way_cmp(const void *va, const void *vb)
{
	const struct one_way *a = va, *b = vb;

	return a->way < b->way ? -1 : a->way > b->way;
}

static void search(struct optimum *o, uint32_t p, const struct one_way *sum)
{
	double load = o->received;

	for (uint32_t r = 0; r < RESOURCES; r++)
		load = most(load, sum->load[r]);
	if (load + sum->way >= o->best)
		return;
	if (p == o->in->n_pieces) {
		o->best = load + sum->way;
		return;
	}
	for (uint32_t i = 0; i < o->n_ways[p]; i++) {
		struct one_way next = *sum;

		if (o->ways[p][i].way + load >= o->best)
			return; /* sorted by it */
		for (uint32_t r = 0; r < RESOURCES; r++)
			next.load[r] += o->ways[p][i].load[r];
		next.way = most(next.way, o->ways[p][i].way);
		search(o, p + 1, &next);
	}
}

/* ns; at most what is known to be possible. */
static double optimum_of(const struct ql_deploy_input *in, double known)
{
	struct optimum o = { .in = in, .best = known };
	struct one_way none = { 0 };
	uint32_t from[NODES];

	for (uint32_t n = 0; n < NODES; n++) {
		double bytes = 0;

		for (uint32_t p = 0; p < in->n_pieces; p++)
			if (in->nodes[n].alive && !deploy_has(in, n, p))
				bytes += (double)in->pieces[p].bytes * 1e9;
		o.received = most(o.received,
				  bytes / model_rate(in, n, in->nodes[n].down));
	}
	for (uint32_t p = 0; p < in->n_pieces; p++) {
		o.ways[p] = calloc(WAYS_MAX, sizeof(*o.ways[p]));
		assert_non_null(o.ways[p]);
		ways_list(&o, p, 0, from);
		qsort(o.ways[p], o.n_ways[p], sizeof(*o.ways[p]), way_cmp);
	}
	search(&o, 0, &none);
	for (uint32_t p = 0; p < in->n_pieces; p++)
		free(o.ways[p]);
	return o.best;
}

static void case_make(struct deploy *d, uint64_t *rng)
{
	static const uint64_t lans[] = { 400, 400, 400, 200, 50 };
	static const uint64_t uplinks[] = { 100, 100, 50, 20, 400 };
	static const uint64_t links[] = { 0, 50, 100, 200 };

	deploy_init(d, SITES, NODES / SITES, 3 + (uint32_t)chance(rng, 2));
	for (uint32_t s = 0; s < SITES; s++) {
		d->sites[s].uplink = uplinks[chance(rng, 5)] * MBIT;
		d->sites[s].uplink_rtt_ns = (5 + chance(rng, 100)) * MS;
		d->sites[s].lan = lans[chance(rng, 5)] * MBIT;
		d->sites[s].lan_rtt_ns = chance(rng, 5) * MS / 2;
	}
	deploy_link(d, 0, 1, links[chance(rng, 4)] * MBIT,
		    (5 + chance(rng, 60)) * MS);
	for (uint32_t p = 0; p < d->in.n_pieces; p++)
		d->pieces[p].bytes = 1 + chance(rng, 1 + chance(rng, 60 * MIB));
	for (uint32_t n = 0; n < NODES; n++) {
		if (chance(rng, 4) == 0)
			d->nodes[n].up = (20 + chance(rng, 380)) * MBIT;
		for (uint32_t p = 0; p < d->in.n_pieces; p++)
			if (chance(rng, 8) == 0)
				deploy_give(d, n, p);
	}
	if (chance(rng, 10) == 0)
		d->nodes[chance(rng, NODES)].alive = false;
	if (chance(rng, 10) == 0)
		d->sites[chance(rng, SITES)].uplink_alive = false;
}

static void test_near_the_optimum(void **state)
{
	uint32_t under[5] = { 0 }, cases = 0;
	double sum = 0, worst = 1;
	uint64_t rng = 88172645463325252u;

	(void)state;
	for (uint32_t i = 0; i < CASES; i++) {
		struct ql_deploy_plan plan = { 0 };
		struct deploy d;
		double best, ratio;

		case_make(&d, &rng);
		deploy_plan(&d, &plan);
		assert_plan(&d.in, &plan, NULL);
		if (plan.n_lost == 0 && plan.n_fetches > 0) {
			best = optimum_of(&d.in, (double)plan.time_ns);
			ratio = (double)plan.time_ns / best;
			cases++;
			sum += ratio;
			worst = most(worst, ratio);
			under[0] += ratio < 1.000001;
			under[1] += ratio < 1.005;
			under[2] += ratio < 1.02;
			under[3] += ratio < 1.05;
			under[4] += ratio < 1.10;
		}
		ql_deploy_plan_release(&plan);
		deploy_release(&d);
	}
	print_message("# plan/optimum over %u cases: mean %.5f, worst %.5f; "
		      "the optimum itself in %u, within 0.5%% %u, 2%% %u, 5%% "
		      "%u, 10%% %u\n",
		      cases, sum / cases, worst, under[0], under[1], under[2],
		      under[3], under[4]);
	assert_true(cases > CASES / 2);
	assert_true(sum / cases <= 1.01);
	assert_true(worst <= 1.05);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_near_the_optimum),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
