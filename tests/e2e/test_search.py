"""docker search: what an index of Docker's first registry API says."""
import http.server
import json
import threading
import urllib.parse

import pytest

RESULTS = [{'name': 'busybox', 'description': 'small', 'star_count': 3000, 'is_official': True, 'is_automated': False},
           {'name': 'me/box', 'description': 'mine \u00e4', 'star_count': 3, 'is_official': False, 'is_automated': True, 'more': [1]}]


@pytest.fixture
def index():
    class Handler(http.server.BaseHTTPRequestHandler):
        asked, status = [], 200

        def do_GET(self):
            url = urllib.parse.urlsplit(self.path)
            if url.path == '/v1/_ping':
                return self.say(200, b'true')
            Handler.asked.append((url.path, dict(urllib.parse.parse_qsl(url.query)), self.headers.get('Authorization')))
            self.say(Handler.status, json.dumps({'num_results': 2, 'results': RESULTS}).encode())

        def say(self, status, body):
            self.send_response(status)
            self.send_header('Content-Type', 'application/json')
            self.send_header('Content-Length', str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass
    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    Handler.address = f'127.0.0.1:{server.server_port}'
    yield Handler
    server.shutdown()


def test_search(docker, index):
    out = docker.ok('search', '--no-trunc', '--format', '{{.Name}}|{{.Description}}|{{.StarCount}}|{{.IsOfficial}}', f'{index.address}/box & more')
    assert out.split('\n') == ['busybox|small|3000|[OK]', 'me/box|mine \u00e4|3|']
    assert index.asked[0][:2] == ('/v1/search', {'q': 'box & more', 'n': '25'})


@pytest.mark.differs('writes it with a capital')
def test_limit_and_filters(docker, api, index):
    docker.ok('search', '--limit', '7', f'{index.address}/x')
    assert index.asked[-1][1]['n'] == '7'
    assert docker.ok('search', '--filter', 'is-official=true', '--format', '{{.Name}}', f'{index.address}/x') == 'busybox'
    assert docker.ok('search', '--filter', 'is-official=false', '--format', '{{.Name}}', f'{index.address}/x') == 'me/box'
    assert docker.ok('search', '--filter', 'stars=10', '--format', '{{.Name}}', f'{index.address}/x') == 'busybox'
    for words, message in [('limit=500', 'limit 500 is outside the range of [1, 100]'), ('filters={"foo":["x"]}', 'foo'),
                           ('filters={"stars":["x"]}', 'stars=x')]:
        answer = api.get(f'/images/search?term={index.address}/x&' + urllib.parse.quote(words, safe='=&'))
        assert answer.status == 400 and message in answer.message
    answer = api.get(f'/images/search?term={index.address}/x').json
    assert [set(row) for row in answer] == [{'name', 'description', 'star_count', 'is_official', 'is_automated'}] * 2


def test_an_index_that_fails(docker, api, index):
    index.status = 503
    answer = api.get(f'/images/search?term={index.address}/x')
    assert answer.status >= 500 and '503' in answer.message
    result = docker('search', '127.0.0.1:1/x')
    assert result.code == 1 and '127.0.0.1:1' in result.err
    assert api.get('/images/search?term=https://x/y').status >= 400
