/* SPDX-License-Identifier: Apache-2.0 */
/* Repairing a store from where its content came.  Part of fetch/fetch.h;
 * include that. */
#ifndef QL_REPAIR_H
#define QL_REPAIR_H

/*
 * Decodes what is packed of a blob, at a pace (may be NULL), and compares it
 * with what its table of contents says.  Without a table nobody can tell: 0.
 * *ret_bytes: read of the blob, also on failure.  -EBADMSG: some of it is
 * damaged, and still is at a second look; -ECANCELED.  All are described.
 */
int ql_packed_verify(struct ql_store *store, const struct ql_digest *blob,
		     struct ql_pace *pace, uint64_t *ret_bytes,
		     struct ql_error *err);

struct ql_repair_stats {
	uint64_t repaired, failed; /* findings */
};
/* What became of a finding.  why NULL: it is repaired. */
typedef void ql_repair_fn(const struct ql_fault *fault, const char *why,
			  void *arg);
/*
 * Repairs what ql_store_check() and ql_packed_verify() found (faults:
 * borrowed).  A damaged object is
 * not served any more from then on, whether another can be had or not.  Waits
 * for the store's exclusive lock, until *stop (may be NULL; -ECANCELED), and
 * for what is fetched as long as options say.  report is called once for each
 * fault, after all was tried.  0 where it could try; else nothing is reported.
 */
int ql_repair(struct ql_store *store, const struct ql_fault *faults, size_t n,
	      const struct ql_fill_options *options, const atomic_bool *stop,
	      ql_repair_fn *report, void *arg,
	      struct ql_repair_stats *ret_stats, struct ql_error *err);

#endif
