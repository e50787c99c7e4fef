/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The little that has to be known of URLs here: whose they are (RFC 6454
 * §4, the origin) and how text is put into them (RFC 3986 §2).
 */
#include "fetch/fetch-private.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <string.h>
#include <strings.h>

bool ql_url_is_https(const char *url)
{
	return strncasecmp(url, "https://", 8) == 0;
}

/* Where host[:port] stands in a URL, userinfo left out. */
static const char *authority(const char *url, size_t *ret_len)
{
	const char *s = strstr(url, "://");
	const char *end;
	const char *at;

	if (!s)
		return NULL;
	s += 3;
	end = s + strcspn(s, "/?#");
	at = memrchr(s, '@', (size_t)(end - s));
	if (at)
		s = at + 1;
	*ret_len = (size_t)(end - s);
	return s;
}

char *ql_url_host(const char *url)
{
	size_t len = 0;
	const char *s = authority(url, &len);

	return s ? strndup(s, len) : NULL;
}

/* Cuts a default port off the authority. */
static size_t without_port(const char *s, size_t len, bool https)
{
	const char *port = https ? ":443" : ":80";
	size_t n = strlen(port);

	return len > n && memcmp(s + len - n, port, n) == 0 ? len - n : len;
}

bool ql_url_same_origin(const char *a, const char *b)
{
	bool https = ql_url_is_https(a);
	size_t alen = 0, blen = 0;
	const char *as = authority(a, &alen);
	const char *bs = authority(b, &blen);

	if (!as || !bs || https != ql_url_is_https(b))
		return false;
	alen = without_port(as, alen, https);
	blen = without_port(bs, blen, https);
	return alen == blen && strncasecmp(as, bs, alen) == 0;
}

bool ql_url_host_is_loopback(const char *host)
{
	char name[INET_ADDRSTRLEN];
	size_t len = strcspn(host, ":");
	struct in_addr in;

	if (strncmp(host, "[::1]", 5) == 0)
		return host[5] == '\0' || host[5] == ':';
	if (len == 9 && strncasecmp(host, "localhost", 9) == 0)
		return true;
	if (len >= sizeof(name))
		return false;
	memcpy(name, host, len);
	name[len] = '\0';
	return inet_pton(AF_INET, name, &in) == 1 &&
	       ntohl(in.s_addr) >> 24 == 127;
}

int ql_url_encode(struct ql_buf *buf, const char *text)
{
	for (; *text; text++) {
		unsigned char c = (unsigned char)*text;
		int r;

		if ((c < 0x80 && isalnum(c)) || strchr("-._~", c))
			r = ql_buf_add_u8(buf, c);
		else
			r = ql_buf_addf(buf, "%%%02X", c);
		if (r < 0)
			return r;
	}
	return 0;
}
