"""docker cp, diff, export and commit of a microVM: its guest reads and writes, running or booted for it."""
import io
import os
import subprocess
import tarfile

import pytest

import engines
import images
from test_files import get, members, put, quoted, stat_of

pytestmark = [pytest.mark.vm_only, pytest.mark.berth]


def test_a_running_machine(docker, api, name, tmp_path):
    docker.ok('run', '-d', '--name', name, '--network', 'none', 'bb', 'sh', '-c',
              'mkdir -p /d/sub; echo hi >/d/a.txt; ln -s /d /link; ln /d/a.txt /d/same; rm /etc/group; ln -s /etc /abs; echo up; sleep 1000')
    engines.is_up(docker, name)
    # out
    docker.ok('cp', f'{name}:/d', str(tmp_path))
    assert (tmp_path / 'd/a.txt').read_text() == 'hi\n' and sorted(os.listdir(tmp_path / 'd')) == ['a.txt', 'same', 'sub']
    assert stat_of(api.request('HEAD', f'/containers/{name}/archive?path={quoted("/link")}'))['linkTarget'] == '/d'
    answer = get(api, name, '/nosuch')
    assert answer.status == 404 and answer.message == f'Could not find the file /nosuch in container {name}'
    assert members(get(api, name, '/etc/hosts').body)[0].size > 0 and get(api, name, '/proc/1/status').status == 404
    # in
    docker.ok('cp', '-', f'{name}:/d', input=images.tar([images.folder('x'), images.entry('x/y', data=b'streamed', uid=7)]))
    assert docker.ok('exec', name, 'sh', '-c', 'cat /d/x/y; stat -c %u /d/x/y') == 'streamed7'
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode='w:gz') as archive:
        archive.addfile(images.entry('packed')[0], io.BytesIO())
    assert put(api, name, '/link', out.getvalue()).status == 200 and docker.ok('exec', name, 'ls', '/d/packed') == '/d/packed'
    assert put(api, name, '/nosuch', images.tar([])).status == 404
    answer = put(api, name, '/d', b'junk' * 500)
    assert answer.status == 400 and 'invalid tar header' in answer.message
    assert put(api, name, '/d', images.tar([images.entry('../esc')])).status == 400
    # and back, larger than the link's window
    data = os.urandom(3 << 20)
    docker.ok('cp', '-', f'{name}:/tmp', input=images.tar([images.entry('big', data=data)]))
    with tarfile.open(fileobj=io.BytesIO(get(api, name, '/tmp/big').body)) as archive:
        assert archive.extractfile('big').read() == data
    # what changed
    found = docker.ok('diff', name).split('\n')
    assert sorted(found) == ['A /abs', 'A /d', 'A /d/a.txt', 'A /d/packed', 'A /d/same', 'A /d/sub', 'A /d/x', 'A /d/x/y', 'A /link',
                             'A /tmp/big', 'C /etc', 'C /tmp', 'D /etc/group']
    exported = subprocess.run(docker.command('export', name), capture_output=True, env=docker.environment()).stdout
    names = [member.name for member in members(exported)]
    assert 'd/x/y' in names and 'etc/group' not in names and 'bin/busybox' in names
    # as an image
    docker.ok('commit', '-c', 'CMD ["cat", "/d/a.txt"]', name, f'{name}:1')
    assert docker.ok('exec', name, 'echo', 'goes on') == 'goes on'
    docker.ok('pause', name)
    answer = get(api, name, '/d')
    assert answer.status == 409 and 'unpause' in answer.message
    docker.ok('unpause', name)
    docker.ok('rm', '-f', name)
    assert docker.ok('run', '--rm', '--network', 'none', f'{name}:1') == 'hi'
    docker.ok('rmi', f'{name}:1')


@pytest.mark.short_vm
def test_a_machine_that_does_not_run_is_booted_for_it(docker, api, name, tmp_path):
    (tmp_path / 'run').write_text('#!/bin/sh\necho from outside; echo kept >/kept\n')
    os.chmod(tmp_path / 'run', 0o755)
    docker.ok('create', '--name', name, '--network', 'none', 'bb', '/run-me')
    docker.ok('cp', str(tmp_path / 'run'), f'{name}:/run-me')
    assert docker.inspect(name)['State']['Status'] == 'created'
    assert docker.ok('start', '-a', name) == 'from outside'
    docker.ok('cp', f'{name}:/kept', str(tmp_path))
    assert (tmp_path / 'kept').read_text() == 'kept\n' and docker.inspect(name)['State']['Status'] == 'exited'
    assert sorted(docker.ok('diff', name).split('\n')) == ['A /kept', 'A /run-me']


def test_a_client_that_leaves_a_booted_machine(docker, api, name):
    docker.ok('create', '--name', name, '--network', 'none', 'bb', 'true')
    client = api.raw(f'GET /containers/{name}/archive?path=/bin HTTP/1.1\r\nHost: x\r\n\r\n'.encode(), seconds=60)
    assert client.recv(100).startswith(b'HTTP/1.1 200')
    client.close()
    docker.ok('rm', '-f', name)


def test_a_daemon_that_dies_meanwhile(docker, api, engine, name):
    """The next one takes the machine away that was booted for a copy."""
    engine.restarted = True
    docker.ok('create', '--name', name, '--network', 'none', 'bb', 'echo', 'runs')
    client = api.raw(f'GET /containers/{name}/archive?path=/bin HTTP/1.1\r\nHost: x\r\n\r\n'.encode(), seconds=60)
    assert client.recv(100).startswith(b'HTTP/1.1 200')
    engine.kill9()
    engine.start()
    engines.wait_until(lambda: not any(thing.startswith('process') for thing in engine.footprint_of_containers()), 10, 'the machine is gone')
    assert docker.inspect(name)['State']['Status'] == 'created' and docker.ok('start', '-a', name) == 'runs'
