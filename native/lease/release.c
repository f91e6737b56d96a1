// cc: program vitrine-helper
// Giving back what is kept, and saying what is held and kept.
#include "helper.h"
#include <string.h>

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

// A device, or all of the user's (NULL), under the lock of all helpers. An exit code.
int release_kept(const char *address) {
    struct release release = { .address = address };
    const int result = each_lease(release_from, &release);
    if (result != 0 || release.refused) return EXIT_REFUSED;
    if (release.devices == 0 && address != NULL) {
        refuse("not-leased", "%s is not kept by Vitrine", address);
        return EXIT_REFUSED;
    }
    return release.left > 0 ? EXIT_LEFT : EXIT_DONE;
}

int run_release(const char *address) {
    if (lock_host() != 0) return EXIT_REFUSED;
    const int code = release_kept(address);
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
