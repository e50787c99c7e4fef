/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store/base/: buffers with a maximum, the bounds-checked cursor, digests,
 * errors as text, JSON, paths, and the streams.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "store/base/base.h"

static const char hello_hex[] = "2cf24dba5fb0a30e26e83b2ac5b9e29e"
				"1b161e5c1fa7425e73043362938b9824";

/* ---- buffers ---- */

static void a_buffer_keeps_to_its_maximum(void **state)
{
	_cleanup_buf_ struct ql_buf buf = QL_BUF_INIT(10);
	_cleanup_free_ char *taken = NULL;

	(void)state;
	assert_string_equal(ql_buf_str(&buf), "");
	assert_int_equal(ql_buf_adds(&buf, "12345"), 0);
	assert_int_equal(ql_buf_addf(&buf, "%d", 678), 0);
	assert_int_equal(ql_buf_adds(&buf, "9ab"), -EFBIG);
	assert_int_equal(ql_buf_addf(&buf, "%s", "9ab"), -EFBIG);
	assert_int_equal(ql_buf_add_le32(&buf, 1), -EFBIG);
	assert_int_equal(ql_buf_reserve(&buf, SIZE_MAX), -EFBIG);
	assert_string_equal(ql_buf_str(&buf), "12345678");
	assert_int_equal(ql_buf_adds(&buf, "9a"), 0);
	assert_int_equal(buf.len, 10);
	taken = ql_buf_take(&buf);
	assert_string_equal(taken, "123456789a");
	assert_int_equal(buf.len, 0);
	assert_int_equal(ql_buf_adds(&buf, "again"), 0);
	ql_buf_clear(&buf);
	assert_string_equal(ql_buf_str(&buf), "");
}

static void an_empty_buffer_gives_an_empty_string(void **state)
{
	struct ql_buf buf;
	_cleanup_free_ char *taken = NULL;

	(void)state;
	ql_buf_init(&buf, 5);
	taken = ql_buf_take(&buf);
	assert_non_null(taken);
	assert_string_equal(taken, "");
}

/* ---- the cursor ---- */

static void a_cursor_never_reads_past_the_end(void **state)
{
	static const uint8_t bytes[] = { 1, 2, 3, 4, 5, 6, 7, 8, 9 };
	struct ql_cursor c;

	(void)state;
	ql_cursor_init(&c, bytes, sizeof(bytes));
	assert_int_equal(ql_cursor_u8(&c), 1);
	assert_int_equal(ql_cursor_le16(&c), 0x0302);
	assert_int_equal(ql_cursor_le32(&c), 0x07060504);
	assert_int_equal(ql_cursor_left(&c), 2);
	assert_false(c.bad);
	assert_int_equal(ql_cursor_le32(&c), 0);
	assert_true(c.bad);
	/* Bad for good, though two bytes are left. */
	assert_int_equal(ql_cursor_u8(&c), 0);
	assert_null(ql_cursor_bytes(&c, 1));
	ql_cursor_init(&c, bytes, sizeof(bytes));
	ql_cursor_skip(&c, 1);
	assert_int_equal(ql_cursor_le64(&c), 0x0908070605040302);
	assert_non_null(ql_cursor_bytes(&c, 0));
	assert_false(c.bad);
	ql_cursor_init(&c, bytes, sizeof(bytes));
	ql_cursor_skip(&c, SIZE_MAX);
	assert_true(c.bad);
}

/* ---- digests ---- */

static void digests_are_spelled_as_oci_has_them(void **state)
{
	char text[QL_DIGEST_TEXT + 1], hex[QL_DIGEST_HEX + 1];
	struct ql_error err = QL_ERROR_INIT;
	struct ql_digest d, e;

	(void)state;
	assert_int_equal(ql_digest_of("hello", 5, &d), 0);
	assert_string_equal(ql_digest_hex(&d, hex), hello_hex);
	assert_int_equal(ql_digest_parse(ql_digest_text(&d, text), &e, &err),
			 0);
	assert_true(ql_digest_equal(&d, &e));
	assert_int_equal(ql_digest_cmp(&d, &e), 0);
	e.bytes[31] ^= 1;
	assert_false(ql_digest_equal(&d, &e));
	assert_true(ql_digest_cmp(&d, &e) == -ql_digest_cmp(&e, &d));
}

static void what_is_no_digest_is_refused(void **state)
{
	static const struct {
		const char *text;
		int code;
	} bad[] = {
		{ "", -EINVAL },
		{ "sha256", -EINVAL },
		{ "sha256:", -EINVAL },
		{ "sha256:2cf2", -EINVAL },
		{ "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e"
		  "1b161e5c1fa7425e73043362938b98245",
		  -EINVAL },
		{ "sha256:2CF24DBA5FB0A30E26E83B2AC5B9E29E"
		  "1B161E5C1FA7425E73043362938B9824",
		  -EINVAL },
		{ "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e"
		  "1b161e5c1fa7425e73043362938b982g",
		  -EINVAL },
		{ "2cf24dba5fb0a30e26e83b2ac5b9e29e"
		  "1b161e5c1fa7425e73043362938b9824",
		  -EINVAL },
	};
	struct ql_error err;
	struct ql_digest d = { { 42 } };

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		err = (struct ql_error)QL_ERROR_INIT;
		assert_int_equal(ql_digest_parse(bad[i].text, &d, &err),
				 bad[i].code);
		assert_int_equal(err.code, bad[i].code);
		assert_int_not_equal(err.text[0], '\0');
	}
	assert_int_equal(ql_digest_parse("sha512:cf83e1357eefb8bd", &d, &err),
			 -EOPNOTSUPP);
	assert_non_null(strstr(err.text, "sha512"));
	assert_int_equal(d.bytes[0], 42); /* untouched */
}

static void a_hasher_takes_pieces_and_starts_over(void **state)
{
	struct ql_hasher *h = ql_hasher_new();
	char hex[QL_DIGEST_HEX + 1];
	struct ql_digest d;

	(void)state;
	assert_non_null(h);
	for (int round = 0; round < 2; round++) {
		ql_hasher_update(h, "he", 2);
		ql_hasher_update(h, "", 0);
		ql_hasher_update(h, "llo", 3);
		ql_hasher_final(h, &d);
		assert_string_equal(ql_digest_hex(&d, hex), hello_hex);
		assert_int_equal(ql_hasher_reset(h), 0);
	}
	ql_hasher_free(h);
	ql_hasher_free(NULL);
}

/* ---- errors ---- */

static void context_goes_in_front(void **state)
{
	struct ql_error err = QL_ERROR_INIT;

	(void)state;
	assert_int_equal(ql_error_errno(&err, -ENOENT, "open %s", "x"),
			 -ENOENT);
	assert_int_equal(ql_error_prefix(&err, "image %d", 5), -ENOENT);
	assert_string_equal(err.text,
			    "image 5: open x: No such file or directory");
	assert_int_equal(err.code, -ENOENT);
	assert_int_equal(ql_error_nomem(&err), -ENOMEM);
	err = (struct ql_error)QL_ERROR_INIT;
	assert_int_equal(ql_error_prefix(&err, "image %d", 5), -EIO);
	assert_string_equal(err.text, "image 5: Input/output error");
	assert_int_equal(ql_error_set(NULL, -EPERM, "x"), -EPERM);
	assert_int_equal(ql_error_errno(NULL, -EPERM, "x"), -EPERM);
}

static void text_from_outside_is_tamed_and_cut(void **state)
{
	struct ql_error err = QL_ERROR_INIT;
	char text[3000];

	(void)state;
	(void)ql_error_set(&err, -EIO, "%s",
			   "a\x1b[31m\n\x7f\xc3\xa9\xc2\x9b\xc2");
	assert_string_equal(err.text, "a?[31m??\xc3\xa9??\xc2");
	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	(void)ql_error_errno(&err, -EIO, "%s", text);
	assert_int_equal(strlen(err.text), QL_ERROR_TEXT_MAX - 1);
	assert_non_null(strstr(err.text, "xxx: Input/output error"));
	(void)ql_error_prefix(&err, "%s", "in front");
	assert_int_equal(strlen(err.text), QL_ERROR_TEXT_MAX - 1);
	assert_memory_equal(err.text, "in front: xxx", 13);
	(void)ql_error_prefix(&err, "%s", text);
	assert_int_equal(err.code, -EIO);
}

static void a_folder_needs_a_name(void **state)
{
	struct ql_error err = QL_ERROR_INIT;

	(void)state;
	assert_int_equal(ql_mkdir_p("", &err), -ENOENT);
	assert_string_equal(err.text, "a folder of no name");
	assert_int_equal(ql_mkdir_p("/", &err), 0);
	assert_int_equal(ql_mkdir_p("//tmp//", &err), 0);
}

/* ---- JSON ---- */

static void json_members_are_of_their_type(void **state)
{
	static const char text[] = "{\"s\": \"x\", \"n\": 5, \"m\": -5,"
				   " \"a\": [], \"o\": {}, \"z\": null}";
	struct ql_error err = QL_ERROR_INIT;
	_cleanup_json_ json_t *json = NULL;
	json_t *got, *other = NULL;
	const char *s;
	uint64_t n;

	(void)state;
	assert_int_equal(ql_json_parse(text, strlen(text), &json, &err), 0);
	assert_int_equal(ql_json_get_string(json, "s", &s, &err), 0);
	assert_string_equal(s, "x");
	assert_int_equal(ql_json_get_u64(json, "n", &n, &err), 0);
	assert_int_equal(n, 5);
	assert_int_equal(ql_json_get_u64(json, "m", &n, &err), -EBADMSG);
	assert_int_equal(ql_json_get_u64(json, "s", &n, &err), -EBADMSG);
	assert_non_null(strstr(err.text, "\"s\""));
	assert_int_equal(ql_json_get_array(json, "a", &got, &err), 0);
	assert_int_equal(ql_json_get_array(json, "o", &got, &err), -EBADMSG);
	assert_int_equal(ql_json_get_object(json, "o", &got, &err), 0);
	assert_int_equal(ql_json_get_string(json, "none", &s, &err), -EBADMSG);
	assert_string_equal(ql_json_opt_string(json, "z", "dflt"), "dflt");
	assert_string_equal(ql_json_opt_string(json, "n", "dflt"), "dflt");
	assert_string_equal(ql_json_opt_string(NULL, "n", "dflt"), "dflt");
	assert_int_equal(ql_json_parse("{\"a\":", 5, &other, &err), -EBADMSG);
	assert_int_equal(ql_json_parse("{}{}", 4, &other, &err), -EBADMSG);
	assert_int_equal(ql_json_parse("", 0, &other, &err), -EBADMSG);
	assert_null(other);
}

static void json_of_any_depth_is_refused_not_followed(void **state)
{
	struct ql_error err = QL_ERROR_INIT;
	_cleanup_free_ char *text = malloc(1 << 20);
	json_t *json = NULL;

	(void)state;
	assert_non_null(text);
	memset(text, '[', 1 << 20);
	assert_int_equal(ql_json_parse(text, 1 << 20, &json, &err), -EBADMSG);
	assert_null(json);
}

/* ---- streams ---- */

/* Gives `left` bytes of 'x' in pieces, then fails with `end` if that is set. */
struct fake_stream {
	struct ql_stream base;
	size_t left, piece;
	int end;
	bool *freed; /* borrowed */
};

static ssize_t fake_read(struct ql_stream *s, void *buf, size_t len,
			 struct ql_error *err)
{
	struct fake_stream *t = (struct fake_stream *)s;

	if (t->left == 0)
		return t->end ? ql_error_set(err, t->end, "the end fails") : 0;
	if (len > t->piece)
		len = t->piece;
	if (len > t->left)
		len = t->left;
	memset(buf, 'x', len);
	t->left -= len;
	return (ssize_t)len;
}

static void fake_free(struct ql_stream *s)
{
	*((struct fake_stream *)s)->freed = true;
}

static struct fake_stream fake_stream(size_t left, size_t piece, int end,
				      bool *freed)
{
	static const struct ql_stream_ops ops = { fake_read, fake_free };

	*freed = false;
	return (struct fake_stream){ { &ops }, left, piece, end, freed };
}

static void memory_and_descriptors_are_streams(void **state)
{
	struct ql_error err = QL_ERROR_INIT;
	struct ql_stream *s;
	char buf[16];
	int fds[2];

	(void)state;
	assert_int_equal(ql_stream_from_mem("hello", 5, &s, &err), 0);
	assert_int_equal(ql_stream_read(s, buf, 3, &err), 3);
	assert_int_equal(ql_stream_read_full(s, buf + 3, 13, &err), 2);
	assert_memory_equal(buf, "hello", 5);
	assert_int_equal(ql_stream_read(s, buf, 3, &err), 0);
	ql_stream_free(s);
	assert_int_equal(pipe(fds), 0);
	assert_int_equal(write(fds[1], "pipe", 4), 4);
	assert_int_equal(close(fds[1]), 0);
	assert_int_equal(ql_stream_from_fd(fds[0], &s, &err), 0);
	assert_int_equal(ql_stream_read_full(s, buf, 16, &err), 4);
	ql_stream_free(s);
	assert_int_equal(close(fds[0]), -1); /* it was taken */
}

/* What reading to the end returns; the bytes before it. */
static ssize_t drain(struct ql_stream *s, size_t *ret_len, struct ql_error *err)
{
	char buf[1000];
	ssize_t n;

	*ret_len = 0;
	while ((n = ql_stream_read(s, buf, sizeof(buf), err)) > 0)
		*ret_len += (size_t)n;
	return n;
}

static void verify(const char *digest_of, uint64_t size, int want,
		   const char *words)
{
	struct ql_error err = QL_ERROR_INIT;
	struct ql_stream *in, *s;
	struct ql_digest d;
	size_t len;

	assert_int_equal(ql_digest_of(digest_of, strlen(digest_of), &d), 0);
	assert_int_equal(ql_stream_from_mem("hello", 5, &in, &err), 0);
	assert_int_equal(ql_stream_verify(in, &d, size, &s, &err), 0);
	assert_int_equal(drain(s, &len, &err), want);
	assert_int_equal(err.code, want);
	assert_non_null(strstr(err.text, words));
	/* It does not become right by asking again. */
	assert_int_equal(drain(s, &len, &err) < 0, want < 0);
	ql_stream_free(s);
}

static void bytes_that_are_not_as_stated_are_refused(void **state)
{
	(void)state;
	verify("hello", 5, 0, "");
	verify("hello", UINT64_MAX, 0, "");
	verify("hellO", 5, -EBADMSG, "digest is sha256:2cf24dba");
	verify("hello", 6, -EBADMSG, "5 bytes came, 6 were stated");
	verify("hello", 4, -EBADMSG, "more than the stated 4 bytes");
	verify("hello", 0, -EBADMSG, "more than the stated 0 bytes");
}

static void reading_ahead_changes_nothing(void **state)
{
	static const size_t sizes[] = { 0, 1, 999, 4096, 4097, 1 << 20 };
	struct ql_error err = QL_ERROR_INIT;
	bool freed;

	(void)state;
	for (size_t i = 0; i < 2 * sizeof(sizes) / sizeof(sizes[0]); i++) {
		int end = i % 2 ? -EPROTO : 0;
		struct fake_stream t =
			fake_stream(sizes[i / 2], 777, end, &freed);
		struct ql_stream *s;
		size_t len;

		assert_int_equal(ql_stream_readahead(&t.base, 4096, &s, &err),
				 0);
		assert_int_equal(drain(s, &len, &err), end);
		assert_int_equal(len, sizes[i / 2]);
		assert_int_equal(drain(s, &len, &err), end);
		if (end)
			assert_string_equal(err.text, "the end fails");
		ql_stream_free(s);
		assert_true(freed);
	}
}

static void reading_ahead_stops_when_it_is_freed(void **state)
{
	struct ql_error err = QL_ERROR_INIT;
	struct ql_stream *s;
	bool freed;
	char c;

	(void)state;
	for (int i = 0; i < 200; i++) {
		struct fake_stream t = fake_stream(SIZE_MAX, 100, 0, &freed);

		assert_int_equal(ql_stream_readahead(&t.base, 4096, &s, &err),
				 0);
		if (i % 2)
			assert_int_equal(ql_stream_read(s, &c, 1, &err), 1);
		ql_stream_free(s);
		assert_true(freed);
	}
}

/* ---- the order of digests ---- */

struct row {
	struct ql_digest digest;
	uint32_t other;
};

static void fill_rows(struct row *rows, uint32_t n, int how)
{
	memset(rows, 0, n * sizeof(*rows));
	for (uint32_t i = 0; i < n; i++)
		for (size_t b = 0; b < QL_DIGEST_BYTES; b++) {
			uint8_t random = (uint8_t)(rand() >> 5);

			if (how == 0) /* as they are */
				rows[i].digest.bytes[b] = random;
			else if (how == 1) /* a few differ, far behind */
				rows[i].digest.bytes[b] = b == 31 ? random & 15
								  : 7;
		}
}

static void digests_are_put_in_order(void **state)
{
	static struct row rows[3000];

	(void)state;
	for (int how = 0; how < 3; how++)
		for (uint32_t n = 0; n <= 3000; n = n * 3 + 1) {
			uint32_t *order;

			fill_rows(rows, n, how);
			order = ql_digest_order(&rows[0].digest, n,
						sizeof(rows[0]));
			assert_non_null(order);
			for (uint32_t i = 1; i < n; i++) {
				int cmp = ql_digest_cmp(
					&rows[order[i - 1]].digest,
					&rows[order[i]].digest);

				assert_true(cmp <= 0);
				/* every number once */
				assert_true(cmp < 0 || order[i - 1] < order[i]);
			}
			free(order);
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_buffer_keeps_to_its_maximum),
		cmocka_unit_test(an_empty_buffer_gives_an_empty_string),
		cmocka_unit_test(a_cursor_never_reads_past_the_end),
		cmocka_unit_test(digests_are_spelled_as_oci_has_them),
		cmocka_unit_test(what_is_no_digest_is_refused),
		cmocka_unit_test(a_hasher_takes_pieces_and_starts_over),
		cmocka_unit_test(context_goes_in_front),
		cmocka_unit_test(text_from_outside_is_tamed_and_cut),
		cmocka_unit_test(a_folder_needs_a_name),
		cmocka_unit_test(json_members_are_of_their_type),
		cmocka_unit_test(json_of_any_depth_is_refused_not_followed),
		cmocka_unit_test(memory_and_descriptors_are_streams),
		cmocka_unit_test(bytes_that_are_not_as_stated_are_refused),
		cmocka_unit_test(reading_ahead_changes_nothing),
		cmocka_unit_test(reading_ahead_stops_when_it_is_freed),
		cmocka_unit_test(digests_are_put_in_order),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
