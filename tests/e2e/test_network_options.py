"""What the options of a network do, and what is told of it: events, prune by age, numbers of each card, a forced way off."""
import json

import pytest

from test_networks import net, other  # noqa: F401, fixtures
from test_survive import crash  # noqa: F401, a fixture

BRIDGE = 'com.docker.network.bridge.'


@pytest.fixture
def network(docker, name):
    """make(options...): the network's name; what was attached to it goes first."""
    made = []

    def make(*options):
        made.append(f'{name}{len(made)}')
        docker.ok('network', 'create', *options, made[-1])
        return made[-1]
    yield make
    docker('rm', '-f', name, name + '2')
    for one in made:
        docker('network', 'rm', one)


def now(docker):
    return docker.ok('info', '--format', '{{.SystemTime}}')


@pytest.mark.differs('tells of the leaving of a container that does not run')
def test_its_life_in_events(docker, name):
    since = now(docker)
    made = docker.ok('network', 'create', name)
    box = docker.ok('create', '--network', name, 'bb', 'true')
    docker.ok('network', 'disconnect', name, box)
    docker.ok('rm', box)
    docker.ok('network', 'rm', name)
    lines = docker.ok('events', '--since', since, '--until', now(docker), '--filter', 'type=network', '--filter', f'network={name}', '--format',
                      '{{json .}}').splitlines()
    events = [json.loads(line) for line in lines]
    assert [(event['Action'], event['Actor']['ID']) for event in events] == [('create', made), ('destroy', made)]
    assert [event['Actor']['Attributes'] for event in events] == [{'name': name, 'type': 'bridge'}] * 2
    assert all(event['scope'] == 'local' for event in events)


def test_a_stopped_one_is_taken_off_by_force(docker, network, name):
    one = network()
    docker.ok('create', '--name', name, '--network', one, 'bb', 'true')
    docker.ok('network', 'disconnect', '-f', one, name)
    assert docker.inspect(name)['NetworkSettings']['Networks'] == {}
    answer = docker('network', 'disconnect', one, name)
    assert answer.code == 1 and 'is not connected to' in answer.err
    answer = docker('network', 'disconnect', one, 'nosuch' + name)
    assert answer.code == 1 and 'No such container' in answer.err


@pytest.mark.container_only('NetworkingConfig.EndpointsConfig')
class TestSeveral:
    @pytest.mark.berth
    @pytest.mark.new_client('one network at create')
    def test_each_is_kept_over_a_restart_of_the_daemon(self, docker, crash, net, other, name):  # noqa: F811
        docker.ok('run', '-d', '--name', name, '--network', net, '--network', other, 'bb', 'sleep', '100')
        before = docker.inspect(name)['NetworkSettings']['Networks']
        crash()
        assert docker.inspect(name)['NetworkSettings']['Networks'] == before and len(before) == 2
        docker.ok('network', 'disconnect', other, name)
        assert docker.ok('exec', name, 'sh', '-c', 'ls /sys/class/net | sort').split() == ['eth0', 'lo']
        docker.ok('rm', '-f', name)
        assert docker.ok('network', 'rm', other) == other
        docker.ok('network', 'create', other)

    def test_each_has_its_numbers(self, docker, api, net, other, name):  # noqa: F811
        box = docker.ok('run', '-d', '--name', name, '--network', net, 'bb', 'sleep', '100')
        docker.ok('network', 'connect', other, name)
        gateway = docker.inspect(name)['NetworkSettings']['Networks'][other]['Gateway']
        docker.ok('exec', name, 'ping', '-c', '2', '-i', '0.1', '-s', '1000', gateway)
        numbers = api.get(f'/containers/{box}/stats?stream=0&one-shot=1').json['networks']
        assert set(numbers) == {'eth0', 'eth1'} and numbers['eth1']['tx_bytes'] > 2000 > numbers['eth0']['tx_bytes']


@pytest.mark.differs_today('has a network namespace of its own here, whose links /sys does not show')
def test_a_link_of_the_clients_name(docker, network, name):
    one = network('-o', BRIDGE + 'name=x' + name[-8:])
    with open(f'/sys/class/net/x{name[-8:]}/mtu') as file:
        assert file.read() == '1500\n'
    answer = docker('network', 'create', '-o', BRIDGE + 'name=x' + name[-8:], name + 'b')
    assert answer.code == 1 and 'x' + name[-8:] in answer.err
    assert json.loads(docker.ok('network', 'inspect', one))[0]['Options'] == {BRIDGE + 'name': 'x' + name[-8:]}


def test_neighbours_that_do_not_talk(docker, network, name):
    one = network('-o', BRIDGE + 'enable_icc=false')
    docker.ok('run', '-d', '--name', name, '--network', one, 'bb', 'sleep', '100')
    settings = docker.inspect(name)['NetworkSettings']['Networks'][one]
    said = docker.ok('run', '--rm', '--network', one, 'bb', 'sh', '-c',
                     f'ping -c 1 -W 1 {settings["IPAddress"]} >/dev/null && echo neighbour; ping -c 1 -W 5 {settings["Gateway"]} >/dev/null && echo host')
    assert said == 'host'


def test_ports_go_to_the_networks_address(docker, network, name):
    one = network('-o', BRIDGE + 'host_binding_ipv4=127.0.0.1')
    docker.ok('run', '-d', '--name', name, '--network', one, '-p', '80', 'bb', 'sleep', '100')
    assert docker.ok('port', name, '80/tcp').startswith('127.0.0.1:')


def test_those_of_some_age_are_pruned(docker, network):
    one = network()
    assert one not in docker.ok('network', 'prune', '-f', '--filter', 'until=1h')
    assert one in docker.ok('network', 'prune', '-f', '--filter', f'until={now(docker)}')
    answer = docker('network', 'prune', '-f', '--filter', 'dangling=true')
    assert answer.code == 1 and 'dangling' in answer.err


def test_an_endpoint_in_one_word(docker, network, name):
    one = network('--subnet', '10.231.7.0/24')
    docker.ok('run', '-d', '--name', name, '--network', f'name={one},alias=first,ip=10.231.7.9', 'bb', 'sleep', '100')
    shown = docker.inspect(name)['NetworkSettings']['Networks'][one]
    assert (shown['IPAddress'], shown['IPAMConfig'], shown['Aliases'][0]) == ('10.231.7.9', {'IPv4Address': '10.231.7.9'}, 'first')


@pytest.mark.differs('20.10 has no such option')
def test_a_card_of_the_clients_name(docker, network):
    option = 'driver-opt=com.docker.network.endpoint.ifname=lan7'
    assert docker.ok('run', '--rm', '--network', f'name={network()},{option}', 'bb', 'ls', '/sys/class/net').split() == ['lan7', 'lo']
