"""A program on a terminal, as a person would use it."""
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time

from engines import SLOWER


class Terminal:
    def __init__(self, command, rows=24, columns=80):
        self.master, slave = pty.openpty()
        self.resize(rows, columns)
        self.fresh = termios.tcgetattr(self.master)  # as no program has set it yet
        self.process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
                                        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
        os.close(slave)
        self.output = ''

    def resize(self, rows, columns):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack('HHHH', rows, columns, 0, 0))
        if hasattr(self, 'process'):
            os.kill(self.process.pid, signal.SIGWINCH)

    def send(self, text):
        os.write(self.master, text.encode())

    def expect(self, pattern, seconds=10):
        """Reads until the pattern appears in what came since the last expect; returns the match."""
        end = time.monotonic() + seconds * SLOWER
        while True:
            match = re.search(pattern, self.output)
            if match:
                self.output = self.output[match.end():]
                return match
            if not self._read(max(0, end - time.monotonic())):
                raise AssertionError(f'no {pattern!r} on the terminal, only {self.output!r}')

    def wait(self, seconds=10):
        """The exit code; what is still printed is collected in .output."""
        end = time.monotonic() + seconds * SLOWER
        while self._read(max(0, end - time.monotonic())):
            pass
        return self.process.wait(max(0.1, end - time.monotonic()))

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.master)

    def _read(self, seconds):
        ready, _, _ = select.select([self.master], [], [], seconds)
        if not ready:
            return False
        try:
            data = os.read(self.master, 65536)
        except OSError:  # EIO: the last slave is closed
            return False
        self.output += data.decode(errors='replace')
        return bool(data)
