"""A classic client sends all of its context each time: what is the same as the last time is known by its bytes, and what comes of a build is always what was sent."""
import concurrent.futures
import glob
import gzip
import io
import os
import subprocess
import tarfile

import pytest

from test_build_contexts import crash  # noqa: F401

pytestmark = pytest.mark.differs('its key has the times, and nothing is kept')
long = pytest.mark.skipif(not os.environ.get('BERTH_E2E_LONG'), reason='starts a daemon each: BERTH_E2E_LONG')
TEXT = b'FROM scratch\nCOPY . /\n'


def tar(files, end=True):
    """One of these files, all of one time and owner; `end`: with the blocks that say its end."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode='w', format=tarfile.USTAR_FORMAT) as archive:
        for name, data in files.items():
            if '/' in name:
                folder = tarfile.TarInfo(os.path.dirname(name))
                folder.type, folder.mode, folder.mtime = tarfile.DIRTYPE, 0o755, 1000000000
                archive.addfile(folder)
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(data), 1000000000
            archive.addfile(info, io.BytesIO(data))
        size = out.tell()
    return out.getvalue()[:size] + bytes(1024 if end else 0)


class Builds:
    def __init__(self, docker, name):
        self.docker, self.name = docker, name

    def send(self, data, *options):
        return subprocess.run([self.docker.cli, '-H', 'unix://' + self.docker.engine.socket, 'build', '-t', self.name, *options, '-'], input=data, capture_output=True,
                              env={'PATH': os.environ['PATH'], 'DOCKER_BUILDKIT': '0'}, check=False)

    def ok(self, data, *options):
        """Whether all was in the cache."""
        done = self.send(data, *options)
        assert done.returncode == 0, done
        return b'Using cache' in done.stdout

    def files(self):
        """What the image has."""
        self.docker.ok('create', '--name', self.name, self.name, 'none')
        out = subprocess.run(self.docker.command('export', self.name), capture_output=True, check=True).stdout
        self.docker.ok('rm', self.name)
        with tarfile.open(fileobj=io.BytesIO(out)) as archive:
            return {member.name: archive.extractfile(member).read() for member in archive if member.isreg() and not member.name.startswith(('dev', 'etc', '.docker'))}

    def kept(self):
        return [(os.stat(path).st_ino, path) for path in glob.glob(os.path.join(self.docker.engine.data, 'build-contexts/*/tar'))]


@pytest.fixture
def builds(docker, name):
    docker.ok('builder', 'prune', '-af')
    yield Builds(docker, name)
    docker('rmi', '-f', name)
    docker.ok('builder', 'prune', '-af')


FILES = {'Dockerfile': TEXT, 'a': b'a' * 3000, 'big': bytes(range(256)) * 8000, 'sub/x': b'x', 'z': b''}


@pytest.mark.parametrize('change', [
    {'a': b'a' * 2999 + b'b'}, {'big': FILES['big'][:-1] + b'\0'}, {'sub/x': None},
    *(pytest.param(change, marks=long) for change in ({'z': b'more'}, {'new': b'new'}, {'Dockerfile': TEXT + b'ENV a=b\n'})),
])
@pytest.mark.differs_today('its key has the times, and nothing is kept')
def test_what_changed_is_seen(builds, change):
    """Though sizes and times are the same."""
    assert not builds.ok(tar(FILES)) and builds.ok(tar(FILES))
    changed = {name: data for name, data in {**FILES, **change}.items() if data is not None}
    before = builds.kept()
    builds.ok(tar(changed))
    assert builds.files() == changed and len(builds.kept()) == 1 and builds.kept() != before
    assert builds.ok(tar(changed)) and builds.ok(tar(FILES)) and builds.files() == FILES


@pytest.mark.berth
def test_what_is_the_same_is_not_written_again(builds):
    builds.ok(tar(FILES))
    before = builds.kept()
    assert len(before) == 1 and builds.ok(tar(FILES)) and not builds.ok(tar(FILES), '--no-cache')
    assert builds.files() == FILES and builds.kept() == before


def test_what_is_the_same_in_part(builds):
    """A tar that ends earlier, or goes on behind where the other one was cut off; one that is compressed; and what is none at all."""
    short = {name: FILES[name] for name in ('Dockerfile', 'a')}
    builds.ok(tar(short, end=False))
    builds.ok(tar(FILES))
    assert builds.files() == FILES
    builds.ok(tar(short))
    assert builds.files() == short
    assert builds.ok(gzip.compress(tar(FILES))) and builds.files() == FILES
    assert builds.ok(tar(short) + b'whatever' * 1000) and builds.files() == short
    assert builds.send(tar(FILES)[:-1000000]).returncode != 0
    assert builds.ok(tar(FILES)) and builds.files() == FILES


def test_another_dockerfile_of_the_same_files(builds):
    files = {'.dockerignore': b'other\n', **FILES, 'other': TEXT + b'ENV a=b\n'}
    for _ in range(2):
        builds.ok(tar(files))
        assert set(builds.files()) == set(files) - {'.dockerignore'}
        builds.ok(tar(files), '-f', 'other')
        assert set(builds.files()) == set(files) - {'.dockerignore', 'other'}


def test_several_at_once(builds):
    """Of one name: each comes to its end, and has what it was sent."""
    tars = [tar({**FILES, 'number': str(number).encode()}) for number in range(3)]
    with concurrent.futures.ThreadPoolExecutor() as pool:
        for done in pool.map(builds.send, tars):
            assert done.returncode == 0, done
    for number, data in enumerate(tars):
        assert builds.ok(data) and builds.files()['number'] == str(number).encode()


@pytest.mark.berth
@pytest.mark.parametrize('spoil', [
    'cp {0}/tar {0}/t && mv {0}/t {0}/tar', 'truncate -s 5000 {}/tar',
    *(pytest.param(spoil, marks=long) for spoil in ('rm {}/list', 'truncate -s 100 {}/list', 'rm {}/tar', 'rm {}/text-0', 'echo x >{}/about')),
])
def test_what_is_no_more_as_it_was_is_not_believed(builds, docker, crash, engine, spoil):  # noqa: F811
    builds.ok(tar(FILES))
    (_, path), = builds.kept()
    crash()
    subprocess.run(spoil.format(os.path.dirname(path)), shell=True, check=True)
    engine.start()
    engine.restarted = True
    assert builds.ok(tar(FILES)) and not builds.ok(tar(FILES), '--no-cache') and builds.files() == FILES


@pytest.mark.berth
def test_it_is_counted_and_pruned(builds, docker, api):
    builds.ok(tar(FILES))
    row, = [row for row in api.get('/system/df?type=build-cache').json['BuildCache'] if row['Type'] == 'source.local']
    assert row['Size'] == len(tar(FILES)) and row['UsageCount'] == 1 and row['Description'] == 'local source for context' and not row['InUse']
    docker.ok('builder', 'prune', '-f', '--filter', 'type=source.local')
    assert builds.kept() == [] and builds.ok(tar(FILES))
