"""Every flag and every key of dockerd is honoured, passes, or is refused by one line that names it; docs/daemon.md says which."""
import json
import os
import re
import subprocess

import pytest

import engines
import isolation
from test_daemon import own  # noqa: F401: a fixture

pytestmark = pytest.mark.berth
DATA = os.path.join(os.path.dirname(__file__), 'data')
SECTIONS = {'Honoured': 'honoured', 'What passes and changes nothing': 'passes', 'What is refused': 'refused'}

# A value that says something, where "x" is none of that kind; of the flag, then of the key.
VALUES = {
    'add-runtime': ('x=/x', {'x': {'path': '/x'}}), 'bip': ('10.1.0.1/24', None), 'builder': (None, {'gc': {'enabled': True}}),
    'default-address-pool': ('base=10.1.0.0/16,size=24', [{'base': '10.1.0.0/16', 'size': 24}]), 'default-cgroupns-mode': ('host', None),
    'default-ipc-mode': ('shareable', None), 'default-network-opt': ('bridge=a=b', {'bridge': {'a': 'b'}}), 'default-runtime': ('runc', None),
    'default-shm-size': ('1m', None), 'default-ulimit': ('core=1', {'core': {'Name': 'core', 'Hard': 1, 'Soft': 1}}), 'feature': ('x=true', {'x': True}),
    'host': ('unix:///x', ['unix:///x']), 'label': ('a=b', ['a=b']), 'log-format': ('json', None), 'log-level': ('warn', None),
    'log-opt': ('a=b', {'a': 'b'}), 'nri-opts': ('enable=true', {'enable': 'true'}), 'accel': ('tcg', None), 'oom-score-adjust': ('-500', '-500'),
    **dict.fromkeys(['dns', 'host-gateway-ip', 'default-gateway', 'ip'], ('10.0.0.1', None)), 'default-gateway-v6': ('fd00::1', None),
    'registry-mirror': ('http://x', None),
    'tlscacert': None, 'tlscert': None, 'tlskey': None, 'tls': None, 'tlsverify': None, 'config-file': None, 'help': None, 'version': None, 'validate': None,
}
LISTS = {'allow-nondistributable-artifacts', 'authorization-plugins', 'cdi-spec-dirs', 'dns', 'dns-opts', 'dns-search', 'exec-opts', 'host-gateway-ips',
         'insecure-registries', 'node-generic-resources', 'registry-mirrors', 'storage-opts'}
COUNTS = {'cpu-rt-period', 'cpu-rt-runtime', 'default-stop-timeout', 'max-concurrent-downloads', 'max-concurrent-uploads', 'max-download-attempts', 'mtu',
          'network-control-plane-mtu', 'network-diagnostic-port', 'shutdown-timeout', 'swarm-raft-election-tick', 'swarm-raft-heartbeat-tick',
          'max-inflate-ratio'}


def table():
    """[(flag, key, answer, cells behind)] of docs/daemon.md."""
    rows, answer = [], None
    for line in open(os.path.join(engines.ROOT, 'docs/daemon.md')):
        if line.startswith('## '):
            answer = SECTIONS.get(line[3:].strip())
        cells = [cell.strip() for cell in re.split(r'(?<!\\)\|', line.strip())[1:-1]]
        if answer and len(cells) > 2 and cells[0] not in ('flag', '---'):
            rows.append((cells[0].strip('`').removeprefix('--') or None, cells[1].strip('`') or None, answer, cells[2:]))
    return rows


def validate(tmp_path, config, *words):
    file = tmp_path / 'daemon.json'
    file.write_text(json.dumps(config))
    return subprocess.run([os.path.join(engines.BIN, 'berthd'), '--validate', '--config-file', str(file), *words], capture_output=True, text=True, timeout=20)


def values_of(flag, key, cells, help_text):
    """What a row is tried with; a flag without value is one of true or false, whichever says something."""
    if (flag or key) in VALUES:
        return VALUES[flag or key]
    if key in LISTS:
        return 'x', ['x']
    if (key or flag) in COUNTS:
        return '7', 7
    idle = re.findall('`([^`]*)`', cells[0]) if cells else []
    if flag and re.search(rf'--{flag}( *\n| {{2,}})', help_text):
        value = 'false' if 'true' in idle else 'true'
        return value, value == 'true'
    return 'x', 'x'


def answer_of(done, name):
    if done.returncode == 0:
        return 'accepted'
    assert done.stderr.count('\n') == 1 and name in done.stderr, done
    return 'refused' if 'is not supported: ' in done.stderr else done.stderr


ROWS = table()


@pytest.fixture
def help_text():
    return subprocess.run([os.path.join(engines.BIN, 'berthd'), '--help'], capture_output=True, text=True).stdout


def test_the_table_has_every_flag_and_key():
    flags = set(open(DATA + '/dockerd-flags.txt').read().split())
    keys = set(open(DATA + '/dockerd-keys.txt').read().split())
    assert len(ROWS) == len({row[:2] for row in ROWS})
    assert flags - {row[0] for row in ROWS} == set() and keys - {row[1] for row in ROWS} == set()


def test_the_help_has_the_same_rows(help_text):
    honoured, passes, refused = re.split(r'\nOptions[^\n]*:\n', help_text)[1:]
    for text, answer in ((honoured, 'honoured'), (passes, 'passes'), (refused, 'refused')):
        shown = set(re.findall(r'^ +(?:-\w, )?--([\w-]+)', text, re.M)) | set(re.findall(r'^ +([\w-]+) \(in the file', text, re.M))
        assert shown == {flag or key for flag, key, said, _ in ROWS if said == answer}


def test_what_is_read_again_is_marked(help_text):
    starred = {flag for flag in re.findall(r'^ +(?:-\w, )?--([\w-]+)(?=[^\n]*(?:\n {20,})?\* )', help_text, re.M)}
    assert starred == {flag for flag, _, answer, cells in ROWS if answer == 'honoured' and cells[0] == 'yes'}


def try_row(tmp_path, flag, key, answer, values):
    wanted = 'refused' if answer == 'refused' else 'accepted'
    by_flag, by_key = values
    if flag:
        assert answer_of(validate(tmp_path, {}, f'--{flag}={by_flag}'), '--' + flag) == wanted, flag
    if key:
        value = by_flag if by_key is None else by_key
        assert answer_of(validate(tmp_path, {key: [value] if key in LISTS and isinstance(value, str) else value}), key) == wanted, key


def test_each_is_answered_as_the_table_says(tmp_path, help_text):
    tried = 0
    for flag, key, answer, cells in ROWS:
        values = values_of(flag, key, cells, help_text)
        if values:  # the others ask for something else than a start, or for files
            try_row(tmp_path, flag, key, answer, values)
            tried += 1
    assert tried > len(ROWS) - 11


@pytest.mark.parametrize('config, words', [
    ({'dns': ['x']}, '--dns: bad nameserver address x'), ({'ip': 'x'}, '--ip: invalid IP address: x'),
    ({'default-gateway': 'x'}, '--default-gateway: invalid IPv4 address: x'), ({'host-gateway-ips': ['x']}, '--host-gateway-ip: invalid IP address: x'),
    ({'registry-mirrors': ['x']}, 'invalid mirror: no scheme specified for "x"'), ({'default-address-pools': [{'base': 'junk', 'size': 'x'}]}, 'size')], ids=lambda value: str(value)[:24])
def test_what_can_not_be_is_found_without_a_start(tmp_path, config, words):
    done = validate(tmp_path, config)
    assert done.returncode == 1 and done.stderr.count('\n') == 1 and words in done.stderr, done


def test_a_feature_that_is_the_case(tmp_path):
    assert validate(tmp_path, {'features': {'cdi': True}}).returncode == 0
    assert validate(tmp_path, {'features': {'containerd-snapshotter': True}}).returncode == 1


def test_reload_takes_the_defaults_of_new_containers(own):
    docker = own(config={'default-shm-size': '32m'})
    shown = lambda: [docker.inspect(docker.ok('create', 'bb', 'true'))['HostConfig'][key] for key in ('Runtime', 'CgroupnsMode', 'IpcMode', 'ShmSize')]
    before = shown()
    assert before[1:] == ['private', 'private', 32 << 20]
    docker.engine.write({'default-runtime': 'runc', 'default-cgroupns-mode': 'host', 'default-ipc-mode': 'shareable', 'default-shm-size': '1m', 'mtu': 1400})
    docker.engine.process.send_signal(1)
    engines.wait_until(lambda: docker.ok('info', '--format', '{{.DefaultRuntime}}') == 'runc')
    assert shown() == ['berth-vm' if isolation.VM else 'runc', 'host', 'shareable', 1 << 20]
    docker.ok('rm', *docker.ok('ps', '-aq').split())
