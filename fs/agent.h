/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The node agent, quicklayerd: what its files share, grouped by the file that
 * owns it.  Nothing here is for outside fs/.
 *
 * Locks: that of pulls (agent-pull.c) and that of each queue of work
 * (agent-work.c) are held for a few instructions; a queue's may be taken under
 * that of pulls.
 */
#ifndef QL_AGENT_H
#define QL_AGENT_H

#include <stdatomic.h>

#include "fetch/fetch.h"
#include "fs/fs.h"
#include "fs/grow.h"

/* ---- agent-keys.c: what may be configured ---- */

struct ql_strings {
	char **items; /* owned, as each */
	size_t n;
};
void ql_strings_release(struct ql_strings *list);

struct ql_agent_config {
	char *root;	    /* owned, as all strings; NULL: the default */
	char *socket;	    /* NULL: below the root, or in /run */
	char *socket_group; /* whose members may use it; NULL: root's alone */
	char *mountpoint;   /* NULL: as for socket */
	char *registries;   /* folder of registries.json; NULL: the default */
	char *access_log;   /* NULL: QUICKLAYER_ACCESS_LOG, or none */
	enum ql_log_level log_level;
	uint64_t max_parallel_downloads; /* layers of one pull */
	uint64_t max_pulls;		 /* at once; others wait */
	struct {
		uint64_t threads; /* 0: by the machine */
		bool passthrough;
	} fuse;
	/* Of files that come when they are read. */
	struct {
		uint64_t read_timeout;	  /* ns */
		uint64_t background_rate; /* bytes/s; UINT64_MAX: no limit */
		uint64_t connections;	  /* at once */
	} fill;
	/* What the store may take; where it is not said, as is recorded. */
	struct {
		struct ql_budget budget;
		struct ql_budget reserve; /* bytes alone */
	} cache;
	/* Reading all again, to see whether it still is what it was. */
	struct {
		uint64_t rate;	   /* bytes/s; 0: none; UINT64_MAX: no limit */
		uint64_t interval; /* ns; from one pass's end to the next */
	} scrub;
	/* Other nodes: fetch/peers.h. */
	struct {
		char *listen; /* ADDRESS:PORT; NULL: nobody is served */
		struct ql_strings list, dns; /* HOST:PORT */
		char *name, *site;	     /* NULL: the defaults */
		char *cluster;		     /* NULL: none */
		char *ca, *cert, *key; /* paths; all three, or NULL: no TLS */
		/* Who may ask without TLS, beside this node. */
		struct ql_strings allow;
		/* bytes/s; UINT64_MAX: no limit */
		uint64_t upload_rate, upload_rate_per_peer;
		enum ql_peer_share share;
		uint64_t relay; /* bytes; 0: nothing is fetched for others */
	} peers;
};

void ql_agent_config_init(struct ql_agent_config *config); /* the defaults */
void ql_agent_config_release(struct ql_agent_config *config);
#define _cleanup_config_ __attribute__((cleanup(ql_agent_config_release)))

/* Keys have numbers; "a.b" is b in the section a. */
enum { QL_AGENT_KEYS = 32 };
int ql_agent_key_find(const char *name); /* -1: there is none */
/* The first key of a section; -1: no such section. */
int ql_agent_section_find(const char *name);
bool ql_agent_key_is_sequence(size_t key);
/* What its values are, for a message. */
const char *ql_agent_key_wanted(size_t key);
/* Of a sequence: one more.  -EINVAL: it takes no such value. */
int ql_agent_key_set(size_t key, const char *value,
		     struct ql_agent_config *config);

/* ---- agent-config.c ---- */

/* Each finding as one line, "file:line: key: what is wrong". */
typedef void ql_config_error_fn(const char *finding, void *arg);
/*
 * Reads YAML over what config has.  All errors are reported; -EINVAL where
 * there were any: config is then not to be used, but is the caller's to
 * release.  file is for messages.
 */
int ql_agent_config_parse(const char *file, const char *data, size_t len,
			  struct ql_agent_config *config,
			  ql_config_error_fn *report, void *arg);
/* The same for a file.  path NULL: /etc/quicklayer/quicklayerd.yaml, which
 * need not be there. */
int ql_agent_config_load(const char *path, struct ql_agent_config *config,
			 ql_config_error_fn *report, void *arg);
/* Fills in socket and mountpoint, which depend on the root. */
int ql_agent_config_paths(struct ql_agent_config *config, const char *root,
			  struct ql_error *err);

/* ---- agent-socket.c ---- */

/* Held while an agent serves the root; -EBUSY: another does. */
int ql_agent_lock(const struct ql_store *store, int *ret_fd,
		  struct ql_error *err);
/*
 * A socket that listens at path, with mode 0600, or 0660 and that group.  A
 * socket that nobody answers at is replaced; -EADDRINUSE: somebody does.
 */
int ql_agent_listen(const char *path, const char *group, int *ret_fd,
		    struct ql_error *err);

/* ---- agent-work.c: threads that take jobs in their order ---- */

struct ql_job {
	void (*run)(struct ql_job *job); /* may free it */
	struct ql_job *next;
};
struct ql_work;
int ql_work_new(unsigned int threads, struct ql_work **ret_work,
		struct ql_error *err);
/* -ESHUTDOWN: it has been stopped; the job stays the caller's. */
int ql_work_add(struct ql_work *work, struct ql_job *job);
/* Waits until every job that was added has run.  NULL is fine, as below. */
void ql_work_stop(struct ql_work *work);
void ql_work_free(struct ql_work *work); /* stops it */

/* ---- agent-pull.c: pulls, each shared by all who ask for the same ---- */

struct ql_pulls;
/* What is pulled lazily goes on by the filler (borrowed; NULL: all pulls are
 * whole). */
int ql_pulls_new(struct ql_store *store, const struct ql_agent_config *config,
		 struct ql_filler *filler, struct ql_pulls **ret_pulls,
		 struct ql_error *err);
/* Shows images while they are pulled, from now on (borrowed). */
void ql_pulls_grow(struct ql_pulls *pulls, struct ql_growings *growings);
/* Other nodes are asked before registries, from now on (borrowed; or NULL). */
void ql_pulls_peers(struct ql_pulls *pulls, struct ql_peers *peers);
/* Cancels all of them, and waits; their clients read to the end. */
void ql_pulls_stop(struct ql_pulls *pulls);
void ql_pulls_free(struct ql_pulls *pulls); /* its clients were freed */
QL_DEFINE_CLEANUP(struct ql_pulls *, ql_pulls_free)
/* Pulls that run or wait. */
size_t ql_pulls_count(struct ql_pulls *pulls);

struct ql_pull_ask {
	const char *image;    /* borrowed, as below */
	const char *platform; /* NULL: this machine's */
	bool plain_http;
	bool full;	       /* leave nothing to come when it is read */
	unsigned int parallel; /* 0: as configured */
};

/* Who reads a pull's progress as JSON lines; one thread at a time. */
struct ql_pull_client;
/* -EINVAL: what is asked for is no image or platform.  -ESHUTDOWN. */
int ql_pulls_join(struct ql_pulls *pulls, const struct ql_pull_ask *ask,
		  struct ql_pull_client **ret_client, struct ql_error *err);
/* Called under the lock of pulls: sleep when there is nothing to read for
 * now, wake when there is again.  Both may be NULL. */
void ql_pull_client_hooks(struct ql_pull_client *client,
			  void (*sleep)(void *arg), void (*wake)(void *arg),
			  void *arg);
/* Bytes; 0: nothing for now; -1: the end. */
ssize_t ql_pull_client_read(struct ql_pull_client *client, char *buf,
			    size_t len);
/* Leaves; with the last client the pull is canceled.  NULL is fine. */
void ql_pull_client_free(struct ql_pull_client *client);

/* ---- deployments.c: manifests that this node carries out ---- */

struct ql_agent;
struct ql_deployments;
/* The agent, which has peers and pulls, and the texts are borrowed; cluster
 * NULL: no manifest is taken. */
int ql_deployments_new(struct ql_agent *agent, const char *name,
		       const char *cluster,
		       struct ql_deployments **ret_deployments,
		       struct ql_error *err);
/* Begins what a manifest says, or goes on by it; from any thread.  -EBADMSG,
 * -EOPNOTSUPP, -EFBIG: it is no manifest; -EPERM: another cluster's; -ENOENT:
 * this node is not in it; -ESTALE: older than what was accepted; -EEXIST: not
 * what was accepted as this generation; -EBUSY; -ESHUTDOWN. */
int ql_deployments_accept(struct ql_deployments *deployments, const char *text,
			  size_t len, struct ql_error *err);
/* How all come on; the caller's.  NULL: out of memory. */
json_t *ql_deployments_json(struct ql_deployments *deployments);
/* Gives them up, and waits for none.  NULL is fine, as below. */
void ql_deployments_stop(struct ql_deployments *deployments);
void ql_deployments_free(struct ql_deployments *deployments);

/* ---- agent-evict.c: a little room, always ---- */

struct ql_evictor;
struct ql_fs;
int ql_evictor_new(struct ql_store *store, struct ql_evictor **ret_evictor,
		   struct ql_error *err);
/* Bytes that are kept free of a budget. */
uint64_t ql_evictor_room(uint64_t budget);
/* Removes what nothing needs, and counts what the store takes; before start. */
void ql_evictor_tidy(struct ql_evictor *ev);
/* Begins, with the mount whose images may be let go of (borrowed until
 * stop). */
int ql_evictor_start(struct ql_evictor *ev, struct ql_fs *fs,
		     struct ql_error *err);
/* Looks now: the budget is another.  From any thread; NULL is fine, as below.
 */
void ql_evictor_look(struct ql_evictor *ev);
/* Has images let go of that the mount holds and nobody uses, and waits for it,
 * a few seconds at most: whether there was one.  From any thread. */
bool ql_evictor_let_go(struct ql_evictor *ev);
void ql_evictor_stop(struct ql_evictor *ev);
void ql_evictor_free(struct ql_evictor *ev);

/* ---- agent-scrub.c: whether what is here still is what came ---- */

struct ql_scrubber;
/* Begins at once.  Store and filler (may be NULL) are borrowed. */
int ql_scrubber_new(struct ql_store *store, struct ql_filler *filler,
		    const struct ql_agent_config *config,
		    struct ql_scrubber **ret_scrubber, struct ql_error *err);
/* Rate and interval are what config says now.  NULL is fine, as below. */
void ql_scrubber_set(struct ql_scrubber *scrubber,
		     const struct ql_agent_config *config);
/* How it stands; the caller's.  NULL: out of memory. */
json_t *ql_scrubber_json(struct ql_scrubber *scrubber);
void ql_scrubber_stop(struct ql_scrubber *scrubber);
void ql_scrubber_free(struct ql_scrubber *scrubber);

/* ---- agent-api.c: what is asked and answered, without HTTP ---- */

struct ql_agent {
	struct ql_store *store;		    /* owned */
	char *root;			    /* owned; absolute, no symlinks */
	char *mountpoint;		    /* owned; likewise */
	struct ql_pulls *pulls;		    /* owned */
	struct ql_deployments *deployments; /* owned; may be NULL */
	struct ql_peers *peers;		    /* owned; may be NULL */
	struct ql_filler *filler;	    /* owned; may be NULL */
	struct ql_growings *growings;	    /* owned; may be NULL */
	struct ql_scrubber *scrubber;	    /* owned; may be NULL */
	ql_drop_fn *drop;	    /* lets go of an image; may be NULL */
	void *drop_arg;		    /* borrowed */
	struct ql_evictor *evictor; /* owned; may be NULL */
};

enum { QL_API_BODY_MAX = 1 << 20, QL_API_ARGS_MAX = 8 };

enum ql_api_queue { QL_API_QUICK, QL_API_SLOW, QL_API_QUEUES };

struct ql_api_request {
	const char *method; /* borrowed, as all these */
	const char *path;   /* as it came, percent-encoded */
	struct ql_api_arg {
		const char *key, *value; /* percent-encoded; value may be NULL
					  */
	} args[QL_API_ARGS_MAX];
	size_t n_args;
	const char *body;
	size_t body_len;
};

struct ql_api_response {
	unsigned int status;
	json_t *body;		     /* owned */
	const char *allow;	     /* of status 405; borrowed */
	struct ql_pull_client *pull; /* owned; in place of body */
};
void ql_api_response_release(struct ql_api_response *rs);

/* Which threads are to answer it. */
enum ql_api_queue ql_api_queue(const struct ql_api_request *rq);
/* Answers, whatever was asked; from any thread.  body NULL and no pull: out of
 * memory. */
void ql_api_handle(struct ql_agent *agent, const struct ql_api_request *rq,
		   struct ql_api_response *ret_rs);
/* The same for an error that came before. */
void ql_api_fail(unsigned int status, int code, const char *text,
		 struct ql_api_response *ret_rs);

/* ---- agent-http.c: the API by HTTP ---- */

struct ql_api_server;
/* Serves at a socket that listens (taken on success); agent is borrowed. */
int ql_api_server_new(struct ql_agent *agent, int fd,
		      struct ql_api_server **ret_server, struct ql_error *err);
/* Accepts no more; what was asked is answered first, pulls are canceled. */
void ql_api_server_free(struct ql_api_server *server);

/* ---- agent.c ---- */

/* Serves until a signal comes.  config's paths are filled in; load reads it
 * again on SIGHUP (0, or errors were reported). */
typedef int ql_agent_load_fn(struct ql_agent_config *config, void *arg);
int ql_agent_run(struct ql_agent_config *config, ql_agent_load_fn *load,
		 void *arg, struct ql_error *err);

/* ---- agent-notify.c ---- */

/* sd_notify(3): tells who started us.  Nobody to tell is fine. */
void ql_notify(const char *state);

#endif
