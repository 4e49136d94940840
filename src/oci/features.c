#include <stdio.h>

#include "kernel/caps.h"
#include "oci/oci_private.h"
#include "sandbox/seccomp.h"

static json_t *capabilities(void)
{
    json_t *list = json_array();
    for (int i = 0; caps_name(i); i++)
        json_array_append_new(list, json_string(caps_name(i)));
    return list;
}

static json_t *words_of(enum seccomp_word kind, bool only_supported)
{
    json_t *list = json_array();
    const char *word;
    for (size_t i = 0; (word = seccomp_word(kind, i)); i++)
        if (!only_supported || seccomp_flag_supported(word))
            json_array_append_new(list, json_string(word));
    return list;
}

static json_t *seccomp_words(void)
{
    return json_pack("{s:b,s:o,s:o,s:o,s:o,s:o}", "enabled", 1, "actions", words_of(SECCOMP_ACTIONS, false), "operators",
                     words_of(SECCOMP_OPERATORS, false), "archs", words_of(SECCOMP_ARCHITECTURES, false), "knownFlags",
                     words_of(SECCOMP_FLAGS, false), "supportedFlags", words_of(SECCOMP_FLAGS, true));
}

int verb_features(struct call *call, struct err *err)
{
    json_t *options = json_array();
    mount_words_list(options);
    json_t *section = json_pack("{s:[s,s,s,s,s,s,s,s],s:o,s:{s:b,s:b,s:b,s:b,s:b},s:o,s:{s:b},s:{s:b},s:{s:b},s:{s:{s:b}}}",
                                "namespaces", "cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts", "capabilities",
                                capabilities(), "cgroup", "v1", 1, "v2", 1, "systemd", 1, "systemdUser", 1, "rdma", 1, "seccomp",
                                seccomp_words(), "apparmor", "enabled", 1, "selinux", "enabled", 1, "intelRdt", "enabled", 1,
                                "mountExtensions", "idmap", "enabled", 1);
    _cleanup_json_ json_t *features =
        json_pack("{s:s,s:s,s:[s,s,s,s,s,s],s:o,s:o,s:{s:s,s:s},s:[s,s]}", "ociVersionMin", "1.0.0", "ociVersionMax", SPEC_VERSION, "hooks",
                  "prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop", "mountOptions", options,
                  "linux", section, "annotations", "org.opencontainers.runc.checkpoint.enabled", "true", "berth.version", BERTH_VERSION,
                  "potentiallyUnsafeConfigAnnotations", "org.criu.config", "org.systemd.property.");
    if (!features)
        return err_set(err, ERR_INTERNAL, "features could not be written");
    json_dumpf(features, stdout, JSON_INDENT(4));
    putchar('\n');
    return 0;
}
