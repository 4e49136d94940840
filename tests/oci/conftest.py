"""Bundles for an OCI runtime and the check that nothing of it stays behind.

OCI_RUNTIME names the program; without it, it is ours. Tests of Berth's own words are marked `berth` and left out for others.
"""
import json
import os
import shutil
import subprocess
import time
import uuid

import pytest

ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), '../..'))
OURS = os.path.join(ROOT, 'build/bin/berth-oci')
RUNTIME = os.environ.get('OCI_RUNTIME') or OURS
APPLETS = ('sh true false sleep cat ls id mount ps echo env stat touch hostname tty stty kill ip test mkdir head pwd readlink '
           'grep wc mknod ln rm chmod dd dmesg date nproc printf').split()
SLOWNESS = int(os.environ.get('OCI_SLOWNESS', 1))  # of the machine: under emulation everything is waited for longer
CALL_SECONDS = 30 * SLOWNESS


def needs_linux(major, minor, why):
    have = tuple(int(part) for part in os.uname().release.split('-')[0].split('.')[:2])
    return pytest.mark.skipif(have < (major, minor), reason=f'Linux {major}.{minor} {why}')


def pytest_configure(config):
    config.addinivalue_line('markers', 'berth: about what Berth does beyond runc, or in words of its own')


def pytest_collection_modifyitems(config, items):
    if RUNTIME != OURS:
        for item in items:
            if item.get_closest_marker('berth'):
                item.add_marker(pytest.mark.skip(reason='about Berth alone'))


def cgroup_roots():
    with open('/proc/self/mountinfo') as file:
        for line in file:
            left, right = line.split(' - ')
            if right.split()[0] in ('cgroup', 'cgroup2'):
                yield left.split()[4]


@pytest.fixture(scope='session')
def image(tmp_path_factory):
    path = tmp_path_factory.mktemp('image')
    for name in ('bin', 'etc', 'proc', 'sys', 'dev', 'tmp', 'root', 'var'):
        (path / name).mkdir()
    path.chmod(0o755)
    shutil.copy('/bin/busybox', path / 'bin/busybox')
    for name in APPLETS:
        (path / 'bin' / name).symlink_to('busybox')
    (path / 'etc/passwd').write_text('root:x:0:0:root:/root:/bin/sh\nann:x:1000:1000::/home/ann:/bin/sh\n')
    (path / 'etc/group').write_text('root:x:0:\nann:x:1000:\n')
    return path


class Bundle:
    """One bundle, one container: `config` is changed by the test, then a verb is called."""

    def __init__(self, path, image):
        self.path = path
        self.root = path / 'state'
        self.rootfs = path / 'bundle/rootfs'
        shutil.copytree(image, self.rootfs, symlinks=True)
        self.globals = ()
        self.id = 'berth-test-' + uuid.uuid4().hex[:12]
        subprocess.run([RUNTIME, 'spec', '-b', str(path / 'bundle')], check=True)
        with open(path / 'bundle/config.json') as file:
            self.config = json.load(file)
        self.config['process']['terminal'] = False
        self.config['root']['readonly'] = False

    @property
    def process(self):
        return self.config['process']

    @property
    def linux(self):
        return self.config['linux']

    def args(self, *words):
        self.process['args'] = list(words)
        return self

    def shell(self, script):
        return self.args('sh', '-c', script)

    def all_capabilities(self):
        names = [f'CAP_{name}' for name in 'CHOWN DAC_OVERRIDE FOWNER FSETID MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP '
                 'NET_BIND_SERVICE SYS_CHROOT KILL AUDIT_WRITE SYS_ADMIN NET_ADMIN SYS_PTRACE'.split()]
        self.process['capabilities'] = {kind: names for kind in ('bounding', 'effective', 'permitted')}
        return self

    def namespace(self, kind, path=None):
        self.linux['namespaces'] = [item for item in self.linux['namespaces'] if item['type'] != kind]
        self.linux['namespaces'].append({'type': kind, **({'path': path} if path else {})})
        return self

    def without_namespace(self, kind):
        self.linux['namespaces'] = [item for item in self.linux['namespaces'] if item['type'] != kind]
        return self

    def users(self, first=100000):
        self.namespace('user')
        for kind in ('uidMappings', 'gidMappings'):
            self.linux[kind] = [{'containerID': 0, 'hostID': first, 'size': 65536}]
        for folder, folders, files in os.walk(self.rootfs):
            for name in folders + files:
                os.chown(os.path.join(folder, name), first, first, follow_symlinks=False)
        os.chown(self.rootfs, first, first)
        for folder in (self.path, *self.path.parents):
            if str(folder).startswith('/tmp/'):
                os.chmod(folder, os.stat(folder).st_mode | 0o111)
        return self

    def mount(self, destination, source, kind='bind', options=()):
        self.config['mounts'].append({'destination': destination, 'type': kind, 'source': str(source), 'options': list(options)})
        return self

    def hook(self, kind, script, **more):
        self.config.setdefault('hooks', {}).setdefault(kind, []).append(
            {'path': '/bin/sh', 'args': ['sh', '-c', script], 'env': ['PATH=/usr/bin:/bin'], **more})
        return self

    def save(self):
        with open(self.path / 'bundle/config.json', 'w') as file:
            json.dump(self.config, file)

    def call(self, verb, *words, globals=(), text=True, stdin=subprocess.DEVNULL, bundle=True, program=None, **more):
        place = ['-b', str(self.path / 'bundle')] if bundle and verb in ('create', 'run', 'plan') else []
        command = [program or RUNTIME, '--root', str(self.root), *self.globals, *globals, verb, *place, *words]
        return subprocess.run(command, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=text, timeout=CALL_SECONDS, **more)

    def run(self, *words, **more):
        self.save()
        return self.call('run', *words, self.id, **more)

    def output(self, script=None, **more):
        if script:
            self.shell(script)
        done = self.run(**more)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def create(self, *words, program=None, **more):
        """The container's streams are /dev/null: pipes would stay open with it."""
        self.save()
        command = [program or RUNTIME, '--root', str(self.root), *self.globals, 'create', '-b', str(self.path / 'bundle'), *words, self.id]
        with open(self.path / 'create.err', 'w+') as errors:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors, timeout=CALL_SECONDS, **more)
            errors.seek(0)
            done.stderr = errors.read()
        return done

    def up(self, script='while :; do sleep 1; done'):
        """A container that runs."""
        self.shell(script)
        done = self.create()
        assert done.returncode == 0, done.stderr
        done = self.call('start', self.id)
        assert done.returncode == 0, done.stderr
        return self

    def exec(self, *words, flags=(), **more):
        return self.call('exec', *flags, self.id, *words, **more)

    def state(self):
        done = self.call('state', self.id)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def wait(self, status, seconds=5):
        end = time.monotonic() + seconds * SLOWNESS
        while self.state()['status'] != status:
            assert time.monotonic() < end, f'not {status}: {self.state()}'
            time.sleep(0.02)

    def remains(self):
        """What there still is of the container."""
        found = [os.path.join(self.root, name) for name in (os.listdir(self.root) if self.root.exists() else [])]
        for root in cgroup_roots():
            if os.path.isdir(os.path.join(root, self.id)):
                found.append(os.path.join(root, self.id))
        with open('/proc/self/mountinfo') as file:
            found += [line.strip() for line in file if str(self.path) in line]
        return found

    def processes(self):
        """Those that still run and have the container's name in their command line or their cgroup."""
        found = []
        for pid in filter(str.isdigit, os.listdir('/proc')):
            try:
                with open(f'/proc/{pid}/stat', 'rb') as file:
                    dead = file.read().rpartition(b')')[2].split()[0] in (b'Z', b'X')
                with open(f'/proc/{pid}/cmdline', 'rb') as words, open(f'/proc/{pid}/cgroup', 'rb') as groups:
                    if not dead and self.id.encode() in words.read() + groups.read():
                        found.append(int(pid))
            except OSError:
                pass
        return found

    def remove(self):
        self.call('delete', '--force', self.id)


@pytest.fixture
def bundle(tmp_path, image):
    made = Bundle(tmp_path, image)
    yield made
    made.remove()
    end = time.monotonic() + 2 * SLOWNESS
    while made.remains() and time.monotonic() < end:
        time.sleep(0.05)
    assert made.remains() == []
