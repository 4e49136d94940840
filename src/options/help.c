// berthd --help, out of the table.
#include "options_private.h"

enum { HELP_COLUMN = 38, HELP_WIDTH = 120 };

static const char *const kind_words[] = { [OPTION_TEXT] = "string", [OPTION_COUNT] = "int", [OPTION_SIZE] = "bytes", [OPTION_LIST] = "list",
                                          [OPTION_PAIRS] = "map", [OPTION_ULIMITS] = "ulimit", [OPTION_POOLS] = "pool", [OPTION_NESTED] = "map", [OPTION_OBJECTS] = "list" };

// Text in the right column, broken at blanks.
static void write_wrapped(FILE *out, const char *text, int column)
{
    struct slice rest = slice_of(text), word;
    int at = column;
    while (slice_cut(&rest, ' ', &word)) {
        if (at + (int)word.size + 1 > HELP_WIDTH) {
            fprintf(out, "\n%*s", HELP_COLUMN, "");
            at = HELP_COLUMN;
        }
        fprintf(out, "%s%.*s", at > HELP_COLUMN ? " " : "", (int)word.size, word.data);
        at += (int)word.size + 1;
    }
    fputc('\n', out);
}

static int write_name(FILE *out, const struct option_row *row)
{
    const char *argument = row->argument ? row->argument : row->kind == OPTION_FLAG ? "" : kind_words[row->kind];
    int width = row->letter ? fprintf(out, "  -%c, --%s %s", row->letter, row->flag, argument)
                            : fprintf(out, "      --%s %s", row->flag, argument);
    if (width > HELP_COLUMN - 1) {
        fputc('\n', out);
        width = 0;
    }
    fprintf(out, "%*s", HELP_COLUMN - width, "");
    return HELP_COLUMN;
}

static int write_key(FILE *out, const struct option_row *row)
{
    int width = fprintf(out, "      %s (in the file alone)", row->key);
    fprintf(out, "%*s", MAX_OF(HELP_COLUMN - width, 1), "");
    return MAX_OF(HELP_COLUMN, width + 1);
}

static void write_section(FILE *out, const char *title, enum option_answer answer)
{
    fprintf(out, "\n%s\n", title);
    for (size_t i = 0; i < option_len; i++) {
        const struct option_row *row = &option_table[i];
        if (row->answer != answer)
            continue;
        int column = row->flag ? write_name(out, row) : write_key(out, row);
        if (row->reloads)
            fputs("* ", out);
        _cleanup_free_ char *text = row->words && answer == OPTION_HONOURED ? mem_printf("%s: %s", row->help, row->words)
                                    : row->idle ? mem_printf("%s (passes: %s)", row->help, row->idle) : mem_strdup(row->help);
        write_wrapped(out, text, column + 2 * row->reloads);
    }
}

void options_help(FILE *out)
{
    fputs("Usage: berthd [OPTIONS]\n\nThe Berth daemon: serves the Docker Engine API. Every option may stand in " OPTIONS_CONFIG_FILE
          " too,\nunder dockerd's names; SIGHUP reads those again that are marked with a star.\n", out);
    write_section(out, "Options:", OPTION_HONOURED);
    write_section(out, "Options of dockerd that pass and change nothing:", OPTION_PASSES);
    write_section(out, "Options of dockerd that are refused, but for what is the case anyway:", OPTION_REFUSED);
}
