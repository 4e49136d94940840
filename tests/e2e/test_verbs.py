"""The edges of rename, stop, restart, kill and wait: what Docker answers, seen on both engines."""
import threading
import time

import pytest

from engines import SLOWER, is_up, wait_until

COUNTING = 'trap "echo term; exit 11" TERM; trap "echo usr1; exit 12" USR1; trap "echo int; exit 13" INT; echo up; while :; do sleep 0.05; done'
DEAF = 'trap "" TERM; echo up; while :; do sleep 0.05; done'


def state(docker, name):
    return docker.inspect(name)['State']


def start(docker, name, script, *options):
    docker.ok('run', '-d', '--name', name, *options, 'bb', 'sh', '-c', script)
    is_up(docker, name)


# ---- rename ---------------------------------------------------------------------------------------------------------

def test_rename(docker, api, name):
    began = f'{time.time():.9f}'
    start(docker, name, COUNTING)
    docker.ok('rename', name, name + '2')
    assert docker.inspect(name + '2')['Name'] == f'/{name}2' and docker('inspect', name).code == 1
    docker.ok('rename', '/' + name + '2', name + '3')
    docker.ok('run', '--name', name, 'bb', 'true')  # the old name is free
    docker.ok('restart', '-t', '0', name + '3')
    assert docker.ok('ps', '--filter', f'name={name}3', '--format', '{{.Names}}') == name + '3'
    lines = docker.ok('events', '--since', began, '--until', f'{time.time():.9f}', '-f', 'event=rename', '--format',
                      '{{.Actor.Attributes.oldName}} {{.Actor.Attributes.name}}').splitlines()
    assert lines == [f'/{name} {name}2', f'/{name}2 {name}3']


def test_names_that_can_not_be(docker, api, name):
    first = api.post(f'/containers/create?name={name}', {'Image': 'bb'}).json['Id']
    api.post(f'/containers/create?name={name}b', {'Image': 'bb'})
    for new, status, message in (('a', 400, 'Error when allocating new name: Invalid container name (/a), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed'),
                                 ('%2D', 400, 'Error when allocating new name: Invalid container name (/-), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed'),
                                 (name, 400, 'Renaming a container with the same name as its current name'),
                                 (name + 'b', 409, f'Error when allocating new name: Conflict. The container name "/{name}b" is already in use by container')):
        answer = api.post(f'/containers/{first}/rename?name={new}')
        assert answer.status == status and message in answer.message, answer
    answer = api.post(f'/containers/{first}/rename?name=')
    assert answer.status == 400 and 'Neither old nor new names may be empty' in answer.message
    assert api.post('/containers/nosuch/rename?name=x1').status == 404
    assert docker.inspect(first)['Name'] == '/' + name


# ---- stop -----------------------------------------------------------------------------------------------------------

def test_stop_timeout_of_the_container(docker, name):
    start(docker, name, DEAF, '--stop-timeout', '1')
    assert docker.inspect(name)['Config']['StopTimeout'] == 1
    began = time.monotonic()
    docker.ok('stop', name)
    assert 0.9 < time.monotonic() - began < 9 * SLOWER  # ten is the default
    assert state(docker, name)['ExitCode'] == 137


def test_a_stop_timeout_of_zero(docker, name):
    start(docker, name, DEAF, '--stop-timeout', '0')
    began = time.monotonic()
    docker.ok('stop', name)
    assert time.monotonic() - began < 4 * SLOWER and state(docker, name)['ExitCode'] == 137


def test_stop_without_end(docker, name):
    start(docker, name, 'trap "sleep 2; exit 9" TERM; echo up; while :; do sleep 0.05; done', '--stop-timeout', '1')
    docker.ok('stop', '-t', '-1', name)
    assert state(docker, name)['ExitCode'] == 9


@pytest.mark.differs('knows no signal of a stop')
@pytest.mark.new_client('no -s of stop')
def test_the_signal_of_a_stop(docker, name):
    start(docker, name, COUNTING)
    docker.ok('stop', '-s', 'USR1', name)
    assert state(docker, name)['ExitCode'] == 12


def test_the_stop_signal_of_the_container_is_for_stop(docker, name):
    start(docker, name, COUNTING, '--stop-signal', 'INT')
    docker.ok('stop', name)
    assert state(docker, name)['ExitCode'] == 13
    docker.ok('start', name)
    wait_until(lambda: docker.ok('logs', name).count('up') == 2, 10)
    docker.ok('kill', '-s', 'TERM', name)
    assert docker.ok('wait', name) == '11'


@pytest.mark.differs_today('knows no signal of a stop, or takes a bad one for its own fault')
def test_a_bad_signal_of_a_stop(docker, api, name):
    start(docker, name, COUNTING)
    for verb in 'stop', 'restart':
        answer = api.post(f'/v1.45/containers/{name}/{verb}?signal=NOSUCH')
        assert answer.status == 400 and 'invalid signal: NOSUCH' in answer.message, answer
    assert state(docker, name)['Running']


def test_stop_of_a_paused_container(docker, name):
    start(docker, name, COUNTING)
    docker.ok('pause', name)
    docker.ok('stop', '-t', '5', name)
    assert state(docker, name)['Status'] == 'exited' and state(docker, name)['ExitCode'] == 11


def test_stop_answers(docker, api, name):
    docker.ok('create', '--name', name, 'bb', 'sleep', '100')
    assert api.post(f'/containers/{name}/stop').status == 304
    assert api.post(f'/containers/{name}/start').status == 204
    assert api.post(f'/containers/{name}/start').status == 304
    assert api.post(f'/containers/{name}/stop?t=0').status == 204
    assert api.post(f'/containers/{name}/stop?t=x').status in (400, 500)
    assert api.post(f'/containers/{name}/stop').status == 304
    assert api.post('/containers/nosuch/stop').status == 404


def test_two_stops_at_once(docker, api, name):
    start(docker, name, DEAF)
    answers = []
    both = [threading.Thread(target=lambda: answers.append(api.post(f'/containers/{name}/stop?t=1').status)) for _ in range(2)]
    for one in both:
        one.start()
    for one in both:
        one.join()
    assert set(answers) <= {204, 304} and 204 in answers


# ---- restart --------------------------------------------------------------------------------------------------------

@pytest.mark.differs('knows no signal of a restart')
@pytest.mark.new_client('no -s of stop')
def test_the_signal_of_a_restart(docker, name):
    start(docker, name, COUNTING)
    docker.ok('restart', '-s', 'USR1', name)
    assert docker.ok('logs', name).split()[:2] == ['up', 'usr1'] and state(docker, name)['Running']


def test_restart_of_what_does_not_run(docker, name):
    docker.ok('create', '--name', name, 'bb', 'sleep', '100')
    docker.ok('restart', name)
    assert state(docker, name)['Running']
    first = state(docker, name)['StartedAt']
    docker.ok('restart', '-t', '0', name)
    assert state(docker, name)['StartedAt'] > first and state(docker, name)['ExitCode'] == 0
    assert docker('restart', 'nosuch').code == 1


def test_restart_keeps_what_was_written(docker, name):
    docker.ok('run', '-d', '--name', name, 'bb', 'sh', '-c', 'echo run >>/runs; exec sleep 100')
    wait_until(lambda: docker('exec', name, 'cat', '/runs').out == 'run\n', 10)
    docker.ok('restart', '-t', '0', name)
    wait_until(lambda: docker('exec', name, 'cat', '/runs').out == 'run\nrun\n', 10)


def test_restart_with_rm(docker, name):
    """A restart does not remove, the end does."""
    start(docker, name, COUNTING, '--rm')
    docker.ok('restart', '-t', '5', name)
    assert state(docker, name)['Running']
    docker.ok('stop', '-t', '0', name)
    wait_until(lambda: docker('inspect', name).code == 1, 10, 'it is removed')


# ---- kill -----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('signal', ['usr1', 'SIGUSR1', 'sigusr1', '10'])
def test_words_of_signals(docker, name, signal):
    start(docker, name, COUNTING)
    docker.ok('kill', '-s', signal, name)
    assert docker.ok('wait', name) == '12'


def test_real_time_signals(docker, name):
    start(docker, name, 'trap "exit 21" 37; echo up; while :; do sleep 0.05; done')
    docker.ok('kill', '-s', 'RTMIN+3', name)
    assert docker.ok('wait', name) == '21'


@pytest.mark.parametrize('signal', ['NOSUCH', '65', '-1', 'SIG', 'RTMIN+99'])
def test_signals_that_are_none(docker, api, name, signal):
    start(docker, name, COUNTING)
    answer = api.post(f'/containers/{name}/kill?signal={signal.replace("+", "%2B")}')
    assert answer.status in (400, 500) and 'signal' in answer.message, answer
    assert state(docker, name)['Running']


def test_kill_of_a_paused_container(docker, name):
    start(docker, name, COUNTING)
    docker.ok('pause', name)
    docker.ok('kill', name)
    assert state(docker, name)['ExitCode'] == 137 and not state(docker, name)['Paused']


def test_a_signal_that_waits_for_unpause(docker, name):
    start(docker, name, COUNTING, '--stop-signal', 'TERM')
    docker.ok('pause', name)
    docker.ok('kill', '-s', 'USR1', name)
    time.sleep(0.5)
    assert state(docker, name)['Status'] == 'paused'
    docker.ok('unpause', name)
    assert docker.ok('wait', name) == '12'


def test_kill_is_over_when_it_answers(docker, api, name):
    docker.ok('run', '-d', '--name', name, 'bb', 'sleep', '100')
    assert api.post(f'/containers/{name}/kill').status == 204
    it = api.get(f'/containers/{name}/json').json['State']
    assert (it['Status'], it['ExitCode']) == ('exited', 137)
    answer = api.post(f'/containers/{name}/kill')
    assert answer.status == 409 and 'is not running' in answer.message


# ---- wait -----------------------------------------------------------------------------------------------------------

def test_the_three_conditions(docker, api, name):
    docker.ok('create', '--name', name, 'bb', 'sh', '-c', 'sleep 1; exit 6')
    assert api.post(f'/containers/{name}/wait').json['StatusCode'] == 0  # it does not run
    got = {}

    def wait(condition):
        got[condition] = (api.post(f'/containers/{name}/wait?condition={condition}').json['StatusCode'], time.monotonic())
    waiters = [threading.Thread(target=wait, args=(condition,)) for condition in ('next-exit', 'removed')]
    for one in waiters:
        one.start()
    time.sleep(0.3)
    docker.ok('start', name)
    waiters[0].join()
    assert got['next-exit'][0] == 6 and 'removed' not in got
    docker.ok('rm', name)
    waiters[1].join()
    assert got['removed'][0] == 6
    answer = api.post(f'/containers/{name}/wait')
    assert answer.status == 404


@pytest.mark.differs('takes any word')
def test_a_condition_that_is_none(docker, api, name):
    docker.ok('create', '--name', name, 'bb')
    answer = api.post(f'/containers/{name}/wait?condition=nosuch')
    assert answer.status == 400 and 'invalid condition: "nosuch"' in answer.message, answer
