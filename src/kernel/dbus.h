// A small D-Bus client: one connection, one method call at a time, signals while it waits. Every step has one time
// limit, given at the connection: a bus that hangs costs that long and no more. For the thread that made it.
#ifndef KERNEL_DBUS_H
#define KERNEL_DBUS_H

#include "kernel/dbus_message.h"

struct dbus;

// `address` as in $DBUS_SESSION_BUS_ADDRESS: alternatives separated by ";", of which unix:path= and unix:abstract=
// are tried in turn. `uid` is who we say we are (EXTERNAL). With `bus` a name is asked for first (Hello); without it
// the other end speaks for itself, as systemd's private socket does.
int dbus_open(const char *address, uid_t uid, bool bus, int64_t timeout_ns, struct dbus **out, struct err *err);
void dbus_close(struct dbus *dbus);
bool dbus_has_bus(const struct dbus *dbus);

// Called for every signal that arrives while something is waited for; the message lives for the call only. True: this
// is what dbus_wait() waits for.
typedef bool dbus_signal_fn(const struct dbus_message *signal, void *context);

// Sends and waits for the answer. *reply (may be NULL) lives until the next call on the connection. An error that the
// other end answers has its name in the message: "org.freedesktop.systemd1.NoSuchUnit: Unit x not loaded." and a
// class by it.
int dbus_call(struct dbus *dbus, const struct dbus_call *call, const struct buf *body, dbus_signal_fn *fn,
              void *context, struct dbus_message *reply, struct err *err);
// Waits until fn says true.
int dbus_wait(struct dbus *dbus, dbus_signal_fn *fn, void *context, struct err *err);

// "/run/user/1000/bus" as an address's value: what is not plain is escaped.
void dbus_escape(const char *text, struct buf *out);

#endif
