/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of the quicklayer command share: one command a file, one
 * table of commands (quicklayer.c), one table of options (options.c).
 */
#ifndef QL_CLI_H
#define QL_CLI_H

#include "fetch/fetch.h"

enum { QL_EXIT_OK = 0, QL_EXIT_FAILED = 1, QL_EXIT_USAGE = 2 };

/* Every option of every command; a command takes those it lists. */
struct ql_cli {
	const char *root; /* all borrowed from argv */
	const char *socket;
	const char *platform;
	const char *config_dir;
	const char *format;
	const char *level;
	const char *chunk_size;
	const char *first;
	const char *parallel;
	const char *mode;
	const char *network;
	const char *runtime;
	const char *user;
	const char *workdir;
	const char **env; /* owned; n_env of them */
	size_t n_env;
	char **argv; /* operands */
	int argc;
	bool no_agent;
	bool json;
	bool plain_http;
	bool quiet;
	bool foreground;
	bool no_passthrough;
	bool lazy;
	bool full;
	bool push;
	const char *trace;
	const char *to;
	const char *max_layers;
	const char *relax;
	const char *picture;
	const char *policy;
	const char *budget;
	const char *reserve;
	const char *free_bytes;
	const char *duration;
	const char *plot;
	const char *bandwidth;
	const char *rate;
	const char *nodes;
	bool kubernetes;
	const char *kube_url;
	const char *kube_token;
	const char *kube_ca;
	const char *cluster;
	const char *tls_ca;
	const char *tls_cert;
	const char *tls_key;
	bool apply;
	bool repair;
	bool incremental;
	bool dry_run;
	bool recursive;
	bool long_format;
	bool read_only;
	bool tty;
	bool brief;
};

struct ql_command {
	const char *name;
	const char *operands; /* as the usage line shows them */
	const char *summary;
	const char *options; /* letters of options.c, each once */
	int min, max;	     /* operands; max -1: any number */
	/* An exit status, or a negative errno described in err. */
	int (*run)(const struct ql_cli *cli, struct ql_error *err);
	bool passes_on; /* operands may begin with '-' after the first */
};

/* ---- options.c ---- */

/* Parses argv[1…]; 0, or an exit status plus one (1: stop, all is well). */
int ql_options_parse(const struct ql_command *cmd, int argc, char **argv,
		     struct ql_cli *ret_cli);
void ql_options_release(struct ql_cli *cli);
/* The command's --help. */
void ql_options_help(const struct ql_command *cmd);
/* A whole number from min to max; an option that was not given (text NULL) is
 * 0.  -EINVAL, naming it. */
int ql_number_parse(const char *option, const char *text, uint64_t min,
		    uint64_t max, uint64_t *ret, struct ql_error *err);
/* What push and refactor both take; the rest of *ret is left.  -EINVAL, naming
 * what is wrong. */
int ql_push_options_parse(const struct ql_cli *cli, struct ql_push_options *ret,
			  struct ql_error *err);
/* How a command was called is wrong: says so; the exit status. */
int ql_usage(const char *command, const struct ql_error *err);

/* ---- human.c ---- */

enum { QL_HUMAN = 16 };
/* "1.5 MB" (decimal units, as registries and disks state them); buf. */
char *ql_human_bytes(uint64_t bytes, char buf[QL_HUMAN]);
/* "3 hours ago"; seconds since the epoch; buf. */
char *ql_human_ago(uint64_t when, char buf[32]);
/* Bytes of a name on a terminal: control characters as \ooo; owned. */
char *ql_human_name(const char *name, size_t len);

/* ---- agent-client.c: the agent, asked by HTTP ---- */

struct ql_client {
	char *socket;	  /* owned, as all these */
	char *root;	  /* that it serves */
	char *mountpoint; /* of every image */
};
/* The agent that serves the command line's root, or that was named; *ret_client
 * (freed by ql_client_free()) is NULL where there is none and none was named.
 */
int ql_client_find(const struct ql_cli *cli, struct ql_client **ret_client,
		   struct ql_error *err);
void ql_client_free(struct ql_client *client);
QL_DEFINE_CLEANUP(struct ql_client *, ql_client_free)
/* Asks for prefix, image (may be NULL) and suffix; the answer's document. */
int ql_client_ask(const struct ql_client *client, const char *method,
		  const char *prefix, const char *image, const char *suffix,
		  json_t **ret_json, struct ql_error *err);
/* POSTs a JSON body. */
int ql_client_send(const struct ql_client *client, const char *path,
		   const char *body, json_t **ret_json, struct ql_error *err);
/* *ret_json: as of ql_doc_pull(). */
int ql_client_pull(const struct ql_client *client, const struct ql_cli *cli,
		   const char *text, unsigned int parallel, json_t **ret_json,
		   struct ql_error *err);

/* ---- back.c: an agent, or the store itself ---- */

struct ql_back {
	struct ql_client *client; /* owned; NULL: there is no agent */
	struct ql_store *store;	  /* owned; NULL: there is */
};
int ql_back_open(const struct ql_cli *cli, enum ql_store_mode mode,
		 struct ql_back *ret_back, struct ql_error *err);
void ql_back_release(struct ql_back *back);
#define _cleanup_back_ __attribute__((cleanup(ql_back_release)))

/* ---- out.c ---- */

/* Prints JSON on stdout, two spaces deep, and a newline.  Takes json. */
int ql_out_json(json_t *json, struct ql_error *err);
/* 0, or -errno where stdout could not be written (a full disk, say). */
int ql_out_flush(struct ql_error *err);

/* ---- progress.c ---- */

struct ql_pull_progress;
struct ql_progress;
struct ql_progress *ql_progress_new(bool quiet); /* NULL is fine below */
void ql_progress_update(const struct ql_pull_progress *p, void *progress);
void ql_progress_free(struct ql_progress *progress);

/* ---- content.c ---- */

typedef int ql_content_fn(const void *data, size_t len, void *arg);
/* Passes a file's content on in pieces; a non-zero return stops. */
int ql_content_each(const struct ql_cli *cli, const struct ql_store *store,
		    const struct ql_digest *manifest,
		    const struct ql_tree *tree, const struct ql_inode *file,
		    ql_content_fn *fn, void *arg, struct ql_error *err);

/* ---- commands ---- */

int ql_cmd_pull(const struct ql_cli *cli, struct ql_error *err);
int ql_cmd_refactor(const struct ql_cli *cli, struct ql_error *err);
int ql_cmd_push(const struct ql_cli *cli, struct ql_error *err);
int ql_cmd_mount(const struct ql_cli *cli, struct ql_error *err);
int ql_cmd_umount(const struct ql_cli *cli, struct ql_error *err);
int ql_cmd_index(const struct ql_cli *cli, struct ql_error *err);
int ql_cmd_record(const struct ql_cli *cli, struct ql_error *err);
int ql_cmd_prefetch(const struct ql_cli *cli, struct ql_error *err);
int ql_cmd_run(const struct ql_cli *cli, struct ql_error *err);
int ql_cmd_images(const struct ql_cli *cli, struct ql_error *err);
int ql_cmd_inspect(const struct ql_cli *cli, struct ql_error *err);
int ql_cmd_ls(const struct ql_cli *cli, struct ql_error *err);
int ql_cmd_cat(const struct ql_cli *cli, struct ql_error *err);
int ql_cmd_rmi(const struct ql_cli *cli, struct ql_error *err);
int ql_cmd_pin(const struct ql_cli *cli, struct ql_error *err);
int ql_cmd_unpin(const struct ql_cli *cli, struct ql_error *err);
int ql_cmd_status(const struct ql_cli *cli, struct ql_error *err);
int ql_cmd_diff(const struct ql_cli *cli, struct ql_error *err);
int ql_cmd_cachesim(const struct ql_cli *cli, struct ql_error *err);
int ql_cmd_gc(const struct ql_cli *cli, struct ql_error *err);
int ql_cmd_fsck(const struct ql_cli *cli, struct ql_error *err);
int ql_cmd_plan(const struct ql_cli *cli, struct ql_error *err);

#endif
