// cc: program vitrine-helper
// A step that may take for ever. A driver that does not let go of its device keeps the writer of `unbind` in the kernel, where no signal
// reaches it; so a child writes, and after a time its parent goes on without it. The child keeps the host's lock and nothing else: if
// its parent is killed, whoever is to undo waits for the end of the step.
#include "helper.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

int64_t now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

// Waits for the child until the time is over: its exit code, or STEP_HUNG.
static int await(pid_t child, int seconds) {
    const int64_t end = now_ms() + (int64_t)seconds * 1000;
    int status;
    for (;;) {
        const pid_t got = waitpid(child, &status, WNOHANG);
        if (got == child) return WIFEXITED(status) ? WEXITSTATUS(status) : EINTR;
        if (got < 0 && errno != EINTR) return errno;
        if (now_ms() >= end) break;
        poll(NULL, 0, 2);
    }
    // It may end with this, and if it sits in the kernel it ends when it comes out.
    kill(child, SIGKILL);
    return STEP_HUNG;
}

static pid_t fork_child(void) {
    const pid_t parent = getpid(), child = fork();
    if (child != 0) return child;
    // What has not begun when the parent dies does not begin.
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(EINTR);
    const int nothing = open("/dev/null", O_RDWR);
    if (nothing >= 0) {
        for (int fd = 0; fd <= 2; fd++) dup2(nothing, fd);
    }
    setsid();
    return 0;
}

static int highest_root(void) {
    int highest = sys_root;
    if (proc_root > highest) highest = proc_root;
    if (dev_root > highest) highest = dev_root;
    return run_root > highest ? run_root : highest;
}

static void close_range_of(int from, int to) {
    if (from <= to) syscall(SYS_close_range, (unsigned)from, (unsigned)to, 0);
}

static void close_but_roots_and_lock(void) {
    const int from = highest_root() + 1;
    if (host_lock < from) return close_range_of(from, INT_MAX);
    close_range_of(from, host_lock - 1);
    close_range_of(host_lock + 1, INT_MAX);
}

// Writes `text` to the file beneath /sys. 0, an errno, or STEP_HUNG; then *child is the process that hangs in it.
int bounded_write(const char *path, const char *text, int seconds, int *child) {
    const pid_t pid = fork_child();
    if (pid < 0) return errno;
    if (pid == 0) {
        close_but_roots_and_lock();
        const int error = effect_write(sys_root, path, text);
        _exit(error > 255 ? EIO : error);
    }
    *child = pid;
    return await(pid, seconds);
}

int bounded_module(const char *name, int seconds) {
    const pid_t pid = fork_child();
    if (pid < 0) return errno;
    if (pid == 0) {
        const int error = effect_module(name);
        _exit(error > 255 ? EIO : error);
    }
    return await(pid, seconds);
}
