"""What a user without rights may do: as the caller, or, when root calls, as uid 1000."""
import json
import os
import pwd
import shutil
import stat
import subprocess

import pytest

from conftest import OURS, RUNTIME, Bundle

ROOT = os.geteuid() == 0
UID = 1000 if ROOT else os.geteuid()
AS_USER = {'user': UID, 'group': UID, 'extra_groups': []} if ROOT else {}
pytestmark = pytest.mark.skipif(RUNTIME != OURS, reason='about Berth alone')


def own_group():
    with open('/proc/self/cgroup') as file:
        lines = file.read().splitlines()
    return lines[0][4:] if len(lines) == 1 and lines[0].startswith('0::/') else None


def delegated():
    """Groups of our own can be made beside the one that we are in."""
    own = own_group()
    return not ROOT and own is not None and os.access('/sys/fs/cgroup/' + os.path.dirname(own), os.W_OK)


needs_delegation = pytest.mark.skipif(not delegated(), reason='no cgroup is delegated to this user')
needs_bus = pytest.mark.skipif(ROOT or not own_group() or not os.path.exists(os.environ.get('XDG_RUNTIME_DIR', '/nowhere') + '/bus'), reason='no systemd of a user is up, or not on cgroup v2')


class Rootless(Bundle):
    def __init__(self, path, image):
        super().__init__(path, image)
        os.unlink(path / 'bundle/config.json')
        self.program = shutil.copy(RUNTIME, path / 'berth-oci')  # where the user may read
        if ROOT:
            subprocess.run(['chown', '-R', f'{UID}:{UID}', path], check=True)
            for folder in path.parents:
                if str(folder).startswith('/tmp/'):
                    os.chmod(folder, os.stat(folder).st_mode | 0o111)
        done = subprocess.run([self.program, 'spec', '--rootless', '-b', str(path / 'bundle')], capture_output=True, text=True, **AS_USER)
        assert done.returncode == 0, done.stderr
        with open(path / 'bundle/config.json') as file:
            self.config = json.load(file)
        if ROOT:
            for kind in ('uidMappings', 'gidMappings'):
                self.linux[kind][0]['hostID'] = UID
        self.process['terminal'] = False
        self.config['root']['readonly'] = False

    def call(self, verb, *words, **more):
        return super().call(verb, *words, program=self.program, **AS_USER, **more)

    def create(self, *words, **more):
        return super().create(*words, program=self.program, **AS_USER, **more)


def without_users(bundle):
    """For a caller who is in a user namespace already."""
    bundle.without_namespace('user').without_namespace('network').without_namespace('cgroup')
    for kind in ('uidMappings', 'gidMappings'):
        del bundle.linux[kind]


@pytest.fixture
def rootless(tmp_path, image):
    made = Rootless(tmp_path, image)
    yield made
    made.remove()
    assert made.remains() == []


def test_root_inside_is_the_user_outside(rootless):
    rootless.up()
    assert rootless.exec('id', '-u').stdout == '0\n'
    assert os.stat(f'/proc/{rootless.state()["pid"]}').st_uid == UID
    assert rootless.exec('sh', '-c', 'echo x > /tmp/mine; cat /proc/self/uid_map').stdout.split() == ['0', str(UID), '1']
    assert (rootless.rootfs / 'tmp/mine').stat().st_uid == UID


def test_a_life(rootless):
    rootless.up()
    assert rootless.state()['status'] == 'running'
    assert rootless.id in rootless.call('list').stdout
    assert rootless.exec('echo', 'hello').stdout == 'hello\n'
    assert rootless.call('kill', rootless.id, 'KILL').returncode == 0
    rootless.wait('stopped')
    assert rootless.call('delete', rootless.id).returncode == 0


@pytest.mark.skipif(not shutil.which('strace'), reason='needs strace')
def test_the_process_between_may_be_slow(rootless):
    """Who has cloned the process that joins the namespaces comes back late: the process must not speak before it."""
    rootless.up()
    command = ['strace', '-f', '-o', '/dev/null', '-e', 'trace=clone3', '-e', 'inject=clone3:delay_exit=200000', rootless.program, '--root', rootless.root]
    done = subprocess.run([*command, 'exec', rootless.id, 'sh', '-c', 'exit 7'], stdin=subprocess.DEVNULL, capture_output=True, text=True, **AS_USER)
    assert (done.returncode, done.stderr) == (7, '')


def test_run_and_its_exit_code(rootless):
    rootless.shell('exit 7')
    assert rootless.run().returncode == 7


@pytest.mark.parametrize('enter, user, code', [([], 'root', 0), (['unshare', '-r', '-m'], 'ann', 0), (['unshare', '-r', '-m'], 'root', 1)])
def test_the_state_lies_in_the_users_runtime_folder(rootless, tmp_path, enter, user, code):
    """Also for root of a user namespace, as podman calls; but not for one who is root outside as well, says runc by $USER."""
    runtime = tmp_path / 'runtime'
    runtime.mkdir()
    os.chown(runtime, UID, UID)
    if enter:
        without_users(rootless)
    rootless.args('true')
    rootless.save()
    command = [*enter, rootless.program, 'run', '-b', str(rootless.path / 'bundle'), rootless.id]
    environment = {**os.environ, 'XDG_RUNTIME_DIR': str(runtime), 'USER': user}
    done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, **AS_USER)
    assert done.returncode == code, done.stderr
    if code:
        assert '/run/berth-oci' in done.stderr and not (runtime / 'berth-oci').exists()
    else:
        assert os.stat(runtime / 'berth-oci').st_mode & (0o777 | stat.S_ISVTX) == 0o700 | stat.S_ISVTX


def test_root_of_a_user_namespace(rootless):
    """As podman calls: uid 0 already, but of a user and a mount namespace of its own."""
    without_users(rootless)
    rootless.linux['resources'] = {'devices': [{'allow': False, 'access': 'rwm'}]}
    rootless.args('id', '-u').save()
    for flags, code in ((), 0), (('--rootless=auto',), 0), (('--rootless', 'true'), 0), (('--rootless=maybe',), 1):
        command = ['unshare', '-r', '-m', rootless.program, *flags, '--root', str(rootless.root), 'run', '-b', str(rootless.path / 'bundle'), rootless.id]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, **AS_USER)
        assert (done.returncode, done.stdout) == (code, '0\n' if code == 0 else ''), done.stderr


def test_exec_by_root_of_a_user_namespace(rootless):
    """Nobody there may come back to a pid namespace that he has left: neither exec nor who joins another's can go that way."""
    without_users(rootless)
    rootless.linux['resources'] = {}
    rootless.shell('while :; do sleep 1; done').save()
    beside = {**rootless.config, 'process': {**rootless.process, 'args': ['sh', '-c', 'readlink /proc/self/ns/pid; cat /proc/1/comm']}}
    beside['linux'] = {**rootless.linux, 'namespaces': [{'type': 'pid', 'path': '/proc/@PID@/ns/pid'}, *({'type': kind} for kind in ('mount', 'ipc', 'uts'))]}
    beside['root'] = {**rootless.config['root'], 'path': str(rootless.rootfs)}
    (rootless.path / 'beside').mkdir()
    (rootless.path / 'beside/config.json').write_text(json.dumps(beside))
    script = f'''set -e
oci="{rootless.program} --root {rootless.root}"
$oci run -d -b {rootless.path}/bundle {rootless.id} >/dev/null 2>&1
trap "$oci delete --force {rootless.id}" EXIT
$oci exec {rootless.id} sh -c 'readlink /proc/self/ns/pid; cat /proc/1/comm'
pid=$($oci state {rootless.id} | sed -n 's/.*"pid": *\\([0-9]*\\).*/\\1/p' | head -n 1)
sed -i "s,@PID@,$pid," {rootless.path}/beside/config.json
$oci run -b {rootless.path}/beside {rootless.id}-beside
exit 0'''
    os.chown(rootless.path / 'beside', UID, UID)
    done = subprocess.run(['unshare', '-r', '-m', 'sh', '-c', script], stdin=subprocess.DEVNULL, capture_output=True, text=True, **AS_USER)
    assert (done.returncode, done.stderr) == (0, '')
    first, second = done.stdout.split()[:2], done.stdout.split()[2:]
    assert first[1] == 'sh' and first == second


@pytest.mark.skipif(delegated(), reason='a cgroup is delegated to this user')
def test_no_group_is_an_error_for_who_insists(rootless):
    rootless.args('true').save()
    done = rootless.run(globals=('--rootless=false',))
    assert done.returncode == 1 and 'ermission denied' in done.stderr


def test_no_user_namespace_is_refused(rootless):
    rootless.without_namespace('user')
    for kind in ('uidMappings', 'gidMappings'):
        del rootless.linux[kind]
    done = rootless.run()
    assert done.returncode == 1 and 'rootless container requires user namespaces' in done.stderr


def subordinate(file):
    name = pwd.getpwuid(UID).pw_name
    try:
        with open(file) as lines:
            for line in lines:
                owner, first, size = line.strip().split(':')
                if owner in (name, str(UID)):
                    return int(first), int(size)
    except FileNotFoundError:
        pass
    return None


@pytest.mark.skipif(not shutil.which('newuidmap') or not subordinate('/etc/subuid') or not subordinate('/etc/subgid'), reason='newuidmap or ids for the user are missing')
def test_more_ids_by_newuidmap(rootless):
    for kind, file in (('uidMappings', '/etc/subuid'), ('gidMappings', '/etc/subgid')):
        first, size = subordinate(file)
        rootless.linux[kind].append({'containerID': 1, 'hostID': first, 'size': size})
    rootless.all_capabilities()
    assert rootless.output('cat /proc/self/uid_map | wc -l; chown 5:5 /tmp; stat -c %u:%g /tmp; chown 0:0 /tmp').split() == ['2', '5:5']


@pytest.mark.skipif(delegated(), reason='a cgroup is delegated to this user')
@pytest.mark.parametrize('resources', [
    {'pids': {'limit': 10}}, {'cpu': {'realtimeRuntime': 5000}}, {'cpu': {'idle': 1}}, {'memory': {'swappiness': 10}},
    {'blockIO': {'throttleReadBpsDevice': [{'major': 7, 'minor': 0, 'rate': 1000}]}}, {'rdma': {'mlx5_1': {'hcaHandles': 3}}},
    {'blockIO': {'weightDevice': [{'major': 7, 'minor': 0, 'weight': 100}]}}, {'network': {'classID': 1}}], ids=lambda value: json.dumps(value)[:40])
def test_limits_without_a_group_are_refused(rootless, resources):
    rootless.linux['resources'] = resources
    done = rootless.run()
    assert done.returncode == 1 and 'ermission denied' in done.stderr
    assert len(done.stderr.splitlines()) == 1


@needs_delegation
def test_limits_pause_and_stats_in_a_delegated_group(rootless):
    rootless.linux['resources'] = {'pids': {'limit': 10}, 'memory': {'limit': 64 << 20}}
    rootless.up()
    group = f'/sys/fs/cgroup/{os.path.dirname(own_group())}/{rootless.id}'
    assert open(group + '/pids.max').read() == '10\n'
    assert rootless.exec('true').returncode == 0
    stats = json.loads(rootless.call('events', '--stats', rootless.id).stdout)['data']
    assert stats['pids']['limit'] == 10
    assert rootless.call('ps', rootless.id).returncode == 0
    assert rootless.call('update', '--pids-limit', '20', rootless.id).returncode == 0
    assert open(group + '/pids.max').read() == '20\n'
    assert rootless.call('pause', rootless.id).returncode == 0
    assert rootless.state()['status'] == 'paused'
    assert rootless.call('resume', rootless.id).returncode == 0
    rootless.remove()
    assert not os.path.exists(group)


@needs_bus
def test_a_scope_of_the_users_own_systemd(rootless):
    rootless.globals = ('--systemd-cgroup',)
    rootless.linux['resources'] = {'pids': {'limit': 10}}
    rootless.up()
    with open(f'/proc/{rootless.state()["pid"]}/cgroup') as file:
        group = file.read().strip()[4:]
    assert group.endswith(f'/user.slice/runc-{rootless.id}.scope')
    assert open(f'/sys/fs/cgroup/{group}/pids.max').read() == '10\n'
    assert rootless.exec('true').returncode == 0
    assert rootless.call('update', '--pids-limit', '20', rootless.id).returncode == 0
    assert open(f'/sys/fs/cgroup/{group}/pids.max').read() == '20\n'
    rootless.remove()
    assert not os.path.exists('/sys/fs/cgroup/' + group)


@pytest.mark.skipif(not ROOT and 'bus' in os.listdir(os.environ.get('XDG_RUNTIME_DIR', '/')), reason="the user's bus is up")
def test_no_bus_of_the_user_is_said_in_one_line(rootless):
    rootless.globals = ('--systemd-cgroup',)
    done = rootless.run(env={'PATH': os.environ['PATH']})
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert 'systemd' in done.stderr
