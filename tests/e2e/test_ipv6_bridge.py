"""IPv6 on the default bridge: --ipv6 and what says which subnet it has."""
import ipaddress
import json
import os
import subprocess

import pytest

import engines
from apart import apart  # noqa: F401, a fixture

pytestmark = [pytest.mark.differs('a subnet without asking, --bip6 and ip6tables came later'),
              pytest.mark.skipif(os.environ.get('BERTH_E2E_ISOLATION') == 'vm', reason='a daemon of its own makes containers')]
FETCH = 'import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=5).read().decode())'


def pools(docker):
    shown = json.loads(docker.ok('network', 'inspect', 'bridge'))[0]
    return shown['EnableIPv6'], {pool['Subnet']: pool for pool in shown['IPAM']['Config'] if ':' in pool['Subnet']}


def place(docker, name):
    return docker.inspect(name)['NetworkSettings']


def test_a_subnet_of_the_daemons_own(apart):  # noqa: F811
    docker = apart('--ipv6')
    engine = docker.engine
    enabled, found = pools(docker)
    subnet = ipaddress.ip_network(list(found)[0])
    assert enabled and subnet.is_private and subnet.prefixlen == 64
    docker.ok('run', '-d', '--name', 'web', '-p', '8080:80', '-p', '[::1]:8081:80', 'bb', 'httpd', '-f', '-p', '80', '-h', '/etc')
    settings = place(docker, 'web')
    six = settings['Networks']['bridge']['GlobalIPv6Address']
    assert ipaddress.ip_address(six) in subnet and settings['Networks']['bridge']['IPv6Gateway'] == str(subnet[1])
    assert (settings['GlobalIPv6Address'], settings['IPv6Gateway'], settings['GlobalIPv6PrefixLen']) == (six, str(subnet[1]), 64)
    assert settings['IPAddress'] and f'{six}\t' in docker.ok('exec', 'web', 'cat', '/etc/hosts')
    for at in (f'[::1]:8080', f'[::1]:8081', f'127.0.0.1:8080', f'[{subnet[1]}]:8080', f'[{six}]:80'):
        assert engine.inside('/usr/bin/python3', '-c', FETCH, f'http://{at}/hostname').strip()
    said = docker.ok('run', '--rm', '--link', 'web:db', '--add-host', 'me:host-gateway', 'bb', 'sh', '-c',
                     f'ip -6 route; cat /etc/hosts; ping -6 -c 1 -W 5 {six}; ping -6 -c 1 -W 5 db; ping -6 -c 1 -W 5 me')
    assert said.count(' 0% packet loss') == 3 and f'default via {subnet[1]}' in said and f'{subnet[1]}\tme' in said and f'{six}\tdb' in said
    assert engine.inside('cat', '/proc/sys/net/ipv6/conf/all/forwarding') == '1\n'
    # Networks of clients have other subnets; from there a published port is reached, and nothing else.
    docker.ok('network', 'create', '--ipv6', 'own')
    assert not subnet.overlaps(ipaddress.ip_network(json.loads(docker.ok('network', 'inspect', 'own'))[0]['IPAM']['Config'][1]['Subnet']))
    said = docker.ok('run', '--rm', '--network', 'own', 'bb', 'sh', '-c', f'printf "GET /hostname HTTP/1.0\\r\\n\\r\\n" | nc -w 5 {subnet[1]} 8080;'
                     f'ping -6 -c 1 -W 1 {six} >/dev/null || echo shut')
    assert ' 200 OK' in said and said.endswith('shut')
    if engine.name == 'berthd':
        engine.kill9()
        engine.start()
        assert pools(docker) == (enabled, found) and place(docker, 'web')['GlobalIPv6Address'] == six
        assert engine.inside('/usr/bin/python3', '-c', FETCH, f'http://[{subnet[1]}]:8080/hostname').strip()
    docker.ok('rm', '-f', 'web')
    docker.ok('network', 'rm', 'own')


def test_as_it_is_asked_for(apart):  # noqa: F811
    docker = apart('--ipv6', '--bip6', 'fd00:77::5/64', '--fixed-cidr-v6', 'fd00:77:0:0:1::/80', '--default-gateway-v6', 'fd00:77::1:0:0:1')
    assert pools(docker) == (True, {'fd00:77::/64': {'Subnet': 'fd00:77::/64', 'IPRange': 'fd00:77:0:0:1::/80', 'Gateway': 'fd00:77::5',
                                                     'AuxiliaryAddresses': {'DefaultGatewayIPv6': 'fd00:77::1:0:0:1'}}})
    docker.ok('run', '-d', '--name', 'one', 'bb', 'sleep', '1000')
    docker.ok('run', '-d', '--name', 'two', 'bb', 'sleep', '1000')
    found = [place(docker, name)['Networks']['bridge'] for name in ('one', 'two')]
    assert all(ipaddress.ip_address(one['GlobalIPv6Address']) in ipaddress.ip_network('fd00:77:0:0:1::/80') for one in found)
    assert 'fd00:77::1:0:0:1' not in [one['GlobalIPv6Address'] for one in found]  # nobody gets the gateway's
    assert 'default via fd00:77::1:0:0:1 ' in docker.ok('exec', 'one', 'ip', '-6', 'route')
    assert docker.ok('exec', 'one', 'ping', '-6', '-c1', '-W2', 'fd00:77::5') and docker.ok('exec', 'one', 'ping', '-6', '-c1', '-W2', found[1]['GlobalIPv6Address'])
    docker.ok('rm', '-f', 'one', 'two')


@pytest.mark.differs_today('does not show its gateway', alone=True)
def test_a_range_alone_is_the_subnet(apart):  # noqa: F811
    docker = apart('--fixed-cidr-v6', 'fd00:79::/64', config={'ipv6': True})
    assert pools(docker) == (True, {'fd00:79::/64': {'Subnet': 'fd00:79::/64', 'IPRange': 'fd00:79::/64', 'Gateway': 'fd00:79::1'}})
    assert 'inet6 fd00:79::2/64' in docker.ok('run', '--rm', 'bb', 'ip', '-6', 'addr', 'show', 'eth0')


@pytest.mark.berth  # ours is asked to stop, start and tidy up
def test_the_subnet_changes_between_two_runs(apart):  # noqa: F811
    docker = apart('--ipv6', '--bip6', 'fd00:80::1/64')
    engine = docker.engine
    docker.ok('run', '-d', '--name', 'one', 'bb', 'sleep', '1000')
    engine.options[2] = 'fd00:81::1/64'
    engine.terminate()
    engine.start()
    failed = docker('run', '--rm', 'bb', 'true')
    assert failed.code == 125 and "IPv6 subnet can't change while containers are attached" in failed.err
    docker.ok('rm', '-f', 'one')
    assert 'inet6 fd00:81::2/64' in docker.ok('run', '--rm', 'bb', 'ip', '-6', 'addr', 'show', 'eth0')
    assert 'fd00:80' not in engine.inside('ip', '-6', 'addr')
    engine.options[:] = []
    engine.terminate()
    engine.start()
    assert 'inet6' not in docker.ok('run', '--rm', 'bb', 'ip', '-6', 'addr', 'show', 'eth0') and pools(docker) == (False, {})
    assert engine.inside('nft', 'list', 'tables', 'ip6') == ''


@pytest.mark.berth
def test_a_bridge_of_somebody_else(apart):  # noqa: F811
    docker = apart('--bridge', 'br-mine', '--ipv6', prepare='ip link add br-mine type bridge; ip addr add 10.78.3.1/24 dev br-mine; '
                   'ip addr add fd00:78::1/64 dev br-mine nodad; ip link set br-mine up;')
    assert list(pools(docker)[1]) == ['fd00:78::/64']
    assert 'inet6 fd00:78::2/64' in docker.ok('run', '--rm', 'bb', 'ip', '-6', 'addr', 'show', 'eth0')


@pytest.mark.berth
@pytest.mark.parametrize('options, says', [
    (['--bridge', 'lo', '--bip6', 'fd00::1/64'], 'You specified -b & --bip6, mutually exclusive options. Please specify only one.'),
    (['--ipv6', '--bip6', 'fd00::1'], 'parse --bip6 failed: invalid CIDR address: fd00::1'),
    (['--ipv6', '--bip6', '10.1.0.1/16'], 'parse --bip6 failed: invalid CIDR address: 10.1.0.1/16'),
    (['--ipv6', '--bip6', 'fd00::/64'], "fd00::/64 is the network's own address"),
    (['--ipv6', '--bip6', 'ff02::1/64'], "multicast subnet 'ff02::1/64' is not allowed"),
    (['--fixed-cidr-v6', 'fe80::/80'], "'fe80::/80' clashes with the Link-Local prefix 'fe80::/64'"),
    (['--fixed-cidr-v6', 'fd00::/128'], '--fixed-cidr-v6: the prefix must be between 1 and 126'),
    (['--ipv6', '--bip6', 'fd00:1::1/64', '--fixed-cidr-v6', 'fd00:2::/80'], "--fixed-cidr-v6 lies outside of the default bridge's subnet, fd00:1::1/64"),
    (['--ipv6', '--bip6', 'fd00:1::1/64', '--default-gateway-v6', 'fd00:2::1'], "--default-gateway-v6 lies outside of the default bridge's subnet"),
    (['--default-gateway-v6', 'x'], '--default-gateway-v6: invalid IPv6 address: x'),
])
def test_bad_values(tmp_path, options, says):
    done = subprocess.run(['unshare', '-n', os.path.join(engines.BIN, 'berthd'), '--data-root', f'{tmp_path}/data', '--exec-root', f'{tmp_path}/state',
                           '--config-file', '/dev/null', *options], capture_output=True, text=True, timeout=20)
    assert done.returncode == 1 and says in done.stderr.strip().split('\n')[-1], done
