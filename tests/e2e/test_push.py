"""docker push: what a registry has is not sent again, and what comes back is the same image."""
import gzip
import json
import os
import random
import subprocess
import time

import pytest

import engines
import images
import registries
from conftest import Docker
from images import entry, folder, tar
from test_pull import berth_registry, clean, ids, layers, real, registry  # noqa: F401  fixtures

pytestmark = pytest.mark.usefixtures('clean')


@pytest.mark.berth
def test_to_another_repository(docker, registry, layers):
    manifest, image, blobs = registry.add_image('team/app', '1', layers)
    name, other = f'{registry.address}/team/app:1', f'{registry.address}/other/app:2'
    docker.ok('pull', name)
    docker.ok('tag', name, other)
    missing = dict(registry.blobs)
    registry.fault('/v2/other/app/blobs/sha256', lambda request: request.refuse(404, 'BLOB_UNKNOWN'), 4)
    out = docker.ok('push', other)
    assert out.startswith(f'The push refers to repository [{registry.address}/other/app]')
    assert out.count('Mounted from team/app') == 2 and 'Pushed' not in out
    assert f'2: digest: {manifest} size: ' in out
    assert registry.manifests['other/app', '2'] == registry.manifests['team/app', '1']
    assert registry.blobs == missing
    assert f'{registry.address}/other/app@{manifest}' in docker.inspect(image)['RepoDigests']
    registry.faults.clear()
    assert docker.ok('push', other).count('Layer already exists') == 2


@pytest.mark.berth
def test_the_same_bytes_come_back(docker, registry, layers):
    """OCI or Docker, spaced or not: an unchanged image keeps its digest."""
    for form in ('oci', 'docker'):
        manifest, image, _ = registry.add_image('app', form, layers, form)
        docker.ok('pull', f'{registry.address}/app:{form}')
        docker.ok('tag', f'{registry.address}/app:{form}', f'{registry.address}/copy:{form}')
        assert f'{form}: digest: {manifest} ' in docker.ok('push', f'{registry.address}/copy:{form}')
        docker.ok('rmi', '-f', image)


def test_what_was_loaded(docker, registry, layers):
    """No registry knows its layers: their exact tars are made again."""
    archive, image = images.docker_archive('loaded:1', layers)
    docker.ok('load', input=archive)
    name = f'{registry.address}/loaded:1'
    docker.ok('tag', 'loaded:1', name)
    assert docker.ok('push', name).count(': Pushed') == 2
    manifest = json.loads(registry.manifests['loaded', '1'][1])
    assert manifest['config']['digest'] == image
    assert [gzip.decompress(registry.blobs[layer['digest']]) for layer in manifest['layers']] == layers
    assert all(layer['size'] == len(registry.blobs[layer['digest']]) for layer in manifest['layers'])
    assert docker.ok('push', name).count('Layer already exists') == 2
    docker.ok('rmi', '-f', image)
    docker.ok('pull', name)
    assert docker.ok('run', '--rm', name, 'cat', '/etc/motd') == 'second layer' and docker.inspect(name)['Id'] == image


def test_to_a_real_registry_and_back(docker, real, tmp_path):
    """Chunks of a large layer; skopeo finds every digest right."""
    layer = tar([entry('random', data=os.urandom(20 << 20)), entry('zeros', data=b'\0' * (4 << 20))])
    archive, image = images.docker_archive('large:1', [layer])
    docker.ok('load', input=archive)
    name = f'{real}/large:1'
    docker.ok('tag', 'large:1', name)
    docker.ok('push', name)
    subprocess.run(['skopeo', 'copy', '-q', '--src-tls-verify=false', f'docker://{name}', f'dir:{tmp_path}/copy'], check=True)
    manifest = json.loads((tmp_path / 'copy/manifest.json').read_text())
    assert manifest['config']['digest'] == image
    assert gzip.decompress((tmp_path / 'copy' / manifest['layers'][0]['digest'][7:]).read_bytes()) == layer


@pytest.mark.berth
def test_broken_uploads(docker, registry, layers):
    archive, _ = images.docker_archive('loaded:1', layers)
    docker.ok('load', input=archive)
    name = f'{registry.address}/loaded:1'
    docker.ok('tag', 'loaded:1', name)
    registry.fault('/blobs/uploads/[0-9]', registries.html(413))
    result = docker('push', name)
    assert result.code == 1 and 'answered 413 with text/html' in result.err, result
    assert not registry.manifests
    # A chunk that did not come, one whose answer was lost, and an end whose answer was lost.
    for fault in (registries.reset, registries.done_then_reset):
        registry.blobs.clear()
        registry.fault('/blobs/uploads/[0-9]', fault)
        docker.ok('push', name)
    registry.blobs.clear()
    registry.fault('state=2', registries.done_then_reset)
    docker.ok('push', name)
    manifest = json.loads(registry.manifests['loaded', '1'][1])
    assert [gzip.decompress(registry.blobs[layer['digest']]) for layer in manifest['layers']] == layers


def test_all_tags(docker, registry, layers):
    registry.add_image('app', '1', layers)
    name = f'{registry.address}/copy'
    docker.ok('pull', f'{registry.address}/app:1')
    for tag in ('a', 'b'):
        docker.ok('tag', f'{registry.address}/app:1', f'{name}:{tag}')
    docker.ok('push', '--all-tags', name)
    assert registry.manifests['copy', 'a'] == registry.manifests['copy', 'b']


def test_what_is_not_there(docker, registry):
    result = docker('push', f'{registry.address}/nosuch:1')
    assert result.code == 1 and 'An image does not exist locally with the tag: ' in result.err


@pytest.mark.parametrize('kind', ['basic', 'bearer'])
def test_login(docker, layers, kind, tmp_path):
    registry = registries.Registry((kind, 'anna', 'secret'))
    registry.add_image('app', '1', layers)
    config = ('--config', str(tmp_path))
    try:
        docker.ok(*config, 'login', '-u', 'anna', '--password-stdin', registry.address, input='secret')
        docker.ok(*config, 'pull', f'{registry.address}/app:1')
        docker.ok('tag', f'{registry.address}/app:1', f'{registry.address}/copy:1')
        assert docker('push', f'{registry.address}/copy:1').code == 1
        docker.ok(*config, 'push', f'{registry.address}/copy:1')
        assert ('copy', '1') in registry.manifests
        if kind == 'bearer':
            assert any('repository:copy:pull,push' in scope or 'repository:copy:push,pull' in scope for scope in registry.scopes)
    finally:
        registry.close()


@pytest.mark.differs_today('lets the client ask for a login', alone=True)
def test_tokens_that_berth_registry_issues(docker, layers, tmp_path):
    salted = subprocess.run(['perl', '-e', 'print crypt("secret", q($2b$05$abcdefghijklmnopqrstuu))'], capture_output=True, text=True, check=True).stdout
    (tmp_path / 'users').write_text(f'anna:{salted}\n')
    config = ['--config', str(tmp_path / 'docker')]
    docker.ok('load', input=images.docker_archive('tokens:1', layers)[0])
    with berth_registry(tmp_path, '--htpasswd', str(tmp_path / 'users'), '--token') as address:
        login = [*config, 'login', '-u', 'anna', '--password-stdin', address]
        app, copy = f'{address}/team/app:1', f'{address}/other/copy:1'
        for name in (app, copy):
            docker.ok('tag', 'tokens:1', name)
        assert docker(*config, 'push', app).code == 1
        assert docker(*login, input='wrong').code == 1
        docker.ok(*login, input='secret')
        docker.ok(*config, 'push', app)
        assert 'Mounted from team/app' in docker.ok(*config, 'push', copy)
        docker.ok('rmi', app, copy, 'tokens:1')
        assert docker('pull', app).code == 1  # without the configuration that has the login
        docker.ok(*config, 'pull', copy)
        docker.ok('rmi', copy)


@pytest.mark.berth
def test_registry_errors(docker, registry, layers):
    _, image, blobs = registry.add_image('app', '1', layers)
    docker.ok('pull', f'{registry.address}/app:1')
    docker.ok('tag', f'{registry.address}/app:1', f'{registry.address}/copy:1')
    registry.fault('/v2/copy/', registries.status(503), 2)
    docker.ok('push', f'{registry.address}/copy:1')
    registry.fault('/v2/copy/manifests', lambda request: request.refuse(403, 'DENIED', 'read only'), 1)
    result = docker('push', f'{registry.address}/copy:1')
    assert result.code == 1 and 'put manifest: denied: read only' in result.err, result
    registry.fault('/v2/copy/', registries.html(500), 100)
    result = docker('push', f'{registry.address}/copy:1')
    assert result.code == 1 and 'answered 500 with text/html' in result.err, result


@pytest.mark.parametrize('path', ['app', 'deep/app'])
def test_a_pull_and_a_push_are_told_by_their_reference(docker, registry, layers, path):
    registry.add_image(path, '1', layers)
    name, began = f'{registry.address}/{path}', f'{time.time():.9f}'
    docker.ok('pull', f'{name}:1')
    docker.ok('tag', f'{name}:1', f'{name}:2')
    docker.ok('push', f'{name}:2')
    told = docker.ok('events', '--since', began, '--until', f'{time.time():.9f}', '--filter', 'type=image', '--format',
                     '{{.Action}} {{.Actor.ID}} {{.Actor.Attributes.name}}').splitlines()
    assert [line for line in told if line.startswith('pu')] == [f'pull {name}:1 {name}', f'push {name}:2 {name}']


@pytest.mark.berth
@pytest.mark.long
def test_killed_in_the_middle(docker, registry, layers):
    """kill -9 of the daemon at random moments of a push: the store opens clean, the image is as it was, and a second try succeeds."""
    engine = engines.Berth()
    engine.start()
    try:
        client = Docker(engine, docker.cli, docker.folder)
        archive, image = images.docker_archive('loaded:1', layers)
        client.ok('load', input=archive)
        for number in range(int(os.environ.get('BERTH_E2E_PUSH_KILLS', '20'))):
            name = f'{registry.address}/app{number}:1'
            client.ok('tag', 'loaded:1', name)
            pushing = client.popen('push', name)
            time.sleep(random.uniform(0, 0.6))
            engine.kill9()
            pushing.communicate()
            engine.start()
            assert os.listdir(os.path.join(engine.data, 'staging')) == []
            assert client.inspect('loaded:1')['Id'] == image
            client.ok('push', name)
            manifest = json.loads(registry.manifests[f'app{number}', '1'][1])
            assert [gzip.decompress(registry.blobs[layer['digest']]) for layer in manifest['layers']] == layers
        assert client.ok('run', '--rm', 'loaded:1', 'cat', '/etc/motd') == 'second layer'
    finally:
        assert engine.stop_all().returncode == 0
        engine.remove_folder()


@pytest.mark.berth
def test_originals_are_kept(docker, layers):
    """--keep-compressed: what came by gzip goes on as the same blobs to a registry that has none of them."""
    from conftest import Docker
    source, target = registries.Registry(), registries.Registry()
    manifest, _, blobs = source.add_image('app', '1', layers, 'docker', 'gzip')

    class Keeping(engines.Berth):
        def command(self):
            return [*super().command(), '--keep-compressed']
    engine = Keeping()
    engine.start()
    client = Docker(engine, docker.cli, docker.folder)
    client.ok('pull', f'{source.address}/app:1')
    client.ok('tag', f'{source.address}/app:1', f'{target.address}/copy:1')
    assert f'digest: {manifest}' in client.ok('push', f'{target.address}/copy:1')
    assert all(target.blobs[blob] == source.blobs[blob] for blob in blobs)
    client.ok('rmi', f'{source.address}/app:1', f'{target.address}/copy:1')
    assert os.listdir(engine.data + '/layers') == []
    assert engine.stop_all().returncode == 0
    engine.remove_folder()
    source.close()
    target.close()
