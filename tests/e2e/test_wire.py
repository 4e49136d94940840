"""The Docker API as bytes: what the documentation does not say and every client depends on."""
import json
import re
import socket
import struct
import time

import pytest


def head(connection):
    """Reads up to the end of the response's head: (status line, headers, what followed in the same packets)."""
    data = b''
    while b'\r\n\r\n' not in data:
        more = connection.recv(65536)
        assert more, data
        data += more
    text, rest = data.split(b'\r\n\r\n', 1)
    lines = text.decode().split('\r\n')
    return lines[0], {k.lower(): v for k, v in (line.split(': ', 1) for line in lines[1:])}, rest


def rest_of(connection, data=b''):
    while True:
        more = connection.recv(65536)
        if not more:
            return data
        data += more


def frames(data):
    """Splits Docker's multiplexed stream: [(stream, payload)]."""
    found = []
    while data:
        kind, size = struct.unpack('>BxxxI', data[:8])
        assert len(data) >= 8 + size
        found.append((kind, data[8:8 + size]))
        data = data[8 + size:]
    return found


def joined(found, kind):
    return b''.join(payload for stream, payload in found if stream == kind)


def hijack(api, path, body=None, upgrade=True):
    content = json.dumps(body).encode() if body is not None else b''
    kind = 'application/json' if body is not None else 'text/plain'
    lines = [f'POST {path} HTTP/1.1', 'Host: x', f'Content-Type: {kind}', f'Content-Length: {len(content)}']
    if upgrade:
        lines += ['Connection: Upgrade', 'Upgrade: tcp']
    return api.raw('\r\n'.join(lines).encode() + b'\r\n\r\n' + content)


def created(api, *command, **config):
    answer = api.post('/containers/create', {'Image': 'bb', 'Cmd': list(command), 'AttachStdout': True, 'AttachStderr': True,
                                             **config})
    assert answer.status == 201, answer
    return answer.json['Id']


def version(api, wanted):
    """The prefix of a version, or a skip where the engine ends below it."""
    top = api.get('/version').json['ApiVersion']
    if tuple(map(int, top.split('.'))) < tuple(map(int, wanted.split('.'))):
        pytest.skip(f'the engine speaks {top} at most')
    return f'/v{wanted}'


# ---- 2.1 routing ----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('method, path', [('GET', '/nosuch'), ('GET', '/v1.41/nosuch'), ('PATCH', '/containers/json'),
                                          ('DELETE', '/_ping'), ('GET', '/containers/create')])
def test_unknown_route_or_method(api, method, path):
    answer = api.request(method, path)
    assert answer.status == 404 and answer.headers['Content-Type'] == 'application/json'
    if path != '/containers/create':
        assert answer.json == {'message': 'page not found'}


def test_keep_alive(api):
    request = b'GET /_ping HTTP/1.1\r\nHost: x\r\n\r\n'
    with api.raw() as connection:
        for _ in range(3):
            connection.sendall(request)
            status, headers, body = head(connection)
            assert status == 'HTTP/1.1 200 OK' and headers['content-length'] == '2'
            while len(body) < 2:
                body += connection.recv(10)
            assert body == b'OK'


def test_any_host_header(api):
    for host in ('', 'api.moby.localhost', 'example.com:99999'):
        with api.raw(f'GET /_ping HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n'.encode()) as connection:
            assert head(connection)[0] == 'HTTP/1.1 200 OK'


def test_names_with_slashes_in_the_path(api):
    for path in ('/images/127.0.0.1:5000/lib/bb/json', '/images/nosuch%2Fname/json'):
        answer = api.get(path)
        assert answer.status == 404 and 'No such image: ' in answer.message, answer


def test_a_start_with_a_body_is_the_old_api(api):
    identity = created(api, 'true')
    answer = api.post(f'/containers/{identity}/start', {'Binds': ['/:/x']})
    assert answer.status == 400


def test_json_ends_with_a_newline(api):
    for path in ('/version', '/info', '/containers/json', '/images/json'):
        answer = api.get(path)
        assert answer.headers['Content-Type'] == 'application/json' and answer.body.endswith(b'\n'), path


def test_lists_are_never_null(api):
    assert api.get('/containers/json?filters={"name":["nothing-like-it"]}').body == b'[]\n'


# ---- 2.2 versions ---------------------------------------------------------------------------------------------------

def test_ping(api):
    answer = api.get('/_ping')
    assert answer.body == b'OK' and answer.headers['Content-Type'] == 'text/plain; charset=utf-8'
    assert answer.headers['Cache-Control'] == 'no-cache, no-store, must-revalidate' and answer.headers['Pragma'] == 'no-cache'
    for method, path in (('HEAD', '/_ping'), ('GET', '/_ping'), ('GET', '/v1.41/_ping')):
        headers = api.request(method, path).headers
        assert re.fullmatch(r'1\.\d+', headers['Api-Version']) and headers['Ostype'] == 'linux'
        assert re.fullmatch(r'Docker/\S+ \(linux\)', headers['Server']) and headers['Docker-Experimental'] == 'false'
    assert api.request('HEAD', '/_ping').body == b''


def test_every_answer_says_its_version(api):
    for method, path in (('GET', '/version'), ('GET', '/nosuch'), ('GET', '/containers/nosuch/json')):
        headers = api.request(method, path).headers
        if path != '/nosuch':
            assert headers['Api-Version'] and headers['Ostype'] == 'linux' and '(linux)' in headers['Server']


def test_versions_out_of_range(api):
    top = api.get('/version').json['ApiVersion']
    answer = api.get('/v1.99/info')
    assert answer.status == 400
    assert answer.message == f'client version 1.99 is too new. Maximum supported API version is {top}'
    answer = api.get('/v1.1/info')
    assert answer.status == 400 and 'too old' in answer.body.decode()


def test_without_a_version_it_is_the_highest(api):
    version = api.get('/version').json
    assert version['ApiVersion'] == api.get('/_ping').headers['Api-Version']
    assert version['Os'] == 'linux' and version['Arch'] == 'amd64' and version['KernelVersion']
    assert 'Engine' in [component['Name'] for component in version['Components']]


# ---- 2.3 errors -----------------------------------------------------------------------------------------------------

def test_error_type_is_exactly_json(api):
    answer = api.get('/containers/nosuch/json')
    assert answer.headers['Content-Type'] == 'application/json' and list(answer.json) == ['message']


def test_not_modified(api):
    identity = created(api, 'sleep', '100')
    assert api.post(f'/containers/{identity}/start').status == 204
    again = api.post(f'/containers/{identity}/start')
    assert again.status == 304 and again.body == b''
    assert api.post(f'/containers/{identity}/kill').status == 204
    api.post(f'/containers/{identity}/wait')
    assert api.post(f'/containers/{identity}/stop').status == 304
    assert api.post(f'/containers/{identity}/kill').status == 409


def test_a_bad_filter(api):
    answer = api.get('/containers/json?filters={"nosuch":["x"]}')
    assert answer.status == 400 and "nvalid filter 'nosuch'" in answer.message
    assert api.get('/containers/json?filters={broken').status in (400, 500)


def test_both_forms_of_filters(api, name):
    api.post(f'/containers/create?name={name}', {'Image': 'bb'})
    for text in (f'{{"name":["{name}"]}}', f'{{"name":{{"{name}":true}}}}'):
        assert len(api.get(f'/containers/json?all=1&filters={text}').json) == 1


def test_logs_need_a_stream(api):
    identity = created(api, 'true')
    assert api.get(f'/containers/{identity}/logs').status == 400


def test_create_answers_an_empty_list_of_warnings(api):
    answer = api.post('/containers/create', {'Image': 'bb'})
    assert answer.status == 201 and answer.json['Warnings'] == [] and re.fullmatch('[0-9a-f]{64}', answer.json['Id'])


# ---- 2.4 hijack -----------------------------------------------------------------------------------------------------

@pytest.mark.berth
def test_nothing_comes_with_the_head(api):
    """A client that reads the head through a buffer reads nothing behind it."""
    container = created(api, 'sleep', '100')
    api.post(f'/containers/{container}/start')
    made = api.post(f'/containers/{container}/exec', {'AttachStdout': True, 'Cmd': ['echo', 'said']}).json['Id']
    connection = hijack(api, f'/exec/{made}/start', {'Detach': False, 'Tty': False})
    time.sleep(0.1)
    first = connection.recv(65536)
    assert first.startswith(b'HTTP/1.1 101 UPGRADED\r\n') and first.endswith(b'\r\n\r\n'), first
    assert rest_of(connection).endswith(b'said\n')
    connection.close()
    api.delete(f'/containers/{container}?force=true')


def test_attach_upgrades_at_once_before_start(api):
    identity = created(api, 'sh', '-c', 'echo out; echo err >&2')
    with hijack(api, f'/containers/{identity}/attach?stream=1&stdout=1&stderr=1') as connection:
        status, headers, rest = head(connection)
        assert status == 'HTTP/1.1 101 UPGRADED'
        assert headers['connection'] == 'Upgrade' and headers['upgrade'] == 'tcp' and rest == b''
        api.post(f'/containers/{identity}/start')
        found = frames(rest_of(connection))
    assert (joined(found, 1), joined(found, 2)) == (b'out\n', b'err\n')


def test_attach_without_upgrade_is_200_and_raw(api):
    identity = created(api, 'echo', 'out')
    with hijack(api, f'/containers/{identity}/attach?stream=1&stdout=1', upgrade=False) as connection:
        status, headers, rest = head(connection)
        assert status == 'HTTP/1.1 200 OK' and 'transfer-encoding' not in headers
        assert headers['content-type'] == 'application/vnd.docker.raw-stream'
        api.post(f'/containers/{identity}/start')
        assert joined(frames(rest_of(connection, rest)), 1) == b'out\n'


@pytest.mark.parametrize('wanted, tty, kind', [
    ('1.41', False, 'raw-stream'), ('1.42', False, 'multiplexed-stream'), ('1.42', True, 'raw-stream'),
])
def test_content_type_of_a_stream(api, wanted, tty, kind):
    prefix = version(api, wanted)
    identity = created(api, 'echo', 'out', Tty=tty)
    with hijack(api, f'{prefix}/containers/{identity}/attach?stream=1&stdout=1') as connection:
        _, headers, _ = head(connection)
        assert headers['content-type'] == 'application/vnd.docker.' + kind
        api.post(f'/containers/{identity}/start')
        data = rest_of(connection)
    assert data == b'out\r\n' if tty else frames(data) == [(1, b'out\n')]
    if wanted == '1.42':
        answer = api.get(f'{prefix}/containers/{identity}/logs?stdout=1')
        assert answer.headers['Content-Type'] == 'application/vnd.docker.' + kind


def test_half_close_does_not_end_the_session(api):
    identity = created(api, 'sh', '-c', 'sleep 0.5; echo late')
    with hijack(api, f'/containers/{identity}/attach?stream=1&stdout=1') as connection:
        head(connection)
        connection.shutdown(socket.SHUT_WR)
        api.post(f'/containers/{identity}/start')
        assert joined(frames(rest_of(connection)), 1) == b'late\n'


def test_stdin_once_closes_stdin(api):
    identity = created(api, 'wc', '-c', OpenStdin=True, StdinOnce=True, AttachStdin=True)
    with hijack(api, f'/containers/{identity}/attach?stream=1&stdin=1&stdout=1') as connection:
        head(connection)
        api.post(f'/containers/{identity}/start')
        connection.sendall(b'12345')
        connection.shutdown(socket.SHUT_WR)
        assert joined(frames(rest_of(connection)), 1).strip() == b'5'


def test_attach_with_logs_replays(api):
    identity = created(api, 'sh', '-c', 'echo early; sleep 100')
    api.post(f'/containers/{identity}/start')
    time.sleep(0.5)
    with hijack(api, f'/containers/{identity}/attach?logs=1&stream=1&stdout=1') as connection:
        _, _, rest = head(connection)
        while len(rest) < 14:
            rest += connection.recv(4096)
        assert frames(rest)[0] == (1, b'early\n')


def test_bad_detach_keys(api):
    identity = created(api, 'true')
    assert api.post(f'/containers/{identity}/attach?stream=1&stdout=1&detachKeys=ctrl-nosuch').status in (400, 500)


# ---- 2.5 wait -------------------------------------------------------------------------------------------------------

def test_wait_sends_its_head_at_once(api):
    identity = created(api, 'sh', '-c', 'exit 3')
    with api.raw(f'POST /containers/{identity}/wait?condition=next-exit HTTP/1.1\r\nHost: x\r\n\r\n'.encode()) as connection:
        status, headers, rest = head(connection)  # before any start: the client waits for this
        assert status == 'HTTP/1.1 200 OK' and headers['transfer-encoding'] == 'chunked' and rest == b''
        api.post(f'/containers/{identity}/start')
        body = connection.recv(4096)
        assert b'"StatusCode":3' in body


def test_wait_conditions(api):
    identity = created(api, 'sh', '-c', 'exit 4')
    api.post(f'/containers/{identity}/start')
    assert api.post(f'/containers/{identity}/wait').json['StatusCode'] == 4
    assert api.post(f'/containers/{identity}/wait?condition=not-running').json['StatusCode'] == 4
    with api.raw(f'POST /containers/{identity}/wait?condition=removed HTTP/1.1\r\nHost: x\r\n\r\n'.encode()) as connection:
        head(connection)
        api.delete(f'/containers/{identity}')
        assert b'"StatusCode":4' in connection.recv(4096)


@pytest.mark.differs('takes any word')
def test_an_unknown_condition(api):
    identity = created(api, 'true')
    assert api.post(f'/containers/{identity}/wait?condition=nosuch').status == 400


def test_auto_remove_also_when_the_start_fails(api):
    identity = created(api, '/nosuch', HostConfig={'AutoRemove': True})
    with api.raw(f'POST /containers/{identity}/wait?condition=removed HTTP/1.1\r\nHost: x\r\n\r\n'.encode()) as connection:
        head(connection)
        answer = api.post(f'/containers/{identity}/start')
        assert answer.status == 400 and 'no such file or directory' in answer.message
        assert b'"StatusCode":127' in connection.recv(4096)
    assert api.get(f'/containers/{identity}/json').status == 404


# ---- 2.6 logs, resize -----------------------------------------------------------------------------------------------

def test_one_line_of_log_is_one_frame(api):
    identity = created(api, 'sh', '-c', 'echo a; echo b')
    api.post(f'/containers/{identity}/start')
    api.post(f'/containers/{identity}/wait')
    assert frames(api.get(f'/containers/{identity}/logs?stdout=1&stderr=1').body) == [(1, b'a\n'), (1, b'b\n')]


def test_timestamps_are_inside_the_frame(api):
    identity = created(api, 'echo', 'a')
    api.post(f'/containers/{identity}/start')
    api.post(f'/containers/{identity}/wait')
    [(_, line)] = frames(api.get(f'/containers/{identity}/logs?stdout=1&timestamps=1').body)
    assert re.fullmatch(rb'\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z a\n', line)


def test_follow_sends_its_head_with_no_line_yet(api):
    identity = created(api, 'sleep', '100')
    api.post(f'/containers/{identity}/start')
    with api.raw(f'GET /containers/{identity}/logs?stdout=1&follow=1 HTTP/1.1\r\nHost: x\r\n\r\n'.encode()) as connection:
        assert head(connection)[0] == 'HTTP/1.1 200 OK'


def test_resize(api):
    identity = created(api, 'sleep', '100', Tty=True)
    assert api.post(f'/containers/{identity}/resize?h=10&w=20').status in (409, 500)
    api.post(f'/containers/{identity}/start')
    assert api.post(f'/containers/{identity}/resize?h=10&w=20').status == 200
    assert api.post(f'/containers/{identity}/resize?h=x&w=20').status == 400


# ---- 2.7 exec -------------------------------------------------------------------------------------------------------

def test_exec_has_its_code_when_the_stream_ends(api):
    identity = created(api, 'sleep', '100')
    api.post(f'/containers/{identity}/start')
    for code in range(10):
        made = api.post(f'/containers/{identity}/exec', {'Cmd': ['sh', '-c', f'echo {code}; exit {code}'], 'AttachStdout': True})
        exec_id = made.json['Id']
        with hijack(api, f'/exec/{exec_id}/start', {'Detach': False, 'Tty': False}) as connection:
            status, headers, rest = head(connection)
            assert status == 'HTTP/1.1 101 UPGRADED' and headers['upgrade'] == 'tcp'
            assert frames(rest_of(connection, rest)) == [(1, b'%d\n' % code)]
        state = api.get(f'/exec/{exec_id}/json').json  # clients read it once, right after the end
        assert (state['Running'], state['ExitCode']) == (False, code)


# ---- 2.10, 2.13 streams of JSON -------------------------------------------------------------------------------------

def test_load_streams_objects(api, busybox):
    answer = api.post('/images/load?quiet=1', busybox, headers={'Content-Type': 'application/x-tar'})
    assert answer.status == 200 and answer.headers['Content-Type'] == 'application/json'
    objects = [json.loads(line) for line in answer.body.split(b'\r\n') if line]
    assert objects[-1] == {'stream': 'Loaded image: bb:latest\n'}


def test_events_send_their_head_at_once(api):
    with api.raw(b'GET /events HTTP/1.1\r\nHost: x\r\n\r\n') as connection:
        status, headers, _ = head(connection)
        assert status == 'HTTP/1.1 200 OK' and headers['content-type'] == 'application/json'


def test_events_end_at_until(api):
    now = time.time()
    began = time.monotonic()
    api.get(f'/events?since={now - 5:.0f}&until={now + 1:.0f}')
    assert time.monotonic() - began < 5


def test_list_has_state_and_status(api, name):
    api.post(f'/containers/create?name={name}', {'Image': 'bb', 'Cmd': ['echo', 'a b']})
    [row] = api.get('/containers/json?all=1').json
    assert row['Names'] == ['/' + name] and row['State'] == 'created' and row['Status'] == 'Created'
    assert row['Command'] == "echo 'a b'" or row['Command'] == 'echo a b'
    assert row['Image'] == 'bb' and row['ImageID'].startswith('sha256:') and isinstance(row['Created'], int)
    assert row['Ports'] == [] and row['Mounts'] == [] and row['Labels'] == {} and 'bridge' in row['NetworkSettings']['Networks']


INSPECT_KEYS = '''Id Created Path Args State Image ResolvConfPath HostnamePath HostsPath LogPath Name RestartCount Driver
    Platform MountLabel ProcessLabel AppArmorProfile ExecIDs HostConfig GraphDriver Mounts Config NetworkSettings'''.split()


def test_inspect_has_every_key(api):
    it = api.get(f'/containers/{created(api, "true")}/json').json
    assert set(INSPECT_KEYS) <= set(it)
    assert set(it['State']) >= set('Status Running Paused Restarting OOMKilled Dead Pid ExitCode Error StartedAt FinishedAt'.split())
    assert it['State']['StartedAt'] == '0001-01-01T00:00:00Z' and it['ExecIDs'] is None
