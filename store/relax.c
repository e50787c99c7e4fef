/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Giving back the catalogue's pages.  LMDB reads through a shared mapping, and
 * what was read once counts as this process's memory until it is unmapped; it
 * does not tell where its mapping is (mdb_env_info's me_mapaddr is of fixed
 * maps alone), but the kernel does (proc_pid_maps(5)).  The pages are clean:
 * LMDB writes by pwrite(2).
 */
#include "store/store-private.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

enum { MAPS_LINE = 512 };

void ql_store_relax(const struct ql_store *store)
{
	_cleanup_fclose_ FILE *f = fopen("/proc/self/maps", "re");
	char line[MAPS_LINE];
	struct stat st;

	if (!f || fstatat(store->root_fd, "catalog/data.mdb", &st, 0) < 0)
		return;
	while (fgets(line, sizeof(line), f)) {
		uint64_t start, end, inode;
		unsigned int major, minor;

		if (sscanf(line,
			   "%" SCNx64 "-%" SCNx64 " %*4s %*x %x:%x %" SCNu64,
			   &start, &end, &major, &minor, &inode) != 5 ||
		    inode != st.st_ino || makedev(major, minor) != st.st_dev ||
		    end <= start)
			continue;
		(void)madvise((void *)(uintptr_t)start, (size_t)(end - start),
			      MADV_DONTNEED);
	}
}
