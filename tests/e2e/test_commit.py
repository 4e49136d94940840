"""docker commit: a container as an image, and what can be done with that."""
import io
import json
import os
import subprocess
import tarfile
import time
import urllib.parse

import pytest

import engines
import images
from test_pull import clean, registry  # noqa: F401  fixtures

pytestmark = pytest.mark.skipif(os.environ.get('BERTH_E2E_ISOLATION') == 'vm', reason='a microVM is not committed yet')


@pytest.fixture
def image(docker, name):
    """A name for the image, which goes at the end."""
    yield f'{name}:1'
    docker('rmi', '-f', f'{name}:1')


@pytest.fixture
def done(docker, name):
    """A container that has changed something and ended."""
    docker.ok('run', '--name', name, '-e', 'A=own', '-v', '/vol', 'bb', 'sh', '-c',
              'rm /etc/group; echo new >/new; rm -r /var/www; mkdir /var/www; touch /var/www/b; chmod 700 /tmp; ln /new /same; '
              'chown 1000 /new; touch /vol/x')
    return name


def commit(api, container, **query):
    changes = ''.join('&changes=' + urllib.parse.quote(change) for change in query.pop('changes', []))
    return api.post('/commit?' + urllib.parse.urlencode({'container': container, **query}) + changes)


def layer_of(docker, image):
    """The topmost layer's tar, as `save` gives it."""
    saved = subprocess.run(docker.command('save', image), capture_output=True, env=docker.environment()).stdout
    with tarfile.open(fileobj=io.BytesIO(saved)) as archive:
        last = json.load(archive.extractfile('manifest.json'))[0]['Layers'][-1]
        return archive.extractfile(last).read()


def test_commit_keeps_what_was_written(docker, done, image):
    identity = docker.ok('commit', done, image)
    assert identity.startswith('sha256:') and docker.inspect(image)['Id'] == identity
    out = docker.ok('run', '--rm', image, 'sh', '-c', 'cat /new; ls /etc/group; ls /var/www; stat -c "%a" /tmp; stat -c "%h %u" /new; ls /vol; true')
    assert out.splitlines() == ['new', 'b', '700', '2 1000']


def test_what_was_deleted_stays_away(docker, done, image):
    docker.ok('commit', done, image)
    assert docker('run', '--rm', image, 'ls', '/etc/group').code == 1
    assert docker('run', '--rm', image, 'ls', '/var/www/index.html').code == 1


def test_a_second_commit_on_the_first(docker, done, image):
    docker.ok('commit', done, image)
    docker.ok('run', '--name', done + 'b', image, 'sh', '-c', 'echo more >>/new; rm /var/www/b')
    docker.ok('commit', '-m', 'the second', done + 'b', done + ':2')
    assert docker.ok('run', '--rm', done + ':2', 'cat', '/new') == 'new\nmore'
    assert docker.ok('run', '--rm', done + ':2', 'ls', '/var/www') == ''
    steps = [json.loads(line) for line in docker.ok('history', '--no-trunc', '--format', '{{json .}}', done + ':2').splitlines()]
    assert [step['Comment'] for step in steps] == ['the second', '', ''] and len(docker.inspect(done + ':2')['RootFS']['Layers']) == 3
    assert steps[1]['ID'] == docker.inspect(image)['Id'] and docker.inspect(done + ':2')['Parent'] == steps[1]['ID']
    assert steps[0]['CreatedBy'].startswith('sh -c echo more')
    docker.ok('rm', done + 'b')
    docker.ok('rmi', done + ':2')


def test_author_message_and_parent(docker, api, done, image):
    docker.ok('commit', '-a', 'Me <me@example>', '-m', 'a message', done, image)
    made, base = docker.inspect(image), docker.inspect('bb')
    assert (made['Author'], made['Comment'], made['Parent']) == ('Me <me@example>', 'a message', base['Id'])
    assert made['RootFS']['Layers'][:-1] == base['RootFS']['Layers'] and made['Size'] == base['Size'] + 4
    assert 'A=own' in made['Config']['Env']
    assert made['Config']['Volumes'] == {'/vol': {}} and made['Config']['Cmd'][0] == 'sh'
    step = api.get(f'/images/{image}/history').json[0]
    assert step['Comment'] == 'a message' and step['CreatedBy'].startswith('sh -c rm /etc/group') and step['Size'] == 4


def test_changes(docker, done, image):
    docker.ok('commit', '-c', 'CMD ["cat", "/new"]', '-c', 'ENV B=two', '-c', 'LABEL a=b', '-c', 'EXPOSE 80', '-c', 'WORKDIR /etc',
              '-c', 'USER 1000', '-c', 'VOLUME /data', '-c', 'HEALTHCHECK NONE', '-c', 'ONBUILD RUN true', done, image)
    config = docker.inspect(image)['Config']
    assert config['Cmd'] == ['cat', '/new'] and 'B=two' in config['Env'] and config['Labels'] == {'a': 'b'}
    assert '80/tcp' in config['ExposedPorts'] and config['WorkingDir'] == '/etc' and config['User'] == '1000'
    assert set(config['Volumes']) == {'/vol', '/data'} and config['Healthcheck']['Test'] == ['NONE'] and config['OnBuild'] == ['RUN true']
    assert docker.ok('run', '--rm', image) == 'new'


def test_an_entrypoint_takes_the_command_away(docker, done, image):
    docker.ok('commit', '-c', 'ENTRYPOINT ["echo"]', done, image)
    config = docker.inspect(image)['Config']
    assert config['Entrypoint'] == ['echo'] and not config['Cmd']
    docker.ok('commit', '-c', 'CMD ["x"]', '-c', 'ENTRYPOINT ["echo"]', done, image)
    assert docker.ok('run', '--rm', image) == 'x'


def test_the_clients_configuration_comes_first(api, docker, done, image):
    repository, tag = image.split(':')
    answer = api.post(f'/commit?container={done}&repo={repository}&tag={tag}', {'Cmd': ['cat', '/new'], 'Env': ['C=3'], 'Labels': {'x': 'y'}})
    assert answer.status == 201
    config = docker.inspect(image)['Config']
    assert config['Cmd'] == ['cat', '/new'] and {'C=3', 'A=own'} <= set(config['Env']) and config['Labels'] == {'x': 'y'}


def test_the_layer_is_what_changed_and_nothing_else(docker, done, image):
    docker.ok('commit', done, image)
    with tarfile.open(fileobj=io.BytesIO(layer_of(docker, image))) as layer:
        found = {member.name: member for member in layer.getmembers()}
    expected = {'etc', 'etc/.wh.group', 'new', 'same', 'tmp', 'var', 'var/www', 'var/www/b', 'vol'}
    assert expected <= set(found) and set(found) - expected <= {'var/www/.wh..wh..opq', 'var/www/.wh.index.html'}
    assert found['same'].islnk() and found['new'].uid == 1000 and found['tmp'].mode & 0o7777 == 0o700


def test_the_same_container_is_the_same_layer(docker, done, image):
    docker.ok('commit', done, image)
    first = docker.inspect(image)['RootFS']['Layers']
    time.sleep(1.1)
    docker.ok('commit', done, image)
    assert docker.inspect(image)['RootFS']['Layers'] == first


def test_nothing_written_is_no_layer(docker, name, image):
    docker.ok('run', '--name', name, 'bb', 'true')
    docker.ok('commit', '-m', 'nothing', name, image)
    made = docker.inspect(image)
    assert made['RootFS']['Layers'] == docker.inspect('bb')['RootFS']['Layers'] and docker.ok('run', '--rm', image, 'echo', 'runs') == 'runs'


def test_a_running_container_pauses_and_goes_on(docker, name, image):
    docker.ok('run', '-d', '--name', name, 'bb', 'sh', '-c', 'echo x >/x; echo up; sleep 1000')
    engines.is_up(docker, name)
    began = f'{time.time():.6f}'
    docker.ok('commit', name, image)
    seen = docker.ok('events', '--since', began, '--until', f'{time.time():.6f}', '--filter', f'container={name}', '--filter', 'type=container', '--format', '{{.Action}}')
    assert seen.splitlines() == ['pause', 'commit', 'unpause'] or seen.splitlines() == ['pause', 'unpause', 'commit']
    assert docker.inspect(name)['State']['Status'] == 'running' and docker.ok('run', '--rm', image, 'cat', '/x') == 'x'
    began = f'{time.time():.6f}'
    docker.ok('commit', '--pause=false', name, image)
    seen = docker.ok('events', '--since', began, '--until', f'{time.time():.6f}', '--filter', f'container={name}', '--filter', 'type=container', '--format', '{{.Action}}')
    assert seen == 'commit'


def test_the_event_says_what_was_made(docker, name, image):
    docker.ok('create', '--name', name, 'bb')
    began = f'{time.time():.6f}'
    identity = docker.ok('commit', '-m', 'words', name, image)
    seen = docker.ok('events', '--since', began, '--until', f'{time.time():.6f}', '--format', '{{json .}}').splitlines()
    events = {(event['Type'], event['Action']): event['Actor']['Attributes'] for event in map(json.loads, seen)}
    assert events['container', 'commit'].items() >= {'comment': 'words', 'imageID': identity, 'imageRef': image}.items()
    assert events['image', 'tag']['name'] == image


@pytest.mark.differs('says it in other words')
def test_bad_wishes(docker, api, name):
    docker.ok('create', '--name', name, 'bb')
    cases = [(commit(api, 'nosuch'), 404, 'No such container: nosuch'), (commit(api, name, repo='UPPER'), None, 'must be lowercase'),
             (commit(api, name, changes=['RUN true']), 400, 'is not a valid change command'),
             (commit(api, name, repo='a', tag='b:c'), None, 'invalid tag format')]
    for answer, status, message in cases:
        assert answer.status == (status or answer.status) and answer.status >= 400 and message in answer.message
    before = docker.ok('images', '-aq')
    assert docker('commit', '-c', 'FROM x', name).code == 1 and docker.ok('images', '-aq') == before


def test_a_committed_image_is_saved_and_loaded(docker, done, image):
    identity = docker.ok('commit', done, image)
    saved = subprocess.run(docker.command('save', image), capture_output=True, env=docker.environment()).stdout
    docker.ok('rmi', image)
    docker.ok('load', input=saved)
    assert docker.inspect(image)['Id'] == identity and docker.ok('run', '--rm', image, 'cat', '/new') == 'new'


def test_the_image_outlives_its_container_and_its_parent(docker, name, image):
    docker.ok('load', input=images.docker_archive(f'{name}:base', [images.busybox_root()])[0])
    docker.ok('run', '--name', name, f'{name}:base', 'sh', '-c', 'echo kept >/kept')
    docker.ok('commit', name, image)
    docker.ok('rm', name)
    docker.ok('rmi', f'{name}:base')
    assert docker.ok('run', '--rm', image, 'cat', '/kept') == 'kept'


@pytest.mark.berth
def test_a_committed_image_runs_behind_the_other_wall(docker, name, image):
    docker.ok('run', '--name', name, 'bb', 'sh', '-c', 'echo for a machine >/file; rm /etc/group')
    docker.ok('commit', name, image)
    out = docker.ok('run', '--rm', '--isolation', 'vm', '--network', 'none', image, 'sh', '-c', 'cat /file; ls /etc/group; true')
    assert out == 'for a machine'


@pytest.mark.berth
@pytest.mark.usefixtures('clean')
def test_a_committed_image_is_pushed_and_pulled(docker, registry, done):
    name = f'{registry.address}/made:1'
    identity = docker.ok('commit', done, name)
    docker.ok('push', name)
    docker.ok('rmi', name)
    docker.ok('pull', name)
    assert docker.inspect(name)['Id'] == identity and docker.ok('run', '--rm', name, 'cat', '/new') == 'new'
    docker.ok('rmi', name)
