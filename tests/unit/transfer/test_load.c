#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "archive_maker.h"

#define MEDIA "application/vnd.oci.image."

// Two layers with their digests, for all forms.
struct sample {
    struct buf first, second, config;
    char first_id[72], second_id[72], config_id[72];
};

static void sample_make(struct sample *sample)
{
    *sample = (struct sample){ BUF_INIT(1 << 20), BUF_INIT(1 << 20), BUF_INIT(1 << 20), "", "", "" };
    make_layer(&sample->first, "a", "first");
    make_layer(&sample->second, "b", "second");
    digest_of(&sample->first, sample->first_id);
    digest_of(&sample->second, sample->second_id);
    make_config(&sample->config, (const char *const[]){ sample->first_id, sample->second_id }, 2);
    digest_of(&sample->config, sample->config_id);
}

static void sample_done(struct sample *sample)
{
    buf_done(&sample->first);
    buf_done(&sample->second);
    buf_done(&sample->config);
}

static void assert_loaded(const struct run *run, size_t images)
{
    if (run->result < 0)
        fail_msg("%s", run->err.message);
    assert_int_equal(json_array_size(run->images), images);
    assert_int_equal(faccessat(run->staging.fd, "spool", F_OK, 0), -1);
}

static void assert_refused(const struct run *run, const char *message)
{
    assert_int_equal(run->result, -1);
    if (!strstr(run->err.message, message))
        fail_msg("\"%s\" has no \"%s\"", run->err.message, message);
    assert_int_equal(run->err.class, ERR_INVALID_ARGUMENT);
}

static const char *image_text(const struct run *run, size_t image, const char *key)
{
    return json_get_text(json_array_get(run->images, image), key, "");
}

static const char *image_reference(const struct run *run, size_t image, size_t at)
{
    const char *text =
        json_string_value(json_array_get(json_object_get(json_array_get(run->images, image), "references"), at));
    return text ? text : "";
}

static const char *image_layer(const struct run *run, size_t image, size_t at)
{
    return json_get_text(json_array_get(json_object_get(json_array_get(run->images, image), "layers"), at), "diff_id", "");
}

static void assert_layer_file(const struct run *run, const char *diff_id, const char *name, const char *content)
{
    _cleanup_buf_ struct buf text = BUF_INIT(4096);
    char path[256];
    snprintf(path, sizeof(path), "layers/%s/%s", diff_id + 7, name);
    assert_int_equal(file_read_at(run->staging.fd, path, &text, NULL), 0);
    assert_string_equal(buf_text(&text), content);
}

static void assert_sample(const struct run *run, const struct sample *sample)
{
    _cleanup_buf_ struct buf config = BUF_INIT(1 << 20);
    char path[128];
    assert_loaded(run, 1);
    assert_string_equal(image_text(run, 0, "config_digest"), sample->config_id);
    assert_string_equal(image_layer(run, 0, 0), sample->first_id);
    assert_string_equal(image_layer(run, 0, 1), sample->second_id);
    assert_layer_file(run, sample->first_id, "a", "first");
    assert_layer_file(run, sample->second_id, "b", "second");
    snprintf(path, sizeof(path), "blobs/%s", sample->config_id + 7);
    assert_int_equal(file_read_at(run->staging.fd, path, &config, NULL), 0);
    assert_string_equal(buf_text(&config), buf_text(&sample->config));
}

// ---- docker-archive -------------------------------------------------------------------------------------------------

static void test_docker_archive(void **state)
{
    struct sample sample;
    struct run run;
    _cleanup_buf_ struct buf archive = BUF_INIT(TAR_MAX);
    sample_make(&sample);
    add_member(&archive, "1/layer.tar", &sample.first);
    add_member(&archive, "./2/layer.tar", &sample.second);
    add_member(&archive, "c.json", &sample.config);
    add_text(&archive, "manifest.json", "[{\"Config\":\"c.json\",\"RepoTags\":[\"one:1\",\"two:2\"],"
                                        "\"Layers\":[\"1/layer.tar\",\"2/layer.tar\"],\"LayerSources\":{\"x\":1}}]");
    run_load(&run, &archive);
    assert_sample(&run, &sample);
    assert_string_equal(image_reference(&run, 0, 0), "one:1");
    assert_string_equal(image_reference(&run, 0, 1), "two:2");
    run_done(&run);
    sample_done(&sample);
}

// Old docker links an equal layer to the first one; podman puts links where old clients look for files.
static void test_links_between_members(void **state)
{
    struct sample sample;
    struct run run;
    _cleanup_buf_ struct buf archive = BUF_INIT(TAR_MAX), config = BUF_INIT(4096);
    sample_make(&sample);
    make_config(&config, (const char *const[]){ sample.first_id, sample.first_id, sample.first_id }, 3);
    add_member(&archive, "x/layer.tar", &sample.first);
    tar_add(&archive, &(struct tar_entry){ "2/layer.tar", .type = '2', .link = "../x/layer.tar" });
    tar_add(&archive, &(struct tar_entry){ "3/layer.tar", .type = '1', .link = "x/layer.tar" });
    add_member(&archive, "c.json", &config);
    add_text(&archive, "manifest.json", "[{\"Config\":\"c.json\",\"RepoTags\":null,"
                                        "\"Layers\":[\"x/layer.tar\",\"2/layer.tar\",\"3/layer.tar\"]}]");
    run_load(&run, &archive);
    assert_loaded(&run, 1);
    assert_string_equal(image_layer(&run, 0, 2), sample.first_id);
    assert_string_equal(image_reference(&run, 0, 0), "");
    run_done(&run);
    sample_done(&sample);
}

static void test_images_share_layers(void **state)
{
    struct sample sample;
    struct run run;
    _cleanup_buf_ struct buf archive = BUF_INIT(TAR_MAX), small = BUF_INIT(4096), none = BUF_INIT(4096);
    sample_make(&sample);
    make_config(&small, (const char *const[]){ sample.first_id }, 1);
    make_config(&none, NULL, 0);
    add_member(&archive, "1.tar", &sample.first);
    add_member(&archive, "again.tar", &sample.first);
    add_member(&archive, "2.tar", &sample.second);
    add_member(&archive, "both", &sample.config);
    add_member(&archive, "small", &small);
    add_member(&archive, "none", &none);
    add_text(&archive, "manifest.json",
             "[{\"Config\":\"both\",\"RepoTags\":[\"both:1\"],\"Layers\":[\"1.tar\",\"2.tar\"]},"
             "{\"Config\":\"small\",\"RepoTags\":[\"small:1\"],\"Layers\":[\"again.tar\"]},"
             "{\"Config\":\"none\",\"RepoTags\":[\"none:1\"],\"Layers\":null}]");
    run_load(&run, &archive);
    assert_loaded(&run, 3);
    assert_string_equal(image_layer(&run, 1, 0), sample.first_id);
    assert_string_equal(image_layer(&run, 2, 0), "");
    size_t progress = 0;
    for (const char *at = buf_text(&run.report); (at = strstr(at, "Loading layer")); at++)
        progress++;
    assert_int_equal(progress, 2); // "again" was not unpacked
    run_done(&run);
    sample_done(&sample);
}

static void test_docker_archive_refused(void **state)
{
    static const struct {
        const char *manifest, *message;
    } cases[] = {
        { "[{\"Config\":\"c\",\"Layers\":[\"1\"]}]", "layers length mismatch: expected 1, got 2" },
        { "[{\"Config\":\"c\",\"Layers\":[\"2\",\"1\"]}]", "invalid diffID for layer 0: expected" },
        { "[{\"Config\":\"c\",\"Layers\":[\"1\",\"3\"]}]", "layer 1: archive has no member 3" },
        { "[{\"Config\":\"c\",\"Layers\":[\"1\",\"../../etc/passwd\"]}]", "layer 1: archive has no member" },
        { "[{\"Config\":\"c\",\"Layers\":[\"1\",\"out\"]}]", "layer 1: archive has no member out" },
        { "[{\"Config\":\"c\",\"Layers\":[\"1\",\"loop\"]}]", "layer 1: archive has no member loop" },
        { "[{\"Config\":\"c\",\"Layers\":[\"1\",\"c\"]}]", "layer 1: not a valid tar archive" },
        { "[{\"Config\":\"d\",\"Layers\":[]}]", "archive has no image config d" },
        { "[{\"Config\":\"1\",\"Layers\":[]}]", "image config" },
        { "[{\"Config\":\"windows\",\"Layers\":[]}]", "cannot load windows image on linux" },
        { "[{\"Config\":\"norootfs\",\"Layers\":[]}]", "no RootFS key" },
        { "[{\"Config\":\"badid\",\"Layers\":[\"1\"]}]", "invalid diffID for layer 0" },
        { "[{\"Config\":3}]", "manifest.json" },
        { "{}", "manifest.json: not a list" },
        { "[", "manifest.json" },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct sample sample;
        struct run run;
        _cleanup_buf_ struct buf archive = BUF_INIT(TAR_MAX);
        sample_make(&sample);
        add_member(&archive, "1", &sample.first);
        add_member(&archive, "2", &sample.second);
        add_member(&archive, "c", &sample.config);
        add_text(&archive, "windows", "{\"os\":\"windows\",\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[]}}");
        add_text(&archive, "norootfs", "{\"os\":\"linux\"}");
        add_text(&archive, "badid", "{\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[\"sha256:../../x\"]}}");
        tar_add(&archive, &(struct tar_entry){ "out", .type = '2', .link = "/etc/passwd" });
        tar_add(&archive, &(struct tar_entry){ "loop", .type = '2', .link = "loop" });
        add_text(&archive, "manifest.json", cases[i].manifest);
        run_load(&run, &archive);
        assert_refused(&run, cases[i].message);
        assert_int_equal(json_array_size(run.images), 0);
        run_done(&run);
        sample_done(&sample);
    }
}

static void test_archive_refused(void **state)
{
    static const struct {
        struct tar_entry entry;
        const char *message;
    } cases[] = {
        { { .name = "x", .data = "x" }, "does not contain a manifest.json" },
        { { .name = "../x", .data = "x" }, "archive member ../x: leads outside" },
        { { .name = "x", .type = '2', .link = "../../x" }, "archive member x: link leads outside the archive" },
        { { .name = "index.json", .data = "{\"manifests\":3}" }, "index.json" },
        { { .name = "repositories", .data = "{}" }, "repositories: names no image" },
        { { .name = "repositories", .data = "{\"a\":{\"b\":\"../../etc\"}}" }, "invalid layer id" },
        { { .name = "repositories", .data = "{\"a\":{\"b\":\"0000000000000000000000000000000000000000000000000000000000000000\"}}" },
          "archive has no member" },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct run run;
        _cleanup_buf_ struct buf archive = BUF_INIT(TAR_MAX);
        tar_add(&archive, &cases[i].entry);
        run_load(&run, &archive);
        assert_refused(&run, cases[i].message);
        run_done(&run);
    }
}

// ---- OCI layout -----------------------------------------------------------------------------------------------------

static void make_manifest(struct buf *out, const struct sample *sample, const char *layer_type)
{
    buf_addf(out, "{\"schemaVersion\":2,\"mediaType\":\"" MEDIA "manifest.v1+json\",\"config\":{\"mediaType\":\"" MEDIA
             "config.v1+json\",\"digest\":\"%s\",\"size\":%zu},\"layers\":[{\"mediaType\":\"%s\",\"digest\":\"%s\","
             "\"size\":%zu},{\"mediaType\":\"%s\",\"digest\":\"%s\",\"size\":%zu}]}",
             sample->config_id, sample->config.size, layer_type, sample->first_id, sample->first.size, layer_type,
             sample->second_id, sample->second.size);
}

static void add_sample_blobs(struct buf *archive, const struct sample *sample, const char *layer_type, char manifest_id[72])
{
    _cleanup_buf_ struct buf manifest = BUF_INIT(1 << 20);
    char digest[72];
    make_manifest(&manifest, sample, layer_type);
    add_blob(archive, &sample->first, digest);
    add_blob(archive, &sample->second, digest);
    add_blob(archive, &sample->config, digest);
    add_blob(archive, &manifest, manifest_id);
}

static void add_index(struct buf *archive, const char *entries)
{
    _cleanup_buf_ struct buf index = BUF_INIT(1 << 20);
    buf_addf(&index, "{\"schemaVersion\":2,\"manifests\":[%s]}", entries);
    add_member(archive, "index.json", &index);
}

static void test_oci_layout(void **state)
{
    static const struct {
        const char *annotations, *reference;
    } cases[] = {
        { "{\"io.containerd.image.name\":\"docker.io/library/x:1\",\"org.opencontainers.image.ref.name\":\"1\"}",
          "docker.io/library/x:1" },
        { "{\"org.opencontainers.image.ref.name\":\"localhost/y:2\"}", "localhost/y:2" },
        { "{\"org.opencontainers.image.ref.name\":\"latest\"}", "" },
        { "{}", "" },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct sample sample;
        struct run run;
        char id[72], entry[512];
        _cleanup_buf_ struct buf archive = BUF_INIT(TAR_MAX);
        sample_make(&sample);
        add_sample_blobs(&archive, &sample, MEDIA "layer.v1.tar", id);
        snprintf(entry, sizeof(entry), "{\"mediaType\":\"" MEDIA "manifest.v1+json\",\"digest\":\"%s\",\"size\":1,"
                 "\"annotations\":%s}", id, cases[i].annotations);
        add_index(&archive, entry);
        run_load(&run, &archive);
        assert_sample(&run, &sample);
        assert_string_equal(image_reference(&run, 0, 0), cases[i].reference);
        run_done(&run);
        sample_done(&sample);
    }
}

// An index in the index: the host's platform is taken, attestations and absent platforms are passed over.
static void test_platforms(void **state)
{
    struct sample sample;
    struct run run;
    char manifest_id[72], nested_id[72];
    _cleanup_buf_ struct buf archive = BUF_INIT(TAR_MAX), nested = BUF_INIT(1 << 20), entry = BUF_INIT(1 << 20);
    sample_make(&sample);
    add_sample_blobs(&archive, &sample, MEDIA "layer.v1.tar", manifest_id);
    buf_addf(&nested, "{\"schemaVersion\":2,\"mediaType\":\"" MEDIA "index.v1+json\",\"manifests\":["
             "{\"mediaType\":\"" MEDIA "manifest.v1+json\",\"digest\":\"sha256:%064d\",\"size\":1,"
             "\"platform\":{\"os\":\"linux\",\"architecture\":\"s390x\"}},"
             "{\"mediaType\":\"" MEDIA "manifest.v1+json\",\"digest\":\"sha256:%064d\",\"size\":1,"
             "\"platform\":{\"os\":\"unknown\",\"architecture\":\"unknown\"}},"
             "{\"mediaType\":\"" MEDIA "manifest.v1+json\",\"digest\":\"%s\",\"size\":1}]}", 1, 2, manifest_id);
    add_blob(&archive, &nested, nested_id);
    buf_addf(&entry, "{\"mediaType\":\"" MEDIA "index.v1+json\",\"digest\":\"%s\",\"size\":1,"
             "\"annotations\":{\"io.containerd.image.name\":\"docker.io/library/m:1\"}}", nested_id);
    add_index(&archive, buf_text(&entry));
    run_load(&run, &archive);
    assert_sample(&run, &sample);
    assert_string_equal(image_reference(&run, 0, 0), "docker.io/library/m:1");
    run_done(&run);
    sample_done(&sample);
}

static void test_oci_refused(void **state)
{
    static const struct {
        const char *layer_type, *entry; // %s is the manifest's digest
        const char *message;
    } cases[] = {
        { MEDIA "layer.nondistributable.v1.tar", "{\"mediaType\":\"" MEDIA "manifest.v1+json\",\"digest\":\"%s\"}",
          "layer 0: unsupported media type" },
        { MEDIA "layer.v1.tar+encrypted", "{\"mediaType\":\"" MEDIA "manifest.v1+json\",\"digest\":\"%s\"}",
          "layer 0: unsupported media type" },
        { MEDIA "layer.v1.tar", "{\"mediaType\":\"text/plain\",\"digest\":\"%s\"}", "unsupported media type text/plain" },
        { MEDIA "layer.v1.tar", "{\"mediaType\":\"" MEDIA "manifest.v1+json\",\"digest\":\"sha512:%s\"}",
          "unsupported digest" },
        { MEDIA "layer.v1.tar", "{\"mediaType\":\"" MEDIA "manifest.v1+json\",\"digest\":\"sha256:"
          "1111111111111111111111111111111111111111111111111111111111111111\",\"x\":\"%s\"}", "archive has no blob" },
        { MEDIA "layer.v1.tar", "{\"mediaType\":\"" MEDIA "manifest.v1+json\",\"digest\":\"%s\",\"platform\":"
          "{\"os\":\"linux\",\"architecture\":\"s390x\"}},{\"mediaType\":\"x\",\"digest\":\"\",\"platform\":"
          "{\"os\":\"plan9\",\"architecture\":\"mips\"}}", "archive has no image for linux/" },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct sample sample;
        struct run run;
        char id[72], entry[1024];
        _cleanup_buf_ struct buf archive = BUF_INIT(TAR_MAX);
        sample_make(&sample);
        add_sample_blobs(&archive, &sample, cases[i].layer_type, id);
        const char *mark = strstr(cases[i].entry, "%s");
        snprintf(entry, sizeof(entry), "%.*s%s%s", (int)(mark - cases[i].entry), cases[i].entry, id, mark + 2);
        add_index(&archive, entry);
        run_load(&run, &archive);
        assert_refused(&run, cases[i].message);
        run_done(&run);
        sample_done(&sample);
    }
}

// A member under a digest's name with other content: manifest, config and layer each.
static void test_blobs_are_verified(void **state)
{
    for (int lie = 0; lie < 3; lie++) {
        struct sample sample;
        struct run run;
        char id[72], name[100], entry[512];
        _cleanup_buf_ struct buf archive = BUF_INIT(TAR_MAX), other = BUF_INIT(1 << 20);
        sample_make(&sample);
        add_sample_blobs(&archive, &sample, MEDIA "layer.v1.tar", id);
        const char *victims[] = { id, sample.config_id, sample.first_id };
        snprintf(name, sizeof(name), "blobs/sha256/%s", victims[lie] + 7);
        make_layer(&other, "evil", "evil");
        add_member(&archive, name, &other); // the later member of a name counts
        snprintf(entry, sizeof(entry), "{\"mediaType\":\"" MEDIA "manifest.v1+json\",\"digest\":\"%s\",\"size\":1}", id);
        add_index(&archive, entry);
        run_load(&run, &archive);
        assert_refused(&run, "has another digest");
        run_done(&run);
        sample_done(&sample);
    }
}

// ---- the oldest form ------------------------------------------------------------------------------------------------

static void test_legacy(void **state)
{
    struct sample sample;
    struct run run;
    char top[65], base[65], path[128];
    _cleanup_buf_ struct buf archive = BUF_INIT(TAR_MAX), text = BUF_INIT(1 << 20);
    memset(top, 'a', 64);
    memset(base, 'b', 64);
    top[64] = base[64] = '\0';
    sample_make(&sample);
    snprintf(path, sizeof(path), "%s/layer.tar", base);
    add_member(&archive, path, &sample.first);
    snprintf(path, sizeof(path), "%s/json", base);
    add_text(&archive, path, "{\"id\":\"b\",\"created\":\"2020-01-01T00:00:00Z\",\"container_config\":"
                             "{\"Cmd\":[\"/bin/sh\",\"-c\",\"make\"]}}");
    snprintf(path, sizeof(path), "%s/layer.tar", top);
    add_member(&archive, path, &sample.second);
    snprintf(path, sizeof(path), "%s/json", top);
    buf_addf(&text, "{\"id\":\"%s\",\"parent\":\"%s\",\"os\":\"linux\",\"config\":{\"Cmd\":[\"sh\"]}}", top, base);
    add_member(&archive, path, &text);
    buf_clear(&text);
    buf_addf(&text, "{\"name\":{\"1\":\"%s\",\"2\":\"%s\"}}", top, base);
    add_member(&archive, "repositories", &text);
    run_load(&run, &archive);
    assert_loaded(&run, 2);
    assert_string_equal(image_reference(&run, 0, 0), "name:1");
    assert_string_equal(image_layer(&run, 0, 0), sample.first_id);
    assert_string_equal(image_layer(&run, 0, 1), sample.second_id);
    assert_string_equal(image_layer(&run, 1, 0), sample.first_id);
    buf_clear(&text);
    snprintf(path, sizeof(path), "blobs/%s", image_text(&run, 0, "config_digest") + 7);
    assert_int_equal(file_read_at(run.staging.fd, path, &text, NULL), 0);
    assert_non_null(strstr(buf_text(&text), "\"created_by\":\"/bin/sh -c make\""));
    assert_null(strstr(buf_text(&text), "\"parent\""));
    run_done(&run);
    sample_done(&sample);
}

static void test_legacy_circle(void **state)
{
    struct run run;
    char id[65], path[128];
    _cleanup_buf_ struct buf archive = BUF_INIT(TAR_MAX), text = BUF_INIT(1 << 20);
    memset(id, 'c', 64);
    id[64] = '\0';
    snprintf(path, sizeof(path), "%s/json", id);
    buf_addf(&text, "{\"parent\":\"%s\"}", id);
    add_member(&archive, path, &text);
    buf_clear(&text);
    buf_addf(&text, "{\"name\":{\"1\":\"%s\"}}", id);
    add_member(&archive, "repositories", &text);
    run_load(&run, &archive);
    assert_refused(&run, "more than 500 layers");
    run_done(&run);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_docker_archive),
        cmocka_unit_test(test_links_between_members),
        cmocka_unit_test(test_images_share_layers),
        cmocka_unit_test(test_docker_archive_refused),
        cmocka_unit_test(test_archive_refused),
        cmocka_unit_test(test_oci_layout),
        cmocka_unit_test(test_platforms),
        cmocka_unit_test(test_oci_refused),
        cmocka_unit_test(test_blobs_are_verified),
        cmocka_unit_test(test_legacy),
        cmocka_unit_test(test_legacy_circle),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
