/* SPDX-License-Identifier: Apache-2.0 */
/*
 * JSON from outside, by jansson: bounded parsing and typed access that names
 * what is missing.  Objects are borrowed from their root.
 */
#ifndef QL_BASE_JSON_H
#define QL_BASE_JSON_H

#include <jansson.h>
#include <stdint.h>

struct ql_error;

/* Owned by the caller (json_decref).  -EBADMSG where it is not JSON. */
int ql_json_parse(const char *data, size_t len, json_t **ret_json,
		  struct ql_error *err);

/* Required members.  -EBADMSG, naming the key, where absent or of another
 * type.  What is returned is borrowed from obj. */
int ql_json_get_string(const json_t *obj, const char *key,
		       const char **ret_value, struct ql_error *err);
int ql_json_get_u64(const json_t *obj, const char *key, uint64_t *ret_value,
		    struct ql_error *err);
int ql_json_get_array(const json_t *obj, const char *key, json_t **ret_value,
		      struct ql_error *err);
int ql_json_get_object(const json_t *obj, const char *key, json_t **ret_value,
		       struct ql_error *err);

/* No member but these, whose list ends with NULL: -EBADMSG, naming one. */
int ql_json_only(const json_t *obj, const char *const *known,
		 struct ql_error *err);

/* An optional string: dflt where the key is absent, null or no string. */
const char *ql_json_opt_string(const json_t *obj, const char *key,
			       const char *dflt);

struct ql_digest;
/* "sha256:…" */
json_t *ql_json_digest(const struct ql_digest *digest);
/* Bytes from outside (names, paths) as a JSON string; where they are not
 * UTF-8, those above 0x7f as \ooo.  NULL: out of memory. */
json_t *ql_json_bytes(const char *bytes, size_t len);
json_t *ql_json_text(const char *text); /* the same; NULL is null */
/* What our servers answer when they refuse: {"error": {"code": "ENOENT",
 * "message": "…"}} of a negative errno; text "": what strerror says. */
json_t *ql_json_error(int code, const char *text);

static inline void ql_json_decrefp(json_t **p)
{
	json_decref(*p);
}
#define _cleanup_json_ __attribute__((cleanup(ql_json_decrefp)))

#endif
