/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Trees: directories.  A directory is a run of blocks; each holds an array of
 * 12-byte records (nid, name offset, type) and then the names, which have no
 * terminator: a name ends where the next begins, the last one at the first
 * NUL or at the block's end.  Names are in byte order through all blocks, so
 * a lookup is a binary search for the block by first names, and another in
 * the block (as Linux fs/erofs/namei.c does).
 *
 * A position is the byte offset of a record in the directory's data.
 */
#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "store/store-private.h"

enum { RECORD = 12, TYPES = 8 };

struct dirblock {
	const uint8_t *data; /* borrowed */
	size_t len;
	uint32_t n;
};

static uint32_t name_offset(const struct dirblock *b, uint32_t i)
{
	const uint8_t *p = b->data + (size_t)i * RECORD + 8;

	return (uint32_t)p[0] | (uint32_t)p[1] << 8;
}

static int load_block(const struct ql_tree *tree, const struct ql_inode *dir,
		      uint64_t block, struct dirblock *ret_block)
{
	struct dirblock b;
	uint32_t first;
	int r;

	r = ql_tree_block(tree, dir, block, &b.data, &b.len);
	if (r < 0)
		return r;
	if (b.len < RECORD)
		return -EBADMSG;
	b.n = 1;
	first = name_offset(&b, 0);
	if (first % RECORD != 0 || first < RECORD || first > b.len)
		return -EBADMSG;
	b.n = first / RECORD;
	*ret_block = b;
	return 0;
}

/* The i-th entry, i < n, checked. */
static int get_entry(const struct dirblock *b, uint32_t i,
		     struct ql_dirent *ret_entry)
{
	/* EROFS file types, which are Linux's FT_*, as DT_* */
	static const uint8_t types[TYPES] = { DT_UNKNOWN, DT_REG, DT_DIR,
					      DT_CHR,	  DT_BLK, DT_FIFO,
					      DT_SOCK,	  DT_LNK };
	uint32_t start = name_offset(b, i);
	struct ql_dirent e;
	struct ql_cursor c;
	size_t end;
	uint8_t type;

	if (start < b->n * RECORD || start >= b->len)
		return -EBADMSG;
	e.name = (const char *)b->data + start;
	end = i + 1 < b->n ? name_offset(b, i + 1)
			   : start + strnlen(e.name, b->len - start);
	if (end <= start || end > b->len)
		return -EBADMSG;
	e.len = end - start;
	if (e.len > QL_TREE_NAME_MAX || memchr(e.name, 0, e.len) ||
	    memchr(e.name, '/', e.len))
		return -EBADMSG;
	ql_cursor_init(&c, b->data + (size_t)i * RECORD, RECORD);
	e.nid = ql_cursor_le64(&c);
	ql_cursor_skip(&c, 2);
	type = ql_cursor_u8(&c);
	e.type = type < TYPES ? types[type] : DT_UNKNOWN;
	*ret_entry = e;
	return 0;
}

static int name_cmp(const char *a, size_t a_len, const char *b, size_t b_len)
{
	int r = memcmp(a, b, a_len < b_len ? a_len : b_len);

	if (r != 0)
		return r;
	return (a_len > b_len) - (a_len < b_len);
}

static bool two_hex_digits(const char *name, size_t len)
{
	static const char digits[] = "0123456789abcdef";

	return len == 2 && memchr(digits, name[0], 16) &&
	       memchr(digits, name[1], 16);
}

/*
 * Undoes the disguises (tree.c): 1 to show the entry, 0 where composefs added
 * it.  A 0:0 device of the image itself would have been escaped, so one that
 * stands in the root as such can only be an addition.
 */
static int entry_disguise(const struct ql_tree *tree,
			  const struct ql_inode *dir, struct ql_dirent *e)
{
	struct ql_inode inode;
	int r;

	if (e->type == DT_CHR && dir->nid == ql_tree_root(tree) &&
	    two_hex_digits(e->name, e->len)) {
		r = ql_tree_inode(tree, e->nid, &inode);
		if (r < 0)
			return r;
		return inode.escaped || !S_ISCHR(inode.mode) || inode.rdev != 0;
	}
	if (e->type == DT_REG && dir->escaped) {
		r = ql_tree_inode(tree, e->nid, &inode);
		if (r < 0)
			return r;
		if (inode.escaped)
			e->type = DT_CHR;
	}
	return 1;
}

/* The last block whose first name is not above the name. */
static int find_block(const struct ql_tree *tree, const struct ql_inode *dir,
		      const char *name, size_t len, struct dirblock *ret_block)
{
	uint64_t lo = 0, hi = (dir->size - 1) >> QL_TREE_BLOCK_BITS, mid;
	struct dirblock b;
	struct ql_dirent e;
	int r;

	while (lo < hi) {
		mid = hi - (hi - lo) / 2;
		r = load_block(tree, dir, mid, &b);
		if (r == 0)
			r = get_entry(&b, 0, &e);
		if (r < 0)
			return r;
		if (name_cmp(e.name, e.len, name, len) <= 0)
			lo = mid;
		else
			hi = mid - 1;
	}
	return load_block(tree, dir, lo, ret_block);
}

int ql_tree_lookup(const struct ql_tree *tree, const struct ql_inode *dir,
		   const char *name, size_t len, uint64_t *ret_nid)
{
	uint32_t lo = 0, hi, mid;
	struct ql_dirent e;
	struct dirblock b;
	int r, cmp;

	if (!S_ISDIR(dir->mode))
		return -ENOTDIR;
	if (len > QL_TREE_NAME_MAX)
		return -ENAMETOOLONG;
	if (len == 0)
		return -ENOENT;
	r = find_block(tree, dir, name, len, &b);
	if (r < 0)
		return r;
	hi = b.n;
	while (lo < hi) {
		mid = lo + (hi - lo) / 2;
		r = get_entry(&b, mid, &e);
		if (r < 0)
			return r;
		cmp = name_cmp(name, len, e.name, e.len);
		if (cmp == 0) {
			r = entry_disguise(tree, dir, &e);
			if (r > 0)
				*ret_nid = e.nid;
			return r > 0 ? 0 : r < 0 ? r : -ENOENT;
		}
		if (cmp < 0)
			hi = mid;
		else
			lo = mid + 1;
	}
	return -ENOENT;
}

int ql_tree_readdir(const struct ql_tree *tree, const struct ql_inode *dir,
		    uint64_t *pos, struct ql_dirent *ret_entry)
{
	struct ql_dirent e;
	struct dirblock b;
	uint64_t at = *pos, block;
	uint32_t i;
	int r;

	if (!S_ISDIR(dir->mode))
		return -ENOTDIR;
	while (at < dir->size) {
		block = at >> QL_TREE_BLOCK_BITS;
		i = (uint32_t)(at & (QL_TREE_BLOCK - 1)) / RECORD;
		if ((at & (QL_TREE_BLOCK - 1)) % RECORD != 0)
			return -EINVAL;
		r = load_block(tree, dir, block, &b);
		if (r < 0)
			return r;
		if (i >= b.n)
			return -EINVAL;
		r = get_entry(&b, i, &e);
		if (r < 0)
			return r;
		at = i + 1 < b.n ? at + RECORD
				 : (block + 1) << QL_TREE_BLOCK_BITS;
		r = entry_disguise(tree, dir, &e);
		if (r < 0)
			return r;
		if (r > 0) {
			*pos = at;
			*ret_entry = e;
			return 1;
		}
	}
	return 0;
}
