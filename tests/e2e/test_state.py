"""ps, inspect, stop, kill, wait, rm, rename-free life of a container as clients see it."""
import datetime
import json
import re
import time

import pytest

from engines import is_up, wait_until


def stamp(text):
    return datetime.datetime.fromisoformat(re.sub(r'\.(\d{1,6})\d*', lambda m: '.' + m[1].ljust(6, '0'), text).replace('Z', '+00:00'))


def names(docker, *options):
    return docker.ok('ps', '--format', '{{.Names}}', *options).splitlines()


# ---- ps -------------------------------------------------------------------------------------------------------------

def test_ps_shows_the_running_and_with_a_all(docker, name):
    docker.ok('run', '-d', '--name', name + 'r', 'bb', 'sleep', '100')
    docker('run', '--name', name + 'e', 'bb', 'sh', '-c', 'exit 3')
    docker.ok('create', '--name', name + 'c', 'bb')
    assert names(docker) == [name + 'r']
    assert names(docker, '-a') == [name + 'c', name + 'e', name + 'r']
    assert names(docker, '-n', '1') == [name + 'c']
    status = dict(line.split('|') for line in docker.ok('ps', '-a', '--format', '{{.Names}}|{{.Status}}').splitlines())
    assert re.fullmatch(r'Up (Less than a|\d+) seconds?', status[name + 'r'])
    assert re.fullmatch(r'Exited \(3\) (Less than a|\d+) seconds? ago', status[name + 'e'])
    assert status[name + 'c'] == 'Created'


def test_ps_q_prints_short_and_long_ids(docker, name):
    identity = docker.ok('run', '-d', '--name', name, 'bb', 'sleep', '100')
    assert docker.ok('ps', '-q') == identity[:12]
    assert docker.ok('ps', '-q', '--no-trunc') == identity


def test_ps_columns(docker, name):
    docker.ok('run', '-d', '--name', name, '-l', 'x=y', 'bb', 'sleep', '100')
    row = docker.ok('ps', '--format', '{{.Image}}|{{.Command}}|{{.Labels}}|{{.State}}|{{.Networks}}')
    assert row == 'bb|"sleep 100"|x=y|running|bridge'


def test_sizes(docker, name):
    docker.ok('run', '--name', name, 'bb', 'sh', '-c', 'head -c 3000000 /dev/urandom >/tmp/file; ln /tmp/file /tmp/again; ln -s / /tmp/all')
    it = json.loads(docker.ok('inspect', '-s', name))[0]
    image = json.loads(docker.ok('image', 'inspect', 'bb'))[0]['Size']
    assert 3_000_000 <= it['SizeRw'] < (300_000_000 if docker.vm else 3_100_000)
    assert it['SizeRootFs'] == it['SizeRw'] + image
    assert 'SizeRw' not in docker.inspect(name)
    assert re.search(r'\d MB|\dMB', docker.ok('ps', '-a', '-s', '--filter', f'name={name}', '--format', '{{.Size}}'))


def test_ps_filters(docker, name):
    first = docker.ok('run', '-d', '--name', name + 'one', '-l', 'kind=a', 'bb', 'sleep', '100')
    docker('run', '--name', name + 'two', '-l', 'kind=b', 'bb', 'sh', '-c', 'exit 4')
    assert names(docker, '-a', '-f', f'name={name}one') == [name + 'one']
    assert names(docker, '-a', '-f', f'id={first[:10]}') == [name + 'one']
    assert names(docker, '-a', '-f', 'label=kind=b') == [name + 'two']
    assert names(docker, '-a', '-f', 'label=kind') == [name + 'two', name + 'one']
    assert names(docker, '-a', '-f', 'status=exited') == [name + 'two']
    assert names(docker, '-a', '-f', 'exited=4') == [name + 'two']
    assert names(docker, '-f', 'status=exited') == [name + 'two']
    assert names(docker, '-a', '-f', 'ancestor=bb', '-f', f'name={name}two') == [name + 'two']
    assert names(docker, '-a', '-f', f'before={name}two') == [name + 'one']
    assert names(docker, '-a', '-f', f'since={name}one') == [name + 'two']


# ---- inspect --------------------------------------------------------------------------------------------------------

@pytest.mark.short_vm
def test_inspect_of_a_running_container(docker, name):
    docker.ok('run', '-d', '--name', name, '-e', 'A=1', '-w', '/tmp', '--memory', '50m', 'bb', 'sleep', '100')
    it = docker.inspect(name)
    assert it['Name'] == '/' + name and it['Path'] == 'sleep' and it['Args'] == ['100']
    assert it['State']['Status'] == 'running' and it['State']['Running'] and it['State']['Pid'] > 1
    assert it['State']['FinishedAt'] == '0001-01-01T00:00:00Z'
    assert it['Config']['Image'] == 'bb' and 'A=1' in it['Config']['Env'] and it['Config']['WorkingDir'] == '/tmp'
    assert it['Image'] == docker.inspect('bb')['Id']
    assert it['HostConfig']['Memory'] == 50 << 20 and it['HostConfig']['NetworkMode'] in ('default', 'bridge')
    assert re.fullmatch(r'\d+\.\d+\.\d+\.\d+', it['NetworkSettings']['Networks']['bridge']['IPAddress'])
    created, started = stamp(it['Created']), stamp(it['State']['StartedAt'])
    assert created <= started <= datetime.datetime.now(datetime.timezone.utc)


def test_inspect_of_an_exited_container(docker, name):
    docker('run', '--name', name, 'bb', 'sh', '-c', 'sleep 0.3; exit 3')
    state = docker.inspect(name)['State']
    assert (state['Status'], state['ExitCode'], state['Pid'], state['OOMKilled']) == ('exited', 3, 0, False)
    assert stamp(state['FinishedAt']) - stamp(state['StartedAt']) >= datetime.timedelta(seconds=0.3)


def test_inspect_by_name_id_and_prefix(docker, name):
    identity = docker.ok('create', '--name', name, 'bb')
    for ref in (name, '/' + name, identity, identity[:12], identity[:20]):
        assert docker.inspect(ref)['Id'] == identity


def test_inspect_of_nothing(docker):
    result = docker('inspect', '--type', 'container', 'nosuch')
    assert result.code == 1 and 'No such container: nosuch' in result.err


# ---- stop, kill, wait, rm -------------------------------------------------------------------------------------------

@pytest.mark.short_vm
def test_stop_sends_term_then_kill(docker, name):
    docker.ok('run', '-d', '--name', name, 'bb', 'sh', '-c', 'trap "echo got it; exit 12" TERM; echo up; '
              'while :; do sleep 0.1; done')
    is_up(docker, name)
    docker.ok('stop', name)
    assert docker.inspect(name)['State']['ExitCode'] == 12
    assert docker.ok('logs', name).split('\n') == ['up', 'got it']


def test_stop_kills_after_its_time(docker, name):
    docker.ok('run', '-d', '--name', name, 'bb', 'sh', '-c', 'trap "" TERM; echo up; while :; do sleep 0.1; done')
    is_up(docker, name)
    began = time.monotonic()
    docker.ok('stop', '-t', '1', name)
    assert 0.9 < time.monotonic() - began < 8
    assert docker.inspect(name)['State']['ExitCode'] == 137


def test_stop_signal_of_the_container(docker, name):
    docker.ok('run', '-d', '--name', name, '--stop-signal', 'USR1', 'bb', 'sh', '-c',
              'trap "exit 21" USR1; echo up; while :; do sleep 0.1; done')
    is_up(docker, name)
    docker.ok('stop', name)
    assert docker.inspect(name)['State']['ExitCode'] == 21


def test_a_signal_that_ends_it_is_128_and_its_number(docker, name):
    docker.ok('run', '-d', '--init', '--name', name, 'bb', 'sh', '-c', 'echo up; exec sleep 100')
    is_up(docker, name)
    docker.ok('stop', name)
    assert docker.inspect(name)['State']['ExitCode'] == 143


def test_stop_of_a_stopped_container_is_fine(docker, name):
    docker.ok('run', '--name', name, 'bb', 'true')
    docker.ok('stop', name)


@pytest.mark.parametrize('signal', ['USR1', 'SIGUSR1', '10'])
def test_kill_with_a_signal(docker, name, signal):
    docker.ok('run', '-d', '--name', name, 'bb', 'sh', '-c', 'trap "exit 33" USR1; echo up; '
              'while :; do sleep 0.1; done')
    is_up(docker, name)
    docker.ok('kill', '-s', signal, name)
    assert docker.ok('wait', name) == '33'


def test_kill_is_9(docker, name):
    docker.ok('run', '-d', '--name', name, 'bb', 'sleep', '100')
    docker.ok('kill', name)
    assert docker.ok('wait', name) == '137'


def test_after_a_kill_it_does_not_run(docker, name):
    for _ in range(5):
        docker.ok('run', '-d', '--name', name, 'bb', 'sleep', '1000')
        docker.ok('kill', name)
        docker.ok('rm', name)


def test_kill_of_what_does_not_run(docker, name):
    docker.ok('create', '--name', name, 'bb')
    result = docker('kill', name)
    assert result.code == 1 and 'is not running' in result.err
    assert docker('kill', '-s', 'NOSUCH', name).code == 1


def test_wait_gives_codes_in_order(docker, name):
    docker.ok('run', '-d', '--name', name + 'a', 'bb', 'sh', '-c', 'sleep 0.5; exit 4')
    docker.ok('run', '-d', '--name', name + 'b', 'bb', 'sh', '-c', 'exit 5')
    assert docker.ok('wait', name + 'a', name + 'b').split() == ['4', '5']


def test_rm(docker, name):
    docker.ok('run', '-d', '--name', name, 'bb', 'sleep', '100')
    result = docker('rm', name)
    assert result.code == 1 and 'remove' in result.err
    assert docker.ok('rm', '-f', name) == name
    assert docker('inspect', name).code == 1
    assert docker('rm', name).code == 1


def test_a_prefix_that_fits_two_is_refused(docker):
    # Seventeen ids: two of them share their first digit.
    ids = [docker.ok('create', 'bb') for _ in range(17)]
    first = next(one[0] for one in ids if sum(other[0] == one[0] for other in ids) > 1)
    result = docker('inspect', '--type', 'container', first)
    assert result.code == 1


@pytest.mark.container_only('HostConfig.Binds')
def test_sizes_of_a_container(docker, name):
    script = ('head -c 5000 /dev/zero >/f; ln /f /again; mkdir /d; ln -s /etc/passwd /d/link; head -c 700 /dev/zero >/d/x; '
              'mkdir -p /tmp/out; rm /etc/group; echo done; sleep 100')
    docker.ok('run', '-d', '--name', name, '-v', '/volume', 'bb', 'sh', '-c', script)
    wait_until(lambda: docker.ok('logs', name) == 'done', what='the files')
    docker.ok('exec', name, 'sh', '-c', 'head -c 100000 /dev/zero >/volume/not-counted')
    image = docker.inspect('bb')['Size']
    written = 5000 + len('/etc/passwd') + 700
    for _ in 'running', 'stopped':
        sizes = json.loads(docker.ok('inspect', '--size', '-f', '[{{.SizeRw}}, {{.SizeRootFs}}]', name))
        assert sizes == [written, image + written]
        listed = docker.ok('ps', '-a', '-s', '--filter', f'name={name}', '--format', '{{.Size}}')
        assert listed.startswith('5.71kB (virtual ')
        docker('kill', name)
        docker.ok('wait', name)
    assert 'SizeRw' not in docker.inspect(name)


def test_a_fresh_container_takes_nothing(docker, api, name):
    docker.ok('create', '--name', name, 'bb')
    assert api.get(f'/containers/{name}/json?size=1').json['SizeRw'] == 0
    assert docker.ok('ps', '-a', '-s', '--filter', f'name={name}', '--format', '{{.Size}}').startswith('0B (virtual ')


@pytest.mark.container_only('HostConfig.Binds')
def test_a_plain_tmpfs_is_no_mount_of_the_record(docker, name):
    docker.ok('create', '--name', name, '--tmpfs', '/plain/', '--mount', 'type=tmpfs,target=/asked', '-v', '/volume', 'bb')
    container = docker.inspect(name)
    assert sorted((mount['Type'], mount['Destination']) for mount in container['Mounts']) == [
        ('tmpfs', '/asked'), ('volume', '/volume')]
    assert container['HostConfig']['Tmpfs'] == {'/plain/': ''}
    assert container['NetworkSettings']['Networks']['bridge']['NetworkID'] == ''


def test_kill_says_what_it_could_not_do(docker):
    result = docker('kill', 'nosuch')
    assert result.code == 1 and 'cannot kill container: nosuch: no such container: nosuch' in result.err.lower()
    result = docker('kill', '-s', 'NOSUCH', 'nosuch')
    assert result.code == 1 and 'invalid signal: nosuch' in result.err.lower()
