// cc: program vitrine-helper
// Files of ours that last: what is written down in /var/lib/vitrine, a file of modprobe.d, and the helper itself with its polkit actions. Each
// lies in a folder that nobody but root can change, every folder above it included, and is replaced as a whole: whoever reads it, and
// whatever is cut off, finds the old one or the new one.
#include "helper.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool is_own(int folder) {
    struct stat found;
    return fstat(folder, &found) == 0 && found.st_uid == geteuid() && (found.st_mode & (S_IWGRP | S_IWOTH)) == 0;
}

static int not_own(int folder, const char *top, const char *path, size_t length) {
    close(folder);
    return refuse("untrusted", "%s%s%.*s can be changed by others than root", top, length == 0 ? "" : "/", (int)length, path);
}

// Opens the folder `path` beneath `top`, one part after the other and no link among them; with `make`, what is missing is made. NOT_THERE
// when it is not there; -1, and the request refused, when it cannot be trusted.
int open_own_folder(const char *top, const char *path, bool make) {
    int folder = open_top(top);
    if (folder < 0) return refuse("host", "%s cannot be opened: %s", top, strerror(errno));
    const int root = open_beneath(folder, ".", O_RDONLY | O_DIRECTORY);
    close(folder);
    folder = root;
    if (folder < 0 || !is_own(folder)) return not_own(folder, top, "", 0);
    for (const char *part = path; *part != 0;) {
        const size_t size = strcspn(part, "/"), reached = (size_t)(part - path) + size;
        const char *const name = path_of("%.*s", (int)size, part);
        if (make && mkdirat(folder, name, 0755) != 0 && errno != EEXIST) {
            const int error = errno;
            close(folder);
            return refuse("write", "%s/%.*s cannot be made: %s", top, (int)reached, path, strerror(error));
        }
        const int next = open_beneath(folder, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW), error = errno;
        close(folder);
        if (next < 0) return error == ENOENT ? NOT_THERE : refuse("untrusted", "%s/%.*s is no folder: %s", top, (int)reached, path, strerror(error));
        folder = next;
        if (!is_own(folder)) return not_own(folder, top, path, reached);
        part += size + (part[size] == '/');
    }
    return folder;
}

static bool write_all(int fd, const char *bytes, size_t size) {
    for (size_t written = 0; written < size;) {
        const ssize_t got = write(fd, bytes + written, size - written);
        if (got < 0 && errno != EINTR) return false;
        if (got > 0) written += (size_t)got;
    }
    return true;
}

// 0 or an errno.
int replace_file(int folder, const char *name, mode_t mode, const void *bytes, size_t size) {
    const char *const fresh = path_of(".%s.new", name); // neither modprobe.d nor polkit reads names with this ending
    unlinkat(folder, fresh, 0);
    const int fd = openat(folder, fresh, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0) return errno;
    crash_point();
    int error = 0;
    if (!write_all(fd, bytes, size) || fchown(fd, geteuid(), getegid()) != 0 || fchmod(fd, mode) != 0 || fsync(fd) != 0) error = errno;
    close(fd);
    crash_point();
    if (error == 0 && (renameat(folder, fresh, folder, name) != 0 || fsync(folder) != 0)) error = errno;
    crash_point();
    if (error != 0) unlinkat(folder, fresh, 0);
    return error;
}

int remove_file(int folder, const char *name) {
    unlinkat(folder, path_of(".%s.new", name), 0);
    if (unlinkat(folder, name, 0) != 0 && errno != ENOENT) return errno;
    crash_point();
    return fsync(folder) == 0 ? 0 : errno;
}
