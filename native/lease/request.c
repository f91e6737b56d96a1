// cc: program vitrine-helper
// From a line to a request: the one place where what the user sent is taken apart. A request has exactly one spelling: words divided by
// one space each, numbers without leading zeros, an address as `0000:03:00.0` in lower case. So what is accepted can be written back and
// compared, which the tests do a million times.
#include "helper.h"
#include <stdio.h>
#include <string.h>

enum { MAX_WORDS = 3 };

static const struct {
    const char *word;
    const char *arguments; // a: address, g: group, p: process, b: bytes, m: module
} verbs[VERB_COUNT] = {
    [VERB_PLAN] = { "plan", "a" },     [VERB_BIND] = { "bind", "a" },        [VERB_UNBIND] = { "unbind", "a" },
    [VERB_PERMIT] = { "permit", "g" }, [VERB_MEMLOCK] = { "memlock", "pb" }, [VERB_MODULE] = { "module", "m" },
    [VERB_KEEP] = { "keep", "" },      [VERB_HELD] = { "held", "" },         [VERB_KEPT] = { "kept", "" },
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
        memcpy(request->address, text, length);
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

// `line` without its end. False for anything that is not exactly a request.
bool parse_request(const char *line, size_t length, struct request *request) {
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
    for (int verb = 0; verb < VERB_COUNT; verb++) {
        if (strlen(verbs[verb].word) != size[0] || memcmp(verbs[verb].word, word[0], size[0]) != 0) continue;
        request->verb = (enum verb)verb;
        if (count - 1 != strlen(verbs[verb].arguments)) return false;
        for (size_t i = 1; i < count; i++) {
            if (!parse_argument(verbs[verb].arguments[i - 1], word[i], size[i], request)) return false;
        }
        return true;
    }
    return false;
}

// The request's one spelling.
int format_request(const struct request *request, char *line, size_t size) {
    const char *const word = verbs[request->verb].word;
    switch (request->verb) {
    case VERB_PLAN:
    case VERB_BIND:
    case VERB_UNBIND:
        return snprintf(line, size, "%s %s", word, request->address);
    case VERB_PERMIT:
        return snprintf(line, size, "%s %u", word, request->group);
    case VERB_MEMLOCK:
        return snprintf(line, size, "%s %d %llu", word, request->pid, (unsigned long long)request->bytes);
    case VERB_MODULE:
        return snprintf(line, size, "%s %s", word, request->module);
    default:
        return snprintf(line, size, "%s", word);
    }
}
