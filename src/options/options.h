// What an operator says to the daemon: dockerd's flags and dockerd's daemon.json, out of one table (option_table). A row says what
// happens: the option is honoured, it passes because it asks for nothing that Berth does (OPTION_PASSES), or it is refused by one line
// unless its value is one of those that say what is the case anyway (OPTION_REFUSED with `idle`).
//
//     options_parse_flags()   the command line; what it says is marked
//     options_read_file()     daemon.json; conflicts with the flags and unknown keys are errors, in dockerd's words
//
// A reload is the same two calls into a fresh struct. Everything that the values point at is the struct's arena. Not thread-safe
// (getopt is not).
#ifndef OPTIONS_OPTIONS_H
#define OPTIONS_OPTIONS_H

#include "base/arena.h"
#include "base/err.h"
#include "base/log.h"
#include "base/strv.h"

#define OPTIONS_CONFIG_FILE "/etc/berth/daemon.json"
#define OPTIONS_MAX 160 // rows

struct options {
    struct arena arena;
    unsigned char from[OPTIONS_MAX]; // enum option_source of each row

    char *config_file, *data_root, *exec_root, *pidfile, *group, *log_format, *log_level, *metrics_addr;
    char *userns_remap;
    char *bridge, *fixed_cidr, *default_gateway, *host_gateway_ip;
    char *bip6, *fixed_cidr6, *default_gateway6, *accept_mark;
    struct strv host_gateway_ips;
    bool icc, ip_masq, ip_forward, ipv6, iptables, ip6tables, userland_proxy, direct_routing;
    int64_t mtu;
    struct strv network_options; // "bridge=com.docker.network.driver.mtu=1400"
    char *storage_driver, *bip, *accel, *guest, *registry_certs;
    char *tlscacert, *tlscert, *tlskey;
    bool tls, tlsverify, debug, stop_all, validate, help, version, docker_socket;
    struct strv hosts, labels, insecure_registries, registry_mirrors;
    int64_t max_downloads, max_uploads, max_attempts, inflate_ratio;
    char *http_proxy, *https_proxy, *no_proxy;

    // What containers get that do not say.
    struct strv dns, dns_search, dns_options;
    struct strv ulimits; // "nofile=1024:2048"
    struct strv log_opts; // "max-size=10m"
    struct strv cdi_spec_dirs;
    char *log_driver, *default_runtime, *cgroupns_mode, *ipc_mode, *cgroup_parent, *seccomp_profile, *publish_ip;
    struct strv address_pools; // "base=10.10.0.0/16,size=24"
    int64_t shm_size, stop_timeout;
    bool init, no_new_privileges, keep_compressed, experimental;
};

enum option_kind {
    OPTION_TEXT, // char *
    OPTION_FLAG, // bool; "--debug", "--debug=false"
    OPTION_COUNT, // int64_t, 0 or more
    OPTION_SIZE, // int64_t, bytes: "64m"; in the file also a number
    OPTION_LIST, // struct strv; may be repeated
    OPTION_PAIRS, // struct strv of "key=value"; an object in the file
    OPTION_ULIMITS, // struct strv of "name=soft:hard"; in the file {"nofile": {"Name", "Soft", "Hard"}}
    OPTION_POOLS, // struct strv of "base=10.10.0.0/16,size=24"; in the file a list of {"base", "size"}
    OPTION_NESTED, // struct strv of "driver=key=value"; an object of objects in the file
    OPTION_OBJECTS, // never honoured; in the file a list of objects
};
enum option_answer { OPTION_HONOURED, OPTION_PASSES, OPTION_REFUSED };
enum option_source { OPTION_UNSET, OPTION_FROM_FLAG, OPTION_FROM_FILE };

struct option_row {
    const char *flag; // NULL: in the file alone
    const char *key; // in the file; NULL: none
    char letter;
    enum option_kind kind;
    enum option_answer answer;
    size_t offset; // HONOURED
    const char *idle; // REFUSED: values that pass, as fnmatch patterns with '|' between them
    const char *argument; // how the help calls it
    const char *help; // HONOURED: what it does; PASSES and REFUSED: why
    const char *words; // HONOURED text: the only values, with '|' between them; NULL: any
    bool reloads; // read again on SIGHUP
};

extern const struct option_row option_table[];
extern const size_t option_len;

void options_init(struct options *options); // the defaults
void options_done(struct options *options);
// invalid_argument, not_implemented for what is refused; one line that names the flag.
int options_parse_flags(int argc, char *argv[], struct options *out, struct err *err);
// Reads options->config_file. Without one there is nothing to read, unless the command line named it.
int options_read_file(struct options *options, struct err *err);
// What can only be said of all together: labels, words.
int options_check(const struct options *options, struct err *err);
bool options_given(const struct options *options, const char *flag); // by flag or file
void options_help(FILE *out);
// "name=soft[:hard]"; hard is soft when it is not said. -1 is "unlimited".
int options_parse_ulimit(const char *text, struct arena *arena, char **name, int64_t *soft, int64_t *hard, struct err *err);
// "base=10.10.0.0/16,size=24", in any order.
int options_parse_pool(const char *text, struct arena *arena, char **base, int64_t *size, struct err *err);

#endif
