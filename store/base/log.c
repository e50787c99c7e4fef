/* SPDX-License-Identifier: Apache-2.0 */
/* One line, one write: lines of several threads do not mix. */
#include "store/base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const level_names[] = {
	[QL_LOG_ERROR] = "error",
	[QL_LOG_WARN] = "warn",
	[QL_LOG_INFO] = "info",
	[QL_LOG_DEBUG] = "debug",
};
enum { LEVELS = sizeof(level_names) / sizeof(level_names[0]) };

static _Atomic int log_level = -1; /* -1: not asked yet */

int ql_log_level_parse(const char *name, enum ql_log_level *ret_level)
{
	for (int i = 0; i < LEVELS; i++) {
		if (strcmp(name, level_names[i]) == 0) {
			*ret_level = (enum ql_log_level)i;
			return 0;
		}
	}
	return -EINVAL;
}

static int log_level_get(void)
{
	int level = atomic_load(&log_level);
	enum ql_log_level asked;
	const char *env;

	if (level >= 0)
		return level;
	level = QL_LOG_WARN;
	env = getenv("QUICKLAYER_LOG");
	if (env && ql_log_level_parse(env, &asked) == 0)
		level = (int)asked;
	atomic_store(&log_level, level);
	return level;
}

void ql_log_set_level(enum ql_log_level level)
{
	atomic_store(&log_level, (int)level);
}

void ql_log(enum ql_log_level level, const char *fmt, ...)
{
	char line[2048];
	va_list ap;
	int n;
	int m;

	if ((int)level > log_level_get())
		return;
	n = snprintf(line, sizeof(line), "level=%s ", level_names[level]);
	va_start(ap, fmt);
	m = vsnprintf(line + n, sizeof(line) - (size_t)n - 1, fmt, ap);
	va_end(ap);
	if (m < 0)
		return;
	n += m;
	if ((size_t)n > sizeof(line) - 2)
		n = (int)sizeof(line) - 2;
	line[n++] = '\n';
	if (write(STDERR_FILENO, line, (size_t)n) < 0)
		return; /* nowhere left to say so */
}
