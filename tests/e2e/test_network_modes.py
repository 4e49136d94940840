"""The host's network, and another container's (--network host, --network container:X)."""
import json
import os
import socket

import pytest

from engines import wait_until
from test_modes import keep, look, own

LINKS = "container type network can't be used with links. This would result in undefined behavior"
CONFLICTS = [
    ({'Hostname': 'x'}, {}, 'hostname and the network mode'),
    ({}, {'Links': ['a:b']}, LINKS),
    ({}, {'Dns': ['1.1.1.1']}, 'dns and the network mode'),
    ({}, {'ExtraHosts': ['a:1.2.3.4']}, 'custom host-to-IP mapping and the network mode'),
    ({}, {'PortBindings': {'80/tcp': [{'HostPort': '0'}]}}, 'port publishing and the container type network mode'),
    ({}, {'PublishAllPorts': True}, 'port publishing and the container type network mode'),
    ({'ExposedPorts': {'80/tcp': {}}}, {}, 'port exposing and the container type network mode'),
]


def create(api, config, host):
    return api.post('/containers/create', {'Image': 'bb', **config, 'HostConfig': host})


# ---- refusals -------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('config, host, message', CONFLICTS)
def test_what_does_not_go_with_anothers_network(api, config, host, message):
    answer = create(api, config, {'NetworkMode': 'container:x', **host})
    assert answer.status == 400 and answer.message == 'conflicting options: ' + message


@pytest.mark.differs('has other words')
def test_modes_that_are_none(api):
    for mode in ('container', 'container:'):
        answer = create(api, {}, {'NetworkMode': mode})
        assert answer.status == 400 and 'invalid container format container:<name|id>' in answer.message
    answer = create(api, {}, {'NetworkMode': 'host', 'Links': ['a:b']})
    assert answer.status == 400
    assert answer.message == LINKS.join(['conflicting options: ', '']).replace('container type network', 'host type networking')


def test_the_network_host_stays(docker, name):
    for words, message in ((('rm', 'host'), 'host is a pre-defined network and cannot be removed'),
                           (('create', 'host'), 'operation is not permitted on predefined host network')):
        result = docker('network', *words)
        assert result.code == 1 and message in result.err
    assert sorted(docker.ok('network', 'ls', '--format', '{{.Name}} {{.Driver}} {{.Scope}}', '-f', 'type=builtin').splitlines()) == [
        'bridge bridge local', 'host host local', 'none null local']


# ---- the host's -----------------------------------------------------------------------------------------------------

@pytest.mark.container_only('HostConfig.NetworkMode')
def test_the_hosts_network(docker, name):
    with socket.create_server(('127.0.0.1', 0)) as server:
        keep(docker, name, '--network', 'host')
        caller = docker.popen('exec', name, 'nc', '127.0.0.1', str(server.getsockname()[1]))
        server.settimeout(20)
        server.accept()[0].close()
        assert caller.wait() == 0
    here = docker.ok('exec', name, 'sh', '-c', 'readlink /proc/self/ns/net; hostname; echo $HOSTNAME').split()
    shown = docker.inspect(name)
    assert here[0] == own('net') and here[1:] == [os.uname().nodename] * 2 and shown['Config']['Hostname'] == os.uname().nodename
    assert shown['HostConfig']['NetworkMode'] == 'host' and list(shown['NetworkSettings']['Networks']) == ['host']
    network = json.loads(docker.ok('network', 'inspect', 'host'))[0]
    assert shown['NetworkSettings']['Networks']['host']['NetworkID'] == network['Id'] and list(network['Containers']) == [shown['Id']]
    assert not network['IPAM']['Config'] and network['Driver'] == 'host'
    docker.ok('restart', '-t', '0', name)
    assert docker.ok('exec', name, 'readlink', '/proc/self/ns/net') == own('net')


@pytest.mark.container_only('HostConfig.NetworkMode')
@pytest.mark.berth
def test_names_of_the_hosts_network(docker):
    """The peer has a root of its own to read them from."""
    files = ('/etc/hosts', '/etc/resolv.conf')
    assert look(docker, '--network', 'host', script='cat ' + ' '.join(files)) == ''.join(open(path).read() for path in files).rstrip('\n')


@pytest.mark.container_only('HostConfig.NetworkMode')
def test_ports_of_the_hosts_network_are_discarded(docker, api, name):
    result = docker('run', '--name', name, '--network', 'host', '-p', '8000:80', '--add-host', 'one:192.0.2.1', '--dns', '192.0.2.2', 'bb', 'cat', '/etc/hosts', '/etc/resolv.conf')
    assert 'Published ports are discarded when using host network mode' in result.err and docker.inspect(name)['NetworkSettings']['Ports'] == {}
    assert '192.0.2.1\tone' in result.out and 'nameserver 192.0.2.2' in result.out


@pytest.mark.container_only('HostConfig.NetworkMode')
@pytest.mark.differs('says it in other words')
def test_the_hosts_network_is_not_left_or_joined_later(docker, name):
    keep(docker, name + '-a', '--network', 'host')
    keep(docker, name + '-b')
    for words, message in ((('connect', 'host', name + '-b'), 'cannot connect container to host network - container must be created in host network mode'),
                           (('connect', 'bridge', name + '-a'), 'container sharing network namespace with another container or host cannot be connected to any other network'),
                           (('disconnect', 'host', name + '-a'), 'cannot disconnect container from host network - container was created in host network mode')):
        result = docker('network', *words)
        assert result.code == 1 and message in result.err, result


# ---- another's ------------------------------------------------------------------------------------------------------

@pytest.mark.container_only('HostConfig.NetworkMode')
@pytest.mark.differs('has other words')
def test_another_ones_network(docker, name):
    donor = keep(docker, name + '-a', '--hostname', 'shared', '--add-host', 'one:192.0.2.1')
    keep(docker, name + '-b', '--network', f'container:{name}-a')
    shown = docker.inspect(name + '-b')
    assert shown['HostConfig']['NetworkMode'] == 'container:' + donor and shown['NetworkSettings']['Networks'] == {}
    assert shown['Config']['Hostname'] == 'shared'
    both = [docker.ok('exec', f'{name}-{it}', 'sh', '-c', 'readlink /proc/self/ns/net; hostname; cat /etc/hosts /etc/resolv.conf /etc/hostname; ip -o addr') for it in 'ab']
    assert both[0] == both[1] and '192.0.2.1\tone' in both[0] and both[0].split()[0] != own('net')
    docker.ok('exec', name + '-b', 'sh', '-c', 'echo "192.0.2.2 two" >> /etc/hosts')
    assert docker.ok('exec', name + '-a', 'tail', '-1', '/etc/hosts') == '192.0.2.2 two'
    # A third shares the second's, and talks to the first by the loopback.
    docker.ok('exec', '-d', name + '-a', 'httpd', '-p', '127.0.0.1:80', '-h', '/var/www')
    wait_until(lambda: docker('exec', name + '-b', 'wget', '-q', '-O', '-', 'http://127.0.0.1/').code == 0)
    assert look(docker, '--network', f'container:{name}-b', script='wget -q -O - http://127.0.0.1/; tail -1 /etc/hosts; hostname').split('\n') == ['hello from the image', '192.0.2.2 two', 'shared']
    docker.ok('stop', '-t', '0', name + '-a')
    assert docker.ok('exec', name + '-b', 'ip', '-o', 'link', 'show', 'lo')  # the namespace stays with who is in it
    docker.ok('stop', '-t', '0', name + '-b')
    result = docker('start', name + '-b')
    assert result.code == 1 and f'cannot join network namespace of a non running container: container {name}-a is exited' in result.err
    docker.ok('start', name + '-a', name + '-b')
    assert docker.ok('exec', name + '-a', 'readlink', '/proc/self/ns/net') == docker.ok('exec', name + '-b', 'readlink', '/proc/self/ns/net')


@pytest.mark.container_only('HostConfig.NetworkMode')
@pytest.mark.differs('has other words')
def test_another_network_that_is_not_there(docker, name):
    result = docker('run', '--rm', '--network', 'container:nosuch', 'bb', 'true')
    assert result.code == 125 and 'joining network namespace of container: No such container: nosuch' in result.err


@pytest.mark.container_only('HostConfig.NetworkMode')
def test_settings_of_a_network_that_is_not_ones_own(docker):
    assert docker('run', '--rm', '--network', 'host', '--sysctl', 'net.ipv4.ip_forward=1', 'bb', 'true').code != 0


@pytest.mark.container_only('HostConfig.NetworkMode')
@pytest.mark.berth
def test_shared_networks_outlive_the_daemon(docker, engine, name):
    keep(docker, name + '-a', '--hostname', 'shared')
    keep(docker, name + '-b', '--network', f'container:{name}-a')
    keep(docker, name + '-c', '--network', 'host')
    engine.restarted = True
    engine.kill9()
    engine.start()
    assert docker.inspect(name + '-b')['Config']['Hostname'] == 'shared'
    assert list(docker.inspect(name + '-c')['NetworkSettings']['Networks']) == ['host']
    spaces = {it: docker.ok('exec', f'{name}-{it}', 'readlink', '/proc/self/ns/net') for it in 'abc'}
    assert spaces['a'] == spaces['b'] and spaces['c'] == own('net')
    docker.ok('restart', '-t', '0', name + '-b', name + '-c')
    assert docker.ok('exec', name + '-b', 'readlink', '/proc/self/ns/net') == spaces['a']


@pytest.mark.container_only('HostConfig.NetworkMode')
@pytest.mark.berth
def test_who_shares_comes_back_after_the_other(docker, engine, name):
    """As after the host's boot: a daemon finds nothing that runs."""
    keep(docker, name + '-a', '--restart', 'always', '--ipc', 'shareable')
    keep(docker, name + '-b', '--restart', 'always', '--network', f'container:{name}-a')
    keep(docker, name + '-c', '--restart', 'always', '--network', f'container:{name}-b', '--ipc', f'container:{name}-a')
    engine.restarted = True
    assert engine.stop_all().returncode == 0
    engine.start()
    for it in 'abc':
        wait_until(lambda: docker.inspect(f'{name}-{it}')['State']['Running'], what=it)
    assert len({docker.ok('exec', f'{name}-{it}', 'readlink', '/proc/self/ns/net') for it in 'abc'}) == 1
