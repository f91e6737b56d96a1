// cc: program vitrine-helper
// A PCI device as sysfs tells it (Documentation/ABI/testing/sysfs-bus-pci): read anew before every decision, never remembered.
#include "helper.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PCI_HEADER_TYPE = 0x0e, HEADER_TYPE_MASK = 0x7f, HOST_BRIDGE_CLASS = 0x0600 };

static const char *file_of(const char *address, const char *name) { return path_of("bus/pci/devices/%s/%s", address, name); }

bool device_exists(const char *address) {
    const int fd = open_beneath(sys_root, path_of("bus/pci/devices/%s", address), O_PATH | O_DIRECTORY);
    if (fd >= 0) close(fd);
    return fd >= 0;
}

// A file of the device that holds a hexadecimal number.
bool read_hex(const char *address, const char *name, unsigned *value) {
    char text[32], *end;
    if (read_text(sys_root, file_of(address, name), text, sizeof text) <= 0) return false;
    *value = (unsigned)strtoul(text, &end, 16);
    return *end == 0;
}

// Everything about a device that decisions rest on. -1, and the request refused, when something of it is missing or odd.
int read_device(const char *address, struct device *device) {
    char text[PATH_SIZE];
    memset(device, 0, sizeof *device);
    strcpy(device->address, address);
    if (!device_exists(address)) return refuse("no-device", "there is no PCI device %s", address);
    // "../../../devices/pci0000:00/0000:00:05.0": where its place in the tree of devices is
    if (!read_link(sys_root, path_of("bus/pci/devices/%s", address), text, sizeof text)) return refuse("odd", "%s is no link in sysfs", address);
    const char *place = text;
    while (strncmp(place, "../", 3) == 0) place += 3;
    const char *const last = strrchr(place, '/');
    if (strncmp(place, "devices/", 8) != 0 || last == NULL || strcmp(last + 1, address) != 0) return refuse("odd", "%s lies at an odd place in sysfs", address);
    strcpy(device->path, place);
    if (!read_hex(address, "vendor", &device->vendor) || !read_hex(address, "device", &device->product)) return refuse("odd", "%s does not say what it is", address);

    const int config = open_beneath(sys_root, file_of(address, "config"), O_RDONLY);
    unsigned char type = 0xff;
    device->answers = config >= 0 && pread(config, &type, 1, PCI_HEADER_TYPE) == 1 && type != 0xff;
    if (config >= 0) close(config);
    device->bridge = device->answers && (type & HEADER_TYPE_MASK) != 0;

    uint64_t number;
    device->group = -1;
    if (link_name(sys_root, file_of(address, "iommu_group"), text, sizeof text)) {
        if (!parse_number(text, strlen(text), 99999, &number)) return refuse("odd", "%s has an odd IOMMU group", address);
        device->group = (int)number;
    }
    if (read_text(sys_root, file_of(address, "sriov_numvfs"), text, sizeof text) > 0) device->functions = (unsigned)strtoul(text, NULL, 10);

    if (link_name(sys_root, file_of(address, "driver"), text, sizeof text)) {
        if (!is_name(text, strlen(text))) return refuse("odd", "the driver of %s has an odd name", address);
        strcpy(device->driver, text);
    }
    // AMD's processors have one beside the ports of each root, in the group of what is behind them: no driver wants it, and the kernel lets it be.
    unsigned class_code;
    if (device->answers && device->driver[0] == 0 && read_hex(address, "class", &class_code) && class_code >> 8 == HOST_BRIDGE_CLASS) device->bridge = true;
    if (read_text(sys_root, file_of(address, "driver_override"), text, sizeof text) < 0) return refuse("odd", "%s has no driver_override", address);
    if (text[0] != 0 && strcmp(text, "(null)") != 0) {
        if (!is_name(text, strlen(text))) return refuse("odd", "the driver_override of %s has an odd name", address);
        strcpy(device->override, text);
    }
    return 0;
}
