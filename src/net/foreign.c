// Other firewalls on the host. A packet must be accepted by every table's forward chain, so a foreign drop can't be
// overruled from our table. Docker offers a place where it can: the chain DOCKER-USER, which its FORWARD visits first.
#include <fcntl.h>
#include <stdio.h>

#include "base/file.h"
#include "base/process.h"
#include "base/slice.h"
#include "net_private.h"

enum { LISTING_CEILING = 1024 * 1024, NAME_SIZE = 64, CHAINS_MAX = 16, RULE_COPIES_MAX = 8 };

#define DROPS "drops forwarded packets: containers may not be reachable"

// The words of both kinds; the chains of family inet are of both.
static const struct kind {
    const char *word, *nft, *plain, *legacy, *legacy_tables;
} kinds[] = { { "ip", "iptables-nft", "iptables", "iptables-legacy", "/proc/thread-self/net/ip_tables_names" },
              { "ip6", "ip6tables-nft", "ip6tables", "ip6tables-legacy", "/proc/thread-self/net/ip6_tables_names" } };

struct chain {
    char family[8], table[NAME_SIZE], name[NAME_SIZE];
};

// Forward chains of others, and what of Docker is there.
struct survey {
    const struct kind *kind;
    struct chain chains[CHAINS_MAX];
    size_t len;
    bool docker_user; // in nftables' "ip filter" ("ip6 filter"), where iptables-nft keeps it
    bool legacy_drop, legacy_docker_user;
};

static bool run(char *const argv[], struct buf *output)
{
    struct err ignored;
    return process_run(argv, NULL, output, &ignored) == 0;
}

// ---- looking --------------------------------------------------------------------------------------------------------

static void read_chains(struct slice listing, struct survey *survey)
{
    struct chain at = { 0 };
    struct slice line;
    char text[256];
    while (slice_cut(&listing, '\n', &line)) {
        snprintf(text, sizeof(text), "%.*s", (int)MIN_OF(line.size, sizeof(text) - 1), line.data);
        if (sscanf(text, " table %7s %63s", at.family, at.table) == 2)
            continue;
        if (sscanf(text, " chain %63s", at.name) == 1) {
            survey->docker_user |= str_eq(at.family, survey->kind->word) && str_eq(at.table, "filter") && str_eq(at.name, "DOCKER-USER");
            continue;
        }
        bool of_kind = str_eq(at.family, survey->kind->word) || str_eq(at.family, "inet");
        if (of_kind && strstr(text, " hook forward ") && !str_starts(at.table, "berth_") && survey->len < CHAINS_MAX)
            survey->chains[survey->len++] = at;
    }
}

// Listing by iptables-legacy loads its module and makes its table where there is none: only asked where there is one.
static void look_at_legacy(struct survey *survey)
{
    char *argv[] = { (char *)survey->kind->legacy, (char *)"-w", (char *)"5", (char *)"-S", NULL };
    _cleanup_buf_ struct buf tables = BUF_INIT(4096), rules = BUF_INIT(LISTING_CEILING);
    if (file_read_at(AT_FDCWD, survey->kind->legacy_tables, &tables, NULL) < 0 ||
        !strstr(buf_text(&tables), "filter") || !run(argv, &rules))
        return;
    survey->legacy_drop = strstr(buf_text(&rules), "-P FORWARD DROP");
    survey->legacy_docker_user = strstr(buf_text(&rules), "-N DOCKER-USER");
}

static void look(struct survey *survey)
{
    char *argv[] = { (char *)"nft", (char *)"list", (char *)"chains", NULL };
    _cleanup_buf_ struct buf listing = BUF_INIT(LISTING_CEILING);
    if (run(argv, &listing))
        read_chains((struct slice){ buf_text(&listing), listing.size }, survey);
    look_at_legacy(survey);
}

static bool is_verdict(const char *rule)
{
    int skipped = 0;
    sscanf(rule, " counter packets %*u bytes %*u %n", &skipped);
    rule += skipped;
    rule += strspn(rule, " \t");
    return str_starts(rule, "drop") || str_starts(rule, "reject");
}

// By its policy, or by a last rule without a condition, as firewalld does it.
static bool chain_drops(const struct chain *chain)
{
    char *argv[] = { (char *)"nft", (char *)"list", (char *)"chain", (char *)chain->family, (char *)chain->table,
                     (char *)chain->name, NULL };
    _cleanup_buf_ struct buf listing = BUF_INIT(LISTING_CEILING);
    struct slice rest, line;
    char text[128];
    if (!run(argv, &listing))
        return false;
    if (strstr(buf_text(&listing), "policy drop"))
        return true;
    rest = (struct slice){ buf_text(&listing), listing.size };
    while (slice_cut(&rest, '\n', &line)) {
        snprintf(text, sizeof(text), "%.*s", (int)MIN_OF(line.size, sizeof(text) - 1), line.data);
        if (is_verdict(text))
            return true;
    }
    return false;
}

// ---- DOCKER-USER ----------------------------------------------------------------------------------------------------

static bool rule(const char *tool, const char *verb, const char *direction, const char *bridge, const char *comment)
{
    const char *argv[] = { tool, "-w", "5", verb, "DOCKER-USER", direction, bridge, "-m", "comment", "--comment", comment,
                           "-j", "ACCEPT", NULL };
    _cleanup_buf_ struct buf output = BUF_INIT(LISTING_CEILING);
    return run((char *const *)argv, &output);
}

static bool insert(const char *tool, const char *bridge, const char *comment)
{
    static const char *const directions[] = { "-i", "-o" };
    for (size_t i = 0; i < ARRAY_LEN(directions); i++)
        if (!rule(tool, "-C", directions[i], bridge, comment) && !rule(tool, "-I", directions[i], bridge, comment))
            return false;
    return true;
}

void foreign_withdraw(const char *tool, const char *bridge, const char *comment)
{
    for (int i = 0; i < RULE_COPIES_MAX && rule(tool, "-D", "-i", bridge, comment); i++)
        ;
    for (int i = 0; i < RULE_COPIES_MAX && rule(tool, "-D", "-o", bridge, comment); i++)
        ;
}

// The iptables that owns the chain: that of the back end it was found in.
static const char *admit(const struct survey *survey, const char *bridge, const char *comment)
{
    const struct kind *kind = survey->kind;
    if (survey->docker_user && insert(kind->nft, bridge, comment))
        return kind->nft;
    if (survey->docker_user && insert(kind->plain, bridge, comment))
        return kind->plain;
    if (survey->legacy_docker_user && insert(kind->legacy, bridge, comment))
        return kind->legacy;
    return NULL;
}

void foreign_admit(int family, const char *bridge, const char *comment, char **line, const char **tool)
{
    const struct kind *kind = &kinds[family == AF_INET6];
    struct survey survey = { .kind = kind };
    look(&survey);
    *tool = admit(&survey, bridge, comment);
    *line = NULL;
    bool legacy = *tool && str_eq(*tool, kind->legacy);
    if (survey.legacy_drop && !legacy)
        *line = mem_printf("WARNING: the FORWARD chain of %s " DROPS, kind->legacy);
    for (size_t i = 0; i < survey.len && !*line; i++) {
        const struct chain *chain = &survey.chains[i];
        bool docker_chain = str_eq(chain->family, kind->word) && str_eq(chain->table, "filter") && str_eq(chain->name, "FORWARD");
        if (chain_drops(chain) && !(docker_chain && *tool && !legacy))
            *line = mem_printf("WARNING: chain %s of nftables table %s %s " DROPS, chain->name, chain->family, chain->table);
    }
}
