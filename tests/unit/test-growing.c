/* SPDX-License-Identifier: Apache-2.0 */
/* fs/growing.c: who waits for an image that is being pulled, and for what. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "fs/grow.h"
#include "tests/unit/layers.h"

enum { WAIT_MS = 5000, SHORT_MS = 100 };

static struct ql_buf tar = QL_BUF_INIT(8 << 20);

struct scene {
	struct lab lab;
	struct ql_growings *growings;
	struct ql_growing *growing;
	struct ql_digest manifest;
};

struct asker {
	struct ql_growwait w; /* first */
	pthread_mutex_t lock;
	int error, told;
};

static void on_done(struct ql_growwait *w, int error)
{
	struct asker *a = (struct asker *)w;

	(void)pthread_mutex_lock(&a->lock);
	a->error = error;
	a->told++;
	(void)pthread_mutex_unlock(&a->lock);
}

/* Whether it has been told something by then, and what. */
static bool is_told(struct asker *a, int ms, int *ret_error)
{
	bool told = false;

	for (int i = 0; i <= ms && !told; i++) {
		(void)pthread_mutex_lock(&a->lock);
		told = a->told > 0;
		*ret_error = a->error;
		(void)pthread_mutex_unlock(&a->lock);
		if (!told)
			(void)usleep(1000);
	}
	return told;
}

static void assert_told(struct asker *a, int want)
{
	int error = 1;

	assert_true(is_told(a, WAIT_MS, &error));
	assert_int_equal(error, want);
}

static void assert_waits(struct asker *a)
{
	int error;

	assert_false(is_told(a, SHORT_MS, &error));
}

static struct asker asker_of(struct scene *s, const char *path)
{
	return (struct asker){ .w = { .path = path,
				      .whole = !path,
				      .growings = s->growings,
				      .done = on_done },
			       .lock = PTHREAD_MUTEX_INITIALIZER };
}

static void ask(struct scene *s, struct asker *a)
{
	if (!a->w.path)
		a->w.path = "";
	ql_growings_wait(s->growings, &s->manifest, &a->w);
}

/* An image of two layers, the lower of which is here. */
static void scene_init(struct scene *s, uint64_t timeout)
{
	struct ql_digest layers[2];
	const struct ql_pull_watch *watch;

	lab_init(&s->lab);
	tarball_file(&tar, "low", "0");
	assert_int_equal(lab_layer(&s->lab, &tar), 0);
	layers[0] = s->lab.layers[0];
	assert_int_equal(ql_digest_of("upper", 5, &layers[1]), 0);
	assert_int_equal(ql_digest_of("image", 5, &s->manifest), 0);
	assert_int_equal(
		ql_growings_new(s->lab.store, timeout, &s->growings, NULL), 0);
	s->growing = ql_growing_new(s->growings, "docker.io/library/a:b");
	assert_non_null(s->growing);
	watch = ql_growing_watch(s->growing);
	assert_int_equal(watch->begin(&s->manifest, layers, 2, watch->arg), 0);
}

static void scene_release(struct scene *s)
{
	if (s->growing)
		ql_growing_end(s->growing, -EIO);
	ql_growings_free(s->growings);
	lab_release(&s->lab);
}
#define _cleanup_scene_ __attribute__((cleanup(scene_release)))

static void end(struct scene *s, int error)
{
	ql_growing_end(ql_take_ptr(s->growing), error);
}

static void pass(struct scene *s, const char *name)
{
	const struct ql_pull_watch *watch = ql_growing_watch(s->growing);
	const struct ql_layer_watch *layer = watch->layer(1, watch->arg);
	char path[32];
	struct ql_tar_entry e = { .type = '0', .path = path, .mode = 0644 };

	(void)snprintf(path, sizeof(path), "%s", name);
	layer->entry(&e, &(struct ql_content){ 0 }, layer->arg);
}

static void begin(struct scene *s)
{
	const struct ql_pull_watch *watch = ql_growing_watch(s->growing);
	const struct ql_layer_watch *layer = watch->layer(1, watch->arg);

	layer->begin(NULL, layer->arg);
}

static void here(struct scene *s)
{
	const struct ql_pull_watch *watch = ql_growing_watch(s->growing);

	watch->here(1, watch->arg);
}

static int find(struct scene *s, const char *path)
{
	struct ql_growfile f;

	return ql_growing_find(s->growing, path, &f);
}

static void an_entry_wakes_who_asked_for_it(void **state)
{
	_cleanup_scene_ struct scene s;
	struct asker one, other, all;

	(void)state;
	scene_init(&s, UINT64_MAX);
	one = asker_of(&s, "one");
	other = asker_of(&s, "other");
	all = asker_of(&s, NULL);
	ask(&s, &one);
	ask(&s, &other);
	ask(&s, &all);
	assert_waits(&one);
	begin(&s);
	pass(&s, "one");
	assert_told(&one, 0);
	assert_int_equal(find(&s, "one"), 0);
	assert_waits(&other);
	end(&s, 0);
	assert_told(&other, 0);
	assert_told(&all, 0);
}

static void a_whole_layer_wakes_who_asked_for_those_below(void **state)
{
	_cleanup_scene_ struct scene s;
	struct asker low, all;

	(void)state;
	scene_init(&s, UINT64_MAX);
	low = asker_of(&s, "low");
	all = asker_of(&s, NULL);
	begin(&s);
	assert_int_equal(find(&s, "low"), -EINPROGRESS);
	ask(&s, &low);
	ask(&s, &all);
	assert_waits(&low);
	here(&s);
	assert_told(&low, 0);
	assert_int_equal(find(&s, "low"), 0);
	assert_int_equal(find(&s, "none"), -ENOENT);
	assert_waits(&all);
	end(&s, 0);
	assert_told(&all, 0);
}

static void a_pull_that_fails_is_an_error(void **state)
{
	_cleanup_scene_ struct scene s;
	struct asker one, late;

	(void)state;
	scene_init(&s, UINT64_MAX);
	one = asker_of(&s, "one");
	ask(&s, &one);
	assert_non_null(s.growing);
	end(&s, -ECONNRESET);
	assert_told(&one, -EIO);
	/* There is nothing to wait for: asking again tells. */
	late = asker_of(&s, "one");
	ask(&s, &late);
	assert_told(&late, 0);
	assert_null(ql_growings_find(s.growings, &s.manifest));
}

static void nobody_waits_for_what_does_not_come(void **state)
{
	_cleanup_scene_ struct scene s;
	struct asker one, all;

	(void)state;
	scene_init(&s, 600000000);
	one = asker_of(&s, "one");
	all = asker_of(&s, NULL);
	ask(&s, &one);
	ask(&s, &all);
	for (int i = 0; i < 10; i++) { /* as long as something comes */
		ql_growing_progress(s.growing);
		assert_waits(&one);
	}
	assert_told(&one, -EIO);
	assert_told(&all, -EIO);
}

static void who_is_interrupted_goes(void **state)
{
	_cleanup_scene_ struct scene s;
	struct asker one, early;

	(void)state;
	scene_init(&s, UINT64_MAX);
	one = asker_of(&s, "one");
	early = asker_of(&s, "one");
	ask(&s, &one);
	ql_growwait_hurry(&one.w, -EINTR);
	assert_told(&one, -EINTR);
	ql_growwait_hurry(&early.w, -EINTR);
	ask(&s, &early);
	assert_told(&early, -EINTR);
}

static void the_end_of_all_is_an_error(void **state)
{
	_cleanup_scene_ struct scene s;
	struct asker one;

	(void)state;
	scene_init(&s, UINT64_MAX);
	one = asker_of(&s, "one");
	ask(&s, &one);
	ql_growings_stop(s.growings);
	assert_told(&one, -EIO);
}

static void images_have_names_while_they_are_pulled(void **state)
{
	_cleanup_scene_ struct scene s;
	struct ql_error err = QL_ERROR_INIT;
	struct ql_growing *again;
	const struct ql_pull_watch *watch;
	char text[QL_DIGEST_TEXT + 1];
	struct ql_digest d;

	(void)state;
	scene_init(&s, UINT64_MAX);
	assert_int_equal(ql_growings_named(s.growings, "a:b", &d, &err), 0);
	assert_true(ql_digest_equal(&d, &s.manifest));
	assert_int_equal(ql_growings_named(s.growings, ql_digest_text(&d, text),
					   &d, &err),
			 0);
	assert_int_equal(ql_growings_named(s.growings, "a:c", &d, &err),
			 -ENOENT);
	/* A second pull of it is shown by the first one's. */
	again = ql_growing_new(s.growings, "other");
	watch = ql_growing_watch(again);
	assert_int_equal(watch->begin(&s.manifest, s.lab.layers, 1, watch->arg),
			 -EEXIST);
	ql_growing_end(again, 0);
	end(&s, 0);
	assert_int_equal(ql_growings_named(s.growings, "a:b", &d, &err),
			 -ENOENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_entry_wakes_who_asked_for_it),
		cmocka_unit_test(a_whole_layer_wakes_who_asked_for_those_below),
		cmocka_unit_test(a_pull_that_fails_is_an_error),
		cmocka_unit_test(nobody_waits_for_what_does_not_come),
		cmocka_unit_test(who_is_interrupted_goes),
		cmocka_unit_test(the_end_of_all_is_an_error),
		cmocka_unit_test(images_have_names_while_they_are_pulled),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
