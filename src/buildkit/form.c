// A result that is more than the image as the store has it: several platforms, annotations, attestations, another compression. It becomes a layout,
// which is made once for an output and then archived or pushed.
#include <gnutls/gnutls.h>

#include "base/num.h"
#include "buildkit_private.h"

json_t *encoded_text(struct slice text)
{
    const gnutls_datum_t in = { (unsigned char *)text.data, (unsigned)text.size };
    gnutls_datum_t out = { 0 };
    json_t *value = gnutls_base64_encode2(&in, &out) == 0 ? json_stringn((const char *)out.data, out.size) : json_string("");
    gnutls_free(out.data);
    return value;
}

// ---- annotations ----------------------------------------------------------------------------------------------------

// "annotation.KEY", "annotation-index.KEY", "annotation-manifest[linux/amd64].KEY".
int annotation_take(struct output *output, struct arena *arena, const char *name, const char *value, struct err *err)
{
    static const struct {
        const char *name;
        enum annotation_place place;
    } places[] = { { "", ANNOTATION_MANIFEST }, { "-manifest", ANNOTATION_MANIFEST }, { "-manifest-descriptor", ANNOTATION_MANIFEST_DESCRIPTOR },
                   { "-index", ANNOTATION_INDEX }, { "-index-descriptor", ANNOTATION_INDEX_DESCRIPTOR } };
    const char *rest = name + strlen("annotation"), *end = rest + strcspn(rest, "[."), *dot = *end == '[' ? strchr(end, ']') : end - 1;
    size_t row = 0;
    while (row < ARRAY_LEN(places) && !(strlen(places[row].name) == (size_t)(end - rest) && str_starts(rest, places[row].name)))
        row++;
    _cleanup_json_ json_t *text = json_string(name); // NULL: it is no text
    if (!text || row == ARRAY_LEN(places) || !dot || dot[1] != '.' || !dot[2])
        return err_set(err, ERR_INVALID_ARGUMENT, "unrecognized annotation type %.100s", name);
    if (output->annotation_len == ANNOTATIONS_MAX)
        return err_set(err, ERR_INVALID_ARGUMENT, "more than %d annotations", ANNOTATIONS_MAX);
    struct annotation *grown = arena_alloc(arena, (output->annotation_len + 1) * sizeof(*grown));
    if (output->annotation_len)
        memcpy(grown, output->annotations, output->annotation_len * sizeof(*grown));
    grown[output->annotation_len++] = (struct annotation){ places[row].place, *end == '[' ? arena_strndup(arena, end + 1, (size_t)(dot - end) - 1) : NULL,
                                                           arena_strdup(arena, dot + 2), arena_strdup(arena, value) };
    output->annotations = grown;
    return 0;
}

// Those at that place that are for all platforms or for this one.
static struct kvs annotations_at(const struct output *output, enum annotation_place place, const char *platform, struct arena *arena)
{
    struct kvs out = { .items = arena_alloc(arena, (output->annotation_len + 1) * sizeof(*out.items)) };
    for (size_t i = 0; i < output->annotation_len; i++) {
        const struct annotation *annotation = &output->annotations[i];
        if (annotation->place == place && (!annotation->platform || str_eq(annotation->platform, platform)))
            out.items[out.len++] = (struct kv){ (char *)annotation->key, (char *)annotation->value };
    }
    return out;
}

static int check_annotations(const struct solve *solve, const struct output *output, bool index, struct err *err)
{
    for (size_t i = 0; i < output->annotation_len; i++) {
        const struct annotation *annotation = &output->annotations[i];
        bool found = !annotation->platform;
        for (size_t at = 0; at < solve->result_len && !found; at++)
            found = str_eq(solve->results[at].platform, annotation->platform);
        if (!found)
            return err_set(err, ERR_INVALID_ARGUMENT, "invalid annotation: no platform %.100s found in source", annotation->platform);
        if (output->docker_types && annotation->place != ANNOTATION_MANIFEST)
            return err_set(err, ERR_INVALID_ARGUMENT, "cannot export annotations with \"oci-mediatypes=false\"");
        if (!index && (annotation->place == ANNOTATION_INDEX || annotation->place == ANNOTATION_INDEX_DESCRIPTOR))
            return err_set(err, ERR_INVALID_ARGUMENT, "index annotations not supported for single platform export");
    }
    return 0;
}

// ---- the form -------------------------------------------------------------------------------------------------------

bool output_needs_form(const struct solve *solve, const struct output *output)
{
    return solve->result_len > 1 || solve->attest.provenance || solve->attest.sbom || output->annotation_len || output->compression || output->level >= 0 ||
           output->docker_types || output->oci_types || output->by_digest;
}

static void add_statements(const struct solve *solve, const struct solve_result *result, struct arena *arena, struct buildkit_form_image *out)
{
    struct buildkit_statement *statements = arena_alloc(arena, (1 + result->statement_len) * sizeof(*statements));
    for (size_t i = 0; i < result->statement_len; i++)
        statements[out->statement_len++] = (struct buildkit_statement){ result->statements[i].type, json_incref(result->statements[i].predicate), NULL };
    if (solve->attest.provenance) {
        struct buildkit_statement *statement = &statements[out->statement_len++];
        statement->predicate = provenance_make(solve, result, arena, &statement->type);
    }
    out->statements = statements;
}

static void form_done(struct buildkit_form *form)
{
    for (size_t i = 0; i < form->len; i++)
        for (size_t at = 0; at < form->images[i].statement_len; at++)
            json_decref(form->images[i].statements[at].predicate);
}

int output_layout(struct solve *solve, const struct output *output, struct arena *arena, struct buildkit_layout **out, const struct cancel *cancel,
                  struct err *err)
{
    const struct buildkit_config *config = &solve->buildkit->config;
    bool attested = solve->attest.provenance || solve->attest.sbom;
    struct buildkit_form_image *images = arena_alloc(arena, (solve->result_len + 1) * sizeof(*images));
    struct buildkit_form form = { .compression = output->compression ? output->compression : output->kind == OUTPUT_IMAGE ? "gzip" : "uncompressed",
                                  .level = output->level, .docker = output->docker_types, .index = solve->result_len > 1,
                                  .annotations = annotations_at(output, ANNOTATION_INDEX, NULL, arena), .names = output->names, .images = images };
    if (check_annotations(solve, output, form.index || attested, err) < 0)
        return -1;
    for (size_t i = 0; i < solve->result_len; i++) {
        const struct solve_result *result = &solve->results[i];
        images[form.len] = (struct buildkit_form_image){ .id = result->image,
                                                         .annotations = annotations_at(output, ANNOTATION_MANIFEST, result->platform, arena),
                                                         .descriptor_annotations = annotations_at(output, ANNOTATION_MANIFEST_DESCRIPTOR, result->platform, arena) };
        add_statements(solve, result, arena, &images[form.len++]);
    }
    int result = config->layout(config->of, &form, out, cancel, err);
    form_done(&form);
    return result;
}

struct kvs output_entry_annotations(const struct output *output, struct arena *arena)
{
    return annotations_at(output, ANNOTATION_INDEX_DESCRIPTOR, NULL, arena);
}

// ---- what attests it, as it was asked for ---------------------------------------------------------------------------

static bool is_true(const char *value)
{
    return str_empty(value) || str_eq(value, "true") || str_eq(value, "1");
}

static int take_field(struct attest *attest, const char *type, const char *key, const char *value, struct arena *arena, struct err *err)
{
    bool sbom = str_eq(type, "sbom");
    if (str_eq(key, "type") || str_eq(key, "disabled") || str_eq(key, "inline-only"))
        return 0; // looked at before
    if (sbom && str_eq(key, "generator"))
        attest->generator = arena_strdup(arena, value);
    else if (!sbom && str_eq(key, "mode") && (str_eq(value, "max") || str_eq(value, "full") || str_eq(value, "min")))
        attest->max = !str_eq(value, "min");
    else if (!sbom && str_eq(key, "version") && (str_eq(value, "v1") || str_eq(value, "v0.2")))
        attest->old = str_eq(value, "v0.2");
    else if (!sbom && str_eq(key, "builder-id"))
        attest->builder_id = arena_strdup(arena, value);
    else if (!sbom && str_eq(key, "reproducible"))
        attest->reproducible = is_true(value);
    else if (str_eq(key, "mode") || str_eq(key, "version"))
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid %s %.60s of --attest type=%s", key, value, type);
    else
        return err_set(err, ERR_NOT_IMPLEMENTED, "--attest type=%.60s: %.60s=%.100s is not supported", type, key, value);
    return 0;
}

int attest_take(struct attest *attest, const char *type, const char *value, struct arena *arena, struct err *err)
{
    struct strv fields = { 0 };
    csv_fields(arena, value, &fields);
    bool sbom = str_eq(type, "sbom");
    if (!sbom && !str_eq(type, "provenance"))
        return err_set(err, ERR_INVALID_ARGUMENT, "unknown attestation type \"%.60s\"", type);
    // A client adds provenance unasked, for results that have a place for it: that is left out, so that the same input is the same result.
    if (strstr(value, "disabled=true") || (!sbom && strstr(value, "inline-only=true")))
        return 0;
    *(sbom ? &attest->sbom : &attest->provenance) = true;
    attest->max |= !sbom;
    for (size_t i = 0; i < fields.len; i++) {
        char *equals = strchr(fields.items[i], '=');
        if (equals)
            *equals = '\0';
        if (take_field(attest, type, fields.items[i], equals ? equals + 1 : "", arena, err) < 0)
            return -1;
    }
    return 0;
}
