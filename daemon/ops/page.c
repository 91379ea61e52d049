#include "daemon/ops/page.h"

#include <stdio.h>
#include <string.h>

static const char page[] =
#include <page.inc>
    ;

static const char placeholder[] = "NONCE";

char *page_write(const char *nonce, size_t *bytes) {
    char *text = NULL;
    FILE *out = open_memstream(&text, bytes);
    if (!out)
        return NULL;
    const char *from = page;
    for (const char *found; (found = strstr(from, placeholder));
         from = found + sizeof placeholder - 1)
        fprintf(out, "%.*s%s", (int)(found - from), from, nonce);
    fputs(from, out);
    fclose(out);
    return text;
}
