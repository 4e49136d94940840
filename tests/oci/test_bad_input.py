"""Bad input: one clear line that names what is wrong, an exit code, and nothing left behind."""
import os

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


CASES = {
    'no process': (change(['process'], None), 'process property must not be empty'),
    'no args': (change(['process', 'args'], []), 'args must not be empty'),
    'relative cwd': (change(['process', 'cwd'], 'tmp'), 'Cwd must be an absolute path'),
    'no root': (change(['root'], None), 'root must be specified'),
    'missing rootfs': (change(['root', 'path'], 'nowhere'), 'invalid rootfs'),
    'unknown namespace': (change(['linux', 'namespaces'], [{'type': 'mount'}, {'type': 'space'}]), 'space'),
    'namespace twice': (change(['linux', 'namespaces'], [{'type': 'mount'}, {'type': 'uts'}, {'type': 'mount'}]), 'duplicated ns'),
    'missing namespace path': (change(['linux', 'namespaces'], [{'type': 'mount'}, {'type': 'uts'}, {'type': 'network', 'path': '/nosuch'}]), '/nosuch'),
    'foreign sysctl': (change(['linux', 'sysctl'], {'vm.swappiness': '1'}), 'vm.swappiness'),
    'unknown propagation': (change(['linux', 'rootfsPropagation'], 'sideways'), 'sideways'),
    'missing bind source': (lambda config: config['mounts'].append(
        {'destination': '/mnt', 'type': 'bind', 'source': '/nosuch', 'options': ['bind']}), '/nosuch'),
    'unknown file system': (lambda config: config['mounts'].append(
        {'destination': '/mnt', 'type': 'nosuchfs', 'source': 'none'}), 'nosuchfs'),
    'unknown mount option': (lambda config: config['mounts'].append(
        {'destination': '/mnt', 'type': 'tmpfs', 'source': 'none', 'options': ['sideways']}), 'sideways'),
    'missing command': (change(['process', 'args'], ['/nosuch']), 'exec: "/nosuch": stat /nosuch: no such file or directory'),
}
OURS = {
    'args of a wrong type': (change(['process', 'args'], 'sh'), 'process.args: expected list of strings, got string'),
    'wrong type deep inside': (change(['linux', 'namespaces', 0, 'type'], 5), 'linux.namespaces[0].type'),
    'unknown rlimit': (change(['process', 'rlimits'], [{'type': 'RLIMIT_NOSUCH', 'soft': 1, 'hard': 1}]), 'RLIMIT_NOSUCH'),
    'unknown seccomp action': (change(['linux', 'seccomp'], {'defaultAction': 'SCMP_ACT_MAYBE'}), 'SCMP_ACT_MAYBE'),
    'cgroup out of its tree': (change(['linux', 'cgroupsPath'], '../../x'), 'cgroupsPath'),
    'unknown clock': (lambda config: (config['linux']['namespaces'].append({'type': 'time'}),
                                      config['linux'].update(timeOffsets={'sun': {'secs': 1}})), 'sun'),
}


def check(bundle, spoil, words):
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
