/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Certificates by registry, in docker's layout: certs.d/HOST[:PORT]/ holds
 * any *.crt (roots that are trusted beside the system's) and a pair *.cert,
 * *.key (who we are).  Looked for below the settings' folder, /etc/docker and
 * /etc/containers.
 *
 * Sources: dockerd's "Verify repository client with certificates";
 * containers-certs.d(5).
 */
#include "fetch/fetch-private.h"

#include <errno.h>
#include <string.h>

static bool has_suffix(const char *name, const char *suffix)
{
	size_t n = strlen(name), m = strlen(suffix);

	return n > m && strcmp(name + n - m, suffix) == 0;
}

/* Sets *to to dir/name where it is not set yet. */
static int path_set(char **to, const char *dir, const char *name)
{
	if (*to)
		return 0;
	*to = ql_path_join(dir, name);
	return *to ? 0 : -ENOMEM;
}

static int dir_read(DIR *d, const char *dir, struct ql_tls *tls,
		    struct ql_error *err)
{
	struct dirent *e;
	int r = 0;

	while (r == 0 && (e = readdir(d))) {
		if (has_suffix(e->d_name, ".crt"))
			r = path_set(&tls->ca, dir, e->d_name);
		else if (has_suffix(e->d_name, ".cert"))
			r = path_set(&tls->cert, dir, e->d_name);
		else if (has_suffix(e->d_name, ".key"))
			r = path_set(&tls->key, dir, e->d_name);
	}
	if (r < 0)
		return ql_error_nomem(err);
	if (!tls->cert != !tls->key)
		return ql_error_set(err, -EINVAL,
				    "%s: a client certificate needs both "
				    "*.cert and *.key",
				    dir);
	return 0;
}

int ql_certs_find(const char *config_dir, const char *host, struct ql_tls *tls,
		  struct ql_error *err)
{
	const char *bases[] = { config_dir, "/etc/docker", "/etc/containers" };

	for (size_t i = 0; i < sizeof(bases) / sizeof(bases[0]); i++) {
		_cleanup_closedir_ DIR *d = NULL;
		_cleanup_free_ char *dir = NULL;
		int r;

		if (!bases[i])
			continue;
		dir = ql_strf("%s/certs.d/%s", bases[i], host);
		if (!dir)
			return ql_error_nomem(err);
		d = opendir(dir);
		if (!d)
			continue;
		r = dir_read(d, dir, tls, err);
		if (r < 0)
			return r;
	}
	return 0;
}
