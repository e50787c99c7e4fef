/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which node a region of a blob belongs to, and which of several is the best to
 * ask: functions of their arguments alone.
 *
 * Rendezvous hashing (Thaler & Ravishankar, "Using name-based mappings to
 * increase hit rates", 1998): each node has a weight for each region, and the
 * greatest has it.  Where a node goes, only what it had moves, to those who
 * were second.  The hash: FNV-1a (draft-eastlake-fnv) over the node's id, mixed
 * with the rest by the finalizer of SplitMix64 (Steele, Lea & Flood, OOPSLA'14,
 * fig. 16).
 */
#include "fetch/peer-private.h"

#include <string.h>

#define FNV_BASIS 0xcbf29ce484222325ULL
#define FNV_PRIME 0x100000001b3ULL
#define GOLDEN 0x9e3779b97f4a7c15ULL
#define NS 1000000000ULL
#define RTT_UNKNOWN 10000000ULL	   /* ns */
#define RATE_UNKNOWN (16ULL << 20) /* bytes a second */
#define PENALTY_MAX (600 * NS)

static uint64_t mix(uint64_t v)
{
	v = (v ^ (v >> 30)) * 0xbf58476d1ce4e5b9ULL;
	v = (v ^ (v >> 27)) * 0x94d049bb133111ebULL;
	return v ^ (v >> 31);
}

uint64_t ql_peer_weight(const char *id, const struct ql_digest *blob,
			uint64_t region)
{
	uint64_t hash = FNV_BASIS, part;

	for (; *id; id++)
		hash = (hash ^ (unsigned char)*id) * FNV_PRIME;
	hash = mix(hash);
	for (size_t i = 0; i < sizeof(blob->bytes); i += sizeof(part)) {
		part = 0;
		for (size_t k = 0; k < sizeof(part); k++)
			part = part << 8 | blob->bytes[i + k];
		hash = mix((hash + GOLDEN) ^ part);
	}
	return mix((hash + GOLDEN) ^ mix(region + GOLDEN));
}

uint64_t ql_peer_cost(uint64_t rtt, uint64_t rate, uint64_t bytes)
{
	double ns = (double)bytes * (double)NS /
		    (double)(rate ? rate : RATE_UNKNOWN);

	rtt = rtt ? rtt : RTT_UNKNOWN;
	return ns > (double)(UINT64_MAX / 2) ? UINT64_MAX / 2
					     : rtt + (uint64_t)ns;
}

uint64_t ql_peer_smooth(uint64_t old, uint64_t sample)
{
	return old == 0 ? sample : old - old / 8 + sample / 8;
}

uint64_t ql_peer_penalty(unsigned int lies)
{
	uint64_t ns = NS;

	while (lies-- > 1 && ns < PENALTY_MAX)
		ns *= 2;
	return ns < PENALTY_MAX ? ns : PENALTY_MAX;
}
