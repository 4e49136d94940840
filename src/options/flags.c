// The command line, as pflag reads it: "--name value", "--name=value", "-n value"; a flag alone is true.
#include <arpa/inet.h>
#include <getopt.h>

#include "options_private.h"

#define FIRST 256 // what getopt gives for the first row

void options_init(struct options *options)
{
    *options = (struct options){ 0 };
    options->config_file = (char *)OPTIONS_CONFIG_FILE;
    options->data_root = (char *)"/var/lib/berth";
    options->exec_root = (char *)"/run/berth";
    options->log_level = (char *)"info";
    options->log_format = (char *)"text";
    options->log_driver = (char *)"json-file";
    options->max_downloads = 3;
    options->max_uploads = options->max_attempts = 5;
    options->stop_timeout = -1;
    options->icc = options->ip_masq = options->ip_forward = options->iptables = options->ip6tables = options->userland_proxy = true;
}

void options_done(struct options *options)
{
    arena_done(&options->arena);
}

bool options_given(const struct options *options, const char *flag)
{
    const struct option_row *row = option_by_flag(flag);
    return row && options->from[row - option_table] != OPTION_UNSET;
}

static void make_getopt(struct option long_options[OPTIONS_MAX + 1], char letters[3 * OPTIONS_MAX])
{
    size_t len = 0;
    char *letter = letters;
    *letter++ = ':'; // a missing value is told apart from an unknown flag
    for (size_t i = 0; i < option_len; i++) {
        const struct option_row *row = &option_table[i];
        int takes = row->kind == OPTION_FLAG ? optional_argument : required_argument;
        if (row->flag)
            long_options[len++] = (struct option){ row->flag, takes, NULL, FIRST + (int)i };
        if (row->letter) {
            *letter++ = row->letter;
            if (takes == required_argument)
                *letter++ = ':';
        }
    }
    long_options[len] = (struct option){ 0 };
    *letter = '\0';
}

static const struct option_row *row_of(int got)
{
    if (got >= FIRST)
        return &option_table[got - FIRST];
    for (size_t i = 0; i < option_len; i++)
        if (option_table[i].letter == got)
            return &option_table[i];
    return NULL;
}

// "--icc=false is not supported: ...", "invalid argument "x" for "--mtu": not a whole number".
static int name_it(const struct option_row *row, const char *text, struct err *err)
{
    const struct err inner = *err;
    if (inner.class == ERR_NOT_IMPLEMENTED)
        return err_set(err, inner.class, "--%s=%s %s", row->flag, text, inner.message);
    return err_set(err, inner.class, "invalid argument \"%s\" for \"--%s\": %s", text, row->flag, inner.message);
}

static int bad_flag(int got, char *argv[], struct err *err)
{
    const char *word = argv[optind - 1];
    char letter[3] = { '-', (char)optopt, '\0' };
    if (optopt > 0 && optopt < FIRST && !str_starts(word, "--"))
        word = letter;
    return err_set(err, ERR_INVALID_ARGUMENT, got == ':' ? "flag needs an argument: %s" : "unknown flag: %s; see berthd --help", word);
}

int options_parse_flags(int argc, char *argv[], struct options *out, struct err *err)
{
    struct option long_options[OPTIONS_MAX + 1];
    char letters[3 * OPTIONS_MAX];
    int got;
    make_getopt(long_options, letters);
    opterr = 0;
    optind = 0; // glibc: from the start, with everything forgotten
    while ((got = getopt_long(argc, argv, letters, long_options, NULL)) != -1) {
        const struct option_row *row = row_of(got);
        if (!row)
            return bad_flag(got, argv, err);
        const char *text = optarg ? optarg : "true";
        if (option_set(out, row, text, err) < 0)
            return name_it(row, text, err);
        out->from[row - option_table] = OPTION_FROM_FLAG;
    }
    return optind < argc ? err_set(err, ERR_INVALID_ARGUMENT, "unexpected argument: %s", argv[optind]) : 0;
}

// Two values of one key: nobody knows which one counts.
static int check_labels(const struct strv *labels, struct err *err)
{
    for (size_t i = 0; i < labels->len; i++) {
        const char *label = labels->items[i];
        size_t key_size = strcspn(label, "=");
        if (!label[key_size] || key_size == 0)
            return err_set(err, ERR_INVALID_ARGUMENT, "bad attribute format: %s", label);
        for (size_t k = 0; k < i; k++)
            if (strncmp(labels->items[k], label, key_size + 1) == 0 && !str_eq(labels->items[k], label))
                return err_set(err, ERR_INVALID_ARGUMENT, "conflict labels for %s and %s", label, labels->items[k]);
    }
    return 0;
}

static bool is_address(const char *text, bool four, bool six)
{
    unsigned char ignored[16];
    return (four && inet_pton(AF_INET, text, ignored) == 1) || (six && inet_pton(AF_INET6, text, ignored) == 1);
}

static int check_addresses(const struct options *options, struct err *err)
{
    const struct {
        const char *name, *text;
        bool four, six;
    } table[] = { { "default-gateway", options->default_gateway, true, false }, { "default-gateway-v6", options->default_gateway6, false, true },
                  { "ip", options->publish_ip, true, true },                    { "host-gateway-ip", options->host_gateway_ip, true, true } };
    for (size_t i = 0; i < ARRAY_LEN(table); i++)
        if (!str_empty(table[i].text) && !is_address(table[i].text, table[i].four, table[i].six))
            return err_set(err, ERR_INVALID_ARGUMENT, "--%s: invalid IP%s address: %.100s", table[i].name,
                           table[i].four && table[i].six ? "" : table[i].four ? "v4" : "v6", table[i].text);
    for (size_t i = 0; i < options->host_gateway_ips.len; i++)
        if (!is_address(options->host_gateway_ips.items[i], true, true))
            return err_set(err, ERR_INVALID_ARGUMENT, "--host-gateway-ip: invalid IP address: %.100s", options->host_gateway_ips.items[i]);
    for (size_t i = 0; i < options->dns.len; i++)
        if (!is_address(options->dns.items[i], true, true))
            return err_set(err, ERR_INVALID_ARGUMENT, "--dns: bad nameserver address %.100s", options->dns.items[i]);
    for (size_t i = 0; i < options->registry_mirrors.len; i++)
        if (!strstr(options->registry_mirrors.items[i], "://"))
            return err_set(err, ERR_INVALID_ARGUMENT, "--registry-mirror: invalid mirror: no scheme specified for \"%.100s\": must use either 'https://' or 'http://'",
                           options->registry_mirrors.items[i]);
    return 0;
}

// What the engine would find out at the start, which --validate does not come to.
static int check_forms(const struct options *options, struct err *err)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    char *text;
    int64_t soft, hard;
    for (size_t i = 0; i < options->ulimits.len; i++)
        if (options_parse_ulimit(options->ulimits.items[i], &arena, &text, &soft, &hard, err) < 0)
            return -1;
    for (size_t i = 0; i < options->address_pools.len; i++)
        if (options_parse_pool(options->address_pools.items[i], &arena, &text, &hard, err) < 0)
            return -1;
    return check_addresses(options, err);
}

int options_check(const struct options *options, struct err *err)
{
    enum log_level ignored;
    if (!log_level_parse(options->log_level, &ignored))
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid logging level: %s", options->log_level);
    if (!str_eq(options->log_format, "text") && !str_eq(options->log_format, "json"))
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid log format: %s", options->log_format);
    if (!str_empty(options->host_gateway_ip) && options->host_gateway_ips.len)
        return err_set(err, ERR_INVALID_ARGUMENT, "host-gateway-ip and host-gateway-ips: one of them");
    if (!options->icc && (!options->iptables || (options->ipv6 && !options->ip6tables))) {
        const char *tables = options->iptables ? "ip6tables" : "iptables";
        return err_set(err, ERR_INVALID_ARGUMENT, "You specified --%s=false with --icc=false. ICC=false uses %s to function. Please set --icc or --%s "
                                                  "to true", tables, tables, tables);
    }
    return check_labels(&options->labels, err) < 0 ? -1 : check_forms(options, err);
}
