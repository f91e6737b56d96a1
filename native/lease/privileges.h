// For whom the helper works, and with what privileges it does.
#ifndef VITRINE_PRIVILEGES_H
#define VITRINE_PRIVILEGES_H

#include "helper.h"

int become_helper(struct caller *caller, bool runs_others);

#endif
