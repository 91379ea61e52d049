/* `kvq plan`: what sessions of a model will take. */
#include "client/cli/plan.h"
#include "client/cli/command.h"
#include "client/cli/model_values.h"
#include "client/cli/words.h"

static bool take_counts(const struct options *options, struct plan *plan) {
    enum { SESSIONS_MAX = 1 << 30, TOKENS_MAX = 1 << 30 };
    return number_from_text(options->arguments[1], &plan->sessions) &&
           number_from_text(options->arguments[2], &plan->tokens) && plan->sessions > 0 &&
           plan->sessions <= SESSIONS_MAX && plan->tokens > 0 && plan->tokens <= TOKENS_MAX;
}

static enum exit_status run(const struct options *options) {
    struct plan plan = {.model = options->arguments[0], .memory_bytes = options->memory_bytes};
    if (!take_counts(options, &plan))
        return usage_error(&plan_command, "SESSIONS and TOKENS are numbers from 1 to 2^30", "");
    struct plan_sample sample = {0};
    enum exit_status status = plan_find_model(options, &plan, &sample);
    if (status == EXIT_DONE && !plan_measure(&plan, &sample))
        status = EXIT_FAILED;
    plan_sample_free(&sample);
    if (status != EXIT_DONE)
        return status;
    if (options->given & OPTION_JSON)
        plan_print_json(&plan);
    else
        plan_print_text(&plan);
    return EXIT_DONE;
}

const struct command plan_command = {
    .name = "plan",
    .arguments = "MODEL SESSIONS TOKENS",
    .argument_count = 3,
    .options = OPTIONS_DAEMON | OPTION_JSON | OPTION_MEMORY | OPTION_DTYPE,
    .summary = "see what sessions will take, by level",
    .help =
        "Says how much memory so many sessions of so many tokens each will take at each level, and "
        "with --memory how many such sessions a daemon of that limit holds before it makes room. "
        "MODEL is one of:\n\n"
        "a model's config.json as Hugging Face has it, or its folder with a / in its name;\n"
        "an .npy or .npz file of a cache, as import takes them: its values are coded;\n"
        "tiny, or the .json file of a profile;\n"
        "else the name of a model that the daemon has sessions of: what these take at a level is "
        "what is reckoned with at that level.\n\n"
        "Everything is in it that a session takes while it is idle: its first tokens, which are "
        "exact, and its last, which fill no page; directories; the memory's units; what is kept "
        "of chunks and of the session itself. Token ids, attachments and embeddings come on top; "
        "what sessions share is counted with each.\n\n"
        "Where there are no values to measure, these are coded: " MODEL_VALUES_TEXT,
    .run = run,
};
