/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the members of a tar file are: one walk over its headers, for an
 * archive that is read by name afterwards.  The layers of an image are read
 * by the store, not by this.
 *
 * Sources: POSIX pax, "ustar Interchange Format" and "pax Header" (path,
 * linkpath, size); GNU tar's manual, "Basic Tar Format" (types L and K,
 * base-256 numbers).
 */
#include "fetch/fetch-private.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

enum {
	TAR_BLOCK = 512,
	TAR_MEMBERS_MAX = 1 << 16,
	TAR_LONG_MAX = 1 << 20, /* bytes of an extended header */
	TAR_LINKS_MAX = 8,	/* followed in a row */
};

/* What extended headers say of the next member. */
struct tar_extended {
	char *name;    /* owned, or NULL */
	char *link;    /* owned, or NULL */
	uint64_t size; /* UINT64_MAX: not stated */
};

struct tar_walk {
	int fd;	      /* borrowed */
	uint64_t pos; /* of the next header */
	uint64_t end; /* of the file */
	struct tar_extended ext;
	struct ql_tarindex index;
};

struct tar_header {
	char type;
	uint64_t size;
	char name[100 + 1];
	char link[100 + 1];
	char prefix[155 + 1];
};

/* Octal with blanks around it, or base-256. */
static int number_parse(const uint8_t *field, size_t len, uint64_t *ret_value)
{
	uint64_t v = 0;
	size_t i = 0;

	if (field[0] & 0x80) {
		if (field[0] != 0x80)
			return -EBADMSG; /* negative, or absurd */
		for (i = 1; i < len; i++) {
			if (v >> 55)
				return -EBADMSG;
			v = v << 8 | field[i];
		}
		*ret_value = v;
		return 0;
	}
	while (i < len && field[i] == ' ')
		i++;
	for (; i < len && field[i] >= '0' && field[i] <= '7'; i++) {
		if (v >> 60)
			return -EBADMSG;
		v = v << 3 | (uint64_t)(field[i] - '0');
	}
	for (; i < len; i++)
		if (field[i] != ' ' && field[i] != '\0')
			return -EBADMSG;
	*ret_value = v;
	return 0;
}

static bool checksum_ok(const uint8_t *block)
{
	uint64_t stated = 0;
	uint64_t sum = 0;

	if (number_parse(block + 148, 8, &stated) < 0)
		return false;
	for (size_t i = 0; i < TAR_BLOCK; i++)
		sum += i >= 148 && i < 156 ? ' ' : block[i];
	return sum == stated;
}

static void text_copy(struct ql_cursor *c, char *to, size_t len)
{
	const uint8_t *s = ql_cursor_bytes(c, len);
	size_t n = s ? strnlen((const char *)s, len) : 0;

	if (s)
		memcpy(to, s, n);
	to[n] = '\0';
}

static int header_parse(const uint8_t *block, struct tar_header *h,
			struct ql_error *err)
{
	struct ql_cursor c;
	const uint8_t *size;

	if (!checksum_ok(block))
		return ql_error_set(err, -EBADMSG,
				    "not a tar file, or a damaged one");
	ql_cursor_init(&c, block, TAR_BLOCK);
	text_copy(&c, h->name, 100);
	ql_cursor_skip(&c, 24); /* mode, uid, gid */
	size = ql_cursor_bytes(&c, 12);
	if (number_parse(size, 12, &h->size) < 0)
		return ql_error_set(err, -EBADMSG, "tar: %s: absurd size",
				    h->name);
	ql_cursor_skip(&c, 20); /* mtime, checksum */
	h->type = (char)ql_cursor_u8(&c);
	text_copy(&c, h->link, 100);
	h->prefix[0] = '\0';
	/* POSIX's magic; GNU's ("ustar  ") has other things in the prefix. */
	if (memcmp(block + 257, "ustar\0", 6) == 0) {
		ql_cursor_skip(&c, 88);
		text_copy(&c, h->prefix, 155);
	}
	return 0;
}

static void extended_clear(struct tar_extended *ext)
{
	free(ext->name);
	free(ext->link);
	*ext = (struct tar_extended){ .size = UINT64_MAX };
}

static int string_set(char **to, const char *value, size_t len)
{
	free(*to);
	*to = strndup(value, len);
	return *to ? 0 : -ENOMEM;
}

/* One "key=value" of a pax header. */
static int pax_record(struct tar_extended *ext, const char *key, size_t key_len,
		      const char *value, size_t len)
{
	if (key_len == 4 && memcmp(key, "path", 4) == 0)
		return string_set(&ext->name, value, len);
	if (key_len == 8 && memcmp(key, "linkpath", 8) == 0)
		return string_set(&ext->link, value, len);
	if (key_len == 4 && memcmp(key, "size", 4) == 0) {
		uint64_t v = 0;

		for (size_t i = 0; i < len; i++) {
			if (value[i] < '0' || value[i] > '9' || v >> 59)
				return -EBADMSG;
			v = v * 10 + (uint64_t)(value[i] - '0');
		}
		ext->size = v;
	}
	return 0;
}

/* "<length> key=value\n" until the end. */
static int pax_parse(struct tar_extended *ext, const char *data, size_t len)
{
	while (len > 0) {
		const char *space = memchr(data, ' ', len);
		const char *equals;
		size_t n = 0;
		int r;

		if (!space)
			return -EBADMSG;
		for (const char *p = data; p < space; p++) {
			if (*p < '0' || *p > '9' || n > TAR_LONG_MAX)
				return -EBADMSG;
			n = n * 10 + (size_t)(*p - '0');
		}
		if (n > len || n < (size_t)(space - data) + 3 ||
		    data[n - 1] != '\n')
			return -EBADMSG;
		equals = memchr(space, '=', n - (size_t)(space - data));
		if (!equals)
			return -EBADMSG;
		r = pax_record(ext, space + 1, (size_t)(equals - space - 1),
			       equals + 1, n - 1 - (size_t)(equals + 1 - data));
		if (r < 0)
			return r;
		data += n;
		len -= n;
	}
	return 0;
}

static int extended_read(struct tar_walk *w, const struct tar_header *h,
			 struct ql_error *err)
{
	_cleanup_free_ char *data = NULL;
	size_t len = (size_t)h->size;
	ssize_t n;
	int r;

	if (h->size > TAR_LONG_MAX)
		return ql_error_set(err, -EBADMSG,
				    "tar: an extended header of %zu bytes",
				    len);
	data = malloc(len + 1);
	if (!data)
		return ql_error_nomem(err);
	n = ql_pread_full(w->fd, data, len, w->pos + TAR_BLOCK);
	if (n < 0)
		return ql_error_errno(err, (int)n, "read");
	if ((size_t)n < len)
		return ql_error_set(err, -EBADMSG, "tar: ends early");
	if (h->type == 'x')
		r = pax_parse(&w->ext, data, len);
	else
		r = string_set(h->type == 'L' ? &w->ext.name : &w->ext.link,
			       data, strnlen(data, len));
	if (r == -ENOMEM)
		return ql_error_nomem(err);
	return r < 0 ? ql_error_set(err, r, "tar: a damaged pax header") : 0;
}

static const char *skip_dot(const char *name)
{
	while (name[0] == '.' && name[1] == '/')
		name += 2;
	return name;
}

/* A link's target from the root of the archive, for a symlink of one ".."
 * as docker writes them ("../<id>/layer.tar"); others are taken as written. */
static char *link_target(const char *name, const char *link, char type)
{
	const char *dir_end = strrchr(name, '/');
	size_t dir_len = dir_end ? (size_t)(dir_end - name) : 0;

	if (type == '1' || *link == '/')
		return strdup(skip_dot(link + (*link == '/')));
	while (strncmp(link, "../", 3) == 0) {
		const char *up = memrchr(name, '/', dir_len);

		dir_len = up ? (size_t)(up - name) : 0;
		link += 3;
	}
	return ql_strf("%.*s%s%s", (int)dir_len, name, dir_len ? "/" : "",
		       skip_dot(link));
}

static int member_add(struct tar_walk *w, const char *name, const char *link,
		      char type, uint64_t size, struct ql_error *err)
{
	struct ql_tarindex *ix = &w->index;
	struct ql_tar_member *m;

	if (ix->n_members == ix->cap) {
		size_t cap = ix->cap ? ix->cap * 2 : 64;

		if (cap > TAR_MEMBERS_MAX)
			return ql_error_set(err, -EFBIG,
					    "tar: more than %d members",
					    TAR_MEMBERS_MAX);
		m = reallocarray(ix->members, cap, sizeof(*m));
		if (!m)
			return ql_error_nomem(err);
		ix->members = m;
		ix->cap = cap;
	}
	m = &ix->members[ix->n_members];
	*m = (struct ql_tar_member){
		.name = strdup(skip_dot(name)),
		.offset = w->pos + TAR_BLOCK,
		.size = size,
	};
	if (m->name && (type == '1' || type == '2'))
		m->link = link_target(m->name, link, type);
	ix->n_members++; /* also to be freed below */
	return m->name && (m->link || (type != '1' && type != '2'))
		       ? 0
		       : ql_error_nomem(err);
}

static int member_read(struct tar_walk *w, const struct tar_header *h,
		       uint64_t size, struct ql_error *err)
{
	_cleanup_free_ char *joined = NULL;
	const char *name = w->ext.name;

	if (!strchr("0127", h->type)) /* or NUL */
		return 0;
	if (!name) {
		joined = ql_strf("%s%s%s", h->prefix, h->prefix[0] ? "/" : "",
				 h->name);
		if (!joined)
			return ql_error_nomem(err);
		name = joined;
	}
	return member_add(w, name, w->ext.link ? w->ext.link : h->link, h->type,
			  size, err);
}

/* One header and what it stands before.  1, or 0 at the end. */
static int walk_step(struct tar_walk *w, struct ql_error *err)
{
	static const uint8_t zeros[TAR_BLOCK];
	uint8_t block[TAR_BLOCK];
	struct tar_header h;
	uint64_t size;
	ssize_t n = ql_pread_full(w->fd, block, TAR_BLOCK, w->pos);
	int r;

	if (n < 0)
		return ql_error_errno(err, (int)n, "read");
	if (w->pos > w->end)
		return ql_error_set(err, -EBADMSG, "tar: ends early");
	if (n == 0 || (n == TAR_BLOCK && memcmp(block, zeros, TAR_BLOCK) == 0))
		return 0;
	if (n < TAR_BLOCK)
		return ql_error_set(err, -EBADMSG, "tar: ends early");
	r = header_parse(block, &h, err);
	if (r < 0)
		return r;
	size = h.size;
	if (strchr("xLK", h.type) && h.type) {
		r = extended_read(w, &h, err);
	} else if (h.type != 'g') {
		if (w->ext.size != UINT64_MAX)
			size = w->ext.size;
		if (h.type == '1' || h.type == '2')
			size = 0;
		r = member_read(w, &h, size, err);
		extended_clear(&w->ext);
	}
	if (r < 0)
		return r;
	if (__builtin_add_overflow(size, TAR_BLOCK - 1, &size) ||
	    __builtin_add_overflow(w->pos, TAR_BLOCK + (size & ~511ULL),
				   &w->pos) ||
	    w->pos > INT64_MAX)
		return ql_error_set(err, -EBADMSG, "tar: absurd size");
	return 1;
}

int ql_tarindex_read(int fd, struct ql_tarindex *ret_index,
		     struct ql_error *err)
{
	struct tar_walk w = { .fd = fd, .ext.size = UINT64_MAX };
	struct stat st;
	int r;

	if (fstat(fd, &st) < 0)
		return ql_error_errno(err, -errno, "stat");
	w.end = (uint64_t)st.st_size;
	do
		r = walk_step(&w, err);
	while (r > 0);
	extended_clear(&w.ext);
	if (r < 0) {
		ql_tarindex_release(&w.index);
		return r;
	}
	*ret_index = w.index;
	return 0;
}

void ql_tarindex_release(struct ql_tarindex *index)
{
	for (size_t i = 0; i < index->n_members; i++) {
		free(index->members[i].name);
		free(index->members[i].link);
	}
	free(index->members);
	*index = (struct ql_tarindex){ 0 };
}

const struct ql_tar_member *ql_tarindex_find(const struct ql_tarindex *index,
					     const char *name)
{
	for (int links = 0; links <= TAR_LINKS_MAX; links++) {
		const struct ql_tar_member *found = NULL;

		name = skip_dot(name);
		for (size_t i = 0; i < index->n_members; i++)
			if (strcmp(index->members[i].name, name) == 0)
				found = &index->members[i]; /* the last */
		if (!found || !found->link)
			return found;
		name = found->link;
	}
	return NULL;
}
