// An image archive, written member by member. Layers are read back by their recipes and hashed on the way: an archive that a damaged
// layer would spoil ends early, and the report says why.
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "transfer/transfer.h"
#include "base/buf.h"
#include "base/fd.h"
#include "base/slice.h"
#include "layer/layer.h"

#define BLOCK 512
#define CHUNK ((size_t)256 << 10)
#define PAGES_MIN ((size_t)16 << 10) // of less content than this a copy is cheaper
#define OCTAL_MAX 077777777777 // what a size's digits hold; above it is binary

struct member {
    char name[TRANSFER_SAVE_NAME_MAX + 1];
    char kind; // of its line: 'f' file, 'l' layer, 'd' folder
    int fds[2];
};

struct save {
    int output_fd;
    struct member *members;
    size_t len;
    char *chunk, *content; // CHUNK each
};

// ---- the order ------------------------------------------------------------------------------------------------------

static const struct {
    const char *word;
    char kind;
    size_t fds;
} kinds[] = { { "output", 'o', 1 }, { "file ", 'f', 1 }, { "layer ", 'l', 2 }, { "folder ", 'd', 0 } };

static int take_line(struct save *save, struct slice line, int **fds, size_t *fd_len, struct err *err)
{
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        size_t word_size = strlen(kinds[i].word);
        if (!slice_starts(line, kinds[i].word) || *fd_len < kinds[i].fds || line.size - word_size > TRANSFER_SAVE_NAME_MAX ||
            save->len == TRANSFER_SAVE_MEMBERS_MAX)
            continue;
        struct member member = { .kind = kinds[i].kind, .fds = { -1, -1 } };
        memcpy(member.name, line.data + word_size, line.size - word_size);
        memcpy(member.fds, *fds, kinds[i].fds * sizeof(int));
        *fds += kinds[i].fds;
        *fd_len -= kinds[i].fds;
        if (member.kind == 'o')
            save->output_fd = member.fds[0];
        else
            save->members[save->len++] = member;
        return 0;
    }
    return err_set(err, ERR_INTERNAL, "save: not an order: %.*s", (int)MIN_OF(line.size, (size_t)100), line.data);
}

// Whole before the first byte goes out: the daemon is not kept waiting.
static int read_order(struct save *save, int order_fd, struct err *err)
{
    _cleanup_free_ char *message = mem_alloc(TRANSFER_SAVE_MESSAGE_MAX);
    save->members = mem_alloc(TRANSFER_SAVE_MEMBERS_MAX * sizeof(*save->members));
    for (;;) {
        int received[TRANSFER_SAVE_FDS_MAX], *fds = received;
        size_t fd_len = ARRAY_LEN(received);
        ssize_t got = fd_recv(order_fd, message, TRANSFER_SAVE_MESSAGE_MAX, received, &fd_len, err);
        if (got <= 0)
            return (int)got;
        struct slice rest = { message, (size_t)got }, line;
        while (slice_cut(&rest, '\n', &line))
            if (line.size > 0 && take_line(save, line, &fds, &fd_len, err) < 0)
                return -1;
    }
}

// ---- members --------------------------------------------------------------------------------------------------------

static void put_size(char field[12], uint64_t size)
{
    if (size <= OCTAL_MAX) {
        snprintf(field, 12, "%011llo", (unsigned long long)size);
        return;
    }
    memset(field, 0, 12);
    field[0] = (char)0x80;
    for (int i = 11; size > 0; i--, size >>= 8)
        field[i] = (char)size;
}

static int write_header(struct save *save, const struct member *member, uint64_t size, struct err *err)
{
    char head[BLOCK] = { 0 };
    unsigned sum = 0;
    memcpy(head, member->name, strlen(member->name));
    memcpy(head + 100, member->kind == 'd' ? "0000755" : "0000644", 7);
    memcpy(head + 108, "0000000", 7); // root's
    memcpy(head + 116, "0000000", 7);
    put_size(head + 124, size);
    memcpy(head + 136, "00000000000", 11); // of 1970: the same image is the same archive
    memset(head + 148, ' ', 8);
    head[156] = member->kind == 'd' ? '5' : '0';
    memcpy(head + 257, "ustar\00000", 8);
    for (size_t i = 0; i < BLOCK; i++)
        sum += (unsigned char)head[i];
    snprintf(head + 148, 8, "%06o", sum);
    return fd_write_full(save->output_fd, head, BLOCK, err);
}

static int pad(struct save *save, uint64_t size, struct err *err)
{
    static const char zeros[BLOCK];
    return fd_write_full(save->output_fd, zeros, (BLOCK - size % BLOCK) % BLOCK, err);
}

static int write_file(struct save *save, const struct member *member, struct err *err)
{
    struct stat info;
    if (fstat(member->fds[0], &info) < 0)
        return err_errno(err, errno, "%s", member->name);
    uint64_t left = (uint64_t)info.st_size;
    if (write_header(save, member, left, err) < 0)
        return -1;
    for (off_t at = 0; left > 0;) {
        ssize_t got = pread(member->fds[0], save->chunk, MIN_OF(CHUNK, left), at);
        if (got <= 0)
            return got < 0 ? err_errno(err, errno, "%s", member->name) : err_set(err, ERR_INTERNAL, "%s: it became shorter", member->name);
        if (fd_write_full(save->output_fd, save->chunk, (size_t)got, err) < 0)
            return -1;
        at += got;
        left -= (uint64_t)got;
    }
    return pad(save, (uint64_t)info.st_size, err);
}

// ---- layers ---------------------------------------------------------------------------------------------------------

// A layer on its way out. Of its content the image's own pages go into the pipe, uncopied; what is small is gathered. A copy is made for
// the hash alone, in a buffer that stays in the processor's cache.
struct layer {
    struct save *save;
    int image_fd;
    struct layer_digest *digest;
    size_t gathered; // in the save's chunk
};

static int flush_layer(struct layer *layer, struct err *err)
{
    size_t size = layer->gathered;
    layer->gathered = 0;
    return size ? fd_write_full(layer->save->output_fd, layer->save->chunk, size, err) : 0;
}

static int gather(struct layer *layer, const void *data, size_t size, struct err *err)
{
    if (layer->gathered + size > CHUNK && flush_layer(layer, err) < 0)
        return -1;
    memcpy(layer->save->chunk + layer->gathered, data, size);
    layer->gathered += size;
    return 0;
}

static int give_pages(struct layer *layer, uint64_t at, size_t size, struct err *err)
{
    loff_t offset = (loff_t)at;
    if (flush_layer(layer, err) < 0)
        return -1;
    while (size > 0) {
        ssize_t got = splice(layer->image_fd, &offset, layer->save->output_fd, NULL, size, SPLICE_F_MORE);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return err_errno(err, got < 0 ? errno : EIO, "give the archive");
        size -= (size_t)got;
    }
    return 0;
}

static int read_content(struct layer *layer, const struct layer_piece *piece, struct err *err)
{
    for (size_t have = 0; have < piece->size;) {
        ssize_t got = pread(layer->image_fd, layer->save->content + have, piece->size - have, (off_t)(piece->image_at + have));
        if (got <= 0)
            return got < 0 ? err_errno(err, errno, "read image") : err_set(err, ERR_INTERNAL, "it is damaged: its image is too short");
        have += (size_t)got;
    }
    return 0;
}

static int give_piece(struct layer *layer, const struct layer_piece *piece, struct err *err)
{
    if (!piece->data && read_content(layer, piece, err) < 0)
        return -1;
    const void *data = piece->data ? piece->data : layer->save->content;
    layer_digest_add(layer->digest, data, piece->size);
    if (!piece->data && piece->size >= PAGES_MIN)
        return give_pages(layer, piece->image_at, piece->size, err);
    return gather(layer, data, piece->size, err);
}

static int give_tar(struct layer *layer, struct layer_recipe *recipe, struct err *err)
{
    struct layer_piece piece;
    int more;
    while ((more = layer_recipe_next(recipe, CHUNK, &piece, err)) > 0)
        if (give_piece(layer, &piece, err) < 0)
            return -1;
    return more < 0 ? -1 : flush_layer(layer, err);
}

static int copy_tar(struct save *save, int image_fd, struct layer_recipe *recipe, char found[72], struct err *err)
{
    struct layer layer = { .save = save, .image_fd = image_fd, .digest = layer_digest_new() };
    int done = give_tar(&layer, recipe, err);
    layer_digest_end(layer.digest, found);
    return done;
}

static int write_tar(struct save *save, const struct member *member, struct layer_recipe *recipe, struct err *err)
{
    char found[72];
    uint64_t size = layer_recipe_info(recipe).tar_size;
    const char *slash = strrchr(member->name, '/'), *claimed = slash ? slash + 1 : member->name;
    if (write_header(save, member, size, err) < 0 || copy_tar(save, member->fds[0], recipe, found, err) < 0)
        return -1;
    if (!str_eq(found + strlen("sha256:"), claimed))
        return err_set(err, ERR_INTERNAL, "it is damaged: its digest is %s", found);
    return pad(save, size, err);
}

static int write_layer(struct save *save, const struct member *member, struct err *err)
{
    struct layer_recipe *recipe;
    if (layer_recipe_open(member->fds[1], member->fds[0], &recipe, err) < 0)
        return err_wrap(err, "layer %s", member->name);
    int done = write_tar(save, member, recipe, err);
    layer_recipe_free(recipe);
    return done < 0 ? err_wrap(err, "layer %s", member->name) : 0;
}

static int write_member(struct save *save, const struct member *member, struct err *err)
{
    if (member->kind == 'd')
        return write_header(save, member, 0, err);
    return member->kind == 'l' ? write_layer(save, member, err) : write_file(save, member, err);
}

static int write_members(struct save *save, struct err *err)
{
    static const char end[2 * BLOCK];
    if (save->output_fd < 0)
        return err_set(err, ERR_INTERNAL, "save: no output");
    for (size_t i = 0; i < save->len; i++) {
        if (write_member(save, &save->members[i], err) < 0)
            return -1;
        fd_close(take_fd(&save->members[i].fds[0]));
        fd_close(take_fd(&save->members[i].fds[1]));
    }
    return fd_write_full(save->output_fd, end, sizeof(end), err);
}

int transfer_save(int order_fd, struct err *err)
{
    struct save save = { .output_fd = -1, .chunk = mem_alloc(CHUNK), .content = mem_alloc(CHUNK) };
    int done = read_order(&save, order_fd, err);
    if (done == 0)
        done = write_members(&save, err);
    for (size_t i = 0; i < save.len; i++) {
        fd_close(save.members[i].fds[0]);
        fd_close(save.members[i].fds[1]);
    }
    fd_close(save.output_fd);
    free(save.members);
    free(save.chunk);
    free(save.content);
    return done;
}
