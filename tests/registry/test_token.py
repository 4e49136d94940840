"""Bearer tokens: those that the registry issues itself, those of another issuer, and what is none; with the clients that people have."""
import base64
import hashlib
import hmac
import json
import os
import subprocess
import sys
import time
import urllib.parse

import pytest

from conftest import IMAGE, code, digest
from test_client import LAYERS, ROOT, run

sys.path.append(os.path.join(ROOT, 'tests/e2e'))
import images  # noqa: E402

LOGIN = 'Basic ' + base64.b64encode(b'ann:secret').decode()


def part(data):
    data = data if isinstance(data, bytes) else json.dumps(data).encode()
    return base64.urlsafe_b64encode(data).rstrip(b'=').decode()


@pytest.fixture
def users(tmp_path):
    salted = subprocess.run(['perl', '-e', 'print crypt("secret", q($2b$05$abcdefghijklmnopqrstuu))'], capture_output=True, text=True, check=True).stdout
    (tmp_path / 'users').write_text(f'ann:{salted}\n')
    return str(tmp_path / 'users')


@pytest.fixture
def own(make, users):
    return make('--htpasswd', users, '--token')


def token(registry, *scopes, login=LOGIN):
    query = urllib.parse.urlencode([('service', 'berth-registry'), *[('scope', scope) for scope in scopes]])
    status, _, text = registry.call('GET', f'/token?{query}', authorization=login)
    return json.loads(text)['token'] if status == 200 else status


def claims(text):
    body = text.split('.')[1]
    return json.loads(base64.urlsafe_b64decode(body + '=' * (-len(body) % 4)))


def test_a_client_is_told_where_tokens_are(own):
    status, headers, text = own.call('GET', '/v2/')
    assert (status, code(text)) == (401, 'UNAUTHORIZED')
    assert headers['WWW-Authenticate'] == f'Bearer realm="http://{own.address}/token",service="berth-registry"'
    for method, path, scope in (('GET', '/v2/team/app/tags/list', 'repository:team/app:pull'), ('HEAD', '/v2/app/manifests/1', 'repository:app:pull'),
                                ('POST', '/v2/app/blobs/uploads/', 'repository:app:pull,push'), ('DELETE', '/v2/app/manifests/1', 'repository:app:delete'),
                                ('GET', '/v2/_catalog', 'registry:catalog:*')):
        status, headers, _ = own.call(method, path)
        assert status == 401 and headers['WWW-Authenticate'].endswith(f',scope="{scope}"')


def test_a_host_that_is_no_host_is_not_repeated(own):
    headers = own.call('GET', '/v2/', host='a"b')[1]
    assert headers['WWW-Authenticate'].startswith('Bearer realm="/token"')


def test_who_gets_one(own):
    assert token(own, login='Basic ' + base64.b64encode(b'ann:wrong').decode()) == 401
    status, headers, _ = own.call('GET', '/token')
    assert status == 401 and headers['WWW-Authenticate'].startswith('Basic ')
    assert own.call('GET', '/token?service=other', authorization=LOGIN)[0] == 403
    got = claims(token(own, 'repository:host:5000/app:pull,push repository:b:pull', 'nonsense', 'registry:catalog:*'))
    assert got['sub'] == 'ann' and got['access'] == [
        {'type': 'repository', 'name': 'host:5000/app', 'actions': ['pull', 'push']},
        {'type': 'repository', 'name': 'b', 'actions': ['pull']}, {'type': 'registry', 'name': 'catalog', 'actions': ['*']}]


def test_a_token_is_for_what_it_says(own):
    push, pull = 'Bearer ' + token(own, 'repository:app:pull,push'), 'Bearer ' + token(own, 'repository:app:pull')
    assert own.call('GET', '/v2/', authorization=pull)[0] == 200
    assert own.call('POST', f'/v2/app/blobs/uploads/?digest={digest(b"x")}', b'x', authorization=push)[0] == 201
    assert own.call('GET', f'/v2/app/blobs/{digest(b"x")}', authorization=pull)[0] == 200
    for method, path, bearer in (('POST', '/v2/app/blobs/uploads/', pull), ('GET', '/v2/other/tags/list', pull), ('GET', '/v2/_catalog', push),
                                 ('DELETE', f'/v2/app/blobs/{digest(b"x")}', push)):
        status, headers, text = own.call(method, path, authorization=bearer)
        assert (status, code(text)) == (403, 'DENIED') and 'error="insufficient_scope"' in headers['WWW-Authenticate']


def test_a_mount_needs_a_right_to_pull(own):
    push = 'Bearer ' + token(own, 'repository:secret:pull,push')
    assert own.call('POST', f'/v2/secret/blobs/uploads/?digest={digest(b"x")}', b'x', authorization=push)[0] == 201
    for scope, status in (('repository:mine:pull,push', 202), ('repository:mine:pull,push repository:secret:pull', 201)):
        bearer = 'Bearer ' + token(own, scope)
        assert own.call('POST', f'/v2/mine/blobs/uploads/?mount={digest(b"x")}&from=secret', authorization=bearer)[0] == status
    assert own.call('POST', f'/v2/mine/blobs/uploads/?mount={digest(b"x")}', authorization='Bearer ' + token(own, 'repository:mine:pull,push'))[0] == 202


def test_own_tokens_outlive_a_restart(own):
    bearer = 'Bearer ' + token(own, 'repository:app:pull')
    own.stop()
    own.start()
    assert own.call('GET', '/v2/', authorization=bearer)[0] == 200
    assert (own.root / 'token.key').stat().st_mode & 0o777 == 0o600


def test_what_is_no_token(own):
    good = token(own, 'repository:app:pull')
    head, body, sign = good.split('.')
    other = part({**claims(good), 'access': [{'type': 'repository', 'name': 'app', 'actions': ['pull', 'push']}]})
    secret = hmac.new(b'\0' * 32, f'{head}.{body}'.encode(), hashlib.sha256).digest()
    for bad in ('', 'x', '..', f'{head}.{body}', f'{head}.{body}.', f'{head}.{other}.{sign}', f'{head}.{body}.{sign}.x', f'{good}=', f'{head}.{body}.{part(secret)}',
                f'{part({"alg": "none"})}.{body}.', f'{part({"alg": "HS256"})}.{body}.{sign}', f'{part({"alg": "RS256"})}.{body}.{sign}',
                f'{part(b"[]")}.{body}.{sign}', 'a' * 7000, '\x01.\x02.\x03'):
        status, headers, text = own.call('GET', '/v2/', authorization='Bearer ' + bad)
        assert (status, code(text)) == (401, 'UNAUTHORIZED'), bad
    assert own.call('GET', '/v2/', authorization='Bearer ' + good)[0] == 200


# ---- another issuer -----------------------------------------------------------------------------------------------------

class Issuer:
    def __init__(self, folder, algorithm):
        self.algorithm, self.key, self.public = algorithm, str(folder / 'issuer.key'), str(folder / 'issuer.pem')
        kind = ['RSA', '-pkeyopt', 'rsa_keygen_bits:2048'] if algorithm == 'RS256' else ['EC', '-pkeyopt', 'ec_paramgen_curve:P-256']
        self.openssl('genpkey', '-algorithm', *kind, '-out', self.key)
        if algorithm == 'RS256':  # its certificate; else the bare public key
            self.openssl('req', '-x509', '-new', '-key', self.key, '-subj', '/CN=issuer', '-days', '2', '-out', self.public)
        else:
            self.openssl('pkey', '-in', self.key, '-pubout', '-out', self.public)

    @staticmethod
    def openssl(*arguments, **more):
        return subprocess.run(['openssl', *arguments], check=True, capture_output=True, **more).stdout

    def issue(self, **changes):
        now = int(time.time())
        body = {'iss': 'issuer', 'aud': 'here', 'exp': now + 100, 'nbf': now - 1, 'access': [{'type': 'repository', 'name': 'app', 'actions': ['pull']}]}
        text = part({'alg': self.algorithm, 'typ': 'JWT'}) + '.' + part({**body, **changes})
        return text + '.' + part(self.sign(text.encode()))

    def sign(self, text):
        signature = self.openssl('dgst', '-sha256', '-sign', self.key, input=text)
        if self.algorithm == 'RS256':
            return signature
        numbers, at = [], 2  # DER: a sequence of two integers; a token has them bare
        for _ in range(2):
            size = signature[at + 1]
            numbers.append(int.from_bytes(signature[at + 2:at + 2 + size], 'big').to_bytes(32, 'big'))
            at += 2 + size
        return b''.join(numbers)


@pytest.mark.parametrize('algorithm', ['RS256', 'ES256'])
def test_tokens_of_another_issuer(make, tmp_path, algorithm):
    issuer = Issuer(tmp_path, algorithm)
    registry = make('--token-keys', issuer.public, '--token-realm', 'https://issuer.test/auth', '--token-issuer', 'issuer', '--token-service', 'here')
    status, headers, _ = registry.call('GET', '/v2/app/tags/list')
    assert status == 401 and headers['WWW-Authenticate'] == 'Bearer realm="https://issuer.test/auth",service="here",scope="repository:app:pull"'
    path, now = '/v2/app/tags/list', int(time.time())
    assert registry.call('GET', path, authorization='Bearer ' + issuer.issue())[0] == 404  # it may look: there is none
    assert registry.call('GET', path, authorization='Bearer ' + issuer.issue(aud=['there', 'here']))[0] == 404
    for changes in ({'iss': 'other'}, {'aud': 'there'}, {'aud': None}, {'exp': now - 100}, {'nbf': now + 100}, {'exp': None}, {'exp': 'soon'}, {'access': 'all'}):
        status, _, text = registry.call('GET', path, authorization='Bearer ' + issuer.issue(**changes))
        assert (status, code(text)) == (401, 'UNAUTHORIZED'), changes
    for access in (None, [], [{'type': 'repository', 'name': 'app', 'actions': ['push']}], [{'type': 'registry', 'name': 'app', 'actions': ['pull']}]):
        assert registry.call('GET', path, authorization='Bearer ' + issuer.issue(access=access))[0] == 403
    head, body, sign = issuer.issue().split('.')
    with open(issuer.public, 'rb') as public:  # the old trick: the public key as the secret of a symmetric signature
        forged = hmac.new(public.read(), f'{part({"alg": "HS256"})}.{body}'.encode(), hashlib.sha256).digest()
    assert registry.call('GET', path, authorization=f'Bearer {part({"alg": "HS256"})}.{body}.{part(forged)}')[0] == 401
    assert registry.call('GET', '/token', authorization=LOGIN)[0] == 404


class Chained(Issuer):
    """One whose key nobody was told of: tokens bring its certificate, which an authority of the registry's has signed."""

    def __init__(self, folder, authority, days='2'):
        super().__init__(folder, 'ES256')
        self.openssl('req', '-new', '-key', self.key, '-subj', '/CN=leaf', '-out', str(folder / 'leaf.csr'))
        self.openssl('x509', '-req', '-in', str(folder / 'leaf.csr'), '-CA', f'{authority}/ca.pem', '-CAkey', f'{authority}/ca.key', '-CAcreateserial',
                     '-days', days, '-out', str(folder / 'leaf.pem'))
        self.chain = [''.join((folder / 'leaf.pem').read_text().split('\n')[1:-2])]

    @staticmethod
    def authority(folder):
        Issuer.openssl('req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', f'{folder}/ca.key', '-out', f'{folder}/ca.pem',
                       '-subj', '/CN=ca', '-days', '2')
        return folder

    def issue(self, chain=None):
        head, body, _ = super().issue().split('.')
        text = part({'alg': 'ES256', 'x5c': self.chain if chain is None else chain}) + '.' + body
        return text + '.' + part(self.sign(text.encode()))


def test_tokens_that_bring_their_certificate(make, tmp_path):
    for name in ('ca', 'other', 'one', 'two'):
        (tmp_path / name).mkdir()
    authority, stranger = Chained.authority(tmp_path / 'ca'), Chained.authority(tmp_path / 'other')
    good, bad = Chained(tmp_path / 'one', authority), Chained(tmp_path / 'two', stranger)
    registry = make('--token-keys', f'{authority}/ca.pem', '--token-realm', 'https://issuer.test/auth', '--token-service', 'here')

    def status(token):
        return registry.call('GET', '/v2/app/tags/list', authorization='Bearer ' + token)[0]
    root = ''.join((authority / 'ca.pem').read_text().split('\n')[1:-2])
    assert status(good.issue()) == status(good.issue([*good.chain, root])) == 404  # it may look: there is none
    for chain in ([], ['x'], [1], 'x', [root], [*good.chain, 'x'], good.chain * 9, bad.chain):
        assert status(good.issue(chain)) == 401, chain
    assert status(bad.issue()) == status(bad.issue(good.chain)) == 401
    assert status(bad.issue([*bad.chain, ''.join((stranger / 'ca.pem').read_text().split('\n')[1:-2])])) == 401


def web_key(issuer):
    """The public key as a JSON web key, out of openssl's text."""
    text = Issuer.openssl('pkey', '-in', issuer.key, '-noout', '-text_pub' if issuer.algorithm == 'ES256' else '-text').decode()

    def hexed(name):
        block = text.split(name + ':', 1)[1].split('\n', 1)[1]
        digits = ''
        for line in block.split('\n'):
            if not line.startswith('    '):
                break
            digits += line.strip().replace(':', '')
        return bytes.fromhex(digits)
    if issuer.algorithm == 'ES256':
        point = hexed('pub')
        return {'kty': 'EC', 'crv': 'P-256', 'x': part(point[1:33]), 'y': part(point[33:65]), 'kid': 'a'}
    return {'kty': 'RSA', 'n': part(hexed('modulus').lstrip(b'\0')), 'e': part(b'\1\0\1'), 'use': 'sig'}


@pytest.mark.parametrize('algorithm', ['RS256', 'ES256'])
def test_a_key_set(make, tmp_path, algorithm):
    issuer = Issuer(tmp_path, algorithm)
    other = {'kty': 'OKP', 'crv': 'Ed25519', 'x': part(bytes(range(32)))}
    (tmp_path / 'keys').write_text(json.dumps({'keys': [other, {'kty': 'oct', 'use': 'enc'}, web_key(issuer)]}))
    registry = make('--token-keys', str(tmp_path / 'keys'), '--token-realm', 'https://issuer.test/auth', '--token-service', 'here')
    assert registry.call('GET', '/v2/app/tags/list', authorization='Bearer ' + issuer.issue())[0] == 404
    assert registry.call('GET', '/v2/app/tags/list', authorization='Bearer ' + issuer.issue(aud='x'))[0] == 401


@pytest.mark.parametrize('text, said', [
    ('{"keys":[]}', 'neither a public key nor'), ('{"keys":[{"kty":"oct","k":"AAAA"}]}', 'key 1: '), ('{"keys":[{"kty":"RSA","n":"","e":""}]}', 'key 1: '),
    ('{"keys":[{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}]}', 'key 1: '), ('{"keys":[{"kty":"EC","crv":"P-1"}]}', 'key 1: '), ('{', 'JSON'),
    ('{"keys":[' + ','.join(['{"kty":"OKP","crv":"Ed25519","x":"' + part(bytes(32)) + '"}'] * 33) + ']}', 'more than 32 keys')])
def test_a_bad_key_set(tmp_path, text, said):
    (tmp_path / 'keys').write_text(text)
    done = subprocess.run([os.path.join(ROOT, 'build/bin/berth-registry'), '--root', str(tmp_path / 'root'), '--token-keys', str(tmp_path / 'keys'),
                           '--token-realm', 'http://x'], capture_output=True, text=True, timeout=20)
    assert done.returncode == 1 and said in done.stderr and done.stderr.count('\n') == 1, done.stderr


@pytest.mark.parametrize('options, said', [
    (['--token'], '--token needs --htpasswd'), (['--token-keys', '/etc/passwd'], '--token-keys needs --token-realm'),
    (['--token-keys', '/etc/passwd', '--token-realm', 'http://x'], '/etc/passwd: neither a public key nor a certificate'),
    (['--token-service', 'x'], 'for --token-keys or --token')])
def test_usage(tmp_path, options, said):
    done = subprocess.run([os.path.join(ROOT, 'build/bin/berth-registry'), '--root', str(tmp_path / 'root'), *options], capture_output=True, text=True, timeout=20)
    assert done.returncode == 1 and said in done.stderr and done.stderr.count('\n') == 1


# ---- clients ------------------------------------------------------------------------------------------------------------

def test_skopeo(own, tmp_path):
    archive = tmp_path / 'app.tar'
    archive.write_bytes(images.docker_archive('app:1', LAYERS)[0])
    skopeo = ['skopeo', '--insecure-policy', 'copy', '-q', '--src-tls-verify=false', '--dest-tls-verify=false']
    target = f'docker://{own.address}/team/app:1'
    refused = subprocess.run([*skopeo, f'docker-archive:{archive}', target], capture_output=True, text=True)
    assert refused.returncode and 'log in first' in refused.stderr + refused.stdout or 'unauthorized' in refused.stderr
    subprocess.run([*skopeo, '--dest-creds', 'ann:secret', f'docker-archive:{archive}', target], check=True)
    subprocess.run([*skopeo, '--src-creds', 'ann:secret', target, f'oci:{tmp_path}/back:1'], check=True)
    copy = f'docker://{own.address}/other/copy:1'
    subprocess.run([*skopeo, '--src-creds', 'ann:secret', '--dest-creds', 'ann:secret', target, copy], check=True)


def test_berth_image(own, tmp_path):
    own_login = {'auths': {own.address: {'auth': base64.b64encode(b'ann:secret').decode()}}}
    (tmp_path / 'config.json').write_text(json.dumps(own_login))
    push = 'Bearer ' + token(own, 'repository:app:pull,push')
    config = b'{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":["%s"]}}' % digest(LAYERS[0]).encode()
    for blob in (LAYERS[0], config):
        assert own.call('POST', f'/v2/app/blobs/uploads/?digest={digest(blob)}', blob, authorization=push)[0] == 201
    described = [{'mediaType': 'application/vnd.oci.image.' + kind, 'digest': digest(blob), 'size': len(blob)}
                 for kind, blob in (('config.v1+json', config), ('layer.v1.tar', LAYERS[0]))]
    manifest = json.dumps({'schemaVersion': 2, 'mediaType': IMAGE, 'config': described[0], 'layers': described[1:]})
    assert own.call('PUT', '/v2/app/manifests/1', manifest, content_type=IMAGE, authorization=push)[0] == 201
    assert 'pull access denied for' in run('pull', f'{own.address}/app:1', str(tmp_path / 'layout'), ok=False)
    run('pull', f'{own.address}/app:1', str(tmp_path / 'layout'), DOCKER_CONFIG=str(tmp_path))
    run('push', str(tmp_path / 'layout'), f'{own.address}/again:2', DOCKER_CONFIG=str(tmp_path))
    assert own.call('GET', '/v2/again/manifests/2', authorization='Bearer ' + token(own, 'repository:again:pull'))[0] == 200
