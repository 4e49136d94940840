"""A registry on loopback, with a folder of its own, and the plainest client that can misbehave."""
import hashlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import time

import pytest

ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), '../..'))
PROGRAM = os.path.join(ROOT, 'build/bin/berth-registry')
IMAGE = 'application/vnd.oci.image.manifest.v1+json'
INDEX = 'application/vnd.oci.image.index.v1+json'


def digest(data, algorithm='sha256'):
    return f'{algorithm}:{hashlib.new(algorithm, data).hexdigest()}'


def free_port():
    with socket.socket() as sock:
        sock.bind(('127.0.0.1', 0))
        return sock.getsockname()[1]


class Registry:
    def __init__(self, root, *options):
        self.root, self.options, self.process = root, options, None
        self.port = free_port()
        self.log = f'{root}.log'

    @property
    def address(self):
        return f'127.0.0.1:{self.port}'

    def start(self, *options):
        with open(self.log, 'ab') as log:
            self.process = subprocess.Popen([PROGRAM, '--root', str(self.root), '--listen', self.address, *self.options, *options],
                                            stdout=log, stderr=log)
        deadline = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(('127.0.0.1', self.port), 1).close()
                return self
            except ConnectionRefusedError:
                assert self.process.poll() is None and time.monotonic() < deadline, open(self.log).read()
                time.sleep(0.01)

    def stop(self, sig=signal.SIGTERM):
        if self.process:
            self.process.send_signal(sig)
            self.process.wait(20)
            self.process = None

    # ---- requests ----

    def connect(self):
        return http.client.HTTPConnection('127.0.0.1', self.port, timeout=30)

    def call(self, method, path, body=None, **headers):
        """(status, headers, body); `headers` in Python's spelling: content_type='x'."""
        link = self.connect()
        try:
            link.request(method, path, body, {name.replace('_', '-'): value for name, value in headers.items()})
            answer = link.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()
        finally:
            link.close()

    def push_blob(self, name, data, algorithm='sha256'):
        status, headers, text = self.call('POST', f'/v2/{name}/blobs/uploads/?digest={digest(data, algorithm)}', data)
        assert status == 201, text
        return digest(data, algorithm)

    def push_manifest(self, name, reference, document, media_type=IMAGE):
        data = json.dumps(document).encode()
        status, headers, text = self.call('PUT', f'/v2/{name}/manifests/{reference}', data, content_type=media_type)
        assert status == 201, text
        return headers['Docker-Content-Digest']

    def push_image(self, name, tag, *layers, **more):
        config = b'{"architecture":"amd64","os":"linux"}'
        descriptors = [{'mediaType': 'application/vnd.oci.image.layer.v1.tar', 'digest': self.push_blob(name, layer), 'size': len(layer)}
                       for layer in layers]
        return self.push_manifest(name, tag, {
            'schemaVersion': 2, 'mediaType': IMAGE,
            'config': {'mediaType': 'application/vnd.oci.image.config.v1+json', 'digest': self.push_blob(name, config), 'size': len(config)},
            'layers': descriptors, **more})

    def files(self):
        return sorted(str(path.relative_to(self.root)) for path in self.root.rglob('*')
                      if path.is_file() and not re.match(r'registry\.db|lock', path.name))


def code(text):
    return json.loads(text)['errors'][0]['code']


@pytest.fixture
def make(tmp_path):
    made = []

    def make_one(*options, name='root'):
        made.append(Registry(tmp_path / name, *options))
        return made[-1].start()

    yield make_one
    for registry in made:
        registry.stop()


@pytest.fixture
def registry(make):
    return make()
