/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stands in for libFuzzer's main: runs one fuzz target over its saved corpus,
 * tests/fuzz/corpus/<name>/ for the program fuzz-<name>, and over a few inputs
 * that every parser has to survive, and prints TAP.  With arguments it runs
 * those files instead, as libFuzzer does.  A crash is the failure, so each
 * input's name is printed before it is run.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { INPUT_MAX = 16 << 20, PATH_LEN = 4096 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int tests;

/* Runs an exact-sized copy, so that a sanitizer sees one byte too many. */
static void run_bytes(const char *name, const uint8_t *data, size_t len)
{
	uint8_t *copy = malloc(len ? len : 1);

	if (!copy) {
		printf("Bail out! out of memory\n");
		exit(1);
	}
	if (len)
		memcpy(copy, data, len);
	printf("# %s (%zu bytes)\n", name, len);
	(void)fflush(stdout);
	(void)LLVMFuzzerTestOneInput(copy, len);
	printf("ok %d - survives %s\n", ++tests, name);
	free(copy);
}

static void run_file(const char *path)
{
	const char *base = strrchr(path, '/');
	uint8_t *data = malloc(INPUT_MAX);
	FILE *f = fopen(path, "rb");
	size_t len;

	if (!data || !f) {
		printf("not ok %d - cannot read %s\n", ++tests, path);
		if (f)
			(void)fclose(f);
		free(data);
		return;
	}
	len = fread(data, 1, INPUT_MAX, f);
	(void)fclose(f);
	run_bytes(base ? base + 1 : path, data, len);
	free(data);
}

static void run_folder(const char *name)
{
	char path[PATH_LEN];
	struct dirent **list = NULL;
	int n, i;

	(void)snprintf(path, sizeof(path), "tests/fuzz/corpus/%s", name);
	n = scandir(path, &list, NULL, alphasort);
	for (i = 0; i < n; i++) {
		if (list[i]->d_name[0] != '.') {
			(void)snprintf(path, sizeof(path),
				       "tests/fuzz/corpus/%s/%s", name,
				       list[i]->d_name);
			run_file(path);
		}
		free(list[i]);
	}
	free(list);
}

static void run_simple(void)
{
	uint8_t bytes[4096] = { 0 };

	run_bytes("nothing", bytes, 0);
	run_bytes("zeros", bytes, sizeof(bytes));
	memset(bytes, 0xff, sizeof(bytes));
	run_bytes("ones", bytes, sizeof(bytes));
}

int main(int argc, char **argv)
{
	const char *name = strrchr(argv[0], '/');
	int i;

	name = name ? name + 1 : argv[0];
	if (argc > 1) {
		for (i = 1; i < argc; i++)
			run_file(argv[i]);
	} else {
		run_simple();
		if (!strncmp(name, "fuzz-", 5))
			run_folder(name + 5);
	}
	printf("1..%d\n", tests);
	return 0;
}
