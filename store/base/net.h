/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Addresses: who may ask a server, and where it listens.  Any thread may call
 * any of these; errors that are not said to be described are not.
 */
#ifndef QL_BASE_NET_H
#define QL_BASE_NET_H

#include <stdbool.h>
#include <stdint.h>

struct ql_error;
struct sockaddr;

enum { QL_NET_HOST_MAX = 253 }; /* characters of a host's name */

struct ql_net_address {
	uint8_t bytes[16]; /* IPv6; of IPv4 the mapped one, ::ffff:a.b.c.d */
};
struct ql_net {
	struct ql_net_address first;
	unsigned int bits; /* of first that count */
};
/* "10.1.2.3", "10.0.0.0/8", "fd00::/8".  -EINVAL, also where bits are set that
 * do not count. */
int ql_net_parse(const char *text, struct ql_net *ret_net);
bool ql_net_has(const struct ql_net *net, const struct ql_net_address *address);
/* -EAFNOSUPPORT: neither IPv4 nor IPv6. */
int ql_net_address_of(const struct sockaddr *sa,
		      struct ql_net_address *ret_address);
bool ql_net_is_loopback(const struct ql_net_address *address);
/* "HOST:PORT": a name, an IPv4 address, or an IPv6 address in brackets.  0 or
 * -EINVAL. */
int ql_net_hostport_check(const char *text);
/* The same with an address alone; port 0 is any. */
int ql_net_listen_check(const char *text);
/* A socket that listens there, non-blocking; described. */
int ql_net_listen(const char *text, int *ret_fd, struct ql_error *err);

#endif
