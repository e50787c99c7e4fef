/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Options by table: each has a letter by which commands list it (not always
 * one that is typed), a long name, and where its value goes.  getopt_long(3)
 * does the parsing; --help is printed from the same table.
 */
#include "tools/cli.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

struct option_def {
	char id;     /* as in struct ql_command's options */
	char letter; /* "-x", or 0 */
	const char *name;
	const char *arg; /* NULL: a flag */
	const char *help;
	size_t offset; /* in struct ql_cli; SIZE_MAX: env, which repeats */
};

#define AT(member) offsetof(struct ql_cli, member)

static const struct option_def defs[] = {
	{ 'r', 0, "root", "DIR",
	  "the store (QUICKLAYER_ROOT, /var/lib/quicklayer)", AT(root) },
	{ 'p', 0, "platform", "OS/ARCH",
	  "of a multi-platform image (this machine's)", AT(platform) },
	{ 'h', 0, "plain-http", NULL, "talk HTTP to the registry, not HTTPS",
	  AT(plain_http) },
	{ 'c', 0, "config-dir", "DIR",
	  "where registries.json is (/etc/quicklayer)", AT(config_dir) },
	{ 'F', 0, "format", "FORMAT",
	  "zstd:chunked, estargz or gzip (zstd:chunked)", AT(format) },
	{ 'v', 0, "level", "N", "of compression: zstd 1-19 (3), else 1-9 (6)",
	  AT(level) },
	{ 'W', 0, "first", "FILE",
	  "estargz: paths worth fetching ahead, one a line", AT(first) },
	{ 'K', 0, "chunk-size", "BYTES",
	  "of files that can be had by themselves (262144)", AT(chunk_size) },
	{ 'n', 0, "parallel", "N", "layers at once (3; push: 2)",
	  AT(parallel) },
	{ 'o', 0, "to", "REPO[:TAG]",
	  "where they go; {name} and {tag} are the old image's", AT(to) },
	{ 'M', 0, "max-layers", "N", "of an image (20)", AT(max_layers) },
	{ 'X', 0, "relax", "mtime",
	  "files that differ in their times alone are the same", AT(relax) },
	{ 'I', 0, "incremental", NULL,
	  "keep layers that the images at the destination have",
	  AT(incremental) },
	{ 'D', 0, "dry-run", NULL, "only say what would be", AT(dry_run) },
	{ 'V', 0, "picture", "FILE", "draw the layers over the images (SVG)",
	  AT(picture) },
	{ 'y', 0, "policy", "NAME[,...]", "these alone (all)", AT(policy) },
	{ 'B', 0, "budget", "N[%][,...]",
	  "bytes, or shares of all layers (2%,5%,10%,20%,40%)", AT(budget) },
	{ 'E', 0, "budget", "SIZE",
	  "what the store may take: 500MiB, 40% of the disk, or none",
	  AT(budget) },
	{ 'H', 0, "reserve", "SIZE", "what stays free of the disk (8MiB)",
	  AT(reserve) },
	{ 'C', 0, "free", "SIZE", "free so much of the disk, too",
	  AT(free_bytes) },
	{ 'Y', 0, "for", "TIME",
	  "for so long (30m, 2h, 7d), from going by themselves alone",
	  AT(duration) },
	{ 'Q', 0, "bandwidth", "MBIT[,...]",
	  "of the registry; and of peers, with what they have (100,400,0%)",
	  AT(bandwidth) },
	{ 'O', 0, "plot", "FILE", "draw byte hit ratios over budgets (SVG)",
	  AT(plot) },
	{ 'J', 0, "repair", NULL,
	  "fetch again what is damaged or missing, and put counts right",
	  AT(repair) },
	{ 'd', 0, "rate", "RATE", "read so fast at most, as in 20MB/s",
	  AT(rate) },
	{ 's', 0, "nodes", "FILE", "the sites, links and nodes (JSON)",
	  AT(nodes) },
	{ 'a', 0, "apply", NULL, "have the nodes carry it out, and wait",
	  AT(apply) },
	{ '4', 0, "kubernetes", NULL,
	  "the nodes of the Kubernetes cluster around this pod",
	  AT(kubernetes) },
	{ '5', 0, "kubernetes-url", "URL", "the nodes that this API has",
	  AT(kube_url) },
	{ '6', 0, "kubernetes-token", "FILE", "the API's bearer token",
	  AT(kube_token) },
	{ '7', 0, "kubernetes-ca", "FILE", "whose certificate the API shows",
	  AT(kube_ca) },
	{ '8', 0, "cluster", "NAME", "the nodes' peers.cluster (default)",
	  AT(cluster) },
	{ '1', 0, "tls-ca", "FILE", "whose certificates nodes must show",
	  AT(tls_ca) },
	{ '2', 0, "tls-cert", "FILE", "what is shown to nodes", AT(tls_cert) },
	{ '3', 0, "tls-key", "FILE", "its key", AT(tls_key) },
	{ 'q', 'q', "quiet", NULL, "no progress, and digests only", AT(quiet) },
	{ 'j', 0, "json", NULL, "print JSON", AT(json) },
	{ 'm', 0, "mode", "MODE", "auto or fuse (auto)", AT(mode) },
	{ 'f', 'f', "foreground", NULL, "serve in this process",
	  AT(foreground) },
	{ 'P', 0, "no-passthrough", NULL,
	  "serve reads here, for a nested overlayfs", AT(no_passthrough) },
	{ 'l', 'l', "lazy", NULL, "detach also what is busy", AT(lazy) },
	{ 'U', 0, "full", NULL, "bring all of it now, not when it is read",
	  AT(full) },
	{ 'Z', 0, "lazy", NULL,
	  "what can come when it is read is not fetched now (the default)",
	  AT(lazy) },
	{ 'G', 0, "push", NULL, "to the image's registry", AT(push) },
	{ 'T', 0, "trace", "FILE", "only what this trace names", AT(trace) },
	{ 'L', 'l', "long", NULL, "mode, owner, size and time too",
	  AT(long_format) },
	{ 'S', 'R', "recursive", NULL, "folders' content too", AT(recursive) },
	{ 't', 't', "tty", NULL, "give the container a terminal", AT(tty) },
	{ 'R', 0, "read-only", NULL, "the container may not write to its root",
	  AT(read_only) },
	{ 'N', 0, "network", "NET", "host or none (host)", AT(network) },
	{ 'x', 0, "runtime", "PROGRAM", "an OCI runtime (crun, else runc)",
	  AT(runtime) },
	{ 'u', 'u', "user", "USER[:GROUP]", "run as this user (the image's)",
	  AT(user) },
	{ 'w', 'w', "workdir", "DIR", "start in this folder (the image's)",
	  AT(workdir) },
	{ 'e', 'e', "env", "NAME=VALUE", "set a variable; may be repeated",
	  SIZE_MAX },
	{ 'k', 0, "socket", "PATH",
	  "the agent's (QUICKLAYER_SOCKET, or by the root)", AT(socket) },
	{ 'A', 0, "no-agent", NULL, "do it here, not by a running agent",
	  AT(no_agent) },
	{ 'b', 'q', "brief", NULL, "print nothing, only the exit status",
	  AT(brief) },
};
enum { DEFS = sizeof(defs) / sizeof(defs[0]), HELP_ID = 1 };

static bool takes(const struct ql_command *cmd, const struct option_def *def)
{
	return strchr(cmd->options, def->id) != NULL;
}

void ql_options_help(const struct ql_command *cmd)
{
	(void)printf("Usage: quicklayer %s [OPTION...]%s%s\n\n%s.\n\n"
		     "Options:\n",
		     cmd->name, *cmd->operands ? " " : "", cmd->operands,
		     cmd->summary);
	for (size_t i = 0; i < DEFS; i++) {
		char left[64];

		if (!takes(cmd, &defs[i]))
			continue;
		(void)snprintf(left, sizeof(left), "%c%c%s --%s%s%s",
			       defs[i].letter ? '-' : ' ',
			       defs[i].letter ? defs[i].letter : ' ',
			       defs[i].letter ? "," : " ", defs[i].name,
			       defs[i].arg ? " " : "",
			       defs[i].arg ? defs[i].arg : "");
		(void)printf("  %-28s  %s\n", left, defs[i].help);
	}
	(void)printf("  %-28s  %s\n", "-h, --help", "print this");
}

static int set_env(struct ql_cli *cli, const char *value)
{
	const char **grown =
		reallocarray(cli->env, cli->n_env + 1, sizeof(*grown));

	if (!grown)
		return -ENOMEM;
	cli->env = grown;
	cli->env[cli->n_env++] = value;
	return 0;
}

static int set_option(struct ql_cli *cli, const struct option_def *def,
		      const char *value)
{
	char *base = (char *)cli;

	if (def->offset == SIZE_MAX)
		return set_env(cli, value);
	if (def->arg)
		memcpy(base + def->offset, &value, sizeof(value));
	else
		base[def->offset] = true; /* a bool */
	return 0;
}

/* The tables that getopt_long wants, of what the command takes. */
static void build_getopt(const struct ql_command *cmd, char *letters,
			 struct option *longs)
{
	/* '+': stop at the first operand; ':': no messages of its own. */
	if (cmd->passes_on)
		*letters++ = '+';
	*letters++ = ':';
	*letters++ = 'h';
	*longs++ = (struct option){ "help", no_argument, NULL, HELP_ID };
	for (size_t i = 0; i < DEFS; i++) {
		if (!takes(cmd, &defs[i]))
			continue;
		*longs++ = (struct option){ defs[i].name,
					    defs[i].arg ? required_argument
							: no_argument,
					    NULL, defs[i].id + 256 };
		if (!defs[i].letter)
			continue;
		*letters++ = defs[i].letter;
		if (defs[i].arg)
			*letters++ = ':';
	}
	*letters = '\0';
	*longs = (struct option){ 0 };
}

static const struct option_def *find_def(const struct ql_command *cmd, int c)
{
	for (size_t i = 0; i < DEFS; i++)
		if (takes(cmd, &defs[i]) &&
		    (c == defs[i].id + 256 || (c < 256 && c == defs[i].letter)))
			return &defs[i];
	return NULL;
}

static int usage(const struct ql_command *cmd, const char *what,
		 const char *which)
{
	(void)fprintf(stderr,
		      "quicklayer: %s: %s%s%s; see quicklayer %s --help\n",
		      cmd->name, which, *which ? ": " : "", what, cmd->name);
	return QL_EXIT_USAGE + 1;
}

static int check_operands(const struct ql_command *cmd,
			  const struct ql_cli *cli)
{
	if (cli->argc < cmd->min)
		return usage(cmd, "an operand is missing", "");
	if (cmd->max >= 0 && cli->argc > cmd->max)
		return usage(cmd, "one operand too many", cli->argv[cmd->max]);
	return 0;
}

int ql_options_parse(const struct ql_command *cmd, int argc, char **argv,
		     struct ql_cli *ret_cli)
{
	struct option longs[DEFS + 2];
	char letters[2 * DEFS + 4];
	struct ql_cli cli = { 0 };
	int r;
	int c;

	build_getopt(cmd, letters, longs);
	opterr = 0;
	while ((c = getopt_long(argc, argv, letters, longs, NULL)) != -1) {
		const char *word = argv[optind - 1];
		const struct option_def *def = find_def(cmd, c);

		if (c == HELP_ID || c == 'h') {
			ql_options_help(cmd);
			ql_options_release(&cli);
			return QL_EXIT_OK + 1;
		}
		if (!def) {
			ql_options_release(&cli);
			return usage(cmd,
				     c == ':' ? "it needs a value"
					      : "no such option",
				     word);
		}
		if (set_option(&cli, def, optarg) < 0) {
			ql_options_release(&cli);
			(void)fprintf(stderr, "quicklayer: out of memory\n");
			return QL_EXIT_FAILED + 1;
		}
	}
	cli.argc = argc - optind;
	cli.argv = argv + optind;
	r = check_operands(cmd, &cli);
	if (r == 0)
		*ret_cli = cli;
	else
		ql_options_release(&cli);
	return r;
}

void ql_options_release(struct ql_cli *cli)
{
	free(cli->env);
}

int ql_number_parse(const char *option, const char *text, uint64_t min,
		    uint64_t max, uint64_t *ret, struct ql_error *err)
{
	char *end;
	unsigned long long n;

	*ret = 0;
	if (!text)
		return 0;
	errno = 0;
	n = strtoull(text, &end, 10);
	if (errno || *end || *text < '0' || *text > '9' || n < min || n > max)
		return ql_error_set(err, -EINVAL,
				    "--%s %s: a number from %" PRIu64
				    " to %" PRIu64 " is wanted",
				    option, text, min, max);
	*ret = n;
	return 0;
}

int ql_push_options_parse(const struct ql_cli *cli, struct ql_push_options *ret,
			  struct ql_error *err)
{
	const char *format = cli->format ? cli->format : "zstd:chunked";
	uint64_t level = 0;
	uint64_t chunk = 0;
	int r = ql_push_format_parse(format, &ret->format, err);

	if (r == 0)
		r = ql_number_parse("level", cli->level, 1,
				    ret->format == QL_PUSH_ZSTD_CHUNKED ? 19
									: 9,
				    &level, err);
	if (r == 0)
		r = ql_number_parse("chunk-size", cli->chunk_size, 4 << 10,
				    16 << 20, &chunk, err);
	ret->level = (int)level;
	ret->chunk_size = (uint32_t)chunk;
	ret->platform = cli->platform;
	ret->plain_http = cli->plain_http;
	ret->config_dir = cli->config_dir;
	return r;
}

int ql_usage(const char *command, const struct ql_error *err)
{
	(void)fprintf(stderr, "quicklayer: %s: %s; see quicklayer %s --help\n",
		      command, err->text, command);
	return QL_EXIT_USAGE;
}
