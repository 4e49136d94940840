"""The API over TCP with TLS: the same client, by --tlsverify; and who is kept out."""
import concurrent.futures
import os
import socket
import ssl
import subprocess
import sys
import time

import pytest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
import certificates  # noqa: E402
import engines  # noqa: E402

pytestmark = pytest.mark.berth


def free_port():
    with socket.socket() as sock:
        sock.bind(('127.0.0.1', 0))
        return sock.getsockname()[1]


class Guarded(engines.Berth):
    """A second berthd, which is reached by TCP too."""

    def __init__(self, *options):
        super().__init__()
        self.port = free_port()
        self.options = [f'-Htcp://127.0.0.1:{self.port}', *options]

    def command(self):
        return super().command() + self.options


@pytest.fixture(scope='module')
def certs(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp('certificates'))
    certificates.authority(folder)
    certificates.authority(folder, 'stranger')
    certificates.certificate(folder, 'server')
    certificates.certificate(folder, 'client', purpose='clientAuth')
    certificates.certificate(folder, 'other', ca='stranger', purpose='clientAuth')
    return folder


@pytest.fixture(scope='module')
def guarded(certs, busybox):
    engine = Guarded('--tlsverify', f'--tlscacert={certs}/ca.crt', f'--tlscert={certs}/server.crt', f'--tlskey={certs}/server.key').start()
    subprocess.run([engines.default_cli(), '-H', 'unix://' + engine.socket, 'load'], input=busybox, check=True, capture_output=True)
    yield engine
    engine.stop_all()
    engine.remove_folder()


@pytest.fixture
def cli(guarded, certs, tmp_path):
    def command(*arguments, client='client', ca='ca'):
        return ['timeout', '-s', 'KILL', '60', engines.default_cli(), '--config', str(tmp_path), '-H', f'tcp://127.0.0.1:{guarded.port}',
                '--tlsverify', f'--tlscacert={certs}/{ca}.crt', f'--tlscert={certs}/{client}.crt', f'--tlskey={certs}/{client}.key',
                *arguments]

    def run(*arguments, input=None, **options):
        return subprocess.run(command(*arguments, **options), input=input, capture_output=True, text=True)
    run.command = command
    return run


def test_the_client_needs_no_more_than_its_certificate(cli):
    done = cli('run', '--rm', 'bb', 'sh', '-c', 'echo out; echo err >&2; exit 3')
    assert (done.returncode, done.stdout, done.stderr) == (3, 'out\n', 'err\n')


def test_half_closes_go_through(cli):
    done = cli('run', '-i', '--rm', 'bb', 'sh', '-c', 'cat; echo the end', input='one\ntwo\n')
    assert (done.returncode, done.stdout) == (0, 'one\ntwo\nthe end\n')


def test_more_than_buffers_hold_goes_both_ways(cli):
    text = ''.join(f'line {i} of the text\n' for i in range(100000))
    done = cli('run', '-i', '--rm', 'bb', 'cat', input=text)
    assert done.stdout == text


def test_a_slow_reader_loses_nothing(cli):
    command = cli.command('run', '--rm', 'bb', 'sh', '-c', 'seq 200000')
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        time.sleep(2)
        assert process.stdout.read().split() == [str(i) for i in range(1, 200001)]


def test_exec_and_events_and_logs_follow(cli):
    assert cli('run', '-d', '--name', 'tls', 'bb', 'sh', '-c', 'echo begun; sleep 100').returncode == 0
    try:
        assert cli('exec', 'tls', 'echo', 'inside').stdout == 'inside\n'
        with subprocess.Popen(cli.command('logs', '-f', 'tls'), stdout=subprocess.PIPE, text=True) as follower:
            assert follower.stdout.readline() == 'begun\n'
            assert cli('kill', 'tls').returncode == 0
            assert follower.wait(20) == 0
    finally:
        cli('rm', '-f', 'tls')


def test_an_image_is_loaded(cli, busybox, tmp_path):
    archive = tmp_path / 'image.tar'
    archive.write_bytes(busybox)
    done = cli('load', '-i', str(archive))
    assert (done.returncode, done.stderr) == (0, '')


@pytest.mark.parametrize('client, ca', [('other', 'ca'), ('server', 'ca')], ids=['signed by somebody else', 'not for clients'])
def test_a_client_that_may_not(cli, client, ca):
    done = cli('version', client=client, ca=ca)
    assert done.returncode != 0 and 'certificate' in done.stderr


def test_a_client_without_a_certificate(guarded, certs):
    context = ssl.create_default_context(cafile=f'{certs}/ca.crt')
    with pytest.raises((ssl.SSLError, ConnectionError)), socket.create_connection(('127.0.0.1', guarded.port), 10) as plain:
        with context.wrap_socket(plain, server_hostname='127.0.0.1') as link:
            link.sendall(b'GET /_ping HTTP/1.0\r\n\r\n')
            if not link.recv(100):
                raise ConnectionError('closed')


def test_who_speaks_no_tls_is_dropped(guarded):
    """Nothing at all, plain HTTP, half a hello, noise: each for itself, at the same time."""
    def speak(said):
        with socket.create_connection(('127.0.0.1', guarded.port), 10) as link:
            link.settimeout(20)
            try:
                link.sendall(said)
                while link.recv(4096):
                    pass
            except ConnectionError:
                pass
        return True
    words = [b'', b'GET /_ping HTTP/1.0\r\n\r\n', b'\x16\x03\x01\x02\x00\x01', bytes(range(256)) * 100]
    with concurrent.futures.ThreadPoolExecutor(len(words)) as pool:
        assert all(pool.map(speak, words))
    assert guarded.answers()


def test_many_who_leave_in_the_middle(guarded, certs):
    context = ssl.create_default_context(cafile=f'{certs}/ca.crt')
    context.load_cert_chain(f'{certs}/client.crt', f'{certs}/client.key')
    before = len(os.listdir(f'/proc/{guarded.process.pid}/fd'))
    for i in range(60):
        plain = socket.create_connection(('127.0.0.1', guarded.port), 10)
        if i % 3 == 0:
            plain.close()
            continue
        link = context.wrap_socket(plain, server_hostname='127.0.0.1')
        link.sendall([b'', b'GET /eve', b'GET /events HTTP/1.1\r\nHost: x\r\n\r\n'][i % 3])
        link.close()
    assert not engines.settle(lambda: len(os.listdir(f'/proc/{guarded.process.pid}/fd')) > before + 3, 20)


# ---- what is refused at the start -----------------------------------------------------------------------------------


@pytest.mark.parametrize('options, says', [
    (['-H', 'tcp://127.0.0.1:1'], '--tls=false'),
    (['-H', 'tcp://127.0.0.1:1', '--tlsverify'], '--tlscert and --tlskey'),
    (['-H', 'tcp://127.0.0.1:1', '--tlsverify', '--tlscert=/none', '--tlskey=/none'], '--tlscacert'),
    (['-H', 'tcp://127.0.0.1:1', '--tls', '--tlscert=/none', '--tlskey=/none'], '/none'),
    (['-H', 'tcp://here', '--tls=false'], 'tcp://here'),
    (['-H', 'http://127.0.0.1:1'], 'http://127.0.0.1:1'),
    (['--tls=maybe'], 'invalid argument "maybe" for "--tls"'),
])
def test_bad_options(tmp_path, options, says):
    done = subprocess.run([os.path.join(engines.BIN, 'berthd'), '--data-root', f'{tmp_path}/data', '--exec-root', f'{tmp_path}/state', *options],
                          capture_output=True, text=True, timeout=20)
    lines = done.stderr.strip().split('\n')
    assert done.returncode == 1 and says in lines[-1] and lines[-1].startswith('berthd: ')


def test_plain_tcp_when_it_is_asked_for(busybox):
    engine = Guarded('--tls=false').start()
    try:
        done = subprocess.run([engines.default_cli(), '-H', f'tcp://127.0.0.1:{engine.port}', 'version', '--format', '{{.Server.Os}}'],
                              capture_output=True, text=True, timeout=30)
        assert done.stdout == 'linux\n'
        assert 'who reaches it' in engines.read(engine.log)
    finally:
        engine.stop_all()
        engine.remove_folder()
