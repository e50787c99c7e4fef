/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writing archives that ql_layer_import() and every engine read back as they
 * were meant.  Part of store/store.h; include that.
 */
#ifndef QL_TARWRITE_H
#define QL_TARWRITE_H

#include <stddef.h>
#include <stdint.h>

#include "store/base/base.h"

enum { QL_TAR_END = 1024 }; /* zeros that end an archive */

struct ql_tar_entry;

/*
 * Appends the headers of an entry to buf.  Of a file, e->size bytes of content
 * follow, and ql_tar_padding(e->size) zeros; of anything else, the next entry.
 * The path "" is the root.  The same entry gives the same bytes.
 * -EINVAL: no archive can say it (a type that is none, a name or xattr that
 * readers refuse).  -EFBIG: buf has no room.
 */
int ql_tar_write_entry(const struct ql_tar_entry *e, struct ql_buf *buf,
		       struct ql_error *err);

/* Bytes from the end of so much content to the next header. */
static inline size_t ql_tar_padding(uint64_t size)
{
	return (size_t)(-size & 511);
}

#endif
