// An OCI runtime with runc's command line, on the sandbox: verbs, flags, messages, exit codes and files that callers of runc
// (podman, containerd, dockerd, CRI-O) know. No daemon: what is known of a container stands in its state folder,
//
//     <root>/<id>/state.json    pid, start time of the pid, bundle, cgroup, systemd's unit; written before anything else is made
//                 config.json   a copy of what the container was made from
//                 start         a fifo; while it is there the container is "created", and a byte in it lets it go
//                 report        what went wrong after that byte
//                 lock          held by the verb that changes the container
//
// and is true or found to be false there: status is read from the process and its cgroup, never remembered. A verb that was
// killed half-way leaves a folder from which `delete --force` finds everything that it had made.
#ifndef OCI_OCI_H
#define OCI_OCI_H

// Runs one command; the result is the exit code. Writes to the standard streams and the log as runc does.
int oci_main(int argc, char **argv);
// Whether the command's process will enter a container, so that it must not be the program on disk (CVE-2019-5736).
int oci_enters_container(int argc, char **argv);

#endif
