/* SPDX-License-Identifier: Apache-2.0 */
/* Bounds of a process: its heap's, and its open files'. */
#include "store/base/process.h"

#include <malloc.h>
#include <sys/resource.h>

enum { MMAP_FROM = 128 << 10 }; /* bytes */

void ql_process_bound_memory(int arenas)
{
	(void)mallopt(M_ARENA_MAX, arenas);
	(void)mallopt(M_MMAP_THRESHOLD, MMAP_FROM);
}

void ql_process_raise_files(void)
{
	struct rlimit rl;

	if (getrlimit(RLIMIT_NOFILE, &rl) == 0 && rl.rlim_cur < rl.rlim_max) {
		rl.rlim_cur = rl.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &rl);
	}
}
