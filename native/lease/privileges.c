// cc: program vitrine-helper
// The first thing it does: finds out for whom it works, and throws away all that it was started with and does not need. pkexec and sudo
// have cleaned the environment; resource limits, timers, signals and descriptors are still as whoever started them wanted.
#include "privileges.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

// Who asked: PKEXEC_UID, SUDO_UID, or root itself. False when that is no user's number.
static bool read_caller(struct caller *caller) {
    const char *const pkexec = getenv("PKEXEC_UID"), *const sudo = getenv("SUDO_UID");
    const char *const said = pkexec != NULL ? pkexec : sudo;
    uint64_t number = getuid();
    if (said != NULL && !parse_number(said, strlen(said), UINT32_MAX - 1, &number)) return false;
    caller->uid = (uid_t)number;
    // Who may run anything by sudo may also take back what others keep.
    caller->administrator = pkexec == NULL;
    return true;
}

static void forget_signals(void) {
    static const int ignored[] = { SIGPIPE, SIGQUIT, SIGTSTP, SIGTTIN, SIGTTOU, SIGALRM, SIGUSR1, SIGUSR2, SIGXFSZ, SIGXCPU };
    const struct itimerval never = { 0 };
    sigset_t none;
    for (int timer = ITIMER_REAL; timer <= ITIMER_PROF; timer++) setitimer(timer, &never, NULL);
    signal(SIGCHLD, SIG_DFL);
    for (size_t i = 0; i < sizeof ignored / sizeof *ignored; i++) signal(ignored[i], SIG_IGN);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

static void forget_descriptors(void) {
    int fd;
    while ((fd = open("/dev/null", O_RDWR)) >= 0 && fd <= 2) continue; // 0, 1 and 2 are never something else's
    syscall(SYS_close_range, 3U, ~0U, 0);
}

#ifdef VITRINE_TEST
int become_helper(struct caller *caller, bool runs_others) {
    (void)runs_others;
    forget_signals();
    forget_descriptors();
    return read_caller(caller) ? 0 : refuse("caller", "who started the helper cannot be told");
}
#else
static void lift_limits(void) {
    static const int lifted[] = { RLIMIT_CPU, RLIMIT_FSIZE, RLIMIT_DATA, RLIMIT_AS, RLIMIT_RSS };
    const struct rlimit unlimited = { RLIM_INFINITY, RLIM_INFINITY }, none = { 0, 0 }, files = { 1024, 1024 }, stack = { 8 << 20, 8 << 20 };
    for (size_t i = 0; i < sizeof lifted / sizeof *lifted; i++) setrlimit(lifted[i], &unlimited);
    setrlimit(RLIMIT_CORE, &none);
    setrlimit(RLIMIT_NOFILE, &files);
    setrlimit(RLIMIT_STACK, &stack);
}

// Kept: owners of nodes (CHOWN, FOWNER), nodes that are the user's (DAC_OVERRIDE), limits of the user's processes (SYS_RESOURCE, SYS_PTRACE
// to read how much memory they use), modules (SYS_MODULE). Writing to sysfs needs none: root owns the files.
//
// The ways that have the initramfs made run the distribution's program, and that one gets all that root has. Its hooks ask the device mapper
// for the disks that the computer starts from (SYS_ADMIN), enter the new tree (SYS_CHROOT), make nodes in it (MKNOD) and call programs of
// packages that we do not know. With less, they leave things out without an error, and the computer does not start any more. The helper
// itself has the same six in effect then; what more it is permitted is for the program that it becomes.
static int drop_capabilities(bool runs_others) {
    static const int kept[] = { CAP_CHOWN, CAP_FOWNER, CAP_DAC_OVERRIDE, CAP_SYS_RESOURCE, CAP_SYS_PTRACE, CAP_SYS_MODULE };
    struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
    struct __user_cap_data_struct data[2] = { 0 };
    uint64_t mask = 0;
    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++) mask |= (uint64_t)1 << kept[i];
    for (int capability = 0; !runs_others && prctl(PR_CAPBSET_READ, capability, 0, 0, 0) >= 0; capability++) {
        if (!(mask >> capability & 1)) prctl(PR_CAPBSET_DROP, capability, 0, 0, 0);
    }
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    // Root in a container may have fewer.
    if (syscall(SYS_capget, &header, data) != 0) return -1;
    for (int half = 0; half < 2; half++) {
        data[half].effective = data[half].permitted & (uint32_t)(mask >> (32 * half));
        if (!runs_others) data[half].permitted = data[half].effective;
        data[half].inheritable = 0;
    }
    return syscall(SYS_capset, &header, data) == 0 ? 0 : -1;
}

int become_helper(struct caller *caller, bool runs_others) {
    forget_descriptors();
    if (getuid() != geteuid() || getgid() != getegid()) return refuse("setuid", "the helper must not be installed setuid: pkexec or sudo start it");
    if (geteuid() != 0) return refuse("root", "only root can do this; start the helper by pkexec or sudo");
    if (!read_caller(caller)) return refuse("caller", "who started the helper cannot be told");
    clearenv();
    forget_signals();
    lift_limits();
    umask(022);
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    // It would also hold for the distribution's program, and cut it to the six.
    if (!runs_others) prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    if (chdir("/") != 0 || drop_capabilities(runs_others) != 0) return refuse("host", "privileges that are not needed cannot be dropped: %s", strerror(errno));
    return 0;
}
#endif
