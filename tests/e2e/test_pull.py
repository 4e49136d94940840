"""docker pull: from a real registry and from ones that misbehave. What a registry can't give leaves nothing behind, and the next try succeeds."""
import contextlib
import base64
import io
import json
import os
import random
import socket
import subprocess
import tarfile
import tempfile
import time

import pytest

import bombs
import engines
import images
import registries
from images import entry, folder, tar


@pytest.fixture
def registry():
    registry = registries.Registry()
    yield registry
    registry.close()


def own_root():
    """As every test's image, but for one file: no other image has this layer."""
    out = io.BytesIO(images.busybox_root())
    with tarfile.open(fileobj=out, mode='a') as archive:
        info, data = entry('etc/own', data=os.urandom(300_000))
        archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


@pytest.fixture(scope='module')
def layers():
    return [own_root(), tar([folder('etc'), entry('etc/motd', data=b'second layer\n'), entry('etc/.wh.not-a-program')])]


@pytest.fixture
def clean(docker):
    """What a test pulled goes."""
    before = set(docker.ok('images', '-aq', '--no-trunc').split())
    yield
    for image in set(docker.ok('images', '-aq', '--no-trunc').split()) - before:
        docker.ok('rmi', '-f', image)


pytestmark = pytest.mark.usefixtures('clean')


def ids(docker):
    return set(docker.ok('images', '-aq', '--no-trunc').split())


# ---- what works ---------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('form,compress', [
    ('oci', 'gzip'), ('oci', ''), ('docker', 'gzip'),
    pytest.param('oci', 'zstd', marks=pytest.mark.differs('reads no zstd')),
])
def test_pull_and_run(docker, registry, layers, form, compress):
    manifest, image, blobs = registry.add_image('team/app', '1', layers, form, compress)
    name = f'{registry.address}/team/app'
    out = docker.ok('pull', f'{name}:1')
    lines = out.split('\n')
    assert lines[0] == '1: Pulling from team/app'
    for blob in blobs:  # dockerd may leave out a state that is over at once
        states = [line.partition(': ')[2] for line in lines if line.startswith(blob[7:19] + ': ')]
        assert [state for state in states if state not in ('Verifying Checksum', 'Waiting')] == \
            ['Pulling fs layer', 'Download complete', 'Pull complete']
    assert lines[-3:] == [f'Digest: {manifest}', f'Status: Downloaded newer image for {name}:1', f'{name}:1']
    inspected = docker.inspect(f'{name}:1')
    assert inspected['Id'] == image and inspected['RepoDigests'] == [f'{name}@{manifest}'] and inspected['RepoTags'] == [f'{name}:1']
    assert docker.ok('run', '--rm', f'{name}:1', 'cat', '/etc/motd') == 'second layer'
    assert docker('run', '--rm', f'{name}:1', 'cat', '/etc/not-a-program').code == 1
    assert manifest in docker.ok('images', '--digests', name)


def test_pull_again_is_up_to_date(docker, registry, layers):
    registry.add_image('app', 'latest', layers)
    name = f'{registry.address}/app'
    docker.ok('pull', name)
    fetched = registry.count('GET', '/blobs/')
    out = docker.ok('pull', name)
    assert f'Status: Image is up to date for {name}:latest' in out and 'Pull complete' not in out
    assert registry.count('GET', '/blobs/') <= fetched + 1  # the configuration, perhaps


def test_a_tag_that_moved(docker, registry, layers):
    _, first, _ = registry.add_image('app', '1', layers)
    name = f'{registry.address}/app:1'
    docker.ok('pull', name)
    _, second, blobs = registry.add_image('app', '1', layers[:1] + [tar([entry('new', data=b'new')])])
    out = docker.ok('pull', name)
    assert f'{blobs[0][7:19]}: Already exists' in out and f'{blobs[1][7:19]}: Pull complete' in out
    assert docker.inspect(name)['Id'] == second != first
    assert docker.inspect(first)['RepoTags'] == []


def test_run_pulls_what_is_missing(docker, registry, layers):
    registry.add_image('app', 'latest', layers)
    assert docker.ok('run', '--rm', f'{registry.address}/app', 'cat', '/etc/motd').endswith('second layer')
    assert docker('run', '--rm', '--pull', 'never', f'{registry.address}/other', 'true').code == 125


def test_by_digest(docker, registry, layers):
    manifest, image, _ = registry.add_image('app', '1', layers)
    name = f'{registry.address}/app@{manifest}'
    docker.ok('pull', name)
    assert docker.inspect(name)['Id'] == image and docker.inspect(image)['RepoTags'] == []
    assert docker.ok('run', '--rm', name, 'cat', '/etc/motd') == 'second layer'
    assert docker.ok('rmi', name).split('\n')[0] == f'Untagged: {name}'
    assert image not in ids(docker)


def test_platforms(docker, registry, layers):
    here, image, _ = registry.add_image('app', 'amd64', layers)
    there, _, _ = registry.add_image('app', 'arm64', [layers[0], tar([entry('arm')])])
    index = registry.add_index('app', '1', [('linux/arm64/v8', there), ('linux/amd64', here)])
    name = f'{registry.address}/app:1'
    docker.ok('pull', name)
    assert docker.inspect(name)['Id'] == image
    assert docker.inspect(name)['RepoDigests'][-1] == f'{registry.address}/app@{index}'
    result = docker('pull', '--platform', 'linux/s390x', name)
    assert result.code == 1 and 'no matching manifest for linux/s390x in the manifest list entries' in result.err


def test_all_tags(docker, registry, layers):
    """One after the other, in the registry's order and over all its pages; the last line is about all."""
    registry.page = 2
    manifests = {tag: registry.add_image('app', tag, layers, created=tag)[:2] for tag in ('1', '2', 'x')}
    name = f'{registry.address}/app'
    lines = docker.ok('pull', '-a', name).split('\n')
    assert [line for line in lines if 'Pulling from' in line] == [f'{tag}: Pulling from app' for tag in manifests]
    assert [line for line in lines if line.startswith('Digest: ')] == [f'Digest: {digest}' for digest, _ in manifests.values()]
    assert lines[-2:] == [f'Status: Downloaded newer image for {name}', name]
    assert sum(line.startswith('Status: ') for line in lines) == 1
    for tag, (_, image) in manifests.items():
        assert docker.inspect(f'{name}:{tag}')['Id'] == image
    lines = docker.ok('pull', '--all-tags', name).split('\n')
    assert lines[-2:] == [f'Status: Image is up to date for {name}', name]


def test_all_tags_at_the_api(docker, api, registry, layers):
    """No tag means all of them."""
    image = registry.add_image('app', '1', layers)[1]
    name = f'{registry.address}/app'
    answer = api.post(f'/images/create?fromImage={name}')
    assert answer.status == 200 and docker.inspect(f'{name}:1')['Id'] == image
    assert json.loads(answer.body.strip().split(b'\n')[-1]) == {'status': f'Status: Downloaded newer image for {name}'}


def test_all_tags_of_nothing(docker, api, registry):
    answer = api.post(f'/images/create?fromImage={registry.address}/nothing')
    assert answer.status >= 400 and 'name unknown' in answer.message
    result = docker('pull', '-a', f'{registry.address}/nothing')
    assert result.code == 1 and 'name unknown' in result.err and result.err.count('\n') == 1


@pytest.mark.differs_today('says less of it', alone=True)
def test_all_tags_until_one_fails(docker, registry, layers):
    image = registry.add_image('app', '1', layers)[1]
    registry.add_image('app', '2', layers[:1])
    registry.add_image('app', '3', layers[:1], created='3')
    registry.fault('/manifests/2', registries.status(404), 9)
    result = docker('pull', '-a', f'{registry.address}/app')
    assert result.code == 1 and '404' in result.err and 'Status: ' not in result.out
    assert image in ids(docker) and registry.count('GET', '/manifests/3') == 0


@pytest.mark.berth
@pytest.mark.parametrize('function,words', [
    (registries.html(200), 'answered with no list of tags'),
    (registries.status(200, b'{"tags":["../../v2"]}'), 'names a tag of'),
    (registries.status(200, b'{"tags":[1]}'), 'names a tag of'),
    (registries.status(200, json.dumps({'tags': ['x'] * 20001}).encode()), 'has more than 20000 tags'),
    (registries.status(200, b'{"tags":["1"]}', Link='<http://127.0.0.1:1/v2/x?n=1>; rel="next"'), ''),
    (registries.status(401, WWW_Authenticate='Basic realm="x"'), 'pull access denied for '),
])
def test_bad_lists_of_tags(docker, engine, registry, layers, function, words):
    image = registry.add_image('app', '1', layers)[1]
    registry.fault('/tags/list', function)
    if words:
        return check_refused(docker, engine, f'{registry.address}/app', words, ['-a'])
    # A link that leads to another host is followed here.
    docker.ok('pull', '-a', f'{registry.address}/app')
    assert image in ids(docker) and registry.count('GET', '/tags/list') == 2


@pytest.mark.differs_today('takes it')
def test_an_index_that_lies(docker, registry, layers):
    there, _, _ = registry.add_image('app', 'arm64', layers)
    registry.add_index('app', '1', [('linux/arm64/v8', there)])
    name = f'{registry.address}/app:1'
    # That image says that it is for amd64, whatever the index calls it.
    result = docker('pull', '--platform', 'linux/arm64', name)
    assert result.code == 1 and 'does not match the specified platform' in result.err


def test_many_pull_the_same(docker, registry, layers):
    _, image, blobs = registry.add_image('app', '1', layers)
    registry.fault('/blobs/' + blobs[0], registries.part_then(0.5, lambda request: (time.sleep(1.5), registries.close(request))))
    clients = [docker.popen('pull', f'{registry.address}/app:1') for _ in range(6)]
    for client in clients:
        out, error = client.communicate()
        assert client.returncode == 0 and image in ids(docker), error
    assert registry.count('GET', '/blobs/' + blobs[0]) == 2  # with the one that broke
    assert registry.count('GET', '/blobs/' + blobs[1]) == 1


def test_who_leaves_does_not_end_it_for_the_others(docker, registry, layers):
    _, image, blobs = registry.add_image('app', '1', layers)
    registry.fault('/blobs/' + blobs[0], registries.part_then(0.5, lambda request: (time.sleep(2), registries.close(request))))
    first, second = (docker.popen('pull', f'{registry.address}/app:1') for _ in range(2))
    time.sleep(1)
    first.terminate()
    first.communicate()
    assert second.wait() == 0 and image in ids(docker)
    second.communicate()


@pytest.mark.berth
def test_when_all_have_left_it_ends(docker, engine, registry, layers):
    _, image, blobs = registry.add_image('app', '1', layers)
    registry.fault('/blobs/', registries.part_then(0.1, registries.hold(600)), 100)
    client = docker.popen('pull', f'{registry.address}/app:1')
    engines.wait_until(lambda: registry.count('GET', '/blobs/'), 20, 'the pull has begun')
    client.terminate()
    client.communicate()
    engines.wait_until(lambda: not os.listdir(os.path.join(engine.data, 'staging')), 20, 'its staging folder is gone')
    assert image not in ids(docker)


@contextlib.contextmanager
def berth_registry(folder, *options):
    """Where it serves."""
    with socket.socket() as sock:
        sock.bind(('127.0.0.1', 0))
        address = f'127.0.0.1:{sock.getsockname()[1]}'
    process = subprocess.Popen([os.path.join(engines.ROOT, 'build/bin/berth-registry'), '--root', str(folder / 'root'), '--listen',
                                address, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        engines.wait_until(lambda: reaches(address), 10, 'the registry serves')
        yield address
    finally:
        process.terminate()
        process.wait()


@pytest.fixture
def real(tmp_path):
    with berth_registry(tmp_path) as address:
        yield address


def reaches(address):
    host, port = address.split(':')
    try:
        socket.create_connection((host, int(port)), 1).close()
        return True
    except OSError:
        return False


def test_from_a_real_registry(docker, real, layers):
    archive, image = images.oci_archive('app:1', layers, 'gzip')
    with tempfile.NamedTemporaryFile(suffix='.tar') as file:
        file.write(archive)
        file.flush()
        subprocess.run(['skopeo', 'copy', '-q', '--dest-tls-verify=false', f'oci-archive:{file.name}', f'docker://{real}/deep/er/app:1'],
                       check=True)
    docker.ok('pull', f'{real}/deep/er/app:1')
    assert docker.inspect(f'{real}/deep/er/app:1')['Id'] == image
    assert docker.ok('run', '--rm', f'{real}/deep/er/app:1', 'cat', '/etc/motd') == 'second layer'


@pytest.mark.berth
def test_through_a_cache(docker, layers, tmp_path):
    """berth-registry as the cache of another registry, which then is gone."""
    upstream = registries.Registry()
    _, image, blobs = upstream.add_image('team/app', '1', layers)
    with berth_registry(tmp_path, '--proxy', f'http://{upstream.address}') as address:
        clients = [docker.popen('pull', f'{address}/team/app:1') for _ in range(3)]
        for client in clients:
            assert client.wait() == 0, client.communicate()
            client.communicate()
        assert docker.ok('run', '--rm', f'{address}/team/app:1', 'cat', '/etc/motd') == 'second layer'
        assert [upstream.count('GET', blob) for blob in blobs] == [1, 1]
        docker.ok('rmi', f'{address}/team/app:1')
        upstream.close()
        docker.ok('pull', f'{address}/team/app:1')
        assert docker.inspect(f'{address}/team/app:1')['Id'] == image
        result = docker('pull', f'{address}/team/app:2')
        assert result.code == 1 and 'unavailable: upstream: ' in result.err and result.err.count('\n') == 1


@pytest.mark.berth
def test_by_a_proxy(docker, layers, tmp_path):
    """The daemon's environment says which; a tunnel to a registry by https."""
    from conftest import Docker
    upstream = registries.Registry()
    _, image, _ = upstream.add_image('app', '1', layers)
    certs = registries.serve_tls(upstream, str(tmp_path / 'certs.d'))
    proxy = registries.ConnectProxy(upstream.address)

    class Behind(engines.Berth):
        def environment(self):
            return {**os.environ, 'HTTPS_PROXY': f'http://{proxy.address}'}

        def command(self):
            return [*super().command(), '--registry-certs', certs]
    engine = Behind()
    engine.start()
    client = Docker(engine, docker.cli, docker.folder)
    client.ok('pull', 'registry.invalid/app:1')
    assert client.inspect('registry.invalid/app:1')['Id'] == image and proxy.heads[0].startswith('CONNECT registry.invalid:443 ')
    client.ok('tag', 'registry.invalid/app:1', 'registry.invalid/other:1')
    client.ok('push', 'registry.invalid/other:1')
    assert ('other', '1') in upstream.manifests
    assert engine.stop_all().returncode == 0
    engine.remove_folder()
    proxy.close()
    upstream.close()


# ---- logins -------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('kind', ['basic', 'bearer'])
def test_login(api, docker, layers, kind):
    registry = registries.Registry((kind, 'anna', 'se:cret'))
    _, image, _ = registry.add_image('app', '1', layers)
    path = f'/v1.41/images/create?fromImage={registry.address}/app&tag=1'

    def pull(user, password):
        text = json.dumps({'username': user, 'password': password, 'serveraddress': registry.address}).encode()
        return api.post(path, headers={'X-Registry-Auth': base64.urlsafe_b64encode(text).decode()})

    try:
        assert pull('anna', 'wrong').status >= 400
        assert api.post(path).status >= 400 and image not in ids(docker)
        answer = pull('anna', 'se:cret')
        assert answer.status == 200 and b'"errorDetail"' not in answer.body, answer
        assert image in ids(docker)
        if kind == 'bearer':
            assert registry.scopes == ['repository:app:pull']
    finally:
        registry.close()


@pytest.mark.parametrize('kind', ['basic', pytest.param('bearer', marks=pytest.mark.differs_today('lets the client ask for a login', alone=True))])
def test_docker_login(docker, layers, kind, tmp_path):
    registry = registries.Registry((kind, 'anna', 'secret'))
    _, image, _ = registry.add_image('app', '1', layers)
    config = ('--config', str(tmp_path))
    try:
        result = docker(*config, 'login', '-u', 'anna', '--password-stdin', registry.address, input='wrong')
        assert result.code == 1 and 'unauthorized' in result.err.lower(), result
        result = docker(*config, 'login', '-u', 'anna', '--password-stdin', registry.address, input='secret')
        assert result.code == 0 and 'Login Succeeded' in result.out, result
        docker.ok(*config, 'pull', f'{registry.address}/app:1')
        assert image in ids(docker)
        docker.ok(*config, 'logout', registry.address)
        result = docker(*config, 'pull', f'{registry.address}/app:1')
        assert result.code == 1 and any(words in result.err for words in ('pull access denied', 'unauthorized', 'no basic auth'))
    finally:
        registry.close()


def test_distribution(api, registry, layers):
    manifest, _, _ = registry.add_image('app', '1', layers, 'docker')
    answer = api.get(f'/v1.41/distribution/{registry.address}/app:1/json')
    assert answer.status == 200
    assert answer.json['Descriptor'] == {'mediaType': registries.TYPES['docker'][0], 'digest': manifest,
                                         'size': len(registry.manifests['app', '1'][1])}
    assert answer.json['Platforms'] == [{'architecture': 'amd64', 'os': 'linux'}]
    index = registry.add_index('app', 'all', [('linux/amd64', manifest), ('linux/arm64/v8', manifest)])
    answer = api.get(f'/v1.41/distribution/{registry.address}/app:all/json').json
    assert answer['Descriptor']['digest'] == index
    assert answer['Platforms'][1] == {'architecture': 'arm64', 'os': 'linux', 'variant': 'v8'}
    assert api.get(f'/v1.41/distribution/{registry.address}/app:no/json').status == 404


@pytest.mark.berth
def test_credentials_stay_with_their_host(docker, api, layers):
    """A blob that lies elsewhere is fetched there without them."""
    elsewhere = registries.Registry()
    registry = registries.Registry(('basic', 'anna', 'secret'))
    _, image, blobs = registry.add_image('app', '1', layers)
    for blob in blobs:
        elsewhere.blobs[blob] = registry.blobs[blob]
        registry.fault('/blobs/' + blob, lambda request: request.answer(307, Location=f'http://{elsewhere.address}{request.path}'), 9)
    text = base64.urlsafe_b64encode(b'{"username":"anna","password":"secret"}').decode()
    answer = api.post(f'/v1.41/images/create?fromImage={registry.address}/app&tag=1', headers={'X-Registry-Auth': text})
    assert b'"errorDetail"' not in answer.body and image in ids(docker)
    assert len(elsewhere.calls) == 2 and not any('Authorization' in headers for _, _, headers in elsewhere.calls)
    elsewhere.close()
    registry.close()


# ---- what misbehaves ----------------------------------------------------------------------------------------------------

def check_refused(docker, engine, name, words, options=(), seconds=60):
    before = ids(docker)
    result = docker('pull', *options, name, seconds=seconds)
    assert result.code == 1 and words in result.err and result.err.count('\n') == 1, result
    assert ids(docker) == before
    if engine.name == 'berthd':
        assert os.listdir(os.path.join(engine.data, 'staging')) == []


@pytest.mark.parametrize('end', [registries.reset, registries.close])
def test_broken_connections_are_taken_up(docker, registry, layers, end):
    _, image, blobs = registry.add_image('app', '1', layers)
    registry.fault('/blobs/' + blobs[0], registries.part_then(0.3, end))
    docker.ok('pull', f'{registry.address}/app:1')
    assert image in ids(docker)
    ranges = [headers.get('Range') for _, path, headers in registry.calls if path.endswith(blobs[0])]
    assert ranges[0] is None and ranges[1].startswith('bytes='), ranges


@pytest.mark.berth
def test_a_server_without_ranges(docker, registry, layers):
    _, image, blobs = registry.add_image('app', '1', layers)
    registry.fault('/blobs/' + blobs[0], registries.part_then(0.3, registries.reset))
    registry.fault('/blobs/' + blobs[0], lambda request: request.answer(200, registry.blobs[blobs[0]]))
    docker.ok('pull', f'{registry.address}/app:1')
    assert image in ids(docker)


@pytest.mark.berth
@pytest.mark.parametrize('function,words', [
    (registries.other_content, 'content of blob sha256:'),
    (registries.longer, 'is longer than the'),
    (registries.endless, 'is longer than the'),
    (registries.html(403), 'answered 403 with text/html'),
    (registries.status(404), 'answered 404'),
])
def test_bad_blobs(docker, engine, registry, layers, function, words):
    _, image, blobs = registry.add_image('app', '1', layers)
    registry.fault('/blobs/' + blobs[1], function)
    check_refused(docker, engine, f'{registry.address}/app:1', words)
    docker.ok('pull', f'{registry.address}/app:1')
    assert docker.ok('run', '--rm', f'{registry.address}/app:1', 'cat', '/etc/motd') == 'second layer'


@pytest.mark.berth
@pytest.mark.parametrize('function,words', [
    (registries.html(200), 'answered with text/html in a manifest\'s place'),
    (registries.status(200, b'[1]', Content_Type='application/json'), 'in a manifest\'s place (no object)'),
    (registries.status(200, b'{"schemaVersion":1,"name":"app","tag":"1","fsLayers":[],"history":[],"signatures":[]}',
                       Content_Type='application/vnd.docker.distribution.manifest.v1+prettyjws'),
     'Docker Image Format v1 and Docker Image manifest version 2, schema 1 support has been removed. Suggest the author of 127.0.0.1:'),
    (registries.status(200, b'{"schemaVersion":2,"mediaType":"x/y"}', Content_Type='x/y'), 'x/y is not a manifest'),
    (registries.status(200, b' ' * (5 << 20), Content_Type='application/json'), 'is larger than'),
    (registries.status(401, WWW_Authenticate='Negotiate'), 'docker login\': registry 127.0.0.1:'),
    (registries.status(401, WWW_Authenticate='Basic realm="x"'), 'pull access denied for '),
])
def test_bad_manifests(docker, engine, registry, layers, function, words):
    registry.add_image('app', '1', layers)
    registry.fault('/manifests/', function)
    check_refused(docker, engine, f'{registry.address}/app:1', words)
    docker.ok('pull', f'{registry.address}/app:1')


@pytest.mark.berth
def test_a_manifest_with_another_digest(docker, engine, registry, layers):
    manifest, _, _ = registry.add_image('app', '1', layers)
    other, _, _ = registry.add_image('app', '2', layers[:1])
    registry.manifests['app', manifest] = registry.manifests['app', other]
    check_refused(docker, engine, f'{registry.address}/app@{manifest}', f'manifest {manifest} has another digest: {other}')


@pytest.mark.berth
def test_a_401_loop_ends(docker, engine, layers):
    registry = registries.Registry(('bearer', 'anna', 'secret'))
    registry.token = lambda request, query: request.answer(200, b'{"token":"bad"}')
    registry.add_image('app', '1', layers)
    check_refused(docker, engine, f'{registry.address}/app:1', 'pull access denied for ')
    assert registry.count('GET', '/token') <= 3
    registry.close()


@pytest.mark.berth
def test_server_errors_are_tried_again(docker, registry, layers):
    _, image, _ = registry.add_image('app', '1', layers)
    registry.fault('/manifests/', registries.html(502), 2)
    registry.fault('/blobs/', registries.status(503), 2)
    docker.ok('pull', f'{registry.address}/app:1')
    assert image in ids(docker)


@pytest.mark.berth
def test_too_many_requests(docker, engine, registry, layers):
    _, image, _ = registry.add_image('app', '1', layers)
    registry.fault('/manifests/', lambda request: request.refuse(429, 'TOOMANYREQUESTS', 'slow down', Retry_After='2'))
    begun = time.monotonic()
    docker.ok('pull', f'{registry.address}/app:1')
    assert time.monotonic() - begun >= 2 and image in ids(docker)
    docker.ok('rmi', f'{registry.address}/app:1')
    # Who should wait for an hour is told so.
    registry.fault('/manifests/', lambda request: request.refuse(429, 'TOOMANYREQUESTS', 'slow down', Retry_After='3600'))
    check_refused(docker, engine, f'{registry.address}/app:1', 'toomanyrequests: slow down (try again in 3600 s)')


@pytest.mark.berth
def test_nobody_there(docker, engine):
    check_refused(docker, engine, '127.0.0.1:1/app:1', 'registry 127.0.0.1:1: ')


@pytest.mark.berth
@pytest.mark.parametrize('bad', ['diff_id', 'missing layer', 'no tar', 'climbs out'])
def test_bad_images(docker, engine, registry, layers, sealed, bad):
    if bad == 'diff_id':
        text = json.loads(images.config(layers))
        text['rootfs']['diff_ids'][1] = 'sha256:' + '1' * 64
    else:
        text = json.loads(images.config(layers))
    config = json.dumps(text).encode()
    layer = {'no tar': b'this is no tar at all' * 100, 'climbs out': tar([entry('../../witness', data=b'overwritten')])}.get(bad, layers[1])
    if bad in ('no tar', 'climbs out'):
        text['rootfs']['diff_ids'][1] = registries.digest(layer)
        config = json.dumps(text).encode()
    blobs = [layers[0]] if bad == 'missing layer' else [layers[0], layer]
    kinds = registries.TYPES['oci']
    registry.add_manifest('app', '1', kinds[0], {
        'schemaVersion': 2, 'mediaType': kinds[0],
        'config': {'mediaType': kinds[1], 'digest': registry.add_blob(config), 'size': len(config)},
        'layers': [{'mediaType': kinds[2], 'digest': registry.add_blob(blob), 'size': len(blob)} for blob in blobs]})
    words = {'diff_id': 'layer 1: invalid diffID', 'missing layer': 'layers length mismatch', 'no tar': 'tar',
             'climbs out': 'leads outside the layer'}[bad]
    check_refused(docker, engine, f'{registry.address}/app:1', words)


# ---- killed, and full ---------------------------------------------------------------------------------------------------

@pytest.mark.berth
@pytest.mark.long
def test_a_bomb(docker, engine, registry, layers):
    bomb = bombs.pieces(bombs.GZIP, bombs.header())
    _, image, _ = registry.add_image('app', '1', layers)
    text = images.config(layers)
    kinds = registries.TYPES['oci']
    registry.add_manifest('bomb', '1', kinds[0], {
        'schemaVersion': 2, 'mediaType': kinds[0],
        'config': {'mediaType': kinds[1], 'digest': registry.add_blob(text), 'size': len(text)},
        'layers': [{'mediaType': kinds[2] + '+gzip', 'digest': registry.add_blob(blob), 'size': len(blob)} for blob in (bomb, layers[1])]})
    check_refused(docker, engine, f'{registry.address}/bomb:1', bombs.WORDS)
    docker.ok('pull', f'{registry.address}/app:1')


@pytest.fixture
def own_engine():
    engine = engines.Berth()
    engine.start()
    yield engine
    assert engine.stop_all().returncode == 0
    engine.remove_folder()


@pytest.mark.berth
@pytest.mark.long
def test_killed_in_the_middle(docker, own_engine, registry, layers):
    """kill -9 of the daemon at random moments: the store opens clean, and a second try succeeds."""
    from conftest import Docker
    client = Docker(own_engine, docker.cli, docker.folder)
    _, image, _ = registry.add_image('app', '1', layers)
    name = f'{registry.address}/app:1'
    begun = time.monotonic()
    client.ok('pull', name)
    whole = time.monotonic() - begun
    client.ok('rmi', name)
    for _ in range(int(os.environ.get('BERTH_E2E_PULL_KILLS', '20'))):
        pulling = client.popen('pull', name)
        time.sleep(random.uniform(0, whole * 1.2))
        own_engine.kill9()
        pulling.communicate()
        own_engine.start()
        assert os.listdir(os.path.join(own_engine.data, 'staging')) == []
        found = ids(client)
        assert found in ({image}, set())
        assert len(os.listdir(os.path.join(own_engine.data, 'blobs/sha256'))) == len(found)
        assert len([name for name in os.listdir(os.path.join(own_engine.data, 'layers')) if '.' not in name]) == 2 * len(found)
        client.ok('pull', name)
        assert client.ok('run', '--rm', name, 'cat', '/etc/motd') == 'second layer'
        client.ok('rmi', name)


@pytest.mark.berth
def test_disk_full(docker, registry, layers, tmp_path):
    from conftest import Docker
    engine = engines.Berth()
    os.makedirs(engine.data)
    subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=8m', 'none', engine.data], check=True)
    try:
        engine.start()
        client = Docker(engine, docker.cli, docker.folder)
        big = tar([entry('big', data=os.urandom(16 << 20))])
        registry.add_image('big', '1', [layers[0], big])
        _, image, _ = registry.add_image('app', '1', layers)
        check_refused(client, engine, f'{registry.address}/big:1', 'o space left on device')
        client.ok('pull', f'{registry.address}/app:1')
        assert ids(client) == {image}
    finally:
        assert engine.stop_all().returncode == 0
        subprocess.run(['umount', '-l', engine.data], check=True)
        engine.remove_folder()
