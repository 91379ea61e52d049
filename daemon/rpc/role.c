#include "daemon/rpc/role.h"

#include <string.h>

#include "daemon/rpc/rpc.h"

static const char *const names[] = {"none", "reader", "worker", "admin"};

/* A type that is not here is an admin's. */
static const enum rpc_role needed_roles[RPC_TYPES] = {
    [WIRE_HELLO] = ROLE_READER,         [WIRE_PING] = ROLE_READER,
    [WIRE_OPEN] = ROLE_READER, /* of what there is */
    [WIRE_APPEND] = ROLE_WORKER,        [WIRE_FETCH] = ROLE_READER,
    [WIRE_INFO] = ROLE_READER,          [WIRE_LIST] = ROLE_READER,  /* of the tenant's own */
    [WIRE_DELETE] = ROLE_WORKER,        [WIRE_STATS] = ROLE_READER, /* likewise */
    [WIRE_FORK] = ROLE_WORKER,          [WIRE_TRUNCATE] = ROLE_WORKER,
    [WIRE_AGE] = ROLE_WORKER, /* likewise */
    [WIRE_PIN] = ROLE_WORKER,           [WIRE_DELETE_MANY] = ROLE_WORKER,
    [WIRE_POLICY] = ROLE_WORKER,        [WIRE_MATCH] = ROLE_READER,
    [WIRE_FLUSH] = ROLE_WORKER,         [WIRE_ATTACH_PUT] = ROLE_WORKER,
    [WIRE_ATTACH_GET] = ROLE_READER,    [WIRE_ATTACH_LIST] = ROLE_READER,
    [WIRE_ATTACH_DELETE] = ROLE_WORKER, [WIRE_BLOCK_PUT] = ROLE_WORKER,
    [WIRE_BLOCK_GET] = ROLE_READER,     [WIRE_BLOCK_CONTROL] = ROLE_READER, /* that only asks */
    [WIRE_CONTROL] = ROLE_ADMIN,        [WIRE_INDEX_PUT] = ROLE_WORKER,
    [WIRE_INDEX_DELETE] = ROLE_WORKER,  [WIRE_RECALL] = ROLE_READER,
    [WIRE_RECALL_KEYS] = ROLE_READER,   [WIRE_DUMP] = ROLE_READER, /* likewise */
    [WIRE_RESTORE] = ROLE_WORKER,
};

enum rpc_role role_needed(uint8_t type) {
    bool is_known = type < RPC_TYPES && needed_roles[type] != ROLE_NONE;
    return is_known ? needed_roles[type] : ROLE_ADMIN;
}

const char *role_name(enum rpc_role role) {
    return names[role];
}

enum rpc_role role_of_name(const char *name) {
    for (enum rpc_role role = ROLE_READER; role <= ROLE_ADMIN; role++)
        if (strcmp(names[role], name) == 0)
            return role;
    return ROLE_NONE;
}

uint32_t role_check(struct rpc_request *request, enum rpc_role needed, const char *what) {
    enum rpc_role role = request->peer->role;
    if (role >= needed)
        return WIRE_OK;
    return rpc_fail(request, WIRE_PERMISSION_DENIED, "%s needs the role %s; this client is a %s",
                    what, names[needed], names[role]);
}
