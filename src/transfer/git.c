// git as a build's ADD and a remote context need it: which commit a reference is, and that commit's files.
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/process.h"
#include "report.h"
#include "transfer/transfer.h"

#define SAID_MAX ((size_t)64 << 20) // of ls-remote
#define TREE "tree"
#define COMMIT_SIZE 40
#define AGENT "/tmp/agent"

// A login of GitHub's is for all that it has, as BuildKit has it: submodules. No command line shows it.
static void set_authorization(const struct transfer_git *wish)
{
    static const char *const hosts[] = { "https://github.com/", "https://www.github.com/" };
    const char *scope = wish->url;
    for (size_t i = 0; i < ARRAY_LEN(hosts); i++)
        if (str_starts(wish->url, hosts[i]))
            scope = hosts[i];
    _cleanup_free_ char *key = mem_printf("http.%s.extraheader", scope), *value = mem_printf("Authorization: %s", wish->authorization);
    setenv("GIT_CONFIG_COUNT", "1", 1);
    setenv("GIT_CONFIG_KEY_0", key, 1);
    setenv("GIT_CONFIG_VALUE_0", value, 1);
}

// Nothing of this machine's configuration is read, and no question is asked.
static void set_environment(const struct transfer_git *wish)
{
    static const char *const rows[][2] = {
        { "HOME", "/tmp" }, { "GIT_CONFIG_NOSYSTEM", "1" }, { "GIT_CONFIG_GLOBAL", "/dev/null" }, { "GIT_TERMINAL_PROMPT", "0" }, { "GIT_ASKPASS", "" },
        { "SSH_ASKPASS", "" }, { "GIT_SSH_COMMAND", "ssh -F /dev/null -o BatchMode=yes -o LogLevel=ERROR -o StrictHostKeyChecking=accept-new -o UserKnownHostsFile=/tmp/known_hosts" },
        { "GIT_ALLOW_PROTOCOL", "http:https:git:ssh" }, { "GIT_TEMPLATE_DIR", "" }, { "LC_ALL", "C.UTF-8" }, { "PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" },
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        setenv(rows[i][0], rows[i][1], 1);
    if (access(AGENT, F_OK) == 0)
        setenv("SSH_AUTH_SOCK", AGENT, 1);
    if (!str_empty(wish->authorization))
        set_authorization(wish);
}

static int git_run(struct buf *out, struct err *err, const char *const words[])
{
    char *argv[24] = { (char *)"git", (char *)"-c", (char *)"core.hooksPath=/dev/null", (char *)"-c", (char *)"advice.detachedHead=false" };
    size_t len = 5;
    for (; *words && len + 1 < ARRAY_LEN(argv); words++)
        argv[len++] = (char *)*words;
    return process_run(argv, NULL, out, err);
}
#define git(out, err, ...) git_run(out, err, (const char *const[]){ __VA_ARGS__, NULL })

// ---- which commit ---------------------------------------------------------------------------------------------------

static bool is_commit(struct slice text)
{
    for (size_t i = 0; i < text.size; i++)
        if (!strchr("0123456789abcdef", text.data[i]))
            return false;
    return text.size == COMMIT_SIZE;
}

// How good a name is for the reference: git's own order, branches before tags; a tag's commit before the tag. 0: it is another.
static unsigned rank(struct slice name, const char *ref)
{
    static const char *const forms[] = { "refs/%s", "refs/tags/%s", "refs/tags/%s^{}", "refs/heads/%s", "%s^{}", "%s" };
    unsigned best = 0;
    for (unsigned i = 0; i < ARRAY_LEN(forms); i++) {
        const char *rest = strstr(forms[i], "%s") + 2;
        _cleanup_free_ char *whole = mem_printf("%.*s%s%s", (int)(rest - 2 - forms[i]), forms[i], ref, rest);
        if (slice_eq(name, whole))
            best = i + 1;
    }
    return best;
}

static int find_commit(struct slice said, const char *ref, char out[COMMIT_SIZE + 1], struct err *err)
{
    struct slice line, commit;
    unsigned best = 0;
    while (slice_cut(&said, '\n', &line)) {
        if (!slice_cut(&line, '\t', &commit) || !is_commit(commit))
            continue;
        unsigned mine = rank(line, ref);
        if (mine > best)
            snprintf(out, COMMIT_SIZE + 1, "%.*s", COMMIT_SIZE, commit.data);
        best = MAX_OF(best, mine);
    }
    return best ? 0 : err_set(err, ERR_NOT_FOUND, "repository does not contain ref %.200s", ref);
}

static int resolve(const struct transfer_git *wish, char out[COMMIT_SIZE + 1], struct err *err)
{
    _cleanup_buf_ struct buf said = BUF_INIT(SAID_MAX);
    _cleanup_free_ char *peeled = mem_printf("%s^{}", wish->ref);
    if (is_commit(slice_of(wish->ref))) {
        snprintf(out, COMMIT_SIZE + 1, "%s", wish->ref);
        return 0;
    }
    if (git(&said, err, "ls-remote", "--", wish->url, wish->ref, peeled) < 0)
        return -1;
    return find_commit((struct slice){ buf_text(&said), said.size }, wish->ref, out, err);
}

// ---- its files ------------------------------------------------------------------------------------------------------

// The commit alone where the server gives it so; else all that it has.
static int fetch_commit(const struct transfer_git *wish, const char *commit, struct err *err)
{
    struct err shallow = { 0 };
    const char *what = is_commit(slice_of(wish->ref)) ? commit : wish->ref;
    if (git(NULL, err, "init", "-q", TREE) < 0 || git(NULL, err, "-C", TREE, "remote", "add", "--", "origin", wish->url) < 0)
        return -1;
    if (git(NULL, &shallow, "-C", TREE, "fetch", "-q", "--depth=1", "--no-tags", "--", "origin", what) == 0 &&
        git(NULL, &shallow, "-C", TREE, "checkout", "-q", "--detach", commit) == 0)
        return 0;
    if (git(NULL, err, "-C", TREE, "fetch", "-q", "--tags", "--force", "origin", "+refs/heads/*:refs/remotes/origin/*") < 0)
        return -1;
    return git(NULL, err, "-C", TREE, "checkout", "-q", "--detach", commit);
}

static int drop_records(struct err *err)
{
    char *const argv[] = { (char *)"find", (char *)TREE, (char *)"-name", (char *)".git", (char *)"-prune", (char *)"-exec", (char *)"rm", (char *)"-rf", (char *)"{}", (char *)"+", NULL };
    return process_run(argv, NULL, NULL, err);
}

static int work(const struct transfer_git *wish, FILE *report, struct err *err)
{
    char commit[COMMIT_SIZE + 1];
    if (resolve(wish, commit, err) < 0)
        return -1;
    if (wish->fetch && (fetch_commit(wish, commit, err) < 0 ||
                        (wish->submodules && git(NULL, err, "-C", TREE, "submodule", "-q", "update", "--init", "--recursive", "--depth=1") < 0) ||
                        (!wish->keep && drop_records(err) < 0)))
        return -1;
    return report_line(report, "commit", json_string(commit), err);
}

// The child's end; -1: nobody is left to tell. No thread may be made any more by one whose children have another PID namespace.
static int await(pid_t child, int report_fd, int *status, struct err *err)
{
    _cleanup_close_ int pidfd = (int)syscall(SYS_pidfd_open, child, 0);
    if (pidfd < 0)
        return err_errno(err, errno, "git");
    struct pollfd fds[] = { { .fd = pidfd, .events = POLLIN }, { .fd = report_fd, .events = 0 } };
    while (poll(fds, ARRAY_LEN(fds), -1) < 0 && errno == EINTR)
        ;
    if (!fds[0].revents)
        _exit(1); // and the child with us
    while (waitpid(child, status, 0) < 0)
        if (errno != EINTR)
            return err_errno(err, errno, "git");
    return 0;
}

int transfer_git(const struct transfer_git *wish, FILE *report, struct err *err)
{
    int status;
    pid_t child = fork();
    if (child < 0)
        return err_errno(err, errno, "fork");
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
        set_environment(wish);
        int done = work(wish, report, err);
        if (done < 0)
            transfer_report_error(report, err);
        _exit(done < 0);
    }
    if (await(child, fileno(report), &status, err) < 0)
        return -1;
    if (status != 0)
        _exit(1); // it has said why
    return 0;
}
