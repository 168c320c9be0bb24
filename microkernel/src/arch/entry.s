# Entries from user mode and the way back. Register offsets are those of abi::UserRegs in a TCB.
# gs: the processor's block (cpu.rs): 0 current TCB, 8 kernel stack, 16 scratch, 24 TCB whose vector state
# is in the processor.

.section .text.hot, "ax"
.globl syscall_entry
.balign 64
syscall_entry:
    swapgs
    mov gs:[16], rsp
    mov rsp, gs:[0]
    mov [rsp + 0], rax
    mov [rsp + 8], rbx
    mov [rsp + 24], rdx
    mov [rsp + 32], rsi
    mov [rsp + 40], rdi
    mov [rsp + 48], rbp
    mov [rsp + 56], r8
    mov [rsp + 64], r9
    mov [rsp + 72], r10
    mov [rsp + 88], r12
    mov [rsp + 96], r13
    mov [rsp + 104], r14
    mov [rsp + 112], r15
    mov [rsp + 120], rcx                # rip
    mov [rsp + 136], r11                # rflags
    mov rcx, gs:[16]
    mov [rsp + 144], rcx                # rsp
    mov word ptr [rsp + 160], 0         # entered by a native call: vector registers are dead
    mov rbx, rsp
    mov rsp, gs:[8]
    mov rdx, rbx
    test rax, rax
    jz 1f
    mov rcx, r14
    cmp rax, 5
    je 2f
    cmp rax, 9
    ja 4f
    call [syscall_handlers + rax * 8]
    jmp return_from_syscall
4:  call handle_slow
    jmp return_from_syscall
2:  call handle_reply_recv
    jmp 3f
1:  call handle_call
3:  test rax, rax
    jnz hand_over
    mov rax, rdx

# rax: the TCB to run, or 0. If it is that of the thread rbx, which made the call, then what Rust code
# keeps is still in its registers, and nobody else has run.
return_from_syscall:
    cmp rax, rbx
    jne return_to_user
    pxor xmm0, xmm0
    pxor xmm1, xmm1
    pxor xmm2, xmm2
    pxor xmm3, xmm3
    pxor xmm4, xmm4
    pxor xmm5, xmm5
    pxor xmm6, xmm6
    pxor xmm7, xmm7
    pxor xmm8, xmm8
    pxor xmm9, xmm9
    pxor xmm10, xmm10
    pxor xmm11, xmm11
    pxor xmm12, xmm12
    pxor xmm13, xmm13
    pxor xmm14, xmm14
    pxor xmm15, xmm15
    mov rdx, [rax + 24]
    mov rsi, [rax + 32]
    mov rdi, [rax + 40]
    mov r8, [rax + 56]
    mov r9, [rax + 64]
    mov r10, [rax + 72]
    mov rcx, [rax + 120]
    mov r11, [rax + 136]
    mov rsp, [rax + 144]
    mov rbx, [rax + 8]
    mov rax, [rax]
    swapgs
    sysretq

# A message goes from the thread rbx to the thread rax, with the badge rdx. The receiver blocked in a
# system call: its vector registers are dead, and of the others it expects those that are kept.
hand_over:
    mov gs:[0], rax
    mov gs:[24], rax
    fnclex
    pxor mm0, mm0
    pxor mm1, mm1
    pxor mm2, mm2
    pxor mm3, mm3
    pxor mm4, mm4
    pxor mm5, mm5
    pxor mm6, mm6
    pxor mm7, mm7
    fninit
    ldmxcsr [rip + default_mxcsr]
    pxor xmm0, xmm0
    pxor xmm1, xmm1
    pxor xmm2, xmm2
    pxor xmm3, xmm3
    pxor xmm4, xmm4
    pxor xmm5, xmm5
    pxor xmm6, xmm6
    pxor xmm7, xmm7
    pxor xmm8, xmm8
    pxor xmm9, xmm9
    pxor xmm10, xmm10
    pxor xmm11, xmm11
    pxor xmm12, xmm12
    pxor xmm13, xmm13
    pxor xmm14, xmm14
    pxor xmm15, xmm15
    mov rdi, rdx
    mov rsi, [rbx + 32]
    shl rsi, 8                          # without the bits that are the kernel's
    shr rsi, 8
    mov rdx, [rbx + 24]
    mov r8, [rbx + 56]
    mov r9, [rbx + 64]
    mov r10, [rbx + 72]
    mov rbx, [rax + 8]
    mov rbp, [rax + 48]
    mov r12, [rax + 88]
    mov r13, [rax + 96]
    mov r14, [rax + 104]
    mov r15, [rax + 112]
    mov rcx, [rax + 120]
    mov r11, [rax + 136]
    mov rsp, [rax + 144]
    xor eax, eax
    swapgs
    sysretq

# rax: the TCB to run, or 0.
return_to_user:
    test rax, rax
    jz idle
    mov gs:[0], rax
    cmp gs:[24], rax
    je 1f
    # Another thread's x87/MMX state must not be seen (fninit marks MM0..7 as empty and leaves what is in them).
    # An exception of the x87 unit that it left pending would be raised by the first MMX instruction.
    mov gs:[24], rax
    fnclex
    pxor mm0, mm0
    pxor mm1, mm1
    pxor mm2, mm2
    pxor mm3, mm3
    pxor mm4, mm4
    pxor mm5, mm5
    pxor mm6, mm6
    pxor mm7, mm7
    fninit
    ldmxcsr [rip + default_mxcsr]
1:  cmp byte ptr [rax + 161], 0
    jne 2f
    pxor xmm0, xmm0
    pxor xmm1, xmm1
    pxor xmm2, xmm2
    pxor xmm3, xmm3
    pxor xmm4, xmm4
    pxor xmm5, xmm5
    pxor xmm6, xmm6
    pxor xmm7, xmm7
    pxor xmm8, xmm8
    pxor xmm9, xmm9
    pxor xmm10, xmm10
    pxor xmm11, xmm11
    pxor xmm12, xmm12
    pxor xmm13, xmm13
    pxor xmm14, xmm14
    pxor xmm15, xmm15
    jmp 3f
2:  movaps xmm0, [rax + 256]
    movaps xmm1, [rax + 272]
    movaps xmm2, [rax + 288]
    movaps xmm3, [rax + 304]
    movaps xmm4, [rax + 320]
    movaps xmm5, [rax + 336]
    movaps xmm6, [rax + 352]
    movaps xmm7, [rax + 368]
    movaps xmm8, [rax + 384]
    movaps xmm9, [rax + 400]
    movaps xmm10, [rax + 416]
    movaps xmm11, [rax + 432]
    movaps xmm12, [rax + 448]
    movaps xmm13, [rax + 464]
    movaps xmm14, [rax + 480]
    movaps xmm15, [rax + 496]
    ldmxcsr [rax + 512]
3:  mov rbx, [rax + 8]
    mov rdx, [rax + 24]
    mov rsi, [rax + 32]
    mov rdi, [rax + 40]
    mov rbp, [rax + 48]
    mov r8, [rax + 56]
    mov r9, [rax + 64]
    mov r10, [rax + 72]
    mov r12, [rax + 88]
    mov r13, [rax + 96]
    mov r14, [rax + 104]
    mov r15, [rax + 112]
    cmp byte ptr [rax + 160], 0
    jne 4f
    mov rcx, [rax + 120]
    mov r11, [rax + 136]
    mov rsp, [rax + 144]
    mov rax, [rax]
    swapgs
    sysretq
4:  mov rsp, gs:[8]
    push [rax + 152]
    push [rax + 144]
    push [rax + 136]
    push [rax + 128]
    push [rax + 120]
    mov rcx, [rax + 16]
    mov r11, [rax + 80]
    mov rax, [rax]
    swapgs
    iretq

idle:
    mov gs:[0], rax
    mov rsp, gs:[8]
    xor ebp, ebp
5:  sti
    hlt
    jmp 5b

# Traps. The stubs leave vector and error code on the stack.
trap_common:
    cld
    test byte ptr [rsp + 24], 3
    jz trap_in_kernel
    swapgs
    push rax
    mov rax, gs:[0]
    mov [rax + 8], rbx
    mov [rax + 16], rcx
    mov [rax + 24], rdx
    mov [rax + 32], rsi
    mov [rax + 40], rdi
    mov [rax + 48], rbp
    mov [rax + 56], r8
    mov [rax + 64], r9
    mov [rax + 72], r10
    mov [rax + 80], r11
    mov [rax + 88], r12
    mov [rax + 96], r13
    mov [rax + 104], r14
    mov [rax + 112], r15
    pop [rax]                           # rax
    pop rdi                             # vector
    pop rsi                             # error code
    pop [rax + 120]                     # rip
    pop [rax + 128]                     # cs
    pop [rax + 136]                     # rflags
    pop [rax + 144]                     # rsp
    pop [rax + 152]                     # ss
    movaps [rax + 256], xmm0
    movaps [rax + 272], xmm1
    movaps [rax + 288], xmm2
    movaps [rax + 304], xmm3
    movaps [rax + 320], xmm4
    movaps [rax + 336], xmm5
    movaps [rax + 352], xmm6
    movaps [rax + 368], xmm7
    movaps [rax + 384], xmm8
    movaps [rax + 400], xmm9
    movaps [rax + 416], xmm10
    movaps [rax + 432], xmm11
    movaps [rax + 448], xmm12
    movaps [rax + 464], xmm13
    movaps [rax + 480], xmm14
    movaps [rax + 496], xmm15
    stmxcsr [rax + 512]
    mov word ptr [rax + 160], 0x101
    mov rdx, rax
    mov rsp, gs:[8]
    push 2                              # clears AC (SMAP), NT, TF of the user's flags
    popfq
    xor ebp, ebp
    cmp edi, 32
    jb 1f
    call handle_interrupt
    jmp return_to_user
1:  call handle_exception
    jmp return_to_user

# From ring 0: an interrupt that ends idling, or a bug.
trap_in_kernel:
    cmp qword ptr [rsp], 32
    jb 6f
    mov rdi, [rsp]
    mov rsp, gs:[8]
    xor ebp, ebp
    call handle_interrupt
    jmp return_to_user
6:  push r15
    push r14
    push r13
    push r12
    push r11
    push r10
    push r9
    push r8
    push rbp
    push rdi
    push rsi
    push rdx
    push rcx
    push rbx
    push rax
    mov rdi, rsp
    and rsp, -16
    call handle_kernel_fault
    ud2

.balign 8
syscall_handlers:
    .quad 0, handle_signal, handle_slow, handle_recv, handle_slow
    .quad 0, handle_slow, handle_slow, handle_signal_wait, handle_ack_wait
.balign 4
default_mxcsr: .long 0x1f80

.text
.globl trap_stubs
.balign 16
trap_stubs:
.set vector, 0
.rept 256
    .balign 16
    .if !((vector == 8) || (vector >= 10 && vector <= 14) || (vector == 17) || (vector == 21) || (vector == 29) || (vector == 30))
    push 0
    .endif
    push vector
    jmp trap_common
    .set vector, vector + 1
.endr
