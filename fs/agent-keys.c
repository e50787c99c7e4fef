/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What may be configured: keys, the values that each takes, and the defaults.
 * How they are written is agent-config.c's.
 */
#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "fs/peer.h"

enum { PATH_LEN = 4096, NAME_LEN = 256 };
#define SECOND ((uint64_t)1000000000)
#define SCRUB_RATE ((uint64_t)4000000)
#define SCRUB_INTERVAL (30 * 86400 * SECOND)
#define RELAY ((uint64_t)64 << 20)

enum type {
	TYPE_PATH,
	TYPE_NAME,
	TYPE_LEVEL,
	TYPE_BOOL,
	TYPE_COUNT,
	TYPE_RATE,
	TYPE_SIZE,
	TYPE_BUDGET,
	TYPE_DURATION,
	TYPE_BYTES,
	TYPE_WORD,
	TYPE_LISTEN,
	TYPE_SHARE,
	TYPE_HOSTS, /* from here on: sequences */
	TYPE_NETS
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
	{ "peers.listen", TYPE_LISTEN, AT(peers.listen), 0, 0,
	  "an address and a port, as in 0.0.0.0:7143 or [::]:7143" },
	{ "peers.list", TYPE_HOSTS, AT(peers.list), 0, 0,
	  "a sequence of HOST:PORT" },
	{ "peers.dns", TYPE_HOSTS, AT(peers.dns), 0, 0,
	  "a sequence of NAME:PORT" },
	{ "peers.name", TYPE_WORD, AT(peers.name), 0, 0,
	  "a name of letters, digits, '.', '-' and '_'" },
	{ "peers.site", TYPE_WORD, AT(peers.site), 0, 0,
	  "a name of letters, digits, '.', '-' and '_'" },
	{ "peers.cluster", TYPE_WORD, AT(peers.cluster), 0, 0,
	  "a name of letters, digits, '.', '-' and '_'" },
	{ "peers.ca", TYPE_PATH, AT(peers.ca), 0, 0, "an absolute path" },
	{ "peers.cert", TYPE_PATH, AT(peers.cert), 0, 0, "an absolute path" },
	{ "peers.key", TYPE_PATH, AT(peers.key), 0, 0, "an absolute path" },
	{ "peers.allow", TYPE_NETS, AT(peers.allow), 0, 0,
	  "a sequence of addresses or networks, as in 10.0.0.0/8" },
	{ "peers.upload_rate", TYPE_RATE, AT(peers.upload_rate), 1, UINT64_MAX,
	  "bytes per second, as in 10MB/s, or unlimited" },
	{ "peers.upload_rate_per_peer", TYPE_RATE,
	  AT(peers.upload_rate_per_peer), 1, UINT64_MAX,
	  "bytes per second, as in 10MB/s, or unlimited" },
	{ "peers.share", TYPE_SHARE, AT(peers.share), 0, 0,
	  "anonymous, all or none" },
	{ "peers.relay", TYPE_BYTES, AT(peers.relay), 0, INT64_MAX,
	  "bytes, as in 64MiB, or 0" },
	{ "fuse.threads", TYPE_COUNT, AT(fuse.threads), 1, 64,
	  "a number from 1 to 64" },
	{ "fuse.passthrough", TYPE_BOOL, AT(fuse.passthrough), 0, 0,
	  "true or false" },
#undef AT
};
_Static_assert(sizeof(keys) / sizeof(keys[0]) == QL_AGENT_KEYS,
	       "QL_AGENT_KEYS is their number");

void ql_strings_release(struct ql_strings *list)
{
	for (size_t i = 0; i < list->n; i++)
		free(list->items[i]);
	free(list->items);
	*list = (struct ql_strings){ 0 };
}

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
		.peers = { .upload_rate = UINT64_MAX,
			   .upload_rate_per_peer = UINT64_MAX,
			   .share = QL_PEER_SHARE_ANONYMOUS,
			   .relay = RELAY },
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
	free(config->peers.listen);
	free(config->peers.name);
	free(config->peers.site);
	free(config->peers.cluster);
	free(config->peers.ca);
	free(config->peers.cert);
	free(config->peers.key);
	ql_strings_release(&config->peers.list);
	ql_strings_release(&config->peers.dns);
	ql_strings_release(&config->peers.allow);
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
	else if (key->type == TYPE_BYTES)
		r = ql_units_bytes(value, &n);
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

static bool is_word(const char *value)
{
#define LETTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
	return *value && strchr(LETTERS, value[0]) &&
	       strlen(value) <= QL_PEER_NAME_MAX &&
	       value[strspn(value, LETTERS "._-")] == 0;
#undef LETTERS
}

static int set_share(const char *value, void *at)
{
	static const char *const names[] = {
		[QL_PEER_SHARE_ANONYMOUS] = "anonymous",
		[QL_PEER_SHARE_ALL] = "all",
		[QL_PEER_SHARE_NONE] = "none",
	};

	for (unsigned int i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		enum ql_peer_share share = (enum ql_peer_share)i;

		if (strcmp(names[i], value) != 0)
			continue;
		memcpy(at, &share, sizeof(share));
		return 0;
	}
	return -EINVAL;
}

/* One more of a sequence. */
static int add_string(struct ql_strings *list, const char *value)
{
	char **items;

	if (list->n >= QL_PEERS_MAX)
		return -EINVAL;
	items = reallocarray(list->items, list->n + 1, sizeof(*items));
	if (!items)
		return -ENOMEM;
	list->items = items;
	list->items[list->n] = strdup(value);
	if (!list->items[list->n])
		return -ENOMEM;
	list->n++;
	return 0;
}

static int set_or_refuse(int check, char **at, const char *value)
{
	return check < 0 ? check : set_string(at, value);
}

int ql_agent_key_set(size_t key_index, const char *value,
		     struct ql_agent_config *config)
{
	const struct key *key = &keys[key_index];
	void *at = (char *)config + key->offset;
	struct ql_net net;

	switch (key->type) {
	case TYPE_PATH:
		return is_path(value) ? set_string(at, value) : -EINVAL;
	case TYPE_NAME:
		return *value && strlen(value) < NAME_LEN
			       ? set_string(at, value)
			       : -EINVAL;
	case TYPE_WORD:
		return is_word(value) ? set_string(at, value) : -EINVAL;
	case TYPE_LISTEN:
		return set_or_refuse(ql_net_listen_check(value), at, value);
	case TYPE_SHARE:
		return set_share(value, at);
	case TYPE_HOSTS:
		return ql_net_hostport_check(value) < 0 ? -EINVAL
							: add_string(at, value);
	case TYPE_NETS:
		return ql_net_parse(value, &net) < 0 ? -EINVAL
						     : add_string(at, value);
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

/* ---- keys ---- */

const char *ql_agent_key_wanted(size_t key)
{
	return keys[key].wanted;
}

bool ql_agent_key_is_sequence(size_t key)
{
	return keys[key].type >= TYPE_HOSTS;
}

int ql_agent_key_find(const char *name)
{
	for (int i = 0; i < QL_AGENT_KEYS; i++)
		if (strcmp(keys[i].name, name) == 0)
			return i;
	return -1;
}

int ql_agent_section_find(const char *name)
{
	size_t len = strlen(name);

	for (int i = 0; i < QL_AGENT_KEYS; i++)
		if (strncmp(keys[i].name, name, len) == 0 &&
		    keys[i].name[len] == '.')
			return i;
	return -1;
}
