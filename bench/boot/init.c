// The guest's first process in bench/boot.ts: says that it runs, on the console that the kernel opened for it, and turns the machine off.
// No C library: the file is a few kilobytes, so what is measured is the kernel and the machine below it.
#include <asm/unistd.h>
#include <linux/reboot.h>

static long call(long number, long a, long b, long c, long d) {
    long result;
    register long fourth __asm__("r10") = d;
    __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c), "r"(fourth) : "rcx", "r11", "memory");
    return result;
}

void _start(void) {
    static const char words[] = "userland is here\n";
    call(__NR_write, 1, (long)words, sizeof words - 1, 0);
    // Restart: on every machine the way out of the benchmark, also without ACPI.
    for (;;) call(__NR_reboot, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2, LINUX_REBOOT_CMD_RESTART, 0);
}
