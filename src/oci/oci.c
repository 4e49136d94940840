// The table of verbs and flags, and what every call does first and last.
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/random.h>
#include <sys/stat.h>

#include "base/file.h"
#include "oci/oci_private.h"

static const struct flag global_flags[] = {
    { "debug", "", FLAG_BOOL, "enable debug logging" },
    { "log", "", FLAG_TEXT, "set the log file to write runc logs to (default is '/dev/stderr')" },
    { "log-format", "", FLAG_TEXT, "set the log format ('text' (default), or 'json')" },
    { "root", "", FLAG_TEXT, "root directory for storage of container state (this should be located in tmpfs)" },
    { "criu", "", FLAG_TEXT, "path to the criu binary used for checkpoint and restore (default: the one in PATH)" },
    { "systemd-cgroup", "", FLAG_BOOL, "enable systemd cgroup support, expects cgroupsPath to be of form \"slice:prefix:name\"" },
    { "cgroup-manager", "", FLAG_TEXT, "cgroupfs, systemd or disabled" },
    { "rootless", "", FLAG_TEXT, "ignore cgroup permission errors ('true', 'false', or 'auto')" },
    { "help", "h", FLAG_BOOL, "show help" },
    { "version", "v", FLAG_BOOL, "print the version" },
};

#define HELP { "help", "h", FLAG_BOOL, "show help" }
#define BUNDLE { "bundle", "b", FLAG_TEXT, "path to the root of the bundle directory, defaults to the current directory" }
#define CONSOLE { "console-socket", "", FLAG_TEXT, \
                  "path to an AF_UNIX socket which will receive a file descriptor referencing the master end of the console's pseudoterminal" }
#define PID_FILE { "pid-file", "", FLAG_TEXT, "specify the file to write the process id to" }
#define NO_PIVOT { "no-pivot", "", FLAG_BOOL, "do not use pivot root to jail process inside rootfs.  This should be used whenever the rootfs is on top of a ramdisk" }
#define NO_KEYRING { "no-new-keyring", "", FLAG_BOOL, \
                     "do not create a new session keyring for the container.  This will cause the container to inherit the calling processes session key" }
#define PRESERVE { "preserve-fds", "", FLAG_TEXT, "Pass N additional file descriptors to the container (stdio + $LISTEN_FDS + N in total)" }
#define DETACH { "detach", "d", FLAG_BOOL, "detach from the container's process" }
#define CONFIG { "config", "f", FLAG_TEXT, "override the config file name" }

static const struct flag no_flags[] = { HELP };
static const struct flag create_flags[] = { BUNDLE, CONFIG, CONSOLE, PID_FILE, NO_PIVOT, NO_KEYRING, PRESERVE, HELP };
static const struct flag run_flags[] = {
    BUNDLE, CONFIG, CONSOLE, DETACH, PID_FILE, NO_PIVOT, NO_KEYRING, PRESERVE,
    { "keep", "", FLAG_BOOL, "do not delete the container after it exits" },
    { "no-subreaper", "", FLAG_BOOL, "disable the use of the subreaper used to reap reparented processes" },
    HELP,
};
static const struct flag exec_flags[] = {
    CONSOLE, DETACH, PID_FILE, PRESERVE,
    { "cwd", "", FLAG_TEXT, "current working directory in the container" },
    { "env", "e", FLAG_LIST, "set environment variables" },
    { "tty", "t", FLAG_BOOL, "allocate a pseudo-TTY" },
    { "user", "u", FLAG_TEXT, "UID (format: <uid>[:<gid>])" },
    { "additional-gids", "g", FLAG_LIST, "additional gids" },
    { "process", "p", FLAG_TEXT, "path to the process.json" },
    { "process-label", "", FLAG_TEXT, "set the asm process label for the process commonly used with selinux" },
    { "apparmor", "", FLAG_TEXT, "set the apparmor profile for the process" },
    { "no-new-privs", "", FLAG_BOOL, "set the no new privileges value for the process" },
    { "cap", "c", FLAG_LIST, "add a capability to the bounding set for the process" },
    { "cgroup", "", FLAG_LIST, "run the process in an (existing) sub-cgroup(s). Format is [<controller>:]<cgroup>." },
    { "ignore-paused", "", FLAG_BOOL, "allow exec in a paused container" },
    HELP,
};
static const struct flag kill_flags[] = { { "all", "a", FLAG_BOOL, "send the specified signal to all processes inside the container" }, HELP };
static const struct flag delete_flags[] = {
    { "force", "f", FLAG_BOOL, "Forcibly deletes the container if it is still running (uses SIGKILL)" }, HELP };
static const struct flag list_flags[] = {
    { "format", "f", FLAG_TEXT, "select one of: table or json" }, { "quiet", "q", FLAG_BOOL, "display only container IDs" }, HELP };
static const struct flag ps_flags[] = { { "format", "f", FLAG_TEXT, "select one of: table or json" }, HELP };
static const struct flag events_flags[] = {
    { "interval", "", FLAG_TEXT, "set the stats collection interval" },
    { "stats", "", FLAG_BOOL, "display the container's stats then exit" }, HELP };
static const struct flag spec_flags[] = { BUNDLE, { "rootless", "", FLAG_BOOL, "generate a configuration for a rootless container" }, HELP };
static const struct flag plan_flags[] = { BUNDLE, NO_PIVOT, NO_KEYRING, HELP };
static const struct flag update_flags[] = {
    { "resources", "r", FLAG_TEXT, "path to the file containing the resources to update or '-' to read from the standard input" },
    { "blkio-weight", "", FLAG_TEXT, "Specifies per cgroup weight, range is from 10 to 1000" },
    { "cpu-period", "", FLAG_TEXT, "CPU CFS period to be used for hardcapping (in usecs). 0 to use system default" },
    { "cpu-quota", "", FLAG_TEXT, "CPU CFS hardcap limit (in usecs). Allowed cpu time in a given period" },
    { "cpu-share", "", FLAG_TEXT, "CPU shares (relative weight vs. other containers)" },
    { "cpu-rt-period", "", FLAG_TEXT, "CPU realtime period to be used for hardcapping (in usecs). 0 to use system default" },
    { "cpu-rt-runtime", "", FLAG_TEXT, "CPU realtime hardcap limit (in usecs). Allowed cpu time in a given period" },
    { "cpuset-cpus", "", FLAG_TEXT, "CPU(s) to use" },
    { "cpuset-mems", "", FLAG_TEXT, "Memory node(s) to use" },
    { "kernel-memory", "", FLAG_IGNORED_TEXT, "(obsoleted; do not use)" },
    { "kernel-memory-tcp", "", FLAG_IGNORED_TEXT, "(obsoleted; do not use)" },
    { "memory", "", FLAG_TEXT, "Memory limit (in bytes)" },
    { "memory-reservation", "", FLAG_TEXT, "Memory reservation or soft_limit (in bytes)" },
    { "memory-swap", "", FLAG_TEXT, "Total memory usage (memory + swap); set '-1' to enable unlimited swap" },
    { "pids-limit", "", FLAG_TEXT, "Maximum number of pids allowed in the container" },
    { "l3-cache-schema", "", FLAG_TEXT, "The string of Intel RDT/CAT L3 cache schema" },
    { "mem-bw-schema", "", FLAG_TEXT, "The string of Intel RDT/MBA memory bandwidth schema" },
    HELP,
};

#define IMAGES { "image-path", "", FLAG_TEXT, "path for criu image files (default: ./checkpoint)" }
#define WORK { "work-path", "", FLAG_TEXT, "path for saving work files and logs" }
#define TCP { "tcp-established", "", FLAG_BOOL, "allow open tcp connections" }
#define UNIX_SOCKETS { "ext-unix-sk", "", FLAG_BOOL, "allow external unix sockets" }
#define SHELL_JOB { "shell-job", "", FLAG_BOOL, "allow shell jobs" }
#define LAZY { "lazy-pages", "", FLAG_BOOL, "use userfaultfd to lazily restore memory pages" }
#define FILE_LOCKS { "file-locks", "", FLAG_BOOL, "handle file locks, for safety" }
#define CGROUPS_MODE { "manage-cgroups-mode", "", FLAG_TEXT, "cgroups mode: soft|full|strict|ignore (default: soft)" }
#define EMPTY_NS { "empty-ns", "", FLAG_LIST, "create a namespace, but don't restore its properties" }
#define AUTO_DEDUP { "auto-dedup", "", FLAG_BOOL, "enable auto deduplication of memory images" }
static const struct flag checkpoint_flags[] = {
    IMAGES, WORK, TCP, UNIX_SOCKETS, SHELL_JOB, LAZY, FILE_LOCKS, CGROUPS_MODE, EMPTY_NS, AUTO_DEDUP,
    { "parent-path", "", FLAG_TEXT, "path for previous criu image files in pre-dump" },
    { "leave-running", "", FLAG_BOOL, "leave the process running after checkpointing" },
    { "tcp-skip-in-flight", "", FLAG_BOOL, "skip in-flight tcp connections" },
    { "link-remap", "", FLAG_BOOL, "allow one to link unlinked files back when possible" },
    { "status-fd", "", FLAG_TEXT, "criu writes \\0 to this FD once lazy-pages is ready" },
    { "page-server", "", FLAG_TEXT, "ADDRESS:PORT of the page server" },
    { "pre-dump", "", FLAG_BOOL, "dump container's memory information only, leave the container running after this" },
    HELP,
};
static const struct flag restore_flags[] = {
    IMAGES, WORK, TCP, UNIX_SOCKETS, SHELL_JOB, LAZY, FILE_LOCKS, CGROUPS_MODE, EMPTY_NS, AUTO_DEDUP,
    BUNDLE, CONFIG, CONSOLE, DETACH, PID_FILE, NO_PIVOT,
    { "no-subreaper", "", FLAG_BOOL, "disable the use of the subreaper used to reap reparented processes" },
    { "lsm-profile", "", FLAG_TEXT, "Specify an LSM profile to be used during restore in the form of TYPE:NAME." },
    { "lsm-mount-context", "", FLAG_TEXT, "Specify an LSM mount context to be used during restore." },
    HELP,
};

static const struct verb {
    const char *name, *usage, *words;
    verb_fn *run;
    const struct flag *flags;
    size_t flag_len;
    int words_min, words_max; // -1: any number
    bool mixed; // flags may follow words
    bool enters; // this process, or a clone of it, will be inside a container
} verbs[] = {
#define FLAGS(list) list, ARRAY_LEN(list)
    { "checkpoint", "checkpoint a running container", "<container-id>", verb_checkpoint, FLAGS(checkpoint_flags), 1, 1,
      true, false },
    { "create", "create a container", "<container-id>", verb_create, FLAGS(create_flags), 1, 1, true, true },
    { "delete", "delete any resources held by the container often used with detached container", "<container-id>", verb_delete,
      FLAGS(delete_flags), 1, 1, true, false },
    { "events", "display container events such as OOM notifications, cpu, memory, and IO usage statistics", "<container-id>",
      verb_events, FLAGS(events_flags), 1, 1, true, false },
    { "exec", "execute new process inside the container", "<container-id> <command> [command options]  || -p process.json <container-id>",
      verb_exec, FLAGS(exec_flags), 1, -1, false, true },
    { "features", "show the enabled features", "", verb_features, FLAGS(no_flags), 0, 0, true, false },
    { "kill", "kill sends the specified signal (default: SIGTERM) to the container's init process", "<container-id> [signal]",
      verb_kill, FLAGS(kill_flags), 1, 2, true, false },
    { "list", "lists containers started by runc with the given root", "", verb_list, FLAGS(list_flags), 0, 0, true, false },
    { "pause", "pause suspends all processes inside the container", "<container-id>", verb_pause, FLAGS(no_flags), 1, 1, true, false },
    { "plan", "print the operations that making a container would be", "", verb_plan, FLAGS(plan_flags), 0, 0, true, false },
    { "ps", "ps displays the processes running inside a container", "<container-id> [ps options]", verb_ps, FLAGS(ps_flags), 1, -1,
      false, false },
    { "restore", "restore a container from a previous checkpoint", "<container-id>", verb_restore, FLAGS(restore_flags), 1, 1,
      true, true },
    { "resume", "resumes all processes that have been previously paused", "<container-id>", verb_resume, FLAGS(no_flags), 1, 1, true,
      false },
    { "run", "create and run a container", "<container-id>", verb_run, FLAGS(run_flags), 1, 1, true, true },
    { "spec", "create a new specification file", "", verb_spec, FLAGS(spec_flags), 0, 0, true, false },
    { "start", "executes the user defined process in a created container", "<container-id>", verb_start, FLAGS(no_flags), 1, 1, true,
      false },
    { "state", "output the state of a container", "<container-id>", verb_state, FLAGS(no_flags), 1, 1, true, false },
    { "update", "update container resource constraints", "<container-id>", verb_update, FLAGS(update_flags), 1, 1, true, false },
};

static const struct verb *find_verb(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(verbs); i++)
        if (str_eq(verbs[i].name, name))
            return &verbs[i];
    return NULL;
}

// ---- help -----------------------------------------------------------------------------------------------------------

static void print_help(void)
{
    printf("NAME:\n   runc - Open Container Initiative runtime\n\nberth-oci is an OCI runtime with runc's command line.\n\n"
           "USAGE:\n   berth-oci [global options] command [command options] [arguments...]\n\nVERSION:\n   %s\nspec: %s\n\nCOMMANDS:\n",
           BERTH_VERSION, SPEC_VERSION);
    for (size_t i = 0; i < ARRAY_LEN(verbs); i++)
        printf("   %-12s %s\n", verbs[i].name, verbs[i].usage);
    printf("   %-12s %s\n\nGLOBAL OPTIONS:\n", "help, h", "Shows a list of commands or help for one command");
    args_help(global_flags, ARRAY_LEN(global_flags));
}

static void print_verb_help(const struct verb *verb)
{
    printf("NAME:\n   runc %s - %s\n\nUSAGE:\n   runc %s [command options] %s\n\nOPTIONS:\n", verb->name, verb->usage, verb->name, verb->words);
    args_help(verb->flags, verb->flag_len);
}

static int check_words(const struct call *call, const struct verb *verb, struct err *err)
{
    int len = (int)call->args.words.len, min = verb->words_min, max = verb->words_max;
    if (len >= min && (max < 0 || len <= max))
        return 0;
    printf("Incorrect Usage.\n\n");
    print_verb_help(verb);
    const char *bound = min == max ? "exactly" : len < min ? "a minimum of" : "a maximum of";
    return err_set(err, ERR_INVALID_ARGUMENT, "%s: \"%s\" requires %s %d argument(s)", call->program, verb->name, bound, len < min ? min : max);
}

// ---- the call -------------------------------------------------------------------------------------------------------

// A user's own folder, as runc has it: root of a user namespace is a user there, unless he was root before.
static const char *runtime_folder(const struct call *call)
{
    const char *user = getenv("USER");
    bool own = call->rootless || (call->inside_users && (!user || !str_eq(user, "root")));
    return own ? getenv("XDG_RUNTIME_DIR") : NULL;
}

static int absolute_root(struct call *call, struct err *err)
{
    const char *given = args_text(&call->global, "root"), *runtime = runtime_folder(call);
    char where[PATH_MAX];
    if (str_empty(given) && !str_empty(runtime)) {
        call->root = arena_printf(&call->arena, "%s/berth-oci", runtime);
        if (file_mkdirs(AT_FDCWD, call->root, 0700, err) < 0)
            return -1;
        // The sticky bit keeps it from being cleared away with what else lies there.
        return chmod(call->root, 0700 | S_ISVTX) == 0 ? 0 : err_errno(err, errno, "%s", call->root);
    }
    if (str_empty(given))
        given = "/run/berth-oci";
    if (given[0] != '/' && !getcwd(where, sizeof(where)))
        return err_errno(err, errno, "getcwd");
    call->root = given[0] == '/' ? given : arena_printf(&call->arena, "%s/%s", where, given);
    return 0;
}

// Root of a user namespace that has not all ids is a user outside.
static bool in_user_namespace(void)
{
    _cleanup_buf_ struct buf text = BUF_INIT(64 << 10);
    if (file_read_at(AT_FDCWD, "/proc/self/uid_map", &text, NULL) < 0)
        return false;
    char *at = (char *)buf_text(&text);
    unsigned long long inside = strtoull(at, &at, 10), outside = strtoull(at, &at, 10), len = strtoull(at, &at, 10);
    return len && (inside || outside || len != UINT32_MAX);
}

static int read_rootless(struct call *call, struct err *err)
{
    const char *word = args_text(&call->global, "rootless");
    static const char *const yes[] = { "true", "1", "t", "T", "TRUE", "True" }, *const no[] = { "false", "0", "f", "F", "FALSE", "False" };
    call->rootless = geteuid() != 0;
    call->inside_users = in_user_namespace();
    call->lax_cgroups = call->rootless || call->inside_users;
    if (str_empty(word) || str_eq(word, "auto"))
        return 0;
    for (size_t i = 0; i < ARRAY_LEN(yes); i++) {
        if (!str_eq(word, yes[i]) && !str_eq(word, no[i]))
            continue;
        call->lax_cgroups = str_eq(word, yes[i]);
        return 0;
    }
    return err_set(err, ERR_INVALID_ARGUMENT, "strconv.ParseBool: parsing \"%.60s\": invalid syntax", word);
}

static int read_global(struct call *call, int argc, char **argv, int *at, struct err *err)
{
    call->global = (struct args){ .flags = global_flags, .flag_len = ARRAY_LEN(global_flags), .arena = &call->arena };
    // Only up to the verb: the first word ends the flags.
    int end = 1;
    while (end < argc && argv[end][0] == '-') {
        int from = end;
        if (args_read(&call->global, argc, argv, &end, false, err) < 0) {
            printf("Incorrect Usage. %s\n\n", err->message);
            print_help();
            return -1;
        }
        if (call->global.words.len || end == from)
            break;
    }
    *at = argc - (int)call->global.words.len;
    if (end == 1 && call->global.words.len == 0)
        *at = 1;
    const char *manager = args_text(&call->global, "cgroup-manager");
    call->systemd = args_flag(&call->global, "systemd-cgroup") || str_eq(manager, "systemd");
    if (read_rootless(call, err) < 0 || absolute_root(call, err) < 0)
        return -1;
    return log_open(args_text(&call->global, "log"), args_text(&call->global, "log-format"), args_flag(&call->global, "debug"), err);
}

static int run_verb(struct call *call, const struct verb *verb, int argc, char **argv, int at, struct err *err)
{
    call->args = (struct args){ .flags = verb->flags, .flag_len = verb->flag_len, .arena = &call->arena };
    if (args_read(&call->args, argc, argv, &at, verb->mixed, err) < 0) {
        printf("Incorrect Usage: %s\n\n", err->message);
        print_verb_help(verb);
        return -1;
    }
    if (args_flag(&call->args, "help")) {
        print_verb_help(verb);
        return 0;
    }
    if (check_words(call, verb, err) < 0)
        return -1;
    return verb->run(call, err);
}

static int dispatch(struct call *call, int argc, char **argv, struct err *err)
{
    int at;
    if (read_global(call, argc, argv, &at, err) < 0)
        return -1;
    const char *name = at < argc ? argv[at] : "help";
    if (args_flag(&call->global, "version")) {
        printf("runc version %s\ncommit: berth-oci %s\nspec: %s\n", BERTH_VERSION, BERTH_VERSION, SPEC_VERSION);
        return 0;
    }
    const struct verb *verb = find_verb(name);
    bool help = str_eq(name, "help") || str_eq(name, "h");
    if (help && at + 1 < argc && (verb = find_verb(argv[at + 1]))) {
        print_verb_help(verb);
        return 0;
    }
    if (help || args_flag(&call->global, "help")) {
        print_help();
        return 0;
    }
    if (!verb) {
        call->exit_code = 3;
        return err_set(err, ERR_NOT_FOUND, "No help topic for '%s'", name);
    }
    return run_verb(call, verb, argc, argv, at + 1, err);
}

int oci_main(int argc, char **argv)
{
    size_t seed = 0;
    struct call call = { .program = argc > 0 ? argv[0] : "berth-oci" };
    struct err err = { 0 };
    if (getrandom(&seed, sizeof(seed), GRND_NONBLOCK) == sizeof(seed))
        json_object_seed(seed | 1); // else jansson opens /dev/urandom
    int code = dispatch(&call, argc, argv, &err) < 0 ? MAX_OF(call.exit_code, 1) : call.exit_code;
    fflush(stdout);
    if (err.class != ERR_NONE) {
        log_error_line(err.message);
        if (!log_is_stderr())
            fprintf(stderr, "%s\n", err.message);
    }
    arena_done(&call.arena);
    return code;
}

int oci_enters_container(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        const struct verb *verb = argv[i][0] == '-' ? NULL : find_verb(argv[i]);
        if (verb)
            return verb->enters;
    }
    return 0;
}
