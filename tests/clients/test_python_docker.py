"""Debian's python3-docker, as its users use it."""
import io
import tarfile
import threading

import docker
import pytest


@pytest.fixture
def client(engine, image):
    client = docker.DockerClient(base_url='unix://' + engine.socket, version='auto')
    yield client
    client.close()


def test_versions(client):
    assert client.ping()
    assert client.version()['ApiVersion'] == client.api._version
    assert client.info()['OSType'] == 'linux'


def test_run_gives_the_output(client, image):
    assert client.containers.run(image, 'echo hello', remove=True) == b'hello\n'
    assert client.containers.run(image, ['sh', '-c', 'echo one; echo two >&2'], stderr=True, remove=True) == b'one\ntwo\n'


def test_run_that_fails_is_an_error(client, image):
    with pytest.raises(docker.errors.ContainerError) as error:
        client.containers.run(image, ['sh', '-c', 'echo no >&2; exit 3'], remove=True)
    assert error.value.exit_status == 3
    assert error.value.stderr == b'no\n'


def test_errors_have_their_classes(client, image):
    with pytest.raises(docker.errors.ImageNotFound):
        client.images.get('no-such:image')
    with pytest.raises(docker.errors.NotFound):
        client.containers.get('nobody')
    client.containers.create(image, name='one')
    with pytest.raises(docker.errors.APIError) as error:
        client.containers.create(image, name='one')
    assert error.value.status_code == 409


def test_a_container_s_life(client, image):
    container = client.containers.run(image, ['sh', '-c', 'trap "exit 7" TERM; echo up; while :; do sleep 0.1; done'], detach=True,
                                      name='life', labels={'test': 'life'}, environment={'A': 'b'}, mem_limit='64m')
    assert next(container.logs(stream=True)) == b'up\n'
    assert [found.name for found in client.containers.list(filters={'label': 'test=life'})] == ['life']
    container.reload()
    assert container.status == 'running'
    assert container.attrs['HostConfig']['Memory'] == 64 << 20
    container.pause()
    container.reload()
    assert container.status == 'paused'
    container.unpause()
    container.rename('other')
    container.stop(timeout=5)
    assert container.wait()['StatusCode'] == 7
    container.restart(timeout=1)
    container.kill()
    container.remove()


def test_exec(client, image):
    container = client.containers.run(image, 'sleep 60', detach=True)
    code, output = container.exec_run(['sh', '-c', 'echo out; echo err >&2; exit 4'], demux=True)
    assert (code, output) == (4, (b'out\n', b'err\n'))
    assert container.exec_run('id -u', user='1000').output == b'1000\n'
    assert b''.join(container.exec_run('echo a b', stream=True).output) == b'a b\n'
    _, connection = container.exec_run('cat', stdin=True, socket=True, tty=True)
    connection._sock.sendall(b'typed\n')
    assert b'typed' in connection._sock.recv(100)
    connection._sock.close()


def test_attach_reads_and_writes(client, image):
    container = client.containers.create(image, 'sh -c "read line; echo got $line"', stdin_open=True)
    connection = container.attach_socket(params={'stdin': 1, 'stdout': 1, 'stream': 1})
    container.start()
    connection._sock.sendall(b'it\n')
    assert connection._sock.recv(100)[8:] == b'got it\n'
    connection._sock.close()


def test_files_go_in_and_out(client, image):
    container = client.containers.run(image, 'sleep 60', detach=True)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode='w') as archive:
        info = tarfile.TarInfo('note')
        info.size = 5
        archive.addfile(info, io.BytesIO(b'hello'))
    assert container.put_archive('/tmp', packed.getvalue())
    assert container.exec_run('cat /tmp/note').output == b'hello'
    stream, stat = container.get_archive('/tmp/note')
    assert stat['size'] == 5
    with tarfile.open(fileobj=io.BytesIO(b''.join(stream))) as archive:
        assert archive.extractfile('note').read() == b'hello'
    assert {'Path': '/tmp/note', 'Kind': 1} in container.diff()


def test_stats_and_top(client, image):
    container = client.containers.run(image, 'sleep 60', detach=True)
    assert container.stats(stream=False)['memory_stats']['usage'] > 0
    assert next(container.stats(decode=True))['cpu_stats']['cpu_usage']['total_usage'] > 0
    assert any('sleep 60' in ' '.join(row) for row in container.top()['Processes'])


def test_update_and_commit(client, image):
    container = client.containers.run(image, 'sleep 60', detach=True, mem_limit='64m', memswap_limit=-1)
    container.update(mem_limit='96m')
    container.reload()
    assert container.attrs['HostConfig']['Memory'] == 96 << 20
    container.exec_run('touch /made')
    made = container.commit(repository='made', tag='1', conf={'Cmd': ['ls', '/made']})
    assert client.containers.run('made:1', remove=True) == b'/made\n'
    client.images.remove(made.id, force=True)


def test_images(client, image):
    found = client.images.get(image)
    assert found.tag('again', '1')
    assert 'again:1' in client.images.get('again:1').tags
    saved = b''.join(client.images.get('again:1').save(named=True))
    client.images.remove('again:1')
    assert [loaded.id for loaded in client.images.load(saved)] == [found.id]
    client.images.remove('again:1')
    assert found.history()


def test_volumes(client, image):
    volume = client.volumes.create('kept', labels={'test': 'volumes'})
    client.containers.run(image, 'sh -c "echo text >/data/file"', volumes={'kept': {'bind': '/data', 'mode': 'rw'}}, remove=True)
    assert client.containers.run(image, 'cat /data/file', mounts=[docker.types.Mount('/data', 'kept', read_only=True)], remove=True) == b'text\n'
    assert [found.name for found in client.volumes.list(filters={'label': 'test=volumes'})] == ['kept']
    volume.remove()


def test_networks(client, image):
    network = client.networks.create('own', driver='bridge', labels={'test': 'networks'})
    server = client.containers.run(image, 'nc -ll -p 80 -e echo hello', detach=True, name='server', network='own')
    assert client.containers.run(image, 'sh -c "sleep 0.5; nc server 80"', network='own', remove=True) == b'hello\n'
    assert [found.name for found in network.containers or client.networks.get('own').containers] == ['server']
    network.disconnect(server)
    network.connect(server, aliases=['other'])
    assert client.containers.run(image, 'nc other 80', network='own', remove=True) == b'hello\n'
    server.remove(force=True)
    network.remove()


def test_events(client, image):
    seen = []
    events = client.events(decode=True, filters={'type': 'container'})

    def listen():
        for event in events:
            seen.append(event['Action'])
            if event['Action'] == 'destroy':
                return
    listener = threading.Thread(target=listen)
    listener.start()
    client.containers.run(image, 'true', remove=True)
    listener.join(20)
    assert not listener.is_alive()
    assert seen[0] == 'create' and 'start' in seen and 'die' in seen and seen[-1] == 'destroy'


def test_ports(client, image):
    container = client.containers.run(image, 'nc -ll -p 80 -e echo hello', detach=True, ports={'80/tcp': ('127.0.0.1', None)})
    container.reload()
    assert container.ports['80/tcp'][0]['HostIp'] == '127.0.0.1'


def test_prune_and_df(client, image):
    client.containers.create(image, 'true')
    assert len(client.containers.prune()['ContainersDeleted']) == 1
    assert client.df()['Images']
