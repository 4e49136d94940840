#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include "registry/registry_private.h"

#include <cmocka.h>

#define D1 "sha256:1111111111111111111111111111111111111111111111111111111111111111"
#define D2 "sha256:2222222222222222222222222222222222222222222222222222222222222222"
#define IMAGE "application/vnd.oci.image.manifest.v1+json"
#define INDEX "application/vnd.oci.image.index.v1+json"
#define LAYER(digest) "{\"mediaType\":\"application/vnd.oci.image.layer.v1.tar+gzip\",\"digest\":\"" digest "\",\"size\":1}"
#define CONFIG "\"config\":{\"mediaType\":\"application/vnd.x+json\",\"digest\":\"" D1 "\",\"size\":2}"

static int read_text(const char *text, const char *type, struct arena *arena, struct manifest *out, struct err *err)
{
    return manifest_read(text, strlen(text), type, arena, out, err);
}

static void an_image(void **state)
{
    struct arena arena = ARENA_INIT;
    struct manifest manifest;
    struct err err;
    const char *text = "{\"schemaVersion\":2,\"mediaType\":\"" IMAGE "\"," CONFIG ",\"layers\":[" LAYER(D2) "," LAYER(D2) "],"
                       "\"subject\":{\"digest\":\"" D2 "\"},\"annotations\":{\"a\":\"b\"}}";
    if (read_text(text, IMAGE "; charset=utf-8", &arena, &manifest, &err) < 0)
        fail_msg("%s", err.message);
    assert_string_equal(manifest.media_type, IMAGE);
    assert_string_equal(manifest.artifact_type, "application/vnd.x+json"); // the configuration's, where none is said
    assert_string_equal(manifest.subject, D2);
    assert_string_equal(manifest.annotations, "{\"a\":\"b\"}");
    assert_int_equal(manifest.blobs.len, 2); // each once
    assert_string_equal(manifest.blobs.items[0], D1);
    assert_string_equal(manifest.blobs.items[1], D2);
    assert_int_equal(manifest.children.len, 0);
    arena_done(&arena);
}

static void an_index(void **state)
{
    struct arena arena = ARENA_INIT;
    struct manifest manifest;
    struct err err;
    const char *text = "{\"schemaVersion\":2,\"artifactType\":\"x/y\",\"manifests\":[{\"digest\":\"" D1 "\"}]}";
    if (read_text(text, INDEX, &arena, &manifest, &err) < 0)
        fail_msg("%s", err.message);
    assert_string_equal(manifest.artifact_type, "x/y");
    assert_int_equal(manifest.blobs.len, 0);
    assert_int_equal(manifest.children.len, 1);
    assert_null(manifest.subject);
    arena_done(&arena);
}

static void layers_that_nobody_may_hand_out(void **state)
{
    struct arena arena = ARENA_INIT;
    struct manifest manifest;
    struct err err;
    const char *text = "{\"schemaVersion\":2," CONFIG ",\"layers\":["
                       "{\"mediaType\":\"application/vnd.oci.image.layer.nondistributable.v1.tar\",\"digest\":\"" D2 "\"},"
                       "{\"mediaType\":\"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip\",\"digest\":\"" D2 "\"}]}";
    if (read_text(text, IMAGE, &arena, &manifest, &err) < 0)
        fail_msg("%s", err.message);
    assert_int_equal(manifest.blobs.len, 1);
    arena_done(&arena);
}

static void what_is_refused(void **state)
{
    static const struct {
        const char *text, *type, *says;
        enum err_class class;
    } cases[] = {
        { "{", IMAGE, "line 1", ERR_INVALID_ARGUMENT },
        { "[]", IMAGE, "not a JSON object", ERR_INVALID_ARGUMENT },
        { "{\"schemaVersion\":2}", "text/plain", "media type \"text/plain\"", ERR_NOT_IMPLEMENTED },
        { "{\"schemaVersion\":2}", NULL, "media type \"\"", ERR_NOT_IMPLEMENTED },
        { "{\"schemaVersion\":2,\"mediaType\":\"" INDEX "\"}", IMAGE, "mediaType is", ERR_INVALID_ARGUMENT },
        { "{\"schemaVersion\":1," CONFIG ",\"layers\":[]}", IMAGE, "schemaVersion: not 2", ERR_INVALID_ARGUMENT },
        { "{\"schemaVersion\":2,\"layers\":[]}", IMAGE, "config: is missing", ERR_INVALID_ARGUMENT },
        { "{\"schemaVersion\":2," CONFIG "}", IMAGE, "layers: not a list", ERR_INVALID_ARGUMENT },
        { "{\"schemaVersion\":2," CONFIG ",\"layers\":[{}]}", IMAGE, "layers[0].digest: is missing", ERR_INVALID_ARGUMENT },
        { "{\"schemaVersion\":2," CONFIG ",\"layers\":[7]}", IMAGE, "layers[0].digest: is missing", ERR_INVALID_ARGUMENT },
        { "{\"schemaVersion\":2," CONFIG ",\"layers\":[{\"digest\":\"sha256:../x\"}]}", IMAGE, "layers[0].digest: not a digest",
          ERR_INVALID_ARGUMENT },
        { "{\"schemaVersion\":2,\"subject\":{\"digest\":\"x\"}}", INDEX, "subject.digest: not a digest", ERR_INVALID_ARGUMENT },
        { "{\"schemaVersion\":2,\"manifests\":{}}", INDEX, "manifests: not a list", ERR_INVALID_ARGUMENT },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct arena arena = ARENA_INIT;
        struct manifest manifest;
        struct err err = { 0 };
        assert_int_equal(read_text(cases[i].text, cases[i].type, &arena, &manifest, &err), -1);
        if (!strstr(err.message, cases[i].says) || err.class != cases[i].class)
            fail_msg("%s: %s: %s", cases[i].text, err_class_name(err.class), err.message);
        arena_done(&arena);
    }
}

int main(void)
{
    const struct CMUnitTest cases[] = {
        cmocka_unit_test(an_image),
        cmocka_unit_test(an_index),
        cmocka_unit_test(layers_that_nobody_may_hand_out),
        cmocka_unit_test(what_is_refused),
    };
    return cmocka_run_group_tests(cases, NULL, NULL);
}
