/* SPDX-License-Identifier: Apache-2.0 */
/*
 * quicklayer-scheduler, the cluster's side as a service: its command line, and
 * its life from a socket that listens to a signal.  It keeps nothing: what it
 * has to say is gone with it, what nodes were told they go on with.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <netdb.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "sched-exporter/nodesfrom.h"
#include "sched-exporter/rollouts.h"
#include "sched-exporter/scheduler-api.h"

enum { EXIT_USAGE = 2 };
enum {
	ALLOW_MAX = 256,
	/* A registry that stalls keeps its thread for longer. */
	GRACE_SECONDS = 5,
};
enum {
	OPT_NODES = 256,
	OPT_KUBE,
	OPT_KUBE_URL,
	OPT_KUBE_TOKEN,
	OPT_KUBE_CA,
	OPT_CLUSTER,
	OPT_LISTEN,
	OPT_ALLOW,
	OPT_CONFIG_DIR,
	OPT_CA,
	OPT_CERT,
	OPT_KEY,
	OPT_PLAIN,
	OPT_LEVEL,
	OPT_VERSION
};

struct command_line {
	struct ql_nodes_from nodes;
	const char *listen, *config_dir, *level; /* all borrowed */
	struct ql_remote_options remote;
	struct ql_net allow[ALLOW_MAX];
	size_t n_allow;
	bool plain_http;
};

static const char help[] =
	"Usage: quicklayer-scheduler --nodes FILE|--kubernetes [OPTION...]"
	"\n\n"
	"Deploys images to nodes, as it is asked by HTTP.\n\n"
	"Options:\n"
	"      --nodes FILE         the nodes, as for quicklayer plan\n"
	"      --kubernetes         or those of the cluster that this is a pod "
	"of\n"
	"      --kubernetes-url URL or of this Kubernetes API\n"
	"      --kubernetes-token FILE\n"
	"                           its bearer token\n"
	"      --kubernetes-ca FILE its CA\n"
	"      --cluster NAME       what its cluster is called (default)\n"
	"      --listen HOST:PORT   where it serves (127.0.0.1:7780)\n"
	"      --allow CIDR         who may ask beside this machine; may be "
	"repeated\n"
	"      --config-dir DIR     where registries.json is "
	"(/etc/quicklayer)\n"
	"      --plain-http         talk HTTP to the registry, not HTTPS\n"
	"      --tls-ca FILE        nodes are spoken to by TLS, and are of "
	"this "
	"CA\n"
	"      --tls-cert FILE      what is shown to nodes\n"
	"      --tls-key FILE       its key\n"
	"      --log-level LEVEL    error, warn, info or debug (info)\n"
	"      --version            print the version\n"
	"  -h, --help               print this\n";

static void report(const char *what, const char *text)
{
	(void)fprintf(stderr, "quicklayer-scheduler: %s%s%s\n", what,
		      *what ? ": " : "", text);
}

/* ---- the command line ---- */

static bool allow_add(struct command_line *cl, const char *text)
{
	if (cl->n_allow == ALLOW_MAX ||
	    ql_net_parse(text, &cl->allow[cl->n_allow]) < 0) {
		report(text, cl->n_allow == ALLOW_MAX
				     ? "too many networks"
				     : "no network, as in 10.0.0.0/8");
		return false;
	}
	cl->n_allow++;
	return true;
}

/* -1: it was taken; else the exit status. */
static int take(struct command_line *cl, int c)
{
	switch (c) {
	case OPT_NODES:
		cl->nodes.file = optarg;
		return -1;
	case OPT_KUBE:
		cl->nodes.kubernetes = true;
		return -1;
	case OPT_KUBE_URL:
		cl->nodes.kube.api.url = optarg;
		return -1;
	case OPT_KUBE_TOKEN:
		cl->nodes.kube.api.token = optarg;
		return -1;
	case OPT_KUBE_CA:
		cl->nodes.kube.api.ca = optarg;
		return -1;
	case OPT_CLUSTER:
		cl->nodes.kube.cluster = optarg;
		return -1;
	case OPT_LISTEN:
		cl->listen = optarg;
		return -1;
	case OPT_ALLOW:
		return allow_add(cl, optarg) ? -1 : EXIT_USAGE;
	case OPT_CONFIG_DIR:
		cl->config_dir = optarg;
		return -1;
	case OPT_CA:
		cl->remote.ca = optarg;
		return -1;
	case OPT_CERT:
		cl->remote.cert = optarg;
		return -1;
	case OPT_KEY:
		cl->remote.key = optarg;
		return -1;
	case OPT_PLAIN:
		cl->plain_http = true;
		return -1;
	case OPT_LEVEL:
		cl->level = optarg;
		return -1;
	case OPT_VERSION:
	case 'h':
		(void)printf("%s", c == 'h' ? help
					    : "quicklayer-scheduler " QL_VERSION
					      "\n");
		return fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
	default:
		return EXIT_USAGE;
	}
}

/* The address that a text like HOST:PORT begins with is of this machine
 * alone. */
static bool is_loopback(const char *listen)
{
	const char *colon = strrchr(listen, ':');
	size_t len = colon ? (size_t)(colon - listen) : 0;
	char host[QL_NET_HOST_MAX + 1];
	struct ql_net net;
	bool brackets = len > 2 && listen[0] == '[';

	if (len - 2U * brackets >= sizeof(host))
		return false;
	memcpy(host, listen + brackets, len - 2U * brackets);
	host[len - 2U * brackets] = 0;
	return ql_net_parse(host, &net) == 0 && ql_net_is_loopback(&net.first);
}

/* NULL: it is as it should be. */
static const char *wrong(const struct command_line *cl)
{
	int tls = (cl->remote.ca != NULL) + (cl->remote.cert != NULL) +
		  (cl->remote.key != NULL);
	const char *nodes = ql_nodes_from_wrong(&cl->nodes);
	enum ql_log_level level;

	if (nodes)
		return nodes;
	if (tls != 0 && tls != 3)
		return "--tls-ca, --tls-cert and --tls-key go together";
	if (cl->level && ql_log_level_parse(cl->level, &level) < 0)
		return "--log-level: error, warn, info or debug is wanted";
	if (!cl->listen || ql_net_listen_check(cl->listen) < 0)
		return "--listen: an address and a port are wanted";
	if (cl->n_allow == 0 && !is_loopback(cl->listen))
		return "--listen: beyond this machine only with --allow, "
		       "which says for whom";
	return NULL;
}

/* -1: go on; else the exit status. */
static int parse(int argc, char **argv, struct command_line *cl)
{
	static const struct option longs[] = {
		{ "nodes", required_argument, NULL, OPT_NODES },
		{ "kubernetes", no_argument, NULL, OPT_KUBE },
		{ "kubernetes-url", required_argument, NULL, OPT_KUBE_URL },
		{ "kubernetes-token", required_argument, NULL, OPT_KUBE_TOKEN },
		{ "kubernetes-ca", required_argument, NULL, OPT_KUBE_CA },
		{ "cluster", required_argument, NULL, OPT_CLUSTER },
		{ "listen", required_argument, NULL, OPT_LISTEN },
		{ "allow", required_argument, NULL, OPT_ALLOW },
		{ "config-dir", required_argument, NULL, OPT_CONFIG_DIR },
		{ "tls-ca", required_argument, NULL, OPT_CA },
		{ "tls-cert", required_argument, NULL, OPT_CERT },
		{ "tls-key", required_argument, NULL, OPT_KEY },
		{ "plain-http", no_argument, NULL, OPT_PLAIN },
		{ "log-level", required_argument, NULL, OPT_LEVEL },
		{ "version", no_argument, NULL, OPT_VERSION },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	const char *text;
	int c;

	opterr = 0;
	while ((c = getopt_long(argc, argv, ":h", longs, NULL)) != -1) {
		int r = take(cl, c);

		if (c == ':' || c == '?')
			report(argv[optind - 1], c == ':' ? "it needs a value"
							  : "no such option");
		if (r >= 0)
			return r;
	}
	if (optind < argc) {
		report(argv[optind], "no operands here");
		return EXIT_USAGE;
	}
	text = wrong(cl);
	if (text)
		report("", text);
	return text ? EXIT_USAGE : -1;
}

/* ---- the nodes ---- */

static void warn(const char *text, void *arg)
{
	(void)arg;
	ql_log(QL_LOG_WARN, "msg=\"nodes\" text=\"%s\"", text);
}

/* Read anew for each deployment; a ql_nodes_get_fn. */
static int nodes_get(void *arg, struct ql_nodes *ret_nodes,
		     struct ql_error *err)
{
	return ql_nodes_from(arg, ret_nodes, err);
}

/* ---- life ---- */

static void on_alarm(int sig)
{
	(void)sig;
	_exit(EXIT_SUCCESS);
}

static void signals_block(sigset_t *ret_set)
{
	(void)sigemptyset(ret_set);
	(void)sigaddset(ret_set, SIGTERM);
	(void)sigaddset(ret_set, SIGINT);
	(void)pthread_sigmask(SIG_BLOCK, ret_set, NULL);
	(void)signal(SIGPIPE, SIG_IGN);
	(void)signal(SIGALRM, on_alarm);
}

/* With the port that it was given where 0 was asked for. */
static void say_ready(int fd)
{
	struct sockaddr_storage sa = { 0 };
	socklen_t len = sizeof(sa);
	char host[INET6_ADDRSTRLEN + 1] = "?", port[8] = "?";
	bool v6;

	if (getsockname(fd, (struct sockaddr *)&sa, &len) == 0)
		(void)getnameinfo((const struct sockaddr *)&sa, len, host,
				  sizeof(host), port, sizeof(port),
				  NI_NUMERICHOST | NI_NUMERICSERV);
	v6 = sa.ss_family == AF_INET6;
	ql_log(QL_LOG_INFO, "msg=ready listen=%s%s%s:%s", v6 ? "[" : "", host,
	       v6 ? "]" : "", port);
}

static int serve(const struct command_line *cl, struct ql_rollouts *rollouts,
		 const sigset_t *set, struct ql_error *err)
{
	_cleanup_(ql_web_freep) struct ql_web *web = NULL;
	const struct ql_web_options options = {
		.allow = cl->allow,
		.n_allow = cl->n_allow,
		.body_max = QL_SCHEDULER_BODY_MAX,
		.handler = ql_scheduler_handle,
		.arg = rollouts,
	};
	int sig = 0, fd = -1;
	int r = ql_net_listen(cl->listen, &fd, err);

	if (r == 0)
		r = ql_web_new(&options, fd, &web, err);
	if (r < 0)
		return r;
	say_ready(fd);
	while (sigwait(set, &sig) != 0)
		;
	(void)alarm(GRACE_SECONDS);
	return 0;
}

static int run(struct command_line *cl, struct ql_error *err)
{
	_cleanup_(ql_rollouts_freep) struct ql_rollouts *rollouts = NULL;
	_cleanup_nodes_ struct ql_nodes nodes = { 0 };
	const struct ql_rollouts_options options = {
		.nodes = nodes_get,
		.arg = &cl->nodes,
		.remote = cl->remote,
		.config_dir = cl->config_dir,
		.plain_http = cl->plain_http,
	};
	sigset_t set;
	/* That they are well-formed. */
	int r = ql_nodes_from(&cl->nodes, &nodes, err);

	signals_block(&set); /* before there are threads, which have it so */
	if (r == 0)
		r = ql_rollouts_new(&options, &rollouts, err);
	return r < 0 ? r : serve(cl, rollouts, &set, err);
}

int main(int argc, char **argv)
{
	static struct command_line cl = {
		.listen = "127.0.0.1:7780",
		.nodes.kube.warn = warn,
	};
	enum ql_log_level level = QL_LOG_INFO;
	struct ql_error err = QL_ERROR_INIT;
	int r = parse(argc, argv, &cl);

	if (r >= 0)
		return r;
	if (cl.level)
		(void)ql_log_level_parse(cl.level, &level); /* was checked */
	ql_log_set_level(level);
	ql_process_bound_memory(2);
	ql_process_raise_files();
	r = run(&cl, &err);
	if (r < 0)
		report("", err.text[0] ? err.text : strerror(-r));
	return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
