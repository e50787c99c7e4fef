/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The settings of registries: registries.json in the folder that was named,
 * else in $XDG_CONFIG_HOME/quicklayer (~/.config/quicklayer), else in
 * /etc/quicklayer.  None at all is fine.
 *
 *   {
 *     "connect_seconds": 10,   "stall_seconds": 30,   "retries": 4,
 *     "registries": {
 *       "docker.io": {
 *         "mirrors": ["http://127.0.0.1:5000"],
 *         "insecure": false,
 *         "ca": "/path.pem", "cert": "/path.pem", "key": "/path.pem"
 *       }
 *     }
 *   }
 *
 * An unknown member is an error: a typing error must not pass as a default.
 * "insecure" is what containers-registries.conf(5) means by it: TLS is not
 * verified, and plain HTTP is tried where there is no TLS.
 */
#include "fetch/fetch-private.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

enum {
	SETTINGS_MAX = 1 << 20, /* bytes */
	MIRRORS_MAX = 16,
	SECONDS_MAX = 3600,
	RETRIES_MAX = 20,
};

static const char *const top_keys[] = { "connect_seconds", "stall_seconds",
					"retries", "registries", NULL };
static const char *const registry_keys[] = { "mirrors", "insecure", "ca",
					     "cert",	"key",	    NULL };

static int keys_check(const json_t *obj, const char *const *known,
		      struct ql_error *err)
{
	const char *key;
	json_t *value;

	if (!json_is_object(obj))
		return ql_error_set(err, -EINVAL, "an object is expected");
	json_object_foreach ((json_t *)(uintptr_t)obj, key, value) {
		size_t i = 0;

		while (known[i] && strcmp(known[i], key) != 0)
			i++;
		if (!known[i])
			return ql_error_set(err, -EINVAL,
					    "unknown setting \"%s\"", key);
	}
	return 0;
}

static int number_get(const json_t *obj, const char *key, unsigned int least,
		      unsigned int most, unsigned int *value,
		      struct ql_error *err)
{
	uint64_t v = 0;
	int r;

	if (!json_object_get(obj, key))
		return 0;
	r = ql_json_get_u64(obj, key, &v, err);
	if (r < 0)
		return r;
	if (v < least || v > most)
		return ql_error_set(err, -EINVAL,
				    "\"%s\" must be from %u to %u", key, least,
				    most);
	*value = (unsigned int)v;
	return 0;
}

static int string_get(const json_t *obj, const char *key, char **ret_value,
		      struct ql_error *err)
{
	const char *s = NULL;
	int r;

	if (!json_object_get(obj, key))
		return 0;
	r = ql_json_get_string(obj, key, &s, err);
	if (r < 0)
		return r;
	*ret_value = strdup(s);
	return *ret_value ? 0 : ql_error_nomem(err);
}

static void endpoint_release(struct ql_endpoint *ep)
{
	free(ep->host);
	free(ep->scheme);
	free(ep->domain);
	free(ep->tls.ca);
	free(ep->tls.cert);
	free(ep->tls.key);
	*ep = (struct ql_endpoint){ 0 };
}

/* Adds one with room already made for it. */
static int endpoint_add(struct ql_settings *s, const char *scheme,
			const char *host, const char *domain,
			struct ql_error *err)
{
	struct ql_endpoint *ep = &s->endpoints[s->n_endpoints++];

	ep->host = strdup(host);
	ep->scheme = strdup(scheme);
	ep->domain = strdup(domain);
	return ep->host && ep->scheme && ep->domain ? 0 : ql_error_nomem(err);
}

/* "http://host[:port]", "https://…" or "host[:port]". */
static int mirror_add(struct ql_settings *s, const char *config_dir,
		      const char *mirror, struct ql_error *err)
{
	_cleanup_free_ char *host = NULL;
	const char *sep = strstr(mirror, "://");
	const char *rest = sep ? sep + 3 : mirror;
	bool http = strncmp(mirror, "http://", 7) == 0;
	size_t len = strcspn(rest, "/?#@");
	int r;

	if (sep && !http && strncmp(mirror, "https://", 8) != 0)
		return ql_error_set(err, -EINVAL,
				    "mirror \"%s\": http:// or https:// is "
				    "expected",
				    mirror);
	if (len == 0 || (rest[len] != '\0' && strcmp(rest + len, "/") != 0))
		return ql_error_set(err, -EINVAL,
				    "mirror \"%s\": a host and port alone is "
				    "expected",
				    mirror);
	host = strndup(rest, len);
	if (!host)
		return ql_error_nomem(err);
	if (!sep)
		http = ql_url_host_is_loopback(host);
	r = endpoint_add(s, http ? "http" : "https", host, host, err);
	if (r < 0)
		return r;
	return ql_certs_find(config_dir, host,
			     &s->endpoints[s->n_endpoints - 1].tls, err);
}

static int mirrors_add(struct ql_settings *s, const char *config_dir,
		       const json_t *registry, struct ql_error *err)
{
	const json_t *mirrors = json_object_get(registry, "mirrors");
	const json_t *mirror;
	size_t i;

	if (mirrors && !json_is_array(mirrors))
		return ql_error_set(err, -EINVAL, "\"mirrors\" is no array");
	if (json_array_size(mirrors) > MIRRORS_MAX)
		return ql_error_set(err, -EINVAL, "more than %d mirrors",
				    MIRRORS_MAX);
	json_array_foreach (mirrors, i, mirror) {
		int r;

		if (!json_is_string(mirror))
			return ql_error_set(err, -EINVAL,
					    "a mirror must be a string");
		r = mirror_add(s, config_dir, json_string_value(mirror), err);
		if (r < 0)
			return r;
	}
	return 0;
}

static int origin_add(struct ql_settings *s, const char *config_dir,
		      const char *domain, const json_t *registry,
		      bool plain_http, struct ql_error *err)
{
	const char *host = strcmp(domain, "docker.io") == 0
				   ? "registry-1.docker.io"
				   : domain;
	const json_t *insecure = json_object_get(registry, "insecure");
	struct ql_endpoint *ep;
	int r = endpoint_add(s, "https", host, domain, err);

	if (r < 0)
		return r;
	ep = &s->endpoints[s->n_endpoints - 1];
	if (insecure && !json_is_boolean(insecure))
		return ql_error_set(err, -EINVAL,
				    "\"insecure\" must be true or false");
	ep->tls.insecure = json_is_true(insecure);
	ep->may_fall_back = ep->tls.insecure;
	r = string_get(registry, "ca", &ep->tls.ca, err);
	if (r == 0)
		r = string_get(registry, "cert", &ep->tls.cert, err);
	if (r == 0)
		r = string_get(registry, "key", &ep->tls.key, err);
	if (r == 0)
		r = ql_certs_find(config_dir, host, &ep->tls, err);
	if (r < 0)
		return r;
	if (plain_http ||
	    (ql_url_host_is_loopback(host) && !ep->tls.ca && !ep->tls.insecure))
		ep->scheme[4] = '\0'; /* "http" */
	return 0;
}

static int settings_apply(struct ql_settings *s, const char *config_dir,
			  const json_t *json, const char *domain,
			  bool plain_http, struct ql_error *err)
{
	const json_t *registries = json_object_get(json, "registries");
	const json_t *registry = json_object_get(registries, domain);
	const char *key;
	json_t *value;
	int r;

	if (registries && !json_is_object(registries))
		return ql_error_set(err, -EINVAL,
				    "\"registries\" is no object");
	json_object_foreach ((json_t *)(uintptr_t)registries, key, value) {
		r = keys_check(value, registry_keys, err);
		if (r < 0)
			return ql_error_prefix(err, "\"%s\"", key);
	}
	r = number_get(json, "connect_seconds", 1, SECONDS_MAX,
		       &s->timeouts.connect, err);
	if (r == 0)
		r = number_get(json, "stall_seconds", 1, SECONDS_MAX,
			       &s->timeouts.stall, err);
	if (r == 0)
		r = number_get(json, "retries", 0, RETRIES_MAX, &s->retries,
			       err);
	if (r == 0)
		r = mirrors_add(s, config_dir, registry, err);
	if (r == 0)
		r = origin_add(s, config_dir, domain, registry, plain_http,
			       err);
	return r;
}

/* The folder of settings, owned; NULL (and 0): there is none. */
static int dir_find(const char *config_dir, char **ret_dir)
{
	const char *xdg = getenv("XDG_CONFIG_HOME");
	const char *home = getenv("HOME");
	_cleanup_free_ char *dir = NULL;
	_cleanup_free_ char *file = NULL;

	if (config_dir) {
		*ret_dir = strdup(config_dir);
		return *ret_dir ? 0 : -ENOMEM;
	}
	if (xdg && *xdg)
		dir = ql_strf("%s/quicklayer", xdg);
	else
		dir = ql_strf("%s/.config/quicklayer", home ? home : "");
	if (!dir)
		return -ENOMEM;
	file = ql_path_join(dir, "registries.json");
	if (!file)
		return -ENOMEM;
	*ret_dir = access(file, F_OK) == 0 ? ql_take_ptr(dir)
					   : strdup("/etc/quicklayer");
	return *ret_dir ? 0 : -ENOMEM;
}

static int file_read(const char *file, json_t **ret_json, struct ql_error *err)
{
	_cleanup_buf_ struct ql_buf buf = QL_BUF_INIT(SETTINGS_MAX);
	_cleanup_json_ json_t *json = NULL;
	int r;

	if (access(file, F_OK) < 0 && errno == ENOENT)
		return 0;
	r = ql_read_file(AT_FDCWD, file, &buf, err);
	if (r < 0)
		return r;
	r = ql_json_parse(ql_buf_str(&buf), buf.len, &json, err);
	if (r == 0)
		r = keys_check(json, top_keys, err);
	if (r < 0)
		return ql_error_prefix(err, "%s", file);
	*ret_json = ql_take_ptr(json);
	return 0;
}

int ql_settings_load(const char *config_dir, const char *domain,
		     bool plain_http, struct ql_settings *ret_settings,
		     struct ql_error *err)
{
	_cleanup_settings_ struct ql_settings s = {
		.timeouts = { .connect = 10, .stall = 30 },
		.retries = 4,
	};
	_cleanup_free_ char *dir = NULL;
	_cleanup_free_ char *file = NULL;
	_cleanup_json_ json_t *json = NULL;
	int r = dir_find(config_dir, &dir);

	if (r < 0)
		return ql_error_nomem(err);
	file = ql_path_join(dir, "registries.json");
	s.endpoints = calloc(MIRRORS_MAX + 1, sizeof(*s.endpoints));
	if (!file || !s.endpoints)
		return ql_error_nomem(err);
	r = file_read(file, &json, err);
	if (r < 0)
		return r;
	r = settings_apply(&s, dir, json, domain, plain_http, err);
	if (r < 0)
		return ql_error_prefix(err, "%s", file);
	*ret_settings = s;
	s = (struct ql_settings){ 0 };
	return 0;
}

void ql_settings_release(struct ql_settings *settings)
{
	for (size_t i = 0; i < settings->n_endpoints; i++)
		endpoint_release(&settings->endpoints[i]);
	free(settings->endpoints);
	*settings = (struct ql_settings){ 0 };
}
