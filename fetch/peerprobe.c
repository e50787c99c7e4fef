/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who the peers are: a thread asks each for its summary, those that answer
 * every few seconds, others after a time that grows; all that are due are asked
 * at once.  Another looks names up again, since a look-up may take long.
 */
#include "fetch/peer-private.h"

#include <errno.h>
#include <netdb.h>
#include <string.h>
#include <time.h>

#define NS 1000000000ULL
#define INTERVAL_NS (3 * NS)
#define DEAD_MOST_NS (10 * NS)
#define SELF_NS (60 * NS)
#define NAMES_NS (30 * NS)
#define GONE_NS (100 * NS) /* not among a name's addresses any more */
#define PATIENCE_NS (2 * NS)
enum {
	PROBES = 64,	   /* at once */
	STACK = 512 << 10, /* getaddrinfo() needs some */
};

/* ---- summaries ---- */

static int text_set(char **to, const json_t *summary, const char *key)
{
	const char *value = ql_json_opt_string(summary, key, "");
	char *copy = strlen(value) <= QL_PEER_NAME_MAX ? strdup(value)
						       : strdup("");

	if (!copy)
		return -ENOMEM;
	free(*to);
	*to = copy;
	return 0;
}

/* Under the lock. */
static int summary_take(struct ql_peers *peers, struct ql_peer *p,
			const json_t *summary, const char *etag)
{
	const json_t *passes = json_object_get(summary, "passes");
	char *tag = etag ? strdup(etag) : NULL;
	int r = etag && !tag ? -ENOMEM : 0;

	if (r == 0)
		r = text_set(&p->id, summary, "id");
	if (r == 0)
		r = text_set(&p->name, summary, "name");
	if (r == 0)
		r = text_set(&p->site, summary, "site");
	if (r < 0) {
		free(tag);
		return r;
	}
	free(p->etag);
	p->etag = tag;
	p->passes = p->id[0] && !json_is_false(passes);
	(void)ql_json_get_u64(summary, "generation", &p->generation, NULL);
	p->state = strcmp(p->id, peers->id) == 0 ? QL_PEER_SELF : QL_PEER_LIVE;
	return 0;
}

static int summary_parse(const struct ql_buf *buf, json_t **ret_summary,
			 struct ql_error *err)
{
	_cleanup_json_ json_t *summary = NULL;
	int r = ql_json_parse(ql_buf_str(buf), buf->len, &summary, err);

	if (r == 0 &&
	    strcmp(ql_json_opt_string(summary, "kind", ""), "NodeSummary") != 0)
		r = ql_error_set(err, -EBADMSG, "no summary of a node");
	if (r == 0)
		*ret_summary = ql_take_ptr(summary);
	return r;
}

/* Under the lock: it answered after so many ns. */
static void probe_good(struct ql_peer *p, uint64_t rtt)
{
	if (p->state != QL_PEER_SELF)
		p->state = QL_PEER_LIVE;
	p->rtt = ql_peer_smooth(p->rtt, rtt);
	p->failures = 0;
	p->probe_at = ql_now_ns() +
		      (p->state == QL_PEER_SELF ? SELF_NS : INTERVAL_NS);
}

static void probe_bad(struct ql_peers *peers, struct ql_peer *p,
		      const struct ql_error *err)
{
	uint64_t wait;

	(void)pthread_mutex_lock(&peers->lock);
	p->state = QL_PEER_DEAD;
	wait = ql_peer_penalty(++p->failures);
	p->probe_at = ql_now_ns() + (wait < DEAD_MOST_NS ? wait : DEAD_MOST_NS);
	(void)pthread_mutex_unlock(&peers->lock);
	ql_debug("msg=\"no summary\" peer=%s text=\"%s\"", p->address,
		 err->text);
}

/* *ret_other: it is not this node itself. */
static int probe_end(struct ql_peers *peers, struct ql_peer *p,
		     struct ql_peer_call *call, bool *ret_other,
		     struct ql_error *err)
{
	_cleanup_buf_ struct ql_buf buf = QL_BUF_INIT(QL_PEER_SUMMARY_MAX);
	_cleanup_response_ struct ql_http_response rs = { 0 };
	_cleanup_json_ json_t *summary = NULL;
	bool came, self;
	int r = ql_peer_finish(call, &rs, err);

	if (r == 0 && rs.status != 304)
		r = ql_peer_body(peers, p, &rs, PATIENCE_NS, &buf, err);
	if (r == 0 && rs.status != 304)
		r = summary_parse(&buf, &summary, err);
	if (r < 0)
		return r;
	(void)pthread_mutex_lock(&peers->lock);
	if (summary)
		r = summary_take(peers, p, summary, rs.etag);
	came = r == 0 && p->state == QL_PEER_DEAD;
	if (r == 0)
		probe_good(p, rs.took);
	self = p->state == QL_PEER_SELF;
	*ret_other = !self;
	(void)pthread_mutex_unlock(&peers->lock);
	if (summary || came)
		ql_debug("msg=\"a peer\" peer=%s self=%d", p->address, self);
	return r < 0 ? ql_error_nomem(err) : 0;
}

/* Under the lock: those that are due, one reference each. */
static size_t probes_due(struct ql_peers *peers, struct ql_peer **list,
			 uint64_t *ret_next)
{
	uint64_t now = ql_now_ns();
	size_t n = 0;

	*ret_next = now + INTERVAL_NS;
	for (struct ql_peer *p = peers->list; p; p = p->next) {
		if (p->probe_at <= now && n < PROBES)
			list[n++] = ql_peer_ref(p);
		else if (p->probe_at < *ret_next)
			*ret_next = p->probe_at;
	}
	return n;
}

static int probe_begin(struct ql_peers *peers, struct ql_peer *p,
		       struct ql_peer_call **ret_call, struct ql_error *err)
{
	_cleanup_free_ char *etag = NULL;
	struct ql_peer_request rq = { .path = "/v1/summary",
				      .patience = PATIENCE_NS };

	(void)pthread_mutex_lock(&peers->lock);
	etag = p->etag ? strdup(p->etag) : NULL;
	(void)pthread_mutex_unlock(&peers->lock);
	rq.etag = etag;
	return ql_peer_begin(peers, p, &rq, ret_call, err);
}

static void probes_run(struct ql_peers *peers, struct ql_peer **list, size_t n)
{
	struct ql_peer_call *calls[PROBES] = { NULL };
	bool is_other[PROBES] = { false };

	for (size_t i = 0; i < n; i++) {
		struct ql_error err = QL_ERROR_INIT;

		if (probe_begin(peers, list[i], &calls[i], &err) < 0)
			probe_bad(peers, list[i], &err);
	}
	for (size_t i = 0; i < n; i++) {
		struct ql_error err = QL_ERROR_INIT;

		if (calls[i] &&
		    probe_end(peers, list[i], calls[i], &is_other[i], &err) < 0)
			probe_bad(peers, list[i], &err);
	}
	for (size_t i = 0; i < n; i++) {
		if (is_other[i])
			ql_peer_filter_update(peers, list[i]);
		ql_peer_unref(list[i]);
	}
}

static void wait_until(struct ql_peers *peers, uint64_t ns)
{
	struct timespec ts = { (time_t)(ns / NS), (long)(ns % NS) };

	(void)pthread_cond_timedwait(&peers->wake, &peers->lock, &ts);
}

static void *probe_main(void *arg)
{
	struct ql_peers *peers = arg;
	struct ql_peer *list[PROBES];
	uint64_t next;

	(void)pthread_mutex_lock(&peers->lock);
	while (!peers->stop) {
		size_t n = probes_due(peers, list, &next);

		if (n == 0) {
			wait_until(peers, next);
			continue;
		}
		(void)pthread_mutex_unlock(&peers->lock);
		probes_run(peers, list, n);
		(void)pthread_mutex_lock(&peers->lock);
	}
	(void)pthread_mutex_unlock(&peers->lock);
	return NULL;
}

/* ---- names ---- */

static void name_put(struct ql_peers *peers, const struct addrinfo *at,
		     const char *port)
{
	char host[NI_MAXHOST];
	_cleanup_free_ char *address = NULL;

	/* A link-local address needs the name of a link, which a URL has no
	 * place for. */
	if (getnameinfo(at->ai_addr, at->ai_addrlen, host, sizeof(host), NULL,
			0, NI_NUMERICHOST) != 0 ||
	    strchr(host, '%'))
		return;
	address = ql_strf(at->ai_family == AF_INET6 ? "[%s]:%s" : "%s:%s", host,
			  port);
	if (address)
		(void)ql_peers_put(peers, address, true, NULL);
}

static void name_look_up(struct ql_peers *peers, const char *name)
{
	static const struct addrinfo hints = { .ai_socktype = SOCK_STREAM };
	struct addrinfo *list = NULL;
	const char *colon = strrchr(name, ':');
	_cleanup_free_ char *host = NULL;
	int r;

	if (!colon)
		return;
	host = strndup(name, (size_t)(colon - name));
	if (!host)
		return;
	r = getaddrinfo(host, NULL, &hints, &list);
	if (r != 0) {
		ql_debug("msg=\"no addresses\" name=%s text=\"%s\"", name,
			 gai_strerror(r));
		return;
	}
	for (const struct addrinfo *at = list; at; at = at->ai_next)
		name_put(peers, at, colon + 1);
	freeaddrinfo(list);
}

/* Under the lock: those that are not what a name means any more, and do not
 * answer. */
static struct ql_peer *names_sweep(struct ql_peers *peers)
{
	struct ql_peer **at = &peers->list, *gone = NULL, *p;
	uint64_t now = ql_now_ns();

	while ((p = *at)) {
		if (!p->looked_up || p->state == QL_PEER_LIVE ||
		    now - p->seen < GONE_NS) {
			at = &p->next;
			continue;
		}
		*at = p->next;
		p->next = gone;
		gone = p;
		peers->n--;
	}
	return gone;
}

static void *names_main(void *arg)
{
	struct ql_peers *peers = arg;
	struct ql_peer *gone, *p;

	(void)pthread_mutex_lock(&peers->lock);
	while (!peers->stop) {
		uint64_t next = ql_now_ns() + NAMES_NS;

		(void)pthread_mutex_unlock(&peers->lock);
		for (size_t i = 0; i < peers->options.n_dns; i++)
			name_look_up(peers, peers->options.dns[i]);
		(void)pthread_mutex_lock(&peers->lock);
		gone = names_sweep(peers);
		(void)pthread_mutex_unlock(&peers->lock);
		while ((p = gone)) {
			gone = p->next;
			ql_peer_unref(p);
		}
		(void)pthread_mutex_lock(&peers->lock);
		while (!peers->stop && ql_now_ns() < next)
			wait_until(peers, next);
	}
	(void)pthread_mutex_unlock(&peers->lock);
	return NULL;
}

int ql_peers_start(struct ql_peers *peers, struct ql_error *err)
{
	void *(*const mains[])(void *) = { probe_main, names_main };
	unsigned int wanted = peers->options.n_dns > 0 ? 2 : 1;
	pthread_attr_t attr;
	int r = 0;

	(void)pthread_attr_init(&attr);
	(void)pthread_attr_setstacksize(&attr, STACK);
	while (r == 0 && peers->n_threads < wanted) {
		r = pthread_create(&peers->threads[peers->n_threads], &attr,
				   mains[peers->n_threads], peers);
		peers->n_threads += r == 0;
	}
	(void)pthread_attr_destroy(&attr);
	return r == 0 ? 0 : ql_error_errno(err, -r, "start a thread");
}
