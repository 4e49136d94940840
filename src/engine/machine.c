#include <errno.h>
#include <fcntl.h>

#include "base/file.h"
#include "base/mutex.h"
#include "base/process.h"
#include "base/slice.h"
#include "machine.h"

#define QEMU "qemu-system-x86_64"
#define PROBE_OUTPUT_MAX (16u << 10)
#define RELEASE_MAX 64u
#define GUEST_FOLDER_MAX 3

enum { LOCK_RANK = 7 };
enum accel_wish { ACCEL_AUTO, ACCEL_KVM, ACCEL_TCG, ACCEL_COUNT };

static const char *const accel_words[ACCEL_COUNT] = { "auto", "kvm", "tcg" };

struct machines {
    char *program_dir, *data_root, *guest_dir;
    enum accel_wish wish;
    struct mutex lock;
    bool probed GUARDED_BY(lock), runs_kernels GUARDED_BY(lock);
    char why_not[ERR_MESSAGE_SIZE] GUARDED_BY(lock);
};

int machines_new(const struct machines_config *config, struct machines **out, struct err *err)
{
    const char *word = config->accel ? config->accel : accel_words[ACCEL_AUTO];
    size_t wish = 0;
    while (wish < ACCEL_COUNT && !str_eq(accel_words[wish], word))
        wish++;
    if (wish == ACCEL_COUNT)
        return err_set(err, ERR_INVALID_ARGUMENT, "--accel %s: not one of auto, kvm, tcg", word);
    struct machines *machines = mem_new(struct machines);
    machines->program_dir = mem_strdup(config->program_dir);
    machines->data_root = mem_strdup(config->data_root);
    machines->guest_dir = mem_strdup(config->guest_dir);
    machines->wish = (enum accel_wish)wish;
    mutex_init(&machines->lock, LOCK_RANK);
    *out = machines;
    return 0;
}

void machines_free(struct machines *machines)
{
    if (!machines)
        return;
    mutex_done(&machines->lock);
    free(machines->program_dir);
    free(machines->data_root);
    free(machines->guest_dir);
    free(machines);
}

// ---- the probe ------------------------------------------------------------------------------------------------------

// "KEY: yes" or "KEY: no".
static bool parse_answer(struct slice line, const char *key, bool *out, bool *seen)
{
    struct slice word;
    slice_cut(&line, ':', &word);
    line = slice_trim(line);
    if (!slice_eq(word, key) || *seen)
        return false;
    *seen = true;
    *out = slice_eq(line, "yes");
    return *out || slice_eq(line, "no");
}

bool machine_parse_probe(const char *text, bool *runs_kernels, char why[ERR_MESSAGE_SIZE])
{
    static const char because[] = "because: ";
    struct slice rest = slice_of(text), line;
    bool machines = false, machines_seen = false, kernels_seen = false;
    *runs_kernels = false;
    why[0] = 0;
    while (slice_cut(&rest, '\n', &line)) {
        if (slice_starts(line, "machines:") && !parse_answer(line, "machines", &machines, &machines_seen))
            return false;
        if (slice_starts(line, "ordinary kernels:") && !parse_answer(line, "ordinary kernels", runs_kernels, &kernels_seen))
            return false;
        if (slice_starts(line, because))
            snprintf(why, ERR_MESSAGE_SIZE, "%.*s", (int)(line.size - strlen(because)), line.data + strlen(because));
    }
    bool whole = machines_seen && kernels_seen && (machines || !*runs_kernels);
    return whole && (*runs_kernels || why[0]);
}

// An exit code other than 0 says that there are no machines, and the output why.
static void probe(struct machines *machines) REQUIRES(machines->lock)
{
    _cleanup_buf_ struct buf output = BUF_INIT(PROBE_OUTPUT_MAX);
    _cleanup_free_ char *program = mem_printf("%s/berth-vmm", machines->program_dir);
    char *const argv[] = { program, (char *)"--probe", NULL };
    struct err failed = { 0 };
    int result = process_run(argv, NULL, &output, &failed);
    bool understood = machine_parse_probe(buf_text(&output), &machines->runs_kernels, machines->why_not);
    machines->probed = true;
    if (understood && (result == 0 || !machines->runs_kernels))
        return;
    machines->runs_kernels = false;
    snprintf(machines->why_not, sizeof(machines->why_not), "%s",
             result < 0 ? failed.message : "berth-vmm --probe says what is not understood");
}

static bool has_kvm(struct machines *machines, char why[ERR_MESSAGE_SIZE])
{
    mutex_lock(&machines->lock);
    if (!machines->probed)
        probe(machines);
    bool has = machines->runs_kernels;
    memcpy(why, machines->why_not, ERR_MESSAGE_SIZE);
    mutex_unlock(&machines->lock);
    return has;
}

// ---- the guest's files ----------------------------------------------------------------------------------------------

static bool has_files(const char *folder)
{
    static const char *const names[] = { MACHINE_KERNEL, MACHINE_INITRD, MACHINE_KERNEL_RELEASE };
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        _cleanup_free_ char *path = mem_printf("%s/%s", folder, names[i]);
        if (access(path, R_OK) < 0)
            return false;
    }
    return true;
}

// In this order: as built, as installed, as somebody put them beside the data.
static size_t guest_folders(const struct machines *machines, struct arena *arena, char *out[GUEST_FOLDER_MAX])
{
    if (machines->guest_dir) {
        out[0] = arena_strdup(arena, machines->guest_dir);
        return 1;
    }
    out[0] = arena_printf(arena, "%s/../guest", machines->program_dir);
    out[1] = arena_printf(arena, "%s/../lib/berth/guest", machines->program_dir);
    out[2] = arena_printf(arena, "%s/guest", machines->data_root);
    return GUEST_FOLDER_MAX;
}

static int find_guest(const struct machines *machines, struct arena *arena, char **out, struct err *err)
{
    char *folders[GUEST_FOLDER_MAX];
    const char *names = "";
    size_t len = guest_folders(machines, arena, folders);
    for (size_t i = 0; i < len; i++) {
        if (has_files(folders[i])) {
            *out = folders[i];
            return 0;
        }
        names = arena_printf(arena, "%s%s%s", names, i ? " nor in " : "", folders[i]);
    }
    return err_set(err, ERR_UNAVAILABLE, "no guest kernel: " MACHINE_KERNEL ", " MACHINE_INITRD " and " MACHINE_KERNEL_RELEASE
                   " are not in %s (make guest makes them)", names);
}

static int read_release(struct arena *arena, struct machine_choice *choice, struct err *err)
{
    _cleanup_buf_ struct buf text = BUF_INIT(RELEASE_MAX + 1);
    char *path = arena_printf(arena, "%s/" MACHINE_KERNEL_RELEASE, choice->guest_dir);
    if (file_read_at(AT_FDCWD, path, &text, err) < 0)
        return err_wrap(err, "guest kernel");
    struct slice line, rest = slice_of(buf_text(&text));
    slice_cut(&rest, '\n', &line);
    line = slice_trim(line);
    if (line.size == 0)
        return err_set(err, ERR_UNAVAILABLE, "guest kernel: %s is empty", path);
    choice->kernel = arena_strndup(arena, line.data, line.size);
    return 0;
}

// ---- the choice -----------------------------------------------------------------------------------------------------

static int choose_kvm(const struct machines *machines, struct arena *arena, struct machine_choice *out)
{
    out->accel = accel_words[ACCEL_KVM];
    out->vmm = arena_printf(arena, "%s/berth-vmm", machines->program_dir);
    return 0;
}

static int choose_emulation(const char *why, struct arena *arena, struct machine_choice *out, struct err *err)
{
    _cleanup_free_ char *qemu = process_find(QEMU);
    if (!qemu && str_empty(why))
        return err_set(err, ERR_UNAVAILABLE, "--accel tcg: " QEMU " is not in PATH (package qemu-system-x86)");
    if (!qemu)
        return err_set(err, ERR_UNAVAILABLE, "this host can run no guest: " QEMU " is not in PATH (package qemu-system-x86), and %s", why);
    out->accel = accel_words[ACCEL_TCG];
    out->vmm = arena_strdup(arena, qemu);
    out->why = arena_strdup(arena, why);
    return 0;
}

static int choose_vmm(struct machines *machines, struct arena *arena, struct machine_choice *out, struct err *err)
{
    char why[ERR_MESSAGE_SIZE] = "";
    if (machines->wish == ACCEL_TCG)
        return choose_emulation("", arena, out, err);
    if (has_kvm(machines, why))
        return choose_kvm(machines, arena, out);
    if (machines->wish == ACCEL_KVM)
        return err_set(err, ERR_UNAVAILABLE, "--accel kvm: %s", why);
    return choose_emulation(why, arena, out, err);
}

// What makes a guest's disk. Looked for here, so that it is said before anything is made.
#define DISK_TOOL "mke2fs"
static int check_tool(struct err *err)
{
    _cleanup_free_ char *path = process_find(DISK_TOOL);
    if (!path)
        return err_set(err, ERR_UNAVAILABLE, "this host can run no guest: " DISK_TOOL " is not in PATH (package e2fsprogs)");
    return 0;
}

int machines_choose(struct machines *machines, struct arena *arena, struct machine_choice *out, struct err *err)
{
    struct machine_choice choice = { .why = (char *)"" };
    if (find_guest(machines, arena, &choice.guest_dir, err) < 0 || read_release(arena, &choice, err) < 0 ||
        choose_vmm(machines, arena, &choice, err) < 0 || check_tool(err) < 0)
        return -1;
    *out = choice;
    return 0;
}
