#include <getopt.h>
#include <stdio.h>

#include "base/num.h"
#include "vmm/jail.h"
#include "vmm/monitor.h"

static bool usage(void)
{
    fputs("usage: berth-vmm --kernel FILE [--initrd FILE] [--cmdline TEXT] [--cpus N] [--memory SIZE] [DEVICES]\n"
          "       berth-vmm --restore FILE [DEVICES]     the same devices in the same order\n"
          "       berth-vmm ctl SOCKET state|pause|resume|power-button|stop|events|save FILE\n"
          "       berth-vmm --probe\n"
          "devices:  --serial stdio|none|FILE   --disk FILE[,ro]   --pmem LAYER[,LAYER...]\n"
          "          --net TAP[,mac=MAC][,mtu=N]   --vsock CID,SOCKET\n"
          "control:  --api-sock PATH   --api-fd N\n"
          "process:  --kvm FILE   --uid N   --gid N   --no-jail\n"
          "FILE, LAYER, TAP and SOCKET may be fd:N, an open descriptor.\n", stderr);
    return false;
}

static bool wrong(const char *option, const char *value)
{
    fprintf(stderr, "berth-vmm: --%s: \"%s\" can't be understood\n", option, value);
    return usage();
}

// "512M": a number with an optional K, M or G; bytes without.
static bool parse_size(const char *text, uint64_t *out)
{
    static const char units[] = "KMG";
    struct slice digits = slice_of(text);
    unsigned shift = 0;
    const char *unit = digits.size ? strchr(units, text[digits.size - 1]) : NULL;
    if (unit && *unit) {
        shift = 10 * (unsigned)(unit - units + 1);
        digits.size--;
    }
    if (!num_parse_u64(digits, UINT64_MAX >> shift, out))
        return false;
    *out <<= shift;
    return true;
}

static bool parse_u32(struct slice text, uint32_t max, uint32_t *out)
{
    uint64_t number;
    if (!num_parse_u64(text, max, &number))
        return false;
    *out = (uint32_t)number;
    return true;
}

static bool parse_disk(const char *text, struct monitor *out)
{
    const char *comma = strrchr(text, ',');
    bool read_only = comma && str_eq(comma, ",ro");
    if (out->disks_len == MONITOR_DISKS_MAX)
        return false;
    struct monitor_disk *disk = &out->disks[out->disks_len++];
    *disk = (struct monitor_disk){ mem_strndup(text, read_only ? (size_t)(comma - text) : strlen(text)), read_only, -1 };
    return true;
}

static bool parse_layers(const char *text, struct monitor *out)
{
    struct slice rest = slice_of(text), one;
    while (slice_cut(&rest, ',', &one)) {
        if (one.size == 0 || out->layers_len == LAYERS_DISK_MAX)
            return false;
        out->layer_fds[out->layers_len] = -1;
        out->layers[out->layers_len++] = mem_strndup(one.data, one.size);
    }
    return true;
}

static bool parse_mac(struct slice text, uint8_t out[6])
{
    struct slice part;
    uint64_t byte;
    for (int i = 0; i < 6; i++) {
        if (!slice_cut(&text, ':', &part) || part.size != 2 || !num_parse_hex(part, &byte))
            return false;
        out[i] = (uint8_t)byte;
    }
    return !text.data && !(out[0] & 1); // of one station
}

static bool parse_net(const char *text, struct monitor *out)
{
    struct slice rest = slice_of(text), one;
    uint32_t mtu = 0;
    if (out->nets_len == MONITOR_NETS_MAX || !slice_cut(&rest, ',', &one) || one.size == 0)
        return false;
    struct monitor_net *net = &out->nets[out->nets_len++];
    *net = (struct monitor_net){ .tap = mem_strndup(one.data, one.size), .fd = -1 };
    random_bytes(net->mac, sizeof(net->mac));
    net->mac[0] = (net->mac[0] & 0xfe) | 0x02; // one station, locally administered
    while (slice_cut(&rest, ',', &one)) {
        struct slice value = { one.data + 4, one.size < 4 ? 0 : one.size - 4 };
        if (!(slice_starts(one, "mac=") && parse_mac(value, net->mac)) &&
            !(slice_starts(one, "mtu=") && parse_u32(value, UINT16_MAX, &mtu) && mtu >= 68))
            return false;
    }
    net->mtu = (uint16_t)mtu;
    return true;
}

static bool parse_vsock(const char *text, struct monitor *out)
{
    struct slice rest = slice_of(text), cid;
    if (!slice_cut(&rest, ',', &cid) || !num_parse_u64(cid, UINT32_MAX, &out->guest_cid) || !rest.data || !rest.size)
        return false;
    out->vsock = rest.data;
    return out->guest_cid > 0;
}

static bool parse_api_fd(const char *text, struct monitor *out)
{
    uint32_t fd;
    if (out->apis_len == MONITOR_APIS_MAX || !parse_u32(slice_of(text), INT32_MAX, &fd) || fd < 3)
        return false;
    out->api_fds[out->apis_len++] = (int)fd;
    return true;
}

static bool parse_option(int option, const char *value, struct monitor *out)
{
    switch (option) {
    case 'k': out->kernel = value; return true;
    case 'i': out->initrd = value; return true;
    case 'r': out->state = value; return true;
    case 'a': out->cmdline = value; return true;
    case 's': out->serial = value; return true;
    case 'K': out->kvm = value; return true;
    case 'A': out->api_path = value; return true;
    case 'p': out->probe = true; return true;
    case 'J': out->no_jail = true; return true;
    case 'c': return parse_u32(slice_of(value), MACHINE_CPUS_MAX, &out->cpus);
    case 'm': return parse_size(value, &out->memory_size);
    case 'd': return parse_disk(value, out);
    case 'P': return parse_layers(value, out);
    case 'n': return parse_net(value, out);
    case 'v': return parse_vsock(value, out);
    case 'F': return parse_api_fd(value, out);
    case 'u': return parse_u32(slice_of(value), UINT32_MAX - 1, &out->uid) && out->uid > 0;
    default: return parse_u32(slice_of(value), UINT32_MAX - 1, &out->gid) && out->gid > 0;
    }
}

static const struct option words[] = {
    { "kernel", required_argument, NULL, 'k' },   { "initrd", required_argument, NULL, 'i' },
    { "restore", required_argument, NULL, 'r' },  { "cmdline", required_argument, NULL, 'a' },
    { "cpus", required_argument, NULL, 'c' },     { "memory", required_argument, NULL, 'm' },
    { "serial", required_argument, NULL, 's' },   { "disk", required_argument, NULL, 'd' },
    { "pmem", required_argument, NULL, 'P' },     { "net", required_argument, NULL, 'n' },
    { "vsock", required_argument, NULL, 'v' },    { "api-sock", required_argument, NULL, 'A' },
    { "api-fd", required_argument, NULL, 'F' },   { "kvm", required_argument, NULL, 'K' },
    { "uid", required_argument, NULL, 'u' },      { "gid", required_argument, NULL, 'g' },
    { "no-jail", no_argument, NULL, 'J' },        { "probe", no_argument, NULL, 'p' },
    { NULL, 0, NULL, 0 },
};

bool monitor_parse(int argc, char **argv, struct monitor *out)
{
    *out = (struct monitor){
        .kvm = "/dev/kvm", .serial = "stdio", .cmdline = "console=ttyS0", .cpus = 1, .memory_size = UINT64_C(256) << 20,
        .uid = JAIL_ID_DEFAULT, .gid = JAIL_ID_DEFAULT, .kernel_fd = -1, .initrd_fd = -1, .state_fd = -1, .kvm_fd = -1,
        .serial_in_fd = -1, .serial_out_fd = -1, .vsock_fd = -1, .link_fd = -1, .vsock_listener = -1, .life_fd = -1,
    };
    int option, index = 0;
    while ((option = getopt_long(argc, argv, "", words, &index)) != -1) {
        if (option == '?')
            return usage();
        if (!parse_option(option, optarg, out))
            return wrong(words[index].name, optarg);
    }
    if (optind != argc || (!out->probe && !out->kernel == !out->state) || (out->state && out->initrd))
        return usage();
    return true;
}
