/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A link of a set rate and delay between two network namespaces: a TUN device
 * in each, and a thread for each direction that takes packets from one and
 * gives them to the other when their time has come.
 *
 *	delay [--rate MBIT] [--rtt MS] [--queue BYTES] [--slack US]
 *	      NETNS/DEV NETNS/DEV
 *
 * A packet leaves when the link has sent the one before it (its length and the
 * 14 bytes of an Ethernet header at the rate, as tc-tbf counts them), and
 * arrives half the round-trip time later.  Packets that wait for the link are
 * bounded in bytes (a router's queue; without --queue one round trip's worth
 * and 256 KiB), and what comes while it is full is dropped.  Rate 0 is without
 * limit.  With --slack each may be late by so much, so that many go at once: a
 * tenth of the processor's time where there are several links.
 *
 * Prints "ready" when both devices are there; their addresses are the caller's
 * business, and the devices go when the program ends.  SIGUSR1 prints a line of
 * JSON, SIGUSR2 prints it and counts anew, SIGINT and SIGTERM print it and end
 * the program.  SIGHUP cuts the link, so that nothing arrives any more, and the
 * next one mends it.  "up" is from the first device to the second:
 *
 *	packets, bytes      delivered, IP headers and all
 *	dropped             for want of room in the queue, or at the cut
 *	connections         TCP connections that this direction asked for (SYN)
 *	queue_max           most bytes that waited for the link
 *	late_us, late_us_max    by how much packets were late, mean and most
 *
 * Linux networking/tuntap.rst; without TUNSETOFFLOAD the kernel cuts segments
 * to the MTU before we see them, as a wire would.
 */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "store/base/cleanup.h"

#define PACKET_MAX 1500 /* a TUN device's MTU unless it is told otherwise */
#define FRAME_EXTRA 14
#define QUEUE_LEAST (256 << 10)
#define SLOTS_MAX (1 << 20)
/* Packets read before those that are due are looked at again. */
#define BATCH 32

struct packet {
	int64_t due_ns;
	size_t len;
	uint8_t data[PACKET_MAX];
};

struct counters {
	atomic_ullong packets, bytes, dropped, connections;
	atomic_ullong queue_max, late_ns, late_ns_max;
};

struct direction {
	int from, to;
	double ns_per_byte; /* 0: without limit */
	int64_t delay_ns;
	int64_t slack_ns;
	int64_t queue_ns;    /* how long the last packet in the queue waits */
	int64_t free_ns;     /* when the link has sent all that it was given */
	struct packet *ring; /* owns slots of it; [head, head + count) wait */
	size_t slots, head, count;
	atomic_bool cut;
	struct counters counters;
};

struct link {
	double rate_mbit, rtt_ms, slack_us;
	size_t queue; /* bytes; 0: chosen */
	struct direction up, down;
};

static int64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* ---- counting: one writer, its thread ---- */

static void add(atomic_ullong *counter, uint64_t n)
{
	atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

static void raise_to(atomic_ullong *counter, uint64_t n)
{
	if (n > atomic_load_explicit(counter, memory_order_relaxed))
		atomic_store_explicit(counter, n, memory_order_relaxed);
}

/* RFC 791 §3.1, RFC 9293 §3.1: a first fragment whose TCP flags are SYN and
 * not ACK. */
static bool packet_connects(const uint8_t *p, size_t len)
{
	size_t header;

	if (len < 20 || p[0] >> 4 != 4 || p[9] != 6 || (p[6] & 0x1f) || p[7])
		return false;
	header = (size_t)(p[0] & 15) * 4;
	return len >= header + 20 && (p[header + 13] & 0x12) == 0x02;
}

static void print_direction(const char *name, struct counters *c)
{
	unsigned long long packets = atomic_load(&c->packets);

	printf("\"%s\": {\"packets\": %llu, \"bytes\": %llu, "
	       "\"dropped\": %llu, \"connections\": %llu, "
	       "\"queue_max\": %llu, \"late_us\": %llu, "
	       "\"late_us_max\": %llu}",
	       name, packets, atomic_load(&c->bytes), atomic_load(&c->dropped),
	       atomic_load(&c->connections), atomic_load(&c->queue_max),
	       packets ? atomic_load(&c->late_ns) / packets / 1000 : 0,
	       atomic_load(&c->late_ns_max) / 1000);
}

static void print_counters(struct link *link)
{
	printf("{");
	print_direction("up", &link->up.counters);
	printf(", ");
	print_direction("down", &link->down.counters);
	printf("}\n");
	if (fflush(stdout))
		err(1, "standard output");
}

static void link_toggle(struct link *link)
{
	bool cut = !atomic_load(&link->up.cut);

	atomic_store(&link->up.cut, cut);
	atomic_store(&link->down.cut, cut);
}

static void counters_clear(struct counters *c)
{
	atomic_store(&c->packets, 0);
	atomic_store(&c->bytes, 0);
	atomic_store(&c->dropped, 0);
	atomic_store(&c->connections, 0);
	atomic_store(&c->queue_max, 0);
	atomic_store(&c->late_ns, 0);
	atomic_store(&c->late_ns_max, 0);
}

/* ---- a direction ---- */

/* Gives a packet, read into the ring's first free slot, its time. */
static void packet_take(struct direction *d, size_t len, int64_t now)
{
	struct packet *p = &d->ring[(d->head + d->count) % d->slots];
	int64_t waits = d->free_ns > now ? d->free_ns - now : 0;

	if (d->ns_per_byte > 0 && waits > d->queue_ns) {
		add(&d->counters.dropped, 1);
		return;
	}
	if (packet_connects(p->data, len))
		add(&d->counters.connections, 1);
	if (d->ns_per_byte > 0)
		raise_to(&d->counters.queue_max,
			 (uint64_t)((double)waits / d->ns_per_byte));
	d->free_ns = now + waits +
		     (int64_t)((double)(len + FRAME_EXTRA) * d->ns_per_byte);
	p->due_ns = d->free_ns + d->delay_ns;
	p->len = len;
	d->count++;
}

static void packets_read(struct direction *d)
{
	for (int i = 0; i < BATCH && d->count < d->slots; i++) {
		struct packet *p = &d->ring[(d->head + d->count) % d->slots];
		ssize_t n = read(d->from, p->data, sizeof p->data);

		if (n > 0)
			packet_take(d, (size_t)n, now_ns());
		else if (n < 0 && (errno == EAGAIN || errno == EIO))
			return; /* EIO: the device is not up yet */
		else if (n < 0 && errno != EINTR)
			err(1, "reading packets");
	}
}

/* A namespace whose device is down takes nothing: EIO. */
static void packet_deliver(struct direction *d, const struct packet *p,
			   int64_t now)
{
	if (atomic_load_explicit(&d->cut, memory_order_relaxed)) {
		add(&d->counters.dropped, 1);
		return;
	}
	while (write(d->to, p->data, p->len) < 0) {
		if (errno == EINTR)
			continue;
		add(&d->counters.dropped, 1);
		return;
	}
	add(&d->counters.packets, 1);
	add(&d->counters.bytes, p->len);
	add(&d->counters.late_ns, (uint64_t)(now - p->due_ns));
	raise_to(&d->counters.late_ns_max, (uint64_t)(now - p->due_ns));
}

/* Returns how long to sleep, ns; less than nothing: until something comes. */
static int64_t packets_deliver(struct direction *d)
{
	while (d->count > 0) {
		const struct packet *p = &d->ring[d->head];
		int64_t now = now_ns();

		if (p->due_ns > now)
			return p->due_ns - now;
		packet_deliver(d, p, now);
		d->head = (d->head + 1) % d->slots;
		d->count--;
	}
	return -1;
}

/* Until there is something to read; true: perhaps.  wait: as
 * packets_deliver returned. */
static bool direction_wait(const struct direction *d, int64_t wait)
{
	bool slack = d->slack_ns > 0 && wait >= 0;
	int64_t ns = slack ? d->slack_ns : wait;
	struct timespec t = { ns / 1000000000, ns % 1000000000 };
	/* A full ring leaves packets in the device's own queue. */
	struct pollfd p = { .fd = d->count < d->slots ? d->from : -1,
			    .events = POLLIN };

	/* What came meanwhile is read without asking. */
	if (slack)
		return nanosleep(&t, NULL) == 0;
	if (ppoll(&p, 1, wait < 0 ? NULL : &t, NULL) < 0 && errno != EINTR)
		err(1, "poll");
	return p.revents != 0;
}

static void *direction_run(void *arg)
{
	struct direction *d = arg;

	for (;;) {
		if (direction_wait(d, packets_deliver(d)))
			packets_read(d);
	}
	return NULL;
}

/* ---- set-up ---- */

/* Makes a TUN device; "NETNS/DEV", a namespace of ip-netns(8). */
static int device_open(const char *where)
{
	struct ifreq ifr = { .ifr_flags = IFF_TUN | IFF_NO_PI };
	const char *dev = strchr(where, '/');
	_cleanup_close_ int ns = -1;
	char path[256];
	int fd;

	if (!dev || !dev[1] || strlen(dev + 1) >= sizeof ifr.ifr_name)
		errx(2, "%s: not NETNS/DEV", where);
	memcpy(ifr.ifr_name, dev + 1, strlen(dev + 1) + 1);
	if (snprintf(path, sizeof path, "/run/netns/%.*s", (int)(dev - where),
		     where) >= (int)sizeof path)
		errx(2, "%s: the name is too long", where);
	ns = open(path, O_RDONLY | O_CLOEXEC);
	if (ns < 0 || setns(ns, CLONE_NEWNET))
		err(1, "%s", path);
	fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0 || ioctl(fd, TUNSETIFF, &ifr))
		err(1, "%s: TUN device", where);
	return fd;
}

static void direction_init(struct direction *d, const struct link *link,
			   int from, int to)
{
	double bytes_per_ns = link->rate_mbit / 8 / 1000;
	double queue = (double)link->queue;
	double slots;

	d->from = from;
	d->to = to;
	d->delay_ns = (int64_t)(link->rtt_ms * 1e6 / 2);
	d->slack_ns = (int64_t)(link->slack_us * 1e3);
	if (queue <= 0)
		queue = link->rtt_ms * 1e6 * bytes_per_ns + QUEUE_LEAST;
	if (link->rate_mbit > 0) {
		d->ns_per_byte = 1 / bytes_per_ns;
		d->queue_ns = (int64_t)(queue * d->ns_per_byte);
	}
	/* What waits and what is on its way, in packets half as long as most
	 * are; where there is no rate, as if it were 1 Gbit/s. */
	slots = 2 *
			(queue +
			 (double)d->delay_ns *
				 (bytes_per_ns > 0 ? bytes_per_ns : 0.125)) /
			PACKET_MAX +
		BATCH;
	if (slots > SLOTS_MAX)
		errx(2, "a queue of more than %d packets", SLOTS_MAX);
	d->slots = (size_t)slots;
	d->ring = calloc(d->slots, sizeof *d->ring);
	if (!d->ring)
		err(1, "the queue");
}

/* Sleeps to the microsecond, and runs before others if we may. */
static void be_punctual(void)
{
	struct sched_param first = { .sched_priority = 1 };

	prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0);
	if (sched_setscheduler(0, SCHED_FIFO, &first) &&
	    setpriority(PRIO_PROCESS, 0, -20))
		warn("running at the usual priority");
}

static double number(const char *text, double most)
{
	char *end;
	double n = strtod(text, &end);

	if (end == text || *end || !(n >= 0 && n <= most))
		errx(2, "%s: not a number from 0 to %g", text, most);
	return n;
}

static void options(int argc, char **argv, struct link *link)
{
	static const struct option names[] = {
		{ "rate", required_argument, NULL, 'r' },
		{ "rtt", required_argument, NULL, 't' },
		{ "queue", required_argument, NULL, 'q' },
		{ "slack", required_argument, NULL, 's' },
		{ NULL, 0, NULL, 0 },
	};
	int c;

	while ((c = getopt_long(argc, argv, "", names, NULL)) != -1)
		if (c == 'r')
			link->rate_mbit = number(optarg, 1e5);
		else if (c == 't')
			link->rtt_ms = number(optarg, 1e4);
		else if (c == 'q')
			link->queue = (size_t)number(optarg, 1e9);
		else if (c == 's')
			link->slack_us = number(optarg, 1e5);
		else
			exit(2);
	if (argc - optind != 2)
		errx(2, "usage: delay [--rate MBIT] [--rtt MS] "
			"[--queue BYTES] [--slack US] NETNS/DEV NETNS/DEV");
}

int main(int argc, char **argv)
{
	static struct link link;
	pthread_t thread;
	sigset_t signals;
	int first, second, signal = 0;

	options(argc, argv, &link);
	first = device_open(argv[optind]);
	second = device_open(argv[optind + 1]);
	direction_init(&link.up, &link, first, second);
	direction_init(&link.down, &link, second, first);
	be_punctual();
	sigemptyset(&signals);
	sigaddset(&signals, SIGUSR1);
	sigaddset(&signals, SIGUSR2);
	sigaddset(&signals, SIGHUP);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGTERM);
	pthread_sigmask(SIG_BLOCK, &signals, NULL);
	if ((errno = pthread_create(&thread, NULL, direction_run, &link.up)) ||
	    (errno = pthread_create(&thread, NULL, direction_run, &link.down)))
		err(1, "thread");
	if (puts("ready") < 0 || fflush(stdout))
		err(1, "standard output");
	while (signal != SIGTERM && signal != SIGINT) {
		if (sigwait(&signals, &signal))
			continue;
		if (signal == SIGHUP) {
			link_toggle(&link);
			continue;
		}
		print_counters(&link);
		if (signal == SIGUSR2) {
			counters_clear(&link.up.counters);
			counters_clear(&link.down.counters);
		}
	}
	return 0;
}
