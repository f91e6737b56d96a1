// For whom the helper works, and with what privileges it does.
#ifndef VITRINE_PRIVILEGES_H
#define VITRINE_PRIVILEGES_H

#include <stdbool.h>
#include <sys/types.h>

struct caller {
    uid_t uid;
    bool administrator; // may take back what is not the own
};

int become_helper(struct caller *caller);

#endif
