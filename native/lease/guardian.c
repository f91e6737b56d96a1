// cc: program vitrine-helper
// Who undoes when nobody is left to ask for it. The guardian is a child that waits for the helper's end on a pipe: if the helper was
// killed, it undoes the lease; if the helper undid it itself, it says so and the guardian goes. If both were killed, the lease's lock is
// free, and the next helper that runs finds it and undoes it first.
#include "helper.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

enum { LOOK = 200 };

// Undoes all, and waits for as long as some of it is in use. Whether all is undone; the journal is gone then.
bool undo_until_done(struct lease *lease) {
    for (;;) {
        enum undone result = STILL_USED;
        if (lock_host() == 0) {
            result = undo_lease(lease);
            if (result == UNDONE) remove_lease(lease);
            unlock_host();
        }
        flush_replies();
        if (result == UNDONE) return true;
        if (result == NOT_UNDONE) {
            close_lease(lease);
            return false;
        }
        poll(NULL, 0, LOOK);
    }
}

// A child without a terminal, without its parent's input and output, and deaf to what a terminal or a user may send.
static pid_t fork_alone(void) {
    const pid_t child = fork();
    if (child != 0) return child;
    static const int ignored[] = { SIGHUP, SIGINT, SIGTERM, SIGQUIT, SIGTSTP, SIGPIPE };
    for (size_t i = 0; i < sizeof ignored / sizeof *ignored; i++) signal(ignored[i], SIG_IGN);
    setsid();
    if (host_lock >= 0) close(host_lock); // the copy alone
    host_lock = -1;
    const int nothing = open("/dev/null", O_RDWR | O_CLOEXEC);
    for (int fd = 0; fd <= 2; fd++) dup2(nothing, fd);
    return 0;
}

static void watch(struct lease *lease, int pipe) {
    char word;
    ssize_t got;
    while ((got = read(pipe, &word, 1)) < 0 && errno == EINTR) continue;
    if (got == 1) return;
    crash_point();
    // What the helper has written down since our birth.
    if (load_lease(lease) && !lease->kept) undo_until_done(lease);
}

int start_guardian(struct lease *lease, struct guardian *guardian) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) return refuse("host", "there are no pipes left");
    flush_replies();
    guardian->pid = fork_alone();
    if (guardian->pid == 0) {
        close(ends[1]);
        watch(lease, ends[0]);
        _exit(0);
    }
    close(ends[0]);
    guardian->pipe = ends[1];
    if (guardian->pid > 0) return 0;
    close(ends[1]);
    return refuse("host", "there are no processes left");
}

// The helper has done, or kept, everything itself.
void dismiss_guardian(struct guardian *guardian) {
    if (guardian->pid <= 0) return;
    const ssize_t told = write(guardian->pipe, "q", 1); // SIGPIPE is ignored: it may be gone
    (void)told;
    close(guardian->pipe);
    waitpid(guardian->pid, NULL, 0);
    guardian->pid = 0;
}

static bool undo_orphan(struct lease *lease, bool alive, void *context) {
    (void)context;
    if (alive || lease->kept) {
        close_lease(lease);
        return true;
    }
    const enum undone result = undo_lease(lease);
    if (result == UNDONE) {
        say("note", "undid what a helper that was killed had left");
        remove_lease(lease);
        return true;
    }
    if (result == STILL_USED) {
        // A machine uses it still. Somebody has to be there when it ends.
        say("note", "what a helper that was killed had left is still in use, and is undone when it comes free");
        flush_replies();
        if (fork_alone() == 0) {
            undo_until_done(lease);
            _exit(0);
        }
    }
    close_lease(lease);
    return true;
}

// Undoes what nobody was left to undo. -1 when the journals cannot be looked at.
int recover(void) {
    if (lock_host() != 0) return -1;
    const int result = each_lease(undo_orphan, NULL);
    unlock_host();
    return result;
}
