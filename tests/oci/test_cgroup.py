"""Control groups as the document and `update` order them, on whatever layout this machine has."""
import json
import os
import time

import pytest

from conftest import SLOWNESS

V2 = os.path.exists('/sys/fs/cgroup/cgroup.controllers')
MIB = 1 << 20


def folder(bundle, controller):
    return f'/sys/fs/cgroup/{bundle.id}' if V2 else f'/sys/fs/cgroup/{controller}/{bundle.id}'


def value(bundle, controller, v1, v2):
    with open(os.path.join(folder(bundle, controller), v2 if V2 else v1)) as file:
        return ' '.join(file.read().split())


def has(controller):
    if not V2:
        return os.path.isdir(f'/sys/fs/cgroup/{controller}')
    with open('/sys/fs/cgroup/cgroup.controllers') as file:
        return {'blkio': 'io'}.get(controller, controller) in file.read().split()


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
    assert value(bundle, controller, v1, v2) == (says2 if V2 else says1)


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
