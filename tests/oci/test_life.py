"""The life of a container, verb by verb."""
import json
import os
import re
import signal
import subprocess
import time

import pytest
from conftest import RUNTIME


def test_run_gives_output_and_exit_code(bundle):
    done = bundle.shell('echo out; echo err >&2; exit 7').run()
    assert (done.returncode, done.stdout, done.stderr) == (7, 'out\n', 'err\n')


def test_a_killed_process_exits_128_and_the_signal(bundle):
    assert bundle.shell('kill -9 $$').run().returncode in (0, 137)  # PID 1 shields itself from its own kill
    assert bundle.without_namespace('pid').shell('kill -9 $$').run().returncode == 137


def test_create_start_kill_delete(bundle):
    bundle.shell('trap "exit 3" TERM; while :; do sleep 0.1; done')
    done = bundle.create('--pid-file', str(bundle.path / 'pid'))
    assert done.returncode == 0, done.stderr
    state = bundle.state()
    assert state['status'] == 'created' and state['id'] == bundle.id
    assert state['bundle'] == str(bundle.path / 'bundle') and state['rootfs'] == str(bundle.rootfs)
    assert (bundle.path / 'pid').read_text() == str(state['pid'])
    assert bundle.call('start', bundle.id).returncode == 0
    assert bundle.state()['status'] == 'running'
    assert bundle.call('delete', bundle.id).returncode == 1
    time.sleep(0.3)
    assert bundle.call('kill', bundle.id).returncode == 0
    bundle.wait('stopped')
    assert bundle.state()['pid'] == 0
    assert bundle.call('delete', bundle.id).returncode == 0
    done = bundle.call('state', bundle.id)
    assert done.returncode == 1 and 'does not exist' in done.stderr


def test_start_twice_and_after_the_end(bundle):
    bundle.up()
    done = bundle.call('start', bundle.id)
    assert done.returncode == 1 and 'cannot start an already running container' in done.stderr
    bundle.call('kill', bundle.id, 'KILL')
    bundle.wait('stopped')
    done = bundle.call('start', bundle.id)
    assert done.returncode == 1 and 'cannot start a container that has stopped' in done.stderr


def test_an_id_is_taken_once(bundle):
    bundle.up()
    done = bundle.create()
    assert done.returncode == 1 and 'already exists' in done.stderr
    assert bundle.state()['status'] == 'running'


def test_list_as_table_json_and_ids(bundle):
    bundle.up()
    done = bundle.call('list')
    title, line = done.stdout.splitlines()
    assert title.split() == ['ID', 'PID', 'STATUS', 'BUNDLE', 'CREATED', 'OWNER']
    assert line.split()[0] == bundle.id and line.split()[2] == 'running' and line.split()[5] == 'root'
    assert title.index('PID') == line.index(str(bundle.state()['pid']))
    assert bundle.call('list', '-q').stdout == bundle.id + '\n'
    entry, = json.loads(bundle.call('list', '--format', 'json').stdout)
    assert entry['status'] == 'running' and entry['owner'] == 'root'


def test_ps(bundle):
    bundle.up()
    pid = bundle.state()['pid']
    assert pid in json.loads(bundle.call('ps', '--format', 'json', bundle.id).stdout)
    lines = bundle.call('ps', bundle.id).stdout.splitlines()
    assert 'PID' in lines[0] and any(str(pid) in line for line in lines[1:])


def test_pause_and_resume(bundle):
    bundle.up()
    assert bundle.call('pause', bundle.id).returncode == 0
    assert bundle.state()['status'] == 'paused'
    done = bundle.exec('true')
    assert done.returncode == 255 and 'cannot exec in a paused container' in done.stderr
    assert bundle.call('resume', bundle.id).returncode == 0
    assert bundle.state()['status'] == 'running' and bundle.exec('true').returncode == 0
    assert bundle.call('resume', bundle.id).returncode == 1


def test_a_paused_container_can_be_deleted(bundle):
    bundle.up()
    bundle.call('pause', bundle.id)
    assert bundle.call('delete', '--force', bundle.id).returncode == 0
    assert bundle.remains() == []


def test_kill_all_reaches_everyone(bundle):
    bundle.without_namespace('pid').up('sleep 1000 & sleep 1000 & wait')
    pids, end = [], time.monotonic() + 5
    while len(pids) < 3 and time.monotonic() < end:  # the shell takes a moment to start its two
        pids = json.loads(bundle.call('ps', '--format', 'json', bundle.id).stdout)
    assert len(pids) == 3
    assert bundle.call('kill', '--all', bundle.id, 'KILL').returncode == 0
    end = time.monotonic() + 3
    while any(os.path.exists(f'/proc/{pid}/root/bin') for pid in pids) and time.monotonic() < end:
        time.sleep(0.02)
    bundle.wait('stopped')


@pytest.mark.parametrize('word', ['15', 'TERM', 'SIGTERM', 'sigterm'])
def test_signal_words(bundle, word):
    bundle.up('trap "exit 0" TERM; while :; do sleep 0.1; done')
    time.sleep(0.3)
    assert bundle.call('kill', bundle.id, word).returncode == 0
    bundle.wait('stopped')


def test_an_unknown_signal(bundle):
    bundle.up()
    done = bundle.call('kill', bundle.id, 'NOSUCH')
    assert done.returncode == 1 and 'unknown signal "NOSUCH"' in done.stderr.replace('\\"', '"')


def test_exec(bundle):
    bundle.up()
    assert bundle.exec('sh', '-c', 'exit 9').returncode == 9
    done = bundle.exec('env', flags=['--env', 'A=b', '--cwd', '/tmp'])
    assert 'A=b' in done.stdout.splitlines()
    assert bundle.exec('pwd', flags=['--cwd', '/tmp']).stdout == '/tmp\n'
    assert bundle.exec('id', flags=['--user', '1000:1000']).stdout.startswith('uid=1000(ann) gid=1000(ann)')
    done = bundle.exec('nosuch')
    assert done.returncode == 255 and 'exec: "nosuch": executable file not found in $PATH' in done.stderr.replace('\\"', '"')
    done = bundle.call('exec', bundle.id)
    assert done.returncode == 255 and 'process args cannot be empty' in done.stderr


def test_exec_by_process_document(bundle):
    bundle.up()
    document = bundle.path / 'process.json'
    document.write_text(json.dumps({**bundle.process, 'args': ['sh', '-c', 'echo $A; id -u'], 'env': ['A=doc', 'PATH=/bin'],
                                    'user': {'uid': 1000, 'gid': 1000}}))
    done = bundle.call('exec', '--process', str(document), bundle.id)
    assert (done.returncode, done.stdout) == (0, 'doc\n1000\n'), done.stderr


def test_exec_detached(bundle):
    bundle.up()
    pid_file = bundle.path / 'exec.pid'
    done = subprocess.run(
        [RUNTIME, '--root', str(bundle.root), 'exec', '--detach', '--pid-file', str(pid_file), bundle.id, 'sleep', '1000'],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=30)
    assert done.returncode == 0
    assert int(pid_file.read_text()) in json.loads(bundle.call('ps', '--format', 'json', bundle.id).stdout)


def test_exec_adds_capabilities_but_never_inheritable_ones(bundle):
    bundle.up()
    before = bundle.exec('grep', 'Cap', '/proc/self/status').stdout
    after = bundle.exec('grep', 'Cap', '/proc/self/status', flags=['--cap', 'CAP_SYS_TIME']).stdout
    bits = {line.split()[0]: int(line.split()[1], 16) for line in after.splitlines()}
    assert bits['CapBnd:'] & (1 << 25) and bits['CapEff:'] & (1 << 25)
    assert bits['CapInh:'] == 0
    assert 'CapInh:\t0000000000000000' in before


@pytest.mark.parametrize('user', ['-1', '4294967295', '4294967296', '0x0', '1000 ', 'root', '', ':5', '1:'])
def test_exec_takes_only_plain_ids(bundle, user):
    """A user that is misread must not become root."""
    bundle.up()
    done = bundle.exec('id', '-u', flags=['--user', user])
    assert (done.returncode, done.stdout) in ((255, ''), (0, '0\n') if user == '' else (255, ''))


def test_the_json_log(bundle):
    log = bundle.path / 'log.json'
    bundle.args('nosuch').save()
    done = bundle.call('create', bundle.id, globals=['--log', str(log), '--log-format', 'json'])
    assert done.returncode == 1
    line = json.loads(log.read_text().splitlines()[-1])
    assert line['level'] == 'error' and re.match(r'\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ', line['time'])
    assert line['msg'].endswith('unable to start container process: exec: "nosuch": executable file not found in $PATH')
    assert done.stderr.strip() == line['msg']


def test_events_and_update(bundle):
    bundle.up()
    event = json.loads(bundle.call('events', '--stats', bundle.id).stdout)
    assert event['type'] == 'stats' and event['id'] == bundle.id
    assert event['data']['memory']['usage']['usage'] > 0 and event['data']['pids']['current'] >= 1
    assert bundle.call('update', '--memory', '64m', '--pids-limit', '33', bundle.id).returncode == 0
    data = json.loads(bundle.call('events', '--stats', bundle.id).stdout)['data']
    assert data['memory']['usage']['limit'] == 64 << 20 and data['pids']['limit'] == 33
    document = json.dumps({'memory': {'limit': 32 << 20}})
    assert bundle.call('update', '-r', '-', bundle.id, stdin=None, input=document).returncode == 0
    data = json.loads(bundle.call('events', '--stats', bundle.id).stdout)['data']
    assert data['memory']['usage']['limit'] == 32 << 20


def test_preserved_descriptors(bundle):
    bundle.shell('ls /proc/self/fd; cat <&3').save()
    command = [RUNTIME, '--root', str(bundle.root), 'run', '-b', str(bundle.path / 'bundle'), '--preserve-fds', '1', bundle.id]
    done = subprocess.run(['sh', '-c', 'exec 3<&0 </dev/null; exec "$@"', 'sh', *command], input='through three\n', text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=30)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ['0', '1', '2', '3', '4', 'through three']  # 4 is ls's own


@pytest.mark.berth
def test_preserved_descriptors_may_have_holes(bundle):
    """What isn't open stays closed, whatever of ours had that number."""
    bundle.shell('ls /proc/self/fd; cat <&6').save()
    command = [RUNTIME, '--root', str(bundle.root), 'run', '-b', str(bundle.path / 'bundle'), '--preserve-fds', '20', bundle.id]
    done = subprocess.run(['sh', '-c', 'exec 6<&0 </dev/null; exec "$@"', 'sh', *command], input='through six\n', text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=30)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ['0', '1', '2', '3', '6', 'through six']  # 3 is ls's own


@pytest.mark.parametrize('ours', [True, False])
def test_listening_sockets_of_systemd(bundle, ours):
    """LISTEN_FDS are passed on with the words that go with them, if they are for the runtime."""
    bundle.shell('echo "$LISTEN_FDS $LISTEN_PID"; test -e /proc/self/fd/3 && echo open').save()
    command = [RUNTIME, '--root', str(bundle.root), 'run', '-b', str(bundle.path / 'bundle'), bundle.id]
    script = f'exec 3</dev/null; LISTEN_FDS=1 LISTEN_PID={"$$" if ours else "1"}; export LISTEN_FDS LISTEN_PID; exec "$@"'
    done = subprocess.run(['sh', '-c', script, 'sh', *command], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30)
    assert done.returncode == (0 if ours else 1), done.stderr
    assert done.stdout == ('1 1\nopen\n' if ours else ' \n')


def test_no_descriptor_leaks(bundle):
    spare = os.open('/', os.O_RDONLY)
    os.set_inheritable(spare, True)
    bundle.shell('ls /proc/self/fd').save()
    done = bundle.call('run', bundle.id, pass_fds=[spare])
    os.close(spare)
    assert done.stdout.split() == ['0', '1', '2', '3']


@pytest.mark.berth
def test_the_size_is_there_before_the_process(bundle):
    bundle.process['terminal'] = True
    bundle.shell('stty size').save()
    command = f'stty rows 33 cols 99; {RUNTIME} --root {bundle.root} run -b {bundle.path}/bundle {bundle.id}'
    done = subprocess.run(['script', '-qec', command, '/dev/null'], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, timeout=30)
    assert b'33 99\r\n' in done.stdout


@pytest.mark.berth  # runc itself wants a controlling terminal here
def test_a_terminal_into_a_pipe_has_plain_line_ends(bundle):
    """As from runc: whoever reads it is no terminal."""
    bundle.process['terminal'] = True
    bundle.shell('echo one; tty; sleep 0.2').save()
    done = bundle.run(text=False)
    assert (done.returncode, done.stdout) == (0, b'one\n/dev/pts/0\n'), done.stderr
    bundle.remove()
    bundle.process['terminal'] = False
    bundle.up()
    done = bundle.exec('sh', '-c', 'echo two; sleep 0.2', flags=('-t',), text=False)
    assert done.returncode == 0 and done.stdout == b'two\n'


def test_terminal_in_the_foreground(bundle):
    bundle.process['terminal'] = True
    bundle.shell('tty; ls -l /dev/console | cut -c1; exit 4').save()
    command = f'{RUNTIME} --root {bundle.root} run -b {bundle.path}/bundle {bundle.id}'
    done = subprocess.run(['script', '-qec', command, '/dev/null'], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, timeout=30)
    assert done.returncode == 4 and b'/dev/pts/0\r\n' in done.stdout


def test_terminal_over_a_console_socket(bundle):
    import array
    import socket
    path = str(bundle.path / 'console')
    server = socket.socket(socket.AF_UNIX)
    server.bind(path)
    server.listen(1)
    server.settimeout(20)
    bundle.process['terminal'] = True
    bundle.process['consoleSize'] = {'height': 33, 'width': 99}
    bundle.shell('tty; stty size; sleep 1000').save()
    assert bundle.create('--console-socket', path).returncode == 0
    peer, _ = server.accept()
    _, ancillary, _, _ = peer.recvmsg(4096, socket.CMSG_SPACE(4))
    master = array.array('i', ancillary[0][2])[0]
    assert bundle.call('start', bundle.id).returncode == 0
    said = b''
    while said.count(b'\n') < 2:
        said += os.read(master, 100)
    assert said == b'/dev/pts/0\r\n33 99\r\n'
    os.close(master)
    peer.close()
    server.close()


def test_detach_with_a_terminal_needs_a_socket(bundle):
    bundle.process['terminal'] = True
    done = bundle.create()
    assert done.returncode == 1 and 'cannot allocate tty if runc will detach without setting console socket' in done.stderr


@pytest.mark.berth
@pytest.mark.parametrize('delay', [0, 0.001, 0.002, 0.003, 0.005, 0.008, 0.012, 0.02])
def test_a_create_that_is_killed_leaves_nothing_that_delete_does_not_find(bundle, delay):
    bundle.shell('sleep 1000').save()
    command = [RUNTIME, '--root', str(bundle.root), 'create', '-b', str(bundle.path / 'bundle'), bundle.id]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert bundle.call('delete', '--force', bundle.id).returncode == 0
    end = time.monotonic() + 3
    while time.monotonic() < end and (bundle.remains() or bundle.processes()):
        time.sleep(0.05)
    assert bundle.remains() == [] and bundle.processes() == []


@pytest.mark.berth
def test_a_delete_that_is_killed_can_be_repeated(bundle):
    for delay in (0, 0.001, 0.003, 0.006):
        bundle.up()
        process = subprocess.Popen([RUNTIME, '--root', str(bundle.root), 'delete', '--force', bundle.id], stderr=subprocess.DEVNULL)
        time.sleep(delay)
        process.kill()
        process.wait()
        assert bundle.call('delete', '--force', bundle.id).returncode == 0
        assert bundle.remains() == []


@pytest.mark.berth
def test_plan_prints_the_order(bundle):
    bundle.save()
    lines = bundle.call('plan').stdout.splitlines()
    assert lines.index('enter rootfs') < next(i for i, line in enumerate(lines) if line.startswith('mount /proc proc'))
    bundle.hook('createContainer', 'true').save()
    lines = bundle.call('plan').stdout.splitlines()
    assert next(i for i, line in enumerate(lines) if line.startswith('mount /proc proc')) < lines.index('run hook /bin/sh (createContainer)') < lines.index('enter rootfs')


def test_a_null_stream_is_the_containers_own(bundle):
    out = bundle.output('stat -L -c %d /proc/self/fd/0; stat -c %d /dev/null; stat -L -c %F /proc/self/fd/0')
    lines = out.splitlines()
    assert lines[0] == lines[1] and lines[2] == 'character special file'


def v1_freezer(bundle):
    path = f'/sys/fs/cgroup/freezer/{bundle.id}/freezer.state'
    if not os.path.exists(path):
        pytest.skip("there is no v1 freezer")
    return path


@pytest.mark.berth
def test_what_another_froze_by_v1_is_resumed_and_deleted(bundle):
    """As a CRIU that was killed half-way leaves it; cgroup2's thaw and kill don't reach it."""
    bundle.up()
    with open(v1_freezer(bundle), 'w') as file:
        file.write('FROZEN')
    bundle.wait('paused')
    assert bundle.call('resume', bundle.id).returncode == 0
    bundle.wait('running')
    with open(v1_freezer(bundle), 'w') as file:
        file.write('FROZEN')
    done = bundle.call('delete', '--force', bundle.id)
    assert done.returncode == 0, done.stderr
    assert bundle.remains() == []


@pytest.mark.berth  # runc since 1.2
def test_kill_ends_what_an_init_left_in_the_hosts_pid_namespace(bundle):
    bundle.without_namespace('pid')
    bundle.up('sleep 1000 & sleep 1000')
    end = time.monotonic() + 10
    while len(bundle.processes()) < 2:
        assert time.monotonic() < end, 'the second process never came'
        time.sleep(0.02)
    os.kill(bundle.state()['pid'], signal.SIGKILL)
    bundle.wait('stopped')
    assert bundle.processes()
    assert bundle.call('kill', bundle.id, 'TERM').returncode == 1
    done = bundle.call('kill', bundle.id, 'KILL')
    assert done.returncode == 0, done.stderr
    assert not bundle.processes()
    done = bundle.call('kill', bundle.id, 'KILL')
    assert done.returncode == 1 and 'container not running' in done.stderr
