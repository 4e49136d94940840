"""COPY and ADD with the flags of the newest Dockerfiles, by either door."""

import pytest

import test_build
import test_buildx
from test_build import packed
from test_buildx import buildx  # noqa: F401

pytestmark = pytest.mark.differs('has none of these flags in its classic builder')


@pytest.fixture
def project(docker, tmp_path, name):
    folder = tmp_path / 'context'
    folder.mkdir()
    yield test_build.Project(docker, folder, name)
    for reference in docker.ok('images', '-q', '--filter', f'reference={name}*').split():
        docker('rmi', '-f', reference)


@pytest.fixture
def modern(buildx, docker, tmp_path, name):  # noqa: F811
    """The same by BuildKit's door."""
    folder = tmp_path / 'context'
    folder.mkdir()
    yield test_buildx.Project(buildx, docker, folder, name)
    for reference in docker.ok('images', '-q', '--filter', f'reference={name}*').split():
        docker('rmi', '-f', reference)


def fill(project):
    for path in ('a/x.o', 'a/x.txt', 'a/b/y.o', 'a/b/y.txt', 'a/b/c/z.txt', 'd/w.o', 'home.txt', 'home.md', 'home.png'):
        project.file(path, path)
    project.file('.dockerignore', 'Dockerfile\n.dockerignore\n')


FILES = ('FROM bb\nCOPY --exclude=**/*.o --exclude=d . /all/\nCOPY --exclude=*.txt --exclude=*.md home* /some/\nCOPY --exclude=b/* --exclude=!b/c a /but/\n'
         'COPY --parents a/b/y.txt d/ /kept/\nCOPY --parents ./a/./b/*.txt **/*.o /pivot/\nADD --exclude=y* a/b /added\n')

FOUND = '''/added/c/z.txt
/all/a/b/c/z.txt
/all/a/b/y.txt
/all/a/x.txt
/all/home.md
/all/home.png
/all/home.txt
/but/b/c/z.txt
/but/x.o
/but/x.txt
/kept/a/b/y.txt
/kept/d/w.o
/pivot/a/b/y.o
/pivot/a/x.o
/pivot/b/y.txt
/pivot/d/w.o
/some/home.png'''


def found(project):
    return project.run('sh', '-c', 'find /all /some /but /kept /pivot /added -type f | sort')


@pytest.mark.differs_today('has none of these flags in its classic builder')
def test_parts_of_folders(project):
    fill(project)
    project.ok(FILES)
    assert found(project) == FOUND
    project.file('d/other.o', 'is left out')  # of some, and not of others
    out = project.ok(FILES)
    assert out.count(' ---> Using cache\n') == 3
    assert 'file not found in build context' in project.fails('FROM bb\nCOPY --parents a/none /x/\n')


def test_parts_of_folders_by_buildx(modern):
    fill(modern)
    modern.ok(FILES)
    assert found(modern) == FOUND


@pytest.mark.differs_today('has none of these flags in its classic builder')
def test_modes_that_are_changes(project):
    project.file('d/f', 'x', 0o600)
    project.file('d/run', 'x', 0o700)
    project.ok('FROM bb\nARG M=u=rwX,go=rX\nCOPY --chmod=$M d /d\nCOPY --chmod=a+x d/f /f\nADD --chmod=go=u d/run /g\n')
    assert project.run('stat', '-c', '%a', '/d', '/d/f', '/d/run', '/f', '/g').split() == ['755', '644', '755', '711', '777']
    for wrong in ('u', 'rwx', '9', '77777', 'u=rwx,'):
        assert f"invalid chmod parameter: '{wrong}'" in project.fails(f'FROM bb\nCOPY --chmod={wrong} d /d\n')


def layers(project):
    return project.docker.inspect(project.name)['RootFS']['Layers']


@pytest.mark.differs_today('has none of these flags in its classic builder')
def test_a_linked_layer_is_the_same_on_every_base(project):
    project.file('f', 'linked')
    project.file('sub/g', 'g')
    text = 'COPY --link --chown=7:8 f /lib/deep/\nCOPY --link sub /srv/\n'
    project.ok('FROM bb\nRUN echo one >/one\n' + text)
    first = layers(project)[-2:]
    out = project.ok('FROM bb\nRUN mkdir /real /srv && ln -s /real /lib && echo two >/srv/own\nWORKDIR /else\n' + text)
    assert layers(project)[-2:] == first
    assert 'Using cache' not in out.split('Step 4')[1]
    # The base's link is no way for it: there is a folder of that name now.
    assert project.run('sh', '-c', 'cat /lib/deep/f; stat -c " %u:%g" /lib/deep/f; test -L /lib || echo folder; ls /real /srv').split() == [
        'linked', '7:8', 'folder', '/real:', '/srv:', 'g', 'own']
    assert project.ok('FROM bb\nRUN mkdir /real /srv && ln -s /real /lib && echo two >/srv/own\nWORKDIR /else\n' + text).count('Using cache') == 4
    project.file('f', 'other')
    project.ok('FROM bb\nRUN echo one >/one\n' + text)
    assert layers(project)[-2] != first[0] and layers(project)[-1] == first[1]
    assert 'unable to find user app' in project.fails('FROM bb\nCOPY --link --chown=app f /f\n')


def test_a_linked_copy_of_a_stage(project):
    project.ok('FROM bb AS made\nRUN mkdir /out && echo made >/out/f\nFROM scratch\nCOPY --link --from=made /out/ /\nFROM bb\nCOPY --link --from=made /out /x/\n')
    assert project.run('cat', '/x/f') == 'made'


@pytest.mark.differs_today('has none of these flags in its classic builder')
def test_archives_that_stay_packed(project):
    project.file('x.tar', packed(['in/one', 'two']))
    project.ok('FROM bb\nADD --unpack=false x.tar /n/\nADD --unpack=true x.tar /u/\nADD x.tar /d/\nADD --exclude=x.* *.tar /e/\n')
    assert project.run('sh', '-c', 'ls /n /u /d; test ! -e /e || ls /e').split() == ['/d:', 'in', 'two', '/n:', 'x.tar', '/u:', 'in', 'two']


@pytest.mark.parametrize('line, says', [
    ('ADD --checksum=sha256:00 f /f', 'checksum requires HTTP(S) or Git sources'),
    ('COPY --checksum=sha256:00 f /f', 'unknown flag: --checksum'),
    ('COPY --keep-git-dir f /f', 'unknown flag: --keep-git-dir'),
    ('ADD --parents f /f', 'unknown flag: --parents'),
    ('COPY --exclude=[ f /f', 'syntax error in pattern'),
])
@pytest.mark.differs_today('has none of these flags in its classic builder')
def test_flags_that_are_wrong(project, line, says):
    project.file('f', 'x')
    assert says in project.fails(f'FROM bb\n{line}\n')
