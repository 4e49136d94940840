"""Networks of clients: made, joined, left, removed; several for one container."""
import json
import urllib.request

import pytest

from test_survive import crash  # noqa: F401, a fixture


@pytest.fixture
def net(docker, name):
    """A network, and what was attached to it goes first."""
    network = 'n' + name
    docker.ok('network', 'create', network)
    yield network
    docker('rm', '-f', name, name + '2')
    docker.ok('network', 'rm', network)


@pytest.fixture
def other(docker, net, name):
    docker.ok('network', 'create', name + 'o')
    yield name + 'o'
    docker('rm', '-f', name)
    docker.ok('network', 'rm', name + 'o')


def address(docker, container, network):
    return docker.inspect(container)['NetworkSettings']['Networks'][network]['IPAddress']


# ---- the network itself ---------------------------------------------------------------------------------------------


def test_a_network_is_listed_inspected_and_removed(docker, name):
    made = docker.ok('network', 'create', '--label', 'a=b', '--attachable', name)
    assert len(made) == 64
    shown = json.loads(docker.ok('network', 'inspect', name))[0]
    assert (shown['Id'], shown['Name'], shown['Driver'], shown['Labels'], shown['Internal'], shown['Attachable']) == \
        (made, name, 'bridge', {'a': 'b'}, False, True)
    pool = shown['IPAM']['Config'][0]
    assert pool['Subnet'].split('/')[0].rsplit('.', 1)[0] == pool['Gateway'].rsplit('.', 1)[0]
    assert json.loads(docker.ok('network', 'inspect', made[:12]))[0]['Name'] == name
    for filters, found in (([f'name={name}'], True), ([f'id={made[:9]}'], True), (['driver=bridge', 'type=custom', 'label=a=b'], True),
                           (['type=builtin'], False), (['dangling=true'], True), (['label=nosuch'], False), (['driver=null'], False)):
        flags = [word for text in filters for word in ('-f', text)]
        assert (name in docker.ok('network', 'ls', '--format', '{{.Name}}', *flags).split()) == found, filters
    assert docker.ok('network', 'rm', name) == name
    assert docker('network', 'inspect', name).code == 1


def test_a_subnet_of_the_clients_choice(docker, name):
    docker.ok('network', 'create', '--subnet', '10.231.4.0/24', '--gateway', '10.231.4.254', '--ip-range', '10.231.4.128/28', '--aux-address',
              'other=10.231.4.128', '-o', 'com.docker.network.driver.mtu=1400', name)
    pool = json.loads(docker.ok('network', 'inspect', name))[0]['IPAM']['Config'][0]
    assert pool == {'Subnet': '10.231.4.0/24', 'IPRange': '10.231.4.128/28', 'Gateway': '10.231.4.254',
                    'AuxiliaryAddresses' if 'AuxiliaryAddresses' in pool else 'AuxAddress': {'other': '10.231.4.128'}}
    said = docker.ok('run', '--rm', '--network', name, 'bb', 'sh', '-c', 'ip -4 addr show eth0; ip route')
    assert 'inet 10.231.4.129/24' in said and 'mtu 1400' in said and 'default via 10.231.4.254' in said
    assert 'inet 10.231.4.77/24' in docker.ok('run', '--rm', '--network', name, '--ip', '10.231.4.77', 'bb', 'ip', 'addr')
    assert docker('run', '--rm', '--network', name, '--ip', '10.9.9.9', 'bb', 'true').code == 125
    assert docker('network', 'create', '--subnet', '10.231.4.128/25', name + 'o').code == 1
    docker.ok('network', 'rm', name)


@pytest.mark.parametrize('words, says', [
    (['bridge'], 'operation is not permitted on predefined bridge network'),
    (['-d', 'nosuch', 'x'], 'plugin "nosuch" not found'),
    pytest.param(['--subnet', '10.231.5.1/24', 'x'], 'invalid subnet 10.231.5.1/24: it should be 10.231.5.0/24',
                 marks=pytest.mark.differs('takes it')),
    (['--subnet', '10.231.5.0/24', '--ip-range', '10.231.6.0/25', '--gateway', '10.231.5.1', 'x'], '10.231.6.0/25'),
    (['-o', 'com.docker.network.driver.mtu=much', 'x'], 'com.docker.network.driver.mtu'),
])
def test_what_is_no_network(docker, words, says):
    before = docker.ok('network', 'ls', '-q')
    answer = docker('network', 'create', *words)
    assert answer.code == 1 and says in answer.err, answer
    assert docker.ok('network', 'ls', '-q') == before


@pytest.mark.berth
@pytest.mark.parametrize('words, says', [(['-o', 'nosuch=x'], 'Options.nosuch'),
                                         (['--config-only'], 'ConfigOnly'), (['--scope', 'swarm'], 'Scope')])
def test_what_can_not_be_honoured_is_refused(docker, words, says):
    answer = docker('network', 'create', *words, 'x')
    assert answer.code == 1 and says in answer.err and 'x' not in docker.ok('network', 'ls', '--format', '{{.Name}}').split()


def test_names_and_removal(docker, net, name):
    answer = docker('network', 'create', net)
    assert answer.code == 1 and f'network with name {net} already exists' in answer.err
    docker.ok('run', '-d', '--name', name, '--network', net, 'bb', 'sleep', '100')
    answer = docker('network', 'rm', net)
    assert answer.code == 1 and f'network {net}' in answer.err and 'has active endpoints' in answer.err
    assert net not in docker.ok('network', 'prune', '-f')
    answer = docker('network', 'rm', 'bridge')
    assert answer.code == 1 and 'bridge is a pre-defined network and cannot be removed' in answer.err
    answer = docker('run', '--rm', '--network', 'nosuch', 'bb', 'true')
    assert answer.code == 125 and 'network nosuch not found' in answer.err


def test_unused_ones_are_pruned(docker, name):
    docker.ok('network', 'create', '--label', 'keep=1', name + 'a')
    docker.ok('network', 'create', name + 'b')
    gone = docker.ok('network', 'prune', '-f', '--filter', 'label!=keep')
    assert name + 'b' in gone and name + 'a' not in gone
    docker.ok('network', 'rm', name + 'a')


# ---- containers on it -----------------------------------------------------------------------------------------------


def test_two_containers_and_the_world(docker, net, name):
    docker.ok('run', '-d', '--name', name, '--network', net, '--network-alias', 'other', 'bb', 'sleep', '100')
    shown = docker.inspect(name)
    endpoint = shown['NetworkSettings']['Networks'][net]
    assert list(shown['NetworkSettings']['Networks']) == [net] and shown['HostConfig']['NetworkMode'] == net
    assert endpoint['Aliases'][:1] == ['other'] and endpoint['MacAddress'] and len(endpoint['EndpointID']) == 64
    assert shown['NetworkSettings']['IPAddress'] == ''
    there = json.loads(docker.ok('network', 'inspect', net))[0]['Containers'][shown['Id']]
    assert there['IPv4Address'].startswith(endpoint['IPAddress'] + '/') and there['Name'] == name
    docker.ok('run', '--rm', '--network', net, 'bb', 'ping', '-c', '1', '-W', '5', endpoint['IPAddress'])
    # Other networks are apart.
    assert docker('run', '--rm', 'bb', 'ping', '-c', '1', '-W', '1', endpoint['IPAddress']).code == 1
    assert name in docker.ok('ps', '--filter', f'network={net}', '--format', '{{.Names}}')
    assert name not in docker.ok('ps', '--filter', 'network=bridge', '--format', '{{.Names}}')


@pytest.mark.differs('20.10 gives it a default route')
def test_a_network_that_leads_nowhere(docker, name):
    docker.ok('network', 'create', '--internal', name)
    said = docker.ok('run', '--rm', '--network', name, 'bb', 'ip', 'route')
    assert 'default' not in said and 'eth0' in said
    docker.ok('network', 'rm', name)


@pytest.mark.container_only('NetworkingConfig.EndpointsConfig')
class TestSeveral:
    def test_at_the_start(self, docker, net, other, name):
        docker.needs((1, 44), 'names one network at create')
        docker.ok('run', '-d', '--name', name, '--network', net, '--network', f'name={other},mac-address=02:42:ac:11:aa:bb', 'bb', 'sleep', '100')
        shown = docker.inspect(name)['NetworkSettings']['Networks']
        assert set(shown) == {net, other} and shown[other]['MacAddress'] == '02:42:ac:11:aa:bb'
        assert docker.ok('exec', name, 'sh', '-c', 'ls /sys/class/net | sort').split() == ['eth0', 'eth1', 'lo']
        hosts = docker.ok('exec', name, 'cat', '/etc/hosts')
        assert all(shown[network]['IPAddress'] + '\t' in hosts for network in shown)
        assert docker.ok('exec', name, 'ip', 'route').count('default') == 1
        docker.ok('restart', '-t', '0', name)
        assert set(docker.inspect(name)['NetworkSettings']['Networks']) == {net, other}
        assert shown[other]['MacAddress'] in docker.ok('exec', name, 'ip', 'link')

    def test_the_way_out_follows_the_priority(self, docker, net, other, name):
        docker.needs((1, 48), 'has no priorities')
        docker.ok('run', '-d', '--name', name, '--network', net, '--network', f'name={other},gw-priority=1', 'bb', 'sleep', '100')
        gateway = docker.inspect(name)['NetworkSettings']['Networks'][other]['Gateway']
        assert f'default via {gateway} ' in docker.ok('exec', name, 'ip', 'route')

    def test_connect_and_disconnect_while_it_runs(self, docker, net, name, engine):
        docker.ok('run', '-d', '--name', name, '-p', '127.0.0.1::80', 'bb', 'httpd', '-f', '-p', '80', '-h', '/etc')
        docker.ok('network', 'connect', '--alias', 'here', net, name)
        shown = docker.inspect(name)['NetworkSettings']['Networks']
        assert shown[net]['Aliases'][:1] == ['here']
        docker.ok('run', '--rm', '--network', net, 'bb', 'wget', '-qO', '/dev/null', f'http://{shown[net]["IPAddress"]}/hostname')
        assert shown[net]['IPAddress'] + '\t' in docker.ok('exec', name, 'cat', '/etc/hosts')
        answer = docker('network', 'connect', net, name)
        assert answer.code == 1 and f'endpoint with name {name} already exists in network {net}' in answer.err
        # The first one goes: route and port follow.
        docker.ok('network', 'disconnect', 'bridge', name)
        assert list(docker.inspect(name)['NetworkSettings']['Networks']) == [net]
        if engine.name != 'dockerd':  # 20.10 leaves the line
            assert shown['bridge']['IPAddress'] + '\t' not in docker.ok('exec', name, 'cat', '/etc/hosts')
        assert f'default via {shown[net]["Gateway"]} ' in docker.ok('exec', name, 'ip', 'route')
        if engine.name != 'dockerd':
            port = docker.ok('port', name, '80/tcp').rsplit(':', 1)[1]
            assert urllib.request.urlopen(f'http://127.0.0.1:{port}/hostname', timeout=5).read()
        answer = docker('network', 'disconnect', 'bridge', name)
        assert answer.code == 1 and 'is not connected to' in answer.err
        docker.ok('network', 'disconnect', net, name)
        assert docker.inspect(name)['NetworkSettings']['Networks'] == {}
        docker.ok('network', 'connect', net, name)
        assert f'inet {address(docker, name, net)}/' in docker.ok('exec', name, 'ip', 'addr')


@pytest.mark.differs_today('has no --ip where the engine chose the subnet')
def test_connect_and_disconnect_while_it_is_stopped(docker, net, name):
    docker.ok('create', '--name', name, '--network', net, 'bb', 'sleep', '100')
    docker.ok('network', 'disconnect', net, name)
    assert docker.inspect(name)['NetworkSettings']['Networks'] == {}
    docker.ok('network', 'connect', '--ip', address_in(docker, net, 9), net, name)
    docker.ok('start', name)
    assert address(docker, name, net) == address_in(docker, net, 9)
    answer = docker('network', 'connect', 'none', name)
    assert answer.code == 1 and ('none' in answer.err or 'VM wall' in answer.err)


def address_in(docker, network, last):
    gateway = json.loads(docker.ok('network', 'inspect', network))[0]['IPAM']['Config'][0]['Gateway']
    return gateway.rsplit('.', 1)[0] + f'.{last}'


@pytest.mark.parametrize('words, says', [(['--ip', '172.17.0.9'], 'user'), (['--network', 'none', '--network-alias', 'x'], 'network-scoped alias')])
@pytest.mark.new_client('it leaves an address of the default bridge out')
def test_what_the_built_in_ones_can_not(docker, words, says):
    answer = docker('run', '--rm', *words, 'bb', 'true')
    assert answer.code == 125 and says in answer.err


def test_events(docker, net, name):
    since = docker.ok('info', '--format', '{{.SystemTime}}')
    docker.ok('run', '--rm', '--name', name, '--network', net, 'bb', 'true')
    lines = docker.ok('events', '--since', since, '--until', docker.ok('info', '--format', '{{.SystemTime}}'), '--filter', 'type=network',
                      '--filter', f'network={net}', '--format', '{{.Action}} {{.Actor.Attributes.name}} {{.Actor.Attributes.type}}').splitlines()
    assert lines == [f'connect {net} bridge', f'disconnect {net} bridge']


@pytest.mark.berth
def test_all_of_it_is_kept_over_a_restart_of_the_daemon(docker, crash, net, name):
    docker.ok('run', '-d', '--name', name, '--network', net, '-p', '127.0.0.1::80', 'bb', 'httpd', '-f', '-p', '80', '-h', '/etc')
    before, network = docker.inspect(name)['NetworkSettings'], docker.ok('network', 'inspect', net)
    crash()
    after = docker.inspect(name)['NetworkSettings']
    assert (after['Networks'], after['Ports']) == (before['Networks'], before['Ports'])
    assert docker.ok('network', 'inspect', net) == network
    assert docker('network', 'rm', net).code == 1
    docker.ok('restart', '-t', '0', name)
    assert set(docker.inspect(name)['NetworkSettings']['Networks']) == {net}
