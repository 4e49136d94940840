"""A disk of the daemon's own that a container has filled: what frees it still works."""
import os

import pytest

import engines
from conftest import Docker

pytestmark = [pytest.mark.berth, pytest.mark.container_only('HostConfig.Mounts')]


@pytest.fixture
def small(busybox, tmp_path):
    with engines.on_a_small_disk('32m') as engine:
        docker = Docker(engine, engines.default_cli(), str(tmp_path))
        docker.ok('load', input=busybox)
        yield docker


def test_what_filled_it_is_removed(small, name):
    for turn in range(2):
        full = small('run', '--name', name, '--network', 'none', 'bb', 'sh', '-c', 'cat /dev/zero >/f')
        assert full.code == 1 and 'No space left on device' in full.err
        assert small('run', '--network', 'none', 'bb', 'true').code != 0  # it is full for everybody
        for one in small.ok('ps', '-aq').split():
            small.ok('rm', '-f', one)
        assert small.ok('run', '--rm', '--network', 'none', 'bb', 'echo', str(turn)) == str(turn)


def fill(docker):
    """To the last byte, behind the daemon's back, and until it has none left that it took before."""
    with open(docker.engine.data + '/filling', 'ab', buffering=0) as out:
        try:
            while True:
                out.write(bytes(4096))
        except OSError:
            pass
    return any(docker('volume', 'create', f'never{number}').code for number in range(300))


LONG = pytest.mark.skipif(not os.environ.get('BERTH_E2E_LONG'), reason='as the others: make check-full does it')


@pytest.mark.parametrize('words', [
    ['rmi', '-f', 'bb'], ['volume', 'rm', 'kept'], ['network', 'rm', 'own'], ['builder', 'prune', '-af'],
    *[pytest.param(words, marks=LONG) for words in (['rmi', 'bb:2'], ['image', 'prune', '-af'], ['volume', 'prune', '-af'], ['network', 'prune', '-f'],
                                                    ['container', 'prune', '-f'], ['system', 'prune', '-af'])],
], ids=' '.join)
def test_what_frees_some_of_it_works(small, words, tmp_path):
    docker = small
    (tmp_path / 'Dockerfile').write_text('FROM bb\nRUN echo built >/built\n')
    docker.ok('build', '-t', 'built', str(tmp_path))
    docker.ok('tag', 'bb', 'bb:2')
    docker.ok('volume', 'create', 'kept')
    docker.ok('network', 'create', 'own')
    docker.ok('create', '--name', 'ended', 'bb', 'true')
    if words[0] in ('rmi', 'image', 'builder'):
        docker.ok('rm', 'ended')
    assert fill(docker)
    before = docker.ok('system', 'df')
    docker.ok(*words)
    assert docker.ok('system', 'df') != before or words[0] in ('network', 'rmi')
    os.unlink(docker.engine.data + '/filling')
    docker.ok('volume', 'create', 'again')
