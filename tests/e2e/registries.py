"""A registry in a few lines that can be told to misbehave, and images for it."""
import base64
import gzip
import hashlib
import http.server
import json
import os
import re
import socket
import ssl
import subprocess
import threading
import time
import urllib.parse

import images

OCI = 'application/vnd.oci.image.'
DOCKER = 'application/vnd.docker.'
TYPES = {
    'oci': (OCI + 'manifest.v1+json', OCI + 'config.v1+json', OCI + 'layer.v1.tar'),
    'docker': (DOCKER + 'distribution.manifest.v2+json', DOCKER + 'container.image.v1+json', DOCKER + 'image.rootfs.diff.tar'),
}
COMPRESS = {'': lambda data: data, 'gzip': lambda data: gzip.compress(data, 1), 'zstd': images.zstd}


def digest(data):
    return 'sha256:' + hashlib.sha256(data).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'

    def log_message(self, *arguments):
        pass

    def answer(self, status, body=b'', **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace('_', '-'), value)
        if 'Content_Length' not in headers:
            self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        if self.command != 'HEAD':
            self.wfile.write(body)

    def refuse(self, status, code, message='', **headers):
        body = json.dumps({'errors': [{'code': code, 'message': message}]}).encode()
        self.answer(status, body, Content_Type='application/json', **headers)

    def hang_up(self):
        """A reset, not an orderly end."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b'\1\0\0\0\0\0\0\0')
        self.close_connection = True
        self.connection.close()

    def read_body(self):
        if self.headers.get('Transfer-Encoding') != 'chunked':
            return self.rfile.read(int(self.headers.get('Content-Length', 0)))
        body = b''
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def do_GET(self):
        registry = self.server.registry
        path, _, query = self.path.partition('?')
        self.body = self.read_body()
        with registry.lock:
            registry.calls.append((self.command, path, dict(self.headers)))
            fault = next((f for f in registry.faults if f[2] and re.search(f[0], self.path)), None)
            if fault:
                fault[2] -= 1
        try:
            if fault:
                fault[1](self)
            elif path == '/token':
                registry.token(self, urllib.parse.parse_qs(query))
            elif registry.admits(self):
                self.serve(registry, path)
        except (BrokenPipeError, ConnectionResetError, ValueError):
            self.close_connection = True

    do_HEAD = do_POST = do_PATCH = do_PUT = do_DELETE = do_GET

    def serve(self, registry, path):
        found = re.fullmatch(r'/v2/(.+)/(manifests|blobs)/([^/]+)', path)
        if path == '/v2/':
            return self.answer(200, b'{}')
        if self.command not in ('GET', 'HEAD') or '/uploads/' in path:
            return self.take(registry, path)
        if found and found[2] == 'manifests' and (found[1], found[3]) in registry.manifests:
            kind, body = registry.manifests[found[1], found[3]]
            return self.answer(200, body, Content_Type=kind, Docker_Content_Digest=digest(body))
        if found and found[2] == 'blobs' and found[3] in registry.blobs:
            return self.blob(registry.blobs[found[3]])
        if path.endswith('/tags/list'):
            return self.tags(registry, path[len('/v2/'):-len('/tags/list')])
        return self.refuse(404, 'MANIFEST_UNKNOWN' if found and found[2] == 'manifests' else 'BLOB_UNKNOWN', 'not here')

    def tags(self, registry, name):
        """In pages of `registry.page`, as the specification says."""
        last = urllib.parse.parse_qs(self.path.partition('?')[2]).get('last', [''])[0]
        tags = sorted(tag for of, tag in registry.manifests if of == name and ':' not in tag and tag > last)
        if not tags and not last:
            return self.refuse(404, 'NAME_UNKNOWN', 'repository name not known to registry')
        page = tags[:registry.page]
        more = {} if page == tags else {'Link': f'</v2/{name}/tags/list?last={page[-1]}&n={registry.page}>; rel="next"'}
        return self.answer(200, json.dumps({'name': name, 'tags': page}).encode(), Content_Type='application/json', **more)

    def take(self, registry, path):
        """Pushes."""
        query = urllib.parse.parse_qs(self.path.partition('?')[2])
        name = re.fullmatch(r'/v2/(.+)/(manifests|blobs/uploads)/([^/]*)', path)
        if not name:
            return self.refuse(404, 'NAME_UNKNOWN')
        if name[2] == 'manifests' and self.command == 'PUT':
            for reference in (name[3], digest(self.body)):
                registry.manifests[name[1], reference] = (self.headers['Content-Type'], self.body)
            return self.answer(201, Docker_Content_Digest=digest(self.body))
        mounted = query.get('mount', [''])[0]
        if self.command == 'POST' and registry.mounts and mounted in registry.blobs:
            return self.answer(201, Docker_Content_Digest=mounted)
        if self.command == 'POST':
            registry.uploads.append(bytearray())
            return self.answer(202, Location=f'/v2/{name[1]}/blobs/uploads/{len(registry.uploads) - 1}?state=1')
        if self.command == 'DELETE':
            return self.answer(204)
        upload = registry.uploads[int(name[3])]
        if self.command == 'GET':
            return self.answer(204, Location=path, Range=f'0-{max(len(upload) - 1, 0)}')
        if self.command == 'PATCH' and self.headers.get('Content-Range', f'{len(upload)}-').partition('-')[0] != str(len(upload)):
            return self.refuse(416, 'RANGE_INVALID')
        upload += self.body
        if self.command == 'PATCH':
            return self.answer(202, Location=f'{path}?state=2', Range=f'0-{len(upload) - 1}')
        if digest(upload) != query['digest'][0]:
            return self.refuse(400, 'DIGEST_INVALID')
        registry.blobs[digest(upload)] = bytes(upload)
        return self.answer(201, Docker_Content_Digest=digest(upload))

    def blob(self, data):
        first = re.fullmatch(r'bytes=(\d+)-', self.headers.get('Range', ''))
        if not first:
            return self.answer(200, data)
        start = int(first[1])
        return self.answer(206, data[start:], Content_Range=f'bytes {start}-{len(data) - 1}/{len(data)}')


class Registry:
    """`login`: None, ('basic', user, password) or ('bearer', user, password); a bearer registry gives strangers no token."""

    def __init__(self, login=None):
        self.blobs, self.manifests, self.calls, self.faults = {}, {}, [], []
        self.login, self.lock = login, threading.Lock()
        self.uploads, self.mounts, self.page = [], True, 1000
        self.server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
        self.server.daemon_threads = True
        self.server.registry = self
        self.address = f'127.0.0.1:{self.server.server_port}'
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def fault(self, path, function, times=1):
        self.faults.append([path, function, times])

    def count(self, method, path):
        with self.lock:
            return sum(1 for call in self.calls if call[0] == method and re.search(path, call[1]))

    # ---- logins ----

    def basic(self, user, password):
        return 'Basic ' + base64.b64encode(f'{user}:{password}'.encode()).decode()

    def admits(self, request):
        if not self.login:
            return True
        kind, user, password = self.login
        wanted = self.basic(user, password) if kind == 'basic' else 'Bearer good'
        if request.headers.get('Authorization') == wanted:
            return True
        challenge = f'Basic realm="tests"' if kind == 'basic' else \
            f'Bearer realm="http://{self.address}/token",service="tests",scope="repository:x:pull"'
        request.refuse(401, 'UNAUTHORIZED', 'authentication required', WWW_Authenticate=challenge)
        return False

    def token(self, request, query):
        kind, user, password = self.login
        if request.headers.get('Authorization') != self.basic(user, password):
            return request.refuse(401, 'UNAUTHORIZED', 'incorrect username or password')
        self.scopes = query.get('scope', [])
        request.answer(200, json.dumps({'token': 'good', 'expires_in': 300}).encode(), Content_Type='application/json')

    # ---- images ----

    def add_blob(self, data):
        self.blobs[digest(data)] = data
        return digest(data)

    def add_manifest(self, name, tag, kind, document):
        body = json.dumps(document).encode()
        for reference in (tag, digest(body)):
            self.manifests[name, reference] = (kind, body)
        return digest(body), len(body)

    def add_image(self, name, tag, layers, form='oci', compress='gzip', **settings):
        """Returns (manifest's digest, image ID, layers' digests)."""
        kinds = TYPES[form]
        text = images.config(layers, **settings)
        blobs = [COMPRESS[compress](layer) for layer in layers]
        suffix = '' if not compress else ('.' if form == 'docker' else '+') + compress
        manifest = {
            'schemaVersion': 2, 'mediaType': kinds[0],
            'config': {'mediaType': kinds[1], 'digest': self.add_blob(text), 'size': len(text)},
            'layers': [{'mediaType': kinds[2] + suffix, 'digest': self.add_blob(blob), 'size': len(blob)} for blob in blobs]}
        return self.add_manifest(name, tag, kinds[0], manifest)[0], digest(text), [digest(blob) for blob in blobs]

    def add_index(self, name, tag, entries):
        """entries: (platform, manifest's digest)."""
        kind = OCI + 'index.v1+json'
        described = [{'mediaType': TYPES['oci'][0], 'digest': manifest, 'size': len(self.manifests[name, manifest][1]),
                      'platform': dict(zip(('os', 'architecture', 'variant'), platform.split('/')))} for platform, manifest in entries]
        return self.add_manifest(name, tag, kind, {'schemaVersion': 2, 'mediaType': kind, 'manifests': described})[0]


class ConnectProxy:
    """Tunnels to `target` whatever host is asked for; `heads` has what clients said before. `login`: "user:word" that it wants."""

    def __init__(self, target, login=None):
        self.target, self.login, self.heads = target, login, []
        self.sock = socket.create_server(('127.0.0.1', 0))
        self.address = '127.0.0.1:%d' % self.sock.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                client = self.sock.accept()[0]
            except OSError:
                return
            threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    def serve(self, client):
        head = b''
        while not head.endswith(b'\r\n\r\n'):
            byte = client.recv(1)
            if not byte:
                return
            head += byte
        self.heads.append(head.decode())
        wanted = 'Basic ' + base64.b64encode((self.login or '').encode()).decode()
        if self.login and f'Proxy-Authorization: {wanted}' not in head.decode():
            client.sendall(b'HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n')
            return client.close()
        host, port = self.target.split(':')
        server = socket.create_connection((host, int(port)))
        client.sendall(b'HTTP/1.1 200 Connection established\r\n\r\n')
        threading.Thread(target=self.relay, args=(client, server), daemon=True).start()
        self.relay(server, client)

    @staticmethod
    def relay(source, sink):
        try:
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def close(self):
        self.sock.close()


def serve_tls(registry, folder):
    """By https from now on, as registry.invalid; the folder for certs.d that vouches for it."""
    os.makedirs(f'{folder}/registry.invalid')
    subprocess.run(['openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', f'{folder}/key', '-out',
                    f'{folder}/registry.invalid/ca.crt', '-subj', '/CN=tests', '-days', '2', '-addext', 'subjectAltName=DNS:registry.invalid'],
                   check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(f'{folder}/registry.invalid/ca.crt', f'{folder}/key')
    registry.server.socket = context.wrap_socket(registry.server.socket, server_side=True)
    return folder


# ---- faults -------------------------------------------------------------------------------------------------------------

def part_then(share, end):
    """The first part of a blob with the whole's length, then `end`."""
    def function(request):
        data = request.server.registry.blobs[request.path.rpartition('/')[2]]
        request.send_response(200)
        request.send_header('Content-Length', str(len(data)))
        request.end_headers()
        request.wfile.write(data[:int(len(data) * share)])
        request.wfile.flush()
        end(request)
    return function


def reset(request):
    request.hang_up()


def close(request):
    request.close_connection = True


def done_then_reset(request):
    """What was asked for is done, but its answer is lost."""
    request.answer = lambda *arguments, **headers: None
    request.serve(request.server.registry, request.path.partition('?')[0])
    request.hang_up()


def hold(seconds):
    return lambda request: time.sleep(seconds)


def status(code, body=b'', **headers):
    return lambda request: request.answer(code, body, **headers)


def html(code):
    return status(code, b'<html><body>Bad gateway</body></html>', Content_Type='text/html')


def other_content(request):
    data = request.server.registry.blobs[request.path.rpartition('/')[2]]
    request.answer(200, b'\0' * len(data))


def longer(request):
    data = request.server.registry.blobs[request.path.rpartition('/')[2]]
    request.answer(200, data + b'more')


def endless(request):
    """Chunks without an end."""
    request.send_response(200)
    request.send_header('Transfer-Encoding', 'chunked')
    request.end_headers()
    while True:
        request.wfile.write(b'10000\r\n' + b'\0' * 65536 + b'\r\n')
