// cc: program vitrine-helper
// Giving back what is kept, and saying what is held and kept.
#include "helper.h"
#include <string.h>

struct release {
    const struct request *request; // names devices; NULL, or none named: all of the user's
    bool found[MAX_GRANTED];       // those that are named, in their order
    int devices, left;
    bool refused;
};

static bool is_mine(const struct lease *one) { return one->uid == caller.uid || caller.administrator; }

static bool names_some(const struct release *release) { return release->request != NULL && release->request->address_count > 0; }

// Where the request names it; -1 where it does not.
static int place_of(const struct release *release, const char *address) {
    for (size_t i = 0; release->request != NULL && i < release->request->address_count; i++) {
        if (strcmp(release->request->address[i], address) == 0) return (int)i;
    }
    return -1;
}

// Whether what is named can go back. One that cannot keeps all of them: nothing is done by halves for a reason that was known before.
static bool look_at(struct lease *one, bool alive, void *context) {
    struct release *const release = context;
    for (size_t i = 0; i < one->device_count; i++) {
        const struct leased_device *const device = one->devices + i;
        const int place = device->back ? -1 : place_of(release, device->address);
        if (place < 0) continue;
        release->found[place] = true;
        release->refused = release->refused || !is_mine(one) || !one->kept || alive;
        if (!is_mine(one)) refuse("not-yours", "%s is kept for another user of this computer (uid %u)", device->address, one->uid);
        else if (!one->kept) refuse("held", "%s is held for a machine (by the process %d), and goes back by itself when that ends", device->address, one->pid);
        else if (alive) refuse("busy", "%s is just being given away", device->address);
    }
    close_lease(one);
    return true;
}

static int look_at_named(struct release *release) {
    const struct request *const request = release->request;
    for (size_t i = 0; i < request->address_count; i++) {
        if (place_of(release, request->address[i]) != (int)i) return refuse("odd", "%s is named twice", request->address[i]);
    }
    if (each_lease(look_at, release) != 0 || release->refused) return -1;
    for (size_t i = 0; i < request->address_count; i++) {
        if (!release->found[i]) return refuse("not-leased", "%s is not kept by Vitrine", request->address[i]);
    }
    return 0;
}

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
    const bool meant = one->kept && is_mine(one), all = !names_some(release);
    const int before = release->devices;
    bool all_back = meant && !alive;
    for (size_t i = one->device_count; meant && i-- > 0;) {
        struct leased_device *const device = one->devices + i;
        if (device->back || (!all && place_of(release, device->address) < 0)) {
            all_back = all_back && device->back;
            continue;
        }
        if (alive) {
            refuse("busy", "%s is just being given away", device->address);
            release->refused = true;
        } else release_device(one, device, release);
        all_back = all_back && device->back;
    }
    // The last device takes along what else the lease changed.
    if (all_back && (all || release->devices > before) && undo_lease(one) == UNDONE) remove_lease(one);
    else close_lease(one);
    return true;
}

// The devices that are named, or all of the user's, under the lock of all helpers. An exit code.
int release_kept(const struct request *request) {
    struct release release = { .request = request };
    if (names_some(&release) && look_at_named(&release) != 0) return EXIT_REFUSED;
    if (each_lease(release_from, &release) != 0 || release.refused) return EXIT_REFUSED;
    return release.left > 0 ? EXIT_LEFT : EXIT_DONE;
}

int run_release(const struct request *request) {
    if (lock_host() != 0) return EXIT_REFUSED;
    const int code = release_kept(request);
    unlock_host();
    if (code == EXIT_DONE) say("ok", "%s", "");
    return code;
}

bool list_lease(struct lease *one, bool alive, void *context) {
    const bool kept = *(const bool *)context;
    for (size_t i = 0; i < one->device_count && one->kept == kept; i++) {
        const struct leased_device *const device = one->devices + i;
        if (!device->back) say(one->kept ? "kept" : "held", "%s %u %d %s %s", device->address, one->uid, alive ? one->pid : 0, device->driver[0] == 0 ? "-" : device->driver, one->name);
    }
    close_lease(one);
    return true;
}

int run_list(void) {
    int result = lock_host();
    if (result != 0) return EXIT_REFUSED;
    for (int which = 0; which <= 1 && result == 0; which++) {
        bool kept = which == 1;
        result = each_lease(list_lease, &kept);
    }
    unlock_host();
    if (result != 0) return EXIT_REFUSED;
    say("ok", "%s", "");
    return EXIT_DONE;
}
