/* SPDX-License-Identifier: Apache-2.0 */
/* Images that the agent is pulling, for commands that look at them. */
#ifndef QL_PULLED_H
#define QL_PULLED_H

#include "tools/cli.h"

/* An image of the store; or of one that the agent is pulling its root in the
 * agent's mount (*ret_root is then not -1).  Errors as of ql_find_image(). */
int ql_pulled_find(const struct ql_cli *cli, struct ql_store *store,
		   const char *image, struct ql_digest *ret_manifest,
		   int *ret_root, struct ql_error *err);
/* Where an image that is being pulled stands in the agent's mount: owned;
 * NULL: there is none, or no memory. */
char *ql_pulled_path(const struct ql_client *client, const char *image);
/* A file's content, when it has passed. */
int ql_pulled_cat(int root_fd, const char *path, ql_content_fn *fn, void *arg,
		  struct ql_error *err);
/* Waits until the image is here, or its pull has failed: -EIO. */
int ql_pulled_wait(int root_fd, struct ql_error *err);

#endif
