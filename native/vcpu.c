// cc: shared libvitrine.so
// One turn of a vCPU: KVM_RUN, with what others must know of it written down around it, in one call from JavaScript. The words are those of
// src/vmm/machine/vcpu-state.ts, one cache line of a vCPU in the machine's shared memory. What is plain memory to the vCPU's own thread alone
// needs no locked instruction here, and in JavaScript would. (Linux Documentation/virt/kvm/api.rst, "KVM_RUN".)
#include <errno.h>
#include <linux/kvm.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

// Words of a vCPU, and the values of STATE.
enum { STATE = 1, EXITS = 2, IO_EXITS = 4, MEMORY_EXITS = 5 };
enum { IN_GUEST = 1, HANDLING = 2 };

// Returned instead of KVM_EXIT_IO for the commonest exit, one byte written to a port: with the port above the byte, so that JavaScript need
// not look into kvm_run, where every look costs: after an exit nothing of it is in the processor's caches.
enum { BYTE_OUT = 1 << 30 };

// The calling thread's vCPU: a thread runs one. Initial-exec: found without a call.
static __thread struct {
    int fd;
    const struct kvm_run *run;
    int32_t *words;
} vcpu __attribute__((tls_model("initial-exec")));

// KVM_RUN: 0, or minus the error number. The instruction itself, because the C library's ioctl and the way to it are two more pages of code
// to be found again after every exit.
static inline int kvm_run_ioctl(int fd) {
#ifdef __x86_64__
    long result;
    __asm__ volatile("syscall" : "=a"(result) : "a"(SYS_ioctl), "D"((long)fd), "S"((long)KVM_RUN), "d"(0L) : "rcx", "r11", "memory");
    return (int)result;
#else
    return ioctl(fd, KVM_RUN, 0) < 0 ? -errno : 0;
#endif
}

// Says which vCPU the calling thread runs: its descriptor, its kvm_run, its words.
void vitrine_vcpu_bind(int fd, const void *run, int32_t *words) {
    vcpu.fd = fd;
    vcpu.run = run;
    vcpu.words = words;
}

// Runs the calling thread's vCPU until it leaves the guest. Returns the exit reason (KVM_EXIT_*), or BYTE_OUT | port << 8 | byte, or minus
// the error number.
// Whoever stops vCPUs sets immediate_exit and then looks at STATE, while this sets STATE and then enters, where the kernel looks at
// immediate_exit: that order needs the full barrier. Afterwards a release is enough, and the counters have one writer.
int vitrine_vcpu_run(void) {
    int32_t *const words = vcpu.words;
    const struct kvm_run *const run = vcpu.run;
    __atomic_store_n(&words[STATE], IN_GUEST, __ATOMIC_SEQ_CST);
    const int result = kvm_run_ioctl(vcpu.fd);
    const int reason = result < 0 ? result : (int)run->exit_reason;
    __atomic_store_n(&words[STATE], HANDLING, __ATOMIC_RELEASE);
    // As unsigned numbers: they wrap.
    __atomic_store_n(&words[EXITS], (int32_t)((uint32_t)words[EXITS] + 1), __ATOMIC_RELAXED);
    if (reason == KVM_EXIT_IO) {
        __atomic_store_n(&words[IO_EXITS], (int32_t)((uint32_t)words[IO_EXITS] + 1), __ATOMIC_RELAXED);
        if (run->io.direction == KVM_EXIT_IO_OUT && run->io.size == 1 && run->io.count == 1)
            return BYTE_OUT | run->io.port << 8 | ((const uint8_t *)run)[run->io.data_offset];
    } else if (reason == KVM_EXIT_MMIO) {
        __atomic_store_n(&words[MEMORY_EXITS], (int32_t)((uint32_t)words[MEMORY_EXITS] + 1), __ATOMIC_RELAXED);
    }
    return reason;
}

// What JavaScript calls, as a Node-API module (node_api.h, whose few names follow; that interface does not change): after an exit nothing is
// in the caches, and this way to C touches fewer pages than a general foreign function interface, which saves some 50 ns an exit.
typedef struct napi_env__ *napi_env;
typedef struct napi_value__ *napi_value;
typedef struct napi_callback_info__ *napi_callback_info;
int napi_create_int32(napi_env env, int32_t value, napi_value *result);
int napi_create_function(napi_env env, const char *name, size_t length, napi_value (*callback)(napi_env, napi_callback_info), void *data, napi_value *result);
int napi_set_named_property(napi_env env, napi_value object, const char *name, napi_value value);

static napi_value run_vcpu(napi_env env, napi_callback_info info) {
    (void)info;
    napi_value result = NULL;
    napi_create_int32(env, vitrine_vcpu_run(), &result);
    return result;
}

napi_value napi_register_module_v1(napi_env env, napi_value exports) {
    napi_value function;
    if (napi_create_function(env, "runVcpu", sizeof "runVcpu" - 1, run_vcpu, NULL, &function) == 0) napi_set_named_property(env, exports, "runVcpu", function);
    return exports;
}
