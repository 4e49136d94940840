#include <stdio.h>

#include "vmm/monitor.h"

static int probe(void)
{
    struct vmm_probe found;
    vmm_probe(-1, &found);
    printf("machines: %s\n", found.usable ? "yes" : "no");
    if (found.usable)
        printf("privileged guest code: %.1f million instructions a second\n", found.privileged_mips);
    printf("ordinary kernels: %s\n", found.runs_kernels ? "yes" : "no");
    if (found.why[0])
        printf("because: %s\n", found.why);
    return found.usable ? 0 : 1;
}

static int run(struct monitor *monitor)
{
    struct err err;
    if (monitor->no_jail)
        fputs("berth-vmm: no jail: a guest that breaks out has the rights of who started it\n", stderr);
    int code = monitor_open(monitor, &err) < 0 ? -1 : monitor_watch(monitor, &err);
    if (code < 0)
        fprintf(stderr, "berth-vmm: %s\n", err.message);
    return code < 0 ? 1 : code;
}

int monitor_main(int argc, char **argv)
{
    struct monitor monitor;
    if (argc >= 2 && str_eq(argv[1], "ctl"))
        return monitor_ctl(argc - 2, argv + 2);
    int code = !monitor_parse(argc, argv, &monitor) ? 2 : monitor.probe ? probe() : run(&monitor);
    monitor_done(&monitor);
    return code;
}
