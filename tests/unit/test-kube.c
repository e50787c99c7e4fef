/* SPDX-License-Identifier: Apache-2.0 */
/* sched-exporter/kubenodes.c: which Node objects are nodes of plans, what they
 * say of their sites, and that what is wrong is named. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "sched-exporter/kube.h"

#define PAGE_OF(items)                                                         \
	"{\"kind\": \"NodeList\", \"metadata\": {}, \"items\": [" items "]}"
#define CONDITION(is)                                                          \
	"\"conditions\": [{\"type\": \"Ready\", \"status\": \"" is "\"}]"
#define READY CONDITION("True")
#define UNKNOWN CONDITION("Unknown")
#define ADDRESS(type, ip) "{\"type\": \"" type "\", \"address\": \"" ip "\"}"
#define ADDRESSES(list) "\"addresses\": [" list "]"
#define IP ADDRESSES(ADDRESS("InternalIP", "10.0.0.1"))
#define BAD_IP ADDRESSES(ADDRESS("InternalIP", "10.0.0"))
#define TWO_IPS                                                                \
	ADDRESSES(ADDRESS("ExternalIP", "10.9.9.9") ", " ADDRESS("InternalIP", \
								 "fd00::2"))
#define PEER(at) "\"annotations\": {\"quicklayer.io/peer\": \"" at "\"}"
#define DELETED "\"deletionTimestamp\": \"2026-11-29T10:00:00Z\""
#define LABELS(l) "\"labels\": {" l "}"
#define AT_A "\"quicklayer.io/site\": \"a\""
#define NODE(name, meta, status)                                               \
	"{\"metadata\": {\"name\": \"" name "\", " meta                        \
	"}, \"status\": {" status "}}"
#define GOOD(name, labels) NODE(name, LABELS(labels), READY ", " IP)
#define UPLINK "\"net.quicklayer.io/uplink\": "
#define RTT "\"net.quicklayer.io/uplink-rtt\": "

struct warnings {
	unsigned int n;
	char last[1024];
};

static void on_warning(const char *text, void *arg)
{
	struct warnings *w = arg;

	w->n++;
	(void)snprintf(w->last, sizeof(w->last), "%s", text);
}

static int read_list(const char *text, struct ql_nodes *ret, struct warnings *w,
		     struct ql_error *err)
{
	_cleanup_(ql_kubenodes_freep) struct ql_kubenodes *list = NULL;
	_cleanup_free_ char *next = NULL;
	int r = ql_kubenodes_new("edge", on_warning, w, &list, err);

	if (r == 0)
		r = ql_kubenodes_add(list, text, strlen(text), &next, err);
	return r < 0 ? r : ql_kubenodes_finish(list, ret, err);
}

/* Reads a list that is to go well. */
static void good(const char *const *items, struct ql_nodes *ret,
		 struct warnings *w)
{
	_cleanup_buf_ struct ql_buf all = QL_BUF_INIT(1 << 20);
	_cleanup_free_ char *text = NULL;
	struct ql_error err = QL_ERROR_INIT;

	for (size_t i = 0; items[i]; i++)
		assert_int_equal(ql_buf_addf(&all, "%s%s", i > 0 ? ", " : "",
					     items[i]),
				 0);
	text = ql_strf(PAGE_OF("%s"), ql_buf_str(&all));
	assert_non_null(text);
	*w = (struct warnings){ 0 };
	if (read_list(text, ret, w, &err) < 0)
		fail_msg("%s", err.text);
}

static void test_objects_are_nodes(void **state)
{
	static const char *const items[] = {
		GOOD("n1", AT_A ", " UPLINK "\"1Gbit\", " RTT "\"5ms\""),
		NODE("n2",
		     LABELS("\"quicklayer.io/site\": \"b\", "
			    "\"net.quicklayer.io/lan\": \"50MB\", "
			    "\"net.quicklayer.io/lan-rtt\": \"2ms\""),
		     READY ", " TWO_IPS),
		NODE("n3", LABELS(AT_A) ", " PEER("n3.example:99"),
		     READY ", " IP),
		NULL,
	};
	_cleanup_nodes_ struct ql_nodes n = { 0 };
	struct warnings w;

	(void)state;
	good(items, &n, &w);
	assert_int_equal(w.n, 0);
	assert_string_equal(n.cluster, "edge");
	assert_int_equal(n.n_nodes, 3);
	assert_int_equal(n.n_sites, 2);
	assert_string_equal(n.sites[0].name, "a");
	assert_int_equal(n.sites[0].uplink, 125000000);
	assert_int_equal(n.sites[0].uplink_rtt_ns, 5000000);
	assert_true(n.sites[0].uplink_alive);
	assert_int_equal(n.sites[1].lan, 50000000);
	assert_int_equal(n.sites[1].lan_rtt_ns, 2000000);
	assert_string_equal(n.nodes[1].name, "n2");
	assert_int_equal(n.nodes[1].site, 1);
	assert_int_equal(n.nodes[1].up, 50000000);
	assert_int_equal(n.nodes[1].down, 50000000);
	assert_true(n.nodes[1].alive);
	assert_string_equal(n.addresses[0], "10.0.0.1:7700");
	assert_string_equal(n.addresses[1], "[fd00::2]:7700");
	assert_string_equal(n.addresses[2], "n3.example:99");
	assert_int_equal(n.links[0 * 2 + 1].rate, 0);
	assert_int_equal(n.links[1 * 2 + 0].rate, 0);
}

static void test_what_nobody_says_is_usual(void **state)
{
	static const char *const items[] = { GOOD("n1", AT_A), NULL };
	_cleanup_nodes_ struct ql_nodes n = { 0 };
	struct warnings w;

	(void)state;
	good(items, &n, &w);
	assert_int_equal(n.sites[0].uplink, 12500000);
	assert_int_equal(n.sites[0].uplink_rtt_ns, 20000000);
	assert_int_equal(n.sites[0].lan, 125000000);
	assert_int_equal(n.sites[0].lan_rtt_ns, 1000000);
}

static void test_a_site_is_as_its_slowest_node(void **state)
{
	static const char *const items[] = {
		GOOD("n1", AT_A ", " UPLINK "\"400Mbit\", " RTT "\"10ms\""),
		GOOD("n2", AT_A ", " UPLINK "\"200Mbit\", " RTT "\"30ms\""),
		GOOD("n3", AT_A ", " UPLINK "\"300Mbit\", " RTT "\"20ms\""),
		GOOD("n4", AT_A),
		NULL,
	};
	_cleanup_nodes_ struct ql_nodes n = { 0 };
	struct warnings w;

	(void)state;
	good(items, &n, &w);
	assert_int_equal(n.sites[0].uplink, 25000000);
	assert_int_equal(n.sites[0].uplink_rtt_ns, 30000000);
}

static void test_others_are_left_out(void **state)
{
	static const char *const items[] = {
		GOOD("plain", "\"kubernetes.io/os\": \"linux\""),
		NODE("bare", "\"uid\": \"1\"", READY ", " IP),
		NODE("unready", LABELS(AT_A), UNKNOWN ", " IP),
		NODE("silent", LABELS(AT_A), IP),
		NODE("going", LABELS(AT_A) ", " DELETED, READY ", " IP),
		GOOD("here", AT_A),
		NULL,
	};
	_cleanup_nodes_ struct ql_nodes n = { 0 };
	struct warnings w;

	(void)state;
	good(items, &n, &w);
	assert_int_equal(w.n, 0);
	assert_int_equal(n.n_nodes, 1);
	assert_string_equal(n.nodes[0].name, "here");
}

static void test_what_people_put_wrongly_is_warned_of(void **state)
{
	static const struct {
		const char *item, *says;
		unsigned int left; /* of it and a good one */
	} cases[] = {
		{ GOOD("n1", AT_A ", " UPLINK "\"fast\""),
		  "node n1: label net.quicklayer.io/uplink: \"fast\" is no "
		  "rate",
		  2 },
		{ GOOD("n1", AT_A ", " UPLINK "\"100\""), "\"100\" is no rate",
		  2 },
		{ GOOD("n1", AT_A ", " UPLINK "\"0Mbit\""), "is no rate", 2 },
		{ GOOD("n1", AT_A ", " UPLINK "\"\""), "is no rate", 2 },
		{ GOOD("n1", AT_A ", " UPLINK "\"unlimited\""), "is no rate",
		  2 },
		{ GOOD("n1", AT_A ", " RTT "\"20\""), "\"20\" is no time", 2 },
		{ GOOD("n1", AT_A ", " RTT "\"2h\""), "\"2h\" is no time", 2 },
		{ GOOD("n1", "\"quicklayer.io/site\": \"\""),
		  "node n1: label quicklayer.io/site: \"\" is no site's name",
		  1 },
		{ NODE("n1", LABELS(AT_A) ", " PEER("n1"), READY ", " IP),
		  "annotation quicklayer.io/peer: \"n1\" is not HOST:PORT", 2 },
		{ NODE("n1", LABELS(AT_A), READY),
		  "node n1: no InternalIP and no annotation", 1 },
		{ NODE("n1", LABELS(AT_A), READY ", " BAD_IP),
		  "node n1: no InternalIP", 1 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const char *const items[] = { cases[i].item, GOOD("ok", AT_A),
					      NULL };
		_cleanup_nodes_ struct ql_nodes n = { 0 };
		struct warnings w;

		good(items, &n, &w);
		assert_int_equal(w.n, 1);
		if (!strstr(w.last, cases[i].says))
			fail_msg("%s: not \"%s\"", w.last, cases[i].says);
		assert_int_equal(n.n_nodes, cases[i].left);
		assert_int_equal(n.sites[0].uplink, 12500000);
		assert_int_equal(n.sites[0].uplink_rtt_ns, 20000000);
	}
}

static void test_what_is_no_list_is_named(void **state)
{
	static const struct {
		const char *text, *says;
		int code;
	} cases[] = {
		{ "<html>", "not valid JSON", -EBADMSG },
		{ "{\"kind\": \"NodeList\", \"items\": [{", "not valid JSON",
		  -EBADMSG },
		{ "[]", "no NodeList", -EBADMSG },
		{ "{\"kind\": \"PodList\", \"items\": []}",
		  "no NodeList (\"kind\": \"PodList\")", -EBADMSG },
		{ "{\"kind\": \"NodeList\"}", "\"items\" is missing",
		  -EBADMSG },
		{ PAGE_OF("7"), "items[0]: \"metadata\" is missing", -EBADMSG },
		{ PAGE_OF("{\"metadata\": {}}"), "\"name\" is missing",
		  -EBADMSG },
		{ PAGE_OF(GOOD("ok", AT_A) ", " GOOD("a/b", AT_A)),
		  "items[1]: \"name\": \"a/b\" is no name", -EBADMSG },
		{ PAGE_OF(GOOD("n1", AT_A) ", " GOOD("n1", AT_A)),
		  "node n1 is there twice", -EBADMSG },
		{ PAGE_OF(""), "no node is Ready and has the label", -ENOENT },
		{ PAGE_OF(NODE("n1", LABELS(AT_A), IP)), "(1 have it, 0",
		  -ENOENT },
		{ "{\"kind\": \"NodeList\", \"items\": null}",
		  "no node is Ready", -ENOENT },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		_cleanup_nodes_ struct ql_nodes n = { 0 };
		struct ql_error err = QL_ERROR_INIT;
		struct warnings w = { 0 };

		assert_int_equal(read_list(cases[i].text, &n, &w, &err),
				 cases[i].code);
		if (!strstr(err.text, cases[i].says))
			fail_msg("%s: not \"%s\"", err.text, cases[i].says);
		assert_int_equal(n.n_nodes, 0);
	}
}

static void test_a_name_is_as_long_as_kubernetes_has_it(void **state)
{
	char name[QL_QDM_NAME_MAX + 2];
	struct ql_error err = QL_ERROR_INIT;
	struct warnings w = { 0 };

	(void)state;
	for (size_t len = QL_QDM_NAME_MAX; len < sizeof(name); len++) {
		_cleanup_nodes_ struct ql_nodes n = { 0 };
		_cleanup_free_ char *text = NULL;

		memset(name, 'x', len);
		name[len] = '\0';
		text = ql_strf(PAGE_OF(GOOD("%s", AT_A)), name);
		assert_non_null(text);
		assert_int_equal(read_list(text, &n, &w, &err),
				 len > QL_QDM_NAME_MAX ? -EBADMSG : 0);
	}
	assert_non_null(strstr(err.text, "is no name"));
}

/* One page of n nodes from number from on, each at a site of sites. */
static int add_many(struct ql_kubenodes *list, unsigned int from,
		    unsigned int n, unsigned int sites, struct ql_error *err)
{
	_cleanup_buf_ struct ql_buf buf = QL_BUF_INIT(4 << 20);
	_cleanup_free_ char *next = NULL;

	assert_int_equal(ql_buf_adds(&buf, "{\"kind\": \"NodeList\", "
					   "\"metadata\": {\"continue\": "
					   "\"c+/=\"}, \"items\": ["),
			 0);
	for (unsigned int i = from; i < from + n; i++)
		assert_int_equal(
			ql_buf_addf(&buf,
				    "%s" GOOD("n%u", "\"quicklayer.io/site\": "
						     "\"s%u\""),
				    i > from ? ", " : "", i, i % sites),
			0);
	assert_int_equal(ql_buf_adds(&buf, "]}"), 0);
	if (ql_kubenodes_add(list, buf.data, buf.len, &next, err) < 0)
		return err->code;
	assert_string_equal(next, "c+/=");
	return 0;
}

static void test_pages_are_one_list_within_bounds(void **state)
{
	_cleanup_(ql_kubenodes_freep) struct ql_kubenodes *list = NULL;
	_cleanup_(ql_kubenodes_freep) struct ql_kubenodes *over = NULL;
	_cleanup_(ql_kubenodes_freep) struct ql_kubenodes *wide = NULL;
	_cleanup_nodes_ struct ql_nodes n = { 0 };
	struct ql_error err = QL_ERROR_INIT;

	(void)state;
	assert_int_equal(ql_kubenodes_new("edge", NULL, NULL, &list, &err), 0);
	for (unsigned int i = 0; i < QL_DEPLOY_NODES_MAX; i += 256)
		assert_int_equal(
			add_many(list, i, 256, QL_DEPLOY_SITES_MAX, &err), 0);
	assert_int_equal(ql_kubenodes_finish(list, &n, &err), 0);
	assert_int_equal(n.n_nodes, QL_DEPLOY_NODES_MAX);
	assert_int_equal(n.n_sites, QL_DEPLOY_SITES_MAX);

	assert_int_equal(ql_kubenodes_new("edge", NULL, NULL, &over, &err), 0);
	assert_int_equal(add_many(over, 0, 5000, 10, &err), -EFBIG);
	assert_non_null(strstr(err.text, "more than 4096 nodes"));

	assert_int_equal(ql_kubenodes_new("edge", NULL, NULL, &wide, &err), 0);
	assert_int_equal(add_many(wide, 0, 300, 300, &err), -EFBIG);
	assert_non_null(strstr(err.text, "more than 256 sites"));
}

static void test_a_cluster_has_a_name(void **state)
{
	struct ql_kubenodes *list = NULL;
	struct ql_error err = QL_ERROR_INIT;

	(void)state;
	assert_int_equal(ql_kubenodes_new("a b", NULL, NULL, &list, &err),
			 -EINVAL);
	assert_null(list);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_objects_are_nodes),
		cmocka_unit_test(test_what_nobody_says_is_usual),
		cmocka_unit_test(test_a_site_is_as_its_slowest_node),
		cmocka_unit_test(test_others_are_left_out),
		cmocka_unit_test(test_what_people_put_wrongly_is_warned_of),
		cmocka_unit_test(test_what_is_no_list_is_named),
		cmocka_unit_test(test_a_name_is_as_long_as_kubernetes_has_it),
		cmocka_unit_test(test_pages_are_one_list_within_bounds),
		cmocka_unit_test(test_a_cluster_has_a_name),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
