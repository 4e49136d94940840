#include "base/num.h"
#include "recipe.h"

static uint64_t get_le64(const unsigned char *in)
{
    uint64_t value = 0;
    for (int i = 8; i-- > 0;)
        value = value << 8 | in[i];
    return value;
}

int layer_recipe_read_info(int recipe_fd, struct layer_recipe_info *out, struct err *err)
{
    unsigned char head[RECIPE_HEAD_SIZE];
    if (pread(recipe_fd, head, sizeof(head), 0) != (ssize_t)sizeof(head) || memcmp(head, RECIPE_MAGIC, 8) != 0)
        return err_set(err, ERR_INTERNAL, "the layer's recipe is damaged");
    out->tar_size = get_le64(head + 8);
    memcpy(out->diff_id, "sha256:", 7);
    hex_encode(head + 16, 32, out->diff_id + 7);
    return 0;
}
