/* From reset to main(): the FPU is turned on, data and bss are set up. Any fault ends the run. */
#include "tests/tiny/semihosting.h"

#include <string.h>

extern uint8_t data_source[], data_begin[], data_end[], bss_begin[], bss_end[], stack_end[];

void reset(void);
int main(void);

static void fault(void) {
    host_print("fault\n");
    host_exit(3);
}

#ifdef __ARM_FP
static void enable_fpu(void) {
    volatile uint32_t *access_control = (volatile uint32_t *)0xe000ed88;
    *access_control |= 0xfu << 20;
    __asm__ volatile("dsb\n\tisb" ::: "memory");
}
#else
static void enable_fpu(void) {}
#endif

void reset(void) {
    enable_fpu();
    memcpy(data_begin, data_source, (size_t)(data_end - data_begin));
    memset(bss_begin, 0, (size_t)(bss_end - bss_begin));
    host_exit((uint32_t)main());
}

/* The stack, reset, then NMI and the faults. */
__attribute__((section(".vectors"), used)) static const void *const exceptions[16] = {
    stack_end, reset, fault, fault, fault, fault, fault,
};
