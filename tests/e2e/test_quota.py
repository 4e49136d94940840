"""--storage-opt size=N: a container writes so much and no more."""
import glob
import subprocess

import pytest

from conftest import Docker
import engines
from engines import wait_until
from test_userns import Remapped

SIZE = ['--storage-opt', 'size=32M']
FILL = 'dd if=/dev/zero of=/big bs=1M count=64 2>&1 | grep -o "No space left on device"; stat -c %s /big'


def loops_of(docker):
    return [name for name in glob.glob('/sys/block/loop*/loop/backing_file') if docker.engine.folder in engines.read(name)]


def size_of(docker, name):
    return int(docker.ok('inspect', '--size', '-f', '{{.SizeRw}}', name))


def no_loops(docker):
    """The last user is the mount namespace of a container that has ended: the kernel comes to it."""
    wait_until(lambda: not loops_of(docker), 60, 'the loop devices go')


@pytest.mark.differs('has quotas on XFS alone')
def test_what_is_written_ends_at_the_size(docker, name):
    said = docker.ok('run', '--name', name, *SIZE, 'bb', 'sh', '-c', f'df -k / | tail -n 1; {FILL}', seconds=120).splitlines()
    assert 20 << 10 < int(said[0].split()[1]) <= 32 << 10
    assert said[1] == 'No space left on device' and 20 << 20 < int(said[2]) < 32 << 20
    assert docker.inspect(name)['HostConfig']['StorageOpt'] == {'size': '32M'}
    docker.ok('rm', name)


@pytest.mark.berth
@pytest.mark.skipif(engines.SLOWER > 1, reason="a machine's disk is another file")
class TestDisk:
    def test_it_is_the_containers_for_its_life(self, docker, name, tmp_path):
        docker.ok('create', '--name', name, *SIZE, 'bb', 'sh', '-c', 'cat /given >>/kept; echo more >>/kept; rm /etc/group; cat /kept')
        (tmp_path / 'given').write_text('given\n')
        docker.ok('cp', str(tmp_path / 'given'), f'{name}:/given')  # before its first start
        assert docker.ok('start', '-a', name).split() == ['given', 'more']
        assert docker.ok('start', '-a', name).split() == ['given', 'more', 'given', 'more'] and len(loops_of(docker)) == 1
        assert docker.ok('diff', name).splitlines() == ['C /etc', 'D /etc/group', 'A /given', 'A /kept']
        docker.ok('cp', f'{name}:/kept', str(tmp_path / 'kept'))
        assert (tmp_path / 'kept').read_text() == 2 * 'given\nmore\n'
        assert size_of(docker, name) < 4096
        docker.ok('commit', name, name + ':1')
        assert docker.ok('run', '--rm', name + ':1', 'tail', '-n', '1', '/kept') == 'more'
        docker.ok('rmi', name + ':1')
        docker.ok('rm', name)
        no_loops(docker)

    def test_a_full_one_is_seen_and_emptied(self, docker, name):
        docker.ok('run', '-d', '--name', name, *SIZE, 'bb', 'sleep', '1000')
        docker('exec', name, 'sh', '-c', FILL)
        shown = size_of(docker, name)
        assert 20 << 20 < shown < 32 << 20
        assert 20 << 20 < int(docker.ok('system', 'df', '-v', '--format', '{{range .Containers}}{{if eq .Names "NAME"}}{{.Size}}{{end}}{{end}}'.replace('NAME', name))
                              .split('MB')[0].split('.')[0]) << 20
        docker.ok('exec', name, 'rm', '/big')
        docker.ok('exec', name, 'sh', '-c', 'echo fits >/small')
        docker.ok('restart', '-t', '0', name)
        assert docker.ok('exec', name, 'cat', '/small') == 'fits'
        docker.ok('rm', '-f', name)
        no_loops(docker)

    def test_with_rm_and_links_in_its_way(self, docker):
        assert docker.ok('run', '--rm', *SIZE, '--read-only', 'bb', 'sh', '-c', 'touch /x 2>/dev/null || echo read-only') == 'read-only'
        assert 'No space' in docker.ok('run', '--rm', *SIZE, 'bb', 'sh', '-c', FILL)
        no_loops(docker)


@pytest.mark.berth
@pytest.mark.skipif(engines.SLOWER > 1, reason='the VM wall needs no user namespaces')
def test_in_a_user_namespace_and_over_a_killed_daemon(busybox, tmp_path):
    engine = Remapped('--userns-remap', 'berthmap')
    docker = Docker(engine.start(), engines.default_cli(), str(tmp_path))
    try:
        docker.ok('load', input=busybox)
        docker.ok('run', '-d', '--name', 'one', *SIZE, 'bb', 'sleep', '1000')
        docker.ok('exec', 'one', 'sh', '-c', 'echo mine >/file; chown 5:6 /file')
        docker.ok('create', '--name', 'two', *SIZE, 'bb', 'sh', '-c', FILL)
        engine.kill9()
        engine.start()
        assert docker.ok('exec', 'one', 'stat', '-c', '%u %g', '/file') == '5 6'
        assert 'No space' in docker.ok('start', '-a', 'two')
        subprocess.run(['sync', '-f', engine.folder], check=True)
    finally:
        assert engine.stop_all().returncode == 0
        left = engine.footprint()
        engine.remove_folder()
    assert not left
    no_loops(docker)
