#include "build/chmod.h"

#include <stddef.h>

#define USER 04700u
#define GROUP 02070u
#define OTHERS 0007u
#define EVERYBODY (USER | GROUP | OTHERS)
#define STICKY 01000u
#define UMASK 0022u

struct change {
    const char *at;
    uint32_t before, mode; // as the file has it; as it is so far
    bool folder;
    uint32_t who; // 0: nobody was named
};

// A class's bits in all three places.
static uint32_t copies(uint32_t mode, unsigned shift)
{
    return (mode >> shift & 7u) * 0111u;
}

// One letter behind the operator. False: it is none.
static bool add_letter(struct change *change, uint32_t *bits)
{
    bool set_id = change->who == 0 || (change->who & ~OTHERS);
    switch (*change->at) {
    case 'r': *bits |= 0444; return true;
    case 'w': *bits |= 0222; return true;
    case 'x': *bits |= 0111; return true;
    case 'X': *bits |= change->folder || (change->before & 0111) ? 0111 : 0; return true;
    case 's': *bits |= set_id ? 06000 : 0; return true;
    case 't': *bits |= set_id ? STICKY : 0; return true;
    case 'u': *bits |= copies(change->mode, 6); return true;
    case 'g': *bits |= copies(change->mode, 3); return true;
    case 'o': *bits |= copies(change->mode, 0); return true;
    default: return false;
    }
}

static bool apply_operator(struct change *change)
{
    char op = *change->at;
    uint32_t bits = 0;
    if (op != '+' && op != '-' && op != '=')
        return false;
    for (change->at++; add_letter(change, &bits);)
        change->at++;
    bits &= change->who ? change->who | STICKY : ~UMASK;
    if (op == '=')
        change->mode &= ~((change->who ? change->who : EVERYBODY) | (bits & STICKY));
    change->mode = op == '-' ? change->mode & ~bits : change->mode | bits;
    return true;
}

static bool apply_clause(struct change *change)
{
    change->who = 0;
    for (;; change->at++) {
        char c = *change->at;
        uint32_t who = c == 'u' ? USER : c == 'g' ? GROUP : c == 'o' ? OTHERS : c == 'a' ? EVERYBODY : 0;
        if (!who)
            break;
        change->who |= who;
    }
    do
        if (!apply_operator(change))
            return false;
    while (*change->at && *change->at != ',');
    return true;
}

bool chmod_apply(const char *text, bool folder, uint32_t *mode)
{
    struct change change = { .at = text, .before = *mode, .mode = *mode, .folder = folder };
    for (;;) {
        if (!apply_clause(&change))
            return false;
        if (!*change.at)
            break;
        change.at++;
    }
    *mode = change.mode & 07777;
    return true;
}
