/* SPDX-License-Identifier: Apache-2.0 */
/* Requests to agents of other machines, from who is none of them.  Part of
 * fetch/fetch.h; include that. */
#ifndef QL_REMOTE_H
#define QL_REMOTE_H

#include "store/store.h"

/* Borrowed for the ql_remote's life.  PEM files; all NULL: plain HTTP. */
struct ql_remote_options {
	const char *ca, *cert, *key;
	unsigned int seconds; /* without a byte, after which it fails; 0: 10 */
};

struct ql_remote;
int ql_remote_new(const struct ql_remote_options *options,
		  struct ql_remote **ret_remote, struct ql_error *err);
void ql_remote_free(struct ql_remote *remote); /* NULL is fine */
QL_DEFINE_CLEANUP(struct ql_remote *, ql_remote_free)

/* From any thread: every request, begun or to come, fails with -ECANCELED. */
void ql_remote_cancel(struct ql_remote *remote);

/*
 * Sends a request with a JSON body (or NULL) to "HOST:PORT"; appends all of the
 * answer to buf (-EFBIG: it has not room for it).  From any thread.
 * An answer that is no success is -EREMOTEIO, with what it says of why;
 * *ret_status (may be NULL) is set then, too.  Other errors as of a network.
 */
int ql_remote_ask(struct ql_remote *remote, const char *address,
		  const char *method, const char *path, const char *body,
		  struct ql_buf *buf, long *ret_status, struct ql_error *err);

#endif
