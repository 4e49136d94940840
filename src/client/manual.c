// berth(1), out of the tables.
#include "client/globals.h"

static void put_text(const char *text)
{
    for (const char *c = text; *c; c++)
        if (*c == '-' || *c == '\\' || (c == text && (*c == '.' || *c == '\'')))
            printf(*c == '.' || *c == '\'' ? "\\&%c" : *c == '\\' ? "\\e" : "\\%c", *c);
        else
            putchar(*c);
}

static void put_flags(const struct flag_tables *tables)
{
    for (size_t t = 0; t < 2; t++)
        for (size_t i = 0; i < tables->len[t]; i++) {
            const struct flag *flag = &tables->rows[t][i];
            fputs(".TP\n\\fB", stdout);
            if (flag->letter)
                printf("\\-%c\\fR, \\fB", flag->letter);
            fputs("\\-\\-", stdout);
            put_text(flag->name);
            printf("\\fR%s\\fI%s\\fR\n", flag_has_value(flag) ? " " : "", flag_word(flag));
            put_text(flag->help);
            if (flag->fallback) {
                fputs(" (default ", stdout);
                put_text(flag->fallback);
                putchar(')');
            }
            if (flag->refused) {
                fputs("; refused: ", stdout);
                put_text(flag->refused);
            }
            fputs(".\n", stdout);
        }
}

static void put_command(const struct command *command)
{
    fputs(".SS berth ", stdout);
    put_text(command->path);
    putchar(*command->usage ? ' ' : '\n');
    if (*command->usage) {
        put_text(command->usage);
        putchar('\n');
    }
    put_text(command->help);
    fputs(".\n", stdout);
    if (command->aliases) {
        fputs("Also: ", stdout);
        put_text(command->aliases);
        fputs(".\n", stdout);
    }
    put_flags(&command->flags);
}

int command_manual(struct call *call, struct err *err)
{
    fputs(".TH BERTH 1 \"\" \"berth " BERTH_VERSION "\" \"User Commands\"\n"
          ".SH NAME\nberth \\- containers and microVMs on a daemon of the Docker Engine API\n"
          ".SH SYNOPSIS\n\\fBberth\\fR [\\fIOPTIONS\\fR] \\fICOMMAND\\fR [\\fIARG\\fR...]\n"
          ".SH DESCRIPTION\n"
          "Verbs, flags and output are those of docker, and so are \\fI~/.docker/config.json\\fR, contexts and the variables below. "
          "The daemon is berthd or any other that speaks the Docker Engine API.\n"
          ".SH OPTIONS\n", stdout);
    put_flags(&global_flags);
    fputs(".SH COMMANDS\n", stdout);
    for (size_t i = 0; i < commands_len; i++)
        if (commands[i].run && !str_starts(commands[i].path, "__"))
            put_command(&commands[i]);
    fputs(".SH EXIT STATUS\n"
          "0, or the container's own exit code. 125: the daemon or this program failed before the container ran. 126: its command can't be executed. "
          "127: it can't be found. 128 and more: it was ended by that signal. 64: a template that can't be parsed. 1: everything else.\n"
          ".SH ENVIRONMENT\n"
          ".TP\n\\fBDOCKER_HOST\\fR\nThe daemon, as \\-\\-host.\n"
          ".TP\n\\fBDOCKER_CONTEXT\\fR\nA context, as \\-\\-context.\n"
          ".TP\n\\fBDOCKER_CONFIG\\fR\nThe folder of config.json, as \\-\\-config.\n"
          ".TP\n\\fBDOCKER_TLS_VERIFY\\fR, \\fBDOCKER_TLS\\fR, \\fBDOCKER_CERT_PATH\\fR\nTLS, as \\-\\-tlsverify and \\-\\-tls; where ca.pem, cert.pem and key.pem are.\n"
          ".TP\n\\fBDOCKER_API_VERSION\\fR\nThe API's version, instead of asking the daemon.\n"
          ".TP\n\\fBDOCKER_DEFAULT_PLATFORM\\fR\nThe platform where \\-\\-platform is not given.\n"
          ".SH FILES\n"
          "\\fI/run/berth/berth.sock\\fR: the daemon that is asked when nothing else is said, or \\fI/var/run/docker.sock\\fR where that alone is there.\n", stdout);
    return 0;
}
