"""docker volume create, ls, inspect, rm, prune. What containers see of volumes is in test_volumes.py."""
import json
import os
import threading
import time

import pytest

from conftest import Api


pytestmark = pytest.mark.container_only('HostConfig.Binds')


@pytest.fixture
def volume(docker, name):
    yield name
    docker('rm', '-f', name, name + 'c')
    docker('volume', 'rm', '-f', name)


def names(docker, *options):
    return docker.ok('volume', 'ls', '-q', *options).split()


def test_created_listed_inspected_removed(docker, volume):
    assert docker.ok('volume', 'create', '--label', 'color=red', '--label', 'empty', volume) == volume
    seen = json.loads(docker.ok('volume', 'inspect', volume))[0]
    assert seen['Name'] == volume and seen['Driver'] == 'local' and seen['Scope'] == 'local'
    assert seen['Labels'] == {'color': 'red', 'empty': ''} and seen['Mountpoint'].endswith(f'/volumes/{volume}/_data')
    assert seen['CreatedAt'].startswith('20') and '.' not in seen['CreatedAt']
    assert volume in names(docker)
    assert docker.ok('volume', 'rm', volume) == volume
    assert volume not in names(docker) and not os.path.exists(seen['Mountpoint'])
    gone = docker('volume', 'inspect', volume)
    assert gone.code == 1 and 'no such volume' in gone.err.lower()


def test_a_second_create_gives_the_same_one(docker, volume):
    docker.ok('volume', 'create', '--label', 'a=1', volume)
    first = docker.ok('volume', 'inspect', volume)
    docker.ok('volume', 'create', volume)
    assert docker.ok('volume', 'inspect', volume) == first


def test_its_data_stays_for_the_next_container(docker, volume):
    docker.ok('volume', 'create', volume)
    docker.ok('run', '--rm', '-v', f'{volume}:/data', 'bb', 'sh', '-c', 'echo kept >/data/file')
    assert docker.ok('run', '--rm', '-v', f'{volume}:/data', 'bb', 'cat', '/data/file') == 'kept'


def test_without_a_name_it_gets_one(docker):
    made = docker.ok('volume', 'create')
    try:
        assert len(made) == 64 and made in names(docker)
    finally:
        docker.ok('volume', 'rm', made)


@pytest.mark.parametrize('running', [True, False])
def test_what_a_container_has_is_not_removed(docker, volume, running):
    docker.ok(*(['run', '-d'] if running else ['create']), '--name', volume + 'c', '-v', f'{volume}:/data', 'bb', 'sleep', '100')
    for options in ([], ['-f']):
        refused = docker('volume', 'rm', *options, volume)
        assert refused.code == 1 and 'volume is in use' in refused.err
        assert docker.inspect(volume + 'c')['Id'] in refused.err
    docker.ok('rm', '-f', volume + 'c')
    docker.ok('volume', 'rm', volume)


def test_missing_ones(docker, volume):
    refused = docker('volume', 'rm', volume)
    assert refused.code == 1 and 'no such volume' in refused.err.lower()
    docker.ok('volume', 'rm', '-f', volume)


@pytest.mark.parametrize('options, says', [
    (['bad/name'], 'includes invalid characters'),
    (['-d', 'nfs', 'some'], '"nfs" not found'),
    (['-o', 'type=tmpfs', 'some'], 'missing required option: "device"'),
])
@pytest.mark.berth
def test_what_is_refused(docker, options, says):
    refused = docker('volume', 'create', *options)
    assert refused.code == 1 and says in refused.err and len(refused.err.strip().splitlines()) == 1


@pytest.mark.differs('writes it with a capital')
def test_filters(docker, volume):
    docker.ok('volume', 'create', '--label', 'color=red', volume)
    docker.ok('create', '--name', volume + 'c', '-v', f'{volume}x:/data', 'bb', 'true')
    try:
        assert names(docker, '-f', f'name={volume}') == sorted([volume, volume + 'x'])
        assert names(docker, '-f', f'name={volume}$') == [volume]
        assert names(docker, '-f', f'name={volume}', '-f', 'label=color=red') == [volume]
        assert names(docker, '-f', f'name={volume}', '-f', 'label=color=blue') == []
        assert names(docker, '-f', f'name={volume}', '-f', 'dangling=true') == [volume]
        assert names(docker, '-f', f'name={volume}', '-f', 'dangling=false') == [volume + 'x']
        assert names(docker, '-f', f'name={volume}', '-f', 'driver=other') == []
    finally:
        docker('rm', '-f', volume + 'c')
        docker.ok('volume', 'rm', volume + 'x')
    bad = docker('volume', 'ls', '-f', 'colour=red')
    assert bad.code == 1 and 'invalid filter' in bad.err


def test_prune_takes_the_anonymous_ones_alone(docker, volume):
    docker.needs((1, 42), 'means all unused volumes')
    docker.ok('volume', 'create', volume)
    docker.ok('run', '--name', volume + 'c', '-v', '/data', 'bb', 'sh', '-c', 'dd if=/dev/zero of=/data/x bs=64k count=16 2>/dev/null')
    anonymous = docker.inspect(volume + 'c')['Mounts'][0]['Name']
    assert anonymous not in docker.ok('volume', 'prune', '-f')
    docker.ok('rm', volume + 'c')
    said = docker.ok('volume', 'prune', '-f')
    assert anonymous in said and volume not in said.split() and '1.0' in said.splitlines()[-1] and 'MB' in said
    assert volume in names(docker)


def test_prune_all_by_label(docker, volume):
    docker.needs((1, 42), 'has no --all')
    docker.ok('volume', 'create', '--label', f'mine={volume}', volume)
    assert volume not in docker.ok('volume', 'prune', '-f', '-a', '--filter', f'label!=mine={volume}', '--filter', f'label=mine={volume}')
    assert volume in docker.ok('volume', 'prune', '-f', '-a', '--filter', f'label=mine={volume}')
    assert volume not in names(docker)


@pytest.mark.differs('prunes the anonymous ones alone')
def test_old_clients_prune_named_ones_too(docker, api, volume):
    docker.ok('volume', 'create', '--label', f'mine={volume}', volume)
    wanted = '%7B%22label%22%3A%5B%22mine%3D' + volume + '%22%5D%7D'
    assert not api.post(f'/v1.42/volumes/prune?filters={wanted}').json['VolumesDeleted']
    assert api.post(f'/v1.41/volumes/prune?filters={wanted}').json['VolumesDeleted'] == [volume]


def test_events(docker, api, volume):
    since = int(time.time())
    docker.ok('volume', 'create', volume)
    docker.ok('volume', 'rm', volume)
    seen = docker.ok('events', '--since', str(since), '--until', str(int(time.time()) + 1), '--filter', f'volume={volume}', '--format', '{{.Action}}')
    assert seen.split() == ['create', 'destroy']


@pytest.mark.berth
def test_labels_outlive_the_daemon(docker, engine, volume):
    docker.ok('volume', 'create', '--label', 'color=red', volume)
    before = docker.ok('volume', 'inspect', volume)
    engine.kill9()
    engine.start()
    engine.restarted = True
    assert docker.ok('volume', 'inspect', volume) == before


def test_containers_and_removals_at_the_same_time(docker, api, volume):
    """Either the container has its volume, or the removal had it: never a container without."""
    outcomes = []

    def create():
        for i in range(12):
            answer = Api(docker.engine).post('/containers/create', {'Image': 'bb', 'Cmd': ['true'], 'HostConfig': {'Binds': [f'{volume}:/data']}})
            outcomes.append((answer.status, answer.json.get('Id')))

    def remove():
        for i in range(60):
            assert Api(docker.engine).delete(f'/volumes/{volume}').status in (204, 404, 409)

    threads = [threading.Thread(target=job) for job in (create, remove)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    made = [id for status, id in outcomes if status == 201]
    assert made
    for id in made:
        assert docker.ok('start', '-a', id) == ''
        docker.ok('rm', id)
