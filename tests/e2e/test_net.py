"""The default bridge, published ports, --network none."""
import ipaddress
import json
import socket
import subprocess
import time
import urllib.request

import pytest

from engines import wait_until
from test_state import stamp


def free_port(family=socket.AF_INET):
    with socket.socket(family) as probe:
        probe.bind(('::1' if family == socket.AF_INET6 else '127.0.0.1', 0))
        return probe.getsockname()[1]


def fetch(url, seconds=5):
    def once():
        try:
            return urllib.request.urlopen(url, timeout=2).read().decode()
        except OSError:
            return None
    return wait_until(once, seconds, url)


def web(docker, name, *options):
    return docker.ok('run', '-d', '--name', name, *options, 'bb', 'httpd', '-f', '-p', '80', '-h', '/var/www')


def address(docker, name):
    return docker.ok('inspect', '-f', '{{.NetworkSettings.Networks.bridge.IPAddress}}', name)


@pytest.mark.short_vm
def test_the_host_reaches_a_container(docker, name):
    web(docker, name)
    assert fetch(f'http://{address(docker, name)}/') == 'hello from the image\n'


def test_containers_reach_each_other(docker, name):
    web(docker, name)
    assert docker.ok('run', '--rm', 'bb', 'wget', '-q', '-O', '-', f'http://{address(docker, name)}/') == 'hello from the image'


def test_addresses_differ_and_come_from_the_bridge(docker, name):
    for i in range(3):
        docker.ok('run', '-d', '--name', f'{name}{i}', 'bb', 'sleep', '100')
    settings = [docker.inspect(f'{name}{i}')['NetworkSettings']['Networks']['bridge'] for i in range(3)]
    assert len({it['IPAddress'] for it in settings}) == 3 and len({it['MacAddress'] for it in settings}) == 3
    assert len({it['Gateway'] for it in settings}) == 1 and settings[0]['IPPrefixLen'] >= 16
    assert docker.ok('exec', name + '0', 'ip', '-o', '-4', 'addr', 'show', 'eth0').split()[3] == \
        f'{settings[0]["IPAddress"]}/{settings[0]["IPPrefixLen"]}'
    assert f'default via {settings[0]["Gateway"]} dev eth0' in docker.ok('exec', name + '0', 'ip', 'route')


def test_hosts_and_resolv_conf(docker, name):
    docker.ok('run', '-d', '--name', name, '-h', 'box', 'bb', 'sleep', '100')
    assert f'{address(docker, name)}\tbox' in docker.ok('exec', name, 'cat', '/etc/hosts')
    assert '127.0.0.1\tlocalhost' in docker.ok('exec', name, 'cat', '/etc/hosts')
    assert docker.ok('exec', name, 'cat', '/etc/hostname') == 'box'
    assert docker('exec', name, 'cat', '/etc/resolv.conf').code == 0


def resolv_conf(docker, *options):
    lines = docker.ok('run', '--rm', *options, 'bb', 'cat', '/etc/resolv.conf').splitlines()
    return sorted(line for line in lines if line and not line.startswith('#'))


def test_dns_options(docker):
    host = resolv_conf(docker)
    assert any(line.startswith('nameserver ') for line in host) and 'nameserver 127' not in ' '.join(host)
    assert resolv_conf(docker, '--dns', '192.0.2.1', '--dns', '127.0.0.1', '--dns-search', 'a.example', '--dns-search', 'b',
                       '--dns-option', 'ndots:3', '--dns-option', 'rotate') == [
        'nameserver 127.0.0.1', 'nameserver 192.0.2.1', 'options ndots:3 rotate', 'search a.example b']
    assert [line for line in resolv_conf(docker, '--dns-search', '.') if line.startswith('search')] == []
    assert resolv_conf(docker, '--network', 'none') == host


@pytest.mark.parametrize('network', ['bridge', 'none'])
def test_added_hosts(docker, network):
    hosts = docker.ok('run', '--rm', '--network', network, '--add-host', 'four:192.0.2.1', '--add-host', 'six:2001:db8::1',
                      '--add-host', 'gateway:host-gateway', 'bb', 'cat', '/etc/hosts').splitlines()
    settings = docker.ok('network', 'inspect', '-f', '{{(index .IPAM.Config 0).Subnet}}', 'bridge')
    assert '192.0.2.1\tfour' in hosts and '2001:db8::1\tsix' in hosts
    assert f'{next(ipaddress.ip_network(settings).hosts())}\tgateway' in hosts


def test_a_name_with_dots_is_known_by_its_first_word(docker):
    hosts = docker.ok('run', '--rm', '-h', 'box.example', '--domainname', 'com', 'bb', 'cat', '/etc/hosts')
    assert hosts.splitlines()[-1].split('\t')[1] == 'box.example.com box'


BAD_VALUES = {
    'bad format for add-host: "x"': {'ExtraHosts': ['x']},
    'bad format for add-host: ":192.0.2.1"': {'ExtraHosts': [':192.0.2.1']},
    'invalid IP address in add-host: "192.0.2"': {'ExtraHosts': ['x:192.0.2']},
    'invalid port specification: "abc"': {'PortBindings': {'80/tcp': [{'HostPort': 'abc'}]}},
    'invalid port specification: "70000"': {'PortBindings': {'80/tcp': [{'HostPort': '70000'}]}},
    'invalid port specification: "9-5"': {'PortBindings': {'80/tcp': [{'HostPort': '9-5'}]}},
    'invalid port specification: "x"': {'PortBindings': {'x/tcp': [{'HostPort': '80'}]}},
    'invalid port specification: "80-90"': {'PortBindings': {'80-90/tcp': [{'HostPort': '80'}]}},
}


@pytest.mark.parametrize('message', list(BAD_VALUES))
def test_bad_names_and_ports_are_refused_at_create(api, message):
    answer = api.post('/containers/create', {'Image': 'bb', 'HostConfig': BAD_VALUES[message]})
    assert answer.status == 400 and answer.message == message
    assert api.get('/containers/json?all=1').json == []


@pytest.mark.differs_today('until 29 finds out at the start only')
@pytest.mark.parametrize('message, host', [
    ('bad nameserver address nonsense', {'Dns': ['nonsense']}),
    ('invalid IP address: nonsense', {'PortBindings': {'80/tcp': [{'HostPort': '80', 'HostIp': 'nonsense'}]}}),
])
def test_bad_addresses_are_refused_at_create(api, message, host):
    answer = api.post('/containers/create', {'Image': 'bb', 'HostConfig': host})
    assert answer.status == 400 and answer.message == message


@pytest.mark.parametrize('host', ['127.0.0.1', '0.0.0.0', '::1'])
def test_a_published_port(docker, name, host):
    family = socket.AF_INET6 if ':' in host else socket.AF_INET
    port = free_port(family)
    bracketed = f'[{host}]' if ':' in host else host
    web(docker, name, '-p', f'{bracketed}:{port}:80')
    target = '127.0.0.1' if host == '0.0.0.0' else bracketed
    assert fetch(f'http://{target}:{port}/') == 'hello from the image\n'
    plain = str.maketrans('', '', '[]')  # old clients print ::1 without its brackets
    assert docker.ok('port', name, '80').translate(plain) == f'{host}:{port}'
    assert f'{host}:{port}->80/tcp' in docker.ok('ps', '--format', '{{.Ports}}').translate(plain)


@pytest.mark.short_vm
def test_published_without_an_address(docker, name):
    port = free_port()
    web(docker, name, '-p', f'{port}:80')
    assert fetch(f'http://127.0.0.1:{port}/') == 'hello from the image\n'
    assert fetch(f'http://[::1]:{port}/') == 'hello from the image\n'
    assert {line.rsplit(':', 1)[1] for line in docker.ok('port', name, '80').splitlines()} == {str(port)}


def test_a_published_port_is_reached_from_a_container(docker, name):
    port = free_port()
    web(docker, name, '-p', f'{port}:80')
    gateway = docker.ok('inspect', '-f', '{{.NetworkSettings.Networks.bridge.Gateway}}', name)
    url = f'http://{gateway}:{port}/'
    assert docker.ok('run', '--rm', 'bb', 'wget', '-q', '-O', '-', url) == 'hello from the image'
    # A container reaches its own published port as well.
    assert docker.ok('exec', name, 'wget', '-q', '-O', '-', url) == 'hello from the image'


def test_the_engine_chooses_a_port(docker, name):
    web(docker, name, '-p', '127.0.0.1::80')
    port = docker.ok('port', name, '80').rsplit(':', 1)[1]
    assert int(port) > 1024 and fetch(f'http://127.0.0.1:{port}/') == 'hello from the image\n'


def free_ports(count):
    """The first of so many in a row."""
    for first in range(20000, 30000, count):
        try:
            sockets = [socket.create_server(('', first + i), family=socket.AF_INET6, dualstack_ipv6=True) for i in range(count)]
        except OSError:
            continue
        for one in sockets:
            one.close()
        return first
    raise AssertionError('no free ports')


def test_the_first_free_port_of_a_range(docker, name):
    first = free_ports(3)
    wanted = f'{first}-{first + 2}:80'
    for i in range(3):
        web(docker, f'{name}{i}', '-p', wanted)
        assert {line.rsplit(':', 1)[1] for line in docker.ok('port', f'{name}{i}', '80').splitlines()} == {str(first + i)}
    assert fetch(f'http://127.0.0.1:{first + 2}/') == 'hello from the image\n'
    result = docker('run', '-d', '-p', wanted, 'bb', 'sleep', '100')
    assert result.code == 125 and 'all ports are allocated' in result.err


@pytest.mark.berth
def test_a_range_steps_over_what_others_hold(docker, name):
    first = free_ports(3)
    with socket.create_server(('127.0.0.1', first)):
        web(docker, name, '-p', f'127.0.0.1:{first}-{first + 2}:80')
        assert docker.ok('port', name, '80') == f'127.0.0.1:{first + 1}'


def test_a_range_of_ports(docker, name):
    first = free_ports(3)
    docker.ok('run', '-d', '--name', name, '-p', f'127.0.0.1:{first}-{first + 2}:80-82', 'bb', 'httpd', '-f', '-p', '82', '-h',
              '/var/www')
    assert sorted(docker.ok('port', name).splitlines()) == [f'{80 + i}/tcp -> 127.0.0.1:{first + i}' for i in range(3)]
    assert fetch(f'http://127.0.0.1:{first + 2}/') == 'hello from the image\n'


def test_a_port_is_free_again_after_stop(docker, name):
    port = free_port()
    web(docker, name, '-p', f'127.0.0.1:{port}:80')
    docker.ok('stop', '-t', '0', name)
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(('127.0.0.1', port))
    docker.ok('start', name)
    assert fetch(f'http://127.0.0.1:{port}/') == 'hello from the image\n'


@pytest.mark.parametrize('by', ['another container', 'a program of the host'])
def test_a_port_that_is_taken(docker, name, by):
    port = free_port()
    taken = socket.socket()
    if by == 'another container':
        web(docker, name + 'a', '-p', f'127.0.0.1:{port}:80')
    else:
        taken.bind(('127.0.0.1', port))
        taken.listen()
    result = docker('run', '-d', '--name', name, '-p', f'127.0.0.1:{port}:80', 'bb', 'sleep', '100')
    taken.close()
    assert result.code == 125
    assert 'port is already allocated' in result.err or 'address already in use' in result.err
    assert docker.inspect(name)['State']['Status'] == 'created'


ECHO = ('use Socket; socket(S, PF_INET, SOCK_DGRAM, 17); bind(S, sockaddr_in(53, INADDR_ANY));'
        'while ($peer = recv(S, $data, 100, 0)) { send(S, $data, 0, $peer) }')


def test_a_datagram_flow_finds_its_container_again(docker, debian, name):
    """A client that keeps its socket, over a restart in which the container's old address goes to another one."""
    port = free_port()
    docker.ok('run', '-d', '--name', name, '-p', f'{port}:53/udp', debian, 'perl', '-e', ECHO)
    gateway = docker.ok('inspect', '-f', '{{.NetworkSettings.Networks.bridge.Gateway}}', name)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(0.2)

        def echo():
            client.sendto(b'hello\n', (gateway, port))
            try:
                return client.recv(100)
            except OSError:
                return None
        assert wait_until(echo, what='an answer') == b'hello\n'
        before = address(docker, name)
        docker.ok('stop', '-t', '0', name)
        docker.ok('run', '-d', '--name', name + 'b', 'bb', 'sleep', '100')
        assert address(docker, name + 'b') == before
        docker.ok('start', name)
        assert address(docker, name) != before
        assert wait_until(echo, what='an answer') == b'hello\n'


def test_a_large_body_through_a_published_port(docker, name):
    port = free_port()
    docker.ok('run', '-d', '--name', name, '-p', f'127.0.0.1:{port}:80', 'bb', 'sh', '-c',
              'head -c 30000000 /dev/zero >/var/www/big; exec httpd -f -p 80 -h /var/www')
    assert len(fetch(f'http://127.0.0.1:{port}/big', 20)) == 30_000_000


@pytest.mark.short_vm
def test_network_none(docker, name):
    docker.ok('run', '-d', '--network', 'none', '--name', name, 'bb', 'sleep', '100')
    assert [line.split()[1] for line in docker.ok('exec', name, 'ip', '-o', 'link').splitlines()] == ['lo:']
    assert docker('exec', name, 'ping', '-c', '1', '-W', '1', '127.0.0.1').code == 0
    assert list(docker.inspect(name)['NetworkSettings']['Networks']) == ['none']


def test_network_bridge_by_name(docker):
    assert docker.ok('run', '--rm', '--network', 'bridge', 'bb', 'ip', '-o', '-4', 'addr', 'show', 'eth0')


def test_an_unknown_network(docker):
    result = docker('run', '--rm', '--network', 'nosuch', 'bb', 'true')
    assert result.code == 125 and 'nosuch' in result.err


def test_localhost_of_the_host_is_not_the_containers(docker):
    with socket.socket() as listener:
        listener.bind(('127.0.0.1', 0))
        listener.listen()
        port = listener.getsockname()[1]
        assert docker('run', '--rm', 'bb', 'nc', '-w', '2', '127.0.0.1', str(port)).code != 0


# ---- networks as objects --------------------------------------------------------------------------------------------

def network(docker, name):
    return json.loads(docker.ok('network', 'inspect', name))[0]


def test_inspect_of_the_bridge(docker, name):
    docker.ok('run', '-d', '--name', name, 'bb', 'sleep', '100')
    bridge, settings = network(docker, 'bridge'), docker.inspect(name)['NetworkSettings']['Networks']['bridge']
    subnet = ipaddress.ip_network(bridge['IPAM']['Config'][0]['Subnet'])
    assert bridge['Driver'] == 'bridge' and bridge['Scope'] == 'local' and bridge['IPAM']['Driver'] == 'default'
    assert ipaddress.ip_address(settings['IPAddress']) in subnet and settings['NetworkID'] == bridge['Id']
    assert bridge['Containers'][docker.inspect(name)['Id']] == {
        'Name': name, 'EndpointID': settings['EndpointID'], 'MacAddress': settings['MacAddress'],
        'IPv4Address': f'{settings["IPAddress"]}/{subnet.prefixlen}', 'IPv6Address': ''}
    options = bridge['Options']
    assert options['com.docker.network.bridge.default_bridge'] == 'true'
    assert options['com.docker.network.bridge.name'] in subprocess.check_output(['ip', '-o', 'link'], text=True)
    mtu = docker.ok('exec', name, 'cat', '/sys/class/net/eth0/mtu')
    assert options['com.docker.network.driver.mtu'] == mtu
    assert abs(time.time() - stamp(bridge['Created']).timestamp()) < 3600
    docker.ok('kill', name)
    wait_until(lambda: network(docker, 'bridge')['Containers'] == {}, what='an empty network')


@pytest.mark.differs('says only since 26 which address the gateway has')
def test_the_bridges_gateway(docker, name):
    docker.ok('run', '-d', '--name', name, 'bb', 'sleep', '100')
    gateway = docker.inspect(name)['NetworkSettings']['Networks']['bridge']['Gateway']
    assert network(docker, 'bridge')['IPAM']['Config'][0]['Gateway'] == gateway


def test_inspect_of_none(docker, name):
    docker.ok('run', '-d', '--network', 'none', '--name', name, 'bb', 'sleep', '100')
    none = network(docker, 'none')
    assert none['Driver'] == 'null' and not none['IPAM']['Config'] and none['Options'] == {}
    assert [it['Name'] for it in none['Containers'].values()] == [name]


def test_network_ls(docker):
    lines = docker.ok('network', 'ls', '--format', '{{.Name}} {{.Driver}} {{.Scope}}').splitlines()
    assert {'bridge bridge local', 'none null local'} <= set(lines)
    assert docker.ok('network', 'ls', '-q', '--no-trunc', '-f', 'name=bridge') == network(docker, 'bridge')['Id']
    assert docker.ok('network', 'ls', '--format', '{{.Name}}', '-f', 'driver=null') == 'none'
    assert docker.ok('network', 'ls', '-q', '-f', 'type=custom') == ''
    assert docker('network', 'inspect', 'nosuch').code == 1
