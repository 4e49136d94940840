"""berthd as a service: who starts it is told how it does, sockets may be open already, and Prometheus may count."""
import glob
import grp
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import time
import urllib.error
import urllib.request

import pytest

import engines
from conftest import Docker
from test_daemon import Own
from test_tls import free_port

pytestmark = pytest.mark.berth


@pytest.fixture
def ended():
    """Daemons that are stopped at the end."""
    engines_of_test = []
    yield engines_of_test
    for engine in engines_of_test:
        assert engine.stop_all().returncode == 0
        engine.remove_folder()


# ---- the service manager --------------------------------------------------------------------------------------------


class Managed(Own):
    """Told by a socket, as systemd is."""

    def environment(self):
        return {**super().environment(), 'NOTIFY_SOCKET': self.folder + '/notify'}


@pytest.mark.parametrize('name', ['file', 'abstract'])
def test_what_the_manager_is_told(ended, name):
    engine = Managed()
    ended.append(engine)
    address = engine.folder + '/notify'
    if name == 'abstract':
        engine.environment = lambda: {**os.environ, 'NOTIFY_SOCKET': f'@{engine.folder}/notify'}
        address = '\0' + address
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address)
        manager.settimeout(20)
        engine.start()
        assert manager.recv(1000) == b'READY=1'
        os.kill(engine.process.pid, signal.SIGHUP)
        told = manager.recv(1000)
        assert re.fullmatch(rb'RELOADING=1\nMONOTONIC_USEC=\d+', told)
        assert abs(int(told.split(b'=')[-1]) - time.monotonic() * 1e6) < 20e6
        assert manager.recv(1000) == b'READY=1'
        engine.terminate()
        assert manager.recv(1000) == b'STOPPING=1'


class Activated(Own):
    """With sockets that somebody opened before."""

    def __init__(self, *options, port=None):
        super().__init__(*options)
        self.port = port

    def command(self):
        words = super().command()
        at = words.index('-H')
        del words[at:at + 2]
        return [*words, '-H', 'fd://']

    def start(self):
        unix = socket.socket(socket.AF_UNIX)
        unix.bind(self.socket)
        unix.listen(100)
        inherited = [unix]
        if self.port:
            tcp = socket.create_server(('127.0.0.1', self.port))
            inherited.append(tcp)
        # They begin at 3 in the daemon, and LISTEN_PID is its own: a shell in between knows both.
        redirect = ' '.join(f'{3 + i}<&{sock.fileno()}' for i, sock in enumerate(inherited))
        script = f'exec env LISTEN_PID=$$ LISTEN_FDS={len(inherited)} "$@"'
        with open(self.log, 'ab') as log:
            self.process = subprocess.Popen(['bash', '-c', f'exec {redirect}; {script}', 'bash', *self.command()], stdin=subprocess.DEVNULL, stdout=log,
                                            stderr=log, pass_fds=[sock.fileno() for sock in inherited], start_new_session=True)
        for sock in inherited:
            sock.close()
        engines.wait_until(self.answers_or_dead, 30, 'berthd answers')
        self.id = re.search(r'[0-9a-f]{8}', self.get('/info')['ID'].replace('-', '').lower()).group(0)
        return self


def test_sockets_that_were_open_before(ended, busybox, tmp_path):
    engine = Activated('--tls=false', port=free_port())
    ended.append(engine)
    docker = Docker(engine.start(), engines.default_cli(), str(tmp_path))
    docker.ok('load', input=busybox)
    assert docker.ok('run', '--rm', 'bb', 'sh', '-c', 'echo $LISTEN_FDS; ls /proc/self/fd | wc -l') == '\n4'
    assert urllib.request.urlopen(f'http://127.0.0.1:{engine.port}/_ping', timeout=10).read() == b'OK'
    engine.terminate()
    assert os.path.exists(engine.socket)  # it is the manager's
    os.unlink(engine.socket)


def test_an_open_tcp_socket_needs_tls(tmp_path):
    engine = Activated(port=free_port())
    with pytest.raises(AssertionError, match='a network socket needs --tlsverify'):
        engine.start()
    engine.remove_folder()


def test_no_socket_was_opened(tmp_path):
    done = subprocess.run([os.path.join(engines.BIN, 'berthd'), '--data-root', f'{tmp_path}/data', '--exec-root', f'{tmp_path}/state', '-H', 'fd://'],
                          capture_output=True, text=True, timeout=20, env={**os.environ, 'LISTEN_PID': '1', 'LISTEN_FDS': '1'})
    assert done.returncode == 1 and 'no sockets found via socket activation' in done.stderr


def test_the_units_are_sound(tmp_path):
    """By systemd's own reading of them."""
    if not shutil.which('systemd-analyze'):
        pytest.skip('there is no systemd here')
    subprocess.run([os.path.join(engines.ROOT, 'tools/install'), str(tmp_path)], check=True, capture_output=True)
    units = glob.glob(f'{tmp_path}/lib/systemd/system/*')
    assert len(units) == 2
    done = subprocess.run(['systemd-analyze', 'verify', '--man=no', *units], capture_output=True, text=True, timeout=60)
    assert (done.returncode, [line for line in done.stderr.splitlines() if 'berth' in line]) == (0, [])


# ---- who may use the socket -----------------------------------------------------------------------------------------


def test_the_socket_is_for_root_alone_or_a_group(ended):
    engine = Own('--group', 'daemon')
    ended.append(engine)
    seen = os.stat(engine.start().socket)
    assert (stat.S_IMODE(seen.st_mode), seen.st_uid, grp.getgrgid(seen.st_gid).gr_name) == (0o660, 0, 'daemon')


def test_the_socket_without_a_group(ended):
    engine = Own()
    ended.append(engine)
    seen = os.stat(engine.start().socket)
    try:
        expected = (0o660, grp.getgrnam('berth').gr_gid)
    except KeyError:
        expected = (0o600, 0)
    assert (stat.S_IMODE(seen.st_mode), seen.st_gid) == expected


class Beside(Own):
    """With a /run of its own, so that the host's /var/run/docker.sock is not touched."""

    def command(self):
        prepare = 'mount -t tmpfs none /run && ' + self.before + ' exec "$@"'
        return ['unshare', '-m', '--propagation', 'private', 'sh', '-c', prepare, 'sh', *super().command(), '--docker-socket']

    def link(self):
        return f'/proc/{self.process.pid}/root/run/docker.sock'


class ActivatedBeside(Beside, Activated):
    pass


@pytest.mark.parametrize('kind, before, target', [
    (Beside, '', '{}'), (Beside, 'echo somebody >/run/docker.sock;', None), (Beside, 'ln -s {} /run/docker.sock;', '{}'),
    (ActivatedBeside, '', '/run/berth/berth.sock')], ids=['free', 'taken', 'left by a killed daemon', 'activated'])
def test_docker_socket(ended, kind, before, target):
    engine = kind()
    engine.before = before.format(engine.socket)
    ended.append(engine)
    engine.start()
    engines.wait_until(lambda: 'serving ' in engines.read(engine.log), 10, 'the daemon is ready')
    assert ('the name is taken' in engines.read(engine.log)) == (not target)
    if not target:
        assert open(engine.link()).read() == 'somebody\n'
        return
    assert os.readlink(engine.link()) == target.format(engine.socket)
    folder = os.open(os.path.dirname(engine.link()), os.O_RDONLY)
    engine.terminate()
    assert 'docker.sock' not in os.listdir(folder)
    os.close(folder)
    if kind is ActivatedBeside:
        os.unlink(engine.socket)


# ---- metrics --------------------------------------------------------------------------------------------------------


def scrape(port):
    """{(name, labels as text): value}, after a look at the form."""
    answer = urllib.request.urlopen(f'http://127.0.0.1:{port}/metrics', timeout=20)
    assert answer.headers['Content-Type'].startswith('text/plain; version=0.0.4')
    found, kinds = {}, {}
    for line in answer.read().decode().splitlines():
        if line.startswith('# TYPE '):
            _, _, name, kind = line.split()
            kinds[name] = kind
        elif not line.startswith('#'):
            match = re.fullmatch(r'(\w+)(\{(?:\w+="(?:[^"\\]|\\.)*",?)*\})? (\S+)', line)
            assert match and match.group(1) in kinds, line
            assert kinds[match.group(1)] == 'gauge' or match.group(1).endswith('_total'), line
            found[match.group(1), match.group(2)] = float(match.group(3))
    return found


def test_metrics(ended, busybox, tmp_path):
    port = free_port()
    engine = Own('--metrics-addr', f'127.0.0.1:{port}')
    ended.append(engine)
    docker = Docker(engine.start(), engines.default_cli(), str(tmp_path))
    docker.ok('load', input=busybox)
    before = scrape(port)
    identity = docker.ok('run', '-d', '--name', 'counted', '--memory', '64m', 'bb', 'sh', '-c', 'i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; echo up; sleep 100')
    engines.is_up(docker, 'counted')
    after = scrape(port)
    states = 'engine_daemon_container_states_containers'
    assert (before[states, '{state="running"}'], after[states, '{state="running"}']) == (0, 1)
    assert after['engine_daemon_engine_cpus_cpus', None] == os.cpu_count()
    assert after['engine_daemon_events_total', None] > before['engine_daemon_events_total', None]
    assert after['process_resident_memory_bytes', None] > 1 << 20 and after['process_open_fds', None] > 5
    labels = f'{{id="{identity}",image="bb",name="counted"}}'
    assert after['berth_container_cpu_seconds_total', labels] > 0.01
    usage, limit = (after[f'berth_container_memory_{what}_bytes', labels] for what in ('usage', 'limit'))
    # Around a machine is a wider limit, as docker stats has it: its kernel and what runs it have a share beside the container's 64 MiB.
    assert 0 < usage < limit and (limit > 64 << 20 if docker.vm else limit == 64 << 20)
    assert after['berth_container_processes', labels] >= 1 and ('berth_container_network_received_bytes_total', labels) in after
    docker.ok('rm', '-f', 'counted')
    assert not [key for key in scrape(port) if key[0].startswith('berth_container_')]


def test_metrics_are_no_way_to_the_api(ended):
    port = free_port()
    engine = Own('--metrics-addr', f'127.0.0.1:{port}')
    ended.append(engine)
    engine.start()
    for path in ('/info', '/containers/json', '/v1.41/version', '/'):
        with pytest.raises(urllib.error.HTTPError, match='404'):
            urllib.request.urlopen(f'http://127.0.0.1:{port}{path}', timeout=10)
