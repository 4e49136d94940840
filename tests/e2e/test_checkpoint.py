"""docker checkpoint, and docker start --checkpoint, with CRIU."""
import json
import os
import pathlib
import shutil
import subprocess
import time

import pytest

import engines
from conftest import Api, Docker
from engines import wait_until

pytestmark = [pytest.mark.berth, pytest.mark.skipif(os.environ.get('BERTH_E2E_ISOLATION') == 'vm', reason='a microVM has no checkpoints yet')]
CRIU = os.path.join(engines.PEERS, 'criu')
in_the_full_run = pytest.mark.skipif(not os.environ.get('BERTH_E2E_LONG'), reason='several starts of daemon and containers: make check-full does it')
COUNTER = 'i=0; while :; do i=$((i+1)); echo $i; sleep 0.1; done'


class Experimental(engines.Berth):
    path = CRIU + ':' + os.environ['PATH']

    def command(self):
        return [*super().command(), '--experimental']

    def environment(self):
        return {**os.environ, 'PATH': self.path}


@pytest.fixture(scope='module')
def lab(busybox, tmp_path_factory):
    """An experimental daemon with CRIU on its PATH."""
    if not os.path.exists(os.path.join(CRIU, 'criu')):
        subprocess.run([os.path.join(engines.ROOT, 'tools/peers'), 'criu'], timeout=300)
    if not os.path.exists(os.path.join(CRIU, 'criu')):
        pytest.skip('the mirror gave no CRIU of sid, and older ones do not run on newer kernels')
    daemon = Experimental().start()
    docker = Docker(daemon, engines.default_cli(), str(tmp_path_factory.mktemp('home')))
    docker.ok('load', input=busybox)
    yield docker
    assert daemon.stop_all().returncode == 0
    assert daemon.footprint() == []
    daemon.remove_folder()
    pathlib.Path('/run/criu.kdat.tmp').unlink(missing_ok=True)  # CRIU leaves it where /run is no tmpfs


@pytest.fixture
def box(lab, name):
    yield name
    lab('rm', '-f', name)


def is_up(docker, name):
    return docker.inspect(name)['State']['Running']


def lines(docker, name):
    return [int(line) for line in docker.ok('logs', name).split()]


def counting(docker, name, *options):
    docker.ok('run', '-d', '--name', name, *options, 'bb', 'sh', '-c', COUNTER)
    wait_until(lambda: len(lines(docker, name)) > 3, 20, 'it counts')


def goes_on(docker, name, before):
    wait_until(lambda: len(lines(docker, name)) > before + 3, 20, 'it goes on')
    counted = lines(docker, name)
    assert counted == list(range(1, len(counted) + 1))


def test_a_counter_goes_on(lab, box):
    """Stopped by the checkpoint with its policy at rest; then on from there, with its log whole, its address, its ports and its names."""
    lab.ok('network', 'create', box + '-net')
    lab.ok('volume', 'create', box + '-vol')
    counting(lab, box, '--restart', 'always', '--network', box + '-net', '-p', '127.0.0.1::80', '-v', box + '-vol:/data:ro', '-e', 'A=b', '-m', '64m')
    before = lab.inspect(box)
    assert lab.ok('checkpoint', 'create', box, 'one').strip() == 'one'
    it = lab.inspect(box)['State']
    assert it['Status'] == 'exited' and it['ExitCode'] == 137
    count = len(lines(lab, box))
    assert lab.ok('checkpoint', 'ls', box).split() == ['CHECKPOINT', 'NAME', 'one']
    time.sleep(0.5)
    assert lab.inspect(box)['State']['Status'] == 'exited' and len(lines(lab, box)) == count
    lab.ok('start', '--checkpoint', 'one', box)
    goes_on(lab, box, count)
    after = lab.inspect(box)
    old, new = (it['NetworkSettings']['Networks'][box + '-net'] for it in (before, after))
    assert after['State']['Running'] and after['State']['Pid'] != before['State']['Pid'] and old['IPAddress'] == new['IPAddress']
    assert lab.ok('exec', box, 'sh', '-c', 'hostname; cat /proc/1/comm; echo $A; nslookup ' + box + ' >/dev/null && echo named').split() \
        == [before['Config']['Hostname'], 'sh', 'b', 'named']
    assert new['IPAddress'] in lab.ok('exec', box, 'ip', '-4', 'addr', 'show', 'eth0')
    assert lab('exec', box, 'touch', '/data/x').code == 1
    lab.ok('checkpoint', 'rm', box, 'one')
    assert lab.ok('checkpoint', 'ls', box).split() == ['CHECKPOINT', 'NAME']
    lab.ok('stop', '-t', '0', box)
    assert lab.inspect(box)['State']['ExitCode'] == 137
    lab.ok('rm', box)
    lab.ok('network', 'rm', box + '-net')
    lab.ok('volume', 'rm', box + '-vol')


@in_the_full_run
def test_left_running(lab, box, tmp_path):
    """--leave-running and --checkpoint-dir; the checkpoint is of that moment, and starts the container as often as one likes."""
    since = f'{time.time():.9f}'
    counting(lab, box, '--network', 'none')
    folder = str(tmp_path / 'kept')
    lab.ok('checkpoint', 'create', '--leave-running', '--checkpoint-dir', folder, box, 'then')
    count = len(lines(lab, box))
    goes_on(lab, box, count)
    assert lab.ok('checkpoint', 'ls', '--checkpoint-dir', folder, box).split()[2:] == ['then'] and os.listdir(folder) == ['then']
    assert lab.ok('checkpoint', 'ls', box).split()[2:] == []
    refused = lab('checkpoint', 'create', '--leave-running', '--checkpoint-dir', folder, box, 'then')
    assert refused.code == 1 and f'cannot checkpoint container {box}: checkpoint with name then already exists for container {box}' in refused.err
    lab.ok('kill', box)
    for _ in range(2):
        had = len(lines(lab, box))
        lab.ok('start', '--checkpoint-dir', folder, '--checkpoint', 'then', box)
        wait_until(lambda: len(lines(lab, box)) > had + 2, 20, 'it goes on')
        assert lines(lab, box)[had] <= count + 1
        assert '127.0.0.1' in lab.ok('exec', box, 'ip', '-4', 'addr', 'show', 'up')
        lab.ok('kill', box)
    lab.ok('checkpoint', 'rm', '--checkpoint-dir', folder, box, 'then')
    assert os.listdir(folder) == []
    told = lab.ok('events', '--since', since, '--until', f'{time.time():.9f}', '-f', f'container={box}', '-f', 'type=container', '--format', '{{.Action}}')
    assert [word for word in told.split('\n') if word in ('start', 'die', 'checkpoint')] == ['start', 'checkpoint', 'die', 'start', 'die', 'start', 'die']


@in_the_full_run
def test_an_exit_code_and_a_new_daemon(lab, box):
    """What was restored ends as everything does; meanwhile the daemon is killed."""
    lab.ok('run', '-d', '-i', '--name', box, 'bb', 'sh', '-c', 'echo ready; read line; echo got $line; exit 7')
    wait_until(lambda: 'ready' in lab.ok('logs', box), 20, 'it is ready')
    lab.ok('checkpoint', 'create', box, 'waits')
    lab.ok('start', '--checkpoint', 'waits', box)
    lab.engine.kill9()
    lab.engine.start()
    assert is_up(lab, box)
    attached = lab.popen('attach', box, stdin=subprocess.PIPE)
    attached.communicate(b'word\n', timeout=30)
    assert lab.ok('wait', box).strip() == '7'
    assert lab.ok('logs', box).split('\n')[:2] == ['ready', 'got word']


def test_a_terminal(lab, box, tmp_path):
    lab.ok('run', '-dt', '--name', box, '--read-only', '--tmpfs', '/run', 'bb', 'sh', '-c', 'echo kept >/run/x; tty; while :; do sleep 0.1; stty size </dev/tty; done')
    wait_until(lambda: '/dev/pts/0' in lab.ok('logs', box), 20, 'it has a terminal')
    lab.ok('checkpoint', 'create', box, 'one')
    lab.ok('start', '--checkpoint', 'one', box)
    Api(lab.engine).post(f'/containers/{box}/resize?h=33&w=77')
    wait_until(lambda: '33 77' in lab.ok('logs', box), 20, 'the terminal is the same')
    assert lab.ok('exec', box, 'cat', '/run/x').strip() == 'kept'
    assert lab('exec', box, 'touch', '/x').code == 1


def test_words(lab, box, tmp_path):
    api = Api(lab.engine)
    assert lab.ok('version', '--format', '{{.Server.Experimental}}').strip() == 'true' and api.get('/info').json['ExperimentalBuild'] is True
    lab.ok('create', '--name', box, 'bb', 'sleep', '1000')
    long_id = lab.inspect(box)['Id']
    assert api.get(f'/containers/{box}/checkpoints').json is None
    for answer, status, text in (
            (api.post(f'/containers/{box}/checkpoints', {'CheckpointID': 'xx'}), 409, f'container {long_id} is not running'),
            (api.post('/containers/nosuch/checkpoints', {'CheckpointID': 'xx'}), 404, 'No such container: nosuch'),
            (api.delete(f'/containers/{box}/checkpoints/xx'), 404, f'checkpoint xx does not exist for container {box}'),
            (api.post(f'/containers/{box}/start?checkpoint=xx'), 404, f'checkpoint xx does not exist for container {box}'),
            (api.post(f'/containers/{box}/start?checkpoint=..%2Fxx'), 400, 'Invalid checkpoint ID (../xx), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed')):
        assert (answer.status, answer.message) == (status, text)
    lab.ok('start', box)
    for wish, status, text in (({'CheckpointID': '../xx'}, 400, 'Invalid checkpoint ID (../xx)'), ({}, 400, 'Invalid checkpoint ID ()'),
                               ({'CheckpointID': 'xx', 'CheckpointDir': 'here'}, 400, 'absolute path'), ({'CheckpointID': 7}, 400, 'CheckpointID'),
                               ({'CheckpointID': 'xx', 'CheckpointDir': '/dev/null/x'}, 500, '/dev/null')):
        answer = api.post(f'/containers/{box}/checkpoints', wish)
        assert answer.status == status and text in answer.message, wish
    lab.ok('pause', box)
    assert 'is paused' in lab('checkpoint', 'create', box, 'xx').err
    lab.ok('unpause', box)
    assert lab.ok('checkpoint', 'ls', box).split()[2:] == [] and is_up(lab, box)


@pytest.mark.new_client('its own words')
def test_by_our_own_client(lab, box, tmp_path):
    berth = Docker(lab.engine, os.path.join(engines.BIN, 'berth'), str(tmp_path))
    counting(lab, box)
    assert berth.ok('checkpoint', 'create', '--leave-running', box, 'one') == 'one' and is_up(lab, box)
    assert berth.ok('checkpoint', 'create', '--checkpoint-dir', str(tmp_path), box, 'two') == 'two' and not is_up(lab, box)
    for words in ([box], ['--checkpoint-dir', str(tmp_path), box]):
        assert berth.ok('checkpoint', 'ls', *words) == lab.ok('checkpoint', 'ls', *words)
    before = len(lines(lab, box))
    berth.ok('start', '--checkpoint-dir', str(tmp_path), '--checkpoint', 'two', box)
    goes_on(lab, box, before)
    assert berth.ok('checkpoint', 'rm', box, 'one') == '' and lab.ok('checkpoint', 'ls', box).split()[2:] == []
    for words in (['rm', box, 'one'], ['create', 'nosuch', 'x'], ['ls', 'nosuch'], ['create', box], ['create', box, '../x']):
        ours, theirs = berth('checkpoint', *words), lab('checkpoint', *words)
        assert ours.code == theirs.code == 1 and ours.err.splitlines()[0] == theirs.err.splitlines()[0].replace('docker', 'berth'), words


def test_what_criu_can_not_do(lab, box, tmp_path):
    """A broken checkpoint and a container that can't be dumped: one line with CRIU's reason, and nothing is left."""
    counting(lab, box)
    lab.ok('checkpoint', 'create', '--checkpoint-dir', str(tmp_path), box, 'whole')
    shutil.copytree(tmp_path / 'whole', tmp_path / 'broken')
    (tmp_path / 'broken/pstree.img').write_bytes(b'junk')
    refused = lab('start', '--checkpoint-dir', str(tmp_path), '--checkpoint', 'broken', box)
    assert refused.code == 1 and 'criu failed: type RESTORE' in refused.err and 'Error (' in refused.err
    assert lab.inspect(box)['State']['Status'] == 'exited'
    lab.ok('start', '--checkpoint-dir', str(tmp_path), '--checkpoint', 'whole', box)
    lab.ok('rm', '-f', box)
    lab.ok('run', '-d', '--name', box, '--device', '/dev/loop-control', 'bb', 'sh', '-c', 'exec 9</dev/loop-control; echo opened; sleep 1000')
    wait_until(lambda: 'opened' in lab.ok('logs', box), 20, 'it has the device')
    refused = lab('checkpoint', 'create', box, 'xx')
    assert refused.code == 1 and f'Cannot checkpoint container {box}: criu failed: type DUMP' in refused.err and 'Error (' in refused.err
    assert is_up(lab, box) and lab.ok('checkpoint', 'ls', box).split()[2:] == []


def test_what_has_none(lab, box):
    for words, text in ((['--init'], 'a container with --init has no checkpoints'), (['--ipc', 'container:' + box + '-o'], 'shares namespaces of another one')):
        lab.ok('run', '-d', '--name', box + '-o', '--ipc', 'shareable', 'bb', 'sleep', '1000')
        lab.ok('run', '-d', '--name', box, *words, 'bb', 'sleep', '1000')
        refused = lab('checkpoint', 'create', box, 'xx')
        assert refused.code == 1 and text in refused.err and lab.ok('checkpoint', 'ls', box).split()[2:] == [] and is_up(lab, box)
        lab.ok('rm', '-f', box, box + '-o')


@in_the_full_run
def test_without_criu(lab, box, monkeypatch):
    counting(lab, box)
    lab.engine.terminate()
    monkeypatch.setattr(Experimental, 'path', '/usr/sbin:/usr/bin:/sbin:/bin')
    lab.engine.start()
    refused = lab('checkpoint', 'create', box, 'xx')
    assert refused.code == 1 and 'criu: no such program' in refused.err
    assert is_up(lab, box) and lab.ok('checkpoint', 'ls', box).split()[2:] == []
    monkeypatch.undo()
    lab.engine.terminate()
    lab.engine.start()


def test_behind_the_other_wall(lab, box):
    lab.ok('create', '--isolation', 'vm', '--name', box, 'bb', 'true')
    answer = Api(lab.engine).post(f'/containers/{box}/start?checkpoint=xx')
    assert answer.status == 501 and 'behind the VM wall' in answer.message
    assert json.loads(answer.body)['message'].count('\n') == 0
