"""checkpoint and restore: what ran goes on, in the same bundle or another."""
import array
import contextlib
import json
import os
import pathlib
import pty
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid

import conftest
import pytest
from conftest import OURS, ROOT, RUNTIME, Bundle
from test_systemd import group_of, needs_systemd, scopes, shown

CRIU = os.path.join(ROOT, 'build/peers/criu')
COUNTER = 'i=0; while :; do i=$((i+1)); echo $i >/tmp/count; sleep 0.05; done'


@pytest.fixture(autouse=True)
def criu(monkeypatch):
    if not os.path.exists(os.path.join(CRIU, 'criu')):
        pytest.skip('the mirror gave no CRIU of sid, and older ones do not run on newer kernels')
    monkeypatch.setenv('PATH', CRIU + ':' + os.environ['PATH'])
    yield
    pathlib.Path('/run/criu.kdat.tmp').unlink(missing_ok=True)  # CRIU leaves it where /run is no tmpfs


@pytest.fixture
def second(tmp_path, image):
    """A bundle of its own for what another was checkpointed from."""
    (tmp_path / 'second').mkdir()
    made = Bundle(tmp_path / 'second', image)
    yield made
    made.remove()
    assert made.remains() == []


def checkpoint(bundle, *words, **more):
    return bundle.call('checkpoint', '--image-path', str(bundle.path / 'images'), *words, bundle.id, **more)


def restore_command(bundle, *words, images=None):
    return [RUNTIME, '--root', str(bundle.root), *bundle.globals, 'restore', '-b', str(bundle.path / 'bundle'), '--image-path',
            str(images or bundle.path / 'images'), *words, bundle.id]


def restore(bundle, *words, images=None, **more):
    """Detached; the container keeps the streams, so errors go to a file."""
    more = {'stdin': subprocess.DEVNULL, 'stdout': subprocess.DEVNULL, **more}
    with open(bundle.path / 'restore.err', 'w+') as errors:
        done = subprocess.run(restore_command(bundle, '-d', *words, images=images), stderr=more.pop('stderr', errors), timeout=30, **more)
        errors.seek(0)
        done.stderr = errors.read()
    return done


def good(done):
    assert done.returncode == 0, done.stderr
    return done


def wait_for(path, seconds=10):
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end, path
        time.sleep(0.02)


def wait_for_line(path, word, seconds=10):
    wait_for(path)
    end = time.monotonic() + seconds
    while word not in path.read_text(errors='replace'):
        assert time.monotonic() < end, path.read_text(errors='replace')
        time.sleep(0.02)


def count_of(bundle):
    return int((bundle.rootfs / 'tmp/count').read_text() or 0)


def count_beyond(bundle, number, seconds=5):
    end = time.monotonic() + seconds
    while count_of(bundle) <= number:
        assert time.monotonic() < end, f'the count stays at {count_of(bundle)}'
        time.sleep(0.02)
    return count_of(bundle)


def up(bundle, script, *words):
    """Runs it with /dev/null as all three streams: a file of the host's can't be checkpointed."""
    bundle.shell(script).save()
    command = [RUNTIME, '--root', str(bundle.root), *bundle.globals, 'run', '-d', *words, '-b', str(bundle.path / 'bundle'), bundle.id]
    subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=30, check=True)


def start_counter(bundle, *words):
    up(bundle, COUNTER, *words)
    wait_for(bundle.rootfs / 'tmp/count')
    count_beyond(bundle, 3)


def test_a_counter_goes_on(bundle):
    start_counter(bundle)
    before = bundle.state()['pid']
    good(checkpoint(bundle))
    stopped_at = count_of(bundle)
    done = bundle.call('state', bundle.id)
    assert done.returncode == 1 and 'does not exist' in done.stderr
    assert bundle.remains() == []
    time.sleep(0.3)
    assert count_of(bundle) == stopped_at

    good(restore(bundle, '--pid-file', str(bundle.path / 'pid')))
    number = count_beyond(bundle, stopped_at)
    assert number < stopped_at + 100, 'it began anew'
    state = bundle.state()
    assert state['status'] == 'running' and state['pid'] != before
    assert (bundle.path / 'pid').read_text() == str(state['pid'])


def test_every_verb_works_on_what_was_restored(bundle):
    start_counter(bundle)
    good(checkpoint(bundle))
    good(restore(bundle))
    listed = json.loads(bundle.call('list', '--format', 'json').stdout)
    assert [(item['id'], item['status']) for item in listed] == [(bundle.id, 'running')]
    assert bundle.exec('cat', '/proc/1/comm').stdout == 'sh\n'
    assert bundle.exec('readlink', '/proc/1/ns/pid').stdout == bundle.exec('readlink', '/proc/self/ns/pid').stdout
    assert 'sleep' in bundle.call('ps', bundle.id).stdout
    good(bundle.call('pause', bundle.id))
    assert bundle.state()['status'] == 'paused'
    good(bundle.call('resume', bundle.id))
    count_beyond(bundle, count_of(bundle))
    good(bundle.call('kill', bundle.id, 'KILL'))
    bundle.wait('stopped')
    good(bundle.call('delete', bundle.id))
    assert bundle.remains() == []


def test_twice(bundle):
    start_counter(bundle)
    for _ in range(2):
        good(checkpoint(bundle))
        number = count_of(bundle)
        good(restore(bundle))
        count_beyond(bundle, number)


def test_leave_running(bundle):
    start_counter(bundle)
    pid = bundle.state()['pid']
    good(checkpoint(bundle, '--leave-running'))
    assert bundle.state()['status'] == 'running' and bundle.state()['pid'] == pid
    number = count_beyond(bundle, count_of(bundle))
    bundle.call('delete', '--force', bundle.id)
    good(restore(bundle))
    assert count_beyond(bundle, 0) <= number + 100


def test_a_paused_one_stays_paused(bundle):
    start_counter(bundle)
    good(bundle.call('pause', bundle.id))
    number = count_of(bundle)
    good(checkpoint(bundle, '--leave-running'))
    assert bundle.state()['status'] == 'paused'
    time.sleep(0.2)
    assert count_of(bundle) == number
    good(bundle.call('resume', bundle.id))
    count_beyond(bundle, number)
    good(bundle.call('pause', bundle.id))
    good(checkpoint(bundle))
    good(restore(bundle))
    count_beyond(bundle, number)


def test_into_another_bundle_under_another_id(bundle, second):
    second.config = json.loads(json.dumps(bundle.config))
    bundle.linux['resources']['memory'] = second.linux['resources']['memory'] = {'limit': 64 << 20}
    start_counter(bundle)
    second.shell(COUNTER).save()
    good(checkpoint(bundle))
    number = count_of(bundle)
    shutil.copy(bundle.rootfs / 'tmp/count', second.rootfs / 'tmp/count')
    good(restore(second, images=bundle.path / 'images'))
    count_beyond(second, number)
    assert count_of(bundle) == number
    groups = pathlib.Path(f'/proc/{second.state()["pid"]}/cgroup').read_text().splitlines()
    assert groups and all(line.endswith('/' + second.id) for line in groups), groups
    assert bundle.remains() == []


@needs_systemd
def test_in_a_scope_of_systemds(bundle):
    bundle.globals = ('--systemd-cgroup',)
    bundle.linux['resources'].update({'pids': {'limit': 77}})
    start_counter(bundle)
    unit = f'runc-{bundle.id}.scope'
    good(checkpoint(bundle))
    number = count_of(bundle)
    assert shown(unit, 'ActiveState') == {'ActiveState': 'inactive'} and scopes(bundle) == []
    good(restore(bundle))
    assert group_of(bundle) == f'/system.slice/{unit}'
    assert shown(unit, 'ActiveState', 'TasksMax') == {'ActiveState': 'active', 'TasksMax': '77'}
    assert count_beyond(bundle, number) < number + 100
    assert bundle.exec('true').returncode == 0
    good(bundle.call('pause', bundle.id))
    good(bundle.call('resume', bundle.id))
    bundle.remove()
    assert scopes(bundle) == []


@pytest.mark.berth
@pytest.mark.parametrize('first, then', [('runc', 'berth'), ('berth', 'runc')])
def test_the_images_are_runcs(bundle, first, then, monkeypatch):
    programs = {'runc': os.path.join(ROOT, 'build/peers/oci/usr/sbin/runc'), 'berth': OURS}
    if not os.path.exists(programs['runc']):
        pytest.skip('runc is not here')
    for module in (sys.modules[__name__], conftest):
        monkeypatch.setattr(module, 'RUNTIME', programs[first])
    bundle.mount('/data', bundle.path, options=['rbind'])
    if then == 'runc':  # which gives a container no cgroup2 folder on a hybrid host, and can't restore ours
        bundle.config['mounts'] = [mount for mount in bundle.config['mounts'] if mount['type'] != 'cgroup']
    start_counter(bundle)
    good(checkpoint(bundle))
    number = count_of(bundle)
    for module in (sys.modules[__name__], conftest):
        monkeypatch.setattr(module, 'RUNTIME', programs[then])
    good(restore(bundle))
    assert count_beyond(bundle, number) < number + 100
    bundle.remove()


# ---- connections ----------------------------------------------------------------------------------------------------

@pytest.fixture
def network():
    """A network namespace for the container and one for its peer, joined by a veth pair."""
    names = [f'berth-{uuid.uuid4().hex[:8]}' for _ in range(2)]

    def ip(*words):
        subprocess.run(['ip', *words], check=True)
    try:
        for number, name in enumerate(names):
            ip('netns', 'add', name)
            ip('-n', name, 'link', 'set', 'lo', 'up')
        ip('-n', names[0], 'link', 'add', 'eth0', 'type', 'veth', 'peer', 'name', 'eth0', 'netns', names[1])
        for number, name in enumerate(names):
            ip('-n', name, 'address', 'add', f'10.203.7.{number + 1}/24', 'dev', 'eth0')
            ip('-n', name, 'link', 'set', 'eth0', 'up')
        yield [f'/run/netns/{name}' for name in names]
    finally:
        for name in names:
            subprocess.run(['ip', 'netns', 'delete', name], stderr=subprocess.DEVNULL)


PEER = '''
import socket, sys
listener = socket.create_server(("10.203.7.2", 7777))
print("listens", flush=True)
connection, _ = listener.accept()
for line in connection.makefile():
    print(line.strip(), flush=True)
print("end", flush=True)
'''


class Reader:
    """Lines of a stream as they come."""

    def __init__(self, stream):
        self.lines = []
        self.thread = threading.Thread(target=self.read, args=(stream,), daemon=True)
        self.thread.start()

    def read(self, stream):
        for line in stream:
            self.lines.append(line.strip())

    def until(self, len_, seconds=10):
        end = time.monotonic() + seconds
        while len(self.lines) < len_:
            assert time.monotonic() < end, self.lines
            time.sleep(0.02)
        return self.lines


def test_an_open_tcp_connection_with_a_peer_outside(bundle, network):
    peer = subprocess.Popen(['nsenter', '--net=' + network[1], '/usr/bin/python3', '-c', PEER], stdout=subprocess.PIPE, text=True)
    try:
        reader = Reader(peer.stdout)
        reader.until(1)
        (bundle.rootfs / 'bin/nc').symlink_to('busybox')
        bundle.namespace('network', network[0])
        up(bundle, 'i=0; while :; do i=$((i+1)); echo $i; sleep 0.05; done | nc 10.203.7.2 7777')
        reader.until(5)
        refused = checkpoint(bundle)
        assert refused.returncode == 1 and 'criu failed' in refused.stderr and bundle.state()['status'] == 'running'
        good(checkpoint(bundle, '--tcp-established'))
        time.sleep(0.5)
        before = len(reader.lines)
        time.sleep(0.5)
        assert len(reader.lines) == before, 'somebody still sends'
        good(restore(bundle, '--tcp-established'))
        lines = reader.until(before + 10)
        assert lines[1:] == [str(number + 1) for number in range(len(lines) - 1)], 'one connection, no number lost or twice'
        pid = bundle.state()['pid']
        assert os.stat(f'/proc/{pid}/ns/net').st_ino == os.stat(network[0]).st_ino
    finally:
        peer.kill()
        peer.wait()


@pytest.mark.berth  # runc fails here
def test_a_connection_over_the_containers_own_loopback(bundle):
    (bundle.rootfs / 'bin/nc').symlink_to('busybox')
    up(bundle, 'sleep 1000 | nc -l -p 7777 127.0.0.1 >/tmp/got & sleep 0.2; '
              'i=0; while :; do i=$((i+1)); echo $i; sleep 0.05; done | nc 127.0.0.1 7777')

    wait_for(bundle.rootfs / 'tmp/got')

    def got(more_than):
        end = time.monotonic() + 5
        while len((bundle.rootfs / 'tmp/got').read_text().splitlines()) <= more_than:
            assert time.monotonic() < end, (bundle.rootfs / 'tmp/got').read_text()
            time.sleep(0.02)
        return (bundle.rootfs / 'tmp/got').read_text().splitlines()
    got(5)
    good(checkpoint(bundle, '--tcp-established'))
    before = len((bundle.rootfs / 'tmp/got').read_text().splitlines())
    good(restore(bundle, '--tcp-established'))
    lines = got(before + 5)
    assert lines == [str(number + 1) for number in range(len(lines))]


@pytest.mark.parametrize('kind, flag', [('ipc', '--ipc'), ('uts', '--uts')])
def test_a_namespace_by_path_is_joined(bundle, kind, flag):
    start_counter(bundle)
    good(checkpoint(bundle))
    holder = subprocess.Popen(['unshare', flag, 'sleep', '60'])
    try:
        end = time.monotonic() + 5
        while os.stat(f'/proc/{holder.pid}/ns/{kind}').st_ino == os.stat(f'/proc/self/ns/{kind}').st_ino and time.monotonic() < end:
            time.sleep(0.02)
        bundle.config.pop('hostname')
        bundle.namespace(kind, f'/proc/{holder.pid}/ns/{kind}').save()
        number = count_of(bundle)
        good(restore(bundle))
        count_beyond(bundle, number)
        assert os.stat(f'/proc/{bundle.state()["pid"]}/ns/{kind}').st_ino == os.stat(f'/proc/{holder.pid}/ns/{kind}').st_ino
    finally:
        holder.kill()
        holder.wait()


# ---- mounts ---------------------------------------------------------------------------------------------------------

def test_bind_mounts_come_from_where_the_bundle_says(bundle, second, tmp_path):
    # It writes only what is new: a file that is open for writing would have to be in the other bundle as well.
    watch = 'while :; do read -r who </link/data/who; [ "$who" = "$old" ] || echo $who >/tmp/who; old=$who; sleep 0.05; done'
    for number, one in enumerate((bundle, second)):
        source = tmp_path / f'data{number}'
        (source / 'nested').mkdir(parents=True)
        (source / 'who').write_text(f'{number}\n')
        (tmp_path / f'file{number}').write_text(f'file {number}\n')
        (one.rootfs / 'real').mkdir()
        (one.rootfs / 'link').symlink_to('/real')
        one.mount('/link/data', source, options=['rbind', 'ro'])
        one.mount('/etc/file', tmp_path / f'file{number}', options=['bind'])
        one.mount('/link/data/nested', source / 'nested', options=['bind'])
        one.shell(watch).save()
    up(bundle, watch)
    time.sleep(0.3)  # the first one is written
    good(checkpoint(bundle))
    good(restore(second, images=bundle.path / 'images'))
    time.sleep(0.3)
    assert (second.rootfs / 'tmp/who').read_text() == '1\n'
    assert second.exec('cat', '/etc/file').stdout == 'file 1\n'
    assert second.exec('touch', '/link/data/x').returncode == 1, 'it was read-only'
    assert str(tmp_path / 'second/bundle/rootfs') not in open('/proc/self/mountinfo').read()


def test_what_was_masked_and_read_only_still_is(bundle):
    start_counter(bundle)
    seen = 'cat /proc/keys /proc/timer_list; ls /proc/acpi /sys/firmware; echo x 2>/dev/null >/proc/sys/kernel/panic || echo no; mount'
    before = bundle.exec('sh', '-c', seen).stdout
    good(checkpoint(bundle))
    good(restore(bundle))
    after = bundle.exec('sh', '-c', seen).stdout

    def facts(text):  # what is on what; a masked file is the host's /dev/null now, as runc has it
        lines = [line.split() for line in text.splitlines()]
        return sorted((words[2], words[-1].strip('(').split(',')[0]) if 'type' in words else tuple(words) for words in lines)
    assert facts(after) == facts(before)


@pytest.mark.berth  # runc fails here
def test_in_a_user_namespace(bundle):
    bundle.users()
    os.chmod(bundle.rootfs / 'tmp', 0o777)
    start_counter(bundle)
    good(checkpoint(bundle))
    number = count_of(bundle)
    good(restore(bundle))
    count_beyond(bundle, number)
    assert bundle.exec('cat', '/proc/1/uid_map').stdout.split() == ['0', '100000', '65536']


IDS = [{'containerID': 1234, 'hostID': 42, 'size': 1}]


@pytest.mark.berth  # runc brings it back without its map
@conftest.needs_linux(6, 3, 'for id maps on a tmpfs, where a guest has the bundles')
def test_a_bind_with_an_id_map_has_it_again(bundle, tmp_path):
    """Beside an equal one without, and a file."""
    (tmp_path / 'data').mkdir()
    for name in ('data/file', 'single'):
        (tmp_path / name).touch()
        os.chown(tmp_path / name, 1234, 1234)
    for target, source, options in ('/data', 'data', ['bind', 'ro']), ('/plain', 'data', ['bind']), ('/one', 'single', ['bind']):
        bundle.mount(target, tmp_path / source, options=options)
        if target != '/plain':
            bundle.config['mounts'][-1].update(uidMappings=IDS, gidMappings=IDS)

    def owners():
        return bundle.exec('stat', '-c', '%u:%g', '/data/file', '/plain/file', '/one').stdout.split()
    start_counter(bundle)
    assert owners() == ['42:42', '1234:1234', '42:42']
    good(checkpoint(bundle))
    good(restore(bundle))
    assert owners() == ['42:42', '1234:1234', '42:42']
    assert bundle.exec('touch', '/data/x').returncode == 1, 'it was read-only'
    count_beyond(bundle, count_of(bundle))


@pytest.mark.berth
@conftest.needs_linux(6, 3, 'maps ids of a tmpfs')
@pytest.mark.parametrize('leave', [False, True])
def test_a_tmpfs_with_an_id_map_has_its_files_and_the_map_again(bundle, leave):
    """With owner, mode and options."""
    ids = [{'containerID': 0, 'hostID': 0, 'size': 1000}, {'containerID': 1000, 'hostID': 5000, 'size': 10}]
    bundle.mount('/data', 'tmpfs', 'tmpfs', ['mode=750', 'nosuid'])
    bundle.config['mounts'][-1].update(uidMappings=ids, gidMappings=ids)
    bundle.all_capabilities()
    up(bundle, 'mkdir -m 700 /data/d; echo kept >/data/d/file; ln -s d/file /data/link; chown 5003:42 /data/d/file; '
       'exec 7</data/d/file; ' + COUNTER)
    wait_for(bundle.rootfs / 'tmp/count')
    show = 'stat -c %u:%g:%a /data /data/d /data/d/file; readlink /data/link; grep -o "/data [^ ]*" /proc/self/mountinfo; readlink /proc/1/fd/7'

    def seen():
        return good(bundle.exec('sh', '-c', show)).stdout.splitlines()
    before = seen()
    assert before[:4] == ['0:0:750', '0:0:700', '5003:42:644', 'd/file'] and 'nosuid' in before[4]
    good(checkpoint(bundle, *['--leave-running'] * leave))
    if leave:
        bundle.exec('rm', '/data/d/file')
        bundle.call('kill', bundle.id, 'KILL')
        bundle.wait('stopped')
        assert bundle.call('delete', bundle.id).returncode == 0
    good(restore(bundle))
    assert seen() == before
    count_beyond(bundle, count_of(bundle))
    assert bundle.exec('busybox', 'chown', '5009', '/data/d/file').returncode == 0
    assert bundle.exec('busybox', 'chown', '1003', '/data/d/file').returncode == 1, 'an id that the map has no place for'


@pytest.mark.berth
@conftest.needs_linux(6, 3, 'maps ids of a tmpfs')
def test_another_file_system_with_an_id_map_is_refused(bundle):
    start_counter(bundle)
    config = bundle.root / bundle.id / 'config.json'
    document = json.loads(config.read_text())
    document['mounts'].append({'destination': '/data', 'type': 'ext4', 'source': '/dev/none', 'uidMappings': IDS, 'gidMappings': IDS})
    config.write_text(json.dumps(document))
    refused(checkpoint(bundle), 'of its own (ext4) with an id map, which CRIU')
    count_beyond(bundle, count_of(bundle))


def test_without_pivot(bundle):
    """Here it only changes the way; where the root is a ramdisk nothing else goes: test_ramdisk.py."""
    start_counter(bundle, '--no-pivot')
    good(checkpoint(bundle))
    number = count_of(bundle)
    good(restore(bundle, '--no-pivot'))
    assert count_beyond(bundle, number) < number + 100
    assert bundle.exec('ls', '/').stdout == ''.join(f'{name}\n' for name in sorted(os.listdir(bundle.rootfs)))


# ---- streams and terminals ------------------------------------------------------------------------------------------

def test_pipes_are_those_of_restore_and_the_exit_code_is_given(bundle):
    bundle.shell('trap "exit 7" TERM; while :; do read word || exit 1; echo got $word; done').save()
    first, second_ = os.pipe(), os.pipe()
    command = [RUNTIME, '--root', str(bundle.root), *bundle.globals, 'run', '-d', '-b', str(bundle.path / 'bundle'), bundle.id]
    subprocess.run(command, stdin=first[0], stdout=second_[1], stderr=subprocess.DEVNULL, check=True)
    os.write(first[1], b'one\n')
    assert os.read(second_[0], 100) == b'got one\n'
    good(checkpoint(bundle))
    for fd in (*first, *second_):
        os.close(fd)
    process = subprocess.Popen(restore_command(bundle), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0)
    process.stdin.write(b'two\n')
    assert process.stdout.readline() == b'got two\n'
    assert bundle.state()['status'] == 'running'
    process.send_signal(signal.SIGTERM)  # passed on
    with contextlib.suppress(BrokenPipeError):  # a shell that ended its read at once is gone
        process.stdin.write(b'three\n')
    assert process.wait(timeout=10) == 7
    process.stdin.close()
    process.stdout.close()
    assert bundle.remains() == []


@pytest.mark.berth  # runc fails here
def test_the_run_that_waited_ends_and_leaves_the_restored_one_alone(bundle):
    bundle.shell(COUNTER).save()
    command = [RUNTIME, '--root', str(bundle.root), 'run', '-b', str(bundle.path / 'bundle'), bundle.id]
    run = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(bundle.rootfs / 'tmp/count')
    count_beyond(bundle, 3)
    run.send_signal(signal.SIGSTOP)  # it learns of it only when the id is somebody else's
    try:
        good(checkpoint(bundle))
        good(restore(bundle))
    finally:
        run.send_signal(signal.SIGCONT)
    assert run.wait(timeout=10) == 137
    assert bundle.state()['status'] == 'running'
    count_beyond(bundle, count_of(bundle))


def take_console(listener):
    """The terminal's master that is sent to a console socket."""
    listener.settimeout(10)
    connection, _ = listener.accept()
    _, control, _, _ = connection.recvmsg(64, socket.CMSG_SPACE(4))
    connection.close()
    return array.array('i', control[0][2])[0]


def read_until(fd, word, seconds=10):
    text, end = b'', time.monotonic() + seconds
    while word not in text:
        assert time.monotonic() < end, text
        text += os.read(fd, 1000)
    return text


def test_a_terminal_goes_to_the_console_socket(bundle):
    path = str(bundle.path / 'console')
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        bundle.process['terminal'] = True
        bundle.args('sh')
        good(bundle.create('--console-socket', path))
        master = take_console(listener)
        good(bundle.call('start', bundle.id))
        os.write(master, b'x=kept; echo begin $x\n')
        read_until(master, b'begin kept')
        good(checkpoint(bundle))
        os.close(master)
        good(restore(bundle, '--console-socket', path))
        master = take_console(listener)
        os.write(master, b'echo again $x; tty\n')
        text = read_until(master, b'/dev/')
        assert b'again kept' in text
        os.close(master)


def run_on_terminal(command):
    """A program whose terminal is a new pty; its process and the master."""
    pid, master = pty.fork()
    if pid == 0:
        os.execvp(command[0], command)
    return pid, master


def test_a_shell_job_on_a_terminal(bundle):
    bundle.process['terminal'] = True
    bundle.args('sh').save()
    command = [RUNTIME, '--root', str(bundle.root), 'run', '-b', str(bundle.path / 'bundle'), bundle.id]
    pid, master = run_on_terminal(command)
    os.write(master, b'x=kept; echo begin $x\n')
    read_until(master, b'begin kept')
    good(checkpoint(bundle, '--shell-job'))
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 137
    os.close(master)
    pid, master = run_on_terminal(restore_command(bundle, '--shell-job'))
    os.write(master, b'echo again $x\n')
    read_until(master, b'again kept')
    os.write(master, b'exit 5\n')
    try:
        read_until(master, b'never')
    except OSError:
        pass  # the terminal's end
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 5
    os.close(master)
    assert bundle.remains() == []


# ---- pages by other ways --------------------------------------------------------------------------------------------

def free_port():
    with socket.create_server(('127.0.0.1', 0)) as listener:
        return listener.getsockname()[1]


def test_pages_go_to_a_page_server(bundle):
    start_counter(bundle)
    images, port = bundle.path / 'images', free_port()
    images.mkdir()
    command = ['criu', 'page-server', '--images-dir', str(images), '--address', '127.0.0.1', '--port', str(port), '-o', 'server.log', '-v4']
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for_line(images / 'server.log', 'status-ready')
        good(checkpoint(bundle, '--page-server', f'127.0.0.1:{port}'))
        assert server.wait(timeout=10) == 0
        assert list(images.glob('pages-*.img'))
        number = count_of(bundle)
        good(restore(bundle))
        assert count_beyond(bundle, number) < number + 100
    finally:
        server.kill()
        server.wait()


def test_memory_comes_when_it_is_touched(bundle):
    start_counter(bundle)
    good(checkpoint(bundle))
    images, number = bundle.path / 'images', count_of(bundle)
    daemon = subprocess.Popen(['criu', 'lazy-pages', '--images-dir', str(images), '-o', 'lazy.log', '-v4'], stdin=subprocess.DEVNULL,
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(images / 'lazy-pages.socket')
        good(restore(bundle, '--lazy-pages'))
        assert count_beyond(bundle, number) < number + 100
        assert daemon.wait(timeout=20) == 0
        count_beyond(bundle, count_of(bundle))
        assert 'uffd: 1-' in (images / 'lazy.log').read_text(), 'the pages came from it'
    finally:
        daemon.kill()
        daemon.wait()


def test_a_lazy_checkpoint_says_when_it_serves(bundle):
    """Its other end goes without having asked for a page: CRIU takes that for the end of the move. (A page that is asked for
    takes CAP_SYS_RESOURCE to serve.)"""
    start_counter(bundle)
    images, port = bundle.path / 'images', free_port()
    ready, status = os.pipe()
    command = [RUNTIME, '--root', str(bundle.root), 'checkpoint', '--image-path', str(images), '--lazy-pages',
               '--page-server', f'127.0.0.1:{port}', '--status-fd', str(status), bundle.id]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, pass_fds=[status])
    os.close(status)
    assert os.read(ready, 10) == b'\0'
    assert (images / 'inventory.img').exists()
    number = count_of(bundle)
    time.sleep(0.3)
    assert count_of(bundle) == number
    socket.create_connection(('127.0.0.1', port)).close()
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 0, errors
    assert os.read(ready, 10) == b''
    assert bundle.remains() == []
    os.close(ready)


# ---- hooks ----------------------------------------------------------------------------------------------------------

def test_hooks_run_where_runc_has_them(bundle):
    log = bundle.path / 'hooks'
    for kind in ('prestart', 'createRuntime', 'poststart', 'poststop'):
        bundle.hook(kind, f'echo {kind} >>{log}')
    start_counter(bundle)
    log.write_text('')
    good(checkpoint(bundle))
    assert log.read_text().split() == ['poststop']
    log.write_text('')
    good(restore(bundle))
    assert log.read_text().split() == ['prestart', 'createRuntime']


@pytest.mark.berth
def test_a_hook_that_fails_ends_the_restore(bundle):
    start_counter(bundle)
    good(checkpoint(bundle))
    bundle.hook('createRuntime', 'echo broken >&2; exit 3').save()
    done = restore(bundle)
    assert done.returncode == 1 and 'error running createRuntime hook #0' in done.stderr and 'broken' in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert bundle.remains() == []


@pytest.mark.berth
def test_a_killed_restore_is_found_by_delete(bundle):
    start_counter(bundle)
    good(checkpoint(bundle))
    mark = bundle.path / 'mark'
    bundle.hook('createRuntime', f'touch {mark}; sleep 3').save()
    process = subprocess.Popen(restore_command(bundle, '-d'), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(mark)
    process.kill()
    process.wait()
    good(bundle.call('delete', '--force', bundle.id))
    assert bundle.remains() == []


# ---- what is refused ------------------------------------------------------------------------------------------------

def refused(done, *words):
    lines = done.stderr.strip().splitlines()
    assert done.returncode == 1 and len(lines) == 1, (done.returncode, done.stderr)
    for word in words:
        assert word in lines[0], lines[0]


@pytest.mark.berth
def test_pre_dump_says_what_the_kernel_lacks(bundle):
    if not lacks_dirty_tracking():
        pytest.skip('this kernel tracks dirty pages')
    start_counter(bundle)
    refused(checkpoint(bundle, '--pre-dump'), '--pre-dump', 'MemTrack')
    refused(checkpoint(bundle, '--parent-path', 'parent'), '--parent-path', 'MemTrack')
    assert not (bundle.path / 'images').exists()
    count_beyond(bundle, count_of(bundle))


def pages_size(folder):
    return sum(path.stat().st_size for path in folder.glob('pages-*.img'))


def test_a_dump_has_only_what_a_pre_dump_has_not(bundle):
    """16 MiB that nobody writes to after the first pre-dump, in a process that does not fork: a child that was caught before its exec would
    have them once more."""
    if lacks_dirty_tracking():
        pytest.skip('this kernel does not track dirty pages')
    up(bundle, 'sleep 1000 | { x=$(dd if=/dev/zero bs=1M count=16 2>/dev/null | tr "\\0" x); : > /tmp/held; read y; } & ' + COUNTER)
    wait_for(bundle.rootfs / 'tmp/held', 60)
    wait_for(bundle.rootfs / 'tmp/count', 60)
    images = bundle.path / 'images'
    images.mkdir()
    for folder, parent in ('first', None), ('second', 'first'):
        words = ['--pre-dump', *(['--parent-path', f'../{parent}'] if parent else [])]
        good(bundle.call('checkpoint', '--image-path', str(images / folder), *words, bundle.id))
        count_beyond(bundle, count_of(bundle), 20)
        assert bundle.state()['status'] == 'running'
    good(bundle.call('checkpoint', '--image-path', str(images / 'last'), '--parent-path', '../second', bundle.id))
    assert pages_size(images / 'first') > 16 << 20 > 8 * pages_size(images / 'last') > 0
    assert (images / 'last' / 'parent').resolve() == images / 'second'
    number = count_of(bundle)
    good(restore(bundle, images=images / 'last'))
    assert count_beyond(bundle, number, 20) < number + 100


def lacks_dirty_tracking():
    with tempfile.TemporaryDirectory() as folder:  # where it leaves a log
        return subprocess.run(['criu', 'check', '--feature', 'mem_dirty_track'], cwd=folder, stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL).returncode != 0


@pytest.mark.berth
@pytest.mark.parametrize('words, said', [
    (['--manage-cgroups-mode', 'wild'], 'invalid manage-cgroups-mode value'),
    (['--empty-ns', 'pid'], 'is not supported'),
    (['--parent-path', '/parent'], '--parent-path must be relative'),
    (['--page-server', 'nowhere'], '--page-server ADDRESS:PORT'),
    (['--page-server', 'host:99999'], 'Invalid port number'),
    (['--status-fd', '2'], '--status-fd is of use only with --lazy-pages'),
    (['--lazy-pages', '--status-fd', '99'], 'invalid --status-fd argument 99'),
    (['--lazy-pages', '--status-fd', 'x'], 'invalid --status-fd argument x'),
])
def test_wrong_flags_of_checkpoint(bundle, words, said):
    start_counter(bundle)
    refused(checkpoint(bundle, *words), said)
    assert bundle.state()['status'] == 'running'
    count_beyond(bundle, count_of(bundle))


@pytest.mark.berth
def test_checkpoint_of_what_can_not_be(bundle, tmp_path):
    refused(checkpoint(bundle), 'container does not exist')
    bundle.shell(COUNTER)
    good(bundle.create())
    refused(checkpoint(bundle), 'Container cannot be checkpointed in created state')
    good(bundle.call('start', bundle.id))
    wait_for(bundle.rootfs / 'tmp/count')
    (tmp_path / 'file').write_text('')
    refused(bundle.call('checkpoint', '--image-path', str(tmp_path / 'file'), bundle.id), '--image-path')
    refused(checkpoint(bundle, '--work-path', str(tmp_path / 'file')), '--work-path')
    refused(checkpoint(bundle, globals=['--criu', '/nowhere/criu']), '/nowhere/criu: no such program')
    count_beyond(bundle, count_of(bundle))
    good(bundle.call('kill', bundle.id, 'KILL'))
    bundle.wait('stopped')
    refused(checkpoint(bundle), 'Container cannot be checkpointed in stopped state')


@pytest.mark.berth
def test_without_criu(bundle, monkeypatch):
    start_counter(bundle)
    monkeypatch.setenv('PATH', '/usr/bin:/bin')
    refused(checkpoint(bundle), 'criu: no such program')
    assert not (bundle.path / 'images').exists()
    good(checkpoint(bundle, globals=['--criu', os.path.join(CRIU, 'criu')]))
    refused(restore(bundle), 'criu: no such program')
    assert bundle.remains() == []
    command = restore_command(bundle, '-d')
    command[1:1] = ['--criu', os.path.relpath(os.path.join(CRIU, 'criu'))]
    subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True, timeout=30)
    assert bundle.state()['status'] == 'running'


@pytest.mark.berth
def test_a_criu_that_is_none(bundle):
    start_counter(bundle)
    refused(checkpoint(bundle, globals=['--criu', '/bin/false']), 'criu failed: it ended without an answer')
    count_beyond(bundle, count_of(bundle))


@pytest.mark.berth
def test_restore_of_what_can_not_be(bundle, second, tmp_path):
    start_counter(bundle)
    second.shell(COUNTER).save()
    refused(restore(second, images=tmp_path / 'nowhere'), '--image-path', 'nowhere')
    assert not (tmp_path / 'nowhere').exists()
    (tmp_path / 'empty').mkdir()
    refused(restore(second, images=tmp_path / 'empty'), 'empty holds no checkpoint')
    good(checkpoint(bundle, '--leave-running'))
    refused(restore(bundle), 'container with given ID already exists')
    assert bundle.state()['status'] == 'running'
    images = bundle.path / 'images'
    refused(restore(second, '--manage-cgroups-mode', 'wild', images=images), 'invalid manage-cgroups-mode value')
    shutil.copytree(images, tmp_path / 'broken')
    (tmp_path / 'broken/descriptors.json').write_text('{')
    refused(restore(second, images=tmp_path / 'broken'), 'broken')
    (tmp_path / 'broken/descriptors.json').unlink()
    refused(restore(second, images=tmp_path / 'broken'), 'descriptors.json')
    shutil.copy(images / 'descriptors.json', tmp_path / 'broken')
    (tmp_path / 'broken/pstree.img').write_bytes(b'nothing')
    refused(restore(second, images=tmp_path / 'broken'), 'criu failed: type RESTORE', 'restore.log')
    shutil.rmtree(second.path / 'bundle')
    refused(restore(second, images=images), 'chdir')
    assert second.remains() == []
