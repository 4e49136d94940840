"""`make install`: what it leaves works on its own; and a host that lacks what a guest needs is told so."""
import os
import shutil
import subprocess

import pytest

import engines
import images
from conftest import Docker

pytestmark = pytest.mark.berth


class Elsewhere(engines.Berth):
    """A daemon of other programs, or with another PATH."""

    def __init__(self, programs=engines.BIN, path=None, *options):
        super().__init__()
        self.programs, self.path, self.options = programs, path, options

    def command(self):
        return [os.path.join(self.programs, 'berthd'), *super().command()[1:], *self.options]

    def environment(self):
        return {**os.environ, **({'PATH': self.path} if self.path else {})}


@pytest.fixture
def elsewhere(tmp_path):
    """elsewhere(...): a client of such a daemon, with the tiny image."""
    started = []

    def start(*arguments):
        engine = Elsewhere(*arguments)
        started.append(engine)
        client = Docker(engine.start(), engines.default_cli(), str(tmp_path))
        client.ok('load', input=images.docker_archive('bb', [images.busybox_root()])[0])
        return client
    yield start
    for engine in started:
        assert engine.stop_all().returncode == 0
        engine.remove_folder()


def install(target):
    return subprocess.run([os.path.join(engines.ROOT, 'tools/install'), str(target)], capture_output=True, text=True, check=True)


def test_an_installed_engine_runs_both_walls(elsewhere, tmp_path):
    if not os.path.exists(os.path.join(engines.ROOT, 'build/guest/initramfs')):
        pytest.skip('no guest was made: make guest')
    install(tmp_path / 'usr')
    programs = tmp_path / 'usr/bin'
    assert 'berth-guest' not in os.listdir(programs) and 'berth-shim' in os.listdir(programs)
    assert (tmp_path / 'usr/share/man/man1/berth.1').read_text().startswith('.TH BERTH 1')
    unit = (tmp_path / 'usr/lib/systemd/system/berthd.service').read_text()
    assert f'ExecStart={programs}/berthd -H fd://\n' in unit and '@' not in unit
    assert 'complete -F' in (tmp_path / 'usr/share/bash-completion/completions/berth').read_text()
    docker = elsewhere(str(programs))
    assert docker.ok('run', '--rm', '--isolation', 'container', '--network', 'none', 'bb', 'echo', 'hello') == 'hello'
    assert 'no guest kernel' not in docker.ok('info')
    docker.ok('create', '--isolation', 'vm', 'bb', 'true')
    shutil.rmtree(tmp_path / 'usr/lib')
    refused = docker('create', '--isolation', 'vm', 'bb', 'true')
    assert refused.code == 1 and 'no guest kernel' in refused.err and '/lib/berth/guest' in refused.err


@pytest.mark.parametrize('program, package', [('mke2fs', 'e2fsprogs'), ('qemu-system-x86_64', 'qemu-system-x86')])
def test_what_a_guest_needs_is_missing(elsewhere, tmp_path, program, package):
    folder = tmp_path / 'path'
    folder.mkdir()
    for place in ('/usr/sbin', '/usr/bin'):
        for name in os.listdir(place):
            if name != program and not (folder / name).is_symlink():
                (folder / name).symlink_to(os.path.join(place, name))
    docker = elsewhere(engines.BIN, str(folder), '--accel', 'tcg')
    refused = docker('run', '--rm', '--isolation', 'vm', 'bb', 'true')
    lines = [line for line in refused.err.splitlines() if 'Error response' in line]
    assert refused.code == 125 and len(lines) == 1
    assert f'{program} is not in PATH (package {package})' in lines[0]
    assert docker.ok('ps', '-aq') == ''
    assert f'{program} is not in PATH' in docker('info').err + docker('info').out
    assert docker.ok('run', '--rm', '--isolation', 'container', '--network', 'none', 'bb', 'echo', 'hello') == 'hello'
