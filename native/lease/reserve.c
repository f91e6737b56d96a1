// cc: program vitrine-helper
// A card that vfio-pci has from the computer's start, so that no driver of the host ever touches it. modprobe.d(5): vfio-pci is loaded before
// the drivers of the card's functions (softdep), and takes them by their ids. All `options` lines for a module are put together, and of
// several `ids=` the last counts; so there is one file for all cards, made from what is written down:
//
//   /etc/modprobe.d/vitrine.conf     softdep amdgpu pre: vfio-pci
//                                    options vfio-pci ids=1002:7480,1002:ab30
//
// then the initramfs is made anew, because that is where drivers are loaded from. mkinitcpio and dracut are told by a file each to take vfio-pci
// in; update-initramfs finds it by the softdep. Ids do not tell twins apart: a card with one is refused. It
// is written down first, with `initramfs due` until that is made: whatever is cut off is done again by the next reserve or unreserve.
#include "helper.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#define TOP "/etc"
#define FOLDER "modprobe.d"
#define FILE_NAME "vitrine.conf"

enum { SLOT = 10, DISPLAY_CLASS = 0x03, MAX_CONF = 16 * 1024 }; // "0000:03:00"

static bool same_slot(const char *a, const char *b) { return memcmp(a, b, SLOT) == 0; }

static bool class_of(const char *address, unsigned *class_code) {
    if (!read_hex(address, "class", class_code)) return false;
    *class_code >>= 16;
    return true;
}

static bool is_virtual(const char *address) {
    char name[NAME_SIZE];
    return link_name(sys_root, path_of("bus/pci/devices/%s/physfn", address), name, sizeof name);
}

// ---- what forbids it ----

struct survey {
    struct reserved *card;
    size_t count;
    const char *slot;
    bool display, other_display, odd;
    char twin[ADDRESS_SIZE];
};

static bool look_for_twins(const char *name, void *context) {
    struct survey *const survey = context;
    unsigned vendor, product, class_code;
    if (!is_address(name, strlen(name)) || !read_hex(name, "vendor", &vendor) || !read_hex(name, "device", &product) || !class_of(name, &class_code)) {
        survey->odd = true;
        return true;
    }
    const bool own = same_slot(name, survey->slot);
    if (class_code == DISPLAY_CLASS && own) survey->display = true;
    if (class_code == DISPLAY_CLASS && !own && !is_virtual(name)) survey->other_display = true;
    for (size_t i = 0; i < survey->count && !own; i++) {
        if (survey->card[i].function.vendor == vendor && survey->card[i].function.product == product) strcpy(survey->twin, name);
    }
    return true;
}

struct own_driver {
    const char *address;
    char *driver;
};

static bool find_own_driver(struct lease *lease, bool alive, void *context) {
    (void)alive;
    struct own_driver *const search = context;
    const struct leased_device *const device = leased(lease, search->address);
    if (device != NULL) strcpy(search->driver, device->driver);
    close_lease(lease);
    return device == NULL;
}

// The module of the host's driver, which may be away just now. -1 when that is a part of the kernel: then it is there before vfio-pci.
static int find_module(const struct device *device, char *module) {
    char driver[NAME_SIZE] = "", state_of[32];
    if (strcmp(device->driver, VFIO_DRIVER) != 0) strcpy(driver, device->driver);
    else {
        struct own_driver search = { device->address, driver };
        if (each_lease(find_own_driver, &search) != 0) return -1;
    }
    module[0] = 0;
    if (driver[0] == 0) return 0;
    // "xhci_hcd" is of the module xhci_pci
    if (!link_name(sys_root, path_of("bus/pci/drivers/%s/module", driver), module, NAME_SIZE)) strcpy(module, driver);
    else if (read_text(sys_root, path_of("module/%s/initstate", module), state_of, sizeof state_of) < 0) {
        return refuse("built-in", "the driver %s of %s is a part of this kernel and takes it before vfio-pci can", driver, device->address);
    }
    return is_name(module, strlen(module)) ? 0 : refuse("odd", "the module of the driver %s has an odd name", driver);
}

// The functions of the card at the address, bridges aside, each of which the host can do without.
static int survey_card(const char *address, struct survey *survey) {
    struct device device;
    if (read_device(address, &device) != 0) return -1;
    if (device.bridge) return refuse("bridge", "%s is a bridge: what lies behind it can be reserved, it itself cannot", address);
    for (unsigned function = 0; function < 8; function++) {
        char name[ADDRESS_SIZE];
        snprintf(name, sizeof name, "%.*s.%u", SLOT, address, function & 7);
        if (!device_exists(name)) continue;
        if (read_device(name, &device) != 0) return -1;
        if (!device.answers) return refuse("vanished", "%s does not answer: its configuration reads as all ones", name);
        if (device.bridge) continue;
        if (is_virtual(name)) return refuse("virtual", "%s is a virtual function, which is not there when the computer starts", name);
        if (device.functions > 0) return refuse("virtual-functions", "%s has %u virtual functions, which would vanish with its driver", name, device.functions);
        if (refuse_if_used(&device) != 0) return -1;
        struct reserved *const one = survey->card + survey->count++;
        *one = (struct reserved){ .function = { .vendor = device.vendor, .product = device.product } };
        strcpy(one->function.address, name);
        if (find_module(&device, one->module) != 0) return -1;
    }
    survey->slot = address;
    if (list_folder(sys_root, "bus/pci/devices", look_for_twins, survey) < 0 || survey->odd) return refuse("unclear", "the PCI devices cannot all be looked at, so it is unclear whether others are like %s", address);
    if (survey->twin[0] != 0) return refuse("twin", "%s is like %s, and what is reserved by its ids takes both", survey->twin, address);
    if (survey->display && !survey->other_display) return refuse("only-display", "%s is the only graphics card: this computer would have no picture from its start on", address);
    return 0;
}

// Whether somebody else gives vfio-pci ids: only one such line counts, and it may be theirs or ours.
static bool sets_ids(const char *name, void *context) {
    char *const found = context;
    static char text[MAX_CONF];
    const size_t length = strlen(name);
    // Ours is somebody else's when nothing of it is written down.
    if ((strcmp(name, FILE_NAME) == 0 && (state.reserved_count > 0 || state.due)) || length < 5 || strcmp(name + length - 5, ".conf") != 0) return true;
    const int etc = open_top(TOP);
    const ssize_t size = etc < 0 ? -1 : read_text(etc, path_of(FOLDER "/%.200s", name), text, sizeof text);
    if (etc >= 0) close(etc);
    for (char *line = text, *next; size > 0 && line != NULL; line = next) {
        next = strchr(line, '\n');
        if (next != NULL) *next++ = 0;
        char *words[3];
        char *save;
        size_t count = 0;
        for (char *word = strtok_r(line, " \t", &save); word != NULL && count < 3; word = strtok_r(NULL, count == 2 ? "" : " \t", &save)) words[count++] = word;
        const bool vfio = count == 3 && strcmp(words[0], "options") == 0 && (strcmp(words[1], "vfio-pci") == 0 || strcmp(words[1], "vfio_pci") == 0);
        if (vfio && strstr(words[2], "ids=") != NULL) snprintf(found, NAME_SIZE, "%.60s", name);
    }
    return found[0] == 0;
}

static int refuse_if_others_reserve(void) {
    static char text[MAX_CONF];
    char found[NAME_SIZE] = "";
    const int etc = open_top(TOP);
    if (etc < 0) return refuse("host", TOP " cannot be opened: %s", strerror(errno));
    list_folder(etc, FOLDER, sets_ids, found);
    close(etc);
    if (found[0] != 0) return refuse("foreign-ids", "/etc/modprobe.d/%s already says which ids vfio-pci takes, and only one such line counts: add this card to that one, or take it out there", found);
    if (read_text(proc_root, "cmdline", text, sizeof text) > 0 && (strstr(text, "vfio-pci.ids=") != NULL || strstr(text, "vfio_pci.ids=") != NULL)) {
        return refuse("foreign-ids", "the kernel's command line already says which ids vfio-pci takes (vfio-pci.ids=), and only one such list counts: add this card there");
    }
    return 0;
}

// ---- doing it ----

// Whether the initramfs has vfio-pci (mkinitcpio.conf(5), dracut.conf(5)): without it, a driver in there would be first.
static int write_drop_ins(void) {
    static const struct {
        const char *program, *folder, *text;
    } drop_ins[] = { { "mkinitcpio", "mkinitcpio.conf.d", "MODULES+=(vfio_pci)\n" }, { "dracut", "dracut.conf.d", "force_drivers+=\" vfio-pci \"\n" } };
    const char *const program = initramfs_program();
    for (size_t i = 0; i < sizeof drop_ins / sizeof *drop_ins; i++) {
        const bool wanted = state.reserved_count > 0 && program != NULL && strcmp(program, drop_ins[i].program) == 0;
        const int folder = open_own_folder(TOP, drop_ins[i].folder, wanted);
        if (folder == NOT_THERE) continue;
        if (folder < 0) return -1;
        const int error = wanted ? replace_file(folder, FILE_NAME, 0644, drop_ins[i].text, strlen(drop_ins[i].text)) : remove_file(folder, FILE_NAME);
        close(folder);
        if (error != 0) return refuse("write", TOP "/%s/" FILE_NAME " cannot be written: %s", drop_ins[i].folder, strerror(error));
    }
    return 0;
}

static size_t append(char *text, size_t length, const char *format, const char *word) {
    const int size = snprintf(text + length, MAX_CONF - length, format, word);
    return size < 0 || (size_t)size >= MAX_CONF - length ? length : length + (size_t)size;
}

// The files as what is written down wants them.
static int write_conf(void) {
    static char text[MAX_CONF];
    if (write_drop_ins() != 0) return -1;
    const int folder = open_own_folder(TOP, FOLDER, state.reserved_count > 0);
    if (folder < 0) return folder == NOT_THERE ? 0 : -1;
    size_t length = append(text, 0, "%s", "# Made by Vitrine: cards that vfio-pci has from the computer's start. `vitrine-helper unreserve ADDRESS` takes them out.\n");
    for (size_t i = 0; i < state.reserved_count; i++) {
        const char *const module = state.reserved[i].module;
        bool again = module[0] == 0;
        for (size_t j = 0; j < i; j++) again = again || strcmp(state.reserved[j].module, module) == 0;
        if (!again) length = append(text, length, "softdep %s pre: " VFIO_DRIVER "\n", module);
    }
    length = append(text, length, "%s", "options " VFIO_DRIVER " ids=");
    bool first = true;
    for (size_t i = 0; i < state.reserved_count; i++) {
        const struct identity *const one = &state.reserved[i].function;
        bool again = false;
        for (size_t j = 0; j < i; j++) again = again || (state.reserved[j].function.vendor == one->vendor && state.reserved[j].function.product == one->product);
        if (!again) length = append(text, length, first ? "%s" : ",%s", path_of("%04x:%04x", one->vendor, one->product));
        first = false;
    }
    length = append(text, length, "%s", "\n");
    const int error = state.reserved_count == 0 ? remove_file(folder, FILE_NAME) : replace_file(folder, FILE_NAME, 0644, text, length);
    close(folder);
    crash_point();
    return error == 0 ? 0 : refuse("write", "/etc/modprobe.d/" FILE_NAME " cannot be written: %s", strerror(error));
}

static void drop_slot(const char *address) {
    size_t left = 0;
    for (size_t i = 0; i < state.reserved_count; i++) {
        if (!same_slot(state.reserved[i].function.address, address)) state.reserved[left++] = state.reserved[i];
    }
    state.reserved_count = left;
}

static bool has_slot(const char *address) {
    for (size_t i = 0; i < state.reserved_count; i++) {
        if (same_slot(state.reserved[i].function.address, address)) return true;
    }
    return false;
}

// One at a time changes what counts from start-up, for as long as the initramfs takes; others may lease meanwhile.
static int lock_startup(void) {
    const int fd = open_beneath(run_root, "vitrine", O_RDONLY | O_DIRECTORY);
    const int lock = fd < 0 ? -1 : openat(fd, "startup", O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd >= 0) close(fd);
    if (lock < 0) return refuse("journal", "/run/vitrine/startup cannot be opened: %s", strerror(errno));
    if (flock(lock, LOCK_EX | LOCK_NB) == 0) return lock;
    close(lock);
    return refuse("busy", "another helper is just making the start-up files anew");
}

// With the lock of start-up: the file and the initramfs as `state` says, which is written down already. The host's lock is held at the
// beginning and at the end, and not meanwhile.
static int bring_about(void) {
    if (write_conf() != 0) return -1;
    unlock_host();
    const int made = make_initramfs();
    if (lock_host() != 0 || load_state() != 0) return -1;
    if (made != 0) return -1;
    state.due = false;
    return save_state();
}

// Under both locks.
static int reserve(const char *address) {
    static struct reserved card[8];
    struct survey survey = { .card = card };
    if (load_state() != 0) return -1;
    if (has_slot(address) && !state.due) return 0;
    if (initramfs_program() == NULL) return refuse("no-initramfs", "none of update-initramfs, mkinitcpio and dracut is installed, so the start-up files of this computer cannot be made anew");
    if (survey_card(address, &survey) != 0 || refuse_if_others_reserve() != 0) return -1;
    drop_slot(address);
    if (state.reserved_count + survey.count > MAX_RESERVED) return refuse("too-many", "at most %d functions of cards can be reserved", MAX_RESERVED);
    for (size_t i = 0; i < survey.count; i++) state.reserved[state.reserved_count++] = card[i];
    state.due = true;
    if (save_state() != 0) return -1;
    if (bring_about() == 0) {
        for (size_t i = 0; i < survey.count; i++) say("reserved", "%s %04x:%04x", card[i].function.address, card[i].function.vendor, card[i].function.product);
        return 0;
    }
    if (host_lock < 0) return -1;
    // The old initramfs is in place, or a part of them is new: it stays due.
    drop_slot(address);
    if (save_state() == 0) write_conf();
    return -1;
}

static int unreserve(const char *address) {
    if (load_state() != 0) return -1;
    if (address != NULL && !has_slot(address) && !state.due) return refuse("no-record", "%s is not reserved by Vitrine", address);
    if (address == NULL && state.reserved_count == 0 && !state.due) return 0;
    if (address != NULL) drop_slot(address);
    else state.reserved_count = 0;
    state.due = true;
    return save_state() == 0 ? bring_about() : -1;
}

static int under_locks(int (*work)(const char *address), const char *address) {
    const int lock = lock_startup();
    if (lock < 0) return EXIT_REFUSED;
    int result = lock_host();
    if (result == 0) result = work(address);
    if (host_lock >= 0) unlock_host();
    close(lock);
    if (result != 0) return EXIT_REFUSED;
    say("ok", "%s", "");
    return EXIT_DONE;
}

int run_reserve(const char *address) { return under_locks(reserve, address); }

int run_unreserve(const char *address) { return under_locks(unreserve, address); }

// With the host's lock held, which is free in between.
int unreserve_all(void) {
    const int lock = lock_startup();
    if (lock < 0) return -1;
    const int result = unreserve(NULL);
    close(lock);
    return result;
}
