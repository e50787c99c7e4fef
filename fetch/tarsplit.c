/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tar-split (github.com/vbatts/tar-split, tar/storage): what of an archive is
 * no file's content, so that engines can rebuild the archive from files.  A
 * line of JSON each for the bytes before a file's content (type 2) and for the
 * content (type 1: name, size and CRC-64 of ISO 3309, big-endian), in base64.
 */
#include "fetch/push-private.h"

#include <errno.h>
#include <isa-l/crc64.h>
#include <openssl/evp.h>

enum {
	SEGMENT_PIECE = 48 << 10, /* bytes of base64 made at once; 3 divides it
				   */
};

struct ql_tarsplit {
	struct ql_zwriter *out; /* borrowed */
	uint64_t position;	/* lines so far */
	uint64_t crc;
	char text[SEGMENT_PIECE / 3 * 4 + 1];
};

int ql_tarsplit_new(struct ql_zwriter *out, struct ql_tarsplit **ret_ts,
		    struct ql_error *err)
{
	struct ql_tarsplit *ts = calloc(1, sizeof(*ts));

	if (!ts)
		return ql_error_nomem(err);
	ts->out = out;
	*ret_ts = ts;
	return 0;
}

void ql_tarsplit_free(struct ql_tarsplit *ts)
{
	free(ts);
}

static int put_base64(struct ql_tarsplit *ts, const uint8_t *data, size_t len,
		      struct ql_error *err)
{
	int r = 0;

	for (size_t at = 0; at < len && r == 0; at += SEGMENT_PIECE) {
		size_t n = len - at < SEGMENT_PIECE ? len - at : SEGMENT_PIECE;
		int text = EVP_EncodeBlock((unsigned char *)ts->text, data + at,
					   (int)n);

		r = ql_zwriter_add(ts->out, ts->text, (size_t)text, err);
	}
	return r;
}

/* `"payload":"…","position":N}` and the line's end. */
static int put_payload(struct ql_tarsplit *ts, const void *data, size_t len,
		       struct ql_error *err)
{
	char end[64];
	int n = snprintf(end, sizeof(end), "%s,\"position\":%llu}\n",
			 data ? "\"" : "", (unsigned long long)ts->position++);
	int r = ql_zwriter_add(ts->out,
			       data ? "\"payload\":\"" : "\"payload\":null",
			       data ? 11 : 14, err);

	if (r == 0 && data)
		r = put_base64(ts, data, len, err);
	return r < 0 ? r : ql_zwriter_add(ts->out, end, (size_t)n, err);
}

int ql_tarsplit_segment(struct ql_tarsplit *ts, const void *data, size_t len,
			struct ql_error *err)
{
	static const char start[] = "{\"type\":2,";
	int r;

	if (len == 0)
		return 0;
	r = ql_zwriter_add(ts->out, start, sizeof(start) - 1, err);
	return r < 0 ? r : put_payload(ts, data, len, err);
}

void ql_tarsplit_data(struct ql_tarsplit *ts, const void *data, size_t len)
{
	ts->crc = crc64_iso_refl(ts->crc, data, len);
}

int ql_tarsplit_file(struct ql_tarsplit *ts, const char *name, uint64_t size,
		     struct ql_error *err)
{
	_cleanup_json_ json_t *text = json_string(name);
	_cleanup_free_ char *quoted = NULL;
	_cleanup_buf_ struct ql_buf line = QL_BUF_INIT(1 << 20);
	uint8_t crc[8];
	int r;

	if (!text)
		return ql_error_set(err, -EILSEQ, "a name that is not UTF-8");
	quoted = json_dumps(text, JSON_ENCODE_ANY);
	if (!quoted)
		return ql_error_nomem(err);
	for (int i = 0; i < 8; i++)
		crc[i] = (uint8_t)(ts->crc >> (56 - 8 * i));
	ts->crc = 0;
	r = ql_buf_addf(&line, "{\"type\":1,\"name\":%s,", quoted);
	if (r == 0 && size > 0)
		r = ql_buf_addf(&line, "\"size\":%llu,",
				(unsigned long long)size);
	if (r < 0)
		return ql_error_set(err, r, "a name too long");
	r = ql_zwriter_add(ts->out, line.data, line.len, err);
	return r < 0 ? r
		     : put_payload(ts, size > 0 ? crc : NULL, sizeof(crc), err);
}
