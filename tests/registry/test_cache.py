"""--proxy: a cache of another registry. What is fetched is fetched once, tags are asked anew, and an upstream that is gone is not missed."""
import json
import os
import re
import sys
import threading
import time

import pytest

from conftest import ROOT, code, digest

sys.path.append(os.path.join(ROOT, 'tests/e2e'))
import registries  # noqa: E402
from images import entry, folder, tar  # noqa: E402

LAYERS = [tar([folder('a'), entry('a/one', data=os.urandom(300_000))]), tar([entry('a/two', data=b'two')])]


@pytest.fixture
def upstream():
    registry = registries.Registry()
    yield registry
    registry.close()


@pytest.fixture
def cache(make, upstream):
    return make('--proxy', f'http://{upstream.address}')


def get(cache, path, **headers):
    status, answered, body = cache.call('GET', '/v2/' + path, **headers)
    return status, body, answered


def pull(cache, name, reference):
    """All of an image, as a client pulls it; its manifest's bytes."""
    status, manifest, headers = get(cache, f'{name}/manifests/{reference}')
    assert status == 200, manifest
    assert headers['Docker-Content-Digest'] == digest(manifest)
    document = json.loads(manifest)
    for blob in [document['config'], *document['layers']]:
        status, data, _ = get(cache, f'{name}/blobs/{blob["digest"]}')
        assert status == 200 and digest(data) == blob['digest'], data[:100]
    return manifest


def test_what_is_fetched_is_fetched_once(cache, upstream):
    manifest, image, blobs = upstream.add_image('team/app', '1', LAYERS)
    first = pull(cache, 'team/app', '1')
    assert digest(first) == manifest
    assert pull(cache, 'team/app', '1') == pull(cache, 'team/app', manifest) == first
    assert upstream.count('GET', '/manifests/') == 1 and upstream.count('HEAD', '/manifests/1$') == 2
    for blob in [image, *blobs]:
        assert upstream.count('GET', blob) == 1


def test_an_upstream_that_is_gone(cache, upstream):
    upstream.add_image('app', '1', LAYERS)
    first = pull(cache, 'app', '1')
    upstream.close()
    begun = time.monotonic()
    for _ in range(3):
        assert pull(cache, 'app', '1') == first
    assert time.monotonic() - begun < 10
    for path in ('app/manifests/2', 'other/manifests/1', f'app/blobs/sha256:{"1" * 64}'):
        status, body, _ = get(cache, path)
        assert (status, code(body)) == (503, 'UNAVAILABLE'), body
    assert json.loads(get(cache, 'app/tags/list')[1])['tags'] == ['1']
    cache.stop()
    cache.start()
    assert pull(cache, 'app', '1') == first


def test_an_upstream_that_hangs(cache, upstream):
    """It takes connections, and says nothing: clients get what is here after a few seconds, and the next ones at once."""
    upstream.add_image('app', '1', LAYERS)
    first = pull(cache, 'app', '1')
    upstream.fault('/v2/', registries.hold(30), 99)
    begun = time.monotonic()
    assert pull(cache, 'app', '1') == first
    assert time.monotonic() - begun < 12
    begun = time.monotonic()
    assert pull(cache, 'app', '1') == first
    assert time.monotonic() - begun < 2


def test_a_tag_that_moves(cache, upstream):
    upstream.add_image('app', '1', LAYERS)
    first = pull(cache, 'app', '1')
    manifest, _, _ = upstream.add_image('app', '1', LAYERS[:1])
    assert digest(pull(cache, 'app', '1')) == manifest != digest(first)
    upstream.close()
    assert digest(pull(cache, 'app', '1')) == manifest
    assert pull(cache, 'app', digest(first)) == first


def test_what_is_not_there(cache, upstream):
    upstream.add_image('app', '1', LAYERS)
    for path, word in [('app/manifests/2', 'MANIFEST_UNKNOWN'), (f'app/manifests/sha256:{"1" * 64}', 'MANIFEST_UNKNOWN'),
                       (f'app/blobs/sha256:{"1" * 64}', 'BLOB_UNKNOWN'), ('no/manifests/1', 'MANIFEST_UNKNOWN')]:
        status, body, _ = get(cache, path)
        assert (status, code(body)) == (404, word), body
    for path, word in [('app/manifests/-', 'MANIFEST_UNKNOWN'), ('app/blobs/sha256:x', 'DIGEST_INVALID'), ('APP/manifests/1', 'NAME_INVALID')]:
        assert code(get(cache, path)[1]) == word
    assert cache.files() == []
    # What was not there may come.
    upstream.add_image('app', '2', LAYERS[:1])
    pull(cache, 'app', '2')


def test_an_index(cache, upstream):
    here, _, _ = upstream.add_image('app', 'amd64', LAYERS)
    index = upstream.add_index('app', '1', [('linux/amd64', here), ('linux/arm64', here)])
    status, body, _ = get(cache, 'app/manifests/1')
    assert status == 200 and digest(body) == index
    assert digest(pull(cache, 'app', here)) == here
    upstream.close()
    assert get(cache, 'app/manifests/1')[1] == body and digest(pull(cache, 'app', here)) == here


def test_many_ask_for_one_blob(cache, upstream):
    _, _, blobs = upstream.add_image('app', '1', LAYERS)
    upstream.fault(blobs[0], lambda request: (time.sleep(0.5), request.serve(upstream, request.path)), 99)
    got = []
    threads = [threading.Thread(target=lambda: got.append(get(cache, f'app/blobs/{blobs[0]}'))) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [(status, digest(body)) for status, body, _ in got] == [(200, blobs[0])] * 12
    assert upstream.count('GET', blobs[0]) == 1


def test_bytes_come_before_all_is_there(cache, upstream):
    """A slow upstream: the client sees what has come, and who leaves does not end it."""
    _, _, blobs = upstream.add_image('app', '1', LAYERS)
    data, gate = upstream.blobs[blobs[0]], threading.Event()

    def slow(request):
        request.send_response(200)
        request.send_header('Content-Length', str(len(data)))
        request.end_headers()
        request.wfile.write(data[:100_000])
        request.wfile.flush()
        if request.command == 'GET':
            gate.wait(20)
        request.wfile.write(data[100_000:])
    upstream.fault(f'GET {blobs[0]}', slow)  # HEAD has no body
    upstream.faults[-1][0] = blobs[0]
    upstream.faults.insert(0, [blobs[0], lambda request: request.serve(upstream, request.path), 1])
    link = cache.connect()
    link.request('GET', f'/v2/app/blobs/{blobs[0]}')
    answer = link.getresponse()
    assert answer.read(50_000) == data[:50_000]
    link.close()
    gate.set()
    assert get(cache, f'app/blobs/{blobs[0]}')[1] == data
    assert upstream.count('GET', blobs[0]) == 1


def test_ranges_and_heads(cache, upstream):
    _, _, blobs = upstream.add_image('app', '1', LAYERS)
    data = upstream.blobs[blobs[0]]
    status, body, headers = get(cache, f'app/blobs/{blobs[0]}', range='bytes=100-199')
    assert (status, body) == (206, data[100:200]) and headers['Content-Range'] == f'bytes 100-199/{len(data)}'
    status, headers, _ = cache.call('HEAD', f'/v2/app/blobs/{blobs[1]}')
    assert status == 200 and headers['Content-Length'] == str(len(upstream.blobs[blobs[1]]))
    status, headers, _ = cache.call('HEAD', '/v2/app/manifests/1')
    assert status == 200 and re.fullmatch('sha256:[0-9a-f]{64}', headers['Docker-Content-Digest'])


@pytest.mark.parametrize('function, status', [
    (registries.other_content, None), (registries.longer, None), (registries.part_then(0.5, registries.reset), 200), (registries.html(502), 200),
    (registries.html(403), 503), (registries.status(404), 404)])
def test_bad_blobs(cache, upstream, function, status):
    """None: the answer lacks its end. 200: tried again."""
    _, _, blobs = upstream.add_image('app', '1', LAYERS)
    upstream.faults += [[blobs[0], lambda request: request.serve(upstream, request.path), 1], [blobs[0], function, 1]]
    if status is None:
        with pytest.raises(Exception, match='IncompleteRead|0 bytes read|status 503'):
            found, body, _ = get(cache, f'app/blobs/{blobs[0]}')
            raise Exception(f'status {found}')
    else:
        assert get(cache, f'app/blobs/{blobs[0]}')[0] == status
    assert get(cache, f'app/blobs/{blobs[0]}')[1] == upstream.blobs[blobs[0]]
    assert [name for name in cache.files() if name.startswith('uploads/')] == []


@pytest.mark.parametrize('function', [registries.html(200), registries.status(200, b'{"schemaVersion":2,"mediaType":"x/y"}', Content_Type='x/y'),
                                      registries.status(200, b' ' * (5 << 20)), registries.html(502)])
def test_bad_manifests(cache, upstream, function):
    manifest, _, _ = upstream.add_image('app', '1', LAYERS)
    upstream.fault(f'/manifests/{manifest}', function, 9)
    status, body, _ = get(cache, 'app/manifests/1')
    assert (status, code(body)) == (503, 'UNAVAILABLE'), body
    assert cache.files() == []
    upstream.faults.clear()
    pull(cache, 'app', '1')


def test_without_digests_in_heads(cache, upstream):
    manifest, _, _ = upstream.add_image('app', '1', LAYERS)
    upstream.fault('/manifests/1', lambda request: request.answer(405) if request.command == 'HEAD' else request.serve(upstream, request.path), 99)
    assert digest(pull(cache, 'app', '1')) == manifest


def test_pages_of_tags(cache, upstream):
    upstream.page = 2
    for tag in 'cabed':
        upstream.add_image('app', tag, LAYERS[:1])
    assert json.loads(get(cache, 'app/tags/list')[1]) == {'name': 'app', 'tags': ['a', 'b', 'c', 'd', 'e']}
    status, body, headers = get(cache, 'app/tags/list?n=2&last=b')
    assert json.loads(body)['tags'] == ['c', 'd'] and headers['Link'] == '</v2/app/tags/list?last=d&n=2>; rel="next"'
    assert get(cache, 'no/tags/list')[0] == 404


def test_pushes_are_refused(cache):
    for method, path in [('POST', '/v2/app/blobs/uploads/'), ('PUT', '/v2/app/manifests/1'), ('DELETE', '/v2/app/manifests/1')]:
        status, _, body = cache.call(method, path, b'{}')
        assert (status, code(body)) == (405, 'UNSUPPORTED') and b'is a cache of another' in body


@pytest.mark.parametrize('kind', ['basic', 'bearer'])
def test_a_login(make, tmp_path, kind):
    upstream = registries.Registry((kind, 'anna', 'se:cret'))
    upstream.add_image('app', '1', LAYERS)
    (tmp_path / 'login').write_text('anna:se:cret\n')
    stranger = make('--proxy', f'http://{upstream.address}', name='stranger')
    assert get(stranger, 'app/manifests/1')[0] == 404
    pull(make('--proxy', f'http://{upstream.address}', '--proxy-login', str(tmp_path / 'login')), 'app', '1')
    upstream.close()


def test_two_repositories_share_a_file(cache, upstream):
    _, image, blobs = upstream.add_image('one', '1', LAYERS)
    upstream.add_image('two', '1', LAYERS)
    pull(cache, 'one', '1')
    pull(cache, 'two', '1')
    assert upstream.count('GET', blobs[0]) == 1
    # A repository from which nothing was pulled gives nothing away.
    upstream.fault('/v2/three/', registries.status(404), 9)
    assert get(cache, f'three/blobs/{blobs[0]}')[0] == 404


def test_what_nobody_asks_for_goes(make, upstream):
    cache = make('--proxy', f'http://{upstream.address}', '--proxy-keep', '1', '--grace', '1', '--collect-every', '1')
    upstream.add_image('app', '1', LAYERS)
    pull(cache, 'app', '1')
    deadline = time.monotonic() + 15
    while cache.files() and time.monotonic() < deadline:
        time.sleep(0.2)
    assert cache.files() == []
    pull(cache, 'app', '1')


def test_killed_in_the_middle(cache, upstream):
    _, _, blobs = upstream.add_image('app', '1', LAYERS)
    upstream.faults += [[blobs[0], lambda request: request.serve(upstream, request.path), 1],
                        [blobs[0], registries.part_then(0.5, registries.hold(30)), 1]]
    link = cache.connect()
    link.request('GET', f'/v2/app/blobs/{blobs[0]}')
    assert link.getresponse().read(1000)
    cache.stop(9)
    cache.start()
    pull(cache, 'app', '1')


def test_it_ends_while_it_fetches(cache, upstream):
    _, _, blobs = upstream.add_image('app', '1', LAYERS)
    upstream.faults += [[blobs[0], lambda request: request.serve(upstream, request.path), 1],
                        [blobs[0], registries.part_then(0.5, registries.hold(60)), 1]]
    link = cache.connect()
    link.request('GET', f'/v2/app/blobs/{blobs[0]}')
    assert link.getresponse().read(1000)
    begun = time.monotonic()
    cache.stop()
    assert time.monotonic() - begun < 15


def test_bad_words(tmp_path):
    import subprocess
    program = os.path.join(ROOT, 'build/bin/berth-registry')
    for words, message in [(['--proxy', 'r.example'], '--proxy: r.example: not of the form http[s]://HOST[:PORT]'),
                           (['--proxy-login', 'x'], '--proxy-login: for --proxy'),
                           (['--proxy', 'http://r.example', '--proxy-login', str(tmp_path / 'no')], 'o such file')]:
        done = subprocess.run([program, '--root', str(tmp_path / 'root'), *words], capture_output=True, text=True, timeout=20)
        assert done.returncode == 1 and message in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr
