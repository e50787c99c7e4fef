/* SPDX-License-Identifier: Apache-2.0 */
/* The agent's configuration: YAML, and the units in it. */
#include <stdint.h>
#include <string.h>

#include "fs/agent.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void pass_over(const char *finding, void *arg)
{
	*(size_t *)arg += strlen(finding);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_config_ struct ql_agent_config config;
	_cleanup_free_ char *text = strndup((const char *)data, size);
	size_t said = 0;
	uint64_t n;

	ql_agent_config_init(&config);
	if (!text)
		return 0;
	(void)ql_agent_config_parse("f", (const char *)data, size, &config,
				    pass_over, &said);
	(void)ql_units_rate(text, &n);
	(void)ql_units_duration(text, &n);
	return 0;
}
