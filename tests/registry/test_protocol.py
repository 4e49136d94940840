"""What clients rely on and what strangers try; the specification's own conformance program was run by hand (docs/registry.md)."""
import http.client
import json
import os
import signal
import socket
import subprocess
import time

import pytest

from conftest import IMAGE, INDEX, PROGRAM, code, digest


def test_a_blob_whole_chunked_and_streamed(registry):
    data = os.urandom(300_000)
    assert registry.push_blob('a/whole', data) == digest(data)

    _, headers, _ = registry.call('POST', '/v2/a/chunked/blobs/uploads/')
    place = headers['Location']
    for start in range(0, len(data), 100_000):
        status, headers, _ = registry.call('PATCH', place, data[start:start + 100_000], Content_Range=f'{start}-{start + 99_999}')
        assert (status, headers['Range']) == (202, f'0-{start + 99_999}')
    assert registry.call('GET', place)[0] == 204
    assert registry.call('PUT', f'{place}?digest={digest(data)}')[0] == 201

    _, headers, _ = registry.call('POST', '/v2/a/streamed/blobs/uploads/')
    assert registry.call('PATCH', headers['Location'], iter([data[:7], data[7:]]))[0] == 202  # chunked transfer, no length
    assert registry.call('PUT', f'{headers["Location"]}?digest={digest(data)}')[0] == 201

    for name in ('whole', 'chunked', 'streamed'):
        status, headers, text = registry.call('GET', f'/v2/a/{name}/blobs/{digest(data)}')
        assert (status, text == data, headers['Docker-Content-Digest']) == (200, True, digest(data))
    assert registry.files() == [f'blobs/sha256/{digest(data)[7:]}']


@pytest.mark.parametrize('header, status, content_range, part', [
    ('bytes=0-9', 206, 'bytes 0-9/1000', slice(0, 10)),
    ('bytes=990-', 206, 'bytes 990-999/1000', slice(990, 1000)),
    ('bytes=-10', 206, 'bytes 990-999/1000', slice(990, 1000)),
    ('bytes=-5000', 206, 'bytes 0-999/1000', slice(0, 1000)),
    ('bytes=500-5000', 206, 'bytes 500-999/1000', slice(500, 1000)),
    ('bytes=1000-', 416, 'bytes */1000', None),
    ('bytes=-0', 416, 'bytes */1000', None),
    ('bytes=5-2', 200, None, slice(0, 1000)),
    ('bytes=0-1,5-6', 200, None, slice(0, 1000)),
    ('bytes=x-', 200, None, slice(0, 1000)),
    ('lines=1-2', 200, None, slice(0, 1000)),
])
def test_ranges(registry, header, status, content_range, part):
    data = os.urandom(1000)
    registry.push_blob('a', data)
    answer = registry.call('GET', f'/v2/a/blobs/{digest(data)}', Range=header)
    assert (answer[0], answer[1].get('Content-Range')) == (status, content_range)
    if part:
        assert answer[2] == data[part]
    head = registry.call('HEAD', f'/v2/a/blobs/{digest(data)}')
    assert (head[0], head[1]['Content-Length'], head[2]) == (200, '1000', b'')


def test_a_wrong_digest_leaves_nothing(registry):
    status, _, text = registry.call('POST', f'/v2/a/blobs/uploads/?digest={digest(b"x")}', b'y')
    assert (status, code(text)) == (400, 'DIGEST_INVALID')
    _, headers, _ = registry.call('POST', '/v2/a/blobs/uploads/')
    assert registry.call('PUT', f'{headers["Location"]}?digest={digest(b"x")}', b'y')[0] == 400
    assert registry.call('GET', headers['Location'])[0] == 404
    assert registry.files() == []


def test_chunks_out_of_order(registry):
    _, headers, _ = registry.call('POST', '/v2/a/blobs/uploads/')
    place = headers['Location']
    assert registry.call('PATCH', place, b'12345', Content_Range='0-4')[0] == 202
    status, headers, text = registry.call('PATCH', place, b'12345', Content_Range='10-14')
    assert (status, code(text), headers['Range']) == (416, 'RANGE_INVALID', '0-4')
    assert registry.call('PATCH', place, b'12345', Content_Range='5-20')[0] == 400
    assert registry.call('PATCH', place, b'12345', Content_Range='nonsense')[0] == 400
    assert registry.call('PATCH', place, b'67890', Content_Range='5-9')[0] == 202
    assert registry.call('PUT', f'{place}?digest={digest(b"1234567890")}')[0] == 201


def test_a_client_that_vanishes_can_go_on(registry):
    data = os.urandom(200_000)
    _, headers, _ = registry.call('POST', '/v2/a/blobs/uploads/')
    with socket.create_connection(('127.0.0.1', registry.port)) as sock:
        sock.sendall(f'PATCH {headers["Location"]} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data)}\r\n\r\n'.encode() + data[:70_000])
    for _ in range(200):
        status, answer, _ = registry.call('GET', headers['Location'])
        if status == 204 and answer['Range'] != '0-0':
            break
        time.sleep(0.02)
    have = int(answer['Range'].split('-')[1]) + 1 if status == 204 else 0
    assert 0 < have <= 70_000
    assert registry.call('PATCH', headers['Location'], data[have:], Content_Range=f'{have}-{len(data) - 1}')[0] == 202
    assert registry.call('PUT', f'{headers["Location"]}?digest={digest(data)}')[0] == 201


def test_an_upload_goes_on_after_kill_and_restart(registry):
    data = os.urandom(500_000)
    _, headers, _ = registry.call('POST', '/v2/a/blobs/uploads/')
    assert registry.call('PATCH', headers['Location'], data[:200_000])[0] == 202
    registry.stop(signal.SIGKILL)
    registry.start()
    status, answer, _ = registry.call('GET', headers['Location'])
    assert (status, answer['Range']) == (204, '0-199999')
    assert registry.call('PUT', f'{headers["Location"]}?digest={digest(data)}', data[200_000:])[0] == 201
    assert registry.call('GET', f'/v2/a/blobs/{digest(data)}')[2] == data


def test_mount(registry):
    registry.push_blob('from/here', b'shared')
    where = f'/v2/to/there/blobs/uploads/?mount={digest(b"shared")}&from='
    status, headers, _ = registry.call('POST', where + 'from/here')
    assert (status, headers['Location']) == (201, f'/v2/to/there/blobs/{digest(b"shared")}')
    assert registry.call('HEAD', headers['Location'])[0] == 200
    assert registry.call('POST', where + 'no/where')[0] == 202  # goes on as an upload
    assert registry.call('GET', f'/v2/other/blobs/{digest(b"shared")}')[0] == 404  # a repository has only what it was given


def test_manifest_by_tag_and_digest(registry):
    one = registry.push_image('a', 'v1', b'layer')
    status, headers, text = registry.call('GET', '/v2/a/manifests/v1', Accept=IMAGE)
    assert (status, headers['Content-Type'], headers['Docker-Content-Digest'], digest(text)) == (200, IMAGE, one, one)
    two = registry.push_image('a', 'v1', b'layer', annotations={'a': 'b'})  # the tag moves
    assert registry.call('GET', '/v2/a/manifests/v1')[1]['Docker-Content-Digest'] == two
    assert registry.call('HEAD', f'/v2/a/manifests/{one}')[0] == 200
    assert registry.call('DELETE', '/v2/a/manifests/v1')[0] == 202  # the tag alone
    assert registry.call('GET', '/v2/a/manifests/v1')[0] == 404
    assert registry.call('GET', f'/v2/a/manifests/{two}')[0] == 200
    assert registry.call('DELETE', f'/v2/a/manifests/{two}')[0] == 202
    assert registry.call('GET', f'/v2/a/manifests/{two}')[0] == 404


@pytest.mark.parametrize('document, media_type, status, says', [
    (b'{', IMAGE, 400, 'MANIFEST_INVALID'),
    (b'[]', IMAGE, 400, 'MANIFEST_INVALID'),
    (b'{"schemaVersion":2}', IMAGE, 400, 'MANIFEST_INVALID'),
    (b'{"schemaVersion":2}', 'text/html', 415, 'UNSUPPORTED'),
    (b'[' * 100_000, IMAGE, 400, 'MANIFEST_INVALID'),
    (json.dumps({'schemaVersion': 2, 'manifests': [{'digest': digest(b'no')}]}).encode(), INDEX, 404, 'MANIFEST_BLOB_UNKNOWN'),
    (json.dumps({'schemaVersion': 2, 'config': {'digest': digest(b'no')}, 'layers': []}).encode(), IMAGE, 404, 'MANIFEST_BLOB_UNKNOWN'),
])
def test_bad_manifests(registry, document, media_type, status, says):
    answer = registry.call('PUT', '/v2/a/manifests/x', document, content_type=media_type)
    assert (answer[0], code(answer[2])) == (status, says)
    assert registry.files() == []


def test_a_manifest_that_is_too_large(registry):
    assert registry.call('PUT', '/v2/a/manifests/x', b' ' * (4 << 20) + b'{}', content_type=IMAGE)[0] == 413


@pytest.mark.parametrize('method, path, status, says', [
    ('GET', '/v2/A/tags/list', 400, 'NAME_INVALID'),
    ('GET', '/v2/a/../b/tags/list', 400, 'NAME_INVALID'),
    ('GET', '/v2/a%00b/tags/list', 404, 'NAME_UNKNOWN'),
    ('GET', '/v2/none/tags/list', 404, 'NAME_UNKNOWN'),
    ('GET', '/v2/a/blobs/sha256:..%2f..%2fregistry.db', 404, 'NAME_UNKNOWN'),
    ('GET', '/v2/a/blobs/md5:1234', 400, 'DIGEST_INVALID'),
    ('GET', f'/v2/a/blobs/{digest(b"no")}', 404, 'BLOB_UNKNOWN'),
    ('DELETE', f'/v2/a/blobs/{digest(b"no")}', 404, 'BLOB_UNKNOWN'),
    ('GET', '/v2/a/manifests/none', 404, 'MANIFEST_UNKNOWN'),
    ('PUT', '/v2/a/manifests/-bad', 400, 'TAG_INVALID'),
    ('PATCH', '/v2/a/blobs/uploads/none', 404, 'BLOB_UPLOAD_UNKNOWN'),
    ('PUT', '/v2/a/blobs/uploads/none', 400, 'DIGEST_INVALID'),
    ('POST', '/v2/a/blobs/uploads/?digest=x', 400, 'DIGEST_INVALID'),
    ('POST', '/v2/a/blobs/uploads/?digest-algorithm=md5', 400, 'DIGEST_INVALID'),
    ('GET', '/v2/a/tags/list?n=-1', 404, 'NAME_UNKNOWN'),
    ('GET', '/v2/_catalog?n=x', 400, 'PAGINATION_NUMBER_INVALID'),
    ('POST', '/v2/a/tags/list', 405, 'UNSUPPORTED'),
    ('GET', '/v1/', 404, 'NAME_UNKNOWN'),
])
def test_refused_in_one_line(registry, method, path, status, says):
    answer = registry.call(method, path)
    assert (answer[0], code(answer[2])) == (status, says)
    assert registry.files() == []


def test_pages(registry):
    for tag in ('b', 'a', 'd', 'c', 'e'):
        registry.push_image('pages', tag, b'layer')
    seen, path = [], '/v2/pages/tags/list?n=2'
    while path:
        _, headers, text = registry.call('GET', path)
        assert len(json.loads(text)['tags']) <= 2
        seen += json.loads(text)['tags']
        path = headers['Link'].split('>')[0].lstrip('<') if 'Link' in headers else None
    assert seen == ['a', 'b', 'c', 'd', 'e']
    assert json.loads(registry.call('GET', '/v2/pages/tags/list?n=0')[2])['tags'] == []
    assert json.loads(registry.call('GET', '/v2/_catalog')[2]) == {'repositories': ['pages']}


def test_referrers(registry):
    subject = registry.push_image('a', 'v1', b'layer')
    said = {'digest': subject, 'size': 1, 'mediaType': IMAGE}
    signature = registry.push_image('a', 'sig', subject=said, artifactType='x/signature', annotations={'by': 'me'})
    registry.push_image('a', 'sbom', subject=said, artifactType='x/sbom')
    status, headers, text = registry.call('GET', f'/v2/a/referrers/{subject}')
    assert (status, headers['Content-Type']) == (200, INDEX)
    assert {item['artifactType'] for item in json.loads(text)['manifests']} == {'x/signature', 'x/sbom'}
    _, headers, text = registry.call('GET', f'/v2/a/referrers/{subject}?artifactType=x/signature')
    [only] = json.loads(text)['manifests']
    assert (only['digest'], only['annotations'], headers['OCI-Filters-Applied']) == (signature, {'by': 'me'}, 'artifactType')
    assert json.loads(registry.call('GET', f'/v2/none/referrers/{digest(b"no")}')[2])['manifests'] == []


def test_login(make, tmp_path):
    salted = subprocess.run(['perl', '-e', 'print crypt("secret", q($2b$05$abcdefghijklmnopqrstuu))'], capture_output=True,
                            text=True, check=True).stdout
    (tmp_path / 'users').write_text(f'# users\nann:{salted}\n')
    registry = make('--htpasswd', str(tmp_path / 'users'), '--realm', 'here')
    status, headers, text = registry.call('GET', '/v2/')
    assert (status, headers['WWW-Authenticate'], code(text)) == (401, 'Basic realm="here"', 'UNAUTHORIZED')
    for login, wanted in (('YW5uOnNlY3JldA==', 200), ('YW5uOndyb25n', 401), ('Ym9iOnNlY3JldA==', 401), ('!!', 401), ('YW5u', 401)):
        assert registry.call('GET', '/v2/', Authorization=f'Basic {login}')[0] == wanted
    assert registry.call('PUT', '/v2/a/manifests/x', b'{}', content_type=IMAGE)[0] == 401
    (tmp_path / 'users').write_text('')  # at once, without a restart
    assert registry.call('GET', '/v2/', Authorization='Basic YW5uOnNlY3JldA==')[0] == 401


def test_read_only(registry):
    registry.push_image('a', 'v1', b'layer')
    registry.stop()
    registry.start('--read-only')
    assert registry.call('GET', '/v2/a/manifests/v1')[0] == 200
    for method, path in (('POST', '/v2/a/blobs/uploads/'), ('PUT', '/v2/a/manifests/v2'), ('DELETE', '/v2/a/manifests/v1')):
        status, _, text = registry.call(method, path)
        assert (status, code(text)) == (405, 'UNSUPPORTED')


def test_metrics(registry):
    registry.push_blob('a', b'12345')
    registry.call('GET', f'/v2/a/blobs/{digest(b"12345")}')
    text = registry.call('GET', '/metrics')[2].decode()
    assert 'berth_registry_blob_bytes_total{direction="in"} 5\n' in text
    assert 'berth_registry_blob_bytes_total{direction="out"} 5\n' in text
    assert 'berth_registry_blobs 1\n' in text


def test_one_process_a_folder(registry):
    second = subprocess.run([PROGRAM, '--root', str(registry.root), '--listen', '127.0.0.1:0'], capture_output=True, text=True, timeout=20)
    assert second.returncode == 1 and second.stderr.count('\n') == 1 and 'another registry serves this folder' in second.stderr


@pytest.mark.parametrize('options, says', [
    (['--listen', '127.0.0.1'], 'not ADDRESS:PORT'),
    (['--listen', 'nonsense:1'], 'not ADDRESS:PORT'),
    (['--listen', '127.0.0.1:70000'], 'not ADDRESS:PORT'),
    (['--grace', 'x'], '--grace x: not a number of seconds'),
    (['what'], 'unexpected argument: what'),
    (['--root', '/proc/none'], '/proc/none'),
])
def test_bad_options(tmp_path, options, says):
    result = subprocess.run([PROGRAM, '--root', str(tmp_path / 'r'), *options], capture_output=True, text=True, timeout=20)
    assert result.returncode == 1 and result.stderr.count('\n') == 1 and says in result.stderr


def test_a_taken_port(registry, tmp_path):
    result = subprocess.run([PROGRAM, '--root', str(tmp_path / 'r'), '--listen', registry.address], capture_output=True, text=True, timeout=20)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1] == f'berth-registry: --listen {registry.address}: listen: address already in use'


def test_garbage_hurts_nobody(registry):
    for piece in (b'\0' * 1000, b'PRI * HTTP/2.0\r\n\r\n', b'GET\r\n\r\n', b'GET /v2/ HTTP/1.1\r\nContent-Length: -5\r\n\r\n', os.urandom(5000)):
        with socket.create_connection(('127.0.0.1', registry.port)) as sock:
            sock.settimeout(5)
            try:
                sock.sendall(piece)
                sock.shutdown(socket.SHUT_WR)
                sock.recv(1000)
            except OSError:
                pass  # hung up on
    link = http.client.HTTPConnection('127.0.0.1', registry.port, timeout=10)
    for _ in range(50):  # one connection, kept
        link.request('GET', '/v2/')
        assert link.getresponse().read() == b'{}\n'
    link.close()
