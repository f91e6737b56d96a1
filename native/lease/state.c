// cc: program vitrine-helper
// What lasts longer than a lease, in /var/lib/vitrine/state: root's own, readable for all, replaced as a whole before the step that it is
// about. So whoever finds it can undo:
//
//   vitrine-state 1
//   functions BOOT-ID ADDRESS VENDOR:PRODUCT BEFORE        a card whose number of virtual functions is ours, with the one that it had; a
//                                                          restart of the computer undoes it, so a line of another boot is dropped
//   reserved ADDRESS VENDOR:PRODUCT MODULE                 a function of a card that is vfio-pci's from start-up, "-" for no module
//   initramfs due                                          it was not made anew since `reserved` changed
//   grant UID MACHINE BYTES ADDRESS=VENDOR:PRODUCT…        what a machine of a user may have without a password
//
// One that is not exactly so was not written by us: nothing in it is believed, and nothing is changed until somebody has looked at it.
#include "helper.h"
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define TOP "/var/lib"
#define FOLDER "vitrine"
#define FILE_NAME "state"
#define FIRST_LINE "vitrine-state 1"

enum { MAX_STATE = 256 * 1024, MAX_STATE_WORDS = 4 + MAX_GRANTED };

struct state state;

static bool parse_identity(const char *address, const char *ids, struct identity *identity) {
    if (!is_address(address, strlen(address)) || !parse_ids(ids, strlen(ids), &identity->vendor, &identity->product)) return false;
    strcpy(identity->address, address);
    return true;
}

static bool parse_functions(struct state *into, char **words) {
    struct numbered card = { .before = 0 };
    uint64_t before;
    if (into->card_count == MAX_CARDS || !parse_identity(words[2], words[3], &card.card) || !parse_number(words[4], strlen(words[4]), 65535, &before)) return false;
    card.before = (unsigned)before;
    if (strcmp(words[1], this_boot) == 0) into->cards[into->card_count++] = card;
    return true;
}

static bool parse_reserved(struct state *into, char **words) {
    struct reserved one = { .module = "" };
    if (into->reserved_count == MAX_RESERVED || !parse_identity(words[1], words[2], &one.function)) return false;
    if (strcmp(words[3], "-") != 0) {
        if (!is_name(words[3], strlen(words[3]))) return false;
        strcpy(one.module, words[3]);
    }
    into->reserved[into->reserved_count++] = one;
    return true;
}

static bool parse_grant(struct state *into, char **words, size_t count) {
    if (into->grant_count == MAX_GRANTS) return false;
    struct grant *const grant = into->grants + into->grant_count;
    uint64_t uid;
    memset(grant, 0, sizeof *grant);
    if (!parse_number(words[1], strlen(words[1]), UINT32_MAX - 1, &uid) || !is_machine(words[2], strlen(words[2])) || !parse_number(words[3], strlen(words[3]), (uint64_t)1 << 48, &grant->bytes)) return false;
    grant->uid = (uid_t)uid;
    strcpy(grant->machine, words[2]);
    for (size_t i = 4; i < count; i++) {
        char *const sign = strchr(words[i], '=');
        if (sign == NULL) return false;
        *sign = 0;
        if (!parse_identity(words[i], sign + 1, grant->devices + grant->count++)) return false;
    }
    into->grant_count++;
    return true;
}

// Takes one line after the first, without its end. False when it is none of ours.
bool parse_state_line(struct state *into, const char *line, size_t length) {
    char copy[LINE_SIZE];
    char *words[MAX_STATE_WORDS];
    if (length == 0 || length >= sizeof copy || memchr(line, 0, length) != NULL) return false;
    memcpy(copy, line, length);
    copy[length] = 0;
    const size_t count = split(copy, words, MAX_STATE_WORDS);
    if (count == 0) return false;
    if (strcmp(words[0], "functions") == 0) return count == 5 && parse_functions(into, words);
    if (strcmp(words[0], "reserved") == 0) return count == 4 && parse_reserved(into, words);
    if (strcmp(words[0], "grant") == 0) return count >= 5 && parse_grant(into, words, count);
    if (strcmp(words[0], "initramfs") == 0 && count == 2 && strcmp(words[1], "due") == 0) return into->due = true;
    return false;
}

// Reads it into `state`. Where there is none, nothing lasts.
int load_state(void) {
    static char text[MAX_STATE];
    memset(&state, 0, sizeof state);
    const int folder = open_own_folder(TOP, FOLDER, false);
    if (folder < 0) return folder == NOT_THERE ? 0 : -1;
    struct stat found;
    const int fd = openat(folder, FILE_NAME, O_RDONLY | O_NOFOLLOW | O_CLOEXEC), error = errno;
    close(folder);
    if (fd < 0) return error == ENOENT ? 0 : refuse("state", TOP "/" FOLDER "/" FILE_NAME " cannot be opened: %s", strerror(error));
    size_t length = 0;
    ssize_t got = 0;
    const bool own = fstat(fd, &found) == 0 && found.st_uid == geteuid() && S_ISREG(found.st_mode) && (found.st_mode & (S_IWGRP | S_IWOTH)) == 0;
    while (own && length < sizeof text && (got = read(fd, text + length, sizeof text - length)) > 0) length += (size_t)got;
    close(fd);
    bool good = own && got == 0 && length < sizeof text && length > strlen(FIRST_LINE) && strncmp(text, FIRST_LINE "\n", strlen(FIRST_LINE) + 1) == 0 && text[length - 1] == '\n';
    for (const char *line = text + strlen(FIRST_LINE) + 1, *end; good && line < text + length; line = end + 1) {
        end = memchr(line, '\n', (size_t)(text + length - line));
        good = parse_state_line(&state, line, (size_t)(end - line));
    }
    if (good) return 0;
    memset(&state, 0, sizeof state);
    return refuse("state", TOP "/" FOLDER "/" FILE_NAME " is not as the helper writes it, so it cannot be trusted; an administrator must look at it, and delete it");
}

struct text {
    char bytes[MAX_STATE];
    size_t length;
    bool full;
};

static void put(struct text *text, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void put(struct text *text, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    const int size = vsnprintf(text->bytes + text->length, sizeof text->bytes - text->length, format, arguments);
    va_end(arguments);
    if (size < 0 || (size_t)size >= sizeof text->bytes - text->length) text->full = true;
    else text->length += (size_t)size;
}

// Writes `state` down, before the step that it is about.
int save_state(void) {
    static struct text text;
    text.length = 0;
    text.full = false;
    put(&text, FIRST_LINE "\n");
    for (size_t i = 0; i < state.card_count; i++) {
        const struct numbered *const one = state.cards + i;
        put(&text, "functions %s %s %04x:%04x %u\n", this_boot, one->card.address, one->card.vendor, one->card.product, one->before);
    }
    for (size_t i = 0; i < state.reserved_count; i++) {
        const struct reserved *const one = state.reserved + i;
        put(&text, "reserved %s %04x:%04x %s\n", one->function.address, one->function.vendor, one->function.product, one->module[0] == 0 ? "-" : one->module);
    }
    if (state.due) put(&text, "initramfs due\n");
    for (size_t i = 0; i < state.grant_count; i++) {
        const struct grant *const one = state.grants + i;
        put(&text, "grant %u %s %llu", one->uid, one->machine, (unsigned long long)one->bytes);
        for (size_t j = 0; j < one->count; j++) put(&text, " %s=%04x:%04x", one->devices[j].address, one->devices[j].vendor, one->devices[j].product);
        put(&text, "\n");
    }
    if (text.full) return refuse("state", "there is no room for more in " TOP "/" FOLDER "/" FILE_NAME);
    const int folder = open_own_folder(TOP, FOLDER, true);
    if (folder < 0) return -1;
    const int error = replace_file(folder, FILE_NAME, 0644, text.bytes, text.length);
    close(folder);
    return error == 0 ? 0 : refuse("state", TOP "/" FOLDER "/" FILE_NAME " cannot be written: %s", strerror(error));
}

// Nothing lasts any more: the file and its folder go.
int remove_state(void) {
    memset(&state, 0, sizeof state);
    const int folder = open_own_folder(TOP, FOLDER, false);
    if (folder < 0) return folder == NOT_THERE ? 0 : -1;
    const int error = remove_file(folder, FILE_NAME);
    close(folder);
    if (error != 0) return refuse("state", TOP "/" FOLDER "/" FILE_NAME " cannot be removed: %s", strerror(error));
    const int top = open_own_folder(TOP, "", false);
    if (top < 0) return -1;
    unlinkat(top, FOLDER, AT_REMOVEDIR); // what others have put there stays
    close(top);
    return 0;
}
