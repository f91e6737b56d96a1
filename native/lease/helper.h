// The privileged helper: what its files share. It is started as root by pkexec or sudo, for a user whom it does not trust, and changes
// four things on the host: which driver a PCI device has, who owns a group's node in /dev/vfio, how much memory one of the user's own
// processes may pin, and whether VFIO's modules are loaded. Everything that changes the host goes through effects.c, and is in the
// journal (journal.c) before it is done. docs/passthrough-lease.md has the rules and the reasons.
//
// Nothing is read from the environment but who started it, nothing is run but modprobe, and no library is used but libc.
#ifndef VITRINE_HELPER_H
#define VITRINE_HELPER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum {
    ADDRESS_SIZE = 13, // "0000:03:00.0" and its zero
    NAME_SIZE = 64,    // a driver's or a module's name
    PATH_SIZE = 512,   // a path beneath /sys
    LINE_SIZE = 256,   // a line of the protocol, its end included
    MAX_DEVICES = 64,  // of one lease
    MAX_GROUPS = 64,
    MAX_LIMITS = 16,
};

#define VFIO_DRIVER "vfio-pci"

// ---- request.c: lines to requests ----

enum verb { VERB_PLAN, VERB_BIND, VERB_UNBIND, VERB_PERMIT, VERB_MEMLOCK, VERB_MODULE, VERB_KEEP, VERB_HELD, VERB_KEPT, VERB_COUNT };

struct request {
    enum verb verb;
    char address[ADDRESS_SIZE]; // plan, bind, unbind
    unsigned group;             // permit
    int pid;                    // memlock
    uint64_t bytes;             // memlock
    const char *module;         // module: an entry of the fixed list
};

bool is_address(const char *text, size_t length);
bool is_name(const char *text, size_t length);
bool parse_number(const char *text, size_t length, uint64_t most, uint64_t *number);
bool parse_request(const char *line, size_t length, struct request *request);
int format_request(const struct request *request, char *line, size_t size);

// ---- replies.c: what is said on standard output ----

void say(const char *kind, const char *format, ...) __attribute__((format(printf, 2, 3)));
int refuse(const char *code, const char *format, ...) __attribute__((format(printf, 2, 3)));
void flush_replies(void);

// ---- files.c: files beneath the four roots ----

extern int sys_root, proc_root, dev_root, run_root;
int open_roots(void);
int open_beneath(int root, const char *path, int flags);
const char *path_of(const char *format, ...) __attribute__((format(printf, 1, 2)));
ssize_t read_text(int root, const char *path, char *text, size_t size);
bool read_link(int root, const char *path, char *target, size_t size);
bool link_name(int root, const char *path, char *name, size_t size);
int list_folder(int root, const char *path, bool (*each)(const char *name, void *context), void *context);
uint64_t start_of(int pid);

// ---- effects.c: all that changes the host; 0, or an errno ----

int effect_write(int root, const char *path, const char *text);
int effect_owner(unsigned group, uid_t uid, gid_t gid, mode_t mode);
int effect_limit(int pid, uint64_t soft, uint64_t hard, uint64_t *old_soft, uint64_t *old_hard);
int effect_module(const char *name);
bool group_is_free(unsigned group);

// ---- bounded.c: a step that may hang, in a process of its own ----

enum { STEP_HUNG = -1 };
int bounded_write(const char *path, const char *text, int seconds, int *child);
int bounded_module(const char *name, int seconds);

// ---- device.c: a PCI device as sysfs tells it ----

struct device {
    char address[ADDRESS_SIZE];
    char path[PATH_SIZE]; // beneath /sys: "devices/pci0000:00/0000:00:05.0"
    unsigned vendor, product;
    bool answers;         // its configuration space can be read
    bool bridge;          // its header's type is not 0
    int group;            // -1: none
    unsigned functions;   // virtual functions that it has now
    char driver[NAME_SIZE];   // "" for none
    char override[NAME_SIZE]; // "" for none
};

bool device_exists(const char *address);
int read_device(const char *address, struct device *device);

// ---- usage.c: what of the host lies on a device ----

int refuse_if_used(const struct device *device);

// ---- journal.c: what was changed, written down before ----

enum { BEGUN_OVERRIDE = 1, BEGUN_UNBIND = 2, BEGUN_BIND = 4 };

struct leased_device {
    char address[ADDRESS_SIZE];
    unsigned vendor, product;
    char override[NAME_SIZE], driver[NAME_SIZE]; // what it had
    unsigned begun;                              // BEGUN_…
    int stuck;                                   // the process that hangs in a write to it, or 0
    uint64_t stuck_start;
    bool back;
    bool failed; // not in the journal: this process has tried, and need not try again
};

struct leased_group {
    unsigned number;
    uid_t uid;
    gid_t gid;
    mode_t mode;
    bool back;
};

struct leased_limit {
    int pid;
    uint64_t start, soft, hard;
    bool back;
};

struct lease {
    char name[NAME_SIZE]; // of its file in /run/vitrine
    int fd;               // its file, or -1
    int lock;             // held by those who look after it: the helper and its guardian
    bool same_boot;
    bool kept;
    uid_t uid;
    int pid;
    size_t device_count, group_count, limit_count;
    struct leased_device devices[MAX_DEVICES];
    struct leased_group groups[MAX_GROUPS];
    struct leased_limit limits[MAX_LIMITS];
};

int open_journal_folder(void);
extern int host_lock;
int lock_host(void);
void unlock_host(void);
int create_lease(struct lease *lease, uid_t uid);
bool parse_record(struct lease *lease, const char *line, size_t length);
bool load_lease(struct lease *lease);
int record(struct lease *lease, const char *format, ...) __attribute__((format(printf, 2, 3)));
int open_lease(struct lease *lease, const char *name, bool *alive);
void close_lease(struct lease *lease);
void remove_lease(struct lease *lease);
int each_lease(bool (*each)(struct lease *lease, bool alive, void *context), void *context);
struct leased_device *leased(struct lease *lease, const char *address);

// ---- steps.c: doing and undoing ----

enum undone { UNDONE, STILL_USED, NOT_UNDONE };

int plan_device(const struct lease *lease, const char *address);
int bind_device(struct lease *lease, const char *address);
int permit_group(struct lease *lease, unsigned number);
int load_module(const char *name);
enum undone give_back_device(struct lease *lease, struct leased_device *was);
enum undone give_back_group(struct lease *lease, struct leased_group *was);
enum undone undo_lease(struct lease *lease);

// ---- memlock.c ----

int raise_memlock(struct lease *lease, int pid, uint64_t bytes);
enum undone give_back_limit(struct lease *lease, struct leased_limit *was);

// ---- guardian.c ----

struct guardian {
    int pipe; // closed by our death, however it comes
    pid_t pid;
};

int start_guardian(struct lease *lease, struct guardian *guardian);
void dismiss_guardian(struct guardian *guardian);
bool undo_until_done(struct lease *lease);
int recover(void);

// Where tests make it die. Nothing in the real one.
#ifdef VITRINE_TEST
void crash_point(void);
#else
static inline void crash_point(void) {}
#endif

#endif
