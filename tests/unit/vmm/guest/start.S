// The way into a test guest: by PVH (32-bit, the note), by the 64-bit Linux protocol (e_entry), or as a further processor
// (trampoline, copied below 64 KiB). All end in C at CPL 0 in long mode on identity pages: the first GiB, and 3 to 4 GiB
// uncached for devices. On a KVM that emulates CPL 0 an instruction costs a microsecond: so tables are data, code is little.
        .section .note.pvh, "a", @note
        .long 4, 4, 18
        .asciz "Xen"
        .long start_pvh

        .text
        .code32
start_pvh:
        mov     %ebx, %edi
        mov     $1, %ebp                // protocol, for main()
        mov     $stack_top, %esp
        call    enter_long_mode
        ljmp    $0x8, $go64

enter_long_mode:
        mov     $0x20, %eax             // PAE
        mov     %eax, %cr4
        mov     $pml4, %eax
        mov     %eax, %cr3
        mov     $0xc0000080, %ecx
        mov     $0x100, %eax            // LME
        xor     %edx, %edx
        wrmsr
        mov     $0x80050033, %eax
        mov     %eax, %cr0
        lgdt    gdt_pointer
        ret

        .code64
        .global start_linux64
start_linux64:
        mov     %esi, %edi
        mov     $2, %ebp
        mov     $pml4, %eax
        mov     %rax, %cr3
        lgdt    gdt_pointer
        mov     $stack_top, %esp
        push    $0x8
        push    $go64
        lretq
go64:
        mov     $0x10, %eax
        mov     %eax, %ds
        mov     %eax, %es
        mov     %eax, %ss
        mov     $stack_top, %esp
        mov     %ebp, %esi
        call    main
1:      hlt
        jmp     1b

        // Further processors: real mode at 0x8000, the same tables, their own stack.
        .code16
        .global trampoline, trampoline_end
trampoline:
        cli
        mov     %cs, %ax
        mov     %ax, %ds
        lgdtl   trampoline_gdt - trampoline
        mov     $1, %eax
        mov     %eax, %cr0
        ljmpl   $0x18, $further32
trampoline_gdt:
        .word   gdt_end - gdt - 1
        .long   gdt
trampoline_end:

        .code32
further32:
        mov     $0x10, %eax
        mov     %eax, %ds
        mov     %eax, %ss
        mov     $further_stack_top, %esp
        call    enter_long_mode
        ljmp    $0x8, $further64
        .code64
further64:
        call    further_main
1:      hlt
        jmp     1b

        // Interrupts: count and acknowledge.
        .global on_interrupt
on_interrupt:
        push    %rax
        mov     $0xfee000b0, %eax
        movl    $0, (%rax)
        incl    interrupts
        pop     %rax
        iretq

        .data
        .align 16
gdt:
        .quad 0
        .quad 0x00af9b000000ffff        // 0x08 code, 64 bits
        .quad 0x00cf93000000ffff        // 0x10 data
        .quad 0x00cf9b000000ffff        // 0x18 code, 32 bits
gdt_end:
gdt_pointer:
        .word gdt_end - gdt - 1
        .quad gdt
        .align 4096
pml4:   .quad pdpt + 3
        .fill 511, 8, 0
pdpt:   .quad directory + 3
        .fill 2, 8, 0
        .quad devices + 3
        .fill 508, 8, 0
directory:
        .set page, 0
        .rept 512
        .quad page + 0x83
        .set page, page + 0x200000
        .endr
devices:
        .set page, 0xc0000000
        .rept 512
        .quad page + 0x9b               // uncached
        .set page, page + 0x200000
        .endr

        .bss
        .align 16
        .skip 4096
stack_top:
        .skip 4096
further_stack_top:
        .section .note.GNU-stack, "", @progbits
