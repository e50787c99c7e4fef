#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Ghost runs as node, on a content folder that has its themes.
set -e
case "$*" in
node*current/index.js*)
	if [ "$(id -u)" = 0 ]; then
		find "$GHOST_CONTENT" \! -user node -exec chown node '{}' +
		exec gosu node "$0" "$@"
	fi
	for theme in "$GHOST_INSTALL"/current/content/themes/*; do
		target=$GHOST_CONTENT/themes/${theme##*/}
		[ -e "$target" ] || {
			mkdir -p "$GHOST_CONTENT/themes"
			ln -s "$theme" "$target"
		}
	done
	;;
esac
exec "$@"
