// cc: program vitrine-helper
// How much memory a process may pin. Passing a device through pins all of the guest's memory at once, and an ordinary user may pin 8 MiB.
// The process is held by a pidfd while it is looked at and after its limit was set, so that it was that process and no later one with the
// same id; it must be the user's own in every respect. All limits that helpers have raised together, less what those processes use already,
// must fit into what the host has available, with a reserve for the host itself.
#include "helper.h"
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#define KIB ((uint64_t)1024)
#define MIB (KIB * 1024)

// What stays for the host: a sixteenth of its memory, at least 512 MiB.
static const uint64_t least_reserve = 512 * MIB;
enum { RESERVE_PART = 16 };

// The number behind a key in a file of "Key:   123 kB" lines, in bytes.
static bool kilobytes(const char *path, const char *key, uint64_t *bytes) {
    char text[8192];
    if (read_text(proc_root, path, text, sizeof text) < 0) return false;
    const size_t length = strlen(key);
    for (const char *line = text; line != NULL; line = strchr(line, '\n')) {
        while (*line == '\n') line++;
        if (strncmp(line, key, length) != 0 || line[length] != ':') continue;
        *bytes = strtoull(line + length + 1, NULL, 10) * KIB;
        return true;
    }
    return false;
}

static bool belongs_to(int pid, uid_t uid) {
    char text[8192];
    unsigned ids[4];
    if (read_text(proc_root, path_of("%d/status", pid), text, sizeof text) < 0) return false;
    const char *const line = strstr(text, "\nUid:");
    if (line == NULL || sscanf(line + 5, "%u %u %u %u", ids, ids + 1, ids + 2, ids + 3) != 4) return false;
    return ids[0] == uid && ids[1] == uid && ids[2] == uid && ids[3] == uid;
}

// "Max locked memory         8388608              8388608              bytes" (proc_pid_limits(5))
static bool read_limit(int pid, uint64_t *soft, uint64_t *hard) {
    char text[4096], words[2][32];
    if (read_text(proc_root, path_of("%d/limits", pid), text, sizeof text) < 0) return false;
    const char *const line = strstr(text, "Max locked memory");
    if (line == NULL || sscanf(line + strlen("Max locked memory"), "%31s %31s", words[0], words[1]) != 2) return false;
    *soft = strcmp(words[0], "unlimited") == 0 ? RLIM_INFINITY : strtoull(words[0], NULL, 10);
    *hard = strcmp(words[1], "unlimited") == 0 ? RLIM_INFINITY : strtoull(words[1], NULL, 10);
    return true;
}

// Of `bytes` that a process may pin, those that it does not use yet: its share of private memory is not available to others anyway.
static uint64_t still_to_take(int pid, uint64_t bytes) {
    uint64_t locked = 0, own = 0;
    kilobytes(path_of("%d/status", pid), "VmLck", &locked);
    kilobytes(path_of("%d/smaps_rollup", pid), "Pss_Anon", &own);
    const uint64_t used = locked > own ? locked : own;
    return bytes > used ? bytes - used : 0;
}

struct promises {
    int except;
    uint64_t bytes;
    int seen[256];
    size_t count;
};

static bool add_promises(struct lease *lease, bool alive, void *context) {
    (void)alive;
    struct promises *const promises = context;
    for (size_t i = 0; i < lease->limit_count; i++) {
        const struct leased_limit *const limit = lease->limits + i;
        uint64_t soft, hard;
        bool again = limit->back || limit->pid == promises->except || start_of(limit->pid) != limit->start;
        for (size_t j = 0; j < promises->count && !again; j++) again = promises->seen[j] == limit->pid;
        if (again || promises->count == 256 || !read_limit(limit->pid, &soft, &hard)) continue;
        promises->seen[promises->count++] = limit->pid;
        promises->bytes += still_to_take(limit->pid, hard);
    }
    close_lease(lease);
    return true;
}

static bool is_alive(int pidfd) {
    struct pollfd end = { .fd = pidfd, .events = POLLIN };
    return poll(&end, 1, 0) == 0;
}

static struct leased_limit *limit_of(struct lease *lease, int pid, uint64_t start) {
    for (size_t i = 0; i < lease->limit_count; i++) {
        if (!lease->limits[i].back && lease->limits[i].pid == pid && lease->limits[i].start == start) return lease->limits + i;
    }
    return NULL;
}

static int raise_of(struct lease *lease, int pidfd, int pid, uint64_t bytes) {
    uint64_t soft, hard, available, total, old_soft, old_hard;
    const uint64_t start = start_of(pid);
    if (start == 0 || !is_alive(pidfd)) return refuse("no-process", "there is no process %d", pid);
    if (!belongs_to(pid, lease->uid)) return refuse("not-yours", "the process %d is not wholly yours", pid);
    if (!read_limit(pid, &soft, &hard)) return refuse("unclear", "the limits of the process %d cannot be read", pid);
    if (soft >= bytes) return 0;
    if (!kilobytes("meminfo", "MemAvailable", &available) || !kilobytes("meminfo", "MemTotal", &total)) return refuse("unclear", "the host's free memory cannot be read");
    struct promises promises = { .except = pid };
    if (each_lease(add_promises, &promises) != 0) return -1;
    const uint64_t part = total / RESERVE_PART, reserve = part > least_reserve ? part : least_reserve;
    const uint64_t spare = available > reserve ? available - reserve : 0;
    const uint64_t need = still_to_take(pid, bytes);
    if (promises.bytes > spare || need > spare - promises.bytes) {
        return refuse("memory", "%llu MiB more would be pinned, and the host can spare %llu MiB: %llu MiB are available, %llu MiB of them promised to other machines and %llu MiB kept for the host",
                      (unsigned long long)((need + MIB - 1) / MIB), (unsigned long long)((spare > promises.bytes ? spare - promises.bytes : 0) / MIB), (unsigned long long)(available / MIB),
                      (unsigned long long)(promises.bytes / MIB), (unsigned long long)(reserve / MIB));
    }
    if (limit_of(lease, pid, start) == NULL) {
        if (record(lease, "memlock %d %llu %llu %llu", pid, (unsigned long long)start, (unsigned long long)soft, (unsigned long long)hard) != 0) return -1;
    }
    const int error = effect_limit(pid, bytes, hard > bytes ? hard : bytes, &old_soft, &old_hard);
    crash_point();
    if (error != 0) return refuse("step", "the limit of the process %d cannot be raised: %s", pid, strerror(error));
    // If it ended meanwhile, its id may be another's by now; if it became another user's, it must not have it.
    if (is_alive(pidfd) && belongs_to(pid, lease->uid)) return 0;
    effect_limit(pid, old_soft, old_hard, NULL, NULL);
    return refuse("no-process", "the process %d ended meanwhile", pid);
}

int raise_memlock(struct lease *lease, int pid, uint64_t bytes) {
    const int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (pidfd < 0) return refuse("no-process", "there is no process %d", pid);
    const int result = raise_of(lease, pidfd, pid, bytes);
    close(pidfd);
    return result;
}

enum undone give_back_limit(struct lease *lease, struct leased_limit *was) {
    const int pidfd = (int)syscall(SYS_pidfd_open, was->pid, 0);
    // What is pinned stays pinned; the process may pin no more.
    if (pidfd >= 0 && start_of(was->pid) == was->start && belongs_to(was->pid, lease->uid) && is_alive(pidfd)) effect_limit(was->pid, was->soft, was->hard, NULL, NULL);
    if (pidfd >= 0) close(pidfd);
    crash_point();
    return record(lease, "back memlock %d", was->pid) == 0 ? UNDONE : NOT_UNDONE;
}
