// What a COPY reads in an image never changes, for the image doesn't: its digest is looked for once, and remembered as long as the image is there.
#include "builder_private.h"

#define LOOKS_MAX 20000

static int take_digest(void *context, const struct store_row *row, struct err *err)
{
    snprintf(context, OCI_DIGEST_SIZE, "%s", store_text(row, 0));
    return 0;
}

static void name_look(const char *image, const struct step_place *place, char key[OCI_DIGEST_SIZE])
{
    _cleanup_buf_ struct buf text = BUF_INIT((size_t)64 << 20);
    buf_addf(&text, "1 %s %d\n", image, place->roots);
    for (size_t i = 0; i < place->source_len; i++) {
        const struct step_source *source = &place->sources[i];
        const char *words[] = { source->path, source->include, source->required };
        for (size_t k = 0; k < ARRAY_LEN(words); k++)
            buf_addf(&text, "%s%s%c", words[k] ? "=" : "", words[k] ? words[k] : "", 0);
    }
    for (size_t i = 0; place->excludes && i < place->excludes->len; i++)
        buf_addf(&text, "%s%c", place->excludes->items[i], 0);
    image_digest(buf_text(&text), text.size, key);
}

int look_recall(struct builder *builder, const char *image, const struct step_place *place, char digest[OCI_DIGEST_SIZE], struct err *err)
{
    char key[OCI_DIGEST_SIZE];
    name_look(image, place, key);
    *digest = '\0';
    return store_query(builder->store, err, take_digest, digest, "SELECT digest FROM build_looks WHERE key = ?", "t", key) < 0 ? -1 : *digest != '\0';
}

// What can't be remembered is looked for again.
void look_remember(struct builder *builder, const char *image, const struct step_place *place, const char *digest)
{
    char key[OCI_DIGEST_SIZE];
    struct err ignored = { 0 };
    name_look(image, place, key);
    if (store_begin(builder->store, &ignored) < 0)
        return;
    if (store_exec(builder->store, &ignored, "INSERT OR REPLACE INTO build_looks(key, image_id, digest) VALUES(?, ?, ?)", "ttt", key, image, digest) < 0 ||
        store_exec(builder->store, &ignored, "DELETE FROM build_looks WHERE rowid <= (SELECT MAX(rowid) FROM build_looks) - ?", "i", (int64_t)LOOKS_MAX) < 0)
        store_rollback(builder->store);
    else
        store_commit(builder->store, &ignored);
}

int look_place(struct build *build, const struct step_place *place, struct step_sources *out, struct err *err)
{
    return place_listed(place, build->arena, out) ? 0 : place_look(build->engine, place, build->arena, out, build->cancel, err);
}
