/* SPDX-License-Identifier: Apache-2.0 */
/* Asking other nodes who they are: those that do not answer hold up nobody. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
// clang-format off
#include <cmocka.h>
// clang-format on

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fetch/peer-private.h"
#include "tests/unit/layers.h"

enum { SILENT = 6 };
#define NS 1000000000ULL

/* One that takes connections, and says nothing. */
static int silent_open(char address[32])
{
	struct sockaddr_in sa = { .sin_family = AF_INET };
	socklen_t len = sizeof(sa);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	sa.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&sa, len), 0);
	assert_int_equal(listen(fd, 8), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&sa, &len), 0);
	(void)snprintf(address, 32, "127.0.0.1:%u",
		       (unsigned int)ntohs(sa.sin_port));
	return fd;
}

/* 2 s are waited for each (peerprobe.c), at the same time. */
static void all_are_waited_for_at_once(void **state)
{
	char addresses[SILENT][32];
	const char *list[SILENT];
	int fds[SILENT];
	const struct ql_peers_options options = { .name = "node",
						  .list = list,
						  .n_list = SILENT };
	struct ql_peers *peers = NULL;
	uint64_t start = ql_now_ns();
	struct lab lab;

	(void)state;
	lab_init(&lab);
	for (int i = 0; i < SILENT; i++) {
		fds[i] = silent_open(addresses[i]);
		list[i] = addresses[i];
	}
	assert_int_equal(ql_peers_new(lab.store, &options, &peers, NULL), 0);
	while (!ql_peers_settled(peers) && ql_now_ns() - start < 20 * NS)
		(void)usleep(10000);
	assert_true(ql_now_ns() - start < 5 * NS);
	ql_peers_free(peers);
	for (int i = 0; i < SILENT; i++)
		(void)close(fds[i]);
	lab_release(&lab);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_are_waited_for_at_once),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
