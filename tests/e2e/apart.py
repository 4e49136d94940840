"""An engine in a network namespace of its own, with options of the operator's: what it does there nobody else sees."""
import json
import os
import subprocess

import pytest

import engines
from conftest import ENGINE, PEER_ROOT, Docker


class Apart(engines.Berth):
    """A daemon in a network namespace that `prepare` has made ready."""

    def __init__(self, *options, prepare='', config=None):
        super().__init__()
        self.prepare = 'ip link set lo up; echo 0 >/proc/sys/net/ipv4/ip_forward; ' + prepare
        self.options = list(options)
        self.config = os.path.join(self.folder, 'daemon.json')
        with open(self.config, 'w') as out:
            json.dump(config or {}, out)

    def command(self):
        # A run beside the daemon (--stop-all) is in its namespace.
        daemon = [*super().command(), '--config-file', self.config, *self.options]
        if self.holder is None:
            self.holder = subprocess.Popen(['unshare', '-n', 'sh', '-c', f'{self.prepare} echo up; exec sleep 1000'], stdout=subprocess.PIPE)
            assert self.holder.stdout.read(3) == b'up\n'
        return ['nsenter', f'--net=/proc/{self.holder.pid}/ns/net', *daemon]

    holder = None

    def leave(self):
        self.holder.kill()
        self.holder.wait()

    def inside(self, *command):
        done = subprocess.run(['nsenter', f'--net=/proc/{self.holder.pid}/ns/net', *command], capture_output=True, text=True, timeout=20)
        assert done.returncode == 0, done
        return done.stdout


class ApartDockerd(engines.Dockerd):
    """The same with the reference engine."""

    def __init__(self, *options, prepare='', config=None):
        super().__init__(root=PEER_ROOT)
        self.prepare, self.options = prepare, list(options)
        with open(os.path.join(self.folder, 'daemon.json'), 'w') as out:
            json.dump(config or {}, out)

    def command(self):
        command = super().command()
        at = command.index('-c') + 1
        command[at] = command[at].replace('exec dockerd', self.prepare + ' exec dockerd')
        return [*command, '--config-file', os.path.join(self.folder, 'daemon.json'), *self.options]

    def leave(self):
        pass

    def inside(self, *command):
        done = subprocess.run(['nsenter', f'--net=/proc/{self.namespace_pids()[0]}/ns/net', *command], capture_output=True, text=True, timeout=20)
        assert done.returncode == 0, done
        return done.stdout


@pytest.fixture
def apart(busybox, tmp_path):
    running = []

    def start(*options, **how):
        engine = (ApartDockerd if ENGINE == 'dockerd' else Apart)(*options, **how)
        running.append(engine)
        docker = Docker(engine.start(), engines.default_cli(), str(tmp_path))
        docker.ok('load', input=busybox)
        return docker
    yield start
    for engine in running:
        try:
            done = engine.stop_all()
            assert done.returncode == 0, done
        finally:
            engine.leave()
            engine.remove_folder()
