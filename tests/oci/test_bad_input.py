"""Bad input: one clear line that names what is wrong, an exit code, and nothing left behind."""
import os

import conftest
import pytest


def change(path, value):
    def apply(config):
        *way, last = path
        for key in way:
            config = config[key]
        if value is None:
            del config[last]
        else:
            config[last] = value
    return apply


def without_mounts(config):
    config['linux']['namespaces'] = [item for item in config['linux']['namespaces'] if item['type'] != 'mount']


CASES = {
    'no process': (change(['process'], None), 'process property must not be empty'),
    'no args': (change(['process', 'args'], []), 'args must not be empty'),
    'relative cwd': (change(['process', 'cwd'], 'tmp'), 'Cwd must be an absolute path'),
    'no root': (change(['root'], None), 'root must be specified'),
    'missing rootfs': (change(['root', 'path'], 'nowhere'), 'invalid rootfs'),
    'unknown namespace': (change(['linux', 'namespaces'], [{'type': 'mount'}, {'type': 'space'}]), 'space'),
    'namespace twice': (change(['linux', 'namespaces'], [{'type': 'mount'}, {'type': 'uts'}, {'type': 'mount'}]), 'duplicated ns'),
    'masks without a mount namespace': (without_mounts, 'unable to restrict sys entries without a private MNT namespace'),
    'missing namespace path': (change(['linux', 'namespaces'], [{'type': 'mount'}, {'type': 'uts'}, {'type': 'network', 'path': '/nosuch'}]), '/nosuch'),
    'foreign sysctl': (change(['linux', 'sysctl'], {'vm.swappiness': '1'}), 'vm.swappiness'),
    'unknown propagation': (change(['linux', 'rootfsPropagation'], 'sideways'), 'sideways'),
    'missing bind source': (lambda config: config['mounts'].append(
        {'destination': '/mnt', 'type': 'bind', 'source': '/nosuch', 'options': ['bind']}), '/nosuch'),
    'unknown file system': (lambda config: config['mounts'].append(
        {'destination': '/mnt', 'type': 'nosuchfs', 'source': 'none'}), 'nosuchfs'),
    'unknown mount option': (lambda config: config['mounts'].append(
        {'destination': '/mnt', 'type': 'tmpfs', 'source': 'none', 'options': ['sideways']}), 'sideways'),
    'mount point through a circle of links': (lambda config: config['mounts'].append(
        {'destination': '/circle/x', 'type': 'bind', 'source': '/etc', 'options': ['bind']}), '/circle/x'),
    'missing command': (change(['process', 'args'], ['/nosuch']), 'exec: "/nosuch": stat /nosuch: no such file or directory'),
}
OURS = {
    'args of a wrong type': (change(['process', 'args'], 'sh'), 'process.args: expected list of strings, got string'),
    'wrong type deep inside': (change(['linux', 'namespaces', 0, 'type'], 5), 'linux.namespaces[0].type'),
    'unknown rlimit': (change(['process', 'rlimits'], [{'type': 'RLIMIT_NOSUCH', 'soft': 1, 'hard': 1}]), 'RLIMIT_NOSUCH'),
    'unknown seccomp action': (change(['linux', 'seccomp'], {'defaultAction': 'SCMP_ACT_MAYBE'}), 'SCMP_ACT_MAYBE'),
    'cgroup out of its tree': (change(['linux', 'cgroupsPath'], '../../x'), 'cgroupsPath'),
    'cgroup with a name that none can have': (change(['linux', 'cgroupsPath'], '/x/' + 'y' * 256), 'cgroupsPath'),
    'cgroup with a path that none can have': (change(['linux', 'cgroupsPath'], 'x/' * 600), 'cgroupsPath'),
    'limit of a wrong type': (change(['linux', 'resources'], {'memory': {'limit': 'much'}}), 'linux.resources.memory.limit'),
    'limit that the kernel refuses': (change(['linux', 'resources'], {'cpu': {'cpus': '4095'}}), 'cpuset.cpus'),
    'capabilities of a wrong type': (change(['process', 'capabilities', 'bounding'], 5), 'process.capabilities.bounding'),
    'unknown clock': (lambda config: (config['linux']['namespaces'].append({'type': 'time'}),
                                      config['linux'].update(timeOffsets={'sun': {'secs': 1}})), 'sun'),
    'another version of the specification': (change(['ociVersion'], '2.0.0'), 'ociVersion "2.0.0" is not supported'),
    'memory policy of 1.3': (change(['linux', 'memoryPolicy'], {'mode': 'MPOL_LOCAL'}), 'linux.memoryPolicy is not supported'),
    'network devices of 1.3': (change(['linux', 'netDevices'], {'eth0': {}}), 'linux.netDevices is not supported'),
    'memory that is not counted above': (change(['linux', 'resources'], {'memory': {'useHierarchy': False}}), 'linux.resources.memory.useHierarchy'),
    'schemata of 1.3': (change(['linux', 'intelRdt'], {'schemata': ['L3:0=f']}), 'linux.intelRdt.schemata is not supported'),
    'annotation without a name': (change(['annotations'], {'': 'x'}), 'annotations: a key is empty'),
    'rlimit twice': (change(['process', 'rlimits'], [{'type': 'RLIMIT_CORE', 'soft': 1, 'hard': 1}] * 2), 'process.rlimits[1]: RLIMIT_CORE is there twice'),
    'hook by a relative path': (change(['hooks'], {'poststart': [{'path': 'bin/true'}]}), 'hooks.poststart[0].path is not absolute'),
    'hook without a path': (change(['hooks'], {'poststop': [{'args': ['x']}]}), 'hooks.poststop[0].path'),
    'hook without time': (change(['hooks'], {'createRuntime': [{'path': '/bin/true', 'timeout': 0}]}), 'hooks.createRuntime[0].timeout is not greater than zero'),
    'namespace by a relative path': (change(['linux', 'namespaces'], [{'type': 'mount'}, {'type': 'uts', 'path': 'rootfs'}]), 'linux.namespaces[1].path is not absolute'),
    'device without a number': (change(['linux', 'devices'], [{'path': '/dev/x', 'type': 'c', 'major': 1}]), 'device /dev/x'),
    'words for no listener': (change(['linux', 'seccomp'], {'defaultAction': 'SCMP_ACT_ALLOW', 'listenerMetadata': 'x'}), 'listenerMetadata without a listenerPath'),
}


def test_what_no_version_knows_is_passed_over(bundle):
    bundle.config.update(sideways=1)
    bundle.linux.update(sideways={'x': 1}, memoryPolicy=None, netDevices={})
    bundle.linux['resources'] = {'memory': {'useHierarchy': True}}
    assert bundle.args('true').run().returncode == 0


@pytest.mark.berth
@pytest.mark.parametrize('size', [{'height': 65536, 'width': 1}, {'height': 1, 'width': -1}])
def test_a_terminal_larger_than_there_can_be(bundle, size):
    bundle.process.update(terminal=True, consoleSize=size)
    done = bundle.create('--console-socket', str(bundle.path / 'console'))
    assert done.returncode == 1 and 'process.consoleSize is out of range' in done.stderr and bundle.remains() == []


def check(bundle, spoil, words):
    (bundle.rootfs / 'circle').symlink_to('circle')
    spoil(bundle.config)
    for verb in ('create', 'run'):
        bundle.save()
        done = bundle.create() if verb == 'create' else bundle.run()
        assert done.returncode == 1
        assert len(done.stderr.strip().splitlines()) == 1 and words in done.stderr.replace('\\"', '"'), done.stderr
        assert bundle.remains() == []


@pytest.mark.parametrize('case', CASES)
def test_config(bundle, case):
    check(bundle, *CASES[case])


@pytest.mark.berth
@pytest.mark.parametrize('case', OURS)
def test_config_in_our_words(bundle, case):
    check(bundle, *OURS[case])


@pytest.mark.parametrize('text', ['', '{', '[]', '{"process": {"args": ["sh"]}} x', '\x00', '{"a":' * 200])
def test_broken_json(bundle, text):
    (bundle.path / 'bundle/config.json').write_text(text)
    done = bundle.call('run', bundle.id)
    assert done.returncode == 1 and done.stderr.strip() and bundle.remains() == []


def test_a_rootfs_that_is_a_link(bundle):
    (bundle.path / 'link').symlink_to(bundle.rootfs)
    bundle.config['root']['path'] = str(bundle.path / 'link')
    done = bundle.run()
    assert done.returncode == 1 and 'invalid rootfs: not an absolute path, or a symlink' in done.stderr and bundle.remains() == []


def test_an_unknown_capability(bundle):
    """A warning alone, as runc has it: newer callers know more of them than older kernels."""
    bundle.process['capabilities'] = {'bounding': ['CAP_NOSUCH', 'CAP_KILL']}
    done = bundle.args('true').run()
    assert done.returncode == 0 and 'CAP_NOSUCH' in done.stderr and len(done.stderr.splitlines()) == 1


BROKEN = {'': 'JSON', '{': 'JSON', '[]': 'xpected object'}


@pytest.mark.berth
@pytest.mark.parametrize('text', [*BROKEN, '{"args": 5}'])
def test_broken_process_file(bundle, text):
    bundle.up()
    (bundle.path / 'process.json').write_text(text)
    done = bundle.call('exec', '--process', str(bundle.path / 'process.json'), bundle.id)
    assert done.returncode == 255 and len(done.stderr.splitlines()) == 1
    assert 'process.json: ' in done.stderr and BROKEN.get(text, 'args') in done.stderr


@pytest.mark.berth
@pytest.mark.parametrize('text', [*BROKEN, '{"memory": {"limit": "much"}}'])
def test_broken_limits_file(bundle, text):
    bundle.up()
    (bundle.path / 'limits.json').write_text(text)
    done = bundle.call('update', '--resources', str(bundle.path / 'limits.json'), bundle.id)
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
    assert 'limits.json: ' in done.stderr and BROKEN.get(text, 'memory.limit') in done.stderr


@pytest.mark.berth
@pytest.mark.parametrize('text', [*BROKEN, '{}', '{"cgroup": "x"}', '{"pid": "x"}'])
@pytest.mark.parametrize('verb', ['state', 'kill', 'start', 'delete'])
def test_broken_state_file(bundle, verb, text):
    bundle.up()
    state = bundle.root / bundle.id / 'state.json'
    good = state.read_text()
    state.write_text(text)
    done = bundle.call(verb, bundle.id)
    state.write_text(good)
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1 and 'state.json: ' in done.stderr
    assert bundle.state()['status'] == 'running'


def test_no_config(bundle):
    os.unlink(bundle.path / 'bundle/config.json')
    done = bundle.call('run', bundle.id)
    assert done.returncode == 1 and 'JSON specification file config.json not found' in done.stderr.replace('\\"', '"')


@pytest.mark.parametrize('name', ['', '..', '.', '../x', 'a/b', 'a b', 'ä', 'x' * 1025])
def test_ids_that_are_none(bundle, name):
    bundle.save()
    for verb, words in (('run', [name]), ('state', [name]), ('delete', ['--force', name]), ('kill', [name])):
        done = bundle.call(verb, *words)
        assert done.returncode == 1 or (verb == 'delete' and len(name) > 255)
    assert not os.path.exists(bundle.path / 'x') and bundle.remains() == []


def test_usage(bundle):
    done = bundle.call('state')
    assert done.returncode == 1 and '"state" requires exactly 1 argument(s)' in done.stderr.replace('\\"', '"')
    assert done.stdout.startswith('Incorrect Usage.')
    done = bundle.call('state', '--nosuch', bundle.id)
    assert done.returncode == 1 and 'flag provided but not defined: -nosuch' in done.stderr


@pytest.mark.parametrize('script, told', [
    ('echo hi; echo bad >&2; exit 3', 'exit status 3, stdout: hi, stderr: bad'),
    ('nosuch 2>/dev/null', 'exit status 127, stdout: , stderr: '),
    ('kill -9 $$', 'signal: killed, stdout: , stderr: '),
    (None, 'error running hook: fork/exec /no/such/hook: no such file or directory'),
])
@pytest.mark.parametrize('kind', ['createRuntime', 'createContainer'])
@pytest.mark.berth  # runc keeps the line's end
def test_a_hook_that_fails_says_how(bundle, kind, script, told):
    bundle.hook(kind, script or '')
    if not script:
        bundle.config['hooks'][kind][0]['path'] = '/no/such/hook'
    done = bundle.args('true').run()
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
    assert f'error running {kind} hook #0: error running hook' in done.stderr and f'{told}"\n' in done.stderr


CHANGES = {
    'owner of a device': (['linux', 'devices'], [{'path': '/dev/x', 'type': 'c', 'major': 1, 'minor': 3, 'uid': 1 << 32}], 'device /dev/x'),
    'group of a device': (['linux', 'devices'], [{'path': '/dev/x', 'type': 'c', 'major': 1, 'minor': 3, 'gid': (1 << 32) - 1}], 'device /dev/x'),
    'CPUs of exec': (['process', 'execCPUAffinity'], {'initial': '0', 'final': 'some'}, 'execCPUAffinity: "some'),
}


@pytest.mark.berth
@pytest.mark.parametrize('name', CHANGES)
def test_what_would_be_another_value(bundle, name):
    (part, key), value, told = CHANGES[name]
    bundle.config[part][key] = value
    done = bundle.args('true').run()
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1 and told.replace('"', '\\"') in done.stderr, done.stderr


@pytest.mark.berth
def test_a_cgroup_mount_has_no_options_of_its_own(bundle):
    next(mount for mount in bundle.config['mounts'] if mount['type'] == 'cgroup')['options'].append('sideways')
    done = bundle.args('true').run()
    assert done.returncode == 1 and 'a cgroup mount takes no option sideways' in done.stderr


@pytest.mark.parametrize('words, told', [(['bind', 'sideways'], 'sideways'), (['rbind', 'size=5'], 'size'), (['bind', 'remount', 'size=5'], 'size')])
@pytest.mark.berth  # runc since 1.2
def test_a_bind_has_no_options_of_a_file_system(bundle, words, told):
    bundle.mount('/tmp', bundle.path, options=words)
    done = bundle.args('true').run()
    assert done.returncode == 1 and 'cannot have any filesystem-specific options applied: ' + told in done.stderr and 'mounts[' in done.stderr


NUMBERS = [
    {'cpu': {'shares': -5}}, {'cpu': {'period': -1}}, {'cpu': {'realtimePeriod': -1}}, {'cpu': {'burst': -1}}, {'memory': {'swappiness': -1}},
    {'blockIO': {'weight': 65536}}, {'blockIO': {'leafWeight': -1}}, {'network': {'classID': 1 << 32}}, {'hugepageLimits': [{'pageSize': '2MB', 'limit': -1}]},
    {'blockIO': {'weightDevice': [{'major': 8, 'minor': 0, 'weight': -1}]}}, {'network': {'priorities': [{'name': 'lo', 'priority': 1 << 32}]}},
    {'blockIO': {'throttleWriteIOPSDevice': [{'major': 8, 'minor': 0, 'rate': -1}]}}, {'rdma': {'mlx5_1': {'hcaHandles': -1}}},
]


@pytest.mark.berth
@pytest.mark.parametrize('resources', NUMBERS, ids=lambda it: '-'.join(str(it)[1:40].replace("'", '').split()))
def test_numbers_that_are_none_of_theirs(bundle, resources):
    """None is taken for another: a negative share of the processor would be none on cgroup v2."""
    bundle.linux['resources'].update(resources)
    done = bundle.args('true').run()
    assert done.returncode == 1 and 'out of range' in done.stderr and f'resources.{next(iter(resources))}' in done.stderr, done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_update_with_what_is_no_number(bundle):
    bundle.up()
    for flag, text, told in (('--cpu-share', '-5', 'invalid value for cpu-share: strconv.ParseUint: parsing \\"-5\\": invalid syntax'),
                             ('--cpu-period', '-5', 'invalid value for cpu-period: strconv.ParseUint'),
                             ('--resources', '/nosuch', 'msg="/nosuch: no such file or directory"' if conftest.RUNTIME == conftest.OURS else 'open /nosuch')):
        done = bundle.call('update', flag, text, bundle.id)
        assert done.returncode == 1 and told in done.stderr, done.stderr
    done = bundle.call('update', '--kernel-memory', '100M', bundle.id)
    assert done.returncode == 0 and 'Kernel memory settings are ignored' in done.stderr


def test_a_variable_without_a_value(bundle):
    bundle.process['env'].append('NOVALUE')
    done = bundle.args('true').run()
    assert done.returncode == 1 and "invalid environment variable: missing '='" in done.stderr
    bundle.process['env'].pop()
    bundle.up()
    done = bundle.exec('true', flags=['-e', 'NOVALUE'])
    assert done.returncode == 255 and "invalid environment variable: missing '='" in done.stderr


def test_delete_by_force_of_what_is_not_there(bundle):
    done = bundle.call('delete', '--force', bundle.id)
    assert (done.returncode, done.stdout, done.stderr) == (0, '', '')


def test_a_verb_and_a_flag_that_nobody_knows(bundle):
    done = bundle.call('frobnicate')
    assert done.returncode == 3 and "No help topic for 'frobnicate'" in done.stderr
    done = bundle.call('list', globals=['--frobnicate'])
    assert done.returncode == 1 and 'flag provided but not defined: -frobnicate' in done.stderr
    assert done.stdout.startswith('Incorrect Usage. flag provided but not defined: -frobnicate') and 'COMMANDS:' in done.stdout


def test_reasons_are_in_gos_words(bundle):
    bundle.config['root']['path'] = 'nowhere'
    done = bundle.args('true').run()
    assert done.returncode == 1 and 'nowhere: no such file or directory"\n' in done.stderr
