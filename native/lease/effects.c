// cc: program vitrine-helper
// All that changes the host, in six functions. Each returns 0 or an errno. The tests' build has others in their place (test/), which
// play the kernel in a folder and write down what was done.
#include "helper.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

int effect_write(int root, const char *path, const char *text) {
    const int fd = open_beneath(root, path, O_WRONLY);
    if (fd < 0) return errno;
    const ssize_t written = write(fd, text, strlen(text));
    const int error = written < 0 ? errno : 0;
    close(fd);
    return error;
}

// Sets owner and mode of /dev/vfio/GROUP. Its folder is root's alone, so nobody puts another file there between the look and the change.
int effect_owner(unsigned group, uid_t uid, gid_t gid, mode_t mode) {
    struct stat found;
    const int folder = open_beneath(dev_root, "vfio", O_PATH | O_DIRECTORY | O_NOFOLLOW);
    if (folder < 0) return errno;
    const char *const name = path_of("%u", group);
    int error = 0;
    if (fstat(folder, &found) != 0) error = errno;
    else if (found.st_uid != 0 || (found.st_mode & (S_IWGRP | S_IWOTH))) error = EPERM;
    else if (fstatat(folder, name, &found, AT_SYMLINK_NOFOLLOW) != 0) error = errno;
    else if (!S_ISCHR(found.st_mode)) error = ENODEV;
    // The mode first: fewer may open it meanwhile, never more, because only `mode`'s owner bits are added.
    else if (fchmodat(folder, name, mode, 0) != 0 || fchownat(folder, name, uid, gid, AT_SYMLINK_NOFOLLOW) != 0) error = errno;
    close(folder);
    return error;
}

int effect_limit(int pid, uint64_t soft, uint64_t hard, uint64_t *old_soft, uint64_t *old_hard) {
    const struct rlimit wanted = { .rlim_cur = soft, .rlim_max = hard };
    struct rlimit old;
    if (prlimit(pid, RLIMIT_MEMLOCK, &wanted, &old) != 0) return errno;
    if (old_soft != NULL) *old_soft = old.rlim_cur;
    if (old_hard != NULL) *old_hard = old.rlim_max;
    return 0;
}

// Runs in a process of its own (bounded.c), which becomes modprobe: an absolute path, fixed words, an environment of ours.
int effect_module(const char *name) {
    static const char *const programs[] = { "/usr/sbin/modprobe", "/sbin/modprobe", "/usr/bin/modprobe" };
    char word[NAME_SIZE];
    strncpy(word, name, sizeof word - 1);
    word[sizeof word - 1] = 0;
    char *const words[] = { "modprobe", "-q", "--", word, NULL };
    char *const environment[] = { "PATH=/usr/sbin:/usr/bin:/sbin:/bin", NULL };
    for (size_t i = 0; i < sizeof programs / sizeof *programs; i++) execve(programs[i], words, environment);
    return errno;
}

// Runs in a process of its own (initramfs.c), which becomes the distribution's program: absolute paths, fixed words, an environment of ours.
int effect_initramfs(const char *program) {
    static const struct {
        const char *name, *words[3];
    } programs[] = { { "update-initramfs", { "update-initramfs", "-u" } }, { "mkinitcpio", { "mkinitcpio", "-P" } }, { "dracut", { "dracut", "--force" } } };
    char *const environment[] = { "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LC_ALL=C", NULL };
    for (size_t i = 0; i < sizeof programs / sizeof *programs; i++) {
        if (strcmp(programs[i].name, program) != 0) continue;
        execve(path_of("/usr/sbin/%s", program), (char *const *)programs[i].words, environment);
        execve(path_of("/usr/bin/%s", program), (char *const *)programs[i].words, environment);
    }
    return errno;
}

// A group that is open in some process cannot be opened once more (Documentation/driver-api/vfio.rst): the kernel itself says who is free.
bool group_is_free(unsigned group) {
    const int fd = open_beneath(dev_root, path_of("vfio/%u", group), O_RDWR | O_NOFOLLOW);
    if (fd < 0) return errno != EBUSY;
    close(fd);
    return true;
}
