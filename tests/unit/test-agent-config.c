/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fs/agent-config.c, store/base/units.c: what the configuration may say, and
 * that each thing that it may not is named with its line; agent-notify.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "fs/agent.h"
#include "tests/unit/scratch.h"

static struct ql_agent_config config;
static struct ql_buf findings = QL_BUF_INIT(1 << 16);

static void collect(const char *finding, void *arg)
{
	(void)arg;
	if (ql_buf_addf(&findings, "%s\n", finding) < 0)
		abort();
}

static int parse(const char *yaml)
{
	ql_agent_config_release(&config);
	ql_agent_config_init(&config);
	ql_buf_clear(&findings);
	return ql_agent_config_parse("f", yaml, strlen(yaml), &config, collect,
				     NULL);
}

static void good(const char *yaml)
{
	if (parse(yaml) < 0)
		fail_msg("%s", ql_buf_str(&findings));
	assert_string_equal(ql_buf_str(&findings), "");
}

/* All findings, each a line. */
static void bad(const char *yaml, const char *want)
{
	assert_int_equal(parse(yaml), -EINVAL);
	assert_string_equal(ql_buf_str(&findings), want);
}

/* YAML's own words are libyaml's. */
static void bad_syntax(const char *yaml, const char *start)
{
	assert_int_equal(parse(yaml), -EINVAL);
	if (strncmp(ql_buf_str(&findings), start, strlen(start)) != 0)
		fail_msg("%s", ql_buf_str(&findings));
}

static void nothing_is_the_defaults(void **state)
{
	(void)state;
	good("");
	good("# only words\n");
	good("{}");
	assert_null(config.root);
	assert_int_equal(config.log_level, QL_LOG_INFO);
	assert_int_equal(config.max_parallel_downloads, 3);
	assert_true(config.fuse.passthrough);
	assert_int_equal(config.fill.read_timeout, 30000000000);
	assert_true(config.fill.background_rate == UINT64_MAX);
	assert_int_equal(config.cache.budget.kind, QL_BUDGET_UNSAID);
	assert_int_equal(config.cache.reserve.kind, QL_BUDGET_UNSAID);
}

static void every_key_is_taken(void **state)
{
	(void)state;
	good("root: /r\nsocket: /s\nsocket_group: g\nmountpoint: \"/m n\"\n"
	     "registries: /e\nlog_level: debug\nmax_parallel_downloads: 7\n"
	     "max_pulls: 9\nmax_connections: 11\nread_timeout: 250ms\n"
	     "background_rate: 10MB/s\n"
	     "cache:\n  budget: 12.5%\n  reserve: 64MiB\n"
	     "fuse:\n  threads: 5\n  passthrough: false\n");
	assert_string_equal(config.root, "/r");
	assert_string_equal(config.socket, "/s");
	assert_string_equal(config.socket_group, "g");
	assert_string_equal(config.mountpoint, "/m n");
	assert_string_equal(config.registries, "/e");
	assert_int_equal(config.log_level, QL_LOG_DEBUG);
	assert_int_equal(config.max_parallel_downloads, 7);
	assert_int_equal(config.max_pulls, 9);
	assert_int_equal(config.fill.connections, 11);
	assert_int_equal(config.fill.read_timeout, 250000000);
	assert_int_equal(config.fill.background_rate, 10000000);
	assert_int_equal(config.fuse.threads, 5);
	assert_false(config.fuse.passthrough);
	assert_int_equal(config.cache.budget.kind, QL_BUDGET_SHARE);
	assert_int_equal(ql_budget_bytes(&config.cache.budget, 800), 100);
	assert_int_equal(config.cache.reserve.kind, QL_BUDGET_BYTES);
	assert_int_equal(config.cache.reserve.n, 67108864);
	good("cache: {reserve: 0, budget: none}");
	assert_int_equal(config.cache.budget.kind, QL_BUDGET_NONE);
	assert_int_equal(ql_budget_bytes(&config.cache.budget, 800), 0);
	assert_int_equal(config.cache.reserve.kind, QL_BUDGET_BYTES);
}

static void the_example_is_good_and_names_every_key(void **state)
{
	_cleanup_buf_ struct ql_buf buf = QL_BUF_INIT(1 << 16);
	const char *path = "tools/quicklayerd.yaml";
	char *line;

	(void)state;
	ql_agent_config_release(&config);
	ql_agent_config_init(&config);
	ql_buf_clear(&findings);
	assert_int_equal(ql_agent_config_load(path, &config, collect, NULL), 0);
	/* Without the comment signs before keys it says the same. */
	assert_int_equal(ql_read_file(AT_FDCWD, path, &buf, NULL), 0);
	for (line = buf.data; line; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (line[0] == '#' && line[1] != ' ' && line[1] != '\n')
			memmove(line, line + 1, strlen(line));
		else if (strncmp(line, "  #", 3) == 0 && line[3] != ' ')
			memmove(line + 2, line + 3, strlen(line + 2));
	}
	good(buf.data);
	assert_string_equal(config.root, "/var/lib/quicklayer");
	assert_string_equal(config.mountpoint, "/run/quicklayer/mnt");
	assert_int_equal(config.fill.read_timeout, 30000000000);
	assert_int_equal(config.fuse.threads, 4);
	assert_int_equal(config.max_pulls, 4);
	assert_int_equal(config.fill.connections, 8);
	assert_int_equal(config.cache.budget.kind, QL_BUDGET_NONE);
	assert_int_equal(config.cache.reserve.n, 8388608);
}

static void what_is_wrong_is_named(void **state)
{
	(void)state;
	bad("rot: /r\n", "f:1: rot: no such key\n");
	bad("root: relative\n", "f:1: root: an absolute path is wanted\n");
	bad("\nroot: [a, b]\n", "f:2: root: an absolute path is wanted\n");
	bad("root: {a: {b: c}}\n", "f:1: root: an absolute path is wanted\n");
	bad("root: /a\nroot: /b\n", "f:2: root: is there twice\n");
	bad("max_pulls: 0\n", "f:1: max_pulls: a number from 1 to 64 is "
			      "wanted\n");
	bad("max_pulls: 65\n", "f:1: max_pulls: a number from 1 to 64 is "
			       "wanted\n");
	bad("max_pulls: 1kB\n", "f:1: max_pulls: a number from 1 to 64 is "
				"wanted\n");
	bad("max_pulls:\n", "f:1: max_pulls: a number from 1 to 64 is "
			    "wanted\n");
	bad("log_level: loud\n",
	    "f:1: log_level: error, warn, info or debug is wanted\n");
	bad("fuse: {passthrough: yes}\n",
	    "f:1: fuse.passthrough: true or false is wanted\n");
	bad("read_timeout: 2h\n", "f:1: read_timeout: a time from 100ms to 1h, "
				  "as in 30s is wanted\n");
	bad("background_rate: fast\n",
	    "f:1: background_rate: bytes per second, as in 10MB/s, or "
	    "unlimited is wanted\n");
	bad("fuse: 3\n", "f:1: fuse: a mapping is wanted\n");
	bad("fuse: [1]\n", "f:1: fuse: a mapping is wanted\n");
	bad("fuse: {thread: 3}\n", "f:1: fuse.thread: no such key\n");
	bad("fuse: {threads: 3}\nfuse: {}\n", "f:2: fuse: is there twice\n");
	bad("threads: 3\n", "f:1: threads: no such key\n");
	bad("fuse.threads: 3\n", "f:1: fuse.threads: no such key\n");
	bad("- a\n", "f:1: a mapping is wanted\n");
	bad("just words\n", "f:1: a mapping is wanted\n");
	bad("[a]: b\n", "f:1: a key that is no word\nf:1: ?: no such key\n");
}

static void budgets_are_bytes_or_shares(void **state)
{
	static const char *const bad_ones[] = {
		"0",
		"0%",
		"-1",
		"-5%",
		"101%",
		"100.1%",
		"0.00001%",
		"many",
		"40 percent",
		"5%%",
		"'%'",
		"''",
		"18446744073709551616",
		"1e9",
		"None",
		"[1]",
		"8000kB",
		"500MiB/s",
	};
	struct ql_budget b;

	(void)state;
	for (size_t i = 0; i < sizeof(bad_ones) / sizeof(bad_ones[0]); i++) {
		_cleanup_free_ char *text =
			ql_strf("cache:\n  budget: %s\n", bad_ones[i]);

		bad(text, "f:2: cache.budget: bytes, as in 500MiB (at least "
			  "8MiB), a share of "
			  "the filesystem, as in 40%, or none is wanted\n");
	}
	bad("cache: {reserve: 5%}\n",
	    "f:1: cache.reserve: bytes, as in 64MiB is wanted\n");
	bad("cache: {reserve: none}\n",
	    "f:1: cache.reserve: bytes, as in 64MiB is wanted\n");
	bad("cache: {size: 1}\n", "f:1: cache.size: no such key\n");
	bad("cache: 500MiB\n", "f:1: cache: a mapping is wanted\n");
	bad("cache: {}\nfuse: {}\ncache: {}\n", "f:3: cache: is there twice\n");
	assert_int_equal(ql_units_budget("100%", &b), 0);
	assert_int_equal(ql_budget_bytes(&b, UINT64_MAX), UINT64_MAX);
	assert_int_equal(ql_units_budget("500MiB", &b), 0);
	assert_int_equal(ql_budget_bytes(&b, 17), 524288000);
	assert_int_equal(ql_units_budget("0.5 GB", &b), 0);
	assert_int_equal(ql_budget_bytes(&b, 0), 500000000);
}

static void peers_are_taken(void **state)
{
	(void)state;
	good("peers: {}");
	assert_null(config.peers.listen);
	assert_int_equal(config.peers.list.n, 0);
	assert_true(config.peers.upload_rate == UINT64_MAX);
	assert_true(config.peers.upload_rate_per_peer == UINT64_MAX);
	assert_int_equal(config.peers.share, QL_PEER_SHARE_ANONYMOUS);
	assert_int_equal(config.peers.relay, 64 << 20);
	good("peers:\n  listen: '[::]:7143'\n"
	     "  list:\n  - a.b:1\n  - '[fd00::1]:2'\n  - 10.0.0.1:65535\n"
	     "  dns: [n:3]\n  name: node-1.x\n  site: s_1\n  cluster: 7up\n"
	     "  ca: /ca\n  cert: /cert\n  key: /key\n"
	     "  allow: [10.0.0.0/8, 192.168.1.7, 'fd00::/8', '::/0']\n"
	     "  upload_rate: 10MB/s\n  upload_rate_per_peer: 1MB/s\n"
	     "  share: none\n  relay: 0\n");
	assert_string_equal(config.peers.listen, "[::]:7143");
	assert_int_equal(config.peers.list.n, 3);
	assert_string_equal(config.peers.list.items[0], "a.b:1");
	assert_string_equal(config.peers.list.items[2], "10.0.0.1:65535");
	assert_int_equal(config.peers.dns.n, 1);
	assert_string_equal(config.peers.name, "node-1.x");
	assert_string_equal(config.peers.site, "s_1");
	assert_string_equal(config.peers.cluster, "7up");
	assert_string_equal(config.peers.key, "/key");
	assert_int_equal(config.peers.allow.n, 4);
	assert_int_equal(config.peers.upload_rate, 10000000);
	assert_int_equal(config.peers.upload_rate_per_peer, 1000000);
	assert_int_equal(config.peers.share, QL_PEER_SHARE_NONE);
	assert_int_equal(config.peers.relay, 0);
	good("peers: {list: [], share: all}");
	assert_int_equal(config.peers.share, QL_PEER_SHARE_ALL);
}

static void wrong_peers_are_named(void **state)
{
	static const char *const hosts[] = {
		"a",	   "a:0",   "a:65536", "':1'",		 "a:x",
		"'a b:1'", "::1:1", "'[]:1'",  "'[a]:1'",	 "-a:1",
		"a/b:1",   "''",    "[x]",     "{a: 1}",	 "a:",
		"'[::1]'", "a:+1",  "a:1:2",   "'[10.0.0.1]:1'",
	};
	static const char *const nets[] = {
		"10.0.0.0/33",	 "10.0.0.1/8", "10.0.0/8",  "a",
		"'fd00::1/8'",	 "'::/129'",   "10.0.0.0/", "10.0.0.0/8/8",
		"'10.0.0.0/ 8'", "''",
	};
	static const char *const listens[] = {
		"7143",		 "localhost:7143", "0.0.0.0", "'::1:7143'",
		"0.0.0.0:65536", "'[0.0.0.0]:1'",  "[1]",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(hosts) / sizeof(hosts[0]); i++) {
		_cleanup_free_ char *text =
			ql_strf("peers:\n  list:\n  - a:1\n  - %s\n", hosts[i]);

		bad(text, "f:4: peers.list: a sequence of HOST:PORT is "
			  "wanted\n");
	}
	for (size_t i = 0; i < sizeof(nets) / sizeof(nets[0]); i++) {
		_cleanup_free_ char *text =
			ql_strf("peers:\n  allow: [%s]\n", nets[i]);

		bad(text, "f:2: peers.allow: a sequence of addresses or "
			  "networks, as in 10.0.0.0/8 is wanted\n");
	}
	for (size_t i = 0; i < sizeof(listens) / sizeof(listens[0]); i++) {
		_cleanup_free_ char *text =
			ql_strf("peers: {listen: %s}\n", listens[i]);

		bad(text, "f:1: peers.listen: an address and a port, as in "
			  "0.0.0.0:7143 or [::]:7143 is wanted\n");
	}
	bad("peers: {dns: n:1}", "f:1: peers.dns: a sequence of NAME:PORT is "
				 "wanted\n");
	bad("peers: {dns: {a: b}}", "f:1: peers.dns: a sequence of NAME:PORT "
				    "is wanted\n");
	bad("peers: {dns: &a [n:1]}", "f:1: peers.dns: a sequence of "
				      "NAME:PORT is wanted\n");
	bad("peers: {dns: [n:1], dns: []}", "f:1: peers.dns: is there twice\n");
	bad("peers: {dns: [n:1], dns: [[n:1]], site: ' '}",
	    "f:1: peers.dns: is there twice\n"
	    "f:1: peers.site: a name of letters, digits, '.', '-' and '_' is "
	    "wanted\n");
	bad("peers: {name: .x}", "f:1: peers.name: a name of letters, digits, "
				 "'.', '-' and '_' is wanted\n");
	bad("peers: {share: some}",
	    "f:1: peers.share: anonymous, all or none is wanted\n");
	bad("peers: {upload_rate: off}",
	    "f:1: peers.upload_rate: bytes per second, as in 10MB/s, or "
	    "unlimited is wanted\n");
	bad("peers: {relay: -1}",
	    "f:1: peers.relay: bytes, as in 64MiB, or 0 is wanted\n");
	bad("peers:\n  ca: /ca\n  key: /key\n",
	    "f:3: peers: ca, cert and key are wanted together\n");
}

static void all_errors_are_told(void **state)
{
	(void)state;
	bad("rot: /r\nmax_pulls: x\nfuse:\n  threads: 99\n  more: [1, {a: b}]\n"
	    "socket_group: ''\n",
	    "f:1: rot: no such key\n"
	    "f:2: max_pulls: a number from 1 to 64 is wanted\n"
	    "f:4: fuse.threads: a number from 1 to 64 is wanted\n"
	    "f:5: fuse.more: no such key\n"
	    "f:6: socket_group: the name of a group is wanted\n");
}

static void yaml_beyond_plain_values_is_refused(void **state)
{
	(void)state;
	bad("root: &a /r\nsocket: *a\n",
	    "f:1: root: an absolute path is wanted\n"
	    "f:2: socket: an absolute path is wanted\n");
	bad("root: !!str /r\n", "f:1: root: an absolute path is wanted\n");
	bad("root: \"/a\\0b\"\n", "f:1: root: an absolute path is wanted\n");
	bad("root: /r\n---\nroot: /s\n", "f:2: a second document\n");
	bad_syntax("root: \"/a\n", "f:2: not valid YAML: ");
	bad_syntax("root: /a\n bad: indent\n", "f:2: not valid YAML: ");
	bad_syntax("root: \"\xff\"\n", "f:1: not valid YAML: ");
}

static void units_are_what_they_say(void **state)
{
	static const struct {
		const char *text;
		uint64_t n;
	} sizes[] = { { "0", 0 },
		      { "17", 17 },
		      { "1B", 1 },
		      { "2 kB", 2000 },
		      { "3MB", 3000000 },
		      { "1.5 GiB", 1610612736 },
		      { "0.000000001TB", 1000 },
		      { "1TiB", 1099511627776 } };
	static const char *const none[] = { "",
					    "B",
					    "1 ",
					    " 1",
					    "1 KB ",
					    "1.",
					    ".5",
					    "-1",
					    "1e3",
					    "1 mB",
					    "0x1",
					    "1..2",
					    "99999999999999999999",
					    "18446744073709551615KB",
					    "1.0000000001" };
	uint64_t n;

	(void)state;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		assert_int_equal(ql_units_bytes(sizes[i].text, &n), 0);
		assert_int_equal(n, sizes[i].n);
	}
	for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++)
		assert_true(ql_units_bytes(none[i], &n) < 0);
	assert_int_equal(ql_units_rate("unlimited", &n), 0);
	assert_true(n == UINT64_MAX);
	assert_int_equal(ql_units_rate("2MiB/s", &n), 0);
	assert_int_equal(n, 2097152);
	assert_int_equal(ql_units_rate("/s", &n), -EINVAL);
	assert_int_equal(ql_units_link("100Mbit/s", &n), 0);
	assert_int_equal(n, 12500000);
	assert_int_equal(ql_units_link("100MB/s", &n), -EINVAL);
	assert_int_equal(ql_units_share("12.5%", &n), 0);
	assert_int_equal(n, 125000);
	assert_int_equal(ql_units_duration("1.5s", &n), 0);
	assert_int_equal(n, 1500000000);
	assert_int_equal(ql_units_duration("2m", &n), 0);
	assert_int_equal(n, 120000000000);
	assert_int_equal(ql_units_duration("2d", &n), 0);
	assert_int_equal(n, 172800000000000);
	assert_int_equal(ql_units_duration("5 minutes", &n), -EINVAL);
}

/* A socket that is told things; name begins with '@' or '/'. */
static void notified(const char *name)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
	size_t len = strlen(name);
	char got[128];
	ssize_t n;

	assert_true(fd >= 0);
	memcpy(addr.sun_path, name, len);
	if (name[0] == '@')
		addr.sun_path[0] = 0;
	assert_int_equal(
		bind(fd, (struct sockaddr *)&addr,
		     (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len)),
		0);
	assert_int_equal(setenv("NOTIFY_SOCKET", name, 1), 0);
	ql_notify("READY=1\nSTATUS=x");
	n = recv(fd, got, sizeof(got), MSG_DONTWAIT);
	assert_int_equal(n, strlen("READY=1\nSTATUS=x"));
	assert_memory_equal(got, "READY=1\nSTATUS=x", (size_t)n);
	(void)close(fd);
	if (name[0] == '/')
		(void)unlink(name);
}

static void who_started_us_is_told(void **state)
{
	char dir[] = "/tmp/quicklayer-unit.XXXXXX", name[64];

	(void)state;
	(void)scratch_dir(dir);
	(void)snprintf(name, sizeof(name), "%s/notify", dir);
	notified(name);
	assert_int_equal(rmdir(dir), 0);
	(void)snprintf(name, sizeof(name), "@quicklayer-unit-%ld",
		       (long)getpid());
	notified(name);
	/* Nobody there, a name that is none: no harm. */
	ql_log_set_level(QL_LOG_ERROR);
	ql_notify("READY=1");
	assert_int_equal(setenv("NOTIFY_SOCKET", "vsock:1", 1), 0);
	ql_notify("READY=1");
	assert_int_equal(unsetenv("NOTIFY_SOCKET"), 0);
	ql_notify("READY=1");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_is_the_defaults),
		cmocka_unit_test(every_key_is_taken),
		cmocka_unit_test(the_example_is_good_and_names_every_key),
		cmocka_unit_test(what_is_wrong_is_named),
		cmocka_unit_test(budgets_are_bytes_or_shares),
		cmocka_unit_test(peers_are_taken),
		cmocka_unit_test(wrong_peers_are_named),
		cmocka_unit_test(all_errors_are_told),
		cmocka_unit_test(yaml_beyond_plain_values_is_refused),
		cmocka_unit_test(units_are_what_they_say),
		cmocka_unit_test(who_started_us_is_told),
	};
	int r;

	cmocka_set_message_output(CM_OUTPUT_TAP);
	r = cmocka_run_group_tests(tests, NULL, NULL);
	ql_agent_config_release(&config);
	ql_buf_release(&findings);
	return r;
}
