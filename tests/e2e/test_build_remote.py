"""ADD of what is elsewhere, and contexts that are: URLs and git repositories, by either door."""
import http.server
import os
import subprocess
import threading

import pytest

import gits
from test_build import packed
from test_build_copy import modern, project  # noqa: F401
from test_buildx import buildx, in_the_full_run  # noqa: F401


class Files:
    """An HTTP server of files that may change, with their times and tags."""

    def __init__(self):
        outer = self
        self.files, self.asked = {}, []  # path: (content, headers)
        self.login = None  # what Authorization must say

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                content, headers = outer.files.get(self.path.partition('?')[0], (None, {}))
                known = content is not None and headers.get('ETag') and self.headers.get('If-None-Match') == headers['ETag']
                status = 404 if content is None else 401 if outer.login and self.headers.get('Authorization') != outer.login else 304 if known else 200
                outer.asked.append((self.path, status))
                self.send_response(status)
                for key, value in headers.items():
                    self.send_header(key, value)
                self.send_header('Content-Length', '0' if status != 200 else str(len(content)))
                self.end_headers()
                if status == 200:
                    self.wfile.write(content)

            def log_message(self, *_):
                pass
        self.http = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
        self.url = 'http://127.0.0.1:%d' % self.http.server_address[1]
        threading.Thread(target=self.http.serve_forever, daemon=True).start()


@pytest.fixture(scope='module')
def files():
    files = Files()
    yield files
    files.http.shutdown()
    files.http.server_close()


@pytest.fixture(scope='module')
def repository(tmp_path_factory):
    repository = gits.Repository(tmp_path_factory.mktemp('git'))
    repository.first = repository.commit(**{'Dockerfile': 'FROM bb\nCOPY f /f\nCMD ["cat", "/f"]\n', 'f': 'first', 'sub__g': 'in a folder',
                                            'sub__Dockerfile': 'FROM bb\nCOPY g /g\nCMD ["cat", "/g"]\n'})
    repository.git('tag', '-a', '-m', 'v1', 'v1')
    repository.git('checkout', '-q', '-b', 'side')
    repository.side = repository.commit(f='of the side')
    repository.git('checkout', '-q', 'main')
    repository.last = repository.commit(f='last')
    yield repository
    repository.close()


DAY = 'Wed, 21 Oct 2015 07:28:00 GMT'


@pytest.mark.differs('names the file of an ADD otherwise, its builder being the classic one of 20.10')
def test_a_file_of_a_url(project, files):
    files.files['/dir/hello%20you.txt'] = (b'of a URL', {'Last-Modified': DAY})
    text = f'FROM bb\nADD {files.url}/dir/hello%20you.txt?a=b /srv/\nADD --chmod=644 --chown=7:8 {files.url}/dir/hello%20you.txt /other\n'
    project.ok(text)
    assert project.run('sh', '-c', 'cat "/srv/hello you.txt" /other; stat -c " %a %Y %u:%g" "/srv/hello you.txt" /other') == \
        'of a URLof a URL 600 1445412480 0:0\n 644 1445412480 7:8'
    assert project.ok(text).count('Using cache') == 2
    files.files['/dir/hello%20you.txt'] = (b'of tomorrow', {'Last-Modified': DAY})
    assert 'Using cache' not in project.ok(text)
    assert project.run('cat', '/other') == 'of tomorrow'
    assert 'status 404' in project.fails(f'FROM bb\nADD {files.url}/none /x\n')
    assert "source can't be a URL for COPY" in project.fails(f'FROM bb\nCOPY {files.url}/none /x\n')


@pytest.mark.berth
def test_what_a_server_says_is_unchanged_does_not_come_again(project, files):
    files.files['/tagged'] = (b'x' * 100000, {'ETag': '"one"'})
    text = f'FROM bb\nADD {files.url}/tagged /x\n'
    project.ok(text)
    del files.asked[:]
    assert 'Using cache' in project.ok(text) and files.asked == [('/tagged', 304)]
    project.ok(f'FROM bb\nRUN true\nADD {files.url}/tagged /x\n')  # not in the cache: it is needed
    assert [status for _, status in files.asked] == [304, 304, 200]
    files.files['/tagged'] = (b'y', {'ETag': '"two"'})
    project.ok(text)
    assert project.run('cat', '/x') == 'y'


@pytest.mark.differs_today('has no --checksum in its classic builder')
def test_checksums(project, files):
    good = 'sha256:' + __import__('hashlib').sha256(b'checked').hexdigest()
    files.files['/checked'] = (b'checked', {})
    text = f'FROM bb\nADD --checksum={good} {files.url}/checked /c\n'
    project.ok(text)
    assert project.run('cat', '/c') == 'checked'
    del files.asked[:]
    assert 'Using cache' in project.ok(text) and files.asked == []
    assert f'digest mismatch {good}' in project.fails(f'FROM bb\nADD --checksum=sha256:{"0" * 64} {files.url}/checked /c\n')
    assert 'invalid checksum digest length' in project.fails(f'FROM bb\nADD --checksum=sha256:00 {files.url}/checked /c\n')
    assert 'invalid checksum digest format' in project.fails(f'FROM bb\nADD --checksum=sha256:{"x" * 64} {files.url}/checked /c\n')
    assert 'unsupported digest algorithm' in project.fails(f'FROM bb\nADD --checksum=md5:00 {files.url}/checked /c\n')
    assert 'multiple sources' in project.fails(f'FROM bb\nADD --checksum={good} {files.url}/checked Dockerfile /c/\n')


@pytest.mark.differs_today('has no --unpack in its classic builder')
def test_an_archive_of_a_url_stays_one(project, files):
    files.files['/x.tar.gz'] = (packed(['in/one', 'two']), {})
    project.file('local', 'here')
    project.ok(f'FROM bb\nADD {files.url}/x.tar.gz /n/\nADD --unpack=true {files.url}/x.tar.gz /u/\nADD --link {files.url}/x.tar.gz local /m/\n')
    assert project.run('sh', '-c', 'ls /n /u /m').split() == ['/m:', 'local', 'x.tar.gz', '/n:', 'x.tar.gz', '/u:', 'in', 'two']


@pytest.mark.differs_today('its classic builder adds no repositories')
def test_a_repository(project, repository):
    text = (f'FROM bb\nADD {repository.url} /head\nADD {repository.url}#v1 /tag\nADD {repository.url}#side /side\nADD {repository.url}#{repository.first}:sub /sub\n'
            f'ADD --keep-git-dir=true {repository.url}?branch=main&subdir=/ /kept\nADD {repository.url}?branch=side&fetch-by-commit&commit={repository.side} /by\n')
    project.ok(text)
    assert project.run('sh', '-c', 'cat /head/f /tag/f /side/f /sub/g /by/f; ls -A /sub /head; stat -c %u:%g /head/f; test -d /kept/.git && cat /kept/f') == \
        'lastfirstof the sidein a folderof the side/head:\nDockerfile\nf\nsub\n\n/sub:\nDockerfile\ng\n0:0\nlast'
    del repository.asked[:]
    assert project.ok(text).count('Using cache') == 6
    assert not [path for path in repository.asked if 'upload-pack' in path and 'info/refs' not in path and 'service' in path]
    repository.last = repository.commit(f='newer')
    project.ok(text)
    assert project.run('cat', '/head/f') == 'newer'


@pytest.mark.differs('its classic builder adds no repositories')
@pytest.mark.parametrize('what, flags, says', [
    ('#nothing-of-that-name', '', 'repository does not contain ref nothing-of-that-name'), ('?what=x', '', 'unexpected query'),
    ('#main:none', '', ''), ('#--upload-pack=x', '', 'invalid ref'), ('#main', '--checksum=0000', 'expected checksum to match 0000'),
])
def test_repositories_that_are_not_there(project, repository, what, flags, says):
    assert says in project.fails(f'FROM bb\nADD {flags} {repository.url}{what} /x\n')


def build_by(project, *words, stdin=None):
    command = project.docker.command('build', '-t', project.name, *words, seconds=120)
    return subprocess.run(command, capture_output=True, text=isinstance(stdin, str) or stdin is None, input=stdin, env=project.environment())


def test_contexts_that_are_elsewhere(project, files, repository, tmp_path):
    tar = subprocess.run(['tar', '-C', repository.path, '-cz', 'Dockerfile', 'f'], capture_output=True, check=True).stdout
    files.files['/context.tar.gz'] = (tar, {'Content-Type': 'application/gzip'})
    files.files['/file'] = (b'FROM bb\nCMD ["echo", "of a file"]\n', {'Content-Type': 'text/plain'})
    for words, says in (([f'{files.url}/context.tar.gz'], open(os.path.join(repository.path, 'f')).read()), ([f'{files.url}/file'], 'of a file'),
                        ([f'{repository.url}#v1'], 'first'), ([f'{repository.url}#main:sub'], 'in a folder')):
        done = build_by(project, *words)
        assert done.returncode == 0, done.stdout + done.stderr
        assert project.run() == says
    assert build_by(project, f'{files.url}/none').returncode != 0
    assert build_by(project, f'{repository.url}#none').returncode != 0


def test_what_comes_by_standard_input(project, repository):
    done = build_by(project, '-', stdin='FROM bb\nCMD ["echo", "typed"]\n')
    assert done.returncode == 0 and project.run() == 'typed', done.stderr
    tar = subprocess.run(['tar', '-C', repository.path, '-c', 'Dockerfile', 'f'], capture_output=True, check=True).stdout
    done = build_by(project, '-', stdin=tar)
    assert done.returncode == 0 and project.run() == open(os.path.join(repository.path, 'f')).read(), done.stderr


def buildx_by(modern, *words, stdin=None):  # noqa: F811
    import engines
    done = subprocess.run([engines.default_cli(), 'buildx', 'build', '--progress', 'plain', '-t', modern.name, *words], capture_output=True, input=stdin,
                          env=modern.buildx.environment(), timeout=120)
    assert done.returncode == 0, (done.stdout + done.stderr).decode()
    return modern.run()


@in_the_full_run
def test_contexts_that_are_elsewhere_by_buildx(modern, files, repository):
    tar = subprocess.run(['tar', '-C', repository.path, '-c', 'Dockerfile', 'f'], capture_output=True, check=True).stdout
    newest = open(os.path.join(repository.path, 'f')).read()
    files.files['/context.tar'] = (tar, {})
    files.files['/file'] = (b'FROM bb\nCMD ["echo", "of a file"]\n', {})
    assert buildx_by(modern, f'{files.url}/context.tar') == newest
    assert buildx_by(modern, f'{files.url}/file') == 'of a file'
    assert buildx_by(modern, f'{repository.url}#v1') == 'first'
    assert buildx_by(modern, f'{repository.url}?ref=side') == 'of the side'
    assert buildx_by(modern, '-', stdin=tar) == newest
    assert buildx_by(modern, '-', stdin=b'FROM bb\nCMD ["echo", "typed"]\n') == 'typed'
    assert buildx_by(modern, '-f', '-', f'{repository.url}#v1', stdin=b'FROM bb\nCOPY sub/g /\nCMD ["cat", "/g"]\n') == 'in a folder'


@in_the_full_run
@pytest.mark.differs('has a BuildKit without a lint')
def test_the_lint_of_contexts_that_are_elsewhere(modern, files, repository):
    tar = subprocess.run(['tar', '-C', repository.path, '-c', 'Dockerfile', 'f'], capture_output=True, check=True).stdout
    files.files['/linted'] = (b'FROM bb as one\nMAINTAINER me\n', {})
    files.files['/context.tar'] = (tar, {})
    files.files['/strict'] = (b'# check=error=true\nFROM bb as one\n', {})
    done = modern.buildx('build', '--progress', 'plain', '-t', modern.name, f'{files.url}/linted')
    assert done.returncode == 0 and '2 warnings found' in done.stderr and 'MaintainerDeprecated' in done.stderr, done.stderr
    assert 'warning' not in modern.buildx.ok('build', '--progress', 'plain', '-t', modern.name, f'{repository.url}#v1')
    done = modern.buildx('build', '--check', f'{files.url}/linted')
    assert done.returncode != 0 and 'FromAsCasing' in done.stdout + done.stderr, done
    assert 'Check complete, no warnings found' in modern.buildx.ok('build', '--check', f'{repository.url}#v1')
    assert 'Check complete, no warnings found' in modern.buildx.ok('build', '--check', f'{files.url}/context.tar')
    assert 'FromAsCasing' in modern.buildx.fails('build', f'{files.url}/strict')
    assert 'status 404' in modern.buildx.fails('build', '--check', f'{files.url}/none')


@pytest.mark.differs('has a BuildKit without contexts by name')
def test_contexts_by_name(modern, files, repository, tmp_path):
    named = tmp_path / 'named'
    named.mkdir()
    (named / 'mine').write_text('of a folder')
    (named / 'dropped').write_text('x')
    (named / '.dockerignore').write_text('dropped\n')
    text = ('FROM nothing AS stage\nRUN false\nFROM base AS built\nCOPY --from=here mine /m\nCOPY --from=code f /f\nRUN --mount=from=here,target=/h cat /h/mine && test ! -e /h/dropped\nFROM here\n'
            'FROM built\nCOPY --from=stage /etc/passwd /p\nCMD ["cat", "/m", "/f"]\n')
    out = modern.ok(text, '--build-context', f'here={named}', '--build-context', 'base=docker-image://bb', '--build-context', f'code={repository.url}#v1',
                    '--build-context', 'stage=docker-image://bb')
    assert modern.run() == 'of a folderfirst' and '[context here] load from client' in out
    assert 'oci-layout' in modern.fails('FROM x\n', '--build-context', 'x=oci-layout://' + str(named))
