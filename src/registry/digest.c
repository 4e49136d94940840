#include <gnutls/crypto.h>

#include "registry_private.h"

struct algorithm {
    const char *name;
    gnutls_digest_algorithm_t id;
    size_t size; // bytes of the hash
};

static const struct algorithm algorithms[] = {
    { "sha256", GNUTLS_DIG_SHA256, 32 },
    { "sha512", GNUTLS_DIG_SHA512, 64 },
};

struct digest_hash {
    const struct algorithm *algorithm;
    gnutls_hash_hd_t handle;
};

static const struct algorithm *find(const char *digest)
{
    size_t size = strcspn(digest, ":");
    for (size_t i = 0; i < ARRAY_LEN(algorithms); i++)
        if (strlen(algorithms[i].name) == size && memcmp(algorithms[i].name, digest, size) == 0)
            return &algorithms[i];
    return NULL;
}

bool digest_valid(const char *digest)
{
    const struct algorithm *algorithm = find(digest);
    const char *colon = strchr(digest, ':');
    return algorithm && colon && strlen(colon + 1) == 2 * algorithm->size && hex_valid(slice_of(colon + 1));
}

void digest_path(const char *digest, char out[BLOB_PATH_SIZE])
{
    const char *colon = strchr(digest, ':');
    snprintf(out, BLOB_PATH_SIZE, "blobs/%.*s/%s", (int)(colon - digest), digest, colon + 1);
}

struct digest_hash *digest_hash_new(const char *algorithm)
{
    const struct algorithm *found = find(algorithm);
    if (!found)
        return NULL;
    struct digest_hash *hash = mem_new(struct digest_hash);
    hash->algorithm = found;
    if (gnutls_hash_init(&hash->handle, found->id) < 0)
        abort(); // both are part of every build of the library: only memory can be missing
    return hash;
}

bool digest_hash_is(const struct digest_hash *hash, const char *digest)
{
    return hash->algorithm == find(digest);
}

void digest_hash_add(struct digest_hash *hash, const void *data, size_t size)
{
    gnutls_hash(hash->handle, data, size);
}

void digest_hash_end(struct digest_hash *hash, char out[DIGEST_SIZE])
{
    unsigned char raw[64];
    gnutls_hash_output(hash->handle, raw);
    int head = snprintf(out, DIGEST_SIZE, "%s:", hash->algorithm->name);
    hex_encode(raw, hash->algorithm->size, out + head);
    digest_hash_free(hash);
}

void digest_hash_free(struct digest_hash *hash)
{
    if (!hash)
        return;
    gnutls_hash_deinit(hash->handle, NULL);
    free(hash);
}
