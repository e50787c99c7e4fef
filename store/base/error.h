/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Errors: a negative errno and one line of text, in storage that the caller
 * has (so that running out of memory can be reported).  Functions return the
 * code and describe it here; context is put in front on the way up, so that
 * what the user reads is "context: narrower context: cause".
 */
#ifndef QL_BASE_ERROR_H
#define QL_BASE_ERROR_H

enum { QL_ERROR_TEXT_MAX = 1024 };

struct ql_error {
	int code; /* negative errno; 0 where nothing went wrong */
	char text[QL_ERROR_TEXT_MAX];
};

#define QL_ERROR_INIT                                                          \
	{                                                                      \
		0,                                                             \
		{                                                              \
			0                                                      \
		}                                                              \
	}

/*
 * Describe a failure.  code is a negative errno.  Control characters in what
 * is formatted become '?', since it may come from outside.  A NULL err is
 * allowed everywhere here.  Returns code.
 */
int ql_error_set(struct ql_error *err, int code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* The same, with ": " and strerror(-code) behind it. */
int ql_error_errno(struct ql_error *err, int code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* Put "context: " in front of what err says.  Returns err's code, or
 * -EIO where err is NULL or says nothing. */
int ql_error_prefix(struct ql_error *err, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/* Say "out of memory".  Returns -ENOMEM. */
int ql_error_nomem(struct ql_error *err);

/*
 * Tells clang's analyzer, which sees prototypes alone, that these return
 * failures; else it follows paths on which a failed function returned 0.
 */
#if defined(__clang_analyzer__) && !defined(QL_ERROR_IMPLEMENTATION)
#define ql_error_set(err, code, ...)                                           \
	((void)ql_error_set((err), (code), __VA_ARGS__), (code))
#define ql_error_errno(err, code, ...)                                         \
	((void)ql_error_errno((err), (code), __VA_ARGS__), -1)
#define ql_error_prefix(err, ...)                                              \
	((void)ql_error_prefix((err), __VA_ARGS__), -1)
#define ql_error_nomem(err) ((void)ql_error_nomem(err), -1)
#endif

#endif
