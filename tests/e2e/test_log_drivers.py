"""Log drivers and their options: rotation, what is sent elsewhere, and what docker logs says of it."""
import glob
import gzip
import json
import os
import re
import socket
import threading
import time

import pytest

from engines import Berth, SLOWER, read, wait_until
from test_survive import crash  # noqa: F401  (a fixture)


def run(docker, name, driver, options, *command, flags=()):
    words = [word for key, value in options.items() for word in ('--log-opt', f'{key}={value}')]
    return docker('run', '-d', '--name', name, '--log-driver', driver, *words, *flags, 'bb', *command)


def ran(docker, name, driver, options, *command, flags=()):
    result = run(docker, name, driver, options, *command, flags=flags)
    assert result.code == 0, result
    docker.ok('wait', name)


def log_files(docker, name):
    """The json-file log and what was rotated, newest first."""
    path = docker.inspect(name)['LogPath']
    return sorted(glob.glob(path + '*'), key=lambda one: (len(one), one))


# ---- json-file ------------------------------------------------------------------------------------------------------

def test_the_default(docker, name):
    ran(docker, name, 'json-file', {}, 'echo', 'hello')
    assert docker.inspect(name)['HostConfig']['LogConfig'] == {'Type': 'json-file', 'Config': {}}
    assert docker.ok('logs', name) == 'hello'


def test_rotation(docker, name):
    ran(docker, name, 'json-file', {'max-size': '10k', 'max-file': '3'}, 'seq', '-w', '1000')
    files = log_files(docker, name)
    assert [os.path.basename(one).split('json.log')[1] for one in files] == ['', '.1', '.2']
    for one in files:
        assert os.path.getsize(one) < 10_000 + 100
    lines = docker.ok('logs', name).split()
    assert lines[-1] == '1000' and 200 < len(lines) < 500
    assert lines == [f'{i:04}' for i in range(1001 - len(lines), 1001)]
    assert docker.inspect(name)['HostConfig']['LogConfig']['Config'] == {'max-size': '10k', 'max-file': '3'}


@pytest.mark.differs('leaves the old one behind')
def test_one_file_is_emptied(docker, name):
    ran(docker, name, 'json-file', {'max-size': '5k'}, 'seq', '-w', '1000')
    assert len(log_files(docker, name)) == 1 and os.path.getsize(log_files(docker, name)[0]) < 5100
    assert docker.ok('logs', '--tail', '1', name) == '1000'


def test_compressed_ones(docker, name):
    ran(docker, name, 'json-file', {'max-size': '10k', 'max-file': '4', 'compress': 'true'}, 'sh', '-c',
        'for i in 1 2 3 4 5 6; do seq -w ${i}00 ${i}99; sleep 0.3; done')
    wait_until(lambda: [os.path.basename(one).split('json.log')[1] for one in log_files(docker, name)] ==
               ['', '.1.gz', '.2.gz', '.3.gz'], 5, 'all are compressed')
    with gzip.open(log_files(docker, name)[1], 'rt') as older:
        assert json.loads(older.readline())['stream'] == 'stdout'
    lines = docker.ok('logs', name).split()
    assert lines == [str(i) for i in range(700 - len(lines), 700)] and len(lines) > 300
    assert docker.ok('logs', '--tail', '300', name).split() == [str(i) for i in range(400, 700)]


def test_tail_since_and_until_over_files(docker, name):
    ran(docker, name, 'json-file', {'max-size': '2k', 'max-file': '9'}, 'sh', '-c', 'seq -w 50; sleep 1.2; seq -w 51 99')
    assert len(log_files(docker, name)) > 2
    for tail in 1, 10, 48, 49, 50, 80, 99, 500:
        assert docker.ok('logs', '--tail', str(tail), name).split() == [f'{i:02}' for i in range(max(1, 100 - tail), 100)]
    middle = docker.ok('logs', '-t', name).splitlines()[50].split(' ')[0]
    assert docker.ok('logs', '--since', middle, name).split() == [str(i) for i in range(51, 100)]
    assert docker.ok('logs', '--until', middle[:19] + '.000000000Z', name).split() == [f'{i:02}' for i in range(1, 51)]


@pytest.mark.differs('gives some lines twice')
def test_follow_over_rotations(docker, name):
    with docker.popen('run', '--rm', '--name', name, '--log-opt', 'max-size=3k', '--log-opt', 'max-file=9', 'bb', 'sh', '-c',
                      'sleep 1; for i in $(seq 400); do echo $i; [ $((i % 20)) != 0 ] || sleep 0.05; done; sleep 1') as client:
        wait_until(lambda: docker('inspect', '-f', '{{.State.Running}}', name).out == 'true\n', 10)
        assert docker.ok('logs', '-f', name).split() == [str(i) for i in range(1, 401)]
        client.communicate()


def test_attributes(docker, name):
    ran(docker, name, 'json-file', {'labels': 'color,nosuch', 'env': 'WHO,NOT', 'tag': '{{.Name}}/{{.ImageName}}'}, 'echo', 'hello',
        flags=['-l', 'color=deep blue', '-l', 'other=x', '-e', 'WHO=me&you', '-e', 'HIDDEN=1'])
    line = json.loads(read(log_files(docker, name)[0]))
    assert line['attrs'] == {'color': 'deep blue', 'WHO': 'me&you', 'tag': f'{name}/bb'} and list(line) == ['log', 'stream', 'attrs', 'time']
    assert docker.ok('logs', name) == 'hello'
    assert docker.ok('logs', '--details', name) == f'WHO=me%26you,color=deep+blue,tag={name}%2Fbb hello'


def test_attributes_by_pattern(docker, name):
    ran(docker, name, 'json-file', {'labels': 'color', 'labels-regex': r'^app\.v\d$', 'env-regex': '(?i)^(who|WHERE)$'}, 'echo', 'hello',
        flags=['-l', 'color=blue', '-l', 'app.v1=x', '-l', 'app.vx=y', '-l', 'my.app.v1=z', '-e', 'WHO=me', '-e', 'where=here', '-e', 'WHOM=no'])
    assert json.loads(read(log_files(docker, name)[0]))['attrs'] == {'color': 'blue', 'app.v1': 'x', 'WHO': 'me', 'where': 'here'}


@pytest.mark.differs_today('says so when the container starts')
def test_a_bad_pattern(docker, name):
    result = run(docker, name, 'json-file', {'labels-regex': '('}, 'true')
    assert result.code == 125 and 'labels-regex: bad pattern: (' in result.err
    assert run(docker, name, 'local', {'labels-regex': 'x'}, 'true').err.count("unknown log opt 'labels-regex' for log driver local") == 1


def test_details_of_nothing(docker, name):
    ran(docker, name, 'json-file', {}, 'echo', 'hello')
    assert docker.ok('logs', '--details', name) == ' hello'


# ---- local and none -------------------------------------------------------------------------------------------------

def test_local(docker, name):
    ran(docker, name, 'local', {'max-size': '10k', 'max-file': '3', 'compress': 'false'}, 'sh', '-c', 'seq -w 1000; sleep 0.3; echo bad >&2')
    assert docker.inspect(name)['LogPath'] == ''
    result = docker('logs', name)
    lines = result.out.split()
    assert lines[-1] == '1000' and 100 < len(lines) < 1000 and result.err == 'bad\n'
    assert lines == [f'{i:04}' for i in range(1001 - len(lines), 1001)]
    assert docker.ok('logs', '--tail', '2', name) == '1000'


def test_none(docker, api, name):
    ran(docker, name, 'none', {}, 'echo', 'hello')
    result = docker('logs', name)
    assert result.code == 1 and 'configured logging driver does not support reading' in result.err
    assert api.get(f'/containers/{name}/logs?stdout=1').status == 501
    assert docker.ok('run', '--rm', '--log-driver', 'none', 'bb', 'echo', 'seen') == 'seen'


# ---- options that can't be ------------------------------------------------------------------------------------------

@pytest.mark.parametrize('driver, options, message', [
    ('json-file', {'nosuch': '1'}, "unknown log opt 'nosuch' for json-file log driver"),
    ('local', {'tag': 'x'}, "unknown log opt 'tag' for log driver local"),
    ('syslog', {'max-size': '1m'}, "unknown log opt 'max-size' for syslog log driver"),
    ('journald', {'max-file': '1'}, "unknown log opt 'max-file' for journald log driver"),
    ('json-file', {'mode': 'sometimes'}, 'logger: logging mode not supported: sometimes'),
    ('json-file', {'max-buffer-size': '1m'}, "logger: max-buffer-size option is only supported with 'mode=non-blocking'"),
    ('json-file', {'mode': 'non-blocking', 'max-buffer-size': 'much'}, 'error parsing option max-buffer-size'),
    ('syslog', {'syslog-facility': 'nosuch'}, 'invalid syslog facility'),
    ('syslog', {'syslog-format': 'nosuch'}, 'Invalid syslog format'),
    ('syslog', {'syslog-address': 'unix:///nosuch/socket'}, 'no such file or directory'),
    ('syslog', {'syslog-address': 'gopher://x:1'}, "unsupported scheme: 'gopher'"),
    ('syslog', {'syslog-address': 'x:1'}, 'syslog-address should be in form proto://address, got x:1'),
])
def test_options_that_can_not_be(api, driver, options, message):
    answer = api.post('/containers/create', {'Image': 'bb', 'HostConfig': {'LogConfig': {'Type': driver, 'Config': options}}})
    assert answer.status == 400 and message in answer.message, answer


@pytest.mark.parametrize('options, message', [
    ({'max-size': '-1'}, "invalid size: '-1'"), ({'max-size': 'big'}, 'big'), ({'max-file': '0', 'max-size': '1k'}, 'max-file cannot be less than 1'),
    ({'max-file': 'x', 'max-size': '1k'}, 'x'), ({'compress': 'perhaps'}, 'perhaps'),
    ({'compress': 'true'}, 'compress cannot be true when max-file is less than 2 or max-size is not set'),
])
def test_values_that_can_not_be(docker, name, options, message):
    """dockerd finds these out at the start."""
    result = run(docker, name, 'json-file', options, 'true')
    assert result.code == 125 and message in result.err, result


def test_an_unknown_driver(docker, name):
    result = run(docker, name, 'nosuch', {}, 'true')
    assert result.code == 125 and 'error looking up logging plugin nosuch: plugin "nosuch" not found' in result.err, result


# ---- syslog ---------------------------------------------------------------------------------------------------------

class Syslog:
    """A syslog server of one kind, and what it got."""

    def __init__(self, kind, folder, port=0):
        self.kind, self.got, self.over, self.paused = kind, b'', False, threading.Event()
        self.stream = kind in ('tcp', 'unix')
        if kind.startswith('unix'):
            self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM if self.stream else socket.SOCK_DGRAM)
            path = os.path.join(folder, 'log')
            self.socket.bind(path)
            self.address = f'{kind}://{path}'
        else:
            self.socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM if kind == 'tcp' else socket.SOCK_DGRAM)
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.socket.bind(('127.0.0.1', port))
            self.address = f'{kind}://127.0.0.1:{self.socket.getsockname()[1]}'
        if self.stream:
            self.socket.listen()
        self.socket.settimeout(0.1)
        self.connections = []
        self.paused.set()
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self):
        while not self.over:
            try:
                if self.stream and not self.connections:
                    one = self.socket.accept()[0]
                    one.settimeout(0.1)
                    self.connections.append(one)
                self.paused.wait()
                data = (self.connections[-1] if self.stream else self.socket).recv(65536)
                self.got += data if self.stream else data + (b'' if data.endswith(b'\n') else b'\n')
                if not data and self.stream:
                    self.connections.pop().close()
            except (socket.timeout, OSError):
                pass

    def lines(self):
        return self.got.decode().splitlines()

    def end(self):
        self.over = True
        self.paused.set()
        self.thread.join()
        self.socket.close()
        for one in self.connections:
            one.close()


@pytest.fixture
def syslog(tmp_path):
    opened = []

    def start(kind, port=0):
        opened.append(Syslog(kind, str(tmp_path), port))
        return opened[-1]
    yield start
    for one in opened:
        one.end()


@pytest.mark.parametrize('kind', ['unix', 'unixgram', 'udp', 'tcp'])
def test_syslog(docker, syslog, name, kind):
    server = syslog(kind)
    ran(docker, name, 'syslog', {'syslog-address': server.address, 'tag': '{{.Name}}', 'syslog-facility': 'local3'}, 'sh', '-c',
        'echo to stdout; sleep 0.2; echo to stderr >&2')
    wait_until(lambda: len(server.lines()) == 2, 10, 'both lines')
    head = r'<{}>[A-Z][a-z]{{2}} [ \d]\d \d\d:\d\d:\d\d {}\[\d+\]: '
    assert re.fullmatch(head.format(19 * 8 + 6, name) + 'to stdout', server.lines()[0])
    assert re.fullmatch(head.format(19 * 8 + 3, name) + 'to stderr', server.lines()[1])


@pytest.mark.parametrize('form, pattern', [
    ('rfc3164', r'<30>[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \S+ ID\[\d+\]: hello'),
    ('rfc5424', r'<30>1 \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(Z|[+-]\d\d:\d\d) \S+ ID \d+ ID - hello'),
    ('rfc5424micro', r'<30>1 \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}(Z|[+-]\d\d:\d\d) \S+ ID \d+ ID - hello'),
])
def test_forms_of_syslog(docker, syslog, name, form, pattern):
    server = syslog('tcp')
    ran(docker, name, 'syslog', {'syslog-address': server.address, 'syslog-format': form}, 'echo', 'hello')
    wait_until(lambda: server.lines(), 10, 'a line')
    assert re.fullmatch(pattern.replace('ID', docker.inspect(name)['Id'][:12]), server.lines()[0])


def test_logs_of_syslog_come_from_the_cache(docker, syslog, name):
    server = syslog('udp')
    ran(docker, name, 'syslog', {'syslog-address': server.address}, 'sh', '-c', 'seq 5; echo bad >&2')
    result = docker('logs', name)
    assert result.out.split() == ['1', '2', '3', '4', '5'] and result.err == 'bad\n'
    assert docker.inspect(name)['LogPath'] == ''


def test_no_cache(docker, syslog, name):
    server = syslog('udp')
    ran(docker, name, 'syslog', {'syslog-address': server.address, 'cache-disabled': 'true'}, 'echo', 'hello')
    result = docker('logs', name)
    assert result.code == 1 and 'configured logging driver does not support reading' in result.err


def test_a_syslog_that_is_not_there(docker, name):
    result = run(docker, name, 'syslog', {'syslog-address': 'tcp://127.0.0.1:1'}, 'true')
    assert result.code == 125 and 'failed to initialize logging driver' in result.err and 'connection refused' in result.err


def test_a_syslog_that_comes_back(docker, syslog, name):
    server = syslog('tcp')
    port = server.address.split(':')[-1]
    result = run(docker, name, 'syslog', {'syslog-address': server.address}, 'sh', '-c', 'i=0; while :; do echo line $i; i=$((i+1)); sleep 0.1; done')
    assert result.code == 0
    wait_until(lambda: len(server.lines()) > 3, 10)
    server.end()
    time.sleep(0.5)
    again = syslog('tcp', int(port))
    wait_until(lambda: len(again.lines()) > 3, 20, 'it is sent on')


@pytest.mark.berth
@pytest.mark.parametrize('mode', ['blocking', 'non-blocking'])
def test_a_syslog_that_takes_nothing(docker, syslog, name, mode):
    """It holds the output up for a while, or not at all: never for ever."""
    server = syslog('tcp')
    server.paused.clear()
    began = time.monotonic()
    options = {'syslog-address': server.address, 'mode': mode, **({'max-buffer-size': '64k'} if mode == 'non-blocking' else {})}
    result = run(docker, name, 'syslog', options, 'sh', '-c', 'head -c 20000000 /dev/zero | tr "\\0" "x" | fold -w 1000; echo; echo done')
    assert result.code == 0
    assert docker.ok('wait', name, seconds=60) == '0'
    took = time.monotonic() - began
    assert took < (8 if mode == 'non-blocking' else 40) * SLOWER
    assert mode == 'non-blocking' or took > 5
    assert docker.ok('logs', '--tail', '1', name) == 'done'


# ---- journald -------------------------------------------------------------------------------------------------------

@pytest.fixture
def journal():
    path = '/run/systemd/journal/socket'
    if os.path.exists(path):
        pytest.skip('there is a journal here')
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(path)
        server.settimeout(10)
        yield server
    os.unlink(path)
    for folder in '/run/systemd/journal', '/run/systemd':
        try:
            os.rmdir(folder)
        except OSError:
            pass


@pytest.mark.berth
def test_journald(docker, journal, name):
    ran(docker, name, 'journald', {'tag': 'a {{.ID}}', 'labels': 'a.color'}, 'sh', '-c', 'echo hello; sleep 0.2; echo bad >&2', flags=['-l', 'a.color=blue'])
    fields = dict(line.split('=', 1) for line in journal.recv(65536).decode().splitlines())
    identity = docker.inspect(name)['Id']
    wanted = {'MESSAGE': 'hello', 'PRIORITY': '6', 'CONTAINER_ID': identity[:12], 'CONTAINER_ID_FULL': identity, 'CONTAINER_NAME': name,
              'CONTAINER_TAG': 'a ' + identity[:12], 'SYSLOG_IDENTIFIER': 'a ' + identity[:12], 'IMAGE_NAME': 'bb', 'A_COLOR': 'blue'}
    assert {key: fields.get(key) for key in wanted} == wanted
    assert 'MESSAGE=bad\n' in journal.recv(65536).decode()
    assert docker.ok('logs', name) == 'hello'


@pytest.mark.berth
def test_no_journal(docker, name):
    if os.path.exists('/run/systemd/journal/socket'):
        pytest.skip('there is a journal here')
    result = run(docker, name, 'journald', {}, 'true')
    assert result.code == 125 and 'failed to initialize logging driver: journald is not enabled on this host' in result.err


# ---- the daemon's own -----------------------------------------------------------------------------------------------

@pytest.mark.berth
def test_the_daemons_driver(docker, busybox, name):
    other = Berth()
    own = other.command
    other.command = lambda: [*own(), '--log-driver', 'local', '--log-opt', 'max-size=1m', '--log-opt', 'max-file=2']
    try:
        other.start()
        there = type(docker)(other, docker.cli, docker.folder)
        there.ok('load', input=busybox)
        there.ok('run', '--name', name, 'bb', 'echo', 'hello')
        assert there.inspect(name)['HostConfig']['LogConfig'] == {'Type': 'local', 'Config': {'max-size': '1m', 'max-file': '2'}}
        assert there.ok('logs', name) == 'hello' and there.ok('info', '--format', '{{.LoggingDriver}}') == 'local'
        there.ok('create', '--name', name + 'j', '--log-driver', 'json-file', 'bb')
        assert there.inspect(name + 'j')['HostConfig']['LogConfig'] == {'Type': 'json-file', 'Config': {}}
    finally:
        other.stop_all()
        other.remove_folder()


@pytest.mark.berth
def test_the_log_goes_on_without_the_daemon(docker, crash, name):
    result = run(docker, name, 'json-file', {'max-size': '2k', 'max-file': '9'}, 'sh', '-c', 'for i in $(seq 100); do echo $i; sleep 0.02; done')
    assert result.code == 0
    crash.down()
    time.sleep(2.5 * SLOWER)
    crash.up()
    assert docker.ok('logs', name).split() == [str(i) for i in range(1, 101)]
