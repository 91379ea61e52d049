/* `kvq profile`: what a device's cache takes, by its profile. */
#include "client/cli/profile.h"
#include "client/cli/bench.h"
#include "client/cli/command.h"
#include "client/cli/model_values.h"

static enum exit_status run(const struct options *options) {
    struct profile profile;
    struct profile_report report;
    uint64_t seed = options->given & OPTION_SEED ? options->seed : BENCH_SEED;
    if (!profile_load(options->arguments[0], &profile) || !profile_measure(&profile, seed, &report))
        return EXIT_FAILED;
    if (options->given & OPTION_JSON)
        profile_print_json(&report);
    else
        profile_print_text(&report);
    return EXIT_DONE;
}

const struct command profile_command = {
    .name = "profile",
    .arguments = "tiny|FILE",
    .argument_count = 1,
    .options = OPTION_JSON | OPTION_SEED,
    .summary = "see what a device's cache takes",
    .help = "Codes drawn values as a profile says, and says what they take, every byte counted, "
            "and what their decoder needs. tiny is for microcontrollers, without a daemon or an "
            "operating system; FILE is a profile of your own, with a / in its name or .json at "
            "its end. profile.schema.json, beside tiny.json, describes both the file and what "
            "--json prints.\n\n" MODEL_VALUES_TEXT,
    .run = run,
};
