// cc: program vitrine-helper
// From a line to a request: the one place where what the user sent is taken apart. A request has exactly one spelling: words divided by
// one space each, numbers without leading zeros, an address as `0000:03:00.0` in lower case. So what is accepted can be written back and
// compared, which the tests do a million times.
#include "helper.h"
#include <stdio.h>
#include <string.h>

enum { MAX_WORDS = 3 + MAX_GRANTED };

static const struct {
    const char *word;
    // a: address, g: group, p: process, b: bytes, m: module, f: a number of functions or "restore", i: a machine's id; the last one repeats
    const char *arguments;
    size_t least, most;
} verbs[VERB_COUNT] = {
    [VERB_PLAN] = { "plan", "a", 1, 1 },          [VERB_BIND] = { "bind", "a", 1, 1 },           [VERB_UNBIND] = { "unbind", "a", 1, 1 },
    [VERB_PERMIT] = { "permit", "g", 1, 1 },      [VERB_MEMLOCK] = { "memlock", "pb", 2, 2 },    [VERB_MODULE] = { "module", "m", 1, 1 },
    [VERB_KEEP] = { "keep", "", 0, 0 },           [VERB_HELD] = { "held", "", 0, 0 },            [VERB_KEPT] = { "kept", "", 0, 0 },
    [WAY_LEASE] = { "lease", "", 0, 0 },          [WAY_APPLY] = { "apply", "", 0, 0 },           [WAY_RELEASE] = { "release", "a", 0, MAX_GRANTED },
    [WAY_LIST] = { "list", "", 0, 0 },            [WAY_FUNCTIONS] = { "functions", "af", 2, 2 }, [WAY_RESERVE] = { "reserve", "a", 1, 1 },
    [WAY_UNRESERVE] = { "unreserve", "a", 1, 1 }, [WAY_GRANT] = { "grant", "iba", 3, 2 + MAX_GRANTED },
    [WAY_REVOKE] = { "revoke", "i", 1, 1 },       [WAY_GRANTS] = { "grants", "", 0, 0 },         [WAY_GRANTED] = { "granted", "i", 1, 1 },
    [WAY_INSTALL] = { "install", "", 0, 0 },      [WAY_REMOVE] = { "remove", "", 0, 0 },
};

// What may be loaded: VFIO and KVM.
static const char *const modules[] = { "vfio", "vfio_iommu_type1", VFIO_DRIVER, "kvm", "kvm_intel", "kvm_amd" };

static bool is_digit(char c) { return c >= '0' && c <= '9'; }
static bool is_hex(char c) { return is_digit(c) || (c >= 'a' && c <= 'f'); }

// DDDD:BB:DD.F as the kernel spells it: hexadecimal in lower case, a device number below 32, a function below 8. A domain may have up to
// 8 digits, but then no leading zero (PCI Firmware Specification 3.3, 4.1; domains of VMD start at 10000).
bool is_address(const char *text, size_t length) {
    if (length != ADDRESS_SIZE - 1) return false; // domains beyond ffff are refused: no IOMMU gives their devices away one by one
    for (size_t i = 0; i < length; i++) {
        const char expected = i == 4 || i == 7 ? ':' : i == 10 ? '.' : 'x';
        if (expected == 'x' ? !is_hex(text[i]) : text[i] != expected) return false;
    }
    return text[8] <= '1' && text[11] <= '7';
}

// A driver's or module's name, as it may stand in a path and in the journal.
bool is_name(const char *text, size_t length) {
    if (length == 0 || length >= NAME_SIZE || text[0] == '.') return false;
    for (size_t i = 0; i < length; i++) {
        const char c = text[i];
        if (!is_digit(c) && !(c >= 'a' && c <= 'z') && !(c >= 'A' && c <= 'Z') && c != '-' && c != '_' && c != '.') return false;
    }
    return true;
}

// A machine's id (src/shared/machine-config.ts).
bool is_machine(const char *text, size_t length) {
    if (length == 0 || length >= NAME_SIZE || text[0] == '-') return false;
    for (size_t i = 0; i < length; i++) {
        if (!is_digit(text[i]) && !(text[i] >= 'a' && text[i] <= 'z') && text[i] != '-') return false;
    }
    return true;
}

// "8086:10d3"
bool parse_ids(const char *text, size_t length, unsigned *vendor, unsigned *product) {
    unsigned ids[2] = { 0, 0 };
    if (length != 9 || text[4] != ':') return false;
    for (size_t i = 0; i < length; i++) {
        if (i == 4) continue;
        if (!is_hex(text[i])) return false;
        ids[i > 4] = ids[i > 4] * 16 + (unsigned)(is_digit(text[i]) ? text[i] - '0' : text[i] - 'a' + 10);
    }
    *vendor = ids[0];
    *product = ids[1];
    return true;
}

bool parse_number(const char *text, size_t length, uint64_t most, uint64_t *number) {
    if (length == 0 || length > 19 || (length > 1 && text[0] == '0')) return false;
    uint64_t value = 0;
    for (size_t i = 0; i < length; i++) {
        if (!is_digit(text[i])) return false;
        value = value * 10 + (uint64_t)(text[i] - '0');
    }
    if (value > most) return false;
    *number = value;
    return true;
}

static bool parse_argument(char kind, const char *text, size_t length, struct request *request) {
    uint64_t number;
    switch (kind) {
    case 'a':
        if (!is_address(text, length)) return false;
        memcpy(request->address[request->address_count++], text, length);
        return true;
    case 'f':
        request->restore = length == 7 && memcmp(text, "restore", 7) == 0;
        if (request->restore) return true;
        if (!parse_number(text, length, 65535, &number)) return false; // TotalVFs has 16 bits (PCIe 6.0, 9.3.3.6)
        request->functions = (unsigned)number;
        return true;
    case 'i':
        if (!is_machine(text, length)) return false;
        memcpy(request->machine, text, length);
        return true;
    case 'g':
        if (!parse_number(text, length, 99999, &number)) return false;
        request->group = (unsigned)number;
        return true;
    case 'p':
        if (!parse_number(text, length, 4194304, &number) || number < 2) return false; // proc(5): pid_max is at most 2^22
        request->pid = (int)number;
        return true;
    case 'b':
        return parse_number(text, length, (uint64_t)1 << 48, &request->bytes);
    default:
        for (size_t i = 0; i < sizeof modules / sizeof *modules; i++) {
            if (strlen(modules[i]) != length || memcmp(modules[i], text, length) != 0) continue;
            request->module = modules[i];
            return true;
        }
        return false;
    }
}

static bool parse(const char *line, size_t length, int from, int to, struct request *request) {
    const char *word[MAX_WORDS];
    size_t size[MAX_WORDS], count = 0;
    if (length >= LINE_SIZE) return false;
    for (size_t start = 0;;) {
        size_t end = start;
        while (end < length && line[end] != ' ') end++;
        if (end == start || count == MAX_WORDS) return false;
        word[count] = line + start;
        size[count++] = end - start;
        if (end == length) break;
        start = end + 1;
    }
    memset(request, 0, sizeof *request);
    for (int verb = from; verb < to; verb++) {
        if (strlen(verbs[verb].word) != size[0] || memcmp(verbs[verb].word, word[0], size[0]) != 0) continue;
        request->verb = (enum verb)verb;
        if (count - 1 < verbs[verb].least || count - 1 > verbs[verb].most) return false;
        const size_t kinds = strlen(verbs[verb].arguments);
        for (size_t i = 1; i < count; i++) {
            if (!parse_argument(verbs[verb].arguments[i <= kinds ? i - 1 : kinds - 1], word[i], size[i], request)) return false;
        }
        return true;
    }
    return false;
}

// `line` without its end. False for anything that is not exactly a request.
bool parse_request(const char *line, size_t length, struct request *request) { return parse(line, length, 0, FIRST_WAY, request); }

// The words of the command line, a space between two.
bool parse_way(const char *line, size_t length, struct request *request) { return parse(line, length, FIRST_WAY, VERB_COUNT, request); }

// The request's one spelling.
int format_request(const struct request *request, char *line, size_t size) {
    int length = snprintf(line, size, "%s", verbs[request->verb].word);
    size_t addresses = 0;
    for (const char *kind = verbs[request->verb].arguments; *kind != 0 && length >= 0 && (size_t)length < size; kind++) {
        char *const end = line + length;
        const size_t left = size - (size_t)length;
        int more = 0;
        if (*kind == 'g') more = snprintf(end, left, " %u", request->group);
        if (*kind == 'p') more = snprintf(end, left, " %d", request->pid);
        if (*kind == 'b') more = snprintf(end, left, " %llu", (unsigned long long)request->bytes);
        if (*kind == 'm') more = snprintf(end, left, " %s", request->module);
        if (*kind == 'i') more = snprintf(end, left, " %s", request->machine);
        if (*kind == 'f') more = request->restore ? snprintf(end, left, " restore") : snprintf(end, left, " %u", request->functions);
        if (*kind == 'a' && addresses < request->address_count) {
            more = snprintf(end, left, " %s", request->address[addresses++]);
            if (kind[1] == 0 && addresses < request->address_count) kind--; // the last one repeats
        }
        length += more;
    }
    return length;
}
