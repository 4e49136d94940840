#include "build/build_private.h"
#include "build/step.h"

static void put(struct buf *out, const char *key, const char *value)
{
    if (!value)
        return;
    buf_addf(out, " %s=", key);
    buf_add_quoted(out, value);
}

static void put_list(struct buf *out, const char *key, const struct strv *list)
{
    for (size_t i = 0; i < list->len; i++)
        put(out, key, list->items[i]);
}

static void put_number(struct buf *out, const char *key, int64_t number, int64_t none)
{
    if (number != none)
        buf_addf(out, " %s=%lld", key, (long long)number);
}

static void put_tristate(struct buf *out, const char *key, enum tristate value)
{
    if (value != TRISTATE_UNSET)
        buf_addf(out, " %s=%s", key, value == TRISTATE_TRUE ? "true" : "false");
}

static void put_copy(struct buf *out, const struct copy_fields *copy)
{
    put(out, "from", copy->from);
    put_list(out, "source", &copy->sources);
    for (size_t i = 0; i < copy->files_len; i++) {
        put(out, "file", copy->files[i].name);
        put(out, copy->files[i].expand ? "content" : "literal", copy->files[i].content);
    }
    put(out, "target", copy->target);
    put(out, "chown", copy->chown);
    put(out, "chmod", copy->chmod);
    put(out, "checksum", copy->checksum);
    put_list(out, "exclude", &copy->excludes);
    buf_adds(out, copy->link ? " link" : "");
    buf_adds(out, copy->parents ? " parents" : "");
    put_tristate(out, "keep-git-dir", copy->keep_git_dir);
    put_tristate(out, "unpack", copy->unpack);
}

static void put_pairs(struct buf *out, const struct dockerfile_pairs *pairs)
{
    for (size_t i = 0; i < pairs->len; i++) {
        buf_addc(out, ' ');
        buf_add_quoted(out, pairs->items[i].key);
        if (pairs->items[i].value) {
            buf_addc(out, '=');
            buf_add_quoted(out, pairs->items[i].value);
        }
    }
}

static void put_command(struct buf *out, const struct dockerfile_command *command)
{
    put_list(out, command->json ? "exec" : "shell", &command->args);
}

static void put_mount(struct buf *out, const struct run_mount *mount)
{
    static const char *const types[] = { "bind", "cache", "tmpfs", "secret", "ssh" }, *const sharings[] = { NULL, "shared", "private", "locked" };
    buf_adds(out, " mount{");
    buf_addf(out, "type=%s", types[mount->type]);
    put(out, "from", mount->from);
    put(out, "source", mount->source);
    put(out, "target", mount->target);
    put(out, "id", mount->id);
    put(out, "env", mount->env);
    put(out, "sharing", sharings[mount->sharing]);
    buf_adds(out, mount->read_only ? " ro" : "");
    buf_adds(out, mount->required ? " required" : "");
    put_number(out, "size", (int64_t)mount->size, 0);
    put_number(out, "mode", mount->mode, -1);
    put_number(out, "uid", mount->uid, -1);
    put_number(out, "gid", mount->gid, -1);
    buf_addc(out, '}');
}

static void put_run(struct buf *out, const struct run_fields *run)
{
    put_command(out, &run->command);
    for (size_t i = 0; i < run->heredocs.len; i++) {
        const struct heredoc *doc = &run->heredocs.items[i];
        put_number(out, "fd", doc->fd, 0);
        put(out, doc->chomp ? "chomped" : "heredoc", doc->name);
        put(out, doc->expand ? "content" : "literal", doc->content);
    }
    for (size_t i = 0; i < run->mounts_len; i++)
        put_mount(out, &run->mounts[i]);
    for (size_t i = 0; i < run->devices_len; i++) {
        put(out, "device", run->devices[i].name);
        buf_adds(out, run->devices[i].required ? " required" : "");
    }
    put(out, "network", str_eq(run->network, "default") ? NULL : run->network);
    put(out, "security", str_eq(run->security, "sandbox") ? NULL : run->security);
}

static void put_healthcheck(struct buf *out, const struct healthcheck_fields *health)
{
    put_list(out, "test", &health->test);
    put_number(out, "interval", health->interval_ns, 0);
    put_number(out, "timeout", health->timeout_ns, 0);
    put_number(out, "start-period", health->start_period_ns, 0);
    put_number(out, "start-interval", health->start_interval_ns, 0);
    put_number(out, "retries", health->retries, 0);
}

void step_text(const struct instruction *instruction, struct buf *out)
{
    buf_adds(out, instruction_kind_name(instruction->kind));
    switch (instruction->kind) {
    case INSTRUCTION_ADD:
    case INSTRUCTION_COPY: put_copy(out, &instruction->copy); break;
    case INSTRUCTION_ARG:
    case INSTRUCTION_ENV:
    case INSTRUCTION_LABEL: put_pairs(out, &instruction->pairs); break;
    case INSTRUCTION_CMD:
    case INSTRUCTION_ENTRYPOINT:
    case INSTRUCTION_SHELL: put_command(out, &instruction->command); break;
    case INSTRUCTION_RUN: put_run(out, &instruction->run); break;
    case INSTRUCTION_HEALTHCHECK: put_healthcheck(out, &instruction->healthcheck); break;
    case INSTRUCTION_EXPOSE:
    case INSTRUCTION_VOLUME: put_list(out, "value", &instruction->list); break;
    default: put(out, "value", instruction->value); break;
    }
}
