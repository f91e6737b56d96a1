// The kernel in a folder, for the tests: in place of effects.c. What is written to a fake /sys has the effect there that Linux would give
// it, as far as drivers of PCI devices go, and every change is noted in VITRINE_TEST_ROOT/log. A test arranges:
//
//   …/devices/ADDRESS/native        the driver that takes the device when no override names another
//   …/devices/ADDRESS/refused       vfio-pci does not take it
//   hang/ADDRESS                    its driver does not let go of it
//   busy/N                          the group N is open in some process
//   modules/NAME                    a module that can be loaded: its driver is NAME
//   crash                           "helper N" and "guardian N": where they are killed
#include "../helper.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *in_root(const char *format, ...) {
    static char buffers[8][4096];
    static unsigned turn;
    char *const path = buffers[turn++ % 8];
    const int start = snprintf(path, sizeof *buffers, "%s/", getenv("VITRINE_TEST_ROOT"));
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(path + start, sizeof *buffers - (size_t)start, format, arguments);
    va_end(arguments);
    return path;
}

static bool exists(const char *path) { return access(path, F_OK) == 0; }

static void note(const char *format, ...) {
    char line[1024];
    va_list arguments;
    va_start(arguments, format);
    const int length = vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    const int fd = open(in_root("log"), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (write(fd, line, (size_t)length) != length) abort();
    close(fd);
}

static void put(const char *path, const char *text) {
    const int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || write(fd, text, strlen(text)) < 0) abort();
    close(fd);
}

static bool get(const char *path, char *text, size_t size) {
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    const ssize_t length = read(fd, text, size - 1);
    close(fd);
    text[length > 0 ? length : 0] = 0;
    text[strcspn(text, "\n")] = 0;
    return length > 0;
}

static bool last_of_link(const char *path, char *name, size_t size) {
    char target[512];
    const ssize_t length = readlink(path, target, sizeof target - 1);
    if (length <= 0) return false;
    target[length] = 0;
    snprintf(name, size, "%s", strrchr(target, '/') + 1);
    return true;
}

// /dev/vfio/GROUP is there while a device of the group is on vfio-pci.
static void set_node(const char *address) {
    char group[64];
    if (!last_of_link(in_root("sys/bus/pci/devices/%s/iommu_group", address), group, sizeof group)) return;
    bool any = false;
    DIR *const bound = opendir(in_root("sys/bus/pci/drivers/vfio-pci"));
    for (struct dirent *entry; bound != NULL && (entry = readdir(bound)) != NULL;) {
        char other[64];
        if (last_of_link(in_root("sys/bus/pci/devices/%s/iommu_group", entry->d_name), other, sizeof other)) any |= strcmp(group, other) == 0;
    }
    if (bound != NULL) closedir(bound);
    const char *const node = in_root("dev/vfio/%s", group);
    if (!any) unlink(node);
    else if (!exists(node)) {
        put(node, "");
        chmod(node, 0400);
    }
}

static int attach(const char *address, const char *driver) {
    char target[1024], place[512], up[128] = "";
    if (strcmp(driver, "vfio-pci") == 0 && exists(in_root("sys/bus/pci/devices/%s/refused", address))) return EINVAL;
    // "../../../devices/pci0000:00/0000:00:01.0/0000:01:00.0": links lead back from as deep as the device lies.
    const ssize_t length = readlink(in_root("sys/bus/pci/devices/%s", address), place, sizeof place - 1);
    if (length < 9) abort();
    place[length] = 0;
    for (const char *at = place + strlen("../../.."); (at = strchr(at, '/')) != NULL; at++) strcat(up, "../");
    snprintf(target, sizeof target, "%sbus/pci/drivers/%s", up, driver);
    if (symlink(target, in_root("sys/bus/pci/devices/%s/driver", address)) != 0) return EBUSY;
    snprintf(target, sizeof target, "../%s", place);
    if (symlink(target, in_root("sys/bus/pci/drivers/%s/%s", driver, address)) != 0) abort();
    set_node(address);
    return 0;
}

static bool matches(const char *address, const char *driver) {
    char text[128];
    get(in_root("sys/bus/pci/devices/%s/driver_override", address), text, sizeof text);
    if (strcmp(text, "(null)") != 0) return strcmp(text, driver) == 0;
    return get(in_root("sys/bus/pci/devices/%s/native", address), text, sizeof text) && strcmp(text, driver) == 0;
}

static int unbind(const char *driver, const char *address) {
    char bound[64];
    if (!last_of_link(in_root("sys/bus/pci/devices/%s/driver", address), bound, sizeof bound) || strcmp(bound, driver) != 0) return ENODEV;
    while (exists(in_root("hang/%s", address)) && strcmp(driver, "vfio-pci") != 0) pause();
    unlink(in_root("sys/bus/pci/devices/%s/driver", address));
    unlink(in_root("sys/bus/pci/drivers/%s/%s", driver, address));
    set_node(address);
    return 0;
}

static int probe(const char *address) {
    char text[128];
    if (exists(in_root("sys/bus/pci/devices/%s/driver", address))) return 0;
    get(in_root("sys/bus/pci/devices/%s/driver_override", address), text, sizeof text);
    if (strcmp(text, "(null)") == 0 && !get(in_root("sys/bus/pci/devices/%s/native", address), text, sizeof text)) return 0;
    if (!exists(in_root("sys/bus/pci/drivers/%s", text))) return 0;
    attach(address, text);
    return 0;
}

int effect_write(int root, const char *path, const char *text) {
    char address[64], driver[64];
    const int fd = open_beneath(root, path, O_WRONLY);
    if (root != sys_root || fd < 0) return fd < 0 ? errno : EXDEV;
    close(fd);
    note("write %s %s\n", path, text[0] == '\n' ? "" : text);
    if (sscanf(path, "bus/pci/devices/%63[^/]/driver_override", address) == 1 && strstr(path, "/driver_override") != NULL) {
        put(in_root("sys/%s", path), text[0] == '\n' ? "(null)\n" : text);
        return 0;
    }
    if (strcmp(path, "bus/pci/drivers_probe") == 0) return probe(text);
    if (sscanf(path, "bus/pci/drivers/%63[^/]/", driver) == 1) {
        if (strcmp(strrchr(path, '/'), "/unbind") == 0) return unbind(driver, text);
        if (strcmp(strrchr(path, '/'), "/bind") == 0) return exists(in_root("sys/bus/pci/devices/%s/driver", text)) || !matches(text, driver) ? ENODEV : attach(text, driver);
    }
    abort(); // nothing else is ever written to
}

int effect_owner(unsigned group, uid_t uid, gid_t gid, mode_t mode) {
    note("owner %u %u %o\n", group, uid, mode);
    const char *const node = in_root("dev/vfio/%u", group);
    if (chown(node, uid, gid) != 0 || chmod(node, mode) != 0) return errno;
    return 0;
}

int effect_limit(int pid, uint64_t soft, uint64_t hard, uint64_t *old_soft, uint64_t *old_hard) {
    const struct rlimit wanted = { .rlim_cur = soft, .rlim_max = hard };
    struct rlimit old;
    note("limit %d %llu %llu\n", pid, (unsigned long long)soft, (unsigned long long)hard);
    if (prlimit(pid, RLIMIT_MEMLOCK, &wanted, &old) != 0) return errno;
    if (old_soft != NULL) *old_soft = old.rlim_cur;
    if (old_hard != NULL) *old_hard = old.rlim_max;
    return 0;
}

int effect_module(const char *name) {
    note("module %s\n", name);
    if (!exists(in_root("modules/%s", name))) return ENOENT;
    if (mkdir(in_root("sys/bus/pci/drivers/%s", name), 0700) != 0) return 0;
    put(in_root("sys/bus/pci/drivers/%s/bind", name), "");
    put(in_root("sys/bus/pci/drivers/%s/unbind", name), "");
    return 0;
}

bool group_is_free(unsigned group) { return !exists(in_root("busy/%u", group)); }

// Counts the places where a process could be cut off, and kills the one that the test wants dead there.
void crash_point(void) {
    static pid_t first, last;
    static int count;
    char text[128];
    if (first == 0) first = getpid();
    if (last != getpid()) count = 0;
    last = getpid();
    count++;
    const int fd = open(in_root("crash"), O_RDONLY | O_CLOEXEC);
    if (fd < 0) return;
    const ssize_t length = read(fd, text, sizeof text - 1);
    close(fd);
    text[length > 0 ? length : 0] = 0;
    const char *const line = strstr(text, first == getpid() ? "helper " : "guardian ");
    if (line != NULL && atoi(strchr(line, ' ') + 1) == count) {
        note("killed %s %d\n", first == getpid() ? "helper" : "guardian", count);
        kill(getpid(), SIGKILL);
    }
}
