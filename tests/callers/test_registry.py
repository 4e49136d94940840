"""The callers' own clients of registries against berth-registry: with tokens, and through a cache."""
import contextlib
import os
import socket
import subprocess

import pytest

from conftest import OCI, wait_until

REGISTRY = os.path.join(os.path.dirname(OCI), 'berth-registry')


def reaches(port):
    with contextlib.suppress(OSError), socket.create_connection(('127.0.0.1', port), 1):
        return True


@contextlib.contextmanager
def serving(folder, *options):
    with socket.create_server(('127.0.0.1', 0)) as sock:
        port = sock.getsockname()[1]
    process = subprocess.Popen([REGISTRY, '--root', str(folder), '--listen', f'127.0.0.1:{port}', *options])
    try:
        wait_until(lambda: reaches(port), what='the registry serves')
        yield f'127.0.0.1:{port}'
    finally:
        process.terminate()
        assert process.wait(20) == 0


@pytest.fixture
def users(tmp_path):
    hashed = subprocess.run(['perl', '-e', 'print crypt("secret", q($2b$05$abcdefghijklmnopqrstuu))'], capture_output=True, text=True, check=True).stdout
    (tmp_path / 'users').write_text(f'ann:{hashed}\n')
    return str(tmp_path / 'users')


@pytest.fixture
def plain(caller):
    """Words that let a loopback registry be spoken to by http; dockerd does so by itself."""
    if caller.__class__.__name__ == 'Containerd':
        pytest.skip('ctr keeps no logins')
    return [] if caller.__class__.__name__ == 'Docker' else ['--tls-verify=false']


def identity(caller, name):
    return caller.good('image', 'inspect', '-f', '{{.Id}}', name).removeprefix('sha256:')


def test_with_tokens_and_through_a_cache(caller, plain, users, tmp_path):
    (tmp_path / 'login').write_text('ann:secret\n')
    with contextlib.ExitStack() as running:
        address = running.enter_context(serving(tmp_path / 'root', '--htpasswd', users, '--token'))
        cache = running.enter_context(serving(tmp_path / 'cache', '--proxy', f'http://{address}', '--proxy-login', str(tmp_path / 'login')))
        name, cached, before = f'{address}/team/app:1', f'{cache}/team/app:1', identity(caller, caller.image)
        caller.good('tag', caller.image, name)
        assert caller.call('push', *plain, name).returncode != 0, 'a stranger may not push'
        assert caller.call('login', *plain, '-u', 'ann', '-p', 'wrong', address).returncode != 0
        caller.good('login', *plain, '-u', 'ann', '-p', 'secret', address)
        caller.good('push', *plain, name)
        caller.good('rmi', name)
        caller.good('pull', *plain, name)
        assert identity(caller, name) == before
        caller.good('rmi', name)
        caller.good('logout', address)
        assert caller.call('pull', *plain, name).returncode != 0, 'nor pull'
        caller.good('pull', *plain, cached)
        assert identity(caller, cached) == before
        caller.good('rmi', cached)
        assert caller.call('push', *plain, cached).returncode != 0
