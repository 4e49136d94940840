"""berth-registry --shared: one store for a daemon and a registry. What the engine has can be pulled, what is pushed the engine has, and no
byte is there twice or moves in vain."""
import glob
import gzip
import hashlib
import json
import os
import re
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request

import pytest

import bombs
import engines
import images
from conftest import Docker
from images import entry, folder, tar
from test_pull import clean, layers, registry  # noqa: F401  fixtures

pytestmark = [pytest.mark.berth, pytest.mark.usefixtures('clean')]

IMAGE = 'application/vnd.oci.image.manifest.v1+json'
INDEX = 'application/vnd.oci.image.index.v1+json'


def digest(data):
    return 'sha256:' + hashlib.sha256(data).hexdigest()


def free_port():
    with socket.socket() as sock:
        sock.bind(('127.0.0.1', 0))
        return sock.getsockname()[1]


class Shared:
    """A registry beside the daemon, on its data root."""

    def __init__(self, engine, *options):
        self.data, self.options = engine.data, options
        self.address = f'127.0.0.1:{free_port()}'
        self.log = os.path.join(engine.folder, 'registry.log')

    def start(self):
        with open(self.log, 'ab') as log:
            self.process = subprocess.Popen([os.path.join(engines.BIN, 'berth-registry'), '--shared', '--root', self.data, '--listen', self.address,
                                             *self.options], stdout=log, stderr=log)
        engines.wait_until(self.answers, 10, 'the registry answers')
        return self

    def answers(self):
        assert self.process.poll() is None, engines.read(self.log)
        try:
            return self.call('GET', '/v2/')[0] == 200
        except urllib.error.URLError:
            return False

    def call(self, method, path, data=None, **headers):
        request = urllib.request.Request(f'http://{self.address}{path}', data, {name.replace('_', '-'): value for name, value in headers.items()},
                                         method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, dict(answer.headers), answer.read()
        except urllib.error.HTTPError as error:
            return error.code, dict(error.headers), error.read()

    def get(self, path, **headers):
        status, _, body = self.call('GET', path, **headers)
        assert status == 200, body
        return body

    def manifest(self, name, reference):
        status, headers, body = self.call('GET', f'/v2/{name}/manifests/{reference}')
        assert status == 200, body
        assert headers['Docker-Content-Digest'] == digest(body)
        return headers['Docker-Content-Digest'], json.loads(body)

    def came(self):
        """Bytes of blobs that clients have sent."""
        return int(re.search(r'^berth_registry_blob_bytes_total\{direction="in"\} (\d+)', self.get('/metrics').decode(), re.M)[1])

    def push_blob(self, name, data):
        status, _, body = self.call('POST', f'/v2/{name}/blobs/uploads/?digest={digest(data)}', data)
        assert status == 201, body
        return digest(data)

    def push(self, name, tag, layer_tars, compress=lambda data: gzip.compress(data, 1, mtime=0), config=None, kind='+gzip'):
        config = images.config(layer_tars) if config is None else config
        blobs = [compress(layer) for layer in layer_tars]
        document = json.dumps({
            'schemaVersion': 2, 'mediaType': IMAGE,
            'config': {'mediaType': 'application/vnd.oci.image.config.v1+json', 'digest': self.push_blob(name, config), 'size': len(config)},
            'layers': [{'mediaType': 'application/vnd.oci.image.layer.v1.tar' + kind, 'digest': self.push_blob(name, blob), 'size': len(blob)}
                       for blob in blobs]}).encode()
        return (*self.call('PUT', f'/v2/{name}/manifests/{tag}', document, Content_Type=IMAGE), document, blobs)

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait(20)


@pytest.fixture
def shared(docker):
    found = Shared(docker.engine).start()
    yield found
    found.stop()


def store_files(docker, pattern):
    return sorted(glob.glob(os.path.join(docker.engine.data, pattern)))


def skopeo(*words):
    done = subprocess.run(['skopeo', '--insecure-policy', *words], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done
    return done.stdout


# ---- what the engine has --------------------------------------------------------------------------------------------

def test_images_of_the_engine_are_there(docker, shared, layers, tmp_path):
    archive, image = images.docker_archive('team/loaded:1', layers)
    docker.ok('load', input=archive)
    docker.ok('tag', 'team/loaded:1', 'team/loaded:2')
    assert json.loads(shared.get('/v2/team/loaded/tags/list')) == {'name': 'team/loaded', 'tags': ['1', '2']}
    assert 'team/loaded' in json.loads(shared.get('/v2/_catalog'))['repositories']
    name, manifest = shared.manifest('team/loaded', '1')
    assert manifest['config']['digest'] == image and [layer['digest'] for layer in manifest['layers']] == [digest(layer) for layer in layers]
    assert shared.manifest('team/loaded', name)[0] == name
    assert [shared.get(f'/v2/team/loaded/blobs/{layer["digest"]}') for layer in manifest['layers']] == layers
    skopeo('copy', '--src-tls-verify=false', f'docker://{shared.address}/team/loaded:1', f'oci:{tmp_path}/copy:1')
    blobs = {path.name: path.read_bytes() for path in (tmp_path / 'copy/blobs/sha256').iterdir()}
    assert image[7:] in blobs and all(digest(data)[7:] == key for key, data in blobs.items())
    docker.ok('rmi', 'team/loaded:1', 'team/loaded:2')
    assert shared.call('GET', '/v2/team/loaded/tags/list')[0] == 404 and shared.call('GET', f'/v2/team/loaded/manifests/{name}')[0] == 404


def test_ranges(docker, shared, layers):
    archive, _ = images.docker_archive('team/ranges:1', layers)
    docker.ok('load', input=archive)
    whole, path = layers[0], f'/v2/team/ranges/blobs/{digest(layers[0])}'
    for header, start, end in (('bytes=0-0', 0, 1), ('bytes=511-1600', 511, 1601), ('bytes=100000-', 100000, len(whole)), ('bytes=-777', len(whole) - 777, len(whole))):
        status, headers, body = shared.call('GET', path, Range=header)
        assert (status, body) == (206, whole[start:end]), header
        assert headers['Content-Range'] == f'bytes {start}-{end - 1}/{len(whole)}' and headers['Content-Length'] == str(end - start)
    status, headers, body = shared.call('HEAD', path)
    assert (status, headers['Content-Length'], headers['Accept-Ranges'], body) == (200, str(len(whole)), 'bytes', b'')
    assert shared.call('GET', path, Range=f'bytes={len(whole)}-')[0] == 416


def test_a_damaged_layer_lacks_its_end(docker, shared, layers):
    """Nobody takes it for whole: the client is told by the missing bytes."""
    archive, _ = images.docker_archive('team/damaged:1', layers)
    docker.ok('load', input=archive)
    part = layers[0][-200_000:-199_000]
    victims = [path for path in store_files(docker, 'layers/*/image.erofs') if part in open(path, 'rb').read()]
    if not victims:
        pytest.skip('layers are folders here')
    with open(victims[0], 'r+b') as file:
        at = file.read().find(part)
        file.seek(at)
        original = file.read(1)
        file.seek(at)
        file.write(bytes([original[0] ^ 255]))
        file.flush()
        with pytest.raises(Exception, match='IncompleteRead'):
            shared.get(f'/v2/team/damaged/blobs/{digest(layers[0])}')
        file.seek(at)
        file.write(original)


# ---- what is pushed -------------------------------------------------------------------------------------------------

def test_a_push_is_an_image_of_the_engine(docker, shared, layers):
    status, headers, body, document, blobs = shared.push('team/pushed', '1', layers)
    assert (status, headers.get('Docker-Content-Digest')) == (201, digest(document)), body
    inspected = docker.inspect('team/pushed:1')
    assert inspected['Id'] == json.loads(document)['config']['digest'] and inspected['RepoDigests'] == [f'team/pushed@{digest(document)}']
    assert docker.ok('run', '--rm', 'team/pushed:1', 'cat', '/etc/motd') == 'second layer'
    # It comes back byte for byte, by name and by digest.
    assert shared.get('/v2/team/pushed/manifests/1') == document == shared.get(f'/v2/team/pushed/manifests/{digest(document)}')
    assert [shared.get(f'/v2/team/pushed/blobs/{digest(blob)}') for blob in blobs] == blobs
    # One file serves both.
    for blob in blobs:
        own, = store_files(docker, f'registry/blobs/sha256/{digest(blob)[7:]}')
        theirs, = store_files(docker, f'layers/*/original-{digest(blob)[7:]}')
        assert os.stat(own).st_ino == os.stat(theirs).st_ino
    docker.ok('rmi', 'team/pushed:1')
    assert shared.call('GET', '/v2/team/pushed/manifests/1')[0] == 404
    assert not [path for blob in blobs for path in store_files(docker, f'layers/*/original-{digest(blob)[7:]}')]


def test_the_registry_drops_its_own_names_alone(docker, shared, layers):
    """A collection takes what the registry has of a pushed image; the engine's links of the same files serve it, and containers go on."""
    _, _, _, document, blobs = shared.push('team/kept', '1', layers)
    docker.ok('run', '-d', '--name', 'kept', 'team/kept:1', 'sleep', '60')
    shared.stop()
    done = subprocess.run([os.path.join(engines.BIN, 'berth-registry'), '--shared', '--root', shared.data, '--collect', '--grace', '0'],
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and re.search('collected [3-9] blobs', done.stderr), done
    shared.start()
    assert not store_files(docker, 'registry/blobs/sha256/*')
    assert docker.ok('exec', 'kept', 'cat', '/etc/motd') == 'second layer'
    assert docker.ok('run', '--rm', 'team/kept:1', 'cat', '/etc/motd') == 'second layer'
    assert shared.get('/v2/team/kept/manifests/1') == document
    assert [shared.get(f'/v2/team/kept/blobs/{digest(blob)}') for blob in blobs] == blobs
    docker.ok('rm', '-f', 'kept')


@pytest.mark.parametrize('how', ['loaded', 'pulled'])
def test_a_push_of_the_engine_moves_no_byte(docker, shared, registry, layers, how):
    """By docker push through the daemon: the layers are there, whatever they once came as."""
    name = f'{shared.address}/team/own:1'
    if how == 'loaded':
        archive, image = images.docker_archive('own:1', layers)
        docker.ok('load', input=archive)
        docker.ok('tag', 'own:1', name)
    else:
        _, image, _ = registry.add_image('own', '1', layers)
        docker.ok('pull', f'{registry.address}/own:1')
        docker.ok('tag', f'{registry.address}/own:1', name)
    out = docker.ok('push', name)
    assert out.count('Layer already exists') == 2 and shared.came() == 0
    said = re.search(r'1: digest: (sha256:\w+) size: ', out)[1]
    found, manifest = shared.manifest('team/own', '1')
    assert found == said and [layer['digest'] for layer in manifest['layers']] == [digest(layer) for layer in layers]
    assert docker.inspect('team/own:1')['Id'] == image
    docker.ok('rmi', '-f', image)


def test_what_a_second_engine_pulls(docker, shared, layers, tmp_path):
    """And a push that another registry client makes, by skopeo: the same digest comes back."""
    archive, image = images.docker_archive('team/there:1', layers)
    (tmp_path / 'image.tar').write_bytes(archive)
    skopeo('copy', '--dest-tls-verify=false', f'docker-archive:{tmp_path}/image.tar', f'docker://{shared.address}/team/there:1')
    assert docker.inspect('team/there:1')['Id'] == image
    skopeo('copy', '--src-tls-verify=false', f'docker://{shared.address}/team/there:1', f'docker-archive:{tmp_path}/back.tar:x:1')
    told = json.loads(skopeo('inspect', '--tls-verify=false', f'docker://{shared.address}/team/there:1'))
    assert [digest(layer) for layer in layers] != told['Layers'] and len(told['Layers']) == 2 and told['RepoTags'] == ['1']
    before = shared.came()
    skopeo('copy', '--src-tls-verify=false', '--dest-tls-verify=false', f'docker://{shared.address}/team/there:1', f'docker://{shared.address}/team/there:2')
    assert shared.came() == before
    assert docker.inspect('team/there:2')['Id'] == image
    # A daemon pulls it by the registry's name, layer files and all.
    out = docker.ok('pull', f'{shared.address}/team/there:2')
    assert out.count('Already exists') == 2

def test_another_engine(docker, shared, layers):
    """It pulls what this one has, and gives it back changed: what came from here is not sent again."""
    archive, image = images.docker_archive('team/given:1', layers)
    docker.ok('load', input=archive)
    name, other = f'{shared.address}/team', engines.Berth().start()
    try:
        there = Docker(other, docker.cli, docker.folder)
        assert there.ok('pull', f'{name}/given:1').count(': Pull complete') == 2
        assert there.inspect(f'{name}/given:1')['Id'] == image
        there.ok('tag', f'{name}/given:1', f'{name}/back:1')
        assert there.ok('push', f'{name}/back:1').count('Layer already exists') == 2 and shared.came() == 0
        container = there.ok('create', f'{name}/given:1', 'true')
        there.ok('cp', '-', f'{container}:/etc', input=tar([entry('new', data=b'new')]))
        there.ok('commit', container, f'{name}/back:2')
        there.ok('rm', container)
        out = there.ok('push', f'{name}/back:2')
        assert out.count('Layer already exists') == 2 and out.count(': Pushed') == 1 and shared.came() < 5000
        assert docker.ok('run', '--rm', 'team/back:2', 'cat', '/etc/motd', '/etc/new') == 'second layer\nnew'
        # A manifest of plain and of compressed layers, byte for byte.
        assert shared.manifest('team/back', '2')[0] == re.search(r'2: digest: (sha256:\w+)', out)[1]
    finally:
        assert other.stop_all().returncode == 0
        other.remove_folder()


def test_two_compressions_of_one_layer(docker, shared, layers):
    """Each manifest keeps the bytes that it names, though the engine has the layer once."""
    first = shared.push('team/two', '1', layers)
    second = shared.push('team/two', '2', layers, compress=lambda data: gzip.compress(data, 9, mtime=0))
    assert first[0] == second[0] == 201 and first[3] != second[3]
    assert docker.inspect('team/two:1')['Id'] == docker.inspect('team/two:2')['Id']
    for tag, push in (('1', first), ('2', second)):
        assert shared.get(f'/v2/team/two/manifests/{tag}') == push[3]
        assert [shared.get(f'/v2/team/two/blobs/{digest(blob)}') for blob in push[4]] == push[4]


def test_what_is_no_good_image_is_refused(docker, shared, layers):
    before = store_files(docker, 'layers/*') + store_files(docker, 'blobs/sha256/*')
    refused = [shared.push('team/bad', '1', [b'this is no tar' * 100]),
               shared.push('team/bad', '1', layers, config=b'{}'),
               shared.push('team/bad', '1', [tar([entry('../../outside', data=b'x')])]),
               shared.push('team/bad', '1', layers, config=images.config(layers[::-1]))]
    for status, _, body, *_ in refused:
        assert status == 400 and json.loads(body)['errors'][0]['code'] == 'MANIFEST_INVALID', body
    document = json.loads(shared.push('team/ok', '1', layers)[3])
    docker.ok('rmi', 'team/ok:1')
    document['layers'][0]['digest'] = digest(b'nobody has it')
    status, _, body = shared.call('PUT', '/v2/team/ok/manifests/2', json.dumps(document).encode(), Content_Type=IMAGE)
    assert status == 404 and json.loads(body)['errors'][0]['code'] == 'MANIFEST_BLOB_UNKNOWN', body
    assert docker('inspect', 'team/bad:1').code == 1 and docker('inspect', 'team/ok:2').code == 1
    assert store_files(docker, 'layers/*') + store_files(docker, 'blobs/sha256/*') == before
    assert not store_files(docker, 'staging/*')


@pytest.mark.skipif(not os.environ.get('BERTH_E2E_LONG'), reason='ten seconds of computing: make check-full does it')
def test_a_bomb(docker, shared):
    bomb = bombs.pieces(bombs.GZIP, bombs.header())
    config = images.config([b'any'])
    status, _, body, *_ = shared.push('team/bomb', '1', [b'any'], compress=lambda data: bomb, config=config)
    assert status == 400 and bombs.WORDS in json.loads(body)['errors'][0]['message'], body
    assert docker('inspect', 'team/bomb:1').code == 1 and not store_files(docker, 'staging/*')


def test_a_blob_that_is_another_layers_is_refused(docker, shared, layers):
    """The configuration names a layer that the engine has, the manifest brings other bytes for it: they never become that layer's original."""
    assert shared.push('team/honest', '1', layers)[0] == 201
    lie = gzip.compress(tar([entry('etc/lie', data=b'lie')]))
    config = images.config(layers)
    document = json.dumps({
        'schemaVersion': 2, 'mediaType': IMAGE,
        'config': {'mediaType': 'application/vnd.oci.image.config.v1+json', 'digest': shared.push_blob('team/liar', config), 'size': len(config)},
        'layers': [{'mediaType': 'application/vnd.oci.image.layer.v1.tar+gzip', 'digest': shared.push_blob('team/liar', lie), 'size': len(lie)}] * 2})
    status, _, body = shared.call('PUT', '/v2/team/liar/manifests/1', document.encode(), Content_Type=IMAGE)
    assert status == 400 and b'diffID' in body, body
    assert not store_files(docker, f'layers/*/original-{digest(lie)[7:]}')


# ---- what only a registry has ---------------------------------------------------------------------------------------

def test_indexes_and_artifacts_stay_the_registrys(docker, shared, layers):
    """An index, and what it names by digest, is kept as it came, also when the engine forgets the image."""
    _, _, _, document, blobs = shared.push('team/many', 'one', layers)
    index = json.dumps({'schemaVersion': 2, 'mediaType': INDEX, 'manifests': [
        {'mediaType': IMAGE, 'digest': digest(document), 'size': len(document), 'platform': {'os': 'linux', 'architecture': 'amd64'}}]}).encode()
    assert shared.call('PUT', '/v2/team/many/manifests/all', index, Content_Type=INDEX)[0] == 201
    docker.ok('rmi', '-f', docker.inspect('team/many:one')['Id'])
    assert shared.get('/v2/team/many/manifests/all') == index
    assert shared.get(f'/v2/team/many/manifests/{digest(document)}') == document
    assert [shared.get(f'/v2/team/many/blobs/{digest(blob)}') for blob in blobs] == blobs
    artifact = json.dumps({'schemaVersion': 2, 'mediaType': IMAGE, 'artifactType': 'application/x.test',
                           'config': {'mediaType': 'application/vnd.oci.empty.v1+json', 'digest': shared.push_blob('team/many', b'{}'), 'size': 2},
                           'layers': [], 'subject': {'mediaType': IMAGE, 'digest': digest(document), 'size': len(document)}}).encode()
    assert shared.call('PUT', '/v2/team/many/manifests/sig', artifact, Content_Type=IMAGE)[0] == 201
    assert docker('inspect', 'team/many:sig').code == 1
    assert [item['digest'] for item in json.loads(shared.get(f'/v2/team/many/referrers/{digest(document)}'))['manifests']] == [digest(artifact)]
    assert json.loads(shared.get('/v2/team/many/tags/list'))['tags'] == ['all', 'sig']
    for tag in (digest(index), digest(artifact), digest(document)):
        assert shared.call('DELETE', f'/v2/team/many/manifests/{tag}')[0] == 202


def test_other_digests_stay_the_registrys(docker, shared, layers):
    """The engine's store knows SHA-256 alone."""
    layer, config = gzip.compress(layers[1], mtime=0), images.config(layers[1:])
    other = 'sha512:' + hashlib.sha512(layer).hexdigest()
    assert shared.call('POST', f'/v2/team/long/blobs/uploads/?digest={other}', layer)[0] == 201
    document = json.dumps({
        'schemaVersion': 2, 'mediaType': IMAGE,
        'config': {'mediaType': 'application/vnd.oci.image.config.v1+json', 'digest': shared.push_blob('team/long', config), 'size': len(config)},
        'layers': [{'mediaType': 'application/vnd.oci.image.layer.v1.tar+gzip', 'digest': other, 'size': len(layer)}]}).encode()
    assert shared.call('PUT', '/v2/team/long/manifests/1', document, Content_Type=IMAGE)[0] == 201
    assert shared.get('/v2/team/long/manifests/1') == document and docker('inspect', 'team/long:1').code == 1
    assert shared.get(f'/v2/team/long/blobs/{other}') == layer
    assert shared.call('DELETE', f'/v2/team/long/manifests/{digest(document)}')[0] == 202


def test_an_index_over_plain_layers(docker, shared, layers):
    """An image of the engine that no registry has ever had gets files of its own, when an index names it."""
    archive, image = images.docker_archive('team/plain:1', layers)
    docker.ok('load', input=archive)
    name, manifest = shared.manifest('team/plain', '1')
    index = json.dumps({'schemaVersion': 2, 'mediaType': INDEX, 'manifests': [{'mediaType': IMAGE, 'digest': name, 'size': 1}]}).encode()
    assert shared.call('PUT', '/v2/team/plain/manifests/all', index, Content_Type=INDEX)[0] == 201
    docker.ok('rmi', 'team/plain:1')
    assert shared.manifest('team/plain', name)[1] == manifest
    assert [shared.get(f'/v2/team/plain/blobs/{layer["digest"]}') for layer in manifest['layers']] == layers
    for tag in (digest(index), name):
        assert shared.call('DELETE', f'/v2/team/plain/manifests/{tag}')[0] == 202


def test_the_engine_removes_its_images(docker, shared, layers):
    document = shared.push('team/mine', '1', layers)[3]
    for reference in ('1', digest(document)):
        status, _, body = shared.call('DELETE', f'/v2/team/mine/manifests/{reference}')
        assert status == 405 and b'docker rmi' in body
    assert docker.inspect('team/mine:1')


# ---- at its edges ---------------------------------------------------------------------------------------------------

def test_many_push_at_once(docker, shared, layers):
    """The same image, and others over the same layer, while the daemon runs and somebody collects: of what is pushed nothing goes."""
    done, over = [], threading.Event()

    def push(number):
        done.append(shared.push(f'team/at-once-{number % 3}', str(number), layers[:1] + [tar([entry('n', data=str(number % 3).encode())])])[0])

    def collect():
        while not over.is_set():
            subprocess.run([os.path.join(engines.BIN, 'berth-image'), 'gc', '--root', docker.engine.data], check=True, timeout=60)
    threads = [threading.Thread(target=push, args=(number,)) for number in range(6)]
    collector = threading.Thread(target=collect)
    for thread in [collector, *threads]:
        thread.start()
    for thread in threads:
        thread.join()
    over.set()
    collector.join()
    assert done == [201] * 6
    assert len({docker.inspect(f'team/at-once-{number % 3}:{number}')['Id'] for number in range(6)}) == 3
    assert [docker.ok('run', '--rm', f'team/at-once-{number}:{number}', 'cat', '/n') for number in range(3)] == ['0', '1', '2']


def test_killed_in_the_middle(docker, shared, layers):
    """Of a push: the store is as it was or has the whole image, and the next try succeeds."""
    big = tar([entry(f'file{number}', data=os.urandom(200_000)) for number in range(40)])
    step = float(os.environ.get('BERTH_E2E_LONG') and 0.01 or 0.06)
    at = 0.0
    while at < 0.3:
        guarded = threading.Thread(target=quietly, args=(shared.push, 'team/killed', '1', layers + [big]))
        guarded.start()
        time.sleep(at)
        shared.process.kill()
        shared.process.wait()
        guarded.join()
        shared.start()
        if docker('inspect', 'team/killed:1').code == 0:
            assert docker.ok('run', '--rm', 'team/killed:1', 'cat', '/etc/motd') == 'second layer'
            docker.ok('rmi', 'team/killed:1')
        at += step
    status, _, body, document, blobs = shared.push('team/killed', '1', layers + [big])
    assert status == 201, body
    assert [shared.get(f'/v2/team/killed/blobs/{digest(blob)}') for blob in blobs] == blobs
    shared.stop()
    subprocess.run([os.path.join(engines.BIN, 'berth-registry'), '--shared', '--root', shared.data, '--collect'], check=True, timeout=60)
    assert not store_files(docker, 'staging/*')
    shared.start()


def quietly(function, *arguments):
    try:
        function(*arguments)
    except (OSError, AssertionError):
        pass
