/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The catalogue: one LMDB environment in catalog/, one named database a
 * table.  Integers are little-endian; a digest is its 32 bytes.
 *
 *   meta     "format"            -> u32 format version (this file: 3)
 *            "evictions"         -> u64 that were begun (keepdoom.c)
 *            "budget", "reserve" -> u64 bytes (space.c)
 *   names    image name (UTF-8)  -> manifest digest
 *   images   manifest digest     -> image record   (record.c)
 *   layers   diff ID             -> layer record   (record.c)
 *   objects  object digest       -> object record  (record.c)
 *   blobs    blob digest         -> repositories that have it (blobs.c)
 *   partials object digest       -> what is there of it (partial.c)
 *   packed   blob digest         -> what is there of it (packed.c)
 *   cache    u64 id, "head"      -> the policy's state (keepstate.c)
 *   evicting what and digest     -> what is about to go (keepdoom.c)
 *   promises manifest digest     -> until when it stays (keephold.c)
 *
 * Invariants, kept by writing everything that belongs together in one
 * transaction: a layer's record is there only when its tree and (unless it is
 * lazy) all its objects are durable; an object's count is the number of layers
 * whose trees name it, plus the images whose manifest or configuration it is.
 *
 * Transactions may end in another thread than they began in (lmdb.h
 * MDB_NOTLS).  The map is 8 GiB of address space, not of disk; on a 32-bit
 * machine 512 MiB.  Any number of processes may read while one writes.
 */
#include "store/store-private.h"

#include <errno.h>
#include <fcntl.h>
#include <lmdb.h>
#include <string.h>
#include <sys/stat.h>

enum {
	CATALOG_FORMAT = 3,
	CATALOG_FORMAT_OLDEST = 1, /* they lack flags and tables, that is all */
	CATALOG_READERS = 1024,
	CATALOG_SPARE = 1 << 20, /* bytes */
};
#define CATALOG_MAP (sizeof(size_t) > 4 ? (size_t)1 << 33 : (size_t)1 << 29)

static const char *const table_names[QL_TABLES] = {
	[QL_TABLE_META] = "meta",	  [QL_TABLE_NAMES] = "names",
	[QL_TABLE_IMAGES] = "images",	  [QL_TABLE_LAYERS] = "layers",
	[QL_TABLE_OBJECTS] = "objects",	  [QL_TABLE_BLOBS] = "blobs",
	[QL_TABLE_PARTIALS] = "partials", [QL_TABLE_PACKED] = "packed",
	[QL_TABLE_CACHE] = "cache",	  [QL_TABLE_EVICTING] = "evicting",
	[QL_TABLE_PROMISES] = "promises",
};

struct ql_catalog {
	MDB_env *env; /* owned */
	MDB_dbi dbi[QL_TABLES];
};

struct ql_txn {
	MDB_txn *txn;			  /* owned */
	const struct ql_catalog *catalog; /* borrowed */
};

/* The one table from LMDB's errors to errno; its positive codes are errno. */
static int catalog_errno(int rc)
{
	static const struct {
		int lmdb;
		int err;
	} table[] = {
		{ MDB_NOTFOUND, -ENOENT },
		{ MDB_KEYEXIST, -EEXIST },
		{ MDB_MAP_FULL, -ENOSPC },
		{ MDB_READERS_FULL, -EAGAIN },
		{ MDB_BAD_VALSIZE, -ENAMETOOLONG },
		{ MDB_VERSION_MISMATCH, -EPROTONOSUPPORT },
		{ MDB_INVALID, -EBADMSG },
		{ MDB_CORRUPTED, -EBADMSG },
		{ MDB_PAGE_NOTFOUND, -EBADMSG },
	};

	if (rc >= 0)
		return -rc;
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		if (table[i].lmdb == rc)
			return table[i].err;
	return -EIO;
}

static int catalog_error(struct ql_error *err, int rc, const char *what)
{
	return ql_error_set(err, catalog_errno(rc), "catalogue: %s: %s", what,
			    mdb_strerror(rc));
}

/* ---- opening ---- */

/* 0 where none is recorded yet. */
static int catalog_get_format(struct ql_catalog *catalog, MDB_txn *txn,
			      uint32_t *ret_format, struct ql_error *err)
{
	MDB_val key = { 6, (void *)(uintptr_t) "format" };
	MDB_val val;
	struct ql_cursor c;
	int rc = mdb_get(txn, catalog->dbi[QL_TABLE_META], &key, &val);

	*ret_format = 0;
	if (rc == MDB_NOTFOUND)
		return 0;
	if (rc)
		return catalog_error(err, rc, "read the format");
	ql_cursor_init(&c, val.mv_data, val.mv_size);
	*ret_format = ql_cursor_le32(&c);
	if (c.bad || *ret_format == 0)
		*ret_format = UINT32_MAX; /* none that ever was */
	return 0;
}

static int catalog_put_format(struct ql_catalog *catalog, MDB_txn *txn,
			      struct ql_error *err)
{
	uint8_t value[4] = { CATALOG_FORMAT, 0, 0, 0 };
	MDB_val key = { 6, (void *)(uintptr_t) "format" };
	MDB_val val = { sizeof(value), value };
	int rc = mdb_put(txn, catalog->dbi[QL_TABLE_META], &key, &val, 0);

	return rc ? catalog_error(err, rc, "write the format") : 0;
}

/* -ENOENT (not described): a writer has to make or to upgrade it. */
static int catalog_check_format(struct ql_catalog *catalog, MDB_txn *txn,
				bool write, struct ql_error *err)
{
	uint32_t format;
	int r = catalog_get_format(catalog, txn, &format, err);

	if (r < 0 || format == CATALOG_FORMAT)
		return r;
	if (format == 0 ||
	    (format >= CATALOG_FORMAT_OLDEST && format < CATALOG_FORMAT))
		return write ? catalog_put_format(catalog, txn, err) : -ENOENT;
	return ql_error_set(err, -EPROTONOSUPPORT,
			    "catalogue: the store has format %u, this "
			    "program knows format %d",
			    format, CATALOG_FORMAT);
}

static int catalog_open_tables(struct ql_catalog *catalog, bool write,
			       struct ql_error *err)
{
	MDB_txn *txn;
	int r = 0;
	int rc =
		mdb_txn_begin(catalog->env, NULL, write ? 0 : MDB_RDONLY, &txn);

	if (rc)
		return catalog_error(err, rc, "begin");
	for (int t = 0; t < QL_TABLES && r == 0; t++) {
		rc = mdb_dbi_open(txn, table_names[t], write ? MDB_CREATE : 0,
				  &catalog->dbi[t]);
		if (rc)
			r = catalog_error(err, rc, table_names[t]);
		/* Before other tables: an unknown format may lack them. */
		else if (t == QL_TABLE_META)
			r = catalog_check_format(catalog, txn, write, err);
	}
	if (r < 0) {
		mdb_txn_abort(txn);
		return r;
	}
	rc = mdb_txn_commit(txn);
	return rc ? catalog_error(err, rc, "commit") : 0;
}

/*
 * Space on disk for a few transactions more, so that a full disk can still be
 * emptied: LMDB writes changed pages to new places.  Where there is no room
 * for that either, it goes on without.
 */
static void catalog_reserve(const struct ql_catalog *catalog, int root_fd)
{
	_cleanup_close_ int fd =
		openat(root_fd, "catalog/data.mdb", O_RDWR | O_CLOEXEC);
	MDB_envinfo info;
	MDB_stat st;
	off_t used;

	if (fd < 0 || mdb_env_info(catalog->env, &info) ||
	    mdb_env_stat(catalog->env, &st))
		return;
	used = (off_t)(info.me_last_pgno + 1) * st.ms_psize;
	/* Not posix_fallocate(3): where the filesystem cannot, that writes into
	 * every block, under a writer's hands. */
	(void)fallocate(fd, 0, 0, used + CATALOG_SPARE);
}

/* An existing store needs no write transaction to be opened: another writer
 * may hold the lock for long. */
static int catalog_is_new(int root_fd)
{
	struct stat st;

	return fstatat(root_fd, "catalog/data.mdb", &st, 0) < 0 ||
	       st.st_size == 0;
}

int ql_catalog_open(int root_fd, const char *root, bool write,
		    struct ql_catalog **ret_catalog, struct ql_error *err)
{
	struct ql_catalog *catalog;
	_cleanup_free_ char *path = ql_path_join(root, "catalog");
	bool fresh = catalog_is_new(root_fd);
	int dead;
	int rc;
	int r;

	if (fresh && !write)
		return ql_error_set(err, -ENOENT, "no store is there");
	catalog = calloc(1, sizeof(*catalog));
	if (!catalog || !path) {
		free(catalog);
		return ql_error_nomem(err);
	}
	rc = mdb_env_create(&catalog->env);
	if (!rc)
		rc = mdb_env_set_mapsize(catalog->env, CATALOG_MAP);
	if (!rc)
		rc = mdb_env_set_maxdbs(catalog->env, QL_TABLES);
	if (!rc)
		rc = mdb_env_set_maxreaders(catalog->env, CATALOG_READERS);
	if (!rc)
		rc = mdb_env_open(catalog->env, path,
				  MDB_NOTLS | (write ? 0U : MDB_RDONLY), 0644);
	if (rc) {
		r = catalog_error(err, rc, path);
		ql_catalog_close(catalog);
		return r;
	}
	/* Slots of readers that were killed. */
	(void)mdb_reader_check(catalog->env, &dead);
	r = catalog_open_tables(catalog, write && fresh, err);
	/* Of the format before, or killed before the first commit. */
	if (r == -ENOENT && write)
		r = catalog_open_tables(catalog, true, err);
	if (r == -ENOENT)
		r = ql_error_set(err, r,
				 "an empty store is there, or one of an older "
				 "version that the next pull upgrades");
	if (r < 0) {
		ql_catalog_close(catalog);
		return r;
	}
	if (write)
		catalog_reserve(catalog, root_fd);
	*ret_catalog = catalog;
	return 0;
}

void ql_catalog_close(struct ql_catalog *catalog)
{
	if (!catalog)
		return;
	if (catalog->env)
		mdb_env_close(catalog->env);
	free(catalog);
}

/* ---- transactions ---- */

int ql_txn_begin(struct ql_catalog *catalog, bool write,
		 struct ql_txn **ret_txn, struct ql_error *err)
{
	struct ql_txn *txn = calloc(1, sizeof(*txn));
	int rc;

	if (!txn)
		return ql_error_nomem(err);
	rc = mdb_txn_begin(catalog->env, NULL, write ? 0 : MDB_RDONLY,
			   &txn->txn);
	if (rc) {
		free(txn);
		return catalog_error(err, rc, "begin");
	}
	txn->catalog = catalog;
	*ret_txn = txn;
	return 0;
}

int ql_txn_commit(struct ql_txn *txn, struct ql_error *err)
{
	int rc = mdb_txn_commit(txn->txn);

	free(txn);
	return rc ? catalog_error(err, rc, "commit") : 0;
}

void ql_txn_abort(struct ql_txn *txn)
{
	if (!txn)
		return;
	mdb_txn_abort(txn->txn);
	free(txn);
}

static MDB_val catalog_val(const void *data, size_t len)
{
	return (MDB_val){ len, (void *)(uintptr_t)data };
}

int ql_txn_get(struct ql_txn *txn, enum ql_table table, const void *key,
	       size_t key_len, const void **ret_value, size_t *ret_len)
{
	MDB_val k = catalog_val(key, key_len);
	MDB_val v;
	int rc = mdb_get(txn->txn, txn->catalog->dbi[table], &k, &v);

	if (rc)
		return catalog_errno(rc);
	*ret_value = v.mv_data;
	*ret_len = v.mv_size;
	return 0;
}

int ql_txn_put(struct ql_txn *txn, enum ql_table table, const void *key,
	       size_t key_len, const void *value, size_t len,
	       struct ql_error *err)
{
	MDB_val k = catalog_val(key, key_len);
	MDB_val v = catalog_val(value, len);
	int rc = mdb_put(txn->txn, txn->catalog->dbi[table], &k, &v, 0);

	return rc ? catalog_error(err, rc, table_names[table]) : 0;
}

int ql_txn_del(struct ql_txn *txn, enum ql_table table, const void *key,
	       size_t key_len, struct ql_error *err)
{
	MDB_val k = catalog_val(key, key_len);
	int rc = mdb_del(txn->txn, txn->catalog->dbi[table], &k, NULL);

	if (rc == MDB_NOTFOUND)
		return -ENOENT;
	return rc ? catalog_error(err, rc, table_names[table]) : 0;
}

int ql_txn_clear(struct ql_txn *txn, enum ql_table table, struct ql_error *err)
{
	int rc = mdb_drop(txn->txn, txn->catalog->dbi[table], 0);

	return rc ? catalog_error(err, rc, table_names[table]) : 0;
}

int ql_txn_each(struct ql_txn *txn, enum ql_table table, ql_txn_fn *fn,
		void *arg, struct ql_error *err)
{
	MDB_cursor *cursor;
	MDB_val k;
	MDB_val v;
	int r = 0;
	int rc = mdb_cursor_open(txn->txn, txn->catalog->dbi[table], &cursor);

	if (rc)
		return catalog_error(err, rc, table_names[table]);
	while (r == 0) {
		rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT);
		if (rc)
			break;
		r = fn(k.mv_data, k.mv_size, v.mv_data, v.mv_size, arg);
	}
	mdb_cursor_close(cursor);
	if (r == 0 && rc != MDB_NOTFOUND)
		r = catalog_error(err, rc, table_names[table]);
	return r;
}

/* ---- runs of keys ---- */

struct ql_txn_run {
	MDB_cursor *cursor; /* owned */
	enum ql_table table;
	MDB_val key;	 /* borrowed; the last one */
	bool found, end; /* of it: it is there; all others are below it */
};

int ql_txn_run_open(struct ql_txn *txn, enum ql_table table,
		    struct ql_txn_run **ret_run, struct ql_error *err)
{
	struct ql_txn_run *run = calloc(1, sizeof(*run));
	int rc;

	if (!run)
		return ql_error_nomem(err);
	rc = mdb_cursor_open(txn->txn, txn->catalog->dbi[table], &run->cursor);
	if (rc) {
		free(run);
		return catalog_error(err, rc, table_names[table]);
	}
	run->table = table;
	*ret_run = run;
	return 0;
}

void ql_txn_run_close(struct ql_txn_run *run)
{
	if (!run)
		return;
	mdb_cursor_close(run->cursor);
	free(run);
}

int ql_txn_run_get(struct ql_txn_run *run, const void *key, size_t key_len,
		   const void **ret_value, size_t *ret_len)
{
	MDB_val k = catalog_val(key, key_len);
	MDB_val v;
	int rc = 0;

	run->key = k;
	run->found = false;
	if (!run->end)
		rc = mdb_cursor_get(run->cursor, &k, &v, MDB_SET_RANGE);
	if (rc == MDB_NOTFOUND)
		run->end = true;
	else if (rc)
		return catalog_errno(rc);
	if (run->end || k.mv_size != key_len ||
	    memcmp(k.mv_data, key, key_len) != 0)
		return -ENOENT;
	run->found = true;
	*ret_value = v.mv_data;
	*ret_len = v.mv_size;
	return 0;
}

int ql_txn_run_put(struct ql_txn_run *run, const void *value, size_t len,
		   struct ql_error *err)
{
	MDB_val k = run->key;
	MDB_val v = catalog_val(value, len);
	unsigned int flags = 0;
	int rc;

	/* Without a search, and pages fill up where keys come at the end. */
	if (run->found)
		flags = MDB_CURRENT;
	else if (run->end)
		flags = MDB_APPEND;
	rc = mdb_cursor_put(run->cursor, &k, &v, flags);
	return rc ? catalog_error(err, rc, table_names[run->table]) : 0;
}
