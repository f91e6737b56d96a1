#include "start64.inc"

# The code that the other processors begin with, in 16-bit mode in a page below 1 MiB, and their way to 64-bit mode and processor_main(number).

.set STACK_BYTES, 8192
.set PROCESSORS, 8

.text
.globl processor_start, processor_end, processor_table
.code16
processor_start:
    cli
    cld
    lgdtl %cs:(processor_table - processor_start)
    movl %cr0, %eax
    orb $1, %al                         # protected mode
    movl %eax, %cr0
    ljmpl $0x08, $processor_flat
.balign 4
processor_table:                        # descriptor_table_pointer again: that one lies out of reach
    .skip 8
processor_end:

.code32
processor_flat:
    movl $0x18, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    movl %cr4, %eax
    orl $0x20, %eax                     # PAE
    movl %eax, %cr4
    movl $page_map, %eax
    movl %eax, %cr3
    movl $0xc0000080, %ecx              # EFER: long mode
    rdmsr
    orl $0x100, %eax
    wrmsr
    movl %cr0, %eax
    orl $0x80000000, %eax               # paging
    movl %eax, %cr0
    ljmp $0x10, $processor_long

.code64
processor_long:
    movl $1, %edi
    lock xaddl %edi, processor_count(%rip)
    movl %edi, %eax
    incl %eax
    imull $STACK_BYTES, %eax
    leaq processor_stacks(%rax), %rsp
    xorl %ebp, %ebp
    call processor_main
1:  cli
    hlt
    jmp 1b

.data
.globl processor_count
.balign 4
processor_count: .long 1                # the first one is here already

.bss
.balign 16
processor_stacks: .skip PROCESSORS * STACK_BYTES
