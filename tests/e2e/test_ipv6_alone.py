"""Networks without IPv4: addresses, names, ports, several networks at once."""
import ipaddress
import json
import socket

import pytest

from test_dns import ask
from test_ipv6 import AAAA, place
from test_net import fetch, free_port
from test_survive import crash  # noqa: F401, a fixture

pytestmark = [pytest.mark.differs('networks without IPv4 came with 28'), pytest.mark.new_client('no --ipv4')]
SUBNET = 'fd00:be:17::/64'


@pytest.fixture
def alone(docker, name):
    docker.ok('network', 'create', '--ipv4=false', '--ipv6', '--subnet', SUBNET, name)
    yield name
    for container in docker.ok('ps', '-aq', '--filter', f'network={name}').split():
        docker.ok('rm', '-f', container)
    docker.ok('network', 'rm', name)


def test_a_network_of_one_kind(docker, name):
    docker.ok('network', 'create', '--ipv4=false', '--ipv6', name)
    shown = json.loads(docker.ok('network', 'inspect', name))[0]
    pools = [ipaddress.ip_network(pool['Subnet']) for pool in shown['IPAM']['Config']]
    assert (shown['EnableIPv4'], shown['EnableIPv6'], [pool.version for pool in pools]) == (False, True, [6])
    assert docker.ok('network', 'ls', '--filter', f'name={name}', '--format', '{{.IPv4}} {{.IPv6}}') == 'false true'
    docker.ok('network', 'create', '-o', 'com.docker.network.enable_ipv4=false', '-o', 'com.docker.network.enable_ipv6=true', name + 'o')
    assert json.loads(docker.ok('network', 'inspect', name + 'o'))[0]['EnableIPv4'] is False
    docker.ok('network', 'rm', name, name + 'o')


def test_addresses_names_and_ports(docker, alone, name):
    port = free_port(socket.AF_INET6)
    docker.ok('run', '-d', '--name', name, '--network', alone, '--network-alias', 'other', '-p', f'{port}:80', '-p', '127.0.0.1::81', 'bb', 'httpd', '-f', '-p',
              '80', '-h', '/etc')
    shown = place(docker, name, alone)
    assert (shown['IPAddress'], shown['IPPrefixLen'], shown['Gateway']) == ('', 0, '') and shown['IPv6Gateway'] == 'fd00:be:17::1'
    six = shown['GlobalIPv6Address']
    assert ipaddress.ip_address(six) in ipaddress.ip_network(SUBNET) and six + '\t' in docker.ok('exec', name, 'cat', '/etc/hosts')
    member = json.loads(docker.ok('network', 'inspect', alone))[0]['Containers'][docker.inspect(name)['Id']]
    assert (member['IPv4Address'], member['IPv6Address']) == ('', six + '/64')
    said = docker.ok('exec', name, 'sh', '-c', 'ip -4 addr show eth0; ip -4 route; echo; ip -6 route')
    assert said.startswith('default via fd00:be:17::1') or said.strip().split('\n')[0].find('inet ') < 0 and 'default via fd00:be:17::1' in said
    ports = docker.inspect(name)['NetworkSettings']['Ports']
    assert ports['80/tcp'] == [{'HostIp': '::', 'HostPort': str(port)}] and not ports.get('81/tcp')  # there is no way for IPv4
    assert fetch(f'http://[::1]:{port}/hostname') and fetch(f'http://[{six}]:80/hostname')
    said = docker.ok('run', '--rm', '--network', alone, 'bb', 'sh', '-c', 'ping -c 1 -W 5 other && nslookup -type=aaaa other; nslookup -type=a other;'
                     'cat /sys/class/net/eth0/address')
    assert ' 0% packet loss' in said and six in said and said.rsplit('\n', 1)[1] != shown['MacAddress']
    # From another network by the host's address, which the kernel forwards.
    docker.ok('network', 'create', '--ipv6', name + 'o')
    said = docker.ok('run', '--rm', '--network', name + 'o', 'bb', 'sh', '-c', f'printf "GET /hostname HTTP/1.0\\r\\n\\r\\n" | nc -w 5 fd00:be:17::1 {port}')
    assert ' 200 OK' in said
    docker.ok('network', 'rm', name + 'o')


@pytest.mark.berth  # of others the namespace is not to be had
def test_questions_for_either_kind(docker, alone, name):
    docker.ok('run', '-d', '--name', name, '--network', alone, 'bb', 'sleep', '100')
    six = place(docker, name, alone)['GlobalIPv6Address']
    assert f'name = {name}.{alone}' in docker.ok('exec', name, 'nslookup', '-type=ptr', ipaddress.ip_address(six).reverse_pointer)
    if not docker.vm:
        assert ask(docker, name, name, AAAA) == ['OK', repr(socket.inet_pton(socket.AF_INET6, six))] and ask(docker, name, name) == ['OK']


@pytest.mark.container_only('NetworkingConfig.EndpointsConfig')
def test_each_kind_by_a_network_of_its_own(docker, alone, name):
    docker.ok('network', 'create', name + 'o')
    port = free_port()
    docker.ok('run', '-d', '--name', name, '--network', name + 'o', '-p', f'{port}:80', 'bb', 'httpd', '-f', '-p', '80', '-h', '/etc')
    assert fetch(f'http://127.0.0.1:{port}/hostname') and fetch(f'http://[::1]:{port}/hostname')
    docker.ok('network', 'connect', alone, name)
    four, six = docker.ok('exec', name, 'ip', 'route'), docker.ok('exec', name, 'ip', '-6', 'route')
    assert place(docker, name, name + 'o')['Gateway'] in four and 'default via fd00:be:17::1' in six
    assert fetch(f'http://127.0.0.1:{port}/hostname') and fetch(f'http://[::1]:{port}/hostname') and fetch(f'http://[fd00:be:17::1]:{port}/hostname')
    docker.ok('network', 'disconnect', alone, name)
    assert fetch(f'http://127.0.0.1:{port}/hostname') and fetch(f'http://[::1]:{port}/hostname')
    assert 'default' not in docker.ok('exec', name, 'ip', '-6', 'route')
    docker.ok('rm', '-f', name)
    docker.ok('network', 'rm', name + 'o')


@pytest.mark.berth
def test_it_is_kept_over_a_restart_of_the_daemon(docker, crash, alone, name):  # noqa: F811
    port = free_port(socket.AF_INET6)
    docker.ok('run', '-d', '--name', name, '--network', alone, '-p', f'{port}:80', 'bb', 'httpd', '-f', '-p', '80', '-h', '/etc')
    docker.ok('run', '-d', '--name', name + '2', '--network', alone, 'bb', 'sleep', '100')
    before, there = place(docker, name, alone), docker.ok('network', 'inspect', alone)
    crash()
    assert place(docker, name, alone) == before and docker.ok('network', 'inspect', alone) == there and before['GlobalIPv6Address']
    assert fetch(f'http://[fd00:be:17::1]:{port}/hostname')


@pytest.mark.parametrize('words, says', [
    (['--ipv4=false'], 'IPv4 or IPv6 must be enabled'),
    pytest.param(['--ipv4=false', '--ipv6', '--subnet', '10.231.8.0/24'], 'the network has no IPv4', marks=pytest.mark.berth),
    (['-o', 'com.docker.network.enable_ipv4=maybe'], 'enable_ipv4'),
])
def test_what_is_no_network(docker, name, words, says):
    answer = docker('network', 'create', *words, name)
    assert answer.code == 1 and says in answer.err, answer
    assert name not in docker.ok('network', 'ls', '--format', '{{.Name}}').split()


def test_an_address_that_it_can_not_give(docker, alone):
    answer = docker('run', '--rm', '--network', alone, '--ip', '10.231.8.7', 'bb', 'true')
    assert answer.code == 125 and '10.231.8.7' in answer.err or 'subnet' in answer.err
