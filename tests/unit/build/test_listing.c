// A folder as a list: which lists are one, what changed between two, and a file that whoever may have written.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "build/listing.h"

static struct listing_entry entry_of(const char *path, uint32_t type)
{
    return (struct listing_entry){ .path = path, .link = "", .type = type, .mode = 0644, .size = type == LISTING_FILE ? 3 : 0, .mtime_ns = 7 };
}

// "d/" is a folder, "f" a file.
static int add(struct listing *listing, const char *name, struct arena *arena, struct err *err)
{
    size_t size = strlen(name);
    bool folder = size > 1 && name[size - 1] == '/';
    const struct listing_entry entry = entry_of(arena_strndup(arena, name, size - folder), folder ? LISTING_FOLDER : LISTING_FILE);
    return listing_add(listing, &entry, err);
}

static void make(struct listing *listing, const char *words, struct arena *arena)
{
    struct slice rest = slice_of(words), word;
    struct err err;
    *listing = (struct listing){ 0 };
    while (slice_cut(&rest, ' ', &word))
        if (word.size && add(listing, arena_strndup(arena, word.data, word.size), arena, &err) < 0)
            fail_msg("%s: %s", words, err.message);
}

static void the_order_of_a_walk(void **state)
{
    static const struct {
        const char *words; // the last one is in question
        bool good;
    } table[] = {
        { "a", true },           { "a b", true },        { "b a", false },          { "a a", false },        { "a/ a/b", true },    { "a/ a/b a-b", true },
        { "a-b a/", false },      { "a/ a-b a/b", false }, { "a a/b", false },        { "a/b", false },        { "a/ a/b/ a/b/c a/d b", true },
        { "a/ a/b/ a/b/c b/c", false }, { "a/ b/ a/c", false }, { "/a", false },       { "a//b", false },       { "..", false },      { "a/ a/..", false },
        { "a/ a/./b", false },   { ".", false },         { "a/ a/b/ a/b/../c", false }, { "\xc3\xa4", true },  { "z \xc3\xa4", true }, { "\xc3\xa4 z", false },
        { "a.b a/", false },     { "a/ a.b", true },
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        _cleanup_arena_ struct arena arena = ARENA_INIT;
        struct listing listing = { 0 };
        struct slice rest = slice_of(table[i].words), word;
        struct err err = { 0 };
        int done = 0;
        while (done == 0 && slice_cut(&rest, ' ', &word))
            done = add(&listing, arena_strndup(&arena, word.data, word.size), &arena, &err);
        if ((done == 0) != table[i].good)
            fail_msg("%s: %s", table[i].words, done < 0 ? err.message : "taken");
        if (done < 0)
            assert_int_equal(err.class, ERR_INVALID_ARGUMENT);
        listing_done(&listing);
    }
}

static void what_no_entry_is(void **state)
{
    struct listing_entry wrong[] = { entry_of("", LISTING_FILE), entry_of("a", '9'), entry_of("a", 0), entry_of("a", LISTING_FILE), entry_of("a", LISTING_FILE) };
    char longest[5000];
    memset(longest, 'x', sizeof(longest) - 1);
    longest[sizeof(longest) - 1] = '\0';
    wrong[3].size = -1;
    wrong[4].mode = 010000;
    const struct listing_entry too_long = entry_of(longest, LISTING_FILE);
    struct listing listing = { 0 };
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++)
        assert_int_equal(listing_add(&listing, &wrong[i], NULL), -1);
    assert_int_equal(listing_add(&listing, &too_long, NULL), -1);
    assert_int_equal(listing.len, 0);
    listing_done(&listing);
}

static void found_by_its_path(void **state)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    struct listing listing;
    make(&listing, "a/ a/b/ a/b/c a/d a-b b z/ z/y", &arena);
    for (size_t i = 0; i < listing.len; i++)
        assert_ptr_equal(listing_find(&listing, listing.items[i].path), &listing.items[i]);
    assert_null(listing_find(&listing, "a/c"));
    assert_null(listing_find(&listing, ""));
    assert_null(listing_find(&listing, "zz"));
    assert_int_equal(listing_size(&listing), 3 * 5);
    listing_done(&listing);
}

// The fresh ones and, behind a bar, the removed ones.
static char *changes(const struct listing *before, struct listing *now)
{
    _cleanup_strv_ struct strv removed = { 0 };
    struct buf out = BUF_INIT(1 << 16);
    size_t fresh = listing_compare(before, now, &removed), seen = 0;
    for (size_t i = 0; i < now->len; i++)
        if (now->items[i].fresh) {
            buf_addf(&out, "%s ", now->items[i].path);
            seen++;
        }
    assert_int_equal(fresh, seen);
    buf_adds(&out, "|");
    for (size_t i = 0; i < removed.len; i++)
        buf_addf(&out, " %s", removed.items[i]);
    return buf_take(&out);
}

static void what_changed(void **state)
{
    static const struct {
        const char *before, *now, *changes;
    } table[] = {
        { "a b/ b/c", "a b/ b/c", "|" },
        { "", "a b/ b/c", "a b b/c |" },
        { "a b/ b/c", "", "| a b" },
        { "a b/ b/c b/d", "a b/ b/d", "b | b/c" },
        { "a b/ b/c/ b/c/d e", "a b/ e", "b | b/c" },
        { "a b/ b/c/ b/c/d b/c/e e", "a b/ b/c/ b/c/e b/c/f e", "b b/c b/c/f | b/c/d" },
        { "a/ a/b", "a", "a | a/b" },
        { "a", "a/ a/b", "a a/b |" },
        { "a/ a/b a-b", "a-b", "| a" },
        { "a b c", "0 a c d", "0 d | b" },
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        _cleanup_arena_ struct arena arena = ARENA_INIT;
        struct listing before, now;
        make(&before, table[i].before, &arena);
        make(&now, table[i].now, &arena);
        _cleanup_free_ char *found = changes(&before, &now);
        if (!str_eq(found, table[i].changes))
            fail_msg("%s to %s: %s", table[i].before, table[i].now, found);
        listing_done(&before);
        listing_done(&now);
    }
}

static void each_member_counts_but_content(void **state)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    struct listing before, now;
    make(&before, "d/ d/f", &arena);
    memset(before.items[1].digest, 5, LISTING_DIGEST_SIZE);
    for (int member = 0; member < 9; member++) {
        make(&now, "d/ d/f", &arena);
        struct listing_entry *file = &now.items[1];
        int64_t *numbers[] = { &file->size, &file->mtime_ns, &file->major, &file->minor };
        uint32_t *words[] = { &file->mode, &file->uid, &file->gid };
        if (member < 4)
            ++*numbers[member];
        else if (member < 7)
            ++*words[member - 4];
        else if (member == 7)
            file->link = "x";
        _cleanup_free_ char *found = changes(&before, &now);
        assert_string_equal(found, member == 8 ? "|" : "d d/f |");
        assert_int_equal(now.items[1].digest[0], member == 8 ? 5 : 0);
        listing_done(&now);
    }
    listing_done(&before);
}

static void another_name_is_always_told(void **state)
{
    struct listing before = { 0 }, now = { 0 };
    struct listing_entry first = entry_of("a", LISTING_FILE), second = entry_of("b", LISTING_NAME);
    second.link = "a";
    for (int i = 0; i < 2; i++) {
        assert_int_equal(listing_add(i ? &now : &before, &first, NULL), 0);
        assert_int_equal(listing_add(i ? &now : &before, &second, NULL), 0);
    }
    _cleanup_free_ char *found = changes(&before, &now);
    assert_string_equal(found, "b |");
    listing_done(&before);
    listing_done(&now);
}

// ---- its file -------------------------------------------------------------------------------------------------------

static int read_copy(const struct buf *text, size_t size, const char *mark, struct listing *out)
{
    char *copy = mem_alloc(size + 1);
    memcpy(copy, text->data, size);
    return listing_read(copy, size, mark, out, NULL);
}

static void write_one(struct buf *out)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    struct listing listing;
    make(&listing, "a b/ b/c b/long-name-of-a-file", &arena);
    listing.items[2].type = LISTING_LINK;
    listing.items[2].link = "../a";
    listing.items[2].size = 0;
    listing.items[3].digest[31] = 9;
    *out = (struct buf)BUF_INIT(1 << 16);
    listing_write(&listing, "mark", out);
    listing_done(&listing);
}

static void written_and_read(void **state)
{
    struct buf text;
    struct listing read;
    write_one(&text);
    assert_int_equal(read_copy(&text, text.size, "mark", &read), 0);
    assert_int_equal(read.len, 4);
    assert_string_equal(read.items[2].link, "../a");
    assert_string_equal(read.items[3].path, "b/long-name-of-a-file");
    assert_int_equal(read.items[3].above, 2);
    assert_int_equal(read.items[3].digest[31], 9);
    assert_int_equal(read.items[0].mtime_ns, 7);
    listing_done(&read);
    assert_int_equal(read_copy(&text, text.size, "another", &read), -1);
    assert_int_equal(read_copy(&text, text.size, "mar", &read), -1);
    buf_done(&text);
}

static void cut_off_or_longer(void **state)
{
    struct buf text;
    struct listing read;
    write_one(&text);
    for (size_t size = 0; size < text.size; size++)
        assert_int_equal(read_copy(&text, size, "mark", &read), -1);
    buf_addc(&text, '\0');
    assert_int_equal(read_copy(&text, text.size, "mark", &read), -1);
    buf_done(&text);
}

// Whatever is in a file: what is taken is a list in order, whose texts end.
static void other_bytes(void **state)
{
    struct buf text;
    struct listing read;
    write_one(&text);
    for (size_t at = 0; at < text.size; at++)
        for (int value = 0; value < 256; value += 51) {
            char kept = text.data[at];
            text.data[at] = (char)(kept ^ (value + 1));
            if (read_copy(&text, text.size, "mark", &read) == 0) {
                for (size_t i = 0; i < read.len; i++)
                    assert_ptr_equal(listing_find(&read, read.items[i].path), &read.items[i]);
                listing_done(&read);
            }
            text.data[at] = kept;
        }
    buf_done(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_order_of_a_walk),   cmocka_unit_test(what_no_entry_is),           cmocka_unit_test(found_by_its_path),
        cmocka_unit_test(what_changed),          cmocka_unit_test(each_member_counts_but_content), cmocka_unit_test(another_name_is_always_told),
        cmocka_unit_test(written_and_read),      cmocka_unit_test(cut_off_or_longer),          cmocka_unit_test(other_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
