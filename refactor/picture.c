/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A picture (SVG 1.1) of the layers over the images: a row for each image, a
 * column for each layer, as wide as the layer's content, and a box where the
 * image has it.  Columns stand from the general to the special; the more
 * images have a layer, the darker it is.
 */
#include <inttypes.h>
#include <string.h>

#include "refactor/refactor-private.h"

enum {
	PICTURE_MAX = 16 << 20, /* bytes */
	LEFT = 220,		/* of the first column, in pixels */
	WIDTH = 960,		/* of all columns */
	ROW = 22,
	TOP = 46,
	GAP = 1,
};

static void text_escape(struct ql_buf *buf, const char *text)
{
	for (; *text; text++) {
		char c = *text;

		if (c == '<' || c == '&' || c == '>')
			(void)ql_buf_addf(buf, "&#%d;", c);
		else if (c < ' ' || c > '~')
			(void)ql_buf_adds(buf, "?");
		else
			(void)ql_buf_add(buf, &c, 1);
	}
}

/* From light (one image) to dark (all). */
static void colour(uint32_t n, uint32_t of, char buf[8])
{
	double part = of > 1 ? (double)(n - 1) / (of - 1) : 0;

	/* Images may have failed since the layer was planned. */
	part = part > 1 ? 1 : part;

	(void)snprintf(buf, 8, "#%02x%02x%02x", (unsigned)(222 - 200 * part),
		       (unsigned)(235 - 170 * part),
		       (unsigned)(247 - 110 * part));
}

/* Of a column: the square root (Newton's method), so that small layers can be
 * seen beside large ones. */
static double weight(const struct ql_refactor_layer *l)
{
	double n = (double)l->content + 1, root = n;

	for (int i = 0; i < 64; i++)
		root = (root + n / root) / 2;
	return root;
}

static void column_draw(struct ql_buf *buf,
			const struct ql_refactor_result *res,
			const struct ql_refactor_layer *l, double x,
			double width)
{
	char fill[8];

	colour(l->n_images, res->n_images - res->n_failed, fill);
	for (uint32_t i = 0; i < l->n_images; i++)
		(void)ql_buf_addf(buf,
				  "<rect x=\"%.2f\" y=\"%u\" width=\"%.2f\" "
				  "height=\"%d\" fill=\"%s\"><title>%" PRIu64
				  " bytes, %u images</title></rect>\n",
				  x, TOP + l->images[i] * ROW, width, ROW - 2,
				  fill, l->content, l->n_images);
}

static void columns_draw(struct ql_buf *buf,
			 const struct ql_refactor_result *res)
{
	double sum = 0, x = LEFT;

	for (uint32_t l = 0; l < res->n_layers; l++)
		sum += weight(&res->layers[l]);
	for (uint32_t l = 0; l < res->n_layers; l++) {
		double width = weight(&res->layers[l]) / sum * WIDTH;

		column_draw(buf, res, &res->layers[l], x,
			    width > 2 * GAP ? width - GAP : width);
		x += width;
	}
}

static void rows_name(struct ql_buf *buf, const struct ql_refactor_result *res)
{
	for (uint32_t i = 0; i < res->n_images; i++) {
		const char *slash = strrchr(res->images[i].name, '/');

		(void)ql_buf_addf(buf,
				  "<text x=\"%d\" y=\"%u\" "
				  "text-anchor=\"end\">",
				  LEFT - 8, TOP + i * ROW + ROW - 8);
		text_escape(buf, slash ? slash + 1 : res->images[i].name);
		(void)ql_buf_adds(buf, "</text>\n");
	}
}

int ql_refactor_picture(const struct ql_refactor_result *result,
			struct ql_buf *buf, struct ql_error *err)
{
	uint32_t height = TOP + result->n_images * ROW + ROW;
	int r;

	ql_buf_init(buf, PICTURE_MAX);
	(void)ql_buf_addf(
		buf,
		"<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" "
		"height=\"%u\" font-family=\"sans-serif\" "
		"font-size=\"12\">\n"
		"<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>\n"
		"<text x=\"%d\" y=\"20\" font-size=\"14\">%u layers of %u "
		"images: %.1f MB of content, %.1f MB before, %.1f MB at the "
		"least</text>\n",
		LEFT + WIDTH + 20, height, LEFT, result->n_layers,
		result->n_images - result->n_failed,
		(double)result->content_after / 1e6,
		(double)result->content_before / 1e6,
		(double)result->bound / 1e6);
	rows_name(buf, result);
	columns_draw(buf, result);
	/* What does not fit has failed, and so has all that follows. */
	r = ql_buf_adds(buf, "</svg>\n");
	return r < 0 ? ql_error_errno(err, r, "the picture") : 0;
}
