#include "daemon/store/pressure.h"

#include "daemon/base/clock.h"
#include "daemon/store/evict.h"
#include "daemon/store/spill.h"
#include "daemon/store/tail_relief.h"

/* So long an append waits for what is being coded, before it costs somebody tokens. */
#define PATIENCE_NS (500 * CLOCK_NS_PER_MS)
/* So long those who wait may take to see what was freed. */
#define NOTICE_NS (50 * CLOCK_NS_PER_MS)
/* While appends wait and nothing can be done for them, it is looked again so often. */
#define LOOK_AGAIN_NS (20 * CLOCK_NS_PER_MS)
/* A session that was used since then stays, unless appends wait. */
#define RECENT_NS (1 * CLOCK_NS_PER_S)

/* So long a disk on which a write failed is not relied on. */
#define DISK_FAILED_NS (10 * CLOCK_NS_PER_S)

/* At once, for somebody who waits. */
enum { SPILL_LEAST_BYTES = 1 << 20 };
/* So much of a core is spent on looking in vain. */
enum { VAIN_CORE_PART = 16 };

static uint32_t low_percent(const struct pressure *pressure) {
    uint32_t low = pressure->low_percent, high = pressure->high_percent;
    return low < high ? low : high;
}

/* Of the limit that it is about. */
static struct budget *budget_of(const struct pressure *pressure) {
    return pressure->short_of ? &pressure->short_of->memory : &pressure->store->budget;
}

static struct pressure_state *state_of(struct pressure *pressure) {
    return pressure->short_of ? &pressure->short_of->pressure : &pressure->state;
}

static uint64_t used_bytes(const struct pressure *pressure) {
    return pressure->short_of ? atomic_load(&pressure->short_of->memory.used_bytes)
                              : store_used_bytes(pressure->store);
}

static struct coldness *order_of(const struct pressure *pressure) {
    return pressure->payer ? &pressure->payer->coldness : &pressure->store->coldness;
}

/* So much of what sessions may have. */
static uint64_t mark_bytes(const struct pressure *pressure, uint32_t percent) {
    uint64_t limit = atomic_load(&budget_of(pressure)->limit_bytes);
    uint64_t fixed = pressure->short_of ? 0 : store_fixed_bytes(pressure->store);
    return limit > fixed ? fixed + (limit - fixed) / 100 * percent : limit;
}

static uint64_t above_bytes(const struct pressure *pressure, uint32_t percent) {
    uint64_t used = used_bytes(pressure), mark = mark_bytes(pressure, percent);
    return used > mark ? used - mark : 0;
}

static bool anybody_waits(struct pressure *pressure) {
    struct pressure_state *state = state_of(pressure);
    bool waits = atomic_load(&budget_of(pressure)->waiting) > 0;
    if (!waits)
        state->waiting_since_ns = 0;
    else if (state->waiting_since_ns == 0)
        state->waiting_since_ns = clock_now_ns();
    return waits;
}

/* After the limit was lowered, or with appends that wait, what was just used may go, too. */
static bool has_no_choice(struct pressure *pressure) {
    return anybody_waits(pressure) ||
           used_bytes(pressure) > atomic_load(&budget_of(pressure)->limit_bytes);
}

static bool is_on(struct pressure *pressure) {
    return anybody_waits(pressure) || above_bytes(pressure, pressure->high_percent) > 0;
}

void pressure_begin_round(struct pressure *pressure) {
    pressure->short_of = NULL;
    pressure->round_ended = false;
}

/* Goes on to the next limit, the daemon's behind all tenants'. False: there is none. */
static bool next_limit(struct pressure *pressure) {
    if (pressure->round_ended)
        return false;
    pressure->short_of = tenants_next(&pressure->store->tenants, pressure->short_of);
    pressure->round_ended = !pressure->short_of;
    return true;
}

bool pressure_next(struct pressure *pressure) {
    bool begins = false;
    while (!begins && next_limit(pressure))
        begins = is_on(pressure) && clock_now_ns() >= state_of(pressure)->rest_until_ns;
    pressure->payer = pressure->short_of;
    pressure->no_choice = false;
    atomic_fetch_add(&pressure->stats.rounds, begins);
    return begins;
}

/* What each of those that hold anything may have of the limit without being asked first. */
static uint64_t fair_share_bytes(struct tenants *tenants, uint64_t limit_bytes) {
    uint64_t holders = 0;
    for (struct tenant *tenant = NULL; (tenant = tenants_next(tenants, tenant));)
        holders += atomic_load(&tenant->memory.used_bytes) > 0;
    return holders > 1 ? limit_bytes / holders : UINT64_MAX;
}

static uint64_t excess_bytes(const struct tenant *tenant, uint64_t share_bytes) {
    uint64_t limit = atomic_load(&tenant->memory.limit_bytes);
    uint64_t share = limit < share_bytes ? limit : share_bytes;
    uint64_t used = atomic_load(&tenant->memory.used_bytes);
    return used > share ? used - share : 0;
}

void pressure_choose_payer(struct pressure *pressure) {
    struct tenants *tenants = &pressure->store->tenants;
    pressure->payer = pressure->short_of;
    if (pressure->short_of)
        return;
    uint64_t fixed = store_fixed_bytes(pressure->store), limit = mark_bytes(pressure, 100);
    uint64_t share = fair_share_bytes(tenants, limit > fixed ? limit - fixed : 0), most = 0;
    for (struct tenant *tenant = NULL; (tenant = tenants_next(tenants, tenant));) {
        uint64_t excess = excess_bytes(tenant, share);
        if (excess > most)
            pressure->payer = tenant;
        most = excess > most ? excess : most;
    }
}

bool pressure_ask_others(struct pressure *pressure) {
    bool others = pressure->payer != pressure->short_of;
    pressure->payer = pressure->short_of;
    return others;
}

static uint64_t later(uint64_t a_ns, uint64_t b_ns) {
    return a_ns > b_ns ? a_ns : b_ns;
}

uint64_t pressure_look_again_ns(struct pressure *pressure) {
    uint64_t now = clock_now_ns(), first_ns = UINT64_MAX;
    pressure_begin_round(pressure);
    while (next_limit(pressure)) {
        if (!is_on(pressure))
            continue;
        uint64_t wait_ns = anybody_waits(pressure) ? LOOK_AGAIN_NS : CLOCK_NS_PER_S;
        uint64_t again_ns = later(now + wait_ns, state_of(pressure)->rest_until_ns);
        first_ns = again_ns < first_ns ? again_ns : first_ns;
    }
    return first_ns;
}

void pressure_rest(struct pressure *pressure, uint64_t spent_ns) {
    state_of(pressure)->rest_until_ns = clock_now_ns() + (VAIN_CORE_PART - 1) * spent_ns;
}

bool pressure_is_urgent(struct pressure *pressure) {
    bool urgent = false;
    pressure_begin_round(pressure);
    while (!urgent && next_limit(pressure))
        urgent = anybody_waits(pressure) &&
                 clock_now_ns() - state_of(pressure)->waiting_since_ns > PATIENCE_NS;
    return urgent;
}

/* Below the low mark those who wait are given time to see what was freed. */
bool pressure_goes_on(struct pressure *pressure) {
    if (above_bytes(pressure, low_percent(pressure)) > 0)
        return true;
    return anybody_waits(pressure) && clock_now_ns() - state_of(pressure)->evicted_ns > NOTICE_NS;
}

/* With the session locked: true if a slice was finer. */
static bool age_slices(struct session *session, int floor) {
    bool any = false;
    for (size_t i = 0; i < session->slice_count; i++) {
        struct slice *slice = &session->slices[i];
        any |= slice->level < floor;
        session_age_slice(slice, floor);
    }
    session->aged_to = floor;
    return any;
}

/* True if a slice was finer than the session's floor. */
static bool age_to_floor(struct session *session) {
    pthread_mutex_lock(session->lock);
    int floor = session_coarsest_level(session);
    bool any = session->aged_to < floor && age_slices(session, floor);
    pthread_mutex_unlock(session->lock);
    return any;
}

struct session *pressure_age(struct pressure *pressure) {
    struct coldness *order = order_of(pressure);
    struct session *session;
    coldness_walk_begin(order);
    while ((session = coldness_walk(order))) {
        if (age_to_floor(session)) {
            atomic_fetch_add(&pressure->stats.aged_sessions, 1);
            return session;
        }
        session_unref(session);
    }
    return NULL;
}

void pressure_has_aged(struct pressure *pressure, uint64_t freed_bytes) {
    atomic_fetch_add(&pressure->stats.aged_bytes, freed_bytes);
}

static void count(struct pressure *pressure, const struct evict_result *result) {
    state_of(pressure)->evicted_ns = clock_now_ns();
    atomic_fetch_add(&pressure->stats.evicted_sessions, 1);
    atomic_fetch_add(&pressure->stats.evicted_tokens, result->tokens);
    atomic_fetch_add(&pressure->stats.evicted_bytes, result->bytes);
    atomic_fetch_add(&pressure->stats.deleted_sessions, result->deleted);
}

static int evict_this(struct pressure *pressure, struct session *session,
                      const struct evict_request *request, struct evict_result *result) {
    int status = evict_session(pressure->store, session, request, result);
    if (status == STORE_OK)
        count(pressure, result);
    return status;
}

/* One that is pinned or has nothing of its own moves on: in front of those that were touched there
 * is else nobody to be found. What has nothing in memory because it is on disk is as cold as it
 * was: there it is next to go. */
static bool moves_on(const struct pressure *pressure, int status) {
    return status == STORE_BUSY ||
           (status == STORE_UNSUPPORTED && !disk_tier_is_on(&pressure->store->disk));
}

static int evict_coldest(struct pressure *pressure, const struct evict_request *request,
                         struct evict_result *result) {
    struct coldness *order = order_of(pressure);
    struct session *session = coldness_coldest(order);
    if (!session)
        return STORE_MISS;
    int status = evict_this(pressure, session, request, result);
    if (moves_on(pressure, status))
        coldness_pass(order, session);
    session_unref(session);
    return status;
}

/* Past the coldest, which stays where it is: it is in use for a moment, or on disk. */
static bool evict_next(struct pressure *pressure, const struct evict_request *request) {
    struct coldness *order = order_of(pressure);
    struct evict_result result;
    struct session *session;
    bool evicted = false;
    coldness_walk_begin(order);
    while (!evicted && (session = coldness_walk(order))) {
        evicted = evict_this(pressure, session, request, &result) == STORE_OK;
        session_unref(session);
    }
    return evicted;
}

/* Looks at each once, from the coldest on, up to one that had tokens: such as had none are small,
 * and may be many. */
static bool evict_any(struct pressure *pressure, const struct evict_request *request) {
    uint64_t freed_bytes = 0;
    size_t left = coldness_sessions(order_of(pressure));
    for (; left > 0 && freed_bytes < request->want_bytes; left--) {
        struct evict_result result;
        int status = evict_coldest(pressure, request, &result);
        if (status == STORE_OK && result.tokens > 0)
            return true;
        if (status == STORE_OK)
            freed_bytes += result.bytes;
        else if (!moves_on(pressure, status))
            return evict_next(pressure, request) || freed_bytes > 0;
    }
    return freed_bytes > 0;
}

static bool code_tails(struct pressure *pressure, uint64_t want_bytes, uint64_t idle_ns) {
    bool coded = tail_relief(pressure->store, order_of(pressure), want_bytes, idle_ns);
    if (coded)
        state_of(pressure)->evicted_ns = clock_now_ns();
    return coded;
}

static bool spill_or_code_tails(struct pressure *pressure, uint64_t want_bytes, uint64_t idle_ns) {
    bool spilled = spill(pressure->store, order_of(pressure), want_bytes, idle_ns);
    if (spilled)
        state_of(pressure)->evicted_ns = clock_now_ns();
    return spilled || code_tails(pressure, want_bytes, idle_ns);
}

/* Only for those who wait does what was just used go. */
bool pressure_spill(struct pressure *pressure) {
    uint64_t above = above_bytes(pressure, low_percent(pressure));
    uint64_t want = above > SPILL_LEAST_BYTES ? above : SPILL_LEAST_BYTES;
    bool spilled = spill_or_code_tails(pressure, want, RECENT_NS);
    pressure->no_choice |= has_no_choice(pressure);
    if (!spilled && pressure->no_choice && disk_tier_is_on(&pressure->store->disk))
        spilled = spill_or_code_tails(pressure, want, 0);
    return spilled;
}

/* Whether sessions could go to disk: not for a while after a write failed, but for want of room,
 * and not where none could be made. Until what is there is found nothing goes, and may be there
 * already; no append waits meanwhile. */
static bool disk_takes_more(struct pressure *pressure) {
    struct disk_tier *tier = &pressure->store->disk;
    uint64_t broken = atomic_load(&tier->counts.broken_writes), now = clock_now_ns();
    if (broken != pressure->broken_writes)
        pressure->disk_failed_ns = now;
    pressure->broken_writes = broken;
    return disk_tier_is_on(tier) && !atomic_load(&tier->unrelieved) &&
           now - pressure->disk_failed_ns > DISK_FAILED_NS;
}

/* Only for those who wait does what was just used go, and in the end what frees nothing because
 * others have it too: when they go as well, it does. */
bool pressure_evict(struct pressure *pressure) {
    uint64_t above = above_bytes(pressure, low_percent(pressure));
    uint64_t want = above > 0 ? above : 1;
    bool keeps = disk_takes_more(pressure);
    const struct evict_request requests[] = {
        {.want_bytes = want, .idle_ns = RECENT_NS, .keeps_spillable = keeps},
        {.want_bytes = want, .keeps_spillable = keeps},
        {.want_bytes = want, .idle_ns = RECENT_NS, .shared_too = true, .keeps_spillable = keeps},
        {.want_bytes = want, .shared_too = true, .keeps_spillable = keeps},
    };
    if (evict_any(pressure, &requests[0]))
        return true;
    pressure->no_choice |= has_no_choice(pressure);
    bool made = pressure->no_choice && code_tails(pressure, want, 0);
    for (int i = 1; i < 4 && !made && pressure->no_choice; i++)
        made = evict_any(pressure, &requests[i]);
    return made;
}
