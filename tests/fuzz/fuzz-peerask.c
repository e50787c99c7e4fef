/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What another node may send: "PATH\nRANGE\nIF-NONE-MATCH\nADDRESS\n" and the
 * lines of a batch, which are to mean the same however they come in pieces.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "fs/peer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The next line of *p, which is then behind it; owned. */
static char *line(const char **p, const char *end)
{
	const char *nl = memchr(*p, '\n', (size_t)(end - *p));
	const char *stop = nl ? nl : end;
	char *text = strndup(*p, (size_t)(stop - *p));

	*p = nl ? nl + 1 : end;
	return text;
}

static void head(char *const lines[4])
{
	struct ql_peer_query query = { .method = "GET", .path = lines[0] };
	struct ql_peer_reply reply;
	struct ql_peer_range range;
	struct ql_net net;

	ql_peer_reply_init(&reply);
	if (!ql_peer_route_find(&query, &reply) && reply.status < 400)
		abort();
	ql_peer_reply_release(&reply);
	ql_peer_range_parse(lines[1], &range);
	if (range.kind == QL_PEER_RANGE_FROM && range.len == 0)
		abort();
	(void)ql_peer_etag_matches(lines[2], "\"a\"");
	if (ql_net_parse(lines[3], &net) == 0 && !ql_net_has(&net, &net.first))
		abort();
	(void)ql_net_hostport_check(lines[3]);
	(void)ql_net_listen_check(lines[3]);
}

static int batch_read(struct ql_peer_batch *batch, const char *text, size_t len,
		      size_t step)
{
	struct ql_error err = QL_ERROR_INIT;

	for (size_t i = 0; i < len; i += step)
		if (ql_peer_batch_add(batch, text + i,
				      len - i < step ? len - i : step,
				      &err) < 0)
			break;
	return ql_peer_batch_end(batch, &err);
}

static void batches(const char *text, size_t len)
{
	struct ql_peer_batch a = { 0 }, b = { 0 };
	int ra = batch_read(&a, text, len, len + 1);
	int rb = batch_read(&b, text, len, 7);

	/* A request that is too large is so before its lines are read. */
	if (len <= QL_PEER_BATCH_BYTES && (ra != rb || a.n != b.n))
		abort();
	for (size_t i = 0; ra == 0 && rb == 0 && i < a.n; i++)
		if (a.parts[i].kind != b.parts[i].kind ||
		    a.parts[i].offset != b.parts[i].offset ||
		    a.parts[i].len != b.parts[i].len ||
		    !ql_digest_equal(&a.parts[i].digest, &b.parts[i].digest))
			abort();
	ql_peer_batch_release(&a);
	ql_peer_batch_release(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *p = (const char *)data, *end = p + size;
	char *lines[4];
	bool all = true;

	for (int i = 0; i < 4; i++) {
		lines[i] = line(&p, end);
		all = all && lines[i];
	}
	if (all) {
		head(lines);
		batches(p, (size_t)(end - p));
	}
	for (int i = 0; i < 4; i++)
		free(lines[i]);
	return 0;
}
