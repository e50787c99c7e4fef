/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How fast a file can be served: a server that does nothing but sendfile(2),
 * and a client that takes what comes without copying it.
 *
 *	serving serve ADDRESS PORT FILE
 *	serving fetch CLIENTS SECONDS ADDRESS PORT PATH [BODY-FILE]
 *
 * The first answers whatever is asked with all of FILE, each connection by a
 * thread, and closes it.  The second asks for PATH (POST with a body, else GET)
 * again and again, each time by a connection of its own, and prints how many
 * bytes came in bodies, in how many answers, and the seconds that it took; it
 * fails where an answer's status is not 200.
 *
 * recv(2) with MSG_TRUNC: of a stream socket, tcp(7) discards the bytes.
 */
#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "store/base/cleanup.h"

enum { HEADER_MAX = 8192, BODY_MAX = 1 << 20, CLIENTS_MAX = 64 };

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static struct sockaddr_in address(const char *host, const char *port)
{
	struct sockaddr_in a = { .sin_family = AF_INET };
	char *end;
	unsigned long n = strtoul(port, &end, 10);

	if (*end || n == 0 || n > 65535 ||
	    inet_pton(AF_INET, host, &a.sin_addr) != 1)
		errx(2, "%s %s: no address and port", host, port);
	a.sin_port = htons((uint16_t)n);
	return a;
}

static int stream_socket(void)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		err(1, "socket");
	return fd;
}

/* ---- serve ---- */

static int served = -1;
static off_t served_size;

static void *connection_run(void *arg)
{
	_cleanup_close_ int fd = (int)(intptr_t)arg;
	char text[HEADER_MAX];
	off_t at = 0;
	int n;

	if (recv(fd, text, sizeof(text), 0) <= 0)
		return NULL;
	n = snprintf(text, sizeof(text),
		     "HTTP/1.1 200 OK\r\nContent-Length: %lld\r\n"
		     "Connection: close\r\n\r\n",
		     (long long)served_size);
	if (send(fd, text, (size_t)n, MSG_NOSIGNAL | MSG_MORE) != n)
		return NULL;
	while (at < served_size)
		if (sendfile(fd, served, &at, (size_t)(served_size - at)) < 0 &&
		    errno != EINTR)
			break;
	return NULL;
}

static void serve(char **argv)
{
	struct sockaddr_in a = address(argv[0], argv[1]);
	_cleanup_close_ int fd = stream_socket();
	pthread_attr_t attr;
	pthread_t thread;
	struct stat st;
	int one = 1;

	served = open(argv[2], O_RDONLY | O_CLOEXEC);
	if (served < 0 || fstat(served, &st))
		err(1, "%s", argv[2]);
	served_size = st.st_size;
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) ||
	    bind(fd, (struct sockaddr *)&a, sizeof(a)) || listen(fd, 64))
		err(1, "%s:%s", argv[0], argv[1]);
	if (pthread_attr_init(&attr) ||
	    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED))
		errx(1, "thread");
	for (;;) {
		int c = accept4(fd, NULL, NULL, SOCK_CLOEXEC);

		if (c < 0)
			err(1, "accept");
		if (pthread_create(&thread, &attr, connection_run,
				   (void *)(intptr_t)c))
			errx(1, "thread");
	}
}

/* ---- fetch ---- */

static struct {
	struct sockaddr_in to;
	char *request; /* owned */
	size_t request_len;
	double until;
	atomic_ullong bytes, answers;
} fetching;

static void request_make(const char *host, const char *path, const char *file)
{
	size_t room = BODY_MAX + HEADER_MAX, body = 0;
	char *buf = malloc(room), *all = malloc(room);
	int n;

	if (!buf || !all)
		err(1, "memory");
	if (file) {
		_cleanup_close_ int fd = open(file, O_RDONLY | O_CLOEXEC);
		ssize_t got = fd < 0 ? -1 : read(fd, buf, BODY_MAX);

		if (got < 0)
			err(1, "%s", file);
		body = (size_t)got;
	}
	n = snprintf(all, HEADER_MAX,
		     "%s %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n"
		     "Content-Length: %zu\r\n\r\n",
		     file ? "POST" : "GET", path, host, body);
	if (n < 0 || n >= HEADER_MAX)
		errx(2, "%s: too long", path);
	memcpy(all + n, buf, body);
	free(buf);
	fetching.request = all;
	fetching.request_len = (size_t)n + body;
}

/* The header's text, and what came of the body with it: how much. */
static size_t header_read(int fd, char text[HEADER_MAX])
{
	size_t len = 0;

	while (len < HEADER_MAX - 1) {
		ssize_t n = recv(fd, text + len, HEADER_MAX - 1 - len, 0);
		const char *end;

		if (n <= 0)
			err(1, "no answer");
		len += (size_t)n;
		text[len] = 0;
		end = strstr(text, "\r\n\r\n");
		if (end)
			return len - (size_t)(end + 4 - text);
	}
	errx(1, "an answer's header is too long");
}

static void fetch_once(void)
{
	_cleanup_close_ int fd = stream_socket();
	char text[HEADER_MAX];
	unsigned long long bytes;
	ssize_t n;

	if (connect(fd, (const struct sockaddr *)&fetching.to,
		    sizeof(fetching.to)))
		err(1, "connect");
	for (size_t at = 0; at < fetching.request_len; at += (size_t)n) {
		n = send(fd, fetching.request + at, fetching.request_len - at,
			 MSG_NOSIGNAL);
		if (n < 0)
			err(1, "send");
	}
	bytes = header_read(fd, text);
	if (strncmp(text, "HTTP/1.1 200", 12) != 0)
		errx(1, "%.40s", text);
	while ((n = recv(fd, NULL, 1 << 20, MSG_TRUNC)) > 0)
		bytes += (unsigned long long)n;
	if (n < 0)
		err(1, "recv");
	atomic_fetch_add(&fetching.bytes, bytes);
	atomic_fetch_add(&fetching.answers, 1);
}

static void *client_run(void *arg)
{
	while (now() < fetching.until)
		fetch_once();
	return arg;
}

static void fetch(char **argv)
{
	long clients = strtol(argv[0], NULL, 10);
	pthread_t threads[CLIENTS_MAX];
	double start;

	if (clients < 1 || clients > CLIENTS_MAX)
		errx(2, "%s: 1 to %d clients", argv[0], CLIENTS_MAX);
	fetching.to = address(argv[2], argv[3]);
	request_make(argv[2], argv[4], argv[5]);
	start = now();
	fetching.until = start + strtod(argv[1], NULL);
	for (long i = 0; i < clients; i++)
		if (pthread_create(&threads[i], NULL, client_run, NULL))
			errx(1, "thread");
	for (long i = 0; i < clients; i++)
		(void)pthread_join(threads[i], NULL);
	printf("%llu %llu %.3f\n", atomic_load(&fetching.bytes),
	       atomic_load(&fetching.answers), now() - start);
	free(fetching.request);
}

int main(int argc, char **argv)
{
	(void)signal(SIGPIPE, SIG_IGN); /* sendfile(2) */
	if (argc == 5 && strcmp(argv[1], "serve") == 0)
		serve(argv + 2);
	else if ((argc == 7 || argc == 8) && strcmp(argv[1], "fetch") == 0)
		fetch(argv + 2);
	else
		errx(2, "usage: serving serve ADDRESS PORT FILE | fetch "
			"CLIENTS SECONDS ADDRESS PORT PATH [BODY-FILE]");
	return 0;
}
