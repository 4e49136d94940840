"""One engine for the whole session, the real client in front of it, and after every test a look for what was left behind.

    BERTH_E2E_ENGINE   berthd (default) or dockerd, the reference: tests marked `berth` are left out there
    BERTH_E2E_ISOLATION  container (default) or vm: the same suite behind the other wall; see isolation.py
    BERTH_E2E_STORAGE  the storage driver: erofs or overlay; default: what the daemon chooses
    BERTH_E2E_SHORT    with vm: only the tests marked `short_vm`, in at most 40 boots
    BERTH_PEER_ROOT    a Debian root with a newer docker.io: that dockerd instead of Debian 12's; a relative name counts from the checkout
    BERTH_E2E_CLI      the docker client; default: the one on PATH, else Debian's, unpacked
    BERTH_E2E_KILLS    how often the kill loop kills (default 3)
    BERTH_E2E_LONG     anything: also what computes for long
    BERTH_E2E_LOAD_KILLS  how often a load is killed (default 8)
"""
import ctypes
import json
import os
import re
import signal
import socket
import subprocess
import uuid

import pytest

import engines
import images
import isolation
from terminal import Terminal

ENGINE = os.environ.get('BERTH_E2E_ENGINE', 'berthd')
PEER_ROOT = os.environ.get('BERTH_PEER_ROOT') and os.path.join(engines.ROOT, os.environ['BERTH_PEER_ROOT'])
IMAGE = 'bb:latest'
CLONE_NEWNET = 0x40000000
TEST_SECONDS = 90 * engines.SLOWER


def pytest_configure(config):
    config.addinivalue_line('markers', 'berth: about Berth itself, not run against the reference engine')
    config.addinivalue_line('markers', 'long: has ten times the time of another test')
    config.addinivalue_line('markers', 'container_only(path): asks for what the VM wall refuses, by its path in the list of it')
    config.addinivalue_line('markers', 'vm_only: about a machine; left out of the container pass')
    config.addinivalue_line('markers', 'short_vm: belongs to the short VM pass')
    config.addinivalue_line('markers', 'new_client(why): asks the client for what 20.10 has not, or says in other words')
    config.addinivalue_line('markers', 'differs(why): Berth deliberately differs from dockerd 20.10')
    config.addinivalue_line('markers', 'differs_today(why): Berth deliberately differs from every dockerd, the newest too; with alone=True from the newest only')
    # A process of tests that has no workers: dockerd and its tests share a network of their own, its firewall rules and bridge stay there.
    if ENGINE == 'dockerd' and not config.getoption('numprocesses', None):
        enter_own_network()


def enter_own_network():
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET) < 0:
        raise OSError(ctypes.get_errno(), 'unshare')
    subprocess.run(['ip', 'link', 'set', 'lo', 'up'], check=True)


def is_old_client():
    said = subprocess.run([engines.default_cli(), '--version'], capture_output=True, text=True, check=True).stdout
    return int(re.search(r'version (\d+)', said)[1]) < 23


def pytest_collection_modifyitems(config, items):
    isolation.choose(config, items)
    if is_old_client():
        for item in items:
            if new := item.get_closest_marker('new_client'):
                item.add_marker(pytest.mark.skip(reason='the client is 20.10: ' + new.args[0]))
    if ENGINE == 'berthd':
        return
    for item in items:
        if item.get_closest_marker('berth'):
            item.add_marker(pytest.mark.skip(reason='about Berth itself'))
        differs, today = item.get_closest_marker('differs'), item.get_closest_marker('differs_today')
        if today and (PEER_ROOT or not today.kwargs.get('alone')):
            item.add_marker(pytest.mark.skip(reason='dockerd ' + today.args[0]))
        elif differs and not PEER_ROOT:
            item.add_marker(pytest.mark.skip(reason='dockerd 20.10 ' + differs.args[0]))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call(item):
    """No test waits for ever."""
    def over(number, frame):
        raise TimeoutError(f'the test took longer than {TEST_SECONDS} s')
    signal.signal(signal.SIGALRM, over)
    signal.alarm(TEST_SECONDS * (10 if item.get_closest_marker('long') else 1))
    yield
    signal.alarm(0)


class Result:
    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err

    def __repr__(self):
        return f'exit {self.code}\nstdout: {self.out}\nstderr: {self.err}'


class Docker:
    """The client. Calling it returns a Result; ok() also demands exit code 0 and returns the output without its end."""

    def __init__(self, engine, cli, folder):
        self.engine = engine
        self.cli = cli
        self.folder = folder  # HOME: no configuration of the machine's user plays in
        self.vm = isolation.VM

    def command(self, *arguments, seconds=60):
        # A hung client ignores TERM.
        return ['timeout', '-s', 'KILL', str(seconds * engines.SLOWER), self.cli, '-H', 'unix://' + self.engine.socket,
                *isolation.arguments(arguments)]

    def environment(self):
        return {'HOME': self.folder, 'PATH': os.environ['PATH'], 'TERM': 'xterm', 'LANG': 'C.UTF-8'}

    def __call__(self, *arguments, input=None, seconds=60):
        data = input.encode() if isinstance(input, str) else input
        source = {'input': data} if data is not None else {'stdin': subprocess.DEVNULL}
        done = subprocess.run(self.command(*arguments, seconds=seconds), capture_output=True, env=self.environment(),
                              **source)
        return Result(done.returncode, done.stdout.decode(errors='replace'), done.stderr.decode(errors='replace'))

    def ok(self, *arguments, **options):
        result = self(*arguments, **options)
        assert result.code == 0, (arguments, result)
        return result.out.rstrip('\n')

    def needs(self, version, why):
        """Skips the test where the client is older than this version of the API."""
        own = self.ok('version', '--format', '{{.Client.APIVersion}}')
        if tuple(map(int, own.split('.'))) < version:
            pytest.skip(f'the client {why}')

    def popen(self, *arguments, seconds=60, **options):
        options = {'stdin': subprocess.DEVNULL, 'stdout': subprocess.PIPE, 'stderr': subprocess.PIPE, **options}
        return subprocess.Popen(self.command(*arguments, seconds=seconds), env=self.environment(), **options)

    def inspect(self, name):
        return json.loads(self.ok('inspect', name))[0]


class Response:
    def __init__(self, response, body):
        self.status, self.headers, self.body = response.status, response.headers, body

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def message(self):
        return self.json['message']

    def __repr__(self):
        return f'{self.status} {self.body[:500]!r}'


class Api:
    """Requests on the engine's socket, as bytes on the wire where it matters."""

    def __init__(self, engine):
        self.engine = engine

    def request(self, method, path, body=None, headers=None):
        headers = dict(headers or {})
        if method == 'POST' and re.match(r'(/v[\d.]+)?/containers/create', path):
            body = isolation.create_body(body)
        if body is not None and not isinstance(body, (bytes, str)):
            body = json.dumps(body)
            headers.setdefault('Content-Type', 'application/json')
        connection = engines.UnixHTTP(self.engine.socket, timeout=30 * engines.SLOWER)
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            return Response(response, response.read())
        finally:
            connection.close()

    def get(self, path, **options):
        return self.request('GET', path, **options)

    def post(self, path, body=None, **options):
        return self.request('POST', path, body, **options)

    def delete(self, path):
        return self.request('DELETE', path)

    def raw(self, data=b'', seconds=10):
        """A connected socket on which `data` was sent."""
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(seconds)
        connection.connect(self.engine.socket)
        connection.sendall(data)
        return connection

    def remove_all(self):
        for container in self.get('/containers/json?all=1').json:
            if container['Id'] in kept.ids:
                continue
            self.delete(f'/containers/{container["Id"]}?force=1&v=1')


@pytest.fixture(scope='session')
def engine():
    # dockerd shares the tests' network namespace, so that published ports can be tried.
    engine = engines.Dockerd(root=PEER_ROOT, own_network=False) if ENGINE == 'dockerd' else engines.Berth()
    try:
        engine.start()
        yield engine
        result = engine.stop_all()
        assert result.returncode == 0, result.stderr
        left = engine.footprint()
        assert not left, 'left on the host after --stop-all:\n' + '\n'.join(left)
    finally:
        if engine.process and engine.process.poll() is None:
            engine.process.kill()
            engine.process.wait()
        keep = os.environ.get('BERTH_E2E_LOG')
        if keep:
            with open(keep, 'w') as out:
                out.write(engines.read(engine.log))
        engine.remove_folder()


@pytest.fixture(scope='session')
def busybox():
    """The tiny image's archive."""
    return images.docker_archive(IMAGE, [images.busybox_root()])[0]


@pytest.fixture(scope='session')
def docker(engine, busybox, tmp_path_factory):
    docker = Docker(engine, engines.default_cli(), str(tmp_path_factory.mktemp('home')))
    docker.ok('load', input=busybox)
    boots = isolation.Boots(engine)
    yield docker
    boots.end()


@pytest.fixture(scope='session')
def api(docker):
    return Api(docker.engine)


@pytest.fixture(scope='session')
def debian(docker):
    """A real Debian root, imported."""
    path = subprocess.run([os.path.join(engines.ROOT, 'tools/rootfs')], stdout=subprocess.PIPE, text=True, check=True,
                          timeout=240).stdout.strip()
    docker.ok('import', '-c', 'CMD ["bash"]', path, 'debian:bookworm', seconds=120)
    return 'debian:bookworm'


@pytest.fixture
def name():
    """A container name nobody else uses."""
    return 't' + uuid.uuid4().hex[:10]


@pytest.fixture
def terminal(docker):
    """terminal('run', '-it', ...): the client on a terminal."""
    opened = []

    def start(*arguments, **options):
        opened.append(Terminal(docker.command(*arguments), **options))
        return opened[-1]
    yield start
    for one in opened:
        one.close()


@pytest.fixture
def sealed(tmp_path):
    """A folder with one known file, to see that nothing outside a container or an archive's target was touched."""
    (tmp_path / 'witness').write_text('untouched')
    yield tmp_path
    assert sorted(os.listdir(tmp_path)) == ['witness']
    assert (tmp_path / 'witness').read_text() == 'untouched'


class Kept:
    """Containers that live longer than a test, and what they have on the host."""

    def __init__(self):
        self.ids, self.things = set(), set()


kept = Kept()
accused = set()


class Keeper:
    """box(name, ...) is a container that sleeps. Behind the VM wall a module's tests share it, so that one boot serves them all;
    one that a test has stopped is made anew."""

    def __init__(self, docker, api):
        self.docker, self.api, self.shared = docker, api, {}

    def box(self, name, *options):
        if not self.docker.vm:
            self.docker.ok('run', '-d', '--name', name, *options, IMAGE, 'sleep', '1000')
            return name
        old = self.shared.get(options)
        if old and self.docker('inspect', '-f', '{{.State.Running}}', old).out.strip() == 'true':
            return old
        before = set(self.docker.engine.footprint_of_containers())
        kept.ids.add(self.docker.ok('run', '-d', '--name', name, *options, IMAGE, 'sleep', '1000'))
        kept.things |= set(self.docker.engine.footprint_of_containers()) - before
        self.shared[options] = name
        return name

    def end(self):
        for name in self.shared.values():
            self.api.delete(f'/containers/{name}?force=1&v=1')
        kept.ids.clear()
        kept.things.clear()
        left = engines.settle(lambda: set(self.docker.engine.footprint_of_containers()) - accused)
        assert not left, 'left on the host:\n' + '\n'.join(sorted(left))


@pytest.fixture(scope='module')
def keeper(docker, api):
    keeper = Keeper(docker, api)
    yield keeper
    keeper.end()


@pytest.fixture(autouse=True)
def nothing_left(docker, api):
    """The daemon is unhurt after every test, and nothing of the test's containers is left on the host."""
    engine = docker.engine
    daemon = engine.process.pid
    yield
    assert engine.answers(), 'the daemon no longer answers:\n' + engines.read(engine.log)[-2000:]
    if not getattr(engine, 'restarted', False):
        assert engine.process.pid == daemon
    engine.restarted = False
    api.remove_all()
    left = set(engines.settle(lambda: set(engine.footprint_of_containers()) - accused - kept.things))
    accused.update(left)  # one test fails for it, not all that follow
    assert not left, 'left on the host:\n' + '\n'.join(sorted(left))
