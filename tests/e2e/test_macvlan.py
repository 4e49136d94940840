"""Networks of the drivers macvlan and ipvlan: containers with cards of their own on a link of the host's."""
import json
import subprocess

import pytest

from test_survive import crash  # noqa: F401, a fixture

ROUTER = '10.233.7.254'


def run(*words):
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def parent(docker, name):
    """A link whose far end is the neighbour on the wire."""
    near, far = 'mv' + name[-8:], 'mw' + name[-8:]
    run('ip', 'link', 'add', near, 'type', 'veth', 'peer', 'name', far)
    run('ip', 'address', 'add', ROUTER + '/24', 'dev', far)
    for link in (near, far):
        run('ip', 'link', 'set', link, 'up')
    yield near
    run('ip', 'link', 'del', near)


def only_containers(docker):
    if docker.vm:
        pytest.skip('a guest is on no network of macvlan: test_a_neighbour_on_the_wire sees that it is refused')


@pytest.fixture
def net(docker, parent, name):
    docker.ok('network', 'create', '-d', 'macvlan', '--subnet', '10.233.7.0/24', '--gateway', ROUTER, '-o', f'parent={parent}', name)
    yield name
    for container in docker.ok('ps', '-aq', '--filter', f'network={name}').split():
        docker.ok('rm', '-f', container)
    docker.ok('network', 'rm', name)


def test_a_neighbour_on_the_wire(docker, parent, net, name):
    shown = json.loads(docker.ok('network', 'inspect', net))[0]
    assert (shown['Driver'], shown['Options']) == ('macvlan', {'parent': parent})
    if docker.vm:
        answer = docker('run', '--rm', '--network', net, 'bb', 'true')
        assert answer.code == 125 and 'macvlan: not supported behind the VM wall' in answer.err
        return
    docker.ok('run', '-d', '--name', name, '--network', net, '--ip', '10.233.7.9', 'bb', 'sleep', '100')
    said = docker.ok('exec', name, 'sh', '-c', 'ip -4 addr show eth0; ip route')
    assert 'inet 10.233.7.9/24' in said and f'default via {ROUTER}' in said
    docker.ok('exec', name, 'ping', '-c', '1', '-W', '5', ROUTER)
    # Each other, by name, and nobody's address is given twice.
    said = docker.ok('run', '--rm', '--network', net, 'bb', 'sh', '-c', f'ping -c 1 -W 5 {name}; ip -4 addr show eth0')
    assert ' 0% packet loss' in said and 'inet 10.233.7.1/24' in said
    assert name in docker.ok('ps', '--filter', f'network={net}', '--format', '{{.Names}}')
    assert docker('network', 'rm', net).code == 1


def test_it_is_joined_and_left_while_the_container_runs(docker, net, name):
    only_containers(docker)
    docker.ok('run', '-d', '--name', name, 'bb', 'sleep', '100')
    for _ in range(2):
        docker.ok('network', 'connect', '--ip', '10.233.7.8', net, name)
        assert '10.233.7.8/24' in docker.ok('exec', name, 'ip', 'addr')
        docker.ok('exec', name, 'ping', '-c', '1', '-W', '5', ROUTER)
        docker.ok('network', 'disconnect', net, name)
        assert docker.ok('exec', name, 'ls', '/sys/class/net').split() == ['eth0', 'lo']
    docker.ok('rm', '-f', name)


@pytest.mark.berth
def test_it_is_kept_over_a_restart_of_the_daemon(docker, crash, net, name):
    only_containers(docker)
    docker.ok('run', '-d', '--name', name, '--network', net, '--mac-address', '02:42:0a:e9:07:09', 'bb', 'sleep', '100')
    assert '02:42:0a:e9:07:09' in docker.ok('exec', name, 'ip', 'link', 'show', 'eth0')
    before, there = docker.inspect(name)['NetworkSettings']['Networks'], docker.ok('network', 'inspect', net)
    crash()
    assert docker.inspect(name)['NetworkSettings']['Networks'] == before and docker.ok('network', 'inspect', net) == there
    docker.ok('exec', name, 'ping', '-c', '1', '-W', '5', ROUTER)
    docker.ok('network', 'disconnect', net, name)
    assert docker.ok('exec', name, 'ls', '/sys/class/net').split() == ['lo']
    docker.ok('rm', '-f', name)


@pytest.mark.berth
@pytest.mark.parametrize('options, says', [(['parent=nosuchlink'], 'nosuchlink'), (['parent=lo', 'macvlan_mode=x'], "macvlan mode 'x' is not valid"),
                                           (['parent=lo'], 'loopback interface is not a valid macvlan parent link'),
                                           (['parent=lo', 'x=y'], 'Options.x')])
def test_what_is_no_network(docker, name, options, says):
    answer = docker('network', 'create', '-d', 'macvlan', *[word for option in options for word in ('-o', option)], name)
    assert answer.code == 1 and says in answer.err, answer
    assert name not in docker.ok('network', 'ls', '--format', '{{.Name}}').split()


@pytest.mark.berth
@pytest.mark.parametrize('words, lacks', [(['-d', 'ipvlan', '-o', 'parent={parent}'], 'ipvlan'),
                                          (['-d', 'ipvlan', '-o', 'parent={parent}', '-o', 'ipvlan_mode=l3', '-o', 'ipvlan_flag=private'], 'ipvlan'),
                                          (['-d', 'macvlan', '-o', 'parent={parent}.7'], 'VLANs (8021q)'), (['-d', 'macvlan'], 'dummy links')])
def test_what_the_kernel_may_not_have(docker, parent, name, words, lacks):
    """Kernels differ in what links they know; tools/v2-guest runs such networks on one that knows all."""
    answer = docker('network', 'create', *[word.format(parent=parent) for word in words], name)
    if answer.code:
        assert f'the kernel has no {lacks}' in answer.err
        assert name not in docker.ok('network', 'ls', '--format', '{{.Name}}').split()
        return
    if not docker.vm:
        assert 'eth0' in docker.ok('run', '--rm', '--network', name, 'bb', 'ip', 'address')
    docker.ok('network', 'rm', name)


@pytest.mark.berth
@pytest.mark.parametrize('option, says', [('ipvlan_mode=x', "requested ipvlan mode 'x' is not valid, 'l2' mode is the ipvlan driver default"),
                                          ('ipvlan_flag=x', "requested ipvlan flag 'x' is not valid, 'bridge' is the ipvlan driver default"),
                                          ('parent=lo', 'loopback interface is not a valid ipvlan parent link'), ('macvlan_mode=vepa', 'Options.macvlan_mode')])
def test_what_is_no_ipvlan(docker, name, option, says):
    answer = docker('network', 'create', '-d', 'ipvlan', '-o', option, name)
    assert answer.code == 1 and says in answer.err, answer
