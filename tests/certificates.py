"""Certificates for tests: an authority, and what it signs. PEM files NAME.crt and NAME.key in one folder."""
import os
import subprocess

KEY = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes']


def openssl(folder, *arguments):
    subprocess.run(['openssl', *arguments], cwd=folder, check=True, capture_output=True, timeout=60)


def authority(folder, name='ca'):
    os.makedirs(folder, exist_ok=True)
    openssl(folder, 'req', '-x509', *KEY, '-keyout', f'{name}.key', '-out', f'{name}.crt', '-days', '2', '-subj', f'/CN={name}')


def certificate(folder, name, ca='ca', purpose='serverAuth'):
    """For 127.0.0.1, when it is a server's."""
    with open(f'{folder}/{name}.ext', 'w', encoding='ascii') as file:
        file.write(f'subjectAltName=IP:127.0.0.1,DNS:localhost\nextendedKeyUsage={purpose}\n')
    openssl(folder, 'req', *KEY, '-keyout', f'{name}.key', '-out', f'{name}.csr', '-subj', f'/CN={name}')
    openssl(folder, 'x509', '-req', '-in', f'{name}.csr', '-CA', f'{ca}.crt', '-CAkey', f'{ca}.key', '-CAcreateserial',
            '-out', f'{name}.crt', '-days', '2', '-extfile', f'{name}.ext')
