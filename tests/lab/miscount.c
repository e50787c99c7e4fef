/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Makes the counts of a store's catalogue wrong:
 *
 *	miscount STORE OBJECT...
 *
 * Of each object (64 hexadecimal digits) seven more users are counted than
 * there are, and one user of a content that nobody has.
 */
#include <stdio.h>
#include <string.h>

#include "store/store-private.h"

static int miscount(struct ql_txn *txn, const char *hex)
{
	struct ql_object_record rec;
	struct ql_digest digest;
	int r = ql_digest_from_hex(hex, &digest);

	if (r == 0)
		r = ql_record_get_object(txn, &digest, &rec);
	if (r < 0)
		return r;
	rec.refs += 7;
	return ql_record_put_object(txn, &digest, &rec, NULL);
}

int main(int argc, char **argv)
{
	const struct ql_object_record one = { .size = 99, .refs = 1 };
	const struct ql_digest none = { { 0x99 } };
	struct ql_error err = QL_ERROR_INIT;
	struct ql_store *store = NULL;
	struct ql_txn *txn = NULL;
	int r = argc < 2 ? -1
			 : ql_store_open(argv[1], QL_STORE_WRITE, &store, &err);

	if (r == 0)
		r = ql_txn_begin(store->catalog, true, &txn, &err);
	for (int i = 2; i < argc && r == 0; i++)
		r = miscount(txn, argv[i]);
	if (r == 0)
		r = ql_record_put_object(txn, &none, &one, &err);
	if (r == 0)
		r = ql_txn_commit(ql_take_ptr(txn), &err);
	ql_txn_abort(txn);
	ql_store_close(store);
	if (r < 0)
		(void)fprintf(stderr, "miscount: %d %s\n", r, err.text);
	return r < 0;
}
