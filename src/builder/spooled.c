// The context's folder. One that comes as a tar is listed and hashed as it comes, and unpacked when the first file of it is needed: a build that finds all of
// its steps in the cache needs none.
#include "base/path.h"
#include "builder_private.h"

void context_open(struct context *context)
{
    *context = (struct context){ .folder_fd = -1, .spool_fd = -1, .kept.fd = -1 };
    mutex_init(&context->lock, 0);
}

void context_close(struct context *context)
{
    fd_close(context->folder_fd);
    fd_close(context->spool_fd);
    listing_done(&context->listed);
    kept_tar_close(&context->kept);
    mutex_done(&context->lock);
}

// ---- a tar ----------------------------------------------------------------------------------------------------------

// A client sends both files though its .dockerignore leaves them out: they are of the build, not of the context.
static int find_hidden(struct build *build, const char *dockerfile, const struct buf *text, struct err *err)
{
    const char *const files[] = { dockerfile, ".dockerignore" };
    struct ignore *ignore;
    if (ignore_parse((struct slice){ buf_text(text), text->size }, build->arena, &ignore, err) < 0)
        return -1;
    for (size_t i = 0; i < ARRAY_LEN(files); i++)
        if (ignore_match(ignore, files[i]))
            strv_push_arena(&build->context->hidden, build->arena, path_clean(slice_of(files[i]), build->arena));
    return 0;
}

static bool take_entries(struct context *context, const struct listing_entry *entries, size_t len)
{
    struct err ignored = { 0 };
    for (size_t i = 0; i < len; i++)
        if (!strv_has(&context->hidden, entries[i].path) && listing_add(&context->listed, &entries[i], &ignored) < 0) {
            listing_done(&context->listed);
            return false;
        }
    context->listing = &context->listed;
    return true;
}

static int unpack(struct build *build, struct err *err)
{
    const struct strv none = { 0 };
    struct context *context = build->context;
    struct err missing = { 0 };
    context->folder_fd = workshop_folder(build->workshop, "context", err);
    if (context->folder_fd < 0 || folder_update(build->engine, context->folder_fd, &none, context->spool_fd, build->cancel, err) < 0)
        return -1;
    for (size_t i = 0; i < context->hidden.len; i++)
        if (folder_remove(build->engine, context->folder_fd, context->hidden.items[i], build->cancel, &missing) < 0 && missing.class != ERR_NOT_FOUND)
            return err_set(err, missing.class, "%s", missing.message);
    fd_close(take_fd(&context->spool_fd));
    return 0;
}

static int list_tar(struct build *build, int input_fd, const char *dockerfile, struct step_wanted wanted[2], struct err *err)
{
    struct context *context = build->context;
    struct listing_entry *entries = NULL;
    size_t len = 0;
    bool marked = false;
    int listed = tar_list(build->engine, input_fd, context->spool_fd, wanted, 2, build->arena, &entries, &len, &marked, build->cancel, err);
    if (listed > 0 && wanted[1].found && find_hidden(build, dockerfile, &wanted[1].text, err) < 0)
        listed = -1;
    bool known = listed > 0 && wanted[0].found && take_entries(context, entries, len);
    bool ignored = false; // by a .dockerignore that is no plain file
    for (size_t i = 0; i < len && listed > 0; i++)
        ignored = ignored || (str_eq(entries[i].path, ".dockerignore") && !wanted[1].found);
    free(entries);
    if (listed < 0)
        return -1;
    if (!known || ignored || !marked || !kept_tar_put(build, wanted))
        workshop_drop_spool(build->workshop);
    if (known && !ignored)
        return 1;
    context->listing = NULL;
    context->hidden = (struct strv){ 0 };
    return unpack(build, err);
}

// It is what came the last time, of which all is known.
static int take_known(struct build *build, const char *dockerfile, struct buf *text, struct err *err)
{
    struct context *context = build->context;
    const struct kept_tar *kept = &context->kept;
    if (kept->found[1] && find_hidden(build, dockerfile, &kept->texts[1], err) < 0)
        return -1;
    fd_close(context->spool_fd);
    context->spool_fd = fd_dup(kept->fd, err);
    if (context->spool_fd < 0)
        return -1;
    context->listing = &kept->kept->listing;
    buf_add(text, buf_text(&kept->texts[0]), kept->texts[0].size);
    return 1;
}

// 1: what comes is what came the last time; 0: it is not, and what is the same of it is in the spool.
static int compare(struct build *build, struct err *err)
{
    const struct build_request *request = build->request;
    const struct kept_tar *kept = &build->context->kept;
    struct tar_same same = { .known_fd = kept->fd, .size = kept->fd < 0 ? 0 : kept->kept->size };
    if (!request->pieces)
        return 0;
    int done = request->pieces(request->pieces_of, kept->fd < 0 ? NULL : tar_same_piece, &same, build->cancel, err);
    free(same.known);
    if (done < 0 || kept->fd < 0)
        return done;
    return same.at == same.size ? 1 : tar_same_copy(&same, build->context->spool_fd, err);
}

int context_take(struct build *build, int input_fd, const char *dockerfile, struct buf *text, struct err *err)
{
    struct context *context = build->context;
    struct step_wanted wanted[] = { { path_clean(slice_of(dockerfile), build->arena), { .ceiling = text->ceiling }, false }, { ".dockerignore", BUF_INIT(IGNORE_SIZE_MAX), false } };
    kept_tar_open(build, wanted[0].path, &context->kept);
    context->spool_fd = workshop_spool(build->workshop, err);
    if (context->spool_fd < 0)
        return -1;
    int same = compare(build, err);
    if (same != 0)
        return same < 0 ? -1 : take_known(build, dockerfile, text, err);
    int listed = list_tar(build, input_fd, dockerfile, wanted, err);
    if (listed > 0)
        buf_add(text, wanted[0].text.data, wanted[0].text.size);
    buf_done(&wanted[0].text);
    buf_done(&wanted[1].text);
    return listed;
}

int context_tree(struct build *build, struct err *err)
{
    struct context *context = build->context;
    mutex_lock(&context->lock);
    int done = context->spool_fd < 0 ? 0 : unpack(build, err);
    mutex_unlock(&context->lock);
    return done < 0 ? -1 : tree_of_folder(context->folder_fd, err);
}
