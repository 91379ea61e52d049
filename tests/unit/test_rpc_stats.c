/* STATS: the widest answer that there can be fits into its frame. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/rpc/messages.h"
#include "daemon/rpc/stats.h"

enum { KEY_BYTES = 2, VARINT_BYTES = 10, LENGTH_BYTES = 3, WHY_BYTES = 159, PLUGIN_BYTES = 63 };

/* What a message's field holds at most: so many, and so many bytes of each if it is a text. */
struct most {
    const char *message, *field;
    size_t count, bytes;
};

static size_t longest_operation(void) {
    size_t most = 0;
    for (int type = 0; type < RPC_TYPES; type++) {
        const struct rpc_operation *operation = rpc_find((uint8_t)type);
        size_t bytes = operation ? strlen(operation->name) : 0;
        most = bytes > most ? bytes : most;
    }
    return most;
}

static size_t longest_error(void) {
    size_t most = 0;
    for (uint32_t code = 1; code < WIRE_ERROR_COUNT; code++) {
        size_t bytes = strlen(wire_error_info(code)->name);
        most = bytes > most ? bytes : most;
    }
    return most;
}

static struct most most_of(const ProtobufCMessageDescriptor *message,
                           const ProtobufCFieldDescriptor *field) {
    const struct most known[] = {
        {"StatsReply", "version", 1, strlen(KVQUANT_VERSION)},
        {"StatsReply", "sockets", 0, 0}, /* counted by their names, below */
        {"StatsReply", "operations", RPC_TYPES, 0},
        {"StatsReply", "errors", WIRE_ERROR_COUNT - 1, 0},
        {"StatsReply", "levels", USAGE_LEVELS + 2, 0},
        {"StatsReply", "capacity", MODELS_MAX, 0},
        {"StatsReply", "tenants", STATS_TENANTS, 0},
        {"OperationCount", "operation", 1, longest_operation()},
        {"ErrorCount", "error", 1, longest_error()},
        {"ModelCapacity", "model", 1, WIRE_MODEL_BYTES_MAX},
        {"ModelCapacity", "levels", USAGE_LEVELS, 0},
        {"RecallStats", "plugin", 1, PLUGIN_BYTES},
        {"TenantStats", "tenant", 1, TENANT_NAME_BYTES_MAX},
        {"TakeoverStats", "why", 1, WHY_BYTES},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(known[i].message, message->short_name) == 0 &&
            strcmp(known[i].field, field->name) == 0)
            return known[i];
    bool has_bound = field->label != PROTOBUF_C_LABEL_REPEATED &&
                     field->type != PROTOBUF_C_TYPE_STRING && field->type != PROTOBUF_C_TYPE_BYTES;
    ck_assert_msg(has_bound, "how much of %s.%s can there be?", message->short_name, field->name);
    return (struct most){.count = 1};
}

static size_t widest(const ProtobufCMessageDescriptor *message) {
    size_t bytes = 0;
    for (unsigned i = 0; i < message->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &message->fields[i];
        struct most most = most_of(message, field);
        size_t one = VARINT_BYTES;
        if (field->type == PROTOBUF_C_TYPE_MESSAGE)
            one = LENGTH_BYTES + widest(field->descriptor);
        else if (field->type == PROTOBUF_C_TYPE_STRING || field->type == PROTOBUF_C_TYPE_BYTES)
            one = LENGTH_BYTES + most.bytes;
        bytes += most.count * (KEY_BYTES + one);
    }
    return bytes;
}

static size_t frame_bytes(const char *const *sockets, size_t count) {
    char memory[4096];
    struct rpc_daemon daemon = {.sockets = sockets, .socket_count = count};
    struct rpc_context context = {.daemon = &daemon};
    struct rpc_request request = {.context = &context};
    wire_arena_init(&context.arena, memory, sizeof memory);
    ck_assert_uint_eq(rpc_find(WIRE_STATS)->begin(&request, NULL, 0), WIRE_OK);
    return request.frame_bytes - RPC_FRAME_START - WIRE_HEADER_BYTES;
}

START_TEST(an_answer_with_all_fields_at_their_widest_fits_its_frame) {
    ck_assert_uint_le(widest(&kvq__stats_reply__descriptor), frame_bytes(NULL, 0));
}
END_TEST

START_TEST(there_is_room_for_the_names_of_all_sockets) {
    enum { SOCKETS = 300, NAME_BYTES = 107 };
    static char name[NAME_BYTES + 1];
    const char *sockets[SOCKETS];
    memset(name, 'x', NAME_BYTES);
    for (size_t i = 0; i < SOCKETS; i++)
        sockets[i] = name;
    ck_assert_uint_ge(frame_bytes(sockets, SOCKETS),
                      widest(&kvq__stats_reply__descriptor) +
                          SOCKETS * (KEY_BYTES + LENGTH_BYTES + NAME_BYTES));
}
END_TEST

int main(void) {
    Suite *suite = suite_create("rpc_stats");
    TCase *cases = tcase_create("frame");
    tcase_add_test(cases, an_answer_with_all_fields_at_their_widest_fits_its_frame);
    tcase_add_test(cases, there_is_room_for_the_names_of_all_sockets);
    suite_add_tcase(suite, cases);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
