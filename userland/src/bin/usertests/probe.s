# A thread that fills every register it can, does one thing, and writes down what it finds in every
# register. Position-independent: one page of code, its page of data behind it (probe.rs knows the
# layout). `IN` begins the data, `OUT` follows.

.set DATA, probe_start + 4096
.set IN, DATA
.set OUT, DATA + 0x400
.set OP, DATA + 0x800
.set GO_ON, DATA + 0x808
.set SELECTORS, DATA + 0x810
.set FS_WORD, DATA + 0x818
.set SPINS, DATA + 0x820
.set STACK, DATA + 0x1000

.pushsection .text.probe, "ax"
.balign 4096
.globl probe_start
probe_start:
    lea rsp, [rip + STACK]
    fxrstor [rip + IN + 0x200]
    cmp qword ptr [rip + SELECTORS], 0
    je 1f
    mov eax, [rip + SELECTORS]
    mov ds, eax
    mov es, eax
    mov fs, eax
    mov gs, eax
1:  push qword ptr [rip + IN + 0x80]
    popfq
    mov rax, [rip + IN + 0x00]
    mov rbx, [rip + IN + 0x08]
    mov rcx, [rip + IN + 0x10]
    mov rdx, [rip + IN + 0x18]
    mov rsi, [rip + IN + 0x20]
    mov rdi, [rip + IN + 0x28]
    mov rbp, [rip + IN + 0x30]
    mov r8, [rip + IN + 0x38]
    mov r9, [rip + IN + 0x40]
    mov r10, [rip + IN + 0x48]
    mov r11, [rip + IN + 0x50]
    mov r12, [rip + IN + 0x58]
    mov r13, [rip + IN + 0x60]
    mov r14, [rip + IN + 0x68]
    mov r15, [rip + IN + 0x70]
    mov rsp, [rip + IN + 0x78]
    jmp qword ptr [rip + OP]

# Also where a thread begins that is to write down its first registers.
.globl probe_after
probe_after:
    mov [rip + OUT + 0x00], rax
    mov [rip + OUT + 0x08], rbx
    mov [rip + OUT + 0x10], rcx
    mov [rip + OUT + 0x18], rdx
    mov [rip + OUT + 0x20], rsi
    mov [rip + OUT + 0x28], rdi
    mov [rip + OUT + 0x30], rbp
    mov [rip + OUT + 0x38], r8
    mov [rip + OUT + 0x40], r9
    mov [rip + OUT + 0x48], r10
    mov [rip + OUT + 0x50], r11
    mov [rip + OUT + 0x58], r12
    mov [rip + OUT + 0x60], r13
    mov [rip + OUT + 0x68], r14
    mov [rip + OUT + 0x70], r15
    mov [rip + OUT + 0x78], rsp
    lea rsp, [rip + STACK]
    pushfq
    pop qword ptr [rip + OUT + 0x80]
    push 2
    popfq
    xor eax, eax
    mov ax, ds
    mov [rip + OUT + 0x88], rax
    mov ax, es
    mov [rip + OUT + 0x90], rax
    mov ax, fs
    mov [rip + OUT + 0x98], rax
    mov ax, gs
    mov [rip + OUT + 0xa0], rax
    fxsave [rip + OUT + 0x200]
    cmp qword ptr [rip + FS_WORD], 0
    je 1f
    mov rax, fs:[0]
    mov [rip + OUT + 0xa8], rax
1:  movabs rax, 0x100000001
    xor edi, edi
    syscall
    jmp probe_start

.globl probe_syscall
probe_syscall:
    syscall
    jmp probe_after

# Waits without a call; only rcx changes.
.globl probe_spin
probe_spin:
    mov [rip + SPINS], rsp
    mov rcx, [rip + GO_ON]
    jrcxz probe_spin
    jmp probe_after

# Faults while nothing is mapped at rbx; no register changes.
.globl probe_store
probe_store:
    mov [rbx], rbx
    jmp probe_after

.globl probe_end
probe_end:
.popsection
