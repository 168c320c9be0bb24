# The way from a boot loader to long mode. Two entries, both in 32-bit protected mode with paging off:
#  pvh_start  PVH (Xen public/arch-x86/hvm/start_info.h): EBX = start info; loaded where it is linked.
#  mb2_start  Multiboot2: EAX = magic, EBX = information; the loader may have moved the image by a
#             multiple of 2 MiB (it is asked to, so that the tests see both).
# Builds throw-away tables (first 4 GiB: identity and at PHYS_BASE; the image at -2 GiB) and jumps to
# the kernel proper. EBP: how far the image was moved.

.section .note.pvh, "a", @note
.balign 4
.long 4, 8, 18          # name and description bytes; XEN_ELFNOTE_PHYS32_ENTRY
.asciz "Xen"
.quad pvh_start

.section .boot.header, "a"
.balign 8
mb2_header:
    .long 0xe85250d6, 0, mb2_header_end - mb2_header    # i386 protected mode
    .long 0 - (0xe85250d6 + (mb2_header_end - mb2_header))
    .short 1, 0                         # must be passed: modules, memory map
    .long 16, 3, 6
    .short 6, 0                         # modules begin at pages
    .long 8
    .balign 8
    .short 10, 0                        # may be moved: lowest, highest address, alignment, as high as can be
    .long 24, 0x200000, 0xffffffff, 0x200000, 2
    .balign 8
    .short 0, 0
    .long 8
mb2_header_end:

.section .boot.text, "ax"
.code32
.globl mb2_start
mb2_start:
    lea esp, [ebx + 8]                  # the information's second word is reserved: one word of stack
    call mb2_here
mb2_here:
    pop ebp
    sub ebp, offset mb2_here
    mov edi, eax
    jmp start

.globl pvh_start
pvh_start:
    xor ebp, ebp
    xor edi, edi

start:
    cld
    lea esp, [ebp + boot_stack_top]
    lea eax, [ebp + boot_pdpt + 3]
    mov dword ptr [ebp + boot_pml4], eax                # identity
    mov dword ptr [ebp + boot_pml4 + 256 * 8], eax      # PHYS_BASE
    lea eax, [ebp + boot_pdpt_high + 3]
    mov dword ptr [ebp + boot_pml4 + 511 * 8], eax
    lea eax, [ebp + boot_pd_high + 3]
    mov dword ptr [ebp + boot_pdpt_high + 510 * 8], eax # -2 GiB
    lea eax, [ebp + boot_pd + 3]
    lea edx, [ebp + boot_pdpt]
    mov ecx, 4
2:  mov dword ptr [edx], eax
    add eax, 0x1000
    add edx, 8
    loop 2b
    mov eax, 0x83                                       # present, writable, 2 MiB
3:  mov dword ptr [ebp + boot_pd + ecx * 8], eax
    add eax, 0x200000
    inc ecx
    cmp ecx, 2048
    jne 3b
    lea eax, [ebp + 0x83]
    xor ecx, ecx
4:  mov dword ptr [ebp + boot_pd_high + ecx * 8], eax
    add eax, 0x200000
    inc ecx
    cmp ecx, 16
    jne 4b
    lea eax, [ebp + boot_pml4]
    mov cr3, eax
    mov eax, 0x620                                      # PAE, OSFXSR, OSXMMEXCPT: Rust code uses SSE
    mov cr4, eax
    mov ecx, 0xc0000080                                 # EFER: SCE, LME, NXE
    mov eax, 0x901
    xor edx, edx
    wrmsr
    mov eax, 0x80010033                                 # PG, WP, NE, ET, MP, PE
    mov cr0, eax
    lea eax, [ebp + boot_gdt]
    mov dword ptr [ebp + boot_gdt_ptr + 2], eax
    lgdt [ebp + boot_gdt_ptr]
    push 8
    lea eax, [ebp + boot64]
    push eax
    retf

.code64
boot64:
    mov ax, 16
    mov ds, ax
    mov es, ax
    mov ss, ax
    xor eax, eax
    mov fs, ax
    mov gs, ax
    mov esi, ebx                                        # kernel_main(loader's magic, information, moved by)
    mov edx, ebp
    movabs rsp, offset kernel_stacks + 0x9000           # the first processor's (cpu.rs)
    xor ebp, ebp
    movabs rax, offset kernel_main
    call rax
    ud2

.section .boot.data, "aw"
.balign 8
boot_gdt:
    .quad 0, 0x00af9a000000ffff, 0x00cf92000000ffff
boot_gdt_ptr:
    .word 23
    .long 0

.section .boot.bss, "aw", @nobits
.balign 4096
boot_pml4: .skip 4096
boot_pdpt: .skip 4096
boot_pdpt_high: .skip 4096
boot_pd_high: .skip 4096
boot_pd: .skip 4 * 4096
.skip 256
boot_stack_top:
