"""Who reaches a container how: gateway modes of bridges, direct routing, and engines without firewall rules or without a relay of ports. Each daemon is in
a network namespace of its own, with another one outside."""
import json
import os
import subprocess

import pytest

from apart import apart  # noqa: F401, a fixture
from engines import wait_until

pytestmark = [pytest.mark.differs('gateway modes and their like came with 27 and 28'),
              pytest.mark.skipif(os.environ.get('BERTH_E2E_ISOLATION') == 'vm', reason='a daemon of its own makes containers')]
MODE = 'com.docker.network.bridge.gateway_mode_ipv'
FETCH = 'import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=float(sys.argv[2])).read().decode())'
WEB = ['bb', 'sh', '-c', 'httpd -p 81 -h /etc; exec httpd -f -p 80 -h /etc']
HOST, OUTSIDE, HOST6, OUTSIDE6 = '198.51.100.1', '198.51.100.2', '2001:db8::1', '2001:db8::2'


class Outside:
    """A host beside the daemon's, whose way to everything leads there."""

    def __init__(self, engine):
        self.engine = engine
        self.holder = subprocess.Popen(['unshare', '-n', 'sh', '-c', 'ip link set lo up; echo up; exec sleep 1000'], stdout=subprocess.PIPE)
        assert self.holder.stdout.read(3) == b'up\n'
        engine.inside('ip', 'link', 'add', 'up0', 'type', 'veth', 'peer', 'name', 'far0', 'netns', str(self.holder.pid))
        for run, link, four, six in ((engine.inside, 'up0', HOST, HOST6), (self.run, 'far0', OUTSIDE, OUTSIDE6)):
            run('ip', 'addr', 'add', four + '/24', 'dev', link)
            run('ip', 'addr', 'add', six + '/64', 'dev', link, 'nodad')
            run('ip', 'link', 'set', link, 'up')
        self.run('ip', 'route', 'add', 'default', 'via', HOST)
        self.run('ip', '-6', 'route', 'add', 'default', 'via', HOST6)
        engine.inside('ip', '-6', 'route', 'add', 'default', 'via', OUTSIDE6)
        engine.inside('ip', 'route', 'add', 'default', 'via', OUTSIDE)

    def run(self, *command):
        done = subprocess.run(['nsenter', f'--net=/proc/{self.holder.pid}/ns/net', *command], capture_output=True, text=True, timeout=20)
        assert done.returncode == 0, done
        return done.stdout

    def gets(self, at, port, seconds=0.7):
        url = f'http://[{at}]:{port}/hostname' if ':' in at else f'http://{at}:{port}/hostname'
        done = subprocess.run(['nsenter', f'--net=/proc/{self.holder.pid}/ns/net', '/usr/bin/python3', '-c', FETCH, url, str(seconds)], capture_output=True, timeout=20)
        return done.returncode == 0

    def close(self):
        self.holder.kill()
        self.holder.wait()


@pytest.fixture
def outside():
    made = []

    def make(engine):
        made.append(Outside(engine))
        return made[-1]
    yield make
    for one in made:
        one.close()


def host_gets(engine, at, port, seconds=5):
    url = f'http://[{at}]:{port}/hostname' if ':' in at else f'http://{at}:{port}/hostname'
    try:
        return bool(engine.inside('/usr/bin/python3', '-c', FETCH, url, str(seconds)))
    except AssertionError:
        return False


def addresses(docker, name, network):
    place = docker.inspect(name)['NetworkSettings']['Networks'][network]
    return place['IPAddress'], place['GlobalIPv6Address']


def can(docker, source, at, port, seconds=1):
    return ' 200 OK' in docker('exec', source, 'sh', '-c', f'printf "GET /hostname HTTP/1.0\\r\\n\\r\\n" | nc -w {seconds} {at} {port}').out


def test_modes(apart, outside):  # noqa: F811
    docker = apart()
    far = outside(docker.engine)
    places = {}
    for number, mode in enumerate(('nat', 'nat-unprotected', 'routed')):
        docker.ok('network', 'create', '--ipv6', '-o', f'{MODE}4={mode}', '-o', f'{MODE}6={mode}', mode)
        docker.ok('run', '-d', '--name', mode, '--network', mode, '-p', f'{8000 + number}:80', *WEB)
        places[mode] = addresses(docker, mode, mode)
    wait_until(lambda: host_gets(docker.engine, places['routed'][0], 81), 10, 'the servers are up')
    assert docker.inspect('routed')['NetworkSettings']['Ports']['80/tcp'] == [{'HostIp': '0.0.0.0', 'HostPort': ''}, {'HostIp': '::', 'HostPort': ''}]
    for at, other in ((HOST, 0), (HOST6, 1)):
        assert [far.gets(at, 8000 + number) for number in range(3)] == [True, True, False]
        assert [far.gets(places[mode][other], 80) for mode in places] == [False, True, True]
        assert [far.gets(places[mode][other], 81) for mode in places] == [False, True, False]
        assert ' 0% packet loss' in far.run('busybox', 'ping', '-c', '1', '-W', '5', places['routed'][other])
        # From one network into another: only what is published, where it is routed.
        assert [can(docker, 'nat', places[mode][other], 80) for mode in ('nat-unprotected', 'routed')] == [False, True]
        assert not can(docker, 'nat', places['routed'][other], 81)
    docker.ok('rm', '-f', *places)
    docker.ok('network', 'rm', *places)


def test_a_network_that_the_host_is_not_on(apart):  # noqa: F811
    docker = apart()
    docker.ok('network', 'create', '--internal', '--ipv6', '--subnet', '10.72.0.0/24', '--subnet', 'fd00:72::/64', '-o', f'{MODE}4=isolated', '-o', f'{MODE}6=isolated',
              '-o', 'com.docker.network.bridge.name=br-alone', 'alone')
    shown = json.loads(docker.ok('network', 'inspect', 'alone'))[0]['IPAM']['Config']
    assert [pool.get('Gateway', '') for pool in shown] == ['', '']
    docker.ok('run', '-d', '--name', 'one', '--network', 'alone', *WEB)
    four, six = addresses(docker, 'one', 'alone')
    assert 'inet' not in docker.engine.inside('ip', 'addr', 'show', 'br-alone') and (four, six) == ('10.72.0.1', 'fd00:72::1')
    said = docker.ok('run', '--rm', '--network', 'alone', 'bb', 'sh', '-c', f'ip route; ip -6 route; ping -c 1 -W 5 {four}; ping -c 1 -W 5 {six}')
    assert 'default' not in said and said.count(' 0% packet loss') == 2
    assert not host_gets(docker.engine, four, 80, 1)
    answer = docker('network', 'create', '-o', f'{MODE}4=isolated', 'other')
    assert answer.code == 1 and "gateway mode 'isolated' can only be used for an internal network" in answer.err
    answer = docker('network', 'create', '-o', f'{MODE}6=nosuch', 'other')
    assert answer.code == 1 and 'gateway_mode_ipv6' in answer.err and 'unknown gateway mode nosuch' in answer.err
    docker.ok('rm', '-f', 'one')
    docker.ok('network', 'rm', 'alone')


def test_direct_routing(apart, outside):  # noqa: F811
    docker = apart('--allow-direct-routing')
    far = outside(docker.engine)
    docker.ok('network', 'create', '--ipv6', 'other')
    docker.ok('run', '-d', '--name', 'web', '-p', '8080:80', *WEB)
    docker.ok('run', '-d', '--name', 'two', '--network', 'other', '-p', '8081:80', *WEB)
    one, two = addresses(docker, 'web', 'bridge'), addresses(docker, 'two', 'other')
    wait_until(lambda: host_gets(docker.engine, two[0], 81), 10, 'the servers are up')
    assert far.gets(HOST, 8080) and [far.gets(one[0], port) for port in (80, 81)] == [True, False]
    wait_until(lambda: far.gets(two[1], 80), 10, 'the way to it is known')
    assert not far.gets(two[1], 81)
    assert not can(docker, 'web', two[0], 80)
    docker.ok('rm', '-f', 'web', 'two')
    assert not far.gets(one[0], 80)
    docker.ok('network', 'rm', 'other')


@pytest.mark.differs_today('has --bridge-accept-fwmark from 29 on')
def test_who_is_let_through(apart, outside):  # noqa: F811
    """A link that one network trusts, packets with the operator's mark, a port of SCTP; and a bridge whose address is somebody else's."""
    docker = apart('--bridge-accept-fwmark', '0x1/0x3')
    engine, far = docker.engine, outside(docker.engine)
    docker.ok('network', 'create', '--subnet', '10.73.0.0/24', '-o', 'com.docker.network.bridge.trusted_host_interfaces=up0:other0', 'trusting')
    docker.ok('network', 'create', '--subnet', '10.74.0.0/24', 'plain')
    docker.ok('network', 'create', '--subnet', '10.75.0.0/24', '-o', 'com.docker.network.bridge.inhibit_ipv4=true', '-o', 'com.docker.network.bridge.name=br-bare', 'bare')
    docker.ok('run', '-d', '--name', 'one', '--network', 'trusting', '--ip', '10.73.0.9', '-p', '127.0.0.1:8080:80', *WEB)
    docker.ok('run', '-d', '--name', 'two', '--network', 'plain', '--ip', '10.74.0.9', '-p', '8081:80', '-p', '8082:80/sctp', '-p', '80/sctp', *WEB)
    wait_until(lambda: far.gets('10.73.0.9', 80), 10, 'the server is up')
    assert not far.gets('10.73.0.9', 81) and not far.gets('10.74.0.9', 80)
    ports = docker.inspect('two')['NetworkSettings']['Ports']
    assert {'HostIp': '0.0.0.0', 'HostPort': '8082'} in ports['80/sctp'] and len({place['HostPort'] for place in ports['80/sctp']}) == 2
    assert '80/sctp -> 0.0.0.0:8082' in docker.ok('port', 'two') and '8082->80/sctp' in docker.ok('ps', '--format', '{{.Ports}}')
    answer = docker('run', '--rm', '-p', '8082:80/sctp', 'bb', 'true')
    assert answer.code == 125 and 'Bind for 0.0.0.0:8082 failed: port is already allocated' in answer.err
    engine.inside('nft', 'add table ip own; add chain ip own in { type filter hook prerouting priority -200; }; add rule ip own in tcp dport 81 meta mark set 0x5')
    assert far.gets('10.74.0.9', 81) and not far.gets('10.74.0.9', 80)
    docker.ok('run', '--rm', '--network', 'bare', 'bb', 'sh', '-c', 'ip route | grep "default via 10.75.0.1"')
    assert 'inet ' not in engine.inside('ip', 'addr', 'show', 'br-bare')
    answer = docker('network', 'create', '-o', 'com.docker.network.bridge.trusted_host_interfaces=a/b', 'other')
    assert answer.code == 1 and 'a/b' in answer.err
    docker.ok('rm', '-f', 'one', 'two')
    docker.ok('network', 'rm', 'trusting', 'plain', 'bare')


def test_no_rules(apart, outside):  # noqa: F811
    docker = apart('--iptables=false', '--ip6tables=false')
    engine, far = docker.engine, outside(docker.engine)
    docker.ok('network', 'create', '--ipv6', 'own')
    docker.ok('run', '-d', '--name', 'web', '--network', 'own', '-p', '8080:80', '-p', '127.0.0.1:8081:81', *WEB)
    four, six = addresses(docker, 'web', 'own')
    assert wait_until(lambda: far.gets(HOST, 8080), 10, 'the server is up') and far.gets(HOST6, 8080) and host_gets(engine, '127.0.0.1', 8081)
    assert far.gets(four, 80) and far.gets(six, 81)  # the container's own addresses are seen, and nothing keeps others out
    tables = engine.inside('nft', 'list', 'tables')
    assert 'berth' not in tables and 'MASQUERADE' not in engine.inside('nft', 'list', 'ruleset') and 'masquerade' not in engine.inside('nft', 'list', 'ruleset')
    assert json.loads(docker.ok('network', 'inspect', 'bridge'))[0]['Options']['com.docker.network.bridge.enable_ip_masquerade'] == 'false'
    if engine.name == 'berthd':
        engine.terminate()
        engine.options[:] = []
        engine.start()
        docker.ok('run', '--rm', '--network', 'own', 'bb', 'true')
        assert not far.gets(four, 81) and far.gets(HOST, 8080)
    docker.ok('rm', '-f', 'web')
    docker.ok('network', 'rm', 'own')


def test_no_relay_of_ports(apart, outside):  # noqa: F811
    docker = apart('--userland-proxy=false')
    engine, far = docker.engine, outside(docker.engine)
    docker.ok('network', 'create', '--ipv6', 'own')
    docker.ok('run', '-d', '--name', 'web', '--network', 'own', '-p', '8080:80', '-p', '127.0.0.1:8081:81', *WEB)
    docker.ok('run', '-d', '--name', 'four', '-p', '8082:80', *WEB)
    assert wait_until(lambda: host_gets(engine, '127.0.0.1', 8080, 1), 10, 'the server is up') and host_gets(engine, '127.0.0.1', 8081) and host_gets(engine, HOST, 8080)
    assert host_gets(engine, HOST6, 8080) and not host_gets(engine, '::1', 8080, 1)  # nothing is forwarded from there
    assert far.gets(HOST, 8080) and far.gets(HOST6, 8080) and not far.gets(HOST, 8081)
    assert can(docker, 'web', HOST, 8080)  # its own port, by the host
    assert docker.inspect('four')['NetworkSettings']['Ports']['80/tcp'] == [{'HostIp': '0.0.0.0', 'HostPort': '8082'}]  # nobody would relay from IPv6
    answer = docker('run', '--rm', '-p', '127.0.0.1:8080:80', 'bb', 'true')
    assert answer.code == 125 and '8080' in answer.err
    docker.ok('rm', '-f', 'web', 'four')
    docker.ok('network', 'rm', 'own')
