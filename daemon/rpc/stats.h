/* The daemon as a whole, as STATS answers it and others in this process show it. */
#ifndef DAEMON_RPC_STATS_H
#define DAEMON_RPC_STATS_H

#include "daemon/rpc/rpc.h"
#include "proto/wire/kvq.pb-c.h"

enum { STATS_TENANTS = 16 };

/* The reply, and what it points to. */
struct stats_report {
    Kvq__StatsReply reply;
    Kvq__OperationCount operations[RPC_TYPES], *operation_pointers[RPC_TYPES];
    Kvq__ErrorCount errors[WIRE_ERROR_COUNT], *error_pointers[WIRE_ERROR_COUNT];
    Kvq__LevelInfo levels[USAGE_LEVELS + 2], *level_pointers[USAGE_LEVELS + 2];
    Kvq__MemoryStats memory;
    Kvq__KeeperStats keeper;
    Kvq__SharingStats sharing;
    Kvq__BlockStats blocks;
    Kvq__AttachmentStats attachments;
    Kvq__Entries entries;
    Kvq__RecallStats recall;
    char plugin[64];
    Kvq__PressureStats pressure;
    struct model_capacity models[MODELS_MAX];
    Kvq__ModelCapacity capacity[MODELS_MAX], *capacity_pointers[MODELS_MAX];
    Kvq__LevelTokens tokens[MODELS_MAX][USAGE_LEVELS], *token_pointers[MODELS_MAX][USAGE_LEVELS];
    Kvq__AgeingStats ageing;
    Kvq__DiskStats disk;
    Kvq__TakeoverStats takeover;
    Kvq__TenantStats tenants[STATS_TENANTS], *tenant_pointers[STATS_TENANTS];
    Kvq__Quota quotas[STATS_TENANTS][TENANT_RESOURCES];
};

/* What a tenant's own clients are told: of its sessions, and what they may know of the daemon. */
void stats_read_of_tenant(struct rpc_daemon *daemon, struct tenant *tenant,
                          struct stats_report *report);

/* Sums that are read together may be apart by what is just being changed. From any thread. */
void stats_read(struct rpc_daemon *daemon, struct tenant *tenant, struct stats_report *report);

#endif
