/* SPDX-License-Identifier: Apache-2.0 */
/* Whether a deployment manifest is meant for here. */
#include "fetch/qdm-private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "store/base/cleanup.h"
#include "store/base/error.h"

void ql_qdm_release(struct ql_qdm *qdm)
{
	for (uint32_t i = 0; i < qdm->n_nodes; i++) {
		free(qdm->nodes[i].name);
		free(qdm->nodes[i].address);
	}
	free(qdm->nodes);
	free(qdm->fetches);
	free(qdm->cluster);
	free(qdm->created);
	free(qdm->reference);
	*qdm = (struct ql_qdm){ 0 };
}

int ql_qdm_check(const struct ql_qdm *qdm, const char *cluster,
		 uint64_t generation, struct ql_error *err)
{
	if (strcmp(qdm->cluster, cluster) != 0)
		return ql_error_set(err, -EPERM,
				    "the deployment manifest is of cluster %s, "
				    "and this is %s",
				    qdm->cluster, cluster);
	if (qdm->generation < generation)
		return ql_error_set(err, -ESTALE,
				    "the deployment manifest is of generation "
				    "%llu, and %llu was here before",
				    (unsigned long long)qdm->generation,
				    (unsigned long long)generation);
	return 0;
}

uint32_t ql_qdm_find(const struct ql_qdm *qdm, const char *name)
{
	for (uint32_t i = 0; i < qdm->n_nodes; i++)
		if (!strcmp(qdm->nodes[i].name, name))
			return i;
	return QL_QDM_NONE;
}

int ql_qdm_sound(const struct ql_qdm *qdm, struct ql_error *err)
{
	int r = ql_qdm_sound_names(qdm, err);

	return r < 0 ? r : ql_qdm_sound_fetches(qdm, err);
}
