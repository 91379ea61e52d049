/* kvq llama: the slots of a llama-server. What reads its files is in the Python package: these
 * commands only run it. */
#include "client/cli/command.h"
#include "client/cli/words.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { WORDS_MAX = 16 };

static enum exit_status run_python(const char *verb, const struct options *options) {
    const char *named = getenv("KVQ_PYTHON"), *python = named ? named : "python3";
    const char *words[WORDS_MAX] = {python, "-m", "kvquantd.llama", verb};
    int count = 4;
    if (options->socket) {
        words[count++] = "--socket";
        words[count++] = options->socket;
    }
    if (options->given & OPTION_JSON)
        words[count++] = "--json";
    if (options->given & OPTION_MODEL) {
        words[count++] = "--model";
        words[count++] = options->model;
    }
    if (options->given & OPTION_LEVEL) {
        words[count++] = "--level";
        words[count++] = level_name(options->level);
    }
    if (options->argument_count > 0)
        words[count++] = "--"; /* a session may be called -x */
    for (int i = 0; i < options->argument_count; i++)
        words[count++] = options->arguments[i];
    execvp(python, (char **)words);
    complain("cannot run %s: %s; KVQ_PYTHON names the Python that has the package kvquantd", python,
             strerror(errno));
    return EXIT_FAILED;
}

static enum exit_status run_save(const struct options *options) {
    return run_python("save", options);
}

static enum exit_status run_restore(const struct options *options) {
    return run_python("restore", options);
}

static enum exit_status run_list(const struct options *options) {
    return run_python("list", options);
}

const struct command llama_save_command = {
    .name = "llama save",
    .arguments = "SESSION PATH [URL]",
    .argument_count = 3,
    .optional_arguments = 1,
    .options = OPTIONS_DAEMON | OPTION_JSON | OPTION_MODEL | OPTION_LEVEL,
    .summary = "keep a slot of llama-server",
    .help =
        "PATH is the server's --slot-save-path, and URL its slot: http://127.0.0.1:8080/slots/0 "
        "unless it is given. Only tokens that no session of the model has are sent; a session of "
        "that name is replaced. The model is known by the contents of the server's GGUF file and "
        "adapters; what the server is told of RoPE besides has to be the same when the slot is "
        "restored.\n\n"
        "This and `kvq llama restore` run `python3 -m kvquantd.llama`: the Python package has to "
        "be installed; KVQ_PYTHON names another Python.",
    .run = run_save,
};

const struct command llama_restore_command = {
    .name = "llama restore",
    .arguments = "SESSION PATH [URL]",
    .argument_count = 3,
    .optional_arguments = 1,
    .options = OPTIONS_DAEMON | OPTION_JSON | OPTION_MODEL,
    .summary = "put a slot of llama-server back",
    .help = "PATH and URL are as in `kvq llama save`. The server's next request in that slot that "
            "begins with the session's tokens needs no prefill of them. It has to run with the "
            "same cache types and the same --flash-attn as the one that was saved from.",
    .run = run_restore,
};

const struct command llama_list_command = {
    .name = "llama list",
    .arguments = "",
    .options = OPTIONS_DAEMON | OPTION_JSON,
    .summary = "list the slots that are kept",
    .help = "Those that `kvq llama save` has made, with their tokens, bytes and model.",
    .run = run_list,
};
