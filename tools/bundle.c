/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An OCI runtime bundle's config.json (runtime-spec 1.0.2, config.md and
 * config-linux.md) from an image's configuration (image-spec 1.1, config.md).
 * Capabilities, masked paths and mounts are what docker and podman give a
 * container by default, but for CAP_MKNOD: without a cgroup nothing else keeps
 * a container from the host's devices (rundir.c mounts its root nodev).
 */
#include "tools/cli.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tools/bundle.h"

static const char bundle_caps[] =
	"[\"CAP_CHOWN\",\"CAP_DAC_OVERRIDE\",\"CAP_FSETID\",\"CAP_FOWNER\","
	"\"CAP_NET_RAW\",\"CAP_SETGID\",\"CAP_SETUID\","
	"\"CAP_SETFCAP\",\"CAP_SETPCAP\",\"CAP_NET_BIND_SERVICE\","
	"\"CAP_SYS_CHROOT\",\"CAP_KILL\",\"CAP_AUDIT_WRITE\"]";

static const char bundle_mounts[] =
	"[{\"destination\":\"/proc\",\"type\":\"proc\",\"source\":\"proc\","
	"\"options\":[\"nosuid\",\"noexec\",\"nodev\"]},"
	"{\"destination\":\"/dev\",\"type\":\"tmpfs\",\"source\":\"tmpfs\","
	"\"options\":[\"nosuid\",\"strictatime\",\"mode=755\","
	"\"size=65536k\"]},"
	"{\"destination\":\"/dev/pts\",\"type\":\"devpts\","
	"\"source\":\"devpts\",\"options\":[\"nosuid\",\"noexec\","
	"\"newinstance\",\"ptmxmode=0666\",\"mode=0620\",\"gid=5\"]},"
	"{\"destination\":\"/dev/shm\",\"type\":\"tmpfs\",\"source\":\"shm\","
	"\"options\":[\"nosuid\",\"noexec\",\"nodev\",\"mode=1777\","
	"\"size=65536k\"]},"
	"{\"destination\":\"/dev/mqueue\",\"type\":\"mqueue\","
	"\"source\":\"mqueue\",\"options\":[\"nosuid\",\"noexec\","
	"\"nodev\"]},"
	"{\"destination\":\"/sys\",\"type\":\"sysfs\",\"source\":\"sysfs\","
	"\"options\":[\"nosuid\",\"noexec\",\"nodev\",\"ro\"]}]";

static const char bundle_masked[] =
	"[\"/proc/acpi\",\"/proc/asound\",\"/proc/interrupts\",\"/proc/kcore\","
	"\"/proc/keys\",\"/proc/latency_stats\",\"/proc/timer_list\","
	"\"/proc/timer_stats\",\"/proc/sched_debug\",\"/proc/scsi\","
	"\"/sys/firmware\",\"/sys/devices/virtual/powercap\"]";

static const char bundle_readonly[] =
	"[\"/proc/bus\",\"/proc/fs\",\"/proc/irq\",\"/proc/sys\","
	"\"/proc/sysrq-trigger\"]";

static json_t *literal(const char *text)
{
	return json_loads(text, 0, NULL);
}

/* ---- what to run ---- */

static int append_all(json_t *to, const json_t *from)
{
	size_t i;
	json_t *v;

	json_array_foreach (from, i, v)
		if (json_is_string(v) && json_array_append(to, v) < 0)
			return -ENOMEM;
	return 0;
}

/* Entrypoint, then the words given or else the image's Cmd. */
static int bundle_args(const json_t *config, const struct ql_cli *cli,
		       json_t **ret_args, struct ql_error *err)
{
	_cleanup_json_ json_t *args = json_array();
	int r = args ? append_all(args, json_object_get(config, "Entrypoint"))
		     : -ENOMEM;

	if (r == 0 && cli->argc == 1)
		r = append_all(args, json_object_get(config, "Cmd"));
	for (int i = 1; i < cli->argc && r == 0; i++)
		if (json_array_append_new(args, json_string(cli->argv[i])) < 0)
			r = ql_error_set(err, -EINVAL,
					 "the command is not UTF-8");
	if (r == -ENOMEM)
		return ql_error_nomem(err);
	if (r == 0 && json_array_size(args) == 0)
		return ql_error_set(err, -EINVAL,
				    "the image has no command of its own; "
				    "give one");
	if (r == 0)
		*ret_args = ql_take_ptr(args);
	return r;
}

static bool env_has(const json_t *env, const char *name)
{
	size_t len = strlen(name);
	size_t i;
	json_t *v;

	json_array_foreach (env, i, v)
		if (strncmp(json_string_value(v), name, len) == 0 &&
		    json_string_value(v)[len] == '=')
			return true;
	return false;
}

static int env_default(json_t *env, const char *name, const char *value)
{
	_cleanup_free_ char *s = NULL;

	if (env_has(env, name))
		return 0;
	s = ql_strf("%s=%s", name, value);
	return s && json_array_append_new(env, json_string(s)) == 0 ? 0
								    : -ENOMEM;
}

/* One of the same name gives way: of two, a program may take either. */
static int env_set(json_t *env, const char *variable)
{
	size_t len = strcspn(variable, "=");
	json_t *s = json_string(variable);
	size_t i;
	json_t *v;

	if (!s)
		return -EINVAL;
	json_array_foreach (env, i, v) {
		const char *old = json_string_value(v);

		if (strncmp(old, variable, len) == 0 && old[len] == '=')
			return json_array_set_new(env, i, s) < 0 ? -ENOMEM : 0;
	}
	return json_array_append_new(env, s) < 0 ? -ENOMEM : 0;
}

/* The image's variables, then those given, then what every program expects. */
static int bundle_env(const json_t *config, const struct ql_cli *cli,
		      const struct ql_user *user, json_t **ret_env,
		      struct ql_error *err)
{
	_cleanup_json_ json_t *env = json_array();
	int r = env ? 0 : -ENOMEM;
	size_t at;
	json_t *v;

	json_array_foreach (json_object_get(config, "Env"), at, v)
		if (r == 0 && json_is_string(v))
			r = env_set(env, json_string_value(v));
	for (size_t i = 0; i < cli->n_env && r == 0; i++) {
		if (!strchr(cli->env[i], '='))
			return ql_error_set(err, -EINVAL,
					    "--env %s: NAME=VALUE is wanted",
					    cli->env[i]);
		r = env_set(env, cli->env[i]);
		if (r == -EINVAL)
			return ql_error_set(err, r, "--env %s: it is not UTF-8",
					    cli->env[i]);
	}
	if (r == 0)
		r = env_default(env, "PATH",
				"/usr/local/sbin:/usr/local/bin:/usr/sbin:"
				"/usr/bin:/sbin:/bin");
	if (r == 0)
		r = env_default(env, "HOME",
				user->home && *user->home ? user->home : "/");
	if (r == 0 && cli->tty)
		r = env_default(env, "TERM", "xterm");
	if (r < 0)
		return ql_error_nomem(err);
	*ret_env = ql_take_ptr(env);
	return 0;
}

/* The first group is among them: else a program sheds it by setgid(2), and
 * with it what a file's mode denies that group (CVE-2022-36109). */
static json_t *bundle_groups(const struct ql_user *user)
{
	json_t *groups = json_array();

	(void)json_array_append_new(groups,
				    json_integer((json_int_t)user->gid));
	for (size_t i = 0; i < user->n_groups; i++)
		(void)json_array_append_new(
			groups, json_integer((json_int_t)user->groups[i]));
	return groups;
}

static int bundle_process(const json_t *config, const struct ql_cli *cli,
			  const struct ql_user *user, json_t **ret_process,
			  struct ql_error *err)
{
	_cleanup_json_ json_t *args = NULL;
	_cleanup_json_ json_t *env = NULL;
	_cleanup_json_ json_t *caps = literal(bundle_caps);
	const char *cwd = cli->workdir;
	json_t *process;
	int r = bundle_args(config, cli, &args, err);

	if (r == 0)
		r = bundle_env(config, cli, user, &env, err);
	if (r < 0)
		return r;
	if (!cwd)
		cwd = ql_json_opt_string(config, "WorkingDir", "/");
	process = json_pack("{s:b, s:{s:I, s:I, s:o}, s:O, s:O, s:s, "
			    "s:{s:O, s:O, s:O}, s:b}",
			    "terminal", cli->tty, "user", "uid",
			    (json_int_t)user->uid, "gid", (json_int_t)user->gid,
			    "additionalGids", bundle_groups(user), "args", args,
			    "env", env, "cwd", *cwd ? cwd : "/", "capabilities",
			    "bounding", caps, "effective", caps, "permitted",
			    caps, "noNewPrivileges", false);
	if (!process)
		return ql_error_set(err, -EINVAL,
				    "a word for the container is not UTF-8");
	*ret_process = process;
	return 0;
}

/* ---- where it runs ---- */

static int bundle_namespaces(const struct ql_cli *cli, json_t **ret_list,
			     struct ql_error *err)
{
	static const char *const always[] = { "pid", "ipc", "uts", "mount" };
	_cleanup_json_ json_t *list = json_array();
	const char *network = cli->network ? cli->network : "host";
	bool none = strcmp(network, "none") == 0;

	if (!none && strcmp(network, "host") != 0)
		return ql_error_set(err, -EINVAL,
				    "--network %s: host and none are there",
				    network);
	for (size_t i = 0; i < sizeof(always) / sizeof(always[0]); i++)
		(void)json_array_append_new(list, json_pack("{s:s}", "type",
							    always[i]));
	if (none)
		(void)json_array_append_new(list, json_pack("{s:s}", "type",
							    "network"));
	*ret_list = ql_take_ptr(list);
	return 0;
}

/* The host's name resolution, where its network is used. */
static json_t *bundle_mount_list(const struct ql_cli *cli)
{
	static const char *const files[] = { "/etc/resolv.conf", "/etc/hosts" };
	json_t *list = literal(bundle_mounts);

	if (cli->network && strcmp(cli->network, "host") != 0)
		return list;
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		if (access(files[i], R_OK) < 0)
			continue;
		(void)json_array_append_new(
			list,
			json_pack("{s:s, s:s, s:s, s:[s,s]}", "destination",
				  files[i], "type", "bind", "source", files[i],
				  "options", "rbind", "ro"));
	}
	return list;
}

static int bundle_config(const json_t *config, const char *rootfs,
			 const struct ql_cli *cli, const struct ql_user *user,
			 json_t **ret_spec, struct ql_error *err)
{
	_cleanup_json_ json_t *process = NULL;
	_cleanup_json_ json_t *namespaces = NULL;
	json_t *spec;
	int r = bundle_process(config, cli, user, &process, err);

	if (r == 0)
		r = bundle_namespaces(cli, &namespaces, err);
	if (r < 0)
		return r;
	spec = json_pack("{s:s, s:O, s:{s:s, s:b}, s:s, s:o, "
			 "s:{s:O, s:o, s:o}}",
			 "ociVersion", "1.0.2", "process", process, "root",
			 "path", rootfs, "readonly", cli->read_only, "hostname",
			 "quicklayer", "mounts", bundle_mount_list(cli),
			 "linux", "namespaces", namespaces, "maskedPaths",
			 literal(bundle_masked), "readonlyPaths",
			 literal(bundle_readonly));
	if (!spec)
		return ql_error_nomem(err);
	*ret_spec = spec;
	return 0;
}

int ql_bundle_write(int bundle_fd, const json_t *image_config,
		    const char *rootfs, const struct ql_cli *cli,
		    const struct ql_user *user, struct ql_error *err)
{
	_cleanup_json_ json_t *spec = NULL;
	_cleanup_close_ int fd = -1;
	int r = bundle_config(json_object_get(image_config, "config"), rootfs,
			      cli, user, &spec, err);

	if (r < 0)
		return r;
	fd = openat(bundle_fd, "config.json",
		    O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		return ql_error_errno(err, -errno, "config.json");
	if (json_dumpfd(spec, fd, JSON_INDENT(1)) < 0)
		return ql_error_set(err, -EIO, "write config.json");
	return 0;
}
