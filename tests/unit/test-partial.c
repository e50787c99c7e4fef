/* SPDX-License-Identifier: Apache-2.0 */
/* Objects that come piece by piece: no record ever stands for bytes that are
 * not there, and one process at a time writes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/wait.h>

#include <cmocka.h>

#include <errno.h>

#include "tests/unit/layers.h"

static const char content[] = "what is to come piece by piece";
enum { SIZE = sizeof(content) - 1 };

static struct ql_digest digest(void)
{
	struct ql_digest d;

	assert_int_equal(ql_digest_of(content, SIZE, &d), 0);
	return d;
}

static char *part_path(const struct lab *lab, const struct ql_digest *d)
{
	char hex[QL_DIGEST_HEX + 1];
	char *path =
		ql_strf("%s/partial/%s.part", lab->root, ql_digest_hex(d, hex));

	assert_non_null(path);
	return path;
}

static int part_open(struct lab *lab, const struct ql_digest *d,
		     struct ql_extents *e)
{
	int fd = -1;

	*e = (struct ql_extents){ 0 };
	assert_int_equal(
		ql_partial_open(lab->store, d, SIZE, &fd, e, &lab->err), 0);
	return fd;
}

/* Writes and records some of it, as one that fills would. */
static void part_fill(struct lab *lab, const struct ql_digest *d,
		      uint64_t start, uint64_t end)
{
	struct ql_extents e;
	_cleanup_close_ int fd = part_open(lab, d, &e);
	struct ql_partial_state p = { .digest = *d, .extents = &e, .fd = fd };

	assert_int_equal(pwrite(fd, content + start, end - start, (off_t)start),
			 end - start);
	assert_int_equal(ql_extents_add(&e, start, end), 0);
	assert_int_equal(ql_store_settle(lab->store, NULL, 0, &p, 1, &lab->err),
			 0);
	ql_extents_release(&e);
}

static void parts_are_remembered(void **state)
{
	_cleanup_lab_ struct lab lab;
	struct ql_digest d = digest();
	struct ql_extents e = { 0 };
	uint64_t size = 0;
	char buf[4];
	int fd, look = -1;

	(void)state;
	lab_init(&lab);
	assert_int_equal(ql_partial_look(lab.store, &d, &look, &size, &e,
					 &lab.err),
			 -ENOENT);
	fd = part_open(&lab, &d, &e);
	assert_int_equal(e.n, 0);
	assert_int_equal(lseek(fd, 0, SEEK_END), SIZE);
	(void)close(fd);
	assert_int_equal(ql_partial_bytes(lab.store, &d), 0);
	part_fill(&lab, &d, 0, 4);
	part_fill(&lab, &d, 8, 12);
	assert_int_equal(ql_partial_bytes(lab.store, &d), 8);
	/* Also to who only looks, while another writes. */
	fd = part_open(&lab, &d, &e);
	ql_extents_release(&e);
	assert_int_equal(
		ql_partial_look(lab.store, &d, &look, &size, &e, &lab.err), 0);
	(void)close(fd);
	assert_int_equal(size, SIZE);
	assert_int_equal(ql_extents_reach(&e, 8), 12);
	assert_int_equal(pread(look, buf, 4, 8), 4);
	assert_memory_equal(buf, content + 8, 4);
	(void)close(look);
	ql_extents_release(&e);
	fd = part_open(&lab, &d, &e);
	assert_int_equal(e.n, 2);
	assert_true(ql_extents_have(&e, 8, 12));
	assert_false(ql_extents_have(&e, 4, 5));
	assert_int_equal(pread(fd, buf, 4, 8), 4);
	assert_memory_equal(buf, content + 8, 4);
	(void)close(fd);
	ql_extents_release(&e);
}

/* Else its bytes, which are zeros, would be taken for what was there. */
static void a_record_whose_file_is_gone_counts_for_nothing(void **state)
{
	_cleanup_lab_ struct lab lab;
	struct ql_digest d = digest();
	_cleanup_free_ char *path = NULL;
	struct ql_extents e;

	(void)state;
	lab_init(&lab);
	path = part_path(&lab, &d);
	part_fill(&lab, &d, 0, SIZE / 2);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(ql_partial_bytes(lab.store, &d), 0);
	/* Opened, but nothing more: as if its process were killed then. */
	(void)close(part_open(&lab, &d, &e));
	assert_int_equal(e.n, 0);
	(void)close(part_open(&lab, &d, &e));
	assert_int_equal(e.n, 0);
	assert_int_equal(ql_partial_bytes(lab.store, &d), 0);
}

static void a_file_of_another_size_is_begun_anew(void **state)
{
	_cleanup_lab_ struct lab lab;
	struct ql_digest d = digest();
	_cleanup_free_ char *path = NULL;
	struct ql_extents e;
	char byte = 'x';
	int fd;

	(void)state;
	lab_init(&lab);
	path = part_path(&lab, &d);
	part_fill(&lab, &d, 0, 10);
	assert_int_equal(truncate(path, 10), 0);
	for (int i = 0; i < 2; i++) {
		fd = part_open(&lab, &d, &e);
		assert_int_equal(e.n, 0);
		assert_int_equal(pread(fd, &byte, 1, 5), 1);
		assert_int_equal(byte, 0);
		(void)close(fd);
	}
}

static void a_file_without_a_record_has_nothing(void **state)
{
	_cleanup_lab_ struct lab lab;
	struct ql_digest d = digest();
	_cleanup_free_ char *path = NULL;
	struct ql_extents e;
	int fd;

	(void)state;
	lab_init(&lab);
	path = part_path(&lab, &d);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0444);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, content, SIZE), SIZE);
	(void)close(fd);
	(void)close(part_open(&lab, &d, &e));
	assert_int_equal(e.n, 0);
}

/* In a process of its own, which has the store open by itself. */
static int other_process(const struct lab *lab, const struct ql_digest *d)
{
	struct ql_extents e = { 0 };
	struct ql_store *store;
	int fd, r;

	if (ql_store_open(lab->root, QL_STORE_WRITE, &store, NULL) < 0)
		return 1;
	r = ql_partial_open(store, d, SIZE, &fd, &e, NULL);
	ql_extents_release(&e);
	return r == -EBUSY ? 42 : 2;
}

static void another_process_has_to_wait(void **state)
{
	_cleanup_lab_ struct lab lab;
	struct ql_digest d = digest();
	struct ql_extents e;
	int fd, status;
	pid_t pid;

	(void)state;
	lab_init(&lab);
	fd = part_open(&lab, &d, &e);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		_exit(other_process(&lab, &d));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 42);
	(void)close(fd);
	(void)close(part_open(&lab, &d, &e));
}

/* As if an image had it. */
static void need(struct lab *lab, const struct ql_digest *d)
{
	const struct ql_object_record rec = { .size = SIZE, .refs = 1 };
	struct ql_txn *txn;

	assert_int_equal(ql_txn_begin(lab->store->catalog, true, &txn, NULL),
			 0);
	assert_int_equal(ql_record_put_object(txn, d, &rec, NULL), 0);
	assert_int_equal(ql_txn_commit(txn, NULL), 0);
}

static void what_is_whole_gets_its_name(void **state)
{
	_cleanup_lab_ struct lab lab;
	_cleanup_buf_ struct ql_buf got = QL_BUF_INIT(1 << 20);
	struct ql_digest d = digest();
	_cleanup_free_ char *path = NULL;
	struct ql_object_ready ready = { .digest = d, .named = true };
	struct ql_extents e;
	int fd;

	(void)state;
	lab_init(&lab);
	need(&lab, &d);
	path = part_path(&lab, &d);
	part_fill(&lab, &d, 0, 10);
	fd = part_open(&lab, &d, &e);
	assert_int_equal(pwrite(fd, content, SIZE, 0), SIZE);
	ready.fd = fd;
	assert_false(ql_object_here(lab.store, &d));
	assert_int_equal(
		ql_store_settle(lab.store, &ready, 1, NULL, 0, &lab.err), 0);
	assert_true(ql_object_here(lab.store, &d));
	assert_int_equal(access(path, F_OK), -1);
	assert_int_equal(ql_object_read(lab.store, &d, &got, &lab.err), 0);
	assert_memory_equal(got.data, content, SIZE);
	(void)close(fd);
	ql_extents_release(&e);
	/* And its record is gone: a new file begins with nothing. */
	(void)close(part_open(&lab, &d, &e));
	assert_int_equal(e.n, 0);
}

static void a_file_without_a_name_gets_one(void **state)
{
	_cleanup_lab_ struct lab lab;
	struct ql_digest d = digest();
	struct ql_object_ready ready = { .digest = d };
	int fd;

	(void)state;
	lab_init(&lab);
	need(&lab, &d);
	assert_int_equal(ql_object_scratch(lab.store, &d, &fd, &lab.err), 0);
	assert_int_equal(write(fd, content, SIZE), SIZE);
	ready.fd = fd;
	assert_int_equal(
		ql_store_settle(lab.store, &ready, 1, NULL, 0, &lab.err), 0);
	assert_true(ql_object_here(lab.store, &d));
	(void)close(fd);
}

static void what_nothing_needs_gets_no_name(void **state)
{
	_cleanup_lab_ struct lab lab;
	struct ql_digest d = digest();
	struct ql_object_ready ready = { .digest = d };

	(void)state;
	lab_init(&lab);
	assert_int_equal(ql_object_scratch(lab.store, &d, &ready.fd, &lab.err),
			 0);
	assert_int_equal(
		ql_store_settle(lab.store, &ready, 1, NULL, 0, &lab.err), 0);
	assert_false(ql_object_here(lab.store, &d));
	(void)close(ready.fd);
}

/* A file that was removed while it came, and another that began since. */
static void a_removed_file_is_not_recorded(void **state)
{
	_cleanup_lab_ struct lab lab;
	struct ql_digest d = digest();
	_cleanup_free_ char *path = NULL;
	struct ql_extents e, other;
	struct ql_object_ready ready = { .digest = d, .named = true };
	struct ql_partial_state p = { .digest = d, .extents = &e, .fd = -1 };
	int fd;

	(void)state;
	lab_init(&lab);
	need(&lab, &d);
	path = part_path(&lab, &d);
	p.fd = ready.fd = part_open(&lab, &d, &e);
	assert_int_equal(ql_extents_add(&e, 0, 10), 0);
	assert_int_equal(unlink(path), 0);
	fd = part_open(&lab, &d, &other);
	assert_int_equal(ql_store_settle(lab.store, NULL, 0, &p, 1, &lab.err),
			 0);
	(void)close(fd);
	fd = part_open(&lab, &d, &other);
	assert_int_equal(other.n, 0);
	(void)close(fd);
	/* Nor does it keep others from being settled. */
	assert_int_equal(
		ql_store_settle(lab.store, &ready, 1, NULL, 0, &lab.err), 0);
	(void)close(p.fd);
	ql_extents_release(&e);
}

/* More parts than a record may have: some of them are forgotten, and it is
 * no error. */
static void a_shattered_file_is_recorded_in_part(void **state)
{
	enum { PARTS = 70000 };
	_cleanup_lab_ struct lab lab;
	struct ql_digest d = digest();
	struct ql_extents e = { 0 }, got = { 0 };
	struct ql_partial_state p = { .digest = d, .extents = &e, .fd = -1 };
	int fd;

	(void)state;
	lab_init(&lab);
	assert_int_equal(ql_partial_open(lab.store, &d, 2 * PARTS, &fd, &got,
					 &lab.err),
			 0);
	p.fd = fd;
	for (uint64_t i = 0; i < PARTS; i++)
		assert_int_equal(ql_extents_add(&e, 2 * i, 2 * i + 1), 0);
	assert_int_equal(ql_store_settle(lab.store, NULL, 0, &p, 1, &lab.err),
			 0);
	(void)close(fd);
	assert_int_equal(ql_partial_open(lab.store, &d, 2 * PARTS, &fd, &got,
					 &lab.err),
			 0);
	(void)close(fd);
	assert_true(got.n > 60000);
	for (size_t i = 0; i < got.n; i++)
		assert_true(ql_extents_have(&e, got.items[i].start,
					    got.items[i].end));
	ql_extents_release(&got);
	ql_extents_release(&e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(parts_are_remembered),
		cmocka_unit_test(
			a_record_whose_file_is_gone_counts_for_nothing),
		cmocka_unit_test(a_file_of_another_size_is_begun_anew),
		cmocka_unit_test(a_file_without_a_record_has_nothing),
		cmocka_unit_test(another_process_has_to_wait),
		cmocka_unit_test(what_is_whole_gets_its_name),
		cmocka_unit_test(a_file_without_a_name_gets_one),
		cmocka_unit_test(what_nothing_needs_gets_no_name),
		cmocka_unit_test(a_removed_file_is_not_recorded),
		cmocka_unit_test(a_shattered_file_is_recorded_in_part),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
