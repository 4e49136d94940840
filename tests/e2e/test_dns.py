"""Names on networks of clients: Docker's resolver on 127.0.0.11, and who it asks for the rest."""
import os
import re
import signal
import socket
import struct
import subprocess
import threading
import time

import pytest

import engines
from conftest import Docker

ASK = r'''
import socket, struct, sys
name, kind, proto = sys.argv[1], int(sys.argv[2]), sys.argv[3]
question = b''.join(bytes([len(part)]) + part.encode() for part in name.split('.')) + struct.pack('>BHH', 0, kind, 1)
query = struct.pack('>6H', 7, 0x100, 1, 0, 0, 0) + question
sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM if proto == 'tcp' else socket.SOCK_DGRAM)
sock.settimeout(15)
sock.connect(('127.0.0.11', 53))
sock.sendall((struct.pack('>H', len(query)) if proto == 'tcp' else b'') + query)
data = sock.recv(65535)
if proto == 'tcp':
    while len(data) < 2 + struct.unpack('>H', data[:2])[0]:
        data += sock.recv(65535)
    data = data[2:]
ident, flags, questions, answers = struct.unpack('>4H', data[:8])
found, at = [], 12 + len(question)
for _ in range(answers):
    at += 2
    kind, _, _, size = struct.unpack('>HHIH', data[at:at + 10])
    at += 10
    found.append(socket.inet_ntoa(data[at:at + 4]) if kind == 1 else repr(data[at:at + size]))
    at += size
print({0: 'OK', 2: 'SERVFAIL', 3: 'NXDOMAIN', 5: 'REFUSED'}[flags & 15], *found, *(['cut'] if flags & 0x200 else []))
'''


def ask(docker, name, question, kind=1, proto='udp'):
    """A question from a container's network: the answer's code, and its addresses in their order."""
    pid = docker.ok('inspect', '-f', '{{.State.Pid}}', name)
    done = subprocess.run(['nsenter', f'--net=/proc/{pid}/ns/net', '/usr/bin/python3', '-c', ASK, question, str(kind), proto],
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def address(docker, name, network):
    return docker.ok('inspect', '-f', '{{(index .NetworkSettings.Networks "%s").IPAddress}}' % network, name)


class Server(threading.Thread):
    """A name server of the test's own: everything below `known` has the address 192.0.2.7, the rest is NXDOMAIN."""

    def __init__(self, at, known='.example'):
        super().__init__(daemon=True)
        self.known, self.asked = known, []
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind((at, 53))
        self.tcp = socket.create_server((at, 53))
        self.start()
        threading.Thread(target=self.serve_tcp, daemon=True).start()

    def answer(self, query):
        at, words = 12, []
        while query[at]:
            words.append(query[at + 1:at + 1 + query[at]].decode())
            at += 1 + query[at]
        name, kind = '.'.join(words), struct.unpack('>H', query[at + 1:at + 3])[0]
        self.asked.append(name)
        known = name.endswith(self.known)
        found = b'\xc0\x0c' + struct.pack('>HHIH', 1, 1, 60, 4) + bytes([192, 0, 2, 7]) if known and kind == 1 else b''
        return query[:2] + struct.pack('>5H', 0x8180 if known else 0x8183, 1, 1 if found else 0, 0, 0) + query[12:at + 5] + found

    def run(self):
        while True:
            try:
                query, client = self.udp.recvfrom(4096)
            except OSError:
                return
            if query:
                self.udp.sendto(self.answer(query), client)

    def serve_tcp(self):
        while True:
            try:
                client, _ = self.tcp.accept()
            except OSError:
                return
            with client:
                answer = self.answer(client.recv(4096)[2:])
                client.sendall(struct.pack('>H', len(answer)) + answer)

    def close(self):
        for one in (self.udp, self.tcp):
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            one.close()


@pytest.fixture
def network(docker, name):
    docker.ok('network', 'create', 'n' + name)
    yield 'n' + name
    for container in docker.ok('ps', '-aq', '--filter', 'network=n' + name).split():
        docker.ok('rm', '-f', container)
    docker.ok('network', 'rm', 'n' + name)


def test_names_of_each_other(docker, network, name):
    first, second = name + 'a', name + 'B.b'
    for who in (first, second):
        docker.ok('run', '-d', '--name', who, '--network', network, '--network-alias', 'all', '--network-alias', 'Only-' + who[-1],
                  '--hostname', 'host-' + who[-1].lower(), 'bb', 'sleep', '1000')
    to, other = address(docker, second, network), address(docker, first, network)
    short = docker.ok('inspect', '-f', '{{.Id}}', second)[:12]
    for known in (second, second.upper(), short, 'only-b', 'host-b', f'{second}.{network}', f'{short}.{network}'):
        assert docker.ok('exec', first, 'ping', '-c', '1', '-W', '5', known).startswith(f'PING {known} ({to})'), known
    assert re.search(rf'Name:\s+{re.escape(second)}\nAddress: {to}', docker.ok('exec', first, 'nslookup', '-type=a', second))
    docker.ok('exec', second, 'ping', '-c', '1', '-W', '5', first)
    docker.ok('exec', first, 'ping', '-c', '1', '-W', '5', first)  # its own name, by /etc/hosts or DNS
    turned = '.'.join(reversed(to.split('.'))) + '.in-addr.arpa'
    assert f'name = {second}.{network}' in docker.ok('exec', first, 'nslookup', '-type=ptr', turned)
    for proto in ('udp', 'tcp') if docker.engine.name == 'berthd' and not docker.vm else ():  # else its namespace is not to be had
        assert ask(docker, first, second, proto=proto) == ['OK', to]
        assert ask(docker, first, second, kind=28, proto=proto) == ['OK']  # no IPv6, and nobody else is asked for it
        assert sorted(ask(docker, first, 'all', proto=proto)[1:]) == sorted([to, other])
    docker.ok('rename', second, name + 'c')
    assert docker.ok('exec', first, 'ping', '-c', '1', '-W', '5', name + 'c')
    assert docker('exec', first, 'ping', '-c', '1', '-W', '2', second).code != 0
    docker.ok('rm', '-f', name + 'c')
    assert docker('exec', first, 'ping', '-c', '1', '-W', '2', 'only-b').code != 0


@pytest.mark.differs('writes no comments, and the servers of --dns beside its own')
def test_resolv_conf(docker, network, name):
    text = docker.ok('run', '--rm', '--network', network, '--dns', '192.0.2.1', '--dns-search', 'a.example', '--dns-opt', 'ndots:2', 'bb',
                     'cat', '/etc/resolv.conf')
    text = text[text.index('nameserver'):]  # Docker's has a head of three lines
    assert re.sub("host file: '.*'", "host file: '/etc/resolv.conf'", text) == \
        ("nameserver 127.0.0.11\nsearch a.example\noptions ndots:2\n\n# Based on host file: '/etc/resolv.conf' (internal resolver)\n"
         "# ExtServers: [192.0.2.1]\n# Overrides: [nameservers search options]\n# Option ndots from: override")
    lines = docker.ok('run', '--rm', '--network', network, 'bb', 'cat', '/etc/resolv.conf').splitlines()
    assert 'nameserver 127.0.0.11' in lines and 'options ndots:0' in lines
    assert 'nameserver 127.0.0.11' not in docker.ok('run', '--rm', 'bb', 'cat', '/etc/resolv.conf').splitlines()


def test_a_server_of_the_containers_own(docker, network, name):
    """Port 53 is free on every address."""
    if docker.vm:
        pytest.skip('the sockets on 127.0.0.11 are the machine\'s own')
    docker.ok('run', '-d', '--name', name, '--network', network, '--dns', '127.0.0.1', 'bb', 'sh', '-c',
              'nc -ul -p 53 -e sh -c "head -c 12 >/dev/null" & nc -l -p 53 -e echo mine; sleep 1000')
    engines.wait_until(lambda: ':53 ' in docker.ok('exec', name, 'netstat', '-lnt'), 10, 'it listens')
    assert address(docker, name, network) in docker.ok('exec', name, 'nslookup', '-type=a', name)
    assert docker.ok('exec', name, 'nc', '127.0.0.1', '53') == 'mine'


@pytest.fixture(scope='module')
def own(docker, busybox, tmp_path_factory):
    """An engine whose host has resolv.conf of the test's: two servers on loopback, the first of which nobody is."""
    if docker.engine.name != 'berthd' or docker.vm:
        pytest.skip('an engine of its own, and questions from a namespace of the host')
    at = f'127.53.{os.getpid() % 250}.{os.getpid() // 250 % 250 + 1}'
    path = tmp_path_factory.mktemp('host') / 'resolv.conf'
    path.write_text(f'nameserver 127.53.53.53\nnameserver {at}\nsearch test.example\n')

    class Engine(engines.Berth):
        def command(self):
            return ['unshare', '--mount', '--propagation', 'slave', 'sh', '-c', f'mount --bind {path} /etc/resolv.conf; exec "$@"', 'sh',
                    *super().command()]
    engine, server = Engine(), Server(at)
    try:
        engine.start()
        docker = Docker(engine, engines.default_cli(), str(tmp_path_factory.mktemp('home')))
        docker.ok('load', input=busybox)
        docker.ok('network', 'create', 'blue')
        docker.ok('network', 'create', '--internal', 'inside')
        docker.ok('run', '-d', '--name', 'web', '--network', 'blue', 'bb', 'sleep', '1000')
        docker.server, docker.at = server, at
        yield docker
        docker.ok('rm', '-f', *docker.ok('ps', '-aq').split())
        assert engine.stop_all().returncode == 0
        assert not engines.settle(engine.footprint)
    finally:
        server.close()
        if engine.process.poll() is None:
            engine.kill9()
        engine.remove_folder()


@pytest.mark.berth
def test_others_are_asked_of_the_hosts_servers(own):
    for proto in ('udp', 'tcp'):
        assert ask(own, 'web', 'www.example', proto=proto) == ['OK', '192.0.2.7']
        assert ask(own, 'web', 'nobody', proto=proto) == ['NXDOMAIN']
    assert own('exec', 'web', 'ping', '-c', '1', '-W', '1', 'www').out.startswith('PING www (192.0.2.7)')  # by the search list
    own.server.asked.clear()
    assert ask(own, 'web', 'web')[0] == 'OK'
    assert ask(own, 'web', 'web', kind=28) == ['OK']
    assert own.server.asked == []  # what is ours is asked of nobody else


@pytest.mark.berth
def test_an_internal_network_asks_nobody_of_the_host(own):
    own.ok('run', '-d', '--name', 'in', '--network', 'inside', 'bb', 'sleep', '1000')
    own.server.asked.clear()
    began = time.monotonic()
    assert ask(own, 'in', 'www.example') == ['SERVFAIL']
    assert time.monotonic() - began < 3.5  # not the time that a silent server has
    assert ask(own, 'in', 'in')[0] == 'OK'
    assert own.server.asked == []
    own.ok('rm', '-f', 'in')


@pytest.mark.berth
def test_nobody_answers(own):
    own.ok('run', '-d', '--name', 'mute', '--network', 'blue', '--dns', '127.0.0.1', 'bb', 'sleep', '1000')
    began = time.monotonic()
    assert ask(own, 'mute', 'nobody') == ['SERVFAIL']
    assert time.monotonic() - began < 3.5  # not the time that a silent server has
    own.ok('rm', '-f', 'mute')


@pytest.mark.berth
def test_names_without_a_daemon(own):
    own.ok('run', '-d', '--name', 'db', '--network', 'blue', 'bb', 'sleep', '1000')
    own.ok('run', '-d', '--name', 'short', '--network', 'blue', 'bb', 'sleep', '1000')
    db = address(own, 'db', 'blue')
    pid, ends = own.ok('inspect', '-f', '{{.State.Pid}}', 'web', 'short').split()
    own.engine.kill9()
    reached = lambda question: subprocess.run(['nsenter', f'--net=/proc/{pid}/ns/net', '/usr/bin/python3', '-c', ASK, question, '1', 'udp'],
                                              capture_output=True, text=True, timeout=60).stdout.split()
    assert reached('db') == ['OK', db]
    assert reached('www.example') == ['OK', '192.0.2.7']
    os.kill(int(ends), signal.SIGKILL)
    own.engine.start()
    assert reached('short') == ['NXDOMAIN']  # it ended while nobody was there
    own.ok('run', '-d', '--name', 'new', '--network', 'blue', '--network-alias', 'extra', 'bb', 'sleep', '1000')
    assert reached('new') == reached('extra') == ['OK', address(own, 'new', 'blue')]
    assert ask(own, 'new', 'db') == ['OK', db]
    own.ok('rm', '-f', 'db', 'new', 'short')
    assert reached('db') == ['NXDOMAIN']


@pytest.mark.berth
def test_networks_come_and_go(own):
    """A container of the default bridge gets its resolver with the first network that has one."""
    own.ok('run', '-d', '--name', 'late', 'bb', 'sleep', '1000')
    assert '127.0.0.11' not in own.ok('exec', 'late', 'cat', '/etc/resolv.conf')
    own.ok('network', 'connect', '--alias', 'later', '--link', 'web:mine', 'blue', 'late')
    assert own.ok('exec', 'late', 'cat', '/etc/resolv.conf').startswith('nameserver 127.0.0.11\n')
    assert ask(own, 'late', 'web') == ask(own, 'late', 'mine') == ['OK', address(own, 'web', 'blue')]
    assert ask(own, 'web', 'later') == ['OK', address(own, 'late', 'blue')]
    assert ask(own, 'web', 'mine') == ['NXDOMAIN']  # a link is for its container alone
    own.ok('run', '-d', '--name', 'linked', '--network', 'blue', '--link', 'web:mine', 'bb', 'sleep', '1000')
    assert ask(own, 'linked', 'mine.blue') == ['OK', address(own, 'web', 'blue')]
    assert own.inspect('linked')['NetworkSettings']['Networks']['blue']['Links'] == ['web:mine']
    own.ok('network', 'disconnect', 'blue', 'late')
    assert ask(own, 'web', 'later') == ['NXDOMAIN']
    assert ask(own, 'late', 'web') == ['NXDOMAIN']
    own.ok('rm', '-f', 'late', 'linked')
