#include "daemon/ops/watchdog.h"

#include "daemon/base/clock.h"
#include "daemon/ops/notify.h"

static const uint64_t us_per_ms = CLOCK_NS_PER_MS / CLOCK_NS_PER_US;

void watchdog_init(struct watchdog *watchdog, uv_loop_t *loop) {
    *watchdog = (struct watchdog){0};
    uv_timer_init(loop, &watchdog->timer);
    watchdog->timer.data = watchdog;
}

void watchdog_close(struct watchdog *watchdog) {
    uv_close((uv_handle_t *)&watchdog->timer, NULL);
}

void watchdog_on_answer(struct watchdog *watchdog) {
    if (!watchdog->asking)
        return;
    for (size_t i = 0; i < watchdog->reactor_count; i++)
        if (!reactor_has_answered(&watchdog->reactors[i]))
            return;
    watchdog->asking = false;
    notify_alive();
}

static void on_time(uv_timer_t *timer) {
    struct watchdog *watchdog = timer->data;
    watchdog->asking = true;
    for (size_t i = 0; i < watchdog->reactor_count; i++)
        reactor_ask(&watchdog->reactors[i]);
    watchdog_on_answer(watchdog);
}

void watchdog_start(struct watchdog *watchdog, struct reactor *reactors, size_t reactor_count) {
    uint64_t interval_ms = notify_watchdog_us() / us_per_ms;
    watchdog->reactors = reactors;
    watchdog->reactor_count = reactor_count;
    if (interval_ms == 0)
        return;
    uint64_t half_ms = interval_ms > 2 ? interval_ms / 2 : 1;
    uv_timer_start(&watchdog->timer, on_time, 0, half_ms);
}
