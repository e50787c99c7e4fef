/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The protocol of sd_notify(3): one datagram of VARIABLE=VALUE lines to the
 * socket named by NOTIFY_SOCKET, '@' at its start standing for the NUL of an
 * abstract name (unix(7)).
 */
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "fs/agent.h"

void ql_notify(const char *state)
{
	const char *name = getenv("NOTIFY_SOCKET");
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	size_t len = name ? strlen(name) : 0;
	_cleanup_close_ int fd = -1;
	socklen_t size;

	if (len < 2 || len >= sizeof(addr.sun_path) ||
	    (name[0] != '/' && name[0] != '@'))
		return;
	memcpy(addr.sun_path, name, len);
	if (name[0] == '@')
		addr.sun_path[0] = 0;
	size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || sendto(fd, state, strlen(state), MSG_NOSIGNAL,
			     (struct sockaddr *)&addr, size) < 0)
		ql_log(QL_LOG_WARN, "msg=\"cannot notify\" error=\"%s\"",
		       strerror(errno));
}
