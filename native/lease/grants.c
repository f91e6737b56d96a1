// cc: program vitrine-helper
// Grants: what the person has allowed a machine of theirs without a password from now on. A grant names devices by address and by what sits
// there, and how much memory may be locked. A lease that rests on one (`granted`) is refused everything that it does not name: polkit asks
// nobody for it, so this file is all that stands between the user's programs and the host's devices.
#include "helper.h"
#include <stdio.h>
#include <string.h>

static struct grant *find_grant(uid_t uid, const char *machine) {
    for (size_t i = 0; i < state.grant_count; i++) {
        if (state.grants[i].uid == uid && strcmp(state.grants[i].machine, machine) == 0) return state.grants + i;
    }
    return NULL;
}

const struct grant *grant_of(uid_t uid, const char *machine) { return find_grant(uid, machine); }

// In the place of what this machine was granted before. Under the lock of all helpers, with `state` loaded.
int set_grant(const struct request *request) {
    static struct grant grant;
    memset(&grant, 0, sizeof grant);
    grant.uid = caller.uid;
    strcpy(grant.machine, request->machine);
    grant.bytes = request->bytes;
    for (size_t i = 0; i < request->address_count; i++) {
        struct device device;
        if (read_device(request->address[i], &device) != 0) return -1;
        if (device.bridge) return refuse("bridge", "%s is a bridge, which no machine can be given", device.address);
        for (size_t j = 0; j < grant.count; j++) {
            if (strcmp(grant.devices[j].address, device.address) == 0) return refuse("odd", "%s is named twice", device.address);
        }
        struct identity *const one = grant.devices + grant.count++;
        *one = (struct identity){ .vendor = device.vendor, .product = device.product };
        strcpy(one->address, device.address);
    }
    struct grant *there = find_grant(caller.uid, request->machine);
    if (there == NULL && state.grant_count == MAX_GRANTS) return refuse("too-many", "at most %d machines have such a permission: revoke one of them first", MAX_GRANTS);
    if (there == NULL) there = state.grants + state.grant_count++;
    *there = grant;
    return save_state();
}

// The user's own; by sudo, everybody's for this machine. What runs goes on.
int revoke_grant(const char *machine) {
    size_t left = 0, gone = 0;
    for (size_t i = 0; i < state.grant_count; i++) {
        const bool meant = strcmp(state.grants[i].machine, machine) == 0 && (caller.administrator || state.grants[i].uid == caller.uid);
        if (meant) gone++;
        else state.grants[left++] = state.grants[i];
    }
    state.grant_count = left;
    return gone == 0 ? refuse("no-record", "nothing was allowed for the machine %s", machine) : save_state();
}

int list_grants(void) {
    for (size_t i = 0; i < state.grant_count; i++) {
        const struct grant *const grant = state.grants + i;
        char words[MAX_GRANTED * 24 + 1] = "";
        size_t length = 0;
        for (size_t j = 0; j < grant->count; j++) {
            length += (size_t)snprintf(words + length, sizeof words - length, " %s=%04x:%04x", grant->devices[j].address, grant->devices[j].vendor, grant->devices[j].product);
        }
        say("grant", "%u %s %llu%s", grant->uid, grant->machine, (unsigned long long)grant->bytes, words);
    }
    return 0;
}

// ---- what a lease may do that rests on one ----

static int refuse_device(const struct grant *grant, const char *address) {
    struct device device;
    for (size_t i = 0; i < grant->count; i++) {
        const struct identity *const one = grant->devices + i;
        if (strcmp(one->address, address) != 0) continue;
        if (read_device(address, &device) != 0) return -1;
        if (device.vendor == one->vendor && device.product == one->product) return 0;
        return refuse("other-device", "at %s there is another device (%04x:%04x) than the one that the machine %s was allowed (%04x:%04x)", address, device.vendor, device.product, grant->machine, one->vendor, one->product);
    }
    return refuse("not-granted", "%s was not allowed for the machine %s", address, grant->machine);
}

struct group_check {
    const struct grant *grant;
    int result;
};

static bool check_group_member(const char *name, void *context) {
    struct group_check *const check = context;
    struct device device;
    if (!is_address(name, strlen(name)) || read_device(name, &device) != 0) check->result = refuse("not-granted", "what is in its group is not all of the machine's");
    else if (!device.bridge) check->result = refuse_device(check->grant, name);
    return check->result == 0;
}

static int refuse_memory(const struct grant *grant, const struct lease *lease, const struct request *request) {
    if (request->bytes > grant->bytes) return refuse("not-granted", "the machine %s was allowed to lock %llu bytes, not %llu", grant->machine, (unsigned long long)grant->bytes, (unsigned long long)request->bytes);
    for (size_t i = 0; i < lease->limit_count; i++) {
        const struct leased_limit *const limit = lease->limits + i;
        if (!limit->back && limit->pid != request->pid && start_of(limit->pid) == limit->start) return refuse("not-granted", "the memory of the machine %s is another process's already", grant->machine);
    }
    return 0;
}

// Loads `state`: what was revoked a moment ago counts no more.
int refuse_beyond_grant(const struct lease *lease, const char *machine, const struct request *request) {
    if (request->verb == VERB_HELD || request->verb == VERB_KEPT || request->verb == VERB_UNBIND) return 0;
    if (load_state() != 0) return -1;
    const struct grant *const grant = grant_of(caller.uid, machine);
    if (grant == NULL) return refuse("not-granted", "nothing is allowed for the machine %s any more", machine);
    struct group_check check = { .grant = grant };
    switch (request->verb) {
    case VERB_PLAN:
    case VERB_BIND:
        return refuse_device(grant, request->address[0]);
    case VERB_PERMIT:
        if (list_folder(sys_root, path_of("kernel/iommu_groups/%u/devices", request->group), check_group_member, &check) < 0) return refuse("no-group", "there is no IOMMU group %u", request->group);
        return check.result;
    case VERB_MEMLOCK:
        return refuse_memory(grant, lease, request);
    default:
        return refuse("not-granted", "this needs a password: the machine %s was allowed its devices, for as long as it runs", machine);
    }
}
