"""docker container, image and network prune. Volumes' is in test_volume_api.py."""
import json
import time

import pytest

import images


@pytest.fixture
def label(docker, name):
    yield f'mine={name}'
    for image in docker.ok('images', '-q', '--filter', f'label=mine={name}').split():
        docker('rmi', '-f', image)


def make_image(docker, label, tag):
    """A small image with a label, and with a layer of its own."""
    layer = images.tar([images.entry('own', data=label.encode() + (tag or '').encode() + b'x' * 100000)])
    archive, image_id = images.docker_archive(tag, [images.busybox_root(), layer], Labels=dict([label.split('=')]))
    docker.ok('load', input=archive)
    return image_id


def test_stopped_containers_go(docker, name, label):
    docker.ok('run', '--name', name + '1', '--label', label, 'bb', 'sh', '-c', 'dd if=/dev/zero of=/x bs=64k count=16 2>/dev/null')
    docker.ok('create', '--name', name + '2', '--label', label, 'bb', 'true')
    docker.ok('run', '-d', '--name', name, '--label', label, 'bb', 'sleep', '100')
    ids = [docker.inspect(name + end)['Id'] for end in '12']
    said = docker.ok('container', 'prune', '-f', '--filter', f'label={label}')
    assert all(one in said for one in ids) and docker.inspect(name)['Id'] not in said
    assert docker.ok('ps', '-aq', '--filter', f'label={label}', '--no-trunc').split() == [docker.inspect(name)['Id']]
    assert docker.ok('container', 'prune', '-f', '--filter', f'label={label}') == 'Total reclaimed space: 0B'


def test_filters_of_containers(docker, name, label):
    docker.ok('create', '--name', name, '--label', label, 'bb', 'true')
    for spares in (['label=none'], [f'label!={label}', f'label={label}'], ['until=24h', f'label={label}'],
                   ['until=2020-01-01T00:00:00Z', f'label={label}'], ['until=1577836800', f'label={label}']):
        docker.ok('container', 'prune', '-f', *(word for one in spares for word in ('--filter', one)))
        docker.inspect(name)
    time.sleep(2.1)
    assert docker.inspect(name)['Id'] in docker.ok('container', 'prune', '-f', '--filter', 'until=1s', '--filter', f'label={label}')


@pytest.mark.parametrize('words, says', [
    pytest.param('until=soon', 'failed to parse value as time or duration: "soon"', marks=pytest.mark.differs('has other words')),
    pytest.param('colour=red', 'invalid filter', marks=pytest.mark.differs('has other words')), ('until=5', None)])
def test_filters_that_are_none(docker, words, says):
    done = docker('container', 'prune', '-f', '--filter', words)
    assert (done.code != 0 and says in done.err) if says else done.code == 0


def test_images_without_a_name_go(docker, name, label):
    lost = make_image(docker, label, f'{name}:1')
    make_image(docker, label, f'{name}:2')
    docker.ok('tag', f'{name}:2', f'{name}:1')
    said = docker.ok('image', 'prune', '-f', '--filter', f'label={label}')
    assert f'deleted: {lost}' in said.lower() and said.splitlines()[-1].startswith('Total reclaimed space: 10')
    assert docker('image', 'inspect', lost).code != 0
    assert docker.ok('images', '-q', '--filter', f'label={label}') != ''


def test_images_that_no_container_has_go_with_all(docker, name, label):
    make_image(docker, label, f'{name}:used')
    unused = make_image(docker, label, f'{name}:unused')
    docker.ok('tag', f'{name}:unused', f'{name}:again')
    docker.ok('create', '--name', name, f'{name}:used', 'true')
    said = docker.ok('image', 'prune', '-a', '-f', '--filter', f'label={label}')
    assert f'deleted: {unused}' in said.lower() and f'{name}:again' in said and f'{name}:used' not in said
    assert docker.ok('images', '--format', '{{.Tag}}', '--filter', f'label={label}') == 'used'
    docker.ok('rm', name)


@pytest.mark.berth
def test_no_network_is_pruned(docker):
    assert docker.ok('network', 'prune', '-f') == ''
    assert {'bridge', 'none'} <= set(docker.ok('network', 'ls', '--format', '{{.Name}}').split())


def test_events(docker, label):
    since = str(int(time.time()))
    docker.ok('container', 'prune', '-f', '--filter', f'label={label}')
    seen = docker.ok('events', '--since', since, '--until', str(int(time.time()) + 1), '--filter', 'event=prune',
                     '--format', '{{.Type}} {{.Actor.Attributes.reclaimed}}')
    assert 'container 0' in seen.splitlines()


def usage(docker):
    return {row['Type']: row for row in map(json.loads, docker.ok('system', 'df', '--format', '{{json .}}').splitlines())}


def test_disk_usage_counts_each_layer_once(docker, name, label):
    make_image(docker, label, f'{name}:1')
    before = usage(docker)
    docker.ok('tag', f'{name}:1', f'{name}:again')
    assert usage(docker)['Images']['Size'] == before['Images']['Size']
    docker.ok('run', '--name', name, f'{name}:1', 'sh', '-c', 'dd if=/dev/zero of=/x bs=64k count=16 2>/dev/null')
    after = usage(docker)
    assert int(after['Images']['Active']) >= 1 and int(after['Containers']['TotalCount']) == int(before['Containers']['TotalCount']) + 1
    docker.ok('rm', name)


@pytest.mark.berth
def test_system_prune_asks_for_all_that_there_is(docker, name):
    docker.ok('create', '--name', name, 'bb', 'true')
    said = docker.ok('system', 'prune', '-f')
    assert 'Total reclaimed space' in said and docker('inspect', name).code != 0
