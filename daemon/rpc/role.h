/* Roles: what a client may do, whatever tenant it belongs to. Each may do what those before it may.
 */
#ifndef DAEMON_RPC_ROLE_H
#define DAEMON_RPC_ROLE_H

#include <stdint.h>

struct rpc_request;

/* The wire's numbers. */
enum rpc_role {
    ROLE_NONE,
    ROLE_READER, /* reads what its tenant has */
    ROLE_WORKER, /* and changes it */
    ROLE_ADMIN,  /* and does what concerns the daemon, or other tenants */
};

/* The least role that an operation takes; some take more for some of what they can be asked. */
enum rpc_role role_needed(uint8_t type);

const char *role_name(enum rpc_role role);

/* The role of this name, or ROLE_NONE. */
enum rpc_role role_of_name(const char *name);

/* 0, or the fault's code if the client has not this role: it says what needs it. */
uint32_t role_check(struct rpc_request *request, enum rpc_role needed, const char *what)
    __attribute__((warn_unused_result));

#endif
