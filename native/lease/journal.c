// cc: program vitrine-helper
// The journal: a file per lease in /run/vitrine, root's own, readable for all. It says what each thing was like before it was changed, and
// every line is on its way to the medium (fsync) before the step that it announces is done. So whoever finds it can undo:
//
//   vitrine-lease 1 BOOT-ID UID PID           the first line; of another boot, nothing in it is true any more
//   device ADDRESS VENDOR:PRODUCT OVERRIDE DRIVER     what it had, "-" for nothing
//   begun ADDRESS override|unbind|bind        the step follows
//   stuck ADDRESS PID START                   that process hangs in a step
//   group NUMBER UID GID MODE                 how /dev/vfio/NUMBER was
//   memlock PID START SOFT HARD               the limit a process had
//   module NAME                               loaded; it stays loaded until the computer restarts
//   back device|group|memlock NAME            undone
//   granted MACHINE                           no password was asked: what the grant for this machine names, and no more
//   kept                                      stays until it is released
//
// A lock (flock) on a file beside it, which only root can open, says that the lease is alive. Helper and guardian share it, so it is free
// when both are gone. Another one, on /run/vitrine/lock, is held for as long as a request takes: one helper changes the host at a time. The
// child that does a step holds it too (bounded.c), so nobody undoes a step that a killed helper's child is still doing.
#include "helper.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BOOT_SIZE = 37, MAX_JOURNAL = 1024 * 1024, FULL_JOURNAL = 512 * 1024, LOCK_TRIES = 1500, LOCK_PAUSE = 20 };

int host_lock = -1;
static int folder = -1;
char this_boot[BOOT_SIZE];

static bool read_boot_id(void) {
    return read_text(proc_root, "sys/kernel/random/boot_id", this_boot, sizeof this_boot) == BOOT_SIZE - 1 && strspn(this_boot, "0123456789abcdef-") == BOOT_SIZE - 1;
}

// Opens /run/vitrine, made if need be. Refused when anybody but us could have put something there.
int open_journal_folder(void) {
    struct stat found;
    if (!read_boot_id()) return refuse("host", "the kernel does not say which boot this is");
    if (mkdirat(run_root, "vitrine", 0755) != 0 && errno != EEXIST) return refuse("journal", "/run/vitrine cannot be made: %s", strerror(errno));
    folder = open_beneath(run_root, "vitrine", O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
    if (folder < 0 || fstat(folder, &found) != 0) return refuse("journal", "/run/vitrine cannot be opened: %s", strerror(errno));
    if (found.st_uid != geteuid() || (found.st_mode & (S_IWGRP | S_IWOTH))) return refuse("journal", "/run/vitrine is not root's own, so what lies in it cannot be trusted");
    return 0;
}

// The lock of all helpers. -1, and the request refused, when another helper holds it for too long.
int lock_host(void) {
    host_lock = openat(folder, "lock", O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (host_lock < 0) return refuse("journal", "/run/vitrine/lock cannot be opened: %s", strerror(errno));
    for (int attempt = 0; attempt < LOCK_TRIES; attempt++) {
        if (flock(host_lock, LOCK_EX | LOCK_NB) == 0) return 0;
        poll(NULL, 0, LOCK_PAUSE);
    }
    close(host_lock);
    host_lock = -1;
    return refuse("busy", "another helper is at work and does not come to an end");
}

// Also for a child that hangs with its copy.
void unlock_host(void) {
    flock(host_lock, LOCK_UN);
    close(host_lock);
    host_lock = -1;
}

static bool write_line(int fd, const char *line, size_t length) {
    for (size_t written = 0; written < length;) {
        const ssize_t got = write(fd, line + written, length - written);
        if (got < 0 && errno != EINTR) return false;
        if (got > 0) written += (size_t)got;
    }
    return fsync(fd) == 0;
}

static const char *lock_of(const struct lease *lease) { return path_of("alive.%s", lease->name + strlen("lease.")); }

// Whether the lock was free, and is ours.
static bool take_lock(struct lease *lease) {
    lease->lock = openat(folder, lock_of(lease), O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    return lease->lock >= 0 && flock(lease->lock, LOCK_EX | LOCK_NB) == 0;
}

int create_lease(struct lease *lease, uid_t uid) {
    uint64_t number;
    memset(lease, 0, sizeof *lease);
    lease->fd = lease->lock = -1;
    if (getrandom(&number, sizeof number, 0) != sizeof number) return refuse("journal", "there are no random numbers");
    snprintf(lease->name, sizeof lease->name, "lease.%016llx", (unsigned long long)number);
    lease->fd = openat(folder, lease->name, O_RDWR | O_CREAT | O_EXCL | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0644);
    if (lease->fd < 0 || !take_lock(lease)) return refuse("journal", "a journal cannot be made in /run/vitrine: %s", strerror(errno));
    fchmod(lease->fd, 0644);
    lease->same_boot = true;
    lease->uid = uid;
    lease->pid = getpid();
    char line[LINE_SIZE];
    const int length = snprintf(line, sizeof line, "vitrine-lease 1 %s %u %d\n", this_boot, uid, lease->pid);
    crash_point();
    if (!write_line(lease->fd, line, (size_t)length) || fsync(folder) != 0) return refuse("journal", "the journal cannot be written: %s", strerror(errno));
    crash_point();
    return 0;
}

struct leased_device *leased(struct lease *lease, const char *address) {
    for (size_t i = 0; i < lease->device_count; i++) {
        if (!lease->devices[i].back && strcmp(lease->devices[i].address, address) == 0) return lease->devices + i;
    }
    return NULL;
}

// Words of a record, in place. The number of them, or 0 when there are too many.
size_t split(char *line, char **words, size_t most) {
    char *save;
    size_t count = 0;
    for (char *word = strtok_r(line, " ", &save); word != NULL; word = strtok_r(NULL, " ", &save)) {
        if (count == most) return 0;
        words[count++] = word;
    }
    return count;
}

static bool number_in(const char *text, uint64_t most, uint64_t *number) { return parse_number(text, strlen(text), most, number); }

static bool name_or_none(const char *text, char *name) {
    if (strcmp(text, "-") == 0) return true;
    if (!is_name(text, strlen(text))) return false;
    strcpy(name, text);
    return true;
}

// Room for what comes: what is back need not be remembered, so a session may bind and unbind as often as it likes.
static void forget_what_is_back(struct lease *lease) {
    size_t devices = 0, groups = 0, limits = 0;
    for (size_t i = 0; i < lease->device_count; i++) {
        if (!lease->devices[i].back) lease->devices[devices++] = lease->devices[i];
    }
    for (size_t i = 0; i < lease->group_count; i++) {
        if (!lease->groups[i].back) lease->groups[groups++] = lease->groups[i];
    }
    for (size_t i = 0; i < lease->limit_count; i++) {
        if (!lease->limits[i].back) lease->limits[limits++] = lease->limits[i];
    }
    lease->device_count = devices;
    lease->group_count = groups;
    lease->limit_count = limits;
}

static bool parse_device(struct lease *lease, char **words) {
    struct leased_device device = { 0 };
    if (lease->device_count == MAX_DEVICES || !is_address(words[1], strlen(words[1])) || strlen(words[2]) != 9 || leased(lease, words[1]) != NULL) return false;
    if (sscanf(words[2], "%4x:%4x", &device.vendor, &device.product) != 2) return false;
    strcpy(device.address, words[1]);
    if (!name_or_none(words[3], device.override) || !name_or_none(words[4], device.driver)) return false;
    lease->devices[lease->device_count++] = device;
    return true;
}

static bool parse_begun(struct lease *lease, char **words) {
    struct leased_device *const device = leased(lease, words[1]);
    const unsigned step = strcmp(words[2], "override") == 0 ? BEGUN_OVERRIDE : strcmp(words[2], "unbind") == 0 ? BEGUN_UNBIND : strcmp(words[2], "bind") == 0 ? BEGUN_BIND : 0;
    if (device == NULL || step == 0) return false;
    device->begun |= step;
    return true;
}

static bool parse_group(struct lease *lease, char **words) {
    uint64_t number, uid, gid;
    char *end;
    if (lease->group_count == MAX_GROUPS || !number_in(words[1], 99999, &number) || !number_in(words[2], UINT32_MAX, &uid) || !number_in(words[3], UINT32_MAX, &gid)) return false;
    const unsigned long mode = strtoul(words[4], &end, 8);
    if (*end != 0 || mode > 07777) return false;
    lease->groups[lease->group_count++] = (struct leased_group){ .number = (unsigned)number, .uid = (uid_t)uid, .gid = (gid_t)gid, .mode = (mode_t)mode };
    return true;
}

static bool parse_limit(struct lease *lease, char **words) {
    uint64_t pid;
    struct leased_limit limit = { 0 };
    if (lease->limit_count == MAX_LIMITS || !number_in(words[1], INT32_MAX, &pid)) return false;
    // RLIM_INFINITY has one digit more than numbers of requests may have.
    char *end[3];
    limit.start = strtoull(words[2], end, 10);
    limit.soft = strtoull(words[3], end + 1, 10);
    limit.hard = strtoull(words[4], end + 2, 10);
    if (*end[0] != 0 || *end[1] != 0 || *end[2] != 0) return false;
    limit.pid = (int)pid;
    lease->limits[lease->limit_count++] = limit;
    return true;
}

static bool parse_stuck(struct lease *lease, char **words) {
    struct leased_device *const device = leased(lease, words[1]);
    uint64_t pid, start;
    if (device == NULL || !number_in(words[2], INT32_MAX, &pid) || !number_in(words[3], UINT64_MAX, &start)) return false;
    device->stuck = (int)pid;
    device->stuck_start = start;
    return true;
}

static bool parse_back(struct lease *lease, char **words) {
    uint64_t number;
    if (strcmp(words[1], "device") == 0) {
        struct leased_device *const device = leased(lease, words[2]);
        if (device != NULL) device->back = true;
        return device != NULL;
    }
    if (!number_in(words[2], INT32_MAX, &number)) return false;
    bool found = false;
    for (size_t i = 0; i < lease->group_count && strcmp(words[1], "group") == 0; i++) {
        if (lease->groups[i].number == number) found = lease->groups[i].back = true;
    }
    for (size_t i = 0; i < lease->limit_count && strcmp(words[1], "memlock") == 0; i++) {
        if (lease->limits[i].pid == (int)number) found = lease->limits[i].back = true;
    }
    return found;
}

// Takes one line after the first, without its end, into the lease. False when it is none of ours: then nothing behind it is believed.
bool parse_record(struct lease *lease, const char *line, size_t length) {
    char copy[LINE_SIZE];
    char *words[5];
    if (length == 0 || length >= sizeof copy || memchr(line, 0, length) != NULL) return false;
    memcpy(copy, line, length);
    copy[length] = 0;
    const size_t count = split(copy, words, 5);
    if (count == 0) return false;
    const char *const kind = words[0];
    if (strcmp(kind, "device") == 0 || strcmp(kind, "group") == 0 || strcmp(kind, "memlock") == 0) forget_what_is_back(lease);
    if (strcmp(kind, "device") == 0) return count == 5 && parse_device(lease, words);
    if (strcmp(kind, "begun") == 0) return count == 3 && parse_begun(lease, words);
    if (strcmp(kind, "stuck") == 0) return count == 4 && parse_stuck(lease, words);
    if (strcmp(kind, "group") == 0) return count == 5 && parse_group(lease, words);
    if (strcmp(kind, "memlock") == 0) return count == 5 && parse_limit(lease, words);
    if (strcmp(kind, "module") == 0) return count == 2 && is_name(words[1], strlen(words[1]));
    if (strcmp(kind, "back") == 0) return count == 3 && parse_back(lease, words);
    if (strcmp(kind, "granted") == 0 && count == 2 && is_machine(words[1], strlen(words[1]))) {
        strcpy(lease->machine, words[1]);
        return true;
    }
    if (strcmp(kind, "kept") == 0 && count == 1) return lease->kept = true;
    return false;
}

// Reads the lease anew from its open file, as far as it can be read: a last line without its end was never acted on. False without a first
// line: then nothing was.
bool load_lease(struct lease *lease) {
    static char text[MAX_JOURNAL];
    size_t length = 0;
    for (ssize_t got; length < sizeof text && (got = pread(lease->fd, text + length, sizeof text - length, (off_t)length)) != 0;) {
        if (got > 0) length += (size_t)got;
        else if (errno != EINTR) break;
    }
    lease->device_count = lease->group_count = lease->limit_count = 0;
    lease->kept = false;
    lease->machine[0] = 0;
    bool begun = false, good = true;
    char *line = text;
    for (char *end; good && (end = memchr(line, '\n', (size_t)(text + length - line))) != NULL; line = end + 1) {
        *end = 0;
        if (line != text) {
            good = parse_record(lease, line, (size_t)(end - line));
            continue;
        }
        char *words[5];
        uint64_t uid, pid;
        good = split(line, words, 5) == 5 && strcmp(words[0], "vitrine-lease") == 0 && strcmp(words[1], "1") == 0 && number_in(words[3], UINT32_MAX, &uid) && number_in(words[4], INT32_MAX, &pid);
        if (!good) break;
        lease->same_boot = strcmp(words[2], this_boot) == 0;
        lease->uid = (uid_t)uid;
        lease->pid = (int)pid;
        begun = true;
    }
    return begun;
}

// Writes a line down and takes it into the lease. To be called before the step that it is about.
int record(struct lease *lease, const char *format, ...) {
    char line[LINE_SIZE];
    va_list arguments;
    va_start(arguments, format);
    const int length = vsnprintf(line, sizeof line - 1, format, arguments);
    va_end(arguments);
    if (length <= 0 || (size_t)length >= sizeof line - 1) return refuse("journal", "a line of the journal is too long");
    // Room is kept for giving back.
    struct stat found;
    const bool adds = strncmp(line, "device", 6) == 0 || strncmp(line, "group", 5) == 0 || strncmp(line, "memlock", 7) == 0;
    if (adds && (fstat(lease->fd, &found) != 0 || found.st_size > FULL_JOURNAL)) return refuse("journal", "the journal is full: end this lease and begin another");
    if (!parse_record(lease, line, (size_t)length)) return refuse("too-many", "a lease has at most %d devices and groups, and %d processes", MAX_DEVICES, MAX_LIMITS);
    line[length] = '\n';
    crash_point();
    if (!write_line(lease->fd, line, (size_t)length + 1)) return refuse("journal", "the journal cannot be written: %s", strerror(errno));
    crash_point();
    return 0;
}

// Opens a lease's file and takes its lock where nobody has it. -1 when there is no such file or it cannot be read.
int open_lease(struct lease *lease, const char *name, bool *alive) {
    struct stat opened, named;
    memset(lease, 0, sizeof *lease);
    lease->lock = -1;
    lease->fd = openat(folder, name, O_RDWR | O_APPEND | O_NOFOLLOW | O_CLOEXEC);
    if (lease->fd < 0) return -1;
    snprintf(lease->name, sizeof lease->name, "%s", name);
    *alive = !take_lock(lease);
    // Its owner may have undone and removed it between our open and our lock.
    if (fstat(lease->fd, &opened) == 0 && fstatat(folder, name, &named, AT_SYMLINK_NOFOLLOW) == 0 && opened.st_ino == named.st_ino && opened.st_uid == geteuid()) return 0;
    close_lease(lease);
    return -1;
}

void close_lease(struct lease *lease) {
    if (lease->fd >= 0) close(lease->fd);
    if (lease->lock >= 0) close(lease->lock);
    lease->fd = lease->lock = -1;
}

void remove_lease(struct lease *lease) {
    unlinkat(folder, lease->name, 0);
    unlinkat(folder, lock_of(lease), 0);
    close_lease(lease);
}

struct names {
    char name[256][NAME_SIZE];
    size_t count;
};

static bool add_name(const char *name, void *context) {
    struct names *const names = context;
    if (strncmp(name, "lease.", 6) != 0 || strlen(name) != 22 || strspn(name + 6, "0123456789abcdef") != 16) return true;
    if (names->count < 256) strcpy(names->name[names->count++], name);
    return names->count < 256;
}

// Calls `each` for every lease that can be opened; it closes or removes it. A journal of another boot, or none at all, is removed here.
int each_lease(bool (*each)(struct lease *lease, bool alive, void *context), void *context) {
    static struct names names;
    static struct lease lease;
    names.count = 0;
    if (list_folder(run_root, "vitrine", add_name, &names) < 0) return refuse("journal", "/run/vitrine cannot be read");
    for (size_t i = 0; i < names.count; i++) {
        bool alive;
        if (open_lease(&lease, names.name[i], &alive) != 0) continue;
        const bool good = load_lease(&lease);
        if (good && lease.same_boot) {
            if (!each(&lease, alive, context)) break;
        } else if (alive) close_lease(&lease);
        else remove_lease(&lease);
    }
    return 0;
}
