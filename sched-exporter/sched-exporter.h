/* SPDX-License-Identifier: Apache-2.0 */
/* What the cluster's side offers: plans, and their manifests. */
#ifndef QL_SCHED_EXPORTER_H
#define QL_SCHED_EXPORTER_H

#include "sched-exporter/deploy.h"
#include "sched-exporter/kube.h"
#include "sched-exporter/nodes.h"
#include "sched-exporter/nodesfrom.h"
#include "sched-exporter/plan.h"
#include "sched-exporter/planqdm.h"
#include "sched-exporter/rollout.h"

#endif
