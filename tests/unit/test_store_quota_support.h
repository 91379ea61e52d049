/* Two tenants, one with limits, and what they hold. */
#ifndef TESTS_UNIT_TEST_STORE_QUOTA_SUPPORT_H
#define TESTS_UNIT_TEST_STORE_QUOTA_SUPPORT_H

#include "tests/unit/test_store_disk_support.h"

enum { CHUNK_BYTES = PAGE * ROW_VALUES * (int)sizeof(float) * LAYERS * 2 };

static struct tenant *greedy, *calm;

static inline struct tenant *tenant_of(const char *name) {
    return tenants_find(&store.tenants, name, strlen(name));
}

static inline void limit_greedy(struct tenant_limits limits) {
    struct tenant_quota *row = calloc(1, sizeof *row);
    strcpy(row->tenant, "greedy");
    row->limits = limits;
    tenants_set_quotas(&store.tenants, row, 1);
}

static inline struct tenant_limits no_limits(void) {
    return (struct tenant_limits){QUOTA_NONE, QUOTA_NONE, QUOTA_NONE,
                                  QUOTA_NONE, QUOTA_NONE, QUOTA_NONE};
}

/* Of random bits, so that it takes what it takes raw. */
static inline void store_exactly(const char *name, uint64_t tokens) {
    ck_assert_int_eq(open_session(name, PAGE_EXACT), STORE_OK);
    store_tokens(name, 0, tokens, true);
    leave_idle(name);
}

static inline uint64_t used(const struct tenant *tenant) {
    return atomic_load(&tenant->memory.used_bytes);
}

/* What was left to the keeper is freed by it in time. */
static inline void wait_until_nothing_is_charged(const struct tenant *tenant) {
    for (int i = 0; i < WAIT_STEPS && used(tenant) > 0; i++)
        wait_step();
    ck_assert_uint_eq(used(tenant), 0);
    ck_assert_uint_eq(atomic_load(&tenant->session_count.used), 0);
}

/* From here on the test is the greedy one. */
static inline void find_tenants(void) {
    greedy = tenant_of("greedy");
    calm = tenant_of("calm");
    store_tenant = greedy;
}

#endif
