"""docker run: what the container's wall makes of mounts, of a read-only root, and of namespaces that are shared."""
import os
import re
import subprocess

import pytest

import isolation
from engines import wait_until
from test_run import inside


# ---- tmpfs ----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('options, path, mode', [
    (['--tmpfs', '/fresh'], '/fresh', '1777'),
    (['--mount', 'type=tmpfs,dst=/fresh'], '/fresh', '1777'),
    (['--tmpfs', '/root'], '/root', '700'),
    (['--mount', 'type=tmpfs,dst=/root'], '/root', '700'),
    (['--tmpfs', '/fresh:mode=750'], '/fresh', '750'),
    (['--mount', 'type=tmpfs,dst=/fresh,tmpfs-mode=0711'], '/fresh', '711'),
    (['--tmpfs', '/fresh', '-w', '/fresh'], '/fresh', '755'),  # the working directory was there first
])
def test_the_root_of_a_tmpfs(docker, options, path, mode):
    assert inside(docker, *options, script=f'stat -c %a {path}') == [mode]


def test_a_tmpfs_is_roots_and_empty(docker):
    assert inside(docker, '--tmpfs', '/home/app', script='stat -c %u:%g /home/app; ls -A /home/app') == ['0:0']
    assert inside(docker, '--tmpfs', '/etc', script='ls -A /etc') == ['hostname', 'hosts', 'resolv.conf']


@pytest.mark.parametrize('options', [['--tmpfs', '/fresh:ro'], ['--mount', 'type=tmpfs,dst=/fresh,readonly']])
def test_a_read_only_tmpfs(docker, options):
    result = docker('run', '--rm', *options, 'bb', 'touch', '/fresh/x')
    assert result.code == 1 and 'Read-only' in result.err


@pytest.mark.container_only('HostConfig.Binds')
def test_a_volume_in_a_read_only_tmpfs(docker, tmp_path):
    docker.ok('run', '--rm', '--tmpfs', '/fresh:ro', '-v', f'{tmp_path}:/fresh/data', 'bb', 'touch', '/fresh/data/x')
    assert (tmp_path / 'x').exists()


# ---- a read-only root -----------------------------------------------------------------------------------------------

@pytest.mark.parametrize('path', ['/etc/hosts', '/etc/hostname', '/etc/resolv.conf'])
def test_a_read_only_root_has_read_only_files(docker, path):
    assert docker('run', '--rm', 'bb', 'sh', '-c', f'echo "# mine" >>{path}').code == 0
    result = docker('run', '--rm', '--read-only', 'bb', 'sh', '-c', f'echo "# mine" >>{path}')
    assert result.code == 1 and 'Read-only' in result.err


def test_the_working_directory_comes_before_the_read_only_root(docker):
    assert inside(docker, '--read-only', '-w', '/not/yet/there', script='pwd') == ['/not/yet/there']


@pytest.mark.container_only('HostConfig.Binds')
def test_the_working_directory_below_a_mount(docker, tmp_path):
    assert inside(docker, '--read-only', '-v', f'{tmp_path}:/data', '-w', '/data/new', script='pwd') == ['/data/new']
    assert (tmp_path / 'new').is_dir()


def test_a_working_directory_that_is_a_file(docker):
    result = docker('run', '--rm', '-w', '/etc/passwd', 'bb', 'true')
    assert result.code == 125 and 'Cannot mkdir: /etc/passwd is not a directory' in result.err


def test_an_exec_makes_no_working_directory(docker, name):
    docker.ok('run', '-d', '--name', name, 'bb', 'sleep', '100')
    result = docker('exec', '-w', '/not/there', name, 'true')
    assert result.code in (126, 127)  # dockerd 20.10 and later ones
    assert 'chdir to cwd ("/not/there") set in config.json failed: no such file or directory' in result.err + result.out
    assert docker('exec', name, 'ls', '-d', '/not').code == 1


# ---- bind mounts ----------------------------------------------------------------------------------------------------

@pytest.fixture
def private_mount(tmp_path):
    folder = tmp_path / 'a mount'
    folder.mkdir()
    subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', str(folder)], check=True)
    subprocess.run(['mount', '--make-private', str(folder)], check=True)
    yield str(folder)
    subprocess.run(['umount', '-l', str(folder)], check=True)


@pytest.mark.container_only('HostConfig.Binds')
@pytest.mark.parametrize('word, kinds', [
    ('shared', 'a shared'), ('rshared', 'a shared'), ('slave', 'a shared or slave'), ('rslave', 'a shared or slave')])
def test_propagation_needs_a_mount_that_propagates(docker, private_mount, word, kinds):
    os.mkdir(private_mount + '/within')
    for source in (private_mount, private_mount + '/within'):
        result = docker('run', '--rm', '-v', f'{source}:/m:{word}', 'bb', 'true')
        assert result.code == 125
        # A dockerd in a mount namespace of its own does not see ours, only what lies below.
        assert re.search(f'path {source} is mounted on ({private_mount}|/tmp|/) but it is not {kinds} mount', result.err)
    docker.ok('run', '--rm', '-v', f'{private_mount}:/m:rprivate', 'bb', 'true')


@pytest.mark.container_only('HostConfig.Binds')
@pytest.mark.parametrize('mode', ['ro,rw', 'z,Z', 'rshared,rslave', 'ro,', 'cached,delegated', 'copy,nocopy'])
def test_a_mode_of_two_minds_is_refused(docker, tmp_path, mode):
    result = docker('create', '-v', f'{tmp_path}:/m:{mode}', 'bb')
    assert result.code != 0 and f'invalid mode: {mode}' in result.err


@pytest.mark.container_only('HostConfig.Binds')
def test_options_of_the_other_kind_of_mount_are_refused(docker, name, tmp_path):
    result = docker('create', '-v', f'{name}:/m:rshared', 'bb')
    assert result.code != 0 and 'field BindOptions must not be specified' in result.err
    result = docker('create', '-v', f'{tmp_path}:/m:nocopy', 'bb')
    assert result.code != 0 and 'field VolumeOptions must not be specified' in result.err


@pytest.mark.container_only('HostConfig.Binds')
@pytest.mark.parametrize('options', [['-v', '{}:/home:nocopy'], ['--mount', 'type=volume,src={},dst=/home,volume-nocopy']])
def test_a_volume_without_the_images_files(docker, name, options):
    options = [option.format(name) for option in options]
    assert inside(docker, *options, script='ls -A /home') == []


@pytest.mark.container_only('HostConfig.Mounts')
def test_propagation_by_mount(docker, name, tmp_path):
    docker.ok('create', '--name', name, '--mount', f'type=bind,src={tmp_path},dst=/m,bind-propagation=rprivate', 'bb')
    assert docker.inspect(name)['Mounts'][0]['Propagation'] == 'rprivate'
    result = docker('create', '--mount', f'type=bind,src={tmp_path},dst=/m,bind-propagation=sideways', 'bb')
    assert result.code != 0 and 'invalid propagation mode: sideways' in result.err


# ---- what asks for nothing passes -----------------------------------------------------------------------------------

def test_no_healthcheck(docker, name):
    docker.ok('run', '--name', name, '--no-healthcheck', 'bb', 'true')
    assert docker.inspect(name)['Config']['Healthcheck']['Test'] == ['NONE']


def test_ipc_private(docker):
    assert inside(docker, '--ipc', 'private', script='readlink /proc/self/ns/ipc') != [os.readlink('/proc/self/ns/ipc')]


# ---- the cgroup namespace -------------------------------------------------------------------------------------------

def test_the_hosts_cgroup_namespace(docker, name):
    script = 'readlink /proc/self/ns/cgroup; cat /proc/self/cgroup'
    lines = inside(docker, '--cgroupns', 'host', script=script)
    assert lines[0] == os.readlink('/proc/self/ns/cgroup')
    assert not any(line.endswith(':/') for line in lines[1:] if ':pids:' in line)
    lines = inside(docker, '--cgroupns', 'private', script=script)
    assert lines[0] != os.readlink('/proc/self/ns/cgroup')
    assert all(line.endswith(':/') for line in lines[1:] if ':pids:' in line)
    docker.ok('create', '--name', name, '--cgroupns', 'host', 'bb')
    assert docker.inspect(name)['HostConfig']['CgroupnsMode'] == 'host'


def test_the_hosts_cgroup_namespace_shows_only_the_own_group(docker):
    if isolation.VM or not os.path.isdir('/sys/fs/cgroup/pids'):
        pytest.skip('the kernel below has no cgroup v1')
    # The folder is the container's group, not the host's root: it has a limit.
    script = 'cat /sys/fs/cgroup/pids/pids.max; cat /sys/fs/cgroup/pids/cgroup.procs; touch /sys/fs/cgroup/pids/x'
    result = docker('run', '--rm', '--cgroupns', 'host', '--pids-limit', '77', 'bb', 'sh', '-c', script)
    lines = result.out.split()
    assert lines[0] == '77' and '1' in lines[1:] and 'Read-only' in result.err


def test_a_bad_cgroup_namespace(api):
    answer = api.post('/containers/create', {'Image': 'bb', 'HostConfig': {'CgroupnsMode': 'shared'}})
    assert answer.status == 400 and answer.message == 'invalid cgroup namespace mode: shared'


# ---- what the daemon may not do -------------------------------------------------------------------------------------

@pytest.fixture
def weak(engine):
    """The daemon again, without the right to raise limits."""
    def start(prefix=()):
        engine.command = lambda: [*prefix, *command()]
        engine.terminate()
        engine.start()
        engine.restarted = True
    command = engine.command
    start(['prlimit', '--nofile=15000:15000', 'setpriv', '--bounding-set', '-sys_resource'])
    yield
    start()


@pytest.mark.berth
def test_a_limit_that_the_daemon_may_not_raise_is_clamped_and_told(weak, docker, api):
    host = {'OomScoreAdj': -500, 'Ulimits': [{'Name': 'nofile', 'Soft': 15001, 'Hard': 16000}]}
    script = 'cat /proc/self/oom_score_adj; ulimit -n; ulimit -Hn'
    own = open('/proc/self/oom_score_adj').read().strip()
    answer = api.post('/containers/create', {'Image': 'bb', 'Cmd': ['sh', '-c', script], 'HostConfig': host})
    if isolation.VM:  # a guest's kernel asks nobody on the host
        assert answer.json['Warnings'] == []
        assert docker.ok('start', '-a', answer.json['Id']).split() == ['-500', '15001', '16000']
        return
    assert answer.json['Warnings'] == ['Ulimit nofile can not be raised so far. It is clamped to 15000.',
                                       f'OomScoreAdj can not be lowered so far. It is clamped to {own}.']
    assert docker.ok('start', '-a', answer.json['Id']).split() == [own, '15000', '15000']


def test_what_needs_no_right_is_as_asked(docker, api):
    host = {'OomScoreAdj': 600, 'Ulimits': [{'Name': 'nofile', 'Soft': 1000, 'Hard': 1500}]}
    script = 'cat /proc/self/oom_score_adj; ulimit -n; ulimit -Hn'
    answer = api.post('/containers/create', {'Image': 'bb', 'Cmd': ['sh', '-c', script], 'HostConfig': host})
    assert answer.json['Warnings'] == []
    assert docker.ok('start', '-a', answer.json['Id']).split() == ['600', '1000', '1500']


@pytest.mark.berth
def test_a_running_container_costs_the_daemon_one_descriptor(docker, engine):
    def descriptors():
        return len(os.listdir(f'/proc/{engine.process.pid}/fd'))
    docker.ok('run', '-d', '-p', '127.0.0.1::80', 'bb', 'sleep', '100')
    before = descriptors()
    for _ in range(5):
        docker.ok('run', '-d', '-p', '127.0.0.1::80', 'bb', 'sleep', '100')
    wait_until(lambda: descriptors() <= before + 5, what='one descriptor for each')
