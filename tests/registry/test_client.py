"""berth-image by hand: an image into an OCI layout and back; registries with TLS, mirrors, proxies, logins."""
import base64
import json
import os
import ssl
import subprocess
import sys

import pytest

from conftest import ROOT, free_port

sys.path.append(os.path.join(ROOT, 'tests/e2e'))
import registries  # noqa: E402
from images import entry, folder, tar  # noqa: E402

CLIENT = os.path.join(ROOT, 'build/bin/berth-image')
LAYERS = [tar([folder('a'), entry('a/one', data=os.urandom(200_000))]), tar([entry('a/two', data=b'two')])]


def run(*arguments, ok=True, **environment):
    """Output of berth-image with an empty HOME."""
    done = subprocess.run(['timeout', '-s', 'KILL', '60', CLIENT, *arguments], capture_output=True, text=True,
                          env={'PATH': os.environ['PATH'], 'HOME': '/nonexistent', **environment})
    if ok:
        assert done.returncode == 0, done.stderr
        return done.stdout
    assert done.returncode == 1 and done.stderr.count('\n') == 1, (done.returncode, done.stdout, done.stderr)
    return done.stderr


@pytest.fixture
def other():
    registry = registries.Registry()
    yield registry
    registry.close()


def blobs(layout):
    return sorted(os.listdir(os.path.join(layout, 'blobs/sha256')))


def check_layout(layout, manifest, image, layers):
    hexed = sorted(digest[7:] for digest in (manifest, image, *layers))
    assert blobs(layout) == hexed
    index = json.loads(open(os.path.join(layout, 'index.json')).read())
    assert [item['digest'] for item in index['manifests']] == [manifest]


def test_pull(other, tmp_path):
    manifest, image, layers = other.add_image('team/app', '1', LAYERS)
    name = f'{other.address}/team/app:1'
    out = run('pull', name, str(tmp_path / 'layout'))
    assert out.startswith('1: Pulling from team/app\n') and out.endswith(f'Digest: {manifest}\n')
    check_layout(tmp_path / 'layout', manifest, image, layers)
    assert run('pull', name, str(tmp_path / 'layout')).count('Already exists') == 2
    check_layout(tmp_path / 'layout', manifest, image, layers)


def test_there_and_back(registry, other, tmp_path):
    """From one registry into a layout, from there into berth-registry, and out of it again: the same digests."""
    manifest, image, layers = other.add_image('app', '1', LAYERS, 'docker')
    run('pull', f'{other.address}/app:1', str(tmp_path / 'one'))
    out = run('push', str(tmp_path / 'one'), f'{registry.address}/other:2')
    assert out.count(': Pushed\n') == 3 and f'2: digest: {manifest} ' in out
    assert run('push', str(tmp_path / 'one'), f'{registry.address}/other:2').count('Layer already exists') == 3
    run('pull', f'{registry.address}/other:2', str(tmp_path / 'two'))
    assert blobs(tmp_path / 'one') == blobs(tmp_path / 'two')
    # A damaged blob is not pushed.
    damaged = tmp_path / 'one/blobs/sha256' / layers[0][7:]
    damaged.write_bytes(damaged.read_bytes()[:-1] + b'?')
    del other.blobs[layers[0]]
    assert 'has another digest' in run('push', str(tmp_path / 'one'), f'{other.address}/copy:1', ok=False)
    assert ('copy', '1') not in other.manifests


def test_docker_registry(tmp_path, other):
    """Debian's."""
    subprocess.run([os.path.join(ROOT, 'tools/peers'), 'docker-registry'], check=True, timeout=120)
    port = free_port()
    (tmp_path / 'config.yml').write_text(f'version: 0.1\nstorage: {{filesystem: {{rootdirectory: {tmp_path}/data}}}}\n'
                                         f'http: {{addr: 127.0.0.1:{port}}}\n')
    process = subprocess.Popen([os.path.join(ROOT, 'build/peers/docker-registry/usr/bin/docker-registry'), 'serve',
                                str(tmp_path / 'config.yml')], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        manifest, image, layers = other.add_image('app', '1', LAYERS, 'docker')
        run('pull', f'{other.address}/app:1', str(tmp_path / 'one'))
        for _ in range(100):
            if subprocess.run(['sh', '-c', f'exec 3<>/dev/tcp/127.0.0.1/{port}'], executable='/bin/bash', stderr=subprocess.DEVNULL).returncode == 0:
                break
        assert run('push', str(tmp_path / 'one'), f'127.0.0.1:{port}/deep/er/app:1').count(': Pushed\n') == 3
        run('pull', f'127.0.0.1:{port}/deep/er/app@{manifest}', str(tmp_path / 'two'))
        assert blobs(tmp_path / 'one') == blobs(tmp_path / 'two')
    finally:
        process.terminate()
        process.wait()


# ---- logins -------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('kind', ['basic', 'bearer'])
@pytest.mark.parametrize('way', ['auths', 'helper'])
def test_logins_of_docker(tmp_path, kind, way):
    other = registries.Registry((kind, 'anna', 'se:cret'))
    other.add_image('app', '1', LAYERS)
    name = f'{other.address}/app:1'
    config = {'auths': {other.address: {'auth': base64.b64encode(b'anna:se:cret').decode()}}}
    if way == 'helper':
        config = {'credHelpers': {other.address: 'made'}}
        helper = tmp_path / 'docker-credential-made'
        helper.write_text('#!/bin/sh\nread -r server\n[ "$1" = get ] && '
                          f'[ "$server" = {other.address} ] && echo \'{{"Username":"anna","Secret":"se:cret"}}\'\n')
        helper.chmod(0o755)
    (tmp_path / 'config.json').write_text(json.dumps(config))
    try:
        assert 'pull access denied for' in run('pull', name, str(tmp_path / 'layout'), ok=False)
        run('pull', name, str(tmp_path / 'layout'), DOCKER_CONFIG=str(tmp_path), PATH=f'{tmp_path}:{os.environ["PATH"]}')
    finally:
        other.close()


# ---- TLS ----------------------------------------------------------------------------------------------------------------

def openssl(folder, *arguments):
    subprocess.run(['openssl', *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def certificates(tmp_path):
    """An authority, a server and a client that it vouches for."""
    place = tmp_path / 'pki'
    place.mkdir()
    openssl(place, 'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', 'ca.key', '-out', 'ca.crt',
            '-subj', '/CN=tests', '-days', '2')
    (place / 'names').write_text('subjectAltName=IP:127.0.0.1\n')
    for name in ('server', 'client'):
        openssl(place, 'req', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', name + '.key', '-out', name + '.csr',
                '-subj', '/CN=' + name)
        openssl(place, 'x509', '-req', '-in', name + '.csr', '-CA', 'ca.crt', '-CAkey', 'ca.key', '-CAcreateserial', '-out', name + '.crt',
                '-days', '2', '-extfile', 'names')
    return place


def with_tls(registry, certificates, client=False):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / 'server.crt', certificates / 'server.key')
    if client:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(certificates / 'ca.crt')
    registry.server.socket = context.wrap_socket(registry.server.socket, server_side=True)


def test_own_authority(other, certificates, tmp_path):
    other.add_image('app', '1', LAYERS)
    with_tls(other, certificates)
    host = tmp_path / 'certs.d' / other.address
    host.mkdir(parents=True)
    # The folder alone says that the host is one to be checked.
    assert 'certificate' in run('pull', '--registry-certs', str(tmp_path / 'certs.d'), f'{other.address}/app:1', str(tmp_path / 'l'), ok=False)
    (host / 'tests.crt').write_bytes((certificates / 'ca.crt').read_bytes())
    run('pull', '--registry-certs', str(tmp_path / 'certs.d'), f'{other.address}/app:1', str(tmp_path / 'l'))


def test_client_certificate(other, certificates, tmp_path):
    other.add_image('app', '1', LAYERS)
    with_tls(other, certificates, client=True)
    host = tmp_path / 'certs.d' / other.address
    host.mkdir(parents=True)
    (host / 'ca.crt').write_bytes((certificates / 'ca.crt').read_bytes())
    run('pull', '--registry-certs', str(tmp_path / 'certs.d'), f'{other.address}/app:1', str(tmp_path / 'l'), ok=False)
    (host / 'me.cert').write_bytes((certificates / 'client.crt').read_bytes())
    (host / 'me.key').write_bytes((certificates / 'client.key').read_bytes())
    run('pull', '--registry-certs', str(tmp_path / 'certs.d'), f'{other.address}/app:1', str(tmp_path / 'l'))


def test_loopback_with_any_certificate(other, certificates, tmp_path):
    other.add_image('app', '1', LAYERS)
    with_tls(other, certificates)
    run('pull', '--registry-certs', '/nonexistent', f'{other.address}/app:1', str(tmp_path / 'l'))


# ---- mirrors and proxies --------------------------------------------------------------------------------------------------

def test_mirrors_stand_in_for_docker_hub(other, tmp_path):
    manifest, image, layers = other.add_image('library/debian', 'latest', LAYERS)
    dead = f'http://127.0.0.1:{free_port()}'
    run('pull', '--registry-mirror', dead, '--registry-mirror', f'http://{other.address}', 'debian', str(tmp_path / 'l'))
    check_layout(tmp_path / 'l', manifest, image, layers)
    # A mirror that has it not is passed over; what is behind it can't be reached from here.
    error = run('pull', '--registry-mirror', f'http://{other.address}', 'debian:nosuch', str(tmp_path / 'm'), ok=False)
    assert 'registry-1.docker.io' in error


def test_a_mirror_for_other_registries_is_not_asked(other, tmp_path):
    other.add_image('app', '1', LAYERS)
    run('pull', '--registry-mirror', f'http://{other.address}', 'registry.invalid/app:1', str(tmp_path / 'l'), ok=False)
    assert not other.calls


def test_proxy(other, tmp_path):
    """A request for another host comes to the proxy with the whole URL."""
    run('pull', '--insecure-registry', 'registry.invalid', 'registry.invalid/app:1', str(tmp_path / 'l'), ok=False,
        HTTP_PROXY=f'http://{other.address}')
    assert any(path.startswith('http://registry.invalid/v2/') for _, path, _ in other.calls)
    del other.calls[:]
    run('pull', '--insecure-registry', 'registry.invalid', 'registry.invalid/app:1', str(tmp_path / 'l'), ok=False,
        HTTP_PROXY=f'http://{other.address}', NO_PROXY='registry.invalid')
    assert not other.calls


def test_a_proxy_for_https(other, tmp_path):
    """A tunnel, in which the proxy sees nothing: neither names nor logins."""
    _, image, _ = other.add_image('team/app', '1', LAYERS)
    certs = registries.serve_tls(other, str(tmp_path / 'certs.d'))
    proxy = registries.ConnectProxy(other.address)
    name = 'registry.invalid/team/app:1'
    words = ('pull', '--registry-certs', certs, name)
    run(*words, str(tmp_path / 'l'), HTTPS_PROXY=f'http://{proxy.address}')
    assert image[7:] in blobs(tmp_path / 'l')
    assert proxy.heads and all(head.startswith('CONNECT registry.invalid:443 HTTP/1.') and 'Authorization: ' not in head for head in proxy.heads)
    run('push', '--registry-certs', certs, str(tmp_path / 'l'), 'registry.invalid/copy/app:1', HTTPS_PROXY=f'http://{proxy.address}')
    assert ('copy/app', '1') in other.manifests
    # Named so that it is passed by; the proxy for http is none for https; and the name is nobody's.
    del proxy.heads[:]
    for environment in ({'NO_PROXY': 'registry.invalid'}, {'NO_PROXY': 'other.example,.invalid'}, {'no_proxy': 'invalid'}, {'NO_PROXY': '*'}):
        assert 'registry.invalid' in run(*words, str(tmp_path / 'm'), ok=False, HTTPS_PROXY=f'http://{proxy.address}', **environment)
    run(*words, str(tmp_path / 'm'), ok=False, HTTP_PROXY=f'http://{proxy.address}')
    assert not proxy.heads
    for environment in ({'NO_PROXY': 'stry.invalid'}, {'NO_PROXY': 'registry.invalid.example'}, {'NO_PROXY': '10.0.0.0/8'}):
        run(*words, str(tmp_path / 'n'), https_proxy=f'http://{proxy.address}', **environment)
    proxy.close()


def test_a_proxy_with_a_login(other, tmp_path):
    other.add_image('app', '1', LAYERS)
    certs = registries.serve_tls(other, str(tmp_path / 'certs.d'))
    proxy = registries.ConnectProxy(other.address, 'me:word')
    words = ('pull', '--registry-certs', certs, 'registry.invalid/app:1', str(tmp_path / 'l'))
    assert '407' in run(*words, ok=False, HTTPS_PROXY=f'http://{proxy.address}')
    run(*words, HTTPS_PROXY=f'http://me:word@{proxy.address}')
    proxy.close()
    assert 'registry.invalid' in run('pull', '--registry-certs', certs, 'registry.invalid/app:1', str(tmp_path / 'm'), ok=False,
                                     HTTPS_PROXY=f'http://{proxy.address}')


def test_loopback_goes_by_no_proxy(other, tmp_path):
    other.add_image('app', '1', LAYERS)
    dead = f'http://127.0.0.1:{free_port()}'
    run('pull', f'{other.address}/app:1', str(tmp_path / 'l'), HTTP_PROXY=dead, HTTPS_PROXY=dead)


def test_usage():
    for arguments in ((), ('pull',), ('push',), ('pull', 'x', 'y', 'z'), ('nosuch',), ('pull', '--nosuch', 'x', 'y')):
        done = subprocess.run([CLIENT, *arguments], capture_output=True, text=True)
        assert done.returncode == 2 and 'Usage: berth-image' in done.stderr, (arguments, done)
    assert 'Digest' not in run('pull', 'UPPER/case', '/nonexistent/x', ok=False)
