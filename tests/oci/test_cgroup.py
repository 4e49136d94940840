"""Control groups as the document and `update` order them, on whatever layout this machine has."""
import fcntl
import json
import os
import time

import pytest

from conftest import SLOWNESS

V2 = os.path.exists('/sys/fs/cgroup/cgroup.controllers')
MIB = 1 << 20


def in_tree(controller):
    """Whether the cgroup2 tree has it, which may stand beside v1's hierarchies."""
    try:
        with open('/sys/fs/cgroup/cgroup.controllers' if V2 else '/sys/fs/cgroup/unified/cgroup.controllers') as file:
            return {'blkio': 'io'}.get(controller, controller) in file.read().split()
    except FileNotFoundError:
        return False


def folder(bundle, controller):
    name = bundle.linux.get('cgroupsPath', bundle.id)
    if V2:
        return f'/sys/fs/cgroup/{name}'
    return f'/sys/fs/cgroup/{"unified" if in_tree(controller) else controller}/{name}'


def value(bundle, controller, v1, v2):
    with open(os.path.join(folder(bundle, controller), v2 if V2 or in_tree(controller) else v1)) as file:
        return ' '.join(file.read().split())


def has(controller):
    return in_tree(controller) or not V2 and os.path.isdir(f'/sys/fs/cgroup/{controller}')


# resources, controller, file of v1 and what it says then, file of v2 and what it says then
LIMITS = {
    'memory': ({'memory': {'limit': 64 * MIB}}, 'memory', 'memory.limit_in_bytes', str(64 * MIB), 'memory.max', str(64 * MIB)),
    'reservation': ({'memory': {'reservation': 32 * MIB}}, 'memory', 'memory.soft_limit_in_bytes', str(32 * MIB), 'memory.low', str(32 * MIB)),
    'pids': ({'pids': {'limit': 77}}, 'pids', 'pids.max', '77', 'pids.max', '77'),
    'shares': ({'cpu': {'shares': 512}}, 'cpu', 'cpu.shares', '512', 'cpu.weight', '59'),
    'quota': ({'cpu': {'quota': 30000, 'period': 60000}}, 'cpu', 'cpu.cfs_quota_us', '30000', 'cpu.max', '30000 60000'),
    'cpuset': ({'cpu': {'cpus': '0', 'mems': '0'}}, 'cpuset', 'cpuset.cpus', '0', 'cpuset.cpus', '0'),
    'hugetlb': ({'hugepageLimits': [{'pageSize': '2MB', 'limit': 4 * MIB}]}, 'hugetlb', 'hugetlb.2MB.limit_in_bytes', str(4 * MIB),
                'hugetlb.2MB.max', str(4 * MIB)),
}


def check(bundle, name):
    _, controller, v1, says1, v2, says2 = LIMITS[name]
    assert value(bundle, controller, v1, v2) == (says2 if V2 or in_tree(controller) else says1)


@pytest.mark.parametrize('name', LIMITS)
def test_limit_of_a_new_container(bundle, name):
    if not has(LIMITS[name][1]):
        pytest.skip(f'no {LIMITS[name][1]} controller')
    bundle.linux['resources'].update(LIMITS[name][0])
    bundle.up()
    check(bundle, name)


@pytest.mark.parametrize('name', LIMITS)
def test_update_of_a_running_container(bundle, name):
    if not has(LIMITS[name][1]):
        pytest.skip(f'no {LIMITS[name][1]} controller')
    bundle.up()
    done = bundle.call('update', '-r', '-', bundle.id, stdin=None, input=json.dumps(LIMITS[name][0]))
    assert done.returncode == 0, done.stderr
    check(bundle, name)


@pytest.mark.skipif(V2 or not in_tree('hugetlb'), reason='no hybrid host whose cgroup2 tree has hugetlb')
def test_huge_pages_below_a_group_that_was_not_there(bundle):
    """On a hybrid host the cgroup2 tree hands its controllers down only where they are needed."""
    bundle.linux['cgroupsPath'] = f'{bundle.id}/below'
    bundle.linux['resources'].update(LIMITS['hugetlb'][0])
    bundle.up()
    check(bundle, 'hugetlb')
    stats = json.loads(bundle.call('events', '--stats', bundle.id).stdout)['data']
    assert '2MB' in stats['hugetlb']
    bundle.remove()
    for root in os.listdir('/sys/fs/cgroup'):
        if os.path.isdir(f'/sys/fs/cgroup/{root}/{bundle.id}'):
            os.rmdir(f'/sys/fs/cgroup/{root}/{bundle.id}')


@pytest.mark.skipif(not V2 or not os.path.exists('/proc/pressure/cpu'), reason='no cgroup v2, or a kernel without pressure stalls')
def test_pressure_is_told(bundle):
    bundle.up()
    stats = json.loads(bundle.call('events', '--stats', bundle.id).stdout)['data']
    for part in 'cpu', 'memory', 'blkio':
        for kind in stats[part]['psi'].values():
            assert set(kind) == {'avg10', 'avg60', 'avg300', 'total'}


# ---- block devices --------------------------------------------------------------------------------------------------

@pytest.fixture
def loop(tmp_path):
    """A loop device over a file of 8 MiB, with the scheduler that has weights."""
    with open('/dev/loop-control') as control:
        number = fcntl.ioctl(control, 0x4c82)  # LOOP_CTL_GET_FREE
    path = f'/dev/loop{number}'
    with open(tmp_path / 'disk', 'w+b') as disk, open(path, 'r+b') as device:
        disk.truncate(8 * MIB)
        fcntl.ioctl(device, 0x4c00, disk.fileno())  # LOOP_SET_FD
        with open(f'/sys/block/loop{number}/queue/scheduler', 'w') as scheduler:
            scheduler.write('bfq')
        info = os.stat(path)
        yield {'major': os.major(info.st_rdev), 'minor': os.minor(info.st_rdev)}
        fcntl.ioctl(device, 0x4c01)  # LOOP_CLR_FD


needs_io = pytest.mark.skipif(not has('blkio') or not os.path.exists('/dev/loop-control'), reason='no io controller, or no loop devices')


def line_of(text, device):
    """What a file with a line for each device says of this one."""
    for line in text.splitlines():
        if line.startswith(f'{device["major"]}:{device["minor"]} '):
            return line.split()[1:]
    return None


def read_lines(bundle, v1, v2):
    with open(os.path.join(folder(bundle, 'blkio'), v2 if V2 else v1)) as file:
        return file.read()


THROTTLES = {'throttleReadBpsDevice': ('read_bps', 'rbps', MIB), 'throttleWriteBpsDevice': ('write_bps', 'wbps', 2 * MIB),
             'throttleReadIOPSDevice': ('read_iops', 'riops', 400), 'throttleWriteIOPSDevice': ('write_iops', 'wiops', 500)}


def check_throttles(bundle, loop, factor=1):
    for v1, v2, rate in THROTTLES.values():
        told = line_of(read_lines(bundle, f'blkio.throttle.{v1}_device', 'io.max'), loop)
        assert (f'{v2}={rate * factor}' in told) if V2 else told == [str(rate * factor)]


def throttles(loop, factor=1):
    return {'blockIO': {name: [{**loop, 'rate': rate * factor}] for name, (_, _, rate) in THROTTLES.items()}}


@needs_io
def test_throttles_of_a_device(bundle, loop):
    bundle.linux['resources'].update(throttles(loop))
    bundle.up()
    check_throttles(bundle, loop)
    done = bundle.call('update', '-r', '-', bundle.id, stdin=None, input=json.dumps(throttles(loop, 2)))
    assert done.returncode == 0, done.stderr
    check_throttles(bundle, loop, 2)
    done = bundle.call('update', '-r', '-', bundle.id, stdin=None, input=json.dumps(throttles(loop, 0)))
    assert done.returncode == 0, done.stderr
    for v1, _, _ in THROTTLES.values():
        assert line_of(read_lines(bundle, f'blkio.throttle.{v1}_device', 'io.max'), loop) is None


@needs_io
def test_a_throttle_is_felt(bundle, loop):
    """3 MiB at 1 MiB a second, once the first second's share is used up."""
    bundle.linux['devices'] = [{'path': '/dev/disk', 'type': 'b', **loop, 'fileMode': 0o600}]
    bundle.linux['resources']['devices'].append({'allow': True, 'type': 'b', **loop, 'access': 'r'})
    bundle.linux['resources']['blockIO'] = {'throttleReadBpsDevice': [{**loop, 'rate': MIB}]}
    bundle.args('dd', 'if=/dev/disk', 'of=/dev/null', 'bs=64k', 'count=48')
    began = time.monotonic()
    done = bundle.run()
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - began > 1.5


@needs_io
def test_weights(bundle, loop):
    bundle.linux['resources']['blockIO'] = {'weight': 300, 'weightDevice': [{**loop, 'weight': 500}]}
    bundle.up()
    if V2:
        told = read_lines(bundle, '', 'io.bfq.weight')
        assert told.splitlines()[0] == 'default 300' and line_of(told, loop) == ['500']
    else:
        assert read_lines(bundle, 'blkio.bfq.weight', '').split()[-1] == '300'
        assert line_of(read_lines(bundle, 'blkio.bfq.weight_device', ''), loop) == ['500']
    assert bundle.call('update', '--blkio-weight', '600', bundle.id).returncode == 0
    assert read_lines(bundle, 'blkio.bfq.weight', 'io.bfq.weight').splitlines()[0].split()[-1] == '600'


@needs_io
def test_a_throttle_of_no_device_is_refused(bundle):
    bundle.linux['resources']['blockIO'] = {'throttleReadBpsDevice': [{'major': 259, 'minor': 999999, 'rate': MIB}]}
    done = bundle.run()
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
    assert ('io.max' if V2 else 'blkio.throttle.read_bps_device') in done.stderr


# ---- what few machines have -----------------------------------------------------------------------------------------

def test_rdma_is_written_or_refused(bundle):
    bundle.linux['resources']['rdma'] = {'none0': {'hcaHandles': 3, 'hcaObjects': 100}}
    done = bundle.run()
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
    assert ('rdma.max' if has('rdma') else 'no cgroup controller for rdma') in done.stderr


def rt_here():
    return not V2 and os.path.exists('/sys/fs/cgroup/cpu/cpu.rt_runtime_us')


def test_realtime_is_written_or_refused(bundle):
    bundle.linux['resources']['cpu'] = {'realtimeRuntime': 4000, 'realtimePeriod': 500000}
    if not rt_here():
        done = bundle.run()
        assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
        assert 'no cgroup controller for realtime cpu' in done.stderr
        return
    bundle.up()
    assert (value(bundle, 'cpu', 'cpu.rt_runtime_us', ''), value(bundle, 'cpu', 'cpu.rt_period_us', '')) == ('4000', '500000')
    done = bundle.call('update', '--cpu-rt-runtime', '6000', '--cpu-rt-period', '600000', bundle.id)
    assert done.returncode == 0, done.stderr
    assert (value(bundle, 'cpu', 'cpu.rt_runtime_us', ''), value(bundle, 'cpu', 'cpu.rt_period_us', '')) == ('6000', '600000')


NO_RDT = not any(line.split(' - ')[1].startswith('resctrl ') for line in open('/proc/self/mountinfo'))


@pytest.mark.skipif(not NO_RDT, reason='resctrl is mounted')
@pytest.mark.parametrize('rdt', [{}, {'l3CacheSchema': 'L3:0=f'}, {'closID': 'gold'}, {'enableCMT': True}], ids=str)
def test_without_resctrl_rdt_is_refused(bundle, rdt):
    bundle.linux['intelRdt'] = rdt
    done = bundle.run()
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
    assert 'intelRdt is specified in config, but Intel RDT is not enabled' in done.stderr
    assert bundle.remains() == []


@pytest.mark.berth
@pytest.mark.parametrize('flag', ['--l3-cache-schema', '--mem-bw-schema'])
def test_a_schema_can_not_come_later(bundle, flag):
    bundle.up()
    done = bundle.call('update', flag, 'L3:0=f', bundle.id)
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
    assert 'no class of service' in done.stderr


def swap_file(bundle):
    return os.path.join(folder(bundle, 'memory'), 'memory.swap.max' if V2 else 'memory.memsw.limit_in_bytes')


def test_swap(bundle):
    """The document counts memory and swap together, as v1 does; v2 counts swap alone."""
    bundle.linux['resources']['memory'] = {'limit': 64 * MIB, 'swap': 96 * MIB}
    bundle.up()
    if not os.path.exists(swap_file(bundle)):
        pytest.skip('this kernel does not count swap')
    assert int(open(swap_file(bundle)).read()) == (32 if V2 else 96) * MIB
    for memory, swap in (32, 40), (128, 200), (128, 128):
        done = bundle.call('update', '--memory', f'{memory}m', '--memory-swap', f'{swap}m', bundle.id)
        assert done.returncode == 0, done.stderr
        assert int(open(swap_file(bundle)).read()) == (swap - memory if V2 else swap) * MIB
    done = bundle.call('update', '--memory', '-1', '--memory-swap', '-1', bundle.id)
    assert done.returncode == 0, done.stderr
    told = open(swap_file(bundle)).read().strip()
    assert told == 'max' if V2 else int(told) > 1 << 60


def test_swap_below_memory_is_refused(bundle):
    bundle.linux['resources']['memory'] = {'limit': 64 * MIB, 'swap': 32 * MIB}
    done = bundle.run()
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
    assert 'memory' in done.stderr


def test_swappiness(bundle):
    bundle.linux['resources']['memory'] = {'swappiness': 7}
    if V2:
        done = bundle.run()
        assert done.returncode == 1 and 'no cgroup controller for swappiness' in done.stderr
    else:
        bundle.up()
        assert value(bundle, 'memory', 'memory.swappiness', '') == '7'


@pytest.mark.skipif(not V2, reason='unified is of cgroup v2')
def test_unified_wins(bundle):
    bundle.linux['resources'].update({'pids': {'limit': 50}, 'unified': {'pids.max': '60', 'memory.high': str(48 * MIB)}})
    bundle.up()
    assert value(bundle, '', '', 'pids.max') == '60'
    assert value(bundle, '', '', 'memory.high') == str(48 * MIB)


@pytest.mark.skipif(V2, reason='refused on cgroup v1 only')
def test_unified_is_refused_on_v1(bundle):
    bundle.linux['resources'].update({'unified': {'pids.max': '60'}})
    done = bundle.run()
    assert done.returncode == 1
    assert 'cannot use unified on cgroup v1' in done.stderr


KMSG = {'path': '/dev/kmsg2', 'type': 'c', 'major': 1, 'minor': 11, 'fileMode': 0o666}


@pytest.mark.parametrize('rules,opens', [([], False), ([{'allow': True, 'type': 'c', 'major': 1, 'minor': 11, 'access': 'rw'}], True),
                                         ([{'allow': True, 'type': 'c', 'major': 1, 'minor': 11, 'access': 'r'}], False)])
def test_devices_are_filtered(bundle, rules, opens):
    bundle.linux['devices'] = [KMSG]
    bundle.linux['resources']['devices'] += rules
    bundle.all_capabilities()
    assert bundle.output('(exec 3>>/dev/kmsg2) 2>/dev/null && echo open; cat </dev/null; head -c1 /dev/zero | wc -c').split() == ['open'] * opens + ['1']


def test_root_may_not_lose_the_filter_by_a_flag(bundle):
    bundle.linux['devices'] = [KMSG]
    bundle.all_capabilities()
    assert bundle.output('(exec 3>>/dev/kmsg2) 2>/dev/null && echo open; true', globals=('--rootless=true',)) == ''


def test_devices_of_a_running_container_change(bundle):
    bundle.linux['devices'] = [KMSG]
    bundle.all_capabilities()
    bundle.up()
    opening = ('sh', '-c', '(exec 3>>/dev/kmsg2) 2>/dev/null')
    assert bundle.exec(*opening).returncode != 0
    rules = [{'allow': False, 'access': 'rwm'}, {'allow': True, 'type': 'c', 'major': 1, 'minor': 11, 'access': 'w'}]
    for given, code in ((rules, 0), (rules[:1], 1)):
        done = bundle.call('update', '-r', '-', bundle.id, stdin=None, input=json.dumps({'devices': given}))
        assert done.returncode == 0, done.stderr
        assert (bundle.exec(*opening).returncode != 0) == bool(code)


def test_pause_and_resume(bundle):
    bundle.up('while :; do echo x >> /tmp/ticks; sleep 0.05; done')
    ticks = bundle.rootfs / 'tmp/ticks'
    end = time.monotonic() + 5 * SLOWNESS
    while not ticks.exists() and time.monotonic() < end:
        time.sleep(0.05)
    assert bundle.call('pause', bundle.id).returncode == 0
    assert bundle.state()['status'] == 'paused'
    size = ticks.stat().st_size
    time.sleep(0.3)
    assert ticks.stat().st_size == size
    assert bundle.call('resume', bundle.id).returncode == 0
    bundle.wait('running')
    while ticks.stat().st_size == size:
        assert time.monotonic() < end + 5 * SLOWNESS
        time.sleep(0.05)


def test_stats_are_the_groups_own(bundle):
    bundle.linux['resources'].update({'memory': {'limit': 64 * MIB}, 'pids': {'limit': 44}})
    bundle.up()
    stats = json.loads(bundle.call('events', '--stats', bundle.id).stdout)['data']
    assert stats['pids']['limit'] == 44 and stats['pids']['current'] >= 1
    assert stats['memory']['usage']['limit'] == 64 * MIB and stats['memory']['usage']['usage'] > 0
    assert stats['cpu']['usage']['total'] > 0


# ---- exec in a group below -------------------------------------------------------------------------------------------


def groups_of(bundle, pid='self', flags=()):
    done = bundle.exec('cat', f'/proc/{pid}/cgroup', flags=flags)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_exec_into_a_sub_group(bundle):
    bundle.without_namespace('cgroup').up()
    sub = folder(bundle, 'pids') + '/below'
    os.mkdir(sub)
    lines = groups_of(bundle, flags=('--cgroup', 'below' if V2 else 'pids:below'))
    assert [line for line in lines if line.endswith(f'/{bundle.id}/below')] == [line for line in lines if V2 or ':pids:' in line]
    missing = bundle.exec('true', flags=('--cgroup', 'nowhere' if V2 else 'pids:nowhere'))
    assert missing.returncode == 255 and 'nowhere/cgroup.procs: no such file or directory' in missing.stderr
    out = bundle.exec('true', flags=('--cgroup', '../x' if V2 else 'pids:../x'))
    assert out.returncode == 255 and 'is not a sub cgroup path' in out.stderr


@pytest.mark.skipif(not V2, reason='processes live in every group on v1')
def test_exec_beside_a_process_that_has_moved(bundle):
    bundle.without_namespace('cgroup').up('exec sleep 1000')
    top = folder(bundle, '')
    os.mkdir(top + '/inner')
    for pid in open(top + '/cgroup.procs').read().split():
        with open(top + '/inner/cgroup.procs', 'w') as file:
            file.write(pid)
    with open(top + '/cgroup.subtree_control', 'w') as file:
        file.write('+pids')
    assert groups_of(bundle) == [f'0::/{bundle.id}/inner']
    told = bundle.exec('true', flags=('--cgroup', '/'))  # asked for by name: no other will do
    assert told.returncode == 255 and 'busy' in told.stderr.lower()


@pytest.mark.skipif(not V2, reason='of cgroup v2')
def test_no_controllers_by_name_on_v2(bundle):
    bundle.up()
    done = bundle.exec('true', flags=('--cgroup', 'pids:x'))
    assert done.returncode == 255
    assert 'unknown controller pids in SubCgroupPaths' in done.stderr
