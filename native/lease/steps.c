// cc: program vitrine-helper
// Giving a device to vfio-pci and back, and a group's node to the user and back.
//
// Binding goes by driver_override, so that vfio-pci gets this device and no other of its kind (Documentation/ABI/testing/sysfs-bus-pci).
// Undoing looks at what is there, not only at what was done: it may be run again after having been cut off anywhere, and leaves alone
// what somebody else has changed since.
#include "helper.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#ifdef VITRINE_TEST
enum { UNBIND_SECONDS = 3, BIND_SECONDS = 5, MODULE_SECONDS = 5 }; // a busy computer is no driver that hangs
#else
// A driver stops in milliseconds; one that waits for its last user waits for ever. A graphics card's probe takes seconds.
enum { UNBIND_SECONDS = 10, BIND_SECONDS = 30, MODULE_SECONDS = 30 };
#endif

static bool has_driver(const char *driver) {
    const int fd = open_beneath(sys_root, path_of("bus/pci/drivers/%s", driver), O_PATH | O_DIRECTORY);
    if (fd >= 0) close(fd);
    return fd >= 0;
}

struct search {
    const struct lease *own;
    const char *address;
    int group; // -1: any
    bool found, alive;
    uid_t uid;
};

static bool is_in_group(const char *address, unsigned group) {
    char name[NAME_SIZE];
    uint64_t number;
    return link_name(sys_root, path_of("bus/pci/devices/%s/iommu_group", address), name, sizeof name) && parse_number(name, strlen(name), 99999, &number) && number == group;
}

static bool has_device(struct lease *lease, bool alive, void *context) {
    struct search *const search = context;
    const bool own = search->own != NULL && strcmp(search->own->name, lease->name) == 0;
    for (size_t i = 0; i < lease->device_count && !search->found && !own; i++) {
        const struct leased_device *const device = lease->devices + i;
        if (device->back) continue;
        search->found = search->group < 0 ? strcmp(device->address, search->address) == 0 : is_in_group(device->address, (unsigned)search->group);
    }
    search->uid = lease->uid;
    search->alive = alive;
    close_lease(lease);
    return !search->found;
}

// Whether another lease has the device: then it is its owner's to use, and nobody's to take.
static int refuse_if_leased(const struct lease *own, const char *address) {
    struct search search = { .own = own, .address = address, .group = -1 };
    if (each_lease(has_device, &search) != 0) return -1;
    if (!search.found) return 0;
    if (search.uid != own->uid) return refuse("leased", "%s is bound for another user of this computer (uid %u)", address, search.uid);
    return search.alive ? refuse("leased", "%s is already held for another machine", address) : 0;
}

// Whether any lease has the device, kept or held.
int refuse_if_given(const char *address) {
    struct search search = { .address = address, .group = -1 };
    if (each_lease(has_device, &search) != 0) return -1;
    return search.found ? refuse("leased", "%s is given to a machine, or kept for one", address) : 0;
}

// All that forbids giving the device away.
static int may_bind(const struct lease *lease, const char *address, struct device *device) {
    if (read_device(address, device) != 0) return -1;
    if (!device->answers) return refuse("vanished", "%s does not answer: its configuration reads as all ones", address);
    if (device->bridge) return refuse("bridge", "%s is a bridge: what lies behind it can be given away, it itself cannot", address);
    if (device->group < 0) return refuse("no-group", "%s is in no IOMMU group: the IOMMU is off, or does not see it", address);
    if (device->functions > 0) return refuse("virtual-functions", "%s has %u virtual functions, which would vanish with its driver", address, device->functions);
    if (refuse_if_used(device) != 0) return -1;
    return refuse_if_leased(lease, address);
}

int plan_device(const struct lease *lease, const char *address) {
    struct device device;
    if (may_bind(lease, address, &device) != 0) return -1;
    if (strcmp(device.driver, VFIO_DRIVER) == 0) return 0;
    if (!has_driver(VFIO_DRIVER)) say("step", "module " VFIO_DRIVER);
    if (strcmp(device.override, VFIO_DRIVER) != 0) say("step", "override %s %s", address, device.override[0] == 0 ? "-" : device.override);
    if (device.driver[0] != 0) say("step", "unbind %s %s", address, device.driver);
    say("step", "bind %s " VFIO_DRIVER, address);
    return 0;
}

int load_module(const char *name) {
    const int error = bounded_module(name, MODULE_SECONDS);
    if (error == STEP_HUNG) return refuse("hang", "the kernel does not come to an end with loading the module %s", name);
    if (error != 0) return refuse("module", "the module %s cannot be loaded", name);
    return 0;
}

// One step on a device: written down, then done within its time.
static int step(struct lease *lease, const char *address, const char *what, const char *path, const char *text, int seconds) {
    int child = 0;
    if (record(lease, "begun %s %s", address, what) != 0) return -1;
    const int error = bounded_write(path, text, seconds, &child);
    crash_point();
    if (error == 0) return 0;
    if (error != STEP_HUNG) return refuse("step", "the kernel refuses to %s %s: %s", what, address, strerror(error));
    const uint64_t start = start_of(child);
    if (start != 0) record(lease, "stuck %s %d %llu", address, child, (unsigned long long)start);
    return refuse("hang", "%s does not come free: its driver did not let go of it in %d seconds. Whatever uses it must end; it goes back to its driver then", address, seconds);
}

static const char *or_none(const char *name) { return name[0] == 0 ? "-" : name; }

static int do_bind(struct lease *lease, const struct device *was) {
    struct device now;
    const char *const address = was->address;
    if (record(lease, "device %s %04x:%04x %s %s", address, was->vendor, was->product, or_none(was->override), or_none(was->driver)) != 0) return -1;
    if (strcmp(was->override, VFIO_DRIVER) != 0 && step(lease, address, "override", path_of("bus/pci/devices/%s/driver_override", address), VFIO_DRIVER, UNBIND_SECONDS) != 0) return -1;
    if (was->driver[0] != 0 && step(lease, address, "unbind", path_of("bus/pci/drivers/%s/unbind", was->driver), address, UNBIND_SECONDS) != 0) return -1;
    if (step(lease, address, "bind", "bus/pci/drivers_probe", address, BIND_SECONDS) != 0) return -1;
    if (read_device(address, &now) != 0) return -1;
    if (strcmp(now.driver, VFIO_DRIVER) != 0) return refuse("bind", "vfio-pci does not take %s; the kernel's log (dmesg) says why", address);
    return 0;
}

// Gives a device to vfio-pci. When that fails half-way, it gets back what it had, as far as it goes at once.
int bind_device(struct lease *lease, const char *address) {
    struct device device;
    if (may_bind(lease, address, &device) != 0) return -1;
    if (leased(lease, address) != NULL && strcmp(device.driver, VFIO_DRIVER) != 0) return refuse("stuck", "%s is on its way back to its driver", address);
    if (strcmp(device.driver, VFIO_DRIVER) == 0) return 0; // nothing to change, so nothing to undo
    if (!has_driver(VFIO_DRIVER)) {
        if (record(lease, "module " VFIO_DRIVER) != 0 || load_module(VFIO_DRIVER) != 0) return -1;
        if (!has_driver(VFIO_DRIVER)) return refuse("module", "the kernel has no vfio-pci");
    }
    if (do_bind(lease, &device) == 0) return 0;
    struct leased_device *const was = leased(lease, address);
    if (was != NULL) give_back_device(lease, was);
    return -1;
}

// ---- a group's node ----

struct members {
    char odd[PATH_SIZE]; // the first that is not on vfio-pci, and why
    size_t ours;
};

static bool check_member(const char *name, void *context) {
    struct members *const members = context;
    struct device device;
    if (!is_address(name, strlen(name))) {
        snprintf(members->odd, sizeof members->odd, "%.64s in it is no PCI device", name);
        return false;
    }
    if (read_device(name, &device) != 0) {
        members->odd[0] = 1; // refused already
        return false;
    }
    if (strcmp(device.driver, VFIO_DRIVER) == 0) members->ours++;
    else if (!device.bridge) snprintf(members->odd, sizeof members->odd, device.driver[0] == 0 ? "%s in it has no driver" : "%s in it has the driver %s", name, device.driver);
    return members->odd[0] == 0;
}

static struct leased_group *leased_group(struct lease *lease, unsigned number) {
    for (size_t i = 0; i < lease->group_count; i++) {
        if (!lease->groups[i].back && lease->groups[i].number == number) return lease->groups + i;
    }
    return NULL;
}

// Gives the node of a group to the user. Only when all of the group is on vfio-pci, bridges aside: whoever opens the node can have every
// device of it write wherever that device can.
int permit_group(struct lease *lease, unsigned number) {
    struct members members = { .odd = "" };
    struct stat node;
    if (list_folder(sys_root, path_of("kernel/iommu_groups/%u/devices", number), check_member, &members) < 0) return refuse("no-group", "there is no IOMMU group %u", number);
    if (members.odd[0] == 1) return -1;
    if (members.odd[0] != 0) return refuse("not-viable", "group %u is not wholly on vfio-pci: %s", number, members.odd);
    if (members.ours == 0) return refuse("not-viable", "group %u has no device on vfio-pci", number);
    struct search search = { .own = lease, .group = (int)number };
    if (each_lease(has_device, &search) != 0) return -1;
    if (search.found && search.uid != lease->uid) return refuse("leased", "group %u is given to another user of this computer (uid %u)", number, search.uid);
    if (fstatat(dev_root, path_of("vfio/%u", number), &node, AT_SYMLINK_NOFOLLOW) != 0) return refuse("no-node", "/dev/vfio/%u is not there: %s", number, strerror(errno));
    if (leased_group(lease, number) != NULL || (node.st_uid == lease->uid && (node.st_mode & 0600) == 0600)) return 0;
    if (record(lease, "group %u %u %u %o", number, node.st_uid, node.st_gid, node.st_mode & 07777) != 0) return -1;
    const int error = effect_owner(number, lease->uid, node.st_gid, (node.st_mode & 0777) | 0600);
    crash_point();
    return error == 0 ? 0 : refuse("step", "/dev/vfio/%u cannot be given to you: %s", number, strerror(error));
}

enum undone give_back_group(struct lease *lease, struct leased_group *was) {
    struct stat node;
    // The kernel makes the node anew when a device is bound: one that is not the user's any more is not the one that was given.
    const bool there = fstatat(dev_root, path_of("vfio/%u", was->number), &node, AT_SYMLINK_NOFOLLOW) == 0 && node.st_uid == lease->uid;
    const int error = there ? effect_owner(was->number, was->uid, was->gid, was->mode) : 0;
    crash_point();
    if (error != 0 && error != ENOENT) {
        refuse("undo", "/dev/vfio/%u cannot be taken back: %s", was->number, strerror(error));
        return NOT_UNDONE;
    }
    return record(lease, "back group %u", was->number) == 0 ? UNDONE : NOT_UNDONE;
}

// ---- giving back ----

static int set_override(const char *address, const char *driver) {
    int child;
    const int error = bounded_write(path_of("bus/pci/devices/%s/driver_override", address), driver[0] == 0 ? "\n" : driver, UNBIND_SECONDS, &child);
    crash_point();
    return error;
}

static enum undone not_undone(const char *address, const char *what, int error) {
    refuse("undo", "%s: %s: %s", address, what, error == STEP_HUNG ? "it does not come to an end" : strerror(error));
    return NOT_UNDONE;
}

static enum undone let_go_of_vfio(struct lease *lease, const struct device *now) {
    int child = 0;
    if (now->group >= 0 && !group_is_free((unsigned)now->group)) return STILL_USED;
    const int error = bounded_write("bus/pci/drivers/" VFIO_DRIVER "/unbind", now->address, UNBIND_SECONDS, &child);
    crash_point();
    if (error == 0) return UNDONE;
    if (error != STEP_HUNG) return not_undone(now->address, "vfio-pci does not let go of it", error);
    const uint64_t start = start_of(child); // somebody opened it a moment ago, and the kernel waits for the end of that
    if (start != 0) record(lease, "stuck %s %d %llu", now->address, child, (unsigned long long)start);
    return STILL_USED;
}

static int bind_to(const char *address, const char *driver) {
    int child;
    int error = bounded_write(path_of("bus/pci/drivers/%s/bind", driver), address, BIND_SECONDS, &child);
    crash_point();
    if (error != 0 && error != STEP_HUNG) error = bounded_write("bus/pci/drivers_probe", address, BIND_SECONDS, &child);
    return error;
}

// What the device had is what it gets, if it is still as we left it. STILL_USED while its group is open somewhere.
enum undone give_back_device(struct lease *lease, struct leased_device *was) {
    struct device now;
    if (was->stuck != 0 && start_of(was->stuck) == was->stuck_start) return STILL_USED;
    const bool there = device_exists(was->address);
    if (there && read_device(was->address, &now) != 0) return NOT_UNDONE;
    // Taken out of the computer, or another one sits in its place.
    const bool same = there && now.vendor == was->vendor && now.product == was->product;
    const bool ours = same && strcmp(now.driver, VFIO_DRIVER) == 0 && (was->begun & BEGUN_BIND) != 0;
    if (ours) {
        const enum undone free = let_go_of_vfio(lease, &now);
        if (free != UNDONE) return free;
    }
    const bool bound = same && !ours && now.driver[0] != 0;
    const bool rebind = same && !bound && was->driver[0] != 0 && (was->begun & BEGUN_UNBIND) != 0;
    const bool reset = same && (was->begun & BEGUN_OVERRIDE) != 0 && (strcmp(now.override, VFIO_DRIVER) == 0 || (was->driver[0] != 0 && strcmp(now.override, was->driver) == 0));
    // An override that names a third driver would keep the device from its own: that one is named first.
    const bool detour = rebind && was->override[0] != 0 && strcmp(was->override, was->driver) != 0;
    int error = 0;
    if (detour) error = set_override(was->address, was->driver);
    else if (reset) error = set_override(was->address, was->override);
    if (error != 0) return not_undone(was->address, "its driver_override cannot be set back", error);
    if (rebind) error = bind_to(was->address, was->driver);
    if (detour && error == 0) error = set_override(was->address, was->override);
    if (error != 0) return not_undone(was->address, "its driver does not take it back", error);
    if (rebind && (read_device(was->address, &now) != 0 || strcmp(now.driver, was->driver) != 0)) return not_undone(was->address, "its driver does not take it back", ENODEV);
    return record(lease, "back device %s", was->address) == 0 ? UNDONE : NOT_UNDONE;
}

// What is still used will be free one day, and is waited for; what could not be undone is tried by the next helper.
static enum undone worse(enum undone a, enum undone b) { return a == STILL_USED || b == UNDONE ? a : b; }

// One attempt at undoing all of a lease, the last change first. Permissions go at once, so that nobody new gets in.
enum undone undo_lease(struct lease *lease) {
    enum undone result = UNDONE;
    for (size_t i = lease->group_count; i-- > 0;) {
        if (!lease->groups[i].back) result = worse(result, give_back_group(lease, lease->groups + i));
    }
    for (size_t i = lease->device_count; i-- > 0;) {
        struct leased_device *const device = lease->devices + i;
        if (device->back) continue;
        const enum undone one = device->failed ? NOT_UNDONE : give_back_device(lease, device);
        device->failed = one == NOT_UNDONE;
        result = worse(result, one);
    }
    for (size_t i = lease->limit_count; i-- > 0;) {
        if (!lease->limits[i].back) result = worse(result, give_back_limit(lease, lease->limits + i));
    }
    return result;
}
