/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every failure in turn: one layer's import and its image's build, in which
 * the Nth allocation, or the Nth call of one kind that writes, fails; N counts
 * up until nothing fails any more.  What fails says so and records nothing,
 * and the same import without the failure succeeds after it.
 *
 * The calls are those of the whole program, libraries included: a definition
 * here comes before libc's.  They are defined under libc's symbols by asm
 * labels, since its headers have redirections and inlines of their own.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include <dlfcn.h>
#include <errno.h>
#include <stdatomic.h>

#include "tests/unit/layers.h"

enum fault {
	FAULT_NONE,
	FAULT_ALLOC,
	FAULT_OPEN,
	FAULT_WRITE,
	FAULT_SYNC,
	FAULT_NAME, /* linkat, renameat */
};

static _Atomic int fault_kind; /* enum fault */
static _Atomic long fault_left;
static atomic_bool fault_fired;

static bool fault(enum fault kind, int code)
{
	if (atomic_load(&fault_kind) != (int)kind ||
	    atomic_fetch_sub(&fault_left, 1) != 1)
		return false;
	atomic_store(&fault_fired, true);
	errno = code;
	return true;
}

static void fault_arm(enum fault kind, long n)
{
	atomic_store(&fault_fired, false);
	atomic_store(&fault_left, n);
	atomic_store(&fault_kind, (int)kind);
}

/* ---- in libc's place ---- */

/* The function of that name which this program would call without us. */
#define NEXT(type, name)                                                       \
	static type next;                                                      \
	if (!next)                                                             \
	next = (type)dlsym(RTLD_NEXT, name)

typedef int open_fn(int dir, const char *path, int flags, mode_t mode);
typedef ssize_t write_fn(int fd, const void *data, size_t len);
typedef ssize_t pwrite_fn(int fd, const void *data, size_t len, off_t offset);
typedef int sync_fn(int fd);
typedef int link_fn(int from_dir, const char *from, int to_dir, const char *to,
		    int flags);
typedef int rename_fn(int from_dir, const char *from, int to_dir,
		      const char *to);

open_fn fault_openat __asm__("openat64");
write_fn fault_write __asm__("write");
pwrite_fn fault_pwrite __asm__("pwrite64");
sync_fn fault_syncfs __asm__("syncfs");
sync_fn fault_fsync __asm__("fsync");
sync_fn fault_fdatasync __asm__("fdatasync");
link_fn fault_linkat __asm__("linkat");
rename_fn fault_renameat __asm__("renameat");

int fault_openat(int dir, const char *path, int flags, mode_t mode)
{
	NEXT(open_fn *, "openat64");
	return fault(FAULT_OPEN, EMFILE) ? -1 : next(dir, path, flags, mode);
}

ssize_t fault_write(int fd, const void *data, size_t len)
{
	NEXT(write_fn *, "write");
	return fault(FAULT_WRITE, ENOSPC) ? -1 : next(fd, data, len);
}

ssize_t fault_pwrite(int fd, const void *data, size_t len, off_t offset)
{
	NEXT(pwrite_fn *, "pwrite64");
	return fault(FAULT_WRITE, ENOSPC) ? -1 : next(fd, data, len, offset);
}

int fault_syncfs(int fd)
{
	NEXT(sync_fn *, "syncfs");
	return fault(FAULT_SYNC, EIO) ? -1 : next(fd);
}

int fault_fsync(int fd)
{
	NEXT(sync_fn *, "fsync");
	return fault(FAULT_SYNC, EIO) ? -1 : next(fd);
}

int fault_fdatasync(int fd)
{
	NEXT(sync_fn *, "fdatasync");
	return fault(FAULT_SYNC, EIO) ? -1 : next(fd);
}

int fault_linkat(int from_dir, const char *from, int to_dir, const char *to,
		 int flags)
{
	NEXT(link_fn *, "linkat");
	return fault(FAULT_NAME, EIO) ? -1
				      : next(from_dir, from, to_dir, to, flags);
}

int fault_renameat(int from_dir, const char *from, int to_dir, const char *to)
{
	NEXT(rename_fn *, "renameat");
	return fault(FAULT_NAME, EIO) ? -1 : next(from_dir, from, to_dir, to);
}

/* A sanitizer has allocators of its own, which must not be covered up. */
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define FAULT_HAS_ALLOC 1

void *__libc_malloc(size_t len);
void *__libc_calloc(size_t n, size_t len);
void *__libc_realloc(void *p, size_t len);
void *fault_malloc(size_t len) __asm__("malloc");
void *fault_calloc(size_t n, size_t len) __asm__("calloc");
void *fault_realloc(void *p, size_t len) __asm__("realloc");

void *fault_malloc(size_t len)
{
	return fault(FAULT_ALLOC, ENOMEM) ? NULL : __libc_malloc(len);
}

void *fault_calloc(size_t n, size_t len)
{
	return fault(FAULT_ALLOC, ENOMEM) ? NULL : __libc_calloc(n, len);
}

void *fault_realloc(void *p, size_t len)
{
	return fault(FAULT_ALLOC, ENOMEM) ? NULL : __libc_realloc(p, len);
}
#endif

/* ---- the work ---- */

/* A layer like no other: files inside of the tree and objects, a hardlink, a
 * symlink, a whiteout, xattrs, a large sparse file. */
static void make_layer(struct ql_buf *tar, enum fault kind, long n)
{
	static char data[400000];
	char text[64];

	ql_buf_clear(tar);
	(void)snprintf(text, sizeof(text), "fault %d, call %ld", (int)kind, n);
	memset(data, '#', 100000);
	memcpy(data, text, strlen(text));
	tarball_dir(tar, "dir", 0755);
	tarball_file(tar, "dir/small", text);
	for (size_t len = 100; len <= sizeof(data); len *= 63) {
		tarball_add(tar,
			    &(struct tarball_entry){
				    .name = len > 100 ? "dir/large"
						      : "dir/object",
				    .type = '0',
				    .data = data,
				    .len = len > 100 ? sizeof(data) : len });
	}
	tarball_paxs(tar, "SCHILY.xattr.user.name", "value");
	tarball_link(tar, '2', "dir/sym", "small");
	tarball_link(tar, '1', "dir/hard", "dir/small");
	tarball_file(tar, "dir/.wh.gone", "");
	tarball_end(tar);
}

static int layer_and_image(struct lab *lab, const struct ql_buf *tar,
			   const struct ql_digest *diff_id,
			   struct ql_image_info *info)
{
	struct ql_layer_info layer = { .diff_id = *diff_id };
	struct ql_layer_stats stats;
	struct ql_digest digest = *diff_id;
	struct ql_stream *in;
	int r = ql_stream_from_mem(tar->data, tar->len, &in, &lab->err);

	if (r == 0)
		r = ql_layer_import(lab->store, in, &layer, NULL, &stats,
				    &lab->err);
	if (r == 0)
		r = ql_object_put(lab->store, diff_id->bytes, QL_DIGEST_BYTES,
				  NULL, &info->manifest, &lab->err);
	if (r == 0)
		r = ql_object_put(lab->store, "{}", 2, NULL, &info->config,
				  &lab->err);
	info->layers = &digest;
	info->n_layers = 1;
	if (r == 0)
		r = ql_image_build(lab->store, info, NULL, &lab->err);
	return r;
}

/* A catalogue that failed to write wants to be opened anew. */
static void reopen(struct lab *lab)
{
	ql_store_close(lab->store);
	lab->store = NULL;
	tarball_must(ql_store_open(lab->root, QL_STORE_WRITE, &lab->store,
				   &lab->err) == 0);
}

/* True where nothing failed: there is no Nth call. */
static bool one_fault(struct lab *lab, struct ql_buf *tar, enum fault kind,
		      long n)
{
	struct ql_image_info info = { 0 };
	struct ql_image_info got = { 0 };
	struct ql_digest diff_id;
	int r;

	make_layer(tar, kind, n);
	tarball_must(ql_digest_of(tar->data, tar->len, &diff_id) == 0);
	lab->err = (struct ql_error)QL_ERROR_INIT;
	fault_arm(kind, n);
	r = layer_and_image(lab, tar, &diff_id, &info);
	atomic_store(&fault_kind, FAULT_NONE);
	if (r < 0) {
		if (!fault_fired)
			fail_msg("no call failed: %s", lab->err.text);
		if (lab->err.code != r || !lab->err.text[0])
			fail_msg("call %ld: %d, \"%s\"", n, r, lab->err.text);
		reopen(lab);
		assert_int_equal(ql_image_get(lab->store, &info.manifest, &got),
				 -ENOENT);
		r = layer_and_image(lab, tar, &diff_id, &info);
		if (r < 0)
			fail_msg("after call %ld: %s", n, lab->err.text);
	}
	assert_int_equal(ql_image_get(lab->store, &info.manifest, &got), 0);
	ql_image_info_release(&got);
	return !fault_fired;
}

static void print_finding(const char *finding, void *arg)
{
	(void)arg;
	print_message("# %s\n", finding);
}

static void every_fault(enum fault kind)
{
	_cleanup_lab_ struct lab lab;
	_cleanup_buf_ struct ql_buf tar = QL_BUF_INIT(1 << 20);
	struct ql_fsck_stats stats;
	long n = 1;

	lab_init(&lab);
	/* Further on in steps: most of those calls are one another's like. */
	while (!one_fault(&lab, &tar, kind, n))
		n += 1 + n / 30;
	print_message("# %ld calls\n", n - 1);
	assert_in_range(n, 2, 100000);
	assert_int_equal(ql_store_fsck(lab.store, print_finding, NULL, &stats,
				       &lab.err),
			 0);
	assert_int_equal(stats.errors, 0);
}

#ifdef FAULT_HAS_ALLOC
static void out_of_memory(void **state)
{
	(void)state;
	every_fault(FAULT_ALLOC);
}
#endif

static void no_more_descriptors(void **state)
{
	(void)state;
	every_fault(FAULT_OPEN);
}

static void a_full_disk(void **state)
{
	(void)state;
	every_fault(FAULT_WRITE);
}

static void a_bad_disk(void **state)
{
	(void)state;
	every_fault(FAULT_SYNC);
}

static void no_name_to_be_had(void **state)
{
	(void)state;
	every_fault(FAULT_NAME);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#ifdef FAULT_HAS_ALLOC
		cmocka_unit_test(out_of_memory),
#endif
		cmocka_unit_test(no_more_descriptors),
		cmocka_unit_test(a_full_disk),
		cmocka_unit_test(a_bad_disk),
		cmocka_unit_test(no_name_to_be_had),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
