/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the user has logged in to: auth files, in the order of
 *
 *   $REGISTRY_AUTH_FILE (alone, where it is set)
 *   $XDG_RUNTIME_DIR/containers/auth.json, or /run/containers/<uid>/auth.json
 *   $XDG_CONFIG_HOME/containers/auth.json (~/.config)
 *   $DOCKER_CONFIG/config.json, or ~/.docker/config.json
 *
 * They are read anew for each question, so that a rotated password is seen.
 * In a file a credential helper for the host comes first, then "auths" by the
 * longest key that is a prefix of host/repository, then "credsStore".
 *
 * Sources: containers-auth.json(5); docker/cli cli/config/configfile.
 */
#include "fetch/fetch-private.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <string.h>

enum {
	AUTH_FILE_MAX = 4 << 20, /* bytes */
	AUTH_VALUE_MAX = 64 << 10,
};

void ql_credentials_release(struct ql_credentials *c)
{
	char *secrets[] = { c->password, c->identity_token };

	for (size_t i = 0; i < 2; i++)
		if (secrets[i])
			explicit_bzero(secrets[i], strlen(secrets[i]));
	free(c->user);
	free(c->password);
	free(c->identity_token);
	*c = (struct ql_credentials){ 0 };
}

/* base64("user:password") */
static int auth_decode(const char *text, struct ql_credentials *c,
		       struct ql_error *err)
{
	_cleanup_free_ char *plain = NULL;
	size_t len = strlen(text);
	const char *colon;
	int n;

	if (len > AUTH_VALUE_MAX || len % 4 != 0)
		return ql_error_set(err, -EINVAL, "\"auth\" is not base64");
	plain = calloc(1, len + 1);
	if (!plain)
		return ql_error_nomem(err);
	n = EVP_DecodeBlock((unsigned char *)plain, (const unsigned char *)text,
			    (int)len);
	if (n < 0)
		return ql_error_set(err, -EINVAL, "\"auth\" is not base64");
	colon = strchr(plain, ':');
	if (!colon)
		return ql_error_set(err, -EINVAL,
				    "\"auth\" is not user:password");
	c->user = strndup(plain, (size_t)(colon - plain));
	c->password = strdup(colon + 1);
	explicit_bzero(plain, len);
	return c->user && c->password ? 0 : ql_error_nomem(err);
}

/* One entry of "auths".  -ENOENT: there is nothing in it. */
static int entry_read(const json_t *entry, struct ql_credentials *c,
		      struct ql_error *err)
{
	const char *auth = ql_json_opt_string(entry, "auth", "");
	const char *token = ql_json_opt_string(entry, "identitytoken", "");
	const char *user = ql_json_opt_string(entry, "username", "");
	const char *password = ql_json_opt_string(entry, "password", "");

	if (*token) {
		c->identity_token = strdup(token);
		return c->identity_token ? 0 : ql_error_nomem(err);
	}
	if (*auth)
		return auth_decode(auth, c, err);
	if (!*user)
		return -ENOENT;
	c->user = strdup(user);
	c->password = strdup(password);
	return c->user && c->password ? 0 : ql_error_nomem(err);
}

/* Does the key of an entry name this host and nothing narrower? */
static bool key_is_host(const char *key, const char *domain)
{
	const char *sep = strstr(key, "://");
	const char *host = sep ? sep + 3 : key;
	size_t len = strcspn(host, "/");
	const char *rest = host + len;

	if (strlen(domain) != len || memcmp(host, domain, len) != 0)
		return false;
	return *rest == '\0' || strcmp(rest, "/") == 0 ||
	       strncmp(rest, "/v1", 3) == 0 || strncmp(rest, "/v2", 3) == 0;
}

static const json_t *entry_by_host(const json_t *auths, const char *domain)
{
	const char *key;
	json_t *value;

	json_object_foreach ((json_t *)(uintptr_t)auths, key, value) {
		if (key_is_host(key, domain))
			return value;
	}
	return NULL;
}

static int auths_find(const json_t *auths, const char *domain, const char *path,
		      struct ql_credentials *c, struct ql_error *err)
{
	_cleanup_free_ char *key = ql_strf("%s/%s", domain, path);
	const json_t *entry;
	char *slash;

	if (!key)
		return ql_error_nomem(err);
	while ((slash = strrchr(key, '/'))) {
		entry = json_object_get(auths, key);
		if (entry)
			return entry_read(entry, c, err);
		*slash = '\0';
	}
	entry = entry_by_host(auths, domain);
	if (!entry && strcmp(domain, "docker.io") == 0) {
		entry = entry_by_host(auths, "index.docker.io");
		if (!entry)
			entry = entry_by_host(auths, "registry-1.docker.io");
	}
	return entry ? entry_read(entry, c, err) : -ENOENT;
}

static int file_find(const json_t *json, const char *domain, const char *path,
		     struct ql_credentials *c, struct ql_error *err)
{
	const char *server = strcmp(domain, "docker.io") == 0
				     ? "https://index.docker.io/v1/"
				     : domain;
	const json_t *helpers = json_object_get(json, "credHelpers");
	const char *helper = ql_json_opt_string(helpers, domain, NULL);
	int r;

	if (!helper)
		helper = ql_json_opt_string(helpers, server, NULL);
	if (helper && *helper)
		return ql_helper_get(helper, server, c, err);
	r = auths_find(json_object_get(json, "auths"), domain, path, c, err);
	if (r != -ENOENT)
		return r;
	helper = ql_json_opt_string(json, "credsStore", NULL);
	return helper && *helper ? ql_helper_get(helper, server, c, err)
				 : -ENOENT;
}

/* -ENOENT: no such file, or nothing in it. */
static int path_find(const char *file, const char *domain, const char *path,
		     struct ql_credentials *c, struct ql_error *err)
{
	_cleanup_buf_ struct ql_buf buf = QL_BUF_INIT(AUTH_FILE_MAX);
	_cleanup_json_ json_t *json = NULL;
	int r;

	if (access(file, F_OK) < 0)
		return -ENOENT;
	r = ql_read_file(AT_FDCWD, file, &buf, err);
	if (r < 0)
		return r == -ENOENT ? ql_error_set(err, -EACCES, "%s", file)
				    : r;
	r = ql_json_parse(ql_buf_str(&buf), buf.len, &json, err);
	if (r == 0)
		r = file_find(json, domain, path, c, err);
	if (r < 0 && r != -ENOENT)
		return ql_error_prefix(err, "%s", file);
	return r;
}

/* The n-th file to look in, owned, or NULL (with -ENOENT: no more). */
static int file_nth(unsigned int n, char **ret_file)
{
	const char *home = getenv("HOME");
	const char *only = getenv("REGISTRY_AUTH_FILE");
	const char *var;

	if (!home)
		home = "";
	if (only && *only) {
		if (n > 0)
			return -ENOENT;
		*ret_file = strdup(only);
		return 0;
	}
	switch (n) {
	case 0:
		var = getenv("XDG_RUNTIME_DIR");
		*ret_file = var && *var
				    ? ql_strf("%s/containers/auth.json", var)
				    : ql_strf("/run/containers/%u/auth.json",
					      (unsigned int)getuid());
		return 0;
	case 1:
		var = getenv("XDG_CONFIG_HOME");
		*ret_file = var && *var
				    ? ql_strf("%s/containers/auth.json", var)
				    : ql_strf("%s/.config/containers/auth.json",
					      home);
		return 0;
	case 2:
		var = getenv("DOCKER_CONFIG");
		*ret_file = var && *var
				    ? ql_strf("%s/config.json", var)
				    : ql_strf("%s/.docker/config.json", home);
		return 0;
	default:
		return -ENOENT;
	}
}

int ql_credentials_find(const char *domain, const char *path,
			struct ql_credentials *ret_credentials,
			struct ql_error *err)
{
	for (unsigned int n = 0;; n++) {
		_cleanup_credentials_ struct ql_credentials c = { 0 };
		_cleanup_free_ char *file = NULL;
		int r = file_nth(n, &file);

		if (r < 0)
			return r;
		if (!file)
			return ql_error_nomem(err);
		r = path_find(file, domain, path, &c, err);
		if (r == -ENOENT)
			continue;
		if (r < 0)
			return r;
		*ret_credentials = c;
		c = (struct ql_credentials){ 0 };
		return 0;
	}
}
