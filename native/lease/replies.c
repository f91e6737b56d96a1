// cc: program vitrine-helper
// What is said on standard output: lines of a kind and words. Every request is answered by any number of lines of data and notes, exactly
// one `ok` or `error CODE WORDS`, and an empty line at the end. Replies are gathered and written when no lock is held: whoever does not
// read them keeps nobody waiting, and after a few seconds they are dropped.
#include "helper.h"
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { PATIENCE = 5000 };

static char gathered[32 * 1024];
static size_t length;
static bool deaf;
static bool refused;

static void add(const char *kind, const char *format, va_list arguments) {
    char words[LINE_SIZE * 4];
    vsnprintf(words, sizeof words, format, arguments);
    // Names come from sysfs and from mount points: nothing of them may look like another line.
    for (char *c = words; *c != 0; c++) {
        if ((unsigned char)*c < 0x20 || (unsigned char)*c >= 0x7f) *c = '?';
    }
    const int size = snprintf(gathered + length, sizeof gathered - length, words[0] == 0 ? "%s%s\n" : "%s %s\n", kind, words);
    if (size > 0 && (size_t)size < sizeof gathered - length) length += (size_t)size;
}

void say(const char *kind, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    add(kind, format, arguments);
    va_end(arguments);
}

// Always -1, for `return refuse(…)`. A request is refused once, for the first reason; what fails after it is a note.
int refuse(const char *code, const char *format, ...) {
    char kind[NAME_SIZE] = "note";
    if (!refused) snprintf(kind, sizeof kind, "error %s", code);
    refused = true;
    va_list arguments;
    va_start(arguments, format);
    add(kind, format, arguments);
    va_end(arguments);
    return -1;
}

void flush_replies(void) {
    size_t written = 0;
    while (!deaf && written < length) {
        struct pollfd out = { .fd = STDOUT_FILENO, .events = POLLOUT };
        const int ready = poll(&out, 1, PATIENCE);
        if (ready < 0 && errno == EINTR) continue;
        if (ready <= 0 || (out.revents & (POLLERR | POLLNVAL))) {
            deaf = true;
            break;
        }
        // POLLOUT promises room for PIPE_BUF bytes at least (pipe(7)).
        const size_t piece = length - written < 512 ? length - written : 512;
        const ssize_t got = write(STDOUT_FILENO, gathered + written, piece);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) deaf = true;
        else written += (size_t)got;
    }
    length = 0;
    refused = false;
}
