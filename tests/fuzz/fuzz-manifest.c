/* SPDX-License-Identifier: Apache-2.0 */
/* Manifests, indexes and configurations; each is tried as all of them. */
#include <stdint.h>

#include "fetch/fetch-private.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_platform_ struct ql_platform platform = { 0 };
	_cleanup_descriptor_ struct ql_descriptor chosen = { 0 };
	_cleanup_manifest_ struct ql_manifest manifest = { 0 };
	_cleanup_free_ struct ql_digest *ids = NULL;
	struct ql_error err = QL_ERROR_INIT;
	const char *text = (const char *)data;
	enum ql_document kind;

	(void)ql_document_kind(text, size, NULL, &kind, &err);
	if (ql_platform_parse("linux/arm/v7", &platform, &err) == 0)
		(void)ql_index_select(text, size, &platform, &chosen, &err);
	(void)ql_manifest_parse(text, size, &manifest, &err);
	(void)ql_config_parse(text, size, 1, &ids, &err);
	(void)ql_config_check(text, size, "linux/amd64", &err);
	return 0;
}
