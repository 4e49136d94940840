"""What a build fetches with a login of the client's: repositories by ssh with its agent, repositories and files by secrets."""
import base64
import os
import shutil
import socket
import subprocess

import pytest

import gits
from engines import wait_until
from test_build_copy import modern  # noqa: F401
from test_build_remote import Files
from test_buildx import buildx, in_the_full_run  # noqa: F401

pytestmark = [in_the_full_run, pytest.mark.differs('has a BuildKit without these secrets')]

FILES = {'Dockerfile': 'FROM bb\nCOPY f /f\nCMD ["cat", "/f"]\n', 'f': 'of a repository', 'sub__g': 'in a folder'}


@pytest.fixture
def repository(tmp_path):
    repository = gits.Repository(tmp_path / 'git')
    repository.commit(**FILES)
    yield repository
    repository.close()


# ---- by ssh ---------------------------------------------------------------------------------------------------------

def free_port():
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]


def answers(port):
    with socket.socket() as probe:
        return probe.connect_ex(('127.0.0.1', port)) == 0


HOME = 'mount -t tmpfs -o mode=700 home "$HOME" && mkdir -m 700 "$HOME/.ssh" && cp "$1" "$HOME/.ssh/authorized_keys" && shift && exec "$@"'


class Server:
    """An ssh server on the loopback, in whose view the user has one key, and an agent with it."""

    def __init__(self, folder):
        self.port, self.socket = free_port(), str(folder / 'agent')
        subprocess.run(['ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-f', folder / 'key'], check=True)
        subprocess.run(['dropbearkey', '-t', 'ed25519', '-f', folder / 'host'], check=True, stdout=subprocess.DEVNULL)
        self.log = open(folder / 'log', 'w')
        self.server = subprocess.Popen(['unshare', '--mount', '--propagation', 'private', 'sh', '-c', HOME, 'sh', folder / 'key.pub', 'dropbear', '-F', '-E', '-s', '-r', folder / 'host',
                                        '-P', folder / 'pid', '-p', f'127.0.0.1:{self.port}'], stdin=subprocess.DEVNULL, stderr=self.log, env={**os.environ, 'HOME': os.path.expanduser('~root')})
        self.agent = subprocess.Popen(['ssh-agent', '-D', '-a', self.socket], stdout=subprocess.DEVNULL)

    def ready(self, folder):
        wait_until(lambda: os.path.exists(self.socket) and answers(self.port), 30, 'the ssh server and its agent')
        subprocess.run(['ssh-add', '-q', folder / 'key'], env={'PATH': os.environ['PATH'], 'SSH_AUTH_SOCK': self.socket}, check=True)

    def close(self):
        for process in (self.server, self.agent):
            process.terminate()
            process.wait()
        self.log.close()


@pytest.fixture
def server(tmp_path):
    for program in ('dropbear', 'dropbearkey', 'ssh-agent'):
        if not shutil.which(program):
            pytest.skip(f'{program} is not here')
    folder = tmp_path / 'ssh'
    folder.mkdir(mode=0o700)
    server = Server(folder)
    try:
        server.ready(folder)
        yield server
    finally:
        server.close()


def test_repositories_by_ssh(modern, repository, server):
    url = f'ssh://root@127.0.0.1:{server.port}{repository.path}'
    agent = ('--ssh', f'default={server.socket}')
    modern.ok(f'FROM bb\nADD {url} /head\nADD {url}#main:sub /sub\nCMD ["cat", "/head/f", "/sub/g"]\n', *agent)
    assert modern.run() == 'of a repositoryin a folder'
    modern.buildx.ok('build', '-t', modern.name, *agent, f'{url}#main')
    assert modern.run() == 'of a repository'
    assert 'Permission denied' in modern.fails(f'FROM bb\nADD {url}#main:none /x\n')
    assert not [path for path in repository.asked if path]


# ---- by secrets -----------------------------------------------------------------------------------------------------

@pytest.fixture
def environment(monkeypatch, modern):
    """Variables that secrets come from."""
    before = modern.buildx.environment
    values = {}
    monkeypatch.setattr(modern.buildx, 'environment', lambda: {**before(), **values})

    def secret(name, value):
        variable = f'SECRET_{len(values)}'
        values[variable] = value
        return '--secret', f'id={name},env={variable}'
    return secret


def test_repositories_with_a_login(modern, repository, environment):
    host = repository.url.split('/')[2]
    text = f'FROM bb\nADD {repository.url} /r\nCMD ["cat", "/r/f"]\n'
    repository.login = 'basic ' + base64.b64encode(b'x-access-token:let me in').decode()
    assert 'could not read Username' in modern.fails(text)
    modern.ok(text, *environment('GIT_AUTH_TOKEN', 'let me in'))
    assert modern.run() == 'of a repository'
    repository.login = 'Bearer of this host'
    modern.ok(text, '--no-cache', *environment('GIT_AUTH_TOKEN', 'let me in'), *environment('GIT_AUTH_HEADER.' + host, 'Bearer of this host\n'))
    modern.buildx.ok('build', '-t', modern.name, *environment('GIT_AUTH_HEADER', 'Bearer of this host'), f'{repository.url}#main')
    assert modern.run() == 'of a repository'
    assert 'not one line' in modern.fails(text, '--no-cache', *environment('GIT_AUTH_HEADER', 'Bearer x\nOther: y'))


def test_files_with_a_login(modern, environment):
    files = Files()
    try:
        files.files['/f'] = (b'of a server', {})
        files.login = 'Bearer let me in'
        text = f'FROM bb\nADD {files.url}/f /f\nCMD ["cat", "/f"]\n'
        assert 'with status 401' in modern.fails(text)
        modern.ok(text, *environment('HTTP_AUTH_TOKEN_127.0.0.1', 'let me in'))
        assert modern.run() == 'of a server'
        assert 'with status 401' in modern.fails(text, *environment('HTTP_AUTH_TOKEN_other', 'let me in'))
        files.login = 'odd words'
        modern.ok(text, *environment('HTTP_AUTH_HEADER_127.0.0.1', 'odd words'), *environment('HTTP_AUTH_TOKEN_127.0.0.1', 'not asked'))
    finally:
        files.http.shutdown()
        files.http.server_close()
