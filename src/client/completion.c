// Completion: three short scripts that ask `berth __complete` what could come next; the words come from the tables, names from the daemon.
#include "client/globals.h"

static const char bash[] =
    "_berth() {\n"
    "    local IFS=$'\\n' word=${COMP_WORDS[COMP_CWORD]}\n"
    "    COMPREPLY=($(berth __complete \"${COMP_WORDS[@]:1:COMP_CWORD}\" 2>/dev/null | cut -f1))\n"
    "    [ \"${COMPREPLY[0]}\" = : ] && { COMPREPLY=(); compopt -o default; }\n"
    "    case $word in *:*) type -t __ltrim_colon_completions >/dev/null && __ltrim_colon_completions \"$word\";; esac\n"
    "}\n"
    "complete -F _berth berth\n";

static const char zsh[] =
    "#compdef berth\n"
    "_berth() {\n"
    "    local -a lines\n"
    "    lines=(${(f)\"$(berth __complete \"${(@)words[2,CURRENT]}\" 2>/dev/null)\"})\n"
    "    if [[ $lines[1] == : ]]; then _files; return; fi\n"
    "    lines=(${lines//:/\\\\:})\n"
    "    lines=(${lines/$'\\t'/:})\n"
    "    _describe berth lines\n"
    "}\n"
    "if [ \"$funcstack[1]\" = _berth ]; then _berth; else compdef _berth berth; fi\n";

static const char fish[] =
    "function __berth_complete\n"
    "    set -l words (commandline -opc)\n"
    "    set -l lines (berth __complete $words[2..-1] (commandline -ct) 2>/dev/null)\n"
    "    if test \"$lines[1]\" = :\n"
    "        __fish_complete_path (commandline -ct)\n"
    "    else\n"
    "        printf '%s\\n' $lines\n"
    "    end\n"
    "end\n"
    "complete -c berth -f -a '(__berth_complete)'\n";

int command_completion(struct call *call, struct err *err)
{
    static const struct {
        const char *shell, *script;
    } scripts[] = { { "bash", bash }, { "zsh", zsh }, { "fish", fish } };
    for (size_t i = 0; i < ARRAY_LEN(scripts); i++)
        if (str_eq(call->args.items[0], scripts[i].shell)) {
            fputs(scripts[i].script, stdout);
            return 0;
        }
    return err_set(err, ERR_INVALID_ARGUMENT, "no completion for %s: bash, zsh or fish", call->args.items[0]);
}

// ---- __complete -----------------------------------------------------------------------------------------------------

static void offer(const char *word, const char *text, const char *help)
{
    if (str_starts(text, word))
        printf("%s\t%s\n", text, help);
}

// The words that stand at a place in a command's path or aliases.
static void offer_commands(const char *word, const char *group)
{
    size_t size = strlen(group);
    for (size_t i = 0; i < commands_len; i++) {
        struct slice part, rest = slice_of(commands[i].aliases ? commands[i].aliases : "");
        part = slice_of(commands[i].path);
        do {
            char text[64];
            part = slice_trim(part);
            snprintf(text, sizeof(text), "%.*s", (int)part.size, part.data ? part.data : "");
            const char *blank = strchr(text, ' ');
            if (!*text || str_starts(text, "__") || !commands[i].run)
                continue;
            if (!*group && !blank)
                offer(word, text, commands[i].help);
            else if (*group && blank && (size_t)(blank - text) == size && str_starts(text, group))
                offer(word, blank + 1, commands[i].help);
        } while (slice_cut(&rest, ',', &part));
    }
    for (size_t i = 0; i < groups_len && !*group; i++)
        if (!groups[i].why)
            offer(word, groups[i].name, groups[i].help);
}

static void offer_flags(const char *word, const struct flag_tables *tables)
{
    for (size_t t = 0; t < 2; t++)
        for (size_t i = 0; i < tables->len[t]; i++) {
            char text[64];
            snprintf(text, sizeof(text), "--%s", tables->rows[t][i].name);
            if (!tables->rows[t][i].refused)
                offer(word, text, tables->rows[t][i].help);
        }
    offer(word, "--help", "This command's help");
}

static json_t *fetch(struct client *client, const char *path)
{
    struct err ignored;
    json_t *answer = NULL;
    return api_json(client, "GET", path, NULL, &answer, &ignored) < 0 ? NULL : answer;
}

// Names out of a list of objects: `key` is text, or a list of text.
static void offer_names(struct client *client, const char *word, const char *path, const char *list, const char *key, const char *help)
{
    _cleanup_json_ json_t *answer = fetch(client, path);
    json_t *objects = list ? json_object_get(answer, list) : answer, *object;
    size_t i, j;
    json_array_foreach(objects, i, object) {
        json_t *value = json_object_get(object, key);
        const char *name = json_string_value(value);
        if (name)
            offer(word, name, help);
        for (j = 0; j < json_array_size(value); j++)
            offer(word, item_text(value, j) + (*item_text(value, j) == '/'), help);
    }
}

static void offer_arguments(struct client *client, const char *word, enum completes kind)
{
    bool all = kind == COMPLETES_ALL;
    if (kind == COMPLETES_FILES)
        puts(":");
    if (kind == COMPLETES_RUNNING)
        offer_names(client, word, "/containers/json", NULL, "Names", "container");
    if (kind == COMPLETES_CONTAINERS || all)
        offer_names(client, word, "/containers/json?all=1", NULL, "Names", "container");
    if (kind == COMPLETES_IMAGES || all)
        offer_names(client, word, "/images/json", NULL, "RepoTags", "image");
    if (kind == COMPLETES_NETWORKS || all)
        offer_names(client, word, "/networks", NULL, "Name", "network");
    if (kind == COMPLETES_VOLUMES || all)
        offer_names(client, word, "/volumes", "Volumes", "Name", "volume");
}

// A flag in front that waits for its value.
static const struct flag *waiting_flag(const struct flag_tables *tables, const char *before)
{
    const struct flag *flag = NULL;
    if (str_starts(before, "--") && !strchr(before, '='))
        flag = flag_find(tables, before + 2, strlen(before + 2));
    else if (*before == '-' && before[1] && !before[2])
        flag = flag_letter(tables, before[1]);
    return flag && flag_has_value(flag) ? flag : NULL;
}

static void offer_value(struct client *client, const char *word, const struct flag *flag)
{
    static const struct {
        const char *flag;
        enum completes completes;
    } known[] = { { "network", COMPLETES_NETWORKS }, { "net", COMPLETES_NETWORKS }, { "volumes-from", COMPLETES_CONTAINERS },
                  { "link", COMPLETES_CONTAINERS }, { "input", COMPLETES_FILES }, { "output", COMPLETES_FILES },
                  { "env-file", COMPLETES_FILES }, { "label-file", COMPLETES_FILES }, { "cidfile", COMPLETES_FILES }, { "volume", COMPLETES_FILES } };
    for (size_t i = 0; i < ARRAY_LEN(known); i++)
        if (str_eq(flag->name, known[i].flag))
            offer_arguments(client, word, known[i].completes);
    if (str_eq(flag->name, "isolation")) {
        offer(word, "container", "namespaces and cgroups");
        offer(word, "vm", "a microVM");
    }
}

// Arguments that are in front of the word, flags and their values left out.
static size_t arguments_before(const struct flag_tables *tables, char **words, size_t len)
{
    size_t count = 0;
    for (size_t i = 0; i < len; i++)
        if (*words[i] == '-' && words[i][1])
            i += waiting_flag(tables, words[i]) != NULL;
        else
            count++;
    return count;
}

static void complete(struct client *client, const struct command *command, char **words, size_t len, const char *word)
{
    const struct flag *flag = len ? waiting_flag(&command->flags, words[len - 1]) : NULL;
    size_t before = arguments_before(&command->flags, words, len);
    if (flag)
        offer_value(client, word, flag);
    else if (*word == '-' && !(command->leading && before))
        offer_flags(word, &command->flags);
    else if (before && command->leading)
        puts(":");
    else if (before && command->args_max > 0 && (int)before >= command->args_max)
        return;
    else if (before == 1 && (str_eq(command->path, "network connect") || str_eq(command->path, "network disconnect")))
        offer_arguments(client, word, COMPLETES_CONTAINERS);
    else if (str_eq(command->path, "completion"))
        offer(word, "bash", ""), offer(word, "zsh", ""), offer(word, "fish", "");
    else
        offer_arguments(client, word, command->completes);
}

int command_complete(struct call *call, struct err *err)
{
    char **words = call->args.items;
    size_t len = call->args.len, at = 0;
    const char *word = len ? words[len - 1] : "";
    len -= len > 0;
    while (at < len && *words[at] == '-') // global flags
        at += 1 + (waiting_flag(&global_flags, words[at]) != NULL);
    if (at >= len) {
        if (*word == '-')
            offer_flags(word, &global_flags);
        else
            offer_commands(word, "");
        return 0;
    }
    const struct command *command = command_find(words[at]);
    if (command) {
        complete(call->client, command, words + at + 1, len - at - 1, word);
        return 0;
    }
    if (at + 1 >= len) {
        offer_commands(word, words[at]);
        return 0;
    }
    command = command_find(arena_printf(&call->arena, "%s %s", words[at], words[at + 1]));
    if (command)
        complete(call->client, command, words + at + 2, len - at - 2, word);
    return 0;
}
