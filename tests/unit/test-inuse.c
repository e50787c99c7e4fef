/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fs/inuse.c, and what of slots.c and openfile.c says which images may be let
 * go of: processes in a folder, mounts in a namespace of their own, files that
 * are open, and the order of what nobody uses.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fs/fs-private.h"
#include "tests/unit/layers.h"

#define SECOND ((uint64_t)1000000000)

static struct ql_buf tar = QL_BUF_INIT(1 << 20);

/* A process that has done something, until it is told to end. */
struct other {
	pid_t pid;
	int out[2]; /* closed: it has done it */
	int in[2];  /* closed: it may end */
};

static void other_start(struct other *o, bool (*fn)(const char *dir),
			const char *dir)
{
	char byte;

	assert_int_equal(pipe(o->out), 0);
	assert_int_equal(pipe(o->in), 0);
	o->pid = fork();
	assert_true(o->pid >= 0);
	if (o->pid == 0) {
		(void)close(o->out[0]);
		(void)close(o->in[1]);
		if (!fn(dir))
			_exit(1);
		(void)close(o->out[1]);
		(void)!read(o->in[0], &byte, 1);
		_exit(0);
	}
	(void)close(o->out[1]);
	(void)close(o->in[0]);
	assert_int_equal(read(o->out[0], &byte, 1), 0);
}

static int other_end(struct other *o)
{
	int status;

	(void)close(o->in[1]);
	(void)close(o->out[0]);
	assert_int_equal(waitpid(o->pid, &status, 0), o->pid);
	return WEXITSTATUS(status);
}

static bool go_there(const char *dir)
{
	return chdir(dir) == 0;
}

/* Mounted where nobody else sees it, and under another name. */
static bool mount_there(const char *dir)
{
	return unshare(CLONE_NEWNS) == 0 &&
	       mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
	       mount(dir, "/mnt", NULL, MS_BIND, NULL) == 0;
}

static bool has(const char *seed)
{
	_cleanup_(ql_digests_release) struct ql_digests d = { 0 };
	struct ql_digest one;

	assert_int_equal(ql_digest_of(seed, strlen(seed), &one), 0);
	assert_int_equal(ql_digests_in_use(&d, NULL), 0);
	return ql_digests_have(&d, &one);
}

/* root/by-digest/<digest of seed>/usr */
static void make_dir(const char *root, const char *seed, char *ret, size_t len)
{
	char text[QL_DIGEST_TEXT + 1];
	struct ql_digest one;

	assert_int_equal(ql_digest_of(seed, strlen(seed), &one), 0);
	(void)snprintf(ret, len, "%s/by-digest/%s/usr", root,
		       ql_digest_text(&one, text));
	assert_int_equal(ql_mkdir_p(ret, NULL), 0);
}

static void who_is_in_a_folder_uses_it(void **state)
{
	_cleanup_lab_ struct lab lab;
	char dir[256], seed[32];
	struct other o;

	(void)state;
	lab_init(&lab);
	(void)snprintf(seed, sizeof(seed), "cwd %ld", (long)getpid());
	make_dir(lab.root, seed, dir, sizeof(dir));
	assert_false(has(seed));
	other_start(&o, go_there, dir);
	assert_true(has(seed));
	assert_int_equal(other_end(&o), 0);
	assert_false(has(seed));
}

static void a_mount_of_another_namespace_is_seen(void **state)
{
	_cleanup_lab_ struct lab lab;
	char dir[256], seed[32];
	struct other o;

	(void)state;
	if (geteuid() != 0)
		skip();
	lab_init(&lab);
	(void)snprintf(seed, sizeof(seed), "mount %ld", (long)getpid());
	make_dir(lab.root, seed, dir, sizeof(dir));
	other_start(&o, mount_there, dir);
	assert_true(has(seed));
	assert_int_equal(other_end(&o), 0);
	assert_false(has(seed));
}

/* Room for one more descriptor: for /proc, and no namespace's mounts. */
static void what_cannot_be_looked_at_is_not_unused(void **state)
{
	_cleanup_(ql_digests_release) struct ql_digests d = { 0 };
	struct rlimit was, few;
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

	(void)state;
	assert_true(fd >= 0);
	(void)close(fd);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &was), 0);
	few = was;
	few.rlim_cur = (rlim_t)fd + 1;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
	assert_int_equal(ql_digests_in_use(&d, NULL), -EMFILE);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &was), 0);
}

static struct ql_slot *open_image(struct lab *lab, struct ql_slots *slots,
				  const char *name)
{
	struct ql_slot *slot;

	lab_restart(lab);
	tarball_file(&tar, "file", name);
	assert_int_equal(lab_layer(lab, &tar), 0);
	assert_int_equal(lab_build(lab, name), 0);
	assert_int_equal(ql_slots_open(slots, QL_V_IMAGE, &lab->manifest, &slot,
				       NULL),
			 0);
	return slot;
}

static void the_longest_unused_image_comes_first(void **state)
{
	_cleanup_lab_ struct lab lab;
	_cleanup_free_ struct ql_slot_image *list = NULL;
	struct ql_slots *slots;
	struct ql_slot *a, *b, *c;
	size_t n;

	(void)state;
	lab_init(&lab);
	slots = ql_slots_new(lab.store, 16);
	a = open_image(&lab, slots, "a");
	b = open_image(&lab, slots, "b");
	c = open_image(&lab, slots, "c");
	(void)usleep(20000); /* the clock ticks each 4 ms or so */
	assert_ptr_equal(ql_slots_hold(slots, a->number), a);
	assert_int_equal(ql_slots_images(slots, &list, &n), 0);
	assert_int_equal(n, 3);
	assert_int_equal(list[2].number, a->number);
	assert_true(list[2].used > list[0].used);
	assert_true(ql_digest_equal(&list[2].digest, &a->digest));
	/* What proved to be in use is left alone for a while. */
	ql_slots_spare(slots, b->number, 60 * SECOND);
	ql_slots_spare(slots, c->number, 0);
	free(ql_take_ptr(list));
	assert_int_equal(ql_slots_images(slots, &list, &n), 0);
	assert_int_equal(n, 2);
	assert_int_equal(list[0].number, c->number);
	/* What was closed is no longer held. */
	ql_slots_put(slots, c, 1);
	assert_true(ql_slots_drop(slots, &c->digest));
	free(ql_take_ptr(list));
	assert_int_equal(ql_slots_images(slots, &list, &n), 0);
	assert_int_equal(n, 1);
	ql_slots_put(slots, a, 2);
	ql_slots_put(slots, b, 1);
	ql_slots_free(slots);
}

static void open_files_are_known_by_their_slot(void **state)
{
	struct ql_openfiles *files = ql_openfiles_new();
	struct ql_openfile *f = calloc(1, sizeof(*f));

	(void)state;
	assert_non_null(files);
	assert_non_null(f);
	f->ino = ql_ino(7, 36, 40);
	f->fd = -1;
	assert_false(ql_openfiles_of_slot(files, 7));
	assert_ptr_equal(ql_openfiles_add(files, f), f);
	assert_true(ql_openfiles_of_slot(files, 7));
	assert_false(ql_openfiles_of_slot(files, 8));
	assert_true(ql_openfiles_put(files, f));
	assert_false(ql_openfiles_of_slot(files, 7));
	free(f);
	ql_openfiles_free(files, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(who_is_in_a_folder_uses_it),
		cmocka_unit_test(a_mount_of_another_namespace_is_seen),
		cmocka_unit_test(what_cannot_be_looked_at_is_not_unused),
		cmocka_unit_test(the_longest_unused_image_comes_first),
		cmocka_unit_test(open_files_are_known_by_their_slot),
	};
	int r;

	cmocka_set_message_output(CM_OUTPUT_TAP);
	r = cmocka_run_group_tests(tests, NULL, NULL);
	ql_buf_release(&tar);
	return r;
}
