/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Is a deployment manifest sound?  What is asked of single members is asked
 * first; then, piece by piece, that each node has it once, of one size, and
 * that nodes do not wait for each other.  The latter is Kahn's topological sort
 * (CACM 5, 1962) over from and fallback together: whoever nobody waits for
 * goes, and those that are left wait in a circle.
 */
#include "fetch/qdm-private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "store/base/cleanup.h"
#include "store/base/error.h"

enum { SHARE_MAX = 1000 };

/* ---- members ---- */

static bool is_alnum(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') ||
	       (c >= 'A' && c <= 'Z');
}

bool ql_qdm_name_ok(const char *s)
{
	size_t len = strlen(s);

	if (len == 0 || len > QL_QDM_NAME_MAX || s[0] == '.' || s[0] == '-')
		return false;
	for (size_t i = 0; i < len; i++)
		if (!is_alnum(s[i]) && !strchr("._-", s[i]))
			return false;
	return true;
}

/* HOST:PORT, where an IPv6 host stands in brackets. */
bool ql_qdm_address_ok(const char *s)
{
	const char *colon = strrchr(s, ':');
	size_t host = colon ? (size_t)(colon - s) : 0;
	bool v6 = host > 2 && s[0] == '[' && s[host - 1] == ']';
	unsigned int port = 0;

	if (host == 0 || strlen(s) > QL_QDM_ADDRESS_MAX ||
	    strlen(colon + 1) > 5)
		return false;
	for (size_t i = v6; i < host - v6; i++)
		if (!is_alnum(s[i]) && !strchr(v6 ? ":." : "._-", s[i]))
			return false;
	for (const char *p = colon + 1; *p; p++) {
		if (*p < '0' || *p > '9')
			return false;
		port = port * 10 + (unsigned int)(*p - '0');
	}
	return port > 0 && port < 65536 && colon[1] != '0';
}

static bool is_reference(const char *s)
{
	size_t len = strlen(s);

	for (size_t i = 0; i < len; i++)
		if (s[i] <= ' ' || s[i] > '~')
			return false;
	return len > 0 && len <= QL_QDM_REFERENCE_MAX;
}

static bool in_range(const char *two, int min, int max)
{
	int v = (two[0] - '0') * 10 + (two[1] - '0');

	return v >= min && v <= max;
}

/* RFC 3339 in UTC, whole seconds. */
static bool is_time(const char *s)
{
	static const char form[] = "0000-00-00T00:00:00Z";

	if (strlen(s) != sizeof(form) - 1)
		return false;
	for (size_t i = 0; form[i]; i++)
		if (form[i] == '0' ? s[i] < '0' || s[i] > '9' : s[i] != form[i])
			return false;
	return in_range(s + 5, 1, 12) && in_range(s + 8, 1, 31) &&
	       in_range(s + 11, 0, 23) && in_range(s + 14, 0, 59) &&
	       in_range(s + 17, 0, 60);
}

static int head_sound(const struct ql_qdm *qdm, struct ql_error *err)
{
	if (!ql_qdm_name_ok(qdm->cluster))
		return ql_error_set(err, -EBADMSG,
				    "\"cluster\" is no name: %.80s",
				    qdm->cluster);
	if (qdm->generation == 0 || qdm->generation > INT64_MAX)
		return ql_error_set(err, -EBADMSG,
				    "\"generation\" is out of bounds");
	if (!is_time(qdm->created))
		return ql_error_set(err, -EBADMSG,
				    "\"created\" is no time in UTC: %.80s",
				    qdm->created);
	if (!is_reference(qdm->reference))
		return ql_error_set(err, -EBADMSG,
				    "\"image\": \"reference\" is none: %.80s",
				    qdm->reference);
	return 0;
}

/* ---- names ---- */

static int name_cmp(const void *a, const void *b, void *nodes)
{
	const struct ql_qdm_node *list = nodes;

	return strcmp(list[*(const uint32_t *)a].name,
		      list[*(const uint32_t *)b].name);
}

uint32_t *ql_qdm_order(const struct ql_qdm *qdm)
{
	uint32_t *order = calloc((size_t)qdm->n_nodes + 1, sizeof(*order));

	if (!order)
		return NULL;
	for (uint32_t i = 0; i < qdm->n_nodes; i++)
		order[i] = i;
	qsort_r(order, qdm->n_nodes, sizeof(*order), name_cmp, qdm->nodes);
	return order;
}

uint32_t ql_qdm_find_in(const struct ql_qdm *qdm, const uint32_t *order,
			const char *name)
{
	uint32_t lo = 0, hi = qdm->n_nodes;

	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;
		int c = strcmp(name, qdm->nodes[order[mid]].name);

		if (c == 0)
			return order[mid];
		if (c < 0)
			hi = mid;
		else
			lo = mid + 1;
	}
	return QL_QDM_NONE;
}

int ql_qdm_sound_names(const struct ql_qdm *qdm, struct ql_error *err)
{
	_cleanup_free_ uint32_t *order = NULL;
	int r = head_sound(qdm, err);

	if (r < 0)
		return r;
	for (uint32_t i = 0; i < qdm->n_nodes; i++) {
		const struct ql_qdm_node *node = &qdm->nodes[i];

		if (!ql_qdm_name_ok(node->name))
			return ql_error_set(err, -EBADMSG,
					    "nodes[%u]: no name: %.80s", i,
					    node->name);
		if (!ql_qdm_address_ok(node->address))
			return ql_error_set(err, -EBADMSG,
					    "node %s: no address: %.80s",
					    node->name, node->address);
	}
	order = ql_qdm_order(qdm);
	if (!order)
		return ql_error_nomem(err);
	for (uint32_t i = 1; i < qdm->n_nodes; i++)
		if (!strcmp(qdm->nodes[order[i - 1]].name,
			    qdm->nodes[order[i]].name))
			return ql_error_set(err, -EBADMSG,
					    "node %s stands there twice",
					    qdm->nodes[order[i]].name);
	return 0;
}

/* ---- fetches ---- */

struct piece {
	const struct ql_qdm *qdm; /* borrowed, as all of these */
	const uint32_t *node_of;  /* by fetch */
	const uint32_t *list;	  /* its fetches */
	uint32_t n;
	uint32_t *fetch_of; /* by node: one more than the number; 0: none */
	uint32_t *waiting;  /* by node: how many wait for it */
	uint32_t *queue;    /* nodes */
};

static int piece_error(const struct piece *pc, uint32_t k, const char *what,
		       struct ql_error *err)
{
	char text[QL_DIGEST_TEXT + 1];

	return ql_error_set(
		err, -EBADMSG, "node %s: piece %s %s",
		pc->qdm->nodes[pc->node_of[pc->list[k]]].name,
		ql_digest_text(&pc->qdm->fetches[pc->list[k]].digest, text),
		what);
}

static bool source_ok(const struct piece *pc, uint32_t n, uint32_t src)
{
	return src == QL_QDM_REGISTRY || (src < pc->qdm->n_nodes && src != n);
}

static int fetch_sound(const struct piece *pc, uint32_t k, struct ql_error *err)
{
	const struct ql_qdm_fetch *f = &pc->qdm->fetches[pc->list[k]];
	uint32_t n = pc->node_of[pc->list[k]];

	if (pc->fetch_of[n])
		return piece_error(pc, k, "stands there twice", err);
	if (f->bytes == 0 || f->bytes > QL_QDM_PIECE_MAX)
		return piece_error(pc, k, "is of a size out of bounds", err);
	if (f->bytes != pc->qdm->fetches[pc->list[0]].bytes)
		return piece_error(pc, k, "is of another size elsewhere", err);
	if (!source_ok(pc, n, f->from))
		return piece_error(pc, k, "comes from the node itself", err);
	if (f->fallback != QL_QDM_NONE && !source_ok(pc, n, f->fallback))
		return piece_error(pc, k, "falls back to the node itself", err);
	if (f->share > SHARE_MAX)
		return piece_error(pc, k, "has a share out of bounds", err);
	return 0;
}

static uint32_t *waited_for(const struct piece *pc, uint32_t src)
{
	if (src < pc->qdm->n_nodes && pc->fetch_of[src])
		return &pc->waiting[src];
	return NULL;
}

static uint32_t let_go(const struct piece *pc, uint32_t src, uint32_t tail)
{
	uint32_t *waiting = waited_for(pc, src);

	if (waiting && --*waiting == 0)
		pc->queue[tail++] = src;
	return tail;
}

static int cycle_find(const struct piece *pc, struct ql_error *err)
{
	const struct ql_qdm_fetch *fetches = pc->qdm->fetches;
	uint32_t tail = 0;

	for (uint32_t k = 0; k < pc->n; k++) {
		const struct ql_qdm_fetch *f = &fetches[pc->list[k]];
		uint32_t *from = waited_for(pc, f->from);
		uint32_t *fallback = waited_for(pc, f->fallback);

		if (from)
			++*from;
		if (fallback)
			++*fallback;
	}
	for (uint32_t k = 0; k < pc->n; k++)
		if (pc->waiting[pc->node_of[pc->list[k]]] == 0)
			pc->queue[tail++] = pc->node_of[pc->list[k]];
	for (uint32_t head = 0; head < tail; head++) {
		const struct ql_qdm_fetch *f =
			&fetches[pc->fetch_of[pc->queue[head]] - 1];

		tail = let_go(pc, f->from, tail);
		tail = let_go(pc, f->fallback, tail);
	}
	for (uint32_t k = 0; tail < pc->n && k < pc->n; k++)
		if (pc->waiting[pc->node_of[pc->list[k]]] > 0)
			return piece_error(pc, k,
					   "comes in a circle, from nodes that "
					   "have it from each other",
					   err);
	return 0;
}

static int piece_sound(const struct piece *pc, struct ql_error *err)
{
	int r = 0;

	for (uint32_t k = 0; k < pc->n && r == 0; k++) {
		uint32_t n = pc->node_of[pc->list[k]];

		r = fetch_sound(pc, k, err);
		pc->fetch_of[n] = pc->list[k] + 1;
	}
	if (r == 0)
		r = cycle_find(pc, err);
	for (uint32_t k = 0; k < pc->n; k++) {
		uint32_t n = pc->node_of[pc->list[k]];

		pc->fetch_of[n] = 0;
		pc->waiting[n] = 0;
	}
	return r;
}

int ql_qdm_sound_fetches(const struct ql_qdm *qdm, struct ql_error *err)
{
	size_t nodes = (size_t)qdm->n_nodes + 1;
	size_t fetches = (size_t)qdm->n_fetches + 1;
	_cleanup_free_ uint32_t *node_of = calloc(fetches, sizeof(*node_of));
	_cleanup_free_ uint32_t *fetch_of = calloc(nodes, sizeof(*fetch_of));
	_cleanup_free_ uint32_t *waiting = calloc(nodes, sizeof(*waiting));
	_cleanup_free_ uint32_t *queue = calloc(nodes, sizeof(*queue));
	_cleanup_free_ uint32_t *order = NULL;
	struct piece pc = { .qdm = qdm,
			    .node_of = node_of,
			    .fetch_of = fetch_of,
			    .waiting = waiting,
			    .queue = queue };
	int r = 0;

	if (qdm->n_fetches == 0)
		return 0;
	order = ql_digest_order(&qdm->fetches[0].digest, qdm->n_fetches,
				sizeof(*qdm->fetches));
	if (!node_of || !fetch_of || !waiting || !queue || !order)
		return ql_error_nomem(err);
	for (uint32_t i = 0; i < qdm->n_nodes; i++)
		for (uint32_t k = 0; k < qdm->nodes[i].n; k++)
			node_of[qdm->nodes[i].first + k] = i;
	for (uint32_t i = 0; i < qdm->n_fetches && r == 0; i += pc.n) {
		pc.list = order + i;
		pc.n = 1;
		while (i + pc.n < qdm->n_fetches &&
		       ql_digest_equal(&qdm->fetches[order[i]].digest,
				       &qdm->fetches[order[i + pc.n]].digest))
			pc.n++;
		r = piece_sound(&pc, err);
	}
	return r;
}
