"""docker logs."""
import re
import time

import pytest


def test_logs_of_a_finished_container(docker, name):
    docker.ok('run', '-d', '--name', name, 'bb', 'sh', '-c', 'echo out; echo err >&2; printf unended')
    docker.ok('wait', name)
    result = docker('logs', name)
    assert (result.code, result.out, result.err) == (0, 'out\nunended', 'err\n')


def test_tail(docker, name):
    docker.ok('run', '--name', name, 'bb', 'seq', '100')
    assert docker.ok('logs', '--tail', '3', name).split() == ['98', '99', '100']
    assert docker.ok('logs', '--tail', '0', name) == ''
    assert len(docker.ok('logs', '--tail', 'all', name).split()) == 100
    assert len(docker.ok('logs', '-n', '1000', name).split()) == 100


def test_timestamps(docker, name):
    docker.ok('run', '--name', name, 'bb', 'echo', 'hello')
    assert re.fullmatch(r'\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z hello', docker.ok('logs', '-t', name))


def test_since_and_until(docker, name):
    docker.ok('run', '--name', name, 'bb', 'sh', '-c', 'echo early; sleep 2; echo late')
    middle = docker.ok('logs', '-t', '--tail', '1', name).split(' ')[0]
    assert docker.ok('logs', '--since', middle, name) == 'late'
    assert docker.ok('logs', '--until', middle[:19] + '.000000000Z', name) == 'early'


@pytest.mark.short_vm
def test_follow_until_the_end(docker, name):
    docker.ok('run', '-d', '--name', name, 'bb', 'sh', '-c', 'for i in 1 2 3 4 5; do echo $i; sleep 0.2; done')
    began = time.monotonic()
    assert docker.ok('logs', '-f', name).split() == ['1', '2', '3', '4', '5']
    assert time.monotonic() - began < 8


def test_follow_shows_lines_as_they_come(docker, name):
    docker.ok('run', '-d', '--name', name, 'bb', 'sh', '-c', 'echo first; sleep 1; echo second; sleep 100')
    with docker.popen('logs', '-f', name) as follower:
        assert follower.stdout.readline() == b'first\n'
        assert follower.stdout.readline() == b'second\n'
        follower.kill()


def test_ten_thousand_lines(docker, name):
    docker.ok('run', '--name', name, 'bb', 'seq', '10000')
    assert docker.ok('logs', name).split() == [str(i) for i in range(1, 10001)]


def test_a_line_longer_than_any_buffer(docker, name):
    docker.ok('run', '--name', name, 'bb', 'sh', '-c', 'head -c 200000 /dev/zero | tr "\\0" x; echo end')
    assert docker('logs', name).out == 'x' * 200_000 + 'end\n'


def test_bytes_that_are_no_text(docker, name):
    docker.ok('run', '--name', name, 'bb', 'printf', 'quote" back\\\\slash tab\\t bell\\a ünï\\n')
    assert docker('logs', name).out == 'quote" back\\slash tab\t bell\a ünï\n'


def test_logs_of_a_terminal(docker, name, terminal):
    shell = terminal('run', '-it', '--name', name, 'bb', 'echo', 'on a terminal')
    shell.wait()
    assert 'on a terminal' in docker.ok('logs', name)


def test_logs_of_nothing(docker):
    result = docker('logs', 'nosuch')
    assert result.code == 1 and 'No such container: nosuch' in result.err
