// cc: shared libvitrine.so
// Kicks: what gets a vCPU's thread out of KVM_RUN. The handler does nothing, and without SA_RESTART the ioctl ends with EINTR; the
// request itself lies in shared memory and `immediate_exit`. JavaScript cannot install such a handler: Node's would restart the call and
// run on another thread. (Linux Documentation/virt/kvm/api.rst, "immediate_exit"; signal(7).)
#define _GNU_SOURCE
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static void nothing(int signal) { (void)signal; }

// Installs the handler for `signal`, for the whole process. 0, or -1 with errno.
int vitrine_install_kick(int signal) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = nothing;
    sigemptyset(&action.sa_mask);
    return sigaction(signal, &action, NULL);
}

// The calling thread's id, as vitrine_tgkill wants it.
int vitrine_gettid(void) { return (int)syscall(SYS_gettid); }

// Sends `signal` to one thread. 0, or -1 with errno.
int vitrine_tgkill(int process, int thread, int signal) { return (int)syscall(SYS_tgkill, process, thread, signal); }
