// Names of containers by DNS: questions, answers, and the two files that the answers come from. No sockets, no descriptors, no
// state; what is read is bounded, whoever wrote it.
//
// A network has a list, a line for each container on it, edited by the daemon when one joins or leaves:
//
//     <container id> <IPv4 address>[,<IPv6 address>] <name> [<name> ...]     the first name is the one that the addresses have
//
// A container has its settings:
//
//     network <network id> <network name>                           a network that it is on, in the order they are asked; a
//                                                                   network's name may have blanks
//     link <network id> <name> <name in the list>                    a name that it alone has for another
//     server <address>        host <address>                         who is asked for what no network has, from the container's
//                                                                   network, or from the host's
//     ndots                                                         its resolv.conf had its own: names without a dot are not asked for
//
// Names are compared without regard to case. "web.blue" is "web" on the network "blue".
#ifndef DNS_DNS_H
#define DNS_DNS_H

#include <net/if.h>
#include <netinet/in.h>

#include "base/buf.h"
#include "base/slice.h"

#define DNS_SETTINGS_NAME "names" // of a container's settings, in its state folder <state>/t/<id>
#define DNS_LISTS_NAME "names" // of the folder of lists, <state>/names/<network id>
#define DNS_PORT 53
#define DNS_RESOLVER_ADDRESS 0x7f00000bu // 127.0.0.11, where containers ask
#define DNS_HEADER_SIZE 12
#define DNS_NAME_SIZE 256 // a name as text, with its NUL
#define DNS_QUERY_MAX 4096 // bytes; longer ones are not answered
#define DNS_DATAGRAM_MAX 512 // bytes that every client takes
#define DNS_MESSAGE_MAX 65535 // bytes, by TCP
#define DNS_NETWORK_MAX 128 // of one container; what is on more finds the names of so many
#define DNS_SERVER_MAX 3
#define DNS_ADDRESS_MAX 4000 // of one name; the rest of them is not told

enum dns_type { DNS_A = 1, DNS_PTR = 12, DNS_MX = 15, DNS_AAAA = 28, DNS_OPT = 41 };
enum dns_class { DNS_IN = 1 };
enum dns_rcode { DNS_OK = 0, DNS_FORMERR = 1, DNS_SERVFAIL = 2, DNS_NXDOMAIN = 3, DNS_NOTIMP = 4, DNS_REFUSED = 5 };

// ---- messages (message.c) -------------------------------------------------------------------------------------------

struct dns_query {
    uint16_t type, class;
    char name[DNS_NAME_SIZE]; // lower case, no dot at its end; "" for the root and for what can't be a container's
    size_t question_end; // offset in the message
    bool edns;
    size_t datagram_max; // bytes of an answer that the client takes in one datagram
};

// DNS_OK and the one question; another rcode is the answer to give, *out then has no question (question_end 0). -1: no question
// at all, not to be answered.
int dns_query_read(const uint8_t *message, size_t size, struct dns_query *out);
// An answer without records. `out` is cleared first, as by all that follow.
void dns_reply(const uint8_t *message, const struct dns_query *query, int rcode, struct buf *out);
// As many addresses (network order, of `size` bytes each, as the question's type has them) as `max` bytes hold, marked as cut where that
// is not all.
void dns_reply_addresses(const uint8_t *message, const struct dns_query *query, const uint8_t *addresses, size_t size, size_t len,
                         size_t max, struct buf *out);
void dns_reply_name(const uint8_t *message, const struct dns_query *query, const char *name, struct buf *out); // PTR
// Is this the answer to that question? A server that refuses may leave the question out.
bool dns_reply_fits(const uint8_t *message, const struct dns_query *query, const uint8_t *reply, size_t size);
int dns_reply_rcode(const uint8_t *reply); // of one that fits

// ---- a network's list (list.c) ----------------------------------------------------------------------------------------

// The line of one container, appended. Names that nobody can ask for (blanks, control characters, empty, too long) are left out,
// doubles too.
void dns_list_line(const char *container_id, const char *address, const char *address6, const char *const *names, size_t len,
                   struct buf *out); // address6 "": it has none
// The list without that container's line and, unless it is NULL, with this one at the end. False when nothing is different: `out` is
// then of no use.
bool dns_list_edit(struct slice list, const char *container_id, const char *line, struct buf *out);
// One line after another: false at the end. Lines that are none are passed over. Only what is asked of an entry is looked at: a thousand
// are read for one question.
struct dns_entry {
    struct slice container_id, address, address6, names; // address6: empty where it has none
};
bool dns_list_next(struct slice *rest, struct dns_entry *out);
bool dns_entry_has(const struct dns_entry *entry, struct slice name);
// AF_INET or AF_INET6, in network order: its size, 0 where it has none.
size_t dns_entry_address(const struct dns_entry *entry, int family, uint8_t out[16]);

// ---- a container's settings (settings.c) ------------------------------------------------------------------------------

struct dns_network {
    struct slice id, name, list; // `list` is the caller's to fill in
};
struct dns_server {
    struct sockaddr_storage address; // with the port
    socklen_t size;
    bool host; // reached from the host's network namespace
};
struct dns_settings {
    struct slice text; // borrowed, as all slices
    struct dns_network networks[DNS_NETWORK_MAX];
    size_t network_len;
    struct dns_server servers[DNS_SERVER_MAX];
    size_t server_len;
    bool ndots;
};
void dns_settings_read(struct slice text, struct dns_settings *out);
void dns_settings_network(struct buf *text, const char *id, const char *name);
void dns_settings_link(struct buf *text, const char *network_id, const char *name, const char *target);
void dns_settings_server(struct buf *text, const char *address, bool host);
void dns_settings_ndots(struct buf *text);
// The name in the list that `name` stands for on that network; false: it is no link's.
bool dns_settings_find_link(const struct dns_settings *settings, struct slice network_id, struct slice name, struct slice *target);

// ---- answers (answer.c) -----------------------------------------------------------------------------------------------

// True: `out` is the answer, of `max` bytes at most. False: no network has the name, somebody else has to be asked.
bool dns_answer(const struct dns_settings *settings, const uint8_t *message, const struct dns_query *query, size_t max,
                struct buf *out);

bool dns_word_valid(const char *word); // may stand in a file
bool dns_name_eq(struct slice a, struct slice b); // without regard to case
bool dns_next_word(struct slice *rest, struct slice *word); // parted by one blank; false at the end

#endif
