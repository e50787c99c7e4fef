/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where content comes from: image references, registries, OCI folders and
 * docker archives, and the pull that fills a store from them.
 */
#ifndef QL_FETCH_H
#define QL_FETCH_H

#include "store/store.h"

/* ---- references ---- */

enum ql_ref_kind {
	QL_REF_REGISTRY,
	QL_REF_OCI_DIR,	       /* oci:DIR[:tag] */
	QL_REF_DOCKER_ARCHIVE, /* docker-archive:FILE[:name:tag] */
};

struct ql_ref {
	enum ql_ref_kind kind;
	char *domain; /* owned; registry host[:port], "docker.io" by default */
	char *path;   /* owned; repository ("library/redis"), or folder, or file
		       */
	char *tag;    /* owned; NULL where none applies */
	bool has_digest;
	struct ql_digest digest;
	char *name; /* owned; the normal spelling:
		       "docker.io/library/redis:latest" */
};

/*
 * Parses a reference as docker spells it (github.com/distribution/reference):
 * default registry docker.io, library/ for a single component, tag latest
 * where neither tag nor digest is given.  -EINVAL, saying what is wrong.
 */
int ql_ref_parse(const char *text, struct ql_ref *ret_ref,
		 struct ql_error *err);
void ql_ref_release(struct ql_ref *ref);
#define _cleanup_ref_ __attribute__((cleanup(ql_ref_release)))

/* ---- pulling ---- */

enum ql_pull_state {
	QL_PULL_WAITING,
	QL_PULL_FETCHING,
	QL_PULL_DONE,
	QL_PULL_HERE, /* was in the store already */
};

/* One layer's progress; called at most every 100 ms a layer, and at each
 * change of state, from several threads but never two at once. */
struct ql_pull_progress {
	uint32_t layer; /* 0: lowest */
	uint32_t n_layers;
	enum ql_pull_state state;
	struct ql_digest blob;
	uint64_t done; /* bytes of the blob */
	uint64_t total;
};
typedef void ql_pull_progress_fn(const struct ql_pull_progress *p, void *arg);

struct ql_pull_options {
	const char *platform;	/* "os/arch[/variant]"; NULL: this machine's */
	bool plain_http;	/* also where the registry is not loopback */
	unsigned int parallel;	/* layers at once; 0: the default */
	const char *config_dir; /* registries' settings; NULL: the default */
	ql_pull_progress_fn *progress; /* may be NULL */
	void *arg;
};

struct ql_pull_result {
	struct ql_digest manifest;
	uint32_t layers_fetched;
	uint32_t layers_here;
	uint64_t bytes_fetched;		 /* blob bytes received */
	uint64_t new_objects, new_bytes; /* written to the store */
	uint64_t dup_objects, dup_bytes; /* found in the store */
	bool up_to_date;		 /* the image was here already */
};

/*
 * Brings an image into the store, whole.  What is complete when it fails
 * (layers) stays, and the next pull goes on from there.
 */
int ql_pull(struct ql_store *store, const struct ql_ref *ref,
	    const struct ql_pull_options *options,
	    struct ql_pull_result *ret_result, struct ql_error *err);

#endif
