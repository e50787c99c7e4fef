/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The agent's configuration: YAML (libyaml; the one file that includes
 * yaml.h), one mapping of the keys below, of which "cache" and "fuse" hold
 * mappings of their own.  An unknown key, a key that comes twice, a value of
 * another type or out of its range are errors, each told with its line, so that
 * a typing error never passes as a default.  Anchors, aliases and tags have no
 * use here and are errors, too: what is read is as large as the file.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stddef.h>
#include <string.h>
#include <yaml.h>

#include "fs/agent.h"

enum { FILE_MAX = 1 << 20, PATH_LEN = 4096 };
#define SECOND ((uint64_t)1000000000)
#define SCRUB_RATE ((uint64_t)4000000)
#define SCRUB_INTERVAL (30 * 86400 * SECOND)

enum type {
	TYPE_PATH,
	TYPE_NAME,
	TYPE_LEVEL,
	TYPE_BOOL,
	TYPE_COUNT,
	TYPE_RATE,
	TYPE_SIZE,
	TYPE_BUDGET,
	TYPE_DURATION
};

static const struct key {
	const char *name; /* "a.b": b in the mapping a */
	enum type type;
	size_t offset; /* in struct ql_agent_config */
	uint64_t min, max;
	const char *wanted;
} keys[] = {
#define AT(member) offsetof(struct ql_agent_config, member)
	{ "root", TYPE_PATH, AT(root), 0, 0, "an absolute path" },
	{ "socket", TYPE_PATH, AT(socket), 0, 0, "an absolute path" },
	{ "socket_group", TYPE_NAME, AT(socket_group), 0, 0,
	  "the name of a group" },
	{ "mountpoint", TYPE_PATH, AT(mountpoint), 0, 0, "an absolute path" },
	{ "registries", TYPE_PATH, AT(registries), 0, 0, "an absolute path" },
	{ "access_log", TYPE_PATH, AT(access_log), 0, 0, "an absolute path" },
	{ "log_level", TYPE_LEVEL, AT(log_level), 0, 0,
	  "error, warn, info or debug" },
	{ "max_parallel_downloads", TYPE_COUNT, AT(max_parallel_downloads), 1,
	  32, "a number from 1 to 32" },
	{ "max_pulls", TYPE_COUNT, AT(max_pulls), 1, 64,
	  "a number from 1 to 64" },
	{ "max_connections", TYPE_COUNT, AT(fill.connections), 1, 256,
	  "a number from 1 to 256" },
	{ "read_timeout", TYPE_DURATION, AT(fill.read_timeout), SECOND / 10,
	  3600 * SECOND, "a time from 100ms to 1h, as in 30s" },
	{ "background_rate", TYPE_RATE, AT(fill.background_rate), 0, UINT64_MAX,
	  "bytes per second, as in 10MB/s, or unlimited" },
	{ "cache.budget", TYPE_BUDGET, AT(cache.budget), 0, 0,
	  "bytes, as in 500MiB (at least 8MiB), a share of the filesystem, as "
	  "in "
	  "40%, or none" },
	{ "cache.reserve", TYPE_SIZE, AT(cache.reserve), 0, 0,
	  "bytes, as in 64MiB" },
	{ "scrub.rate", TYPE_RATE, AT(scrub.rate), 0, UINT64_MAX,
	  "bytes per second, as in 4MB/s, unlimited, or off" },
	{ "scrub.interval", TYPE_DURATION, AT(scrub.interval), SECOND,
	  366 * 86400 * SECOND, "a time from 1s to 366d, as in 30d" },
	{ "fuse.threads", TYPE_COUNT, AT(fuse.threads), 1, 64,
	  "a number from 1 to 64" },
	{ "fuse.passthrough", TYPE_BOOL, AT(fuse.passthrough), 0, 0,
	  "true or false" },
#undef AT
};
enum { KEYS = sizeof(keys) / sizeof(keys[0]) };

void ql_agent_config_init(struct ql_agent_config *config)
{
	*config = (struct ql_agent_config){
		.log_level = QL_LOG_INFO,
		.max_parallel_downloads = 3,
		.max_pulls = 4,
		.fuse = { .passthrough = true },
		.fill = { .read_timeout = 30 * SECOND,
			  .background_rate = UINT64_MAX,
			  .connections = 8 },
		.scrub = { .rate = SCRUB_RATE, .interval = SCRUB_INTERVAL },
	};
}

void ql_agent_config_release(struct ql_agent_config *config)
{
	free(config->root);
	free(config->socket);
	free(config->socket_group);
	free(config->mountpoint);
	free(config->registries);
	free(config->access_log);
	*config = (struct ql_agent_config){ 0 };
}

/* ---- values ---- */

static int set_string(char **at, const char *value)
{
	char *copy = strdup(value);

	if (!copy)
		return -ENOMEM;
	free(*at);
	*at = copy;
	return 0;
}

static bool is_path(const char *value)
{
	return value[0] == '/' && strlen(value) < PATH_LEN;
}

static int set_number(const struct key *key, const char *value, void *at)
{
	uint64_t n = 0;
	int r;

	if (key->type == TYPE_COUNT)
		r = value[strspn(value, "0123456789")] == 0
			    ? ql_units_bytes(value, &n)
			    : -EINVAL;
	else if (key->type == TYPE_RATE && strcmp(value, "off") == 0)
		r = 0;
	else if (key->type == TYPE_RATE)
		r = ql_units_rate(value, &n);
	else
		r = ql_units_duration(value, &n);
	if (r < 0 || n < key->min || n > key->max)
		return -EINVAL;
	memcpy(at, &n, sizeof(n));
	return 0;
}

/* size: bytes alone, but they may be 0. */
static int set_budget(const char *value, bool size, void *at)
{
	struct ql_budget b = { .kind = QL_BUDGET_BYTES };
	int r = size ? ql_units_bytes(value, &b.n) : ql_units_budget(value, &b);

	if (r < 0 ||
	    (!size && b.kind == QL_BUDGET_BYTES && b.n < QL_SPACE_BUDGET_MIN))
		return -EINVAL;
	memcpy(at, &b, sizeof(b));
	return 0;
}

static int set_bool(const char *value, void *at)
{
	bool yes = strcmp(value, "true") == 0;

	if (!yes && strcmp(value, "false") != 0)
		return -EINVAL;
	memcpy(at, &yes, sizeof(yes));
	return 0;
}

static int set_value(const struct key *key, const char *value,
		     struct ql_agent_config *config)
{
	void *at = (char *)config + key->offset;

	switch (key->type) {
	case TYPE_PATH:
		return is_path(value) ? set_string(at, value) : -EINVAL;
	case TYPE_NAME:
		return *value && strlen(value) < 256 ? set_string(at, value)
						     : -EINVAL;
	case TYPE_LEVEL:
		return ql_log_level_parse(value, at);
	case TYPE_BOOL:
		return set_bool(value, at);
	case TYPE_SIZE:
	case TYPE_BUDGET:
		return set_budget(value, key->type == TYPE_SIZE, at);
	default:
		return set_number(key, value, at);
	}
}

/* ---- YAML ---- */

struct reading {
	const char *file; /* borrowed, as all these */
	struct ql_agent_config *config;
	ql_config_error_fn *report;
	void *arg;
	yaml_parser_t parser;
	bool seen[KEYS];
	bool seen_section[KEYS]; /* by its first key */
	int error;		 /* the first */
};

static void finding(struct reading *rd, size_t line, const char *key,
		    const char *fmt, ...) __attribute__((format(printf, 4, 5)));

static void finding(struct reading *rd, size_t line, const char *key,
		    const char *fmt, ...)
{
	struct ql_error text = QL_ERROR_INIT; /* cleans what it is given */
	char what[512];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	(void)ql_error_set(&text, -EINVAL, "%s:%zu: %.128s%s%s", rd->file,
			   line + 1, key, *key ? ": " : "", what);
	rd->report(text.text, rd->arg);
	if (rd->error == 0)
		rd->error = -EINVAL;
}

/* The next event, which the caller deletes.  -EBADMSG: it is told. */
static int next(struct reading *rd, yaml_event_t *ret_event)
{
	const yaml_parser_t *p = &rd->parser;

	if (yaml_parser_parse(&rd->parser, ret_event))
		return 0;
	finding(rd, p->problem_mark.line, "", "not valid YAML: %s%s%s",
		p->problem ? p->problem : "out of memory",
		p->context ? " " : "", p->context ? p->context : "");
	return -EBADMSG;
}

/* Passes over the rest of a mapping or sequence that has begun. */
static int skip(struct reading *rd)
{
	int depth = 1;

	while (depth > 0) {
		yaml_event_t e;
		int r = next(rd, &e);

		if (r < 0)
			return r;
		if (e.type == YAML_MAPPING_START_EVENT ||
		    e.type == YAML_SEQUENCE_START_EVENT)
			depth++;
		if (e.type == YAML_MAPPING_END_EVENT ||
		    e.type == YAML_SEQUENCE_END_EVENT)
			depth--;
		yaml_event_delete(&e);
	}
	return 0;
}

static bool starts(const yaml_event_t *e)
{
	return e->type == YAML_MAPPING_START_EVENT ||
	       e->type == YAML_SEQUENCE_START_EVENT;
}

/* The text of a scalar without anchor or tag; NULL where it is not one. */
static const char *plain(const yaml_event_t *e)
{
	const char *s = (const char *)e->data.scalar.value;

	if (e->type != YAML_SCALAR_EVENT || e->data.scalar.anchor ||
	    e->data.scalar.tag || strlen(s) != e->data.scalar.length)
		return NULL;
	return s;
}

static int find_key(const char *name)
{
	for (int i = 0; i < KEYS; i++)
		if (strcmp(keys[i].name, name) == 0)
			return i;
	return -1;
}

/* The first key of a section of that name; -1: there is none. */
static int find_section(const char *name)
{
	size_t len = strlen(name);

	for (int i = 0; i < KEYS; i++)
		if (strncmp(keys[i].name, name, len) == 0 &&
		    keys[i].name[len] == '.')
			return i;
	return -1;
}

/* dotted: the name has a point of its own, not that of its section. */
static void take_value(struct reading *rd, const char *name, bool dotted,
		       const yaml_event_t *value)
{
	const char *text = plain(value);
	size_t line = value->start_mark.line;
	int i = dotted ? -1 : find_key(name);

	if (i < 0)
		finding(rd, line, name, "no such key");
	else if (rd->seen[i])
		finding(rd, line, name, "is there twice");
	else if (!text || set_value(&keys[i], text, rd->config) < 0)
		finding(rd, line, name, "%s is wanted", keys[i].wanted);
	if (i >= 0)
		rd->seen[i] = true;
}

static int read_mapping(struct reading *rd, const char *section);

/* The value of a key; its events are passed over whatever they are. */
static int read_value(struct reading *rd, const char *section, const char *key)
{
	char name[160];
	yaml_event_t e;
	int s = *section ? -1 : find_section(key);
	int r = next(rd, &e);

	if (r < 0)
		return r;
	(void)snprintf(name, sizeof(name), "%.64s%s%.64s", section,
		       *section ? "." : "", key);
	if (s >= 0 && e.type == YAML_MAPPING_START_EVENT) {
		if (rd->seen_section[s])
			finding(rd, e.start_mark.line, key, "is there twice");
		rd->seen_section[s] = true;
		r = read_mapping(rd, key);
	} else if (s >= 0) {
		finding(rd, e.start_mark.line, key, "a mapping is wanted");
		r = starts(&e) ? skip(rd) : 0;
	} else {
		take_value(rd, name, strchr(key, '.') != NULL, &e);
		r = starts(&e) ? skip(rd) : 0;
	}
	yaml_event_delete(&e);
	return r;
}

static int read_pair(struct reading *rd, const char *section, yaml_event_t *key)
{
	const char *text = plain(key);
	int r = 0;

	if (text)
		return read_value(rd, section, text);
	finding(rd, key->start_mark.line, section, "a key that is no word");
	if (starts(key))
		r = skip(rd);
	if (r == 0)
		r = read_value(rd, section, "?");
	return r;
}

/* A mapping that has begun.  At most one is in another. */
static int read_mapping(struct reading *rd, const char *section)
{
	for (;;) {
		yaml_event_t e;
		int r = next(rd, &e);

		if (r < 0)
			return r;
		if (e.type == YAML_MAPPING_END_EVENT) {
			yaml_event_delete(&e);
			return 0;
		}
		r = read_pair(rd, section, &e);
		yaml_event_delete(&e);
		if (r < 0)
			return r;
	}
}

/* One document: a mapping, or nothing at all. */
static int read_document(struct reading *rd)
{
	yaml_event_t e;
	int r = next(rd, &e);
	bool nothing;

	if (r < 0)
		return r;
	nothing = e.type == YAML_SCALAR_EVENT && e.data.scalar.length == 0;
	if (e.type == YAML_MAPPING_START_EVENT) {
		r = read_mapping(rd, "");
	} else if (!nothing) {
		finding(rd, e.start_mark.line, "", "a mapping is wanted");
		r = starts(&e) ? skip(rd) : 0;
	}
	yaml_event_delete(&e);
	return r;
}

static void read_stream(struct reading *rd)
{
	bool done = false, seen = false;

	while (!done) {
		yaml_event_t e;
		int r = next(rd, &e);

		if (r < 0)
			return;
		done = e.type == YAML_STREAM_END_EVENT;
		if (e.type == YAML_DOCUMENT_START_EVENT) {
			if (seen)
				finding(rd, e.start_mark.line, "",
					"a second document");
			done = seen;
			seen = true;
			if (!done)
				r = read_document(rd);
		}
		yaml_event_delete(&e);
		if (r < 0)
			return;
	}
}

int ql_agent_config_parse(const char *file, const char *data, size_t len,
			  struct ql_agent_config *config,
			  ql_config_error_fn *report, void *arg)
{
	struct reading rd = {
		.file = file, .config = config, .report = report, .arg = arg
	};

	if (!yaml_parser_initialize(&rd.parser))
		return -ENOMEM;
	yaml_parser_set_input_string(&rd.parser, (const unsigned char *)data,
				     len);
	read_stream(&rd);
	yaml_parser_delete(&rd.parser);
	return rd.error;
}

int ql_agent_config_load(const char *path, struct ql_agent_config *config,
			 ql_config_error_fn *report, void *arg)
{
	static const char dflt[] = "/etc/quicklayer/quicklayerd.yaml";
	_cleanup_buf_ struct ql_buf buf = QL_BUF_INIT(FILE_MAX);
	const char *file = path ? path : dflt;
	struct ql_error err = QL_ERROR_INIT;
	int r = ql_read_file(AT_FDCWD, file, &buf, &err);

	if (r == -ENOENT && !path)
		return 0;
	if (r < 0) {
		report(err.text, arg);
		return r;
	}
	return ql_agent_config_parse(file, ql_buf_str(&buf), buf.len, config,
				     report, arg);
}

int ql_agent_config_paths(struct ql_agent_config *config, const char *root,
			  struct ql_error *err)
{
	/* Others look for the default root's agent here, too. */
	bool dflt = strcmp(root, "/var/lib/quicklayer") == 0;

	if (!config->socket)
		config->socket =
			dflt ? strdup("/run/quicklayer/quicklayerd.sock")
			     : ql_strf("%s/agent/quicklayerd.sock", root);
	if (!config->mountpoint)
		config->mountpoint = dflt ? strdup("/run/quicklayer/mnt")
					  : ql_strf("%s/agent/mnt", root);
	if (!config->socket || !config->mountpoint)
		return ql_error_nomem(err);
	return 0;
}
