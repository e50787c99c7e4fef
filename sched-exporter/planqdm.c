/* SPDX-License-Identifier: Apache-2.0 */
/* A plan's deployment manifest. */
#include "sched-exporter/planqdm.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "store/base/cleanup.h"
#include "store/base/error.h"

_Static_assert(QL_DEPLOY_NONE == QL_QDM_NONE &&
		       QL_DEPLOY_REGISTRY == QL_QDM_REGISTRY,
	       "numbers of sources are taken over as they are");

static void name_source(uint32_t *number, uint32_t src, uint32_t n_nodes)
{
	if (src < n_nodes)
		number[src] = 1;
}

/* Numbers those that fetch or are asked, as they stand in the input; the others
 * are NONE.  Returns how many they are. */
static uint32_t nodes_number(const struct ql_deploy_input *in,
			     const struct ql_deploy_plan *plan,
			     uint32_t *number)
{
	uint32_t next = 0;

	for (uint32_t i = 0; i < plan->n_targets; i++)
		number[plan->targets[i].node] = 1;
	for (uint32_t i = 0; i < plan->n_fetches; i++) {
		name_source(number, plan->fetches[i].from, in->n_nodes);
		name_source(number, plan->fetches[i].fallback, in->n_nodes);
	}
	for (uint32_t n = 0; n < in->n_nodes; n++)
		number[n] = number[n] ? next++ : QL_DEPLOY_NONE;
	return next;
}

static uint32_t renumber(const uint32_t *number, uint32_t n_nodes, uint32_t src)
{
	return src < n_nodes ? number[src] : src;
}

static void fetches_put(const struct ql_deploy_input *in,
			const struct ql_deploy_plan *plan,
			const uint32_t *number, struct ql_qdm *qdm)
{
	for (uint32_t i = 0; i < plan->n_targets; i++) {
		const struct ql_deploy_target *t = &plan->targets[i];
		struct ql_qdm_node *node = &qdm->nodes[number[t->node]];

		node->first = t->first;
		node->n = t->n;
	}
	for (uint32_t i = 0; i < plan->n_fetches; i++) {
		const struct ql_deploy_fetch *f = &plan->fetches[i];

		qdm->fetches[i] = (struct ql_qdm_fetch){
			.digest = in->pieces[f->piece].digest,
			.bytes = in->pieces[f->piece].bytes,
			.from = renumber(number, in->n_nodes, f->from),
			.fallback = renumber(number, in->n_nodes, f->fallback),
			.share = f->share,
		};
	}
}

/* 0 or -ENOMEM; what is there is released by the caller. */
static int plan_copy(const struct ql_deploy_input *in,
		     const struct ql_deploy_plan *plan,
		     const char *const *addresses,
		     const struct ql_qdm_head *head, struct ql_qdm *qdm)
{
	_cleanup_free_ uint32_t *number = calloc(in->n_nodes, sizeof(*number));
	uint32_t n;

	if (!number)
		return -ENOMEM;
	n = nodes_number(in, plan, number);
	qdm->generation = head->generation;
	qdm->digest = *head->digest;
	qdm->cluster = strdup(head->cluster);
	qdm->created = strdup(head->created);
	qdm->reference = strdup(head->reference);
	qdm->fetches =
		calloc((size_t)plan->n_fetches + 1, sizeof(*qdm->fetches));
	qdm->nodes = calloc((size_t)n + 1, sizeof(*qdm->nodes));
	if (!qdm->cluster || !qdm->created || !qdm->reference ||
	    !qdm->fetches || !qdm->nodes)
		return -ENOMEM;
	qdm->n_fetches = plan->n_fetches;
	qdm->n_nodes = n;
	for (uint32_t i = 0; i < in->n_nodes; i++) {
		struct ql_qdm_node *node;

		if (number[i] == QL_DEPLOY_NONE)
			continue;
		node = &qdm->nodes[number[i]];
		node->name = strdup(in->nodes[i].name);
		node->address = strdup(addresses[i]);
		if (!node->name || !node->address)
			return -ENOMEM;
	}
	fetches_put(in, plan, number, qdm);
	return 0;
}

int ql_qdm_of_plan(const struct ql_deploy_input *in,
		   const struct ql_deploy_plan *plan,
		   const char *const *addresses, const struct ql_qdm_head *head,
		   struct ql_qdm *ret_qdm, struct ql_error *err)
{
	_cleanup_qdm_ struct ql_qdm qdm = { 0 };
	int r;

	if (plan->n_fetches > QL_QDM_FETCHES_MAX)
		return ql_error_set(err, -EINVAL,
				    "a deployment manifest of %u fetches (at "
				    "most %d)",
				    plan->n_fetches, QL_QDM_FETCHES_MAX);
	if (plan_copy(in, plan, addresses, head, &qdm) < 0)
		return ql_error_nomem(err);
	r = ql_qdm_sound(&qdm, err);
	if (r == -EBADMSG) {
		(void)ql_error_prefix(err, "write a deployment manifest");
		return -EINVAL;
	}
	if (r < 0)
		return r;
	*ret_qdm = qdm;
	qdm = (struct ql_qdm){ 0 };
	return 0;
}
