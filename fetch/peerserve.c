/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What other nodes are given of what is here: objects, whole or as far as they
 * have come, parts of blobs that are packed, documents, tables of contents; and
 * of blobs that are not here, what passes through (relay.c).
 *
 * Whoever is given a descriptor keeps what it is of, also where its name goes.
 * Packed parts are punched out of their file meanwhile, though: what was read
 * of them is given only if it is recorded as here after it was read.
 *
 * Of what is being filled now, what was settled is given: nothing waits here.
 */
#include "fetch/peer-private.h"

#include <errno.h>
#include <sys/stat.h>

void ql_peer_answer_release(struct ql_peer_answer *answer)
{
	if (answer->fd >= 0)
		(void)close(answer->fd);
	ql_stream_free(answer->stream);
	*answer = (struct ql_peer_answer){ .fd = -1 };
}

/* ---- parts of files ---- */

/* What is there of what is asked for, of a file whose bytes are here up to
 * `here` from the first one on. */
static int answer_from(const struct ql_peer_ask *ask, int *fd, uint64_t size,
		       uint64_t here, struct ql_peer_answer *ret)
{
	uint64_t left;

	if (ask->len > 0 && ask->offset >= size && size > 0)
		return -ERANGE;
	if (ask->len > 0 && ask->offset >= here && size > 0)
		return -ENOENT;
	left = ask->offset < here ? here - ask->offset : 0;
	*ret = (struct ql_peer_answer){
		.fd = ql_take_fd(fd),
		.fd_offset = ask->offset,
		.len = ask->len < left ? ask->len : left,
		.size = size,
	};
	return 0;
}

/* All of a file (taken on success). */
static int answer_file(const struct ql_peer_ask *ask, int *fd,
		       struct ql_peer_answer *ret, struct ql_error *err)
{
	struct stat st;

	if (fstat(*fd, &st) < 0)
		return ql_error_errno(err, -errno, "a file of the store");
	return answer_from(ask, fd, (uint64_t)st.st_size, (uint64_t)st.st_size,
			   ret);
}

static int open_whole(struct ql_peers *peers, const struct ql_peer_ask *ask,
		      struct ql_peer_answer *ret, struct ql_error *err)
{
	_cleanup_close_ int fd = -1;
	int r = ql_object_open(peers->store, &ask->digest, &fd, err);

	return r < 0 ? r : answer_file(ask, &fd, ret, err);
}

static int open_partial(struct ql_peers *peers, const struct ql_peer_ask *ask,
			struct ql_peer_answer *ret, struct ql_error *err)
{
	struct ql_extents extents = { 0 };
	_cleanup_close_ int fd = -1;
	uint64_t size = 0, here;
	int r = ql_partial_look(peers->store, &ask->digest, &fd, &size,
				&extents, err);

	if (r < 0)
		return r;
	here = ql_extents_reach(&extents, ask->offset);
	if (extents.n == 0)
		r = -ENOENT;
	ql_extents_release(&extents);
	return r < 0 ? r : answer_from(ask, &fd, size, here, ret);
}

static int open_object(struct ql_peers *peers, const struct ql_peer_ask *ask,
		       struct ql_peer_answer *ret, struct ql_error *err)
{
	int r = open_whole(peers, ask, ret, err);

	return r == -ENOENT ? open_partial(peers, ask, ret, err) : r;
}

static int open_table(struct ql_peers *peers, const struct ql_peer_ask *ask,
		      struct ql_peer_answer *ret, struct ql_error *err)
{
	_cleanup_close_ int fd = -1;
	int r = ql_toc_open_file(peers->store, &ask->digest, &fd, err);

	return r < 0 ? r : answer_file(ask, &fd, ret, err);
}

/* ---- packed parts ---- */

struct packed_stream {
	struct ql_stream base;
	struct ql_store *store; /* borrowed */
	struct ql_digest blob;
	int fd; /* owned */
	uint64_t pos, left;
};

static ssize_t packed_read(struct ql_stream *s, void *buf, size_t len,
			   struct ql_error *err)
{
	struct packed_stream *p = (struct packed_stream *)s;
	ssize_t n;

	if (len > p->left)
		len = (size_t)p->left;
	if (len == 0)
		return 0;
	n = ql_pread_full(p->fd, buf, len, p->pos);
	if (n < 0)
		return ql_error_errno(err, (int)n, "a packed blob");
	if ((size_t)n < len ||
	    !ql_packed_has(p->store, &p->blob, p->pos, (uint64_t)n))
		return ql_error_set(err, -ESTALE,
				    "a packed part was taken away");
	p->pos += (uint64_t)n;
	p->left -= (uint64_t)n;
	return n;
}

static void packed_free(struct ql_stream *s)
{
	struct packed_stream *p = (struct packed_stream *)s;

	(void)close(p->fd);
	free(p);
}

static const struct ql_stream_ops packed_ops = { packed_read, packed_free };

static int open_packed(struct ql_peers *peers, const struct ql_peer_ask *ask,
		       struct ql_peer_answer *ret, struct ql_error *err)
{
	_cleanup_close_ int fd = -1;
	uint64_t len = 0, size = 0;
	struct packed_stream *p;
	int r = ql_packed_reach(peers->store, &ask->digest, ask->offset,
				ask->len, &fd, &len, &size, err);

	if (r < 0)
		return r;
	p = calloc(1, sizeof(*p));
	if (!p)
		return ql_error_nomem(err);
	*p = (struct packed_stream){ .base = { &packed_ops },
				     .store = peers->store,
				     .blob = ask->digest,
				     .fd = ql_take_fd(&fd),
				     .pos = ask->offset,
				     .left = len };
	*ret = (struct ql_peer_answer){
		.fd = -1, .stream = &p->base, .len = len, .size = size
	};
	return 0;
}

/* ---- what is asked for ---- */

static int open_here(struct ql_peers *peers, const struct ql_peer_ask *ask,
		     struct ql_peer_answer *ret, struct ql_error *err)
{
	int r;

	if (!ql_peers_may_share(peers, &ask->digest, ask->trusted))
		return -ENOENT;
	switch (ask->kind) {
	case QL_PEER_OBJECT:
		return open_object(peers, ask, ret, err);
	case QL_PEER_TABLE:
		return open_table(peers, ask, ret, err);
	case QL_PEER_BLOB:
		break;
	}
	/* Documents are objects; layers' blobs are packed, if they are kept. */
	r = open_whole(peers, ask, ret, err);
	return r == -ENOENT ? open_packed(peers, ask, ret, err) : r;
}

int ql_peers_open(struct ql_peers *peers, const struct ql_peer_ask *ask,
		  struct ql_peer_answer *ret_answer, struct ql_error *err)
{
	struct ql_peer_answer answer = { .fd = -1 };
	int r = open_here(peers, ask, &answer, err);

	if (r == -ENOENT && ask->kind == QL_PEER_BLOB && ask->len > 0)
		r = ql_relay_open(peers, ask, &answer, err);
	if (r < 0)
		return r;
	*ret_answer = answer;
	return 0;
}
