/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Making room while others are at work: one makes room at a time, who holds
 * something meanwhile keeps it, and processes that pull, read and make room at
 * once leave a store that is sound and counted right.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/wait.h>

#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#include "tests/unit/evictlab.h"

static struct ql_store *another(const struct lab *lab)
{
	struct ql_store *store = NULL;

	tarball_must(ql_store_open(lab->root, QL_STORE_WRITE, &store, NULL) ==
		     0);
	return store;
}

/* ---- one beside us, that makes room ---- */

struct maker {
	struct ql_store *store; /* owned: as of another process */
	uint64_t bytes;
	pthread_t thread;
	struct ql_keep_stats stats;
	int r;
	_Atomic bool done;
};

static void *maker_main(void *arg)
{
	struct maker *m = arg;

	m->r = ql_keep_make_room(m->store, m->bytes, &m->stats, NULL);
	atomic_store(&m->done, true);
	return NULL;
}

/* That so many bytes are free beyond what is. */
static void maker_start(struct maker *m, const struct lab *lab, uint64_t bytes)
{
	struct ql_space space;

	*m = (struct maker){ .store = another(lab) };
	tarball_must(ql_space_recount(m->store, &space, NULL) == 0);
	m->bytes = space.budget - space.margin - space.used + bytes;
	tarball_must(pthread_create(&m->thread, NULL, maker_main, m) == 0);
}

static void maker_end(struct maker *m)
{
	(void)pthread_join(m->thread, NULL);
	ql_store_close(m->store);
}

static void one_makes_room_at_a_time(void **state)
{
	_cleanup_lab_ struct lab lab;
	struct maker maker;
	struct ql_digest m[3];
	int lock = -1;

	(void)state;
	two_and_one(&lab, m);
	assert_int_equal(ql_keep_lock(lab.store, &lock, &lab.err), 0);
	maker_start(&maker, &lab, 4 * BIG - 8192);
	(void)usleep(200000);
	assert_false(atomic_load(&maker.done));
	for (unsigned int i = 1; i < 5; i++)
		assert_true(is_here(&lab, i));
	(void)close(lock);
	maker_end(&maker);
	assert_int_equal(maker.r, 0);
	assert_int_equal(maker.stats.units, 4);
	is_sound(&lab);
}

/* ---- one that is killed ---- */

static bool intents_are_there(struct lab *lab)
{
	struct ql_txn *txn;
	bool pending;

	tarball_must(ql_txn_begin(lab->store->catalog, false, &txn, NULL) == 0);
	pending = ql_doom_pending(txn);
	ql_txn_abort(txn);
	return pending;
}

/* Its file, whether it counts or not. */
static bool is_there(struct lab *lab, unsigned int seed)
{
	struct ql_digest d = noise_digest(seed);

	return ql_object_exists(lab->store, &d);
}

/* Who removes a file waits for who counts. */
static void intents_stand_before_a_file_goes_and_until_it_has(void **state)
{
	_cleanup_lab_ struct lab lab;
	struct ql_digest m[3];
	struct ql_space space;
	uint64_t bytes;
	int files = 0;
	bool stand;
	pid_t pid;

	(void)state;
	two_and_one(&lab, m);
	assert_int_equal(ql_space_recount(lab.store, &space, &lab.err), 0);
	bytes = space.budget - space.margin - space.used + 4 * BIG - 8192;
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		struct ql_store *store = another(&lab);

		(void)raise(SIGSTOP);
		(void)ql_keep_make_room(store, bytes, NULL, NULL);
		_exit(0);
	}
	/* It has the store open, which waits for who counts, too. */
	(void)waitpid(pid, NULL, WUNTRACED);
	tarball_must(ql_space_file_lock(lab.store->space) == 0);
	(void)kill(pid, SIGCONT);
	for (int i = 0; i < 1000 && !intents_are_there(&lab); i++)
		(void)usleep(10000);
	(void)usleep(200000);
	stand = intents_are_there(&lab);
	for (unsigned int i = 1; i < 5; i++)
		files += is_there(&lab, i);
	/* Before anything can fail: nobody else would. */
	(void)kill(pid, SIGKILL);
	(void)waitpid(pid, NULL, 0);
	ql_space_file_unlock(lab.store->space);
	assert_true(stand);
	assert_int_equal(files, 4);
	reopen(&lab);
	assert_false(intents_are_there(&lab));
	for (unsigned int i = 1; i < 5; i++)
		assert_false(is_there(&lab, i));
	is_sound(&lab);
}

/*
 * An eviction that stands still between looking who may go and taking them.
 * One image's tree is a pipe, which waits to be opened: once for that look, and
 * once, before any is taken, to be held.
 */
struct standstill {
	char *tree, *aside; /* owned */
	bool stood;
	struct maker maker;
};

/* Opened when it is opened there, which is waited for. */
static bool let_one_open(const char *pipe)
{
	int fd = -1;

	for (int i = 0; i < 1000 && fd < 0; i++) {
		fd = open(pipe, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
		if (fd < 0)
			(void)usleep(10000);
	}
	if (fd >= 0)
		(void)close(fd);
	return fd >= 0;
}

static void stand(struct standstill *s, struct lab *lab,
		  const struct ql_digest *decoy)
{
	char path[QL_CFS_PATH];

	*s = (struct standstill){
		.tree = ql_strf("%s/%s", lab->root,
				ql_cfs_path("images", decoy, path)),
		.aside = ql_strf("%s/aside", lab->root),
	};
	tarball_must(s->tree && s->aside && rename(s->tree, s->aside) == 0 &&
		     mkfifo(s->tree, 0600) == 0);
	maker_start(&s->maker, lab, 4 * BIG - 8192);
	s->stood = let_one_open(s->tree);
	/* It looks by a transaction, which it ends before it takes any. */
	(void)usleep(200000);
	s->stood &= !atomic_load(&s->maker.done);
}

static void go_on(struct standstill *s)
{
	/* Nobody waits for an open any more. */
	int fd = open(s->tree, O_RDWR | O_CLOEXEC);

	tarball_must(fd >= 0);
	maker_end(&s->maker);
	(void)close(fd);
	tarball_must(rename(s->aside, s->tree) == 0);
	free(s->tree);
	free(s->aside);
	assert_true(s->stood);
}

static void what_is_pinned_meanwhile_stays(void **state)
{
	_cleanup_lab_ struct lab lab;
	struct standstill s;
	struct ql_digest m[3];

	(void)state;
	two_and_one(&lab, m);
	stand(&s, &lab, &m[2]);
	assert_int_equal(ql_image_pin(lab.store, &m[0], true, &lab.err), 0);
	go_on(&s);
	assert_true(is_here(&lab, 1) && is_here(&lab, 2));
	assert_int_equal(layer_flags(&lab, 1) & QL_LAYER_GONE, 0);
	assert_false(is_here(&lab, 3));
	is_sound(&lab);
}

static void what_is_promised_meanwhile_stays(void **state)
{
	_cleanup_lab_ struct lab lab;
	struct standstill s;
	struct ql_digest m[3];

	(void)state;
	two_and_one(&lab, m);
	stand(&s, &lab, &m[2]);
	assert_int_equal(ql_image_promise(lab.store, &m[0],
					  (uint64_t)time(NULL) + 60, &lab.err),
			 0);
	go_on(&s);
	assert_true(is_here(&lab, 1) && is_here(&lab, 2));
	assert_false(is_here(&lab, 3));
	is_sound(&lab);
}

static void a_layer_of_a_new_image_stays(void **state)
{
	_cleanup_lab_ struct lab lab;
	static const unsigned int base[] = { 1 };
	struct standstill s;
	struct ql_digest m[3];

	(void)state;
	two_and_one(&lab, m);
	stand(&s, &lab, &m[2]);
	(void)image(&lab, "four", base, 1);
	go_on(&s);
	assert_true(is_here(&lab, 1));
	assert_int_equal(layer_flags(&lab, 1) & QL_LAYER_GONE, 0);
	assert_false(is_here(&lab, 2));
	is_sound(&lab);
}

/* ---- all at once ---- */

enum { PROCESSES = 3, ROUNDS = 40, IMAGES = 10 };

/* Each image stands on one of two bases. */
static int build(struct lab *lab, unsigned int n)
{
	_cleanup_free_ char *name = ql_strf("image %u", n);
	struct ql_image_info info = { .layers = lab->layers };
	int lock = -1, r;

	tarball_must(name);
	/* As a pull does it. */
	r = ql_store_lock(lab->store, false, &lock, &lab->err);
	lab_restart(lab);
	for (int i = 0; i < 2 && r == 0; i++) {
		unsigned int seed = i ? 50 + n : 40 + n % 2;
		_cleanup_free_ char *layer = ql_strf("layer %u", seed);
		_cleanup_(ql_layer_unlockp) struct ql_layer_lock *own = NULL;
		struct ql_digest id;

		tarball_must(layer &&
			     ql_digest_of(layer, strlen(layer), &id) == 0);
		r = ql_layer_lock(lab->store, &id, &own, &lab->err);
		if (r == 0)
			r = lazy_layer_try(lab, layer, &seed, 1);
	}
	if (r == 0)
		r = ql_object_put(lab->store, name, strlen(name), NULL,
				  &info.manifest, &lab->err);
	if (r == 0)
		r = ql_object_put(lab->store, "{}", 2, NULL, &info.config,
				  &lab->err);
	info.n_layers = lab->n;
	lab->manifest = info.manifest;
	if (r == 0)
		r = ql_image_build(lab->store, &info, name, &lab->err);
	(void)close(lock);
	return r < 0 ? r
		     : ql_keep_access(lab->store, &lab->manifest, name, 0,
				      &lab->err);
}

static int bring(struct lab *lab, unsigned int seed)
{
	struct ql_digest d;

	return ql_object_put(lab->store, noise(seed), BIG, NULL, &d, &lab->err);
}

/* 0, or what went wrong.  Who has an image open has it fetched, and then all of
 * it stays until he closes it. */
static int use(struct lab *lab, unsigned int n)
{
	unsigned int seeds[2] = { 40 + n % 2, 50 + n };
	struct ql_tree *tree;
	bool whole;
	int r = build(lab, n);

	if (r < 0 && r != -ENOSPC && r != -EAGAIN && r != -ENOENT)
		return 1;
	/* It may have gone before we open it. */
	if (r < 0 ||
	    ql_tree_open_image(lab->store, &lab->manifest, &tree, NULL) < 0)
		return 0;
	r = ql_keep_open(lab->store, &lab->manifest, &lab->err);
	for (int i = 0; i < 2 && r == 0; i++)
		r = bring(lab, seeds[i]);
	if (r == 0)
		r = ql_image_mark_whole(lab->store, &lab->manifest, &whole,
					&lab->err);
	for (int i = 0; i < 4 && r == 0; i++) {
		if (!is_here(lab, seeds[0]) || !is_here(lab, seeds[1]))
			return 2;
		(void)usleep(2000);
	}
	ql_tree_close(tree);
	return r == 0 || r == -ENOSPC || r == -EAGAIN ? 0 : 3;
}

static int process_main(const struct lab *parent, unsigned int seed)
{
	struct lab lab = *parent;
	struct ql_keep_stats stats;
	struct ql_space space;

	lab.store = another(parent);
	for (int i = 0; i < ROUNDS; i++) {
		int bad = use(&lab, (unsigned int)rand_r(&seed) % IMAGES);

		if (bad) {
			print_message("%d: %s\n", bad, lab.err.text);
			return bad;
		}
		if (rand_r(&seed) % 4 == 0 &&
		    ql_space_get(lab.store, &space, NULL) == 0)
			(void)ql_keep_make_room(lab.store,
						space.budget - space.margin -
							space.used + BIG,
						&stats, NULL);
	}
	ql_store_close(lab.store);
	return 0;
}

static void many_make_room_and_pull_at_once(void **state)
{
	_cleanup_lab_ struct lab lab;
	struct ql_keep_status status;
	struct ql_space before, after;
	pid_t pids[PROCESSES];

	(void)state;
	lab_init(&lab);
	limit(&lab, 13 << 20);
	for (unsigned int i = 0; i < PROCESSES; i++) {
		pids[i] = fork();
		assert_true(pids[i] >= 0);
		if (pids[i] == 0)
			_exit(process_main(&lab, i + 1));
	}
	for (unsigned int i = 0; i < PROCESSES; i++) {
		int wait_status;

		assert_int_equal(waitpid(pids[i], &wait_status, 0), pids[i]);
		assert_true(WIFEXITED(wait_status));
		assert_int_equal(WEXITSTATUS(wait_status), 0);
	}
	assert_int_equal(ql_keep_status(lab.store, &status, &lab.err), 0);
	assert_true(status.evictions > PROCESSES);
	is_sound(&lab);
	assert_int_equal(ql_space_get(lab.store, &before, &lab.err), 0);
	assert_int_equal(ql_space_recount(lab.store, &after, &lab.err), 0);
	/* Folders that grew are found by the walk alone; what got its name
	 * during a walk counts twice until the next. */
	assert_in_range(before.used - before.metadata,
			after.used - after.metadata,
			after.used - after.metadata + (64 << 10));
	assert_int_equal(after.taken, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_makes_room_at_a_time),
		cmocka_unit_test(
			intents_stand_before_a_file_goes_and_until_it_has),
		cmocka_unit_test(what_is_pinned_meanwhile_stays),
		cmocka_unit_test(what_is_promised_meanwhile_stays),
		cmocka_unit_test(a_layer_of_a_new_image_stays),
		cmocka_unit_test(many_make_room_and_pull_at_once),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
