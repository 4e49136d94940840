"""Namespaces that a container shares: with the host, or with another container (--ipc, --pid, --uts, --userns)."""
import os

import pytest

from engines import wait_until
from test_storage import CONTAINER

WORDS = [('IpcMode', 'nosuch', 'invalid IPC mode: nosuch'), ('PidMode', 'nosuch', 'invalid PID mode: nosuch'),
         ('PidMode', 'container:', 'invalid PID mode: container:'), ('UTSMode', 'container:x', 'invalid UTS mode: container:x')]


def own(kind):
    return os.readlink(f'/proc/self/ns/{kind}')


def keep(docker, name, *options):
    """One that stays."""
    docker.ok('run', '-d', '--name', name, *options, 'bb', 'sleep', '1000')
    return docker.inspect(name)['Id']


def look(docker, *options, script):
    return docker.ok('run', '--rm', *options, 'bb', 'sh', '-c', script)


# ---- words ----------------------------------------------------------------------------------------------------------

@pytest.mark.differs('has other words and statuses')
@pytest.mark.parametrize('field, value, message', WORDS)
def test_a_bad_word(api, field, value, message):
    answer = api.post('/containers/create', {'Image': 'bb', 'HostConfig': {field: value}})
    assert answer.status == 400 and answer.message == message


@pytest.mark.berth
def test_a_bad_user_namespace(api):
    answer = api.post('/containers/create', {'Image': 'bb', 'HostConfig': {'UsernsMode': 'mine'}})
    assert answer.status == 400 and answer.message == 'invalid user namespace mode: mine'


@pytest.mark.parametrize('field', ['IpcMode', 'PidMode'])
def test_another_that_is_not_there(api, field):
    answer = api.post('/containers/create', {'Image': 'bb', 'HostConfig': {field: 'container:nosuch'}})
    assert answer.status in (400, 404) and answer.message == 'No such container: nosuch'  # 404 by older daemons


def test_a_hostname_and_the_hosts_names(api):
    answer = api.post('/containers/create', {'Image': 'bb', 'Hostname': 'x', 'HostConfig': {'UTSMode': 'host'}})
    assert answer.status == 400 and answer.message == 'conflicting options: hostname and the UTS mode'


# ---- the host's -----------------------------------------------------------------------------------------------------

@pytest.mark.container_only('HostConfig.PidMode')
def test_the_hosts_processes(docker, engine, name):
    keep(docker, name, '--pid', 'host')
    shown = docker.ok('exec', name, 'sh', '-c', 'readlink /proc/self/ns/pid; readlink /proc/1/exe; echo $$').split()
    assert shown[0] == os.readlink(f'/proc/{list(engine.daemon_pids())[0]}/ns/pid')
    assert int(shown[-1]) > 1
    assert docker.inspect(name)['HostConfig']['PidMode'] == 'host'
    docker.ok('stop', '-t', '1', name)


@pytest.mark.container_only('HostConfig.PidMode')
def test_what_the_first_process_leaves_ends_with_it(docker, name):
    """No pid namespace ends it."""
    docker.ok('run', '--name', name, '--pid', 'host', 'bb', 'sh', '-c', 'sleep 4321 & exit 0')
    wait_until(lambda: '4321' not in open_cmdlines(), what='the end of what was left')


def open_cmdlines():
    found = []
    for pid in filter(str.isdigit, os.listdir('/proc')):
        try:
            found.append(open(f'/proc/{pid}/cmdline').read().replace('\0', ' '))
        except OSError:
            pass
    return '\n'.join(line for line in found if line.startswith('sleep '))


@pytest.mark.container_only('HostConfig.PidMode')
def test_an_init_that_is_not_the_first(docker, name):
    assert docker('run', '--rm', '--name', name, '--init', '--pid', 'host', 'bb', 'sh', '-c', 'exit 5').code == 5


@pytest.mark.container_only('HostConfig.IpcMode')
def test_the_hosts_ipc(docker, name):
    out = look(docker, '--ipc', 'host', script='readlink /proc/self/ns/ipc; ls -d /dev/mqueue; echo hello > /dev/shm/' + name)
    try:
        assert out.split()[0] == own('ipc')
        assert open('/dev/shm/' + name).read() == 'hello\n'
    finally:
        os.unlink('/dev/shm/' + name)


@pytest.mark.container_only('HostConfig.UTSMode')
def test_the_hosts_names(docker, name):
    keep(docker, name, '--uts', 'host')
    assert docker.ok('exec', name, 'hostname') == os.uname().nodename
    assert docker.ok('exec', name, 'readlink', '/proc/self/ns/uts') == own('uts')
    assert docker.inspect(name)['HostConfig']['UTSMode'] == 'host'


def test_the_hosts_user_namespace(docker, name):
    docker.ok('run', '--name', name, '--userns', 'host', 'bb', 'cat', '/proc/self/uid_map')
    assert docker.inspect(name)['HostConfig']['UsernsMode'] == 'host'


# ---- another's ------------------------------------------------------------------------------------------------------

@pytest.mark.container_only('HostConfig.IpcMode')
def test_another_ones_ipc(docker, name):
    donor = keep(docker, name + '-a', '--ipc', 'shareable', '--shm-size', '4m')
    keep(docker, name + '-b', '--ipc', f'container:{name}-a')
    assert docker.inspect(name + '-b')['HostConfig']['IpcMode'] == 'container:' + donor
    ids = [docker.ok('exec', f'{name}-{it}', 'readlink', '/proc/self/ns/ipc') for it in 'ab']
    assert ids[0] == ids[1] != own('ipc')
    docker.ok('exec', name + '-a', 'sh', '-c', 'echo from-a > /dev/shm/x')
    assert docker.ok('exec', name + '-b', 'cat', '/dev/shm/x') == 'from-a'
    line = docker.ok('exec', name + '-b', 'grep', ' /dev/shm ', '/proc/mounts')
    assert all(word in line for word in ('size=4096k', 'nosuid', 'nodev', 'noexec')), line
    # A new name of the donor's is no obstacle, and a third joins the second.
    docker.ok('rename', name + '-a', name + '-c')
    docker.ok('restart', '-t', '0', name + '-b')
    assert docker.ok('exec', name + '-b', 'cat', '/dev/shm/x') == 'from-a'
    assert look(docker, '--ipc', f'container:{name}-b', script='cat /dev/shm/x') == 'from-a'


@pytest.mark.container_only('HostConfig.IpcMode')
def test_ipc_that_is_not_shared(docker, name):
    donor = keep(docker, name)
    result = docker('run', '--rm', '--ipc', 'container:' + name, 'bb', 'true')
    assert result.code == 125
    assert f'container {donor}: non-shareable IPC (hint: use IpcMode:shareable for the donor container)' in result.err


@pytest.mark.container_only('HostConfig.IpcMode')
def test_no_shared_memory_at_all(docker, name):
    assert look(docker, '--ipc', 'none', script='ls -d /dev/shm 2>/dev/null; readlink /proc/self/ns/ipc') != own('ipc')
    assert 'shm' not in look(docker, '--ipc', 'none', script='ls /dev')
    keep(docker, name, '--ipc', 'none')
    assert docker('run', '--rm', '--ipc', 'container:' + name, 'bb', 'true').code == 125


@pytest.mark.differs('has other words and statuses')
@pytest.mark.container_only('HostConfig.PidMode')
def test_another_ones_processes(docker, name):
    donor = keep(docker, name + '-a')
    keep(docker, name + '-b', '--pid', f'container:{name}-a')
    assert docker.inspect(name + '-b')['HostConfig']['PidMode'] == 'container:' + donor
    assert docker.ok('exec', name + '-b', 'ps').count('sleep 1000') == 2
    assert docker.ok('exec', name + '-a', 'ps').count('sleep 1000') == 2
    # The end of the namespace's first process is the end of all.
    docker.ok('kill', name + '-a')
    assert docker.ok('wait', name + '-b') == '137'
    result = docker('start', name + '-b')
    assert result.code == 1 and f'failed to join PID namespace: container {donor} is not running' in result.err
    docker.ok('start', name + '-a', name + '-b')
    assert docker.ok('exec', name + '-b', 'ps').count('sleep 1000') == 2
    docker.ok('rm', '-f', name + '-a')
    result = docker('start', name + '-b')
    assert result.code == 1 and f'failed to join PID namespace: No such container: {donor}' in result.err


@pytest.mark.differs('has other words and statuses')
@pytest.mark.container_only('HostConfig.IpcMode')
def test_the_status_of_a_donor_that_does_not_run(docker, api, name):
    docker.ok('create', '--name', name + '-a', '--ipc', 'shareable', 'bb', 'true')
    donor = docker.inspect(name + '-a')['Id']
    for field, status, what in (('IpcMode', 409, 'IPC'), ('PidMode', 500, 'PID')):
        made = api.post('/containers/create', {'Image': 'bb', 'HostConfig': {field: f'container:{name}-a'}}).json['Id']
        answer = api.post(f'/containers/{made}/start')
        assert (answer.status, answer.message) == (status, f'failed to join {what} namespace: container {donor} is not running')
        assert docker.inspect(made)['State']['Status'] == 'created'


@pytest.mark.container_only('HostConfig.IpcMode')
@pytest.mark.berth
def test_they_outlive_the_daemon(docker, engine, name):
    keep(docker, name + '-a', '--ipc', 'shareable')
    keep(docker, name + '-b', '--ipc', f'container:{name}-a', '--pid', f'container:{name}-a')
    docker.ok('exec', name + '-a', 'sh', '-c', 'echo kept > /dev/shm/x')
    engine.restarted = True
    engine.kill9()
    engine.start()
    assert docker.ok('exec', name + '-b', 'sh', '-c', 'cat /dev/shm/x; ps').count('sleep 1000') == 2
    docker.ok('restart', '-t', '0', name + '-b')
    assert docker.ok('exec', name + '-b', 'cat', '/dev/shm/x') == 'kept'


@pytest.mark.vm_only
def test_a_guest_is_joined_by_nobody(docker, name):
    donor = keep(docker, name)
    for words in (['--ipc', 'container:' + name], ['--pid', 'container:' + name], ['--network', 'container:' + name]):
        result = docker('run', '--rm', *CONTAINER, *words, 'bb', 'true')
        assert result.code == 125 and f'container {donor}: what is behind the VM wall has no namespace to share' in result.err
