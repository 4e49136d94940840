"""kill -9 of the daemon: the containers never notice, and the next daemon knows everything."""
import datetime
import json
import os
import random
import time

import pytest

import images
from engines import SLOWER, wait_until
from test_net import fetch, free_port
from test_state import stamp

pytestmark = pytest.mark.berth


@pytest.fixture
def crash(engine):
    """crash(): kill -9 and a new daemon; crash.down() and crash.up() apart."""
    class Crash:
        def __call__(self):
            self.down()
            self.up()

        def down(self):
            engine.kill9()

        def up(self):
            engine.start()
            engine.restarted = True
    crash = Crash()
    yield crash
    if engine.process.poll() is not None:
        crash.up()


def test_a_container_goes_on(docker, crash, name):
    docker.ok('run', '-d', '--name', name, 'bb', 'sleep', '100')
    before = docker.inspect(name)
    crash()
    after = docker.inspect(name)
    assert after['State'] == before['State']
    for key in ('Id', 'Config', 'HostConfig', 'Mounts', 'NetworkSettings', 'Created', 'Image'):
        assert after[key] == before[key], key
    assert docker.ok('exec', name, 'echo', 'alive') == 'alive'
    docker.ok('stop', '-t', '0', name)
    assert docker.inspect(name)['State']['ExitCode'] == 137


def test_logs_are_whole(docker, crash, name):
    docker.ok('run', '-d', '--name', name, 'bb', 'sh', '-c', 'for i in $(seq 200); do echo $i; sleep 0.01; done')
    time.sleep(0.3)
    crash()
    docker.ok('wait', name)
    assert docker.ok('logs', name).split() == [str(i) for i in range(1, 201)]


def test_the_end_while_nobody_looked(docker, crash, name):
    docker.ok('run', '-d', '--name', name, 'bb', 'sh', '-c', 'sleep 1; echo bye; exit 17')
    crash.down()
    time.sleep(2)
    crash.up()
    state = docker.inspect(name)['State']
    assert (state['Status'], state['ExitCode'], state['Error']) == ('exited', 17, '')
    lived = stamp(state['FinishedAt']) - stamp(state['StartedAt'])
    assert datetime.timedelta(seconds=0.9) < lived < datetime.timedelta(seconds=1.7 * SLOWER)
    assert docker.ok('logs', name) == 'bye'


def test_auto_remove_is_made_up_for(docker, crash, name):
    docker.ok('run', '-d', '--rm', '--name', name, 'bb', 'sleep', '0.5')
    crash.down()
    time.sleep(1)
    crash.up()
    wait_until(lambda: docker('inspect', name).code == 1, 10, 'the container is removed')


def test_missed_exits_are_events_with_their_own_times(docker, crash, name):
    began = f'{time.time():.9f}'
    docker.ok('run', '-d', '--name', name, 'bb', 'sh', '-c', 'sleep 0.5; exit 2')
    crash.down()
    time.sleep(1.5)
    crash.up()
    lines = wait_until(lambda: docker.ok('events', '--since', began, '--until', f'{time.time():.9f}', '-f', 'event=die',
                                         '--format', '{{.Actor.Attributes.exitCode}}'), 5, 'the event')
    assert lines == '2'


@pytest.mark.short_vm
def test_an_attached_client_is_still_fed(docker, crash, name):
    with docker.popen('run', '--name', name, 'bb', 'sh', '-c', 'echo before; sleep 2; echo after') as client:
        assert client.stdout.readline() == b'before\n'
        time.sleep(0.5)  # output may come before the answer to the start, which the client needs as well
        crash()
        assert client.stdout.readline() == b'after\n'
        client.communicate()


def test_a_shell_on_a_terminal_goes_on(docker, crash, name, terminal):
    shell = terminal('run', '-it', '--name', name, 'bb', 'sh')
    shell.expect('#')
    time.sleep(0.5)  # output may come before the answer to the start, which the client needs as well
    crash()
    shell.send('echo still $((40 + 2))\n')
    shell.expect('still 42')


def test_a_published_port_works_all_the_time(docker, crash, name):
    port = free_port()
    docker.ok('run', '-d', '--name', name, '-p', f'127.0.0.1:{port}:80', 'bb', 'httpd', '-f', '-p', '80', '-h', '/var/www')
    fetch(f'http://127.0.0.1:{port}/')
    crash.down()
    assert fetch(f'http://127.0.0.1:{port}/') == 'hello from the image\n'
    crash.up()
    assert fetch(f'http://127.0.0.1:{port}/') == 'hello from the image\n'
    result = docker('run', '--rm', '-p', f'127.0.0.1:{port}:80', 'bb', 'true')
    assert result.code == 125


def test_addresses_are_not_given_twice(docker, crash, name):
    docker.ok('run', '-d', '--name', name + 'a', 'bb', 'sleep', '100')
    crash()
    docker.ok('run', '-d', '--name', name + 'b', 'bb', 'sleep', '100')
    a, b = (docker.inspect(name + which)['NetworkSettings']['Networks']['bridge']['IPAddress'] for which in 'ab')
    assert a != b


@pytest.mark.container_only('HostConfig.Binds')
def test_images_volumes_and_stopped_containers_are_kept(docker, crash, name):
    docker('run', '--name', name, '-v', f'{name}v:/data', 'bb', 'sh', '-c', 'echo kept >/data/file; exit 5')
    before = docker.ok('images', '--no-trunc', '--format', '{{.ID}} {{.Repository}}:{{.Tag}}')
    crash()
    assert docker.ok('images', '--no-trunc', '--format', '{{.ID}} {{.Repository}}:{{.Tag}}') == before
    assert docker.inspect(name)['State']['ExitCode'] == 5
    assert docker.ok('run', '--rm', '-v', f'{name}v:/data', 'bb', 'cat', '/data/file') == 'kept'


@pytest.mark.container_only('HostConfig.Binds')
def test_what_a_volume_has_mounted_is_still_shared(docker, crash, name):
    docker.ok('volume', 'create', '-o', 'type=tmpfs', '-o', 'device=tmpfs', name)
    docker.ok('run', '-d', '--name', name, '-v', f'{name}:/d', 'bb', 'sh', '-c', 'touch /d/f; sleep 100')
    crash()
    assert docker.ok('run', '--rm', '-v', f'{name}:/d', 'bb', 'ls', '/d') == 'f'
    docker.ok('rm', '-f', name)
    assert docker.ok('run', '--rm', '-v', f'{name}:/d', 'bb', 'ls', '/d') == ''
    docker.ok('volume', 'rm', name)


def test_sigterm_stops_the_daemon_only(docker, engine, crash, name):
    docker.ok('run', '-d', '--name', name, 'bb', 'sleep', '100')
    engine.terminate()
    crash.up()
    assert docker.inspect(name)['State']['Running']


def test_a_shim_that_dies_takes_its_container_along(docker, engine, name):
    docker.ok('run', '-d', '--name', name, 'bb', 'sleep', '100')
    identity = docker.inspect(name)['Id']
    shim = next(int(line.split()[1]) for line in engine.processes() if 'shim' in line and identity in line)
    os.kill(shim, 9)
    wait_until(lambda: docker.inspect(name)['State']['Status'] == 'exited', 10, 'the container is declared dead')
    state = docker.inspect(name)['State']
    assert state['ExitCode'] == 137 and state['Error']


@pytest.mark.long
def test_kills_at_any_moment(docker, engine, crash, name):
    """Containers start and end while the daemon is killed; whatever exists afterwards is whole, and all of it can be removed."""
    draw = random.Random(4)
    for kill in range(int(os.environ.get('BERTH_E2E_KILLS', '3'))):
        clients = [docker.popen('run', '--rm' if i % 2 else '--init', '--name', f'{name}k{kill}n{i}', 'bb', 'sh', '-c',
                                f'echo {i}; sleep 0.{i}; exit {i}', seconds=20) for i in range(4)]
        time.sleep(draw.uniform(0, 0.6 * SLOWER))  # also when a guest has booted
        crash()
        for client in clients:
            try:
                client.communicate(timeout=30 * SLOWER)
            finally:
                client.kill()
        for line in docker.ok('ps', '-a', '--format', '{{.Names}}').splitlines():
            inspected = docker('inspect', line)
            if inspected.code != 0:  # one with --rm ended in between
                continue
            state = json.loads(inspected.out)[0]['State']
            if state['Status'] == 'exited' and not state['Error'] and state['StartedAt'] != '0001-01-01T00:00:00Z':
                logs = docker('logs', line)
                if int(line[-1]) % 2 and not logs.out and docker('inspect', line).code:  # one with --rm: it went just now
                    continue
                assert str(state['ExitCode']) == line[-1] and logs.out.strip() == line[-1], logs
            docker.ok('rm', '-f', line)


@pytest.mark.long
@pytest.mark.container_only('HostConfig.Binds')
def test_kills_under_every_verb(docker, crash, name, tmp_path):
    """Verbs of all kinds are under way when the daemon dies. What each has made is whole or not there, all of it can be removed, and
    nothing stays on the host (which is looked at after every test)."""
    draw = random.Random(5)
    archive = tmp_path / 'image.tar'
    archive.write_bytes(images.docker_archive('kill:1', [images.busybox_root(), images.tar([images.entry('file', data=b'x' * 100000)])])[0])
    for kill in range(max(2, int(os.environ.get('BERTH_E2E_KILLS', '3')) // 5)):
        own = f'{name}v{kill}'
        docker.ok('run', '-d', '--name', own + 'a', '-v', f'{own}:/data', 'bb', 'sleep', '100')
        docker.ok('run', '-d', '--name', own + 'b', '--restart', 'on-failure', 'bb', 'sleep', '100')
        verbs = [['load', '-qi', str(archive)], ['exec', own + 'a', 'sh', '-c', 'sleep 0.2; echo x >/data/f'], ['stop', '-t', '0', own + 'b'],
                 ['run', '--rm', '-p', '127.0.0.1::80', '-v', f'{own}:/data', 'bb', 'sh', '-c', 'sleep 0.2'],
                 ['network', 'create', own], ['network', 'connect', own, own + 'a'], ['update', '--cpu-shares', '77', own + 'a'],
                 ['rm', '-f', own + 'b'], ['cp', str(archive), f'{own}a:/tmp'], ['commit', own + 'a', 'kill:2'], ['volume', 'create', own + 'w']]
        draw.shuffle(verbs)
        clients = [docker.popen(*verb, seconds=20) for verb in verbs]
        time.sleep(draw.uniform(0, 0.5))
        crash()
        for client in clients:
            try:
                client.communicate(timeout=30 * SLOWER)
            finally:
                client.kill()
        state = docker.inspect(own + 'a')['State']
        assert state['Running'] and docker.ok('exec', own + 'a', 'cat', '/proc/1/comm').strip() == 'sleep'
        for line in docker.ok('ps', '-aq').split():
            docker('rm', '-f', '-v', line)
        assert docker.ok('ps', '-aq') == ''
        for network in docker.ok('network', 'ls', '-q', '--filter', 'type=custom').split():
            docker.ok('network', 'rm', network)
        for volume in docker.ok('volume', 'ls', '-q').split():
            docker.ok('volume', 'rm', volume)
        for image in ('kill:1', 'kill:2'):
            docker('rmi', '-f', image)
