/* SPDX-License-Identifier: Apache-2.0 */
/* What quicklayer-scheduler answers; scheduler-api.c has the list. */
#ifndef QL_SCHED_SCHEDULER_API_H
#define QL_SCHED_SCHEDULER_API_H

#include "sched-exporter/web.h"

enum { QL_SCHEDULER_BODY_MAX = 64 << 10 }; /* bytes of a request's body */

/* A ql_web_handler_fn; arg: a struct ql_rollouts, borrowed. */
void ql_scheduler_handle(const struct ql_web_request *rq,
			 struct ql_web_response *rs, void *arg);

#endif
