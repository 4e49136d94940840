"""Ways out of a container that were found in engines: each is tried here and must fail. Those of the OCI runtime alone stand in
tests/oci/test_escape.py; docs/isolation.md has the list of both."""
import os
import stat
import subprocess

import pytest

import engines
import images

pytestmark = pytest.mark.berth

LISTENS = 0x10000  # __SO_ACCEPTCON, in the flags of /proc/net/unix

REACH_AS_NOBODY = """
import os, sys
os.chdir(sys.argv[1])
paths = [os.path.join(folder, name) for folder, folders, files in os.walk('.') for name in files + folders]
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
print(len(paths))
print(*(path for path in paths if os.access(path, os.R_OK) or os.access(path, os.X_OK)), sep='\\n')
"""


def listening(engine):
    """The names of the sockets at which the daemon and its shims listen, as the kernel has them; an abstract one begins with @."""
    inodes = set()
    for pid in [engine.process.pid, *(int(line.split()[1]) for line in engine.processes())]:
        try:
            links = [os.readlink(f'/proc/{pid}/fd/{number}') for number in os.listdir(f'/proc/{pid}/fd')]
        except OSError:  # it ended meanwhile
            continue
        inodes.update(link[len('socket:['):-1] for link in links if link.startswith('socket:['))
    rows = [line.split(maxsplit=7) for line in engines.read('/proc/net/unix').splitlines()[1:]]
    return [row[7] if len(row) > 7 else '' for row in rows if row[6] in inodes and int(row[3], 16) & LISTENS]


def test_sockets_are_files_of_root(docker, engine, name):
    """CVE-2020-15257: a shim's abstract socket, which the network namespace of the host is enough to reach."""
    docker.ok('run', '-d', '--name', name, 'bb', 'sleep', '100')
    names = listening(engine)
    assert {os.path.basename(each) for each in names} >= {'api.sock', 'task'} and all(each.startswith('/') for each in names)
    files = [line.split(' ', 1)[1] for line in engine.sockets()]
    assert files and all(stat.S_IMODE(os.stat(file).st_mode) == 0o600 for file in files)


@pytest.mark.container_only('HostConfig.Binds')
def test_other_users_do_not_reach_the_data(docker, engine, name):
    """CVE-2021-41091: programs with the setuid bit in layers and volumes that every user of the host could execute."""
    docker.ok('run', '-d', '--name', name, '-v', f'{name}:/data', 'bb', 'sh', '-c',
              'cp /bin/busybox /data/door; chmod 4755 /data/door; cp /data/door /door; sleep 100')
    engines.wait_until(lambda: docker('exec', name, 'test', '-u', '/door').code == 0)
    # The folders above the data root are the test's own and closed: with the working folder in it the way is open.
    done = subprocess.run(['/usr/bin/python3', '-c', REACH_AS_NOBODY, engine.data], capture_output=True, text=True)
    seen, *reached = done.stdout.split()
    assert done.returncode == 0 and int(seen) > 20 and reached == []


@pytest.mark.container_only('HostConfig.Binds')
def test_a_volume_is_filled_from_the_image_alone(docker, sealed, name):
    """CVE-2022-23648, CVE-2018-15664: a link of the image where files are copied from it."""
    way = '../../../../../../..' + str(sealed)
    layer = images.tar([images.entry('relative', images.tarfile.SYMTYPE, link=way),
                        images.entry('absolute', images.tarfile.SYMTYPE, link=str(sealed)),
                        images.folder('data'), images.entry('data/link', images.tarfile.SYMTYPE, link=way)])
    docker.ok('load', input=images.docker_archive('linked:1', [images.busybox_root(), layer])[0])
    try:
        for target in ('relative', 'absolute', 'data'):
            volume = name + target
            docker('run', '--rm', '-v', f'{volume}:/{target}', 'linked:1', 'true')
            out = docker('run', '--rm', '-v', f'{volume}:/v', 'bb', 'sh', '-c', 'find /v; cat /v/witness /v/link/witness').out
            assert 'untouched' not in out and 'witness' not in out, target
    finally:
        docker.ok('rmi', 'linked:1')


@pytest.mark.parametrize('words', ['unshare -U true', 'unshare -r true', 'unshare -n true', 'unshare -i true', 'mount -t proc p /tmp',
                                   'nsenter -t 1 -n true'])
def test_the_kernel_is_not_opened_wider(docker, words):
    """CVE-2022-0185, CVE-2022-0492, CVE-2023-0386, CVE-2024-1086: new user namespaces and what they reach."""
    for user in ('root', 'app'):
        done = docker('run', '--rm', '-u', user, 'bb', 'sh', '-c', words)
        assert done.code == 1 and ('not permitted' in done.err or 'permission denied' in done.err), (user, done)
