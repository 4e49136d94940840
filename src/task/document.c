// The field tables of the task document and of what the verbs carry. Descriptor indices are mandatory wherever they
// stand: an absent one would read as 0, which is a real index.
#include "task/task.h"

static const struct json_field layer_fields[] = {
    JSON_FIELD("diff_id", JSON_TEXT, struct task_layer, diff_id),
    JSON_FIELD("dir", JSON_TEXT, struct task_layer, dir, .flags = JSON_OMIT_EMPTY),
    JSON_FIELD("erofs", JSON_TEXT, struct task_layer, erofs, .flags = JSON_OMIT_EMPTY),
    JSON_FIELD("fd", JSON_INT, struct task_layer, fd, .required = true),
};
const struct json_table task_layer_table = JSON_TABLE(struct task_layer, layer_fields);

static const struct json_field upper_fields[] = {
    JSON_FIELD("kind", JSON_TEXT, struct task_upper, kind),
    JSON_FIELD("path", JSON_TEXT, struct task_upper, path),
    JSON_FIELD("upper_fd", JSON_INT, struct task_upper, upper_fd, .required = true),
    JSON_FIELD("work_fd", JSON_INT, struct task_upper, work_fd, .required = true),
    JSON_FIELD("ephemeral", JSON_FLAG, struct task_upper, ephemeral),
};
static const struct json_table upper_table = JSON_TABLE(struct task_upper, upper_fields);

static const struct json_field rootfs_fields[] = {
    JSON_FIELD("kind", JSON_TEXT, struct task_rootfs, kind, .required = true),
    JSON_FIELD("layers", JSON_LIST, struct task_rootfs, layers, .sub = &task_layer_table),
    JSON_FIELD("upper", JSON_STRUCT, struct task_rootfs, upper, .sub = &upper_table, .required = true),
    JSON_FIELD("read_only", JSON_FLAG, struct task_rootfs, read_only),
};
static const struct json_table rootfs_table = JSON_TABLE(struct task_rootfs, rootfs_fields);

static const struct json_field mount_fields[] = {
    JSON_FIELD("kind", JSON_TEXT, struct task_mount, kind, .required = true),
    JSON_FIELD("source", JSON_TEXT, struct task_mount, source),
    JSON_FIELD("target", JSON_TEXT, struct task_mount, target, .required = true),
    JSON_FIELD("fd", JSON_INT, struct task_mount, fd, .required = true),
    JSON_FIELD("read_only", JSON_FLAG, struct task_mount, read_only),
    JSON_FIELD("recursive", JSON_FLAG, struct task_mount, recursive),
    JSON_FIELD("writable_below", JSON_FLAG, struct task_mount, writable_below, .flags = JSON_OMIT_EMPTY),
    JSON_FIELD("mapped", JSON_FLAG, struct task_mount, mapped, .flags = JSON_OMIT_EMPTY),
    JSON_FIELD("no_exec", JSON_FLAG, struct task_mount, no_exec),
    JSON_FIELD("no_suid", JSON_FLAG, struct task_mount, no_suid),
    JSON_FIELD("no_dev", JSON_FLAG, struct task_mount, no_dev),
    JSON_FIELD("propagation", JSON_TEXT, struct task_mount, propagation),
    JSON_FIELD("data", JSON_TEXT, struct task_mount, data),
};
const struct json_table task_mount_table = JSON_TABLE(struct task_mount, mount_fields);

static const struct json_field nic_fields[] = {
    JSON_FIELD("name", JSON_TEXT, struct task_nic, name),
    JSON_FIELD("mac", JSON_TEXT, struct task_nic, mac),
    JSON_FIELD("address", JSON_TEXT, struct task_nic, address),
    JSON_FIELD("prefix", JSON_INT, struct task_nic, prefix),
    JSON_FIELD("gateway", JSON_TEXT, struct task_nic, gateway),
    JSON_FIELD("address6", JSON_TEXT, struct task_nic, address6, .flags = JSON_OMIT_EMPTY),
    JSON_FIELD("prefix6", JSON_INT, struct task_nic, prefix6, .flags = JSON_OMIT_EMPTY),
    JSON_FIELD("gateway6", JSON_TEXT, struct task_nic, gateway6, .flags = JSON_OMIT_EMPTY),
    JSON_FIELD("mtu", JSON_INT, struct task_nic, mtu, .flags = JSON_OMIT_EMPTY),
    JSON_FIELD("netns_fd", JSON_INT, struct task_nic, netns_fd, .required = true),
    JSON_FIELD("tap_fd", JSON_INT, struct task_nic, tap_fd, .required = true),
};
const struct json_table task_nic_table = JSON_TABLE(struct task_nic, nic_fields);

static const struct json_field port_fields[] = {
    JSON_FIELD("proto", JSON_TEXT, struct task_port, proto, .required = true),
    JSON_FIELD("host_address", JSON_TEXT, struct task_port, host_address),
    JSON_FIELD("host_port", JSON_INT, struct task_port, host_port),
    JSON_FIELD("target_address", JSON_TEXT, struct task_port, target_address, .required = true),
    JSON_FIELD("target_port", JSON_INT, struct task_port, target_port, .required = true),
    JSON_FIELD("listener_fd", JSON_INT, struct task_port, listener_fd, .required = true),
    JSON_FIELD("held", JSON_FLAG, struct task_port, held, .flags = JSON_OMIT_EMPTY),
};
const struct json_table task_port_table = JSON_TABLE(struct task_port, port_fields);

static const struct json_field file_fields[] = {
    JSON_FIELD("path", JSON_TEXT, struct task_file, path, .required = true),
    JSON_FIELD("content", JSON_TEXT, struct task_file, content),
    JSON_FIELD("mode", JSON_INT, struct task_file, mode),
};
const struct json_table task_file_table = JSON_TABLE(struct task_file, file_fields);

static const struct json_field join_fields[] = {
    JSON_FIELD("type", JSON_TEXT, struct task_join, type, .required = true),
    JSON_FIELD("container", JSON_TEXT, struct task_join, container),
    JSON_FIELD("fd", JSON_INT, struct task_join, fd, .required = true),
};
const struct json_table task_join_table = JSON_TABLE(struct task_join, join_fields);

static const struct json_field log_fields[] = {
    JSON_FIELD("driver", JSON_TEXT, struct task_log, driver),
    JSON_FIELD("path", JSON_TEXT, struct task_log, path),
    JSON_FIELD("max_size", JSON_INT, struct task_log, max_size, .flags = JSON_OMIT_EMPTY),
    JSON_FIELD("max_files", JSON_INT, struct task_log, max_files, .flags = JSON_OMIT_EMPTY),
    JSON_FIELD("compress", JSON_FLAG, struct task_log, compress, .flags = JSON_OMIT_EMPTY),
    JSON_FIELD("attrs", JSON_TEXT, struct task_log, attrs, .flags = JSON_OMIT_EMPTY),
    JSON_FIELD("address", JSON_TEXT, struct task_log, address, .flags = JSON_OMIT_EMPTY),
    JSON_FIELD("facility", JSON_INT, struct task_log, facility, .flags = JSON_OMIT_EMPTY),
    JSON_FIELD("format", JSON_TEXT, struct task_log, format, .flags = JSON_OMIT_EMPTY),
    JSON_FIELD("hostname", JSON_TEXT, struct task_log, hostname, .flags = JSON_OMIT_EMPTY),
    JSON_FIELD("tag", JSON_TEXT, struct task_log, tag, .flags = JSON_OMIT_EMPTY),
    JSON_FIELD("fields", JSON_TEXT_MAP, struct task_log, fields, .flags = JSON_OMIT_EMPTY),
    JSON_FIELD("compression", JSON_TEXT, struct task_log, compression, .flags = JSON_OMIT_EMPTY),
    JSON_FIELD("compression_level", JSON_INT, struct task_log, compression_level, .flags = JSON_OMIT_EMPTY),
    JSON_FIELD("precise_time", JSON_FLAG, struct task_log, precise_time, .flags = JSON_OMIT_EMPTY),
    JSON_FIELD("ack", JSON_FLAG, struct task_log, ack, .flags = JSON_OMIT_EMPTY),
    JSON_FIELD("ack_ns", JSON_INT, struct task_log, ack_ns, .flags = JSON_OMIT_EMPTY),
    JSON_FIELD("write_ns", JSON_INT, struct task_log, write_ns, .flags = JSON_OMIT_EMPTY),
    JSON_FIELD("late", JSON_FLAG, struct task_log, late, .flags = JSON_OMIT_EMPTY),
    JSON_FIELD("retry_ns", JSON_INT, struct task_log, retry_ns, .flags = JSON_OMIT_EMPTY),
    JSON_FIELD("max_tries", JSON_INT, struct task_log, max_tries, .flags = JSON_OMIT_EMPTY),
    JSON_FIELD("non_blocking", JSON_FLAG, struct task_log, non_blocking, .flags = JSON_OMIT_EMPTY),
    JSON_FIELD("buffer_size", JSON_INT, struct task_log, buffer_size, .flags = JSON_OMIT_EMPTY),
};
const struct json_table task_log_table = JSON_TABLE(struct task_log, log_fields);

static const struct json_field stdio_fields[] = {
    JSON_FIELD("terminal", JSON_FLAG, struct task_stdio, terminal),
    JSON_FIELD("open_stdin", JSON_FLAG, struct task_stdio, open_stdin),
    JSON_FIELD("stdin_once", JSON_FLAG, struct task_stdio, stdin_once),
    JSON_FIELD("height", JSON_INT, struct task_stdio, height),
    JSON_FIELD("width", JSON_INT, struct task_stdio, width),
};
static const struct json_table stdio_table = JSON_TABLE(struct task_stdio, stdio_fields);

static const struct json_field vm_fields[] = {
    JSON_FIELD("accel", JSON_TEXT, struct task_vm, accel, .required = true),
    JSON_FIELD("vmm", JSON_TEXT, struct task_vm, vmm),
    JSON_FIELD("cmdline", JSON_TEXT, struct task_vm, cmdline),
    JSON_FIELD("kernel", JSON_TEXT, struct task_vm, kernel),
    JSON_FIELD("vcpus", JSON_INT, struct task_vm, vcpus, .required = true),
    JSON_FIELD("memory_size", JSON_INT, struct task_vm, memory_size, .required = true),
    JSON_FIELD("kernel_fd", JSON_INT, struct task_vm, kernel_fd, .required = true),
    JSON_FIELD("initrd_fd", JSON_INT, struct task_vm, initrd_fd, .required = true),
    JSON_FIELD("kvm_fd", JSON_INT, struct task_vm, kvm_fd, .required = true),
    JSON_FIELD("vmm_fd", JSON_INT, struct task_vm, vmm_fd, .required = true),
    JSON_FIELD("uid", JSON_INT, struct task_vm, uid, .required = true),
};
static const struct json_table vm_table = JSON_TABLE(struct task_vm, vm_fields);

static const struct json_field document_fields[] = {
    JSON_FIELD("version", JSON_INT, struct task_document, version, .required = true),
    JSON_FIELD("id", JSON_TEXT, struct task_document, id, .required = true),
    JSON_FIELD("daemon_id", JSON_TEXT, struct task_document, daemon_id),
    JSON_FIELD("isolation", JSON_TEXT, struct task_document, isolation),
    JSON_FIELD("vm", JSON_STRUCT_PTR, struct task_document, vm, .sub = &vm_table, .flags = JSON_OMIT_EMPTY),
    JSON_FIELD("process", JSON_STRUCT, struct task_document, process, .sub = &oci_process_table, .required = true),
    JSON_FIELD("linux", JSON_STRUCT, struct task_document, linux_section, .sub = &oci_linux_table, .required = true),
    JSON_FIELD("hostname", JSON_TEXT, struct task_document, hostname),
    JSON_FIELD("domainname", JSON_TEXT, struct task_document, domainname),
    JSON_FIELD("rootfs", JSON_STRUCT, struct task_document, rootfs, .sub = &rootfs_table, .required = true),
    JSON_FIELD("mounts", JSON_LIST, struct task_document, mounts, .sub = &task_mount_table),
    JSON_FIELD("nics", JSON_LIST, struct task_document, nics, .sub = &task_nic_table),
    JSON_FIELD("ports", JSON_LIST, struct task_document, ports, .sub = &task_port_table),
    JSON_FIELD("files", JSON_LIST, struct task_document, files, .sub = &task_file_table),
    JSON_FIELD("joins", JSON_LIST, struct task_document, joins, .sub = &task_join_table, .flags = JSON_OMIT_EMPTY),
    JSON_FIELD("log", JSON_STRUCT, struct task_document, log, .sub = &task_log_table),
    JSON_FIELD("stdio", JSON_STRUCT, struct task_document, stdio, .sub = &stdio_table),
    JSON_FIELD("stop_signal", JSON_TEXT, struct task_document, stop_signal),
    JSON_FIELD("init", JSON_FLAG, struct task_document, init),
    JSON_FIELD("hooks", JSON_STRUCT_PTR, struct task_document, hooks, .sub = &oci_hooks_table, .flags = JSON_OMIT_EMPTY),
};
const struct json_table task_document_table = JSON_TABLE(struct task_document, document_fields);

static const struct json_field attach_fields[] = {
    JSON_FIELD("fd", JSON_INT, struct task_attach, fd, .required = true),
    JSON_FIELD("in", JSON_FLAG, struct task_attach, in),
    JSON_FIELD("out", JSON_FLAG, struct task_attach, out),
    JSON_FIELD("error", JSON_FLAG, struct task_attach, error),
    JSON_FIELD("framed", JSON_FLAG, struct task_attach, framed),
    JSON_FIELD("detach_keys", JSON_TEXT, struct task_attach, detach_keys),
};
const struct json_table task_attach_table = JSON_TABLE(struct task_attach, attach_fields);

static const struct json_field exec_fields[] = {
    JSON_FIELD("exec_id", JSON_TEXT, struct task_exec, exec_id, .required = true),
    JSON_FIELD("process", JSON_STRUCT, struct task_exec, process, .sub = &oci_process_table, .required = true),
    JSON_FIELD("stdio", JSON_STRUCT, struct task_exec, stdio, .sub = &stdio_table),
    JSON_FIELD("unconfined", JSON_FLAG, struct task_exec, unconfined),
    JSON_FIELD("seccomp_profile", JSON_TEXT, struct task_exec, seccomp_profile),
};
const struct json_table task_exec_table = JSON_TABLE(struct task_exec, exec_fields);

const char *task_exec_seccomp(const struct task_exec *exec)
{
    if (exec->unconfined)
        return "unconfined";
    return str_empty(exec->seccomp_profile) ? "default" : exec->seccomp_profile;
}

static const struct json_field streams_fields[] = {
    JSON_FIELD("in", JSON_INT, struct task_streams, in),
    JSON_FIELD("out", JSON_INT, struct task_streams, out),
    JSON_FIELD("error", JSON_INT, struct task_streams, error),
    JSON_FIELD("terminal", JSON_INT, struct task_streams, terminal),
};
const struct json_table task_streams_table = JSON_TABLE(struct task_streams, streams_fields);

static const struct json_field state_fields[] = {
    JSON_FIELD("status", JSON_TEXT, struct task_state, status, .required = true),
    JSON_FIELD("pid", JSON_INT, struct task_state, pid),
    JSON_FIELD("started_ns", JSON_INT, struct task_state, started_ns),
    JSON_FIELD("exited_ns", JSON_INT, struct task_state, exited_ns),
    JSON_FIELD("exit_code", JSON_INT, struct task_state, exit_code),
    JSON_FIELD("oom", JSON_FLAG, struct task_state, oom),
    JSON_FIELD("execs", JSON_TEXTS, struct task_state, execs),
};
const struct json_table task_state_table = JSON_TABLE(struct task_state, state_fields);

static const struct json_field event_fields[] = {
    JSON_FIELD("seq", JSON_INT, struct task_event, seq, .required = true),
    JSON_FIELD("kind", JSON_TEXT, struct task_event, kind, .required = true),
    JSON_FIELD("time_ns", JSON_INT, struct task_event, time_ns),
    JSON_FIELD("exec_id", JSON_TEXT, struct task_event, exec_id, .flags = JSON_OMIT_EMPTY),
    JSON_FIELD("pid", JSON_INT, struct task_event, pid, .flags = JSON_OMIT_EMPTY),
    JSON_FIELD("exit_code", JSON_INT, struct task_event, exit_code, .flags = JSON_OMIT_EMPTY),
    JSON_FIELD("oom", JSON_FLAG, struct task_event, oom, .flags = JSON_OMIT_EMPTY),
    JSON_FIELD("message", JSON_TEXT, struct task_event, message, .flags = JSON_OMIT_EMPTY),
};
const struct json_table task_event_table = JSON_TABLE(struct task_event, event_fields);

static const struct json_field exit_record_fields[] = {
    JSON_FIELD("exit_code", JSON_INT, struct task_exit_record, exit_code, .required = true),
    JSON_FIELD("time_ns", JSON_INT, struct task_exit_record, time_ns, .required = true),
    JSON_FIELD("started_ns", JSON_INT, struct task_exit_record, started_ns),
    JSON_FIELD("oom", JSON_FLAG, struct task_exit_record, oom),
    JSON_FIELD("boot_id", JSON_TEXT, struct task_exit_record, boot_id, .required = true),
};
const struct json_table task_exit_record_table = JSON_TABLE(struct task_exit_record, exit_record_fields);
