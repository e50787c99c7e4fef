/* SPDX-License-Identifier: Apache-2.0 */
/* An IPv4 address is kept as the IPv6 address that stands for it (RFC 4291
 * section 2.5.5.2): a socket of both kinds tells them so. */
#include "store/base/net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#include "store/base/cleanup.h"
#include "store/base/error.h"

enum { V4 = 12, V4_BITS = 8 * V4, BITS = 128, BACKLOG = 256, PORT_MAX = 65535 };

static const uint8_t mapped[V4] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff };

static void address_v4(const void *v4, struct ql_net_address *ret)
{
	memcpy(ret->bytes, mapped, V4);
	memcpy(ret->bytes + V4, v4, 4);
}

int ql_net_address_of(const struct sockaddr *sa, struct ql_net_address *ret)
{
	if (sa->sa_family == AF_INET) {
		struct sockaddr_in in;

		memcpy(&in, sa, sizeof(in));
		address_v4(&in.sin_addr, ret);
	} else if (sa->sa_family == AF_INET6) {
		struct sockaddr_in6 in;

		memcpy(&in, sa, sizeof(in));
		memcpy(ret->bytes, &in.sin6_addr, sizeof(ret->bytes));
	} else {
		return -EAFNOSUPPORT;
	}
	return 0;
}

/* ---- networks ---- */

/* Digits alone, up to max. */
static int number(const char *text, unsigned int max, unsigned int *ret)
{
	unsigned int n = 0;

	if (!*text || strlen(text) > 5 || text[strspn(text, "0123456789")] != 0)
		return -EINVAL;
	for (; *text; text++)
		n = n * 10 + (unsigned int)(*text - '0');
	if (n > max)
		return -EINVAL;
	*ret = n;
	return 0;
}

/* *ret_v4: it is an IPv4 address. */
static int address_parse(const char *text, struct ql_net_address *ret,
			 bool *ret_v4)
{
	struct in_addr v4;

	*ret_v4 = inet_pton(AF_INET, text, &v4) == 1;
	if (*ret_v4)
		address_v4(&v4, ret);
	else if (inet_pton(AF_INET6, text, ret->bytes) != 1)
		return -EINVAL;
	return 0;
}

static bool bit(const struct ql_net_address *a, unsigned int i)
{
	return a->bytes[i / 8] >> (7 - i % 8) & 1;
}

int ql_net_parse(const char *text, struct ql_net *ret_net)
{
	struct ql_net net = { .bits = BITS };
	const char *slash = strchr(text, '/');
	size_t len = slash ? (size_t)(slash - text) : strlen(text);
	char address[INET6_ADDRSTRLEN];
	unsigned int bits;
	bool v4;

	if (len >= sizeof(address))
		return -EINVAL;
	memcpy(address, text, len);
	address[len] = 0;
	if (address_parse(address, &net.first, &v4) < 0)
		return -EINVAL;
	if (slash) {
		if (number(slash + 1, v4 ? 32 : BITS, &bits) < 0)
			return -EINVAL;
		net.bits = v4 ? V4_BITS + bits : bits;
	}
	for (unsigned int i = net.bits; i < BITS; i++)
		if (bit(&net.first, i))
			return -EINVAL;
	*ret_net = net;
	return 0;
}

bool ql_net_has(const struct ql_net *net, const struct ql_net_address *address)
{
	for (unsigned int i = 0; i < net->bits; i++)
		if (bit(&net->first, i) != bit(address, i))
			return false;
	return true;
}

bool ql_net_is_loopback(const struct ql_net_address *address)
{
	static const struct ql_net nets[] = {
		{ { { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127 } },
		  V4_BITS + 8 },
		{ { { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1 } },
		  BITS },
	};

	return ql_net_has(&nets[0], address) || ql_net_has(&nets[1], address);
}

/* ---- hosts and ports ---- */

/* Splits "HOST:PORT"; *ret_brackets: HOST stood in brackets. */
static int split(const char *text, char host[QL_NET_HOST_MAX + 1],
		 unsigned int *ret_port, bool *ret_brackets)
{
	const char *colon = strrchr(text, ':');
	size_t len = colon ? (size_t)(colon - text) : 0;

	if (len == 0 || number(colon + 1, PORT_MAX, ret_port) < 0)
		return -EINVAL;
	*ret_brackets = text[0] == '[' && text[len - 1] == ']' && len > 2;
	if (*ret_brackets) {
		text++;
		len -= 2;
	}
	if (len > QL_NET_HOST_MAX)
		return -EINVAL;
	memcpy(host, text, len);
	host[len] = 0;
	return 0;
}

int ql_net_hostport_check(const char *text)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyz"
				      "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
				      "0123456789.-_";
	char host[QL_NET_HOST_MAX + 1];
	struct ql_net_address address;
	unsigned int port;
	bool brackets, v4;

	if (split(text, host, &port, &brackets) < 0 || port == 0)
		return -EINVAL;
	if (brackets)
		return address_parse(host, &address, &v4) < 0 || v4 ? -EINVAL
								    : 0;
	return host[0] != '-' && host[strspn(host, letters)] == 0 ? 0 : -EINVAL;
}

static int listen_parse(const char *text, struct sockaddr_storage *ret_sa,
			socklen_t *ret_len)
{
	struct sockaddr_in6 v6 = { .sin6_family = AF_INET6 };
	struct sockaddr_in v4 = { .sin_family = AF_INET };
	char host[QL_NET_HOST_MAX + 1];
	unsigned int port;
	bool brackets;

	if (split(text, host, &port, &brackets) < 0)
		return -EINVAL;
	if (brackets && inet_pton(AF_INET6, host, &v6.sin6_addr) == 1) {
		v6.sin6_port = htons((uint16_t)port);
		memcpy(ret_sa, &v6, sizeof(v6));
		*ret_len = sizeof(v6);
		return 0;
	}
	if (!brackets && inet_pton(AF_INET, host, &v4.sin_addr) == 1) {
		v4.sin_port = htons((uint16_t)port);
		memcpy(ret_sa, &v4, sizeof(v4));
		*ret_len = sizeof(v4);
		return 0;
	}
	return -EINVAL;
}

int ql_net_listen_check(const char *text)
{
	struct sockaddr_storage sa = { 0 };
	socklen_t len;

	return listen_parse(text, &sa, &len);
}

int ql_net_listen(const char *text, int *ret_fd, struct ql_error *err)
{
	struct sockaddr_storage sa = { 0 };
	_cleanup_close_ int fd = -1;
	socklen_t len = 0;
	int on = 1;

	if (listen_parse(text, &sa, &len) < 0)
		return ql_error_set(err, -EINVAL, "%s: no address and port",
				    text);
	fd = socket(sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK,
		    0);
	if (fd < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
	    bind(fd, (const struct sockaddr *)&sa, len) < 0 ||
	    listen(fd, BACKLOG) < 0)
		return ql_error_errno(err, -errno, "listen at %s", text);
	*ret_fd = ql_take_fd(&fd);
	return 0;
}
