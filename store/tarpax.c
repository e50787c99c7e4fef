/* SPDX-License-Identifier: Apache-2.0 */
/*
 * PAX extended headers: "LEN KEY=VALUE\n" records (POSIX.1-2017, pax,
 * "pax Extended Header"), with the keys that image builders write:
 * path, linkpath, size, uid, gid, mtime, atime, ctime, SCHILY.xattr.*,
 * GNU.sparse.*.
 * As in Go's archive/tar, which wrote most layers, a key with an empty value
 * leaves the header's field as it is, and other keys are passed over.
 */
#include "store/store-private.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <string.h>

enum {
	PAX_XATTR_NAME_MAX = 255,
	PAX_XATTR_VALUE_MAX = 65536,
	PAX_XATTRS_MAX = 1024, /* each is compared with those before it */
};

void ql_pax_init(struct ql_pax *pax)
{
	*pax = (struct ql_pax){ .sparse_major = -1, .sparse_minor = -1 };
}

static void pax_xattrs_free(struct ql_tar_xattr *xattrs, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		free(xattrs[i].name);
		free(xattrs[i].value);
	}
	free(xattrs);
}

void ql_pax_release(struct ql_pax *pax)
{
	free(pax->path);
	free(pax->link);
	ql_sparse_release(&pax->map);
	pax_xattrs_free(pax->xattrs, pax->n_xattrs);
	ql_pax_init(pax);
}

/* ---- values ---- */

struct pax_value {
	const char *data; /* borrowed; not NUL-terminated */
	size_t len;
};

/* Digits only, all of them; -EINVAL, also where it does not fit. */
static int pax_u64(struct pax_value v, uint64_t *ret)
{
	uint64_t n = 0;

	if (v.len == 0)
		return -EINVAL;
	for (size_t i = 0; i < v.len; i++) {
		if (v.data[i] < '0' || v.data[i] > '9' ||
		    __builtin_mul_overflow(n, 10U, &n) ||
		    __builtin_add_overflow(n, (uint64_t)(v.data[i] - '0'), &n))
			return -EINVAL;
	}
	*ret = n;
	return 0;
}

static int pax_size(struct pax_value v, uint64_t *ret)
{
	uint64_t n;

	if (pax_u64(v, &n) < 0 || n > INT64_MAX)
		return -EINVAL;
	*ret = n;
	return 0;
}

static int pax_id(struct pax_value v, uint32_t *ret)
{
	uint64_t n;

	if (pax_u64(v, &n) < 0 || n >= UINT32_MAX)
		return -EINVAL;
	*ret = (uint32_t)n;
	return 0;
}

/* "-12.5" is 12.5 s before the epoch: -13 s and 500,000,000 ns.  Digits after
 * the ninth are cut. */
static int pax_time(struct pax_value v, int64_t *ret_sec, uint32_t *ret_nsec)
{
	bool negative = v.len > 0 && v.data[0] == '-';
	const char *dot;
	struct pax_value whole = v;
	uint64_t sec;
	uint32_t nsec = 0;

	if (negative)
		whole = (struct pax_value){ v.data + 1, v.len - 1 };
	dot = memchr(whole.data, '.', whole.len);
	if (dot) {
		const char *end = whole.data + whole.len;
		uint32_t scale = 100000000;

		for (const char *p = dot + 1; p < end; p++, scale /= 10) {
			if (*p < '0' || *p > '9')
				return -EINVAL;
			nsec += (uint32_t)(*p - '0') * scale;
		}
		whole.len = (size_t)(dot - whole.data);
	}
	if (pax_u64(whole, &sec) < 0 || sec >= INT64_MAX)
		return -EINVAL;
	*ret_sec = negative ? -(int64_t)sec : (int64_t)sec;
	if (negative && nsec > 0) {
		*ret_sec -= 1;
		nsec = 1000000000 - nsec;
	}
	*ret_nsec = nsec;
	return 0;
}

/* No file has these times here, so that wrong ones are no harm. */
static void pax_other_time(struct pax_value v, struct ql_tar_time *time)
{
	time->known = pax_time(v, &time->sec, &time->nsec) == 0;
}

static int pax_string(struct pax_value v, char **ret)
{
	char *s;

	if (memchr(v.data, '\0', v.len))
		return -EINVAL;
	s = strndup(v.data, v.len);
	if (!s)
		return -ENOMEM;
	free(*ret);
	*ret = s;
	return 0;
}

/* ---- xattrs ---- */

static int pax_xattr(struct ql_pax *pax, const char *name, size_t name_len,
		     struct pax_value v)
{
	struct ql_tar_xattr x = { .len = v.len };
	struct ql_tar_xattr *grown;

	if (name_len == 0 || name_len > PAX_XATTR_NAME_MAX ||
	    memchr(name, '\0', name_len) || v.len > PAX_XATTR_VALUE_MAX ||
	    pax->n_xattrs >= PAX_XATTRS_MAX)
		return -EINVAL;
	x.name = strndup(name, name_len);
	x.value = malloc(v.len + 1);
	grown = reallocarray(pax->xattrs, pax->n_xattrs + 1, sizeof(x));
	if (grown)
		pax->xattrs = grown;
	if (!x.name || !x.value || !grown) {
		free(x.name);
		free(x.value);
		return -ENOMEM;
	}
	memcpy(x.value, v.data, v.len);
	/* The last of several with one name counts. */
	for (size_t i = 0; i < pax->n_xattrs; i++) {
		if (strcmp(pax->xattrs[i].name, x.name) == 0) {
			free(pax->xattrs[i].name);
			free(pax->xattrs[i].value);
			pax->xattrs[i] = x;
			return 0;
		}
	}
	pax->xattrs[pax->n_xattrs++] = x;
	return 0;
}

/* ---- sparse maps ---- */

/* GNU.sparse.map: "offset,length,offset,length…" (format 0.1). */
static int pax_sparse_map(struct ql_pax *pax, struct pax_value v)
{
	uint64_t pair[2];
	int have = 0;

	ql_sparse_release(&pax->map);
	while (v.len > 0) {
		const char *comma = memchr(v.data, ',', v.len);
		struct pax_value num = { v.data,
					 comma ? (size_t)(comma - v.data)
					       : v.len };
		int r = pax_size(num, &pair[have]);

		if (r == 0 && have == 1)
			r = ql_sparse_push(&pax->map, pair[0], pair[1]);
		if (r < 0)
			return r;
		have ^= 1;
		v.data += num.len + (comma != NULL);
		v.len -= num.len + (comma != NULL);
	}
	return have ? -EINVAL : 0;
}

/* GNU.sparse.offset and .numbytes alternate (format 0.0). */
static int pax_sparse_numbytes(struct ql_pax *pax, struct pax_value v)
{
	uint64_t len;

	if (!pax->has_sparse_offset || pax_size(v, &len) < 0)
		return -EINVAL;
	pax->has_sparse_offset = false;
	return ql_sparse_push(&pax->map, pax->sparse_offset, len);
}

static int pax_sparse(struct ql_pax *pax, const char *key, struct pax_value v)
{
	uint64_t n = 0;

	if (strcmp(key, "map") == 0)
		return pax_sparse_map(pax, v);
	if (strcmp(key, "numbytes") == 0)
		return pax_sparse_numbytes(pax, v);
	if (strcmp(key, "name") == 0)
		return pax_string(v, &pax->path);
	if (pax_size(v, &n) < 0)
		return -EINVAL;
	if (strcmp(key, "offset") == 0) {
		pax->has_sparse_offset = true;
		pax->sparse_offset = n;
	} else if (strcmp(key, "major") == 0 && n <= INT_MAX) {
		pax->sparse_major = (int)n;
	} else if (strcmp(key, "minor") == 0 && n <= INT_MAX) {
		pax->sparse_minor = (int)n;
	} else if (strcmp(key, "size") == 0 || strcmp(key, "realsize") == 0) {
		pax->has_real_size = true;
		pax->real_size = n;
	}
	return 0;
}

/* ---- records ---- */

static int pax_record(struct ql_pax *pax, const char *key, struct pax_value v)
{
	int r = 0;

	if (v.len == 0 && strncmp(key, "SCHILY.xattr.", 13) != 0)
		return 0;
	if (strcmp(key, "path") == 0) {
		/* GNU.sparse.name is the true name of a 1.0 sparse file. */
		if (pax->sparse_major < 0 || !pax->path)
			r = pax_string(v, &pax->path);
	} else if (strcmp(key, "linkpath") == 0) {
		r = pax_string(v, &pax->link);
	} else if (strcmp(key, "size") == 0) {
		r = pax_size(v, &pax->size);
		pax->has_size = r == 0;
	} else if (strcmp(key, "uid") == 0) {
		r = pax_id(v, &pax->uid);
		pax->has_uid = r == 0;
	} else if (strcmp(key, "gid") == 0) {
		r = pax_id(v, &pax->gid);
		pax->has_gid = r == 0;
	} else if (strcmp(key, "mtime") == 0) {
		r = pax_time(v, &pax->mtime_sec, &pax->mtime_nsec);
		pax->has_mtime = r == 0;
	} else if (strcmp(key, "atime") == 0) {
		pax_other_time(v, &pax->atime);
	} else if (strcmp(key, "ctime") == 0) {
		pax_other_time(v, &pax->ctime);
	} else if (strncmp(key, "SCHILY.xattr.", 13) == 0) {
		r = pax_xattr(pax, key + 13, strlen(key + 13), v);
	} else if (strncmp(key, "GNU.sparse.", 11) == 0) {
		r = pax_sparse(pax, key + 11, v);
	}
	return r;
}

/* Splits the record at p; its whole length, 0 where it is malformed. */
static size_t pax_split(const char *p, size_t left, const char **ret_key,
			size_t *ret_key_len, struct pax_value *ret_value)
{
	const char *space = memchr(p, ' ', left);
	const char *eq;
	uint64_t len;
	size_t head;

	if (!space)
		return 0;
	head = (size_t)(space - p) + 1;
	if (pax_u64((struct pax_value){ p, head - 1 }, &len) < 0 ||
	    len > left || len < head + 2 || p[len - 1] != '\n')
		return 0;
	eq = memchr(space + 1, '=', (size_t)len - head - 1);
	if (!eq || eq == space + 1)
		return 0;
	*ret_key = space + 1;
	*ret_key_len = (size_t)(eq - space) - 1;
	ret_value->data = eq + 1;
	ret_value->len = (size_t)(p + len - 1 - ret_value->data);
	return (size_t)len;
}

int ql_pax_parse(const char *data, size_t len, struct ql_pax *pax,
		 struct ql_error *err)
{
	while (len > 0) {
		char key[320];
		const char *k;
		size_t k_len;
		struct pax_value v;
		size_t n = pax_split(data, len, &k, &k_len, &v);
		int r;

		if (n == 0)
			return ql_error_set(err, -EBADMSG,
					    "malformed extended header");
		if (k_len < sizeof(key) && !memchr(k, '\0', k_len)) {
			memcpy(key, k, k_len);
			key[k_len] = '\0';
			r = pax_record(pax, key, v);
			if (r == -ENOMEM)
				return ql_error_nomem(err);
			if (r < 0)
				return ql_error_set(
					err, -EBADMSG,
					"extended header: invalid %s", key);
		}
		data += n;
		len -= n;
	}
	return 0;
}
