/* SPDX-License-Identifier: Apache-2.0 */
/* quicklayer plan: a deployment manifest for each image, printed or carried
 * out, one image after another. */
#include "tools/cli.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "sched-exporter/sched-exporter.h"

#define NS_A_SECOND 1e9

static void print_warning(const char *text, void *arg)
{
	(void)arg;
	(void)fprintf(stderr, "quicklayer: plan: %s\n", text);
}

static struct ql_nodes_from nodes_from(const struct ql_cli *cli)
{
	return (struct ql_nodes_from){
		.file = cli->nodes,
		.kubernetes = cli->kubernetes,
		.kube = { .api = { .url = cli->kube_url,
				   .token = cli->kube_token,
				   .ca = cli->kube_ca },
			  .cluster = cli->cluster,
			  .warn = print_warning },
	};
}

/* ---- said ---- */

static const char *source_name(const struct ql_qdm *qdm, uint32_t src)
{
	if (src == QL_QDM_NONE)
		return "-";
	return src == QL_QDM_REGISTRY ? "registry" : qdm->nodes[src].name;
}

static void print_plan(const struct ql_nodes *nodes, const char *image,
		       const struct ql_deployment *d)
{
	const struct ql_deploy_plan *plan = ql_deployment_planned(d);
	const struct ql_qdm *qdm = ql_deployment_qdm(d);
	char size[QL_HUMAN];

	(void)printf("%s: %u nodes, ready after %.1f s (no plan: under %.1f "
		     "s)\n",
		     image, plan->n_targets,
		     (double)plan->time_ns / NS_A_SECOND,
		     (double)plan->bound_ns / NS_A_SECOND);
	for (uint32_t i = 0; i < plan->n_sites; i++)
		(void)printf("  site %s: %s by its uplink\n",
			     nodes->sites[i].name,
			     ql_human_bytes(plan->uplink_bytes[i], size));
	for (uint32_t i = 0; i < qdm->n_nodes; i++) {
		const struct ql_qdm_node *n = &qdm->nodes[i];

		for (uint32_t k = n->first; k < n->first + n->n; k++) {
			const struct ql_qdm_fetch *f = &qdm->fetches[k];
			char digest[QL_DIGEST_TEXT + 1];

			(void)printf("  %s: %.19s %s from %s, else %s\n",
				     n->name,
				     ql_digest_text(&f->digest, digest),
				     ql_human_bytes(f->bytes, size),
				     source_name(qdm, f->from),
				     source_name(qdm, f->fallback));
		}
	}
}

static const char *const states[] = {
	[QL_DEPLOY_UNKNOWN] = "not asked yet",
	[QL_DEPLOY_FETCHING] = "fetching",
	[QL_DEPLOY_DONE] = "ready",
	[QL_DEPLOY_FAILED] = "failed",
	[QL_DEPLOY_SILENT] = "does not answer",
};

static int print_progress(const struct ql_deploy_progress *p, void *arg)
{
	const struct ql_cli *cli = arg;
	char done[QL_HUMAN], bytes[QL_HUMAN];

	if (cli->quiet || cli->json)
		return 0;
	(void)fprintf(stderr, "%s: %s, %s of %s%s%s\n", p->node,
		      states[p->state], ql_human_bytes(p->done, done),
		      ql_human_bytes(p->bytes, bytes), *p->error ? ": " : "",
		      p->error);
	return 0;
}

/* ---- done ---- */

static int manifest_json(const struct ql_deployment *d, json_t *list,
			 struct ql_error *err)
{
	const struct ql_buf *text = ql_deployment_text(d);
	json_t *doc = NULL;
	int r = ql_json_parse(ql_buf_str(text), text->len, &doc, err);

	if (r == 0 && json_array_append_new(list, doc) < 0)
		r = ql_error_nomem(err);
	return r;
}

static int carry_out(const struct ql_cli *cli, const char *image,
		     struct ql_deployment *d, struct ql_error *err)
{
	uint64_t start = ql_now_ns();
	unsigned int plans = 0;
	int r = ql_deployment_apply(d, print_progress, (void *)cli, &plans,
				    err);

	if (r < 0)
		return ql_error_prefix(err, "%s", image);
	if (!cli->quiet && !cli->json)
		(void)printf("%s: everywhere after %.1f s, planned again %u "
			     "times\n",
			     image, (double)(ql_now_ns() - start) / NS_A_SECOND,
			     plans);
	return 0;
}

static int plan_one(const struct ql_cli *cli, const char *image,
		    const struct ql_nodes *nodes, json_t *list,
		    struct ql_error *err)
{
	_cleanup_ref_ struct ql_ref ref = { 0 };
	_cleanup_(ql_rollout_freep) struct ql_rollout *rollout = NULL;
	const struct ql_rollout_options options = {
		.nodes = nodes,
		.ref = &ref,
		.platform = cli->platform,
		.plain_http = cli->plain_http,
		.config_dir = cli->config_dir,
		.remote = { .ca = cli->tls_ca,
			    .cert = cli->tls_cert,
			    .key = cli->tls_key },
	};
	struct ql_deployment *d;
	uint32_t silent = 0;
	int r = ql_rollout_ref(image, &ref, err);

	if (r == 0)
		r = ql_rollout_open(&options, &rollout, err);
	if (r == 0)
		r = ql_rollout_plan(rollout, &silent, err);
	if (r < 0)
		return r;
	if (silent > 0)
		(void)fprintf(stderr,
			      "quicklayer: plan: %" PRIu32
			      " of %u nodes do not answer, and are left out\n",
			      silent, nodes->n_nodes);
	d = ql_rollout_deployment(rollout);
	if (cli->json)
		r = manifest_json(d, list, err);
	else if (!cli->quiet)
		print_plan(nodes, ref.name, d);
	if (r == 0 && cli->apply)
		r = carry_out(cli, ref.name, d, err);
	return r;
}

static int usage_check(const struct ql_cli *cli,
		       const struct ql_nodes_from *from, struct ql_error *err)
{
	int tls = (cli->tls_ca != NULL) + (cli->tls_cert != NULL) +
		  (cli->tls_key != NULL);
	const char *wrong = ql_nodes_from_wrong(from);

	if (wrong)
		return ql_error_set(err, -EINVAL, "%s", wrong);
	if (tls != 0 && tls != 3)
		return ql_error_set(err, -EINVAL,
				    "--tls-ca, --tls-cert and --tls-key go "
				    "together");
	return 0;
}

int ql_cmd_plan(const struct ql_cli *cli, struct ql_error *err)
{
	_cleanup_nodes_ struct ql_nodes nodes = { 0 };
	_cleanup_json_ json_t *list = json_array();
	const struct ql_nodes_from from = nodes_from(cli);
	int r = usage_check(cli, &from, err);

	if (r < 0)
		return ql_usage("plan", err);
	r = ql_nodes_from(&from, &nodes, err);
	for (int i = 0; i < cli->argc && r == 0; i++)
		r = plan_one(cli, cli->argv[i], &nodes, list, err);
	if (r < 0 || !cli->json)
		return r;
	return ql_out_json(ql_take_ptr(list), err);
}
