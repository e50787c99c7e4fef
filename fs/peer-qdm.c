/* SPDX-License-Identifier: Apache-2.0 */
/* Deployment manifests, as they come by HTTP (deployments.c carries them out).
 */
#include "fs/peer.h"

#include <errno.h>
#include <string.h>

static unsigned int status_of(int code)
{
	static const struct {
		int code;
		unsigned int status;
	} statuses[] = {
		{ -EPERM, 403 },      { -ENOENT, 404 },	   { -ESTALE, 409 },
		{ -EEXIST, 409 },     { -EFBIG, 413 },	   { -EBADMSG, 400 },
		{ -EOPNOTSUPP, 400 }, { -EINVAL, 400 },	   { -EBUSY, 503 },
		{ -EAGAIN, 503 },     { -ESHUTDOWN, 503 },
	};

	for (size_t i = 0; i < sizeof(statuses) / sizeof(statuses[0]); i++)
		if (statuses[i].code == code)
			return statuses[i].status;
	return 500;
}

void ql_peer_qdm(const struct ql_peer_query *query, struct ql_peer_reply *reply)
{
	struct ql_error err = QL_ERROR_INIT;
	int r = 0;

	if (strcmp(query->method, "POST") == 0)
		r = ql_deployments_accept(query->deployments, query->body,
					  query->body_len, &err);
	if (r == 0) {
		reply->status = 200;
		reply->json = ql_deployments_json(query->deployments);
		if (!reply->json)
			r = ql_error_nomem(&err);
	}
	if (r < 0)
		ql_peer_reply_fail(reply, status_of(r), r, err.text);
}
