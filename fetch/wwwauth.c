/* SPDX-License-Identifier: Apache-2.0 */
/*
 * WWW-Authenticate (RFC 9110 §11.6.1): a list of challenges, each a scheme
 * with parameters or a token68.  Of interest: Basic (RFC 7617), and Bearer
 * with realm, service and scope (distribution's token specification).
 */
#include "fetch/fetch-private.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>
#include <strings.h>

enum { PARAM_MAX = 4096 };

static bool is_token_char(char c)
{
	return (unsigned char)c < 0x80 && (isalnum((unsigned char)c) ||
					   (c && strchr("!#$%&'*+-.^_`|~", c)));
}

static const char *skip_space(const char *s)
{
	return s + strspn(s, " \t");
}

static size_t token_len(const char *s)
{
	size_t n = 0;

	while (is_token_char(s[n]))
		n++;
	return n;
}

/* A quoted-string or a token at *s, appended to value; moves *s behind it. */
static int value_parse(const char **s, struct ql_buf *value,
		       struct ql_error *err)
{
	const char *p = *s;
	int r = 0;

	if (*p != '"') {
		size_t n = token_len(p);

		/* Seen in the wild: an unquoted URL. */
		while (p[n] && !strchr(", \t", p[n]))
			n++;
		*s = p + n;
		return ql_buf_add(value, p, n);
	}
	for (p++; *p && *p != '"' && r == 0; p++) {
		if (*p == '\\' && p[1])
			p++;
		r = ql_buf_add_u8(value, (uint8_t)*p);
	}
	if (r < 0)
		return r;
	if (*p != '"')
		return ql_error_set(err, -EBADMSG,
				    "a quote is not closed in the challenge");
	*s = p + 1;
	return 0;
}

/* Keeps a parameter of the first Bearer challenge. */
static int param_keep(struct ql_challenge *c, const char *name, size_t len,
		      const char *value, struct ql_error *err)
{
	const struct {
		const char *name;
		char **to;
	} kept[] = {
		{ "realm", &c->realm },
		{ "service", &c->service },
		{ "scope", &c->scope },
	};

	for (size_t i = 0; i < sizeof(kept) / sizeof(kept[0]); i++) {
		if (strlen(kept[i].name) != len ||
		    strncasecmp(kept[i].name, name, len) != 0 || *kept[i].to)
			continue;
		*kept[i].to = strdup(value);
		return *kept[i].to ? 0 : ql_error_nomem(err);
	}
	return 0;
}

/* name=value, name's end being at *s; parameters of other schemes are lost. */
static int param_parse(struct ql_challenge *c, bool keep, const char *name,
		       const char **s, struct ql_error *err)
{
	_cleanup_buf_ struct ql_buf value = QL_BUF_INIT(PARAM_MAX);
	size_t len = (size_t)(*s - name);
	int r;

	*s = skip_space(skip_space(*s) + 1);
	r = value_parse(s, &value, err);
	if (r == -EFBIG)
		return ql_error_set(err, -EBADMSG,
				    "a parameter of the challenge is too long");
	if (r == -ENOMEM)
		return ql_error_nomem(err);
	if (r < 0)
		return r;
	return keep ? param_keep(c, name, len, ql_buf_str(&value), err) : 0;
}

static bool token_is(const char *s, size_t len, const char *name)
{
	return strlen(name) == len && strncasecmp(s, name, len) == 0;
}

int ql_challenge_parse(const char *header, struct ql_challenge *ret_challenge,
		       struct ql_error *err)
{
	_cleanup_challenge_ struct ql_challenge c = { 0 };
	const char *s = header;
	bool keep = false;

	for (;;) {
		const char *token;
		size_t len;

		s += strspn(s, " \t,");
		if (*s == '\0')
			break;
		token = s;
		len = token_len(s);
		if (len == 0)
			return ql_error_set(err, -EBADMSG,
					    "not a challenge: \"%s\"", s);
		s += len;
		/* Or the end of a token68, of which nothing is kept either. */
		if (*skip_space(s) == '=') {
			int r = param_parse(&c, keep, token, &s, err);

			if (r < 0)
				return r;
			continue;
		}
		keep = token_is(token, len, "Bearer") && !c.bearer;
		c.bearer |= keep;
		c.basic |= token_is(token, len, "Basic");
		s += strspn(s, "=/"); /* what was a token68 */
	}
	*ret_challenge = c;
	c = (struct ql_challenge){ 0 };
	return 0;
}

void ql_challenge_release(struct ql_challenge *c)
{
	free(c->realm);
	free(c->service);
	free(c->scope);
	*c = (struct ql_challenge){ 0 };
}
