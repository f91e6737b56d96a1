// cc: program vitrine-helper
// The helper's four ways:
//
//   vitrine-helper lease               requests on standard input, a line each; at its end, however it comes, all is undone
//   vitrine-helper apply < plan        a plan of requests, done as a whole or not at all, and kept until it is released
//   vitrine-helper release [ADDRESS]   gives back what is kept: a device, or all of the user's
//   vitrine-helper list                what is held and kept
//
// Each begins by undoing what a helper that was killed has left. Exit codes: 0 done; 1 refused or failed; 2 usage; 3 not all was undone.
#include "helper.h"
#include "privileges.h"
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { EXIT_DONE = 0, EXIT_REFUSED = 1, EXIT_USAGE = 2, EXIT_LEFT = 3, MAX_PLAN = 256 };

static struct caller caller;
static struct lease lease = { .fd = -1, .lock = -1 };
static struct guardian guardian;
// What ends the input as well: a shutdown, Ctrl+C, the end of a terminal.
static const int endings[] = { SIGTERM, SIGINT, SIGHUP };
static volatile sig_atomic_t told_to_end;

static void end_soon(int signal) {
    (void)signal;
    told_to_end = 1;
}

// ---- lines of standard input ----

static char input[LINE_SIZE];
static size_t filled;

enum line { LINE, LINE_TOO_LONG, END_OF_INPUT };

// The next line, without its end, at `input`. A last line without an end is none: whoever sent it was cut off.
static enum line next_line(size_t *length) {
    static size_t taken;
    bool dropping = false;
    memmove(input, input + taken, filled - taken);
    filled -= taken;
    taken = 0;
    for (;;) {
        const char *const end = memchr(input, '\n', filled);
        if (end != NULL) {
            *length = (size_t)(end - input);
            taken = *length + 1;
            return dropping ? LINE_TOO_LONG : LINE;
        }
        if (filled == sizeof input) {
            dropping = true;
            filled = 0;
        }
        if (told_to_end) return END_OF_INPUT;
        struct pollfd wait[2] = { { .fd = STDIN_FILENO, .events = POLLIN }, { .fd = guardian.pid > 0 ? guardian.pipe : -1 } };
        // Only here may a signal come: not in the middle of a request.
        sigset_t none;
        sigemptyset(&none);
        if (ppoll(wait, 2, NULL, &none) < 0 && errno == EINTR) continue;
        if (wait[1].revents & POLLERR) {
            // The guardian was killed: another one takes its place.
            dismiss_guardian(&guardian);
            if (start_guardian(&lease, &guardian) != 0) return END_OF_INPUT;
        }
        if (wait[0].revents == 0) continue;
        const ssize_t got = read(STDIN_FILENO, input + filled, sizeof input - filled);
        if (got < 0 && (errno == EINTR || errno == EAGAIN)) continue;
        if (got <= 0) return dropping ? LINE_TOO_LONG : END_OF_INPUT;
        filled += (size_t)got;
    }
}

// ---- requests ----

// The journal and its guardian, from the first change on.
static int begin_lease(void) {
    if (lease.fd >= 0) return 0;
    if (create_lease(&lease, caller.uid) != 0) return -1;
    if (start_guardian(&lease, &guardian) == 0) return 0;
    remove_lease(&lease);
    return -1;
}

static int unbind_device(const char *address) {
    struct leased_device *const was = leased(&lease, address);
    struct device now;
    if (was == NULL) return refuse("not-leased", "%s is not of this lease", address);
    if (read_device(address, &now) != 0) return -1;
    if (now.group >= 0 && strcmp(now.driver, VFIO_DRIVER) == 0 && !group_is_free((unsigned)now.group)) return refuse("in-use", "%s is in use by a machine", address);
    for (size_t i = 0; i < lease.group_count; i++) {
        if (!lease.groups[i].back && (int)lease.groups[i].number == now.group && give_back_group(&lease, lease.groups + i) != UNDONE) return -1;
    }
    const enum undone result = give_back_device(&lease, was);
    if (result == STILL_USED) return refuse("in-use", "%s is in use by a machine", address);
    return result == UNDONE ? 0 : -1;
}

struct listing {
    bool kept;
};

static bool list_lease(struct lease *one, bool alive, void *context) {
    const struct listing *const listing = context;
    for (size_t i = 0; i < one->device_count && one->kept == listing->kept; i++) {
        const struct leased_device *const device = one->devices + i;
        if (!device->back) say(one->kept ? "kept" : "held", "%s %u %d %s %s", device->address, one->uid, alive ? one->pid : 0, device->driver[0] == 0 ? "-" : device->driver, one->name);
    }
    close_lease(one);
    return true;
}

static int perform(const struct request *request) {
    struct listing listing = { .kept = request->verb == VERB_KEPT };
    switch (request->verb) {
    case VERB_PLAN:
        lease.uid = caller.uid;
        return plan_device(&lease, request->address);
    case VERB_BIND:
        return begin_lease() == 0 ? bind_device(&lease, request->address) : -1;
    case VERB_UNBIND:
        return unbind_device(request->address);
    case VERB_PERMIT:
        return begin_lease() == 0 ? permit_group(&lease, request->group) : -1;
    case VERB_MEMLOCK:
        return begin_lease() == 0 ? raise_memlock(&lease, request->pid, request->bytes) : -1;
    case VERB_MODULE:
        if (begin_lease() != 0 || record(&lease, "module %s", request->module) != 0) return -1;
        return load_module(request->module);
    case VERB_KEEP:
        return lease.fd < 0 || lease.kept ? 0 : record(&lease, "kept");
    default:
        return each_lease(list_lease, &listing);
    }
}

// One request under the lock of all helpers, with its one answer.
static int answer(const struct request *request) {
    if (lock_host() != 0) return -1;
    const int result = perform(request);
    unlock_host();
    if (result == 0) say("ok", "%s", "");
    return result;
}

// ---- the four ways ----

// Undoes it all, as long as it takes, unless it is to be kept.
static int end_lease(void) {
    bool undone = true;
    if (lease.fd >= 0 && !lease.kept) undone = undo_until_done(&lease);
    dismiss_guardian(&guardian);
    flush_replies();
    return undone ? EXIT_DONE : EXIT_LEFT;
}

static int run_lease(void) {
    // A machine outlives the terminal that it was started from, and so does its lease.
    setsid();
    for (;;) {
        size_t length;
        struct request request;
        const enum line line = next_line(&length);
        if (line == END_OF_INPUT) break;
        if (line == LINE_TOO_LONG || !parse_request(input, length, &request)) refuse("request", "that is no request");
        else answer(&request);
        say("", "%s", "");
        flush_replies();
    }
    return end_lease();
}

static bool belongs_in_plan(const struct request *request) {
    return request->verb == VERB_BIND || request->verb == VERB_PERMIT || request->verb == VERB_MEMLOCK || request->verb == VERB_MODULE;
}

static int run_apply(void) {
    static struct request plan[MAX_PLAN];
    size_t count = 0, length;
    for (int number = 1;; number++) {
        const enum line line = next_line(&length);
        if (line == END_OF_INPUT) break;
        if (line == LINE && (length == 0 || input[0] == '#')) continue;
        if (count == MAX_PLAN) refuse("plan", "a plan has at most %d lines", MAX_PLAN);
        else if (line == LINE && parse_request(input, length, plan + count) && belongs_in_plan(plan + count)) {
            count++;
            continue;
        } else refuse("plan", "line %d of the plan is no request", number);
        return EXIT_REFUSED;
    }
    if (filled > 0 || told_to_end) {
        refuse("plan", "the plan has no end: it may have been cut off");
        return EXIT_REFUSED;
    }
    if (lock_host() != 0) return EXIT_REFUSED;
    int result = 0;
    for (size_t i = 0; i < count && result == 0; i++) result = perform(plan + i);
    if (result == 0 && lease.fd >= 0) result = lease.device_count + lease.group_count + lease.limit_count > 0 ? record(&lease, "kept") : 0;
    unlock_host();
    if (result == 0) say("ok", "%s", "");
    const int end = end_lease();
    return result == 0 ? EXIT_DONE : end == EXIT_DONE ? EXIT_REFUSED : end;
}

struct release {
    const char *address; // NULL: all
    int devices, left;
    bool refused;
};

// One device of a kept lease, with its group's node.
static void release_device(struct lease *one, struct leased_device *was, struct release *release) {
    struct device now;
    const bool there = device_exists(was->address) && read_device(was->address, &now) == 0;
    release->devices++;
    if (there && strcmp(now.driver, VFIO_DRIVER) == 0 && now.group >= 0) {
        if (!group_is_free((unsigned)now.group)) {
            refuse("in-use", "%s is in use by a machine", was->address);
            release->left++;
            return;
        }
        for (size_t i = 0; i < one->group_count; i++) {
            if (!one->groups[i].back && (int)one->groups[i].number == now.group) give_back_group(one, one->groups + i);
        }
    }
    const enum undone result = give_back_device(one, was);
    if (result == STILL_USED) refuse("in-use", "%s is in use by a machine", was->address);
    if (result == UNDONE) say("released", "%s %s", was->address, was->driver[0] == 0 ? "-" : was->driver);
    else release->left++;
}

static bool release_from(struct lease *one, bool alive, void *context) {
    struct release *const release = context;
    const bool mine = one->uid == caller.uid || caller.administrator;
    bool all_back = one->kept && !alive && mine;
    const int before = release->devices;
    for (size_t i = one->device_count; i-- > 0;) {
        struct leased_device *const device = one->devices + i;
        if (device->back) continue;
        const bool meant = release->address == NULL ? one->kept && mine : strcmp(device->address, release->address) == 0;
        if (meant && !mine) refuse("not-yours", "%s is kept for another user of this computer (uid %u)", device->address, one->uid);
        else if (meant && !one->kept) refuse("held", "%s is held for a machine (by the process %d), and goes back by itself when that ends", device->address, one->pid);
        else if (meant && alive) refuse("busy", "%s is just being given away", device->address);
        else if (meant) release_device(one, device, release);
        if (meant && (!mine || !one->kept || alive)) release->refused = true;
        if (!device->back) all_back = false;
    }
    // The last device takes along what else the lease changed.
    if (all_back && (release->address == NULL || release->devices > before) && undo_lease(one) == UNDONE) remove_lease(one);
    else close_lease(one);
    return true;
}

static int run_release(const char *address) {
    struct release release = { .address = address };
    if (address != NULL && !is_address(address, strlen(address))) {
        refuse("request", "that is no address like 0000:03:00.0");
        return EXIT_USAGE;
    }
    if (lock_host() != 0) return EXIT_REFUSED;
    const int result = each_lease(release_from, &release);
    unlock_host();
    if (result != 0 || release.refused) return EXIT_REFUSED;
    if (release.devices == 0 && address != NULL) {
        refuse("not-leased", "%s is not kept by Vitrine", address);
        return EXIT_REFUSED;
    }
    if (release.left > 0) return EXIT_LEFT;
    say("ok", "%s", "");
    return EXIT_DONE;
}

static int run_list(void) {
    for (int kept = 0; kept <= 1; kept++) {
        const struct request request = { .verb = kept ? VERB_KEPT : VERB_HELD };
        if (lock_host() != 0) return EXIT_REFUSED;
        const int result = perform(&request);
        unlock_host();
        if (result != 0) return EXIT_REFUSED;
    }
    say("ok", "%s", "");
    return EXIT_DONE;
}

static int run(int count, char **words) {
    const char *way = count >= 2 ? words[1] : "";
    const bool releases = strcmp(way, "release") == 0;
    if (!releases && strcmp(way, "lease") != 0 && strcmp(way, "apply") != 0 && strcmp(way, "list") != 0) way = "";
    if (way[0] == 0 || count > (releases ? 3 : 2)) {
        refuse("usage", "usage: vitrine-helper lease | apply | release [ADDRESS] | list");
        return EXIT_USAGE;
    }
    if (become_helper(&caller) != 0 || open_roots() != 0 || open_journal_folder() != 0) return EXIT_REFUSED;
    const struct sigaction action = { .sa_handler = end_soon };
    sigset_t ends;
    sigemptyset(&ends);
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
        sigaddset(&ends, endings[i]);
        sigaction(endings[i], &action, NULL);
    }
    sigprocmask(SIG_BLOCK, &ends, NULL);
    if (recover() != 0) return EXIT_REFUSED;
    say("hello", "1 %u", caller.uid);
    say("", "%s", "");
    flush_replies();
    if (releases) return run_release(count == 3 ? words[2] : NULL);
    return strcmp(way, "apply") == 0 ? run_apply() : strcmp(way, "list") == 0 ? run_list() : run_lease();
}

int main(int count, char **words) {
    const int code = run(count, words);
    flush_replies();
    return code;
}
