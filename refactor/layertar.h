/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A planned layer's archive.  Part of refactor/refactor-private.h; include
 * that.
 */
#ifndef QL_LAYERTAR_H
#define QL_LAYERTAR_H

#include "refactor/plan.h"

/*
 * The archive (uncompressed) of a layer, read from the trees and the store's
 * objects as it is read; all borrowed for the stream's life.  Any number of
 * threads may read archives of one inventory.  -ENOENT: content is not here.
 * -EBADMSG: an object is not as large as its file.
 */
int ql_layertar_open(const struct ql_inventory *inv,
		     const struct ql_store *store,
		     const struct ql_plan_layer *layer,
		     struct ql_stream **ret_tar, struct ql_error *err);

#endif
