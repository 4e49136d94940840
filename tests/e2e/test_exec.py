"""docker exec."""
import time

import pytest

from engines import SLOWER


pytestmark = pytest.mark.short_vm


@pytest.fixture
def box(keeper, name):
    return keeper.box(name, '-e', 'FROM=container', '-w', '/tmp')


@pytest.mark.parametrize('command, code', [
    (['true'], 0), (['sh', '-c', 'exit 7'], 7), (['/etc/not-a-program'], 126), (['sh', '-c', 'kill -KILL $$'], 137),
    pytest.param(['/nosuch'], 127, marks=pytest.mark.differs('answers 126')),
    pytest.param(['nosuch-in-path'], 127, marks=pytest.mark.differs('answers 126')),
])
def test_exit_code(docker, box, command, code):
    assert docker('exec', box, *command).code == code


def test_streams_stay_apart(docker, box):
    result = docker('exec', box, 'sh', '-c', 'echo out; echo err >&2')
    assert (result.out, result.err) == ('out\n', 'err\n')


def test_stdin(docker, box):
    assert docker.ok('exec', '-i', box, 'wc', '-c', input='x' * 70_000).strip() == '70000'


def test_environment_user_and_folder(docker, box):
    assert docker.ok('exec', '-e', 'MINE=1', box, 'sh', '-c', 'echo $FROM $MINE $PWD') == 'container 1 /tmp'
    assert docker.ok('exec', '-u', 'app', box, 'id', '-u') == '1000'
    assert docker.ok('exec', '-u', 'app:extra', box, 'id', '-g') == '1234'
    assert docker.ok('exec', '-w', '/etc', box, 'pwd') == '/etc'


def test_it_is_in_the_same_container(docker, box):
    docker.ok('exec', box, 'sh', '-c', 'echo here >/tmp/file')
    assert docker.ok('exec', box, 'cat', 'file') == 'here'
    assert docker.ok('exec', box, 'cat', '/proc/1/cmdline').split('\0')[0] == 'sleep'
    assert docker.ok('exec', box, 'hostname') == docker.inspect(box)['Id'][:12]


def test_the_same_limits_and_filter_hold(docker, box):
    first = docker.ok('exec', box, 'grep', '-E', 'CapEff|CapBnd|NoNewPrivs|Seccomp:', '/proc/1/status')
    assert docker.ok('exec', box, 'grep', '-E', 'CapEff|CapBnd|NoNewPrivs|Seccomp:', '/proc/self/status') == first
    assert docker.ok('exec', box, 'cat', '/proc/self/cgroup') == docker.ok('exec', box, 'cat', '/proc/1/cgroup')


def test_a_terminal(docker, box, terminal):
    shell = terminal('exec', '-it', box, 'sh', rows=30, columns=90)
    shell.expect('#')
    shell.send('tty; stty size\n')
    shell.expect(r'/dev/pts/\d\r\n30 90')
    shell.send('exit 8\n')
    assert shell.wait() == 8


def test_detached(docker, box):
    assert docker.ok('exec', '-d', box, 'sh', '-c', 'sleep 0.2; echo done >/tmp/done') == ''
    time.sleep(1)
    assert docker.ok('exec', box, 'cat', '/tmp/done') == 'done'


def test_an_exec_that_lives_on_does_not_hold_the_container(docker, box):
    docker.ok('exec', '-d', box, 'sleep', '100')
    docker.ok('stop', '-t', '0', box)
    assert docker.inspect(box)['State']['Status'] == 'exited'


def test_exec_in_a_stopped_container(docker, name):
    docker.ok('create', '--name', name, 'bb')
    result = docker('exec', name, 'true')
    assert result.code == 1 and 'is not running' in result.err


def test_exec_is_seen_in_the_api(docker, api, box):
    created = api.post(f'/containers/{box}/exec', {'Cmd': ['sh', '-c', 'exit 6'], 'AttachStdout': True})
    assert created.status == 201 and len(created.json['Id']) == 64
    exec_id = created.json['Id']
    before = api.get(f'/exec/{exec_id}/json').json
    assert before['Running'] is False and before['ExitCode'] is None and before['ContainerID'] == docker.inspect(box)['Id']
    assert api.post(f'/exec/{exec_id}/start', {'Detach': True}).status == 200
    time.sleep(0.7)
    after = api.get(f'/exec/{exec_id}/json').json
    assert after['Running'] is False and after['ExitCode'] == 6
    assert api.post(f'/exec/{exec_id}/start', {'Detach': True}).status == 409


def test_exec_of_nothing(api, box):
    assert api.post(f'/containers/{box}/exec', {'Cmd': []}).status == 400
    assert api.get('/exec/nosuch/json').status == 404
    assert api.post('/exec/nosuch/start', {}).status == 404


def test_twenty_execs_at_once(docker, box):
    running = [docker.popen('exec', box, 'sh', '-c', f'echo {i}; exit {i}') for i in range(20)]
    for i, process in enumerate(running):
        out, err = process.communicate(timeout=60 * SLOWER)
        assert (process.returncode, out) == (i, b'%d\n' % i), err
