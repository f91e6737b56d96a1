// cc: program vitrine-helper
// Has the distribution make the initramfs anew, so that a file of modprobe.d counts from the first driver that is loaded. It is the one
// program beside modprobe that is run: found in /usr by a fixed list, with fixed words, without input, in a session of its own. It may take
// minutes. What it says goes on as `progress` lines, and no lock is held meanwhile but that of start-up (reserve.c).
#include "helper.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifdef VITRINE_TEST
enum { INITRAMFS_SECONDS = 3 };
#else
enum { INITRAMFS_SECONDS = 30 * 60 };
#endif
enum { LOOK = 100 };

// Of Debian and what comes from it, of Arch, of Fedora and SUSE. NULL where there is none.
const char *initramfs_program(void) {
    static const char *const programs[] = { "update-initramfs", "mkinitcpio", "dracut" };
    const char *found = NULL;
    const int usr = open_top("/usr");
    for (size_t i = 0; i < sizeof programs / sizeof *programs && usr >= 0 && found == NULL; i++) {
        for (int folder = 0; folder <= 1 && found == NULL; folder++) {
            const int fd = open_beneath(usr, path_of("%s/%s", folder == 0 ? "sbin" : "bin", programs[i]), O_PATH);
            if (fd < 0) continue;
            close(fd);
            found = programs[i];
        }
    }
    if (usr >= 0) close(usr);
    return found;
}

static void become_program(const char *program, int output) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    setsid();
    const int nothing = open("/dev/null", O_RDONLY);
    dup2(nothing, STDIN_FILENO);
    dup2(output, STDOUT_FILENO);
    dup2(output, STDERR_FILENO);
    syscall(SYS_close_range, 3U, ~0U, 0);
    // As a shell would start it: what we ignore, it must not.
    sigset_t none;
    sigemptyset(&none);
    for (int signal_number = 1; signal_number < NSIG; signal_number++) signal(signal_number, SIG_DFL);
    sigprocmask(SIG_SETMASK, &none, NULL);
    const int error = effect_initramfs(program);
    _exit(error > 125 ? 125 : error);
}

static char line[200];
static size_t filled;
static char last[sizeof line];

static void end_line(void) {
    if (filled == 0) return;
    line[filled] = 0;
    memcpy(last, line, filled + 1);
    say("progress", "%s", line);
    filled = 0;
}

// What the program has said by now. False at its end.
static bool take_output(int output) {
    char bytes[4096];
    ssize_t got;
    while ((got = read(output, bytes, sizeof bytes)) > 0) {
        for (ssize_t i = 0; i < got; i++) {
            if (bytes[i] == '\n' || bytes[i] == '\r' || filled == sizeof line - 1) end_line();
            if (bytes[i] != '\n' && bytes[i] != '\r') line[filled++] = bytes[i];
        }
        flush_replies();
    }
    return got < 0 && (errno == EAGAIN || errno == EINTR);
}

// -1, and the request refused, when the program is not there, fails, or does not come to an end.
int make_initramfs(void) {
    const char *const program = initramfs_program();
    int ends[2];
    if (program == NULL) return refuse("no-initramfs", "none of update-initramfs, mkinitcpio and dracut is installed, so the start-up files of this computer cannot be made anew");
    if (pipe2(ends, O_CLOEXEC) != 0) return refuse("host", "there are no pipes left");
    say("progress", "%s makes the start-up files anew; this may take some minutes", program);
    flush_replies();
    const pid_t child = fork();
    if (child == 0) become_program(program, ends[1]);
    close(ends[1]);
    if (child < 0) {
        close(ends[0]);
        return refuse("host", "there are no processes left");
    }
    fcntl(ends[0], F_SETFL, O_NONBLOCK);
    const int64_t end = now_ms() + (int64_t)INITRAMFS_SECONDS * 1000;
    int status = 0;
    bool open = true, hung = false;
    filled = 0;
    last[0] = 0;
    for (;;) {
        struct pollfd wait = { .fd = open ? ends[0] : -1, .events = POLLIN };
        poll(&wait, 1, LOOK);
        open = open && take_output(ends[0]);
        // What it may have left running keeps the pipe open, and is not waited for.
        const pid_t got = waitpid(child, &status, WNOHANG);
        if (got == child || (got < 0 && errno != EINTR)) break;
        if (now_ms() < end) continue;
        hung = true;
        kill(-child, SIGKILL);
        waitpid(child, &status, 0);
        break;
    }
    if (open) take_output(ends[0]);
    end_line();
    close(ends[0]);
    crash_point();
    if (hung) return refuse("hang", "%s does not come to an end", program);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return 0;
    return refuse("initramfs", "%s failed%s%s", program, last[0] == 0 ? "" : ", its last words: ", last);
}
