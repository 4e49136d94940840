"""A disk of the daemon's own that a container has filled: what frees it still works."""
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
