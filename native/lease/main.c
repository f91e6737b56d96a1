// cc: program vitrine-helper
// The helper's ways:
//
//   vitrine-helper lease                       requests on standard input, a line each; at its end, however it comes, all is undone
//   vitrine-helper granted MACHINE             the same without a password, for what the person has allowed this machine
//   vitrine-helper apply < plan                a plan of requests, done as a whole or not at all, and kept until it is released
//   vitrine-helper release [ADDRESS…]          gives back what is kept: these devices, or all of the user's
//   vitrine-helper list                        what is held and kept
//   vitrine-helper functions ADDRESS COUNT     the number of virtual functions of a card, until the computer restarts
//   vitrine-helper functions ADDRESS restore   the number that it had
//   vitrine-helper reserve ADDRESS             the card at this slot is vfio-pci's from the computer's start
//   vitrine-helper unreserve ADDRESS           it is its driver's again
//   vitrine-helper grant MACHINE BYTES ADDRESS…  what this machine may have without a password
//   vitrine-helper revoke MACHINE              and no longer
//   vitrine-helper grants                      what was allowed
//   vitrine-helper install                     puts itself and its polkit actions where they belong
//   vitrine-helper remove                      undoes all of the above, then takes both away
//
// Each begins by undoing what a helper that was killed has left. Exit codes: 0 done; 1 refused or failed; 2 usage; 3 not all was undone.
#include "helper.h"
#include "privileges.h"
#include <string.h>

struct caller caller;
volatile sig_atomic_t told_to_end;
// What ends the input as well: a shutdown, Ctrl+C, the end of a terminal.
static const int endings[] = { SIGTERM, SIGINT, SIGHUP };

static void end_soon(int signal) {
    (void)signal;
    told_to_end = 1;
}

static void end_only_between_requests(void) {
    const struct sigaction action = { .sa_handler = end_soon };
    sigset_t ends;
    sigemptyset(&ends);
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
        sigaddset(&ends, endings[i]);
        sigaction(endings[i], &action, NULL);
    }
    sigprocmask(SIG_BLOCK, &ends, NULL);
}

// The words of the command line as one line for the parser. False when they do not fit, or one of them holds a space.
static bool join(int count, char **words, char *line, size_t *length) {
    *length = 0;
    for (int i = 1; i < count; i++) {
        const size_t size = strlen(words[i]);
        if (size + 1 > LINE_SIZE - *length || strchr(words[i], ' ') != NULL) return false;
        if (i > 1) line[(*length)++] = ' ';
        memcpy(line + *length, words[i], size);
        *length += size;
    }
    return true;
}

// One that changes what lasts, under the lock of all helpers.
static int run_locked(const struct request *request) {
    if (lock_host() != 0) return EXIT_REFUSED;
    int result = load_state();
    if (result != 0) {
        unlock_host();
        return EXIT_REFUSED;
    }
    switch (request->verb) {
    case WAY_FUNCTIONS:
        result = set_functions(request->address[0], request->functions, request->restore);
        break;
    case WAY_GRANT:
        result = set_grant(request);
        break;
    case WAY_REVOKE:
        result = revoke_grant(request->machine);
        break;
    default:
        result = list_grants();
    }
    unlock_host();
    if (result != 0) return EXIT_REFUSED;
    say("ok", "%s", "");
    return EXIT_DONE;
}

static int run_way(const struct request *request) {
    switch (request->verb) {
    case WAY_LEASE:
        return run_lease();
    case WAY_GRANTED:
        return run_granted(request->machine);
    case WAY_APPLY:
        return run_apply();
    case WAY_RELEASE:
        return run_release(request);
    case WAY_LIST:
        return run_list();
    case WAY_RESERVE:
        return run_reserve(request->address[0]);
    case WAY_UNRESERVE:
        return run_unreserve(request->address[0]);
    case WAY_INSTALL:
        return run_install();
    case WAY_REMOVE:
        return run_remove();
    default:
        return run_locked(request);
    }
}

static int run(int count, char **words) {
    static struct request request;
    char line[LINE_SIZE];
    size_t length;
    if (!join(count, words, line, &length) || !parse_way(line, length, &request)) {
        refuse("usage", "usage: vitrine-helper lease | granted MACHINE | apply | release [ADDRESS...] | list | functions ADDRESS COUNT|restore | reserve ADDRESS | unreserve ADDRESS | grant MACHINE BYTES ADDRESS... | revoke MACHINE | grants | install | remove");
        return EXIT_USAGE;
    }
    const bool runs_others = request.verb == WAY_RESERVE || request.verb == WAY_UNRESERVE || request.verb == WAY_REMOVE;
    if (become_helper(&caller, runs_others) != 0 || open_roots() != 0 || open_journal_folder() != 0) return EXIT_REFUSED;
    end_only_between_requests();
    if (recover() != 0) return EXIT_REFUSED;
    say("hello", "1 %u", caller.uid);
    say("", "%s", "");
    flush_replies();
    return run_way(&request);
}

int main(int count, char **words) {
    const int code = run(count, words);
    flush_replies();
    return code;
}
