// One microVM: a shim's child, or by hand
//
//     berth-vmm --kernel vmlinuz --initrd initrd.img --cmdline "console=ttyS0" --cpus 2 --memory 512M
//               --disk root.img --pmem layers.erofs --net tap0 --vsock 3,vm.vsock --api-sock vm.sock
//     berth-vmm ctl vm.sock pause
//     berth-vmm --probe
//
// The guest's serial port is the terminal (--serial stdio), nothing (none) or the end of a file. SIGTERM presses the power
// button, a second one and SIGQUIT (Ctrl-\ on the terminal) end the machine. Exit code 0 when the guest powered off or reset,
// 1 when it crashed, could not start or was ended, 2 for wrong usage. How it is made: vmm/monitor.h; all options: docs/vmm.md.
#include "vmm/monitor.h"

int main(int argc, char **argv)
{
    return monitor_main(argc, argv);
}
