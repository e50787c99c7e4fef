/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The fields of an HTTP answer that are of use here (RFC 9110: §8.3
 * Content-Type, §8.6 Content-Length, §10.2.2 Location, §10.2.3 Retry-After,
 * §8.8.3 ETag, §11.6.1 WWW-Authenticate, §14.4 Content-Range; OCI
 * distribution-spec 1.1: Docker-Content-Digest, Range of an upload,
 * OCI-Subject).
 */
#include "fetch/fetch-private.h"

#include <errno.h>
#include <string.h>
#include <strings.h>
#include <time.h>

enum {
	HEADER_MAX = 8 << 10,	     /* bytes of a line */
	RETRY_AFTER_MAX = 24 * 3600, /* seconds */
};

static uint64_t number(const char *text, char end_wanted)
{
	char *end;
	unsigned long long v;

	if (*text < '0' || *text > '9')
		return UINT64_MAX;
	errno = 0;
	v = strtoull(text, &end, 10);
	return *end == end_wanted && errno == 0 ? v : UINT64_MAX;
}

/* Seconds, or a date. */
static uint64_t retry_after(const char *value)
{
	uint64_t v = number(value, '\0');

	if (v == UINT64_MAX) {
		struct tm tm = { 0 };
		time_t now = time(NULL);
		time_t at;

		if (!strptime(value, "%a, %d %b %Y %H:%M:%S GMT", &tm))
			return UINT64_MAX;
		at = timegm(&tm);
		v = at > now ? (uint64_t)(at - now) : 0;
	}
	return v > RETRY_AFTER_MAX ? RETRY_AFTER_MAX : v;
}

static int string_set(char **to, const char *value, bool append)
{
	char *s = append && *to ? ql_strf("%s, %s", *to, value) : strdup(value);

	if (!s)
		return -ENOMEM;
	free(*to);
	*to = s;
	return 0;
}

static void range_set(struct ql_http_response *rs, const char *value)
{
	const char *slash = strchr(value, '/');

	rs->range_start = number(value, '-');
	rs->range_size = slash ? number(slash + 1, '\0') : UINT64_MAX;
}

static int header_keep(struct ql_http_response *rs, const char *name,
		       const char *value)
{
	if (strcasecmp(name, "content-length") == 0)
		rs->length = number(value, '\0');
	else if (strcasecmp(name, "retry-after") == 0)
		rs->retry_after = retry_after(value);
	else if (strcasecmp(name, "content-range") == 0 &&
		 strncasecmp(value, "bytes ", 6) == 0)
		range_set(rs, value + 6);
	else if (strcasecmp(name, "content-type") == 0)
		return string_set(&rs->content_type, value, false);
	else if (strcasecmp(name, "docker-content-digest") == 0)
		return string_set(&rs->digest, value, false);
	else if (strcasecmp(name, "location") == 0)
		return string_set(&rs->location, value, false);
	else if (strcasecmp(name, "range") == 0)
		return string_set(&rs->range, value, false);
	else if (strcasecmp(name, "oci-subject") == 0)
		return string_set(&rs->subject, value, false);
	else if (strcasecmp(name, "etag") == 0)
		return string_set(&rs->etag, value, false);
	else if (strcasecmp(name, "www-authenticate") == 0)
		return string_set(&rs->authenticate, value, true);
	return 0;
}

void ql_http_response_release(struct ql_http_response *rs)
{
	free(rs->content_type);
	free(rs->authenticate);
	free(rs->digest);
	free(rs->location);
	free(rs->range);
	free(rs->subject);
	free(rs->etag);
	ql_stream_free(rs->body);
	*rs = (struct ql_http_response){ 0 };
}

int ql_http_header_add(struct ql_http_response *rs, const char *line,
		       size_t len)
{
	_cleanup_free_ char *name = NULL;
	char *colon;

	while (len > 0 && strchr("\r\n \t", line[len - 1]))
		len--;
	if (len > HEADER_MAX || memchr(line, '\0', len))
		return 0;
	name = strndup(line, len);
	if (!name)
		return -ENOMEM;
	colon = strchr(name, ':');
	if (!colon)
		return 0; /* the status line */
	*colon = '\0';
	return header_keep(rs, name, colon + 1 + strspn(colon + 1, " \t"));
}
