#include "client/cli/command.h"
#include "client/cli/show.h"
#include "client/cli/words.h"

static void print_row(const struct kvq_session_info *info) {
    char tokens[WORD_BYTES], stored[WORD_BYTES], ratio[WORD_BYTES], bits[WORD_BYTES],
        snr_k[WORD_BYTES], snr_v[WORD_BYTES];
    printf("%12s %11s %6s %7s %8s %8s %-6s %s  (%s)\n", count_text(info->tokens_available, tokens),
           bytes_text(info->stored_bytes, stored), figure_text(info->ratio, 2, "", ratio),
           figure_text(info->bits_per_value, 2, "", bits),
           figure_text(info->snr_k_db, 1, "", snr_k), figure_text(info->snr_v_db, 1, "", snr_v),
           level_name(info->level), info->session, info->model);
}

static int print_all(struct kvq_client *client, struct json *json) {
    struct kvq_session_list list = {.more = true};
    for (uint64_t after_id = 0; list.more;) {
        int error = kvq_list(client, after_id, 0, &list);
        if (error)
            return error;
        for (size_t i = 0; i < list.count; i++) {
            after_id = list.sessions[i].id;
            if (json)
                show_session_json(json, NULL, &list.sessions[i]);
            else
                print_row(&list.sessions[i]);
        }
    }
    return KVQ_OK;
}

static enum exit_status run(const struct options *options) {
    CLIENT_CLEANUP struct kvq_client *client = NULL;
    enum exit_status status = connect_client(options, &client);
    if (status != EXIT_DONE)
        return status;
    int error;
    if (options->given & OPTION_JSON) {
        struct json json = {.out = stdout};
        json_open_array(&json, NULL);
        error = print_all(client, &json);
        json_close_array(&json);
        json_end(&json);
    } else {
        printf("%12s %11s %6s %7s %8s %8s %-6s %s\n", "TOKENS", "STORED", "RATIO", "BITS", "K dB",
               "V dB", "LEVEL", "SESSION  (MODEL)");
        error = print_all(client, NULL);
    }
    return error ? report_failure(client, error) : EXIT_DONE;
}

const struct command sessions_command = {
    .name = "sessions",
    .arguments = "",
    .argument_count = 0,
    .options = OPTION_SOCKET | OPTION_JSON,
    .summary = "list the sessions",
    .help = "Lists the sessions, the oldest first: tokens, stored bytes, ratio against 16 bits, "
            "bits a value, signal-to-noise of K and V in dB (-: exact), the level it is kept "
            "at, name and model.",
    .run = run,
};
