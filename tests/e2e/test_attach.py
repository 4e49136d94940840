"""docker attach, and leaving again by the detach keys."""
import os
import signal
import subprocess
import time

import pytest

from engines import read, SLOWER, wait_until


def test_attach_sees_output_and_code(docker, name):
    docker.ok('run', '-d', '--name', name, 'bb', 'sh', '-c', 'sleep 1; echo hello; exit 4')
    result = docker('attach', name)
    assert (result.code, result.out) == (4, 'hello\n')


def test_attach_to_what_does_not_run(docker, name):
    docker.ok('create', '--name', name, 'bb')
    assert docker('attach', name).code == 1
    assert docker('attach', 'nosuch').code == 1


def test_attach_gives_stdin(docker, name):
    docker.ok('run', '-d', '-i', '--name', name, 'bb', 'sh', '-c', 'read line; echo got $line; exit 2')
    # stdin stays open: its end would end this attach before the answer.
    with docker.popen('attach', name, stdin=subprocess.PIPE) as client:
        client.stdin.write(b'a word\n')
        client.stdin.flush()
        assert client.stdout.readline() == b'got a word\n'
        assert client.wait(10 * SLOWER) == 2


@pytest.mark.short_vm
def test_detach_keys_leave_the_container_running(docker, name, terminal):
    shell = terminal('run', '-it', '--name', name, 'bb', 'sh')
    shell.expect('#')
    shell.send('X=kept\n')
    shell.expect('#')
    shell.send('\x10\x11')  # ctrl-p ctrl-q
    assert shell.wait() == 0
    assert docker.inspect(name)['State']['Running']

    again = terminal('attach', name)
    again.send('echo $X\n')
    again.expect('kept\r\n')
    again.send('exit 3\n')
    assert again.wait() == 3


def test_other_detach_keys(docker, name, terminal):
    shell = terminal('run', '-it', '--detach-keys', 'ctrl-x,d', '--name', name, 'bb', 'sh')
    shell.expect('#')
    shell.send('\x18d')
    assert shell.wait() == 0
    assert docker.inspect(name)['State']['Running']


def test_detach_from_an_exec(docker, name, terminal):
    docker.ok('run', '-d', '--name', name, 'bb', 'sleep', '100')
    shell = terminal('exec', '-it', name, 'sh')
    shell.expect('#')
    shell.send('\x10\x11')
    shell.wait()
    assert docker.inspect(name)['State']['Running']


def test_two_attached_see_the_same(docker, name):
    docker.ok('run', '-d', '--name', name, 'bb', 'sh', '-c', 'sleep 1.5; seq 1000')
    both = [docker.popen('attach', name) for _ in range(2)]
    expected = ''.join(f'{i}\n' for i in range(1, 1001)).encode()
    assert [one.communicate(timeout=30 * SLOWER)[0] for one in both] == [expected, expected]


@pytest.mark.differs_today('lets a stopped reader hold the container')
def test_a_reader_who_stops_holds_nobody(docker, name):
    docker.ok('run', '-d', '--name', name, 'bb', 'sh', '-c', 'sleep 1; yes 0123456789 | head -c 8000000; echo; echo end')
    stopped = docker.popen('attach', name)
    time.sleep(0.5)
    client = int(read(f'/proc/{stopped.pid}/task/{stopped.pid}/children').split()[0])  # the child of timeout(1)
    os.kill(client, signal.SIGSTOP)
    try:
        wait_until(lambda: docker.inspect(name)['State']['Status'] == 'exited', 30, 'the container ends', step=0.2)
        assert docker('logs', '--tail', '1', name).out == 'end\n'
    finally:
        os.kill(client, signal.SIGKILL)
        stopped.communicate()


def test_stdin_ends_with_a_client_that_dies_busy(docker, name):
    """`yes | docker run -i IMAGE cat | head -1`: the client dies of a closed pipe while bytes flow both ways."""
    client = ' '.join(docker.command('run', '-i', '--name', name, 'bb', 'cat', seconds=30))
    out = subprocess.run(f'yes | {client} | head -n 1', shell=True, env=docker.environment(), stdout=subprocess.PIPE,
                         stderr=subprocess.DEVNULL, timeout=60).stdout
    assert out == b'y\n'
    wait_until(lambda: not docker.inspect(name)['State']['Running'], 20, 'the container ends')
