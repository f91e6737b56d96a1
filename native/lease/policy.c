// cc: program vitrine-helper -Wa,-Inative/lease
// The polkit actions, a copy of org.vitrine.helper.policy within the program: what `install` writes is what this program was built with.
#include "helper.h"

__asm__(".section .rodata\n"
        ".global policy_text, policy_end\n"
        "policy_text: .incbin \"org.vitrine.helper.policy\"\n"
        "policy_end:\n"
        ".previous\n");
