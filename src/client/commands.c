// The index of `berth`: every command with its flags. Help, manual page and completion are made of these rows.
#include "client/globals.h"
#include "client/tables.h"

#define FLAGS(array) { { (array), NULL }, { ARRAY_LEN(array), 0 } }
#define NO_FLAGS { { NULL, NULL }, { 0, 0 } }

#define NO_TRUST "signatures by Notary are not checked"
#define FORMAT_TABLE FLAG("format", 0, FLAG_TEXT, NULL, "How to print: table, 'table TEMPLATE', json, or a Go template")
#define FORMAT_OBJECT FLAG("format", 'f', FLAG_TEXT, NULL, "How to print: json, or a Go template")
#define FILTER FLAG("filter", 'f', FLAG_FILTER, NULL, "Only what fits, key=value")
#define FILTER_LONG FLAG("filter", 0, FLAG_FILTER, NULL, "Only what fits, key=value")
#define FORCE_ASK FLAG("force", 'f', FLAG_BOOL, NULL, "Do not ask")
#define NO_TRUNC FLAG("no-trunc", 0, FLAG_BOOL, NULL, "Print ids and texts in full")
#define DETACH_KEYS FLAG("detach-keys", 0, FLAG_TEXT, NULL, "The keys that detach, ctrl-p,ctrl-q")
#define CONTENT_TRUST \
    FLAG("disable-content-trust", 0, FLAG_BOOL, NULL, "Do without signatures by Notary", .fallback = "true", .refused = NO_TRUST)
#define STOP_FLAGS                                                                      \
    FLAG("signal", 's', FLAG_TEXT, "?signal", "The signal that asks it to end"),          \
    FLAG("time", 0, FLAG_INT, "?t", "The same as --timeout"),                             \
    FLAG("timeout", 't', FLAG_INT, "?t", "Seconds until it is killed; -1: never")

static const struct flag global_flag_rows[] = {
    FLAG("config", 0, FLAG_TEXT, NULL, "Folder of config.json (default ~/.docker)"),
    FLAG("context", 'c', FLAG_TEXT, NULL, "A context of docker's that names the daemon"),
    FLAG("debug", 'D', FLAG_BOOL, NULL, "Show the requests"),
    FLAG("host", 'H', FLAG_TEXT, NULL, "The daemon: unix://PATH or tcp://HOST:PORT", .word = "list"),
    FLAG("log-level", 'l', FLAG_TEXT, NULL, "debug is the same as --debug; else nothing is logged", .fallback = "info"),
    FLAG("tls", 0, FLAG_BOOL, NULL, "TLS, the daemon's certificate is not checked"),
    FLAG("tlscacert", 0, FLAG_TEXT, NULL, "Who signs the daemon's certificate (default ca.pem in DOCKER_CERT_PATH)"),
    FLAG("tlscert", 0, FLAG_TEXT, NULL, "Our certificate (default cert.pem there)"),
    FLAG("tlskey", 0, FLAG_TEXT, NULL, "Our key (default key.pem there)"),
    FLAG("tlsverify", 0, FLAG_BOOL, NULL, "TLS, the daemon's certificate is checked"),
    FLAG("version", 'v', FLAG_BOOL, NULL, "Print the version"),
};

const struct flag_tables global_flags = FLAGS(global_flag_rows);

static const struct flag attach_flags[] = {
    DETACH_KEYS,
    FLAG("no-stdin", 0, FLAG_BOOL, NULL, "Without stdin"),
    FLAG("sig-proxy", 0, FLAG_BOOL, NULL, "Hand our signals to the process", .fallback = "true"),
};

static const struct flag build_flags[] = {
    FLAG("add-host", 0, FLAG_LIST, "?extrahosts", "A line for /etc/hosts, host:ip"),
    FLAG("build-arg", 0, FLAG_LIST, NULL, "A value for an ARG, NAME=VALUE; NAME alone takes ours"),
    FLAG("cache-from", 0, FLAG_COMMAS, NULL, "Images whose layers may be taken"),
    FLAG("cgroup-parent", 0, FLAG_TEXT, "?cgroupparent", "The cgroup above those of the steps"),
    FLAG("check", 0, FLAG_BOOL, NULL, "Build nothing: say what is likely wrong in the Dockerfile"),
    FLAG("compress", 0, FLAG_BOOL, NULL, "Send the context compressed"),
    FLAG("cpu-period", 0, FLAG_INT, "?cpuperiod", "The scheduler's period of a step, microseconds"),
    FLAG("cpu-quota", 0, FLAG_INT, "?cpuquota", "Its part of that, microseconds"),
    FLAG("cpu-shares", 'c', FLAG_INT, "?cpushares", "Weight among others"),
    FLAG("cpuset-cpus", 0, FLAG_TEXT, "?cpusetcpus", "Processors, 0-2,4"),
    FLAG("cpuset-mems", 0, FLAG_TEXT, "?cpusetmems", "Memory nodes, 0-1"),
    CONTENT_TRUST,
    FLAG("file", 'f', FLAG_TEXT, NULL, "The Dockerfile (default PATH/Dockerfile); -: standard input"),
    FLAG("force-rm", 0, FLAG_BOOL, NULL, "Remove what a failed step leaves behind"),
    FLAG("iidfile", 0, FLAG_TEXT, NULL, "Write the image's id into this file"),
    FLAG("isolation", 0, FLAG_TEXT, "?isolation", "The wall around the steps"),
    FLAG("label", 0, FLAG_LIST, NULL, "A label of the image, KEY=VALUE"),
    FLAG("memory", 'm', FLAG_BYTES, NULL, "Memory of a step at most"),
    FLAG("memory-swap", 0, FLAG_BYTES, NULL, "The same with swap; -1: without limit", .fallback = "-1"),
    FLAG("network", 0, FLAG_TEXT, "?networkmode", "The network of the steps", .fallback = "default"),
    FLAG("no-cache", 0, FLAG_BOOL, NULL, "Take no step from an earlier build"),
    FLAG("output", 'o', FLAG_TEXT, NULL, "Where the result goes: type=local|tar|oci|docker|image|cacheonly[,dest=PATH]"),
    FLAG("platform", 0, FLAG_TEXT, "?platform", "The platform to build for"),
    FLAG("progress", 0, FLAG_TEXT, NULL, "auto, plain, or tty: steps with their times, drawn in place", .fallback = "auto"),
    FLAG("pull", 0, FLAG_BOOL, NULL, "Ask for newer base images"),
    FLAG("quiet", 'q', FLAG_BOOL, NULL, "Print the image's id alone"),
    FLAG("rm", 0, FLAG_BOOL, NULL, "Remove what the steps leave behind", .fallback = "true"),
    FLAG("security-opt", 0, FLAG_LIST, "?securityopt", "Security options of the steps"),
    FLAG("shm-size", 0, FLAG_BYTES, NULL, "Size of /dev/shm"),
    FLAG("squash", 0, FLAG_BOOL, NULL, "Make one layer of the new ones"),
    FLAG("tag", 't', FLAG_LIST, NULL, "A name of the image, name:tag"),
    FLAG("target", 0, FLAG_TEXT, "?target", "The stage to build"),
    FLAG("ulimit", 0, FLAG_LIST, NULL, "A limit of the steps, name=soft[:hard]", .word = "ulimit"),
};

static const struct flag commit_flags[] = {
    FLAG("author", 'a', FLAG_TEXT, "?author", "Who made it"),
    FLAG("change", 'c', FLAG_LIST, "?changes", "A Dockerfile instruction for the image"),
    FLAG("message", 'm', FLAG_TEXT, "?comment", "What was done"),
    FLAG("pause", 'p', FLAG_BOOL, "?pause", "Pause the container meanwhile", .fallback = "true"),
};

static const struct flag cp_flags[] = {
    FLAG("archive", 'a', FLAG_BOOL, NULL, "Keep user and group numbers"),
    FLAG("follow-link", 'L', FLAG_BOOL, NULL, "Follow a link at the source"),
    FLAG("quiet", 'q', FLAG_BOOL, NULL, "Say nothing"),
};

static const struct flag events_flags[] = {
    FILTER,
    FLAG("format", 0, FLAG_TEXT, NULL, "How to print: json, or a Go template"),
    FLAG("since", 0, FLAG_TEXT, NULL, "From then on"),
    FLAG("until", 0, FLAG_TEXT, NULL, "Until then"),
};

static const struct flag exec_flags[] = {
    FLAG("detach", 'd', FLAG_BOOL, "Detach", "Do not wait"),
    DETACH_KEYS,
    FLAG("env", 'e', FLAG_LIST, NULL, "Set a variable"),
    FLAG("env-file", 0, FLAG_LIST, NULL, "Read variables from a file"),
    FLAG("interactive", 'i', FLAG_BOOL, NULL, "Keep stdin open"),
    FLAG("privileged", 0, FLAG_BOOL, "Privileged", "All capabilities"),
    FLAG("tty", 't', FLAG_BOOL, NULL, "A pseudo-terminal"),
    FLAG("user", 'u', FLAG_TEXT, "User", "The user, name or number, and :group"),
    FLAG("workdir", 'w', FLAG_TEXT, "WorkingDir", "The folder to start in"),
};

static const struct flag output_flags[] = {
    FLAG("output", 'o', FLAG_TEXT, NULL, "Write into a file"),
};

static const struct flag history_flags[] = {
    FORMAT_TABLE,
    FLAG("human", 'H', FLAG_BOOL, NULL, "Sizes and dates for people", .fallback = "true"),
    NO_TRUNC,
    FLAG("platform", 0, FLAG_TEXT, NULL, "Of this platform"),
    FLAG("quiet", 'q', FLAG_BOOL, NULL, "Ids alone"),
};

static const struct flag images_flags[] = {
    FLAG("all", 'a', FLAG_BOOL, NULL, "Intermediate images too"),
    FLAG("digests", 0, FLAG_BOOL, NULL, "Show digests"),
    FILTER,
    FORMAT_TABLE,
    NO_TRUNC,
    FLAG("quiet", 'q', FLAG_BOOL, NULL, "Ids alone"),
    FLAG("tree", 0, FLAG_BOOL, NULL, "As a tree of platforms", .refused = "images have one platform each here"),
};

static const struct flag import_flags[] = {
    FLAG("change", 'c', FLAG_LIST, "?changes", "A Dockerfile instruction for the image"),
    FLAG("message", 'm', FLAG_TEXT, "?message", "What was done"),
    FLAG("platform", 0, FLAG_TEXT, "?platform", "The platform it is for"),
};

static const struct flag object_flags[] = {
    FORMAT_OBJECT,
};

static const struct flag inspect_flags[] = {
    FORMAT_OBJECT,
    FLAG("size", 's', FLAG_BOOL, NULL, "With the container's sizes"),
    FLAG("type", 0, FLAG_TEXT, NULL, "Look only among these"),
};

static const struct flag container_inspect_flags[] = {
    FORMAT_OBJECT,
    FLAG("size", 's', FLAG_BOOL, NULL, "With sizes"),
};

static const struct flag image_inspect_flags[] = {
    FORMAT_OBJECT,
    FLAG("platform", 0, FLAG_TEXT, NULL, "Of this platform"),
};

static const struct flag network_inspect_flags[] = {
    FORMAT_OBJECT,
    FLAG("verbose", 'v', FLAG_BOOL, "?verbose", "More for diagnosis"),
};

static const struct flag kill_flags[] = {
    FLAG("signal", 's', FLAG_TEXT, "?signal", "The signal"),
};

static const struct flag load_flags[] = {
    FLAG("input", 'i', FLAG_TEXT, NULL, "Read from a file"),
    FLAG("platform", 0, FLAG_TEXT, NULL, "Only this platform"),
    FLAG("quiet", 'q', FLAG_BOOL, NULL, "No progress"),
};

static const struct flag login_flags[] = {
    FLAG("password", 'p', FLAG_TEXT, NULL, "The password or token"),
    FLAG("password-stdin", 0, FLAG_BOOL, NULL, "Read it from stdin"),
    FLAG("username", 'u', FLAG_TEXT, NULL, "The user"),
};

static const struct flag logs_flags[] = {
    FLAG("details", 0, FLAG_BOOL, "?details", "With the attributes of the log"),
    FLAG("follow", 'f', FLAG_BOOL, "?follow", "Go on with what comes"),
    FLAG("since", 0, FLAG_TEXT, NULL, "From then on: a time, or 42m"),
    FLAG("tail", 'n', FLAG_TEXT, "?tail", "This many lines of the end", .fallback = "all"),
    FLAG("timestamps", 't', FLAG_BOOL, "?timestamps", "With times"),
    FLAG("until", 0, FLAG_TEXT, NULL, "Until then"),
};

static const struct flag network_connect_flags[] = {
    FLAG("alias", 0, FLAG_COMMAS, "EndpointConfig.Aliases", "One more name in the network"),
    FLAG("driver-opt", 0, FLAG_MAP, "EndpointConfig.DriverOpts", "An option of the driver"),
    FLAG("gw-priority", 0, FLAG_INT, "EndpointConfig.GwPriority", "The highest has the default route"),
    FLAG("ip", 0, FLAG_TEXT, "EndpointConfig.IPAMConfig.IPv4Address", "IPv4 address"),
    FLAG("ip6", 0, FLAG_TEXT, "EndpointConfig.IPAMConfig.IPv6Address", "IPv6 address"),
    FLAG("link", 0, FLAG_LIST, "EndpointConfig.Links", "Link to another container"),
    FLAG("link-local-ip", 0, FLAG_COMMAS, "EndpointConfig.IPAMConfig.LinkLocalIPs", "A link-local address"),
};

static const struct flag network_create_flags[] = {
    FLAG("attachable", 0, FLAG_BOOL, "Attachable", "Containers may be attached by hand"),
    FLAG("aux-address", 0, FLAG_MAP, NULL, "An address the driver uses, name=address"),
    FLAG("config-from", 0, FLAG_TEXT, NULL, "The network to take the configuration from"),
    FLAG("config-only", 0, FLAG_BOOL, "ConfigOnly", "A configuration alone"),
    FLAG("driver", 'd', FLAG_TEXT, "Driver", "The driver", .fallback = "bridge"),
    FLAG("gateway", 0, FLAG_COMMAS, NULL, "A subnet's gateway"),
    FLAG("ingress", 0, FLAG_BOOL, "Ingress", "The routing mesh of a swarm"),
    FLAG("internal", 0, FLAG_BOOL, "Internal", "Without a way out"),
    FLAG("ip-range", 0, FLAG_COMMAS, NULL, "Where containers' addresses are from"),
    FLAG("ipam-driver", 0, FLAG_TEXT, "IPAM.Driver", "Who gives addresses", .fallback = "default"),
    FLAG("ipam-opt", 0, FLAG_MAP, "IPAM.Options", "An option of it"),
    FLAG("ipv4", 0, FLAG_BOOL, "EnableIPv4", "IPv4", .fallback = "true"),
    FLAG("ipv6", 0, FLAG_BOOL, "EnableIPv6", "IPv6"),
    FLAG("label", 0, FLAG_MAP, "Labels", "A label, key=value", .word = "list"),
    FLAG("opt", 'o', FLAG_MAP, "Options", "An option of the driver"),
    FLAG("scope", 0, FLAG_TEXT, "Scope", "The scope"),
    FLAG("subnet", 0, FLAG_COMMAS, NULL, "A subnet, 10.1.0.0/16"),
};


static const struct flag network_disconnect_flags[] = {
    FLAG("force", 'f', FLAG_BOOL, NULL, "Also when the container is gone"),
};

static const struct flag network_rm_flags[] = {
    FLAG("force", 'f', FLAG_BOOL, NULL, "No error when there is none"),
};

static const struct flag network_ls_flags[] = {
    FILTER,
    FORMAT_TABLE,
    NO_TRUNC,
    FLAG("quiet", 'q', FLAG_BOOL, NULL, "Ids alone"),
};

static const struct flag prune_flags[] = {
    FILTER_LONG,
    FORCE_ASK,
};

static const struct flag prune_all_flags[] = {
    FLAG("all", 'a', FLAG_BOOL, NULL, "All that is unused, not just what is dangling or anonymous"),
    FILTER_LONG,
    FORCE_ASK,
};

static const struct flag builder_prune_flags[] = {
    FLAG("all", 'a', FLAG_BOOL, NULL, "All of it"),
    FILTER_LONG,
    FORCE_ASK,
    FLAG("keep-storage", 0, FLAG_BYTES, NULL, "Bytes to keep"),
};

static const struct flag system_prune_flags[] = {
    FLAG("all", 'a', FLAG_BOOL, NULL, "All unused images, not just dangling ones"),
    FILTER_LONG,
    FORCE_ASK,
    FLAG("volumes", 0, FLAG_BOOL, NULL, "Anonymous volumes too"),
};

static const struct flag ps_flags[] = {
    FLAG("all", 'a', FLAG_BOOL, NULL, "Those that do not run too"),
    FILTER,
    FORMAT_TABLE,
    FLAG("last", 'n', FLAG_INT, NULL, "The last ones created, in any state", .fallback = "-1"),
    FLAG("latest", 'l', FLAG_BOOL, NULL, "The last one created"),
    NO_TRUNC,
    FLAG("quiet", 'q', FLAG_BOOL, NULL, "Ids alone"),
    FLAG("size", 's', FLAG_BOOL, NULL, "With sizes"),
};

static const struct flag pull_flags[] = {
    FLAG("all-tags", 'a', FLAG_BOOL, NULL, "All tags of the repository"),
    CONTENT_TRUST,
    FLAG("platform", 0, FLAG_TEXT, NULL, "For this platform"),
    FLAG("quiet", 'q', FLAG_BOOL, NULL, "The name alone"),
};

static const struct flag push_flags[] = {
    FLAG("all-tags", 'a', FLAG_BOOL, NULL, "All tags of the repository"),
    CONTENT_TRUST,
    FLAG("platform", 0, FLAG_TEXT, NULL, "This platform alone"),
    FLAG("quiet", 'q', FLAG_BOOL, NULL, "The name alone"),
};

static const struct flag stop_flags[] = {
    STOP_FLAGS,
};

static const struct flag rm_flags[] = {
    FLAG("force", 'f', FLAG_BOOL, "?force", "Kill it first where it runs"),
    FLAG("link", 'l', FLAG_BOOL, "?link", "Remove the link, not the container"),
    FLAG("volumes", 'v', FLAG_BOOL, "?v", "Its anonymous volumes too"),
};

static const struct flag rmi_flags[] = {
    FLAG("force", 'f', FLAG_BOOL, "?force", "Also where it is in use"),
    FLAG("no-prune", 0, FLAG_BOOL, NULL, "Keep untagged parents"),
    FLAG("platform", 0, FLAG_COMMAS, NULL, "This platform alone"),
};

static const struct flag save_flags[] = {
    FLAG("output", 'o', FLAG_TEXT, NULL, "Write into a file"),
    FLAG("platform", 0, FLAG_TEXT, NULL, "This platform alone"),
};

static const struct flag search_flags[] = {
    FILTER,
    FORMAT_TABLE,
    FLAG("limit", 0, FLAG_INT, NULL, "Most results"),
    NO_TRUNC,
};

static const struct flag start_flags[] = {
    FLAG("attach", 'a', FLAG_BOOL, NULL, "Attach to its output, and hand signals on"),
    FLAG("checkpoint", 0, FLAG_TEXT, "?checkpoint", "From this checkpoint"),
    FLAG("checkpoint-dir", 0, FLAG_TEXT, "?checkpoint-dir", "Where checkpoints are"),
    DETACH_KEYS,
    FLAG("interactive", 'i', FLAG_BOOL, NULL, "Attach stdin"),
    FLAG("sig-proxy", 0, FLAG_BOOL, NULL, "Hand our signals to the process", .fallback = "true"),
};

static const struct flag stats_flags[] = {
    FLAG("all", 'a', FLAG_BOOL, NULL, "Those that do not run too"),
    FORMAT_TABLE,
    FLAG("no-stream", 0, FLAG_BOOL, NULL, "Once"),
    NO_TRUNC,
};

static const struct flag df_flags[] = {
    FORMAT_TABLE,
    FLAG("verbose", 'v', FLAG_BOOL, NULL, "Each thing"),
};

static const struct flag update_flags[] = {
    FLAG("blkio-weight", 0, FLAG_UINT, "BlkioWeight", "Relative weight of block I/O, 10 to 1000", .word = "uint16"),
    FLAG("cpu-period", 0, FLAG_INT, "CpuPeriod", "Period of the CPU quota in microseconds"),
    FLAG("cpu-quota", 0, FLAG_INT, "CpuQuota", "Microseconds of CPU time in each period"),
    FLAG("cpu-rt-period", 0, FLAG_INT, "CpuRealtimePeriod", "Period of the real-time limit"),
    FLAG("cpu-rt-runtime", 0, FLAG_INT, "CpuRealtimeRuntime", "Real-time microseconds in each period"),
    FLAG("cpu-shares", 'c', FLAG_INT, "CpuShares", "Relative weight of CPU time"),
    FLAG("cpus", 0, FLAG_CPUS, "NanoCpus", "Number of processors"),
    FLAG("cpuset-cpus", 0, FLAG_TEXT, "CpusetCpus", "The processors to run on"),
    FLAG("cpuset-mems", 0, FLAG_TEXT, "CpusetMems", "The memory nodes to use"),
    FLAG("kernel-memory", 0, FLAG_BYTES, "KernelMemory", "Limit of the kernel's memory"),
    FLAG("memory", 'm', FLAG_BYTES, "Memory", "Limit of memory"),
    FLAG("memory-reservation", 0, FLAG_BYTES, "MemoryReservation", "Memory that is left when it gets scarce"),
    FLAG("memory-swap", 0, FLAG_BYTES, "MemorySwap", "Limit of memory and swap together; -1: no limit of swap", .fallback = "-1"),
    FLAG("pids-limit", 0, FLAG_INT, "PidsLimit", "Most tasks; -1: no limit"),
    FLAG("restart", 0, FLAG_TEXT, NULL, "When it is restarted"),
};

#define CHECKPOINT_DIR(to) FLAG("checkpoint-dir", 0, FLAG_TEXT, to, "Where checkpoints are")

static const struct flag checkpoint_create_flags[] = {
    CHECKPOINT_DIR("CheckpointDir"),
    FLAG("leave-running", 0, FLAG_BOOL, NULL, "The container goes on"),
};

static const struct flag checkpoint_flags[] = {
    CHECKPOINT_DIR("?dir"),
};

static const struct flag volume_create_flags[] = {
    FLAG("availability", 0, FLAG_TEXT, NULL, "Of a cluster volume", .fallback = "active", .refused = "there is no swarm"),
    FLAG("driver", 'd', FLAG_TEXT, "Driver", "The driver", .fallback = "local"),
    FLAG("group", 0, FLAG_TEXT, NULL, "Of a cluster volume", .refused = "there is no swarm"),
    FLAG("label", 0, FLAG_MAP, "Labels", "A label, key=value", .word = "list"),
    FLAG("limit-bytes", 0, FLAG_BYTES, NULL, "Of a cluster volume", .refused = "there is no swarm"),
    FLAG("name", 0, FLAG_TEXT, NULL, "The volume's name"),
    FLAG("opt", 'o', FLAG_MAP, "DriverOpts", "An option of the driver"),
    FLAG("required-bytes", 0, FLAG_BYTES, NULL, "Of a cluster volume", .refused = "there is no swarm"),
    FLAG("scope", 0, FLAG_TEXT, NULL, "Of a cluster volume", .fallback = "single", .refused = "there is no swarm"),
    FLAG("secret", 0, FLAG_MAP, NULL, "Of a cluster volume", .refused = "there is no swarm"),
    FLAG("sharing", 0, FLAG_TEXT, NULL, "Of a cluster volume", .fallback = "none", .refused = "there is no swarm"),
    FLAG("topology-preferred", 0, FLAG_LIST, NULL, "Of a cluster volume", .refused = "there is no swarm"),
    FLAG("topology-required", 0, FLAG_LIST, NULL, "Of a cluster volume", .refused = "there is no swarm"),
    FLAG("type", 0, FLAG_TEXT, NULL, "Of a cluster volume", .fallback = "block", .refused = "there is no swarm"),
};

static const struct flag volume_ls_flags[] = {
    FLAG("cluster", 0, FLAG_BOOL, NULL, "Cluster volumes", .refused = "there is no swarm"),
    FILTER,
    FORMAT_TABLE,
    FLAG("quiet", 'q', FLAG_BOOL, NULL, "Names alone"),
};

static const struct flag volume_rm_flags[] = {
    FLAG("force", 'f', FLAG_BOOL, "?force", "No error when there is none"),
};

#define RUN_TABLES { { container_flags, run_flags }, { CONTAINER_FLAGS_LEN, RUN_FLAGS_LEN } }
#define CREATE_TABLES { { container_flags, NULL }, { CONTAINER_FLAGS_LEN, 0 } }

const struct command commands[] = {
    { "attach", "container attach", "[OPTIONS] CONTAINER", "Attach to the streams of a running container",
      1, 1, FLAGS(attach_flags), false, COMPLETES_RUNNING, command_attach, NULL },
    { "commit", "container commit", "[OPTIONS] CONTAINER [REPOSITORY[:TAG]]", "Make an image of a container's changes",
      1, 2, FLAGS(commit_flags), false, COMPLETES_CONTAINERS, command_commit, NULL },
    { "cp", "container cp", "[OPTIONS] CONTAINER:SRC_PATH DEST_PATH|- | SRC_PATH|- CONTAINER:DEST_PATH", "Copy files between a container and here",
      2, 2, FLAGS(cp_flags), false, COMPLETES_CONTAINERS, command_cp, NULL },
    { "create", "container create", "[OPTIONS] IMAGE [COMMAND] [ARG...]", "Create a container",
      1, -1, CREATE_TABLES, true, COMPLETES_IMAGES, command_create, NULL },
    { "diff", "container diff", "CONTAINER", "What changed in a container's file system",
      1, 1, NO_FLAGS, false, COMPLETES_CONTAINERS, command_diff, NULL },
    { "events", "system events", "[OPTIONS]", "What happens, as it happens",
      0, 0, FLAGS(events_flags), false, COMPLETES_NOTHING, command_events, NULL },
    { "exec", "container exec", "[OPTIONS] CONTAINER COMMAND [ARG...]", "Run a command in a running container",
      2, -1, FLAGS(exec_flags), true, COMPLETES_RUNNING, command_exec, NULL },
    { "export", "container export", "[OPTIONS] CONTAINER", "A container's file system as a tar",
      1, 1, FLAGS(output_flags), false, COMPLETES_CONTAINERS, command_export, NULL },
    { "history", "image history", "[OPTIONS] IMAGE", "How an image was made",
      1, 1, FLAGS(history_flags), false, COMPLETES_IMAGES, command_history, NULL },
    { "images", "image ls, image list", "[OPTIONS] [REPOSITORY[:TAG]]", "List images",
      0, 1, FLAGS(images_flags), false, COMPLETES_IMAGES, command_images, NULL },
    { "import", "image import", "[OPTIONS] file|URL|- [REPOSITORY[:TAG]]", "An image of a root file system's tar",
      1, 2, FLAGS(import_flags), false, COMPLETES_FILES, command_import, NULL },
    { "info", "system info", "[OPTIONS]", "About the daemon and its host", 0, 0, FLAGS(object_flags), false, COMPLETES_NOTHING, command_info, NULL },
    { "inspect", NULL, "[OPTIONS] NAME|ID [NAME|ID...]", "All that is known of containers, images, networks, volumes",
      1, -1, FLAGS(inspect_flags), false, COMPLETES_ALL, command_inspect, NULL },
    { "kill", "container kill", "[OPTIONS] CONTAINER [CONTAINER...]", "Send a signal to containers, SIGKILL by default",
      1, -1, FLAGS(kill_flags), false, COMPLETES_RUNNING, command_kill, NULL },
    { "load", "image load", "[OPTIONS]", "Load images from a tar", 0, 0, FLAGS(load_flags), false, COMPLETES_NOTHING, command_load, NULL },
    { "login", NULL, "[OPTIONS] [SERVER]", "Keep credentials for a registry",
      0, 1, FLAGS(login_flags), false, COMPLETES_NOTHING, command_login, NULL },
    { "logout", NULL, "[SERVER]", "Forget them", 0, 1, NO_FLAGS, false, COMPLETES_NOTHING, command_logout, NULL },
    { "logs", "container logs", "[OPTIONS] CONTAINER", "What a container has written",
      1, 1, FLAGS(logs_flags), false, COMPLETES_CONTAINERS, command_logs, NULL },
    { "pause", "container pause", "CONTAINER [CONTAINER...]", "Let containers stand still",
      1, -1, NO_FLAGS, false, COMPLETES_RUNNING, command_pause, NULL },
    { "port", "container port", "CONTAINER [PRIVATE_PORT[/PROTO]]", "A container's published ports",
      1, 2, NO_FLAGS, false, COMPLETES_RUNNING, command_port, NULL },
    { "ps", "container ls, container list, container ps", "[OPTIONS]", "List containers",
      0, 0, FLAGS(ps_flags), false, COMPLETES_NOTHING, command_ps, NULL },
    { "pull", "image pull", "[OPTIONS] NAME[:TAG|@DIGEST]", "Get an image from a registry",
      1, 1, FLAGS(pull_flags), false, COMPLETES_IMAGES, command_pull, NULL },
    { "push", "image push", "[OPTIONS] NAME[:TAG]", "Send an image to a registry",
      1, 1, FLAGS(push_flags), false, COMPLETES_IMAGES, command_push, NULL },
    { "rename", "container rename", "CONTAINER NEW_NAME", "Give a container another name",
      2, 2, NO_FLAGS, false, COMPLETES_CONTAINERS, command_rename, NULL },
    { "restart", "container restart", "[OPTIONS] CONTAINER [CONTAINER...]", "Stop containers and start them again",
      1, -1, FLAGS(stop_flags), false, COMPLETES_CONTAINERS, command_restart, NULL },
    { "rm", "container rm, container remove", "[OPTIONS] CONTAINER [CONTAINER...]", "Remove containers",
      1, -1, FLAGS(rm_flags), false, COMPLETES_CONTAINERS, command_rm, NULL },
    { "rmi", "image rm, image remove", "[OPTIONS] IMAGE [IMAGE...]", "Remove images",
      1, -1, FLAGS(rmi_flags), false, COMPLETES_IMAGES, command_rmi, NULL },
    { "run", "container run", "[OPTIONS] IMAGE [COMMAND] [ARG...]", "Create a container and start it",
      1, -1, RUN_TABLES, true, COMPLETES_IMAGES, command_run, NULL },
    { "save", "image save", "[OPTIONS] IMAGE [IMAGE...]", "Images as a tar", 1, -1, FLAGS(save_flags), false, COMPLETES_IMAGES, command_save, NULL },
    { "search", NULL, "[OPTIONS] TERM", "Look for images on Docker Hub", 1, 1, FLAGS(search_flags), false, COMPLETES_NOTHING, command_search, NULL },
    { "start", "container start", "[OPTIONS] CONTAINER [CONTAINER...]", "Start containers",
      1, -1, FLAGS(start_flags), false, COMPLETES_CONTAINERS, command_start, NULL },
    { "stats", "container stats", "[OPTIONS] [CONTAINER...]", "What containers use, as it changes",
      0, -1, FLAGS(stats_flags), false, COMPLETES_RUNNING, command_stats, NULL },
    { "stop", "container stop", "[OPTIONS] CONTAINER [CONTAINER...]", "Stop containers",
      1, -1, FLAGS(stop_flags), false, COMPLETES_RUNNING, command_stop, NULL },
    { "tag", "image tag", "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]", "Give an image one more name",
      2, 2, NO_FLAGS, false, COMPLETES_IMAGES, command_tag, NULL },
    { "top", "container top", "CONTAINER [ps OPTIONS]", "The processes of a container", 1, -1, NO_FLAGS, true, COMPLETES_RUNNING, command_top, NULL },
    { "unpause", "container unpause", "CONTAINER [CONTAINER...]", "Let paused containers go on",
      1, -1, NO_FLAGS, false, COMPLETES_RUNNING, command_unpause, NULL },
    { "update", "container update", "[OPTIONS] CONTAINER [CONTAINER...]", "Change the limits of containers",
      1, -1, FLAGS(update_flags), false, COMPLETES_CONTAINERS, command_update, NULL },
    { "version", NULL, "[OPTIONS]", "The versions of client and daemon", 0, 0, FLAGS(object_flags), false, COMPLETES_NOTHING, command_version, NULL },
    { "wait", "container wait", "CONTAINER [CONTAINER...]", "Wait for containers to end, and print their exit codes",
      1, -1, NO_FLAGS, false, COMPLETES_RUNNING, command_wait, NULL },
    { "checkpoint create", NULL, "[OPTIONS] CONTAINER CHECKPOINT", "Write a running container's processes down",
      2, 2, FLAGS(checkpoint_create_flags), false, COMPLETES_RUNNING, command_checkpoint_create, NULL },
    { "checkpoint ls", "checkpoint list", "[OPTIONS] CONTAINER", "List a container's checkpoints",
      1, 1, FLAGS(checkpoint_flags), false, COMPLETES_CONTAINERS, command_checkpoint_ls, NULL },
    { "checkpoint rm", "checkpoint remove", "[OPTIONS] CONTAINER CHECKPOINT", "Remove a checkpoint",
      2, 2, FLAGS(checkpoint_flags), false, COMPLETES_CONTAINERS, command_checkpoint_rm, NULL },
    { "container inspect", NULL, "[OPTIONS] CONTAINER [CONTAINER...]", "All that is known of containers",
      1, -1, FLAGS(container_inspect_flags), false, COMPLETES_CONTAINERS, command_container_inspect, NULL },
    { "container prune", NULL, "[OPTIONS]", "Remove containers that do not run",
      0, 0, FLAGS(prune_flags), false, COMPLETES_NOTHING, command_container_prune, NULL },
    { "image inspect", NULL, "[OPTIONS] IMAGE [IMAGE...]", "All that is known of images",
      1, -1, FLAGS(image_inspect_flags), false, COMPLETES_IMAGES, command_image_inspect, NULL },
    { "image prune", NULL, "[OPTIONS]", "Remove unused images", 0, 0, FLAGS(prune_all_flags), false, COMPLETES_NOTHING, command_image_prune, NULL },
    { "network connect", NULL, "[OPTIONS] NETWORK CONTAINER", "Connect a container to a network",
      2, 2, FLAGS(network_connect_flags), false, COMPLETES_NETWORKS, command_network_connect, NULL },
    { "network create", NULL, "[OPTIONS] NETWORK", "Create a network",
      1, 1, FLAGS(network_create_flags), false, COMPLETES_NOTHING, command_network_create, NULL },
    { "network disconnect", NULL, "[OPTIONS] NETWORK CONTAINER", "Disconnect a container from a network",
      2, 2, FLAGS(network_disconnect_flags), false, COMPLETES_NETWORKS, command_network_disconnect, NULL },
    { "network inspect", NULL, "[OPTIONS] NETWORK [NETWORK...]", "All that is known of networks",
      1, -1, FLAGS(network_inspect_flags), false, COMPLETES_NETWORKS, command_network_inspect, NULL },
    { "network ls", "network list", "[OPTIONS]", "List networks", 0, 0, FLAGS(network_ls_flags), false, COMPLETES_NOTHING, command_network_ls, NULL },
    { "network prune", NULL, "[OPTIONS]", "Remove networks that nobody uses",
      0, 0, FLAGS(prune_flags), false, COMPLETES_NOTHING, command_network_prune, NULL },
    { "network rm", "network remove", "NETWORK [NETWORK...]", "Remove networks",
      1, -1, FLAGS(network_rm_flags), false, COMPLETES_NETWORKS, command_network_rm, NULL },
    { "volume create", NULL, "[OPTIONS] [VOLUME]", "Create a volume",
      0, 1, FLAGS(volume_create_flags), false, COMPLETES_NOTHING, command_volume_create, NULL },
    { "volume inspect", NULL, "[OPTIONS] VOLUME [VOLUME...]", "All that is known of volumes",
      1, -1, FLAGS(object_flags), false, COMPLETES_VOLUMES, command_volume_inspect, NULL },
    { "volume ls", "volume list", "[OPTIONS]", "List volumes", 0, 0, FLAGS(volume_ls_flags), false, COMPLETES_NOTHING, command_volume_ls, NULL },
    { "volume prune", NULL, "[OPTIONS]", "Remove volumes that nobody uses",
      0, 0, FLAGS(prune_all_flags), false, COMPLETES_NOTHING, command_volume_prune, NULL },
    { "volume rm", "volume remove", "[OPTIONS] VOLUME [VOLUME...]", "Remove volumes",
      1, -1, FLAGS(volume_rm_flags), false, COMPLETES_VOLUMES, command_volume_rm, NULL },
    { "system df", NULL, "[OPTIONS]", "What takes how much of the disk", 0, 0, FLAGS(df_flags), false, COMPLETES_NOTHING, command_df, NULL },
    { "system prune", NULL, "[OPTIONS]", "Remove all that is unused",
      0, 0, FLAGS(system_prune_flags), false, COMPLETES_NOTHING, command_system_prune, NULL },
    { "builder prune", NULL, "", "Remove the build cache", 0, 0, FLAGS(builder_prune_flags), false, COMPLETES_NOTHING, command_builder_prune, NULL },
    { "completion", NULL, "bash|zsh|fish", "Completion for a shell", 1, 1, NO_FLAGS, false, COMPLETES_NOTHING, command_completion, NULL },
    { "__complete", NULL, "[WORD...]", "The words that could come next", 0, -1, NO_FLAGS, true, COMPLETES_NOTHING, command_complete, NULL },
    { "__manual", NULL, "", "The manual page", 0, 0, NO_FLAGS, false, COMPLETES_NOTHING, command_manual, NULL },
    { "build", "image build, builder build", "[OPTIONS] PATH|URL|-", "Build an image from a Dockerfile",
      1, 1, FLAGS(build_flags), false, COMPLETES_FILES, command_build, NULL },
};
const size_t commands_len = ARRAY_LEN(commands);

#define SWARM "there is no swarm"
const struct group groups[] = {
    { "builder", "Manage the build cache", NULL },
    { "checkpoint", "Manage checkpoints", NULL },
    { "container", "Manage containers", NULL },
    { "image", "Manage images", NULL },
    { "network", "Manage networks", NULL },
    { "system", "Manage the daemon's data", NULL },
    { "volume", "Manage volumes", NULL },
    { "buildx", "Build images", "the docker CLI and its plug-ins build on this daemon" },
    { "compose", "Applications of several containers", "docker's plug-in does that on this daemon" },
    { "config", "Manage swarm configs", SWARM },
    { "context", "Manage contexts", "contexts are read, with --context and DOCKER_CONTEXT; docker writes them" },
    { "manifest", "Manage image manifests", "berth-image and docker do that" },
    { "node", "Manage swarm nodes", SWARM },
    { "plugin", "Manage plugins", "the daemon has no plugins" },
    { "secret", "Manage swarm secrets", SWARM },
    { "service", "Manage swarm services", SWARM },
    { "stack", "Manage swarm stacks", SWARM },
    { "swarm", "Manage a swarm", SWARM },
    { "trust", "Manage signatures", "signatures by Notary are not checked" },
};
const size_t groups_len = ARRAY_LEN(groups);

const char *group_why(const char *name)
{
    for (size_t i = 0; i < groups_len; i++)
        if (str_eq(groups[i].name, name))
            return groups[i].why;
    return NULL;
}
