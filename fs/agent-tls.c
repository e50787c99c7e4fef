/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Certificates for who is served by TLS, which are read again when their files
 * change (GnuTLS, which the HTTP library brings; the one file that includes its
 * headers).
 *
 * The library makes a session for each connection and tells us before the
 * handshake.  There the session gets the credentials of the moment, which stay
 * for as long as a connection has them, and is told to verify the other side
 * during the handshake: who shows no certificate, one of another CA, or one
 * that is not for clients, is not answered at all.
 */
#include "fs/peer.h"

#include <errno.h>
#include <fcntl.h>
#include <gnutls/abstract.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <pthread.h>
#include <string.h>
#include <sys/stat.h>

enum { FILES = 3, FILE_MAX = 1 << 20 };

/* What tells a file from the one before. */
struct look {
	dev_t dev;
	ino_t ino;
	off_t size;
	struct timespec mtime, ctime;
};

struct ql_tls_use {
	gnutls_certificate_credentials_t credentials; /* owned */
	/* Must outlive the sessions that borrow it. */
	gnutls_typed_vdata_st purpose;
	unsigned int refs; /* of connections, and the server's */
};

struct ql_tls_server {
	const char *paths[FILES];   /* borrowed: CA, certificate, key */
	struct look looks[FILES];   /* of the last reading, also a bad one */
	pthread_mutex_t lock;	    /* protects all below, and refs */
	struct ql_tls_use *current; /* one reference */
};

/* ---- reading ---- */

static void look_at(const char *path, struct look *ret)
{
	struct stat st;

	memset(ret, 0, sizeof(*ret));
	if (stat(path, &st) < 0)
		return;
	ret->dev = st.st_dev;
	ret->ino = st.st_ino;
	ret->size = st.st_size;
	ret->mtime = st.st_mtim;
	ret->ctime = st.st_ctim;
}

static void use_free(struct ql_tls_use *use)
{
	if (use->credentials)
		gnutls_certificate_free_credentials(use->credentials);
	free(use);
}

static int tls_error(struct ql_error *err, int code, const char *what,
		     const char *path)
{
	return ql_error_set(err,
			    code == GNUTLS_E_MEMORY_ERROR ? -ENOMEM : -EINVAL,
			    "%s %s: %s", what, path, gnutls_strerror(code));
}

static int use_fill(struct ql_tls_server *server, struct ql_tls_use *use,
		    struct ql_error *err)
{
	struct ql_buf bufs[FILES];
	gnutls_datum_t data[FILES];
	int r = 0, n;

	for (int i = 0; i < FILES; i++)
		ql_buf_init(&bufs[i], FILE_MAX);
	for (int i = 0; i < FILES && r == 0; i++) {
		r = ql_read_file(AT_FDCWD, server->paths[i], &bufs[i], err);
		data[i].data = (unsigned char *)bufs[i].data;
		data[i].size = (unsigned int)bufs[i].len;
	}
	if (r == 0) {
		n = gnutls_certificate_set_x509_trust_mem(
			use->credentials, &data[0], GNUTLS_X509_FMT_PEM);
		if (n <= 0)
			r = tls_error(err,
				      n < 0 ? n : GNUTLS_E_NO_CERTIFICATE_FOUND,
				      "CA", server->paths[0]);
	}
	if (r == 0) {
		n = gnutls_certificate_set_x509_key_mem(use->credentials,
							&data[1], &data[2],
							GNUTLS_X509_FMT_PEM);
		if (n < 0)
			r = tls_error(err, n, "certificate and key",
				      server->paths[1]);
	}
	for (int i = 0; i < FILES; i++) {
		if (bufs[i].data)
			explicit_bzero(bufs[i].data, bufs[i].len);
		ql_buf_release(&bufs[i]);
	}
	return r;
}

static int use_new(struct ql_tls_server *server, struct ql_tls_use **ret_use,
		   struct ql_error *err)
{
	struct ql_tls_use *use = calloc(1, sizeof(*use));
	int r;

	if (!use)
		return ql_error_nomem(err);
	use->refs = 1;
	use->purpose.type = GNUTLS_DT_KEY_PURPOSE_OID;
	use->purpose.data = (unsigned char *)GNUTLS_KP_TLS_WWW_CLIENT;
	r = gnutls_certificate_allocate_credentials(&use->credentials) < 0
		    ? ql_error_nomem(err)
		    : use_fill(server, use, err);
	if (r < 0) {
		use_free(use);
		return r;
	}
	*ret_use = use;
	return 0;
}

/* ---- connections ---- */

void ql_tls_use_put(struct ql_tls_server *server, struct ql_tls_use *use)
{
	bool last;

	if (!use)
		return;
	(void)pthread_mutex_lock(&server->lock);
	last = --use->refs == 0;
	(void)pthread_mutex_unlock(&server->lock);
	if (last)
		use_free(use);
}

int ql_tls_server_begin(struct ql_tls_server *server, void *session,
			struct ql_tls_use **ret_use)
{
	gnutls_session_t s = session;
	struct ql_tls_use *use;

	(void)pthread_mutex_lock(&server->lock);
	use = server->current;
	use->refs++;
	(void)pthread_mutex_unlock(&server->lock);
	*ret_use = use;
	if (gnutls_credentials_set(s, GNUTLS_CRD_CERTIFICATE,
				   use->credentials) < 0)
		return -EIO;
	gnutls_certificate_server_set_request(s, GNUTLS_CERT_REQUIRE);
	gnutls_session_set_verify_cert2(s, &use->purpose, 1, 0);
	return 0;
}

static int no_certificate(gnutls_session_t session, const gnutls_datum_t *names,
			  int n_names, const gnutls_pk_algorithm_t *algorithms,
			  int n_algorithms, gnutls_pcert_st **ret_chain,
			  unsigned int *ret_n, gnutls_privkey_t *ret_key)
{
	(void)session;
	(void)names;
	(void)n_names;
	(void)algorithms;
	(void)n_algorithms;
	(void)ret_chain;
	(void)ret_n;
	(void)ret_key;
	return -1;
}

intptr_t ql_tls_no_certificate(void)
{
	return (intptr_t)no_certificate;
}

/* ---- life ---- */

int ql_tls_server_look(struct ql_tls_server *server, struct ql_error *err)
{
	struct look looks[FILES];
	struct ql_tls_use *use = NULL, *was;
	int r;

	for (int i = 0; i < FILES; i++)
		look_at(server->paths[i], &looks[i]);
	if (memcmp(looks, server->looks, sizeof(looks)) == 0)
		return 0;
	r = use_new(server, &use, err);
	memcpy(server->looks, looks, sizeof(looks));
	if (r < 0)
		return r;
	(void)pthread_mutex_lock(&server->lock);
	was = server->current;
	server->current = use;
	(void)pthread_mutex_unlock(&server->lock);
	ql_tls_use_put(server, was);
	return 1;
}

int ql_tls_server_new(const char *ca, const char *cert, const char *key,
		      struct ql_tls_server **ret_server, struct ql_error *err)
{
	struct ql_tls_server *server = calloc(1, sizeof(*server));
	int r;

	if (!server)
		return ql_error_nomem(err);
	server->paths[0] = ca;
	server->paths[1] = cert;
	server->paths[2] = key;
	(void)pthread_mutex_init(&server->lock, NULL);
	/* Whatever there is, it is another than nothing. */
	server->looks[0].size = -1;
	r = ql_tls_server_look(server, err);
	if (r < 0) {
		ql_tls_server_free(server);
		return r;
	}
	*ret_server = server;
	return 0;
}

void ql_tls_server_free(struct ql_tls_server *server)
{
	if (!server)
		return;
	ql_tls_use_put(server, server->current);
	(void)pthread_mutex_destroy(&server->lock);
	free(server);
}
