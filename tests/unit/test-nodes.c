/* SPDX-License-Identifier: Apache-2.0 */
/* sched-exporter/nodes.c: sites, links and nodes as they are written down, and
 * that what is wrong with them is named. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "sched-exporter/nodes.h"
#include "store/base/base.h"

#define HEAD                                                                   \
	"{\"apiVersion\": \"quicklayer.io/v1\", \"kind\": \"Nodes\", "         \
	"\"cluster\": \"edge\", "
#define SITE_A                                                                 \
	"{\"name\": \"a\", \"uplink\": \"100Mbit/s\", \"uplinkRtt\": "         \
	"\"20ms\", \"lan\": \"400Mbit/s\", \"lanRtt\": \"1ms\"}"
#define SITE_B "{\"name\": \"b\", \"lan\": \"50MB/s\", \"lanRtt\": \"0.5ms\"}"
#define NODE(name, site)                                                       \
	"{\"name\": \"" name "\", \"site\": \"" site                           \
	"\", \"address\": \"10.0.0.1:7700\"}"
#define SITES "\"sites\": [" SITE_A ", " SITE_B "], "

static void test_what_is_written_is_read(void **state)
{
	static const char text[] = HEAD SITES
		"\"links\": [{\"from\": \"a\", \"to\": \"b\", \"rate\": "
		"\"80Mbit/s\", \"rtt\": \"40ms\"}], \"nodes\": [" NODE(
			"n1", "a") ", {\"name\": \"n2\", \"site\": \"b\", "
				   "\"address\": \"[fd00::2]:7700\", \"up\": "
				   "\"1MB/s\"}]}";
	_cleanup_nodes_ struct ql_nodes n = { 0 };
	struct ql_error err = QL_ERROR_INIT;

	(void)state;
	assert_int_equal(ql_nodes_parse(text, strlen(text), &n, &err), 0);
	assert_string_equal(n.cluster, "edge");
	assert_int_equal(n.n_sites, 2);
	assert_int_equal(n.n_nodes, 2);
	assert_int_equal(n.sites[0].uplink, 12500000);
	assert_int_equal(n.sites[0].uplink_rtt_ns, 20000000);
	assert_true(n.sites[0].uplink_alive);
	assert_int_equal(n.sites[1].uplink, 0);
	assert_false(n.sites[1].uplink_alive);
	assert_int_equal(n.sites[1].lan, 50000000);
	assert_int_equal(n.sites[1].lan_rtt_ns, 500000);
	assert_int_equal(n.links[0 * 2 + 1].rate, 10000000);
	assert_int_equal(n.links[1 * 2 + 0].rtt_ns, 40000000);
	assert_int_equal(n.nodes[0].up, 50000000);
	assert_int_equal(n.nodes[1].site, 1);
	assert_int_equal(n.nodes[1].up, 1000000);
	assert_int_equal(n.nodes[1].down, 50000000);
	assert_true(n.nodes[1].alive);
	assert_string_equal(n.addresses[1], "[fd00::2]:7700");
	assert_int_equal(ql_nodes_find(&n, "n2"), 1);
	assert_int_equal(ql_nodes_find(&n, "n3"), QL_DEPLOY_NONE);
}

static void test_a_link_may_be_one_way(void **state)
{
	static const char text[] = HEAD SITES
		"\"links\": [{\"from\": \"b\", \"to\": \"a\", \"rate\": "
		"\"80Mbit/s\", \"rtt\": \"40ms\", \"oneWay\": true}], "
		"\"nodes\": []}";
	_cleanup_nodes_ struct ql_nodes n = { 0 };

	(void)state;
	assert_int_equal(ql_nodes_parse(text, strlen(text), &n, NULL), 0);
	assert_int_equal(n.links[1].rate, 0);
	assert_int_equal(n.links[2].rate, 10000000);
}

static void test_what_is_wrong_is_named(void **state)
{
	static const struct {
		const char *text, *says;
		int code;
	} cases[] = {
		{ "", "JSON", -EBADMSG },
		{ "[]", "not an object", -EBADMSG },
		{ "{\"apiVersion\": \"quicklayer.io/v2\", \"kind\": "
		  "\"Nodes\"}",
		  "quicklayer.io/v2", -EOPNOTSUPP },
		{ "{\"apiVersion\": \"quicklayer.io/v1\", \"kind\": \"List\"}",
		  "not Nodes", -EOPNOTSUPP },
		{ HEAD "\"nodes\": []}", "sites", -EBADMSG },
		{ HEAD SITES "\"nodes\": [], \"more\": 1}", "more", -EBADMSG },
		{ HEAD "\"sites\": [" SITE_A ", " SITE_A "], \"nodes\": []}",
		  "sites[1]: site a is there twice", -EBADMSG },
		{ HEAD SITES "\"nodes\": [" NODE("n1", "c") "]}",
		  "nodes[0]: \"site\": no site is called c", -EBADMSG },
		{ HEAD SITES
		  "\"nodes\": [" NODE("n1", "a") ", " NODE("n1", "b") "]}",
		  "node n1 is there twice", -EBADMSG },
		{ HEAD SITES "\"nodes\": [" NODE("-", "a") "]}", "no name",
		  -EBADMSG },
		{ HEAD SITES "\"nodes\": [{\"name\": \"n\", \"site\": \"a\", "
			     "\"address\": \"here\"}]}",
		  "not HOST:PORT", -EBADMSG },
		{ HEAD "\"sites\": [{\"name\": \"a\", \"lan\": \"fast\", "
		       "\"lanRtt\": \"1ms\"}], \"nodes\": []}",
		  "\"fast\" is no rate", -EBADMSG },
		{ HEAD "\"sites\": [{\"name\": \"a\", \"lan\": \"0\", "
		       "\"lanRtt\": \"1ms\"}], \"nodes\": []}",
		  "is no rate", -EBADMSG },
		{ HEAD "\"sites\": [{\"name\": \"a\", \"lan\": \"1MB/s\", "
		       "\"lanRtt\": \"2h\"}], \"nodes\": []}",
		  "no time up to a minute", -EBADMSG },
		{ HEAD "\"sites\": [{\"name\": \"a\", \"uplink\": \"1MB/s\", "
		       "\"lan\": \"1MB/s\", \"lanRtt\": \"1ms\"}], \"nodes\": "
		       "[]}",
		  "uplinkRtt", -EBADMSG },
		{ HEAD SITES "\"links\": [{\"from\": \"a\", \"to\": \"a\", "
			     "\"rate\": \"1MB/s\", \"rtt\": \"1ms\"}], "
			     "\"nodes\": []}",
		  "to itself", -EBADMSG },
		{ HEAD SITES "\"links\": [{\"from\": \"a\", \"to\": \"b\", "
			     "\"rate\": \"1MB/s\", \"rtt\": \"1ms\"}, "
			     "{\"from\": \"b\", \"to\": \"a\", \"rate\": "
			     "\"1MB/s\", \"rtt\": \"1ms\"}], \"nodes\": []}",
		  "links[1]: from b to a is there twice", -EBADMSG },
		{ HEAD SITES "\"nodes\": [1]}", "nodes[0]: not an object",
		  -EBADMSG },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct ql_error err = QL_ERROR_INIT;
		struct ql_nodes n = { 0 };

		assert_int_equal(ql_nodes_parse(cases[i].text,
						strlen(cases[i].text), &n,
						&err),
				 cases[i].code);
		if (!strstr(err.text, cases[i].says))
			fail_msg("\"%s\" does not say \"%s\"", err.text,
				 cases[i].says);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_is_written_is_read),
		cmocka_unit_test(test_a_link_may_be_one_way),
		cmocka_unit_test(test_what_is_wrong_is_named),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
