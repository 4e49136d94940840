// The words of a mount's options that are no option of the file system: the tables are what `features` prints.
#include <sys/mount.h>

#include "kernel/mount.h"
#include "oci/oci_private.h"

static const struct {
    const char *word;
    uint64_t flags;
} propagations[] = {
    { "private", MS_PRIVATE },       { "rprivate", MS_PRIVATE | MS_REC },       { "shared", MS_SHARED },
    { "rshared", MS_SHARED | MS_REC }, { "slave", MS_SLAVE },                   { "rslave", MS_SLAVE | MS_REC },
    { "unbindable", MS_UNBINDABLE }, { "runbindable", MS_UNBINDABLE | MS_REC },
};

// Words that a file system's superblock knows, and those that say nothing to a mount of today.
static const char *const super_words[] = { "sync", "dirsync", "lazytime", "mand" };
static const char *const empty_words[] = { "defaults", "async", "nolazytime", "nomand", "silent", "loud", "acl", "noacl",
                                           "iversion", "noiversion" };
static const char *const other_words[] = { "bind", "rbind", "remount", "tmpcopyup", "idmap", "ridmap" };

static bool listed(const char *const *list, size_t len, const char *word)
{
    for (size_t i = 0; i < len; i++)
        if (str_eq(list[i], word))
            return true;
    return false;
}

static bool other_word(const char *word, struct config_mount *mount, bool *remount, bool *bind)
{
    *bind |= str_eq(word, "bind") || str_eq(word, "rbind");
    mount->recursive |= str_eq(word, "rbind");
    *remount |= str_eq(word, "remount");
    mount->copy_up |= str_eq(word, "tmpcopyup");
    if (str_eq(word, "idmap") || str_eq(word, "ridmap")) {
        mount->idmap_fd = 0; // wanted; which, the mount's maps say
        mount->idmap_recursive = word[0] == 'r';
    }
    return listed(other_words, ARRAY_LEN(other_words), word);
}

// *propagation and *option are set when the word is one of theirs.
bool mount_word(const char *word, struct config_mount *mount, uint64_t *propagation, bool *remount, bool *bind, const char **option)
{
    *propagation = 0;
    *option = NULL;
    if (mount_attr_word(slice_of(word), &mount->set, &mount->clear) || other_word(word, mount, remount, bind) ||
        listed(empty_words, ARRAY_LEN(empty_words), word))
        return true;
    for (size_t i = 0; i < ARRAY_LEN(propagations); i++) {
        if (str_eq(propagations[i].word, word)) {
            *propagation = propagations[i].flags;
            return true;
        }
    }
    if (word[0] == 'r' && mount_attr_word(slice_of(word + 1), &mount->rec_set, &mount->rec_clear))
        return true;
    *option = word;
    return listed(super_words, ARRAY_LEN(super_words), word);
}

static void add_words(json_t *out, const char *const *words, size_t len)
{
    for (size_t i = 0; i < len; i++)
        json_array_append_new(out, json_string(words[i]));
}

void mount_words_list(json_t *out)
{
    const char *word;
    for (size_t i = 0; (word = mount_attr_word_at(i)); i++) {
        json_array_append_new(out, json_string(word));
        json_array_append_new(out, json_sprintf("r%s", word));
    }
    for (size_t i = 0; i < ARRAY_LEN(propagations); i++)
        json_array_append_new(out, json_string(propagations[i].word));
    add_words(out, super_words, ARRAY_LEN(super_words));
    add_words(out, empty_words, ARRAY_LEN(empty_words));
    add_words(out, other_words, ARRAY_LEN(other_words));
}
