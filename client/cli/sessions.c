#include "client/cli/session_list.h"
#include "client/cli/show.h"
#include "client/cli/words.h"

static void print_names(const struct session_list *list) {
    for (size_t i = 0; i < list->count; i++)
        puts(list->rows[i].session);
}

static void print_json(const struct session_list *list) {
    struct json json = {.out = stdout};
    json_open_array(&json, NULL);
    for (size_t i = 0; i < list->count; i++)
        show_session_json(&json, NULL, &list->rows[i]);
    json_close_array(&json);
    json_end(&json);
}

/* Wide enough for most names; a longer one moves its model to the right. */
static int column_of_models(const struct session_list *list) {
    enum { MIN = 7, MAX = 32 };
    int widest = MIN;
    for (size_t i = 0; i < list->count; i++) {
        int columns = name_columns(list->rows[i].session);
        if (columns > widest && columns <= MAX)
            widest = columns;
    }
    return widest;
}

static void print_row(const struct kvq_session_info *info, int column, bool with_tenant) {
    char tokens[WORD_BYTES], stored[WORD_BYTES], unique[WORD_BYTES], ratio[WORD_BYTES],
        age[WORD_BYTES], idle[WORD_BYTES], pinned[WORD_BYTES];
    printf("%9s %9s %9s %5s %-5s", count_text(info->tokens_available, tokens),
           bytes_text(info->stored_bytes, stored), bytes_text(info->unique_bytes, unique),
           figure_text(info->ratio_input, 2, "", ratio), level_name(info->level));
    printf(" %5s %5s %5s", short_time_text(info->age_ms, age), short_time_text(info->idle_ms, idle),
           info->pinned_ms ? short_time_text(info->pinned_ms, pinned) : "-");
    int padding = column - name_columns(info->session);
    printf("  %s%*s  %s", info->session, padding > 0 ? padding : 0, "", info->model);
    if (with_tenant)
        printf("  %s", info->tenant);
    putchar('\n');
}

static void print_table(const struct session_list *list, bool with_tenant) {
    int column = column_of_models(list);
    printf("%9s %9s %9s %5s %-5s %5s %5s %5s  %-*s  %s%s\n", "TOKENS", "STORED", "UNIQUE", "RATIO",
           "LEVEL", "AGE", "IDLE", "PIN", column, "SESSION", "MODEL",
           with_tenant ? "  TENANT" : "");
    for (size_t i = 0; i < list->count; i++)
        print_row(&list->rows[i], column, with_tenant);
}

static enum exit_status list(const struct options *options, struct session_list *list) {
    CLIENT_CLEANUP struct kvq_client *client = NULL;
    enum exit_status status = connect_client(options, &client);
    if (status != EXIT_DONE)
        return status;
    int error = session_list_load(list, client, (options->given & OPTION_ALL_TENANTS) != 0);
    if (error == KVQ_NO_MEMORY)
        complain("no memory for a list of more than %zu sessions", list->count);
    else if (error)
        return report_failure(client, error);
    return error ? EXIT_FAILED : EXIT_DONE;
}

static enum exit_status run(const struct options *options) {
    if ((options->given & OPTION_NAMES) && (options->given & OPTION_JSON))
        return usage_error(&sessions_command, "--names and --json exclude each other", "");
    struct session_list sessions = {0};
    enum exit_status status = list(options, &sessions);
    if (status == EXIT_DONE) {
        session_list_sort(&sessions, options->sort);
        if (options->given & OPTION_NAMES)
            print_names(&sessions);
        else if (options->given & OPTION_JSON)
            print_json(&sessions);
        else
            print_table(&sessions, (options->given & OPTION_ALL_TENANTS) != 0);
    }
    session_list_free(&sessions);
    return status;
}

const struct command sessions_command = {
    .name = "sessions",
    .arguments = "",
    .options = OPTIONS_DAEMON | OPTION_JSON | OPTION_SORT | OPTION_NAMES | OPTION_ALL_TENANTS,
    .summary = "list the sessions",
    .help = "Lists the sessions: tokens; bytes stored, and of these what deleting the session "
            "would free; ratio of the bytes given to these; the level it is kept at; how long ago "
            "it was "
            "made and last used; how long it is pinned yet (-: not); name and model.",
    .run = run,
};
