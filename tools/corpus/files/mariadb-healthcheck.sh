#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Does the server answer?
exec mysqladmin --connect-timeout=5 --silent ping
