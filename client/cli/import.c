#include "client/cli/append.h"
#include "client/cli/cache_file.h"
#include "client/cli/command.h"
#include "client/cli/progress.h"
#include "client/cli/show.h"
#include "client/cli/words.h"

#include <string.h>

enum { LEVEL_DEFAULT = 3 };

static int open_session(struct kvq_client *client, const struct options *options,
                        const struct kvq_geometry *geometry, enum kvq_open_mode mode,
                        struct kvq_session_state *state) {
    struct kvq_open_options open = {
        .size = sizeof open,
        .session = options->arguments[0],
        .model = options->model,
        .geometry = mode == KVQ_OPEN_EXISTING ? NULL : geometry,
        .has_level = true,
        .level = options->given & OPTION_LEVEL ? options->level : LEVEL_DEFAULT,
        .mode = mode,
    };
    return kvq_open(client, &open, state);
}

static bool same_rope(const struct kvq_rope *a, const struct kvq_rope *b) {
    double scaling_a = a->scaling > 0 ? a->scaling : 1, scaling_b = b->scaling > 0 ? b->scaling : 1;
    return a->pairing == b->pairing && a->theta == b->theta && a->dims == b->dims &&
           scaling_a == scaling_b;
}

/* What the user says must hold for a session that was there; what they leave out is not asked. */
static enum exit_status check_existing(const struct options *options,
                                       const struct kvq_geometry *geometry,
                                       const struct kvq_session_state *state) {
    const struct kvq_geometry *theirs = &state->geometry;
    if (theirs->layers != geometry->layers || theirs->heads != geometry->heads ||
        theirs->head_dim_k != geometry->head_dim_k || theirs->head_dim_v != geometry->head_dim_v ||
        theirs->dtype != geometry->dtype) {
        complain("%s: its shape or dtype is not that of session %s, which has %u layers, %u heads, "
                 "head_dim %u and %u, %s",
                 options->arguments[1], state->session, theirs->layers, theirs->heads,
                 theirs->head_dim_k, theirs->head_dim_v, dtype_name(theirs->dtype));
        return EXIT_FAILED;
    }
    if (options->given & OPTION_ROPE && !same_rope(&options->rope, &theirs->rope)) {
        complain("session %s has another rotary embedding; `kvq info` shows it", state->session);
        return EXIT_FAILED;
    }
    if (options->given & OPTION_LEVEL && options->level != state->level) {
        complain("session %s is kept at level %s; leave --level out, or --replace it",
                 state->session, level_name(state->level));
        return EXIT_FAILED;
    }
    return EXIT_DONE;
}

static enum exit_status prepare_session(struct kvq_client *client, const struct options *options,
                                        const struct kvq_geometry *geometry,
                                        struct kvq_session_state *state) {
    int error = KVQ_MISS;
    if (options->given & OPTION_REPLACE) {
        error = kvq_delete(client, options->arguments[0], NULL);
        if (error && error != KVQ_MISS)
            return report_failure(client, error);
        error = KVQ_MISS;
    } else if (options->given & OPTION_APPEND) {
        error = open_session(client, options, geometry, KVQ_OPEN_EXISTING, state);
        if (!error)
            return check_existing(options, geometry, state);
    }
    if (error == KVQ_MISS)
        error = open_session(client, options, geometry, KVQ_OPEN_NEW, state);
    return error ? report_failure(client, error) : EXIT_DONE;
}

static int append_file(struct kvq_client *client, struct kvq_session_state *state,
                       const struct cache_input *input) {
    struct progress progress;
    progress_init(&progress, "importing", input->tokens * token_bytes_of(&input->geometry));
    int error = append_all(client, state, &input->k, &input->v, input->tokens, &progress);
    progress_end(&progress);
    return error;
}

/* A session that was made for an import that failed would only be in the way of the next. The
 * failure stays what is reported. */
static enum exit_status give_up(struct kvq_client *client, const struct kvq_session_state *state,
                                int error) {
    enum exit_status status = report_failure(client, error);
    if (state->created && kvq_client_connected(client))
        (void)kvq_delete(client, state->session, NULL);
    return status;
}

static enum exit_status import_session(const struct options *options,
                                       const struct cache_input *input) {
    CLIENT_CLEANUP struct kvq_client *client = NULL;
    struct kvq_session_state state = {0};
    struct kvq_geometry geometry = input->geometry;
    geometry.rope = options->rope;
    enum exit_status status = connect_client(options, &client);
    if (status == EXIT_DONE)
        status = prepare_session(client, options, &geometry, &state);
    if (status != EXIT_DONE)
        return status;
    int error = append_file(client, &state, input);
    if (error)
        return give_up(client, &state, error);
    error = show_session(client, state.session, options->given & OPTION_JSON);
    return error ? report_failure(client, error) : EXIT_DONE;
}

static enum exit_status run(const struct options *options) {
    if (!(options->given & OPTION_MODEL)) {
        complain("import: --model NAME is missing; see `kvq import --help`");
        return EXIT_USAGE;
    }
    if ((options->given & OPTION_APPEND) && (options->given & OPTION_REPLACE)) {
        complain("import: --append and --replace exclude each other; see `kvq import --help`");
        return EXIT_USAGE;
    }
    struct cache_input input;
    enum exit_status status = EXIT_FAILED;
    if (cache_input_open(options->arguments[1], options->dtype, &input))
        status = import_session(options, &input);
    cache_input_close(&input);
    return status;
}

const struct command import_command = {
    .name = "import",
    .arguments = "SESSION FILE",
    .argument_count = 2,
    .options = OPTION_SOCKET | OPTION_JSON | OPTION_MODEL | OPTION_LEVEL | OPTION_ROPE |
               OPTION_DTYPE | OPTION_APPEND | OPTION_REPLACE,
    .summary = "store a cache from a file",
    .help =
        "Stores K and V from an .npy file in C order, [layers, 2, tokens, heads, head_dim], "
        "float16, "
        "float32, or bfloat16 as uint16 with --dtype bf16; or from an .npz file (numpy.savez) "
        "with "
        "arrays k and, if the model keeps V, v: [layers, tokens, heads, head_dim], where head_dim "
        "of v may differ. --model is required. Ends when everything is coded at the level, and "
        "shows the session. A session that exists is an error without --append or --replace.",
    .run = run,
};
