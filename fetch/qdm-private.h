/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the deployment manifest share. */
#ifndef QL_QDM_PRIVATE_H
#define QL_QDM_PRIVATE_H

#include <stdbool.h>

#include "fetch/qdm.h"

/* ---- qdmsound.c ---- */

/* Everything of the head and of nodes' names and addresses; before sources are
 * looked up.  -EBADMSG. */
int ql_qdm_sound_names(const struct ql_qdm *qdm, struct ql_error *err);
/* Sources, sizes, doubles, cycles.  -EBADMSG, -ENOMEM. */
int ql_qdm_sound_fetches(const struct ql_qdm *qdm, struct ql_error *err);

/* The numbers of nodes in the order of their names; owned by the caller.  NULL:
 * out of memory. */
uint32_t *ql_qdm_order(const struct ql_qdm *qdm);
uint32_t ql_qdm_find_in(const struct ql_qdm *qdm, const uint32_t *order,
			const char *name);

#endif
