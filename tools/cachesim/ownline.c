/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One line of an access log of ours (store/accesslog.h says what they have).
 * Ids are the node's: the first 8 bytes of a digest, for a repository of its
 * name's; so a policy decides here as it did there.
 */
#include "tools/cachesim/cachesim.h"

#include <errno.h>
#include <string.h>

#define VERSION 1

int ql_ownline_header(const json_t *json, bool *ret_is, struct ql_error *err)
{
	const json_t *version = json_object_get(json, "quicklayer_access_log");

	if (version && json_integer_value(version) != VERSION)
		return ql_error_set(err, -EBADMSG,
				    "an access log of another version");
	*ret_is = version != NULL;
	return 0;
}

/* Never 0. */
static uint64_t id_of(const struct ql_digest *d)
{
	uint64_t id = 0;

	for (unsigned int i = 0; i < 8; i++)
		id |= (uint64_t)d->bytes[i] << (8 * i);
	return id ? id : 1;
}

static int parse_digest(const json_t *json, const char *key, uint64_t *ret,
			struct ql_error *err)
{
	struct ql_digest d;
	const char *text;
	int r = ql_json_get_string(json, key, &text, err);

	if (r == 0)
		r = ql_digest_parse(text, &d, err);
	if (r < 0)
		return -EBADMSG;
	*ret = id_of(&d);
	return 0;
}

static int parse_family(const json_t *json, uint64_t *ret, struct ql_error *err)
{
	struct ql_digest d;
	const char *name;
	int r = ql_json_get_string(json, "repository", &name, err);

	if (r == 0 && *name) {
		r = ql_digest_of(name, strlen(name), &d);
		*ret = r == 0 ? id_of(&d) : 0;
	}
	return r;
}

static int read_layer(const json_t *json, struct ql_traceline *line,
		      struct ql_error *err)
{
	int r = parse_digest(json, "layer", &line->id, err);

	line->kind = QL_TRACE_BLOB;
	if (r == 0)
		r = ql_json_get_u64(json, "size", &line->size, err);
	if (r == 0)
		r = ql_json_get_u64(json, "bytes", &line->bytes, err);
	if (r == 0 && json_object_get(json, "parent"))
		r = parse_digest(json, "parent", &line->parent, err);
	return r;
}

static int read_members(const json_t *json, struct ql_traceline *line,
			struct ql_error *err)
{
	const char *when;
	int r = ql_ownline_header(json, &line->own, err);

	if (r == 0 && line->own) {
		line->kind = QL_TRACE_HEADER;
		return 0;
	}
	line->own = true;
	if (r == 0)
		r = ql_json_get_string(json, "time", &when, err);
	if (r == 0 && ql_trace_time(when, &line->time) < 0)
		r = ql_error_set(err, -EBADMSG, "no time: %.40s", when);
	if (r == 0)
		r = parse_family(json, &line->family, err);
	if (r < 0)
		return r;
	if (json_object_get(json, "layer"))
		return read_layer(json, line, err);
	line->kind = QL_TRACE_MANIFEST;
	return parse_digest(json, "image", &line->id, err);
}

int ql_ownline_parse(const char *text, size_t len,
		     struct ql_traceline *ret_line, struct ql_error *err)
{
	_cleanup_json_ json_t *json = NULL;
	/* The node is the only client. */
	struct ql_traceline line = { .client = 1 };
	int r = ql_json_parse(text, len, &json, err);

	if (r == 0 && !json_is_object(json))
		r = ql_error_set(err, -EBADMSG, "no JSON object");
	if (r == 0)
		r = read_members(json, &line, err);
	if (r == 0)
		*ret_line = line;
	return r;
}
