"""What a careless or hostile client sends: Docker's status and message, the daemon unhurt, nothing left."""
import socket
import threading
import time

import pytest


def test_an_unknown_image(docker, api):
    answer = api.post('/containers/create', {'Image': 'nosuch:1'})
    assert answer.status == 404 and answer.message == 'No such image: nosuch:1'
    assert docker('run', '--rm', 'nosuch:1', 'true').code == 125


@pytest.mark.parametrize('body', [b'{', b'[]', b'{"Image":', b'"text"', b'{"Image":"bb"} trailing', b'\xff\xfe', b'{"Image": 3}',
                                  b'{"Image":"bb","Cmd":{"a":1}}', b'{"Image":"bb","HostConfig":[]}', b'[' * 100_000], ids=lambda body: repr(body[:24]))
@pytest.mark.differs('answers 500, and ignores what follows the object')
def test_broken_json(api, body):
    answer = api.post('/containers/create', body, headers={'Content-Type': 'application/json'})
    assert answer.status == 400 and answer.message and answer.headers['Content-Type'] == 'application/json'


@pytest.mark.differs('answers 500')
def test_no_body_at_all(api):
    assert api.post('/containers/create').status == 400


def test_a_body_that_is_no_json_by_its_type(api):
    answer = api.post('/containers/create', b'{"Image":"bb"}', headers={'Content-Type': 'text/plain'})
    assert answer.status == 400 and 'application/json' in answer.message


@pytest.mark.parametrize('name', ['a', '-x', 'a b', 'a/b', 'é', '.', 'x' * 5000])
def test_a_bad_name(api, name):
    from urllib.parse import quote
    answer = api.post('/containers/create?name=' + quote(name, safe=''), {'Image': 'bb'})
    if name.startswith('xxx') and answer.status == 201:
        return  # Docker sets no bound
    assert answer.status == 400, answer


def test_a_taken_name(api, name):
    first = api.post(f'/containers/create?name={name}', {'Image': 'bb'})
    second = api.post(f'/containers/create?name={name}', {'Image': 'bb'})
    assert second.status == 409 and second.message == (
        f'Conflict. The container name "/{name}" is already in use by container "{first.json["Id"]}". '
        'You have to remove (or rename) that container to be able to reuse that name.')


@pytest.mark.parametrize('config', [
    {'Env': ['=x']},
    {'HostConfig': {'Memory': 1}},
    {'HostConfig': {'NetworkMode': 'container:nosuch'}},
    {'HostConfig': {'Binds': ['/a:/b:/c:/d']}},
    {'HostConfig': {'PortBindings': {'99999/tcp': [{'HostPort': '1'}]}}},
    pytest.param({'HostConfig': {'PortBindings': {'80/nosuch': [{'HostPort': '1'}]}}}, marks=pytest.mark.differs_today('ignores it')),
    {'HostConfig': {'PortBindings': {'80/tcp': [{'HostPort': '70000'}]}}},
    {'HostConfig': {'AutoRemove': True, 'RestartPolicy': {'Name': 'always'}}},
    {'WorkingDir': 'relative'},
    {'StopSignal': 'SIGNOSUCH'},
])
def test_values_that_can_not_be(api, config):
    answer = api.post('/containers/create', {'Image': 'bb', **config})
    if answer.status == 201:  # Docker finds some of these out at the start
        answer = api.post(f'/containers/{answer.json["Id"]}/start')
    assert 400 <= answer.status <= 501 and answer.message, answer


@pytest.mark.parametrize('method, path', [
    ('GET', '/containers/nosuch/json'), ('POST', '/containers/nosuch/start'), ('POST', '/containers/nosuch/stop'),
    ('POST', '/containers/nosuch/kill'), ('POST', '/containers/nosuch/wait'), ('DELETE', '/containers/nosuch'),
    ('GET', '/containers/nosuch/logs?stdout=1'), ('POST', '/containers/nosuch/attach?stream=1&stdout=1'),
    ('POST', '/containers/nosuch/resize?h=1&w=1'),
])
def test_an_unknown_container(api, method, path):
    answer = api.request(method, path)
    assert answer.status == 404 and b'No such container: nosuch' in answer.body


@pytest.mark.parametrize('data', [
    b'garbage\r\n\r\n', b'GET\r\n\r\n', b'\x16\x03\x01\x02\x00\x01', b'\x00' * 100, b'GET / HTTP/9.9\r\n\r\n',
    b'GET /_ping HTTP/1.1\r\n' + b'X: y\r\n' * 20_000 + b'\r\n', b'GET /' + b'a' * 200_000 + b' HTTP/1.1\r\n\r\n',
    b'POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n',
    b'POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999\r\n\r\n',
    b'POST /containers/create HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZZ\r\n',
    b'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n',
], ids=lambda data: repr(data[:24]))
def test_garbage_on_the_socket(api, data):
    with api.raw() as connection:
        try:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(65536):
                pass
        except OSError:
            pass
    assert api.get('/_ping').body == b'OK'


def test_clients_that_send_nothing_hold_nobody(api):
    idle = [api.raw(b'GET /_pi') for _ in range(100)] + [api.raw() for _ in range(100)]
    began = time.monotonic()
    assert api.get('/_ping').body == b'OK'
    assert time.monotonic() - began < 2
    for connection in idle:
        connection.close()


def test_a_client_that_leaves_in_the_middle_of_an_upload(api):
    connection = api.raw(b'POST /images/load HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-tar\r\n'
                         b'Transfer-Encoding: chunked\r\n\r\n1000\r\n' + b'x' * 2000)
    connection.close()
    assert api.get('/_ping').body == b'OK'


def test_a_client_that_leaves_a_wait_or_a_log(docker, api, name):
    docker.ok('run', '-d', '--name', name, 'bb', 'sleep', '100')
    for path in ('wait', 'attach?stream=1&stdout=1'):
        api.raw(f'POST /containers/{name}/{path} HTTP/1.1\r\nHost: x\r\n\r\n'.encode()).close()
    api.raw(f'GET /containers/{name}/logs?stdout=1&follow=1 HTTP/1.1\r\nHost: x\r\n\r\n'.encode()).close()
    docker.ok('kill', name)
    assert docker.ok('wait', name) == '137'


def test_many_clients_at_once(api):
    failures = []

    def ask():
        for _ in range(20):
            answer = api.get('/containers/json?all=1')
            if answer.status != 200:
                failures.append(answer)
    threads = [threading.Thread(target=ask) for _ in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_create_and_remove_at_once(api, name):
    """The same name by ten threads: each answer is 201 or 409, and one wins at a time."""
    answers = []

    def fight():
        for _ in range(5):
            answer = api.post(f'/containers/create?name={name}', {'Image': 'bb'})
            answers.append(answer.status)
            if answer.status == 201:
                answers.append(api.delete(f'/containers/{answer.json["Id"]}').status)
    threads = [threading.Thread(target=fight) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(answers) <= {201, 204, 409} and answers.count(201) == answers.count(204) > 0
