# A worker: loads its registers from one record after the other and makes a system call with them, or goes to
# an instruction of which nobody knows what it does. Position-independent: a page of code, the page of control
# behind it (first word: byte offset of the next record, second: end of the records, third: calls that were not refused), then the records (sandbox.rs
# writes them).

.set CONTROL, worker_start + 4096
.set RECORDS, worker_start + 8192

.pushsection .text.worker, "ax"
.balign 64
.globl worker_start
worker_start:
    mov rax, [rip + CONTROL]
    cmp rax, [rip + CONTROL + 8]
    jae 2f
    lea rcx, [rip + RECORDS]
    add rcx, rax
    add rax, 96
    # Counted before it is made: the call may be the last.
    mov [rip + CONTROL], rax
    lea rsp, [rip + CONTROL + 4096]
    mov rdi, [rcx + 8]
    mov rsi, [rcx + 16]
    mov rdx, [rcx + 24]
    mov r10, [rcx + 32]
    mov r8, [rcx + 40]
    mov r9, [rcx + 48]
    mov r12, [rcx + 56]
    mov r13, [rcx + 64]
    mov r14, [rcx + 72]
    mov rax, [rcx]
    mov r11, [rcx + 80]
    test r11, r11
    jz 1f
    jmp r11
1:  syscall
    test rax, rax
    jnz worker_start
    inc qword ptr [rip + CONTROL + 16]
    jmp worker_start
# No record is left.
2:  movabs rax, 0x100000001
    syscall
    jmp 2b
.globl worker_end
worker_end:
.popsection
