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


@pytest.mark.differs_today('dockerd serves HTTP/2 by prior knowledge from its version 29 on')
def test_http2_by_prior_knowledge(docker):
    with connect(docker) as sock:
        message, trailer = unary(sock, '/grpc.health.v1.Health/Check')
        assert message == b'\0\0\0\0\x02\x08\x01'  # SERVING
        assert trailer


@pytest.mark.differs('says no setting before it is asked')
def test_grpc_after_an_upgrade(docker):
    sock, answer = upgrade(docker, '/grpc')
    with sock:
        assert answer.startswith('HTTP/1.1 101 ') and 'Upgrade: h2c' in answer
        message, _ = unary(sock, '/moby.buildkit.v1.Control/Info')
        assert len(message) > 5


@pytest.mark.differs_today('answers 500')
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

    def environment(self):
        return {'PATH': os.environ['PATH'], 'HOME': self.home, 'DOCKER_HOST': 'unix://' + self.docker.engine.socket}

    def docker_with_plugins(self, *words, **more):
        return subprocess.run([engines.default_cli(), *words], capture_output=True, text=True, env=self.environment(), timeout=120,
                              stdin=subprocess.DEVNULL, **more)

    def __call__(self, *words, **more):
        return self.docker_with_plugins('buildx', *words, **more)

    def popen(self, *words):
        return subprocess.Popen([engines.default_cli(), 'buildx', *words], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                stderr=subprocess.PIPE, text=True, env=self.environment())

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


in_the_full_run = pytest.mark.skipif(not os.environ.get('BERTH_E2E_LONG'), reason='the plug-in takes a second for each line: make check-full does it')

# ---- builds ---------------------------------------------------------------------------------------------------------


class Project:
    """A folder with a Dockerfile, and the image that comes of it."""

    def __init__(self, buildx, docker, folder, name):
        self.buildx, self.docker, self.folder, self.name = buildx, docker, folder, name

    def file(self, path, text='', mode=0o644):
        path = self.folder / path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        path.chmod(mode)

    def words(self, *options):
        return ('build', '--progress', 'plain', '-t', self.name, *options, str(self.folder))

    def ok(self, dockerfile, *options, **more):
        self.file('Dockerfile', dockerfile)
        return self.buildx.ok(*self.words(*options), **more)

    def fails(self, dockerfile, *options):
        self.file('Dockerfile', dockerfile)
        return self.buildx.fails(*self.words(*options))

    def run(self, *words):
        return self.docker.ok('run', '--rm', self.name, *words)


@pytest.fixture
def project(buildx, docker, tmp_path, name):
    folder = tmp_path / 'context'
    folder.mkdir()
    yield Project(buildx, docker, folder, name)
    for reference in docker.ok('images', '-q', '--filter', f'reference={name}*').split():
        docker('rmi', '-f', reference)


@pytest.mark.differs_today('says its steps otherwise')
def test_a_folder_becomes_an_image(project, tmp_path):
    project.buildx.ok('prune', '-af')  # of other tests' builds
    project.file('hello', 'hello from the context\n')
    text = 'FROM bb\nCOPY hello /srv/\nRUN cat /srv/hello && echo made >/made\nCMD cat /srv/hello /made\n'
    out = project.ok(text, '--iidfile', str(tmp_path / 'id'))
    assert '[internal] load build definition from Dockerfile' in out and '[internal] load build context' in out
    assert re.search(r'#\d+ [0-9.]+ hello from the context', out) and re.search(r'RUN cat /srv/hello', out)
    assert project.run() == 'hello from the context\nmade'
    assert (tmp_path / 'id').read_text() == project.docker.inspect(project.name)['Id']
    again = project.ok(text)
    assert re.search(r'#\d+ CACHED', again) and 'hello from' not in again
    listed = re.findall(r'^(sha256:[0-9a-f]{64})', project.buildx.ok('du'), re.M)
    assert len(listed) == 4  # the context, too
    project.docker.ok('rmi', project.name)
    gone = re.findall(r'^(sha256:[0-9a-f]{64})', project.buildx.ok('prune', '-af'), re.M)
    assert gone and set(gone) <= set(listed)  # the image's own step has gone with it
    assert 'sha256:' not in project.buildx.ok('du')


@in_the_full_run
def test_args_labels_targets_and_hosts(project):
    out = project.ok('ARG BASE\nFROM $BASE AS one\nARG WHAT=nothing\nRUN echo got $WHAT && cat /etc/hosts\nFROM one AS two\nRUN false\n',
                     '--build-arg', 'BASE=bb', '--build-arg', 'WHAT=much', '--label', 'a=b', '--target', 'one', '--add-host', 'far:10.9.8.7')
    assert 'got much' in out and re.search(r'10\.9\.8\.7\s+far', out)
    assert project.docker.inspect(project.name)['Config']['Labels'] == {'a': 'b'}


@in_the_full_run
def test_dockerignore_and_another_dockerfile(project):
    for path in ('keep', 'drop.o', 'sub/drop.o', 'sub/keep', 'special.o'):
        project.file(path, path)
    project.file('.dockerignore', '# what is made\n**/*.o\n!special.o\nother\n')
    project.file('other', 'FROM bb\nCOPY . /srv/\n')
    project.buildx.ok(*project.words('-f', str(project.folder / 'other')))
    assert sorted(project.run('find', '/srv', '-type', 'f').split()) == ['/srv/.dockerignore', '/srv/keep', '/srv/special.o', '/srv/sub/keep']
    project.file('other.dockerignore', 'keep\n')
    project.buildx.ok(*project.words('-f', str(project.folder / 'other')))
    assert '/srv/keep' not in project.run('find', '/srv', '-type', 'f').split()


@in_the_full_run
def test_the_context_arrives_as_it_is(project):
    """A file above a message's and a window's size, many small ones, links, modes, and names that are long or not ASCII."""
    project.file('big', os.urandom(9 << 20))
    for number in range(300):
        project.file(f'many/{number}', f'{number}\n' * (number * 7 % 50))
    project.file('run.sh', '#!/bin/sh\necho ran\n', 0o755)
    project.file('n' * 120 + '/' + 'm' * 120, 'long')
    project.file('\u00e4\u00f6 \u00fc', 'umlauts')
    os.symlink('run.sh', project.folder / 'link')
    os.link(project.folder / 'run.sh', project.folder / 'twin')
    project.ok('FROM bb\nCOPY . /srv/\n')
    sums = subprocess.run('find . -type f ! -name Dockerfile | sort | xargs -d "\\n" sha256sum; stat -c "%a %n" run.sh; readlink link', shell=True, cwd=project.folder,
                          capture_output=True, text=True, check=True).stdout
    there = project.run('sh', '-c', "cd /srv && find . -type f ! -name Dockerfile | sort | tr '\\n' '\\0' | xargs -0 sha256sum; stat -c '%a %n' run.sh; readlink link")
    assert sorted(there.split('\n')) == sorted(sums.strip().split('\n'))
    assert project.run('/srv/link') == 'ran'


@pytest.mark.differs('asks for the whole folder')
def test_only_what_is_needed_is_sent(project):
    """Paths are followed where the Dockerfile says them all."""
    project.file('big', os.urandom(3 << 20))
    project.file('sub/needed', 'needed')
    project.file('here.txt', 'here')
    os.symlink('sub', project.folder / 'way')
    few = re.compile(r'transferring context: [0-9.]+k?B ')
    assert few.search(project.ok('FROM bb\nCOPY way/needed *.txt /srv/\nRUN --mount=source=sub,target=/m cat /m/needed\n'))
    assert project.run('sh', '-c', 'cat /srv/needed /srv/here.txt') == 'neededhere'
    for text in ('COPY . /srv/', 'ARG W=big\nCOPY $W /srv/', 'RUN --mount=target=/m cp /m/big /srv/', 'ONBUILD RUN true\nCOPY big /srv/'):
        project.file('big', os.urandom(3 << 20))  # what did not change is there already
        assert not few.search(project.ok(f'FROM bb\nRUN mkdir /srv\n{text}\n')) and project.run('ls', '/srv/big')
    project.ok('FROM bb\nONBUILD COPY big /srv/\n')
    project.file('Dockerfile', f'FROM {project.name}\nCOPY here.txt /srv/\n')
    project.buildx.ok('build', '-t', project.name + ':child', str(project.folder))
    assert project.docker.ok('run', '--rm', project.name + ':child', 'ls', '/srv').split() == ['big', 'here.txt']


@pytest.mark.differs('tells of it in other words')
def test_a_step_that_fails(project):
    out = project.fails('FROM bb\nRUN echo before && exit 7\n')
    assert 'before' in out
    assert 'failed to solve: process "/bin/sh -c echo before && exit 7" did not complete successfully: exit code: 7' in out
    assert """\nDockerfile:2\n--------------------\n   1 |     FROM bb\n   2 | >>> RUN echo before && exit 7\n   3 |     \n--------------------\nERROR: """ in out
    out = project.fails('FROM bb\nFRM bb\n')
    assert 'unknown instruction: FRM' in out and '\n   2 | >>> FRM bb\n' in out
    out = project.fails('FROM bb\nCOPY nothing /\n')
    assert '"/nothing": not found' in out and '\n   2 | >>> COPY nothing /\n' in out
    assert r'process "/bin/sh -c exit \"3\"" did not' in project.fails('FROM bb\nRUN exit "3"\n')
    assert project.docker.ok('images', '-q', project.name) == ''


@pytest.mark.differs('BuildKit of 20.10 wants a file')
def test_patterns_may_fit_nothing(project):
    """package-lock.jso[n]: a file that need not be there."""
    project.file('package.json', '{}')
    project.ok('FROM bb\nCOPY package.json package-lock.jso[n] /app/\nCOPY non[e] /none/\nADD *.non[e] /none/\nCOPY --link non[e] /none/\n')
    assert project.run('sh', '-c', 'ls -d /app/* /none 2>&1 | sort').split('\n') == ['/app/package.json', 'ls: /none: No such file or directory']


@in_the_full_run
def test_no_dockerfile(project):
    out = project.buildx.fails(*project.words())
    assert 'failed to solve: failed to read dockerfile: open Dockerfile: no such file or directory' in out


@in_the_full_run
def test_a_dockerfile_that_is_a_link(project):
    project.file('sub/real', 'FROM bb\nRUN echo by-the-link\n')
    os.symlink('sub/second', project.folder / 'Dockerfile')
    os.symlink('real', project.folder / 'sub/second')
    assert 'by-the-link' in project.buildx.ok(*project.words())
    os.unlink(project.folder / 'Dockerfile')
    os.symlink('../../etc/passwd', project.folder / 'Dockerfile')
    assert 'no such file' in project.buildx.fails(*project.words())


@in_the_full_run
@pytest.mark.berth
@pytest.mark.parametrize('option, says', [(('--build-context', 'a=oci-layout://.'), 'oci-layout')])
def test_what_is_not_here_is_refused_by_name(project, option, says):
    assert says in project.fails('FROM bb\n', *option)


@pytest.mark.container_only('HostConfig.Binds')
@pytest.mark.differs('leaves no empty file where a secret was')
def test_secrets(project, tmp_path):
    (tmp_path / 'token').write_text('open-sesame')
    out = project.ok('FROM bb\nRUN --mount=type=secret,id=token,mode=0440,uid=7 stat -c "%a %u" /run/secrets/token && rev /run/secrets/token\n'
                     'RUN --mount=type=secret,id=token,target=/srv/t wc -c </srv/t && ! touch /srv/t\nRUN --mount=type=secret,id=none test ! -e /run/secrets/none\n',
                     '--secret', f'id=token,src={tmp_path / "token"}')
    assert re.search(r'#\d+ [0-9.]+ 440 7', out) and 'emases-nepo' in out and re.search(r'#\d+ [0-9.]+ 11', out)
    assert project.run('sh', '-c', 'ls /run /srv 2>/dev/null || echo none') == 'none'
    assert 'secret missing: not found' in project.fails('FROM bb\nRUN --mount=type=secret,id=missing,required true\n')
    assert subprocess.run(['grep', '-rq', 'open-sesame', project.docker.engine.folder]).returncode == 1
    assert os.listdir(os.path.join(project.docker.engine.state, 'build-secrets')) == []


@pytest.mark.new_client('it leaves its plug-in running')
def test_the_client_leaves_in_a_step(project):
    """The step ends, and nothing is left of it."""
    project.file('Dockerfile', 'FROM bb\nRUN echo it-runs && sleep 300\n')
    client = project.buildx.popen(*project.words())
    for line in client.stderr:
        if re.search(r'#\d+ [0-9.]+ it-runs', line):
            break
    client.kill()
    client.wait()
    client.stderr.close()
    engines.wait_until(lambda: project.docker.ok('ps', '-aq') == '', 60, 'the container of the step is gone')


@in_the_full_run
def test_compose_builds_by_this_door(project):
    project.file('hello', 'composed\n')
    project.file('Dockerfile', 'FROM bb\nCOPY hello /\nCMD cat /hello\n')
    project.file('compose.yaml', f'services:\n  web:\n    image: {project.name}\n    build: .\n')
    os.symlink(os.path.join(PLUGINS, 'docker-compose'), os.path.join(project.buildx.home, '.docker/cli-plugins/docker-compose'))
    done = project.buildx.docker_with_plugins('compose', '--project-directory', str(project.folder), 'build')
    assert done.returncode == 0, done.stdout + done.stderr
    assert project.run() == 'composed'
