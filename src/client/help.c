// --help, out of the tables; and which word was perhaps meant.
#include "client/globals.h"

#define WIDTH 80

// A text behind `used` columns, wrapped; further lines begin at `column`.
static void put_wrapped(const char *text, int used, int column, FILE *out)
{
    if (used < column)
        fprintf(out, "%*s", column - used, "");
    int at = MAX_OF(used, column);
    while (*text) {
        int size = (int)strcspn(text, " ");
        if (at > column && at + 1 + size > WIDTH) {
            fprintf(out, "\n%*s", column, "");
            at = column;
        } else if (at > column) {
            fputc(' ', out);
            at++;
        }
        fwrite(text, 1, (size_t)size, out);
        at += size;
        text += size + (text[size] == ' ');
    }
    fputc('\n', out);
}

static int flag_head(const struct flag *flag, char *out, size_t size)
{
    char letter[8] = "    ";
    if (flag->letter)
        snprintf(letter, sizeof(letter), "-%c, ", flag->letter);
    return snprintf(out, size, "  %s--%s%s%s", letter, flag->name, flag_has_value(flag) ? " " : "", flag_word(flag));
}

static int by_name(const void *a, const void *b)
{
    return strcmp((*(const struct flag *const *)a)->name, (*(const struct flag *const *)b)->name);
}

static void help_flags(const struct flag_tables *tables, FILE *out)
{
    const struct flag *sorted[256];
    size_t len = 0;
    int column = 0;
    char head[128];
    for (size_t t = 0; t < 2; t++)
        for (size_t i = 0; i < tables->len[t] && len < ARRAY_LEN(sorted); i++)
            sorted[len++] = &tables->rows[t][i];
    qsort(sorted, len, sizeof(*sorted), by_name);
    for (size_t i = 0; i < len; i++)
        column = MAX_OF(column, flag_head(sorted[i], head, sizeof(head)));
    for (size_t i = 0; i < len; i++) {
        char text[512];
        snprintf(text, sizeof(text), "%s%s%s%s%s%s", sorted[i]->help, sorted[i]->fallback ? " (default " : "",
                 sorted[i]->fallback ? sorted[i]->fallback : "", sorted[i]->fallback ? ")" : "",
                 sorted[i]->refused ? "; refused: " : "", sorted[i]->refused ? sorted[i]->refused : "");
        int used = flag_head(sorted[i], head, sizeof(head));
        fputs(head, out);
        put_wrapped(text, used, column + 3, out);
    }
}

void help_command(const struct call *call, FILE *out)
{
    const struct command *command = call->command;
    fprintf(out, "Usage:  berth %s%s%s\n\n%s\n", call->name, *command->usage ? " " : "", command->usage, command->help);
    if (command->aliases) {
        struct slice part, rest = slice_of(command->aliases);
        fprintf(out, "\nAliases:\n  berth %s", command->path);
        while (slice_cut(&rest, ',', &part)) {
            part = slice_trim(part);
            fprintf(out, ", berth %.*s", (int)part.size, part.data);
        }
        fputc('\n', out);
    }
    if (command->flags.len[0] + command->flags.len[1]) {
        fputs("\nOptions:\n", out);
        help_flags(&command->flags, out);
    }
    if (!command->run)
        fprintf(out, "\nNot supported: %s\n", command->why);
}

static void put_line(const char *name, const char *help, FILE *out)
{
    int used = fprintf(out, "  %s", name);
    put_wrapped(help, used, 14, out);
}

// The name a command has in a group, NULL when it has none; "" is the root.
static const char *name_in(const struct command *command, const char *group, char *out, size_t size)
{
    struct slice part, rest = slice_of(command->aliases ? command->aliases : "");
    part = slice_of(command->path);
    do {
        part = slice_trim(part);
        const char *blank = memchr(part.data, ' ', part.size);
        size_t len = strlen(group);
        if (!part.size)
            continue;
        if (!*group && !blank) {
            snprintf(out, size, "%.*s", (int)part.size, part.data);
            return out;
        }
        if (*group && blank && (size_t)(blank - part.data) == len && memcmp(part.data, group, len) == 0) {
            snprintf(out, size, "%.*s", (int)(part.size - len - 1), blank + 1);
            return out;
        }
    } while (slice_cut(&rest, ',', &part));
    return NULL;
}

static void list_commands(const char *group, bool built, FILE *out)
{
    char name[64];
    for (size_t i = 0; i < commands_len; i++)
        if ((commands[i].run != NULL) == built && name_in(&commands[i], group, name, sizeof(name)) && !str_starts(name, "__"))
            put_line(name, commands[i].help, out);
}

void help_group(const char *group, FILE *out)
{
    const char *why = group_why(group);
    for (size_t i = 0; i < groups_len; i++)
        if (str_eq(groups[i].name, group))
            fprintf(out, "Usage:  berth %s COMMAND\n\n%s\n", group, groups[i].help);
    if (why) {
        fprintf(out, "\nNot supported: %s\n", why);
        return;
    }
    fputs("\nCommands:\n", out);
    list_commands(group, true, out);
    fprintf(out, "\nRun 'berth %s COMMAND --help' for more information on a command.\n", group);
}

void help_root(FILE *out)
{
    fputs("Usage:  berth [OPTIONS] COMMAND\n\nContainers and microVMs on a daemon of the Docker Engine API\n\nManagement Commands:\n", out);
    for (size_t i = 0; i < groups_len; i++)
        if (!groups[i].why)
            put_line(groups[i].name, groups[i].help, out);
    fputs("\nCommands:\n", out);
    list_commands("", true, out);
    fputs("\nGlobal Options:\n", out);
    help_flags(&global_flags, out);
    fputs("\nRun 'berth COMMAND --help' for more information on a command.\n", out);
}

// ---- what was meant -------------------------------------------------------------------------------------------------

#define WORD_MAX 48

// Insertions, deletions, replacements and neighbours exchanged between two short words.
static size_t distance(const char *a, const char *b)
{
    size_t rows[3][WORD_MAX + 1], la = strlen(a), lb = strlen(b);
    if (la > WORD_MAX || lb > WORD_MAX)
        return WORD_MAX;
    for (size_t j = 0; j <= lb; j++)
        rows[0][j] = j;
    for (size_t i = 1; i <= la; i++) {
        size_t *row = rows[i % 3], *before = rows[(i + 2) % 3], *two = rows[(i + 1) % 3];
        row[0] = i;
        for (size_t j = 1; j <= lb; j++) {
            row[j] = MIN_OF(MIN_OF(before[j] + 1, row[j - 1] + 1), before[j - 1] + (a[i - 1] != b[j - 1]));
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                row[j] = MIN_OF(row[j], two[j - 2] + 1);
        }
    }
    return rows[la % 3][lb];
}

static void nearer(const char *word, const char *candidate, const char **best, size_t *least)
{
    size_t far = str_starts(candidate, word) && strlen(word) > 2 ? 1 : distance(word, candidate);
    if (far < *least && far <= 1 + strlen(word) / 4) {
        *least = far;
        *best = candidate;
    }
}

const char *command_suggestion(const char *word, const char *group, char kept[64])
{
    const char *best = NULL;
    size_t least = WORD_MAX;
    char name[64];
    for (size_t i = 0; i < commands_len; i++)
        if (commands[i].run && name_in(&commands[i], group, name, sizeof(name))) {
            const char *before = best;
            nearer(word, name, &best, &least);
            if (best != before) {
                snprintf(kept, 64, "%s", name);
                best = kept;
            }
        }
    for (size_t i = 0; i < groups_len && !*group; i++)
        if (!groups[i].why)
            nearer(word, groups[i].name, &best, &least);
    return best;
}

const char *flag_suggestion(const struct flag_tables *tables, const char *word)
{
    const char *best = NULL;
    size_t least = WORD_MAX;
    for (size_t t = 0; t < 2; t++)
        for (size_t i = 0; i < tables->len[t]; i++)
            nearer(word, tables->rows[t][i].name, &best, &least);
    return best;
}
