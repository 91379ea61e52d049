/* libFuzzer: any bytes as the file of tenants, and any token against what it says. */
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/rpc/credentials.h"
#include "tests/fuzz/fuzzer.h"
#include "tests/fuzz/must.h"

static const char *file_of(const uint8_t *bytes, size_t length) {
    static int file = -1;
    static char path[32];
    if (file < 0)
        file = memfd_create("tenants", MFD_CLOEXEC);
    snprintf(path, sizeof path, "/proc/self/fd/%d", file);
    must(fchmod(file, 0600) == 0 && ftruncate(file, 0) == 0 &&
             pwrite(file, bytes, length, 0) == (ssize_t)length,
         "a file in memory can be written");
    return path;
}

static void must_be_somebody(struct identity identity) {
    must(identity.role == ROLE_NONE || identity.tenant[0] != '\0',
         "who may do something has a tenant");
    must(memchr(identity.tenant, '\0', sizeof identity.tenant) != NULL,
         "a tenant's name has an end");
}

static void ask(struct credentials_table *table, const uint8_t *bytes, size_t length) {
    struct credentials credentials;
    struct token_digest token = {0};
    gid_t groups[] = {0, 100};
    memcpy(token.bytes, bytes, length < sizeof token.bytes ? length : sizeof token.bytes);
    credentials_init(&credentials);
    credentials_set(&credentials, table);
    must_be_somebody(credentials_of_user(&credentials, &(struct local_user){0, groups, 2}));
    must_be_somebody(credentials_of_user(&credentials, &(struct local_user){1000, groups, 0}));
    must_be_somebody(credentials_of_token(&credentials, &token));
    must_be_somebody(credentials_of_tcp(&credentials));
    credentials_deinit(&credentials);
    credentials_free(table); /* its limits are left in it */
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length) {
    struct credentials_table table;
    char message[512] = "";
    if (credentials_read(&table, file_of(bytes, length), message, sizeof message) == 0)
        ask(&table, bytes, length);
    else
        must(message[0] != '\0', "what is refused is told why");
    return 0;
}
