"""--systemd-cgroup: the container's group is a scope of systemd's. Most needs a machine that systemd runs."""
import json
import os
import subprocess

import pytest

from conftest import cgroup_roots

RUNS = os.path.isdir('/run/systemd/system')
V2 = os.path.exists('/sys/fs/cgroup/cgroup.controllers')
MIB = 1 << 20
needs_systemd = pytest.mark.skipif(not RUNS, reason='systemd does not run here')


@pytest.fixture
def scoped(bundle):
    bundle.globals = ('--systemd-cgroup',)
    yield bundle
    bundle.remove()
    assert scopes(bundle) == []


def scopes(bundle):
    return [os.path.join(folder, name) for root in cgroup_roots() for folder, names, _ in os.walk(root) for name in names if bundle.id in name]


def shown(unit, *names):
    out = subprocess.run(['systemctl', 'show', unit, *(f'-p{name}' for name in names)], capture_output=True, text=True, check=True).stdout
    return dict(line.split('=', 1) for line in out.splitlines())


def group_of(bundle):
    with open(f'/proc/{bundle.state()["pid"]}/cgroup') as file:
        for line in file:
            if line.startswith('0::') or ':name=systemd:' in line:
                return line.strip().split(':', 2)[2]
    return None


@pytest.mark.skipif(RUNS, reason='systemd runs here')
def test_without_systemd_one_line_says_so(scoped):
    done = scoped.run()
    assert done.returncode == 1
    assert 'systemd not running on this host' in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert scoped.remains() == []


@pytest.mark.parametrize('path', ['/plain', 'a:b', 'a:b:c:d', 'name'])
def test_a_path_that_is_no_triple(scoped, path):
    scoped.linux['cgroupsPath'] = path
    done = scoped.run()
    assert done.returncode == 1
    assert f'expected cgroupsPath to be of format "slice:prefix:name" for systemd cgroups, got "{path}" instead' in done.stderr.replace('\\"', '"')


@pytest.mark.parametrize('name,text', [('X', 'true'), ('Timeout-Stop', 'true'), ('TimeoutStopSec', "['a']"), ('TimeoutStopSec', 'uint64 18446744073709551615')])
def test_a_property_that_can_not_be(scoped, name, text):
    scoped.config['annotations'] = {'org.systemd.property.' + name: text}
    done = scoped.run()
    assert done.returncode == 1
    assert f'org.systemd.property.{name}' in done.stderr
    assert scoped.remains() == []


@pytest.mark.parametrize('name,text,said', [
    ('Description', "'a\nExecStopPost=/bin/touch /pwned'", 'of one line'),
    ('Description', "'a\r[Service]'", 'of one line'),
    ('Description', "'a\\nExecStopPost=/bin/touch /pwned'", 'no quoted text'),
    ('Description\nExecStopPost', "'/bin/touch /pwned'", 'not of letters alone'),
    ('Description=x', "'y'", 'not of letters alone'),
    ('ExecStopPost', "[('/bin/touch', ['touch', '/pwned'], false)]", 'no quoted text'),
    ('Slice', "'-.slice'", "the runtime's own"),
    ('DevicePolicy', "'auto'", "the runtime's own"),
    ('Delegate', 'false', "the runtime's own"),
    ('PIDs', '1', "the runtime's own"),
])
def test_an_annotation_reaches_no_other_property(scoped, name, text, said):
    """CVE-2024-3154: whoever writes a pod's annotations says one property of its scope, and nothing else."""
    scoped.config['annotations'] = {'org.systemd.property.' + name: text}
    done = scoped.run()
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
    assert said in done.stderr, done.stderr
    assert scoped.remains() == []


@needs_systemd
def test_a_hostile_text_is_nothing_but_a_text(scoped):
    text = 'x; [Service] ExecStopPost=/bin/touch /pwned %n $(id)'
    scoped.config['annotations'] = {'org.systemd.property.Description': f"'{text}'"}
    scoped.up()
    unit = f'runc-{scoped.id}.scope'
    assert shown(unit, 'Slice', 'Delegate') == {'Slice': 'system.slice', 'Delegate': 'yes'}
    assert shown(unit, 'Description')['Description'] in (text, text.replace('%n', unit))
    keys = [line.split('=')[0] for place in ('/run/systemd/transient', '/run/systemd/transient/' + unit + '.d')
            for folder, _, names in os.walk(place) for file in names if scoped.id in folder + file
            for line in open(os.path.join(folder, file)).read().splitlines()]
    assert 'ExecStopPost' not in keys and '[Service]' not in keys


@needs_systemd
def test_the_scope_has_runcs_name_and_ends_with_the_container(scoped):
    scoped.up()
    unit = f'runc-{scoped.id}.scope'
    assert group_of(scoped) == f'/system.slice/{unit}'
    assert shown(unit, 'ActiveState', 'Delegate', 'Description') == {
        'ActiveState': 'active', 'Delegate': 'yes', 'Description': f'libcontainer container {scoped.id}'}
    pids = open(f'/sys/fs/cgroup/system.slice/{unit}/cgroup.procs').read().split() if V2 else []
    assert not V2 or str(scoped.state()['pid']) in pids
    assert scoped.exec('true').returncode == 0
    scoped.call('kill', scoped.id, 'KILL')
    scoped.wait('stopped')
    assert scoped.call('delete', scoped.id).returncode == 0
    assert shown(unit, 'ActiveState') == {'ActiveState': 'inactive'}
    assert scopes(scoped) == []


@needs_systemd
def test_slice_prefix_and_name(scoped):
    scoped.linux['cgroupsPath'] = f'berth-test.slice:pre:{scoped.id}'
    scoped.up()
    assert group_of(scoped) == f'/berth.slice/berth-test.slice/pre-{scoped.id}.scope'


@needs_systemd
def test_run_in_the_foreground(scoped):
    assert scoped.output('echo here') == 'here'
    assert scopes(scoped) == []


@needs_systemd
def test_limits_are_properties_and_files(scoped):
    scoped.linux['resources'].update({'memory': {'limit': 64 * MIB}, 'pids': {'limit': 77}, 'cpu': {'quota': 25000, 'period': 100000}})
    scoped.up()
    unit = f'runc-{scoped.id}.scope'
    assert shown(unit, 'TasksMax', 'CPUQuotaPerSecUSec') == {'TasksMax': '77', 'CPUQuotaPerSecUSec': '250ms'}
    assert shown(unit, 'MemoryMax' if V2 else 'MemoryLimit') == {'MemoryMax' if V2 else 'MemoryLimit': str(64 * MIB)}
    change = {'memory': {'limit': 96 * MIB}, 'pids': {'limit': 88}, 'cpu': {'quota': 50000, 'period': 100000}}
    done = scoped.call('update', '-r', '-', scoped.id, stdin=None, input=json.dumps(change))
    assert done.returncode == 0, done.stderr
    assert shown(unit, 'TasksMax', 'CPUQuotaPerSecUSec') == {'TasksMax': '88', 'CPUQuotaPerSecUSec': '500ms'}
    subprocess.run(['systemctl', 'daemon-reload'], check=True)
    if V2:
        said = {name: open(f'/sys/fs/cgroup/system.slice/{unit}/{name}').read().strip() for name in ('memory.max', 'pids.max', 'cpu.max')}
        assert said == {'memory.max': str(96 * MIB), 'pids.max': '88', 'cpu.max': '50000 100000'}


@needs_systemd
def test_properties_by_annotation(scoped):
    scoped.config['annotations'] = {'org.systemd.property.TimeoutStopSec': 'uint64 12', 'org.systemd.property.CollectMode': "'inactive-or-failed'"}
    scoped.up()
    assert shown(f'runc-{scoped.id}.scope', 'TimeoutStopUSec', 'CollectMode') == {'TimeoutStopUSec': '12s', 'CollectMode': 'inactive-or-failed'}


@needs_systemd
def test_a_unit_that_is_there_is_left_alone(scoped, tmp_path):
    scoped.linux['cgroupsPath'] = f'system.slice:pre:{scoped.id}'
    scoped.up()
    first, scoped.id = scoped.id, scoped.id + '-2'
    done = scoped.run()
    scoped.id = first
    assert done.returncode == 1 and f'pre-{first}.scope' in done.stderr
    assert scoped.state()['status'] == 'running'


@needs_systemd
def test_devices_pause_and_force(scoped):
    scoped.linux['devices'] = [{'path': '/dev/kmsg2', 'type': 'c', 'major': 1, 'minor': 11, 'fileMode': 0o666}]
    scoped.all_capabilities()
    scoped.up()
    assert scoped.exec('sh', '-c', '(exec 3>>/dev/kmsg2) 2>/dev/null').returncode != 0
    assert scoped.exec('sh', '-c', 'exec 3</dev/zero').returncode == 0
    assert scoped.call('pause', scoped.id).returncode == 0
    assert scoped.state()['status'] == 'paused'
    assert scoped.call('delete', '--force', scoped.id).returncode == 0
    assert scopes(scoped) == []
