/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Platforms: os/arch[/variant], and which of those offered runs here.
 *
 * Sources: OCI image-spec 1.1 image-index.md, "platform"; containerd's
 * platforms package (database.go for the other spellings, compare.go for the
 * fallback: arm/v7 runs v6 and v5, amd64/v3 runs v2 and v1).
 */
#include "fetch/fetch-private.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>
#include <sys/utsname.h>

static const struct spelling {
	const char *other, *arch, *variant;
} spellings[] = {
	{ "x86_64", "amd64", "" },
	{ "x86-64", "amd64", "" },
	{ "aarch64", "arm64", "" },
	{ "armhf", "arm", "v7" },
	{ "armel", "arm", "v6" },
	{ "armv7l", "arm", "v7" },
	{ "armv6l", "arm", "v6" },
	{ "armv5tel", "arm", "v5" },
	{ "i386", "386", "" },
	{ "i486", "386", "" },
	{ "i586", "386", "" },
	{ "i686", "386", "" },
	{ "loongarch64", "loong64", "" },
};

/* The one spelling of arch and variant; both are owned by p. */
static int platform_normalise(struct ql_platform *p)
{
	const char *arch = p->arch;
	const char *variant = p->variant;
	char *new_arch, *new_variant;

	for (size_t i = 0; i < sizeof(spellings) / sizeof(spellings[0]); i++)
		if (strcmp(arch, spellings[i].other) == 0) {
			arch = spellings[i].arch;
			if (!*variant)
				variant = spellings[i].variant;
			break;
		}
	if (strcmp(arch, "arm64") == 0 &&
	    (strcmp(variant, "v8") == 0 || strcmp(variant, "8") == 0))
		variant = "";
	if (strcmp(arch, "amd64") == 0 && strcmp(variant, "v1") == 0)
		variant = "";
	if (strcmp(arch, "arm") == 0 && !*variant)
		variant = "v7";
	new_arch = strdup(arch);
	new_variant = isdigit((unsigned char)*variant) ? ql_strf("v%s", variant)
						       : strdup(variant);
	free(p->arch);
	free(p->variant);
	p->arch = new_arch;
	p->variant = new_variant;
	return new_arch && new_variant ? 0 : -ENOMEM;
}

static int platform_split(const char *text, struct ql_platform *p,
			  struct ql_error *err)
{
	const char *arch = strchr(text, '/');
	const char *variant = arch ? strchr(arch + 1, '/') : NULL;
	size_t arch_len;

	if (!arch || arch == text || arch[1] == '\0' || variant == arch + 1 ||
	    (variant && (variant[1] == '\0' || strchr(variant + 1, '/'))))
		return ql_error_set(err, -EINVAL,
				    "\"%s\" is not a platform: os/arch or "
				    "os/arch/variant is expected",
				    text);
	arch_len = variant ? (size_t)(variant - arch - 1) : strlen(arch + 1);
	p->os = strndup(text, (size_t)(arch - text));
	p->arch = strndup(arch + 1, arch_len);
	p->variant = strdup(variant ? variant + 1 : "");
	return p->os && p->arch && p->variant ? 0 : ql_error_nomem(err);
}

int ql_platform_parse(const char *text, struct ql_platform *ret_platform,
		      struct ql_error *err)
{
	_cleanup_platform_ struct ql_platform p = { 0 };
	struct utsname uts;
	int r;

	if (text) {
		r = platform_split(text, &p, err);
		if (r < 0)
			return r;
	} else {
		if (uname(&uts) < 0)
			return ql_error_errno(err, -errno, "uname");
		p.os = strdup("linux");
		p.arch = strdup(uts.machine);
		p.variant = strdup("");
		if (!p.os || !p.arch || !p.variant)
			return ql_error_nomem(err);
	}
	if (platform_normalise(&p) < 0)
		return ql_error_nomem(err);
	*ret_platform = p;
	p = (struct ql_platform){ 0 };
	return 0;
}

void ql_platform_release(struct ql_platform *p)
{
	free(p->os);
	free(p->arch);
	free(p->variant);
	*p = (struct ql_platform){ 0 };
}

/* "v7": 7; "": 1, the least of all; anything else: 0. */
static unsigned int variant_number(const char *v)
{
	if (*v == '\0')
		return 1;
	return v[0] == 'v' && v[1] >= '1' && v[1] <= '9' && v[2] == '\0'
		       ? (unsigned int)(v[1] - '0')
		       : 0;
}

unsigned int ql_platform_match(const struct ql_platform *wanted,
			       const struct ql_platform *offered)
{
	unsigned int w, o;

	if (strcmp(wanted->os, offered->os) != 0 ||
	    strcmp(wanted->arch, offered->arch) != 0)
		return 0;
	if (strcmp(wanted->variant, offered->variant) == 0)
		return 100;
	if (strcmp(wanted->arch, "arm") != 0 &&
	    strcmp(wanted->arch, "amd64") != 0)
		return 0;
	w = variant_number(wanted->variant);
	o = variant_number(offered->variant);
	return o > 0 && w > o ? 100 - (w - o) : 0;
}
