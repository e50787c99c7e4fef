/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of store/ share and nobody outside may use, grouped by the
 * file that owns it.
 */
#ifndef QL_STORE_PRIVATE_H
#define QL_STORE_PRIVATE_H

#include <pthread.h>
#include <stdatomic.h>

#include "store/store.h"

/* ---- store.c ---- */

struct ql_catalog;

struct ql_store {
	char *root;  /* owned */
	int root_fd; /* owned */
	bool writable;
	struct ql_catalog *catalog;   /* owned */
	struct ql_space_file *space;  /* owned */
	struct ql_packed_set *packed; /* owned */
	struct ql_keep *keep;	      /* owned */
	ql_keep_relief_fn *relief;    /* see ql_keep_relief() */
	void *relief_arg;	      /* borrowed */
};

/* -EROFS where the store was opened to be read. */
int ql_store_need_write(const struct ql_store *store, struct ql_error *err);
/* As ql_store_lock(), without waiting.  -EAGAIN (not described). */
int ql_store_lock_try(const struct ql_store *store, bool exclusive, int *ret_fd,
		      struct ql_error *err);

/* ---- space.c, spacefile.c, spacecount.c: what the store takes ---- */

enum { QL_SPACE_SLOTS = 1024, QL_SPACE_BOOT = 40 };
enum ql_space_kind {
	QL_SPACE_OBJECTS,
	QL_SPACE_PACKED,
	QL_SPACE_PARTIAL,
	QL_SPACE_METADATA, /* all other */
	QL_SPACE_KINDS
};

/* root/space: shared memory, not a format. */
struct ql_space_page {
	char magic[8];
	char boot[QL_SPACE_BOOT]; /* of the machine's start */
	_Atomic uint32_t counted; /* since then */
	_Atomic uint32_t limited; /* budget and reserve are known */
	_Atomic uint32_t slots;	  /* those below may be in use */
	_Atomic int64_t named;	  /* bytes of disk under names */
	_Atomic int64_t since; /* taken, and kept, since the last count began */
	_Atomic uint64_t budget, reserve;
	_Atomic uint64_t kinds[QL_SPACE_KINDS]; /* at the last count */
	_Atomic int64_t taken[QL_SPACE_SLOTS];
	_Atomic int64_t written[QL_SPACE_SLOTS]; /* of taken, at most */
	_Atomic int64_t buried; /* of named: that the dead had taken */
};

struct ql_space_file {
	struct ql_space_page *page; /* owned; mapped */
	int fd;			    /* owned; -1: the page is this process's */
	int catalog_fd;		    /* owned; of its data */
	bool shared, slotted;
	unsigned int slot;
	/* Order: walk, lock. */
	pthread_rwlock_t walk; /* for reading: frees; for writing: counts */
	pthread_mutex_t lock;
	unsigned int freeing; /* lock: threads */
};

int ql_space_file_open(int root_fd, bool write, struct ql_space_file **ret_file,
		       struct ql_error *err);
void ql_space_file_close(struct ql_space_file *file);
/* Taken by all, the dead among them; and what of it may not be written. */
uint64_t ql_space_file_taken(const struct ql_space_file *file,
			     uint64_t *ret_unwritten);
/* What the dead had taken counts as named from now on, and as buried until the
 * next count. */
void ql_space_file_bury(struct ql_space_file *file);
/* Against those that free, also in other processes. */
int ql_space_file_lock(struct ql_space_file *file);
void ql_space_file_unlock(struct ql_space_file *file);
void ql_space_file_share(struct ql_space_file *file);
void ql_space_file_unshare(struct ql_space_file *file);

/* After the catalogue. */
int ql_space_open(struct ql_store *store, struct ql_error *err);
/* Where at least so many bytes were taken since the last count, or none was
 * made; 0: in any case. */
int ql_space_count(struct ql_store *store, uint64_t since,
		   struct ql_error *err);

/* What the catalogue may grow by in a transaction that changes so many records
 * of a large table, in any order: taken before it, and given back after. */
struct ql_space_room {
	struct ql_store *store; /* borrowed; NULL: none is taken */
	uint64_t bytes;
};
int ql_space_room(struct ql_store *store, uint64_t records,
		  struct ql_space_room *ret_room, struct ql_error *err);
void ql_space_room_release(struct ql_space_room *room);

/* ---- namelock.c: a lock on what a digest names, while it is being made ----
 */

struct ql_name_lock {
	int fd;	       /* owned */
	int root_fd;   /* borrowed */
	char path[80]; /* partial/<hex>.lock */
};
int ql_name_lock_init(const struct ql_store *store,
		      const struct ql_digest *digest,
		      struct ql_name_lock *ret_lock, struct ql_error *err);
/* -EBUSY (not described): another has it. */
int ql_name_lock_try(const struct ql_store *store,
		     const struct ql_digest *digest,
		     struct ql_name_lock *ret_lock);
bool ql_name_lock_is(const struct ql_name_lock *lock,
		     const struct ql_digest *digest);
void ql_name_lock_release(struct ql_name_lock *lock);

/* ---- catalog.c: the LMDB environment ---- */

enum ql_table {
	QL_TABLE_META,
	QL_TABLE_NAMES,
	QL_TABLE_IMAGES,
	QL_TABLE_LAYERS,
	QL_TABLE_OBJECTS,
	QL_TABLE_BLOBS,
	QL_TABLE_PARTIALS,
	QL_TABLE_PACKED,
	QL_TABLE_CACHE,
	QL_TABLE_EVICTING,
	QL_TABLE_PROMISES,
	QL_TABLES
};

struct ql_txn;

int ql_catalog_open(int root_fd, const char *root, bool write,
		    struct ql_catalog **ret_catalog, struct ql_error *err);
void ql_catalog_close(struct ql_catalog *catalog);

/* A write transaction waits for another's end.  Keep it short. */
int ql_txn_begin(struct ql_catalog *catalog, bool write,
		 struct ql_txn **ret_txn, struct ql_error *err);
int ql_txn_commit(struct ql_txn *txn, struct ql_error *err); /* always frees */
void ql_txn_abort(struct ql_txn *txn);			     /* NULL is fine */
QL_DEFINE_CLEANUP(struct ql_txn *, ql_txn_abort)

/* The value is borrowed until the transaction ends or writes.  -ENOENT. */
int ql_txn_get(struct ql_txn *txn, enum ql_table table, const void *key,
	       size_t key_len, const void **ret_value, size_t *ret_len);
int ql_txn_put(struct ql_txn *txn, enum ql_table table, const void *key,
	       size_t key_len, const void *value, size_t len,
	       struct ql_error *err);
/* -ENOENT (not described) where there is none. */
int ql_txn_del(struct ql_txn *txn, enum ql_table table, const void *key,
	       size_t key_len, struct ql_error *err);
/* Deletes all that is in a table. */
int ql_txn_clear(struct ql_txn *txn, enum ql_table table, struct ql_error *err);
typedef int ql_txn_fn(const void *key, size_t key_len, const void *value,
		      size_t len, void *arg);
/* In key order; a non-zero return of fn stops and is returned. */
int ql_txn_each(struct ql_txn *txn, enum ql_table table, ql_txn_fn *fn,
		void *arg, struct ql_error *err);

/* Many keys of one table that ascend, read and written one after the other:
 * each is looked for near the last one. */
struct ql_txn_run;
int ql_txn_run_open(struct ql_txn *txn, enum ql_table table,
		    struct ql_txn_run **ret_run, struct ql_error *err);
/* NULL is fine; before the transaction ends. */
void ql_txn_run_close(struct ql_txn_run *run);
QL_DEFINE_CLEANUP(struct ql_txn_run *, ql_txn_run_close)
/* As ql_txn_get(); the key (borrowed until the next) is above the last. */
int ql_txn_run_get(struct ql_txn_run *run, const void *key, size_t key_len,
		   const void **ret_value, size_t *ret_len);
/* Of the key that was got last. */
int ql_txn_run_put(struct ql_txn_run *run, const void *value, size_t len,
		   struct ql_error *err);

/* ---- record.c: the catalogue's values ---- */

struct ql_object_record {
	uint64_t size; /* bytes */
	uint32_t refs; /* layers and images that need it */
	uint32_t gone; /* of them: layers that were taken away */
};

enum { QL_OBJECT_RECORD = 16 }; /* bytes */
void ql_record_print_object(const struct ql_object_record *rec,
			    uint8_t buf[QL_OBJECT_RECORD]);
int ql_record_put_object(struct ql_txn *txn, const struct ql_digest *digest,
			 const struct ql_object_record *rec,
			 struct ql_error *err);
int ql_record_get_object(struct ql_txn *txn, const struct ql_digest *digest,
			 struct ql_object_record *ret_rec);
int ql_record_put_layer(struct ql_txn *txn, const struct ql_layer_info *info,
			struct ql_error *err);
int ql_record_get_layer(struct ql_txn *txn, const struct ql_digest *diff_id,
			struct ql_layer_info *ret_info);
int ql_record_put_image(struct ql_txn *txn, const struct ql_image_info *info,
			struct ql_error *err);
int ql_record_get_image(struct ql_txn *txn, const struct ql_digest *manifest,
			struct ql_image_info *ret_info);
/* For ql_txn_each(): decode what it passed. */
int ql_record_parse_image(const void *key, size_t key_len, const void *value,
			  size_t len, struct ql_image_info *ret_info);
int ql_record_parse_layer(const void *key, size_t key_len, const void *value,
			  size_t len, struct ql_layer_info *ret_info);
int ql_record_parse_object(const void *value, size_t len,
			   struct ql_object_record *ret_rec);
/* A number in the table of meta; 0 where there is none, or it is malformed. */
uint64_t ql_meta_number(struct ql_txn *txn, const char *key);
int ql_meta_set_number(struct ql_txn *txn, const char *key, uint64_t value,
		       struct ql_error *err);

/* ---- object.c ---- */

/* A file without a name, to be written and then published; where its digest
 * is known (or NULL), in the folder where it will stand: filesystems spread
 * folders, and look for a free inode near the folder's own. */
int ql_object_create(const struct ql_store *store,
		     const struct ql_digest *digest, int *ret_fd,
		     struct ql_error *err);
/* Gives it its name, and what was *taken for it: 0 then.  That the name exists
 * already is fine; *taken, which may be NULL, is to be given back once fd is
 * closed. */
int ql_object_publish(struct ql_store *store, int fd,
		      const struct ql_digest *digest, uint64_t *taken,
		      struct ql_error *err);
bool ql_object_exists(const struct ql_store *store,
		      const struct ql_digest *digest);

/* ---- refcount.c: who needs which object ---- */

struct ql_object_use {
	struct ql_digest digest;
	uint64_t size;
};
struct ql_object_set {
	struct ql_object_use *items; /* owned; sorted, each digest once */
	size_t n;
	size_t cap;
};
/* For qsort(3) and bsearch(3): by digest. */
int ql_object_use_cmp(const void *a, const void *b);
void ql_object_set_release(struct ql_object_set *set);
/* Every object that a tree's files name. */
int ql_object_set_from_tree(const struct ql_tree *tree,
			    struct ql_object_set *ret_set,
			    struct ql_error *err);
int ql_object_set_add(struct ql_object_set *set, const struct ql_digest *digest,
		      uint64_t size);
void ql_object_set_sort(struct ql_object_set *set);
/* Takes a digest out, wherever it stands. */
void ql_object_set_cut(struct ql_object_set *set,
		       const struct ql_digest *digest);

/* The set is sorted. */
int ql_refs_add(struct ql_txn *txn, const struct ql_object_set *set,
		struct ql_error *err);
/* Whether nobody that is kept needs it. */
bool ql_refs_none(const struct ql_object_record *rec);
/* A layer that has the set was taken away (QL_LAYER_GONE), or comes back: what
 * nobody else that is kept needs is added to gone (unsorted; may be NULL). */
int ql_refs_gone(struct ql_txn *txn, const struct ql_object_set *set,
		 bool is_gone, struct ql_object_set *gone,
		 struct ql_error *err);
/* Those that nothing that is kept needs any more are added to gone (unsorted).
 */
int ql_refs_drop(struct ql_txn *txn, const struct ql_object_set *set,
		 struct ql_object_set *gone, struct ql_error *err);

/* ---- recount.c: the same, counted anew ---- */

enum ql_need {
	QL_NEED_HERE, /* it has to be */
	QL_NEED_LAZY, /* it comes when it is read */
	QL_NEED_GONE, /* the layer was taken away */
};
struct ql_needs {
	struct ql_object_set uses; /* owned, as these: one for each user */
	struct ql_object_set gone; /* of them, those of layers that are gone */
	struct ql_object_set must; /* that have to be here; each once */
};
void ql_needs_release(struct ql_needs *n);
enum ql_need ql_need_of(const struct ql_layer_info *info);
int ql_needs_add(struct ql_needs *n, const struct ql_object_set *set,
		 enum ql_need need);
/* After the last was added, and before what is below. */
void ql_needs_sort(struct ql_needs *n);
/* What each object's record should be.  A non-zero return of fn stops and is
 * returned. */
typedef int ql_need_fn(const struct ql_digest *digest,
		       const struct ql_object_record *rec, void *arg);
int ql_needs_each(const struct ql_needs *n, ql_need_fn *fn, void *arg);
/* The set is sorted. */
bool ql_object_set_has(const struct ql_object_set *set,
		       const struct ql_digest *digest);
/* Makes the counts of objects what the trees of the transaction's layers and
 * images say.  Those that nobody needs are added to gone (may be NULL).
 * -EBADMSG: a tree is damaged. */
int ql_refs_recount(struct ql_store *store, struct ql_txn *txn,
		    struct ql_object_set *gone, uint64_t *ret_fixed,
		    struct ql_error *err);

/* ---- scrub.c ---- */

/* As ql_store_lock(); -ECANCELED soon after *stop (may be NULL) is set. */
int ql_store_lock_until(struct ql_store *store, bool exclusive,
			const atomic_bool *stop, int *ret_fd,
			struct ql_error *err);

/* ---- ingest.c: the one door ---- */

struct ql_ingest;
int ql_ingest_new(struct ql_store *store, struct ql_ingest **ret_ingest,
		  struct ql_error *err);
void ql_ingest_free(struct ql_ingest *ing); /* drops what was not flushed */
QL_DEFINE_CLEANUP(struct ql_ingest *, ql_ingest_free)
/* One object at a time: begin, write…, end. */
int ql_ingest_begin(struct ql_ingest *ing, uint64_t size, struct ql_error *err);
int ql_ingest_write(struct ql_ingest *ing, const void *data, size_t len,
		    struct ql_error *err);
int ql_ingest_end(struct ql_ingest *ing, struct ql_digest *ret_digest,
		  struct ql_error *err);
/* Returns when everything ended before is durable under its name. */
int ql_ingest_flush(struct ql_ingest *ing, struct ql_error *err);
void ql_ingest_stats(const struct ql_ingest *ing,
		     struct ql_layer_stats *ret_stats);

/* ---- tar.c: one layer's archive ---- */

struct ql_tar;

/* Borrows the stream. */
int ql_tar_new(struct ql_stream *in, struct ql_tar **ret_tar,
	       struct ql_error *err);
void ql_tar_free(struct ql_tar *tar);
QL_DEFINE_CLEANUP(struct ql_tar *, ql_tar_free)
/* 1 with an entry (borrowed until the next call), 0 at the end (the stream
 * was then read to its end), or a negative errno. */
int ql_tar_next(struct ql_tar *tar, const struct ql_tar_entry **ret_entry,
		struct ql_error *err);
/* The entry's next content: up to some bytes, borrowed until the next call;
 * 0 at its end. */
ssize_t ql_tar_data(struct ql_tar *tar, const void **ret_data,
		    struct ql_error *err);
uint64_t ql_tar_pos(const struct ql_tar *tar);	 /* bytes read of the stream */
bool ql_tar_is_sparse(const struct ql_tar *tar); /* the entry may have holes */
/* How the last entry is written; borrowed until the next call. */
const struct ql_tar_raw *ql_tar_raw(const struct ql_tar *tar);

/* ---- tarheader.c: one header ---- */

enum { QL_TAR_BLOCK = 512 };

/* Offsets of the fields. */
enum {
	QL_TAR_NAME = 0,
	QL_TAR_MODE = 100,
	QL_TAR_UID = 108,
	QL_TAR_GID = 116,
	QL_TAR_SIZE = 124,
	QL_TAR_MTIME = 136,
	QL_TAR_SUM = 148,
	QL_TAR_TYPE = 156,
	QL_TAR_LINK = 157,
	QL_TAR_MAGIC = 257,
	QL_TAR_MAJOR = 329,
	QL_TAR_MINOR = 337,
	QL_TAR_PREFIX = 345,
	QL_TAR_GNU_ATIME = 345,
	QL_TAR_GNU_CTIME = 357,
	QL_TAR_GNU_SPARSE = 386,
	QL_TAR_GNU_MORE = 482,
	QL_TAR_GNU_REAL = 483,
	QL_TAR_STAR = 508,
};

struct ql_tarheader {
	const char *raw; /* borrowed; QL_TAR_BLOCK bytes */
	bool ustar, gnu, star;
};
/* -EBADMSG: the checksum is wrong. */
int ql_tarheader_parse(const char raw[QL_TAR_BLOCK],
		       struct ql_tarheader *ret_header);
/* A number, octal or base-256; -EBADMSG, named by what. */
int ql_tarheader_field(const struct ql_tarheader *h, size_t off, size_t len,
		       const char *what, int64_t min, int64_t max, int64_t *ret,
		       struct ql_error *err);
/* An owned string; NULL: out of memory. */
char *ql_tarheader_string(const struct ql_tarheader *h, size_t off, size_t len);

/* ---- tarsparse.c: where a sparse file's bytes belong ---- */

enum { QL_TAR_SPARSE_MAX = 1 << 20 }; /* segments of one file */

struct ql_sparse {
	uint64_t offset, len;
};
struct ql_sparse_map {
	struct ql_sparse *items; /* owned */
	size_t n, cap;
};
void ql_sparse_release(struct ql_sparse_map *map);
/* -ENOMEM, -E2BIG. */
int ql_sparse_push(struct ql_sparse_map *map, uint64_t offset, uint64_t len);
/* Segments must ascend, not overlap, end within size, and add up to what is
 * stored. */
int ql_sparse_check(const struct ql_sparse_map *map, uint64_t size,
		    uint64_t stored, struct ql_error *err);
/* Bytes until content at offset changes between data and hole; *at remembers
 * the segment. */
uint64_t ql_sparse_run(const struct ql_sparse_map *map, size_t *at,
		       uint64_t offset, uint64_t size, bool *ret_hole);
typedef int ql_sparse_block_fn(void *arg, char block[QL_TAR_BLOCK],
			       struct ql_error *err);
int ql_sparse_read_gnu(struct ql_sparse_map *map, const struct ql_tarheader *h,
		       ql_sparse_block_fn *next_block, void *arg,
		       uint64_t *ret_size, struct ql_error *err);
int ql_sparse_read_1_0(struct ql_sparse_map *map,
		       ql_sparse_block_fn *next_block, void *arg,
		       struct ql_error *err);

/* ---- tarpax.c: extended headers ---- */

struct ql_pax {
	char *path, *link; /* owned */
	bool has_size, has_uid, has_gid, has_mtime, has_real_size;
	uint64_t size, real_size;
	uint32_t uid, gid;
	int64_t mtime_sec;
	uint32_t mtime_nsec;
	struct ql_tar_time atime, ctime; /* not known where malformed */
	int sparse_major, sparse_minor;	 /* -1: none */
	struct ql_sparse_map map;	 /* owned; GNU.sparse 0.x */
	bool has_sparse_offset;
	uint64_t sparse_offset;
	struct ql_tar_xattr *xattrs; /* owned */
	size_t n_xattrs;
};
void ql_pax_release(struct ql_pax *pax);
void ql_pax_init(struct ql_pax *pax);
int ql_pax_parse(const char *data, size_t len, struct ql_pax *pax,
		 struct ql_error *err);

/* ---- layer.c ---- */

/* Records a layer whose tree is in place, and counts its objects.  epoch:
 * ql_doom_epoch() from before they were looked for; where some were taken away
 * since, the layer is lazy.  -EAGAIN: and has no table. */
int ql_layer_record(struct ql_store *store, struct ql_layer_info *info,
		    uint64_t epoch, struct ql_error *err);

/* ---- layerplaces.c: where a layer's files lie in its archive ---- */

struct ql_layer_places;
/* toc is borrowed: files and their chunks go there. */
int ql_layer_places_new(struct ql_toc_writer *toc,
			struct ql_layer_places **ret_places,
			struct ql_error *err);
void ql_layer_places_free(struct ql_layer_places *places);
/* A file of so many bytes: begin, its data in their order (holes left out),
 * end. */
void ql_layer_places_begin(struct ql_layer_places *places, uint64_t size,
			   bool sparse);
int ql_layer_places_add(struct ql_layer_places *places, uint64_t offset,
			uint64_t raw, const void *data, size_t len,
			struct ql_error *err);
int ql_layer_places_end(struct ql_layer_places *places,
			const struct ql_digest *digest, struct ql_error *err);
/* Writes layers/<blob>.toc; where the table cannot be had, none.  Durable
 * after a syncfs(2). */
int ql_layer_places_put(struct ql_layer_places *places, struct ql_store *store,
			const struct ql_digest *blob, struct ql_error *err);
/* Finishes a table and writes it as layers/<blob>.toc, likewise. */
int ql_toc_put(struct ql_store *store, const struct ql_digest *blob,
	       struct ql_toc_writer *toc, struct ql_error *err);

/* ---- layerentry.c: what an entry does to a layer's tree ---- */

struct ql_layertree;
struct ql_meta;

/* Sets a regular file's meta->data or meta->object. */
typedef int ql_entry_content_fn(void *arg, struct ql_meta *meta,
				struct ql_error *err);
/* -EINVAL, …: an entry that no image may hold, named.  1: passed over. */
int ql_layer_entry(struct ql_layertree *lt, const struct ql_tar_entry *e,
		   ql_entry_content_fn *content, void *arg,
		   struct ql_error *err);

/* ---- path.c: names in archives ---- */

enum { QL_PATH_MAX = 4095, QL_NAME_MAX = 255 };
/* Normalized copy: no leading or trailing '/', no "." components.  -EINVAL:
 * "..", -ENAMETOOLONG. */
int ql_path_normalize(const char *path, char **ret_path, struct ql_error *err);

/* ---- layertree.c: a layer's entries while its archive is read ---- */

struct ql_meta {
	uint32_t mode; /* with type */
	uint32_t uid, gid;
	uint64_t size;
	int64_t mtime_sec;
	uint32_t mtime_nsec;
	dev_t rdev;
	const char *target;	 /* symlinks */
	const uint8_t *data;	 /* inline content, or NULL */
	struct ql_digest object; /* where data is NULL and size > 0 */
	const struct ql_tar_xattr *xattrs;
	size_t n_xattrs;
};

enum { QL_INLINE_MAX = 64 }; /* larger files are objects */

/* xattrs by which a layer's tree says what a composefs image cannot. */
#define QL_XATTR_PREFIX "trusted.quicklayer."
#define QL_XATTR_IMPLICIT                                                      \
	QL_XATTR_PREFIX "implicit"	     /* folder without entry           \
					      */
#define QL_XATTR_LINK QL_XATTR_PREFIX "link" /* hardlink into a lower layer */
#define QL_XATTR_HAS_LINKS QL_XATTR_PREFIX "has-links" /* on the root */

int ql_layertree_new(struct ql_layertree **ret_lt, struct ql_error *err);
void ql_layertree_free(struct ql_layertree *lt);
QL_DEFINE_CLEANUP(struct ql_layertree *, ql_layertree_free)
/* Adds a file, folder, … (copied).  Parents that have no entry are made. */
int ql_layertree_add(struct ql_layertree *lt, const char *path,
		     const struct ql_meta *meta, struct ql_error *err);
/* Adds a hardlink; to a path that is not in this layer, a mark. */
int ql_layertree_link(struct ql_layertree *lt, const char *path,
		      const char *target, struct ql_error *err);
/* Writes it as a composefs image, replacing path atomically; the tree
 * is empty after it, and can only be freed. */
int ql_layertree_write(struct ql_layertree *lt, struct ql_store *store,
		       const char *tmp_path, const char *path,
		       struct ql_digest *ret_digest, struct ql_error *err);

/* ---- cfs.c: writing composefs images (libcomposefs) ---- */

struct lcfs_node_s;
int ql_cfs_node_new(const struct ql_meta *meta, struct lcfs_node_s **ret_node,
		    struct ql_error *err);
/* Sets an empty xattr. */
int ql_cfs_mark(struct lcfs_node_s *node, const char *name,
		struct ql_error *err);
int ql_cfs_link_new(struct lcfs_node_s *target, struct lcfs_node_s **ret_node,
		    struct ql_error *err);
void ql_cfs_node_free(struct lcfs_node_s *node);
QL_DEFINE_CLEANUP(struct lcfs_node_s *, ql_cfs_node_free)
/* Takes child on success. */
int ql_cfs_add(struct lcfs_node_s *parent, struct lcfs_node_s *child,
	       const char *name, struct ql_error *err);
/* Writes tmp_path below the root, makes it durable and renames it to path;
 * compress: as one zstd frame.  The digest is of what is on disk. */
int ql_cfs_write(struct lcfs_node_s *root, struct ql_store *store,
		 const char *tmp_path, const char *path, bool compress,
		 struct ql_digest *ret_digest, struct ql_error *err);

/* ---- stack.c: what a stack of layers says about a name ---- */

struct ql_stack_dir { /* one layer's part of a folder */
	size_t layer; /* 0: lowest */
	struct ql_inode dir;
	bool opaque;
	bool whiteouts; /* it holds some */
};

struct ql_stack_list {		    /* uppermost first */
	struct ql_stack_dir *items; /* owned; whose entries count */
	size_t n;
	struct ql_stack_dir attributes; /* whose attributes count */
	bool described; /* some layer had an entry for the folder itself */
	bool closed;	/* by an opaque one */
};

/* What the layers say about one name. */
struct ql_stack_hit {
	bool found;
	size_t layer;		   /* of the inode */
	struct ql_inode inode;	   /* the uppermost */
	struct ql_stack_list dirs; /* where it is a folder */
};

struct ql_stack {
	struct ql_tree *const *trees; /* borrowed; lowest first */
	size_t n;
	bool has_links; /* some layer links into those below it */
};
int ql_stack_init(struct ql_stack *stack, struct ql_tree *const *trees,
		  size_t n, struct ql_error *err);
/* Adds the roots of the layers up to and with `top` to list. */
int ql_stack_roots(struct ql_stack *stack, size_t top,
		   struct ql_stack_list *list, struct ql_error *err);
void ql_stack_list_release(struct ql_stack_list *list);
#define _cleanup_list_ __attribute__((cleanup(ql_stack_list_release)))
int ql_stack_lookup(struct ql_stack *stack, const struct ql_stack_list *list,
		    const char *name, size_t len, struct ql_stack_hit *ret_hit,
		    struct ql_error *err);
void ql_stack_hit_release(struct ql_stack_hit *hit);
#define _cleanup_hit_ __attribute__((cleanup(ql_stack_hit_release)))
/* Where the hit is a link into a lower layer: the file that it links to. */
int ql_stack_follow(struct ql_stack *stack, struct ql_stack_hit *hit,
		    struct ql_error *err);
bool ql_xattr_is(const struct ql_xattr *x, const char *name);

/* ---- merge.c: a stack of layers as one tree ---- */

/* trees: lowest first.  The merged tree (owned), and info's counts of its
 * inodes and bytes; the layers' trees are not needed after it. */
int ql_merge(struct ql_tree *const *trees, size_t n, struct ql_image_info *info,
	     struct lcfs_node_s **ret_root, struct ql_error *err);

/* ---- image.c ---- */

/* Another may have built it meanwhile: true, and info is what is there. */
bool ql_image_is_built(struct ql_store *store, struct ql_image_info *info);
/* Records an image whose files are durable; own: what
 * ql_image_own_objects() would say. */
int ql_image_record(struct ql_store *store, struct ql_image_info *info,
		    const struct ql_object_set *own, const char *name,
		    struct ql_error *err);
/* The objects that any image needs itself: manifest and configuration; added
 * to set (unsorted). */
int ql_image_documents(const struct ql_store *store,
		       const struct ql_image_info *info,
		       struct ql_object_set *set, struct ql_error *err);
/* The same, and where its tree came ready-made, that tree's. */
int ql_image_own_objects(const struct ql_store *store,
			 const struct ql_image_info *info,
			 struct ql_object_set *ret_set, struct ql_error *err);

/* ---- ready.c ---- */

/* What stands beside an image's tree goes with it; the bytes of disk. */
uint64_t ql_image_side_remove(struct ql_store *store,
			      const struct ql_digest *manifest);

/* ---- paths of metadata ---- */

enum { QL_CFS_PATH = 80 };
/* "images/<hex>.cfs" and the like; returns buf. */
char *ql_cfs_path(const char *dir, const struct ql_digest *digest,
		  char buf[QL_CFS_PATH]);
/* "layers/<hex>.toc"; returns buf. */
char *ql_toc_path(const char *dir, const struct ql_digest *digest,
		  char buf[QL_CFS_PATH]);
/* Replaces path by data, atomically; what was written is durable only after a
 * syncfs(2). */
int ql_file_put(struct ql_store *store, const char *tmp_path, const char *path,
		const void *data, size_t len, struct ql_error *err);
/* "layers/<hex>.cfs.zst"; returns buf. */
char *ql_layer_path(const struct ql_digest *digest, char buf[QL_CFS_PATH]);
/* Digest of a whole file below root_fd. */
int ql_file_digest(int root_fd, const char *path, struct ql_digest *ret_digest,
		   uint64_t *ret_size, struct ql_error *err);

/* ---- tree.c ---- */

/* Over memory from malloc(3), taken on success. */
int ql_tree_open_own(void *data, size_t len, struct ql_tree **ret_tree,
		     struct ql_error *err);

enum {
	QL_TREE_BLOCK_BITS = 12,
	QL_TREE_BLOCK = 1 << QL_TREE_BLOCK_BITS,
	QL_TREE_NAME_MAX = 255,
	QL_TREE_SYMLINKS_MAX = 40, /* followed in one path, as Linux does */
};

/* EROFS data layouts that composefs writes (erofs_fs.h). */
enum {
	QL_TREE_FLAT_PLAIN = 0,
	QL_TREE_FLAT_INLINE = 2,
	QL_TREE_CHUNK_BASED = 4,
};

/* len bytes of the image at pos, borrowed; NULL where they are not in it. */
const uint8_t *ql_tree_span(const struct ql_tree *tree, uint64_t pos,
			    uint64_t len);
/* Where shared xattrs start. */
uint64_t ql_tree_xattr_base(const struct ql_tree *tree);
/* One block of a flat inode's data and its length; -EBADMSG. */
int ql_tree_block(const struct ql_tree *tree, const struct ql_inode *inode,
		  uint64_t block, const uint8_t **ret_data, size_t *ret_len);

/* ---- tree-xattr.c ---- */

/* As ql_tree_xattr(), but as the image stores them. */
int ql_tree_xattr_raw(const struct ql_tree *tree, const struct ql_inode *inode,
		      uint64_t *pos, struct ql_xattr *ret_xattr);
/* An xattr by its stored name after "trusted.": 1, 0 (none) or -EBADMSG. */
int ql_tree_xattr_trusted(const struct ql_tree *tree,
			  const struct ql_inode *inode, const char *name,
			  struct ql_xattr *ret_xattr);

/* ---- partial.c ---- */

/* Bytes of disk that it takes; 0: there is none. */
uint64_t ql_partial_disk(const struct ql_store *store,
			 const struct ql_digest *digest);

/* Removes a partial file; its record counts for nothing then.  The bytes of
 * disk that it had. */
uint64_t ql_partial_unlink(struct ql_store *store,
			   const struct ql_digest *digest);

/* ---- packed.c: parts of blobs as they came ---- */

enum {
	QL_PACKED_DIR = 9,   /* "packed/ab" */
	QL_PACKED_PATH = 72, /* "packed/ab/<62 hex digits>", no NUL */
	QL_PACKED_PARTS_MAX = 1 << 16,
};
/* Returns buf. */
char *ql_packed_path(const struct ql_digest *blob,
		     char buf[QL_PACKED_PATH + 1]);

struct ql_packed_record {
	uint64_t size;		/* bytes, of the blob */
	uint64_t generation;	/* another after something of it went */
	uint64_t version;	/* another after each change */
	struct ql_extents have; /* owned */
};
void ql_packed_record_release(struct ql_packed_record *rec);
/* -EBADMSG. */
int ql_packed_record_parse(const void *value, size_t len,
			   struct ql_packed_record *ret);
/* -ENOENT: none, or a damaged one. */
int ql_packed_record_get(struct ql_txn *txn, const struct ql_digest *blob,
			 struct ql_packed_record *ret);

/* ---- packedview.c ---- */

/* The generation of the i-th blob's record; 0: there is none. */
uint64_t ql_packed_view_generation(const struct ql_packed_view *view,
				   uint32_t i);

/* ---- packedhere.c ---- */

/* What was remembered by ql_image_mark_here() of a layer (its diff ID) or of a
 * ready-made image (its manifest) is void: its record is written. */
int ql_here_forget(struct ql_txn *txn, const struct ql_digest *unit,
		   struct ql_error *err);

/* ---- toc.c, tocwriter.c: the file's layout ---- */

#define QL_TOC_MAGIC "QLTOC\0\0\1"
#define QL_TOC_FILES_OWN UINT32_MAX /* a chunk's digest is its file's */
enum {
	QL_TOC_HEADER = 8 + 6 * 4 + 8 + QL_DIGEST_BYTES,
	QL_TOC_BLOB = QL_DIGEST_BYTES + 8 + 4 + 4,
	QL_TOC_FILE = QL_DIGEST_BYTES + 8 + 4 + 4,
	QL_TOC_CHUNK = 8 + 8 + 4 * 4,
	QL_TOC_SPAN = 4 * 8 + 2 * 4 + 8 + 2 * 4,
};

#endif
