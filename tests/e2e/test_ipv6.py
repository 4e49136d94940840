"""IPv6 on networks of clients: addresses, names, ports, what is refused."""
import ipaddress
import json
import socket
import subprocess

import pytest

from test_dns import ask
from test_net import fetch, free_port
from test_survive import crash  # noqa: F401, a fixture

AAAA = 28
SUBNET = 'fd00:be:7::/64'
old = pytest.mark.differs('ip6tables and a subnet without asking for one came later')


def place(docker, container, network):
    return docker.inspect(container)['NetworkSettings']['Networks'][network]


def network_of(docker, name):
    return json.loads(docker.ok('network', 'inspect', name))[0]


@pytest.fixture
def net(docker, name):
    docker.ok('network', 'create', '--ipv6', '--subnet', SUBNET, name)
    yield name
    for container in docker.ok('ps', '-aq', '--filter', f'network={name}').split():
        docker.ok('rm', '-f', container)
    docker.ok('network', 'rm', name)


def web(docker, name, *options):
    docker.ok('run', '-d', '--name', name, *options, 'bb', 'httpd', '-f', '-p', '80', '-h', '/etc')


@old
def test_a_subnet_of_the_daemons_own(docker, name):
    docker.ok('network', 'create', '--ipv6', name)
    docker.ok('network', 'create', '--ipv6', name + 'o')
    shown = network_of(docker, name)
    pools = [ipaddress.ip_network(pool['Subnet']) for pool in shown['IPAM']['Config']]
    assert shown['EnableIPv6'] and [pool.version for pool in pools] == [4, 6]
    assert pools[1].is_private and pools[1].prefixlen == 64 and ipaddress.ip_address(shown['IPAM']['Config'][1]['Gateway']) == pools[1][1]
    assert docker.ok('network', 'ls', '--filter', f'name={name}', '--format', '{{.IPv6}}').split() == ['true', 'true']
    assert network_of(docker, name + 'o')['IPAM']['Config'][1]['Subnet'] != shown['IPAM']['Config'][1]['Subnet']
    docker.ok('network', 'rm', name, name + 'o')


def test_a_subnet_of_the_clients_choice(docker, name):
    docker.ok('network', 'create', '--ipv6', '--subnet', SUBNET, '--gateway', 'fd00:be:7::ff', '--ip-range', 'fd00:be:7::8:0/112', '--aux-address',
              'other=fd00:be:7::8:0', '--subnet', '10.231.9.0/24', name)
    pools = {pool['Subnet']: pool for pool in network_of(docker, name)['IPAM']['Config']}
    assert set(pools) == {SUBNET, '10.231.9.0/24'} and pools[SUBNET]['Gateway'] == 'fd00:be:7::ff' and pools[SUBNET]['IPRange'] == 'fd00:be:7::8:0/112'
    said = docker.ok('run', '--rm', '--network', name, 'bb', 'sh', '-c', 'ip -6 addr show eth0; ip -6 route; ip -4 addr show eth0')
    assert 'inet6 fd00:be:7::8:1/64' in said and 'default via fd00:be:7::ff' in said and 'inet 10.231.9.2/24' in said
    docker.ok('network', 'rm', name)


def test_addresses_and_names(docker, net, name):
    docker.ok('run', '-d', '--name', name + 'a', '--network', net, '--network-alias', 'other', 'bb', 'sleep', '100')
    shown, there = place(docker, name + 'a', net), network_of(docker, net)
    six = shown['GlobalIPv6Address']
    assert ipaddress.ip_address(six) in ipaddress.ip_network(SUBNET) and shown['GlobalIPv6PrefixLen'] == 64
    assert shown['IPv6Gateway'] == 'fd00:be:7::1' and shown['IPAddress']
    assert there['Containers'][docker.inspect(name + 'a')['Id']]['IPv6Address'] == six + '/64'
    assert f'{six}\t' in docker.ok('exec', name + 'a', 'cat', '/etc/hosts')
    said = docker.ok('run', '--rm', '--name', name + 'b', '--network', net, 'bb', 'sh', '-c',
                     f'ping -6 -c 1 -W 5 {six} && ping -6 -c 1 -W 5 fd00:be:7::1 && ping -6 -c 1 -W 5 other && nslookup -type=aaaa other; ip -6 route')
    assert said.count(' 0% packet loss') == 3 and said.count(six) > 2 and 'default via fd00:be:7::1' in said


@pytest.mark.berth  # of others the namespace is not to be had
def test_questions_for_either_kind(docker, net, name):
    docker.ok('run', '-d', '--name', name, '--network', net, 'bb', 'sleep', '100')
    shown = place(docker, name, net)
    pointer = ipaddress.ip_address(shown['GlobalIPv6Address']).reverse_pointer
    assert f'name = {name}.{net}' in docker.ok('exec', name, 'nslookup', '-type=ptr', pointer)
    for proto in ('udp', 'tcp') if not docker.vm else ():
        assert ask(docker, name, name, AAAA, proto) == ['OK', repr(socket.inet_pton(socket.AF_INET6, shown['GlobalIPv6Address']))]
        assert ask(docker, name, name, proto=proto) == ['OK', shown['IPAddress']]


@pytest.mark.new_client('it leaves an address of the default bridge out')
def test_an_address_of_the_clients_choice(docker, net, name):
    docker.ok('run', '-d', '--name', name, '--network', net, '--ip6', 'fd00:be:7::77', 'bb', 'sleep', '100')
    shown = place(docker, name, net)
    assert shown['GlobalIPv6Address'] == 'fd00:be:7::77' and shown['IPAMConfig'] == {'IPv6Address': 'fd00:be:7::77'}
    for words, says in ((['--ip6', 'fd00:be:7::77'], 'already in use'), (['--ip6', 'fd00:be:8::1'], 'fd00:be:8::1'), (['--ip6', '10.1.1.1'], '10.1.1.1')):
        answer = docker('run', '--rm', '--network', net, *words, 'bb', 'true')
        assert answer.code == 125 and says in answer.err, answer
    answer = docker('run', '--rm', '--ip6', 'fd00:be:7::78', 'bb', 'true')
    assert answer.code == 125 and 'user' in answer.err


@pytest.mark.container_only('NetworkingConfig.EndpointsConfig')
def test_it_comes_and_goes_while_the_container_runs(docker, net, name):
    docker.ok('network', 'create', name + 'o')
    docker.ok('run', '-d', '--name', name, '--network', name + 'o', 'bb', 'sleep', '100')
    assert 'fd00' not in docker.ok('exec', name, 'ip', '-6', 'addr') and place(docker, name, name + 'o')['GlobalIPv6Address'] == ''
    answer = docker('network', 'connect', '--ip6', 'fd00:be:7::1', net, name)
    assert answer.code == 1 and 'already in use' in answer.err
    docker.ok('network', 'connect', '--ip6', 'fd00:be:7::5', net, name)
    assert place(docker, name, net)['GlobalIPv6Address'] == 'fd00:be:7::5'
    assert 'default via fd00:be:7::1' in docker.ok('exec', name, 'ip', '-6', 'route')
    assert 'fd00:be:7::5\t' in docker.ok('exec', name, 'cat', '/etc/hosts')
    docker.ok('run', '--rm', '--network', net, 'bb', 'ping', '-6', '-c', '1', '-W', '5', 'fd00:be:7::5')
    docker.ok('network', 'disconnect', net, name)
    assert 'default' not in docker.ok('exec', name, 'ip', '-6', 'route') and 'fd00:be:7::5' not in docker.ok('exec', name, 'cat', '/etc/hosts')
    docker.ok('rm', '-f', name)
    docker.ok('network', 'rm', name + 'o')


@old
def test_published_ports(docker, net, name):
    port, one = free_port(), free_port(socket.AF_INET6)
    web(docker, name, '--network', net, '-p', f'{port}:80', '-p', f'[::1]:{one}:80')
    for at in (f'127.0.0.1:{port}', f'[::1]:{port}', f'[::1]:{one}', f'[fd00:be:7::1]:{port}', f'[{place(docker, name, net)["GlobalIPv6Address"]}]:80'):
        assert fetch(f'http://{at}/hostname'), at
    # From another network by the host's address, which the kernel forwards.
    docker.ok('network', 'create', '--ipv6', name + 'o')
    said = docker.ok('run', '--rm', '--network', name + 'o', 'bb', 'sh', '-c',
                     f'printf "GET /hostname HTTP/1.0\\r\\n\\r\\n" | nc -w 5 fd00:be:7::1 {port}')
    assert ' 200 OK' in said
    # What is not published is not reached from there.
    six = place(docker, name, net)['GlobalIPv6Address']
    assert docker('run', '--rm', '--network', name + 'o', 'bb', 'ping', '-6', '-c', '1', '-W', '1', six).code == 1
    docker.ok('network', 'rm', name + 'o')


@pytest.mark.differs('20.10 gives it a default route')
def test_a_network_that_leads_nowhere(docker, name):
    docker.ok('network', 'create', '--internal', '--ipv6', '--subnet', SUBNET, name)
    said = docker.ok('run', '--rm', '--network', name, 'bb', 'sh', '-c', 'ip -6 route; ip -6 addr')
    assert 'default' not in said and 'inet6 fd00:be:7::2/64' in said
    docker.ok('network', 'rm', name)


@pytest.mark.berth
def test_it_is_kept_over_a_restart_of_the_daemon(docker, crash, net, name):
    port = free_port()
    web(docker, name, '--network', net, '-p', f'{port}:80')
    before, there = place(docker, name, net), network_of(docker, net)
    crash()
    assert place(docker, name, net) == before and network_of(docker, net) == there and before['GlobalIPv6Address']
    assert fetch(f'http://[fd00:be:7::1]:{port}/hostname')
    docker.ok('rm', '-f', name)
    docker.ok('run', '--rm', '--network', net, '--ip6', before['GlobalIPv6Address'], 'bb', 'true')


@pytest.mark.berth
def test_the_table_goes_with_the_last_network(docker, engine, net):
    table = f'berth_{docker.ok("network", "inspect", "-f", "{{index .Options}}", "bridge").split("name:b")[1][:4]}'
    listed = subprocess.run(['nft', 'list', 'tables', 'ip6'], capture_output=True, text=True).stdout
    assert table in listed
    others = [line for line in docker.ok('network', 'ls', '--filter', 'type=custom', '--format', '{{.IPv6}} {{.Name}}').splitlines() if line.startswith('true')]
    assert others == [f'true {net}']
    docker.ok('network', 'rm', net)
    assert table not in subprocess.run(['nft', 'list', 'tables', 'ip6'], capture_output=True, text=True).stdout
    docker.ok('network', 'create', '--ipv6', '--subnet', SUBNET, net)


@pytest.mark.parametrize('words, says', [
    pytest.param(['--ipv6', '--subnet', 'fd00:be:9::1/64'], 'it should be fd00:be:9::/64', marks=pytest.mark.differs('takes it')),
    (['--ipv6', '--subnet', 'fd00:be:9::/64', '--gateway', 'fd00:be:a::1'], 'fd00:be:a::1'),
    (['--ipv6', '--subnet', 'fd00:be:9::/64', '--ip-range', 'fd00:be:a::/80'], 'fd00:be:a::'),
    pytest.param(['--ipv6', '--subnet', 'fd00:be:9::/129'], 'fd00:be:9::/129', marks=pytest.mark.differs('other words')),
    pytest.param(['--ipv6', '--subnet', 'fd00:be:9::/64', '--subnet', 'fd00:be:a::/64'], "doesn't support multiple subnets", marks=pytest.mark.berth),
    pytest.param(['--subnet', 'fd00:be:9::/64'], 'EnableIPv6', marks=pytest.mark.berth),
])
def test_what_is_no_network(docker, name, words, says):
    answer = docker('network', 'create', *words, name)
    assert answer.code == 1 and says in answer.err, answer
    assert name not in docker.ok('network', 'ls', '--format', '{{.Name}}').split()


def test_subnets_that_overlap(docker, net, name):
    answer = docker('network', 'create', '--ipv6', '--subnet', 'fd00:be::/32', name + 'o')
    assert answer.code == 1 and 'Pool overlaps with other one on this address space' in answer.err
