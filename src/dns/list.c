// A network's list of names: lines of words.
#include <arpa/inet.h>
#include <ctype.h>

#include "dns/dns.h"

bool dns_next_word(struct slice *rest, struct slice *word)
{
    return slice_cut(rest, ' ', word) && word->size > 0;
}

bool dns_name_eq(struct slice a, struct slice b)
{
    return a.size == b.size && (a.size == 0 || strncasecmp(a.data, b.data, a.size) == 0);
}

bool dns_word_valid(const char *word)
{
    size_t size = strlen(word);
    for (size_t i = 0; i < size; i++)
        if ((unsigned char)word[i] <= ' ' || word[i] == 0x7f)
            return false;
    return size > 0 && size < DNS_NAME_SIZE;
}

static bool is_double(const char *const *names, size_t index)
{
    for (size_t i = 0; i < index; i++)
        if (dns_name_eq(slice_of(names[i]), slice_of(names[index])))
            return true;
    return false;
}

void dns_list_line(const char *container_id, const char *address, const char *address6, const char *const *names, size_t len,
                   struct buf *out)
{
    buf_addf(out, "%s %s%s%s", container_id, address, *address6 ? "," : "", address6);
    for (size_t i = 0; i < len; i++)
        if (dns_word_valid(names[i]) && !is_double(names, i))
            buf_addf(out, " %s", names[i]);
    buf_adds(out, "\n");
}

static bool is_of(struct slice line, const char *container_id)
{
    struct slice id;
    return slice_cut(&line, ' ', &id) && slice_eq(id, container_id);
}

bool dns_list_edit(struct slice list, const char *container_id, const char *line, struct buf *out)
{
    struct slice rest = list, old;
    bool found = false, same = false;
    buf_clear(out);
    while (slice_cut(&rest, '\n', &old)) {
        if (old.size == 0)
            continue;
        if (is_of(old, container_id)) {
            found = true;
            same = line && strlen(line) == old.size + 1 && memcmp(line, old.data, old.size) == 0;
            continue;
        }
        buf_add(out, old.data, old.size);
        buf_addc(out, '\n');
    }
    if (line)
        buf_adds(out, line);
    return line ? !same : found;
}

size_t dns_entry_address(const struct dns_entry *entry, int family, uint8_t out[16])
{
    const struct slice *from = family == AF_INET ? &entry->address : &entry->address6;
    char text[INET6_ADDRSTRLEN];
    if (from->size == 0 || from->size >= sizeof(text))
        return 0;
    memcpy(text, from->data, from->size);
    text[from->size] = 0;
    return inet_pton(family, text, out) != 1 ? 0 : family == AF_INET ? sizeof(struct in_addr) : sizeof(struct in6_addr);
}

bool dns_list_next(struct slice *rest, struct dns_entry *out)
{
    struct slice line, addresses;
    while (slice_cut(rest, '\n', &line)) {
        if (dns_next_word(&line, &out->container_id) && dns_next_word(&line, &addresses)) {
            slice_cut(&addresses, ',', &out->address);
            out->address6 = addresses;
            out->names = line;
            return true;
        }
    }
    return false;
}

bool dns_entry_has(const struct dns_entry *entry, struct slice name)
{
    struct slice rest = entry->names, word;
    while (dns_next_word(&rest, &word))
        if (dns_name_eq(word, name))
            return true;
    return false;
}
