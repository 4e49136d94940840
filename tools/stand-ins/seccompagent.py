#!/usr/bin/python3
"""Answers seccomp notifications, as the helper of that name in runc's tests does: mkdir is made in the container's tree under a name
with the filter's metadata behind it, chmod and its kin fail with ENOMEDIUM, all else goes on. x86_64.
Its standard input is the socket that it listens at (seccompagent.c)"""
import ctypes
import errno
import fcntl
import json
import os
import select
import socket
import struct
import threading

RECEIVE, SEND, ID_VALID = 0xc0502100, 0xc0182101, 0x40082102  # seccomp_unotify(2)
NOTIFICATION, ANSWER = struct.Struct('=QIIiIQ6Q'), struct.Struct('=QqiI')
CONTINUE = 1
MKDIR, CHMODS = 83, (90, 91, 268)
OPENAT2, RESOLVE_IN_ROOT = 437, 0x10


def string_of(pid, address):
    with open(f'/proc/{pid}/mem', 'rb') as file:
        file.seek(address)
        return file.read(4096).split(b'\0')[0].decode()


def open_parent(pid, name):
    root = os.open(f'/proc/{pid}/{"root" if name.startswith("/") else "cwd"}', os.O_PATH)
    how = struct.pack('=QQQ', os.O_PATH | os.O_DIRECTORY, 0, RESOLVE_IN_ROOT)
    path = os.path.dirname(name.lstrip('/')) or '.'
    parent = ctypes.CDLL(None, use_errno=True).syscall(OPENAT2, root, path.encode(), how, len(how))
    code = ctypes.get_errno()
    os.close(root)
    if parent < 0:
        raise OSError(code, path)
    return parent


def make_directory(pid, arguments, metadata):
    name = string_of(pid, arguments[0]) + '-' + metadata
    parent = open_parent(pid, name)
    try:
        os.mkdir(os.path.basename(name), arguments[1], dir_fd=parent)
    finally:
        os.close(parent)


def answer(listener, metadata):
    """Waits for a call; the answer as the kernel takes it."""
    request = bytearray(NOTIFICATION.size)
    fcntl.ioctl(listener, RECEIVE, request)
    cookie, pid, _, number, _, _, *arguments = NOTIFICATION.unpack(request)
    if number in CHMODS:
        return ANSWER.pack(cookie, -1, -errno.ENOMEDIUM, 0)
    if number != MKDIR:
        return ANSWER.pack(cookie, 0, 0, CONTINUE)
    fcntl.ioctl(listener, ID_VALID, struct.pack('=Q', cookie))
    try:
        make_directory(pid, arguments, metadata)
    except OSError:
        return ANSWER.pack(cookie, -1, -errno.ENOSYS, 0)
    return ANSWER.pack(cookie, 0, 0, 0)


def serve(listener, metadata):
    while True:
        try:
            fcntl.ioctl(listener, SEND, answer(listener, metadata))
        except OSError as failure:
            if failure.errno != errno.ENOENT or not alive(listener):
                os.close(listener)
                return


def alive(listener):
    """ENOENT comes for a caller that was killed, and for ever when the filter's last process is gone."""
    poll = select.poll()
    poll.register(listener, 0)
    return not any(event & select.POLLHUP for _, event in poll.poll(0))


def take(connection):
    with connection:
        text, descriptors, _, _ = socket.recv_fds(connection, 65536, 16)
    state = json.loads(text)
    listener = descriptors.pop(state['fds'].index('seccompFd'))
    for descriptor in descriptors:
        os.close(descriptor)
    metadata = os.path.basename(state.get('metadata') or '') or '.'
    threading.Thread(target=serve, args=(listener, metadata), daemon=True).start()


def main():
    server = socket.socket(fileno=0)
    while True:
        connection, _ = server.accept()
        try:
            take(connection)
        except (ValueError, KeyError, OSError) as failure:
            print(f'seccompagent: {failure}', flush=True)


if __name__ == '__main__':
    main()
