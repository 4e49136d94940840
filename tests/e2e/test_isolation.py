"""docker run --isolation vm: what is another wall's, and what that wall refuses for now."""
import glob
import json
import os
import signal
import time

import pytest

import isolation
from engines import is_up, read, ROOT, SLOWER, wait_until

pytestmark = [pytest.mark.berth, pytest.mark.short_vm]
VM = ['--isolation', 'vm']


# ---- what is refused: no machine is needed for it -------------------------------------------------------------------

REFUSED = {
    'HostConfig.Binds': [['-v', '/tmp:/x'], ['-v', 'named:/x'], ['-v', '/tmp:/x:ro']],
    'HostConfig.Mounts': [['--mount', 'type=bind,source=/tmp,target=/x'], ['--mount', 'type=volume,target=/x'], ['--mount', 'type=image,source=bb,target=/x']],
    'HostConfig.VolumesFrom': [['--volumes-from', 'any']],
    'Volumes': [['-v', '/x']],
    'NetworkingConfig.EndpointsConfig': [['--network', 'one', '--network', 'two']],
    'HostConfig.Devices': [['--device', '/dev/null'], ['--device', '/dev/null:/dev/x:r']],
    'HostConfig.DeviceCgroupRules': [['--device-cgroup-rule', 'c 1:3 rwm']],
    'HostConfig.NetworkMode': [['--network', 'host'], ['--network', 'container:any']],
    'HostConfig.DeviceRequests': [['--device', 'example.com/class=one']],
    'HostConfig.IpcMode': [['--ipc', 'host']],
    'HostConfig.PidMode': [['--pid', 'host']],
    'HostConfig.UTSMode': [['--uts', 'host']],
}


def test_the_list_is_tried_and_explained():
    listed = isolation.refusals()
    assert set(REFUSED) == set(listed)
    page = read(os.path.join(ROOT, 'docs/isolation.md'))
    for path, (option, why) in listed.items():
        row = next((line for line in page.splitlines() if line.startswith('|') and f'`{path}`' in line), None)
        assert row, f'docs/isolation.md says nothing about {path}'
        assert option in row.replace('`', ''), row


# What a client of 20.10 can't ask for.
NEW = {'NetworkingConfig.EndpointsConfig', 'HostConfig.DeviceRequests'}


@pytest.mark.parametrize('path, arguments', [
    pytest.param(path, one, marks=[pytest.mark.new_client('not among its options')] if path in NEW or 'type=image' in one[1] else [])
    for path, cases in REFUSED.items() for one in cases])
def test_refused_in_one_line_and_nothing_made(docker, name, path, arguments):
    before = docker.ok('volume', 'ls', '-q') if docker('volume', 'ls').code == 0 else None
    result = docker('run', '--name', name, *VM, *arguments, 'bb', 'true')
    assert result.code == 125
    lines = [line for line in result.err.splitlines() if 'Error response' in line]
    assert len(lines) == 1 and f'{path}: ' in lines[0] and 'behind the VM wall' in lines[0]
    assert docker('inspect', name).code == 1
    assert before is None or docker.ok('volume', 'ls', '-q') == before


def test_an_image_with_a_volume_is_refused(docker, name, tmp_path):
    container = docker.ok('create', '--isolation', 'container', 'bb')
    (tmp_path / 'root').mkdir()
    os.system(f'tar -C {tmp_path}/root -cf {tmp_path}/root.tar .')
    docker.ok('rm', container)
    docker.ok('import', '-c', 'VOLUME /data', '-c', 'CMD ["true"]', str(tmp_path / 'root.tar'), 'withvolume:latest')
    result = docker('run', '--name', name, *VM, 'withvolume')
    assert result.code == 125 and 'Volumes: ' in result.err and 'behind the VM wall' in result.err
    docker.ok('rmi', 'withvolume')


@pytest.mark.parametrize('host_config, word', [
    ({'Isolation': 'vm', 'Runtime': 'berth'}, 'different walls'),
    ({'Isolation': 'vm', 'Runtime': 'runc'}, 'different walls'),
    ({'Isolation': 'container', 'Runtime': 'berth-vm'}, 'different walls'),
    ({'Isolation': 'vm', 'CpuQuota': 900000, 'CpuPeriod': 100000}, 'at most 8'),
    ({'Isolation': 'vm', 'Memory': 1 << 41}, 'at most 1 TiB'),
])
def test_walls_that_do_not_agree_and_sizes_no_machine_has(api, host_config, word):
    answer = api.post('/containers/create', {'Image': 'bb', 'HostConfig': host_config})
    assert answer.status == 400 and word in answer.message
    assert [row for row in api.get('/containers/json?all=1').json if row['Image'] == 'bb' and row['State'] == 'created'] == []


def test_info_tells_what_runs_guests(docker):
    options = json.loads(docker.ok('info', '--format', '{{json .SecurityOptions}}'))
    profile = next(option for option in options if option.startswith('name=isolation-vm,')).split('profile=')[1]
    assert profile in ('kvm', 'tcg', 'unavailable')
    warnings = json.loads(docker.ok('info', '--format', '{{json .Warnings}}')) or []
    assert any('emulates' in warning for warning in warnings) == (profile == 'tcg')
    assert 'berth-vm' in json.loads(docker.ok('info', '--format', '{{json .Runtimes}}'))


# ---- a guest --------------------------------------------------------------------------------------------------------

@pytest.fixture
def guest(keeper, name):
    return keeper.box(name)


def host_file(docker, name, *names):
    """The first of these files that the machine's cgroup on the host has."""
    identity = docker.inspect(name)['Id']
    for file in names:
        for path in glob.glob(f'/sys/fs/cgroup/*/berth-{docker.engine.id}/{identity}/{file}') + \
                glob.glob(f'/sys/fs/cgroup/berth-{docker.engine.id}/{identity}/{file}'):
            return read(path).strip()
    raise AssertionError(f'no {names}')


def machine_pid(docker, name):
    """The VMM: what is in the machine's cgroup."""
    pids = host_file(docker, name, 'cgroup.procs').split()
    assert pids
    return int(pids[0])


@pytest.mark.vm_only
def test_another_kernel(docker, guest):
    kernel = docker.ok('exec', guest, 'uname', '-r')
    assert kernel != os.uname().release
    assert docker.inspect(guest)['Machine']['Kernel'] == kernel


@pytest.mark.vm_only
def test_inspect_says_vm(docker, guest):
    it = docker.inspect(guest)
    assert (it['HostConfig']['Isolation'], it['HostConfig']['Runtime']) == ('vm', 'berth-vm')
    machine = it['Machine']
    assert machine['Accel'] in ('kvm', 'tcg') and machine['VCPUs'] == 1 and machine['Memory'] == 512 << 20
    assert 0 < machine['DiskAllocated'] < 1 << 30
    assert read(f'/proc/{machine_pid(docker, guest)}/status').split('Uid:\t')[1].split()[0] != '0'


@pytest.mark.vm_only
def test_nothing_of_the_host_is_in_it(docker, guest):
    assert docker('exec', guest, 'ls', ROOT).code != 0
    assert int(docker.ok('exec', guest, 'sh', '-c', 'ls -d /proc/[0-9]* | wc -l')) < 20
    assert docker.ok('exec', guest, 'cat', '/proc/sys/kernel/random/boot_id') != read('/proc/sys/kernel/random/boot_id').strip()


def test_a_privileged_exec(docker, guest):
    result = docker('exec', '--privileged', guest, 'sed', '-n', 's/CapEff:.//p', '/proc/self/status')
    assert result.code == 0 and int(result.out, 16) & 1 << 21  # CAP_SYS_ADMIN
    assert int(docker.ok('exec', guest, 'sed', '-n', 's/CapEff:.//p', '/proc/self/status'), 16) & 1 << 21 == 0


@pytest.mark.vm_only
def test_pause_and_unpause(docker, guest):
    docker.ok('pause', guest)
    assert docker.inspect(guest)['State']['Status'] == 'paused'
    docker.ok('unpause', guest)
    assert docker.ok('exec', guest, 'echo', 'awake') == 'awake'


@pytest.mark.vm_only
def test_memory_is_limited_inside_and_processors_outside(docker, name):
    docker.ok('run', '-d', '--name', name, '--memory', '64m', '--cpus', '0.5', 'bb', 'sleep', '1000')
    limit = docker.ok('exec', name, 'sh', '-c', 'cat /sys/fs/cgroup/memory.max 2>/dev/null || '
                      'cat /sys/fs/cgroup/memory/memory.limit_in_bytes')
    assert limit == str(64 << 20)
    total = int(docker.ok('exec', name, 'awk', '/MemTotal/ { print $2 }', '/proc/meminfo')) << 10
    assert 64 << 20 <= total <= 160 << 20
    assert docker.inspect(name)['Machine']['Memory'] == 160 << 20
    assert host_file(docker, name, 'cpu.cfs_quota_us', 'cpu.max').split()[0] == '50000'
    assert int(host_file(docker, name, 'memory.limit_in_bytes', 'memory.max')) > 160 << 20
    result = docker('exec', name, 'sh', '-c', 'head -c 100000000 /dev/zero | tail')
    assert result.code == 137
    assert docker.inspect(name)['State']['Running']


@pytest.mark.vm_only
def test_a_small_share_does_not_starve_the_boot(docker, name):
    began = time.monotonic()
    docker.ok('run', '-d', '--name', name, '--cpus', '0.02', '--cpu-shares', '2', 'bb', 'sleep', '1000')
    assert time.monotonic() - began < 50
    assert host_file(docker, name, 'cpu.cfs_quota_us', 'cpu.max').split()[0] == '2000'
    assert host_file(docker, name, 'cpu.shares', 'cpu.weight') in ('2', '1')


@pytest.mark.vm_only
def test_privileged_is_root_of_the_guest(docker, name):
    docker.ok('run', '-d', '--name', name, '--privileged', 'bb', 'sleep', '1000')
    bounding = int(docker.ok('exec', name, 'sed', '-n', 's/CapBnd:.//p', '/proc/self/status'), 16)
    assert bounding & 1 << 21 and bounding & 1 << 27  # CAP_SYS_ADMIN, CAP_MKNOD
    docker.ok('exec', name, 'sh', '-c', 'mount -t tmpfs x /mnt && touch /mnt/file || { mkdir -p /m && mount -t tmpfs x /m; }')
    assert docker.ok('exec', name, 'sed', '-n', 's/Seccomp:.//p', '/proc/self/status') == '0'
    devices = docker.ok('exec', name, 'ls', '/dev').split()
    assert {'vdb', 'ttyS0', 'kmsg', 'null', 'pts', 'shm'} <= set(devices) or 'pmem0' in devices
    assert 'kvm' not in devices
    docker.ok('exec', name, 'sh', '-c', 'head -c 512 /dev/vda >/dev/null && grep -q " /sys sysfs rw" /proc/mounts')
    docker.ok('exec', name, 'sh', '-c', 'mkdir /sys/fs/cgroup/mine && rmdir /sys/fs/cgroup/mine')
    link = docker('exec', name, 'sh', '-c', 'for port in /dev/vport*; do echo x >$port; done')
    assert link.code != 0  # PID 1's way to the host is PID 1's
    docker.ok('exec', name, 'sh', '-c', 'echo 77 >/proc/sys/kernel/panic')
    assert read('/proc/sys/kernel/panic').strip() != '77'


def test_a_restart_keeps_the_files_of_an_ephemeral_one(docker, name):
    docker.ok('run', '-d', '--rm', '--name', name, 'bb', 'sleep', '1000')
    before = docker.ok('exec', name, 'sh', '-c', 'head -c 8000000 /dev/urandom >/big; mkdir /more; echo small >/more/small; md5sum /big')
    docker.ok('restart', '-t', '0', name)
    assert docker.ok('exec', name, 'sh', '-c', 'md5sum /big; cat /more/small') == before + '\nsmall'


@pytest.mark.vm_only
def test_stop_calls_a_boot_off(docker, name):
    client = docker.popen('run', '--name', name, 'bb', 'sleep', '1000')
    wait_until(lambda: docker('inspect', name).code == 0, 10, 'the container is there')
    time.sleep(0.4)
    began = time.monotonic()
    docker.ok('stop', '-t', '60', name)
    assert time.monotonic() - began < 30
    client.communicate(timeout=60 * SLOWER)
    state = docker.inspect(name)['State']
    assert not state['Running'] and state['ExitCode'] in (137, 143)


# ---- ends -----------------------------------------------------------------------------------------------------------

@pytest.mark.vm_only
@pytest.mark.parametrize('victim', ['the machine', 'its shim'])
def test_a_machine_or_shim_that_dies(docker, engine, name, victim):
    docker.ok('run', '-d', '--name', name, 'bb', 'sh', '-c', 'seq 500; sleep 1000')
    wait_until(lambda: docker.ok('logs', '--tail', '1', name) == '500', 20, 'the log')
    identity = docker.inspect(name)['Id']
    pid = machine_pid(docker, name) if victim == 'the machine' else \
        next(int(line.split()[1]) for line in engine.processes() if 'shim' in line and identity in line)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: docker.inspect(name)['State']['Status'] == 'exited', 20, 'the container is declared dead')
    state = docker.inspect(name)['State']
    assert state['ExitCode'] == 137
    assert victim != 'the machine' or 'its VMM was killed by signal 9' in state['Error']
    assert docker.ok('logs', name).split() == [str(i) for i in range(1, 501)]
    assert wait_until(lambda: not [thing for thing in engine.footprint_of_containers() if identity in thing], 10, 'nothing left')


@pytest.mark.vm_only
def test_two_of_each_wall_are_adopted(docker, engine, name):
    walls = {'va': 'vm', 'vb': 'vm', 'ca': 'container', 'cb': 'container'}
    for key, wall in walls.items():
        docker.ok('run', '-d', '--isolation', wall, '--name', name + key, 'bb', 'sh', '-c',
                  'trap "echo bye; exit 7" TERM; echo up; while :; do sleep 0.1; done')
        is_up(docker, name + key)
    before = {key: docker.inspect(name + key) for key in walls}
    engine.kill9()
    time.sleep(1)
    engine.start()
    engine.restarted = True
    for key in walls:
        after = docker.inspect(name + key)
        assert after['State'] == before[key]['State'] and after['NetworkSettings'] == before[key]['NetworkSettings']
        assert after.get('Machine', {}).get('Kernel') == before[key].get('Machine', {}).get('Kernel')
        assert docker.ok('exec', name + key, 'echo', 'alive') == 'alive'
    for key in walls:
        docker.ok('stop', name + key)
        assert docker.inspect(name + key)['State']['ExitCode'] == 7
        assert docker.ok('logs', name + key).split() == ['up', 'bye']
    engine.terminate()
    engine.start()
    engine.restarted = True
    machine = docker.inspect(name + 'va')['Machine']  # of the last run
    assert [machine[key] for key in ('Accel', 'Kernel')] == [before['va']['Machine'][key] for key in ('Accel', 'Kernel')]
