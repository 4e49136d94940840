"""One class for each program that calls an OCI runtime: what a person does with a container, in that program's words."""
import json
import os
import re
import shutil
import subprocess
import sys
import time
import uuid

import pytest

ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), '../..'))
sys.path.insert(0, os.path.join(ROOT, 'tests/e2e'))
import images  # noqa: E402

OCI = os.path.join(ROOT, 'build/bin/berth-oci')
IMAGE = 'bb:1'


def wait_until(condition, seconds=15, what='it'):
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, f'{what}: not within {seconds} s'
        time.sleep(0.05)
    return value


class Caller:
    """`globals` stand before each verb; `runtime_root` is where this caller has berth-oci keep its containers."""
    globals = ()
    runtime_root = None
    as_user = {}
    environment = {}
    has_cgroups = True
    has_network = True

    def __init__(self, folder, archive):
        self.folder, self.archive = folder, archive

    def start(self):
        pass

    def stop_daemon(self):
        pass

    def call(self, *words, **more):
        return subprocess.run(['timeout', '-s', 'KILL', '60', *self.globals, *words], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              cwd=self.folder, env={**os.environ, **self.environment}, **self.as_user, **more)

    def good(self, *words):
        done = self.call(*words)
        assert done.returncode == 0, f'{" ".join(words)}: {done.stderr or done.stdout}'
        return done.stdout.strip()

    # The words that podman and docker share.

    def load(self):
        self.good('load', '-i', self.archive)

    def run(self, name, *words, options=()):
        return self.call('run', '--rm', '--name', name, *options, self.image, *words)

    def up(self, name, *words, options=()):
        self.good('run', '-d', '--name', name, *options, self.image, *words)

    def on_terminal(self, name, *words):
        """The command, for who has a terminal."""
        return [*self.globals, 'run', '-it', '--rm', '--name', name, self.image, *words]

    def exec(self, name, *words):
        return self.call('exec', name, *words)

    def pause(self, name):
        self.good('pause', name)

    def unpause(self, name):
        self.good('unpause', name)

    def kill(self, name):
        self.good('kill', name)

    def stop(self, name):
        self.good('stop', '-t', '10', name)

    def status(self, name):
        return self.good('inspect', '-f', '{{.State.Status}}', name)

    def exit_code(self, name):
        return int(self.good('inspect', '-f', '{{.State.ExitCode}}', name))

    def remove(self, name):
        self.good('rm', name)

    def force(self, name):
        self.call('rm', '-f', name)

    def processes(self, name):
        return self.good('top', name)

    def memory_limit(self, mib):
        return ['--memory', f'{mib}m']

    def bind(self, source, target):
        return ['-v', f'{source}:{target}']

    @property
    def image(self):
        return IMAGE

    # What berth-oci itself knows of them.

    def runtime(self, verb, *words):
        return subprocess.run([OCI, '--root', self.runtime_root, verb, *words], capture_output=True, text=True)

    def listed(self):
        if not os.path.isdir(self.runtime_root):
            return {}
        done = self.runtime('list', '--format', 'json')
        assert done.returncode == 0, done.stderr
        return {item['id']: item['status'] for item in json.loads(done.stdout or '[]') or []}

    def pid(self):
        """Of the one container that there is."""
        return json.loads(self.runtime('list', '--format', 'json').stdout)[0]['pid']


class Podman(Caller):
    runtime_root = '/run/berth-oci'

    def __init__(self, folder, archive):
        super().__init__(folder, archive)
        with open('/etc/containers/containers.conf', 'w') as file:
            file.write('[containers]\ndefault_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]\n'  # the default ones take CAP_SYS_RESOURCE
                       '[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n[network]\nnetwork_backend = "netavark"\n')
        self.globals = ['podman', '--runtime', OCI, *self.places()]

    def places(self):
        return ['--root', f'{self.folder}/data', '--runroot', '/run/podman-data']

    @property
    def image(self):
        return 'localhost/' + IMAGE

    def status(self, name):
        return super().status(name).replace('stopped', 'exited')


class PodmanOfUser(Podman):
    """Of one without rights: podman in a user namespace of its own, whose root it is. On cgroup v1 users have no groups."""
    runtime_root = '/run/user/1000/berth-oci'
    as_user = {'user': 1000, 'group': 1000, 'extra_groups': []}
    environment = {'HOME': '/tmp/ann', 'XDG_RUNTIME_DIR': '/run/user/1000'}
    has_cgroups = False

    def places(self):
        for place in ('/tmp/ann', '/run/user/1000'):
            os.makedirs(place)
            os.chown(place, 1000, 1000)
            os.chmod(place, 0o700)
        return []

    def runtime(self, verb, *words):
        return self.call('unshare', OCI, '--root', self.runtime_root, verb, *words)


class Docker(Caller):
    def start(self):
        self.socket = '/run/docker-of-test.sock'
        self.globals = ['docker', '-H', 'unix://' + self.socket]
        self.runtime_root = '/run/docker-of-test/runtime-runc/moby'
        command = ['dockerd', '--data-root', f'{self.folder}/data', '--exec-root', '/run/docker-of-test', '-H', 'unix://' + self.socket,
                   '-p', '/run/docker-of-test.pid', '--add-runtime', 'berth=' + OCI, '--default-runtime', 'berth']
        with open(f'{self.folder}/log', 'w') as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_until(lambda: self.process.poll() is not None or self.call('version').returncode == 0, 60, 'dockerd answers')
        assert self.process.poll() is None, open(f'{self.folder}/log').read()[-2000:]
        assert self.good('info', '-f', '{{.DefaultRuntime}}') == 'berth'

    def stop_daemon(self):
        self.process.terminate()
        self.process.wait(30)


class Containerd(Caller):
    has_network = False
    runtime_root = '/run/containerd/runc/default'

    def start(self):
        config = f'{self.folder}/config.toml'
        with open(config, 'w') as file:
            file.write(f'version = 2\nroot = "{self.folder}/data"\nstate = "/run/containerd-of-test"\n'
                       'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n[grpc]\naddress = "/run/containerd-of-test.sock"\n')
        self.globals = ['ctr', '-a', '/run/containerd-of-test.sock']
        with open(f'{self.folder}/log', 'w') as log:
            self.process = subprocess.Popen(['containerd', '-c', config], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_until(lambda: self.process.poll() is not None or self.call('version').returncode == 0, 60, 'containerd answers')
        assert self.process.poll() is None, open(f'{self.folder}/log').read()[-2000:]

    def stop_daemon(self):
        self.process.terminate()
        self.process.wait(30)

    @property
    def image(self):
        return 'docker.io/library/' + IMAGE

    def load(self):
        self.good('image', 'import', self.archive)

    def run(self, name, *words, options=()):
        return self.call('run', '--rm', '--runc-binary', OCI, *options, self.image, name, *words)

    def up(self, name, *words, options=()):
        self.good('run', '-d', '--runc-binary', OCI, *options, self.image, name, *words)

    def on_terminal(self, name, *words):
        return [*self.globals, 'run', '-t', '--rm', '--runc-binary', OCI, self.image, name, *words]

    def exec(self, name, *words):
        return self.call('task', 'exec', '--exec-id', 'e' + uuid.uuid4().hex[:8], name, *words)

    def pause(self, name):
        self.good('task', 'pause', name)

    def unpause(self, name):
        self.good('task', 'resume', name)

    def kill(self, name):
        self.good('task', 'kill', '-s', 'KILL', name)

    def stop(self, name):
        self.good('task', 'kill', '-s', 'TERM', name)
        wait_until(lambda: self.status(name) == 'exited')

    def status(self, name):
        for line in self.good('task', 'ls').splitlines():
            if line.split()[0] == name:
                return line.split()[2].lower().replace('stopped', 'exited')
        return 'none'

    def exit_code(self, name):
        done = self.call('task', 'delete', name)
        code = re.search(r'non-zero exit code (\d+)', done.stderr)
        return int(code[1]) if code else done.returncode

    def remove(self, name):
        self.call('task', 'delete', name)
        self.good('container', 'delete', name)

    def force(self, name):
        self.call('task', 'delete', '--force', name)
        self.call('container', 'delete', name)

    def processes(self, name):
        return self.good('task', 'ps', name)

    def memory_limit(self, mib):
        return ['--memory-limit', str(mib << 20)]

    def bind(self, source, target):
        return ['--mount', f'type=bind,src={source},dst={target},options=rbind:rw']


CALLERS = {'podman': Podman, 'podman-of-a-user': PodmanOfUser, 'containerd': Containerd, 'dockerd': Docker}


@pytest.fixture(scope='session', params=list(CALLERS))
def caller(request):
    folder = f'/tmp/{request.param}'
    os.mkdir(folder)
    archive = f'/tmp/image-{request.param}.tar'
    with open(archive, 'wb') as file:
        file.write(images.docker_archive(IMAGE, [images.busybox_root()])[0])
    os.chmod(archive, 0o644)
    made = CALLERS[request.param](folder, archive)
    made.start()
    made.load()
    yield made
    made.stop_daemon()


LASTING = ('libpod_parent', 'conmon', 'docker', 'default')  # groups that the callers make once


def cgroups():
    return {path for path, _, _ in os.walk('/sys/fs/cgroup')}


@pytest.fixture
def name(caller, shared):
    """A container's name; after the test nothing is left of it where the runtime could have left it, nor anybody who writes into
    the shared folder."""
    before = cgroups()
    mine = 'c-' + uuid.uuid4().hex[:8]
    yield mine
    caller.force(mine)
    wait_until(lambda: not caller.listed(), what='the runtime forgets the container')
    wait_until(lambda: all(os.path.basename(path) in LASTING for path in cgroups() - before), what='its cgroups go')


@pytest.fixture
def shared(tmp_path):
    """A folder that both the container and the test see."""
    for folder in (tmp_path, *tmp_path.parents):
        if str(folder).startswith('/tmp/'):
            os.chmod(folder, 0o777)
    yield tmp_path
    shutil.rmtree(tmp_path)
