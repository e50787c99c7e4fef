/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Cleanup by attribute: a variable so marked is released when it goes out of
 * scope; ql_take_ptr() and ql_take_fd() hand it over instead.
 */
#ifndef QL_BASE_CLEANUP_H
#define QL_BASE_CLEANUP_H

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* Defines NAME(TYPE *p), which calls FN(*p), for use with _cleanup_(). */
#define QL_DEFINE_CLEANUP(type, fn)                                            \
	static inline void fn##p(type *p)                                      \
	{                                                                      \
		if (*p)                                                        \
			fn(*p);                                                \
	}

#define _cleanup_(fn) __attribute__((cleanup(fn)))

static inline void ql_cleanup_free(void *p)
{
	free(*(void **)p);
}

static inline void ql_cleanup_close(const int *fd)
{
	if (*fd >= 0)
		(void)close(*fd);
}

static inline void ql_cleanup_fclose(FILE **f)
{
	if (*f)
		(void)fclose(*f);
}

static inline void ql_cleanup_closedir(DIR **d)
{
	if (*d)
		(void)closedir(*d);
}

#define _cleanup_free_ _cleanup_(ql_cleanup_free)
#define _cleanup_close_ _cleanup_(ql_cleanup_close)
#define _cleanup_fclose_ _cleanup_(ql_cleanup_fclose)
#define _cleanup_closedir_ _cleanup_(ql_cleanup_closedir)

/* The value of the pointer, which is then NULL: ownership moves to the user. */
#define ql_take_ptr(p)                                                         \
	({                                                                     \
		__typeof__(p) *ql_take_p_ = &(p);                              \
		__typeof__(p) ql_take_v_ = *ql_take_p_;                        \
		*ql_take_p_ = NULL;                                            \
		ql_take_v_;                                                    \
	})

/* The same for a file descriptor, which is then -1. */
static inline int ql_take_fd(int *fd)
{
	int v = *fd;

	*fd = -1;
	return v;
}

#endif
