/* kvq dump: sessions as they are kept, to a file. */
#include "client/cli/dump_file.h"
#include "client/cli/json.h"
#include "client/cli/progress.h"
#include "client/cli/session_list.h"
#include "client/cli/words.h"

#include <string.h>

enum { ATTEMPTS = 3 };

struct dumping {
    struct kvq_client *client;
    struct dump_output *output;
    const char *path;
    struct json *json; /* NULL: nothing is printed, or text */
    bool silent;
};

static void print_session(const struct dumping *dumping, const char *tenant, const char *session,
                          const struct kvq_dump_result *result) {
    char tokens[WORD_BYTES], bytes[WORD_BYTES];
    if (dumping->silent)
        return;
    if (!dumping->json) {
        printf("%s: %s tokens, %s\n", session, count_text(result->tokens, tokens),
               bytes_text(result->bytes, bytes));
        return;
    }
    json_open_object(dumping->json, NULL);
    json_string(dumping->json, "session", session);
    if (tenant)
        json_string(dumping->json, "tenant", tenant);
    json_count(dumping->json, "version", result->version);
    json_count(dumping->json, "tokens", result->tokens);
    json_count(dumping->json, "bytes", result->bytes);
    json_close_object(dumping->json);
}

/* What changed on the way is tried again: a miss of all attempts is one. */
static int dump_session(const struct dumping *dumping, const char *tenant, const char *session) {
    struct kvq_dump_result result;
    struct kvq_dump_options options = {.size = sizeof options,
                                       .tenant = tenant,
                                       .write = dump_output_write,
                                       .context = dumping->output};
    int error = KVQ_MISS;
    for (int i = 0; i < ATTEMPTS && error == KVQ_MISS; i++) {
        if (!dump_output_forget_session(dumping->output))
            break;
        error = kvq_dump(dumping->client, session, &options, &result);
    }
    if (error)
        return error;
    dump_output_end_session(dumping->output);
    print_session(dumping, tenant, session, &result);
    return KVQ_OK;
}

static enum exit_status report(const struct dumping *dumping, int error, const char *session) {
    return dumping->output->failed ? EXIT_FAILED
                                   : report_session_failure(dumping->client, error, session);
}

/* One that is gone by now has nothing to be dumped. */
static enum exit_status dump_listed(const struct dumping *dumping, const struct session_list *list,
                                    bool all_tenants) {
    for (size_t i = 0; i < list->count; i++) {
        const struct kvq_session_info *row = &list->rows[i];
        int error = dump_session(dumping, all_tenants ? row->tenant : NULL, row->session);
        bool is_gone = error == KVQ_MISS && dump_output_forget_session(dumping->output);
        if (error && !is_gone)
            return report(dumping, error, row->session);
    }
    return EXIT_DONE;
}

static enum exit_status dump_all(const struct dumping *dumping, bool all_tenants) {
    struct session_list list = {0};
    int error = session_list_load(&list, dumping->client, all_tenants);
    enum exit_status status =
        error ? report_failure(dumping->client, error) : dump_listed(dumping, &list, all_tenants);
    session_list_free(&list);
    return status;
}

static enum exit_status dump_asked(const struct options *options, const struct dumping *dumping) {
    if (options->given & OPTION_ALL)
        return dump_all(dumping, (options->given & OPTION_ALL_TENANTS) != 0);
    int error = dump_session(dumping, options->tenant, options->arguments[0]);
    return error ? report(dumping, error, options->arguments[0]) : EXIT_DONE;
}

static enum exit_status dump_to(const struct options *options, const struct dumping *dumping) {
    struct json *json = dumping->json;
    if (json) {
        json_open_object(json, NULL);
        json_string(json, "file", dumping->path);
        json_open_array(json, "sessions");
    }
    enum exit_status status = dump_asked(options, dumping);
    if (status == EXIT_DONE && !dump_output_finish(dumping->output))
        status = EXIT_FAILED;
    if (json) {
        json_close_array(json);
        json_count(json, "bytes", dumping->output->bytes);
        json_close_object(json);
        json_end(json);
    }
    return status;
}

static enum exit_status check_usage(const struct options *options, bool standard) {
    bool all = options->given & OPTION_ALL;
    if (all != (options->argument_count == 1))
        return usage_error(&dump_command, "what? SESSION FILE, or --all FILE", "");
    if ((options->given & OPTION_ALL_TENANTS) && !all)
        return usage_error(&dump_command, "--all-tenants goes with --all", "");
    if ((options->given & OPTION_TENANT) && all)
        return usage_error(&dump_command, "--tenant goes with SESSION", "");
    if (standard && (options->given & OPTION_JSON))
        return usage_error(&dump_command, "--json and - exclude each other", "");
    return EXIT_DONE;
}

static enum exit_status run(const struct options *options) {
    const char *path = options->arguments[options->argument_count - 1];
    bool standard = strcmp(path, "-") == 0;
    enum exit_status status = check_usage(options, standard);
    if (status != EXIT_DONE)
        return status;
    CLIENT_CLEANUP struct kvq_client *client = NULL;
    if ((status = connect_patient_client(options, &client)) != EXIT_DONE)
        return status;
    progress_catch_signals();
    struct dump_output output;
    struct json json = {.out = stdout};
    struct dumping dumping = {.client = client,
                              .output = &output,
                              .path = path,
                              .json = options->given & OPTION_JSON ? &json : NULL,
                              .silent = standard};
    status = dump_output_open(path, &output) ? dump_to(options, &dumping) : EXIT_FAILED;
    dump_output_close(&output);
    return status;
}

const struct command dump_command = {
    .name = "dump",
    .arguments = "[SESSION] FILE",
    .argument_count = 2,
    .optional_arguments = 1,
    .options = OPTIONS_DAEMON | OPTION_JSON | OPTION_ALL | OPTION_ALL_TENANTS | OPTION_TENANT,
    .summary = "write sessions to a file as they are kept",
    .help = "Writes what the daemon keeps, its coded pages byte for byte, with token ids, "
            "attachments and embeddings; checksums guard it, and `kvq restore` makes sessions of "
            "it again that give the same values to the bit. FILE - is standard output. The file is "
            "there whole or not at all, and its owner alone may read it: whoever reads it can turn "
            "it back into the prompt.\n\n"
            "A pin, the time of the last use and blocks by key are not in it; forks that share "
            "what they have are written, and restored, one by one.",
    .run = run,
};
