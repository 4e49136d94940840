"""A client's folder is kept between builds: what comes of it is always what the client has, and what did not change is not sent again."""
import glob
import io
import os
import re
import subprocess
import tarfile

import pytest

import flat
import images
from engines import settle
from test_buildx import Project, buildx, in_the_full_run  # noqa: F401

BIG = 3 << 20
CAPABILITY = bytes.fromhex('0100000200200000000000000000000000000000')  # cap_net_raw=ep, as the kernel keeps it


class Folder(Project):
    """A project of which nothing but its files is looked at."""

    def build(self, *options, text='FROM scratch\nCOPY . /\n'):
        """What the image has, by name; and the progress."""
        self.file('Dockerfile', text)
        into = str(self.folder) + '.out'
        subprocess.run(['rm', '-rf', into], check=True)
        out = self.buildx.ok('build', '--progress', 'plain', '--output', 'type=local,dest=' + into, *options, str(self.folder))
        return tree(into), out

    def same(self, *options):
        """All of it comes; the progress."""
        found, out = self.build(*options)
        assert found == tree(str(self.folder))
        return out


def tree(folder):
    found = {}
    for top, folders, files in os.walk(folder):
        for name in folders + files:
            path = os.path.join(top, name)
            info = os.lstat(path)
            what = os.readlink(path) if os.path.islink(path) else open(path, 'rb').read() if os.path.isfile(path) else None
            found[os.path.relpath(path, folder)] = (oct(info.st_mode), what)
    return found


def sent(out, step='load build context'):
    """Bytes of the context that came, as the progress has them."""
    found = re.findall(r'transferring \w+: ([0-9.]+)([kMG]?)B', out.split(step)[1])
    return max(float(number) * {'': 1, 'k': 1e3, 'M': 1e6, 'G': 1e9}[unit] for number, unit in found)


@pytest.fixture
def folder(buildx, docker, tmp_path, name):  # noqa: F811
    path = tmp_path / name
    path.mkdir()
    one = Folder(buildx, docker, path, name)
    one.file('big', os.urandom(BIG))
    return one


def kept(api):
    return [row for row in api.get('/system/df?type=build-cache').json['BuildCache'] if row['Type'] == 'source.local']


def test_what_changes_comes_and_the_rest_stays(folder):
    for path in ('sub/deep/a', 'sub/b', 'c', 'becomes_folder', 'becomes_link', 'goes', 'sub/goes/x', 'mode', 'folder/was'):
        folder.file(path, path)
    assert sent(folder.same()) > BIG
    assert sent(folder.same()) < 1000
    top = folder.folder
    folder.file('sub/deep/a', 'changed')
    folder.file('sub/new/x', 'new')
    folder.file('mode', 'mode', 0o755)
    os.chmod(top / 'sub', 0o700)
    os.remove(top / 'goes')
    subprocess.run(['rm', '-r', 'sub/goes', 'folder', 'becomes_folder', 'becomes_link'], cwd=top, check=True)
    folder.file('folder', 'a file now')
    folder.file('becomes_folder/x', 'x')
    os.symlink('sub/b', top / 'becomes_link')
    os.link(top / 'c', top / 'twin')
    assert sent(folder.same()) < 2000
    assert 'CACHED' in folder.same()
    folder.file('c', 'one of two names')
    os.remove(top / 'becomes_link')
    folder.file('becomes_link', 'a file again')
    assert sent(folder.same()) < 2000


@in_the_full_run
def test_what_is_left_out_is_not_kept(folder):
    folder.file('a.o', 'object')
    folder.file('.dockerignore', '*.o\n')
    assert 'a.o' not in folder.build()[0]
    folder.file('.dockerignore', '*.txt\n')
    found, out = folder.build()
    assert found['a.o'][1] == b'object' and sent(out) < 2000
    folder.file('.dockerignore', 'big\n*.o\n')
    assert not {'a.o', 'big'} & set(folder.build()[0])


@in_the_full_run
def test_times_and_sizes_are_believed(folder):
    """As BuildKit has it: a file that changed without either is the old one."""
    folder.file('file', 'old')
    folder.build()
    before = os.stat(folder.folder / 'file')
    folder.file('file', 'new')
    os.utime(folder.folder / 'file', ns=(before.st_atime_ns, before.st_mtime_ns))
    assert folder.build()[0]['file'][1] == b'old'
    os.utime(folder.folder / 'file', ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert folder.build()[0]['file'][1] == b'new'


def test_attributes_stay_with_the_client(folder, docker, name):
    """By both doors, as with Docker; those in an archive of ADD are the files'."""
    folder.file('sub/file', 'text')
    os.setxattr(folder.folder / 'sub/file', 'security.capability', CAPABILITY)
    member = images.entry('packed', data=b'text')
    member[0].pax_headers = {'SCHILY.xattr.security.capability': CAPABILITY.decode('latin-1')}
    folder.file('a.tar', images.tar([member]))
    folder.file('Dockerfile', 'FROM scratch\nCOPY sub /\nADD a.tar /\nCMD ["x"]\n')
    for door in ((), ('buildx',)):
        done = subprocess.run([docker.cli, *door, 'build', '-t', name, str(folder.folder)], env={**folder.buildx.environment(), 'DOCKER_BUILDKIT': '0'}, capture_output=True)
        assert done.returncode == 0, done
        docker.ok('save', '-o', str(folder.folder) + '.tar', name)
        files, _ = flat.read(str(folder.folder) + '.tar')
        assert [path for path, known in files.items() if 'xattrs' in known] == ['packed']
        docker.ok('rmi', '-f', name)


@in_the_full_run
def test_two_folders_of_one_name(folder, buildx, docker, tmp_path, name):  # noqa: F811
    path = tmp_path / 'other' / name
    path.mkdir(parents=True)
    other = Folder(buildx, docker, path, name)
    for one, text in ((folder, 'first'), (other, 'second'), (folder, 'first')):
        one.file('file', text)
        one.same()


@in_the_full_run
@pytest.mark.differs('has no contexts by name in 20.10')
def test_a_named_context_is_kept(folder, tmp_path):
    context = tmp_path / 'named'
    context.mkdir()
    (context / 'big').write_bytes(os.urandom(BIG))
    (context / 'few').write_text('few')
    text, option = 'FROM scratch\nCOPY --from=n . /\n', ('--build-context', f'n={context}')
    sizes = []
    for content in ('few', 'few', 'other'):
        (context / 'few').write_text(content)
        found, out = folder.build(*option, text=text)
        assert found['few'][1] == content.encode() and len(found['big'][1]) == BIG
        sizes.append(sent(out, 'load from client'))
    assert sizes[0] > BIG and max(sizes[1:]) < 1000


@pytest.mark.berth
def test_two_builds_of_one_folder_at_once(folder, buildx, tmp_path, api, docker):  # noqa: F811
    docker.ok('builder', 'prune', '-af')
    folder.file('Dockerfile', 'FROM scratch\nCOPY . /\n')
    builds = [buildx.popen('build', '--no-cache', '--output', f'type=local,dest={tmp_path}/out{number}', str(folder.folder)) for number in range(3)]
    for build in builds:
        assert build.wait(120) == 0, build.stderr.read()
        build.stderr.close()
    for number in range(3):
        assert tree(f'{tmp_path}/out{number}') == tree(str(folder.folder))
    assert 1 <= len(kept(api)) <= 3 and not any(row['InUse'] for row in kept(api))


@pytest.mark.berth
def test_it_is_counted_and_pruned(folder, buildx, api, docker):  # noqa: F811
    docker.ok('builder', 'prune', '-af')
    folder.build()
    row, = kept(api)
    assert row['Size'] > BIG and 'local source for context' in row['Description'] and row['UsageCount'] == 1 and not row['Shared']
    folder.build()
    again, = kept(api)
    assert again['ID'] == row['ID'] and again['UsageCount'] == 2 and again['LastUsedAt'] > row['LastUsedAt']
    assert 'source.local' in buildx.ok('du', '--verbose', '--filter', 'type=source.local')
    assert row['ID'] in docker.ok('builder', 'prune', '-f', '--filter', 'type=source.local')
    assert kept(api) == [] and os.listdir(os.path.join(docker.engine.data, 'build-contexts')) == []
    assert sent(folder.same()) > BIG


def archive(folder, change=lambda members: members, **options):
    """The folder as a tar whose members are changed, or in another order."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode='w', **options) as tar:
        members = [tar.gettarinfo(os.path.join(top, name), os.path.relpath(os.path.join(top, name), folder)) for top, folders, files in os.walk(folder) for name in folders + files]
        for member in change(members):
            path, member.mtime = os.path.join(folder, member.name), int(member.mtime)
            tar.addfile(member, open(path, 'rb') if member.isreg() else None)
    return out.getvalue()


def without_folders(members):
    return [member for member in members if not member.isdir()]


def with_attribute(members):
    for member in members:
        if member.isreg():
            member.pax_headers = {'SCHILY.xattr.user.one': 'two'}
    return members


@pytest.mark.differs_today('says so in other words, and its key has the times')
@pytest.mark.parametrize('change', [lambda members: members[::-1], without_folders, lambda members: members + members, with_attribute])
def test_a_tar_is_known_by_what_is_in_it(folder, docker, change):
    """Whatever its order: by a list of it."""
    folder.file('Dockerfile', 'FROM bb\nCOPY sub /srv/\nCOPY [bc]* /top/\n')
    for path in ('sub/deep/a', 'sub/b', 'c'):
        folder.file(path, path)
    os.symlink('b', folder.folder / 'sub/link')
    first = docker.ok('build', '-q', '-t', folder.name, str(folder.folder))
    out = subprocess.run([docker.cli, '-H', 'unix://' + docker.engine.socket, 'build', '-t', folder.name, '-'], input=archive(str(folder.folder), change, format=tarfile.PAX_FORMAT),
                         capture_output=True, env={'PATH': os.environ['PATH'], 'DOCKER_BUILDKIT': '0'}, check=False)
    assert out.returncode == 0, out
    assert out.stdout.count(b'Using cache') == 2 and docker.inspect(folder.name)['Id'] == first.strip()
    docker.ok('rmi', '-f', folder.name)


@pytest.fixture
def crash(engine):
    yield engine.kill9
    if engine.process.poll() is not None:
        engine.start()
        engine.restarted = True


@pytest.mark.berth
def test_a_daemon_that_is_killed_in_between(folder, buildx, docker, crash, engine):  # noqa: F811
    """Whenever that is: the next build has what the client has."""
    folder.build()
    for number in range(200):
        folder.file(f'many/{number}', os.urandom(20000))
    folder.file('big', os.urandom(BIG))
    client = buildx.popen('build', '--output', f'type=local,dest={folder.folder}.lost', str(folder.folder))
    settle(lambda: client.poll() is None and len(glob.glob(os.path.join(docker.engine.data, 'build-contexts/*/tree/many/*'))) < 20)
    crash()
    client.wait(60)
    client.stderr.close()
    engine.start()
    engine.restarted = True
    folder.same()


@pytest.mark.berth
def test_a_tree_that_nobody_knows_is_not_believed(folder, docker, crash, engine, api):
    """What is left of a change that was cut off: a tree without a list, or a list that is none."""
    docker.ok('builder', 'prune', '-af')
    folder.build()
    for spoil in ('rm {}/list', 'truncate -s 200 {}/list', 'cp -r {0}/tree {0}/other && rm -r {0}/tree && mv {0}/other {0}/tree'):
        place, = glob.glob(os.path.join(docker.engine.data, 'build-contexts/*'))
        crash()
        subprocess.run(f'echo wrong >{place}/tree/big && touch -r {folder.folder}/big {place}/tree/big; {spoil.format(place)}', shell=True, check=True)
        engine.start()
        engine.restarted = True
        folder.same()
        assert len(kept(api)) == 1
