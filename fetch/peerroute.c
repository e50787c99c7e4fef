/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whom to ask for a blob, where a deployment manifest says so.  What is read of
 * such a blob passes through this node's relay, however it is wanted, and the
 * relay has it from whom the manifest names: so a node that others have it from
 * gets it once.  Who does not give it is left for the fallback, and that for
 * the registry.
 */
#include "fetch/peer-private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { IMAGES_MAX = 256, SLICE_MS = 100 };
#define MS 1000000ULL

struct blob_route {
	struct ql_digest blob;
	struct ql_peer *ways[QL_PEER_WAYS]; /* a reference each; NULL: none */
};

struct image_routes {
	struct image_routes *next;
	struct ql_digest image;
	size_t n;
	struct blob_route routes[]; /* by blob, ascending */
};

struct ql_peer_routes {
	pthread_mutex_t lock; /* protects all below */
	struct image_routes *list;
	size_t n;
};

int ql_peer_routes_new(struct ql_peer_routes **ret_routes, struct ql_error *err)
{
	struct ql_peer_routes *routes = calloc(1, sizeof(*routes));

	if (!routes)
		return ql_error_nomem(err);
	(void)pthread_mutex_init(&routes->lock, NULL);
	*ret_routes = routes;
	return 0;
}

static void image_free(struct image_routes *image)
{
	if (!image)
		return;
	for (size_t i = 0; i < image->n; i++)
		for (size_t w = 0; w < QL_PEER_WAYS; w++)
			ql_peer_unref(image->routes[i].ways[w]);
	free(image);
}

void ql_peer_routes_free(struct ql_peer_routes *routes)
{
	struct image_routes *image;

	if (!routes)
		return;
	while ((image = routes->list)) {
		routes->list = image->next;
		image_free(image);
	}
	(void)pthread_mutex_destroy(&routes->lock);
	free(routes);
}

/* ---- what is said ---- */

static int blob_compare(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(struct ql_digest));
}

/* Under the lock of the list: its place in it, or the list's end. */
static struct image_routes **image_at(struct ql_peer_routes *routes,
				      const struct ql_digest *image)
{
	struct image_routes **at = &routes->list;

	while (*at && !ql_digest_equal(&(*at)->image, image))
		at = &(*at)->next;
	return at;
}

/* A reference; NULL: the registry, or nobody who is known. */
static struct ql_peer *peer_find(struct ql_peers *peers, const char *address)
{
	struct ql_peer *p;

	if (!address)
		return NULL;
	(void)pthread_mutex_lock(&peers->lock);
	for (p = peers->list; p && strcmp(p->address, address) != 0;
	     p = p->next)
		;
	if (p)
		(void)ql_peer_ref(p);
	(void)pthread_mutex_unlock(&peers->lock);
	return p;
}

int ql_peers_route(struct ql_peers *peers, const struct ql_digest *image,
		   const struct ql_peer_route *routes, size_t n,
		   struct ql_error *err)
{
	struct ql_peer_routes *all = peers->routes;
	struct image_routes *fresh, *old, **at;
	bool room;

	fresh = calloc(1, sizeof(*fresh) + n * sizeof(fresh->routes[0]));
	if (!fresh)
		return ql_error_nomem(err);
	fresh->image = *image;
	fresh->n = n;
	for (size_t i = 0; i < n; i++) {
		fresh->routes[i].blob = routes[i].blob;
		fresh->routes[i].ways[0] = peer_find(peers, routes[i].from);
		/* What is to come from the registry does so at once. */
		if (routes[i].from)
			fresh->routes[i].ways[1] =
				peer_find(peers, routes[i].fallback);
	}
	qsort(fresh->routes, n, sizeof(fresh->routes[0]), blob_compare);
	(void)pthread_mutex_lock(&all->lock);
	at = image_at(all, image);
	old = *at;
	room = old || all->n < IMAGES_MAX;
	if (room) {
		fresh->next = old ? old->next : NULL;
		*at = fresh;
		all->n += !old;
	}
	(void)pthread_mutex_unlock(&all->lock);
	image_free(room ? old : fresh);
	return room ? 0
		    : ql_error_set(err, -ENOSPC, "%d images are deployed",
				   IMAGES_MAX);
}

void ql_peers_unroute(struct ql_peers *peers, const struct ql_digest *image)
{
	struct ql_peer_routes *all = peers->routes;
	struct image_routes *old, **at;

	(void)pthread_mutex_lock(&all->lock);
	at = image_at(all, image);
	old = *at;
	if (old) {
		*at = old->next;
		all->n--;
	}
	(void)pthread_mutex_unlock(&all->lock);
	image_free(old);
}

/* ---- what is asked ---- */

/* Under the lock. */
static const struct blob_route *route_find(const struct ql_peer_routes *all,
					   const struct ql_digest *blob)
{
	const struct blob_route *route = NULL;

	for (const struct image_routes *i = all->list; i && !route; i = i->next)
		route = bsearch(blob, i->routes, i->n, sizeof(i->routes[0]),
				blob_compare);
	return route;
}

bool ql_peers_is_routed(struct ql_peers *peers, const struct ql_digest *blob)
{
	bool routed;

	(void)pthread_mutex_lock(&peers->routes->lock);
	routed = route_find(peers->routes, blob) != NULL;
	(void)pthread_mutex_unlock(&peers->routes->lock);
	return routed;
}

static struct ql_peer *way_get(struct ql_peers *peers,
			       const struct ql_digest *blob, unsigned int way)
{
	const struct blob_route *route;
	struct ql_peer *peer = NULL;

	(void)pthread_mutex_lock(&peers->routes->lock);
	route = route_find(peers->routes, blob);
	if (route && route->ways[way])
		peer = ql_peer_ref(route->ways[way]);
	(void)pthread_mutex_unlock(&peers->routes->lock);
	return peer;
}

/* ---- a part of a blob, from one peer ---- */

struct way_stream {
	struct ql_stream base;
	struct ql_peers *peers;	 /* borrowed */
	struct ql_peer *peer;	 /* one reference */
	struct ql_stream *inner; /* owned */
	uint64_t patience;	 /* ns */
};

static ssize_t way_read(struct ql_stream *stream, void *buf, size_t len,
			struct ql_error *err)
{
	struct way_stream *s = (struct way_stream *)stream;
	uint64_t since = ql_now_ns();
	ssize_t n;

	do
		n = ql_http_read(s->inner, buf, len,
				 ql_now_ns() + SLICE_MS * MS, err);
	while (n == -EAGAIN &&
	       !ql_peer_is_stalled(s->peers, s->peer, since, s->patience));
	if (n > 0)
		ql_peer_came(s->peers, s->peer, (uint64_t)n);
	if (n == -EAGAIN) {
		ql_peer_slow(s->peers, s->peer, s->patience);
		return ql_error_set(err, -ETIMEDOUT, "%s: too slow",
				    s->peer->address);
	}
	if (n < 0)
		ql_peer_failed(s->peers, s->peer, (int)n);
	return n;
}

static void way_free(struct ql_stream *stream)
{
	struct way_stream *s = (struct way_stream *)stream;

	ql_stream_free(s->inner);
	ql_peer_unref(s->peer);
	free(s);
}

static const struct ql_stream_ops way_ops = { way_read, way_free };

static int peer_open(struct ql_peers *peers, struct ql_peer *peer,
		     const struct ql_peer_ask *ask, struct ql_stream **ret,
		     struct ql_error *err)
{
	char digest[QL_DIGEST_TEXT + 1];
	_cleanup_response_ struct ql_http_response rs = { 0 };
	_cleanup_free_ char *path =
		ql_strf("/v1/blobs/%s", ql_digest_text(&ask->digest, digest));
	struct way_stream *s = calloc(1, sizeof(*s));
	const struct ql_peer_request rq = {
		.path = path,
		.offset = ask->offset,
		.len = ask->len,
		.repository = ask->repository,
		.size = ask->size,
		.bulk = true,
	};
	int r = path && s ? ql_peer_open(peers, peer, &rq, &rs, err)
			  : ql_error_nomem(err);

	if (r < 0) {
		free(s);
		return r;
	}
	s->base.ops = &way_ops;
	s->peers = peers;
	s->peer = ql_peer_ref(peer);
	s->inner = ql_take_ptr(rs.body);
	s->patience = ql_peer_patience(peers, peer);
	*ret = &s->base;
	return 0;
}

int ql_peers_route_open(struct ql_peers *peers, const struct ql_peer_ask *ask,
			unsigned int way, struct ql_peer **ret_peer,
			struct ql_stream **ret_stream, struct ql_error *err)
{
	_cleanup_(ql_peer_unrefp) struct ql_peer *peer =
		way_get(peers, &ask->digest, way);
	int r;

	if (!peer)
		return -ENOENT;
	if (!ql_peer_usable(peers, peer))
		return ql_error_set(err, -EHOSTUNREACH, "%s: not to be asked",
				    peer->address);
	r = peer_open(peers, peer, ask, ret_stream, err);
	if (r == 0)
		*ret_peer = ql_take_ptr(peer);
	return r;
}
