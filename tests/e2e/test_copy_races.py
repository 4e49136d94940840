"""A copy into a container is in nobody's way, and two mounts never write to one container's files."""
import io
import os
import subprocess
import tarfile
import threading
import time

import pytest

import engines

pytestmark = [pytest.mark.berth, pytest.mark.skipif(os.environ.get('BERTH_E2E_ISOLATION') == 'vm', reason='a machine that does not run is booted for it')]
IMAGE = 'bb:latest'
PIECE = 256 << 10


def tar_of(files):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode='w') as archive:
        for name, size in files:
            info = tarfile.TarInfo(name)
            info.size = size
            archive.addfile(info, io.BytesIO(b'x' * size))
    return out.getvalue()


class Copy:
    """docker cp - NAME:/ that gets its bytes piece by piece."""

    def __init__(self, docker, name, path='/'):
        self.data = tar_of([('first', 10), ('big', 6 * PIECE), ('last', 10)])
        self.at = 0
        self.process = docker.popen('cp', '-', f'{name}:{path}', stdin=subprocess.PIPE, stderr=subprocess.PIPE)

    def send(self, size):
        piece = self.data[self.at:self.at + size]
        self.at += len(piece)
        self.process.stdin.write(piece)
        self.process.stdin.flush()

    def send_rest(self, pause=0.3):
        while self.at < len(self.data):
            time.sleep(pause)
            self.send(PIECE)
        self.process.stdin.close()

    def end(self):
        if not self.process.stdin.closed:
            self.process.stdin.close()  # the answer comes when its client says something
        said = self.process.stderr.read().decode()
        return self.process.wait(20), said


def writers(engine):
    return [thing for thing in engine.processes() if 'berth-archive put' in thing]


@pytest.fixture
def begun(docker, name):
    """A copy into a container that does not run, whose client says no more."""
    docker.ok('create', '--name', name, IMAGE, 'sleep', '1000')
    copy = Copy(docker, name)
    copy.send(PIECE)
    engines.wait_until(lambda: writers_of(docker), what='a worker')
    yield copy
    copy.process.kill()
    copy.process.wait()


def writers_of(docker):
    """Workers of this daemon, by their parent."""
    listing = subprocess.run(['ps', '-o', 'pid=,args=', '--ppid', str(docker.engine.process.pid)], capture_output=True, text=True).stdout
    return [line.split()[0] for line in listing.splitlines() if 'berth-archive put' in line]


def test_the_container_is_nobodys(docker, begun, name):
    begin = time.monotonic()
    docker.ok('rename', name, name + 'x')
    docker.ok('update', '--pids-limit', '100', name + 'x')
    docker.ok('inspect', name + 'x')
    assert time.monotonic() - begin < 5 * engines.SLOWER and writers_of(docker)
    docker.ok('rm', name + 'x', seconds=10)  # a removal ends it at once
    code, said = begun.end()
    assert code == 1 and not writers_of(docker), said


def test_a_start_does_not_wait_for_a_client_that_says_nothing(docker, begun, name):
    docker.ok('start', name, seconds=15)
    assert not writers_of(docker)
    code, said = begun.end()
    assert code == 1 and 'was ended: somebody starts or removes it' in said, said
    assert docker.ok('exec', name, 'cat', '/first') == 'x' * 10 and docker('exec', name, 'ls', '/last').code != 0


def test_a_start_waits_for_a_copy_that_goes_on(docker, begun, name):
    rest = threading.Thread(target=begun.send_rest)
    rest.start()
    docker.ok('start', name, seconds=20)
    rest.join()
    assert begun.end() == (0, '')
    assert docker.ok('exec', name, 'ls', '/first', '/last').split() == ['/first', '/last']


def test_a_second_copy_waits_for_the_first(docker, begun, name, tmp_path):
    (tmp_path / 'other').write_text('other')
    second = docker.popen('cp', str(tmp_path / 'other'), f'{name}:/other', stderr=subprocess.PIPE)
    begun.send_rest(0.1)
    assert begun.end() == (0, '') and second.wait(20) == 0
    docker.ok('start', name)
    assert docker.ok('exec', name, 'ls', '/other', '/last').split() == ['/last', '/other']


def root_device(pid):
    """Of the file system that the process has as its root."""
    return os.stat(f'/proc/{pid}/root').st_dev


def test_a_copy_of_the_run_before_is_not_one_of_this_run(docker, name):
    """The copy goes through the mount of a run; the next run has another one of the same files, and both would write."""
    docker.ok('run', '-d', '--name', name, IMAGE, 'sleep', '1000')
    copy = Copy(docker, name)
    copy.send(PIECE)
    worker, = engines.wait_until(lambda: writers_of(docker), what='a worker')
    pid = docker.inspect(name)['State']['Pid']
    engines.wait_until(lambda: root_device(worker) == root_device(pid), what='the worker is in the container')
    docker.ok('restart', '-t', '0', name, seconds=20)
    mounts = {root_device(one) for one in [docker.inspect(name)['State']['Pid'], *writers_of(docker)]}
    copy.process.kill()
    copy.process.wait()
    assert len(mounts) == 1


def test_a_killed_daemon_leaves_no_writer(docker, begun, name):
    docker.engine.kill9()
    docker.engine.start()
    docker.engine.restarted = True
    docker.ok('start', name, seconds=20)
    begun.process.kill()
    engines.wait_until(lambda: not writers(docker.engine), what='the worker is gone')
