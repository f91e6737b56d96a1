// cc: shared libvitrine.so
// One turn of a vCPU: KVM_RUN, with what others must know of it written down around it, in one call from JavaScript. The words are those of
// src/vmm/machine/vcpu-state.ts, one cache line of a vCPU in the machine's shared memory. What is plain memory to the vCPU's own thread alone
// needs no locked instruction here, and in JavaScript would. (Linux Documentation/virt/kvm/api.rst, "KVM_RUN".)
#include <errno.h>
#include <linux/kvm.h>
#include <stdint.h>
#include <sys/ioctl.h>

// Words of a vCPU, and the values of STATE.
enum { STATE = 1, EXITS = 2, IO_EXITS = 4, MEMORY_EXITS = 5 };
enum { IN_GUEST = 1, HANDLING = 2 };

// The calling thread's vCPU: a thread runs one.
static __thread struct {
    int fd;
    const struct kvm_run *run;
    int32_t *words;
} vcpu;

// Says which vCPU the calling thread runs: its descriptor, its kvm_run, its words.
void vitrine_vcpu_bind(int fd, const void *run, int32_t *words) {
    vcpu.fd = fd;
    vcpu.run = run;
    vcpu.words = words;
}

// Runs the calling thread's vCPU until it leaves the guest. Returns the exit reason (KVM_EXIT_*), or minus the error number.
// Whoever stops vCPUs sets immediate_exit and then looks at STATE, while this sets STATE and then enters, where the kernel looks at
// immediate_exit: that order needs the full barrier. Afterwards a release is enough, and the counters have one writer.
int vitrine_vcpu_run(void) {
    int32_t *const words = vcpu.words;
    __atomic_store_n(&words[STATE], IN_GUEST, __ATOMIC_SEQ_CST);
    const int result = ioctl(vcpu.fd, KVM_RUN, 0);
    const int reason = result < 0 ? -errno : (int)vcpu.run->exit_reason;
    __atomic_store_n(&words[STATE], HANDLING, __ATOMIC_RELEASE);
    // As unsigned numbers: they wrap.
    __atomic_store_n(&words[EXITS], (int32_t)((uint32_t)words[EXITS] + 1), __ATOMIC_RELAXED);
    if (reason == KVM_EXIT_IO) __atomic_store_n(&words[IO_EXITS], (int32_t)((uint32_t)words[IO_EXITS] + 1), __ATOMIC_RELAXED);
    else if (reason == KVM_EXIT_MMIO) __atomic_store_n(&words[MEMORY_EXITS], (int32_t)((uint32_t)words[MEMORY_EXITS] + 1), __ATOMIC_RELAXED);
    return reason;
}
