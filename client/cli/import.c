#include "client/cli/append.h"
#include "client/cli/cache_file.h"
#include "client/cli/command.h"
#include "client/cli/ids.h"
#include "client/cli/progress.h"
#include "client/cli/show.h"
#include "client/cli/temporary.h"
#include "client/cli/words.h"

#include <string.h>

enum { LEVEL_DEFAULT = 3 };

#define REPLACEMENT_PREFIX "kvq-import-"

static int open_session(struct kvq_client *client, const struct options *options, const char *name,
                        const struct kvq_geometry *geometry, enum kvq_open_mode mode,
                        struct kvq_session_state *state) {
    struct kvq_open_options open = {
        .size = sizeof open,
        .session = name,
        .model = options->model,
        .geometry = mode == KVQ_OPEN_EXISTING ? NULL : geometry,
        .has_level = options->given & OPTION_LEVEL || !(options->given & OPTION_MIN_SNR),
        .level = options->given & OPTION_LEVEL ? options->level : LEVEL_DEFAULT,
        .mode = mode,
        .min_snr_db = options->min_snr_db,
        .policy = options->given & OPTIONS_POLICY ? &options->policy : NULL,
        .durability = options->given & OPTION_DURABLE ? KVQ_ON_DISK : KVQ_DURABILITY_UNSET,
        .key_summaries = (options->given & OPTION_KEY_SUMMARIES) != 0,
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
    if (options->given & OPTIONS_POLICY) {
        complain(
            "session %s has its policy; leave --floor, --newest, --idle-step and --ttl out, or "
            "change it with `kvq policy`",
            state->session);
        return EXIT_FAILED;
    }
    if (options->given & OPTION_LEVEL && options->level != state->level) {
        complain("session %s is kept at level %s; leave --level out, or --replace it",
                 state->session, level_name(state->level));
        return EXIT_FAILED;
    }
    if (!(options->given & OPTION_MIN_SNR) || options->min_snr_db == state->min_snr_db)
        return EXIT_DONE;
    if (state->min_snr_db == 0)
        complain("session %s was promised no decibels; leave --min-snr-db out, or --replace it",
                 state->session);
    else
        complain("session %s is kept at %g dB at least; leave --min-snr-db out, or --replace it",
                 state->session, state->min_snr_db);
    return EXIT_FAILED;
}

/* What replaces a session is made beside it, so that a failure leaves the old one. */
static enum exit_status prepare_session(struct kvq_client *client, const struct options *options,
                                        const struct kvq_geometry *geometry,
                                        struct kvq_session_state *state) {
    char temporary[TEMPORARY_NAME_BYTES];
    const char *name = options->arguments[0];
    int error = KVQ_MISS;
    if (options->given & OPTION_REPLACE) {
        temporary_name(REPLACEMENT_PREFIX, temporary);
        name = temporary;
    } else if (options->given & OPTION_APPEND) {
        error = open_session(client, options, name, geometry, KVQ_OPEN_EXISTING, state);
        if (!error)
            return check_existing(options, geometry, state);
    }
    if (error == KVQ_MISS)
        error = open_session(client, options, name, geometry, KVQ_OPEN_NEW, state);
    return error ? report_failure(client, error) : EXIT_DONE;
}

static int append_file(struct kvq_client *client, struct kvq_session_state *state,
                       const struct cache_input *input, const struct ids *ids) {
    struct progress progress;
    progress_init(&progress, "importing", input->tokens * token_bytes_of(&input->geometry));
    int error =
        append_all(client, state, &input->k, &input->v, ids->numbers, input->tokens, &progress);
    progress_end(&progress);
    return error;
}

/* Of several appends some may be there. They are taken back unless somebody else has changed the
 * session since. */
static void take_back_appends(struct kvq_client *client, struct kvq_session_state *state,
                              uint64_t tokens_before) {
    struct kvq_session_info info;
    if (state->tokens > tokens_before && kvq_client_connected(client) &&
        kvq_info(client, state->session, &info) == KVQ_OK && info.version == state->version)
        (void)kvq_truncate(client, state, tokens_before);
}

/* Leaves what was there before. The failure stays what is reported. */
static enum exit_status give_up(struct kvq_client *client, struct kvq_session_state *state,
                                uint64_t tokens_before, int error) {
    enum exit_status status = report_failure(client, error);
    if (state->created)
        remove_session(client, state->session);
    else
        take_back_appends(client, state, tokens_before);
    return status;
}

/* There is no renaming: a fork, which copies nothing, gets the name. */
static enum exit_status put_in_place(struct kvq_client *client, const char *name,
                                     const struct kvq_session_state *state) {
    int error = kvq_delete(client, name, NULL);
    if (error && error != KVQ_MISS) {
        enum exit_status status = report_failure(client, error);
        remove_session(client, state->session);
        return status;
    }
    struct kvq_fork_options fork = {.size = sizeof fork, .target = name};
    error = kvq_fork(client, state, &fork, NULL);
    if (error) {
        complain("%s; what was imported is session %s", kvq_client_message(client), state->session);
        return EXIT_FAILED;
    }
    remove_session(client, state->session);
    return EXIT_DONE;
}

static enum exit_status import_session(const struct options *options,
                                       const struct cache_input *input, const struct ids *ids) {
    CLIENT_CLEANUP struct kvq_client *client = NULL;
    struct kvq_session_state state = {0};
    struct kvq_geometry geometry = input->geometry;
    geometry.rope = options->rope;
    enum exit_status status = connect_client(options, &client);
    progress_catch_signals(); /* what is made from here on is taken back */
    if (status == EXIT_DONE)
        status = prepare_session(client, options, &geometry, &state);
    if (status != EXIT_DONE)
        return status;
    uint64_t tokens_before = state.tokens;
    int error = append_file(client, &state, input, ids);
    if (error)
        return give_up(client, &state, tokens_before, error);
    if (options->given & OPTION_REPLACE)
        status = put_in_place(client, options->arguments[0], &state);
    if (status != EXIT_DONE)
        return status;
    error = show_session(client, options->arguments[0], options->given & OPTION_JSON);
    return error ? report_failure(client, error) : EXIT_DONE;
}

static bool open_ids(const struct options *options, const struct cache_input *input,
                     struct ids *ids) {
    if (!(options->given & OPTION_IDS))
        return true;
    if (!ids_open(options->ids, ids))
        return false;
    if (ids->count == input->tokens)
        return true;
    complain("%llu token ids are given for %llu tokens", (unsigned long long)ids->count,
             (unsigned long long)input->tokens);
    return false;
}

static enum exit_status run(const struct options *options) {
    if (!(options->given & OPTION_MODEL))
        return usage_error(&import_command, "--model NAME is missing", "");
    if ((options->given & OPTION_APPEND) && (options->given & OPTION_REPLACE))
        return usage_error(&import_command, "--append and --replace exclude each other", "");
    struct cache_input input;
    struct ids ids = {0};
    enum exit_status status = EXIT_FAILED;
    if (cache_input_open(options->arguments[1], options->dtype, &input) &&
        open_ids(options, &input, &ids))
        status = import_session(options, &input, &ids);
    cache_input_close(&input);
    ids_close(&ids);
    return status;
}

const struct command import_command = {
    .name = "import",
    .arguments = "SESSION FILE",
    .argument_count = 2,
    .options = OPTIONS_DAEMON | OPTION_JSON | OPTION_MODEL | OPTION_LEVEL | OPTION_MIN_SNR |
               OPTIONS_POLICY | OPTION_ROPE | OPTION_DTYPE | OPTION_IDS | OPTION_APPEND |
               OPTION_REPLACE | OPTION_DURABLE | OPTION_KEY_SUMMARIES,
    .summary = "store a cache from a file",
    .help =
        "Stores K and V from an .npy file in C order, [layers, 2, tokens, heads, head_dim], "
        "float16, float32, int8, bfloat16 as uint16 with --dtype bf16, or 8-bit floats as uint8 "
        "with --dtype fp8_e4m3 or fp8_e5m2; or from an .npz file "
        "(numpy.savez; a compressed one is refused) with arrays k and, if the model keeps V, "
        "v: [layers, tokens, heads, head_dim], where head_dim of v may differ. --model is "
        "required; the level is 3 without --level and --min-snr-db, and so is its floor without "
        "--floor: "
        "it gets no coarser by itself. Ends when everything is "
        "coded at the level, and shows the session. With --ids `kvq match` finds it by its "
        "tokens.\n\n"
        "A session that exists is an error without --append or --replace. With --replace it "
        "is there until the new one is whole, and the daemon needs room for both; to replace "
        "it in less, `kvq rm` it first. An import that fails or is stopped leaves what was "
        "there before.",
    .run = run,
};
