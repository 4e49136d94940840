"""berthd as an operator knows dockerd: flags, daemon.json, SIGHUP."""
import glob
import json
import os
import signal
import subprocess

import pytest

import engines
import images
import registries
from conftest import Docker

pytestmark = pytest.mark.berth


class Own(engines.Berth):
    """A daemon with options of its own, and a daemon.json."""

    def __init__(self, *options, config=None):
        super().__init__()
        self.options = options
        self.config = os.path.join(self.folder, 'daemon.json')
        self.write(config or {})

    def write(self, config):
        with open(self.config, 'w') as out:
            json.dump(config, out)

    def command(self):
        return super().command() + ['--config-file', self.config, *self.options]


@pytest.fixture
def own(busybox, tmp_path):
    """own(options..., config={...}): the client of a daemon of its own."""
    running = []

    def start(*options, **config):
        engine = Own(*options, **config)
        running.append(engine)
        docker = Docker(engine.start(), engines.default_cli(), str(tmp_path))
        docker.ok('load', input=busybox)
        return docker
    yield start
    for engine in running:
        engine.write({})
        assert engine.stop_all().returncode == 0
        engine.remove_folder()


def berthd(*options):
    return subprocess.run([os.path.join(engines.BIN, 'berthd'), *options], capture_output=True, text=True, timeout=20)


# ---- flags and file -------------------------------------------------------------------------------------------------


def test_validate(tmp_path):
    config = tmp_path / 'daemon.json'
    config.write_text('{"labels": ["a=b"], "log-opts": {"max-size": "1m"}}')
    done = berthd('--validate', '--config-file', str(config))
    assert (done.returncode, done.stderr) == (0, 'configuration OK\n')


@pytest.mark.parametrize('text, options, says', [
    ('{"nosuch": 1}', [], "the following directives don't match any configuration option: nosuch"),
    ('{"debug": true}', ['-D'], 'the following directives are specified both as a flag and in the configuration file: debug: '
                                '(from flag: true, from file: true)'),
    ('{"labels": ["a=1", "a=2"]}', [], 'conflict labels for a=2 and a=1'),
    ('{"live-restore": false}', [], 'live-restore: is not supported: '),
    ('{', [], 'invalid JSON'),
], ids=['an unknown key', 'twice', 'labels', 'refused', 'broken'])
def test_bad_files(tmp_path, text, options, says):
    config = tmp_path / 'daemon.json'
    config.write_text(text)
    for words in (['--validate'], ['--data-root', f'{tmp_path}/data']):
        done = berthd('--config-file', str(config), *words, *options)
        assert done.returncode == 1 and says in done.stderr and done.stderr.count('\n') == 1, done
    assert os.listdir(tmp_path) == ['daemon.json']


@pytest.mark.parametrize('options, says', [
    (['--dns', 'nowhere'], 'bad nameserver address nowhere'),
    (['--default-ulimit', 'nosuch=1'], 'invalid ulimit type: nosuch'),
    (['--seccomp-profile', '/nosuch.json'], '/nosuch.json'),
    (['--default-address-pool', 'base=10.9.0.0/16,size=8'], 'invalid pool size 8 for the base 10.9.0.0/16'),
    (['--default-address-pool', 'base=10.9.0.0/16'], 'base=ADDRESS/PREFIX,size=PREFIX'),
    (['--ip', '1.2.3'], 'invalid IP address: 1.2.3'),
    (['--config-file', '/nosuch.json'], 'unable to configure the daemon with file /nosuch.json'),
])
def test_bad_values(tmp_path, options, says):
    done = berthd('--data-root', f'{tmp_path}/data', '--exec-root', f'{tmp_path}/state', *options)
    assert done.returncode == 1 and says in done.stderr.strip().split('\n')[-1], done


def test_help_names_every_option_of_dockerd():
    """The flags that dockerd 20.10 and 28 have; each is honoured, passes or is refused, none is unknown."""
    names = open(os.path.join(os.path.dirname(__file__), 'data/dockerd-flags.txt')).read().split()
    text = berthd('--help').stdout
    assert [name for name in names if f'--{name} ' not in text and f'--{name}\n' not in text] == []


# ---- what containers get --------------------------------------------------------------------------------------------


def test_defaults_of_containers(own):
    docker = own('--default-ulimit', 'nofile=100:200', '--default-ulimit', 'core=0', '--dns', '10.9.8.7', '--dns-search', 'example.org',
                 '--dns-opt', 'ndots:3', '--init', '--no-new-privileges', '--default-shm-size', '32m', '--ip', '127.0.0.1',
                 config={'default-cgroupns-mode': 'host', 'default-ipc-mode': 'shareable', 'default-stop-timeout': 1})
    docker.ok('run', '-d', '--name', 'con', '-p', '8000', '--ulimit', 'core=5120:5120', 'bb', 'sh', '-c', 'trap "" TERM; echo up; sleep 100 & wait; wait')
    engines.is_up(docker, 'con')
    inside = docker.ok('exec', 'con', 'sh', '-c', 'ulimit -Sn; ulimit -Hn; ulimit -c; cat /etc/resolv.conf; grep NoNewPrivs /proc/self/status; '
                       'df -k /dev/shm; tr "\\0" " " </proc/1/cmdline')
    assert inside.startswith('100\n200\n10\nnameserver 10.9.8.7\nsearch example.org\noptions ndots:3\n')
    assert 'NoNewPrivs:\t1' in inside and ' 32768 ' in inside and 'init' in inside.splitlines()[-1]
    shown = docker.inspect('con')
    assert (shown['HostConfig']['CgroupnsMode'], shown['HostConfig']['IpcMode'], shown['HostConfig']['ShmSize']) == ('host', 'shareable', 32 << 20)
    assert shown['NetworkSettings']['Ports']['8000/tcp'][0]['HostIp'] == '127.0.0.1' and len(shown['NetworkSettings']['Ports']['8000/tcp']) == 1
    assert engines.wait_until(lambda: docker('stop', 'con').code == 0, 5)
    said = docker.ok('run', '--rm', '--dns', '1.1.1.1', '--init=false', '--security-opt', 'no-new-privileges=false', '--shm-size', '1m', 'bb', 'sh',
                     '-c', 'cat /etc/resolv.conf; df -k /dev/shm; grep NoNewPrivs /proc/self/status')
    assert 'nameserver 1.1.1.1\n' in said and '10.9.8.7' not in said and ' 1024 ' in said and 'NoNewPrivs:\t0' in said


@pytest.mark.new_client('seccomp=builtin is a file to it')
def test_a_seccomp_profile_for_all(own, tmp_path):
    profile = tmp_path / 'profile.json'
    profile.write_text(json.dumps({'defaultAction': 'SCMP_ACT_ALLOW', 'syscalls': [{'names': ['mkdir', 'mkdirat'], 'action': 'SCMP_ACT_ERRNO'}]}))
    docker = own('--seccomp-profile', str(profile))
    assert 'name=seccomp,profile=custom' in docker.ok('info', '--format', '{{.SecurityOptions}}')
    assert docker('run', '--rm', 'bb', 'mkdir', '/x').code != 0
    assert docker('run', '--rm', '--security-opt', 'seccomp=builtin', 'bb', 'mkdir', '/x').code == 0


def test_a_log_driver_for_all(own):
    docker = own('--log-driver', 'none')
    docker.ok('run', '--name', 'con', 'bb', 'echo', 'said')
    assert docker.inspect('con')['HostConfig']['LogConfig'] == {'Type': 'none', 'Config': {}}
    assert docker.ok('info', '--format', '{{.LoggingDriver}}') == 'none'
    assert docker.ok('run', '--rm', '--log-driver', 'json-file', 'bb', 'echo', 'said') == 'said'


@pytest.mark.parametrize('way', ['flag', 'file'])
def test_a_mirror_stands_in_for_docker_hub(own, way):
    registry = registries.Registry()
    try:
        _, image, _ = registry.add_image('library/mirrored', 'latest', [images.busybox_root()])
        mirror = f'http://{registry.address}'
        docker = own('--registry-mirror', mirror) if way == 'flag' else own(config={'registry-mirrors': [mirror]})
        assert 'Downloaded newer image for mirrored:latest' in docker.ok('pull', 'mirrored')
        assert docker.inspect('mirrored')['Id'] == image
        assert docker.ok('run', '--rm', 'mirrored', 'echo', 'from the mirror') == 'from the mirror'
    finally:
        registry.close()


# ---- SIGHUP ---------------------------------------------------------------------------------------------------------


def test_reload(own):
    docker = own(config={'labels': ['stage=one'], 'registry-mirrors': ['http://127.0.0.1:9']})
    engine = docker.engine
    assert docker.ok('info', '--format', '{{.Labels}} {{.RegistryConfig.Mirrors}}') == '[stage=one] [http://127.0.0.1:9]'
    with docker.popen('events', '--filter', 'type=daemon', '--format', '{{json .}}', text=True) as listener:
        engines.wait_until(lambda: docker.ok('info', '--format', '{{.NEventsListener}}') == '1')
        engine.write({'labels': ['stage=two', 'x=y'], 'insecure-registries': ['reg:5000', '10.0.0.0/8'], 'max-concurrent-downloads': 1})
        os.kill(engine.process.pid, signal.SIGHUP)
        event = json.loads(listener.stdout.readline())
        listener.kill()
    assert (event['Type'], event['Action']) == ('daemon', 'reload')
    assert event['Actor']['Attributes'].items() >= {'labels': '["stage=two","x=y"]', 'insecure-registries': '["reg:5000","10.0.0.0/8"]',
                                                    'max-concurrent-downloads': '1', 'registry-mirrors': '[]', 'debug': 'true'}.items()
    info = engine.get('/info')
    assert info['Labels'] == ['stage=two', 'x=y'] and '10.0.0.0/8' in info['RegistryConfig']['InsecureRegistryCIDRs']
    assert info['RegistryConfig']['IndexConfigs']['reg:5000'] == {'Name': 'reg:5000', 'Mirrors': [], 'Secure': False, 'Official': False}


def test_a_reload_of_a_bad_file_changes_nothing(own):
    docker = own(config={'labels': ['stage=one']})
    docker.engine.write({'labels': ['stage=two'], 'nosuch': True})
    os.kill(docker.engine.process.pid, signal.SIGHUP)
    engines.wait_until(lambda: 'nothing is reloaded: ' in engines.read(docker.engine.log))
    assert docker.ok('info', '--format', '{{.Labels}}') == '[stage=one]'


def test_a_group_for_all(own):
    docker = own('--cgroup-parent', '/berth-test-parent')
    docker.ok('run', '-d', '--name', 'con', 'bb', 'sleep', '100')
    assert docker.inspect('con')['HostConfig']['CgroupParent'] == '/berth-test-parent'
    groups = open(f'/proc/{docker.inspect("con")["State"]["Pid"]}/cgroup').read()
    assert f':/berth-test-parent/{docker.inspect("con")["Id"]}\n' in groups
    docker.ok('rm', '-f', 'con')
    for folder in glob.glob('/sys/fs/cgroup/*/berth-test-parent'):
        os.rmdir(folder)


def test_where_subnets_come_from(own):
    docker = own(config={'default-address-pools': [{'base': '10.233.8.0/21', 'size': 24}]})
    assert docker.ok('network', 'inspect', '-f', '{{(index .IPAM.Config 0).Subnet}}', 'bridge') == '10.233.8.0/24'
    docker.ok('network', 'create', 'one')
    assert docker.ok('network', 'inspect', '-f', '{{(index .IPAM.Config 0).Subnet}}', 'one') == '10.233.9.0/24'
    docker.ok('run', '--rm', '--network', 'one', 'bb', 'true')
    docker.ok('network', 'rm', 'one')
