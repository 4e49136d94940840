"""Health checks: what runs them, what their results mean, and who sees it."""
import time

import pytest

import images
from engines import wait_until
from test_survive import crash  # noqa: F401  (a fixture)

FAST = ['--health-interval', '300ms', '--health-retries', '2', '--health-timeout', '20s']


def health(docker, name):
    return docker.inspect(name)['State']['Health']


def is_health(docker, name, status, seconds=20):
    wait_until(lambda: health(docker, name)['Status'] == status, seconds, status)
    return health(docker, name)


def run(docker, name, test, *options, command=('sleep', '1000')):
    return docker.ok('run', '-d', '--name', name, '--health-cmd', test, *FAST, *options, 'bb', *command)


def start(docker, api, name, test, retries):
    """In a start period of an hour, with a quick start interval where the engine knows one."""
    check = {'Test': ['CMD-SHELL', test], 'Interval': 300_000_000, 'Retries': retries, 'StartPeriod': 3600 * 10 ** 9, 'StartInterval': 200_000_000}
    answer = api.post(f'/containers/create?name={name}', {'Image': 'bb', 'Cmd': ['sleep', '1000'], 'Healthcheck': check})
    assert answer.status == 201, answer
    docker.ok('start', name)


# ---- the three states -----------------------------------------------------------------------------------------------

def test_from_starting_to_healthy_to_unhealthy(docker, api, name):
    began = f'{time.time():.9f}'
    start(docker, api, name, 'echo probed; test -e /good || { echo bad >&2; exit 3; }', 2)
    it = health(docker, name)
    assert it['Status'] == 'starting' and it['FailingStreak'] == 0
    assert docker.ok('ps', '--filter', f'name={name}', '--format', '{{.Status}}').endswith('(health: starting)')
    docker.ok('exec', name, 'touch', '/good')
    it = is_health(docker, name, 'healthy')
    assert it['FailingStreak'] == 0 and it['Log'][-1]['ExitCode'] == 0 and it['Log'][-1]['Output'] == 'probed\n'
    assert docker.ok('ps', '--filter', f'name={name}', '--format', '{{.Status}}').endswith('(healthy)')
    docker.ok('exec', name, 'rm', '/good')
    it = is_health(docker, name, 'unhealthy')
    assert it['FailingStreak'] >= 2 and it['Log'][-1]['ExitCode'] == 3 and sorted(it['Log'][-1]['Output'].split()) == ['bad', 'probed']
    assert docker.ok('ps', '--filter', f'name={name}', '--format', '{{.Status}}').endswith('(unhealthy)')
    words = docker.ok('events', '--since', began, '--until', f'{time.time():.9f}', '-f', 'event=health_status', '-f', f'container={name}',
                      '--format', '{{.Action}}').splitlines()
    assert words == ['health_status: healthy', 'health_status: unhealthy']


def test_the_log_has_five_results(docker, name):
    run(docker, name, 'exit 1', '--health-retries', '9')
    wait_until(lambda: health(docker, name)['FailingStreak'] >= 7, 20, 'seven failures')
    it = health(docker, name)
    assert len(it['Log']) == 5
    starts = [one['Start'] for one in it['Log']]
    assert starts == sorted(starts) and all(one['Start'] < one['End'] for one in it['Log'])
    assert it['Status'] == 'unhealthy' if it['FailingStreak'] >= 9 else 'starting'


def test_failures_in_the_start_period_do_not_count(docker, api, name):
    start(docker, api, name, 'exit 1', 1)
    wait_until(lambda: len(health(docker, name)['Log']) >= 2, 20, 'two results')
    it = health(docker, name)
    assert it['Status'] == 'starting' and it['FailingStreak'] == 0


@pytest.mark.differs('has no start interval')
@pytest.mark.new_client('no --health-start-interval')
def test_the_start_interval(docker, name):
    docker.ok('run', '-d', '--name', name, '--health-cmd', 'true', '--health-interval', '1h', '--health-start-period', '1h',
              '--health-start-interval', '200ms', 'bb', 'sleep', '1000')
    is_health(docker, name, 'healthy')
    time.sleep(1)
    assert len(health(docker, name)['Log']) == 1  # from the first good one on the long interval counts


def test_a_probe_that_takes_too_long(docker, name):
    run(docker, name, 'echo working; sleep 50', '--health-timeout', '500ms', '--health-retries', '1')
    it = is_health(docker, name, 'unhealthy')
    assert it['Log'][0]['ExitCode'] == -1 and it['Log'][0]['Output'].startswith('Health check exceeded timeout (500ms)')
    wait_until(lambda: len(health(docker, name)['Log']) >= 2, 20, 'the next probe')


def test_long_output_is_cut(docker, name):
    run(docker, name, 'head -c 3000000 /dev/zero | tr "\\0" x')
    it = is_health(docker, name, 'healthy')
    assert it['Log'][-1]['Output'] == 'x' * 4096 + '...'


def test_a_command_that_is_not_there(docker, api, name):
    answer = api.post(f'/containers/create?name={name}', {'Image': 'bb', 'Cmd': ['sleep', '100'], 'Healthcheck': {
        'Test': ['CMD', '/nosuch', 'word'], 'Interval': 300_000_000, 'Retries': 1}})
    assert answer.status == 201, answer
    docker.ok('start', name)
    it = is_health(docker, name, 'unhealthy')
    assert it['Log'][0]['ExitCode'] in (-1, 126, 127) and 'nosuch' in it['Log'][0]['Output']


def test_the_word_cmd_takes_no_shell(docker, api, name):
    answer = api.post(f'/containers/create?name={name}', {'Image': 'bb', 'Cmd': ['sleep', '100'], 'User': '1234', 'Env': ['WHO=me'],
                                                          'Healthcheck': {'Test': ['CMD', 'sh', '-c', 'echo $WHO $(id -u)'], 'Interval': 300_000_000}})
    assert answer.status == 201, answer
    docker.ok('start', name)
    assert is_health(docker, name, 'healthy')['Log'][0]['Output'] == 'me 1234\n'


# ---- the image's and none -------------------------------------------------------------------------------------------

@pytest.fixture(scope='module')
def checked(docker):
    """An image with a check of its own."""
    archive = images.docker_archive('checked:latest', [images.busybox_root()], **{
        'Cmd': ['sleep', '1000'], 'Healthcheck': {'Test': ['CMD-SHELL', 'echo from the image'], 'Interval': 300_000_000, 'Retries': 7}})[0]
    docker.ok('load', input=archive)
    yield 'checked'
    docker('rmi', '-f', 'checked')


def test_the_images_check(docker, checked, name):
    docker.ok('run', '-d', '--name', name, checked)
    assert is_health(docker, name, 'healthy')['Log'][0]['Output'] == 'from the image\n'
    assert docker.inspect(name)['Config']['Healthcheck']['Retries'] == 7


def test_what_the_client_says_goes_above_the_images(docker, checked, name):
    docker.ok('create', '--name', name, '--health-retries', '4', checked)
    check = docker.inspect(name)['Config']['Healthcheck']
    assert check['Test'] == ['CMD-SHELL', 'echo from the image'] and check['Retries'] == 4 and check['Interval'] == 300_000_000


def test_no_healthcheck(docker, checked, name):
    docker.ok('run', '-d', '--name', name, '--no-healthcheck', checked)
    time.sleep(0.7)
    it = docker.inspect(name)
    assert 'Health' not in it['State'] and it['Config']['Healthcheck']['Test'] == ['NONE']
    assert docker.ok('ps', '--filter', f'name={name}', '--format', '{{.Status}}').startswith('Up ')
    assert '(' not in docker.ok('ps', '--filter', f'name={name}', '--format', '{{.Status}}')


# ---- verbs ----------------------------------------------------------------------------------------------------------

def test_filters(docker, name):
    run(docker, name + 'good', 'true')
    run(docker, name + 'bad', 'false', '--health-retries', '1')
    docker.ok('run', '-d', '--name', name + 'none', 'bb', 'sleep', '100')
    is_health(docker, name + 'good', 'healthy')
    is_health(docker, name + 'bad', 'unhealthy')
    for word, found in ('healthy', 'good'), ('unhealthy', 'bad'), ('none', 'none'), ('starting', None):
        listed = docker.ok('ps', '--filter', f'health={word}', '--filter', f'name={name}', '--format', '{{.Names}}').split()
        assert listed == ([name + found] if found else [])
    assert docker('ps', '--filter', 'health=nosuch').code == 1


def test_pause_and_unpause(docker, name):
    run(docker, name, 'true')
    is_health(docker, name, 'healthy')
    docker.ok('pause', name)
    time.sleep(0.3)
    assert health(docker, name)['Status'] == 'unhealthy'
    last = health(docker, name)['Log'][-1]
    time.sleep(1)
    assert health(docker, name)['Log'][-1] == last
    docker.ok('unpause', name)
    is_health(docker, name, 'healthy')


def test_stop_and_start(docker, name):
    run(docker, name, 'true')
    is_health(docker, name, 'healthy')
    docker.ok('stop', '-t', '0', name)
    assert health(docker, name)['Status'] == 'unhealthy'
    docker.ok('start', name)
    assert health(docker, name)['Status'] in ('starting', 'healthy')
    is_health(docker, name, 'healthy')


def test_probes_leave_no_exec_behind(docker, api, name):
    run(docker, name, 'true')
    is_health(docker, name, 'healthy')
    time.sleep(1)
    assert len(docker.inspect(name)['ExecIDs'] or []) <= 1


def test_events_of_a_probe(docker, name):
    began = f'{time.time():.9f}'
    run(docker, name, 'true')
    is_health(docker, name, 'healthy')
    words = docker.ok('events', '--since', began, '--until', f'{time.time():.9f}', '-f', f'container={name}', '--format', '{{.Action}}').splitlines()
    assert 'exec_create: /bin/sh -c true' in words and 'exec_start: /bin/sh -c true' in words and 'exec_die' in words
    assert words.index('start') < words.index('exec_create: /bin/sh -c true')


def test_a_restart_begins_with_starting(docker, name):
    run(docker, name, 'true', '--restart', 'always', '--health-interval', '200ms', command=('sh', '-c', 'sleep 2'))
    is_health(docker, name, 'healthy')
    wait_until(lambda: docker.inspect(name)['RestartCount'] >= 1, 20)
    is_health(docker, name, 'healthy')


# ---- bad input ------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('check, message', [
    ({'Interval': 1000}, 'Interval in Healthcheck cannot be less than 1ms'),
    ({'Timeout': -5}, 'Timeout in Healthcheck cannot be less than 1ms'),
    ({'StartPeriod': 999_999}, 'StartPeriod in Healthcheck cannot be less than 1ms'),
    ({'Retries': -1}, 'Retries in Healthcheck cannot be negative'),
])
def test_values_that_can_not_be(api, check, message):
    answer = api.post('/containers/create', {'Image': 'bb', 'Healthcheck': {'Test': ['CMD', 'true'], **check}})
    assert (answer.status, answer.message) == (400, message)


def test_a_word_that_is_no_check(docker, api, name):
    answer = api.post(f'/containers/create?name={name}', {'Image': 'bb', 'Cmd': ['sleep', '100'], 'Healthcheck': {'Test': ['NOSUCH', 'x']}})
    assert answer.status == 201
    docker.ok('start', name)
    assert 'Health' not in docker.inspect(name)['State']


# ---- the daemon's end -----------------------------------------------------------------------------------------------

@pytest.mark.berth
def test_the_next_daemon_goes_on(docker, crash, name):
    run(docker, name, 'date +%s%N >>/probes; test ! -e /bad')
    before = is_health(docker, name, 'healthy')
    crash()
    after = health(docker, name)
    assert after['Status'] == 'healthy' and before['Log'][0] in after['Log'] or len(after['Log']) == 5
    docker.ok('exec', name, 'touch', '/bad')
    is_health(docker, name, 'unhealthy')


@pytest.mark.berth
def test_a_probe_of_the_daemon_before_is_ended(docker, crash, name):
    run(docker, name, 'test -e /go || sleep 987', '--health-timeout', '1h')
    wait_until(lambda: 'sleep 987' in docker.ok('exec', name, 'ps'), 20, 'the probe runs')
    docker.ok('exec', name, 'touch', '/go')
    crash()
    is_health(docker, name, 'healthy')


# ---- times as long as the type allows -------------------------------------------------------------------------------

def begin(docker, api, name, test, **times):
    check = {'Test': ['CMD-SHELL', test], **times}
    assert api.post(f'/containers/create?name={name}', {'Image': 'bb', 'Cmd': ['sleep', '1000'], 'Healthcheck': check}).status == 201
    docker.ok('start', name)


def test_an_interval_without_end_means_no_probe(docker, api, name):
    begin(docker, api, name, 'true', Interval=2 ** 63 - 1)
    time.sleep(2)
    assert health(docker, name)['Log'] == [] and health(docker, name)['Status'] == 'starting'


def test_a_timeout_without_end_ends_no_probe(docker, api, name):
    begin(docker, api, name, 'sleep 1', Interval=300_000_000, Timeout=2 ** 63 - 1)
    assert is_health(docker, name, 'healthy')['Log'][0]['ExitCode'] == 0
