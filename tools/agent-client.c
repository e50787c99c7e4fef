/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The agent's API from the client's side.  An agent is found by its socket:
 * the one that was named (--socket, QUICKLAYER_SOCKET), which must then be
 * there, or the one that an agent of this root has unless it was told another.
 * Only an agent of the same store is used.
 */
#include "tools/cli.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { ANSWER_MAX = 64 << 20, LINE_MAX_BYTES = 1 << 20, ERRNO_MAX = 256 };

#define DEFAULT_ROOT "/var/lib/quicklayer"
#define DEFAULT_SOCKET "/run/quicklayer/quicklayerd.sock"

/* ---- answers ---- */

static int errno_of(const char *name)
{
	for (int i = 1; i < ERRNO_MAX; i++) {
		const char *known = strerrorname_np(i);

		if (known && strcmp(known, name) == 0)
			return -i;
	}
	return -EIO;
}

/* {"error": {"code": …, "message": …}} as an error. */
static int error_take(const json_t *json, struct ql_error *err)
{
	const json_t *e = json_object_get(json, "error");

	return ql_error_set(
		err, errno_of(ql_json_opt_string(e, "code", "")), "%s",
		ql_json_opt_string(e, "message", "the agent says no reason"));
}

static int read_all(struct ql_stream *in, json_t **ret_json,
		    struct ql_error *err)
{
	_cleanup_buf_ struct ql_buf buf = QL_BUF_INIT(ANSWER_MAX);
	char chunk[16384];
	ssize_t n;

	while ((n = ql_stream_read(in, chunk, sizeof(chunk), err)) > 0)
		if (ql_buf_add(&buf, chunk, (size_t)n) < 0)
			return ql_error_set(err, -EFBIG,
					    "the agent's answer is too large");
	if (n < 0)
		return (int)n;
	return ql_json_parse(ql_buf_str(&buf), buf.len, ret_json, err);
}

static int ask(const char *socket, const char *method, const char *path,
	       const char *body, json_t **ret_json, struct ql_error *err)
{
	_cleanup_stream_ struct ql_stream *in = NULL;
	_cleanup_json_ json_t *json = NULL;
	long status;
	int r = ql_local_ask(socket, method, path, body, &status, &in, err);

	if (r == 0)
		r = read_all(in, &json, err);
	if (r < 0)
		return ql_error_prefix(err, "agent at %s", socket);
	if (status != 200)
		return error_take(json, err);
	*ret_json = ql_take_ptr(json);
	return 0;
}

int ql_client_ask(const struct ql_client *client, const char *method,
		  const char *prefix, const char *image, const char *suffix,
		  json_t **ret_json, struct ql_error *err)
{
	_cleanup_free_ char *path =
		ql_local_path(prefix, image ? image : "", suffix);

	if (!path)
		return ql_error_nomem(err);
	return ask(client->socket, method, path,
		   strcmp(method, "POST") == 0 ? "" : NULL, ret_json, err);
}

int ql_client_send(const struct ql_client *client, const char *path,
		   const char *body, json_t **ret_json, struct ql_error *err)
{
	return ask(client->socket, "POST", path, body, ret_json, err);
}

/* ---- finding it ---- */

void ql_client_free(struct ql_client *client)
{
	if (!client)
		return;
	free(client->socket);
	free(client->root);
	free(client->mountpoint);
	free(client);
}

static int client_new(const char *socket, struct ql_client **ret_client,
		      struct ql_error *err)
{
	_cleanup_json_ json_t *json = NULL;
	_cleanup_(ql_client_freep) struct ql_client *c = NULL;
	const char *root, *mountpoint;
	int r = ask(socket, "GET", "/v1/version", NULL, &json, err);

	if (r == 0)
		r = ql_json_get_string(json, "root", &root, err);
	if (r == 0)
		r = ql_json_get_string(json, "mountpoint", &mountpoint, err);
	if (r < 0)
		return r;
	c = calloc(1, sizeof(*c));
	if (!c)
		return ql_error_nomem(err);
	c->socket = strdup(socket);
	c->root = strdup(root);
	c->mountpoint = strdup(mountpoint);
	if (!c->socket || !c->root || !c->mountpoint)
		return ql_error_nomem(err);
	*ret_client = ql_take_ptr(c);
	return 0;
}

/* The root that is meant, and whether somebody said which. */
static char *root_of(const struct ql_cli *cli, bool *ret_named)
{
	const char *env = getenv("QUICKLAYER_ROOT");

	*ret_named = cli->root || (env && *env);
	return cli->root ? strdup(cli->root) : ql_store_default_root();
}

/* Where an agent of that root listens if it was not told otherwise. */
static char *socket_of(const char *root)
{
	_cleanup_free_ char *real = realpath(root, NULL);

	if (!real)
		return NULL; /* no store, hence no agent */
	return strcmp(real, DEFAULT_ROOT) == 0
		       ? strdup(DEFAULT_SOCKET)
		       : ql_strf("%s/agent/quicklayerd.sock", real);
}

static int find_named(const char *socket, const char *root, bool root_named,
		      struct ql_client **ret_client, struct ql_error *err)
{
	_cleanup_(ql_client_freep) struct ql_client *c = NULL;
	_cleanup_free_ char *real = realpath(root, NULL);
	int r = client_new(socket, &c, err);

	if (r < 0)
		return r;
	if (root_named && (!real || strcmp(real, c->root) != 0))
		return ql_error_set(err, -EINVAL,
				    "the agent at %s serves another store, %s",
				    socket, c->root);
	*ret_client = ql_take_ptr(c);
	return 0;
}

int ql_client_find(const struct ql_cli *cli, struct ql_client **ret_client,
		   struct ql_error *err)
{
	const char *named = cli->socket ? cli->socket
					: getenv("QUICKLAYER_SOCKET");
	_cleanup_free_ char *root = NULL, *socket = NULL, *real = NULL;
	_cleanup_(ql_client_freep) struct ql_client *c = NULL;
	struct ql_error why = QL_ERROR_INIT;
	bool root_named;

	*ret_client = NULL;
	/* Settings of one's own are not the agent's. */
	if (cli->no_agent || cli->config_dir)
		return 0;
	root = root_of(cli, &root_named);
	if (!root)
		return ql_error_nomem(err);
	if (named && *named)
		return find_named(named, root, root_named, ret_client, err);
	socket = socket_of(root);
	if (!socket || access(socket, R_OK | W_OK) < 0)
		return 0;
	if (client_new(socket, &c, &why) < 0) {
		ql_debug("msg=\"no agent\" error=\"%s\"", why.text);
		return 0;
	}
	real = realpath(root, NULL);
	if (real && strcmp(real, c->root) == 0)
		*ret_client = ql_take_ptr(c);
	return 0;
}

/* ---- pulling ---- */

static int state_of(const char *name)
{
	static const char *const names[] = {
		[QL_PULL_WAITING] = "waiting",
		[QL_PULL_FETCHING] = "fetching",
		[QL_PULL_DONE] = "done",
		[QL_PULL_HERE] = "here",
	};

	for (int i = 0; i < 4; i++)
		if (strcmp(names[i], name) == 0)
			return i;
	return -1;
}

static int progress_take(const json_t *json, struct ql_progress *progress,
			 struct ql_error *err)
{
	struct ql_pull_progress p = { 0 };
	const char *state, *blob;
	uint64_t layer, layers;
	int r = ql_json_get_u64(json, "layer", &layer, err);

	if (r == 0)
		r = ql_json_get_u64(json, "layers", &layers, err);
	if (r == 0)
		r = ql_json_get_u64(json, "done", &p.done, err);
	if (r == 0)
		r = ql_json_get_u64(json, "total", &p.total, err);
	if (r == 0)
		r = ql_json_get_string(json, "state", &state, err);
	if (r == 0)
		r = ql_json_get_string(json, "blob", &blob, err);
	if (r == 0)
		r = ql_digest_parse(blob, &p.blob, err);
	if (r < 0)
		return r;
	if (layer >= layers || layers > QL_IMAGE_LAYERS_MAX ||
	    state_of(state) < 0)
		return ql_error_set(err, -EBADMSG,
				    "progress that makes no sense");
	p.layer = (uint32_t)layer;
	p.n_layers = (uint32_t)layers;
	p.state = (enum ql_pull_state)state_of(state);
	ql_progress_update(&p, progress);
	return 0;
}

/* One line.  1: it was the last. */
static int line_take(const char *line, size_t len, struct ql_progress *progress,
		     json_t **ret_json, struct ql_error *err)
{
	_cleanup_json_ json_t *json = NULL;
	json_t *result;
	int r = ql_json_parse(line, len, &json, err);

	if (r < 0)
		return r;
	result = json_object_get(json, "result");
	if (result) {
		*ret_json = json_incref(result);
		return 1;
	}
	if (json_object_get(json, "error"))
		return error_take(json, err);
	if (json_object_get(json, "layer"))
		return progress_take(json, progress, err);
	return 0;
}

/* Takes the whole lines from buf. */
static int lines_take(struct ql_buf *buf, struct ql_progress *progress,
		      json_t **ret_json, struct ql_error *err)
{
	const char *end;
	int r = 0;

	while (r == 0 && buf->len > 0 &&
	       (end = memchr(buf->data, '\n', buf->len))) {
		size_t len = (size_t)(end - buf->data);

		r = line_take(buf->data, len, progress, ret_json, err);
		memmove(buf->data, buf->data + len + 1, buf->len - len - 1);
		buf->len -= len + 1;
	}
	return r;
}

static int follow(struct ql_stream *in, struct ql_progress *progress,
		  json_t **ret_json, struct ql_error *err)
{
	_cleanup_buf_ struct ql_buf buf = QL_BUF_INIT(LINE_MAX_BYTES);
	char chunk[4096];
	ssize_t n;
	int r = 0;

	while (r == 0 &&
	       (n = ql_stream_read(in, chunk, sizeof(chunk), err)) != 0) {
		if (n < 0)
			return (int)n;
		if (ql_buf_add(&buf, chunk, (size_t)n) < 0)
			return ql_error_set(err, -EFBIG,
					    "a line that is too long");
		r = lines_take(&buf, progress, ret_json, err);
	}
	if (r == 0)
		return ql_error_set(err, -EPIPE,
				    "the agent ended before the pull");
	return r < 0 ? r : 0;
}

static char *pull_body(const struct ql_cli *cli, const char *text,
		       unsigned int parallel)
{
	_cleanup_json_ json_t *body = json_pack("{s:o, s:b}", "image",
						ql_json_text(text),
						"plain_http", cli->plain_http);

	if (!body)
		return NULL;
	if (cli->platform)
		(void)json_object_set_new(body, "platform",
					  ql_json_text(cli->platform));
	if (cli->full)
		(void)json_object_set_new(body, "full", json_true());
	if (parallel)
		(void)json_object_set_new(body, "parallel",
					  json_integer(parallel));
	return json_dumps(body, JSON_COMPACT);
}

int ql_client_pull(const struct ql_client *client, const struct ql_cli *cli,
		   const char *text, unsigned int parallel, json_t **ret_json,
		   struct ql_error *err)
{
	_cleanup_free_ char *body = pull_body(cli, text, parallel);
	_cleanup_stream_ struct ql_stream *in = NULL;
	_cleanup_json_ json_t *json = NULL;
	struct ql_progress *progress;
	long status;
	int r;

	if (!body)
		return ql_error_nomem(err);
	r = ql_local_ask(client->socket, "POST", "/v1/pull", body, &status, &in,
			 err);
	if (r < 0)
		return ql_error_prefix(err, "agent at %s", client->socket);
	if (status != 200) {
		r = read_all(in, &json, err);
		return r < 0 ? r : error_take(json, err);
	}
	progress = ql_progress_new(cli->quiet || cli->json);
	r = follow(in, progress, ret_json, err);
	ql_progress_free(progress);
	return r;
}
