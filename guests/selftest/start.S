#include "start64.inc"

# Interrupt handlers that count, and the code that the other processors begin with, in 16-bit mode.

.text
.code64
.globl timer_interrupt, serial_interrupt, ignored_interrupt, processor_start, processor_end

.macro counting name, counter
\name:
    pushq %rax
    lock incl \counter(%rip)
    movl $0xfee000b0, %eax              # local APIC: end of interrupt
    movl $0, (%rax)
    popq %rax
    iretq
.endm
counting timer_interrupt, timer_count
counting serial_interrupt, serial_count
ignored_interrupt:
    iretq

.code16
processor_start:
    lock incl %cs:(processor_counter - processor_start)
1:  cli
    hlt
    jmp 1b
.balign 4
processor_counter:
    .long 0
processor_end:
.code64

.data
.globl timer_count, serial_count, processor_counter_offset
timer_count: .long 0
serial_count: .long 0
processor_counter_offset: .long processor_counter - processor_start
