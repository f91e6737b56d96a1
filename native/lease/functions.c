// cc: program vitrine-helper
// The number of virtual functions of an SR-IOV card (Documentation/PCI/pci-iov-howto.rst). The kernel forgets it with the next start of the
// computer, so what is written down about it is void then. A number that is not 0 can only be changed by way of 0, which takes all
// virtual functions away: none may be in use, by a machine or by the host.
#include "helper.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifdef VITRINE_TEST
enum { FUNCTIONS_SECONDS = 4 };
#else
enum { FUNCTIONS_SECONDS = 60 }; // the kernel waits for each one's driver
#endif

static struct numbered *numbered(const char *address) {
    for (size_t i = 0; i < state.card_count; i++) {
        if (strcmp(state.cards[i].card.address, address) == 0) return state.cards + i;
    }
    return NULL;
}

static int forget(struct numbered *card) {
    *card = state.cards[--state.card_count];
    return save_state();
}

// ---- whether the host's network goes by a virtual function ----

static bool is_upper(const char *name, void *context) {
    bool *const found = context;
    *found = strncmp(name, "upper_", 6) == 0;
    return !*found;
}

// Whether the link has a line in a table of the kernel: its name is the first word there, or the last one of if_inet6.
static bool is_listed(const char *path, const char *link, bool ipv6) {
    char words[6][64];
    const int fd = open_beneath(proc_root, path, O_RDONLY);
    FILE *const file = fd < 0 ? NULL : fdopen(fd, "r");
    if (file == NULL && fd >= 0) close(fd);
    if (file == NULL) return false;
    char *line = NULL;
    size_t size = 0;
    bool found = false;
    while (!found && getline(&line, &size, file) > 0) {
        const int count = sscanf(line, "%63s %63s %63s %63s %63s %63s", words[0], words[1], words[2], words[3], words[4], words[5]);
        if (ipv6) found = count == 6 && strcmp(words[5], link) == 0 && strcmp(words[3], "00") == 0; // scope 00: more than the link itself
        else found = count >= 2 && strcmp(words[0], link) == 0;
    }
    free(line);
    fclose(file);
    return found;
}

struct links {
    const char *address;
    char used[NAME_SIZE];
};

static bool look_at_link(const char *name, void *context) {
    struct links *const links = context;
    bool upper = false;
    if (!is_name(name, strlen(name))) return true;
    list_folder(sys_root, path_of("bus/pci/devices/%s/net/%s", links->address, name), is_upper, &upper);
    // A route by it (route(8)), an IPv6 address that others know, or a bridge or bond that it is a part of.
    if (upper || is_listed("self/net/route", name, false) || is_listed("self/net/if_inet6", name, true)) strcpy(links->used, name);
    return links->used[0] == 0;
}

static int refuse_if_function_used(const char *address) {
    struct device device;
    struct links links = { .address = address, .used = "" };
    if (read_device(address, &device) != 0 || refuse_if_given(address) != 0 || refuse_if_used(&device) != 0) return -1;
    if (strcmp(device.driver, VFIO_DRIVER) == 0 && device.group >= 0 && !group_is_free((unsigned)device.group)) return refuse("in-use", "the virtual function %s is in use by a machine", address);
    list_folder(sys_root, path_of("bus/pci/devices/%s/net", address), look_at_link, &links);
    return links.used[0] == 0 ? 0 : refuse("in-use", "this computer's network uses the virtual function %s, as %s", address, links.used);
}

static int refuse_if_any_used(const struct device *card) {
    for (unsigned i = 0; i < card->functions; i++) {
        char name[NAME_SIZE];
        if (!link_name(sys_root, path_of("bus/pci/devices/%s/virtfn%u", card->address, i), name, sizeof name) || !is_address(name, strlen(name))) {
            return refuse("odd", "the virtual functions of %s cannot all be looked at", card->address);
        }
        if (refuse_if_function_used(name) != 0) return -1;
    }
    return 0;
}

// ---- setting it ----

static int write_number(const char *address, unsigned count) {
    char text[16];
    int child;
    snprintf(text, sizeof text, "%u", count);
    const int error = bounded_write(path_of("bus/pci/devices/%s/sriov_numvfs", address), text, FUNCTIONS_SECONDS, &child);
    crash_point();
    return error;
}

static int change(unsigned now, unsigned count, const char *address) {
    int error = now == 0 ? 0 : write_number(address, 0);
    if (error == 0 && count != 0) error = write_number(address, count);
    return error;
}

// What is there after a step that failed is set back as far as it can be; what cannot stays written down.
static int set_back(const struct device *before, unsigned count, int error) {
    struct device now;
    const bool hung = error == STEP_HUNG;
    if (!hung && read_device(before->address, &now) == 0 && now.functions != before->functions) change(now.functions, before->functions, before->address);
    struct numbered *const card = numbered(before->address);
    if (!hung && card != NULL && card->before == before->functions && read_device(before->address, &now) == 0 && now.functions == before->functions) forget(card);
    if (hung) return refuse("hang", "the driver of %s does not come to an end with making %u virtual functions", before->address, count);
    return refuse("step", "the driver of %s does not make %u virtual functions: %s", before->address, count, strerror(error));
}

// Under the lock of all helpers, with `state` loaded. `restore`: the number that it had before the first change.
int set_functions(const char *address, unsigned count, bool restore) {
    struct device device;
    char text[32];
    uint64_t total;
    struct numbered *card = numbered(address);
    if (card != NULL && !device_exists(address)) return restore ? forget(card) : refuse("no-device", "there is no PCI device %s", address);
    if (read_device(address, &device) != 0) return -1;
    if (card != NULL && (card->card.vendor != device.vendor || card->card.product != device.product)) {
        if (forget(card) != 0) return -1; // another card sits there
        card = NULL;
    }
    if (restore && card == NULL) return refuse("no-record", "the number of virtual functions of %s is as it was", address);
    if (restore) count = card->before;
    if (read_text(sys_root, path_of("bus/pci/devices/%s/sriov_totalvfs", address), text, sizeof text) <= 0 || !parse_number(text, strlen(text), 65535, &total) || total == 0) {
        return refuse("no-sriov", "%s cannot have virtual functions: it is no SR-IOV card", address);
    }
    if (count > total) return refuse("functions", "%s can have at most %u virtual functions", address, (unsigned)total);
    const unsigned before = card == NULL ? device.functions : card->before;
    if (count != device.functions) {
        if (device.driver[0] == 0) return refuse("no-driver", "%s has no driver, which would have to make its virtual functions", address);
        if (strcmp(device.driver, VFIO_DRIVER) == 0) return refuse("leased", "%s itself is given to a machine, or kept for one", address);
        if (refuse_if_any_used(&device) != 0) return -1;
        if (card == NULL) {
            if (state.card_count == MAX_CARDS) return refuse("too-many", "at most %d cards have a number of virtual functions that is Vitrine's", MAX_CARDS);
            card = state.cards + state.card_count++;
            *card = (struct numbered){ .card = { .vendor = device.vendor, .product = device.product }, .before = before };
            strcpy(card->card.address, address);
            if (save_state() != 0) return -1;
        }
        const int error = change(device.functions, count, address);
        if (error != 0) return set_back(&device, count, error);
    }
    say("functions", "%s %u %u", address, count, before);
    return card != NULL && count == card->before ? forget(card) : 0;
}

// Every card has the number that it had, or the request is refused.
int restore_all_functions(void) {
    while (state.card_count > 0) {
        char address[ADDRESS_SIZE];
        strcpy(address, state.cards[state.card_count - 1].card.address);
        if (set_functions(address, 0, true) != 0) return -1;
    }
    return 0;
}
