/* SPDX-License-Identifier: Apache-2.0 */
/* Deployment manifests by way of other nodes: not yet. */
#include "fs/peer.h"

#include <errno.h>

void ql_peer_qdm(struct ql_peers *peers, const struct ql_peer_query *query,
		 struct ql_peer_reply *reply)
{
	(void)peers;
	(void)query;
	ql_peer_reply_fail(reply, 501, -EOPNOTSUPP,
			   "this version knows no deployment manifests");
}
