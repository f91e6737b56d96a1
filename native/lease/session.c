// cc: program vitrine-helper
// The ways that take requests on standard input: `lease` and `granted`, a line each until the input ends, and `apply`, a plan that is done as
// a whole or not at all.
#include "helper.h"
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

enum { MAX_PLAN = 256 };

static struct lease lease = { .fd = -1, .lock = -1 };
static struct guardian guardian;
static const char *granted = ""; // the machine whose grant is all that may be done, or "" after a password

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

static bool is_of_machine(struct lease *one, bool alive, void *context) {
    const char **const machine = context;
    if (alive && one->uid == caller.uid && strcmp(one->machine, *machine) == 0) *machine = NULL;
    close_lease(one);
    return *machine != NULL;
}

// A grant is for one lease at a time: two would pin twice the memory that was allowed.
static int refuse_second(const char *machine) {
    if (each_lease(is_of_machine, &machine) != 0) return -1;
    return machine == NULL ? refuse("held", "the machine %s has its devices already", granted) : 0;
}

// The journal and its guardian, from the first change on.
static int begin_lease(void) {
    if (lease.fd >= 0) return 0;
    if (granted[0] != 0 && refuse_second(granted) != 0) return -1;
    if (create_lease(&lease, caller.uid) != 0) return -1;
    if ((granted[0] == 0 || record(&lease, "granted %s", granted) == 0) && start_guardian(&lease, &guardian) == 0) return 0;
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

static int perform(const struct request *request) {
    const char *const address = request->address[0];
    bool kept = request->verb == VERB_KEPT;
    if (granted[0] != 0 && refuse_beyond_grant(&lease, granted, request) != 0) return -1;
    switch (request->verb) {
    case VERB_PLAN:
        lease.uid = caller.uid;
        return plan_device(&lease, address);
    case VERB_BIND:
        return begin_lease() == 0 ? bind_device(&lease, address) : -1;
    case VERB_UNBIND:
        return unbind_device(address);
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
        return each_lease(list_lease, &kept);
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

// ---- the ways ----

// Undoes it all, as long as it takes, unless it is to be kept.
static int end_lease(void) {
    bool undone = true;
    if (lease.fd >= 0 && !lease.kept) undone = undo_until_done(&lease);
    dismiss_guardian(&guardian);
    flush_replies();
    return undone ? EXIT_DONE : EXIT_LEFT;
}

int run_lease(void) {
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

// The lease that needs no password, because the person has said so for this machine.
int run_granted(const char *machine) {
    if (lock_host() != 0) return EXIT_REFUSED;
    const bool known = load_state() == 0 && (grant_of(caller.uid, machine) != NULL || refuse("not-granted", "nothing was allowed for the machine %s", machine) == 0);
    unlock_host();
    if (!known) return EXIT_REFUSED;
    granted = machine;
    return run_lease();
}

static bool belongs_in_plan(const struct request *request) {
    return request->verb == VERB_BIND || request->verb == VERB_PERMIT || request->verb == VERB_MEMLOCK || request->verb == VERB_MODULE;
}

int run_apply(void) {
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
