"""What each caller does with a container, all of it by berth-oci."""
import concurrent.futures
import os
import pty
import select
import subprocess
import time

import pytest

from conftest import wait_until

# The count changes as a whole: a container may be paused at any moment, and then it stays as it is.
LOOP = 'trap "exit 3" TERM; i=0; while :; do i=$((i+1)); echo $i >/shared/new; mv /shared/new /shared/count; sleep 0.05; done'


def up(caller, name, shared, options=()):
    caller.up(name, 'sh', '-c', LOOP, options=[*caller.bind(shared, '/shared'), *options])
    wait_until((shared / 'count').exists, what='it runs')


def count(shared):
    return wait_until(lambda: (shared / 'count').read_text().strip())


def only_state(caller):
    assert len(caller.listed()) == 1, 'berth-oci is what runs it'
    return next(iter(caller.listed().values()))


def test_run_gives_output_and_exit_code(caller, name):
    done = caller.run(name, 'sh', '-c', 'echo hello; exit 7')
    assert (done.stdout.strip(), done.returncode) == ('hello', 7), done.stderr


def test_a_program_that_is_not_there(caller, name):
    done = caller.run(name, 'nothing-of-that-name')
    assert done.returncode in (1, 127) and 'executable file not found in $PATH' in done.stderr


def test_a_life(caller, name, shared):
    """run, exec, pause, unpause, stop, remove."""
    up(caller, name, shared)
    assert caller.status(name).startswith(('running', 'up'))
    assert only_state(caller) == 'running'

    done = caller.exec(name, 'sh', '-c', 'cat /proc/1/comm; id -u; echo wrong >&2; exit 5')
    assert (done.returncode, done.stdout.split()) == (5, ['sh', '0']) and 'wrong' in done.stderr

    if caller.has_cgroups:
        caller.pause(name)
        assert caller.status(name) == 'paused' and only_state(caller) == 'paused'
        before = count(shared)
        time.sleep(0.3)
        assert count(shared) == before
        caller.unpause(name)
        assert caller.status(name) == 'running' and only_state(caller) == 'running'
        wait_until(lambda: count(shared) != before, what='it goes on')

    caller.stop(name)
    assert caller.status(name) == 'exited'
    assert caller.exit_code(name) == 3
    caller.remove(name)
    assert caller.listed() == {}


def test_kill(caller, name, shared):
    up(caller, name, shared)
    caller.kill(name)
    wait_until(lambda: caller.status(name) == 'exited')
    assert caller.exit_code(name) == 137


def read_until(master, word):
    said = b''
    while word not in said:
        assert select.select([master], [], [], 20)[0], said
        try:
            said += os.read(master, 1000)
        except OSError:  # the other side is closed
            break
    assert word in said, said


def test_a_terminal(caller, name):
    master, slave = pty.openpty()
    command = caller.on_terminal(name, 'sh', '-c', 'tty; read line; echo got $line')
    process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, start_new_session=True, cwd=caller.folder,
                               env={**os.environ, **caller.environment, 'TERM': 'xterm'}, **caller.as_user)
    os.close(slave)
    read_until(master, b'/dev/pts/0')
    os.write(master, b'word\n')
    read_until(master, b'got word')
    assert process.wait(20) == 0
    os.close(master)


def test_limits_reach_the_cgroup(caller, name, shared):
    if not caller.has_cgroups:
        pytest.skip('a user has no cgroup on v1')
    up(caller, name, shared, options=caller.memory_limit(64))
    with open(f'/proc/{caller.pid()}/cgroup') as lines:
        groups = dict(line.strip().split(':', 2)[1:] for line in lines)
    file = f'/sys/fs/cgroup/memory{groups["memory"]}/memory.limit_in_bytes' if 'memory' in groups else f'/sys/fs/cgroup{groups[""]}/memory.max'
    assert int(open(file).read()) == 64 << 20


def test_its_processes(caller, name, shared):
    up(caller, name, shared)
    assert len(caller.processes(name).splitlines()) >= 2


def test_a_network_of_its_own(caller, name):
    if not caller.has_network:
        pytest.skip('ctr makes no network')
    done = caller.run(name, 'sh', '-c', 'ip -o -4 addr; ip route')
    assert done.returncode == 0, done.stderr
    assert ' lo ' in done.stdout and 'default via ' in done.stdout


def test_several_execs_at_once(caller, name, shared):
    up(caller, name, shared)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda number: caller.exec(name, 'sh', '-c', f'sleep 0.1; exit {number}'), range(1, 5)))
    assert [one.returncode for one in done] == [1, 2, 3, 4]
