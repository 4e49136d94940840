"""The registry behind TLS, by itself."""
import http.client
import os
import shutil
import ssl
import subprocess
import sys

import pytest

from conftest import PROGRAM, Registry, digest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
import certificates  # noqa: E402


@pytest.fixture(scope='module')
def certs(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp('certificates'))
    certificates.authority(folder)
    certificates.certificate(folder, 'server')
    certificates.certificate(folder, 'client', purpose='clientAuth')
    return folder


class Secure(Registry):
    """Whose requests go by TLS."""
    certs = client = None

    def connect(self):
        context = ssl.create_default_context(cafile=f'{self.certs}/ca.crt')
        if self.client:
            context.load_cert_chain(f'{self.certs}/{self.client}.crt', f'{self.certs}/{self.client}.key')
        return http.client.HTTPSConnection('127.0.0.1', self.port, timeout=30, context=context)


@pytest.fixture
def secure(tmp_path, certs):
    started = []

    def start(*options, client=None):
        one = Secure(tmp_path / 'root', f'--tls-cert={certs}/server.crt', f'--tls-key={certs}/server.key', *options)
        one.certs, one.client = certs, client
        started.append(one)
        return one.start()
    yield start
    for one in started:
        one.stop()


def test_blobs_come_back_as_they_went(secure):
    registry = secure()
    data = os.urandom(5 << 20)
    registry.push_blob('a/b', data)
    assert registry.call('GET', f'/v2/a/b/blobs/{digest(data)}')[2] == data
    status, headers, part = registry.call('GET', f'/v2/a/b/blobs/{digest(data)}', Range='bytes=4000000-4999999')
    assert (status, part) == (206, data[4000000:5000000])


def test_clients_with_a_certificate_alone(secure, certs):
    registry = secure(f'--tls-client-ca={certs}/ca.crt', client='client')
    assert registry.call('GET', '/v2/')[0] == 200
    registry.client = None
    with pytest.raises((ssl.SSLError, ConnectionError, http.client.HTTPException)):
        registry.call('GET', '/v2/')


@pytest.mark.skipif(not shutil.which('curl'), reason='curl is not installed')
def test_curl_gets_the_plain_protocol(secure, certs):
    registry = secure()
    done = subprocess.run(['curl', '-sS', '--cacert', f'{certs}/ca.crt', '-o', '/dev/null', '-w', '%{http_code} %{http_version}',
                           f'https://{registry.address}/v2/'], capture_output=True, text=True, timeout=30)
    assert done.stdout == '200 1.1'


@pytest.mark.parametrize('options, says', [
    (['--tls-cert=/none'], '--tls-key'),
    (['--tls-client-ca=/none'], '--tls-client-ca'),
    (['--tls-cert=/none', '--tls-key=/none'], '/none'),
])
def test_bad_options(tmp_path, options, says):
    done = subprocess.run([PROGRAM, '--root', str(tmp_path), *options], capture_output=True, text=True, timeout=20)
    assert done.returncode == 1 and says in done.stderr and done.stderr.count('\n') == 1
