// What a service manager and the daemon say to each other: sockets that were opened for us (LISTEN_FDS) and messages to it
// (NOTIFY_SOCKET), as systemd's sd_listen_fds(3) and sd_notify(3) have it. No D-Bus, no library.
#ifndef KERNEL_NOTIFY_H
#define KERNEL_NOTIFY_H

#include "base/err.h"

// "READY=1", "RELOADING=1" (its MONOTONIC_USEC is added), "STOPPING=1"; lines with '\n' between them. Without NOTIFY_SOCKET
// nothing happens and it is success.
int notify_send(const char *text, struct err *err);

#define NOTIFY_FIRST_FD 3
// How many sockets from NOTIFY_FIRST_FD on are ours: 0 when LISTEN_PID is another process. They are CLOEXEC from here on, and
// the variables are gone from the environment. Once, before any thread.
int notify_listen_fds(void);

#endif
