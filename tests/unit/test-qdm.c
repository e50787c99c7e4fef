/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fetch/qdm: plans as manifests, there and back; what is no manifest,
 * with what is said of it; and whom it is for.
 */
#include "tests/unit/deploy.h"

#include <errno.h>

#include "fetch/qdm.h"
#include "sched-exporter/planqdm.h"

#define A                                                                      \
	"sha256:"                                                              \
	"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define B                                                                      \
	"sha256:"                                                              \
	"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"

/* Single quotes stand for double ones. */
#define HEAD                                                                   \
	"{'apiVersion':'quicklayer.io/v1','kind':'DeploymentManifest',"        \
	"'cluster':'edge','generation':7,'created':'2026-11-29T03:02:50Z',"    \
	"'image':{'reference':'registry.example/app:1','digest':'" A "'},"
#define NODE(name, port, fetches)                                              \
	"{'name':'" name "','address':'10.0.0.1:" port "','fetches':[" fetches \
	"]}"
#define REGISTRY "{'registry':true}"
#define FROM(name, port) "{'node':'" name "','address':'10.0.0.1:" port "'}"
#define FETCH(digest, from) "{'digest':'" digest "','bytes':5,'from':" from "}"
#define FETCH2(digest, from, fallback)                                         \
	"{'digest':'" digest "','bytes':5,'from':" from                        \
	",'fallback':" fallback "}"
#define NODES(list) HEAD "'nodes':[" list "]}"

static int parse(const char *text, struct ql_qdm *qdm, struct ql_error *err)
{
	char *json = strdup(text);
	int r;

	assert_non_null(json);
	for (char *p = json; *p; p++)
		if (*p == '\'')
			*p = '"';
	r = ql_qdm_parse(json, strlen(json), qdm, err);
	free(json);
	return r;
}

static void taken(const char *text)
{
	struct ql_qdm qdm = { 0 };
	struct ql_error err = QL_ERROR_INIT;

	if (parse(text, &qdm, &err) < 0)
		fail_msg("%s", err.text);
	ql_qdm_release(&qdm);
}

static void refused_as(const char *text, int code, const char *what)
{
	struct ql_qdm qdm = { 0 };
	struct ql_error err = QL_ERROR_INIT;
	int r = parse(text, &qdm, &err);

	if (r == 0)
		fail_msg("taken, without \"%s\"", what);
	assert_null(qdm.nodes); /* untouched */
	if (!strstr(err.text, what))
		fail_msg("\"%s\" does not say \"%s\"", err.text, what);
	assert_int_equal(r, code);
}

static void refused(const char *text, const char *what)
{
	refused_as(text, -EBADMSG, what);
}

static void test_a_manifest_is_read(void **state)
{
	struct ql_qdm qdm = { 0 };
	struct ql_error err = QL_ERROR_INIT;

	(void)state;
	if (parse(NODES(NODE("n1", "81",
			     "{'digest':'" B "','bytes':5,'from':" REGISTRY
			     ",'uplinkShare':250}") "," NODE("n2", "82",
							     FETCH2(B,
								    FROM("n1",
									 "81"),
								    REGISTRY))),
		  &qdm, &err) < 0)
		fail_msg("%s", err.text);
	assert_string_equal(qdm.cluster, "edge");
	assert_int_equal(qdm.generation, 7);
	assert_string_equal(qdm.created, "2026-11-29T03:02:50Z");
	assert_string_equal(qdm.reference, "registry.example/app:1");
	assert_int_equal(qdm.digest.bytes[31], 0xaa);
	assert_int_equal(qdm.n_nodes, 2);
	assert_int_equal(ql_qdm_find(&qdm, "n2"), 1);
	assert_int_equal(ql_qdm_find(&qdm, "n3"), QL_QDM_NONE);
	assert_string_equal(qdm.nodes[1].address, "10.0.0.1:82");
	assert_int_equal(qdm.nodes[1].first, 1);
	assert_int_equal(qdm.nodes[1].n, 1);
	assert_int_equal(qdm.fetches[0].from, QL_QDM_REGISTRY);
	assert_int_equal(qdm.fetches[0].fallback, QL_QDM_NONE);
	assert_int_equal(qdm.fetches[0].share, 250);
	assert_int_equal(qdm.fetches[1].from, 0);
	assert_int_equal(qdm.fetches[1].fallback, QL_QDM_REGISTRY);
	assert_int_equal(qdm.fetches[1].bytes, 5);
	assert_int_equal(qdm.fetches[1].share, 0);
	assert_int_equal(qdm.fetches[1].digest.bytes[0], 0xbb);
	ql_qdm_release(&qdm);
	taken(NODES(""));
	taken(NODES(NODE("n1", "81", "")));
}

static void test_other_kinds_are_refused(void **state)
{
	(void)state;
	refused("[]", "not an object");
	refused("{", "not valid JSON");
	refused("{'kind':'DeploymentManifest'}", "\"apiVersion\" is missing");
	refused_as("{'apiVersion':'quicklayer.io/v2',"
		   "'kind':'DeploymentManifest'}",
		   -EOPNOTSUPP, "\"apiVersion\" is quicklayer.io/v2");
	refused_as("{'apiVersion':'quicklayer.io/v1','kind':'Pod'}",
		   -EOPNOTSUPP, "\"kind\" is Pod");
}

/* HEAD with one member changed or left out. */
static void head_without(const char *member, const char *instead,
			 const char *what)
{
	const char *whole = NODES(""), *at = strstr(whole, member);
	char *text = calloc(1, strlen(whole) + strlen(instead) + 1);

	assert_non_null(at);
	assert_non_null(text);
	memcpy(text, whole, (size_t)(at - whole));
	memcpy(text + (at - whole), instead, strlen(instead));
	memcpy(text + (at - whole) + strlen(instead), at + strlen(member),
	       strlen(at + strlen(member)));
	refused(text, what);
	free(text);
}

static void test_the_head_is_whole(void **state)
{
	(void)state;
	head_without("'cluster':'edge',", "", "\"cluster\" is missing");
	head_without("'edge'", "'ed ge'", "\"cluster\" is no name: ed ge");
	head_without("'edge'", "''", "\"cluster\" is no name");
	head_without("'edge'", "'.x'", "\"cluster\" is no name");
	head_without("'edge'", "7", "\"cluster\" is not a string");
	head_without(":7,", ":-7,", "\"generation\" is negative");
	head_without(":7,", ":0,", "\"generation\" is out of bounds");
	head_without(":7,", ":7.5,", "\"generation\" is not a whole number");
	head_without(":7,", ":18446744073709551616,", "too big integer");
	head_without("03:02:50Z", "03:02:50+01:00", "\"created\" is no time");
	head_without("2026-11", "2026-13", "\"created\" is no time");
	head_without("03:02:50Z", "24:02:50Z", "\"created\" is no time");
	head_without("'reference':'registry.example/app:1',", "",
		     "\"image\": \"reference\" is missing");
	head_without("app:1", "app 1", "\"reference\" is none");
	head_without("sha256:aa", "sha256:AA", "\"image\": \"digest\"");
	head_without("sha256:aa", "sha512:aa", "\"image\": \"digest\"");
	head_without("'nodes':[]", "'nodes':{}", "\"nodes\" is not an array");
	head_without("'nodes'", "'more':1,'nodes'",
		     "\"more\" does not belong here");
	head_without("'nodes'", "'kind':'DeploymentManifest','nodes'",
		     "duplicate");
	head_without("{'reference'", "{'size':1,'reference'",
		     "\"image\": \"size\" does not belong here");
}

static void test_nodes_are_sound(void **state)
{
	char *text, *name;

	(void)state;
	refused(NODES("7"), "nodes[0]: not an object");
	refused(NODES(NODE("n1", "81", "") "," NODE("n1", "82", "")),
		"node n1 stands there twice");
	refused(NODES(NODE("n/1", "81", "")), "nodes[0]: no name: n/1");
	refused(NODES(NODE("n1", "0", "")), "node n1: no address");
	refused(NODES(NODE("n1", "65536", "")), "node n1: no address");
	refused(NODES(NODE("n1", "", "")), "node n1: no address");
	refused(NODES("{'name':'n1','address':'a b:1','fetches':[]}"),
		"node n1: no address");
	taken(NODES("{'name':'n1','address':'[fe80::1]:1','fetches':[]}"));
	taken(NODES("{'name':'n1','address':'n1.example:65535','fetches':[]}"));
	refused(NODES("{'name':'n1','address':'fe80::1:1','fetches':[]}"),
		"node n1: no address");
	refused(NODES("{'name':'n1','fetches':[]}"),
		"nodes[0]: \"address\" is missing");
	refused(NODES("{'name':'n1','address':'n1:1'}"),
		"nodes[0]: \"fetches\" is missing");
	refused(NODES("{'name':'n1','address':'n1:1','fetches':[],'x':0}"),
		"nodes[0]: \"x\" does not belong here");
	/* A name of 254 bytes. */
	name = calloc(1, QL_QDM_NAME_MAX + 2);
	text = calloc(1, 4096);
	assert_true(name && text);
	memset(name, 'n', QL_QDM_NAME_MAX + 1);
	(void)snprintf(text, 4096,
		       HEAD "'nodes':[{'name':'%s','address':'n:1',"
			    "'fetches':[]}]}",
		       name);
	refused(text, "\"name\" is longer than 253 bytes");
	name[QL_QDM_NAME_MAX] = 0;
	(void)snprintf(text, 4096,
		       HEAD "'nodes':[{'name':'%s','address':'n:1',"
			    "'fetches':[]}]}",
		       name);
	taken(text);
	free(name);
	free(text);
}

static void test_fetches_are_sound(void **state)
{
	(void)state;
	refused(NODES(NODE("n1", "81", "[]")),
		"node n1: fetches[0]: not an object");
	refused(NODES(NODE("n1", "81",
			   FETCH(A, REGISTRY) ",{'digest':'" B
					      "','bytes':-1,'from':" REGISTRY
					      "}")),
		"node n1: fetches[1]: \"bytes\" is negative");
	refused(NODES(NODE("n1", "81",
			   "{'digest':'" B "','bytes':0,'from':" REGISTRY "}")),
		"node n1: piece " B " is of a size out of bounds");
	refused(NODES(NODE("n1", "81",
			   "{'digest':'" B
			   "','bytes':17592186044417,'from':" REGISTRY "}")),
		"is of a size out of bounds");
	refused(NODES(NODE("n1", "81",
			   FETCH(B, REGISTRY) "," FETCH(A, REGISTRY) "," FETCH(
				   B, REGISTRY))),
		"node n1: piece " B " stands there twice");
	refused(NODES(NODE("n1", "81", FETCH(B, REGISTRY)) "," NODE(
			"n2", "82",
			"{'digest':'" B "','bytes':6,'from':" REGISTRY "}")),
		"node n2: piece " B " is of another size elsewhere");
	refused(NODES(NODE("n1", "81", FETCH(B, FROM("n2", "82")))),
		"node n1: fetches[0]: \"from\": no node is called n2");
	refused(NODES(NODE("n1", "81", FETCH(B, FROM("n2", "83"))) "," NODE(
			"n2", "82", "")),
		"\"from\": node n2 has another address");
	refused(NODES(NODE("n1", "81", FETCH2(B, REGISTRY, FROM("n2", "82")))),
		"\"fallback\": no node is called n2");
	refused(NODES(NODE("n1", "81", FETCH(B, "{'registry':false}"))),
		"\"registry\" is not true");
	refused(NODES(NODE("n1", "81",
			   FETCH(B, "{'registry':true,'node':'n1'}"))),
		"\"registry\" is not true and alone");
	refused(NODES(NODE("n1", "81", FETCH(B, "{}"))),
		"\"from\": \"node\" is missing");
	refused(NODES(NODE("n1", "81", FETCH(B, "'registry'"))),
		"\"from\" is not an object");
	refused(NODES(NODE("n1", "81",
			   "{'digest':'" B "','bytes':1,'from':" REGISTRY
			   ",'uplinkShare':1001}")),
		"\"uplinkShare\" is not 1 to 1000");
	refused(NODES(NODE("n1", "81",
			   "{'digest':'" B "','bytes':1,'from':" REGISTRY
			   ",'uplinkShare':65537}")),
		"\"uplinkShare\" is not 1 to 1000");
	refused(NODES(NODE("n1", "81",
			   "{'digest':'" B "','bytes':1,'from':" REGISTRY
			   ",'x':1}")),
		"node n1: fetches[0]: \"x\" does not belong here");
}

#define FROM1 FROM("n1", "81")
#define FROM2 FROM("n2", "82")
#define FROM3 FROM("n3", "83")

static void test_nobody_waits_for_itself(void **state)
{
	(void)state;
	refused(NODES(NODE("n1", "81", FETCH(B, FROM1))),
		"comes from the node itself");
	refused(NODES(NODE("n1", "81", FETCH2(B, REGISTRY, FROM1))),
		"falls back to the node itself");
	refused(NODES(NODE("n1", "81", FETCH(B, FROM2)) "," NODE(
			"n2", "82", FETCH(B, FROM1))),
		"node n1: piece " B " comes in a circle");
	/* Of three, with a fourth before it that is in none. */
	refused(NODES(NODE("n0", "80", FETCH(B, FROM1)) "," NODE(
			"n1", "81",
			FETCH(B,
			      FROM2)) "," NODE("n2", "82",
					       FETCH(B,
						     FROM3)) "," NODE("n3",
								      "83",
								      FETCH(B,
									    FROM1))),
		"node n1: piece " B " comes in a circle");
	/* By a fallback. */
	refused(NODES(NODE("n1", "81", FETCH2(B, REGISTRY, FROM2)) "," NODE(
			"n2", "82", FETCH(B, FROM1))),
		"comes in a circle");
	/* Different pieces go both ways, and the same from two to one. */
	taken(NODES(
		NODE("n1", "81",
		     FETCH(A, REGISTRY) "," FETCH(
			     B, FROM2)) "," NODE("n2", "82",
						 FETCH(B, REGISTRY) "," FETCH(
							 A, FROM1))));
	taken(NODES(NODE("n1", "81", FETCH(B, REGISTRY)) "," NODE(
		"n2", "82",
		FETCH2(B, FROM1, REGISTRY)) "," NODE("n3", "83",
						     FETCH2(B, FROM2, FROM1))));
	/* From one that has it already. */
	taken(NODES(NODE("n1", "81",
			 FETCH2(B, FROM2, FROM2)) "," NODE("n2", "82", "")));
}

static void test_too_much_is_refused(void **state)
{
	struct ql_buf text = QL_BUF_INIT(QL_QDM_BYTES_MAX * 2UL);
	struct ql_qdm qdm = { 0 };
	struct ql_error err = QL_ERROR_INIT;

	(void)state;
	assert_int_equal(ql_buf_adds(&text, HEAD "'nodes':["), 0);
	for (int i = 0; i <= QL_QDM_NODES_MAX; i++)
		assert_int_equal(ql_buf_addf(&text,
					     "%s{'name':'n%d','address':'n:1',"
					     "'fetches':[]}",
					     i ? "," : "", i),
				 0);
	assert_int_equal(ql_buf_adds(&text, "]}"), 0);
	refused_as(text.data, -EFBIG, "4097 nodes (at most 4096)");
	/* Of all nodes together. */
	ql_buf_clear(&text);
	assert_int_equal(ql_buf_adds(&text, HEAD "'nodes':["), 0);
	for (int n = 0; n < 3; n++) {
		assert_int_equal(ql_buf_addf(&text,
					     "%s{'name':'n%d','address':'n:1',"
					     "'fetches':[0",
					     n ? "," : "", n),
				 0);
		for (int i = 1; i < QL_QDM_FETCHES_MAX / 2; i++)
			assert_int_equal(ql_buf_adds(&text, ",0"), 0);
		assert_int_equal(ql_buf_adds(&text, "]}"), 0);
	}
	assert_int_equal(ql_buf_adds(&text, "]}"), 0);
	refused_as(text.data, -EFBIG, "nodes[2]: more than 262144 fetches");
	/* Not even looked at. */
	ql_buf_clear(&text);
	assert_int_equal(ql_buf_reserve(&text, QL_QDM_BYTES_MAX + 1), 0);
	memset(text.data, ' ', QL_QDM_BYTES_MAX + 1);
	assert_int_equal(ql_qdm_parse(text.data, QL_QDM_BYTES_MAX + 1, &qdm,
				      &err),
			 -EFBIG);
	ql_buf_release(&text);
}

static void test_it_is_for_this_cluster_and_not_old(void **state)
{
	struct ql_qdm qdm = { 0 };
	struct ql_error err = QL_ERROR_INIT;

	(void)state;
	assert_int_equal(parse(NODES(""), &qdm, &err), 0);
	assert_int_equal(ql_qdm_check(&qdm, "edge", 0, &err), 0);
	assert_int_equal(ql_qdm_check(&qdm, "edge", 7, &err), 0);
	assert_int_equal(ql_qdm_check(&qdm, "edge", 8, &err), -ESTALE);
	assert_non_null(strstr(err.text, "generation 7, and 8"));
	assert_int_equal(ql_qdm_check(&qdm, "edge2", 7, &err), -EPERM);
	assert_non_null(strstr(err.text, "cluster edge, and this is edge2"));
	ql_qdm_release(&qdm);
}

/* ---- out of plans ---- */

static void head_fill(struct ql_qdm_head *head, const struct ql_digest *digest)
{
	*head = (struct ql_qdm_head){
		.cluster = "edge",
		.generation = INT64_MAX,
		.created = "2026-11-29T03:02:50Z",
		.reference = "registry.example/app:1",
		.digest = digest,
	};
}

static void assert_equal_qdm(const struct ql_qdm *a, const struct ql_qdm *b)
{
	assert_string_equal(a->cluster, b->cluster);
	assert_int_equal(a->generation, b->generation);
	assert_string_equal(a->created, b->created);
	assert_string_equal(a->reference, b->reference);
	assert_true(ql_digest_equal(&a->digest, &b->digest));
	assert_int_equal(a->n_nodes, b->n_nodes);
	assert_int_equal(a->n_fetches, b->n_fetches);
	for (uint32_t i = 0; i < a->n_nodes; i++) {
		assert_string_equal(a->nodes[i].name, b->nodes[i].name);
		assert_string_equal(a->nodes[i].address, b->nodes[i].address);
		assert_int_equal(a->nodes[i].n, b->nodes[i].n);
		for (uint32_t k = 0; k < a->nodes[i].n; k++) {
			const struct ql_qdm_fetch *f =
				&a->fetches[a->nodes[i].first + k];
			const struct ql_qdm_fetch *g =
				&b->fetches[b->nodes[i].first + k];

			assert_true(ql_digest_equal(&f->digest, &g->digest));
			assert_int_equal(f->bytes, g->bytes);
			assert_int_equal(f->from, g->from);
			assert_int_equal(f->fallback, g->fallback);
			assert_int_equal(f->share, g->share);
		}
	}
}

/* Six sites, of which one has everything, is no target and is asked; a plan of
 * theirs, written and read, is what it was. */
static void test_a_plan_goes_there_and_back(void **state)
{
	struct ql_buf text = QL_BUF_INIT(QL_QDM_BYTES_MAX);
	struct ql_deploy_plan plan = { 0 };
	struct ql_qdm qdm = { 0 }, again = { 0 };
	struct ql_error err = QL_ERROR_INIT;
	struct ql_qdm_head head;
	const char *addresses[30];
	struct deploy d;
	uint32_t n;

	(void)state;
	deploy_init(&d, 6, 5, 20);
	for (uint32_t s = 1; s < 6; s++)
		deploy_link(&d, 0, s, 80 * MBIT, 10 * MS);
	for (uint32_t i = 0; i < 30; i++)
		addresses[i] = i % 2 ? "10.0.0.1:5000" : "[fe80::1]:5000";
	for (uint32_t p = 0; p < 20; p++) {
		deploy_give(&d, 0, p);
		d.pieces[p].priority = p % 3;
	}
	d.in.targets += 5;
	d.in.n_targets -= 5;
	deploy_plan(&d, &plan);
	assert_plan(&d.in, &plan, NULL);
	assert_true(plan.links_sum > 0);
	head_fill(&head, &d.pieces[0].digest);
	if (ql_qdm_of_plan(&d.in, &plan, addresses, &head, &qdm, &err) < 0)
		fail_msg("%s", err.text);
	/* node0 is asked, node1 to node4 are not in it */
	assert_int_equal(qdm.n_nodes, 26);
	assert_int_equal(ql_qdm_find(&qdm, "node1"), QL_QDM_NONE);
	n = ql_qdm_find(&qdm, "node0");
	assert_int_equal(qdm.nodes[n].n, 0);
	assert_int_equal(ql_qdm_write(&qdm, &text, &err), 0);
	if (ql_qdm_parse(text.data, text.len, &again, &err) < 0)
		fail_msg("%s", err.text);
	assert_equal_qdm(&qdm, &again);
	for (uint32_t i = 0; i < plan.n_targets; i++) {
		const struct ql_deploy_target *t = &plan.targets[i];
		const char *name = d.nodes[t->node].name;

		n = ql_qdm_find(&again, name);
		assert_int_equal(again.nodes[n].n, t->n);
		for (uint32_t k = 0; k < t->n; k++) {
			const struct ql_deploy_fetch *f =
				&plan.fetches[t->first + k];
			const struct ql_qdm_fetch *g =
				&again.fetches[again.nodes[n].first + k];

			assert_true(ql_digest_equal(&d.pieces[f->piece].digest,
						    &g->digest));
			if (f->from == QL_QDM_REGISTRY)
				assert_int_equal(g->from, QL_QDM_REGISTRY);
			else
				assert_string_equal(again.nodes[g->from].name,
						    d.nodes[f->from].name);
		}
	}
	ql_qdm_release(&again);
	/* A buffer that is too small, and a head that is none. */
	ql_buf_release(&text);
	ql_buf_init(&text, 1000);
	assert_int_equal(ql_qdm_write(&qdm, &text, &err), -EFBIG);
	head.created = "yesterday";
	assert_int_equal(ql_qdm_of_plan(&d.in, &plan, addresses, &head, &again,
					&err),
			 -EINVAL);
	assert_non_null(strstr(err.text, "yesterday"));
	addresses[7] = "nowhere";
	head.created = "2026-11-29T03:02:50Z";
	assert_int_equal(ql_qdm_of_plan(&d.in, &plan, addresses, &head, &again,
					&err),
			 -EINVAL);
	assert_non_null(strstr(err.text, "node node7: no address: nowhere"));
	ql_buf_release(&text);
	ql_qdm_release(&qdm);
	ql_deploy_plan_release(&plan);
	deploy_release(&d);
}

/* Who is asked is in it, be it first or when that fails. */
static void test_whoever_is_asked_is_in_it(void **state)
{
	const char *addresses[] = { "n:1", "n:2", "n:3", "n:4" };
	struct ql_deploy_plan plan = { 0 };
	struct ql_qdm qdm = { 0 };
	struct ql_error err = QL_ERROR_INIT;
	struct ql_qdm_head head;
	struct deploy d;

	(void)state;
	deploy_init(&d, 1, 4, 1);
	deploy_give(&d, 0, 0);
	deploy_give(&d, 2, 0);
	d.in.targets += 3;
	d.in.n_targets = 1;
	deploy_plan(&d, &plan);
	head_fill(&head, &d.pieces[0].digest);
	if (ql_qdm_of_plan(&d.in, &plan, addresses, &head, &qdm, &err) < 0)
		fail_msg("%s", err.text);
	assert_int_equal(qdm.n_nodes, 3);
	assert_string_equal(qdm.nodes[1].name, "node2");
	assert_string_equal(qdm.nodes[1].address, "n:3");
	assert_int_equal(qdm.fetches[0].from, 0);
	assert_int_equal(qdm.fetches[0].fallback, 1);
	ql_qdm_release(&qdm);
	ql_deploy_plan_release(&plan);
	deploy_release(&d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_manifest_is_read),
		cmocka_unit_test(test_other_kinds_are_refused),
		cmocka_unit_test(test_the_head_is_whole),
		cmocka_unit_test(test_nodes_are_sound),
		cmocka_unit_test(test_fetches_are_sound),
		cmocka_unit_test(test_nobody_waits_for_itself),
		cmocka_unit_test(test_too_much_is_refused),
		cmocka_unit_test(test_it_is_for_this_cluster_and_not_old),
		cmocka_unit_test(test_a_plan_goes_there_and_back),
		cmocka_unit_test(test_whoever_is_asked_is_in_it),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
