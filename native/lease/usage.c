// cc: program vitrine-helper
// Whether the host itself lives on a device: a file system that is mounted, swap, or anything that holds a disk of its own. All block
// devices that lie beneath the PCI device in sysfs are looked at, then what is made of them (device mapper, md, bcache: `holders`), with
// partitions, to the end. Four witnesses: /proc/self/mountinfo and /proc/swaps, btrfs's list of its disks, holders, and an exclusive open, which
// the kernel refuses for whatever is claimed in any mount namespace (open(2), O_EXCL on block devices). NVMe disks with several paths
// lie under their subsystem and not under the controller; they are found through it.
#include "helper.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

enum { MAX_BLOCKS = 4096 };

struct block {
    char name[NAME_SIZE];
    char path[PATH_SIZE];
    unsigned major, minor;
    bool mine;
};

static struct block *blocks;
static size_t block_count;
static bool too_much;

// Whether `path` lies below `folder`.
static bool lies_in(const char *path, const char *folder) {
    const size_t length = strlen(folder);
    return strncmp(path, folder, length) == 0 && path[length] == '/';
}

static const char *without_dots(const char *target) {
    while (strncmp(target, "../", 3) == 0) target += 3;
    return target;
}

static bool add_block(const char *name, void *context) {
    (void)context;
    char target[PATH_SIZE], number[32];
    struct block *const block = blocks + block_count;
    errno = 0;
    if (block_count == MAX_BLOCKS || strlen(name) >= sizeof block->name || !read_link(sys_root, path_of("class/block/%s", name), target, sizeof target) ||
        read_text(sys_root, path_of("class/block/%s/dev", name), number, sizeof number) <= 0 || sscanf(number, "%u:%u", &block->major, &block->minor) != 2) {
        // A disk that went while it was looked at is nobody's; any other that cannot be judged stops it all.
        if (block_count < MAX_BLOCKS && errno == ENOENT) return true;
        too_much = true;
        return false;
    }
    strcpy(block->name, name);
    strcpy(block->path, without_dots(target));
    block->mine = false;
    block_count++;
    return true;
}

struct controllers {
    const char *folder;
    const struct device *device;
    bool found;
};

static bool is_controller_of(const char *name, void *context) {
    struct controllers *const search = context;
    char target[PATH_SIZE];
    if (read_link(sys_root, path_of("%s/%s", search->folder, name), target, sizeof target) && strncmp(name, "nvme", 4) == 0) {
        // ".../../../../pci0000:00/0000:00:06.0/nvme/nvme0", relative to devices/virtual/nvme-subsystem/nvme-subsys0
        const char *const place = without_dots(target);
        search->found = lies_in(strncmp(place, "devices/", 8) == 0 ? place : path_of("devices/%s", place), search->device->path);
    }
    return !search->found;
}

// An NVMe disk with several paths: devices/virtual/nvme-subsystem/nvme-subsys0/nvme0n1, whose folder links to its controllers.
static bool has_path_over(const struct block *block, const struct device *device) {
    char folder[PATH_SIZE];
    const char *const subsystem = strstr(block->path, "/nvme-subsystem/");
    if (subsystem == NULL) return false;
    const char *const end = strchr(subsystem + strlen("/nvme-subsystem/"), '/');
    if (end == NULL) return false;
    snprintf(folder, sizeof folder, "%.*s", (int)(end - block->path), block->path);
    struct controllers search = { .folder = folder, .device = device };
    return list_folder(sys_root, folder, is_controller_of, &search) < 0 || search.found;
}

static bool add_holder(const char *name, void *context) {
    bool *const more = context;
    for (size_t i = 0; i < block_count; i++) {
        if (strcmp(blocks[i].name, name) != 0 || blocks[i].mine) continue;
        blocks[i].mine = *more = true;
    }
    return true;
}

// Marks the blocks that lie on the device, directly or by what was made of them.
static int mark_blocks(const struct device *device) {
    block_count = 0;
    too_much = false;
    if (blocks == NULL && (blocks = calloc(MAX_BLOCKS, sizeof *blocks)) == NULL) return refuse("memory", "there is no memory left");
    if (list_folder(sys_root, "class/block", add_block, NULL) < 0 && errno != ENOENT) too_much = true;
    if (too_much) return refuse("unclear", "the host's disks cannot all be looked at, so it is unclear what lies on %s", device->address);
    for (size_t i = 0; i < block_count; i++) blocks[i].mine = lies_in(blocks[i].path, device->path) || has_path_over(blocks + i, device);
    for (bool more = true; more;) {
        more = false;
        for (size_t i = 0; i < block_count; i++) {
            if (!blocks[i].mine) continue;
            list_folder(sys_root, path_of("class/block/%s/holders", blocks[i].name), add_holder, &more);
            for (size_t j = 0; j < block_count; j++) {
                if (blocks[j].mine || !lies_in(blocks[j].path, blocks[i].path)) continue;
                blocks[j].mine = more = true; // its partition
            }
        }
    }
    return 0;
}

// The marked block that a number or a path of mountinfo or swaps means, or NULL.
static const struct block *meant(unsigned major, unsigned minor, const char *source) {
    struct stat found;
    const char *const name = source != NULL && strncmp(source, "/dev/", 5) == 0 ? source + 5 : NULL;
    const bool node = name != NULL && fstatat(dev_root, name, &found, 0) == 0 && S_ISBLK(found.st_mode);
    for (size_t i = 0; i < block_count; i++) {
        const struct block *const block = blocks + i;
        if (!block->mine) continue;
        if (major != 0 && block->major == major && block->minor == minor) return block;
        if (node && block->major == major(found.st_rdev) && block->minor == minor(found.st_rdev)) return block;
        if (name != NULL && strcmp(name, block->name) == 0) return block;
    }
    return NULL;
}

// proc(5): spaces, tabs, line ends and backslashes stand as \040 and so on.
static void unescape(char *text) {
    char *to = text;
    for (const char *from = text; *from != 0; to++) {
        if (from[0] == '\\' && from[1] >= '0' && from[1] <= '3' && from[2] >= '0' && from[2] <= '7' && from[3] >= '0' && from[3] <= '7') {
            *to = (char)((from[1] - '0') << 6 | (from[2] - '0') << 3 | (from[3] - '0'));
            from += 4;
        } else *to = *from++;
    }
    *to = 0;
}

static FILE *open_lines(const char *path) {
    const int fd = open_beneath(proc_root, path, O_RDONLY);
    FILE *const file = fd < 0 ? NULL : fdopen(fd, "r");
    if (file == NULL && fd >= 0) close(fd);
    return file;
}

// "36 35 98:0 /root /mnt rw,noatime shared:1 - ext4 /dev/sda1 rw" (proc_pid_mountinfo(5))
static int refuse_if_mounted(const struct device *device) {
    FILE *const file = open_lines("self/mountinfo");
    if (file == NULL) return refuse("unclear", "what is mounted cannot be read");
    char *line = NULL;
    size_t size = 0;
    int result = 0;
    while (result == 0 && getline(&line, &size, file) > 0) {
        unsigned major, minor;
        int at = 0;
        if (sscanf(line, "%*u %*u %u:%u %*s %n", &major, &minor, &at) != 2 || at == 0) continue;
        char *const mount = line + at;
        char *const rest = strchr(mount, ' ');
        char *const divider = rest == NULL ? NULL : strstr(rest, " - ");
        if (divider == NULL) continue;
        char *save, *words = divider + 3;
        strtok_r(words, " ", &save); // the file system's type
        char *const source = strtok_r(NULL, " \n", &save);
        if (source != NULL) unescape(source);
        *rest = 0;
        unescape(mount);
        const struct block *const block = meant(major, minor, source);
        if (block != NULL) result = refuse("mounted", "%s lies on %s and is mounted at %s; unmount it first", block->name, device->address, mount);
    }
    free(line);
    fclose(file);
    return result;
}

// "/dev/sda2  partition  1048572  0  -2" below a line of headings (proc_swaps(5))
static int refuse_if_swap(const struct device *device) {
    FILE *const file = open_lines("swaps");
    if (file == NULL) return errno == ENOENT ? 0 : refuse("unclear", "what is used for swap cannot be read"); // a kernel without swap
    char *line = NULL;
    size_t size = 0;
    int result = 0;
    while (result == 0 && getline(&line, &size, file) > 0) {
        char *save;
        char *const source = strtok_r(line, " \t\n", &save);
        if (source == NULL || source[0] != '/') continue;
        unescape(source);
        const struct block *const block = meant(0, 0, source);
        if (block != NULL) result = refuse("swap", "the host swaps to %s, which lies on %s; `swapoff` it first", block->name, device->address);
    }
    free(line);
    fclose(file);
    return result;
}

struct btrfs {
    const char *uuid;
    const struct block *block;
};

static bool is_btrfs_disk(const char *name, void *context) {
    struct btrfs *const search = context;
    for (size_t i = 0; i < block_count; i++) {
        if (blocks[i].mine && strcmp(blocks[i].name, name) == 0) search->block = blocks + i;
    }
    return search->block == NULL;
}

static bool is_btrfs_on(const char *name, void *context) {
    struct btrfs *const search = context;
    list_folder(sys_root, path_of("fs/btrfs/%s/devices", name), is_btrfs_disk, search);
    return search->block == NULL;
}

static bool is_enough(const char *name, void *context) {
    (void)name, (void)context;
    return false;
}

static int refuse_if_claimed(const struct device *device) {
    struct btrfs search = { 0 };
    list_folder(sys_root, "fs/btrfs", is_btrfs_on, &search);
    if (search.block != NULL) return refuse("mounted", "%s lies on %s and belongs to a btrfs file system that is mounted", search.block->name, device->address);
    for (size_t i = 0; i < block_count; i++) {
        if (!blocks[i].mine) continue;
        if (list_folder(sys_root, path_of("class/block/%s/holders", blocks[i].name), is_enough, NULL) > 0) {
            return refuse("in-use", "%s lies on %s and is part of a volume (LVM, RAID or encrypted); stop that first", blocks[i].name, device->address);
        }
        const int fd = open_beneath(dev_root, blocks[i].name, O_RDONLY | O_EXCL | O_NONBLOCK);
        if (fd < 0 && errno == EBUSY) return refuse("in-use", "%s lies on %s and something on the host holds it for itself", blocks[i].name, device->address);
        if (fd >= 0) close(fd);
    }
    return 0;
}

// -1, and the request refused in words, when the host uses something that lies on the device.
int refuse_if_used(const struct device *device) {
    if (mark_blocks(device) != 0) return -1;
    if (refuse_if_mounted(device) != 0 || refuse_if_swap(device) != 0) return -1;
    return refuse_if_claimed(device);
}
