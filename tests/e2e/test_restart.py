"""Restart policies: who starts a container again, when, and who does not."""
import json
import time

import pytest

from engines import SLOWER, is_up, wait_until
from test_survive import crash  # noqa: F401  (a fixture)


def state(docker, name):
    return docker.inspect(name)['State']


def count(docker, name):
    return docker.inspect(name)['RestartCount']


def restarted(docker, name, times=1):
    wait_until(lambda: count(docker, name) >= times, 30, f'{times} restarts')


def starts(docker, name, since):
    lines = docker.ok('events', '--since', since, '--until', f'{time.time():.9f}', '-f', f'container={name}', '--format', '{{.Action}}')
    return [line for line in lines.splitlines() if line in ('die', 'start', 'restart', 'stop', 'kill')]


# ---- policies -------------------------------------------------------------------------------------------------------

def test_always(docker, name):
    began = f'{time.time():.9f}'
    docker.ok('run', '-d', '--name', name, '--restart', 'always', 'bb', 'sh', '-c', 'echo run; sleep 0.2; exit 0')
    restarted(docker, name, 2)
    docker.ok('stop', '-t', '0', name)
    it = docker.inspect(name)
    assert it['State']['Status'] == 'exited' and not it['State']['Restarting'] and not it['State']['Running']
    assert it['HostConfig']['RestartPolicy'] == {'Name': 'always', 'MaximumRetryCount': 0}
    assert docker.ok('logs', name).count('run') - it['RestartCount'] in (0, 1)  # it may have waited for its restart
    words = starts(docker, name, began)
    assert words[:4] == ['start', 'die', 'start', 'die'] and words[-1] == 'stop'
    time.sleep(0.5)
    assert state(docker, name)['Status'] == 'exited'


def test_on_failure_counts(docker, name):
    docker.ok('run', '-d', '--name', name, '--restart', 'on-failure:2', 'bb', 'sh', '-c', 'exit 3')
    wait_until(lambda: state(docker, name)['Status'] == 'exited', 30, 'it gives up')
    assert count(docker, name) == 2 and state(docker, name)['ExitCode'] == 3
    docker.ok('start', name)
    assert count(docker, name) <= 2  # begins anew
    wait_until(lambda: state(docker, name)['Status'] == 'exited', 30, 'it gives up')
    assert count(docker, name) == 2


def test_on_failure_is_for_failures(docker, name):
    docker.ok('run', '--name', name, '--restart', 'on-failure', 'bb', 'true')
    time.sleep(0.3)
    assert state(docker, name)['Status'] == 'exited' and count(docker, name) == 0


def test_no_is_the_default(docker, name):
    docker('run', '--name', name, 'bb', 'false')
    assert docker.inspect(name)['HostConfig']['RestartPolicy'] == {'Name': 'no', 'MaximumRetryCount': 0}
    assert state(docker, name)['Status'] == 'exited' and count(docker, name) == 0


def test_the_wait_doubles(docker, name):
    docker.ok('run', '-d', '--name', name, '--restart', 'always', 'bb', 'date', '+%s.%N')
    restarted(docker, name, 5)
    docker.ok('stop', '-t', '0', name)
    times = [float(line.split()[0][:-1].replace('T', ' ').split(':')[-1]) for line in docker.ok('logs', '-t', name).splitlines()]
    gaps = [(b - a) % 60 for a, b in zip(times, times[1:])]
    for gap, least in zip(gaps, (0.1, 0.2, 0.4, 0.8, 1.6)):
        assert gap >= least
    assert gaps[0] < 2 * SLOWER


@pytest.mark.long
def test_a_run_of_ten_seconds_begins_anew(docker, name):
    docker.ok('run', '-d', '--name', name, '--restart', 'always', 'bb', 'sh', '-c',
              'echo run >>/runs; [ $(wc -l </runs) -lt 4 ] || sleep 10.3')
    restarted(docker, name, 3)
    restarted(docker, name, 4)
    gone = time.monotonic()
    wait_until(lambda: state(docker, name)['Status'] == 'running', 5, 'it runs again')
    assert docker.vm or time.monotonic() - gone < 0.75  # the fourth wait would be 800 ms; a machine's boot takes longer than both


# ---- what clients see between two runs ------------------------------------------------------------------------------

@pytest.fixture
def pausing(docker, name):
    """A container that waits for its restart for a while."""
    docker.ok('run', '-d', '--name', name, '--restart', 'always', 'bb', 'sh', '-c', 'exit 7')
    restarted(docker, name, 5)
    wait_until(lambda: state(docker, name)['Status'] == 'restarting', 10, 'it waits')
    return name


def test_the_state_restarting(docker, api, pausing):
    it = docker.inspect(pausing)
    assert it['State']['Restarting'] and it['State']['Running'] and it['State']['Pid'] == 0 and it['State']['ExitCode'] == 7
    status = docker.ok('ps', '--filter', f'name={pausing}', '--format', '{{.Status}}|{{.State}}')
    assert status.startswith('Restarting (7) ') and status.endswith(' ago|restarting')
    assert docker.ok('ps', '-q', '--filter', 'status=restarting')
    for answer in (api.post(f'/containers/{pausing}/exec', {'Cmd': ['true']}), api.post(f'/containers/{pausing}/pause')):
        assert answer.status == 409 and f'Container {it["Id"]} is restarting, wait until the container is running' in answer.message
    answer = api.delete(f'/containers/{pausing}')
    assert answer.status == 409 and 'restarting' in answer.message.lower() or 'running' in answer.message
    assert api.post(f'/containers/{pausing}/start').status == 304
    assert docker('logs', '-f', pausing).code == 0


def test_stop_between_two_runs(docker, pausing):
    began = time.monotonic()
    docker.ok('stop', pausing)
    assert time.monotonic() - began < 5 * SLOWER
    assert state(docker, pausing)['Status'] == 'exited' and state(docker, pausing)['ExitCode'] == 7
    time.sleep(4)
    assert state(docker, pausing)['Status'] == 'exited'


def test_kill_between_two_runs(docker, pausing):
    docker.ok('kill', pausing)
    wait_until(lambda: state(docker, pausing)['Status'] == 'exited', 5)


def test_rm_f_between_two_runs(docker, pausing):
    docker.ok('rm', '-f', pausing)
    assert docker('inspect', pausing).code == 1


def test_restart_between_two_runs(docker, pausing):
    docker.ok('restart', pausing)
    assert count(docker, pausing) < 5


# ---- verbs ----------------------------------------------------------------------------------------------------------

def test_a_kill_is_obeyed(docker, name):
    docker.ok('run', '-d', '--name', name, '--restart', 'always', 'bb', 'sleep', '100')
    docker.ok('kill', name)
    docker.ok('wait', name)
    time.sleep(0.5)
    assert state(docker, name)['Status'] == 'exited' and count(docker, name) == 0
    docker.ok('start', name)
    assert state(docker, name)['Status'] == 'running'


def test_any_signal_calls_a_restart_off(docker, name):
    """Docker's daemon takes any signal as meant to end the container, unless it has a stop signal of its own."""
    script = 'trap "exit 5" USR1; echo up; while :; do sleep 0.05; done'
    docker.ok('run', '-d', '--name', name + 'a', '--restart', 'always', 'bb', 'sh', '-c', script)
    docker.ok('run', '-d', '--name', name + 'b', '--restart', 'always', '--stop-signal', 'TERM', 'bb', 'sh', '-c', script)
    for one in 'ab':
        is_up(docker, name + one)
        docker.ok('kill', '-s', 'USR1', name + one)
    wait_until(lambda: state(docker, name + 'a')['Status'] == 'exited', 10)
    restarted(docker, name + 'b')


def test_wait_ends_with_the_run(docker, name):
    docker.ok('run', '-d', '--name', name, '--restart', 'always', 'bb', 'sh', '-c', 'sleep 0.5; exit 4')
    assert docker.ok('wait', name) == '4'
    restarted(docker, name)


def test_a_restart_is_no_policys_restart(docker, name):
    began = f'{time.time():.9f}'
    docker.ok('run', '-d', '--name', name, '--restart', 'always', 'bb', 'sleep', '100')
    docker.ok('restart', '-t', '0', name)
    assert count(docker, name) == 0 and state(docker, name)['Running']
    words = starts(docker, name, began)
    assert [word for word in words if word != 'kill'] == ['start', 'die', 'stop', 'start', 'restart']


def test_what_can_not_be_started_again_is_left(docker, name):
    docker.ok('run', '-d', '--name', name, '--restart', 'always', 'bb', 'sh', '-c', 'rm /bin/sh; exit 1')
    wait_until(lambda: state(docker, name)['Status'] == 'exited', 20, 'it is given up')
    assert state(docker, name)['Error']


# ---- bad input ------------------------------------------------------------------------------------------------------

@pytest.mark.new_client('its own words')
def test_rm_and_restart(docker, api):
    answer = api.post('/containers/create', {'Image': 'bb', 'HostConfig': {'AutoRemove': True, 'RestartPolicy': {'Name': 'always'}}})
    assert answer.status == 400 and answer.message == "can't create 'AutoRemove' container with restart policy"
    result = docker('run', '--rm', '--restart', 'always', 'bb')
    assert result.code == 125 and 'conflicting options' in result.err


@pytest.mark.parametrize('policy, message', [
    ({'Name': 'sometimes'}, "invalid restart policy: unknown policy 'sometimes'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'"),
    ({'Name': 'always', 'MaximumRetryCount': 2}, "invalid restart policy: maximum retry count can only be used with 'on-failure'"),
    ({'Name': 'no', 'MaximumRetryCount': -2}, "invalid restart policy: maximum retry count can only be used with 'on-failure' and cannot be negative"),
    ({'Name': 'on-failure', 'MaximumRetryCount': -1}, 'invalid restart policy: maximum retry count cannot be negative'),
])
@pytest.mark.differs('has other words')
def test_bad_policies(api, policy, message):
    answer = api.post('/containers/create', {'Image': 'bb', 'HostConfig': {'RestartPolicy': policy}})
    assert (answer.status, answer.message) == (400, message)


# ---- the daemon's end -----------------------------------------------------------------------------------------------

@pytest.mark.berth
def test_what_ended_while_the_daemon_was_away(docker, crash, name):
    docker.ok('run', '-d', '--name', name + 'a', '--restart', 'always', 'bb', 'sh', '-c', 'echo run; sleep 1')
    docker.ok('run', '-d', '--name', name + 'f', '--restart', 'on-failure', 'bb', 'sh', '-c', 'sleep 1')
    crash.down()
    time.sleep(2)
    crash.up()
    wait_until(lambda: len(docker.ok('logs', name + 'a').split()) >= 2, 20, 'it runs again')
    assert state(docker, name + 'f')['Status'] == 'exited'


@pytest.mark.berth
def test_a_restart_that_was_waited_for(docker, crash, name):
    docker.ok('run', '-d', '--name', name, '--restart', 'unless-stopped', 'bb', 'sh', '-c', 'echo run')
    restarted(docker, name, 4)
    crash()
    runs = len(docker.ok('logs', name).split())
    wait_until(lambda: len(docker.ok('logs', name).split()) > runs, 10, 'it runs again')


@pytest.mark.berth
def test_always_and_unless_stopped(docker, crash, name):
    for policy in 'always', 'unless-stopped', 'on-failure':
        docker.ok('run', '-d', '--name', name + policy, '--restart', policy, 'bb', 'sleep', '100')
        docker.ok('stop', '-t', '0', name + policy)
    docker.ok('create', '--name', name + 'fresh', '--restart', 'always', 'bb', 'sleep', '100')
    crash()
    wait_until(lambda: state(docker, name + 'always')['Running'], 10, 'it is started')
    wait_until(lambda: state(docker, name + 'on-failure')['Running'], 10, 'it is started')  # its exit code was 137
    time.sleep(0.5)
    assert state(docker, name + 'unless-stopped')['Status'] == 'exited'
    assert state(docker, name + 'fresh')['Status'] == 'created'


@pytest.mark.berth
def test_a_stop_that_the_daemon_did_not_see_the_end_of(docker, engine, crash, name):
    docker.ok('run', '-d', '--name', name, '--restart', 'unless-stopped', 'bb', 'sh', '-c',
              'trap "sleep 1; exit 0" TERM; echo up; while :; do sleep 0.1; done')
    is_up(docker, name)
    with docker.popen('stop', name) as client:
        time.sleep(0.5)
        crash.down()
        time.sleep(1.5)
        crash.up()
        client.communicate()
    time.sleep(0.5)
    assert state(docker, name)['Status'] == 'exited'


@pytest.mark.berth
def test_after_a_restart_of_the_host(docker, engine, crash, name):
    """The shims are gone with everything that ran."""
    for policy in 'no', 'always', 'unless-stopped', 'on-failure':
        docker.ok('run', '-d', '--name', name + policy, '--restart', policy, 'bb', 'sleep', '100')
    crash.down()
    for process in [line.split()[1] for line in engine.processes()]:
        try:
            import os
            os.kill(int(process), 9)
        except ProcessLookupError:
            pass
    crash.up()
    for policy in 'always', 'unless-stopped', 'on-failure':
        wait_until(lambda: state(docker, name + policy)['Running'], 20, policy)
    assert state(docker, name + 'no')['Status'] == 'exited'


@pytest.mark.berth
def test_a_lost_supervisor(docker, engine, name):
    import os
    docker.ok('run', '-d', '--name', name, '--restart', 'always', 'bb', 'sleep', '100')
    identity = docker.inspect(name)['Id']
    os.kill(next(int(line.split()[1]) for line in engine.processes() if 'shim' in line and identity in line), 9)
    restarted(docker, name)
    wait_until(lambda: state(docker, name)['Status'] == 'running', 10)
