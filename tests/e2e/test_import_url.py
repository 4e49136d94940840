"""docker import of a URL."""
import http.server
import io
import json
import subprocess
import tarfile
import threading

import pytest

import engines


def path_is_stuck(path):
    return path == '/stuck'


class Server:
    """Answers as `answers` says: {path: (status, headers, body)}."""

    def __init__(self, answers):
        outer = self
        self.asked, self.let_go = [], threading.Event()

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                outer.asked.append(self.path)
                status, headers, body = answers.get(self.path, (404, {}, b'no such file\n'))
                self.send_response(status)
                if path_is_stuck(self.path):
                    self.send_header('Content-Length', 1 << 20)
                    self.end_headers()
                    outer.let_go.wait(20)
                    return
                for key, value in {'Content-Length': len(body), **headers}.items():
                    if value is not None:
                        self.send_header(key, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass
        self.http = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
        self.address = '127.0.0.1:%d' % self.http.server_address[1]
        threading.Thread(target=self.http.serve_forever, daemon=True).start()


@pytest.fixture(scope='module')
def root():
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode='w') as archive:
        for name, data in (('etc/words', b'of the URL\n'), ('big', b'\0' * (3 << 20))):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


@pytest.fixture(scope='module')
def server(root):
    server = Server({'/root.tar': (200, {}, root), '/moved': (302, {'Location': '/root.tar'}, b''), '/loop': (302, {'Location': '/loop'}, b''),
                     '/no-length': (200, {'Content-Length': None, 'Connection': 'close'}, root), '/half': (200, {'Content-Length': len(root)}, root[:2 << 20]),
                     '/junk': (200, {}, b'no tar at all' * 100), '/forbidden': (403, {}, b'go\naway'), '/empty': (200, {}, b''), '/stuck': (200, {}, b'')})
    yield server
    server.http.shutdown()


def lines(answer):
    return [json.loads(line) for line in answer.body.decode().split('\r\n') if line]


@pytest.mark.parametrize('path', ['/root.tar', '/moved', '/no-length'])
def test_a_url(docker, server, name, tmp_path, path):
    url = f'http://{server.address}{path}'
    said = docker.ok('import', '-c', 'CMD ["true"]', url, f'{name}:1')
    assert f'Downloading from {url}' in said and 'sha256:' in said
    shown = docker.inspect(f'{name}:1')
    assert shown['Comment'] == f'Imported from {url}' and shown['Config']['Cmd'] == ['true'] and len(shown['RootFS']['Layers']) == 1
    con = docker.ok('create', f'{name}:1')
    docker.ok('cp', f'{con}:/etc/words', str(tmp_path / 'words'))
    assert (tmp_path / 'words').read_text() == 'of the URL\n'
    docker.ok('rm', con)
    docker.ok('rmi', f'{name}:1')


def test_a_url_without_a_scheme(docker, api, server, name):
    answer = api.post(f'/images/create?fromSrc={server.address}/root.tar&repo={name}')
    said = lines(answer)
    assert answer.status == 200 and said[0] == {'status': f'Downloading from http://{server.address}/root.tar'}
    assert [line for line in said if line.get('status') == 'Importing' and line['progressDetail']['total'] > 3 << 20]
    docker.ok('rmi', name)


@pytest.mark.parametrize('path, status, says', [
    ('/nofile.tar', 404, 'failed to GET http://{}/nofile.tar with status 404 Not Found: no such file'),
    ('/forbidden', 403, 'with status 403 Forbidden: go'),
    ('/loop', 500, 'redirects'),
])
@pytest.mark.differs_today('passes on what the server wrote, lines and all')
def test_what_the_server_does_not_give(api, server, path, status, says):
    answer = api.post(f'/images/create?fromSrc=http://{server.address}{path}&repo=never')
    assert answer.status == status and says.format(server.address) in answer.json['message'] and '\n' not in answer.json['message']
    assert api.get('/images/never/json').status == 404


@pytest.mark.parametrize('url, status', [
    ('http://127.0.0.1:1/x', 500), ('http://no-such-host.invalid/x', 404), ('ftp://127.0.0.1/x', 400), ('file:///etc/passwd', 400),
    ('http://a%20b/x', 400), ('http://a%0ab/x', 400), ('gopher://127.0.0.1:70/_', 400),
])
@pytest.mark.berth
def test_urls_that_name_nothing(api, url, status):
    answer = api.post(f'/images/create?fromSrc={url}&repo=never')
    assert answer.status == status and answer.json['message'], answer.json
    assert 'root:' not in answer.json['message'] and answer.json['message'].count('\n') == 0


@pytest.mark.parametrize('path', ['/half', '/junk', '/empty'])
def test_what_is_no_image(docker, api, server, path):
    """The head is out when it is found."""
    answer = api.post(f'/images/create?fromSrc=http://{server.address}{path}&repo=never')
    if path == '/empty':  # an empty tar is an empty root, with Docker too
        docker('rmi', 'never')
        return
    assert answer.status != 200 or any('error' in line for line in lines(answer)), answer.body
    assert api.get('/images/never/json').status == 404


@pytest.mark.berth
def test_a_redirect_leads_to_no_file(api, server):
    bad = Server({'/x': (302, {'Location': 'file:///etc/passwd'}, b'')})
    answer = api.post(f'/images/create?fromSrc=http://{bad.address}/x&repo=never')
    bad.http.shutdown()
    assert answer.status == 500 and 'rotocol' in answer.json['message'], answer.json


def workers(server):
    listing = subprocess.run(['ps', '-eo', 'pid=,args='], capture_output=True, text=True).stdout
    return [line for line in listing.splitlines() if 'berth-image' in line and server.address in line]


@pytest.mark.berth
@pytest.mark.parametrize('who', ['client', 'daemon'])
def test_nobody_waits_for_what_does_not_come(docker, server, who):
    server.let_go.clear()
    client = docker.popen('import', f'http://{server.address}/stuck', 'never')
    engines.wait_until(lambda: len(workers(server)) == 2, what='both halves')
    if who == 'daemon':
        docker.engine.kill9()
    client.terminate()
    client.wait()
    engines.wait_until(lambda: not workers(server), what='both are gone')
    server.let_go.set()
    if who == 'daemon':
        docker.engine.start()
        docker.engine.restarted = True
