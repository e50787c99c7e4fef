/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The FUSE server: mounts, answers until the mount is gone or a signal comes
 * (TERM, INT, HUP: the mount is then taken away, lazily where it is busy).
 *
 * As root the mount(2) is made here: it says why it fails, starts no helper,
 * and allows set-user-ID files and devices, which a container's root needs
 * and which only root could have put into the store.  For anyone else libfuse
 * asks fusermount3, which allows neither.
 *
 * What is asked of the kernel in INIT (libfuse fuse_common.h, FUSE_CAP_*):
 * readdirplus always, so that a first walk is one request per directory and
 * not one per file; cached symlinks; lookups and listings in one directory
 * side by side; file handles; POSIX ACLs only where the image has some, since
 * the kernel then has to ask about every inode that it checks.
 */
#include <errno.h>
#include <fcntl.h>
#include <fuse_log.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "fs/fs-private.h"

enum {
	THREADS_MIN = 2,
	THREADS_MAX = 8, /* by default; more only wait for the disk */
	BACKGROUND = 64, /* requests, of readahead */
	IDLE_TREES = 256,
};

static void want(struct fuse_conn_info *conn, uint64_t flag)
{
#ifdef FUSE_CAP_OVER_IO_URING
	(void)fuse_set_feature_flag(conn, flag);
#else
	conn->want |= conn->capable & (unsigned int)flag;
#endif
}

static void unwant(struct fuse_conn_info *conn, uint64_t flag)
{
#ifdef FUSE_CAP_OVER_IO_URING
	fuse_unset_feature_flag(conn, flag);
#else
	conn->want &= ~(unsigned int)flag;
#endif
}

static void op_init(void *userdata, struct fuse_conn_info *conn)
{
	struct ql_fs *fs = userdata;

	want(conn, FUSE_CAP_READDIRPLUS);
	unwant(conn, FUSE_CAP_READDIRPLUS_AUTO);
	want(conn, FUSE_CAP_CACHE_SYMLINKS);
	want(conn, FUSE_CAP_PARALLEL_DIROPS);
	want(conn, FUSE_CAP_EXPORT_SUPPORT);
	want(conn, FUSE_CAP_NO_OPENDIR_SUPPORT);
	want(conn, FUSE_CAP_ASYNC_READ);
	want(conn, FUSE_CAP_SPLICE_WRITE);
	unwant(conn, FUSE_CAP_SPLICE_READ); /* requests are small */
	unwant(conn, FUSE_CAP_AUTO_INVAL_DATA);
	want(conn, FUSE_CAP_EXPLICIT_INVAL_DATA);
#ifdef FUSE_CAP_OVER_IO_URING
	unwant(conn, FUSE_CAP_OVER_IO_URING); /* large buffers per CPU */
#endif
	if (!fs->tree || ql_tree_has_acl(fs->tree))
		want(conn, FUSE_CAP_POSIX_ACL);
#ifdef FUSE_CAP_PASSTHROUGH
	if (atomic_load(&fs->passthrough)) {
		/* Objects lie on no stacked file system, so that overlayfs
		 * can be stacked on this one. */
		want(conn, FUSE_CAP_PASSTHROUGH);
		conn->max_backing_stack_depth = FUSE_BACKING_STACKED_UNDER;
	}
#endif
	conn->max_background = BACKGROUND;
	conn->congestion_threshold = BACKGROUND * 3 / 4;
	conn->time_gran = 1;
	if (fs->ready)
		fs->ready(fs->ready_arg);
}

static const struct fuse_lowlevel_ops ops = {
	.init = op_init,
	.lookup = ql_op_lookup,
	.forget = ql_op_forget,
	.forget_multi = ql_op_forget_multi,
	.getattr = ql_op_getattr,
	.readlink = ql_op_readlink,
	.open = ql_op_open,
	.read = ql_op_read,
	.release = ql_op_release,
	.opendir = ql_op_opendir,
	.readdir = ql_op_readdir,
	.readdirplus = ql_op_readdirplus,
	.statfs = ql_op_statfs,
	.getxattr = ql_op_getxattr,
	.listxattr = ql_op_listxattr,
};

static void log_libfuse(enum fuse_log_level level, const char *fmt, va_list ap)
{
	char text[256];

	(void)level;
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	text[strcspn(text, "\n")] = 0;
	ql_debug("%s", text);
}

static unsigned int thread_count(unsigned int asked)
{
	long n = sysconf(_SC_NPROCESSORS_ONLN);

	if (asked > 0)
		return asked;
	if (n < THREADS_MIN)
		return THREADS_MIN;
	return n > THREADS_MAX ? THREADS_MAX : (unsigned int)n;
}

/* An object that is open takes a descriptor; ask for what is allowed. */
static void raise_nofile(void)
{
	struct rlimit lim;

	if (getrlimit(RLIMIT_NOFILE, &lim) == 0) {
		lim.rlim_cur = lim.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &lim);
	}
}

static int mount_as_root(struct fuse_session *se, const char *dir,
			 const char *source, struct ql_error *err)
{
	_cleanup_close_ int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	char data[160], path[32];
	int r;

	if (fd < 0)
		return ql_error_errno(err, -errno, "/dev/fuse");
	(void)snprintf(data, sizeof(data),
		       "fd=%d,rootmode=40000,user_id=%u,group_id=%u,"
		       "default_permissions,allow_other",
		       fd, getuid(), getgid());
	if (mount(source, dir, QL_FS_TYPE, MS_RDONLY, data) < 0)
		return ql_error_errno(err, -errno, "mounting on %s", dir);
	(void)snprintf(path, sizeof(path), "/dev/fd/%d", fd);
	if (fuse_session_mount(se, path) < 0) {
		r = ql_error_set(err, -EIO, "libfuse refuses the mount");
		(void)umount2(dir, MNT_DETACH);
		return r;
	}
	(void)ql_take_fd(&fd); /* the session's */
	return 0;
}

static int session_new(struct ql_fs *fs, const char *options,
		       struct fuse_session **ret_se, struct ql_error *err)
{
	struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
	struct fuse_session *se = NULL;

	if (fuse_opt_add_arg(&args, QL_FS_SUBTYPE) == 0 &&
	    (!options || (fuse_opt_add_arg(&args, "-o") == 0 &&
			  fuse_opt_add_arg(&args, options) == 0)))
		se = fuse_session_new(&args, &ops, sizeof(ops), fs);
	fuse_opt_free_args(&args);
	if (!se)
		return ql_error_set(err, -ENOMEM, "libfuse makes no session");
	*ret_se = se;
	return 0;
}

/* fusermount3's options; a comma or backslash in the source is escaped. */
static char *user_options(const char *source, bool allow_other)
{
	_cleanup_buf_ struct ql_buf buf = QL_BUF_INIT(4096);

	if (ql_buf_adds(&buf, "ro,default_permissions,subtype=" QL_FS_SUBTYPE
			      ",") < 0)
		return NULL;
	if (allow_other && ql_buf_adds(&buf, "allow_other,") < 0)
		return NULL;
	if (ql_buf_adds(&buf, "fsname=") < 0)
		return NULL;
	for (; *source; source++) {
		if ((*source == ',' || *source == '\\') &&
		    ql_buf_add_u8(&buf, '\\') < 0)
			return NULL;
		if (ql_buf_add_u8(&buf, (uint8_t)*source) < 0)
			return NULL;
	}
	return ql_buf_take(&buf);
}

static int session_mount(struct ql_fs *fs, const char *dir,
			 const struct ql_mount_options *options,
			 struct fuse_session **ret_se, struct ql_error *err)
{
	const char *source = options->source ? options->source : QL_FS_SUBTYPE;
	_cleanup_free_ char *text = NULL;
	struct fuse_session *se = NULL;
	bool root = geteuid() == 0;
	int r;

	if (!root) {
		text = user_options(source, options->allow_other);
		if (!text)
			return ql_error_nomem(err);
	}
	r = session_new(fs, text, &se, err);
	if (r < 0)
		return r;
	if (root)
		r = mount_as_root(se, dir, source, err);
	else if (fuse_session_mount(se, dir) < 0)
		r = ql_error_set(err, -EPERM,
				 "fusermount3 does not mount on %s", dir);
	if (r < 0) {
		fuse_session_destroy(se);
		return r;
	}
	*ret_se = se;
	return 0;
}

/* The signal that ended it, or 0. */
static int serve(struct fuse_session *se, unsigned int threads)
{
	struct fuse_loop_config *config = fuse_loop_cfg_create();
	int r;

	if (!config) {
		r = fuse_session_loop(se);
		return r > 0 ? r : 0;
	}
	fuse_loop_cfg_set_clone_fd(config, 1);
	fuse_loop_cfg_set_max_threads(config, threads);
	r = fuse_session_loop_mt(se, config);
	fuse_loop_cfg_destroy(config);
	return r > 0 ? r : 0;
}

/* Somebody may have unmounted, and mounted something else there since. */
static void unmount_as_root(const char *dir, const struct ql_mounted *mounted)
{
	struct ql_mounted now;

	if (ql_mountinfo_find(dir, &now, NULL) > 0 && now.ours &&
	    now.dev == mounted->dev)
		(void)umount2(dir, MNT_DETACH | UMOUNT_NOFOLLOW);
}

static void tables_free(struct ql_fs *fs)
{
	ql_openfiles_free(fs->files, fs->filler);
	ql_slots_free(fs->slots);
	ql_vtable_free(fs->vtable);
	fs->files = NULL;
	fs->slots = NULL;
	fs->vtable = NULL;
}

static int tables_new(struct ql_fs *fs, struct ql_error *err)
{
	bool all = !fs->tree;

	fs->files = ql_openfiles_new();
	fs->slots = all ? ql_slots_new(fs->store, IDLE_TREES) : NULL;
	fs->vtable = all ? ql_vtable_new() : NULL;
	if (fs->files && (!all || (fs->slots && fs->vtable)))
		return 0;
	tables_free(fs);
	return ql_error_nomem(err);
}

int ql_fs_serve(struct ql_fs *fs, const char *dir,
		const struct ql_mount_options *options, struct ql_error *err)
{
	struct ql_mounted mounted = { 0 };
	struct fuse_session *se = NULL;
	int r;

	fuse_set_log_func(log_libfuse);
	raise_nofile();
	r = tables_new(fs, err);
	if (r == 0)
		r = session_mount(fs, dir, options, &se, err);
	if (r == 0)
		(void)ql_mountinfo_find(dir, &mounted, NULL);
	fs->session = se;
	fs->mountpoint = dir;
	if (r == 0 && fuse_set_signal_handlers(se) < 0)
		r = ql_error_set(err, -EIO, "cannot handle signals");
	if (r == 0) {
		fs->signal = serve(se, thread_count(options->threads));
		fuse_remove_signal_handlers(se);
	}
	if (se) {
		if (geteuid() == 0)
			unmount_as_root(dir, &mounted);
		fuse_session_unmount(se);
		if (fs->ending)
			fs->ending(fs->ready_arg);
		if (fs->filler) /* who waits for it replies by the session */
			ql_filler_stop(fs->filler);
		fuse_session_destroy(se);
	}
	fs->session = NULL;
	tables_free(fs);
	return r;
}
