"""`berth build` beside `docker build` at a daemon that is made up: the same request, and the same files of the context in it."""
import gzip
import io
import json
import os
import re
import shutil
import subprocess
import tarfile
from urllib.parse import parse_qs, urlsplit

import pytest

import engines
import isolation
from made_up_daemon import MadeUpDaemon
from terminal import Terminal

DOCKER = shutil.which('docker')
BERTH = os.environ.get('BERTH_CLI', os.path.join(engines.BIN, 'berth'))
pytestmark = [pytest.mark.berth, pytest.mark.skipif(isolation.VM, reason='no container runs in these tests')]
ID = 'sha256:' + 'a' * 64


def unchunked(data):
    out, at = b'', 0
    while True:
        end = data.index(b'\r\n', at)
        size = int(data[at:end], 16)
        if not size:
            return out
        out += data[end + 2:end + 2 + size]
        at = end + 4 + size


class Builder:
    """Takes builds, keeps what was asked for and what came along, and says that it has built."""

    def __init__(self, path):
        self.daemon = MadeUpDaemon(path)
        self.daemon.on('HEAD /_ping', lambda request: request.say(b'HTTP/1.1 200 OK\r\nApi-Version: 1.50\r\nContent-Length: 0\r\n\r\n'))
        self.daemon.on('POST /build', self.build)
        self.asked, self.files, self.modes, self.body = None, None, None, None

    def build(self, request):
        self.asked = {key: sorted(values) for key, values in parse_qs(urlsplit(request.path).query, keep_blank_values=True).items()}
        self.body = unchunked(request.read(b'\r\n0\r\n\r\n')) if 'remote' not in self.asked else b''
        if self.body:
            raw = gzip.decompress(self.body) if self.body.startswith(b'\x1f\x8b') else self.body
            with tarfile.open(fileobj=io.BytesIO(raw)) as tar:
                members = [member for member in tar.getmembers() if member.name not in ('.', '')]
                self.files = {member.name.rstrip('/'): tar.extractfile(member).read() if member.isreg() else member.linkname for member in members}
                self.modes = {member.name.rstrip('/'): (member.type, member.mode, member.uid, member.gid) for member in members}
        request.stream()
        request.say(b'{"stream":"Step 1/1 : FROM scratch\\n"}\n{"aux":{"ID":"%s"}}\n{"stream":"Successfully built aaaaaaaaaaaa\\n"}\n' % ID.encode())

    def run(self, client, *arguments, folder=None, **options):
        self.asked, self.files = None, None
        environment = dict(os.environ, DOCKER_BUILDKIT='0', GIVEN='from here')
        return subprocess.run([client, '--config', '/proc/none', '-H', self.daemon.host, 'build', *arguments], capture_output=True, timeout=30,
                              cwd=folder, env=environment, **options)


@pytest.fixture
def builder(tmp_path):
    made_up = Builder(str(tmp_path / 'made-up.sock'))
    yield made_up
    made_up.daemon.close()


def tree(folder, files):
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    return folder


def both(builder, *arguments, **options):
    """What docker and what berth sent."""
    sent = []
    for client in DOCKER, BERTH:
        done = builder.run(client, *arguments, **options)
        assert done.returncode == 0, done.stderr
        sent.append((builder.asked, builder.files, builder.modes))
    return sent


CONTEXT = {'Dockerfile': 'FROM scratch\n', 'a': '1', 'b/c': '2', 'b/d.o': '3', 'b/keep/e': '4', '.hidden': '5', 'x y/z\nw': '6', '-f': '7', 'ä': '8'}


@pytest.mark.parametrize('ignored', [
    None, '', '*.o\n**/*.o\n', 'b\n', 'b\n!b/keep\n', '*\n!b/c\n', 'Dockerfile\n.dockerignore\na\n', '# a\n/a\n./b/../b/c/\n', 'b/*\n!b/d.o\n', 'x*\n-*\n[ä-ü]\n',
])
def test_the_same_files_go_along(builder, tmp_path, ignored):
    folder = tree(tmp_path / 'context', CONTEXT)
    (folder / 'link').symlink_to('/etc/passwd')
    (folder / 'b').chmod(0o2750)
    if ignored is not None:
        (folder / '.dockerignore').write_text(ignored)
    docker, berth = both(builder, '-q', str(folder))
    above = {os.path.dirname(name) for name in docker[1]} - set(docker[1])  # folders that are left out: berth sends them, with their modes
    assert {name: text for name, text in berth[1].items() if name not in above} == docker[1]
    assert {name: mode for name, mode in berth[2].items() if name not in above} == docker[2]


@pytest.mark.parametrize('flags', [
    ['-t', 'a', '-t', 'b:c', '--target', 'x', '--build-arg', 'A=1', '--build-arg', 'GIVEN', '--build-arg', 'NOT_GIVEN', '--label', 'l=m', '--label', 'n'],
    ['--no-cache', '--pull', '--force-rm', '--rm=false', '--network', 'none', '--add-host', 'a:1.2.3.4', '--add-host', 'b:::1', '--platform', 'linux/amd64'],
    ['-m', '64m', '--memory-swap', '-1', '-c', '7', '--cpu-period', '1000', '--cpu-quota', '500', '--cpuset-cpus', '0', '--cpuset-mems', '0', '--shm-size', '1g'],
    ['--ulimit', 'nofile=10:20', '--cache-from', 'x,y', '--cache-from', 'z', '--security-opt', 'no-new-privileges', '--cgroup-parent', '/p'],
])
def test_the_same_is_asked_for(builder, tmp_path, flags):
    def said(asked):
        empty = {'0', '', '[]', '{}', 'null', 'default'}  # docker also sends what says nothing
        return {key: [json.loads(value) if value[:1] in '[{' else value for value in values] for key, values in asked.items()
                if (not set(values) <= empty or key == 'rm') and key not in ('version', 'dockerfile')}
    folder = tree(tmp_path / 'context', {'Dockerfile': 'FROM scratch\n'})
    docker, berth = both(builder, *flags, str(folder))
    assert said(berth[0]) == said(docker[0])


def test_where_the_dockerfile_is(builder, tmp_path):
    folder = tree(tmp_path, {'context/sub/D': 'FROM scratch\n', 'context/a': '', 'other/D': 'FROM other\n', 'context/sub/D.dockerignore': 'a\n'})
    done = builder.run(BERTH, '-f', 'context/sub/D', 'context', folder=folder)
    assert done.returncode == 0 and builder.asked['dockerfile'] == ['sub/D'] and 'a' not in builder.files
    done = builder.run(BERTH, '-f', 'other/D', 'context', folder=folder)
    name = builder.asked['dockerfile'][0]
    assert done.returncode == 0 and builder.files[name] == b'FROM other\n' and 'a' in builder.files
    done = builder.run(BERTH, '-f', '-', 'context', folder=folder, input=b'FROM stdin\n')
    assert done.returncode == 0 and builder.files[builder.asked['dockerfile'][0]] == b'FROM stdin\n'
    done = builder.run(BERTH, '-', input=b'FROM alone\n')
    assert done.returncode == 0 and list(builder.files.values()) == [b'FROM alone\n']
    assert not [entry for entry in os.listdir('/tmp') if entry.startswith('berth-build-')]


def test_a_tar_on_standard_input_and_an_address(builder):
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode='w') as tar:
        info = tarfile.TarInfo('Dockerfile')
        info.size = 100000
        tar.addfile(info, io.BytesIO(b'#' * 100000))
    for body in raw.getvalue(), gzip.compress(raw.getvalue()):
        assert builder.run(BERTH, '-', input=body).returncode == 0
        assert builder.body == body
    assert builder.run(BERTH, 'https://example.com/x.git#main').returncode == 0
    assert builder.asked['remote'] == ['https://example.com/x.git#main'] and builder.files is None


def test_what_is_printed_and_written(builder, tmp_path):
    folder = tree(tmp_path, {'Dockerfile': 'FROM scratch\n'})
    done = builder.run(BERTH, '--iidfile', str(tmp_path / 'id'), '--compress', str(folder))
    assert done.stdout == b'Step 1/1 : FROM scratch\nSuccessfully built aaaaaaaaaaaa\n' and (tmp_path / 'id').read_text() == ID
    assert builder.body.startswith(b'\x1f\x8b') and 'Dockerfile' in builder.files
    def says(*messages):
        builder.daemon.on('POST /build', lambda request: (request.read(b'\r\n0\r\n\r\n'), request.stream(), [request.say(json.dumps(message).encode() + b'\n') for message in messages]))
    says({'stream': 'out'}, {'errorDetail': {'message': 'no'}, 'error': 'no'})
    done = builder.run(BERTH, str(folder))
    assert (done.returncode, done.stdout, done.stderr) == (1, b'out', b'no\n')
    says({'stream': 'out\n'}, {'errorDetail': {'message': 'failed', 'code': 7}, 'error': 'failed'})
    done = builder.run(BERTH, '-q', str(folder))
    assert (done.returncode, done.stdout, done.stderr) == (7, b'', b'out\nfailed\n')
    says({'stream': ID + '\n'})
    done = builder.run(BERTH, '-q', '--iidfile', str(tmp_path / 'quiet'), str(folder))
    assert (done.returncode, done.stdout, (tmp_path / 'quiet').read_text()) == (0, ID.encode() + b'\n', ID)
    builder.daemon.on('POST /build', lambda request: request.answer({'message': 'dockerfile parse error'}, '400 Bad Request', 'Connection: close\r\n'))
    done = builder.run(BERTH, str(folder))
    assert done.returncode == 1 and done.stderr == b'Error response from daemon: dockerfile parse error\n'


def screen_of(text, columns):
    """What a terminal shows in the end: lines, with the few movements that are used."""
    lines, row = [''], 0
    for piece in re.split(r'(\r|\n|\033\[1A|\033\[2K)', text):
        if piece == '\n':
            row += 1
            lines += [''] * (row + 1 - len(lines))
        elif piece == '\033[1A':
            row -= 1
        elif piece == '\033[2K':
            lines[row] = ''
        elif piece != '\r':
            lines[row] += piece
            assert len(lines[row]) <= columns
    return lines[:row + 1]


def test_on_a_terminal_a_step_is_a_line(builder, tmp_path):
    folder = tree(tmp_path, {'Dockerfile': 'FROM scratch\n'})

    def says(*messages):
        builder.daemon.on('POST /build', lambda request: (request.read(b'\r\n0\r\n\r\n'), request.stream(), [request.say(json.dumps(message).encode() + b'\n') for message in messages]))
    steps = [{'stream': 'Step 1/3 : FROM base'}, {'stream': '\n'}, {'status': 'Pulling from base', 'id': 'latest'}, {'stream': ' ---> 0123456789ab\n'},
             {'stream': 'Step 2/3 : COPY a b\n'}, {'stream': ' ---> Using cache\n'}, {'stream': ' ---> 0123456789ab\n'}, {'stream': 'Step 3/3 : RUN make\n'},
             {'stream': ' ---> Running in 0123456789ab\n'}, {'stream': '\033[91mone\033[0m\r\ntw'}, {'stream': 'o' + 'x' * 100 + '\033[5A\n'}, *[{'stream': f'{number}\n'} for number in range(30)]]
    says(*steps, {'aux': {'ID': ID}}, {'stream': 'Successfully built 0123456789ab\n'})
    terminal = Terminal([BERTH, '--config', '/proc/none', '-H', builder.daemon.host, 'build', '--iidfile', str(tmp_path / 'id'), str(folder)], columns=60)
    assert terminal.wait() == 0
    shown = screen_of(terminal.output, 60)
    assert [re.sub(r' +[0-9.]+s$', '', line) for line in shown] == [' => [1/3] FROM base', ' => CACHED [2/3] COPY a b', ' => [3/3] RUN make', 'Successfully built 0123456789ab', '']
    assert all(re.search(r' [0-9]\.[0-9]s$', line) for line in shown[:3]) and (tmp_path / 'id').read_text() == ID
    terminal.close()
    says(*steps, {'errorDetail': {'message': 'it failed', 'code': 5}, 'error': 'it failed'})
    terminal = Terminal([BERTH, '--config', '/proc/none', '-H', builder.daemon.host, 'build', str(folder)], columns=60)
    assert terminal.wait() == 5
    shown = screen_of(terminal.output, 60)
    assert shown[2].startswith(' => ERROR [3/3] RUN make ') and shown[3:] == ['------', *[str(number) for number in range(10, 30)], '------', 'it failed', '']
    terminal.close()
    terminal = Terminal([BERTH, '--config', '/proc/none', '-H', builder.daemon.host, 'build', '--progress', 'plain', str(folder)])
    assert terminal.wait() == 5 and 'Step 1/3 : FROM base' in terminal.output
    terminal.close()


@pytest.mark.parametrize('arguments, message', [
    (['nosuch'], 'unable to prepare context: path "nosuch" not found'),
    (['Dockerfile'], 'unable to prepare context: context must be a directory: Dockerfile'),
    (['-f', 'nosuch', '.'], 'unable to prepare context: unable to evaluate symlinks in Dockerfile path: lstat nosuch: no such file or directory'),
    (['-f', '-', '-'], "invalid argument: can't use stdin for both build context and dockerfile"),
    (['--progress', 'x', '.'], 'invalid progress type "x": auto, plain and tty are known'),
    (['-t', 'UP', '.'], 'invalid argument "UP" for "-t, --tag" flag: invalid reference format'),
    (['--ulimit', 'x=1', '.'], 'invalid argument "x=1" for "--ulimit" flag: invalid ulimit type: x'),
])
def test_what_is_wrong_is_said_before_anything_is_sent(builder, tmp_path, arguments, message):
    tree(tmp_path, {'Dockerfile': 'FROM scratch\n'})
    done = builder.run(BERTH, *arguments, folder=tmp_path)
    assert done.returncode != 0 and message in done.stderr.decode() and builder.asked is None


def test_a_pattern_that_is_none(builder, tmp_path):
    done = builder.run(BERTH, '.', folder=tree(tmp_path, {'Dockerfile': 'FROM scratch\n', '.dockerignore': 'a[\n'}))
    assert done.returncode == 1 and done.stderr == b'error checking context: "a[": syntax error in pattern\n' and builder.asked is None


def test_check_needs_no_build(builder, tmp_path):
    builder.daemon.on('GET /images/base/json', {'Config': {'Env': ['FROMBASE=1']}})
    folder = tree(tmp_path, {'Dockerfile': 'FROM base AS Web\nCOPY $FROMBASE $FROMBASS /\nMAINTAINER me\n', '.dockerignore': 'a\n'})
    done = builder.run(BERTH, '--check', '.', folder=folder)
    assert done.returncode == 1 and builder.asked is None and done.stderr == b''
    assert done.stdout.decode() == '''Check complete, 3 warnings have been found!

WARNING: StageNameCasing - https://docs.docker.com/go/dockerfile/rule/stage-name-casing/
Stage name 'Web' should be lowercase
Dockerfile:1
--------------------
   1 | >>> FROM base AS Web
   2 |     COPY $FROMBASE $FROMBASS /
   3 |     MAINTAINER me
--------------------

WARNING: UndefinedVar - https://docs.docker.com/go/dockerfile/rule/undefined-var/
Usage of undefined variable '$FROMBASS' (did you mean $FROMBASE?)
Dockerfile:2
--------------------
   1 |     FROM base AS Web
   2 | >>> COPY $FROMBASE $FROMBASS /
   3 |     MAINTAINER me
--------------------

WARNING: MaintainerDeprecated - https://docs.docker.com/go/dockerfile/rule/maintainer-deprecated/
Maintainer instruction is deprecated in favor of using label
Dockerfile:3
--------------------
   1 |     FROM base AS Web
   2 |     COPY $FROMBASE $FROMBASS /
   3 | >>> MAINTAINER me
--------------------
'''
    (folder / 'Dockerfile').write_text('FROM scratch\n')
    assert builder.run(BERTH, '--check', '.', folder=folder).stdout == b'Check complete, no warnings found.\n'
    (folder / 'Dockerfile').write_text('FROM scratch\n  CPY a b\n')
    done = builder.run(BERTH, '--check', '.', folder=folder)
    assert done.stderr == b'dockerfile parse error on line 2: unknown instruction: CPY (did you mean COPY?)\n'
    assert done.stdout == b'Dockerfile:2:3\n--------------------\n   1 |     FROM scratch\n   2 | >>>   CPY a b\n     |       ^\n--------------------\n'
