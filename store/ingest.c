/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The one door by which content enters: stream, hash, compare, sync, link.
 *
 * A file is written without a name (O_TMPFILE), so a killed writer leaves
 * nothing.  Names are given in batches: one thread of the door's own makes a
 * batch durable with one syncfs(2), then links each file to the name that its
 * digest is, while the next batch is being written; a name never stands for
 * bytes that could still be lost.  Files that fit the small buffer are hashed
 * before anything is written, so that content which is here already costs no
 * write at all.  Runs of zeros become holes.
 *
 * One thread uses a door; `lock` protects what its own thread shares, and what
 * others look at (ql_ingest_open()).
 */
#include "store/store-private.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/resource.h>

enum {
	INGEST_SMALL = 256 << 10,
	INGEST_PIECE = 64 << 10, /* looked at for zeros */
	INGEST_BATCH_FILES = 512,
	INGEST_BATCH_BYTES = 64 << 20,
};

struct ingest_item {
	int fd; /* owned */
	struct ql_digest digest;
	uint64_t taken; /* of disk, and not yet under its name */
};

struct ingest_batch {
	struct ingest_item *items; /* owned; room for the door's max_files */
	size_t n;
	uint64_t bytes;
};

struct ql_ingest {
	struct ql_store *store;	  /* borrowed */
	int sync_fd;		  /* owned; for syncfs(2) */
	struct ql_hasher *hasher; /* owned */
	char *small;		  /* owned; INGEST_SMALL bytes */
	int fd;	      /* owned; the current object's, or -1 while it is small */
	uint64_t len; /* of the current object */
	uint64_t taken; /* of disk, for it */
	struct ql_layer_stats stats;
	size_t max_files; /* in a batch */
	struct ingest_batch batches[2];
	struct ingest_batch *filling; /* one of the two */

	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct ingest_batch *pending; /* lock: being published, or NULL */
	bool stop;		      /* lock */
	int status;		      /* lock: the thread's first failure */
	struct ql_error err;	      /* lock */
};

/* ---- the publishing thread ---- */

/* What could not be written is told once to each open file that asks
 * (Documentation/filesystems/vfs.rst, "Handling errors during writeback"): a
 * door that shared the store's would lose its error to another door. */
static int ingest_sync(const struct ql_ingest *ing, struct ql_error *err)
{
	if (syncfs(ing->sync_fd) < 0)
		return ql_error_errno(err, -errno, "write to %s",
				      ing->store->root);
	return 0;
}

static int batch_publish(struct ql_ingest *ing, struct ingest_batch *batch,
			 struct ql_error *err)
{
	int r = ingest_sync(ing, err);

	for (size_t i = 0; i < batch->n && r == 0; i++)
		r = ql_object_publish(ing->store, batch->items[i].fd,
				      &batch->items[i].digest,
				      &batch->items[i].taken, err);
	return r;
}

static void batch_clear(struct ql_ingest *ing, struct ingest_batch *batch)
{
	for (size_t i = 0; i < batch->n; i++) {
		(void)close(batch->items[i].fd);
		ql_space_done(ing->store, batch->items[i].taken, 0);
	}
	batch->n = 0;
	batch->bytes = 0;
}

static void *ingest_main(void *arg)
{
	struct ql_ingest *ing = arg;

	(void)pthread_mutex_lock(&ing->lock);
	for (;;) {
		struct ingest_batch *batch;
		struct ql_error err = QL_ERROR_INIT;
		int r;

		while (!ing->pending && !ing->stop)
			(void)pthread_cond_wait(&ing->changed, &ing->lock);
		batch = ing->pending;
		if (!batch)
			break;
		(void)pthread_mutex_unlock(&ing->lock);
		r = batch_publish(ing, batch, &err);
		(void)pthread_mutex_lock(&ing->lock);
		batch_clear(ing, batch);
		ing->pending = NULL;
		if (r < 0 && ing->status == 0) {
			ing->status = r;
			ing->err = err;
		}
		(void)pthread_cond_broadcast(&ing->changed);
	}
	(void)pthread_mutex_unlock(&ing->lock);
	return NULL;
}

/* Waits until the thread is idle; its failure, if it had one. */
static int ingest_wait(struct ql_ingest *ing, struct ql_error *err)
{
	int r;

	(void)pthread_mutex_lock(&ing->lock);
	while (ing->pending)
		(void)pthread_cond_wait(&ing->changed, &ing->lock);
	r = ing->status;
	if (r < 0)
		(void)ql_error_set(err, r, "%s", ing->err.text);
	(void)pthread_mutex_unlock(&ing->lock);
	return r;
}

static int ingest_hand_over(struct ql_ingest *ing, struct ql_error *err)
{
	int r = ingest_wait(ing, err);

	if (r < 0 || ing->filling->n == 0)
		return r;
	r = ql_space_take(ing->store, 0, err);
	if (r < 0)
		return r;
	(void)pthread_mutex_lock(&ing->lock);
	ing->pending = ing->filling;
	ing->filling = ing->filling == &ing->batches[0] ? &ing->batches[1]
							: &ing->batches[0];
	(void)pthread_cond_broadcast(&ing->changed);
	(void)pthread_mutex_unlock(&ing->lock);
	return 0;
}

int ql_ingest_flush(struct ql_ingest *ing, struct ql_error *err)
{
	int r = ingest_hand_over(ing, err);

	if (r == 0)
		r = ingest_wait(ing, err);
	/* The names themselves, before anything counts on them. */
	return r < 0 ? r : ingest_sync(ing, err);
}

/* ---- opening and closing the door ---- */

/* A few doors are open at once, and each has two batches. */
static size_t ingest_max_files(void)
{
	struct rlimit rl;
	size_t n = INGEST_BATCH_FILES;

	if (getrlimit(RLIMIT_NOFILE, &rl) == 0 && rl.rlim_cur / 16 < n)
		n = (size_t)rl.rlim_cur / 16;
	return n > 0 ? n : 1;
}

int ql_ingest_new(struct ql_store *store, struct ql_ingest **ret_ingest,
		  struct ql_error *err)
{
	struct ql_ingest *ing;
	int r = ql_store_need_write(store, err);

	if (r < 0)
		return r;
	ing = calloc(1, sizeof(*ing));
	if (!ing)
		return ql_error_nomem(err);
	ing->store = store;
	ing->fd = -1;
	ing->max_files = ingest_max_files();
	ing->hasher = ql_hasher_new();
	ing->small = malloc(INGEST_SMALL);
	for (int i = 0; i < 2; i++)
		ing->batches[i].items =
			calloc(ing->max_files, sizeof(struct ingest_item));
	ing->filling = &ing->batches[0];
	(void)pthread_mutex_init(&ing->lock, NULL);
	(void)pthread_cond_init(&ing->changed, NULL);
	ing->sync_fd =
		openat(store->root_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (ing->sync_fd < 0)
		r = ql_error_errno(err, -errno, "open %s", store->root);
	if (!ing->hasher || !ing->small || !ing->batches[0].items ||
	    !ing->batches[1].items)
		r = ql_error_nomem(err);
	if (r == 0) {
		r = -pthread_create(&ing->thread, NULL, ingest_main, ing);
		if (r < 0)
			(void)ql_error_errno(err, r, "start a thread");
	}
	if (r < 0) {
		ing->stop = true;
		ql_ingest_free(ing);
		return r;
	}
	*ret_ingest = ing;
	return 0;
}

/* The current object. */
static void ingest_forget(struct ql_ingest *ing)
{
	if (ing->fd >= 0)
		(void)close(ql_take_fd(&ing->fd));
	ql_space_done(ing->store, ing->taken, 0);
	ing->taken = 0;
}

void ql_ingest_free(struct ql_ingest *ing)
{
	if (!ing)
		return;
	if (!ing->stop) {
		(void)pthread_mutex_lock(&ing->lock);
		ing->stop = true;
		(void)pthread_cond_broadcast(&ing->changed);
		(void)pthread_mutex_unlock(&ing->lock);
		(void)pthread_join(ing->thread, NULL);
	}
	for (int i = 0; i < 2; i++) {
		batch_clear(ing, &ing->batches[i]);
		free(ing->batches[i].items);
	}
	ingest_forget(ing);
	if (ing->sync_fd >= 0)
		(void)close(ing->sync_fd);
	(void)pthread_cond_destroy(&ing->changed);
	(void)pthread_mutex_destroy(&ing->lock);
	ql_hasher_free(ing->hasher);
	free(ing->small);
	free(ing);
}

/* ---- one object ---- */

/* At least so many bytes, in all. */
static int ingest_take(struct ql_ingest *ing, uint64_t bytes,
		       struct ql_error *err)
{
	uint64_t need = ql_space_blocks(bytes);
	int r;

	if (need <= ing->taken)
		return 0;
	r = ql_space_take(ing->store, need - ing->taken, err);
	if (r == 0)
		ing->taken = need;
	return r;
}

int ql_ingest_begin(struct ql_ingest *ing, uint64_t size, struct ql_error *err)
{
	ingest_forget(ing);
	if (ql_hasher_reset(ing->hasher) < 0)
		return ql_error_nomem(err);
	ing->len = 0;
	return size <= INGEST_SMALL ? 0 : ingest_take(ing, size, err);
}

static bool all_zero(const char *p, size_t n)
{
	return p[0] == 0 && memcmp(p, p + 1, n - 1) == 0;
}

static int ingest_put(struct ql_ingest *ing, const char *data, size_t len,
		      struct ql_error *err)
{
	int r = 0;

	while (len > 0 && r == 0) {
		size_t n = len < INGEST_PIECE ? len : INGEST_PIECE;

		if (n == INGEST_PIECE && all_zero(data, n)) {
			if (lseek(ing->fd, (off_t)n, SEEK_CUR) < 0)
				r = -errno;
		} else {
			r = ql_write_full(ing->fd, data, n);
		}
		data += n;
		len -= n;
	}
	if (r < 0)
		return ql_error_errno(err, r, "write to %s", ing->store->root);
	return 0;
}

/* The current object becomes a file: what is in the small buffer goes in. */
static int ingest_spill(struct ql_ingest *ing, const struct ql_digest *digest,
			struct ql_error *err)
{
	int r = ingest_take(ing, ing->len, err);

	if (r == 0)
		r = ql_object_create(ing->store, digest, &ing->fd, err);
	if (r < 0)
		return r;
	return ingest_put(ing, ing->small, (size_t)ing->len, err);
}

int ql_ingest_write(struct ql_ingest *ing, const void *data, size_t len,
		    struct ql_error *err)
{
	int r = 0;

	ql_hasher_update(ing->hasher, data, len);
	if (ing->fd < 0 && ing->len + len <= INGEST_SMALL) {
		memcpy(ing->small + ing->len, data, len);
		ing->len += len;
		return 0;
	}
	if (ing->fd < 0)
		r = ingest_spill(ing, NULL, err);
	/* Its size was said, but maybe not right. */
	if (r == 0)
		r = ingest_take(ing, ing->len + len, err);
	if (r == 0)
		r = ingest_put(ing, data, len, err);
	ing->len += len;
	return r;
}

static bool batch_has(const struct ingest_batch *batch,
		      const struct ql_digest *digest)
{
	for (size_t i = 0; i < batch->n; i++)
		if (ql_digest_equal(&batch->items[i].digest, digest))
			return true;
	return false;
}

/* Its own thread may be publishing the other batch; it does not change the
 * digests, and a batch that it has finished meanwhile is on disk. */
static bool ingest_has(struct ql_ingest *ing, const struct ql_digest *digest)
{
	bool has;

	if (ql_object_exists(ing->store, digest) ||
	    batch_has(ing->filling, digest))
		return true;
	(void)pthread_mutex_lock(&ing->lock);
	has = ing->pending && batch_has(ing->pending, digest);
	(void)pthread_mutex_unlock(&ing->lock);
	return has;
}

int ql_ingest_end(struct ql_ingest *ing, struct ql_digest *ret_digest,
		  struct ql_error *err)
{
	struct ingest_batch *batch = ing->filling;
	struct ql_digest d;
	int r = 0;

	ql_hasher_final(ing->hasher, &d);
	if (ingest_has(ing, &d)) {
		ing->stats.dup_objects++;
		ing->stats.dup_bytes += ing->len;
		ingest_forget(ing);
		*ret_digest = d;
		return 0;
	}
	if (ing->fd < 0)
		r = ingest_spill(ing, &d, err);
	/* The last piece may be a hole. */
	if (r == 0 && ing->len >= INGEST_PIECE &&
	    ftruncate(ing->fd, (off_t)ing->len) < 0)
		r = ql_error_errno(err, -errno, "write to %s",
				   ing->store->root);
	if (r < 0)
		return r;
	/* Start writing now: the batch's sync then has less to wait for. */
	(void)sync_file_range(ing->fd, 0, 0, SYNC_FILE_RANGE_WRITE);
	(void)pthread_mutex_lock(&ing->lock); /* ql_ingest_open() looks */
	batch->items[batch->n].fd = ql_take_fd(&ing->fd);
	batch->items[batch->n].digest = d;
	batch->items[batch->n].taken = ing->taken;
	batch->n++;
	batch->bytes += ing->len;
	ql_space_wrote(ing->store, ing->taken);
	ing->taken = 0;
	(void)pthread_mutex_unlock(&ing->lock);
	ing->stats.new_objects++;
	ing->stats.new_bytes += ing->len;
	if (batch->n == ing->max_files || batch->bytes >= INGEST_BATCH_BYTES)
		r = ingest_hand_over(ing, err);
	if (r == 0)
		*ret_digest = d;
	return r;
}

int ql_ingest_open(struct ql_ingest *ing, const struct ql_digest *digest,
		   int *ret_fd)
{
	int fd = -1, r = -ENOENT;

	(void)pthread_mutex_lock(&ing->lock);
	for (size_t i = 0; i < 2 && r == -ENOENT; i++) {
		const struct ingest_batch *batch = &ing->batches[i];

		for (size_t j = 0; j < batch->n && r == -ENOENT; j++)
			if (ql_digest_equal(&batch->items[j].digest, digest)) {
				fd = fcntl(batch->items[j].fd, F_DUPFD_CLOEXEC,
					   0);
				r = fd < 0 ? -errno : 0;
			}
	}
	(void)pthread_mutex_unlock(&ing->lock);
	if (r == 0)
		*ret_fd = fd;
	return r;
}

void ql_ingest_stats(const struct ql_ingest *ing,
		     struct ql_layer_stats *ret_stats)
{
	*ret_stats = ing->stats;
}
