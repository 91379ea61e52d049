/* The table of commands, in the order in which they are shown. */
#include "client/cli/command.h"

const struct command *const commands[] = {
    &import_command,        &export_command,     &dump_command,         &restore_command,
    &info_command,          &sessions_command,   &status_command,       &top_command,
    &fork_command,          &truncate_command,   &age_command,          &policy_command,
    &pin_command,           &flush_command,      &match_command,        &index_command,
    &unindex_command,       &recall_command,     &attach_put_command,   &attach_get_command,
    &attach_list_command,   &attach_rm_command,  &rm_command,           &ping_command,
    &control_command,       &token_command,      &bench_socket_command, &bench_synthetic_command,
    &profile_command,       &plan_command,       &doctor_command,       &llama_save_command,
    &llama_restore_command, &llama_list_command,
};
const int command_count = sizeof commands / sizeof commands[0];
