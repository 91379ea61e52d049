#include "client/c/token.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/c/client.h"
#include "client/c/credential_file.h"

enum { DIGITS = 2 * KVQ_TOKEN_BYTES, TEXT_BYTES = DIGITS + 2 };

static int digit(char letter) {
    if (letter >= '0' && letter <= '9')
        return letter - '0';
    return letter >= 'a' && letter <= 'f' ? letter - 'a' + 10 : -1;
}

static bool parse(const char *text, uint8_t token[KVQ_TOKEN_BYTES]) {
    size_t length = strcspn(text, "\n");
    for (size_t i = 0; i < KVQ_TOKEN_BYTES && length == DIGITS; i++) {
        int high = digit(text[2 * i]), low = digit(text[2 * i + 1]);
        if (high < 0 || low < 0)
            return false;
        token[i] = (uint8_t)(high << 4 | low);
    }
    return length == DIGITS;
}

static int read_file(struct kvq_client *client, const char *file, uint8_t token[KVQ_TOKEN_BYTES]) {
    char text[TEXT_BYTES] = "";
    int opened = kvq_open_secret(client, "token", file);
    if (opened < 0)
        return KVQ_ARGUMENT;
    ssize_t bytes = read(opened, text, sizeof text - 1);
    close(opened);
    bool is_token = bytes > 0 && parse(text, token);
    explicit_bzero(text, sizeof text);
    return is_token ? KVQ_OK
                    : kvq_fail(client, KVQ_ARGUMENT,
                               "the token file %s does not hold 64 hexadecimal digits", file);
}

int kvq_find_token(struct kvq_client *client, const struct kvq_connect_options *options,
                   uint8_t token[KVQ_TOKEN_BYTES], size_t *token_bytes) {
    const char *environment = getenv("KVQ_TOKEN_FILE");
    const char *file = options->token_file;
    *token_bytes = KVQ_TOKEN_BYTES;
    if (options->token)
        return parse(options->token, token)
                   ? KVQ_OK
                   : kvq_fail(client, KVQ_ARGUMENT, "a token is 64 hexadecimal digits");
    if (!file && environment && environment[0])
        file = environment;
    if (file)
        return read_file(client, file, token);
    *token_bytes = 0;
    return KVQ_OK;
}
