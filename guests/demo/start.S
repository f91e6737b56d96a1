#include "start64.inc"

# Ring 0 of the demo: interrupts, the few things that ring 3 asks for, and the way down. All of it short: some hosts interpret ring 0.
# Ring 3 calls by the instruction UD2, which every hypervisor delivers; INT from ring 3 is not known to all that interpret ring 0.
# EAX: 0 wait until `events` differs from EDI, halted; 1 power off; 2 stop the timer; 3 start it.

.set PIC_MASTER, 0x20
.set END_OF_INTERRUPT, 0x20
.set KEYBOARD_DATA, 0x60
.set KEYS_MASK, 63
.set PIT_CONTROL, 0x43
.set PIT_DATA, 0x40
.set PIT_DIVISOR, 19886                 # 60 a second
.set POWER_CONTROL, 0x604
.set POWER_OFF, 0x3c00                  # S5 and SLP_EN

.text
.code64
.globl timer_interrupt, keyboard_interrupt, spurious_interrupt, system_call, fault_entry, enter_ring3, start_timer

timer_interrupt:
    pushq %rax
    incl ticks(%rip)
    incl events(%rip)
    movb $END_OF_INTERRUPT, %al
    outb %al, $PIC_MASTER
    popq %rax
    iretq

keyboard_interrupt:
    pushq %rax
    pushq %rcx
    inb $KEYBOARD_DATA, %al
    movl keys_written(%rip), %ecx
    andl $KEYS_MASK, %ecx
    movb %al, keys(%rcx)
    incl keys_written(%rip)
    incl events(%rip)
    movb $END_OF_INTERRUPT, %al
    outb %al, $PIC_MASTER
    popq %rcx
    popq %rax
spurious_interrupt:
    iretq

system_call:
    addq $2, (%rsp)                     # behind UD2
    cmpl $1, %eax
    jb wait_for_event
    je power_off
    cmpl $3, %eax
    je start_timer_call
    movb $0x30, %al                     # mode 0 counts once and is still
    outb %al, $PIT_CONTROL
    movb $0xff, %al
    outb %al, $PIT_DATA
    outb %al, $PIT_DATA
    iretq
start_timer_call:
    call start_timer
    iretq
wait_for_event:
    cmpl %edi, events(%rip)
    jne 1f
    sti
    hlt                                 # an interrupt between the two instructions is still waited for
    cli
1:  iretq
power_off:
    movw $POWER_CONTROL, %dx
    movw $POWER_OFF, %ax
    outw %ax, %dx
2:  cli
    hlt
    jmp 2b

start_timer:
    movb $0x34, %al
    outb %al, $PIT_CONTROL
    movb $PIT_DIVISOR & 0xff, %al
    outb %al, $PIT_DATA
    movb $PIT_DIVISOR >> 8, %al
    outb %al, $PIT_DATA
    ret

# Any exception: what and where, on the serial line.
fault_entry:
    movq %rsp, %rdi
    call fault

# enter_ring3(function, stack): does not return.
enter_ring3:
    movl $0x2b, %eax
    movl %eax, %ds
    movl %eax, %es
    pushq $0x2b
    pushq %rsi
    pushq $0x202                        # interrupts on
    pushq $0x33
    pushq %rdi
    iretq

.bss
.globl ticks, events, keys, keys_written
.balign 64
ticks: .skip 4                          # of 1/60 s
events: .skip 4                         # ticks and keys together
keys_written: .skip 4
keys: .skip 64                          # scan codes, set 1
