/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A pull's progress on stderr: on a terminal one bar a layer, redrawn in
 * place, with rate and time left below; otherwise one plain line when a layer
 * is done.  ql_pull() never calls it twice at once.
 */
#include "tools/cli.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "fetch/fetch.h"

enum {
	BAR_WIDTH = 24,
	BARS_MAX = 128,
	REDRAW_NS = 100000000,
	QUIET_NS = 1000000000, /* nothing is drawn for what takes less */
};

struct ql_progress {
	bool tty;
	uint64_t started, drawn; /* ns */
	uint32_t lines;		 /* on the terminal now */
	uint32_t n;
	struct ql_pull_progress layers[BARS_MAX];
};

struct ql_progress *ql_progress_new(bool quiet)
{
	struct ql_progress *p;

	if (quiet)
		return NULL;
	p = calloc(1, sizeof(*p));
	if (!p)
		return NULL; /* a pull without its bars is a pull */
	p->tty = isatty(STDERR_FILENO);
	p->started = ql_now_ns();
	return p;
}

static unsigned int terminal_rows(void)
{
	struct winsize ws;

	if (ioctl(STDERR_FILENO, TIOCGWINSZ, &ws) == 0 && ws.ws_row > 2)
		return ws.ws_row;
	return 24;
}

static void draw_bar(const struct ql_pull_progress *l)
{
	char bar[BAR_WIDTH + 1];
	char done[QL_HUMAN];
	char total[QL_HUMAN];
	char hex[QL_DIGEST_HEX + 1];
	uint64_t full = l->total ? l->done * BAR_WIDTH / l->total : BAR_WIDTH;

	if (full > BAR_WIDTH)
		full = BAR_WIDTH;
	memset(bar, ' ', BAR_WIDTH);
	memset(bar, '=', (size_t)full);
	bar[BAR_WIDTH] = '\0';
	(void)fprintf(stderr, "\r\033[K%.12s [%s] %s of %s\n",
		      ql_digest_hex(&l->blob, hex), bar,
		      ql_human_bytes(l->done, done),
		      ql_human_bytes(l->total, total));
}

static void draw_sum(const struct ql_progress *p, uint64_t now)
{
	uint64_t done = 0;
	uint64_t total = 0;
	double seconds = (double)(now - p->started) / 1e9;
	char a[QL_HUMAN];
	char b[QL_HUMAN];
	char rate[QL_HUMAN];
	double per_second;

	for (uint32_t i = 0; i < p->n; i++) {
		if (p->layers[i].state == QL_PULL_HERE)
			continue;
		done += p->layers[i].done;
		total += p->layers[i].total;
	}
	per_second = seconds > 0 ? (double)done / seconds : 0;
	(void)fprintf(stderr, "\r\033[K%s of %s, %s/s, %.0f s left\n",
		      ql_human_bytes(done, a), ql_human_bytes(total, b),
		      ql_human_bytes((uint64_t)per_second, rate),
		      per_second > 0 && total > done
			      ? (double)(total - done) / per_second
			      : 0);
}

static void draw(struct ql_progress *p, uint64_t now)
{
	uint32_t rows = terminal_rows() - 2;
	uint32_t lines = 0;

	if (p->lines > 0)
		(void)fprintf(stderr, "\033[%uA", p->lines);
	for (uint32_t i = 0; i < p->n && lines < rows; i++) {
		if (p->layers[i].state == QL_PULL_HERE)
			continue;
		draw_bar(&p->layers[i]);
		lines++;
	}
	draw_sum(p, now);
	p->lines = lines + 1;
	p->drawn = now;
}

static void print_done(const struct ql_pull_progress *l)
{
	char text[QL_DIGEST_TEXT + 1];
	char size[QL_HUMAN];

	if (l->state != QL_PULL_DONE && l->state != QL_PULL_HERE)
		return;
	(void)fprintf(stderr, "layer %u of %u %s %s %s\n", l->layer + 1,
		      l->n_layers, ql_digest_text(&l->blob, text),
		      ql_human_bytes(l->total, size),
		      l->state == QL_PULL_HERE ? "was here" : "done");
}

void ql_progress_update(const struct ql_pull_progress *l, void *progress)
{
	struct ql_progress *p = progress;
	uint64_t now;

	if (!p)
		return;
	if (!p->tty) {
		print_done(l);
		return;
	}
	if (l->layer >= BARS_MAX)
		return;
	p->layers[l->layer] = *l;
	p->n = l->n_layers < BARS_MAX ? l->n_layers : BARS_MAX;
	now = ql_now_ns();
	if (now - p->started >= QUIET_NS && now - p->drawn >= REDRAW_NS)
		draw(p, now);
}

void ql_progress_free(struct ql_progress *p)
{
	if (!p)
		return;
	if (p->tty && p->lines > 0)
		draw(p, ql_now_ns());
	free(p);
}
