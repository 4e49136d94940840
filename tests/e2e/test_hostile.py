"""Clients that mean harm, or are broken: nothing without an end, no lock held, no thread and no descriptor left."""
import contextlib
import json
import os
import socket
import threading
import time

import pytest

import engines

pytestmark = pytest.mark.berth

MANY = 5000


class Size:
    """What the daemon holds."""

    def __init__(self, engine):
        self.folder = f'/proc/{engine.process.pid}'
        self.threads, self.files = self.now()

    def now(self):
        return len(os.listdir(self.folder + '/task')), len(os.listdir(self.folder + '/fd'))

    def is_back(self):
        """Within what a few requests that just ended, and a worker of theirs, may still have."""
        threads, files = self.now()
        return threads <= self.threads + 3 and files <= self.files + 6

    def settles(self, seconds=30):
        engines.wait_until(self.is_back, seconds, f'threads and descriptors go ({self.now()} of {self.threads, self.files})')

    def resident_kib(self):
        return int(next(line for line in open(self.folder + '/status') if line.startswith('VmRSS')).split()[1])


@pytest.fixture
def size(docker):
    if docker.vm:
        pytest.skip('about the daemon: one wall is enough')
    time.sleep(0.2)
    return Size(docker.engine)


@pytest.fixture
def opened():
    """A stack of sockets that are closed at the end."""
    with contextlib.ExitStack() as stack:
        yield stack


def drain(link):
    """All that comes, until the end or a reset; False when it does not end."""
    data = b''
    try:
        while more := link.recv(65536):
            data += more
    except ConnectionError:
        pass
    except TimeoutError:
        return None
    return data


def answers_at_once(api):
    began = time.monotonic()
    assert api.get('/containers/json').status == 200
    assert time.monotonic() - began < 5


# ---- without end ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('piece', [b'X-Junk: ' + b'a' * 1000 + b'\r\n', b'a' * 1000], ids=['many headers', 'one header'])
def test_a_head_without_end(api, size, piece):
    sent = 0
    with api.raw(b'GET /_ping HTTP/1.1\r\nHost: x\r\n' + (b'X: ' if b':' not in piece else b''), seconds=20) as link:
        with contextlib.suppress(ConnectionError):
            while sent < 64 << 20:
                link.sendall(piece)
                sent += len(piece)
        assert sent < 4 << 20  # it was refused
        drain(link)
    answers_at_once(api)
    size.settles()


def test_a_path_without_end(api, size):
    with api.raw(b'GET /', seconds=20) as link:
        sent = 0
        with contextlib.suppress(ConnectionError):
            while sent < 16 << 20:
                link.sendall(b'a' * 1000)
                sent += 1000
        assert sent < 8 << 20  # a first line may be long, and what is behind it is in the kernel's hands
    size.settles()


@pytest.mark.parametrize('path', ['/containers/create', '/auth', '/nosuch', '/build/prune'])
def test_a_body_without_end(api, size, path):
    before = size.resident_kib()
    head = f'POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n'
    with api.raw(head.encode(), seconds=20) as link:
        sent = 0
        with contextlib.suppress(ConnectionError, TimeoutError):
            while sent < 200 << 20:
                link.sendall(b'10000\r\n' + b'[' * 65536 + b'\r\n')
                sent += 65536
        assert sent < 128 << 20  # what comes behind an answer is dropped for a while, so that the answer is read
        answer = drain(link)
        assert answer is not None and (answer == b'' or answer.split(b' ')[1] in (b'413', b'404', b'501')), answer
    answers_at_once(api)
    size.settles()
    assert size.resident_kib() < before + (16 << 10)


@pytest.mark.parametrize('path, says', [('/images/load', b'not a valid tar archive'), ('/build', b'tar')])
def test_a_load_without_end(api, size, path, says):
    """A stream's body is taken as it comes; who says that it is no image is heard although the client still sends."""
    junk = b'10000\r\n' + os.urandom(65536) + b'\r\n'
    with api.raw(f'POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-tar\r\nTransfer-Encoding: chunked\r\n\r\n'.encode(), seconds=30) as link:
        sent = 0
        with contextlib.suppress(ConnectionError, TimeoutError):
            while sent < 2 << 30:
                link.sendall(junk)
                sent += 65536
        assert sent < 1 << 30
        answer = drain(link)
        assert answer == b'' or says in answer, answer
    size.settles()


def test_who_sends_one_byte_at_a_time(api, opened, size):
    """A hundred of them, with heads and bodies that never come to an end, cost nobody else anything."""
    begun = [b'GET /_ping HTTP/1.1\r\nX: ', b'POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n']
    links = [opened.enter_context(api.raw(begun[i % 2])) for i in range(100)]
    for _ in range(5):
        for link in links:
            link.sendall(b'[')
        answers_at_once(api)
    opened.close()
    size.settles()


# ---- many -----------------------------------------------------------------------------------------------------------


def test_many_who_say_nothing(api, docker, opened, size):
    """No thread for one who is silent, and those who speak are served beside them."""
    links = [opened.enter_context(api.raw()) for _ in range(MANY)]
    engines.wait_until(lambda: size.now()[1] >= size.files + MANY, 20, 'all are accepted')
    assert size.now()[0] <= size.threads + 3
    answers_at_once(api)
    assert docker.ok('run', '--rm', 'bb', 'echo', 'served') == 'served'
    links[0].settimeout(30)
    assert links[0].recv(1) == b''  # it was not waited for without end
    engines.wait_until(lambda: size.is_back(), 40, 'all are dropped')


@pytest.mark.long
def test_many_who_keep_their_connection(api, docker, opened, size):
    """Each that has spoken has a thread, up to a bound; beyond it only what ends things is answered."""
    before = size.resident_kib()
    crowd = [opened.enter_context(api.raw(b'GET /_ping HTTP/1.1\r\nHost: x\r\n\r\n')) for _ in range(2100)]
    for link in crowd:
        assert link.recv(4096).startswith(b'HTTP/1.1 200')
    assert size.now()[0] < size.threads + 2400
    refused = api.get('/containers/json')
    assert (refused.status, refused.message) == (503, 'too many connections')
    assert api.get('/_ping').status == 200 and api.post('/containers/nosuch/kill').status == 404
    assert size.resident_kib() < before + (200 << 10)
    opened.close()
    size.settles(60)
    answers_at_once(api)


def test_many_followers_of_one_log(api, docker, name, opened, size):
    """Two hundred: some read, some never do, some go. Every reader gets every line, and a stop waits for none of them."""
    docker.ok('run', '-d', '--name', name, 'bb', 'sh', '-c', 'while [ ! -e /go ]; do usleep 20000; done; i=0; while [ $i -lt 3000 ]; do '
              'echo line $i xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx; i=$((i+1)); done; echo the end; sleep 1000')
    request = f'GET /containers/{name}/logs?stdout=1&follow=1 HTTP/1.1\r\nHost: x\r\n\r\n'.encode()
    links = [opened.enter_context(api.raw(request, seconds=40)) for _ in range(200)]
    for link in links:
        assert link.recv(4096).startswith(b'HTTP/1.1 200')
    docker.ok('exec', name, 'touch', '/go')
    for link in links[100:150]:
        link.close()
    texts = {}

    def read(i):
        data = b''
        while b'the end' not in data and (more := links[i].recv(65536)):
            data += more
        texts[i] = data
    readers = [threading.Thread(target=read, args=(i,)) for i in range(0, 100, 5)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join(60)
    assert {i: (text.count(b'line '), text[-100:]) for i, text in texts.items() if text.count(b'line ') != 3000 or b'the end' not in text} == {}
    assert len(texts) == 20
    answers_at_once(api)
    began = time.monotonic()
    docker.ok('kill', name)
    docker.ok('wait', name)
    assert time.monotonic() - began < 10
    for link in links[150:]:
        link.close()
    for i in range(100):
        assert drain(links[i]) is not None
    opened.close()
    size.settles()


# ---- who goes, and who stops in the middle --------------------------------------------------------------------------


def requests_of(name):
    return [f'GET /containers/{name}/logs?stdout=1&follow=1', f'POST /containers/{name}/attach?stream=1&stdout=1', f'POST /containers/{name}/wait',
            'GET /events', f'GET /containers/{name}/stats', f'GET /containers/{name}/export', f'GET /containers/{name}/archive?path=/bin',
            f'POST /containers/{name}/attach?stream=1&stdin=1&stdout=1', 'GET /images/bb/get']


def test_who_vanishes(api, docker, name, size):
    """Right after the request, after the head, in the middle of the answer: for each kind of long answer."""
    docker.ok('run', '-d', '--name', name, '-i', 'bb', 'sh', '-c', 'while :; do echo yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy; usleep 1000; done')
    for request in requests_of(name):
        for how in range(9):
            link = api.raw(f'{request} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n'.encode())
            if how % 3 and '/wait' not in request and '/events' not in request:
                link.recv(1000 if how % 3 == 1 else 65536)
            if how >= 6:  # a reset, not an end
                link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b'\1\0\0\0\0\0\0\0')
            link.close()
    answers_at_once(api)
    docker.ok('kill', name)
    docker.ok('rm', name)
    size.settles()


def test_who_stops_to_read(api, docker, name, opened, size):
    """Answers that nobody takes hold up no other verb, and end with their client."""
    docker.ok('run', '-d', '--name', name, '-i', 'bb', 'sh', '-c', 'while :; do echo yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy; done')
    for request in requests_of(name) * 3:
        link = opened.enter_context(socket.socket(socket.AF_UNIX))
        link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        link.connect(docker.engine.socket)
        link.sendall(f'{request} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n'.encode())
    time.sleep(1)
    answers_at_once(api)
    began = time.monotonic()
    assert docker.ok('run', '--rm', 'bb', 'echo', 'beside') == 'beside'
    docker.ok('exec', name, 'true')
    docker.ok('pause', name)
    docker.ok('unpause', name)
    docker.ok('rm', '-f', name)
    assert time.monotonic() - began < 30
    opened.close()
    size.settles()


# ---- idle -----------------------------------------------------------------------------------------------------------


def switches(engine):
    """How often each thread was put to sleep or woken."""
    found = {}
    for task in os.listdir(f'/proc/{engine.process.pid}/task'):
        lines = engines.read(f'/proc/{engine.process.pid}/task/{task}/status').splitlines()
        found[task] = [line for line in lines if 'ctxt_switches' in line]
    return found


def test_an_idle_daemon_sleeps(docker, name):
    """Not one wake-up, with a container and a connection that nobody uses."""
    docker.ok('run', '-d', '--name', name, '--network', 'none', 'bb', 'sleep', '1000')

    def is_quiet():
        before = switches(docker.engine)
        time.sleep(3)
        return switches(docker.engine) == before
    engines.wait_until(is_quiet, 60, 'three seconds without a wake-up')


def test_an_idle_daemon_is_small(tmp_path):
    """Some 5 MiB, most of them pages of libraries that every program on the host shares; how many of those are mapped around a fault, the page
    cache decides."""
    engine = engines.Berth(tmpfs=False)
    try:
        engine.start()
        status = engines.read(f'/proc/{engine.process.pid}/status')
        resident = {line.split()[0]: int(line.split()[1]) for line in status.splitlines() if line.startswith('Rss') or line.startswith('VmRSS')}
        print(json.dumps(resident))
        assert resident['VmRSS:'] <= 8 << 10 and resident['RssAnon:'] <= 2 << 10, resident
    finally:
        engine.stop_all()
        engine.remove_folder()
