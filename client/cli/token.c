/* `kvq token`: a secret for a client, and what the daemon is to know of it. */
#include "client/cli/command.h"
#include "client/cli/json.h"
#include "client/cli/words.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

enum { SECRET_BYTES = 32, HEX_BYTES = 2 * SECRET_BYTES + 1 };

static void write_hex(const uint8_t bytes[SECRET_BYTES], char text[HEX_BYTES]) {
    for (int i = 0; i < SECRET_BYTES; i++)
        snprintf(text + 2 * (size_t)i, 3, "%02x", bytes[i]);
}

static bool make(char token[HEX_BYTES], char digest[HEX_BYTES]) {
    uint8_t secret[SECRET_BYTES], hash[SHA256_DIGEST_LENGTH];
    if (getrandom(secret, sizeof secret, 0) != sizeof secret)
        return false;
    SHA256(secret, sizeof secret, hash);
    write_hex(secret, token);
    write_hex(hash, digest);
    explicit_bzero(secret, sizeof secret);
    return true;
}

/* A new file, which nobody else may read at any time. */
static bool save(const char *path, const char *token) {
    int file = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    bool saved = file >= 0 && dprintf(file, "%s\n", token) > 0 && fsync(file) == 0;
    int error = errno;
    if (file >= 0)
        close(file);
    if (!saved)
        complain("%s: %s", path, strerror(error));
    return saved;
}

static void print(const struct options *options, const char *token, const char *line) {
    if (options->given & OPTION_JSON) {
        struct json json = {.out = stdout};
        json_open_object(&json, NULL);
        if (token)
            json_string(&json, "token", token);
        json_string(&json, "line", line);
        json_close_object(&json);
        json_end(&json);
        return;
    }
    if (token)
        puts(token);
    puts(line);
}

static enum exit_status run(const struct options *options) {
    const char *tenant = options->arguments[0], *role = options->arguments[1];
    const char *path = options->argument_count > 2 ? options->arguments[2] : NULL;
    char token[HEX_BYTES], digest[HEX_BYTES], line[256];
    if (strcmp(role, "reader") != 0 && strcmp(role, "worker") != 0 && strcmp(role, "admin") != 0)
        return usage_error(&token_command, "a role is reader, worker or admin, not", role);
    if (!is_tenant_name(tenant))
        return usage_error(
            &token_command,
            "a tenant's name is 1 to 64 letters, digits, '.', '_' and '-', and so is not", tenant);
    if (!make(token, digest)) {
        complain("no random numbers: %s", strerror(errno));
        return EXIT_FAILED;
    }
    snprintf(line, sizeof line, "token %s %s %s", digest, tenant, role);
    bool done = !path || save(path, token);
    if (done)
        print(options, path ? NULL : token, line);
    explicit_bzero(token, sizeof token);
    return done ? EXIT_DONE : EXIT_FAILED;
}

const struct command token_command = {
    .name = "token",
    .arguments = "TENANT reader|worker|admin [FILE]",
    .argument_count = 3,
    .optional_arguments = 1,
    .options = OPTION_JSON,
    .summary = "make a client's secret",
    .help =
        "Makes 256 random bits, and prints them and the line that stands for them among the "
        "daemon's `tenants`: that has their SHA-256 only. With FILE they are written there, where "
        "only its owner may read them, and are not shown: what --token-file and $KVQ_TOKEN_FILE "
        "take. Nothing is asked of the daemon.",
    .run = run,
};
