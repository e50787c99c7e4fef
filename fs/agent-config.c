/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The agent's configuration: YAML (libyaml; the one file that includes
 * yaml.h), one mapping of the keys of agent-keys.c, of which "cache", "fuse"
 * and others hold mappings of their own, and some values are sequences.  An
 * unknown key, a key that comes twice, a value of another type or out of its
 * range are errors, each told with its line, so that a typing error never
 * passes as a default.  Anchors, aliases and tags have no use here and are
 * errors, too: what is read is as large as the file.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stddef.h>
#include <string.h>
#include <yaml.h>

#include "fs/agent.h"

enum { FILE_MAX = 1 << 20 };

/* ---- YAML ---- */

struct reading {
	const char *file; /* borrowed, as all these */
	struct ql_agent_config *config;
	ql_config_error_fn *report;
	void *arg;
	yaml_parser_t parser;
	size_t line[QL_AGENT_KEYS];	  /* where it is, from 1; 0: nowhere */
	bool seen_section[QL_AGENT_KEYS]; /* by its first key */
	int error;			  /* the first */
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

static void set_value(struct reading *rd, int key, const char *name,
		      const yaml_event_t *value)
{
	const char *text = plain(value);

	if (!text || ql_agent_key_set((size_t)key, text, rd->config) < 0)
		finding(rd, value->start_mark.line, name, "%s is wanted",
			ql_agent_key_wanted((size_t)key));
}

/* The values of a sequence that has begun. */
static int read_sequence(struct reading *rd, int key, const char *name)
{
	for (;;) {
		yaml_event_t e;
		bool end;
		int r = next(rd, &e);

		if (r < 0)
			return r;
		end = e.type == YAML_SEQUENCE_END_EVENT;
		if (!end)
			set_value(rd, key, name, &e);
		if (starts(&e))
			r = skip(rd);
		yaml_event_delete(&e);
		if (end || r < 0)
			return r;
	}
}

/* Passes over the value's events.  dotted: the name has a point of its own, not
 * that of its section. */
static int take_value(struct reading *rd, const char *name, bool dotted,
		      const yaml_event_t *value)
{
	int key = dotted ? -1 : ql_agent_key_find(name);
	size_t line = value->start_mark.line;
	bool twice = key >= 0 && rd->line[key] > 0;

	if (key >= 0)
		rd->line[key] = line + 1;
	if (key < 0)
		finding(rd, line, name, "no such key");
	else if (twice)
		finding(rd, line, name, "is there twice");
	else if (!ql_agent_key_is_sequence((size_t)key))
		set_value(rd, key, name, value);
	else if (value->type == YAML_SEQUENCE_START_EVENT &&
		 !value->data.sequence_start.anchor &&
		 !value->data.sequence_start.tag)
		return read_sequence(rd, key, name);
	else
		finding(rd, line, name, "%s is wanted",
			ql_agent_key_wanted((size_t)key));
	return starts(value) ? skip(rd) : 0;
}

static int read_mapping(struct reading *rd, const char *section);

/* The value of a key; its events are passed over whatever they are. */
static int read_value(struct reading *rd, const char *section, const char *key)
{
	char name[160];
	yaml_event_t e;
	int s = *section ? -1 : ql_agent_section_find(key);
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
		r = take_value(rd, name, strchr(key, '.') != NULL, &e);
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

/* What must be there together. */
static void check_tls(struct reading *rd)
{
	static const char *const names[] = { "peers.ca", "peers.cert",
					     "peers.key" };
	size_t there = 0, line = 0;

	for (size_t i = 0; i < 3; i++) {
		int key = ql_agent_key_find(names[i]);

		if (key < 0 || rd->line[key] == 0)
			continue;
		there++;
		line = rd->line[key];
	}
	if (there == 1 || there == 2)
		finding(rd, line - 1, "peers",
			"ca, cert and key are wanted together");
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
	check_tls(&rd);
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
