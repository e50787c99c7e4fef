/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stacks from a trace: a registry's trace does not say which layers are whose,
 * but a client asks for a manifest and then for the layers in their order, the
 * base first (Anwar et al., FAST'18, §5.3, prefetch by the same).  A client
 * has one slot by its hash; one that another one displaced begins anew.  An
 * access log of ours says what stands on what.
 */
#include "tools/cachesim/cachesim.h"

enum { SLOTS = 1 << 16, PULL_MS = 10 * 60 * 1000 };

struct client {
	uint64_t client;
	uint64_t family; /* that is being pulled */
	uint64_t last;	 /* layer; 0: none yet */
	int64_t time;
};

struct ql_tracestack {
	struct client clients[SLOTS];
};

struct ql_tracestack *ql_tracestack_new(void)
{
	return calloc(1, sizeof(struct ql_tracestack));
}

void ql_tracestack_free(struct ql_tracestack *s)
{
	free(s);
}

bool ql_tracestack_follow(struct ql_tracestack *s,
			  const struct ql_traceline *line,
			  struct ql_cache_request *ret_req)
{
	struct client *c = &s->clients[line->client % SLOTS];
	bool pulling = c->client == line->client && c->family == line->family &&
		       line->time - c->time < PULL_MS;

	if (line->kind == QL_TRACE_MANIFEST) {
		*c = (struct client){ .client = line->client,
				      .family = line->family,
				      .time = line->time };
		return false;
	}
	*ret_req = (struct ql_cache_request){
		.id = line->id,
		.size = line->size,
		.family = line->family,
		.parent = line->own ? line->parent
			  : pulling ? c->last
				    : 0,
		.flags = pulling && !c->last ? QL_CACHE_START : 0,
	};
	if (pulling) {
		c->last = line->id;
		c->time = line->time;
	}
	return true;
}
