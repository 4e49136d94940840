"""berthd --userns-remap: root of a container is nobody on the host. A daemon of its own, whose /etc has users of the tests'."""
import io
import json
import os
import shutil
import socket
import subprocess
import tarfile
import urllib.request

import pytest

import engines
from conftest import Api, Docker, kept
from test_daemon import Own

pytestmark = [pytest.mark.berth, pytest.mark.skipif(engines.SLOWER > 1, reason='the VM wall needs no user namespaces')]

ROOT, COUNT = 2_200_000, 65536
NEEDED = ['passwd', 'group', 'shadow', 'gshadow', 'login.defs', 'nsswitch.conf', 'ld.so.cache', 'resolv.conf', 'hosts', 'hostname', 'os-release']
RANGES = f'berthmap:{ROOT}:{COUNT}\n'


class Remapped(Own):
    """Its /etc is a folder of the tests', seen by nobody else."""

    def __init__(self, *options, subuid=RANGES, subgid=RANGES, **more):
        super().__init__(*options, **more)
        self.etc = os.path.join(self.folder, 'etc')
        os.mkdir(self.etc)
        for name in filter(os.path.isfile, (os.path.join('/etc', name) for name in NEEDED)):
            shutil.copy(name, self.etc)
        self.put('passwd', 'berthmap:x:9876:9876::/:/bin/false\n')
        self.put('group', 'berthmap:x:9876:\n')
        for name, text in (('subuid', subuid), ('subgid', subgid)):
            with open(os.path.join(self.etc, name), 'w') as out:
                out.write(text)

    def put(self, name, line):
        with open(os.path.join(self.etc, name), 'a') as out:
            out.write(line)

    def read(self, name):
        return engines.read(os.path.join(self.etc, name))

    def command(self):
        return ['unshare', '--mount', 'sh', '-c', 'mount --bind "$1" /etc && shift && exec "$@"', 'sh', self.etc, *super().command()]

    def refusal(self):
        """The line that it ends with in place of a start."""
        done = subprocess.run(self.command(), capture_output=True, text=True, timeout=30)
        assert done.returncode == 1, done
        return done.stderr.strip().splitlines()[-1]


@pytest.fixture(scope='module')
def engine_remapped():
    engine = Remapped('--userns-remap', 'berthmap')
    yield engine
    assert engine.stop_all().returncode == 0
    left = engine.footprint()
    engine.remove_folder()
    assert not left, left


@pytest.fixture(scope='module')
def docker(engine_remapped, busybox, tmp_path_factory):
    docker = Docker(engine_remapped.start(), engines.default_cli(), str(tmp_path_factory.mktemp('home')))
    docker.ok('load', input=busybox)
    return docker


@pytest.fixture(scope='module')
def api(docker):
    return Api(docker.engine)


@pytest.fixture(scope='module')
def running(docker):
    """A container that the tests share."""
    before = set(docker.engine.footprint_of_containers())
    kept.ids.add(docker.ok('run', '-d', '--name', 'running', '-v', 'kept:/kept', '--tmpfs', '/tmpfs', 'bb', 'sleep', '1000'))
    kept.things |= set(docker.engine.footprint_of_containers()) - before
    yield 'running'
    docker.ok('rm', '-fv', 'running')
    kept.ids.clear()
    kept.things.clear()


def owner(path):
    info = os.stat(path)
    return info.st_uid, info.st_gid


# ---- who is who -----------------------------------------------------------------------------------------------------


def test_root_of_a_container_is_nobody_on_the_host(docker):
    out = docker.ok('run', '--rm', '-v', 'vol:/v', 'bb', 'sh', '-c', 'id; cat /proc/self/uid_map; touch /v/made; mkdir /home2; chown 7:8 /v/made')
    assert 'uid=0(root) gid=0(root)' in out
    assert out.splitlines()[-1].split() == ['0', str(ROOT), str(COUNT)]
    folder = docker.ok('volume', 'inspect', '-f', '{{.Mountpoint}}', 'vol')
    assert owner(folder) == (ROOT, ROOT)
    assert owner(folder + '/made') == (ROOT + 7, ROOT + 8)


def test_info_says_so(docker):
    assert 'name=userns' in json.loads(docker.ok('info', '-f', '{{json .SecurityOptions}}'))


def test_the_process_has_that_id(docker, running):
    pid = docker.inspect(running)['State']['Pid']
    status = engines.read(f'/proc/{pid}/status')
    assert f'Uid:\t{ROOT}\t{ROOT}\t{ROOT}\t{ROOT}' in status
    assert os.readlink(f'/proc/{pid}/ns/user') != os.readlink('/proc/self/ns/user')


def test_every_container_has_a_namespace_of_its_own(docker, running):
    other = docker.ok('run', '-d', 'bb', 'sleep', '100')
    pids = [docker.inspect(one)['State']['Pid'] for one in (running, other)]
    for kind in ('user', 'net', 'mnt', 'ipc', 'uts', 'pid'):
        assert len({os.readlink(f'/proc/{pid}/ns/{kind}') for pid in pids}) == 2
    docker.ok('rm', '-f', other)


def test_what_belongs_to_whom_inside(docker, running):
    out = docker.ok('exec', running, 'stat', '-c', '%u:%g %n', '/', '/bin', '/etc/hosts', '/etc/resolv.conf', '/etc/hostname', '/kept', '/dev',
                    '/dev/null', '/dev/shm', '/tmpfs', '/proc/1', '/sys/fs/cgroup')
    assert [line.split()[0] for line in out.splitlines() if not line.startswith('0:0 ') and 'cgroup' not in line] == []
    assert docker.ok('exec', running, 'sh', '-c', 'echo x >/dev/null; head -c 4 /dev/zero | wc -c; echo 127.1.1.1 me >>/etc/hosts') == '4'


def test_the_host_is_the_namespace_on_request(docker):
    out = docker.ok('run', '--rm', '--userns', 'host', 'bb', 'cat', '/proc/self/uid_map')
    assert out.split() == ['0', '0', '4294967295']
    assert docker.ok('run', '--rm', '--userns', 'host', '--privileged', '--net', 'host', '--pid', 'host', 'bb', 'id', '-u') == '0'


@pytest.mark.parametrize('option, line', [
    ('--privileged', 'privileged mode is incompatible with user namespaces.  You must run the container in the host namespace when running privileged mode'),
    ('--net=host', "cannot share the host's network namespace when user namespaces are enabled"),
    ('--pid=host', 'cannot share the host PID namespace when user namespaces are enabled'),
    ('--ipc=host', "cannot share the host's IPC namespace when user namespaces are enabled"),
])
def test_what_needs_the_host_is_refused(docker, api, option, line):
    done = docker('run', '--rm', option, 'bb', 'true')
    assert done.code == 125 and line in done.err, done
    field = {'--privileged': {'Privileged': True}, '--net=host': {'NetworkMode': 'host'}, '--pid=host': {'PidMode': 'host'}, '--ipc=host': {'IpcMode': 'host'}}
    answer = api.post('/containers/create', {'Image': 'bb', 'HostConfig': field[option]})
    assert answer.status == 400 and answer.message == line


def test_a_machine_needs_none_of_it(docker, api):
    answer = api.post('/containers/create', {'Image': 'bb', 'HostConfig': {'Isolation': 'vm', 'Privileged': True}})
    assert answer.status == 201, answer
    docker.ok('rm', answer.json['Id'])


# ---- verbs ----------------------------------------------------------------------------------------------------------


def test_exec(docker, running):
    assert docker.ok('exec', running, 'cat', '/proc/self/uid_map').split()[1] == str(ROOT)
    assert docker.ok('exec', '-u', '5:6', running, 'sh', '-c', 'id -u; id -g; echo again >/dev/stdout').split() == ['5', '6', 'again']
    assert docker.ok('exec', '-i', running, 'cat', input='through') == 'through'
    assert docker.ok('exec', '--privileged', running, 'sh', '-c', 'hostname inside && hostname') == 'inside'


def test_streams_of_other_users(docker):
    assert docker.ok('run', '--rm', '-u', '12', 'bb', 'sh', '-c', 'echo out >/dev/stdout; echo err >/dev/stderr') == 'out'


def test_a_terminal(docker):
    done = subprocess.run(['script', '-qec', ' '.join(docker.command('run', '--rm', '-t', '-u', '9', 'bb', 'sh', '-c', '"tty; ls -ln /dev/pts/0"')), '/dev/null'],
                          capture_output=True, text=True, env=docker.environment(), timeout=60)
    assert '/dev/pts/0' in done.stdout and ' 9 ' in done.stdout, done


def test_capabilities_are_over_its_own_things(docker):
    out = docker.ok('run', '--rm', '--cap-add', 'SYS_ADMIN', '--cap-add', 'NET_ADMIN', '--security-opt', 'seccomp=unconfined', 'bb', 'sh', '-c',
                    'mount -t tmpfs x /mnt 2>/dev/null || mkdir -p /mnt && mount -t tmpfs x /mnt; ip link set lo down; ip link set lo up; echo done')
    assert out == 'done'
    denied = docker('run', '--rm', '--cap-add', 'SYS_ADMIN', '-v', '/etc:/host', 'bb', 'sh', '-c', 'echo x >/host/passwd')
    assert denied.code != 0 and 'ermission denied' in denied.err
    assert docker('run', '--rm', 'bb', 'mknod', '/node', 'b', '7', '0').code != 0


def tar_of(name, uid, gid, data=b'content'):
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode='w') as tar:
        info = tarfile.TarInfo(name)
        info.size, info.uid, info.gid = len(data), uid, gid
        tar.addfile(info, io.BytesIO(data))
    return raw.getvalue()


def ids_in(data, name):
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        info = tar.getmember(name)
        return info.uid, info.gid


def copy_out(docker, source):
    return subprocess.run(docker.command('cp', source, '-'), env=docker.environment(), capture_output=True, check=True).stdout


def copies(docker, name):
    subprocess.run(docker.command('cp', '-a', '-', name + ':/kept'), env=docker.environment(), input=tar_of('into', 3, 4), check=True)
    subprocess.run(docker.command('cp', '-a', '-', name + ':/tmp'), env=docker.environment(), input=tar_of('plain', 5, 6), check=True)
    assert ids_in(copy_out(docker, name + ':/kept/into'), 'into') == (3, 4)
    assert ids_in(copy_out(docker, name + ':/tmp/plain'), 'plain') == (5, 6)
    folder = docker.ok('volume', 'inspect', '-f', '{{.Mountpoint}}', 'kept')
    assert owner(folder + '/into') == (ROOT + 3, ROOT + 4)


def test_cp_while_it_runs(docker, running):
    docker.ok('exec', running, 'mkdir', '-p', '/tmp')
    copies(docker, running)
    assert docker.ok('exec', running, 'stat', '-c', '%u:%g', '/kept/into', '/tmp/plain').split() == ['3:4', '5:6']


def test_cp_before_and_after_a_run(docker, name):
    docker.ok('create', '--name', name, '-v', 'kept:/kept', '-v', 'other:/a/b/c', 'bb', 'stat', '-c', '%u:%g', '/tmp/plain', '/kept/into', '/a')
    copies(docker, name)
    assert docker.ok('start', '-a', name).split() == ['5:6', '3:4', '0:0']
    copies(docker, name)


def test_diff_export_and_commit(docker, name):
    docker.ok('run', '-d', '--name', name, 'bb', 'sh', '-c', 'echo x >/new; chown 21:22 /new; rm /bin/vi; echo up; sleep 100')
    engines.is_up(docker, name)
    assert {'A /new', 'D /bin/vi'} <= set(docker.ok('diff', name).splitlines())
    docker.ok('commit', name, 'committed')
    exported = subprocess.run(docker.command('export', name), env=docker.environment(), capture_output=True, check=True).stdout
    assert ids_in(exported, 'new') == (21, 22) and ids_in(exported, 'bin') == (0, 0)
    docker.ok('rm', '-f', name)
    assert docker.ok('run', '--rm', 'committed', 'stat', '-c', '%u:%g', '/new', '/bin').split() == ['21:22', '0:0']
    # The image knows nothing of the option.
    assert docker.ok('run', '--rm', '--userns', 'host', 'committed', 'stat', '-c', '%u:%g', '/new', '/bin').split() == ['21:22', '0:0']
    docker.ok('rmi', 'committed')


def test_a_fresh_volume_has_what_the_image_has_there(docker, name):
    docker.ok('run', '--name', name, 'bb', 'sh', '-c', 'mkdir /full; echo x >/full/file; chown -R 31:32 /full')
    docker.ok('commit', name, 'full')
    docker.ok('rm', name)
    assert docker.ok('run', '--rm', '-v', 'filled:/full', 'full', 'stat', '-c', '%u:%g', '/full', '/full/file').split() == ['31:32', '31:32']
    folder = docker.ok('volume', 'inspect', '-f', '{{.Mountpoint}}', 'filled')
    assert owner(folder) == owner(folder + '/file') == (ROOT + 31, ROOT + 32)
    assert docker.ok('volume', 'create', 'plain') and owner(docker.ok('volume', 'inspect', '-f', '{{.Mountpoint}}', 'plain')) == (ROOT, ROOT)


@pytest.mark.new_client('image mounts came with 28')
def test_an_image_is_mounted_with_its_ids(docker, name, tmp_path):
    docker.ok('create', '--name', name, '--mount', 'type=image,source=bb,target=/x', '--mount', 'type=image,source=bb,target=/y,image-subpath=bin', 'bb',
              'stat', '-c', '%u', '/x', '/x/bin/busybox', '/y/busybox')
    docker.ok('cp', f'{name}:/x/bin/busybox', str(tmp_path))
    assert docker.ok('start', '-a', name).split() == ['0'] * 3
    docker.ok('rm', name)


def test_binds_are_the_hosts(docker, tmp_path):
    tmp_path.chmod(0o755)
    missing = tmp_path / 'missing'
    docker.ok('run', '--rm', '-v', f'{missing}:/m', 'bb', 'touch', '/m/file')
    assert owner(missing) == owner(missing / 'file') == (ROOT, ROOT)
    (tmp_path / 'roots').write_text('secret')
    (tmp_path / 'roots').chmod(0o600)
    denied = docker('run', '--rm', '-v', f'{tmp_path}:/m', 'bb', 'cat', '/m/roots')
    assert denied.code != 0 and 'ermission denied' in denied.err
    assert docker.ok('run', '--rm', '-v', f'{tmp_path}:/m', 'bb', 'stat', '-c', '%u:%g', '/m/roots') == '65534:65534'
    own = docker.engine.data + '/containers'
    assert docker.ok('run', '--rm', '-v', f'{own}:/m', 'bb', 'stat', '-c', '%u:%g', '/m') == '65534:65534'


# ---- network, logs, stats -------------------------------------------------------------------------------------------


def test_published_ports_logs_and_stats(docker, name):
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        port = probe.getsockname()[1]
    docker.ok('run', '-d', '--name', name, '-u', '33', '-p', f'127.0.0.1:{port}:80', 'bb', 'sh', '-c',
              'mkdir /tmp/w; echo hello >/tmp/w/index.html; echo up; exec httpd -f -p 80 -h /tmp/w')
    engines.is_up(docker, name)
    engines.wait_until(lambda: fetched(port) == 'hello\n', 10, 'the port answers')
    stats = json.loads(docker.ok('stats', '--no-stream', '--format', '{{json .}}', name))
    assert stats['PIDs'] == '1' and stats['NetIO'] != '0B / 0B'
    assert name in docker.ok('ps', '--format', '{{.Names}}')
    assert str(ROOT + 33) in docker.ok('top', name, '-eo', 'pid,uid')


def fetched(port):
    try:
        with urllib.request.urlopen(f'http://127.0.0.1:{port}/', timeout=5) as answer:
            return answer.read().decode()
    except OSError:
        return None


def test_networks_of_clients(docker, name):
    docker.ok('network', 'create', 'mine')
    docker.ok('run', '-d', '--name', name, '--network', 'mine', 'bb', 'sleep', '100')
    assert docker.ok('run', '--rm', '--network', 'mine', '--sysctl', 'net.ipv4.ip_default_ttl=77', 'bb', 'sh', '-c',
                     f'ping -c 1 -w 10 {name} >/dev/null && cat /proc/sys/net/ipv4/ip_default_ttl') == '77'
    docker.ok('network', 'connect', 'bridge', name)
    assert 'eth1' in docker.ok('exec', name, 'ls', '/sys/class/net')
    docker.ok('rm', '-f', name)
    docker.ok('network', 'rm', 'mine')


def test_namespaces_are_shared_with_their_owner(docker, running, name):
    pid = docker.inspect(running)['State']['Pid']
    docker.ok('run', '-d', '--name', name, '--net', 'container:' + running, '--pid', 'container:' + running, 'bb', 'sleep', '100')
    other = docker.inspect(name)['State']['Pid']
    for kind in ('user', 'net', 'pid'):
        assert os.readlink(f'/proc/{pid}/ns/{kind}') == os.readlink(f'/proc/{other}/ns/{kind}')
    done = docker('run', '--rm', '--net', 'container:' + running, '--pid', 'container:' + name, 'bb', 'true')
    assert 'cannot share namespaces of two containers' in done.err


def test_devices(docker):
    assert docker.ok('run', '--rm', '--device', '/dev/null:/dev/mine/null', 'bb', 'sh', '-c', 'echo x >/dev/mine/null; stat -c %t:%T /dev/mine/null') == '1:3'


def test_init_and_read_only(docker):
    assert docker.ok('run', '--rm', '--init', '--read-only', '--tmpfs', '/run', 'bb', 'sh', '-c', 'touch /run/x && ! touch /x 2>/dev/null && id -u') == '0'


# ---- builds ---------------------------------------------------------------------------------------------------------


def test_build(docker, tmp_path):
    (tmp_path / 'file').write_text('from the context')
    (tmp_path / 'Dockerfile').write_text('''FROM bb
COPY --chown=41:42 file /file
RUN id -u >/who; cat /proc/self/uid_map >>/who; chown 43:44 /who
RUN --mount=type=cache,target=/cache --mount=type=bind,target=/context stat -c %u:%g /cache /context/file >/seen; touch /cache/x
RUN --mount=type=cache,target=/cache stat -c %u:%g /cache/x >>/seen
''')
    docker.ok('build', '-t', 'built', str(tmp_path))
    out = docker.ok('run', '--rm', 'built', 'sh', '-c', 'stat -c %u:%g /file /who; cat /who /seen').splitlines()
    assert out[:3] == ['41:42', '43:44', '0'] and out[3].split()[1] == str(ROOT) and out[4:] == ['0:0', '0:0', '0:0']
    docker.ok('rmi', 'built')


# ---- the daemon -----------------------------------------------------------------------------------------------------


def test_containers_outlive_the_daemon_as_they_are(docker, running):
    engine = docker.engine
    engine.kill9()
    engine.start()
    engine.restarted = True
    assert docker.ok('exec', running, 'cat', '/proc/self/uid_map').split()[1] == str(ROOT)
    docker.ok('exec', running, 'mkdir', '-p', '/tmp')
    copies(docker, running)


@pytest.mark.parametrize('wish, files, line', [
    ('nosuch', {}, 'Error during uid lookup for "nosuch": no matching entries in passwd file'),
    ('berthmap:nosuch', {}, 'Error during groupname lookup for "nosuch": no matching entries in group file'),
    ('a:b:c', {}, 'Invalid user/group specification in --userns-remap: "a:b:c"'),
    ('99999999', {}, 'Uid 99999999 has no entry in /etc/passwd: no matching entries in passwd file'),
    ('9876:99999999', {}, 'Gid 99999999 has no entry in /etc/passwd: no matching entries in group file'),
    ('berthmap', {'subuid': ''}, 'Can\'t create ID mappings: no subuid ranges found for user "berthmap"'),
    ('9876:berthmap', {'subgid': 'other:1:2\n'}, 'Can\'t create ID mappings: no subgid ranges found for user "berthmap"'),
    ('berthmap', {'subuid': 'berthmap:many:1\n'}, "Can't create ID mappings: Cannot parse subuid/gid information: Format not correct for /etc/subuid file"),
])
def test_who_has_no_ids_stops_the_daemon(docker, wish, files, line):
    engine = Remapped('--userns-remap', wish, **files)
    try:
        assert engine.refusal().endswith(line)
    finally:
        engine.remove_folder()


def test_a_data_root_without_id_maps_stops_the_daemon(docker):
    engine = Remapped('--userns-remap', 'berthmap')
    try:
        os.makedirs(engine.data)
        subprocess.run(['mount', '-t', 'ramfs', 'berth-test', engine.data], check=True)
        line = engine.refusal()
        assert f"--userns-remap: {engine.data} can't have id maps: " in line
    finally:
        subprocess.run(['umount', engine.data], check=True)
        engine.remove_folder()


def test_default_is_a_user_that_is_made(busybox, docker, tmp_path):
    engine = Remapped(config={'userns-remap': 'default'})
    own = Docker(engine.start(), engines.default_cli(), str(tmp_path))
    try:
        own.ok('load', input=busybox)
        assert 'dockremap:' in engine.read('passwd') and 'dockremap' not in engines.read('/etc/passwd')
        assert f'dockremap:{ROOT + COUNT}:{COUNT}\n' in engine.read('subuid') and f'dockremap:{ROOT + COUNT}:{COUNT}\n' in engine.read('subgid')
        assert own.ok('run', '--rm', 'bb', 'cat', '/proc/self/uid_map').split() == ['0', str(ROOT + COUNT), str(COUNT)]
    finally:
        assert engine.stop_all().returncode == 0
        engine.remove_folder()
