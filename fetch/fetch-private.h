/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of fetch/ offer each other, grouped by the file that owns
 * it.  Order of dependence, each on those before it: ref, status, url; http;
 * settings, credentials, wwwauth, auth; manifest, platform; the three sources
 * (registry, ocidir, dockerarchive); decompress; lazylayer (and toc-private.h);
 * resolve; pull.
 *
 * Locks: each of http, auth and pull has one of its own; auth's is held over
 * requests (so that one thread alone fetches a token), http's never over a
 * call into another file.  Order: auth before http.
 */
#ifndef QL_FETCH_PRIVATE_H
#define QL_FETCH_PRIVATE_H

#include "fetch/fetch.h"
#include "fetch/http.h"

enum {
	QL_MANIFEST_MAX = 4 << 20, /* bytes, as registries limit it */
	QL_CONFIG_MAX = 8 << 20,
	QL_TOKEN_MAX = 1 << 20, /* a token server's answer */
	QL_RTT_NEAR = 5000000,	/* ns: round trips below it do not matter */
	QL_BLOB_WINDOW = 512
			 << 10, /* bytes of a body kept ahead of its reader */
};

/* ---- status.c: HTTP status to errno ---- */

/* A negative errno for a status that is no success. */
int ql_status_errno(long status);
/* Worth another try after a while: 429 and the 5xx that pass. */
bool ql_status_transient(long status);
/* An error that another copy of what was read may mend: no word of this
 * machine's, nor of who cancels. */
bool ql_status_is_content(int error);
/* Describe: "HTTP 429 from registry.example (too many requests)". */
int ql_status_describe(long status, const char *host, struct ql_error *err);

/* ---- url.c ---- */

bool ql_url_is_https(const char *url);
/* Scheme, host and port are the same. */
bool ql_url_same_origin(const char *a, const char *b);
/* host[:port] is this machine: localhost, 127.0.0.0/8, [::1]. */
bool ql_url_host_is_loopback(const char *host);
/* Owned "host[:port]" of a URL; NULL: out of memory, or no URL. */
char *ql_url_host(const char *url);
/* Appends text, percent-encoded but for RFC 3986's unreserved characters. */
int ql_url_encode(struct ql_buf *buf, const char *text);

/* ---- ring.c ---- */

struct ql_ring {
	char *data; /* owned */
	size_t size, pos, len;
};
int ql_ring_init(struct ql_ring *ring, size_t size); /* 0 or -ENOMEM */
void ql_ring_release(struct ql_ring *ring);
size_t ql_ring_room(const struct ql_ring *ring);
/* len is at most the room there is. */
void ql_ring_put(struct ql_ring *ring, const char *data, size_t len);
size_t ql_ring_get(struct ql_ring *ring, char *buf, size_t len);

/* ---- settings.c: registries.json, certs.d ---- */

struct ql_endpoint {
	char *host;	    /* owned; host[:port] */
	char *scheme;	    /* owned; "http" or "https" */
	char *domain;	    /* owned; whose credentials are used */
	bool may_fall_back; /* https failed: http may be tried */
	struct ql_tls tls;
};

struct ql_settings {
	struct ql_endpoint *endpoints; /* owned; mirrors first, origin last */
	size_t n_endpoints;
	struct ql_http_timeouts timeouts;
	unsigned int retries; /* after the first try */
};

/* The settings for one registry.  config_dir NULL: the defaults. */
int ql_settings_load(const char *config_dir, const char *domain,
		     bool plain_http, struct ql_settings *ret_settings,
		     struct ql_error *err);
void ql_settings_release(struct ql_settings *settings);
#define _cleanup_settings_ __attribute__((cleanup(ql_settings_release)))

/* ---- certs.c ---- */

/* Fills in what stands in certs.d/HOST/ and is not set yet. */
int ql_certs_find(const char *config_dir, const char *host, struct ql_tls *tls,
		  struct ql_error *err);

/* ---- credentials.c, helper.c ---- */

struct ql_credentials {
	char *user;	      /* owned */
	char *password;	      /* owned */
	char *identity_token; /* owned; in place of the two above */
};
void ql_credentials_release(struct ql_credentials *c);
#define _cleanup_credentials_ __attribute__((cleanup(ql_credentials_release)))

/* What the user's auth files say for domain/path now.  -ENOENT (not
 * described): nothing. */
int ql_credentials_find(const char *domain, const char *path,
			struct ql_credentials *ret_credentials,
			struct ql_error *err);
/* Asks docker-credential-<name> for server.  -ENOENT (not described): it
 * knows none. */
int ql_helper_get(const char *name, const char *server,
		  struct ql_credentials *ret_credentials, struct ql_error *err);

/* ---- wwwauth.c ---- */

struct ql_challenge {
	bool basic, bearer; /* what is offered */
	char *realm;   /* owned; the bearer's; NULL where absent, as below */
	char *service; /* owned */
	char *scope;   /* owned */
};
/* -EBADMSG: not a challenge.  Schemes that are unknown are passed over. */
int ql_challenge_parse(const char *header, struct ql_challenge *ret_challenge,
		       struct ql_error *err);
void ql_challenge_release(struct ql_challenge *c);
#define _cleanup_challenge_ __attribute__((cleanup(ql_challenge_release)))

/* ---- token.c ---- */

struct ql_token_request {
	const struct ql_challenge *challenge;
	const struct ql_credentials *credentials; /* NULL: anonymous */
	const char *scope;
	const struct ql_tls *tls;
	struct ql_http_timeouts timeouts;
	bool https; /* the realm must be https */
};
/* Owned token and when (ql_now_ns()) it runs out. */
int ql_token_fetch(struct ql_http *http, const struct ql_token_request *rq,
		   char **ret_token, uint64_t *ret_expires,
		   struct ql_error *err);
/* Owned "Basic …". */
int ql_token_basic(const struct ql_credentials *c, char **ret_header,
		   struct ql_error *err);

/* ---- auth.c ---- */

struct ql_auth;
int ql_auth_new(struct ql_http *http, struct ql_auth **ret_auth,
		struct ql_error *err);
void ql_auth_free(struct ql_auth *auth);
QL_DEFINE_CLEANUP(struct ql_auth *, ql_auth_free)

/* Tokens are for pushing too; before the first request. */
void ql_auth_may_push(struct ql_auth *auth);
/* Whether anybody was shown credentials. */
bool ql_auth_has_shown(struct ql_auth *auth);
/* The Authorization to send now, owned; NULL where none is known yet. */
int ql_auth_header(struct ql_auth *auth, const struct ql_endpoint *ep,
		   const char *path, char **ret_header, struct ql_error *err);
/*
 * The registry refused `used` (NULL: nothing was sent) with this challenge
 * (NULL: none, as ECR's 403): finds another header, reading credentials
 * again.  -EACCES: there is none.
 */
int ql_auth_renew(struct ql_auth *auth, const struct ql_endpoint *ep,
		  const char *path, const char *challenge, const char *used,
		  struct ql_http_timeouts timeouts, struct ql_error *err);

/* ---- platform.c ---- */

struct ql_platform {
	char *os, *arch, *variant; /* owned; variant may be "" */
};
/* "os/arch[/variant]", normalised; NULL: this machine's. */
int ql_platform_parse(const char *text, struct ql_platform *ret_platform,
		      struct ql_error *err);
void ql_platform_release(struct ql_platform *p);
#define _cleanup_platform_ __attribute__((cleanup(ql_platform_release)))
/* How well what is offered serves: 0 not at all, more is better. */
unsigned int ql_platform_match(const struct ql_platform *wanted,
			       const struct ql_platform *offered);

/* ---- manifest.c ---- */

/* Annotations that a layer's descriptor may have; their names: manifest.c. */
enum ql_note {
	QL_NOTE_JSON_SUM,     /* stargz: digest of the TOC's JSON */
	QL_NOTE_CHUNKED_SUM,  /* zstd:chunked: digest of the TOC's section */
	QL_NOTE_CHUNKED_POS,  /* zstd:chunked: where that is */
	QL_NOTE_CHUNKED0_SUM, /* the same by their older names */
	QL_NOTE_CHUNKED0_POS,
	QL_NOTES
};

struct ql_descriptor {
	char *media_type; /* owned */
	struct ql_digest digest;
	uint64_t size; /* bytes */
	char **urls;   /* owned, n_urls; elsewhere that it may be had */
	size_t n_urls;
	char *notes[QL_NOTES]; /* owned; NULL: none */
};
void ql_descriptor_release(struct ql_descriptor *d);
#define _cleanup_descriptor_ __attribute__((cleanup(ql_descriptor_release)))

struct ql_manifest {
	struct ql_descriptor config;
	struct ql_descriptor *layers; /* owned, n_layers; lowest first */
	uint32_t n_layers;
};
void ql_manifest_release(struct ql_manifest *m);
#define _cleanup_manifest_ __attribute__((cleanup(ql_manifest_release)))

enum ql_document { QL_DOCUMENT_MANIFEST, QL_DOCUMENT_INDEX };

/*
 * What a document is, by its own mediaType, or the one it was served with
 * (may be NULL), or its members.  -EOPNOTSUPP: schema 1, or not an image.
 */
int ql_document_kind(const char *data, size_t len, const char *media_type,
		     enum ql_document *ret_kind, struct ql_error *err);
int ql_manifest_parse(const char *data, size_t len,
		      struct ql_manifest *ret_manifest, struct ql_error *err);
/* One descriptor object. */
int ql_descriptor_parse(const json_t *obj, struct ql_descriptor *ret_d,
			struct ql_error *err);

/* ---- index.c ---- */

/* The entry of an index for a platform.  -ENOENT, listing what there is. */
int ql_index_select(const char *data, size_t len,
		    const struct ql_platform *platform,
		    struct ql_descriptor *ret_d, struct ql_error *err);

/* ---- config.c ---- */

/* The diff IDs, owned; as many as n_layers, or -EBADMSG. */
int ql_config_parse(const char *data, size_t len, uint32_t n_layers,
		    struct ql_digest **ret_diff_ids, struct ql_error *err);

/* Is it for this platform?  -ENOENT: no. */
int ql_config_check(const char *data, size_t len, const char *platform,
		    struct ql_error *err);

/* ---- sources: registry.c, ocidir.c, dockerarchive.c ---- */

struct ql_source;

struct ql_source_ops {
	/*
	 * Appends the document that the reference names (d NULL), or that d
	 * describes, to buf; *ret_type is owned and may be NULL (unknown).
	 * The caller checks the digest.
	 */
	int (*get_manifest)(struct ql_source *src,
			    const struct ql_descriptor *d, struct ql_buf *buf,
			    char **ret_type, struct ql_error *err);
	/* The bytes of a blob; the caller verifies them. */
	int (*open_blob)(struct ql_source *src, const struct ql_descriptor *d,
			 struct ql_stream **ret_stream, struct ql_error *err);
	/* At least len bytes of it from offset on; NULL: it cannot. */
	int (*open_range)(struct ql_source *src, const struct ql_descriptor *d,
			  uint64_t offset, uint64_t len,
			  struct ql_stream **ret_stream, struct ql_error *err);
	/* Appends the index of what refers to a manifest.  NULL: nothing
	 * does. */
	int (*referrers)(struct ql_source *src, const struct ql_digest *digest,
			 const char *artifact_type, struct ql_buf *buf,
			 struct ql_error *err);
	/* ns of a round trip; 0: near, or not known.  NULL: near. */
	uint64_t (*rtt)(struct ql_source *src);
	/* Whether what it has given so far was to be had without credentials.
	 * NULL: no; a folder's or an archive's content is nobody else's to
	 * know. */
	bool (*is_anonymous)(struct ql_source *src);
	/* From any thread: whatever waits in this source fails soon. */
	void (*cancel)(struct ql_source *src);
	void (*free)(struct ql_source *src);
};

/* First member of every implementation.  Used by any number of threads. */
struct ql_source {
	const struct ql_source_ops *ops;
	bool lazy; /* parts of blobs will be asked for, soon after a manifest */
};

/* source.c: the reference is borrowed for the source's life. */
int ql_source_open(const struct ql_ref *ref,
		   const struct ql_pull_options *options,
		   struct ql_source **ret_src, struct ql_error *err);
void ql_source_free(struct ql_source *src); /* NULL is fine */
/* QL_IMAGE_ANONYMOUS, or 0: for the record of what it gave. */
uint32_t ql_source_flags(struct ql_source *src);
QL_DEFINE_CLEANUP(struct ql_source *, ql_source_free)

int ql_registry_open(const struct ql_ref *ref,
		     const struct ql_pull_options *options,
		     struct ql_source **ret_src, struct ql_error *err);
int ql_ocidir_open(const struct ql_ref *ref, struct ql_source **ret_src,
		   struct ql_error *err);
int ql_dockerarchive_open(const struct ql_ref *ref, struct ql_source **ret_src,
			  struct ql_error *err);

/* The same over a descriptor (taken on success). */
int ql_dockerarchive_open_fd(int fd, const struct ql_ref *ref,
			     struct ql_source **ret_src, struct ql_error *err);

/* ---- filestream.c ---- */

/* size bytes of a file from offset on; the descriptor is borrowed. */
int ql_filestream_new(int fd, uint64_t offset, uint64_t size,
		      struct ql_stream **ret_stream, struct ql_error *err);

/* ---- tarindex.c: where a tar's members are ---- */

struct ql_tar_member {
	char *name;	 /* owned; with no "./" in front */
	char *link;	 /* owned; the member it stands for, or NULL */
	uint64_t offset; /* of its content, in bytes */
	uint64_t size;
};
struct ql_tarindex {
	struct ql_tar_member *members; /* owned, n_members */
	size_t n_members;
	size_t cap;
};
int ql_tarindex_read(int fd, struct ql_tarindex *ret_index,
		     struct ql_error *err);
void ql_tarindex_release(struct ql_tarindex *index);
/* Follows links; NULL: there is no such file. Borrowed. */
const struct ql_tar_member *ql_tarindex_find(const struct ql_tarindex *index,
					     const char *name);

/* ---- registryblob.c ---- */

struct ql_registry;
/* len bytes of a blob's body (d->size: all of it), which goes on where a
 * connection broke. */
int ql_registryblob_open(struct ql_registry *reg, const struct ql_descriptor *d,
			 uint64_t offset, uint64_t len,
			 struct ql_stream **ret_stream, struct ql_error *err);

/* ---- registry.c, for registryblob.c ---- */

struct ql_range {
	uint64_t offset;
	uint64_t len; /* 0: to the end */
	bool bulk;    /* the body may be large */
};

/*
 * One GET of path ("manifests/latest", "blobs/sha256:…") below the
 * repository, from the first endpoint that answers with a success, with
 * authorization and retries.
 */
int ql_registry_get(struct ql_registry *reg, const char *path,
		    const char *accept, const struct ql_range *range,
		    struct ql_http_response *ret_rs, struct ql_error *err);
/* Any other request, to the origin alone. */
struct ql_registry_request {
	const char *method; /* NULL: GET */
	const char *path;   /* below the repository */
	const char *url;    /* NULL; or where the registry said, for path */
	const char *accept; /* or NULL */
	struct ql_range range;
	const struct ql_http_upload *upload; /* or NULL */
	bool once; /* a failed try is the caller's to repeat */
};
/* What is asked of it may also change it: no mirror is asked.  Before the first
 * request. */
void ql_registry_may_push(struct ql_registry *reg);
/* The URL of a path at the origin, owned; NULL: out of memory. */
char *ql_registry_url(struct ql_registry *reg, const char *path);
/* Any 2xx is a success. */
int ql_registry_send(struct ql_registry *reg,
		     const struct ql_registry_request *rq,
		     struct ql_http_response *ret_rs, struct ql_error *err);
unsigned int ql_registry_retries(const struct ql_registry *reg);
/* Backs off before another try (0: the first); -ECANCELED. */
int ql_registry_pause(struct ql_registry *reg, unsigned int tries,
		      uint64_t at_least_ms, struct ql_error *err);

/* ---- registryerror.c ---- */

/* Describes an answer that is no success, with the registry's own words; its
 * body is read away. */
int ql_registry_error(struct ql_http_response *rs, const char *host,
		      struct ql_error *err);

/* ---- decompress.c, gzip.c, zstd.c ---- */

enum ql_compression {
	QL_COMPRESSION_NONE,
	QL_COMPRESSION_GZIP,
	QL_COMPRESSION_ZSTD,
};
enum ql_compression ql_compression_sniff(const uint8_t *data, size_t len);

/* Over `inner` (taken on success): inflated as its first bytes ask for. */
int ql_decompress(struct ql_stream *inner, struct ql_stream **ret_stream,
		  struct ql_error *err);
/* The same, and the blob's spans go to `spans` (borrowed for the stream's
 * life; NULL: none) by the thread that reads; all, once the end was read. */
struct ql_spans;
int ql_decompress_spans(struct ql_stream *inner, struct ql_spans *spans,
			struct ql_stream **ret_stream, struct ql_error *err);

/* A reader over a stream that can look ahead; for the decompressors. */
struct ql_input {
	struct ql_stream *inner; /* owned */
	uint8_t *data;		 /* owned, QL_INPUT_SIZE */
	size_t pos, len;
	uint64_t end; /* of data[len] in the stream */
	bool ended;
};
enum { QL_INPUT_SIZE = 64 << 10 };
/* Reads more where nothing is left.  1: there is some; 0: the end. */
int ql_input_fill(struct ql_input *in, struct ql_error *err);
/* Where in the stream data[pos] is. */
uint64_t ql_input_pos(const struct ql_input *in);
void ql_input_release(struct ql_input *in);
/* Both take what is in `in`, on success, and leave it empty. */
int ql_gzip_new(struct ql_input *in, struct ql_spans *spans,
		struct ql_stream **ret_stream, struct ql_error *err);
int ql_zstd_new(struct ql_input *in, struct ql_spans *spans,
		struct ql_stream **ret_stream, struct ql_error *err);

/* ---- spans.c: where a blob can be entered ---- */

enum { QL_SPAN_WINDOW_MAX = 36 << 10 }; /* bytes, compressed */

struct ql_spans {
	struct ql_toc_writer *toc; /* borrowed */
	struct ql_digest blob;
	uint64_t size; /* of the blob */
	bool open;     /* a span has begun */
	bool failed;   /* no more are added */
	struct ql_toc_span next;
	struct ql_buf window; /* of it */
};
void ql_spans_init(struct ql_spans *spans, struct ql_toc_writer *toc,
		   const struct ql_digest *blob, uint64_t blob_size);
void ql_spans_release(struct ql_spans *spans);
/* First of all: what the blob is compressed by. */
void ql_spans_codec(struct ql_spans *spans, enum ql_codec codec);
/* A span begins: offset, bits, checkpoint, raw and window (copied) are the
 * caller's.  The one before ends there. */
void ql_spans_begin(struct ql_spans *spans, const struct ql_toc_span *at);
/* The last one ends. */
void ql_spans_end(struct ql_spans *spans, uint64_t offset, uint64_t raw);
/* How much the span that has begun decodes to, up to raw. */
uint64_t ql_spans_raw(const struct ql_spans *spans, uint64_t raw);

/* ---- gzipindex.c: checkpoints, while a blob is inflated ---- */

struct ql_gzip_index;
struct inflate_state;
int ql_gzip_index_new(struct ql_spans *spans, struct ql_gzip_index **ret_ix,
		      struct ql_error *err);
void ql_gzip_index_free(struct ql_gzip_index *ix); /* NULL is fine */
/* A member begins at this offset of the blob; the blob ends. */
void ql_gzip_index_member(struct ql_gzip_index *ix, uint64_t offset);
void ql_gzip_index_end(struct ql_gzip_index *ix, uint64_t offset);
/* isal_inflate(), which may leave more of its input than that would; pos: of
 * state->next_in in the blob. */
int ql_gzip_index_inflate(struct ql_gzip_index *ix, struct inflate_state *state,
			  uint64_t pos);

/* ---- spandecode.c: from spans of a blob to what they decode to ---- */

struct ql_span_io {
	/* More of the blob: up to len bytes, 0 at its end, or a negative
	 * errno. */
	ssize_t (*read)(void *arg, void *buf, size_t len, struct ql_error *err);
	/* What came out, in order; 0 or a negative errno. */
	int (*write)(void *arg, const void *data, size_t len,
		     struct ql_error *err);
	void *arg; /* borrowed */
};
struct ql_span_decoder;
/* offset: in the blob, of the first byte that io gives. */
int ql_span_decoder_new(const struct ql_span_io *io, uint64_t offset,
			struct ql_span_decoder **ret_d, struct ql_error *err);
void ql_span_decoder_free(struct ql_span_decoder *d); /* NULL is fine */
QL_DEFINE_CLEANUP(struct ql_span_decoder *, ql_span_decoder_free)
/* Spans in ascending order; exactly raw_len bytes come out of each.  -EBADMSG:
 * it does not decode so. */
int ql_span_decode(struct ql_span_decoder *d, const struct ql_toc_span *span,
		   struct ql_error *err);
/* Where the blob has to be read from for it. */
uint64_t ql_span_start(const struct ql_toc_span *span);

/* ---- lazylayer.c ---- */

/* Appends bytes of the layer's blob to buf; exactly len of them. */
typedef int ql_range_fn(void *arg, uint64_t offset, uint64_t len,
			struct ql_buf *buf, struct ql_error *err);
/*
 * Reads a layer's table of contents, verifies it and records the layer as
 * lazy; one range is read, or two.  info->diff_id is the caller's, the rest
 * is filled in; locks as for ql_layer_import().
 * -ENOTSUP: it is to be had as a plain layer alone (described where its
 * annotations say otherwise).  -EBADMSG, …: what it says cannot be.
 */
int ql_lazylayer_open(struct ql_store *store, const struct ql_descriptor *d,
		      ql_range_fn *read_range, void *arg,
		      struct ql_layer_info *info, struct ql_error *err);
/* The same where ql_share_pays(); else -ENOTSUP. */
int ql_lazylayer_open_shared(struct ql_store *store,
			     const struct ql_descriptor *d,
			     ql_range_fn *read_range, void *arg,
			     struct ql_layer_info *info, struct ql_error *err);
/* The same, but appends the table as the store has it, and records nothing. */
int ql_lazylayer_toc(struct ql_store *store, const struct ql_descriptor *d,
		     ql_range_fn *read_range, void *arg, struct ql_buf *buf,
		     struct ql_error *err);

/* ---- fillwait.c ---- */

/* As ql_fill_all(); -ECANCELED soon after *cancel (may be NULL) is set. *stats:
 * what was moved, also on failure. */
int ql_fill_missing(struct ql_store *store, const struct ql_image_info *info,
		    const struct ql_fill_options *options,
		    const atomic_bool *cancel, struct ql_fill_stats *stats,
		    struct ql_error *err);

/* Waits until a part of a file is here.  A negative errno: not in time. */
int ql_fill_await(struct ql_filler *f, struct ql_fill_file *file,
		  uint64_t offset, uint64_t len);

/* ---- repairpacked.c ---- */

/* Takes out what is damaged of what is packed of a blob. */
int ql_repair_packed(struct ql_store *store, const struct ql_digest *blob,
		     struct ql_error *err);

/* ---- repairlayer.c ---- */

/*
 * Fetches a layer that is known here again: its tree and table of contents,
 * and with `whole` all that is missing of its files.  d: as the manifest has it
 * (borrowed; NULL: as the layer's record has).  *ret_changed: its tree is
 * another now (ql_layer_replace()).  Takes the store's lock (shared).
 */
int ql_repair_layer(struct ql_store *store, const struct ql_digest *diff_id,
		    const struct ql_descriptor *d, bool whole,
		    const struct ql_fill_options *options, bool *ret_changed,
		    struct ql_error *err);
/* Fetches a manifest, or a configuration of that size, from where one of the
 * blobs `near` is. */
int ql_repair_document(struct ql_store *store, const struct ql_digest *digest,
		       uint64_t size, bool manifest,
		       const struct ql_digest *near, size_t n,
		       const struct ql_fill_options *options,
		       struct ql_error *err);

/* ---- share.c ---- */

/* Of content that is wanted whole, so much is missing: it is worth while to
 * fetch that alone. */
bool ql_share_pays(uint64_t missing, uint64_t bytes);
/* The same of a tree's files.  False where it is damaged. */
bool ql_share_tree_pays(const struct ql_store *store, const void *cfs,
			size_t len);
/* Some version of the image is here. */
bool ql_share_is_likely(struct ql_store *store, const struct ql_ref *ref);

/* ---- resolve.c ---- */

struct ql_resolved {
	struct ql_digest digest; /* of the manifest */
	struct ql_buf manifest_json;
	struct ql_buf config_json;
	struct ql_manifest manifest;
	struct ql_digest *diff_ids; /* owned; manifest.n_layers */
};
void ql_resolved_release(struct ql_resolved *r);
#define _cleanup_resolved_ __attribute__((cleanup(ql_resolved_release)))

/* From a reference to one image's manifest, checked against its digest. */
int ql_resolve_manifest(struct ql_source *src, const struct ql_ref *ref,
			const char *platform, struct ql_resolved *ret,
			struct ql_error *err);
/* Fetches the configuration of what was resolved, checked likewise. */
int ql_resolve_config(struct ql_source *src, struct ql_resolved *resolved,
		      struct ql_error *err);

/* ---- layers.c: the workers of a pull ---- */

int ql_layers_fetch(struct ql_store *store, struct ql_source *src,
		    const struct ql_resolved *resolved,
		    const struct ql_pull_options *options,
		    struct ql_pull_result *result, struct ql_error *err);

/* ---- spool.c: a blob, fetched over several connections ---- */

struct ql_spool;
enum { QL_SPOOL_CONNECTIONS = 32 };
/* Fetches the first `size` bytes of a blob, of which `first` are needed before
 * the others; threads start at once.  rtt_ns: of the link, which says how many
 * connections are worth it. */
int ql_spool_new(struct ql_store *store, struct ql_source *src,
		 const struct ql_descriptor *d, uint64_t first, uint64_t size,
		 uint64_t rtt_ns, struct ql_spool **ret_spool,
		 struct ql_error *err);
/* Every stream was freed before. */
void ql_spool_free(struct ql_spool *s);
QL_DEFINE_CLEANUP(struct ql_spool *, ql_spool_free)
unsigned int ql_spool_connections(uint64_t rtt_ns, uint64_t size);
/* Waits for the bytes at offset: some of them, or 0 at the end. */
ssize_t ql_spool_read(struct ql_spool *s, void *buf, size_t len,
		      uint64_t offset, struct ql_error *err);
int ql_spool_stream(struct ql_spool *s, uint64_t offset, uint64_t len,
		    struct ql_stream **ret_stream, struct ql_error *err);
uint64_t ql_spool_received(struct ql_spool *s); /* bytes */
bool ql_spool_ended(struct ql_spool *s); /* all of it came, or it failed */

/* ---- ref.c ---- */

/* The repository alone, owned: "docker.io/library/redis", "oci:/dir"; NULL: out
 * of memory, or none that can be asked again. */
char *ql_ref_repository(const struct ql_ref *ref, bool plain_http);
#define QL_PLAIN_PREFIX "http://" /* of one that is to be asked so */

/* ---- pull.c ---- */

/* Stores manifest and configuration. */
int ql_pull_documents(struct ql_store *store,
		      const struct ql_resolved *resolved, struct ql_error *err);
/* Remembers where the layers' blobs are. */
int ql_pull_sources(struct ql_store *store, const char *repository,
		    const struct ql_manifest *manifest, struct ql_error *err);

/* ---- filler.c ---- */

/* What a blob is read from while it comes; both are taken, src may be NULL. */
struct ql_lent_source {
	struct ql_ref ref;     /* owned */
	struct ql_source *src; /* owned */
};
void ql_lent_source_free(struct ql_lent_source *lent);
QL_DEFINE_CLEANUP(struct ql_lent_source *, ql_lent_source_free)
/* Reads the blob from the spool from now on, and asks for all of its parts in
 * an image's table of hot parts that are not here, in order. */
int ql_filler_start(struct ql_filler *f, const struct ql_image_info *info,
		    struct ql_spool *spool, struct ql_lent_source *lent,
		    struct ql_error *err);

/* ---- pullkeep.c: what a pull tells the cache ---- */

struct ql_pull_holds {
	int *fds; /* owned; by layer, or -1 */
	uint32_t n;
};
void ql_pull_holds_release(struct ql_pull_holds *holds);
/* Holds those of an image's layers that are here and not yet held. */
int ql_pull_hold(struct ql_store *store, const struct ql_resolved *resolved,
		 struct ql_pull_holds *holds, struct ql_error *err);
/* So many bytes came from the reference's repository in that time. */
void ql_pull_rate(struct ql_store *store, const struct ql_ref *ref,
		  const struct ql_pull_options *options, uint64_t bytes,
		  uint64_t ns);
/* The image is here, and was asked for.  -ENOENT: it went meanwhile. */
int ql_pull_access(struct ql_store *store, const struct ql_ref *ref,
		   const struct ql_pull_options *options,
		   const struct ql_digest *manifest, struct ql_error *err);

#endif
