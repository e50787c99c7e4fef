/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The agent's life: lock, socket, mount, API; then it serves until SIGTERM or
 * SIGINT.  The main thread alone takes signals.  It serves the mount, by the
 * library's threads; the API starts when the kernel has been answered and ends
 * when the mount is gone.  SIGHUP wakes a thread that reads the configuration
 * again.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fs/fs-private.h"
#include "fs/peer.h"

enum { GRACE_SECONDS = 10 };

struct running {
	struct ql_agent agent;
	struct ql_fs fs;
	struct ql_api_server *server; /* owned */
	struct ql_peer_server *peers; /* owned; or NULL */
	int lock, listener;	      /* owned */
	int hup[2];		      /* owned; a byte for each SIGHUP */
	pthread_t reloader;
	ql_agent_load_fn *load;
	void *load_arg;	     /* borrowed */
	const char *socket;  /* borrowed */
	struct ql_error err; /* of the API's start */
};

/* ---- signals ---- */

static struct running *self; /* of the handlers */
/* The signal; set by a handler, read by any thread. */
static atomic_int stopped;

static void on_end(int sig)
{
	stopped = sig;
	if (self && self->fs.session)
		fuse_session_exit(self->fs.session);
}

static void on_hup(int sig)
{
	int saved = errno;
	ssize_t n = self ? write(self->hup[1], "", 1) : 0;

	(void)sig;
	(void)n; /* a full pipe tells it already */
	errno = saved;
}

/* What does not end by itself is not waited for: all is unmounted by now. */
static void on_alarm(int sig)
{
	(void)sig;
	_exit(0);
}

static void signals_block(int how)
{
	static const int signals[] = { SIGTERM, SIGINT, SIGHUP, SIGQUIT };
	sigset_t set;

	(void)sigemptyset(&set);
	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
		(void)sigaddset(&set, signals[i]);
	(void)pthread_sigmask(how, &set, NULL);
}

static void signal_set(int sig, void (*handler)(int))
{
	struct sigaction sa = { .sa_handler = handler };

	(void)sigemptyset(&sa.sa_mask);
	(void)sigaction(sig, &sa, NULL);
}

/* ---- configuration, again ---- */

static int rest_one(const char *name, const struct ql_image_info *info,
		    void *arg)
{
	const struct running *run = arg;
	struct ql_error err = QL_ERROR_INIT;

	(void)name;
	if (ql_fill_lacks(run->agent.store, info) &&
	    ql_filler_rest(run->agent.filler, info, &err) < 0)
		ql_log(QL_LOG_WARN,
		       "msg=\"an image stays as it is\" "
		       "error=\"%s\"",
		       err.text);
	return 0;
}

/* In the background, what is not here of the images that are.  With a budget
 * that may be what was evicted: it comes when somebody asks for it. */
static void rest_all(struct running *run)
{
	struct ql_error err = QL_ERROR_INIT;

	if (ql_space_is_limited(run->agent.store))
		return;

	if (ql_image_each(run->agent.store, rest_one, run, &err) < 0)
		ql_log(QL_LOG_WARN, "msg=\"cannot list images\" error=\"%s\"",
		       err.text);
}

/* What may change while all goes on. */
static void config_apply(struct running *run, struct ql_agent_config *config)
{
	struct ql_error err = QL_ERROR_INIT;

	if (ql_cache_limits(run->agent.store, &config->cache.budget,
			    &config->cache.reserve, &err) < 0) {
		ql_log(QL_LOG_ERROR,
		       "msg=\"configuration is as before: the new one cannot "
		       "hold\" error=\"%s\"",
		       err.text);
		return;
	}
	ql_evictor_look(run->agent.evictor);
	ql_log_set_level(config->log_level);
	(void)ql_accesslog_set(config->access_log);
	ql_filler_set_rate(run->agent.filler, config->fill.background_rate);
	ql_scrubber_set(run->agent.scrubber, config);
	ql_peer_server_look(run->peers);
	rest_all(run);
	ql_log(QL_LOG_INFO, "msg=\"configuration read again\"");
}

static void *reloader_main(void *arg)
{
	struct running *run = arg;
	char byte;

	rest_all(run);
	while (read(run->hup[0], &byte, 1) == 1 && byte == 0) {
		_cleanup_config_ struct ql_agent_config config;

		ql_agent_config_init(&config);
		if (run->load && run->load(&config, run->load_arg) == 0)
			config_apply(run, &config);
		else
			ql_log(QL_LOG_ERROR, "msg=\"configuration is as "
					     "before: the new one has "
					     "errors\"");
	}
	return NULL;
}

static int reloader_start(struct running *run, struct ql_error *err)
{
	if (pipe2(run->hup, O_CLOEXEC) < 0)
		return ql_error_errno(err, -errno, "pipe");
	(void)fcntl(run->hup[1], F_SETFL, O_NONBLOCK);
	if (pthread_create(&run->reloader, NULL, reloader_main, run) != 0)
		return ql_error_set(err, -EAGAIN, "cannot start a thread");
	return 0;
}

static void reloader_stop(struct running *run)
{
	while (write(run->hup[1], "q", 1) < 0 && errno == EAGAIN)
		(void)usleep(1000);
	(void)pthread_join(run->reloader, NULL);
}

/* ---- the mount ---- */

/* Takes away what a killed agent left, so that the folder can be looked at. */
static int mountpoint_make(const char *dir, char **ret_path,
			   struct ql_error *err)
{
	int r;

	while (ql_umount(dir, true, NULL) == 0)
		ql_log(QL_LOG_WARN,
		       "msg=\"unmounted what a killed agent "
		       "left\" dir=%s",
		       dir);
	r = ql_mkdir_p(dir, err);
	if (r < 0)
		return r;
	*ret_path = realpath(dir, NULL);
	return *ret_path ? 0 : ql_error_errno(err, -errno, "%s", dir);
}

static int drop(const struct ql_digest *manifest, void *arg,
		struct ql_error *err)
{
	struct running *run = arg;

	ql_filler_forget(run->agent.filler, manifest);
	return ql_fs_drop(&run->fs, manifest, err);
}

/* The kernel has been answered: the mount is there. */
static void on_ready(void *arg)
{
	struct running *run = arg;
	_cleanup_free_ char *text = NULL;

	int r = ql_evictor_start(run->agent.evictor, &run->fs, &run->err);

	if (r == 0)
		r = ql_api_server_new(&run->agent, run->listener, &run->server,
				      &run->err);
	if (r == 0) {
		run->listener = -1; /* the server's now */
		r = ql_peer_server_start(run->peers, &run->err);
	}
	if (r < 0 || stopped) {
		fuse_session_exit(run->fs.session);
		return;
	}
	text = ql_strf("READY=1\nSTATUS=Serving %s at %s\nMAINPID=%ld",
		       run->agent.root, run->socket, (long)getpid());
	if (text)
		ql_notify(text);
	ql_log(QL_LOG_INFO, "msg=ready root=%s socket=%s mountpoint=%s",
	       run->agent.root, run->socket, run->agent.mountpoint);
}

static void on_ending(void *arg)
{
	struct running *run = arg;

	ql_notify("STOPPING=1");
	signal_set(SIGALRM, on_alarm);
	if (stopped)
		(void)alarm(GRACE_SECONDS);
	(void)unlink(run->socket);
	if (run->agent.peers)
		ql_peers_cancel(run->agent.peers);
	ql_peer_server_stop(run->peers);
	ql_deployments_stop(run->agent.deployments);
	ql_api_server_free(run->server);
	run->server = NULL;
	ql_evictor_stop(run->agent.evictor);
	ql_scrubber_stop(run->agent.scrubber);
	ql_growings_stop(run->agent.growings);
}

static int serve(struct running *run, const struct ql_agent_config *config,
		 struct ql_error *err)
{
	struct ql_mount_options options = {
		.source = QL_FS_AGENT,
		.allow_other = geteuid() == 0,
		.threads = (unsigned int)config->fuse.threads,
	};
	int r;

	run->fs.store = run->agent.store;
	run->fs.catalog = run->agent.store;
	run->fs.filler = run->agent.filler;
	run->fs.growings = run->agent.growings;
	run->fs.ready = on_ready;
	run->fs.ending = on_ending;
	run->fs.ready_arg = run;
	atomic_init(&run->fs.passthrough, config->fuse.passthrough);
	run->agent.drop = drop;
	run->agent.drop_arg = run;
	self = run;
	signal_set(SIGTERM, on_end);
	signal_set(SIGINT, on_end);
	signal_set(SIGHUP, on_hup);
	(void)signal(SIGPIPE, SIG_IGN);
	signals_block(SIG_UNBLOCK);
	r = ql_fs_serve(&run->fs, run->agent.mountpoint, &options, err);
	signals_block(SIG_BLOCK);
	self = NULL;
	if (r == 0 && run->err.code < 0) {
		*err = run->err;
		r = run->err.code;
	}
	if (r == 0 && !stopped)
		r = ql_error_set(err, -ENODEV, "%s was unmounted",
				 run->agent.mountpoint);
	return r;
}

/* ---- all of it ---- */

static int peers_start(const struct ql_agent_config *config,
		       struct running *run, struct ql_error *err)
{
	const struct ql_peers_options options = {
		.name = config->peers.name,
		.site = config->peers.site,
		.list = (const char *const *)config->peers.list.items,
		.n_list = config->peers.list.n,
		.dns = (const char *const *)config->peers.dns.items,
		.n_dns = config->peers.dns.n,
		.listen = config->peers.listen,
		.ca = config->peers.ca,
		.cert = config->peers.cert,
		.key = config->peers.key,
		.share = config->peers.share,
		.relay = config->peers.relay,
		.config_dir = config->registries,
	};
	int r = 0;

	if (options.listen || options.n_list > 0 || options.n_dns > 0)
		r = ql_peers_new(run->agent.store, &options, &run->agent.peers,
				 err);
	return r < 0 ? r
		     : ql_peer_server_new(run->agent.peers, config, &run->peers,
					  err);
}

static int filler_start(const struct ql_agent_config *config,
			struct ql_agent *a, struct ql_error *err)
{
	const struct ql_fill_options options = {
		.connections = (unsigned int)config->fill.connections,
		.read_timeout = config->fill.read_timeout,
		.background_rate = config->fill.background_rate,
		.config_dir = config->registries,
		.peers = a->peers,
	};

	return ql_filler_new(a->store, &options, &a->filler, err);
}

/* What was left is removed while nobody adds anything yet, as far as we go. */
static int cache_start(const struct ql_agent_config *config, struct ql_agent *a,
		       struct ql_error *err)
{
	int r = ql_evictor_new(a->store, &a->evictor, err);

	if (r == 0)
		r = ql_keep_recover(a->store, err);
	if (r == 0)
		r = ql_cache_limits(a->store, &config->cache.budget,
				    &config->cache.reserve, err);
	if (r == 0)
		ql_evictor_tidy(a->evictor);
	return r;
}

static int start(struct running *run, struct ql_agent_config *config,
		 struct ql_error *err)
{
	struct ql_agent *a = &run->agent;
	int r = ql_store_open(config->root, QL_STORE_WRITE, &a->store, err);

	if (r < 0)
		return r;
	a->root = realpath(ql_store_root(a->store), NULL);
	if (!a->root)
		return ql_error_errno(err, -errno, "%s",
				      ql_store_root(a->store));
	r = ql_agent_lock(a->store, &run->lock, err);
	if (r == 0)
		r = ql_agent_config_paths(config, a->root, err);
	if (r == 0)
		r = ql_agent_listen(config->socket, config->socket_group,
				    &run->listener, err);
	if (r < 0)
		return r;
	run->socket = config->socket;
	r = cache_start(config, a, err);
	if (r == 0)
		r = mountpoint_make(config->mountpoint, &a->mountpoint, err);
	if (r == 0)
		r = peers_start(config, run, err);
	if (r == 0)
		r = filler_start(config, a, err);
	if (r == 0)
		r = ql_growings_new(a->store, config->fill.read_timeout,
				    &a->growings, err);
	if (r == 0)
		r = ql_pulls_new(a->store, config, a->filler, &a->pulls, err);
	if (r == 0) {
		ql_pulls_grow(a->pulls, a->growings);
		ql_pulls_peers(a->pulls, a->peers);
	}
	if (r == 0 && a->peers)
		r = ql_deployments_new(a, ql_peers_name(a->peers),
				       config->peers.cluster, &a->deployments,
				       err);
	if (r == 0)
		ql_peer_server_deployments(run->peers, a->deployments);
	if (r == 0)
		r = ql_scrubber_new(a->store, a->filler, config, &a->scrubber,
				    err);
	return r;
}

static void finish(struct running *run)
{
	if (run->socket)
		(void)unlink(run->socket);
	if (run->listener >= 0)
		(void)close(run->listener);
	ql_peer_server_free(run->peers);
	ql_scrubber_free(run->agent.scrubber);
	ql_deployments_free(run->agent.deployments);
	ql_pulls_free(run->agent.pulls);
	ql_growings_free(run->agent.growings);
	ql_filler_free(run->agent.filler);
	ql_peers_free(run->agent.peers);
	ql_evictor_free(run->agent.evictor);
	ql_store_close(run->agent.store);
	free(run->agent.mountpoint);
	free(run->agent.root);
	for (int i = 0; i < 2; i++)
		if (run->hup[i] >= 0)
			(void)close(run->hup[i]);
	if (run->lock >= 0)
		(void)close(run->lock);
}

int ql_agent_run(struct ql_agent_config *config, ql_agent_load_fn *load,
		 void *arg, struct ql_error *err)
{
	struct running run = { .lock = -1,
			       .listener = -1,
			       .hup = { -1, -1 },
			       .load = load,
			       .load_arg = arg };
	int r;

	ql_log_set_level(config->log_level);
	(void)ql_accesslog_set(config->access_log);
	signals_block(SIG_BLOCK);
	r = start(&run, config, err);
	if (r == 0)
		r = reloader_start(&run, err);
	if (r == 0) {
		r = serve(&run, config, err);
		reloader_stop(&run);
	}
	finish(&run);
	return r;
}
