/* SPDX-License-Identifier: Apache-2.0 */
/* Typed access to JSON; jansson bounds the nesting (2,048) by itself. */
#include "store/base/json.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/base/cleanup.h"
#include "store/base/digest.h"
#include "store/base/error.h"

int ql_json_parse(const char *data, size_t len, json_t **ret_json,
		  struct ql_error *err)
{
	json_error_t je;
	json_t *json;

	json = json_loadb(data, len, JSON_REJECT_DUPLICATES, &je);
	if (!json)
		return ql_error_set(err, -EBADMSG,
				    "not valid JSON: %s (line %d)", je.text,
				    je.line);
	*ret_json = json;
	return 0;
}

static int json_get(const json_t *obj, const char *key, json_type type,
		    const char *what, json_t **ret_value, struct ql_error *err)
{
	json_t *v = json_object_get(obj, key);

	if (!v)
		return ql_error_set(err, -EBADMSG, "\"%s\" is missing", key);
	if (json_typeof(v) != type)
		return ql_error_set(err, -EBADMSG, "\"%s\" is not %s", key,
				    what);
	*ret_value = v;
	return 0;
}

int ql_json_get_string(const json_t *obj, const char *key,
		       const char **ret_value, struct ql_error *err)
{
	json_t *v = NULL;
	int r = json_get(obj, key, JSON_STRING, "a string", &v, err);

	if (r == 0)
		*ret_value = json_string_value(v);
	return r;
}

int ql_json_get_u64(const json_t *obj, const char *key, uint64_t *ret_value,
		    struct ql_error *err)
{
	json_t *v = NULL;
	int r = json_get(obj, key, JSON_INTEGER, "a whole number", &v, err);

	if (r < 0)
		return r;
	if (json_integer_value(v) < 0)
		return ql_error_set(err, -EBADMSG, "\"%s\" is negative", key);
	*ret_value = (uint64_t)json_integer_value(v);
	return 0;
}

int ql_json_get_array(const json_t *obj, const char *key, json_t **ret_value,
		      struct ql_error *err)
{
	return json_get(obj, key, JSON_ARRAY, "an array", ret_value, err);
}

int ql_json_get_object(const json_t *obj, const char *key, json_t **ret_value,
		       struct ql_error *err)
{
	return json_get(obj, key, JSON_OBJECT, "an object", ret_value, err);
}

int ql_json_only(const json_t *obj, const char *const *known,
		 struct ql_error *err)
{
	const char *key;
	json_t *value;

	json_object_foreach ((json_t *)obj, key, value) {
		size_t i = 0;

		while (known[i] && strcmp(known[i], key) != 0)
			i++;
		if (!known[i])
			return ql_error_set(err, -EBADMSG,
					    "\"%.80s\" does not belong here",
					    key);
	}
	return 0;
}

const char *ql_json_opt_string(const json_t *obj, const char *key,
			       const char *dflt)
{
	const char *s = json_string_value(json_object_get(obj, key));

	return s ? s : dflt;
}

json_t *ql_json_digest(const struct ql_digest *digest)
{
	char text[QL_DIGEST_TEXT + 1];

	return json_string(ql_digest_text(digest, text));
}

json_t *ql_json_bytes(const char *bytes, size_t len)
{
	json_t *s = json_stringn(bytes, len);
	_cleanup_free_ char *safe = NULL;
	size_t n = 0;

	if (s)
		return s;
	safe = malloc(4 * len + 1);
	if (!safe)
		return NULL;
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)bytes[i];

		if (c < 0x80)
			safe[n++] = (char)c;
		else
			n += (size_t)snprintf(safe + n, 5, "\\%03o", c);
	}
	return json_stringn(safe, n);
}

json_t *ql_json_text(const char *text)
{
	return text ? ql_json_bytes(text, strlen(text)) : json_null();
}

json_t *ql_json_error(int code, const char *text)
{
	const char *name = strerrorname_np(-code);

	return json_pack("{s:{s:s, s:o}}", "error", "code", name ? name : "EIO",
			 "message",
			 ql_json_text(*text ? text : strerror(-code)));
}
