/* kvq restore: sessions out of a file of `kvq dump`. */
#include "client/cli/dump_file.h"
#include "client/cli/json.h"
#include "client/cli/words.h"

#include <stdlib.h>

/* An entry's names, as strings. */
struct names {
    char *session, *model, *tenant;
};

static void free_names(struct names *names) {
    free(names->session);
    free(names->model);
    free(names->tenant);
}
#define NAMES_CLEANUP __attribute__((cleanup(free_names)))

static struct names names_of(const struct dump_entry *entry) {
    const struct wire_dump_session *said = &entry->said;
    return (struct names){dump_text(said->session, said->session_bytes),
                          dump_text(said->model, said->model_bytes),
                          dump_text(said->tenant, said->tenant_bytes)};
}

/* ---- what is in it ---- */

static void list_json(struct json *json, const struct dump_entry *entry,
                      const struct names *names) {
    json_open_object(json, NULL);
    json_string(json, "session", names->session);
    json_string(json, "tenant", names->tenant);
    json_string(json, "model", names->model);
    json_string(json, "level", level_name(entry->said.level));
    json_count(json, "version", entry->said.version);
    json_count(json, "tokens", entry->said.tokens);
    json_count(json, "layers", entry->said.layers);
    json_count(json, "heads", entry->said.heads);
    json_count(json, "head_dim_k", entry->said.head_dim_k);
    json_count(json, "head_dim_v", entry->said.head_dim_v);
    json_string(json, "dtype", dtype_name((enum kvq_dtype)entry->said.dtype));
    json_count(json, "logical_bytes", entry->said.logical_bytes);
    json_count(json, "bytes", entry->bytes);
    json_close_object(json);
}

static void list_text(const struct dump_entry *entry, const struct names *names) {
    char tokens[WORD_BYTES], bytes[WORD_BYTES];
    printf("%9s %9s %-5s  %s  %s  %s\n", count_text(entry->said.tokens, tokens),
           bytes_text(entry->bytes, bytes), level_name(entry->said.level), names->session,
           names->model, names->tenant);
}

static void list(const struct options *options, const struct dump_input *input) {
    struct json json = {.out = stdout};
    bool as_json = options->given & OPTION_JSON;
    if (as_json)
        json_open_array(&json, NULL);
    else
        printf("%9s %9s %-5s  SESSION  MODEL  TENANT\n", "TOKENS", "BYTES", "LEVEL");
    for (size_t i = 0; i < input->entry_count; i++) {
        NAMES_CLEANUP struct names names = names_of(&input->entries[i]);
        if (as_json)
            list_json(&json, &input->entries[i], &names);
        else
            list_text(&input->entries[i], &names);
    }
    if (as_json) {
        json_close_array(&json);
        json_end(&json);
    }
}

/* ---- restoring ---- */

struct restoring {
    const struct options *options;
    struct kvq_client *client;
    const struct dump_input *input;
    struct json *json; /* NULL: text is printed */
};

static void print_json(const struct restoring *restoring, const char *session, int error,
                       const struct kvq_restore_result *result) {
    struct json *json = restoring->json;
    json_open_object(json, NULL);
    json_string(json, "session", session);
    json_bool(json, "restored", error == KVQ_OK);
    if (error == KVQ_OK) {
        json_count(json, "version", result->version);
        json_count(json, "tokens", result->tokens);
        json_count(json, "tail_tokens", result->tail_tokens);
    } else {
        json_string(json, "error", kvq_error_name(error));
    }
    json_close_object(json);
}

static void print(const struct restoring *restoring, const char *session, int error,
                  const struct kvq_restore_result *result) {
    char tokens[WORD_BYTES];
    if (restoring->json)
        print_json(restoring, session, error, result);
    else if (error == KVQ_OK)
        printf("%s: %s tokens are back\n", session, count_text(result->tokens, tokens));
}

static const char *tenant_for(const struct options *options, const struct names *names) {
    return options->given & OPTION_ALL_TENANTS ? names->tenant : options->tenant;
}

static enum exit_status report(const struct restoring *restoring, int error, const char *session) {
    if (error == KVQ_EXISTS)
        complain("session %s exists; add --replace%s", session,
                 restoring->input->entry_count == 1 ? ", or another name by --session" : "");
    else
        complain("session %s: %s", session, kvq_client_message(restoring->client));
    return EXIT_FAILED;
}

static enum exit_status restore_entry(const struct restoring *restoring,
                                      const struct dump_entry *entry) {
    const struct options *options = restoring->options;
    NAMES_CLEANUP struct names names = names_of(entry);
    const char *session = options->session ? options->session : names.session;
    if (!names.session || !names.tenant) {
        complain("no memory for a name");
        return EXIT_FAILED;
    }
    struct kvq_restore_result result;
    struct kvq_restore_options restore = {.size = sizeof restore,
                                          .bytes = restoring->input->bytes + entry->offset,
                                          .byte_count = entry->bytes,
                                          .replace = options->given & OPTION_REPLACE,
                                          .tenant = tenant_for(options, &names)};
    int error = kvq_restore(restoring->client, session, &restore, &result);
    print(restoring, session, error, &result);
    return error ? report(restoring, error, session) : EXIT_DONE;
}

/* Each whole or not at all: one that cannot be leaves the others. */
static enum exit_status restore_all(const struct restoring *restoring) {
    enum exit_status status = EXIT_DONE;
    for (size_t i = 0; i < restoring->input->entry_count; i++)
        if (restore_entry(restoring, &restoring->input->entries[i]) != EXIT_DONE)
            status = EXIT_FAILED;
    return status;
}

static enum exit_status restore(const struct options *options, const struct dump_input *input) {
    struct json json = {.out = stdout};
    CLIENT_CLEANUP struct kvq_client *client = NULL;
    enum exit_status status = connect_patient_client(options, &client);
    if (status != EXIT_DONE)
        return status;
    struct restoring restoring = {.options = options, .client = client, .input = input};
    if (options->given & OPTION_JSON)
        restoring.json = &json;
    if (restoring.json) {
        json_open_object(&json, NULL);
        json_string(&json, "file", options->arguments[0]);
        json_open_array(&json, "sessions");
    }
    status = restore_all(&restoring);
    if (restoring.json) {
        json_close_array(&json);
        json_close_object(&json);
        json_end(&json);
    }
    return status;
}

static enum exit_status run_with(const struct options *options, const struct dump_input *input) {
    if (options->given & OPTION_LIST) {
        list(options, input);
        return EXIT_DONE;
    }
    if (options->session && input->entry_count != 1) {
        complain("%s: has %zu sessions; --session names one", options->arguments[0],
                 input->entry_count);
        return EXIT_FAILED;
    }
    return restore(options, input);
}

static enum exit_status run(const struct options *options) {
    if ((options->given & OPTION_TENANT) && (options->given & OPTION_ALL_TENANTS))
        return usage_error(&restore_command, "--tenant and --all-tenants exclude each other", "");
    struct dump_input input;
    enum exit_status status = EXIT_FAILED;
    if (dump_input_open(options->arguments[0], &input))
        status = run_with(options, &input);
    dump_input_close(&input);
    return status;
}

const struct command restore_command = {
    .name = "restore",
    .arguments = "FILE",
    .argument_count = 1,
    .options = OPTIONS_DAEMON | OPTION_JSON | OPTION_LIST | OPTION_SESSION | OPTION_REPLACE |
               OPTION_TENANT | OPTION_ALL_TENANTS,
    .summary = "make sessions of what `kvq dump` wrote",
    .help = "Checks all of the file first: one that is damaged or not whole is refused, and "
            "nothing is restored. Then each session is there whole or not at all, and those that "
            "cannot be are told of. They become the client's own tenant's, whatever the file says "
            "of that; an admin may say whose, or let the file say it (--all-tenants). FILE - is "
            "standard input.\n\n"
            "With --list nothing is restored: what is in the file is printed, without a daemon.",
    .run = run,
};
