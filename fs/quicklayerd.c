/* SPDX-License-Identifier: Apache-2.0 */
/*
 * quicklayerd, the node agent: its command line and its configuration.  What
 * the command line says comes before what the file says.  It stays in the
 * foreground, as service managers want it.
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs/agent.h"

enum { EXIT_USAGE = 2 };
enum {
	OPT_CONFIG = 256,
	OPT_CHECK,
	OPT_ROOT,
	OPT_SOCKET,
	OPT_MOUNTPOINT,
	OPT_LEVEL,
	OPT_VERSION
};

struct command_line {
	const char *config; /* all borrowed from argv; NULL: not given */
	const char *root, *socket, *mountpoint, *level;
	bool check;
};

static const char help[] =
	"Usage: quicklayerd [OPTION...]\n\n"
	"Serves the images of a store: a mount with all of them, and an API on "
	"a socket.\n\n"
	"Options:\n"
	"      --config FILE      (/etc/quicklayer/quicklayerd.yaml, if it is "
	"there)\n"
	"      --check-config     say what is wrong with it, or ok\n"
	"      --root DIR         the store (QUICKLAYER_ROOT, "
	"/var/lib/quicklayer)\n"
	"      --socket PATH      (/run/quicklayer/quicklayerd.sock, or below "
	"the root)\n"
	"      --mountpoint DIR   (/run/quicklayer/mnt, or below the root)\n"
	"      --log-level LEVEL  error, warn, info or debug\n"
	"      --version          print the version\n"
	"  -h, --help             print this\n";

static void report(const char *finding, void *arg)
{
	(void)arg;
	(void)fprintf(stderr, "quicklayerd: %s\n", finding);
}

/* -1: go on; else the exit status. */
static int parse(int argc, char **argv, struct command_line *cl)
{
	static const struct option longs[] = {
		{ "config", required_argument, NULL, OPT_CONFIG },
		{ "check-config", no_argument, NULL, OPT_CHECK },
		{ "root", required_argument, NULL, OPT_ROOT },
		{ "socket", required_argument, NULL, OPT_SOCKET },
		{ "mountpoint", required_argument, NULL, OPT_MOUNTPOINT },
		{ "log-level", required_argument, NULL, OPT_LEVEL },
		{ "version", no_argument, NULL, OPT_VERSION },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	int c;

	opterr = 0;
	while ((c = getopt_long(argc, argv, ":h", longs, NULL)) != -1) {
		if (c == OPT_CONFIG)
			cl->config = optarg;
		else if (c == OPT_CHECK)
			cl->check = true;
		else if (c == OPT_ROOT)
			cl->root = optarg;
		else if (c == OPT_SOCKET)
			cl->socket = optarg;
		else if (c == OPT_MOUNTPOINT)
			cl->mountpoint = optarg;
		else if (c == OPT_LEVEL)
			cl->level = optarg;
		else if (c == OPT_VERSION || c == 'h') {
			(void)printf("%s", c == 'h' ? help
						    : "quicklayerd " QL_VERSION
						      "\n");
			return fflush(stdout) == 0 ? 0 : EXIT_FAILURE;
		} else {
			(void)fprintf(stderr, "quicklayerd: %s: %s\n",
				      argv[optind - 1],
				      c == ':' ? "it needs a value"
					       : "no such option");
			return EXIT_USAGE;
		}
	}
	if (optind < argc) {
		(void)fprintf(stderr, "quicklayerd: %s: no operands here\n",
			      argv[optind]);
		return EXIT_USAGE;
	}
	return -1;
}

/* A path may be relative on the command line. */
static int set_path(char **at, const char *value)
{
	char *path;

	if (!value)
		return 0;
	if (*value == '/') {
		path = strdup(value);
	} else {
		_cleanup_free_ char *here = getcwd(NULL, 0);

		path = here ? ql_path_join(here, value) : NULL;
	}
	if (!path)
		return -ENOMEM;
	free(*at);
	*at = path;
	return 0;
}

static int config_load(struct ql_agent_config *config, void *arg)
{
	const struct command_line *cl = arg;
	int r = ql_agent_config_load(cl->config, config, report, NULL);

	if (r == 0 && cl->level &&
	    ql_log_level_parse(cl->level, &config->log_level) < 0) {
		report("--log-level: error, warn, info or debug is wanted",
		       NULL);
		r = -EINVAL;
	}
	if (r == 0)
		r = set_path(&config->root, cl->root);
	if (r == 0)
		r = set_path(&config->socket, cl->socket);
	if (r == 0)
		r = set_path(&config->mountpoint, cl->mountpoint);
	if (r == -ENOMEM)
		report("out of memory", NULL);
	return r;
}

int main(int argc, char **argv)
{
	_cleanup_config_ struct ql_agent_config config;
	struct command_line cl = { 0 };
	struct ql_error err = QL_ERROR_INIT;
	int r = parse(argc, argv, &cl);

	ql_agent_config_init(&config);
	if (r >= 0)
		return r;
	if (config_load(&config, &cl) < 0)
		return EXIT_FAILURE;
	if (cl.check) {
		(void)printf("ok\n");
		return fflush(stdout) == 0 ? 0 : EXIT_FAILURE;
	}
	ql_process_bound_memory(2);
	ql_process_raise_files();
	r = ql_agent_run(&config, config_load, &cl, &err);
	if (r < 0)
		report(err.text[0] ? err.text : strerror(-r), NULL);
	return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
