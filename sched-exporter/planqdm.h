/* SPDX-License-Identifier: Apache-2.0 */
/* A plan as the manifest by which nodes carry it out. */
#ifndef QL_SCHED_PLANQDM_H
#define QL_SCHED_PLANQDM_H

#include "fetch/fetch.h"
#include "sched-exporter/plan.h"

/* All borrowed. */
struct ql_qdm_head {
	const char *cluster;
	uint64_t generation;
	const char *created;
	const char *reference;
	const struct ql_digest *digest; /* of the image's manifest */
};

/*
 * A plan's manifest.  addresses: of the input's nodes, by number.  -EINVAL
 * where a name, an address or the head is none of the above, or there is too
 * much of it; -ENOMEM.
 */
int ql_qdm_of_plan(const struct ql_deploy_input *in,
		   const struct ql_deploy_plan *plan,
		   const char *const *addresses, const struct ql_qdm_head *head,
		   struct ql_qdm *ret_qdm, struct ql_error *err);

#endif
