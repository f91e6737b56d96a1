// cc: program vitrine-helper
// Files beneath four roots, which are opened once: /sys, /proc, /dev and /run. openat2 resolves every path beneath its root (openat2(2),
// RESOLVE_BENEATH), symbolic links of sysfs included, so that no name can lead out of it. Kernels without it (before 5.6) are refused.
#include "helper.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

int sys_root = -1, proc_root = -1, dev_root = -1, run_root = -1;

#ifdef VITRINE_TEST
// A folder that the tests' host lacks is made: a written host (src/main/host-devices/testing/tree.ts) has only what is looked at.
static int open_root(const char *path, long magic) {
    (void)magic;
    char beneath[4096];
    const char *const test_root = getenv("VITRINE_TEST_ROOT");
    if (test_root == NULL) return -1;
    snprintf(beneath, sizeof beneath, "%s%s", test_root, path);
    complete_host(test_root, beneath);
    return open(beneath, O_PATH | O_DIRECTORY | O_CLOEXEC);
}
#else
static int open_root(const char *path, long magic) {
    struct statfs found;
    const int fd = open(path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || magic == 0) return fd;
    return fstatfs(fd, &found) == 0 && (long)found.f_type == magic ? fd : -1;
}
#endif

int open_roots(void) {
    sys_root = open_root("/sys", SYSFS_MAGIC);
    proc_root = open_root("/proc", PROC_SUPER_MAGIC);
    dev_root = open_root("/dev", 0);
    run_root = open_root("/run", 0);
    if (sys_root < 0 || proc_root < 0 || dev_root < 0 || run_root < 0) return refuse("host", "/sys, /proc, /dev or /run is not what it should be");
    return 0;
}

// Another folder at the top: /var/lib, /etc, /usr. -1 when it is not there; not opened before it is needed.
int open_top(const char *path) { return open_root(path, 0); }

int open_beneath(int root, const char *path, int flags) {
    struct open_how how = { .flags = (uint64_t)(flags | O_CLOEXEC), .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS };
    for (int attempt = 0; attempt < 64; attempt++) {
        const long fd = syscall(SYS_openat2, root, path, &how, sizeof how);
        // EAGAIN: something was renamed on the way, so the kernel cannot say that ".." stayed beneath.
        if (fd >= 0 || (errno != EAGAIN && errno != EINTR)) return (int)fd;
    }
    return -1;
}

// A path, in one of a few buffers that are used in turn. What is too long is no path.
const char *path_of(const char *format, ...) {
    static char buffers[8][PATH_SIZE + NAME_SIZE];
    static unsigned turn;
    char *const path = buffers[turn++ % 8];
    va_list arguments;
    va_start(arguments, format);
    const int size = vsnprintf(path, sizeof *buffers, format, arguments);
    va_end(arguments);
    return size < 0 || (size_t)size >= sizeof *buffers ? "too-long/nowhere" : path;
}

// The file's text without its last line end. -1 when it cannot be read; what does not fit is cut.
ssize_t read_text(int root, const char *path, char *text, size_t size) {
    const int fd = open_beneath(root, path, O_RDONLY);
    if (fd < 0) return -1;
    size_t length = 0;
    ssize_t got = 0;
    while (length < size - 1 && (got = read(fd, text + length, size - 1 - length)) > 0) length += (size_t)got;
    close(fd);
    if (got < 0) return -1;
    if (length > 0 && text[length - 1] == '\n') length--;
    text[length] = 0;
    return (ssize_t)length;
}

bool read_link(int root, const char *path, char *target, size_t size) {
    const int fd = open_beneath(root, path, O_PATH | O_NOFOLLOW);
    if (fd < 0) return false;
    const ssize_t length = readlinkat(fd, "", target, size);
    close(fd);
    if (length <= 0 || (size_t)length >= size) return false;
    target[length] = 0;
    return true;
}

// The last part of what a link points to: a driver's name, a group's number.
bool link_name(int root, const char *path, char *name, size_t size) {
    char target[PATH_SIZE];
    if (!read_link(root, path, target, sizeof target)) return false;
    const char *const slash = strrchr(target, '/');
    const char *const last = slash == NULL ? target : slash + 1;
    if (strlen(last) >= size) return false;
    strcpy(name, last);
    return true;
}

// Calls `each` for every entry until it says false. The number of entries, or -1.
int list_folder(int root, const char *path, bool (*each)(const char *name, void *context), void *context) {
    const int fd = open_beneath(root, path, O_RDONLY | O_DIRECTORY);
    if (fd < 0) return -1;
    DIR *const folder = fdopendir(fd);
    if (folder == NULL) {
        close(fd);
        return -1;
    }
    int count = 0;
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
        if (entry->d_name[0] == '.') continue;
        count++;
        if (!each(entry->d_name, context)) break;
    }
    closedir(folder);
    return count;
}

// When a process started, in clock ticks since the boot (proc_pid_stat(5), field 22): with its id the name of one process for ever.
// 0 when there is none, or a dead one.
uint64_t start_of(int pid) {
    char text[1024];
    if (read_text(proc_root, path_of("%d/stat", pid), text, sizeof text) < 0) return 0;
    const char *at = strrchr(text, ')'); // the name in parentheses may hold anything
    char state = 0;
    unsigned long long start = 0;
    if (at == NULL || sscanf(at + 1, " %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu", &state, &start) != 2) return 0;
    return state == 'Z' || state == 'X' ? 0 : start;
}
