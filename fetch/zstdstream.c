/* SPDX-License-Identifier: Apache-2.0 */
/* One zstd frame (RFC 8878 §3.1.1), written piece by piece into a scratch file.
 */
#include "fetch/push-private.h"

#include <zstd.h>

struct ql_zwriter {
	struct ql_scratch *to;	  /* borrowed */
	ZSTD_CCtx *zstd;	  /* owned */
	struct ql_hasher *hasher; /* owned */
	uint64_t raw;
	char *out; /* owned; out_size bytes */
	size_t out_size;
};

int ql_zwriter_new(struct ql_scratch *to, int level, uint64_t size,
		   struct ql_zwriter **ret_w, struct ql_error *err)
{
	_cleanup_(ql_zwriter_freep) struct ql_zwriter *w =
		calloc(1, sizeof(*w));

	if (!w)
		return ql_error_nomem(err);
	w->to = to;
	w->zstd = ZSTD_createCCtx();
	w->hasher = ql_hasher_new();
	w->out_size = ZSTD_CStreamOutSize();
	w->out = malloc(w->out_size);
	if (!w->zstd || !w->hasher || !w->out ||
	    ZSTD_isError(ZSTD_CCtx_setParameter(
		    w->zstd, ZSTD_c_compressionLevel, level)) ||
	    ZSTD_isError(ZSTD_CCtx_setPledgedSrcSize(w->zstd, size)))
		return ql_error_nomem(err);
	*ret_w = ql_take_ptr(w);
	return 0;
}

void ql_zwriter_free(struct ql_zwriter *w)
{
	if (!w)
		return;
	(void)ZSTD_freeCCtx(w->zstd);
	ql_hasher_free(w->hasher);
	free(w->out);
	free(w);
}

static int zwriter_run(struct ql_zwriter *w, ZSTD_inBuffer *in,
		       ZSTD_EndDirective how, struct ql_error *err)
{
	size_t left;

	do {
		ZSTD_outBuffer out = { w->out, w->out_size, 0 };
		int r;

		left = ZSTD_compressStream2(w->zstd, &out, in, how);
		if (ZSTD_isError(left))
			return ql_error_nomem(err);
		r = ql_scratch_add(w->to, w->out, out.pos, err);
		if (r < 0)
			return r;
		ql_hasher_update(w->hasher, w->out, out.pos);
	} while (in->pos < in->size || (how == ZSTD_e_end && left > 0));
	return 0;
}

int ql_zwriter_add(struct ql_zwriter *w, const void *data, size_t len,
		   struct ql_error *err)
{
	ZSTD_inBuffer in = { data, len, 0 };

	w->raw += len;
	return zwriter_run(w, &in, ZSTD_e_continue, err);
}

int ql_zwriter_end(struct ql_zwriter *w, struct ql_digest *ret_digest,
		   uint64_t *ret_raw, struct ql_error *err)
{
	ZSTD_inBuffer in = { "", 0, 0 };
	int r = zwriter_run(w, &in, ZSTD_e_end, err);

	if (r < 0)
		return r;
	ql_hasher_final(w->hasher, ret_digest);
	*ret_raw = w->raw;
	return 0;
}
