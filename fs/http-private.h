/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The HTTP library, for the two that serve by it: the API on a socket of this
 * node (agent-http.c) and what other nodes ask (peer-server.c).  Nobody else
 * includes it.
 */
#ifndef QL_HTTP_PRIVATE_H
#define QL_HTTP_PRIVATE_H

#include <microhttpd.h>
#include <stdarg.h>
#include <stddef.h>

/* What it has to say is for who debugs (MHD_OPTION_EXTERNAL_LOGGER). */
void ql_mhd_log(void *arg, const char *fmt, va_list ap)
	__attribute__((format(printf, 2, 0)));
/* Paths stay as they came (MHD_OPTION_UNESCAPE_CALLBACK): they are taken apart
 * before they are decoded. */
size_t ql_mhd_keep_encoded(void *arg, struct MHD_Connection *connection,
			   char *text);

#endif
