// cc: program vitrine-helper
// The helper installs and removes itself. What is installed is the very program that runs (/proc/self/exe, opened once) and the polkit actions
// that were compiled into it, so no path that anybody names is trusted. Whoever starts it from elsewhere as root trusts it already.
#include "helper.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define TOP "/usr"
#define PROGRAM_FOLDER "local/libexec"
#define PROGRAM "vitrine-helper"
#define POLICY_FOLDER "share/polkit-1/actions"
#define POLICY "org.vitrine.helper.policy"

enum { MAX_PROGRAM = 16 * 1024 * 1024 };

static int put_file(const char *path, const char *name, mode_t mode, const void *bytes, size_t size) {
    const int folder = open_own_folder(TOP, path, true);
    if (folder < 0) return -1;
    const int error = replace_file(folder, name, mode, bytes, size);
    close(folder);
    return error == 0 ? 0 : refuse("write", TOP "/%s/%s cannot be written: %s", path, name, strerror(error));
}

static int take_file(const char *path, const char *name) {
    const int folder = open_own_folder(TOP, path, false);
    if (folder < 0) return folder == NOT_THERE ? 0 : -1;
    const int error = remove_file(folder, name);
    close(folder);
    return error == 0 ? 0 : refuse("write", TOP "/%s/%s cannot be removed: %s", path, name, strerror(error));
}

// The bytes of this program. NULL, and the request refused, when they cannot be read.
static char *read_self(size_t *size) {
    struct stat found;
    const int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    char *const bytes = malloc(MAX_PROGRAM);
    ssize_t got = -1;
    *size = 0;
    if (fd >= 0 && bytes != NULL && fstat(fd, &found) == 0 && S_ISREG(found.st_mode)) {
        while (*size < MAX_PROGRAM && (got = read(fd, bytes + *size, MAX_PROGRAM - *size)) > 0) *size += (size_t)got;
    }
    if (fd >= 0) close(fd);
    if (got == 0 && *size > 0) return bytes;
    free(bytes);
    refuse("host", "the helper cannot read its own program");
    return NULL;
}

int run_install(void) {
    size_t size;
    char *const bytes = read_self(&size);
    if (bytes == NULL) return EXIT_REFUSED;
    int result = lock_host();
    if (result == 0) {
        result = put_file(PROGRAM_FOLDER, PROGRAM, 0755, bytes, size);
        if (result == 0) result = put_file(POLICY_FOLDER, POLICY, 0644, policy_text, (size_t)(policy_end - policy_text));
        unlock_host();
    }
    free(bytes);
    if (result != 0) return EXIT_REFUSED;
    say("ok", "%s", "");
    return EXIT_DONE;
}

// ---- removing ----

static bool refuse_if_running(struct lease *lease, bool alive, void *context) {
    bool *const running = context;
    for (size_t i = 0; i < lease->device_count; i++) {
        const struct leased_device *const device = lease->devices + i;
        struct device now;
        if (device->back || !device_exists(device->address) || read_device(device->address, &now) != 0) continue;
        const bool busy = strcmp(now.driver, VFIO_DRIVER) == 0 && now.group >= 0 && !group_is_free((unsigned)now.group);
        if (!busy && (!alive || lease->kept)) continue;
        say("running", "%s %u %d", device->address, lease->uid, alive ? lease->pid : 0);
        if (!*running) refuse("held", "%s is in use by a machine, which must end first", device->address);
        *running = true;
    }
    if (alive && !*running && lease->limit_count > 0) {
        refuse("held", "a machine runs (process %d) that may lock memory by a lease; it must end first", lease->limits[0].pid);
        *running = true;
    }
    close_lease(lease);
    return true;
}

// With the host's lock. Everything that a helper has changed and that is not undone, in the order in which it can be.
static int undo_everything(void) {
    bool running = false;
    if (each_lease(refuse_if_running, &running) != 0 || running) return -1;
    if (load_state() != 0) return -1;
    if (release_kept(NULL) != EXIT_DONE) return -1;
    if (restore_all_functions() != 0) return -1;
    if (unreserve_all() != 0) return -1;
    return remove_state();
}

int run_remove(void) {
    // Whoever may remove it may take back what is not the own.
    caller.administrator = true;
    if (lock_host() != 0) return EXIT_REFUSED;
    int result = undo_everything();
    if (result == 0) result = take_file(POLICY_FOLDER, POLICY);
    if (result == 0) result = take_file(PROGRAM_FOLDER, PROGRAM);
    if (host_lock >= 0) unlock_host();
    if (result != 0) return EXIT_REFUSED;
    say("ok", "%s", "");
    return EXIT_DONE;
}
