"""The engines that the end-to-end tests and benches drive: Berth, and a real dockerd as the reference.

Each has its own data root, state folder and socket below one temporary folder, so several run side by side.
"""
import contextlib
import glob
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time

ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), '..', '..'))
BIN = os.environ.get('BERTH_BIN', os.path.join(ROOT, 'build/bin'))
PEERS = os.path.join(ROOT, 'build/peers')


# Of every bound, where the tests' processors are emulated.
SLOWER = 3 if os.environ.get('BERTH_E2E_ISOLATION') == 'vm' else 1


def wait_until(condition, seconds=10, what='condition', step=0.02):
    """Polls until condition() is true; its last value is returned."""
    seconds *= SLOWER
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f'{what}: not within {seconds} s')
        time.sleep(step)


def is_up(docker, name):
    """Waits until the container's process has said "up": before it has its handlers, a signal to PID 1 is lost."""
    wait_until(lambda: docker.ok('logs', name).startswith('up'), 20, 'the process is up')


def settle(left, seconds=10):
    """Waits until left() is empty; returns what is still there at the end."""
    end = time.monotonic() + seconds * SLOWER
    while True:
        value = left()
        if not value or time.monotonic() > end:
            return value
        time.sleep(0.05)


def default_cli():
    chosen = os.environ.get('BERTH_E2E_CLI') or shutil.which('docker')
    if not chosen:
        subprocess.run([os.path.join(ROOT, 'tools/peers'), 'docker-cli'], check=True, timeout=120)
        chosen = os.path.join(PEERS, 'docker-cli/usr/bin/docker')
    return os.path.realpath(chosen)


def read(path, fallback=''):
    try:
        with open(path, errors='replace') as file:
            return file.read()
    except OSError:
        return fallback


class UnixHTTP(http.client.HTTPConnection):
    def __init__(self, path, timeout=30):
        super().__init__('localhost', timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Engine:
    """A daemon in a folder of its own. start() returns when it answers."""
    name = ''

    def __init__(self, folder=None, tmpfs=False):
        self.folder = folder or tempfile.mkdtemp(prefix='e2e-', dir='/tmp')
        if tmpfs:
            subprocess.run(['mount', '-t', 'tmpfs', 'berth-test', self.folder], check=True)
        self.tmpfs = tmpfs
        self.socket = os.path.join(self.folder, 'api.sock')
        self.data = os.path.join(self.folder, 'data')
        self.state = os.path.join(self.folder, 'state')
        self.log = os.path.join(self.folder, 'daemon.log')
        self.process = None

    def command(self):
        raise NotImplementedError

    def environment(self):
        return dict(os.environ)

    def start(self):
        with open(self.log, 'ab') as log:
            self.process = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            env=self.environment(), start_new_session=True)
        wait_until(self.answers_or_dead, 60, f'{self.name} answers')
        return self

    def answers_or_dead(self):
        if self.process.poll() is not None:
            raise AssertionError(f'{self.name} ended with {self.process.returncode}:\n{read(self.log)[-2000:]}')
        return self.answers()

    def answers(self):
        try:
            connection = UnixHTTP(self.socket, timeout=5)
            connection.request('GET', '/_ping')
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False

    def terminate(self):
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f'{self.name} ignored SIGTERM')

    def kill9(self):
        self.process.kill()
        self.process.wait()

    def get(self, path):
        connection = UnixHTTP(self.socket)
        connection.request('GET', path)
        return json.loads(connection.getresponse().read())

    def remove_folder(self):
        if self.tmpfs:
            subprocess.run(['umount', '-l', self.folder], check=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def daemon_pids(self):
        return [self.process.pid]

    def pss_kib(self):
        total = 0
        for pid in self.daemon_pids():
            match = re.search(r'^Pss:\s+(\d+) kB', read(f'/proc/{pid}/smaps_rollup'), re.M)
            total += int(match.group(1)) if match else 0
        return total


class Berth(Engine):
    name = 'berthd'

    def __init__(self, storage=os.environ.get('BERTH_E2E_STORAGE'), **options):
        super().__init__(**options)
        self.storage = storage

    def command(self):
        driver = ['--storage-driver', self.storage] if self.storage else []
        return [os.path.join(BIN, 'berthd'), '-D', '--data-root', self.data, '--exec-root', self.state,
                '-H', 'unix://' + self.socket, '--pidfile', os.path.join(self.folder, 'berthd.pid'), *driver]

    def start(self):
        super().start()
        self.id = re.search(r'[0-9a-f]{8}', self.get('/info')['ID'].replace('-', '').lower()).group(0)
        return self

    def stop_all(self):
        """`berthd --stop-all`, as make stop does it."""
        if self.process and self.process.poll() is None:
            self.terminate()
        return subprocess.run(['timeout', '-s', 'KILL', '120', *self.command(), '--stop-all'],
                              stdin=subprocess.DEVNULL, capture_output=True, text=True)

    # What the engine made on the host, each thing by a name that says what it is.

    def footprint(self):
        return sorted([*self.processes(), *self.mounts(), *self.links(), *self.tables(), *self.cgroups(),
                       *self.sockets()])

    def footprint_of_containers(self):
        """Without what a daemon makes once and keeps until --stop-all: its cgroup, its table, its bridge; and without the mounts of
        layers that there still are."""
        lasting = re.compile(rf'cgroup \S+/berth-{self.id}(/shim)?|nft .*|link b{self.id[:4]}0')
        layers = {f'mount {self.state}/layers/{name}' for name in os.listdir(self.data + '/layers')}
        return [thing for thing in self.footprint() if not lasting.fullmatch(thing) and thing not in layers]

    def processes(self):
        """Everything in our cgroups or with our id or folders in its command line, but the daemon."""
        for folder in glob.glob('/proc/[0-9]*'):
            pid = int(folder[6:])
            if pid == os.getpid() or (self.process and pid == self.process.pid) or self.has_ended(folder):
                continue
            command = read(folder + '/cmdline').replace('\0', ' ').strip()
            program = os.path.basename(command.split(' ')[0])
            ours = f'/berth-{self.id}' in read(folder + '/cgroup')
            named = program.startswith('berth-') and (self.id in command or self.folder in command)
            if ours or named:
                yield f'process {pid} {command or read(folder + "/comm").strip()}'

    def has_ended(self, folder):
        """A dead process that init has not reaped yet is none of ours any more; one that our daemon does not reap is."""
        state, parent = (read(folder + '/stat').rpartition(') ')[2].split(' ') + ['', ''])[:2]
        return state in ('Z', 'X', '') and not (self.process and parent == str(self.process.pid))

    def mounts(self):
        """Mount points, each as often as something is mounted on it."""
        for line in read('/proc/self/mountinfo').splitlines():
            target = line.split(' ')[4]
            if target.startswith(self.folder + '/'):
                yield 'mount ' + target

    def links(self):
        # sysfs shows the namespace it was mounted in; `ip` asks the kernel for this one.
        listing = subprocess.run(['ip', '-o', 'link'], capture_output=True, text=True).stdout
        for line in listing.splitlines():
            link = line.split(': ')[1].split('@')[0]
            if link.startswith('b' + self.id[:4]) or f'alias' in line and self.id in line:
                yield 'link ' + link

    def tables(self):
        listing = subprocess.run(['nft', 'list', 'tables'], capture_output=True, text=True).stdout
        return ['nft ' + line for line in listing.splitlines() if 'berth_' + self.id in line]

    def cgroups(self):
        for base in glob.glob('/sys/fs/cgroup/*/') + ['/sys/fs/cgroup/']:
            top = os.path.join(base, 'berth-' + self.id)
            for folder, _, _ in os.walk(top):
                yield 'cgroup ' + folder

    def sockets(self):
        for folder, _, names in os.walk(self.state):
            for name in names:
                path = os.path.join(folder, name)
                if os.path.exists(path) and os.path.stat.S_ISSOCK(os.lstat(path).st_mode):
                    yield 'socket ' + path
        if os.path.exists(self.socket) and not (self.process and self.process.poll() is None):
            yield 'socket ' + self.socket


@contextlib.contextmanager
def on_a_small_disk(size, below=''):
    """A berthd whose data root, or a folder in it, is a disk of that size."""
    engine = Berth()
    disk = os.path.join(engine.data, below)
    os.makedirs(disk)
    subprocess.run(['mount', '-t', 'tmpfs', '-o', f'size={size}', 'berth-test', disk], check=True)
    try:
        engine.start()
        yield engine
        engine.stop_all()
    finally:
        if engine.process and engine.process.poll() is None:
            engine.process.kill()
            engine.process.wait()
        subprocess.run(['umount', '-l', disk], check=True)
        engine.remove_folder()


class Dockerd(Engine):
    """Debian's docker.io, unpacked, with network and mounts of its own; its processes end with its pid namespace.

    With `root` (a Debian root folder with docker.io in it) the dockerd of that root.
    """
    name = 'dockerd'

    def __init__(self, root=None, own_network=True):
        super().__init__(tmpfs=True)
        self.root = root
        self.own_network = own_network
        self.cgroup = '/' + os.path.basename(self.folder)
        if not root:
            subprocess.run([os.path.join(ROOT, 'tools/peers'), 'dockerd'], check=True, timeout=300)

    def environment(self):
        peer = os.path.join(PEERS, 'dockerd')
        paths = [os.path.join(peer, part) for part in ('usr/bin', 'usr/sbin')] if not self.root else []
        system = ['/usr/local/sbin', '/usr/local/bin', '/usr/sbin', '/usr/bin', '/sbin', '/bin']
        libraries = {} if self.root else {'LD_LIBRARY_PATH': os.path.join(peer, 'usr/lib/x86_64-linux-gnu')}
        return {**os.environ, **libraries, 'PATH': ':'.join(paths + system)}

    def command(self):
        flags = ['--data-root', self.data, '--exec-root', self.state, '-H', 'unix://' + self.socket,
                 '-p', os.path.join(self.folder, 'dockerd.pid'), '--cgroup-parent', self.cgroup]
        enter = 'mount -t proc proc /proc; ip link set lo up; '
        if self.root:
            # A plain chroot breaks runc: the root becomes the namespace's root by pivot_root.
            enter = (f'ip link set lo up; mount --bind {self.root} {self.root}; cd {self.root}; '
                     f'for d in sys dev tmp; do mount --rbind /$d {self.root}/$d; done; '
                     f'mount -t proc proc {self.root}/proc; pivot_root . mnt; cd /; umount -l /mnt; ')
        namespaces = ['--mount', '--pid', '--fork', '--kill-child'] + (['--net'] if self.own_network else [])
        return ['unshare', *namespaces, '--propagation', 'private', 'sh', '-c',
                'set -e; ' + enter + 'exec dockerd "$@"', 'sh', *flags]

    def namespace_pids(self):
        """All processes below the unshare, by the pid namespace they share."""
        children = read(f'/proc/{self.process.pid}/task/{self.process.pid}/children').split()
        if not children:
            return []
        space = os.readlink(f'/proc/{children[0]}/ns/pid')
        found = []
        for folder in glob.glob('/proc/[0-9]*'):
            try:
                if os.readlink(folder + '/ns/pid') == space:
                    found.append(int(folder[6:]))
            except OSError:
                pass
        return found

    def daemon_pids(self):
        return [pid for pid in self.namespace_pids() if read(f'/proc/{pid}/comm').strip() in ('dockerd', 'containerd')]

    def kill9(self):
        for pid in self.daemon_pids():
            if read(f'/proc/{pid}/comm').strip() == 'dockerd':
                os.kill(pid, signal.SIGKILL)

    def stop_all(self):
        try:
            for container in self.get('/containers/json?all=1'):
                connection = UnixHTTP(self.socket)
                connection.request('DELETE', f'/containers/{container["Id"]}?force=1&v=1')
                connection.getresponse().read()
        except (OSError, http.client.HTTPException):
            pass
        self.process.kill()
        self.process.wait()
        settle(self.remove_cgroups, 5)
        return subprocess.CompletedProcess([], 0, '', '')

    def remove_cgroups(self):
        """Removes its groups of every hierarchy; returns those that are still in use."""
        left = []
        for top in glob.glob('/sys/fs/cgroup/*' + self.cgroup) + glob.glob('/sys/fs/cgroup' + self.cgroup):
            for folder, _, _ in os.walk(top, topdown=False):
                try:
                    os.rmdir(folder)
                except OSError:
                    left.append(folder)
        return left

    def footprint(self):
        return []

    footprint_of_containers = footprint
