"""What the operator says of networks: --bridge, --mtu, --icc and their like. Each daemon is in a network namespace of its own."""
import json
import os
import sqlite3
import subprocess
import time

import pytest

import engines
from apart import apart  # noqa: F401, a fixture

pytestmark = [pytest.mark.berth, pytest.mark.skipif(os.environ.get('BERTH_E2E_ISOLATION') == 'vm', reason='containers show what the bridge is')]


def of_bridge(docker):
    return json.loads(docker.ok('network', 'inspect', 'bridge'))[0]


def test_the_default_bridge_as_it_is_asked_for(apart):  # noqa: F811
    docker = apart('--bip', '10.77.0.1/16', '--fixed-cidr', '10.77.5.0/24', '--default-gateway', '10.77.5.1', '--mtu', '1400', '--icc=false', '--ip-masq=false',
                   '--ip-forward=false', '--host-gateway-ip', '10.9.9.9', '--host-gateway-ip', 'fd00::9')
    engine = docker.engine
    shown = of_bridge(docker)
    assert shown['IPAM']['Config'] == [{'Subnet': '10.77.0.0/16', 'IPRange': '10.77.5.0/24', 'Gateway': '10.77.0.1',
                                        'AuxiliaryAddresses': {'DefaultGatewayIPv4': '10.77.5.1'}}]
    assert shown['Options'].items() >= {'com.docker.network.bridge.enable_icc': 'false', 'com.docker.network.bridge.enable_ip_masquerade': 'false',
                                        'com.docker.network.driver.mtu': '1400'}.items()
    docker.ok('run', '-d', '--name', 'one', '--add-host', 'host:host-gateway', 'bb', 'sleep', '1000')
    docker.ok('run', '-d', '--name', 'two', 'bb', 'sleep', '1000')
    one, two = (docker.inspect(name)['NetworkSettings']['Networks']['bridge'] for name in ('one', 'two'))
    assert (one['IPAddress'], two['IPAddress'], one['Gateway']) == ('10.77.5.0', '10.77.5.2', '10.77.5.1')  # nobody gets the gateway's
    assert 'default via 10.77.5.1 ' in docker.ok('exec', 'one', 'ip', 'route')
    assert 'mtu 1400' in docker.ok('exec', 'one', 'ip', 'link', 'show', 'eth0') and docker.ok('exec', 'one', 'ping', '-c1', '-W2', '10.77.0.1')
    assert docker('exec', 'one', 'ping', '-c1', '-W1', two['IPAddress']).code != 0
    hosts = docker.ok('exec', 'one', 'cat', '/etc/hosts').splitlines()
    assert '10.9.9.9\thost' in hosts and 'fd00::9\thost' in hosts
    assert engine.inside('cat', '/proc/sys/net/ipv4/ip_forward') == '0\n'
    assert 'elements' not in engine.inside('nft', 'list', 'set', 'ip', f'berth_{engine.id}', 'masqueraded')
    failed = docker('run', '--link', 'one:db', 'bb', 'true')
    assert failed.code == 125 and 'HostConfig.Links: not supported with --icc=false' in failed.err


def test_a_range_alone_is_the_subnet(apart):  # noqa: F811
    docker = apart('--fixed-cidr', '10.79.5.0/24')
    assert of_bridge(docker)['IPAM']['Config'] == [{'Subnet': '10.79.5.0/24', 'IPRange': '10.79.5.0/24', 'Gateway': '10.79.5.1'}]
    assert ' 10.79.5.2/24 ' in docker.ok('run', '--rm', 'bb', 'ip', 'addr', 'show', 'eth0')
    assert docker.engine.inside('cat', '/proc/sys/net/ipv4/ip_forward') == '1\n'


def test_a_bridge_of_somebody_else(apart):  # noqa: F811
    docker = apart('--bridge', 'br-mine', prepare='ip link add br-mine address 02:01:02:03:04:05 type bridge; ip addr add 10.78.3.1/24 dev br-mine; ip link set br-mine up;')
    engine = docker.engine
    assert of_bridge(docker)['Options']['com.docker.network.bridge.name'] == 'br-mine'
    docker.ok('run', '-d', '--name', 'one', '-p', '8080:80', 'bb', 'sh', '-c', 'while true; do echo hello | nc -l -p 80; done')
    assert docker.inspect('one')['NetworkSettings']['Networks']['bridge']['Gateway'] == '10.78.3.1'
    assert docker.ok('run', '--rm', 'bb', 'ping', '-c1', '-W2', '10.78.3.2')
    # The kernel takes a dead namespace apart, and the pair of interfaces with it, when it comes to it.
    engines.wait_until(lambda: engine.inside('ip', '-o', 'link', 'show', 'master', 'br-mine').count('\n') == 1)
    engine.kill9()
    engine.start()
    assert docker.ok('run', '--rm', 'bb', 'ping', '-c1', '-W2', '10.78.3.2')
    docker.ok('rm', '-f', 'one')
    assert engine.stop_all().returncode == 0
    after = engine.inside('ip', '-o', 'addr', 'show', 'br-mine')
    assert '10.78.3.1/24' in after and '02:01:02:03:04:05' in engine.inside('ip', '-o', 'link', 'show', 'br-mine')
    assert 'berth' not in engine.inside('nft', 'list', 'tables') and 'alias' not in engine.inside('ip', 'link', 'show', 'br-mine')
    engine.start()


def test_no_bridge(apart):  # noqa: F811
    docker = apart('--bridge', 'none')
    assert docker.ok('network', 'ls', '--format', '{{.Name}}').split() == ['host', 'none']
    assert docker.ok('run', '--rm', 'bb', 'ip', '-o', 'link').count('\n') == 0  # lo, and nothing behind it
    docker.ok('network', 'create', 'own')
    docker.ok('run', '-d', '--name', 'one', '--network', 'own', 'bb', 'sleep', '100')
    assert docker.ok('run', '--rm', '--network', 'own', 'bb', 'ping', '-c1', '-W2', 'one')
    failed = docker('network', 'connect', 'bridge', 'one')
    assert failed.code == 1 and 'network bridge not found' in failed.err
    assert f'b{docker.engine.id[:4]}0:' not in docker.engine.inside('ip', '-o', 'link')
    docker.ok('rm', '-f', 'one')
    docker.ok('network', 'rm', 'own')


@pytest.mark.parametrize('way', ['flag', 'file'])
def test_options_of_new_networks(apart, way):  # noqa: F811
    options = {'com.docker.network.driver.mtu': '1234', 'com.docker.network.bridge.enable_icc': 'false'}
    docker = apart(config={'default-network-opts': {'bridge': options}}) if way == 'file' else apart(
        *(word for key, value in options.items() for word in ('--default-network-opt', f'bridge={key}={value}')))
    docker.ok('network', 'create', '-o', 'com.docker.network.bridge.enable_icc=true', 'own')
    assert json.loads(docker.ok('network', 'inspect', 'own'))[0]['Options'] == {**options, 'com.docker.network.bridge.enable_icc': 'true'}
    assert 'mtu 1234' in docker.ok('run', '--rm', '--network', 'own', 'bb', 'ip', 'link', 'show', 'eth0')
    assert 'mtu 1500' in docker.ok('run', '--rm', 'bb', 'ip', 'link', 'show', 'eth0')
    docker.ok('network', 'rm', 'own')


@pytest.mark.parametrize('options, says', [
    (['--bridge', 'br-nosuch'], 'bridge device with non default name br-nosuch must be created manually'),
    (['--bridge', 'lo', '--bip', '10.1.0.1/24'], 'mutually exclusive'),
    (['--bip', '10.77.0.1/16', '--fixed-cidr', '10.78.0.0/24'], "--fixed-cidr lies outside of the default bridge's subnet, 10.77.0.1/16"),
    (['--fixed-cidr', '10.78.0.0'], 'parse --fixed-cidr failed'),
    (['--fixed-cidr', '10.78.0.0/32'], '--fixed-cidr: the prefix must be between'),
    (['--bip', '10.77.0.1/16', '--default-gateway', '10.78.0.1'], "--default-gateway lies outside of the default bridge's subnet, 10.77.0.1/16"),
    (['--default-gateway', 'x'], '--default-gateway: invalid IPv4 address: x'),
    (['--mtu', '10'], 'invalid MTU number: 10'),
    (['--mtu', 'big'], 'invalid argument "big" for "--mtu"'),
    (['--host-gateway-ip', 'x'], '--host-gateway-ip: invalid IP address: x'),
    (['--host-gateway-ip', '1.2.3.4', '--host-gateway-ip', '1.2.3.5'], 'only one IPv4 host gateway IP address can be specified'),
    (['--default-network-opt', 'bridge'], 'DRIVER=KEY=VALUE'),
    (['--iptables=false', '--icc=false'], 'You specified --iptables=false with --icc=false. ICC=false uses iptables to function.'),
    (['--ipv6', '--ip6tables=false', '--icc=false'], 'You specified --ip6tables=false with --icc=false.'),
])
def test_bad_values(tmp_path, options, says):
    done = subprocess.run(['unshare', '-n', os.path.join(engines.BIN, 'berthd'), '--data-root', f'{tmp_path}/data', '--exec-root', f'{tmp_path}/state',
                           '--config-file', '/dev/null', *options], capture_output=True, text=True, timeout=20)
    assert done.returncode == 1 and says in done.stderr.strip().split('\n')[-1], done


# ---- what a killed daemon leaves ------------------------------------------------------------------------------------


def bridges(engine):
    return {line.split(': ')[1].split('@')[0] for line in engine.inside('ip', '-o', 'link', 'show', 'type', 'bridge').splitlines() if ': ' in line} - {f'b{engine.id[:4]}0'}


def test_a_network_that_only_the_net_room_knows_goes(apart):  # noqa: F811
    docker = apart()
    engine = docker.engine
    docker.ok('network', 'create', '--subnet', '10.66.0.0/16', 'lost')
    docker.ok('run', '-d', '--name', 'on-it', '--network', 'lost', 'bb', 'sleep', '1000')
    assert len(bridges(engine)) == 1
    engine.kill9()
    with sqlite3.connect(os.path.join(engine.data, 'berth.db')) as store:
        store.execute('DELETE FROM networks')
    engine.start()
    assert bridges(engine) == set() and 'lost' not in docker.ok('network', 'ls')
    docker.ok('rm', '-f', 'on-it')
    docker.ok('network', 'create', '--subnet', '10.66.0.0/16', 'found')  # its addresses are free
    assert docker.ok('run', '--rm', '--network', 'found', 'bb', 'ping', '-c1', '-W2', '10.66.0.1')
    docker.ok('network', 'rm', 'found')


def test_kills_while_networks_come_and_go(apart):  # noqa: F811
    docker = apart()
    engine = docker.engine
    for round in range(5):
        with docker.popen('network', 'create', f'n{round}') as making, docker.popen('network', 'rm', f'n{round - 1}', stderr=subprocess.DEVNULL) as removing:
            time.sleep(0.03 + 0.02 * round)
            engine.kill9()
            making.kill()
            removing.kill()
        engine.start()
        left = {line.split()[0]: line.split()[1] for line in docker.ok('network', 'ls', '--no-trunc', '--filter', 'type=custom', '--format', '{{.Name}} {{.ID}}').splitlines()}
        assert bridges(engine) <= {f'b{engine.id[:4]}-{id[:9]}' for id in left.values()}  # a missing one is made when it is needed
        with sqlite3.connect(os.path.join(engine.data, 'berth.db')) as store:
            assert {row[0] for row in store.execute('SELECT id FROM net_network')} == {row[0] for row in store.execute('SELECT id FROM networks')} == set(left.values())
    for name in left:
        docker.ok('network', 'rm', name)
