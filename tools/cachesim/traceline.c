/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One request of a registry's trace: the members of the IBM traces
 * (dssl.cs.vt.edu/drtp, Anwar et al., FAST'18) that matter here,
 *
 *	{"timestamp": "2017-06-20T00:00:00.000Z",
 *	 "http.request.method": "GET", "http.request.remoteaddr": "…",
 *	 "http.request.uri": "v2/<repository>/blobs/<digest>",
 *	 "http.response.written": 1518, "http.request.duration": 0.7, …}
 *
 * Names are anonymous there and anything may be one, so they are hashed.
 */
#include "tools/cachesim/cachesim.h"

#include <errno.h>
#include <string.h>

/* FNV-1a and a finisher; never 0. */
static uint64_t name_hash(const char *name, size_t len)
{
	uint64_t h = 0xcbf29ce484222325U;

	for (size_t i = 0; i < len; i++)
		h = (h ^ (uint8_t)name[i]) * 0x100000001b3U;
	h = (h ^ (h >> 33)) * 0xff51afd7ed558ccdU;
	h ^= h >> 33;
	return h ? h : 1;
}

/* Exactly n digits between min and max, and what stands behind them. */
static int field(const char **p, int n, int min, int max, const char *behind,
		 int *ret)
{
	int v = 0;

	for (int i = 0; i < n; i++, (*p)++) {
		if (**p < '0' || **p > '9')
			return -EBADMSG;
		v = v * 10 + (**p - '0');
	}
	if (v < min || v > max || !strchr(behind, **p))
		return -EBADMSG;
	if (**p)
		(*p)++;
	*ret = v;
	return 0;
}

/* Days since 1970 (H. Hinnant, days_from_civil). */
static int64_t days(int y, int m, int d)
{
	int64_t year = y - (m <= 2);
	int64_t era = year / 400;
	int64_t of_era = year - era * 400;
	int64_t of_year = (153 * (m + (m > 2 ? -3 : 9)) + 2) / 5 + d - 1;

	return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 +
	       of_year - 719468;
}

/* RFC 3339 in UTC, as the traces have it; finer than ms is left out. */
int ql_trace_time(const char *p, int64_t *ret)
{
	int y, mo, d, h, mi, s;
	int64_t ms = 0;

	if (field(&p, 4, 1970, 9999, "-", &y) < 0 ||
	    field(&p, 2, 1, 12, "-", &mo) < 0 ||
	    field(&p, 2, 1, 31, "T ", &d) < 0 ||
	    field(&p, 2, 0, 23, ":", &h) < 0 ||
	    field(&p, 2, 0, 59, ":", &mi) < 0 ||
	    field(&p, 2, 0, 60, ".Z", &s) < 0)
		return -EBADMSG;
	if (p[-1] == '.') {
		int64_t unit = 100;

		for (; *p >= '0' && *p <= '9'; p++, unit /= 10)
			ms += unit * (*p - '0');
	}
	if (*p && strcmp(p, "Z") != 0 && strcmp(p, "+00:00") != 0)
		return -EBADMSG;
	*ret = (((days(y, mo, d) * 24 + h) * 60 + mi) * 60 + s) * 1000 + ms;
	return 0;
}

/* "[/]v2/<repository>/manifests/…" or "…/blobs/<digest>", both with content
 * behind them; all others are no pulls (uploads, catalogues, tags). */
static void parse_uri(const char *uri, struct ql_traceline *line)
{
	const char *end = uri + strcspn(uri, "?#");
	const char *name;
	const char *last;

	uri += *uri == '/';
	if (strncmp(uri, "v2/", 3) != 0)
		return;
	uri += 3;
	last = memrchr(uri, '/', (size_t)(end - uri));
	if (!last || last + 1 == end)
		return;
	name = memrchr(uri, '/', (size_t)(last - uri));
	if (!name || name == uri)
		return;
	if ((size_t)(last - name) == strlen("/manifests") &&
	    strncmp(name, "/manifests", (size_t)(last - name)) == 0)
		line->kind = QL_TRACE_MANIFEST;
	else if ((size_t)(last - name) == strlen("/blobs") &&
		 strncmp(name, "/blobs", (size_t)(last - name)) == 0)
		line->kind = QL_TRACE_BLOB;
	else
		return;
	line->family = name_hash(uri, (size_t)(name - uri));
	line->id = name_hash(last + 1, (size_t)(end - last - 1));
}

static bool succeeded(const json_t *status)
{
	json_int_t n = json_integer_value(status);

	return !status || n == 200 || n == 206 || n == 307;
}

static int read_members(const json_t *json, struct ql_traceline *line,
			struct ql_error *err)
{
	const char *when;
	const char *method;
	const char *uri;
	const char *client;
	int r;

	r = ql_json_get_string(json, "timestamp", &when, err);
	if (r == 0)
		r = ql_json_get_string(json, "http.request.method", &method,
				       err);
	if (r == 0)
		r = ql_json_get_string(json, "http.request.uri", &uri, err);
	if (r == 0)
		r = ql_json_get_u64(json, "http.response.written", &line->size,
				    err);
	if (r < 0)
		return r;
	line->bytes = line->size;
	if (ql_trace_time(when, &line->time) < 0)
		return ql_error_set(err, -EBADMSG, "no time: %.40s", when);
	client = ql_json_opt_string(json, "http.request.remoteaddr", "");
	line->client = name_hash(client, strlen(client));
	if (strcmp(method, "GET") == 0 &&
	    succeeded(json_object_get(json, "http.response.status")))
		parse_uri(uri, line);
	if (line->kind == QL_TRACE_BLOB && line->size == 0)
		line->kind = QL_TRACE_OTHER;
	return 0;
}

int ql_traceline_parse(const char *text, size_t len,
		       struct ql_traceline *ret_line, struct ql_error *err)
{
	_cleanup_json_ json_t *json = NULL;
	struct ql_traceline line = { .kind = QL_TRACE_OTHER };
	bool header = false;
	int r = ql_json_parse(text, len, &json, err);

	if (r < 0)
		return r;
	if (!json_is_object(json))
		return ql_error_set(err, -EBADMSG, "no JSON object");
	r = ql_ownline_header(json, &header, err);
	if (r == 0 && header)
		line.kind = QL_TRACE_HEADER;
	else if (r == 0)
		r = read_members(json, &line, err);
	if (r == 0)
		*ret_line = line;
	return r;
}
