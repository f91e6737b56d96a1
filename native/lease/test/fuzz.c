// A million inputs at what takes text apart: requests, the command line, records of the journal and of what lasts. An input lies at the end of a page behind which nothing
// may be read. Half are noise, half are requests with something changed. Whatever is accepted as a request is written back and must be
// the same bytes: then it says nothing that its one spelling does not. Prints how many of each kind there were.
#include "../helper.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

// main.c's
struct caller caller;
volatile sig_atomic_t told_to_end;

static uint64_t chance;

static uint32_t roll(uint32_t below) { // xorshift64* (Vigna, 2016)
    chance ^= chance >> 12;
    chance ^= chance << 25;
    chance ^= chance >> 27;
    return (uint32_t)((chance * 0x2545f4914f6cdd1dULL) >> 32) % below;
}

static const char *const samples[] = {
    "plan 0000:03:00.0",
    "bind 0000:03:00.0",
    "bind ffff:ff:1f.7",
    "unbind 0000:00:1f.6",
    "permit 12",
    "memlock 4194304 281474976710656",
    "memlock 1234 4831838208",
    "module vfio_iommu_type1",
    "module vfio-pci",
    "keep",
    "held",
    "kept",
    "bind ../../../0000:03:00.0",
    "module nvidia",
    "device 0000:03:00.0 8086:10d3 - e1000e",
    "begun 0000:03:00.0 unbind",
    "stuck 0000:03:00.0 55 12345",
    "group 12 0 0 600",
    "memlock 33 1234 8388608 18446744073709551615",
    "back group 12",
    "back device 0000:03:00.0",
    "lease", "apply", "list", "grants", "install", "remove",
    "release 0000:03:00.0",
    "release 0000:03:00.0 0000:03:00.1 0000:41:00.0",
    "functions 0000:03:00.0 4",
    "functions 0000:03:00.0 restore",
    "reserve 0000:03:00.0",
    "unreserve 0000:03:00.0",
    "grant windows-11 8589934592 0000:03:00.0",
    "grant a 4096 0000:03:00.0 0000:03:00.1 0000:04:00.0",
    "revoke windows-11",
    "granted 3f",
    "functions 01234567-89ab-cdef-0123-456789abcdef 0000:03:00.0 8086:10d3 0",
    "reserved 0000:03:00.0 1002:7480 amdgpu",
    "initramfs due",
    "grant 1000 windows-11 8589934592 0000:03:00.0=1002:7480 0000:03:00.1=1002:ab30",
};
enum { SAMPLES = sizeof samples / sizeof *samples };
static const char letters[] = "0123456789abcdef:. -_/=\n\t%ABxyzkeptmodulbindgrvfswi";

static size_t make_input(char *text, size_t most) {
    size_t length;
    if (roll(2) == 0) {
        length = roll(roll(8) == 0 ? (uint32_t)most : 40);
        for (size_t i = 0; i < length; i++) text[i] = roll(4) == 0 ? (char)roll(256) : letters[roll(sizeof letters - 1)];
        return length;
    }
    const char *const sample = samples[roll(SAMPLES)];
    length = strlen(sample);
    memcpy(text, sample, length);
    for (uint32_t changes = roll(4); changes > 0; changes--) {
        const size_t at = roll((uint32_t)length + 1);
        switch (roll(4)) {
        case 0: // another byte
            if (at < length) text[at] = roll(3) == 0 ? (char)roll(256) : letters[roll(sizeof letters - 1)];
            break;
        case 1: // one more
            if (length == most) break;
            memmove(text + at + 1, text + at, length - at);
            text[at] = letters[roll(sizeof letters - 1)];
            length++;
            break;
        case 2: // one less
            if (at < length) memmove(text + at, text + at + 1, --length - at);
            break;
        default: // cut off
            length = at;
        }
    }
    return length;
}

int main(int count, char **words) {
    const long inputs = count > 1 ? atol(words[1]) : 1000000;
    chance = count > 2 ? strtoull(words[2], NULL, 10) * 2 + 1 : 1;
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    char *const pages = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED || mprotect(pages + page, page, PROT_NONE) != 0) return 1;
    static struct lease lease;
    static struct state kept;
    long accepted[VERB_COUNT] = { 0 }, requests = 0, records = 0, lines = 0;
    strcpy(this_boot, "01234567-89ab-cdef-0123-456789abcdef");
    for (long i = 0; i < inputs; i++) {
        char text[1200], back[LINE_SIZE];
        const size_t length = make_input(text, sizeof text);
        char *const input = pages + page - length;
        memcpy(input, text, length);
        struct request request;
        const bool asked = parse_request(input, length, &request);
        const bool named = !asked && parse_way(input, length, &request);
        if ((asked && request.verb >= FIRST_WAY) || (named && request.verb < FIRST_WAY)) return 1;
        if (asked || named) {
            const int size = format_request(&request, back, sizeof back);
            if (size < 0 || (size_t)size != length || memcmp(back, input, length) != 0) {
                fprintf(stderr, "accepted \"%.*s\" as \"%s\"\n", (int)length, input, back);
                return 1;
            }
            accepted[request.verb]++;
            requests++;
        }
        if (roll(64) == 0) memset(&lease, 0, sizeof lease);
        if (roll(256) == 0) memset(&kept, 0, sizeof kept);
        lines += parse_state_line(&kept, input, length);
        if (kept.card_count > MAX_CARDS || kept.reserved_count > MAX_RESERVED || kept.grant_count > MAX_GRANTS) return 1;
        records += parse_record(&lease, input, length);
        if (lease.device_count > MAX_DEVICES || lease.group_count > MAX_GROUPS || lease.limit_count > MAX_LIMITS) return 1;
    }
    printf("%ld inputs, %ld requests, %ld records, %ld lines of what lasts\n", inputs, requests, records, lines);
    for (int verb = 0; verb < VERB_COUNT; verb++) {
        if (accepted[verb] == 0 && inputs >= 100000) {
            fprintf(stderr, "the verb %d was never met\n", verb);
            return 1;
        }
    }
    return 0;
}
