/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The counter that all processes share: root/space, mapped.  Its layout is
 * struct ql_space_page, in this machine's byte order; it is worth nothing
 * after the machine was started again (a page may not have reached the disk),
 * nor to another machine, and is counted anew then.
 *
 * Each open store has a slot, where what it has taken and not yet put under a
 * name is counted, too.  The slot's byte of the file is locked (fcntl(2), OFD
 * locks) for as long as its owner lives: what a killed process had taken is
 * told from what a living one has.
 */
#include "store/store-private.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define SPACE_MAGIC "QLSPACE1"

enum { SPACE_LEN = (int)sizeof(struct ql_space_page) };

/* Bytes of the file that are locked: beyond its end, which is fine. */
enum { SPACE_LOCK_COUNT = 1 << 20, SPACE_LOCK_SLOTS };

static int lock_byte(int fd, int op, int type, off_t at)
{
	struct flock fl = { .l_type = (short)type,
			    .l_whence = SEEK_SET,
			    .l_start = at,
			    .l_len = 1 };
	int r;

	do
		r = fcntl(fd, op, &fl);
	while (r < 0 && errno == EINTR);
	if (r < 0)
		return -errno;
	return op == F_OFD_GETLK && fl.l_type != F_UNLCK ? -EAGAIN : 0;
}

/* Each time the machine starts it has another one. */
static void read_boot(char boot[QL_SPACE_BOOT])
{
	_cleanup_close_ int fd =
		open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);

	memset(boot, 0, QL_SPACE_BOOT);
	if (fd < 0 || read(fd, boot, QL_SPACE_BOOT) <= 0)
		boot[0] = '?';
}

/* ---- slots ---- */

static void slot_is_used(struct ql_space_page *page, unsigned int i)
{
	uint32_t high = atomic_load(&page->slots);

	while (high <= i &&
	       !atomic_compare_exchange_weak(&page->slots, &high, i + 1))
		;
}

static void slot_clear(struct ql_space_page *page, unsigned int i)
{
	atomic_store(&page->written[i], 0);
	atomic_store(&page->taken[i], 0);
}

/* Of a dead one: what it had taken may be on the disk, and under names that
 * nobody counted.  So it counts as if it were all named, until a recount, which
 * is made before anybody is refused, or goes, for it.  A count that knows of it
 * as buried has seen it named. */
static void slot_bury(struct ql_space_page *page, unsigned int i)
{
	int64_t taken = atomic_load(&page->taken[i]);

	if (taken > 0) {
		(void)atomic_fetch_add(&page->named, taken);
		(void)atomic_fetch_add(&page->since, taken);
		(void)atomic_fetch_add(&page->buried, taken);
	}
	slot_clear(page, i);
}

static int slot_claim(struct ql_space_file *file)
{
	for (unsigned int i = 0; i < QL_SPACE_SLOTS; i++) {
		if (lock_byte(file->fd, F_OFD_SETLK, F_WRLCK,
			      SPACE_LOCK_SLOTS + (off_t)i) < 0)
			continue;
		slot_bury(file->page, i);
		slot_is_used(file->page, i);
		file->slot = i;
		file->slotted = true;
		return 0;
	}
	return -EAGAIN;
}

uint64_t ql_space_file_taken(const struct ql_space_file *file,
			     uint64_t *ret_unwritten)
{
	uint32_t n = atomic_load(&file->page->slots);
	int64_t sum = 0, unwritten = 0;

	if (n > QL_SPACE_SLOTS)
		n = QL_SPACE_SLOTS;
	for (uint32_t i = 0; i < n; i++) {
		int64_t written = atomic_load(&file->page->written[i]);
		int64_t taken = atomic_load(&file->page->taken[i]);

		if (taken > 0)
			sum += taken;
		if (taken > written)
			unwritten += taken - written;
	}
	*ret_unwritten = (uint64_t)unwritten;
	return (uint64_t)sum;
}

void ql_space_file_bury(struct ql_space_file *file)
{
	uint32_t n = atomic_load(&file->page->slots);

	for (uint32_t i = 0; i < n && i < QL_SPACE_SLOTS; i++) {
		off_t at = SPACE_LOCK_SLOTS + (off_t)i;

		if (file->fd < 0 || i == file->slot ||
		    atomic_load(&file->page->taken[i]) == 0 ||
		    lock_byte(file->fd, F_OFD_SETLK, F_WRLCK, at) < 0)
			continue;
		slot_bury(file->page, i);
		(void)lock_byte(file->fd, F_OFD_SETLK, F_UNLCK, at);
	}
}

/* ---- who frees, and who counts ---- */

int ql_space_file_lock(struct ql_space_file *file)
{
	(void)pthread_rwlock_wrlock(&file->walk);
	if (file->fd < 0)
		return 0;
	return lock_byte(file->fd, F_OFD_SETLKW, F_WRLCK, SPACE_LOCK_COUNT);
}

void ql_space_file_unlock(struct ql_space_file *file)
{
	if (file->fd >= 0)
		(void)lock_byte(file->fd, F_OFD_SETLK, F_UNLCK,
				SPACE_LOCK_COUNT);
	(void)pthread_rwlock_unlock(&file->walk);
}

/* Threads share the lock of their open file: the first takes it for all. */
void ql_space_file_share(struct ql_space_file *file)
{
	(void)pthread_rwlock_rdlock(&file->walk);
	(void)pthread_mutex_lock(&file->lock);
	if (file->freeing++ == 0 && file->fd >= 0)
		(void)lock_byte(file->fd, F_OFD_SETLKW, F_RDLCK,
				SPACE_LOCK_COUNT);
	(void)pthread_mutex_unlock(&file->lock);
}

void ql_space_file_unshare(struct ql_space_file *file)
{
	(void)pthread_mutex_lock(&file->lock);
	if (--file->freeing == 0 && file->fd >= 0)
		(void)lock_byte(file->fd, F_OFD_SETLK, F_UNLCK,
				SPACE_LOCK_COUNT);
	(void)pthread_mutex_unlock(&file->lock);
	(void)pthread_rwlock_unlock(&file->walk);
}

/* ---- opening ---- */

/* Its blocks are on disk: a mapped page without one would be a SIGBUS where
 * the disk is full. */
static int file_allocate(int fd)
{
	static const char zeros[4096];
	struct stat st;
	off_t at;

	if (fstat(fd, &st) < 0)
		return -errno;
	for (at = st.st_size; at < SPACE_LEN;) {
		size_t n = sizeof(zeros);
		ssize_t w;

		if ((off_t)n > SPACE_LEN - at)
			n = (size_t)(SPACE_LEN - at);
		w = pwrite(fd, zeros, n, at);
		if (w < 0 && errno == EINTR)
			continue;
		if (w <= 0)
			return w < 0 ? -errno : -EIO;
		at += w;
	}
	return 0;
}

/* For who only reads: he cannot count into it. */
static bool page_is_current(const struct ql_space_page *page)
{
	char boot[QL_SPACE_BOOT];

	read_boot(boot);
	return memcmp(page->magic, SPACE_MAGIC, sizeof(page->magic)) == 0 &&
	       memcmp(page->boot, boot, sizeof(boot)) == 0 &&
	       atomic_load(&page->counted) && atomic_load(&page->limited);
}

/* The lock for counting is held. */
static void page_begin(struct ql_space_page *page)
{
	char boot[QL_SPACE_BOOT];

	read_boot(boot);
	if (memcmp(page->magic, SPACE_MAGIC, sizeof(page->magic)) == 0 &&
	    memcmp(page->boot, boot, sizeof(boot)) == 0)
		return;
	memset(page, 0, sizeof(*page));
	memcpy(page->boot, boot, sizeof(boot));
	memcpy(page->magic, SPACE_MAGIC, sizeof(page->magic));
}

static int file_map(struct ql_space_file *file, int root_fd, bool write)
{
	struct stat st;
	void *p;
	int r;

	file->fd = openat(root_fd, "space",
			  (write ? O_RDWR | O_CREAT : O_RDONLY) | O_CLOEXEC |
				  O_NOFOLLOW,
			  0644);
	if (file->fd < 0)
		return -errno;
	r = write ? file_allocate(file->fd) : 0;
	if (r < 0 || fstat(file->fd, &st) < 0 || st.st_size < SPACE_LEN)
		return r < 0 ? r : -ENOENT;
	p = mmap(NULL, (size_t)SPACE_LEN,
		 write ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED,
		 file->fd, 0);
	if (p == MAP_FAILED)
		return -errno;
	file->page = p;
	if (!write)
		return page_is_current(p) ? 0 : -ENOENT;
	r = ql_space_file_lock(file);
	if (r == 0)
		page_begin(file->page);
	ql_space_file_unlock(file);
	return r < 0 ? r : slot_claim(file);
}

/* Of this process alone: there is none, and no room for one. */
static int file_private(struct ql_space_file *file)
{
	if (file->page)
		(void)munmap(file->page, (size_t)SPACE_LEN);
	file->page = NULL;
	if (file->fd >= 0)
		(void)close(ql_take_fd(&file->fd));
	file->page = mmap(NULL, (size_t)SPACE_LEN, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (file->page == MAP_FAILED) {
		file->page = NULL;
		return -ENOMEM;
	}
	page_begin(file->page);
	slot_is_used(file->page, 0);
	file->slot = 0;
	return 0;
}

int ql_space_file_open(int root_fd, bool write, struct ql_space_file **ret_file,
		       struct ql_error *err)
{
	struct ql_space_file *file = calloc(1, sizeof(*file));
	int r;

	if (!file)
		return ql_error_nomem(err);
	file->fd = -1;
	(void)pthread_mutex_init(&file->lock, NULL);
	(void)pthread_rwlock_init(&file->walk, NULL);
	file->catalog_fd = -1;
	r = file_map(file, root_fd, write);
	if (r < 0) {
		if (write)
			ql_debug("msg=\"the space counter is not shared\" "
				 "error=%d",
				 r);
		r = file_private(file);
	} else {
		file->shared = true;
	}
	if (r == 0) {
		file->catalog_fd = openat(root_fd, "catalog/data.mdb",
					  O_RDONLY | O_CLOEXEC);
		if (file->catalog_fd < 0)
			r = -errno;
	}
	if (r < 0) {
		ql_space_file_close(file);
		return ql_error_errno(err, r, "space");
	}
	*ret_file = file;
	return 0;
}

void ql_space_file_close(struct ql_space_file *file)
{
	if (!file)
		return;
	/* Nothing is being written any more. */
	if (file->page && file->slotted)
		slot_clear(file->page, file->slot);
	if (file->page)
		(void)munmap(file->page, (size_t)SPACE_LEN);
	if (file->fd >= 0)
		(void)close(file->fd);
	if (file->catalog_fd >= 0)
		(void)close(file->catalog_fd);
	(void)pthread_mutex_destroy(&file->lock);
	(void)pthread_rwlock_destroy(&file->walk);
	free(file);
}
