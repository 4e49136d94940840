"""Lines as Graylog and Fluentd get them, from a server that reads their protocols."""
import gzip
import json
import socket
import struct
import threading
import time
import zlib

import msgpack
import pytest

from engines import wait_until
from test_log_drivers import ran, run


class Receiver:
    """Every byte that comes, by connection or datagram."""

    def __init__(self, kind, path=None):
        stream = kind != 'udp'
        self.socket = socket.socket(socket.AF_UNIX if kind == 'unix' else socket.AF_INET, socket.SOCK_STREAM if stream else socket.SOCK_DGRAM)
        self.socket.bind(path or ('127.0.0.1', 0))
        self.address = f'{kind}://' + (path or '127.0.0.1:%d' % self.socket.getsockname()[1])
        self.datagrams, self.streamed = [], b''
        if stream:
            self.socket.listen()
        threading.Thread(target=self.accept if stream else self.take, daemon=True).start()

    def take(self):
        try:
            while True:
                self.datagrams.append(self.socket.recv(65536))
        except OSError:
            pass

    def accept(self):
        try:
            while True:
                connection = self.socket.accept()[0]
                while data := connection.recv(65536):
                    self.streamed += data
        except OSError:
            pass

    def gelf(self):
        """The messages, put together from their pieces."""
        if self.streamed:
            return [json.loads(text) for text in self.streamed.split(b'\0')[:-1]]
        whole, parts = [], {}
        for data in list(self.datagrams):
            if data[:2] != b'\x1e\x0f':
                whole.append(data)
                continue
            parts.setdefault(data[2:10], {})[data[10]] = data[12:]
            assert len(data) <= 1420
            if len(parts[data[2:10]]) == data[11]:
                whole.append(b''.join(text for _, text in sorted(parts.pop(data[2:10]).items())))
        unpack = {b'\x1f\x8b': gzip.decompress, b'\x78\x01': zlib.decompress, b'\x78\xda': zlib.decompress}
        return [json.loads(unpack.get(data[:2], bytes)(data)) for data in whole]

    def fluentd(self):
        unpacker = msgpack.Unpacker(raw=False)
        unpacker.feed(self.streamed)
        return list(unpacker)


@pytest.fixture
def receiver(tmp_path):
    made = []

    def start(kind):
        made.append(Receiver(kind, str(tmp_path / 'socket') if kind == 'unix' else None))
        return made[-1]
    yield start
    for one in made:
        one.socket.close()


@pytest.mark.parametrize('kind, options', [('udp', {}), ('udp', {'gelf-compression-type': 'zlib', 'gelf-compression-level': '9'}),
                                           ('udp', {'gelf-compression-type': 'none'}), ('tcp', {})])
def test_gelf(docker, receiver, name, kind, options):
    server = receiver(kind)
    ran(docker, name, 'gelf', {'gelf-address': server.address, 'labels': 'color', 'tag': '{{.Name}}!', **options}, 'sh', '-c',
        'echo "a \\"quoted\\" <line>"; echo; sleep 0.3; echo bad >&2', flags=['-l', 'color=blue'])
    wait_until(lambda: len(server.gelf()) >= 2, 10, 'both lines')
    shown = docker.inspect(name)
    out, error = server.gelf()
    assert (out['short_message'], out['level']) == ('a "quoted" <line>', 6) and (error['short_message'], error['level']) == ('bad', 3)
    assert out['version'] == '1.1' and out['host'] == socket.gethostname() and isinstance(out['timestamp'], float)
    wanted = {'_container_id': shown['Id'], '_container_name': name, '_image_id': shown['Image'], '_image_name': 'bb', '_tag': name + '!', '_color': 'blue'}
    assert {key: out.get(key) for key in wanted} == wanted
    assert out['_command'].startswith('sh -c echo') and out['_created'][:19] == shown['Created'][:19]
    assert docker('logs', name).out == 'a "quoted" <line>\n\n'


def test_a_long_line_goes_in_pieces(docker, receiver, name):
    server = receiver('udp')
    ran(docker, name, 'gelf', {'gelf-address': server.address, 'gelf-compression-type': 'none'}, 'sh', '-c', 'seq -w -s "" 2000; echo last')
    wait_until(lambda: len(server.gelf()) == 2, 10, 'both lines')
    assert server.gelf()[0]['short_message'] == ''.join(f'{i:04}' for i in range(1, 2001))
    assert len(server.datagrams) > 6


@pytest.mark.parametrize('kind, precise', [('tcp', False), ('unix', False), ('tcp', True)])
def test_fluentd(docker, receiver, name, kind, precise):
    server = receiver(kind)
    options = {'fluentd-address': server.address, 'labels': 'color', 'tag': 'app.{{.Name}}', 'fluentd-sub-second-precision': str(precise).lower()}
    ran(docker, name, 'fluentd', options, 'sh', '-c', 'echo hello; sleep 0.3; echo bad >&2', flags=['-l', 'color=blue'])
    wait_until(lambda: len(server.fluentd()) >= 2, 10, 'both lines')
    (tag, moment, out, *_), (_, _, error, *_) = server.fluentd()
    assert tag == f'app.{name}'
    assert out == {'container_id': docker.inspect(name)['Id'], 'container_name': '/' + name, 'source': 'stdout', 'log': 'hello', 'color': 'blue'}
    assert (error['source'], error['log']) == ('stderr', 'bad')
    seconds = struct.unpack('>II', moment.data)[0] if precise else moment
    assert abs(seconds - time.time()) < 60 and (not precise or moment.code == 0)


def test_a_fluentd_that_comes_later(docker, name):
    result = run(docker, name, 'fluentd', {'fluentd-address': '127.0.0.1:1'}, 'true')
    assert result.code == 125 and 'failed to initialize logging driver' in result.err and 'connection refused' in result.err
    docker.ok('rm', name)
    with socket.create_server(('127.0.0.1', 0)) as free:
        port = free.getsockname()[1]
    assert run(docker, name, 'fluentd', {'fluentd-address': f'127.0.0.1:{port}', 'fluentd-async': 'true', 'fluentd-retry-wait': '100ms'}, 'sh', '-c',
               'echo early; sleep 30').code == 0
    again = Receiver.__new__(Receiver)
    again.socket = socket.create_server(('127.0.0.1', port))
    again.streamed = b''
    threading.Thread(target=again.accept, daemon=True).start()
    wait_until(lambda: again.fluentd(), 10, 'the early line')
    assert again.fluentd()[0][2]['log'] == 'early'
    docker.ok('rm', '-f', name)
    again.socket.close()


@pytest.mark.parametrize('long_form', [False, True])
@pytest.mark.differs_today('sends a line again and again, and hangs at the end')
def test_a_fluentd_that_answers(docker, name, long_form):
    """Its first answer is a wrong one, so that message comes again; no message comes before the one before it was answered."""
    server, seen = socket.create_server(('127.0.0.1', 0)), []

    def serve():
        while len(seen) < 4:
            connection, unpacker = server.accept()[0], msgpack.Unpacker(raw=False)
            while data := connection.recv(65536):
                unpacker.feed(data)
                for message in unpacker:
                    seen.append((message[2]['log'], message[3]['chunk']))
                    text = (message[3]['chunk'] if len(seen) > 1 else '0' * 16).encode()
                    connection.sendall(b'\x81\xa3ack' + (b'\xd9\x10' if long_form else b'\xb0') + text)
    threading.Thread(target=serve, daemon=True).start()
    ran(docker, name, 'fluentd', {'fluentd-address': '127.0.0.1:%d' % server.getsockname()[1], 'fluentd-request-ack': 'true', 'fluentd-retry-wait': '10ms'},
        'sh', '-c', 'echo one; echo two; echo three; sleep 0.5')
    wait_until(lambda: len(seen) == 4, 10, 'all lines')
    assert [text for text, _ in seen] == ['one', 'one', 'two', 'three'] and seen[0] == seen[1] and len({chunk for _, chunk in seen}) == 3
    server.close()


@pytest.mark.differs_today('has the option from 29 on')
def test_a_fluentd_that_never_answers(docker, name):
    """What is not answered in time comes again, by a connection of its own: five times is less than the wait only with the option."""
    server, seen = socket.create_server(('127.0.0.1', 0)), []

    def serve():
        while len(seen) < 5:
            connection, unpacker = server.accept()[0], msgpack.Unpacker(raw=False)
            while data := connection.recv(65536):
                unpacker.feed(data)
                seen.extend(message[2]['log'] for message in unpacker)
    threading.Thread(target=serve, daemon=True).start()
    options = {'fluentd-address': '127.0.0.1:%d' % server.getsockname()[1], 'fluentd-request-ack': 'true', 'fluentd-retry-wait': '10ms', 'fluentd-read-timeout': '100ms'}
    assert run(docker, name, 'fluentd', options, 'sh', '-c', 'echo one; sleep 60').code == 0
    wait_until(lambda: len(seen) >= 5, 30, 'the line five times')
    assert set(seen) == {'one'}
    docker.ok('rm', '-f', name)
    server.close()


@pytest.mark.differs('has no such option')
def test_a_fluentd_that_takes_nothing(docker, tmp_path, name):
    """A message that does not get out in time goes by another connection, whole, and none twice."""
    server, held, logs = socket.socket(socket.AF_UNIX), [], []
    server.bind(str(tmp_path / 'socket'))
    server.listen()

    def read(connection):
        unpacker = msgpack.Unpacker(raw=False)
        while data := connection.recv(65536):
            unpacker.feed(data)
            logs.extend(message[2]['log'] for message in unpacker)

    def serve():
        while True:
            held.append(server.accept()[0])
            for connection in held if len(held) == 3 else held[3:][-1:]: # from the third on all are read
                threading.Thread(target=read, args=[connection], daemon=True).start()
    threading.Thread(target=serve, daemon=True).start()
    options = {'fluentd-address': 'unix://%s/socket' % tmp_path, 'fluentd-retry-wait': '10ms', 'fluentd-write-timeout': '200ms'}
    assert run(docker, name, 'fluentd', options, 'sh', '-c', 'head -c 900000 /dev/zero | tr "\\0" a; echo; sleep 60').code == 0
    wait_until(lambda: sum(map(len, logs)) >= 900000, 30, 'all of it')
    assert len(held) >= 3 and sum(map(len, logs)) == 900000
    docker.ok('rm', '-f', name)


def test_a_fluentd_that_comes_too_late(docker, receiver, tmp_path, name):
    """After the tries that it has, what waits is lost, and the next line begins anew."""
    path = str(tmp_path / 'socket')
    assert run(docker, name, 'fluentd', {'fluentd-address': 'unix://' + path, 'fluentd-async': 'true', 'fluentd-retry-wait': '10ms', 'fluentd-max-retries': '2'},
               'sh', '-c', 'echo early; while :; do sleep 0.1; ! [ -e /go ] || break; done; echo late; sleep 30').code == 0
    wait_until(lambda: 'early' in docker('logs', name).out, 10, 'the early line')
    time.sleep(0.5)
    server = receiver('unix')
    docker.ok('exec', name, 'touch', '/go')
    wait_until(lambda: server.fluentd(), 10, 'the late line')
    assert [record['log'] for _, _, record, *_ in server.fluentd()] == ['late']
    docker.ok('rm', '-f', name)


@pytest.mark.parametrize('driver, options, message', [
    ('gelf', {'gelf-address': 'udp://127.0.0.1:1', 'gelf-tcp-max-reconnect': '1'}, 'gelf-tcp-max-reconnect'),
    ('gelf', {'gelf-address': 'tcp://127.0.0.1:1', 'gelf-tcp-max-reconnect': '-1'}, '"gelf-tcp-max-reconnect" must be a positive integer'),
    ('fluentd', {'fluentd-max-retries': 'many'}, 'strconv.ParseUint: parsing "many": invalid syntax'),
    ('fluentd', {'fluentd-request-ack': 'perhaps'}, 'strconv.ParseBool: parsing "perhaps"'),
    ('gelf', {'gelf-address': 'tcp://127.0.0.1:1', 'gelf-tcp-reconnect-delay': 'soon'}, '"gelf-tcp-reconnect-delay" must be a positive integer'),
    ('json-file', {'cache-disabled': 'perhaps'}, 'invalid value for option cache-disabled: perhaps'),
    ('gelf', {}, 'gelf-address is a required parameter'),
    ('gelf', {'gelf-address': 'x'}, 'gelf: endpoint needs to be TCP or UDP'),
    ('gelf', {'gelf-address': 'http://x:1'}, 'gelf: endpoint needs to be TCP or UDP'),
    ('gelf', {'gelf-address': 'udp://x'}, 'gelf: please provide gelf-address as proto://host:port'),
    ('gelf', {'gelf-address': 'tcp://127.0.0.1:1', 'gelf-compression-type': 'gzip'}, 'compression is only supported on UDP'),
    ('gelf', {'gelf-address': 'udp://127.0.0.1:1', 'gelf-compression-type': 'lzma'}, 'unknown value "lzma" for log opt "gelf-compression-type"'),
    ('gelf', {'gelf-address': 'udp://127.0.0.1:1', 'gelf-compression-level': '10'}, 'unknown value "10" for log opt "gelf-compression-level"'),
    ('gelf', {'gelf-address': 'udp://127.0.0.1:1', 'nosuch': '1'}, 'unknown log opt "nosuch" for gelf log driver'),
    ('fluentd', {'fluentd-address': 'ftp://x'}, 'unsupported scheme'),
    ('fluentd', {'fluentd-async': 'perhaps'}, 'strconv.ParseBool: parsing "perhaps": invalid syntax'),
    ('fluentd', {'fluentd-retry-wait': 'soon'}, 'time: invalid duration "soon"'),
    ('fluentd', {'fluentd-retry-wait': '1'}, 'time: missing unit in duration "1"'),
    ('fluentd', {'fluentd-read-timeout': 'soon'}, 'invalid value for fluentd-read-timeout: value must be a duration: time: invalid duration "soon"'),
    ('fluentd', {'fluentd-write-timeout': '-1s'}, 'invalid value for fluentd-write-timeout: value must be a duration that is non-negative'),
    ('fluentd', {'nosuch': '1'}, "unknown log opt 'nosuch' for fluentd log driver"),
])
@pytest.mark.differs('names no option, or takes it')
def test_options_that_can_not_be(api, driver, options, message):
    answer = api.post('/containers/create', {'Image': 'bb', 'HostConfig': {'LogConfig': {'Type': driver, 'Config': options}}})
    assert answer.status == 400 and message in answer.message, answer


@pytest.mark.berth
@pytest.mark.parametrize('options', [{'fluentd-address': 'tls://127.0.0.1:1'}, {'fluentd-async-reconnect-interval': '1s'}])
def test_what_is_not_built_is_refused(api, options):
    answer = api.post('/containers/create', {'Image': 'bb', 'HostConfig': {'LogConfig': {'Type': 'fluentd', 'Config': options}}})
    assert answer.status == 501 and 'HostConfig.LogConfig.Config' in answer.message
