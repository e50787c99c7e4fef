/* SPDX-License-Identifier: Apache-2.0 */
/* Sizes, shares, rates and times as people write them.  All: -EINVAL, -ERANGE,
 * neither described. */
#ifndef QL_BASE_UNITS_H
#define QL_BASE_UNITS_H

#include <stdint.h>

/* "512", "10MB", "1.5 GiB"; powers of 1000 or, with an i, of 1024. */
int ql_units_bytes(const char *text, uint64_t *ret_bytes);
/* The same, and "/s" behind it; "unlimited" is UINT64_MAX. */
int ql_units_rate(const char *text, uint64_t *ret_bytes_per_second);
/* "100Mbit/s" or "100Mbit", powers of 1000; into bytes a second. */
int ql_units_link(const char *text, uint64_t *ret_bytes_per_second);
/* "250ms", "30s", "5m", "2h", "7d"; a number alone is seconds.  Into ns. */
int ql_units_duration(const char *text, uint64_t *ret_ns);
/* "40%", of which 100 are all: a million of millionths. */
int ql_units_share(const char *text, uint64_t *ret_millionths);

#endif
