/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Byte hit ratios over budgets as SVG 1.1.  Budgets stand at even distances, as
 * they are given: they are chosen by ratios in the main.
 */
#include "tools/cachesim/cachesim.h"

#include <errno.h>
#include <string.h>

enum {
	WIDTH = 640,
	HEIGHT = 400,
	LEFT = 50,
	TOP = 20,
	RIGHT = 150,
	BELOW = 40
};

static const char *const colours[] = {
	"#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b",
	"#e377c2", "#7f7f7f", "#bcbd22", "#17becf", "#000000", "#aa8800",
};
enum { COLOURS = sizeof(colours) / sizeof(colours[0]) };

static double hit_ratio(const struct ql_sim_result *r)
{
	return r->bytes ? (double)r->hit_bytes / (double)r->bytes : 0;
}

static double x_of(size_t i, size_t n)
{
	double width = WIDTH - LEFT - RIGHT;

	return LEFT + (n > 1 ? width * (double)i / (double)(n - 1) : width / 2);
}

static double y_of(double ratio)
{
	return TOP + (HEIGHT - TOP - BELOW) * (1 - ratio);
}

static int add_axes(struct ql_buf *svg, const struct ql_sim_result *results,
		    size_t n, uint64_t footprint)
{
	int r = 0;

	for (int tenth = 0; r == 0 && tenth <= 10; tenth += 2)
		r = ql_buf_addf(svg,
				"<line x1=\"%d\" x2=\"%d\" y1=\"%.1f\" "
				"y2=\"%.1f\" stroke=\"#ddd\"/>\n<text x=\"%d\" "
				"y=\"%.1f\" text-anchor=\"end\">%d %%</text>\n",
				LEFT, WIDTH - RIGHT, y_of(tenth / 10.0),
				y_of(tenth / 10.0), LEFT - 6,
				y_of(tenth / 10.0) + 4, tenth * 10);
	for (size_t i = 0; r == 0 && i < n; i++)
		r = ql_buf_addf(svg,
				"<text x=\"%.1f\" y=\"%d\" "
				"text-anchor=\"middle\">%.3g %%</text>\n",
				x_of(i, n), HEIGHT - BELOW + 18,
				footprint ? 100 * (double)results[i].budget /
						    (double)footprint
					  : 0);
	return r;
}

/* "ours" is drawn thick, the bound dashed. */
static int add_line(struct ql_buf *svg, const struct ql_sim_result *results,
		    size_t number, size_t n)
{
	const char *name = results[0].policy;
	const char *colour = colours[number % COLOURS];
	int r = ql_buf_adds(svg, "<polyline points=\"");

	for (size_t i = 0; r == 0 && i < n; i++)
		r = ql_buf_addf(svg, "%.1f,%.1f ", x_of(i, n),
				y_of(hit_ratio(&results[i])));
	if (r < 0)
		return r;
	return ql_buf_addf(
		svg,
		"\" fill=\"none\" stroke=\"%s\" stroke-width=\"%s\"%s/>\n"
		"<text x=\"%d\" y=\"%zu\" fill=\"%s\">%s</text>\n",
		colour, strcmp(name, "ours") == 0 ? "3" : "1.3",
		strcmp(name, QL_SIM_BOUND) == 0 ? " stroke-dasharray=\"5 3\""
						: "",
		WIDTH - RIGHT + 12, TOP + 10 + 16 * number, colour, name);
}

int ql_sim_plot(const struct ql_sim_result *results, size_t n_policies,
		size_t n_budgets, uint64_t footprint, struct ql_buf *svg)
{
	int r = ql_buf_addf(svg,
			    "<svg xmlns=\"http://www.w3.org/2000/svg\" "
			    "width=\"%d\" height=\"%d\" font-family="
			    "\"sans-serif\" font-size=\"12\">\n<title>Byte hit "
			    "ratio over the budget, as a share of all "
			    "layers</title>\n<rect width=\"100%%\" "
			    "height=\"100%%\" fill=\"white\"/>\n",
			    WIDTH, HEIGHT);

	if (r == 0)
		r = add_axes(svg, results, n_budgets, footprint);
	for (size_t p = 0; r == 0 && p < n_policies; p++)
		r = add_line(svg, results + p * n_budgets, p, n_budgets);
	return r < 0 ? r : ql_buf_adds(svg, "</svg>\n");
}
