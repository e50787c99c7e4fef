/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads the catalogue's records from bytes that may be anything: the first
 * says which, up to 32 are the key, the rest is the value.
 */
#include <stdint.h>
#include <stdlib.h>

#include "store/store-private.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static volatile uint8_t sink;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct ql_image_info image = { 0 };
	struct ql_object_record object;
	struct ql_layer_info layer;
	const uint8_t *value;
	size_t key_len, len;

	if (size < 1)
		return 0;
	key_len = size - 1 < QL_DIGEST_BYTES ? size - 1 : QL_DIGEST_BYTES;
	value = data + 1 + key_len;
	len = size - 1 - key_len;
	if (data[0] % 3 == 0) {
		(void)ql_record_parse_object(value, len, &object);
	} else if (data[0] % 3 == 1) {
		(void)ql_record_parse_layer(data + 1, key_len, value, len,
					    &layer);
	} else if (ql_record_parse_image(data + 1, key_len, value, len,
					 &image) == 0) {
		for (uint32_t i = 0; i < image.n_layers; i++)
			sink = image.layers[i].bytes[QL_DIGEST_BYTES - 1];
		ql_image_info_release(&image);
	}
	return 0;
}
