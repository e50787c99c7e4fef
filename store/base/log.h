/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Logging: key=value lines on stderr, with a level, for journald or a person.
 * Library code logs at debug only; the program's edge logs what it reports.
 */
#ifndef QL_BASE_LOG_H
#define QL_BASE_LOG_H

enum ql_log_level { QL_LOG_ERROR, QL_LOG_WARN, QL_LOG_INFO, QL_LOG_DEBUG };

/* What QUICKLAYER_LOG (error, warn, info, debug; warn by default) lets through
 * is written as "level=debug msg=… key=value", in one write(2).  Thread-safe.
 */
void ql_log(enum ql_log_level level, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/* Another level than QUICKLAYER_LOG says, from now on. */
void ql_log_set_level(enum ql_log_level level);
/* -EINVAL: no level has that name. */
int ql_log_level_parse(const char *name, enum ql_log_level *ret_level);

#define ql_debug(...) ql_log(QL_LOG_DEBUG, __VA_ARGS__)

#endif
