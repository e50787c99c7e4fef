/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests to the agent: "METHOD PATH KEY=VALUE\n" and a body, answered over a
 * store that is empty.  Pulls are stopped, so that none leaves the machine.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "fs/agent.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct ql_agent agent;

static void setup(void)
{
	static char root[] = "/tmp/quicklayer-fuzz.XXXXXX";
	struct ql_agent_config config;

	ql_agent_config_init(&config);
	ql_log_set_level(QL_LOG_ERROR);
	if (!mkdtemp(root) ||
	    ql_store_open(root, QL_STORE_WRITE, &agent.store, NULL) < 0 ||
	    ql_pulls_new(agent.store, &config, NULL, &agent.pulls, NULL) < 0)
		abort();
	ql_pulls_stop(agent.pulls);
	agent.root = root;
	agent.mountpoint = root;
}

static void cleanup(void)
{
	_cleanup_free_ char *command = ql_strf("rm -rf '%s'", agent.root);

	ql_pulls_free(agent.pulls);
	ql_store_close(agent.store);
	if (command && system(command) != 0)
		return;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_free_ char *text = strndup((const char *)data, size);
	struct ql_api_request rq = { 0 };
	struct ql_api_response rs;
	char *line, *rest, *arg;

	if (!text)
		return 0;
	if (!agent.store) {
		setup();
		(void)atexit(cleanup);
	}
	rest = text;
	line = strsep(&rest, "\n");
	rq.method = strsep(&line, " ");
	rq.path = line ? strsep(&line, " ") : "/";
	while (line && (arg = strsep(&line, "&")) &&
	       rq.n_args < QL_API_ARGS_MAX) {
		rq.args[rq.n_args].key = strsep(&arg, "=");
		rq.args[rq.n_args++].value = arg;
	}
	rq.body = rest ? rest : "";
	rq.body_len = strlen(rq.body);
	(void)ql_api_queue(&rq);
	ql_api_handle(&agent, &rq, &rs);
	ql_api_response_release(&rs);
	return 0;
}
