"""docker update: the limits and the restart policy of a container that is there already."""
import os
import time

import pytest

import isolation
from engines import wait_until
from test_survive import crash  # noqa: F401  (a fixture)

MIB = 1 << 20
outside = pytest.mark.skipif(isolation.VM, reason='a machine keeps its memory and tasks while it runs')


def host(docker, name):
    return docker.inspect(name)['HostConfig']


def inside(docker, name, v1, v2):
    """A file of the container's own group, as it sees it."""
    script = f'cat /sys/fs/cgroup/{v1} 2>/dev/null || cat /sys/fs/cgroup/{v2}'
    return docker.ok('exec', name, 'sh', '-c', script).strip()


# ---- containers that run --------------------------------------------------------------------------------------------

@outside
def test_memory_of_a_running_container(docker, name):
    docker.ok('run', '-d', '--name', name, '-m', '100m', 'bb', 'sleep', '1000')
    docker.ok('update', '-m', '150m', '--memory-swap', '300m', '--memory-reservation', '90m', name)
    assert inside(docker, name, 'memory/memory.limit_in_bytes', 'memory.max') == str(150 * MIB)
    it = host(docker, name)
    assert (it['Memory'], it['MemorySwap'], it['MemoryReservation']) == (150 * MIB, 300 * MIB, 90 * MIB)
    docker.ok('update', '-m', '60m', '--memory-swap', '-1', '--memory-reservation', '50m', name)
    assert inside(docker, name, 'memory/memory.limit_in_bytes', 'memory.max') == str(60 * MIB)
    assert host(docker, name)['MemorySwap'] == -1
    docker.ok('restart', '-t', '0', name)
    assert inside(docker, name, 'memory/memory.limit_in_bytes', 'memory.max') == str(60 * MIB)


def test_processors_of_a_running_container(docker, name):
    docker.ok('run', '-d', '--name', name, 'bb', 'sleep', '1000')
    docker.ok('update', '--cpus', '0.5', name)
    assert host(docker, name)['NanoCpus'] == 500_000_000
    docker.ok('update', '--cpu-shares', '300', '--cpuset-cpus', '0', name)
    it = host(docker, name)
    assert (it['CpuShares'], it['CpusetCpus'], it['NanoCpus']) == (300, '0', 500_000_000)
    if not docker.vm:
        assert inside(docker, name, 'cpu/cpu.cfs_quota_us', 'cpu.max').split()[0] == '50000'
        assert inside(docker, name, 'cpu/cpu.shares', 'cpu.weight') in ('300', '29', '12')
        assert inside(docker, name, 'cpuset/cpuset.cpus', 'cpuset.cpus') == '0'


@outside
def test_pids_of_a_running_container(docker, api, name):
    docker.ok('run', '-d', '--init', '--name', name, 'bb', 'sleep', '1000')
    docker.ok('update', '--pids-limit', '20', name)
    assert inside(docker, name, 'pids/pids.max', 'pids.max') == '20'
    assert host(docker, name)['PidsLimit'] == 20
    assert 'fork' in docker('exec', name, 'sh', '-c', 'for i in $(seq 40); do sleep 1 & done').err
    time.sleep(1.5)
    assert api.post(f'/containers/{name}/update', {'Memory': 0}).json == {'Warnings': None}
    assert inside(docker, name, 'pids/pids.max', 'pids.max') == '20'
    docker.ok('update', '--pids-limit', '-1', name)
    assert inside(docker, name, 'pids/pids.max', 'pids.max') == 'max'
    assert not host(docker, name)['PidsLimit']


@outside
def test_a_paused_container(docker, name):
    docker.ok('run', '-d', '--name', name, 'bb', 'sleep', '1000')
    docker.ok('pause', name)
    docker.ok('update', '--cpu-shares', '512', name)
    docker.ok('unpause', name)
    assert inside(docker, name, 'cpu/cpu.shares', 'cpu.weight') in ('512', '59', '20')


def test_a_stopped_container(docker, name):
    docker.ok('create', '--name', name, '-m', '100m', 'bb', 'sleep', '1000')
    docker.ok('update', '-m', '128m', '--memory-swap', '256m', '--pids-limit', '30', name)
    it = host(docker, name)
    assert (it['Memory'], it['MemorySwap'], it['PidsLimit']) == (128 * MIB, 256 * MIB, 30)
    docker.ok('start', name)
    assert inside(docker, name, 'memory/memory.limit_in_bytes', 'memory.max') == str(128 * MIB)
    assert inside(docker, name, 'pids/pids.max', 'pids.max') == '30'


def test_several_at_once_and_the_event(docker, name):
    began = f'{time.time():.9f}'
    for one in 'ab':
        docker.ok('create', '--name', name + one, 'bb')
    assert docker.ok('update', '--cpu-shares', '200', name + 'a', name + 'b').split() == [name + 'a', name + 'b']
    words = docker.ok('events', '--since', began, '--until', f'{time.time():.9f}', '-f', 'event=update', '--format', '{{.Actor.Attributes.name}}')
    assert words.split() == [name + 'a', name + 'b']


@pytest.mark.berth
@pytest.mark.vm_only
def test_what_a_running_machine_keeps(docker, name):
    docker.ok('run', '-d', '--name', name, '-m', '128m', 'bb', 'sleep', '1000')
    for options, path in (['-m', '130m', '--memory-swap', '400m'], 'Memory'), (['--pids-limit', '5'], 'PidsLimit'), (['--cpus', '2'], 'NanoCpus'):
        result = docker('update', *options, name)
        assert result.code == 1 and f'HostConfig.{path}: not supported behind the VM wall while it runs' in result.err
    assert host(docker, name)['Memory'] == 128 * MIB


# ---- the restart policy ---------------------------------------------------------------------------------------------

def test_a_policy_for_a_running_container(docker, name):
    docker.ok('run', '-d', '--name', name, 'bb', 'sh', '-c', 'while [ ! -e /end ]; do sleep 0.1; done; rm /end; exit 1')
    docker.ok('update', '--restart', 'on-failure:3', name)
    assert host(docker, name)['RestartPolicy'] == {'Name': 'on-failure', 'MaximumRetryCount': 3}
    docker.ok('exec', name, 'touch', '/end')
    wait_until(lambda: docker.inspect(name)['RestartCount'] == 1, 20, 'a restart')
    wait_until(lambda: docker.inspect(name)['State']['Status'] == 'running', 20, 'it runs')
    docker.ok('update', '--restart', 'no', name)
    docker.ok('exec', name, 'touch', '/end')
    assert docker.ok('wait', name) == '1'
    assert docker.inspect(name)['State']['Status'] == 'exited'


def test_a_policy_and_rm(docker, name):
    docker.ok('run', '-d', '--rm', '--name', name, 'bb', 'sleep', '100')
    result = docker('update', '--restart', 'always', name)
    assert result.code == 1 and 'Restart policy cannot be updated because AutoRemove is enabled for the container' in result.err


# ---- bad input ------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('created, body, status, message', [
    ({}, {'Memory': 1024}, 400, 'Minimum memory limit allowed is 6MB'),
    ({'Memory': 100 * MIB}, {'Memory': 300 * MIB}, 409,
     'Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time'),
    ({'CpuQuota': 50000}, {'NanoCpus': 10 ** 9}, 409, 'Conflicting options: Nano CPUs cannot be updated as CPU Quota has already been set'),
    ({'CpuPeriod': 50000}, {'NanoCpus': 10 ** 9}, 409, 'Conflicting options: Nano CPUs cannot be updated as CPU Period has already been set'),
    ({'NanoCpus': 10 ** 9}, {'CpuQuota': 50000}, 409, 'Conflicting options: CPU Quota cannot be updated as NanoCPUs has already been set'),
    ({'NanoCpus': 10 ** 9}, {'CpuPeriod': 50000}, 409, 'Conflicting options: CPU Period cannot be updated as NanoCPUs has already been set'),
    ({}, {'CpuQuota': 500}, 400, 'CPU cfs quota can not be less than 1ms (i.e. 1000)'),
    ({}, {'CpusetCpus': '0-9000'}, 400, 'for cpuset cpus'),
    ({}, {'CpusetCpus': '999'}, 400, 'Requested CPUs are not available - requested 999'),
])
def test_values_that_can_not_be(api, name, created, body, status, message):
    made = api.post(f'/containers/create?name={name}', {'Image': 'bb', 'HostConfig': created})
    assert made.status == 201
    answer = api.post(f'/containers/{name}/update', body)
    assert answer.status == status and message in answer.message, answer
    if status == 409:
        assert answer.message == f'Cannot update container {made.json["Id"]}: {message}'
    after = api.get(f'/containers/{name}/json').json['HostConfig']
    for key in body:
        assert after[key] == created.get(key, '' if key == 'CpusetCpus' else 0)


@pytest.mark.differs('has other words')
def test_a_bad_policy(api, name):
    api.post(f'/containers/create?name={name}', {'Image': 'bb'})
    answer = api.post(f'/containers/{name}/update', {'RestartPolicy': {'Name': 'sometimes'}})
    assert answer.status == 400 and "unknown policy 'sometimes'" in answer.message


def test_an_unknown_container_or_no_body(api):
    assert api.post('/containers/nosuch/update', {'Memory': 0}).status == 404
    assert api.post('/containers/nosuch/update', b'[', headers={'Content-Type': 'application/json'}).status in (400, 500)


@pytest.mark.berth
def test_what_is_not_honoured_is_refused(api, name):
    api.post(f'/containers/create?name={name}', {'Image': 'bb'})
    answer = api.post(f'/containers/{name}/update', {'Devices': [{'PathOnHost': '/dev/null'}]})
    assert answer.status == 501 and 'Devices' in answer.message


def test_a_limit_that_the_kernel_lacks(docker, api, name):
    if os.path.exists('/sys/fs/cgroup/cgroup.controllers') or os.path.exists('/sys/fs/cgroup/blkio/blkio.weight'):
        pytest.skip('this kernel has block I/O weights')
    docker.ok('create', '--name', name, 'bb')
    answer = api.post(f'/containers/{name}/update', {'BlkioWeight': 300})
    assert answer.status == 200 and answer.json['Warnings'] == [
        'Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded.']


# ---- the daemon's end -----------------------------------------------------------------------------------------------

@pytest.mark.berth
def test_the_next_daemon_knows(docker, crash, name):
    docker.ok('run', '-d', '--name', name, 'bb', 'sleep', '1000')
    docker.ok('update', '--cpu-shares', '300', '--cpuset-cpus', '0', '--restart', 'unless-stopped', name)
    before = docker.inspect(name)
    crash()
    after = docker.inspect(name)
    assert after['HostConfig'] == before['HostConfig'] and after['HostConfig']['CpusetCpus'] == '0'
    docker.ok('restart', '-t', '0', name)
    if not docker.vm:
        assert inside(docker, name, 'cpuset/cpuset.cpus', 'cpuset.cpus') == '0'
