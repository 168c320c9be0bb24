# PVH entry (Xen public/arch-x86/hvm/start_info.h): 32-bit protected mode, paging off, EBX = start
# info. Builds throw-away tables (first 4 GiB: identity, at PHYS_BASE; the first at -2 GiB), enters
# long mode, and jumps to the kernel proper.

.section .note.pvh, "a", @note
.balign 4
.long 4, 8, 18          # name and description bytes; XEN_ELFNOTE_PHYS32_ENTRY
.asciz "Xen"
.quad pvh_start

.section .boot.text, "ax"
.code32
.globl pvh_start
pvh_start:
    cld
    mov esp, offset boot_stack_top
    mov eax, offset boot_pdpt + 3
    mov dword ptr [boot_pml4], eax                  # identity
    mov dword ptr [boot_pml4 + 256 * 8], eax        # PHYS_BASE
    mov eax, offset boot_pdpt_high + 3
    mov dword ptr [boot_pml4 + 511 * 8], eax
    mov eax, offset boot_pd + 3
    mov dword ptr [boot_pdpt_high + 510 * 8], eax   # -2 GiB
    xor ecx, ecx
1:  mov dword ptr [boot_pdpt + ecx * 8], eax
    add eax, 0x1000
    inc ecx
    cmp ecx, 4
    jne 1b
    xor ecx, ecx
    mov eax, 0x83                                   # present, writable, 2 MiB
1:  mov dword ptr [boot_pd + ecx * 8], eax
    add eax, 0x200000
    inc ecx
    cmp ecx, 4 * 512
    jne 1b
    mov eax, offset boot_pml4
    mov cr3, eax
    mov eax, 0x620                                  # PAE, OSFXSR, OSXMMEXCPT: Rust code uses SSE
    mov cr4, eax
    mov ecx, 0xc0000080                             # EFER: SCE, LME, NXE
    mov eax, 0x901
    xor edx, edx
    wrmsr
    mov eax, 0x80010033                             # PG, WP, NE, ET, MP, PE
    mov cr0, eax
    lgdt [boot_gdt_ptr]
    ljmp 8, offset boot64

.code64
boot64:
    mov ax, 16
    mov ds, ax
    mov es, ax
    mov ss, ax
    xor eax, eax
    mov fs, ax
    mov gs, ax
    mov edi, ebx
    movabs rsp, offset kernel_stack_top
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
    .long boot_gdt

.section .boot.bss, "aw", @nobits
.balign 4096
boot_pml4: .skip 4096
boot_pdpt: .skip 4096
boot_pdpt_high: .skip 4096
boot_pd: .skip 4 * 4096
.skip 256
boot_stack_top:
