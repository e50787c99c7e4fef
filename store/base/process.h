/* SPDX-License-Identifier: Apache-2.0 */
/* What a program sets for all of itself, before it has threads. */
#ifndef QL_PROCESS_H
#define QL_PROCESS_H

/*
 * Few arenas for all threads: each of many would keep what its layer freed (a
 * third of a pull's peak, measured), and threads here hash and copy more than
 * they allocate.  A fixed threshold keeps buffers out of the heap.
 */
void ql_process_bound_memory(int arenas);
/* As many open files as may be: objects are published by the hundred, and
 * connections are many. */
void ql_process_raise_files(void);

#endif
