/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a stack of layers says about a path while some of them are still being
 * read: the rules of store/stack.c (OCI image-spec 1.1, layer.md, "Applying
 * Changesets"), each asked whether what is still to come could change it.
 *
 *  - A name that the uppermost layer has is what it is, at once.  One that a
 *    lower layer has is so when all above it are whole and neither have nor
 *    hide it.
 *  - A folder is one as soon as any layer that counts says so; what is in it
 *    is known as far as the layers are, from the top down.  Its attributes are
 *    those of the uppermost layer that describes it.
 *  - That there is no such name is known when all layers are whole down to
 *    one that hides what is below it.
 */
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#include "fs/grow.h"

#define WHITEOUT ".wh."
#define OPAQUE ".wh..wh..opq"

enum { WHITEOUT_LEN = sizeof(WHITEOUT) - 1 };

/* The layers that say something about a folder, uppermost first. */
struct folder {
	struct part {
		uint32_t layer;
		const struct ql_growfile *dir;
	} parts[QL_IMAGE_LAYERS_MAX];
	uint32_t n;
	const struct ql_growfile *attributes;
	bool described; /* attributes are those of an entry */
	bool closed;	/* layers below the last part do not count */
	bool open;	/* more may come: below the last part (unless closed),
			 * or that describes it */
};

/* Nothing that a lower layer has can matter. */
static bool is_final(const struct folder *f)
{
	return f->closed && f->described;
}

static void push(const struct ql_growstack *stack, struct folder *f,
		 uint32_t layer, const struct ql_growfile *dir)
{
	if (!f->closed)
		f->parts[f->n++] = (struct part){ layer, dir };
	if (!f->attributes || (!f->described && !dir->implicit))
		f->attributes = dir;
	f->described = f->described || !dir->implicit;
	f->closed = f->closed ||
		    ql_growlayer_find(stack->parts[layer].layer, dir, OPAQUE,
				      sizeof(OPAQUE) - 1);
}

/* The roots of the layers up to and with top. */
static void roots(const struct ql_growstack *stack, uint32_t top,
		  struct folder *f)
{
	f->n = 0;
	f->attributes = NULL;
	f->described = f->closed = f->open = false;
	for (uint32_t i = top + 1; i-- > 0 && !f->open && !is_final(f);) {
		const struct ql_growpart *part = &stack->parts[i];

		if (part->layer)
			push(stack, f, i, ql_growlayer_root(part->layer));
		f->open = !part->whole && !is_final(f);
	}
}

static bool is_hidden(const struct ql_growlayer *layer,
		      const struct ql_growfile *dir, const char *name,
		      size_t len)
{
	char wh[NAME_MAX + 1];

	if (len + WHITEOUT_LEN > NAME_MAX)
		return false;
	memcpy(wh, WHITEOUT, WHITEOUT_LEN);
	memcpy(wh + WHITEOUT_LEN, name, len);
	return ql_growlayer_find(layer, dir, wh, len + WHITEOUT_LEN) != NULL;
}

struct hit {
	const struct ql_growfile *file; /* NULL: none so far */
	uint32_t layer;			/* of file */
	struct folder *folder;		/* borrowed; filled where file is one */
};

/*
 * What a part of a folder says about a name, to be added to what those above
 * have said.  True: nothing below it counts.
 */
static bool look(const struct ql_growstack *stack, const struct part *part,
		 const char *name, size_t len, struct hit *hit, bool *ret_open)
{
	const struct ql_growpart *of = &stack->parts[part->layer];
	const struct ql_growfile *file =
		ql_growlayer_find(of->layer, part->dir, name, len);
	bool ended;

	if (file && !hit->file) {
		hit->file = file;
		hit->layer = part->layer;
	}
	if (file && S_ISDIR(file->mode)) {
		push(stack, hit->folder, part->layer, file);
		ended = is_final(hit->folder);
	} else {
		ended = file != NULL;
	}
	/* A whiteout hides nothing of its own layer: neither the name, nor
	 * what describes it. */
	ended = ended || is_hidden(of->layer, part->dir, name, len);
	*ret_open = !of->whole && !(ended && file && !file->implicit);
	return ended;
}

/* One name in a folder; sets hit->file, and hit->folder where it is one.
 * -ENOENT, -EINPROGRESS. */
static int step(const struct ql_growstack *stack, const struct folder *in,
		const char *name, size_t len, struct hit *hit)
{
	bool ended = false, open = false;

	hit->file = NULL;
	hit->folder->n = 0;
	hit->folder->attributes = NULL;
	hit->folder->described = hit->folder->closed = false;
	for (uint32_t i = 0; i < in->n && !ended && !open; i++)
		ended = look(stack, &in->parts[i], name, len, hit, &open);
	if (!ended && in->open && !in->closed)
		open = true;
	hit->folder->open = open;
	if (hit->file)
		return 0;
	return open ? -EINPROGRESS : -ENOENT;
}

static int finish(const struct hit *hit, bool root,
		  struct ql_growfile *ret_file)
{
	const struct folder *f = hit->folder;

	if (!root && !S_ISDIR(hit->file->mode)) {
		*ret_file = *hit->file;
		return 0;
	}
	/* Something must be answered for the root, or nothing could be. */
	if (!f->described && f->open && !root)
		return -EINPROGRESS;
	*ret_file = f->attributes
			    ? *f->attributes
			    : (struct ql_growfile){ .mode = S_IFDIR | 0755 };
	return 0;
}

/* In the layers up to and with top; where it is a link: its layer, too. */
static int find(const struct ql_growstack *stack, uint32_t top,
		const char *path, struct ql_growfile *ret_file,
		uint32_t *ret_layer)
{
	struct folder folders[2];
	unsigned int at = 0;
	struct hit hit = { .folder = &folders[0] };
	bool root = *path == 0;
	int r = 0;

	roots(stack, top, &folders[0]);
	while (*path && r == 0) {
		size_t len = strcspn(path, "/");

		if (hit.file && !S_ISDIR(hit.file->mode))
			return -ENOTDIR;
		if (len >= WHITEOUT_LEN &&
		    memcmp(path, WHITEOUT, WHITEOUT_LEN) == 0)
			return -ENOENT;
		hit.folder = &folders[1 - at];
		r = step(stack, &folders[at], path, len, &hit);
		at = 1 - at;
		path += len + (path[len] == '/');
	}
	if (r == 0)
		r = finish(&hit, root, ret_file);
	if (r == 0)
		*ret_layer = hit.layer;
	return r;
}

int ql_growstack_find(const struct ql_growstack *stack, const char *path,
		      struct ql_growfile *ret_file)
{
	struct ql_growfile file;
	uint32_t layer = 0;
	int r = stack->n == 0 ? -ENOENT
			      : find(stack, stack->n - 1, path, &file, &layer);

	/* Each is in a lower layer than the one before. */
	while (r == 0 && file.link) {
		r = layer > 0 ? find(stack, layer - 1, file.link, &file, &layer)
			      : -ENOENT;
		/* Such an image is refused in the end. */
		if (r == -ENOENT || r == -ENOTDIR ||
		    (r == 0 && S_ISDIR(file.mode)))
			return -EINPROGRESS;
	}
	if (r == 0)
		*ret_file = file;
	return r;
}
