// The privileged helper: what its files share. It is started as root by pkexec or sudo, for a user whom it does not trust, and changes
// four things on the host: which driver a PCI device has, who owns a group's node in /dev/vfio, how much memory one of the user's own
// processes may pin, and whether VFIO's modules are loaded. Everything that changes these goes through effects.c, and is in the journal
// (journal.c) before it is done. What is to last longer than a lease is written down in /var/lib/vitrine (state.c) before it is done: the
// number of virtual functions, cards that are reserved from start-up, and grants. docs/passthrough-lease.md has the rules and the reasons.
//
// Nothing is read from the environment but who started it, nothing is run but modprobe and what makes the initramfs, and no library is
// used but libc.
#ifndef VITRINE_HELPER_H
#define VITRINE_HELPER_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum {
    ADDRESS_SIZE = 13, // "0000:03:00.0" and its zero
    NAME_SIZE = 64,    // a driver's or a module's name
    PATH_SIZE = 512,   // a path beneath /sys
    LINE_SIZE = 1024,  // a line of the protocol or of a record, its end included
    MAX_DEVICES = 64,  // of one lease
    MAX_GROUPS = 64,
    MAX_LIMITS = 16,
    MAX_GRANTED = 32,  // devices of one grant
    MAX_GRANTS = 128,
    MAX_CARDS = 64,    // with a number of virtual functions that is ours
    MAX_RESERVED = 64, // functions of reserved cards
};

#define VFIO_DRIVER "vfio-pci"

struct lease;

// ---- request.c: lines to requests ----

enum verb {
    // on standard input
    VERB_PLAN, VERB_BIND, VERB_UNBIND, VERB_PERMIT, VERB_MEMLOCK, VERB_MODULE, VERB_KEEP, VERB_HELD, VERB_KEPT,
    // on the command line
    WAY_LEASE, WAY_APPLY, WAY_RELEASE, WAY_LIST, WAY_FUNCTIONS, WAY_RESERVE, WAY_UNRESERVE, WAY_GRANT, WAY_REVOKE, WAY_GRANTS, WAY_GRANTED, WAY_INSTALL, WAY_REMOVE,
    VERB_COUNT,
    FIRST_WAY = WAY_LEASE,
};

struct request {
    enum verb verb;
    size_t address_count;
    char address[MAX_GRANTED][ADDRESS_SIZE]; // plan, bind, unbind, release, functions, reserve, unreserve, grant
    unsigned group;                          // permit
    int pid;                                 // memlock
    uint64_t bytes;                          // memlock, grant
    const char *module;                      // module: an entry of the fixed list
    unsigned functions;                      // functions
    bool restore;                            // functions: the number that it had
    char machine[NAME_SIZE];                 // grant, revoke, granted
};

bool is_address(const char *text, size_t length);
bool is_name(const char *text, size_t length);
bool is_machine(const char *text, size_t length);
bool parse_number(const char *text, size_t length, uint64_t most, uint64_t *number);
bool parse_ids(const char *text, size_t length, unsigned *vendor, unsigned *product);
bool parse_request(const char *line, size_t length, struct request *request);
bool parse_way(const char *line, size_t length, struct request *request);
int format_request(const struct request *request, char *line, size_t size);

// ---- replies.c: what is said on standard output ----

void say(const char *kind, const char *format, ...) __attribute__((format(printf, 2, 3)));
int refuse(const char *code, const char *format, ...) __attribute__((format(printf, 2, 3)));
void flush_replies(void);

// ---- files.c: files beneath the four roots ----

extern int sys_root, proc_root, dev_root, run_root;
int open_roots(void);
int open_top(const char *path);
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
int effect_initramfs(const char *program);
bool group_is_free(unsigned group);

// ---- place.c: files of ours outside /run, replaced as a whole ----

enum { NOT_THERE = -2 };
int open_own_folder(const char *top, const char *path, bool make);
int replace_file(int folder, const char *name, mode_t mode, const void *bytes, size_t size);
int remove_file(int folder, const char *name);

// ---- bounded.c: a step that may hang, in a process of its own ----

enum { STEP_HUNG = -1 };
int bounded_write(const char *path, const char *text, int seconds, int *child);
int bounded_module(const char *name, int seconds);
int64_t now_ms(void);

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
bool read_hex(const char *address, const char *name, unsigned *value);
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
    char machine[NAME_SIZE]; // the one that its grant is for; "" when a password was asked
    size_t device_count, group_count, limit_count;
    struct leased_device devices[MAX_DEVICES];
    struct leased_group groups[MAX_GROUPS];
    struct leased_limit limits[MAX_LIMITS];
};

int open_journal_folder(void);
extern char this_boot[];
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
size_t split(char *line, char **words, size_t most);

// ---- steps.c: doing and undoing ----

enum undone { UNDONE, STILL_USED, NOT_UNDONE };

int plan_device(const struct lease *lease, const char *address);
int bind_device(struct lease *lease, const char *address);
int permit_group(struct lease *lease, unsigned number);
int load_module(const char *name);
enum undone give_back_device(struct lease *lease, struct leased_device *was);
enum undone give_back_group(struct lease *lease, struct leased_group *was);
enum undone undo_lease(struct lease *lease);
int refuse_if_given(const char *address);

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

// ---- session.c, release.c: lease, apply, granted; release, list ----

enum { EXIT_DONE = 0, EXIT_REFUSED = 1, EXIT_USAGE = 2, EXIT_LEFT = 3 };

struct caller {
    uid_t uid;
    bool administrator; // may take back what is not the own
};

extern struct caller caller;
extern volatile sig_atomic_t told_to_end;
int run_lease(void);
int run_granted(const char *machine);
int run_apply(void);
int release_kept(const struct request *request);
int run_release(const struct request *request);
bool list_lease(struct lease *one, bool alive, void *context);
int run_list(void);

// ---- state.c: what lasts longer than a lease, in /var/lib/vitrine ----

struct identity {
    char address[ADDRESS_SIZE];
    unsigned vendor, product;
};

struct numbered {
    struct identity card;
    unsigned before; // virtual functions that it had
};

struct reserved {
    struct identity function;
    char module[NAME_SIZE]; // of the host's driver, "" for none
};

struct grant {
    uid_t uid;
    char machine[NAME_SIZE];
    uint64_t bytes;
    size_t count;
    struct identity devices[MAX_GRANTED];
};

struct state {
    bool due; // the initramfs is not of these files yet
    size_t card_count, reserved_count, grant_count;
    struct numbered cards[MAX_CARDS];
    struct reserved reserved[MAX_RESERVED];
    struct grant grants[MAX_GRANTS];
};

extern struct state state;
bool parse_state_line(struct state *into, const char *line, size_t length);
int load_state(void);
int save_state(void);
int remove_state(void);

// ---- functions.c, reserve.c, initramfs.c, grants.c, install.c, policy.c ----

int set_functions(const char *address, unsigned count, bool restore);
int restore_all_functions(void);
int run_reserve(const char *address);
int run_unreserve(const char *address);
int unreserve_all(void);
const char *initramfs_program(void);
int make_initramfs(void);
int set_grant(const struct request *request);
int revoke_grant(const char *machine);
int list_grants(void);
const struct grant *grant_of(uid_t uid, const char *machine);
int refuse_beyond_grant(const struct lease *lease, const char *machine, const struct request *request);
int run_install(void);
int run_remove(void);
extern const char policy_text[], policy_end[];

// Where tests make it die. Nothing in the real one.
#ifdef VITRINE_TEST
void crash_point(void);
void complete_host(const char *test_root, const char *folder);
#else
static inline void crash_point(void) {}
#endif

#endif
