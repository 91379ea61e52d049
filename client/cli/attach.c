/* Attachments: standard input is kept with a session under a name, and comes to standard output. */
#include "client/cli/command.h"
#include "client/cli/json.h"
#include "client/cli/words.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OPTIONS = OPTIONS_DAEMON | OPTION_JSON };

static const char *session_of(const struct options *options) {
    return options->arguments[0];
}

static const char *name_of(const struct options *options) {
    return options->arguments[1];
}

static struct kvq_attachment_options attachment_of(const struct options *options) {
    return (struct kvq_attachment_options){.size = sizeof(struct kvq_attachment_options),
                                           .name = name_of(options)};
}

static enum exit_status report(const struct kvq_client *client, int error) {
    if (error != KVQ_MISS)
        return report_failure(client, error);
    complain("%s; `kvq sessions` and `kvq attach list` show what is there",
             kvq_client_message(client));
    return EXIT_MISS;
}

static void open_json(struct json *json, const struct options *options) {
    json_open_object(json, NULL);
    json_string(json, "session", session_of(options));
}

/* ---- put ---- */

static bool read_input(char *bytes, size_t *count) {
    *count = fread(bytes, 1, KVQ_ATTACHMENT_BYTES_MAX + 1, stdin);
    if (ferror(stdin))
        complain("standard input: %s", strerror(errno));
    else if (*count > KVQ_ATTACHMENT_BYTES_MAX)
        complain("an attachment has at most %d MiB", KVQ_ATTACHMENT_BYTES_MAX >> 20);
    return !ferror(stdin) && *count <= KVQ_ATTACHMENT_BYTES_MAX;
}

static void print_put(const struct options *options, size_t count,
                      const struct kvq_attachment_result *result) {
    char given[WORD_BYTES], stored[WORD_BYTES];
    if (!(options->given & OPTION_JSON)) {
        printf("%s has %s: %s, which take %s\n", session_of(options), name_of(options),
               bytes_text(count, given), bytes_text(result->bytes, stored));
        return;
    }
    struct json json = {.out = stdout};
    open_json(&json, options);
    json_string(&json, "name", name_of(options));
    json_count(&json, "version", result->version);
    json_count(&json, "bytes", count);
    json_count(&json, "stored_bytes", result->bytes);
    json_close_object(&json);
    json_end(&json);
}

static enum exit_status put(const struct options *options, const char *bytes, size_t count) {
    CLIENT_CLEANUP struct kvq_client *client = NULL;
    enum exit_status status = connect_client(options, &client);
    if (status != EXIT_DONE)
        return status;
    struct kvq_attachment_result result;
    int error = kvq_attachment_put(
        client, session_of(options),
        &(struct kvq_attachment_put_options){.size = sizeof(struct kvq_attachment_put_options),
                                             .name = name_of(options),
                                             .bytes = bytes,
                                             .byte_count = count},
        &result);
    if (error)
        return report_session_failure(client, error, session_of(options));
    print_put(options, count, &result);
    return EXIT_DONE;
}

static enum exit_status run_put(const struct options *options) {
    size_t count;
    char *bytes = malloc(KVQ_ATTACHMENT_BYTES_MAX + 1);
    if (!bytes) {
        complain("no memory for the attachment");
        return EXIT_FAILED;
    }
    enum exit_status status = EXIT_FAILED;
    if (read_input(bytes, &count))
        status = put(options, bytes, count);
    free(bytes);
    return status;
}

/* ---- get ---- */

static enum exit_status run_get(const struct options *options) {
    CLIENT_CLEANUP struct kvq_client *client = NULL;
    enum exit_status status = connect_client(options, &client);
    if (status != EXIT_DONE)
        return status;
    struct kvq_attachment attachment;
    struct kvq_attachment_options wanted = attachment_of(options);
    int error = kvq_attachment_get(client, session_of(options), &wanted, &attachment);
    if (error)
        return report(client, error);
    (void)fwrite(attachment.bytes, 1, attachment.byte_count, stdout); /* main says what fails */
    return EXIT_DONE;
}

/* ---- list ---- */

static void print_list_json(const struct options *options, const struct kvq_attachment_list *list) {
    struct json json = {.out = stdout};
    open_json(&json, options);
    json_count(&json, "version", list->version);
    json_open_array(&json, "attachments");
    for (size_t i = 0; i < list->count; i++) {
        json_open_object(&json, NULL);
        json_string(&json, "name", list->attachments[i].name);
        json_count(&json, "bytes", list->attachments[i].bytes);
        json_count(&json, "stored_bytes", list->attachments[i].stored_bytes);
        json_count(&json, "tokens", list->attachments[i].tokens);
        json_close_object(&json);
    }
    json_close_array(&json);
    json_close_object(&json);
    json_end(&json);
}

static void print_list(const struct kvq_attachment_list *list) {
    char bytes[WORD_BYTES], stored[WORD_BYTES], tokens[WORD_BYTES];
    if (list->count > 0)
        printf("%11s %11s %11s NAME\n", "BYTES", "STORED", "AT TOKENS");
    for (size_t i = 0; i < list->count; i++)
        printf("%11s %11s %11s %s\n", bytes_text(list->attachments[i].bytes, bytes),
               bytes_text(list->attachments[i].stored_bytes, stored),
               count_text(list->attachments[i].tokens, tokens), list->attachments[i].name);
}

static enum exit_status run_list(const struct options *options) {
    CLIENT_CLEANUP struct kvq_client *client = NULL;
    enum exit_status status = connect_client(options, &client);
    if (status != EXIT_DONE)
        return status;
    struct kvq_attachment_list list;
    int error = kvq_attachment_list(client, session_of(options), &list);
    if (error)
        return report_session_failure(client, error, session_of(options));
    if (options->given & OPTION_JSON)
        print_list_json(options, &list);
    else
        print_list(&list);
    return EXIT_DONE;
}

/* ---- rm ---- */

static void print_deleted(const struct options *options,
                          const struct kvq_attachment_result *result) {
    char freed[WORD_BYTES];
    if (!(options->given & OPTION_JSON)) {
        printf("%s of %s is deleted, %s freed\n", name_of(options), session_of(options),
               bytes_text(result->bytes, freed));
        return;
    }
    struct json json = {.out = stdout};
    open_json(&json, options);
    json_string(&json, "name", name_of(options));
    json_count(&json, "version", result->version);
    json_count(&json, "freed_bytes", result->bytes);
    json_close_object(&json);
    json_end(&json);
}

static enum exit_status run_rm(const struct options *options) {
    CLIENT_CLEANUP struct kvq_client *client = NULL;
    enum exit_status status = connect_client(options, &client);
    if (status != EXIT_DONE)
        return status;
    struct kvq_attachment_result result;
    struct kvq_attachment_options wanted = attachment_of(options);
    int error = kvq_attachment_delete(client, session_of(options), &wanted, &result);
    if (error)
        return report(client, error);
    print_deleted(options, &result);
    return EXIT_DONE;
}

const struct command attach_put_command = {
    .name = "attach put",
    .arguments = "SESSION NAME",
    .argument_count = 2,
    .options = OPTIONS,
    .summary = "keep a small file with a session, under a name",
    .help = "Keeps what comes on standard input with the session: a sampler's state, token ids, an "
            "engine's own state, of at most 16 MiB. It is kept exactly, compressed where that "
            "helps, for as long as the session has a token; one of the same name is replaced. A "
            "session has at most 64. A fork has those of its source, or of fewer tokens those "
            "that were put when there were no more.",
    .run = run_put,
};

const struct command attach_get_command = {
    .name = "attach get",
    .arguments = "SESSION NAME",
    .argument_count = 2,
    .options = OPTIONS_DAEMON,
    .summary = "have it back",
    .help = "Writes an attachment to standard output, as it was put.",
    .run = run_get,
};

const struct command attach_list_command = {
    .name = "attach list",
    .arguments = "SESSION",
    .argument_count = 1,
    .options = OPTIONS,
    .summary = "list what is kept with a session",
    .help =
        "Lists a session's attachments: their bytes as given and as they are kept in memory, and "
        "how many tokens the session had when each was put.",
    .run = run_list,
};

const struct command attach_rm_command = {
    .name = "attach rm",
    .arguments = "SESSION NAME",
    .argument_count = 2,
    .options = OPTIONS,
    .summary = "delete one of them",
    .help = "Deletes an attachment. Forks that have it keep it.",
    .run = run_rm,
};
