/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Image references: text to parts and back to one normal spelling.
 *
 * Sources: github.com/distribution/reference (the grammar in reference.go and
 * the defaults in normalize.go: what is a domain, docker.io, library/,
 * latest); containers-transports(5) for oci: and docker-archive:, whose path
 * ends at the first colon.
 */
#include "fetch/fetch-private.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>

enum {
	REF_TEXT_MAX = 4096,
	REF_PATH_MAX = 255, /* RepositoryNameTotalLengthMax */
	REF_DOMAIN_MAX = 255,
	REF_TAG_MAX = 128,
	REF_OCI_TAG_MAX = 255,
	REF_HEX_ID = 64,
};

/* The same text, another code. */
static int error_recode(struct ql_error *err, int code)
{
	if (err)
		err->code = code;
	return code;
}

static bool is_alnum(char c)
{
	return isalnum((unsigned char)c) && (unsigned char)c < 0x80;
}

static bool is_lower_alnum(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

static bool is_word(char c)
{
	return is_alnum(c) || c == '_';
}

/* [\w][\w.-]{0,127} */
static int tag_check(const char *tag, struct ql_error *err)
{
	size_t len = strlen(tag);

	if (len == 0)
		return ql_error_set(err, -EINVAL, "the tag is empty");
	if (len > REF_TAG_MAX)
		return ql_error_set(err, -EINVAL,
				    "the tag is longer than %d characters",
				    REF_TAG_MAX);
	if (!is_word(tag[0]))
		return ql_error_set(err, -EINVAL,
				    "a tag cannot begin with '%c'", tag[0]);
	for (size_t i = 1; i < len; i++)
		if (!is_word(tag[i]) && tag[i] != '.' && tag[i] != '-')
			return ql_error_set(err, -EINVAL,
					    "a tag cannot hold '%c'", tag[i]);
	return 0;
}

/* The length of a separator at s: '.', '_', '__' or any number of '-'. */
static size_t separator_len(const char *s)
{
	if (s[0] == '-')
		return strspn(s, "-");
	if (s[0] == '_' && s[1] == '_')
		return 2;
	return s[0] == '.' || s[0] == '_' ? 1 : 0;
}

/* Components of [a-z0-9]+ joined by separators, joined by '/'. */
static int path_check(const char *path, struct ql_error *err)
{
	const char *s = path;

	if (*path == '\0')
		return ql_error_set(err, -EINVAL, "the name is empty");
	if (strlen(path) > REF_PATH_MAX)
		return ql_error_set(err, -EINVAL,
				    "the name is longer than %d characters",
				    REF_PATH_MAX);
	for (;;) {
		if (isupper((unsigned char)*s))
			return ql_error_set(err, -EINVAL,
					    "the name must be in lower case");
		if (!is_lower_alnum(*s))
			return ql_error_set(err, -EINVAL,
					    "a letter or digit is expected in "
					    "the name at \"%s\"",
					    s);
		while (is_lower_alnum(*s))
			s++;
		if (*s == '\0')
			return 0;
		if (*s == '/')
			s++;
		else
			s += separator_len(s);
	}
}

/* One dot-separated component of a host name. */
static bool host_component_ok(const char *s, size_t len)
{
	if (len == 0 || !is_alnum(s[0]) || !is_alnum(s[len - 1]))
		return false;
	for (size_t i = 0; i < len; i++)
		if (!is_alnum(s[i]) && s[i] != '-')
			return false;
	return true;
}

static bool host_ok(const char *s, size_t len)
{
	size_t at = 0;

	if (len > 2 && s[0] == '[' && s[len - 1] == ']') {
		for (size_t i = 1; i < len - 1; i++)
			if (!isxdigit((unsigned char)s[i]) && s[i] != ':')
				return false;
		return true;
	}
	while (at < len) {
		const char *dot = memchr(s + at, '.', len - at);
		size_t n = dot ? (size_t)(dot - s) - at : len - at;

		if (!host_component_ok(s + at, n))
			return false;
		at += n + 1;
	}
	return at == len + 1; /* no dot at the end */
}

static int domain_check(const char *domain, struct ql_error *err)
{
	const char *bracket = strrchr(domain, ']');
	const char *colon = strchr(bracket ? bracket : domain, ':');
	size_t len = colon ? (size_t)(colon - domain) : strlen(domain);
	size_t digits = colon ? strspn(colon + 1, "0123456789") : 0;

	if (strlen(domain) > REF_DOMAIN_MAX || !host_ok(domain, len))
		return ql_error_set(err, -EINVAL,
				    "\"%s\" is not the name of a host", domain);
	if (colon && (digits == 0 || digits > 5 || colon[1 + digits] != '\0' ||
		      strtol(colon + 1, NULL, 10) > 65535))
		return ql_error_set(err, -EINVAL, "\"%s\" is not a port",
				    colon + 1);
	return 0;
}

/* Is what stands before the first slash a registry, not a name's part? */
static bool is_domain(const char *s, size_t len)
{
	if (len == strlen("localhost") && memcmp(s, "localhost", len) == 0)
		return true;
	for (size_t i = 0; i < len; i++)
		if (s[i] == '.' || s[i] == ':' || isupper((unsigned char)s[i]))
			return true;
	return false;
}

/* name is cut at its tag and digest already; sets domain and path. */
static int name_split(struct ql_ref *ref, const char *name,
		      struct ql_error *err)
{
	const char *slash = strchr(name, '/');
	const char *rest = name;

	if (slash && is_domain(name, (size_t)(slash - name)))
		rest = slash + 1;
	if (rest == name || strncmp(name, "index.docker.io/", 16) == 0)
		ref->domain = strdup("docker.io");
	else
		ref->domain = strndup(name, (size_t)(slash - name));
	if (!ref->domain)
		return ql_error_nomem(err);

	if (strcmp(ref->domain, "docker.io") == 0 && !strchr(rest, '/'))
		ref->path = ql_strf("library/%s", rest);
	else
		ref->path = strdup(rest);
	if (!ref->path)
		return ql_error_nomem(err);
	if (*rest == '\0')
		return ql_error_set(err, -EINVAL, "the name is empty");
	return 0;
}

static bool is_hex_id(const char *s)
{
	return strlen(s) == REF_HEX_ID &&
	       strspn(s, "0123456789abcdef") == REF_HEX_ID;
}

static int parse_registry(char *text, struct ql_ref *ref, struct ql_error *err)
{
	char *at, *slash, *colon;
	int r;

	if (strncmp(text, "docker://", 9) == 0)
		text += 9;
	if (is_hex_id(text))
		return ql_error_set(
			err, -EINVAL,
			"64 hexadecimal digits cannot be an image's name");

	at = strchr(text, '@');
	if (at) {
		*at = '\0';
		r = ql_digest_parse(at + 1, &ref->digest, err);
		if (r < 0)
			return error_recode(err, -EINVAL);
		ref->has_digest = true;
	}
	slash = strrchr(text, '/');
	colon = strchr(slash ? slash : text, ':');
	if (colon) {
		*colon = '\0';
		r = tag_check(colon + 1, err);
		if (r < 0)
			return r;
		ref->tag = strdup(colon + 1);
		if (!ref->tag)
			return ql_error_nomem(err);
	} else if (!at) {
		ref->tag = strdup("latest");
		if (!ref->tag)
			return ql_error_nomem(err);
	}

	r = name_split(ref, text, err);
	if (r < 0)
		return r;
	r = domain_check(ref->domain, err);
	if (r < 0)
		return r;
	return path_check(ref->path, err);
}

static int parse_local(char *text, struct ql_ref *ref, struct ql_error *err)
{
	bool oci = ref->kind == QL_REF_OCI_DIR;
	char *colon = strchr(text, ':');

	if (colon)
		*colon = '\0';
	if (*text == '\0')
		return ql_error_set(err, -EINVAL, "no %s is named",
				    oci ? "folder" : "file");
	ref->path = strdup(text);
	if (!ref->path)
		return ql_error_nomem(err);
	if (!colon)
		return 0;

	if (colon[1] == '\0' || strlen(colon + 1) > REF_OCI_TAG_MAX)
		return ql_error_set(err, -EINVAL,
				    "the tag is empty or too long");
	if (oci) {
		ref->tag = strdup(colon + 1);
	} else {
		_cleanup_ref_ struct ql_ref inner = { 0 };
		int r = parse_registry(colon + 1, &inner, err);

		if (r < 0)
			return r;
		if (!inner.tag)
			return ql_error_set(err, -EINVAL,
					    "an archive's images have tags, "
					    "not digests");
		ref->tag = ql_strf("%s/%s:%s", inner.domain, inner.path,
				   inner.tag);
	}
	return ref->tag ? 0 : ql_error_nomem(err);
}

static int name_set(struct ql_ref *ref, struct ql_error *err)
{
	char digest[QL_DIGEST_TEXT + 1] = "";
	const char *scheme = ref->kind == QL_REF_OCI_DIR ? "oci:"
			     : ref->kind == QL_REF_DOCKER_ARCHIVE
				     ? "docker-archive:"
				     : "";

	if (ref->has_digest)
		ql_digest_text(&ref->digest, digest);
	ref->name = ql_strf("%s%s%s%s%s%s%s%s", scheme,
			    ref->domain ? ref->domain : "",
			    ref->domain ? "/" : "", ref->path,
			    ref->tag ? ":" : "", ref->tag ? ref->tag : "",
			    ref->has_digest ? "@" : "", digest);
	return ref->name ? 0 : ql_error_nomem(err);
}

static bool has_control(const char *s)
{
	for (; *s; s++)
		if (iscntrl((unsigned char)*s))
			return true;
	return false;
}

static int parse_copy(char *text, struct ql_ref *ref, struct ql_error *err)
{
	int r;

	if (strncmp(text, "oci:", 4) == 0) {
		ref->kind = QL_REF_OCI_DIR;
		r = parse_local(text + 4, ref, err);
	} else if (strncmp(text, "docker-archive:", 15) == 0) {
		ref->kind = QL_REF_DOCKER_ARCHIVE;
		r = parse_local(text + 15, ref, err);
	} else {
		ref->kind = QL_REF_REGISTRY;
		r = parse_registry(text, ref, err);
	}
	return r < 0 ? r : name_set(ref, err);
}

int ql_ref_parse(const char *text, struct ql_ref *ret_ref, struct ql_error *err)
{
	_cleanup_ref_ struct ql_ref ref = { 0 };
	_cleanup_free_ char *copy = NULL;
	int r;

	if (strlen(text) > REF_TEXT_MAX)
		return ql_error_set(err, -EINVAL, "the reference is too long");
	if (has_control(text))
		return ql_error_set(err, -EINVAL,
				    "\"%s\": a reference cannot hold control "
				    "characters",
				    text);
	copy = strdup(text);
	if (!copy)
		return ql_error_nomem(err);
	r = parse_copy(copy, &ref, err);
	if (r == -EINVAL)
		(void)ql_error_prefix(err, "\"%s\" is not an image reference",
				      text);
	if (r < 0)
		return r;
	*ret_ref = ref;
	ref = (struct ql_ref){ 0 };
	return 0;
}

void ql_ref_release(struct ql_ref *ref)
{
	free(ref->domain);
	free(ref->path);
	free(ref->tag);
	free(ref->name);
	*ref = (struct ql_ref){ 0 };
}

char *ql_ref_repository(const struct ql_ref *ref, bool plain_http)
{
	switch (ref->kind) {
	case QL_REF_REGISTRY:
		return ql_strf("%s%s/%s", plain_http ? QL_PLAIN_PREFIX : "",
			       ref->domain, ref->path);
	case QL_REF_OCI_DIR: {
		_cleanup_free_ char *path = realpath(ref->path, NULL);

		return path ? ql_strf("oci:%s", path) : NULL;
	}
	case QL_REF_DOCKER_ARCHIVE:
	default:
		return NULL;
	}
}
