// PID 1 of a microVM (guest/guest.h): started by the kernel from the initramfs; of no use by hand.
#include <stdio.h>

#include "guest/guest.h"

int main(void)
{
    struct err err = { 0 };
    struct guest_boot *boot;
    if (getpid() != 1) {
        fprintf(stderr, "berth-guest: I am PID 1 of a microVM, and of nothing else\n");
        return 2;
    }
    if (guest_boot(&boot, &err) < 0 || guest_run(guest_boot_machine(boot), &err) < 0)
        guest_die(&err);
    return 0;
}
