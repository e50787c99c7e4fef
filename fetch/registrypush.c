/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Blobs and manifests to a registry: OCI distribution-spec 1.1, "Push".
 *
 * A blob is asked for first (HEAD), then mounted from another repository where
 * that may have it, else uploaded: a small one by one PUT, a large one by a
 * PATCH of all of it and an empty PUT.  Where the PATCH breaks, the registry
 * is asked how far it is (GET of the upload, Range) and gets the rest; where
 * it has forgotten the upload, a new one is begun.
 */
#include "fetch/push-private.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

enum {
	MONOLITHIC = 4 << 20, /* bytes; larger blobs are worth resuming */
	PROGRESS = 1 << 20,   /* bytes that make up for a failure */
};

#define OCTETS "application/octet-stream"

/* An upload, begun. */
struct upload {
	struct ql_registry *reg; /* borrowed, as this */
	const struct ql_push_blob *blob;
	char *location; /* owned; where the next request goes */
	uint64_t at;	/* bytes that the registry has */
};

int ql_registry_has_blob(struct ql_registry *reg,
			 const struct ql_digest *digest, struct ql_error *err)
{
	_cleanup_response_ struct ql_http_response rs = { 0 };
	char text[QL_DIGEST_TEXT + 1];
	_cleanup_free_ char *path =
		ql_strf("blobs/%s", ql_digest_text(digest, text));
	const struct ql_registry_request rq = { .method = "HEAD",
						.path = path };
	int r = path ? ql_registry_send(reg, &rq, &rs, err)
		     : ql_error_nomem(err);

	if (r == -ENOENT)
		return 0;
	return r < 0 ? r : 1;
}

/* Location of an answer, which is relative to what was asked. */
static int location_take(struct upload *up, const char *base,
			 const struct ql_http_response *rs,
			 struct ql_error *err)
{
	char *next = NULL;
	int r;

	if (!rs->location)
		return ql_error_set(err, -EPROTO,
				    "the registry does not say where to "
				    "upload");
	r = ql_http_resolve(base, rs->location, &next, err);
	if (r < 0)
		return r;
	free(up->location);
	up->location = next;
	return 0;
}

/* 1: it was mounted; 0: begun. */
static int upload_begin(struct upload *up, struct ql_error *err)
{
	static const struct ql_http_upload nothing = { .fd = -1 };
	_cleanup_response_ struct ql_http_response rs = { 0 };
	_cleanup_buf_ struct ql_buf path = QL_BUF_INIT(8 << 10);
	_cleanup_free_ char *base = NULL;
	char text[QL_DIGEST_TEXT + 1];
	struct ql_registry_request rq = { .method = "POST",
					  .upload = &nothing };
	int r = ql_buf_adds(&path, "blobs/uploads/");

	if (r == 0 && up->blob->mount) {
		r = ql_buf_addf(&path, "?mount=%s&from=",
				ql_digest_text(&up->blob->digest, text));
		if (r == 0)
			r = ql_url_encode(&path, up->blob->mount);
	}
	if (r < 0)
		return ql_error_nomem(err);
	rq.path = ql_buf_str(&path);
	base = ql_registry_url(up->reg, rq.path);
	r = base ? ql_registry_send(up->reg, &rq, &rs, err)
		 : ql_error_nomem(err);
	if (r < 0)
		return r;
	up->at = 0;
	if (rs.status == 201 && up->blob->mount)
		return 1;
	return location_take(up, base, &rs, err);
}

/* The rest of the blob, by PATCH or, with the digest, PUT. */
static int upload_send(struct upload *up, const char *method, const char *url,
		       uint64_t len, struct ql_http_response *ret_rs,
		       struct ql_error *err)
{
	char range[48];
	const struct ql_push_blob *b = up->blob;
	const char *data = b->data;
	const struct ql_http_upload body = {
		.type = OCTETS,
		.range = up->at > 0 && len > 0 ? range : NULL,
		.data = data ? data + up->at : NULL,
		.fd = b->fd,
		.offset = up->at,
		.len = len,
		.sent = up->at > 0 ? NULL : b->sent,
		.arg = b->arg,
	};
	const struct ql_registry_request rq = {
		.method = method,
		.path = "blobs/uploads/",
		.url = url,
		.range = { .bulk = len > MONOLITHIC },
		.upload = &body,
		.once = true,
	};

	(void)snprintf(range, sizeof(range), "%" PRIu64 "-%" PRIu64, up->at,
		       up->at + len - 1);
	return ql_registry_send(up->reg, &rq, ret_rs, err);
}

/* url with digest= behind what stands there, owned. */
static char *url_with_digest(const char *url, const struct ql_digest *digest)
{
	char text[QL_DIGEST_TEXT + 1];

	return ql_strf("%s%cdigest=%s", url, strchr(url, '?') ? '&' : '?',
		       ql_digest_text(digest, text));
}

static int upload_put(struct upload *up, uint64_t len, struct ql_error *err)
{
	_cleanup_response_ struct ql_http_response rs = { 0 };
	_cleanup_free_ char *url =
		url_with_digest(up->location, &up->blob->digest);

	if (!url)
		return ql_error_nomem(err);
	return upload_send(up, "PUT", url, len, &rs, err);
}

/* "0-1023": 1,024 bytes are there.  An upload with none says "0-0" too. */
static int range_parse(const char *range, uint64_t *ret_at)
{
	char *end;
	unsigned long long last;

	if (range && strncmp(range, "bytes=", 6) == 0)
		range += 6;
	if (!range || strncmp(range, "0-", 2) != 0)
		return -EPROTO;
	errno = 0;
	last = strtoull(range + 2, &end, 10);
	if (errno || *end || end == range + 2)
		return -EPROTO;
	*ret_at = last == 0 ? 0 : last + 1;
	return 0;
}

/* How far is it?  -ENOENT: the upload is forgotten. */
static int upload_status(struct upload *up, struct ql_error *err)
{
	_cleanup_response_ struct ql_http_response rs = { 0 };
	const struct ql_registry_request rq = { .method = "GET",
						.path = "blobs/uploads/",
						.url = up->location };
	uint64_t at = 0;
	int r = ql_registry_send(up->reg, &rq, &rs, err);

	if (r < 0)
		return r;
	ql_http_drain(&rs);
	if (range_parse(rs.range, &at) < 0 || at > up->blob->size)
		return ql_error_set(err, -ENOENT,
				    "the registry does not say how far the "
				    "upload is");
	up->at = at;
	return rs.location ? location_take(up, up->location, &rs, err) : 0;
}

/* One PATCH of all that is missing. */
static int upload_patch(struct upload *up, struct ql_error *err)
{
	_cleanup_response_ struct ql_http_response rs = { 0 };
	int r = upload_send(up, "PATCH", up->location, up->blob->size - up->at,
			    &rs, err);

	if (r < 0)
		return r;
	up->at = up->blob->size;
	return location_take(up, up->location, &rs, err);
}

static bool worth_again(int error)
{
	/* Also what passes on the server's side, and a range that it did not
	 * expect: it knows how far it is. */
	return ql_http_error_transient(error) || error == -EREMOTEIO ||
	       error == -EBUSY || error == -EBADMSG || error == -ENOENT;
}

/* After a failure, once it may be tried again: where to go on. */
static int upload_recover(struct upload *up, unsigned int tries,
			  struct ql_error *err)
{
	int r = ql_registry_pause(up->reg, tries, 0, err);

	if (r < 0)
		return r;
	r = upload_status(up, err);
	ql_debug("msg=\"upload again\" at=%" PRIu64 " status=%d", up->at, r);
	return r < 0 && worth_again(r) ? upload_begin(up, err) : r;
}

static int upload_large(struct upload *up, struct ql_error *err)
{
	unsigned int most = ql_registry_retries(up->reg);
	unsigned int failures = 0;
	uint64_t before = 0;
	int r = 0;

	for (;;) {
		if (r == 0 && up->at < up->blob->size)
			r = upload_patch(up, err);
		if (r == 0)
			r = upload_put(up, 0, err);
		if (r == 0 || !worth_again(r) || failures++ >= most)
			return r;
		r = upload_recover(up, failures - 1, err);
		if (r > 0)
			return 0;
		if (r == 0 && up->at >= before + PROGRESS)
			failures = 0;
		before = up->at;
	}
}

static int upload_small(struct upload *up, struct ql_error *err)
{
	unsigned int most = ql_registry_retries(up->reg);

	for (unsigned int tries = 0;; tries++) {
		int r = upload_put(up, up->blob->size, err);

		if (r == 0 || !worth_again(r) || tries >= most)
			return r;
		r = ql_registry_pause(up->reg, tries, 0, err);
		if (r == 0)
			r = upload_begin(up, err);
		if (r != 0)
			return r < 0 ? r : 0;
	}
}

/* Begun in vain: it was not mounted, and there is nothing to send. */
static int upload_drop(struct upload *up, struct ql_error *err)
{
	_cleanup_response_ struct ql_http_response rs = { 0 };
	const struct ql_registry_request rq = { .method = "DELETE",
						.path = "blobs/uploads/",
						.url = up->location,
						.once = true };
	char text[QL_DIGEST_TEXT + 1];

	/* A registry that cannot forgets it by itself. */
	if (up->location)
		(void)ql_registry_send(up->reg, &rq, &rs, NULL);
	return ql_error_set(err, -ENODATA, "%s is not there, nor here",
			    ql_digest_text(&up->blob->digest, text));
}

int ql_registry_put_blob(struct ql_registry *reg,
			 const struct ql_push_blob *blob, bool *ret_there,
			 struct ql_error *err)
{
	bool none = !blob->data && blob->fd < 0;
	struct upload up = { .reg = reg, .blob = blob };
	int r = ql_registry_has_blob(reg, &blob->digest, err);

	if (r == 0 && !(none && !blob->mount))
		r = upload_begin(&up, err);
	if (r == 0 && none)
		r = upload_drop(&up, err);
	if (r == 0) {
		r = blob->size > MONOLITHIC ? upload_large(&up, err)
					    : upload_small(&up, err);
		if (r == 0)
			*ret_there = false;
	} else if (r > 0) {
		*ret_there = true;
		r = 0;
	}
	free(up.location);
	return r;
}

static int manifest_put(struct ql_registry *reg, const char *path,
			const char *media_type, const void *data, size_t len,
			struct ql_http_response *ret_rs, struct ql_error *err)
{
	const struct ql_http_upload body = {
		.type = media_type, .data = data, .fd = -1, .len = len
	};
	const struct ql_registry_request rq = { .method = "PUT",
						.path = path,
						.upload = &body };

	return ql_registry_send(reg, &rq, ret_rs, err);
}

/* What the manifest says that it refers to, where the registry did not say
 * that it keeps account of that. */
static int manifest_refer(struct ql_registry *reg, const char *media_type,
			  const void *data, size_t len,
			  const struct ql_digest *digest, struct ql_error *err)
{
	_cleanup_json_ json_t *doc = NULL;
	const json_t *subject;
	struct ql_digest of;
	struct ql_manifest_blob blob = { .media_type = media_type,
					 .digest = *digest,
					 .size = len };
	int r = ql_json_parse(data, len, &doc, err);

	if (r < 0)
		return r;
	subject = json_object_get(doc, "subject");
	if (!subject)
		return 0;
	r = ql_digest_parse(ql_json_opt_string(subject, "digest", ""), &of,
			    err);
	if (r < 0)
		return ql_error_prefix(err, "subject");
	blob.annotations = json_object_get(doc, "annotations");
	blob.artifact_type = ql_json_opt_string(
		doc, "artifactType",
		ql_json_opt_string(json_object_get(doc, "config"), "mediaType",
				   NULL));
	return ql_registry_refer(reg, &of, &blob, err);
}

int ql_registry_put_manifest(struct ql_registry *reg, const char *tag,
			     const char *media_type, const void *data,
			     size_t len, struct ql_error *err)
{
	_cleanup_response_ struct ql_http_response rs = { 0 };
	_cleanup_free_ char *path = NULL;
	char text[QL_DIGEST_TEXT + 1];
	struct ql_digest digest;
	int r;

	if (ql_digest_of(data, len, &digest) < 0)
		return ql_error_nomem(err);
	path = ql_strf("manifests/%s",
		       tag ? tag : ql_digest_text(&digest, text));
	if (!path)
		return ql_error_nomem(err);
	r = manifest_put(reg, path, media_type, data, len, &rs, err);
	if (r < 0)
		return ql_error_prefix(err, "manifest");
	ql_http_drain(&rs);
	if (rs.subject)
		return 0;
	return manifest_refer(reg, media_type, data, len, &digest, err);
}
