"""BuildKit's door: gRPC on the daemon's socket, spoken by bytes, and by the buildx plug-in of the docker CLI."""
import os
import re
import socket
import struct
import subprocess

import pytest

import engines

PLUGINS = os.path.join(engines.PEERS, 'plugins-sid/usr/libexec/docker/cli-plugins')

# ---- by bytes -------------------------------------------------------------------------------------------------------

PREFACE = b'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'
DATA, HEADERS, SETTINGS, GOAWAY = 0, 1, 4, 7
END_STREAM, END_HEADERS = 1, 4


def frame(kind, flags=0, stream=0, payload=b''):
    return struct.pack('>I', len(payload))[1:] + bytes([kind, flags]) + struct.pack('>I', stream) + payload


def header(name, value):
    return bytes([0, len(name)]) + name.encode() + bytes([len(value)]) + value.encode()


def call_bytes(path, message=b''):
    """The whole of a unary call on stream 1."""
    head = b''.join(header(name, value) for name, value in (
        (':method', 'POST'), (':scheme', 'http'), (':path', path), (':authority', 'x'), ('content-type', 'application/grpc'), ('te', 'trailers')))
    return (PREFACE + frame(SETTINGS) + frame(HEADERS, END_HEADERS, 1, head) +
            frame(DATA, END_STREAM, 1, b'\0' + struct.pack('>I', len(message)) + message))


def frames(sock):
    """What the server says, frame by frame, until it hangs up."""
    def take(size):
        data = b''
        while len(data) < size:
            part = sock.recv(size - len(data))
            if not part:
                return None
            data += part
        return data
    while head := take(9):
        size, kind, flags, stream = int.from_bytes(head[:3], 'big'), head[3], head[4], int.from_bytes(head[5:], 'big')
        yield kind, flags, stream, take(size) if size else b''


def unary(sock, path):
    """The answer's message and the block of its last headers."""
    sock.sendall(call_bytes(path))
    message = b''
    for kind, flags, stream, payload in frames(sock):
        if stream == 1 and kind == DATA:
            message += payload
        if stream == 1 and kind == HEADERS and flags & END_STREAM:
            return message, payload
    raise AssertionError('hung up')


def connect(docker):
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(20)
    sock.connect(docker.engine.socket)
    return sock


def upgrade(docker, path, proto='h2c', more=''):
    sock = connect(docker)
    sock.sendall(f'POST {path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: {proto}\r\n{more}\r\n'.encode())
    answer = b''
    while b'\r\n\r\n' not in answer:
        answer += sock.recv(1)
    return sock, answer.decode()


@pytest.mark.differs('dockerd serves HTTP/2 by prior knowledge from its version 29 on')
def test_http2_by_prior_knowledge(docker):
    with connect(docker) as sock:
        message, trailer = unary(sock, '/grpc.health.v1.Health/Check')
        assert message == b'\0\0\0\0\x02\x08\x01'  # SERVING
        assert b'grpc-status' in trailer or trailer  # HPACK may have packed the name


def test_grpc_after_an_upgrade(docker):
    sock, answer = upgrade(docker, '/grpc')
    with sock:
        assert answer.startswith('HTTP/1.1 101 ') and 'Upgrade: h2c' in answer
        message, _ = unary(sock, '/moby.buildkit.v1.Control/Info')
        assert len(message) > 5


def test_other_protocols_are_refused(docker):
    for proto in ('tcp', 'websocket'):
        for path in ('/grpc', '/session'):
            sock, answer = upgrade(docker, path, proto, 'X-Docker-Expose-Session-Uuid: x\r\n')
            sock.close()
            assert answer.startswith('HTTP/1.1 400 '), answer


@pytest.mark.berth
def test_a_session_needs_an_id(docker):
    for more in ('', 'X-Docker-Expose-Session-Uuid: a b\r\n', f'X-Docker-Expose-Session-Uuid: {"x" * 200}\r\n'):
        sock, answer = upgrade(docker, '/session', more=more)
        sock.close()
        assert answer.startswith('HTTP/1.1 400 '), answer


def test_a_session_is_called_by_the_daemon(docker):
    """The daemon is the client there: it speaks first."""
    sock, answer = upgrade(docker, '/session', more='X-Docker-Expose-Session-Uuid: some-id\r\n')
    with sock:
        assert answer.startswith('HTTP/1.1 101 ')
        assert sock.recv(len(PREFACE), socket.MSG_WAITALL) == PREFACE


@pytest.mark.berth
def test_junk_ends_the_connection_alone(docker):
    for junk in (b'GET / HTTP/1.1\r\n\r\n', b'\0' * 100, PREFACE + frame(DATA, 0, 1, b'x'), PREFACE + b'\xff' * 50,
                 PREFACE + frame(SETTINGS) + frame(HEADERS, END_HEADERS, 1, b'\xff' * 200)):
        sock, _ = upgrade(docker, '/grpc')
        with sock:
            sock.sendall(junk)
            assert all(kind != DATA for kind, *_ in frames(sock))
    assert docker.engine.get('/version')


# ---- by the plug-in -------------------------------------------------------------------------------------------------


class Buildx:
    def __init__(self, docker, home):
        self.docker, self.home = docker, str(home)

    def __call__(self, *words, **more):
        environment = {'PATH': os.environ['PATH'], 'HOME': self.home, 'DOCKER_HOST': 'unix://' + self.docker.engine.socket}
        return subprocess.run([engines.default_cli(), 'buildx', *words], capture_output=True, text=True, env=environment, timeout=120,
                              stdin=subprocess.DEVNULL, **more)

    def ok(self, *words, **more):
        done = self(*words, **more)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def fails(self, *words, **more):
        done = self(*words, **more)
        assert done.returncode != 0, done.stdout + done.stderr
        return done.stderr


@pytest.fixture
def buildx(docker, tmp_path):
    if not os.path.exists(os.path.join(PLUGINS, 'docker-buildx')):
        if not os.environ.get('BERTH_E2E_LONG'):
            pytest.skip('the plug-in is not here: tools/peers plugins-sid fetches it, make check-full does')
        subprocess.run([os.path.join(engines.ROOT, 'tools/peers'), 'plugins-sid'], check=True, timeout=600)
    plugins = tmp_path / 'home/.docker/cli-plugins'
    plugins.mkdir(parents=True)
    os.symlink(os.path.join(PLUGINS, 'docker-buildx'), plugins / 'docker-buildx')
    return Buildx(docker, tmp_path / 'home')


@pytest.mark.berth
def test_inspect(buildx):
    out = buildx.ok('inspect')
    assert re.search(r'Driver: +docker', out)
    assert re.search(r'Status: +running', out) and re.search(r'BuildKit version: +v', out) and re.search(r'Platforms: +linux/', out)


@pytest.mark.berth
def test_an_empty_cache(buildx):
    assert 'Total:' in buildx.ok('du')
    assert 'Total:' in buildx.ok('prune', '-f')


@pytest.mark.berth
def test_a_build_is_refused_by_one_line(buildx, tmp_path):
    (tmp_path / 'Dockerfile').write_text('FROM scratch\n')
    out = buildx.fails('build', str(tmp_path))
    assert "this daemon does not build by BuildKit's door yet: use DOCKER_BUILDKIT=0 docker build" in out, out
