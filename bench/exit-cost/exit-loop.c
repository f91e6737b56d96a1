// The loop that a VMM in C would have, for comparison: KVM_RUN and a switch, with nothing behind it. bench/exit-cost.ts compiles it to a
// library, so that it drives the very vCPU that Vitrine's own loop drives by turns with it.
#include <errno.h>
#include <linux/kvm.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>

// Runs the vCPU `fd`, whose kvm_run is at `run`, until it writes to `last_port`; that access is completed. Port and memory reads give all
// ones. Returns the exits handled, or minus the error number, or INT64_MIN for an exit that the guest of the benchmark does not make.
int64_t bench_exits(int fd, struct kvm_run *run, uint32_t last_port) {
    for (int64_t exits = 1;; exits++) {
        if (ioctl(fd, KVM_RUN, 0) != 0) return -errno;
        switch (run->exit_reason) {
        case KVM_EXIT_IO: {
            uint8_t *const data = (uint8_t *)run + run->io.data_offset;
            if (run->io.direction == KVM_EXIT_IO_IN) {
                memset(data, 0xff, (uint64_t)run->io.size * run->io.count);
            } else if (run->io.port == last_port) {
                run->immediate_exit = 1;
                const int result = ioctl(fd, KVM_RUN, 0);
                run->immediate_exit = 0;
                return result == -1 && errno == EINTR ? exits : INT64_MIN;
            }
            break;
        }
        case KVM_EXIT_MMIO:
            if (!run->mmio.is_write) memset(run->mmio.data, 0xff, run->mmio.len);
            break;
        default:
            return INT64_MIN;
        }
    }
}

// Runs the vCPU as `bench_exits` does, but is entered from JavaScript for each exit: what the way there and back costs alone.
int bench_run(int fd) { return ioctl(fd, KVM_RUN, 0); }
