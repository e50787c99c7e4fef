/* SPDX-License-Identifier: Apache-2.0 */
/* Reading from a Kubernetes API.  Part of fetch/fetch.h; include that. */
#ifndef QL_KUBEAPI_H
#define QL_KUBEAPI_H

#include "store/store.h"

/*
 * Borrowed for the ql_kubeapi's life.  Without a URL: the API of the cluster
 * whose pod this is, with its service account's token and CA where none is
 * given here.
 */
struct ql_kubeapi_options {
	const char *url;   /* "https://HOST[:PORT][/PATH]"; or NULL */
	const char *token; /* a file that a bearer token stands in; or NULL */
	/* PEM file, of whose CAs alone the API's certificate may be; NULL: of
	 * the system's, where the URL is given. */
	const char *ca;
};

/* Of any thread, but by one at a time. */
struct ql_kubeapi;
/* The token is read now; those of pods are replaced while they run, so do not
 * keep it for long.  -ENOENT: no URL, and this is no pod; -EINVAL: a URL that
 * it cannot be, or the token would be sent to another machine in the clear;
 * -EBADMSG: there is no token in its file. */
int ql_kubeapi_new(const struct ql_kubeapi_options *options,
		   struct ql_kubeapi **ret_api, struct ql_error *err);
void ql_kubeapi_free(struct ql_kubeapi *api); /* NULL is fine */
QL_DEFINE_CLEANUP(struct ql_kubeapi *, ql_kubeapi_free)
/* Where it is, for messages; borrowed. */
const char *ql_kubeapi_url(const struct ql_kubeapi *api);

/*
 * GETs a path ("/api/v1/…", with its query); appends all of the answer to buf.
 * The token stands in no error.  No redirect is followed.
 * -EACCES: HTTP 401 or 403; -ENOENT: 404; -EREMOTEIO: any other answer that is
 * no success; each with what the API says of why.  -EFBIG: buf has not room for
 * it.  Other errors as of a network.
 */
int ql_kubeapi_get(struct ql_kubeapi *api, const char *path, struct ql_buf *buf,
		   struct ql_error *err);

#endif
