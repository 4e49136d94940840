"""GET /containers/ID/attach/ws: a container's streams by a websocket, spoken here by hand."""
import base64
import hashlib
import os
import struct

import pytest

import engines

KEY = base64.b64encode(bytes(range(16))).decode()


class WebSocket:
    def __init__(self, api, path):
        self.socket = api.raw(f'GET {path} HTTP/1.1\r\nHost: x\r\nOrigin: http://x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n'
                              f'Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n\r\n'.encode(), seconds=30)
        self.data = b''
        while b'\r\n\r\n' not in self.data:
            self.data += self.socket.recv(4096)
        head, self.data = self.data.split(b'\r\n\r\n', 1)
        self.status, *lines = head.decode().split('\r\n')
        self.headers = {line.split(': ')[0].lower(): line.split(': ', 1)[1] for line in lines}

    def send(self, data, opcode=2, mask=b'\x01\x02\x03\x04', masked=True):
        size = len(data)
        head = bytes([0x80 | opcode, (0x80 if masked else 0) | (size if size < 126 else 126 if size < 65536 else 127)])
        head += b'' if size < 126 else struct.pack('>H', size) if size < 65536 else struct.pack('>Q', size)
        body = bytes(byte ^ mask[i % 4] for i, byte in enumerate(data)) if masked else data
        self.socket.sendall(head + (mask if masked else b'') + body)

    def take(self, size):
        while len(self.data) < size:
            got = self.socket.recv(65536)
            if not got:
                raise EOFError
            self.data += got
        out, self.data = self.data[:size], self.data[size:]
        return out

    def receive(self):
        first, size = self.take(2)
        assert not size & 0x80 and first & 0x80
        if size == 126:
            size = struct.unpack('>H', self.take(2))[0]
        elif size == 127:
            size = struct.unpack('>Q', self.take(8))[0]
        return first & 15, self.take(size)

    def until(self, text):
        out = b''
        while text not in out:
            opcode, data = self.receive()
            assert opcode in (1, 2), (opcode, out)
            out += data
        return out

    def rest(self):
        """What comes until the end."""
        out = b''
        try:
            while True:
                opcode, data = self.receive()
                if opcode == 8:
                    return out
                out += data
        except EOFError:
            return out


def test_both_ways(docker, api, name):
    docker.ok('run', '-d', '-i', '--name', name, 'bb', 'sh', '-c', 'echo up; while read line; do echo "got $line"; done; exit 3')
    engines.is_up(docker, name)
    client = WebSocket(api, f'/containers/{name}/attach/ws?stream=1&stdin=1&stdout=1&stderr=1')
    assert client.status.startswith('HTTP/1.1 101')
    expected = hashlib.sha1(KEY.encode() + b'258EAFA5-E914-47DA-95CA-C5AB0DC85B11').digest()
    assert client.headers['sec-websocket-accept'] == base64.b64encode(expected).decode()
    client.send(b'hello\n')
    assert client.until(b'hello\n') == b'got hello\n'
    client.send(b'a' * 300 + b'\n')
    assert client.until(b'a\n') == b'got ' + b'a' * 300 + b'\n'
    client.send(b'text\n', opcode=1)
    client.until(b'got text\n')
    client.socket.close()
    assert docker.inspect(name)['State']['Running']


def test_the_end_of_the_container_ends_it(docker, api, name):
    docker.ok('create', '-i', '--name', name, 'bb', 'sh', '-c', 'echo out; echo error >&2; head -c 100000 /dev/zero')
    client = WebSocket(api, f'/v1.40/containers/{name}/attach/ws?stream=1&stdout=1&stderr=1')
    docker.ok('start', name)
    out = client.rest()
    assert b'out\n' in out and b'error\n' in out and out.count(b'\0') == 100000


def test_a_container_that_does_not_read_holds_no_output(docker, api, name):
    docker.ok('run', '-d', '-i', '--name', name, 'bb', 'sh', '-c', 'echo up; while sleep 0.2; do echo tick; done')
    engines.is_up(docker, name)
    client = WebSocket(api, f'/containers/{name}/attach/ws?stream=1&stdin=1&stdout=1')
    client.socket.settimeout(2)
    try:
        for _ in range(400):
            client.send(b'x' * 60000)
        raise AssertionError('24 MB are somewhere')
    except TimeoutError:
        pass
    client.socket.settimeout(10)
    for _ in range(15):
        client.until(b'tick')


def test_what_was_sent_before_the_close_arrives(docker, api, name):
    docker.ok('run', '-d', '-i', '--name', name, 'bb', 'sh', '-c', 'echo up; sleep 2; head -c 200000 | wc -c; sleep 1000')
    engines.is_up(docker, name)
    client = WebSocket(api, f'/containers/{name}/attach/ws?stream=1&stdin=1')
    for _ in range(4):
        client.send(b'x' * 50000)
    client.send(struct.pack('>H', 1000), opcode=8)
    client.socket.close()
    engines.wait_until(lambda: '200000' in docker.ok('logs', name), 20, 'all of it was read')


def test_pings_and_the_clients_close(docker, api, name):
    docker.ok('run', '-d', '-i', '--name', name, 'bb', 'sleep', '1000')
    client = WebSocket(api, f'/containers/{name}/attach/ws?stream=1&stdin=1&stdout=1')
    client.send(b'alive?', opcode=9)
    assert client.receive() == (10, b'alive?')
    client.send(struct.pack('>H', 1000), opcode=8)
    assert client.rest() == b''


@pytest.mark.differs_today('takes frames without a mask', alone=True)
def test_who_does_not_speak_it(docker, api, name):
    docker.ok('run', '-d', '--name', name, 'bb', 'sleep', '1000')
    assert api.get(f'/containers/{name}/attach/ws?stream=1').status == 400
    headers = {'Upgrade': 'websocket', 'Connection': 'Upgrade', 'Sec-WebSocket-Key': KEY, 'Sec-WebSocket-Version': '13'}
    assert api.get('/containers/nosuch/attach/ws', headers=headers).status == 404
    client = WebSocket(api, f'/containers/{name}/attach/ws?stream=1&stdout=1')
    client.send(b'x', masked=False)  # a client's frames must be
    assert client.rest() == b''
    assert docker.inspect(name)['State']['Running']


def test_sizes_are_real(docker, api, name):
    docker.ok('run', '--name', name, 'bb', 'sh', '-c', 'head -c 3000000 /dev/urandom >/file')
    shown = api.get(f'/containers/{name}/json?size=1').json
    assert 3_000_000 <= shown['SizeRw'] < 3_100_000 or docker.vm
    assert shown['SizeRootFs'] >= shown['SizeRw'] + docker.inspect('bb')['Size'] - 4096
    if not docker.vm:
        assert docker.ok('ps', '-as', '--filter', f'name={name}', '--format', '{{.Size}}').startswith('3MB (virtual')


def test_checkpoints_are_experimental(docker, api, name):
    docker.ok('run', '-d', '--name', name, 'bb', 'sleep', '1000')
    for answer in (api.get(f'/containers/{name}/checkpoints'), api.post(f'/containers/{name}/checkpoints', {'CheckpointID': 'x'}),
                   api.delete(f'/containers/{name}/checkpoints/x')):
        assert answer.status == 501 and answer.message.startswith('This experimental feature is disabled by default.')


def test_sizes_of_terminals(docker, api, name):
    docker.ok('create', '-t', '--name', name, 'bb', 'sh', '-c', 'while :; do stty size; sleep 0.2; done')
    assert api.post(f'/containers/{name}/resize?h=1&w=1').status == 409
    docker.ok('start', name)
    assert api.post(f'/containers/{name}/resize?h=33&w=44').status == 200
    engines.wait_until(lambda: '33 44' in docker.ok('logs', name), 10, 'the new size')
    for words in ('h=x&w=1', 'h=1', '', 'h=1&w=', 'h=1.5&w=1'):
        assert api.post(f'/containers/{name}/resize?{words}').status == 400, words
    assert api.post('/containers/nosuch/resize?h=1&w=1').status == 404
    assert api.post('/exec/nosuch/resize?h=1&w=1').status == 404
