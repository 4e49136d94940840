"""A microVM under berth-vmm as the suite sees it: its serial port is a socket, its control API the program's own client."""
import os
import select
import socket
import struct
import subprocess
import threading
import time

ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), '../..'))
VMM = os.path.join(ROOT, 'build/bin/berth-vmm')
KVM = os.path.join(ROOT, 'build/kvm')
CMDLINE = 'console=ttyS0 quiet nokaslr mitigations=off random.trust_cpu=on'
PATIENCE = 240  # seconds; the processor is emulated, and the machine below may be busy


class Wrong(Exception):
    pass


class Machine:
    """Use as a context: what still runs at its end is killed."""

    def __init__(self, *options, cmdline='', kernel=True, memory='256M', fds=()):
        self.serial, far = socket.socketpair()
        self.api = f'/tmp/api-{time.monotonic_ns()}.sock'
        self.text = self.said = ''
        boot = ['--kernel', f'{KVM}/vmlinux', '--initrd', f'{KVM}/guest-initramfs', '--memory', memory,
                '--cmdline', f'{CMDLINE} {cmdline}'] if kernel else []
        self.process = subprocess.Popen([VMM, *boot, '--serial', f'fd:{far.fileno()}', '--api-sock', self.api, *options],
                                        pass_fds=[far.fileno(), *fds], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.PIPE, text=True)
        far.close()

    def __enter__(self):
        return self

    def __exit__(self, *failure):
        self.process.kill()
        self.process.wait()
        self.serial.close()

    def wait_for(self, *words, seconds=PATIENCE):
        """What the guest says up to the first of the words is in `said`, and taken with it; returns that word."""
        until = time.monotonic() + seconds
        while True:
            found = [word for word in words if word in self.text]
            if found:
                word = min(found, key=self.text.index)
                self.said, self.text = self.text.split(word, 1)
                return word
            left = until - time.monotonic()
            if left <= 0 or not select.select([self.serial], [], [], left)[0]:
                raise Wrong(f'the guest does not say {" or ".join(words)}, but: {self.text[-300:]}; {threads_of(self.process.pid)}')
            data = self.serial.recv(65536)
            if not data:
                _, errors = self.process.communicate()
                raise Wrong(f'the machine is gone: {errors.strip()}; the guest said: {self.text[-300:]}')
            self.text += data.decode(errors='replace')

    def line_after(self, word):
        self.wait_for(word)
        self.wait_for('\n')
        return self.said.strip()

    def send(self, line):
        self.serial.sendall(line.encode() + b'\n')

    def check(self, name):
        """The guest's own check of this name; it is asked to do it when it holds."""
        if self.wait_for(f'{name} ok\r\n', f'{name} wrong') != f'{name} ok\r\n':
            raise Wrong(self.line_after(':'))

    def ctl(self, *words, good=True):
        done = subprocess.run([VMM, 'ctl', self.api, *words], capture_output=True, text=True, timeout=PATIENCE)
        if good and done.returncode:
            raise Wrong(f'ctl {words[0]}: {done.stderr.strip()}')
        return done

    def end(self):
        """Waits; the exit code."""
        try:
            _, errors = self.process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired as late:
            while select.select([self.serial], [], [], 0)[0] and (data := self.serial.recv(65536)):
                self.text += data.decode(errors='replace')
            state = self.ctl('state', good=False)
            raise Wrong(f'the machine does not end: {state.stdout.strip()} {state.stderr.strip()}; the guest said: {self.text[-300:]}; '
                        f'{threads_of(self.process.pid)}') from late
        self.errors = errors.strip()
        return self.process.returncode


def settle(condition, otherwise, seconds=20):
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            raise Wrong(otherwise)
        time.sleep(0.1)


def threads_of(pid):
    """What each thread of a machine that stands still is doing: name, state, processor time in ticks, where it waits."""
    found = []
    for one in process_tree(pid):
        for thread in os.listdir(f'/proc/{one}/task'):
            folder = f'/proc/{one}/task/{thread}'
            with open(f'{folder}/stat', encoding='ascii') as stat, open(f'{folder}/wchan', encoding='ascii') as wchan:
                name, rest = stat.read().split('(', 1)[1].rsplit(') ', 1)
                fields = rest.split()
                found.append(f'{name} {fields[0]} {fields[11]}+{fields[12]} {wchan.read()}')
    return ', '.join(found)


def process_tree(pid):
    found = [pid]
    with open(f'/proc/{pid}/task/{pid}/children', encoding='ascii') as file:
        for child in file.read().split():
            found += process_tree(int(child))
    return found


# ---- the host's ends --------------------------------------------------------------------------------------------------


def echo_once(listener, sizes):
    """Takes everything one connection has to say, then says it back."""
    def serve():
        peer, _ = listener.accept()
        data = bytearray()
        with peer:
            while part := peer.recv(65536):
                data += part
            peer.sendall(data)
        sizes.append(len(data))
    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    return thread


def tap(name, address):
    """A tap that the machine opens by name, with the host's address on it."""
    for words in (['ip', 'tuntap', 'add', name, 'mode', 'tap', 'vnet_hdr'], ['ip', 'addr', 'add', address, 'dev', name],
                  ['ip', 'link', 'set', name, 'up']):
        subprocess.run(words, check=True)


def tap_fd(name):
    """The same, opened here: for a machine that is handed its tap."""
    import fcntl
    fd = os.open('/dev/net/tun', os.O_RDWR | os.O_CLOEXEC)
    fcntl.ioctl(fd, 0x400454ca, struct.pack('16sH22x', name.encode(), 0x0002 | 0x1000 | 0x4000))  # TAP, NO_PI, VNET_HDR
    return fd
