// The kernel in a folder, for the tests: in place of effects.c. What is written to a fake /sys has the effect there that Linux would give
// it, as far as drivers of PCI devices go, and every change is noted in VITRINE_TEST_ROOT/log. A test arranges:
//
//   …/devices/ADDRESS/native        the driver that takes the device when no override names another
//   …/devices/ADDRESS/refused       vfio-pci does not take it
//   hang/ADDRESS                    its driver does not let go of it
//   busy/N                          the group N is open in some process
//   modules/NAME                    a module that can be loaded: its driver is NAME
//   …/devices/ADDRESS/sriov_totalvfs, vf_device, vf_driver, vf_refused (how many it makes at most)
//   usr/sbin/update-initramfs       there is one; what it takes from modprobe.d comes to boot/initramfs.conf
//   initramfs                       "fail" or "hang": what it does instead
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

// Calls `each` for every name in a folder.
static void each_in(const char *path, void (*each)(const char *name, void *context), void *context) {
    DIR *const folder = opendir(path);
    for (struct dirent *entry; folder != NULL && (entry = readdir(folder)) != NULL;) {
        if (entry->d_name[0] != '.') each(entry->d_name, context);
    }
    if (folder != NULL) closedir(folder);
}

struct members {
    const char *group;
    bool any;
};

static void look_at_member(const char *name, void *context) {
    struct members *const members = context;
    char group[64];
    if (last_of_link(in_root("sys/bus/pci/devices/%s/iommu_group", name), group, sizeof group)) members->any |= strcmp(group, members->group) == 0;
}

// /dev/vfio/GROUP is there while a device of the group is on vfio-pci.
static void set_node(const char *address) {
    char group[64];
    if (!last_of_link(in_root("sys/bus/pci/devices/%s/iommu_group", address), group, sizeof group)) return;
    struct members members = { .group = group };
    each_in(in_root("sys/bus/pci/drivers/vfio-pci"), look_at_member, &members);
    const char *const node = in_root("dev/vfio/%s", group);
    if (!members.any) unlink(node);
    else if (!exists(node)) {
        put(node, "");
        chmod(node, 0400);
    }
}

static void make_driver(const char *name) {
    mkdir(in_root("sys/bus/pci/drivers/%s", name), 0700);
    if (!exists(in_root("sys/bus/pci/drivers/%s/bind", name))) put(in_root("sys/bus/pci/drivers/%s/bind", name), "");
    if (!exists(in_root("sys/bus/pci/drivers/%s/unbind", name))) put(in_root("sys/bus/pci/drivers/%s/unbind", name), "");
}

static int attach(const char *address, const char *driver) {
    char target[600], place[512];
    if (strcmp(driver, "vfio-pci") == 0 && exists(in_root("sys/bus/pci/devices/%s/refused", address))) return EINVAL;
    // "../../../devices/pci0000:00/0000:00:05.0": deeper below a bridge
    const ssize_t length = readlink(in_root("sys/bus/pci/devices/%s", address), place, sizeof place - 1);
    if (length <= 0) return ENODEV;
    place[length] = 0;
    const char *const path = strstr(place, "devices/");
    target[0] = 0;
    for (const char *part = path; part != NULL; part = strchr(part + 1, '/')) strcat(target, "../");
    snprintf(target + strlen(target), sizeof target - strlen(target), "bus/pci/drivers/%s", driver);
    if (symlink(target, in_root("sys/bus/pci/devices/%s/driver", address)) != 0) return EBUSY;
    snprintf(target, sizeof target, "../../../../%s", path);
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
    // A written host does not say it: what has had the device takes it again.
    if (strcmp(driver, "vfio-pci") != 0 && !exists(in_root("sys/bus/pci/devices/%s/native", address))) put(in_root("sys/bus/pci/devices/%s/native", address), driver);
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

// ---- virtual functions ----

static unsigned number_in(const char *path) {
    char text[64];
    return get(path, text, sizeof text) ? (unsigned)strtoul(text, NULL, 0) : 0;
}

static void remove_device(const char *address) {
    static const char *const files[] = { "vendor", "device", "class", "config", "driver_override", "native", "iommu_group", "physfn" };
    char driver[64], group[64], place[512];
    if (last_of_link(in_root("sys/bus/pci/devices/%s/driver", address), driver, sizeof driver)) unbind(driver, address);
    if (last_of_link(in_root("sys/bus/pci/devices/%s/iommu_group", address), group, sizeof group)) unlink(in_root("sys/kernel/iommu_groups/%s/devices/%s", group, address));
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) unlink(in_root("sys/bus/pci/devices/%s/%s", address, files[i]));
    const ssize_t length = readlink(in_root("sys/bus/pci/devices/%s", address), place, sizeof place - 1);
    if (length <= 0) abort();
    place[length] = 0;
    unlink(in_root("sys/bus/pci/devices/%s", address));
    rmdir(in_root("sys/%s", strstr(place, "devices/")));
    rmdir(in_root("sys/kernel/iommu_groups/%s/devices", group));
    rmdir(in_root("sys/kernel/iommu_groups/%s", group));
}

// Beside its card, in a group of its own, on the driver that takes it.
static void make_virtual(const char *card, unsigned index) {
    char address[64] = "", place[512], text[600], driver[64];
    const ssize_t length = readlink(in_root("sys/bus/pci/devices/%s", card), place, sizeof place - 1);
    if (length <= 0) abort();
    place[length] = 0;
    char *const path = strstr(place, "devices/");
    *strrchr(path, '/') = 0;
    for (unsigned number = 0x80; number < 0x100 && (address[0] == 0 || exists(in_root("sys/bus/pci/devices/%s", address))); number++) {
        snprintf(address, sizeof address, "%.8s%02x.%u", card, number >> 3, number & 7);
    }
    unsigned group = 100;
    while (exists(in_root("sys/kernel/iommu_groups/%u", group))) group++;
    mkdir(in_root("sys/%s/%s", path, address), 0700);
    snprintf(text, sizeof text, "../../../%s/%s", path, address);
    if (symlink(text, in_root("sys/bus/pci/devices/%s", address)) != 0) abort();
    snprintf(text, sizeof text, "0x%04x\n", number_in(in_root("sys/bus/pci/devices/%s/vendor", card)));
    put(in_root("sys/bus/pci/devices/%s/vendor", address), text);
    const unsigned said = number_in(in_root("sys/bus/pci/devices/%s/vf_device", card));
    snprintf(text, sizeof text, "0x%04x\n", said != 0 ? said : (number_in(in_root("sys/bus/pci/devices/%s/device", card)) + 1) & 0xffff);
    put(in_root("sys/bus/pci/devices/%s/device", address), text);
    snprintf(text, sizeof text, "0x%06x\n", number_in(in_root("sys/bus/pci/devices/%s/class", card)));
    put(in_root("sys/bus/pci/devices/%s/class", address), text);
    put(in_root("sys/bus/pci/devices/%s/config", address), "0123456789abc");
    const int config = open(in_root("sys/bus/pci/devices/%s/config", address), O_WRONLY | O_TRUNC | O_CLOEXEC);
    if (config < 0 || ftruncate(config, 64) != 0) abort();
    close(config);
    put(in_root("sys/bus/pci/devices/%s/driver_override", address), "(null)\n");
    snprintf(text, sizeof text, "../%s", card);
    if (symlink(text, in_root("sys/bus/pci/devices/%s/physfn", address)) != 0) abort();
    snprintf(text, sizeof text, "../%s", address);
    if (symlink(text, in_root("sys/bus/pci/devices/%s/virtfn%u", card, index)) != 0) abort();
    mkdir(in_root("sys/kernel/iommu_groups/%u", group), 0700);
    mkdir(in_root("sys/kernel/iommu_groups/%u/devices", group), 0700);
    text[0] = 0;
    for (const char *part = path; part != NULL; part = strchr(part + 1, '/')) strcat(text, "../");
    snprintf(text + strlen(text), sizeof text - strlen(text), "../kernel/iommu_groups/%u", group);
    if (symlink(text, in_root("sys/bus/pci/devices/%s/iommu_group", address)) != 0) abort();
    snprintf(text, sizeof text, "../../../../%s/%s", path, address);
    if (symlink(text, in_root("sys/kernel/iommu_groups/%u/devices/%s", group, address)) != 0) abort();
    if (get(in_root("sys/bus/pci/devices/%s/vf_driver", card), driver, sizeof driver)) {
        make_driver(driver);
        put(in_root("sys/bus/pci/devices/%s/native", address), driver);
        attach(address, driver);
    }
}

static int set_number(const char *card, unsigned count) {
    char text[32], address[64];
    const unsigned now = number_in(in_root("sys/bus/pci/devices/%s/sriov_numvfs", card)), total = number_in(in_root("sys/bus/pci/devices/%s/sriov_totalvfs", card));
    if (count > total) return ERANGE;
    if (now != 0 && count != 0) return EBUSY;
    if (!exists(in_root("sys/bus/pci/devices/%s/driver", card))) return ENOENT;
    if (exists(in_root("sys/bus/pci/devices/%s/vf_refused", card)) && count > number_in(in_root("sys/bus/pci/devices/%s/vf_refused", card))) return ENOSPC;
    while (exists(in_root("hang/%s", card))) pause();
    for (unsigned i = 0; i < now; i++) {
        if (!last_of_link(in_root("sys/bus/pci/devices/%s/virtfn%u", card, i), address, sizeof address)) continue;
        remove_device(address);
        unlink(in_root("sys/bus/pci/devices/%s/virtfn%u", card, i));
    }
    for (unsigned i = 0; i < count; i++) make_virtual(card, i);
    snprintf(text, sizeof text, "%u\n", count);
    put(in_root("sys/bus/pci/devices/%s/sriov_numvfs", card), text);
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
    if (sscanf(path, "bus/pci/devices/%63[^/]/sriov_numvfs", address) == 1 && strstr(path, "/sriov_numvfs") != NULL) return set_number(address, (unsigned)strtoul(text, NULL, 10));
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
    make_driver(name);
    return 0;
}

int effect_initramfs(const char *program) {
    char what[32] = "", text[4096];
    note("initramfs %s\n", program);
    get(in_root("initramfs"), what, sizeof what);
    printf("%s: Generating /boot/initrd.img\n", program);
    fflush(stdout);
    while (strcmp(what, "hang") == 0) pause();
    if (strcmp(what, "fail") == 0) {
        puts("No space left on device");
        fflush(stdout);
        return 1;
    }
    mkdir(in_root("boot"), 0755);
    const int fd = open(in_root("etc/modprobe.d/vitrine.conf"), O_RDONLY | O_CLOEXEC);
    const ssize_t length = fd < 0 ? 0 : read(fd, text, sizeof text - 1);
    text[length > 0 ? length : 0] = 0;
    put(in_root("boot/initramfs.conf"), text);
    return 0;
}

static void complete_driver(const char *name, void *context) {
    (void)context;
    make_driver(name);
}

// What a written host has not, because nobody looks at it there.
void complete_host(const char *test_root, const char *folder) {
    char path[4096];
    snprintf(path, sizeof path, "%s", folder);
    for (char *end = path + strlen(test_root) + 1; end != NULL; end = strchr(end + 1, '/')) {
        const char was = *end;
        if (was != '/') continue;
        *end = 0;
        mkdir(path, 0755);
        *end = was;
    }
    mkdir(path, 0755);
    chmod(path, 0755); // as root's are, whatever umask wrote the host
    if (strcmp(folder + strlen(test_root), "/sys") == 0) {
        if (!exists(in_root("sys/bus/pci/drivers_probe"))) put(in_root("sys/bus/pci/drivers_probe"), "");
        char release[128];
        const bool loadable = get(in_root("proc/sys/kernel/osrelease"), release, sizeof release) && exists(in_root("lib/modules/%s/modules.dep", release));
        if (loadable && !exists(in_root("modules"))) {
            mkdir(in_root("modules"), 0755);
            put(in_root("modules/vfio-pci"), "");
        }
        each_in(in_root("sys/bus/pci/drivers"), complete_driver, NULL);
    }
    if (strcmp(folder + strlen(test_root), "/proc") == 0 && !exists(in_root("proc/sys/kernel/random/boot_id"))) {
        mkdir(in_root("proc/sys"), 0755);
        mkdir(in_root("proc/sys/kernel"), 0755);
        mkdir(in_root("proc/sys/kernel/random"), 0755);
        put(in_root("proc/sys/kernel/random/boot_id"), "01234567-89ab-cdef-0123-456789abcdef\n");
    }
    if (strcmp(folder + strlen(test_root), "/dev") == 0) mkdir(in_root("dev/vfio"), 0755);
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
