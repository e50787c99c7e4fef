#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Certificates that were mounted are Java's too.
set -e
if [ -n "${USE_SYSTEM_CA_CERTS:-}" ] && [ -d /certificates ]; then
	for pem in /certificates/*; do
		keytool -importcert -noprompt -storepass changeit -cacerts \
			-alias "${pem##*/}" -file "$pem" >/dev/null
	done
fi
exec "$@"
