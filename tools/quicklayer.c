/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The quicklayer command: a table of commands, and the program's edge, where
 * an error becomes one line on stderr and an exit status (0 done, 1 failed,
 * 2 usage).
 */
#include "tools/cli.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

static const struct ql_command commands[] = {
	{ "pull", "IMAGE", "bring an image into the store", "rkAphcUZnqj", 1, 1,
	  ql_cmd_pull, false },
	{ "mount", "IMAGE DIR", "mount an image's root, read-only", "rkAmfP", 2,
	  2, ql_cmd_mount, false },
	{ "umount", "DIR...", "unmount what mount mounted", "l", 1, -1,
	  ql_cmd_umount, false },
	{ "run", "IMAGE [CMD [ARG...]]",
	  "run a command in a container on an image's root", "rkAphcqtRNxuwe",
	  1, -1, ql_cmd_run, true },
	{ "record", "IMAGE [CMD [ARG...]]",
	  "run a command, and keep what a start reads as the image's trace",
	  "rphcqtRNxuwe", 1, -1, ql_cmd_record, true },
	{ "index", "IMAGE",
	  "make what other nodes need to read an image lazily as it is",
	  "rhcGj", 1, 1, ql_cmd_index, false },
	{ "prefetch", "IMAGE", "fetch what is not here of an image", "rkAhcTq",
	  1, 1, ql_cmd_prefetch, false },
	{ "images", "", "list the images in the store", "rkAqj", 0, 0,
	  ql_cmd_images, false },
	{ "inspect", "IMAGE", "print what is known of an image, as JSON", "r",
	  1, 1, ql_cmd_inspect, false },
	{ "ls", "IMAGE [PATH]", "list a folder of an image", "rkALSj", 1, 2,
	  ql_cmd_ls, false },
	{ "cat", "IMAGE PATH...", "print files of an image", "rkA", 2, -1,
	  ql_cmd_cat, false },
	{ "rmi", "IMAGE...", "remove images, and what only they needed", "rkAj",
	  1, -1, ql_cmd_rmi, false },
	{ "pin", "IMAGE...", "keep images from being removed", "rkAYj", 1, -1,
	  ql_cmd_pin, false },
	{ "unpin", "IMAGE...", "let pinned images be removed", "rkAj", 1, -1,
	  ql_cmd_unpin, false },
	{ "status", "[IMAGE]", "how much is here", "rkAj", 0, 1, ql_cmd_status,
	  false },
	{ "diff", "A B",
	  "compare two root filesystems, each an image or a folder", "rbj", 2,
	  2, ql_cmd_diff, false },
	{ "push", "SRC DEST", "push an image in another format", "rFvKWphcnqj",
	  2, 2, ql_cmd_push, false },
	{ "refactor", "IMAGE...", "make images that share what they have alike",
	  "roFvKMXIDVnphcqj", 1, -1, ql_cmd_refactor, false },
	{ "cachesim", "TRACE", "replay a trace of pulls through cache policies",
	  "yBQOj", 1, 1, ql_cmd_cachesim, false },
	{ "gc", "",
	  "remove what nothing needs, and what a budget has no room for",
	  "rkADCEHj", 0, 0, ql_cmd_gc, false },
	{ "fsck", "", "check the store against its digests, and repair it",
	  "rJdhcj", 0, 0, ql_cmd_fsck, false },
	{ "plan", "IMAGE...",
	  "plan which node gets what of an image from where, and carry it out",
	  "s45678apch123qj", 1, -1, ql_cmd_plan, false },
};
enum { COMMANDS = sizeof(commands) / sizeof(commands[0]) };

static void print_help(FILE *f)
{
	(void)fprintf(f, "Usage: quicklayer COMMAND [OPTION...] [ARG...]\n\n"
			 "Container images as mountable, shared files.\n\n"
			 "Commands:\n");
	for (size_t i = 0; i < COMMANDS; i++)
		(void)fprintf(f, "  %-10s%s\n", commands[i].name,
			      commands[i].summary);
	(void)fprintf(f,
		      "\nImages: NAME[:TAG], NAME@DIGEST, HOST/NAME…, "
		      "oci:DIR[:TAG], docker-archive:FILE;\nin the store also "
		      "DIGEST, or 12 or more digits of it.\n"
		      "quicklayer COMMAND --help shows a command's options.\n");
}

static int run_command(const struct ql_command *cmd, int argc, char **argv)
{
	struct ql_error err = QL_ERROR_INIT;
	struct ql_cli cli;
	int r = ql_options_parse(cmd, argc, argv, &cli);

	if (r != 0)
		return r - 1;
	ql_process_bound_memory(1);
	ql_process_raise_files();
	r = cmd->run(&cli, &err);
	if (r >= 0 && ql_out_flush(&err) < 0)
		r = err.code;
	ql_options_release(&cli);
	if (r >= 0)
		return r;
	(void)fprintf(stderr, "quicklayer: %s: %s\n", cmd->name,
		      err.text[0] ? err.text : strerror(-r));
	return QL_EXIT_FAILED;
}

int main(int argc, char **argv)
{
	/* A closed pipe is an error of the write, not the end of us. */
	(void)signal(SIGPIPE, SIG_IGN);
	if (argc < 2) {
		print_help(stderr);
		return QL_EXIT_USAGE;
	}
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
	    strcmp(argv[1], "help") == 0) {
		print_help(stdout);
		return fflush(stdout) == 0 ? QL_EXIT_OK : QL_EXIT_FAILED;
	}
	if (strcmp(argv[1], "--version") == 0) {
		(void)printf("quicklayer %s\n", QL_VERSION);
		return fflush(stdout) == 0 ? QL_EXIT_OK : QL_EXIT_FAILED;
	}
	for (size_t i = 0; i < COMMANDS; i++)
		if (strcmp(argv[1], commands[i].name) == 0)
			return run_command(&commands[i], argc - 1, argv + 1);
	(void)fprintf(stderr,
		      "quicklayer: %s: no such command; see quicklayer "
		      "--help\n",
		      argv[1]);
	return QL_EXIT_USAGE;
}
