"""berth in use: terminals, signals, pulls, credentials, contexts, copies, completion. Most of it is asked of `docker` too, so that the test
asks for docker's behaviour."""
import base64
import json
import os
import re
import signal
import stat
import subprocess
import termios
import time

import pytest

import engines
import images
import isolation
import registries
from conftest import Docker
from engines import SLOWER, wait_until
from terminal import Terminal

BERTH = os.path.join(engines.BIN, 'berth')
pytestmark = pytest.mark.skipif(isolation.VM, reason='a command line is the same for both walls: BERTH_E2E_CLI runs the other tests with it')


@pytest.fixture(params=['docker', 'berth'])
def client(request, docker):
    return docker if request.param == 'docker' else Docker(docker.engine, BERTH, docker.folder)


@pytest.fixture
def berth(docker):
    return Docker(docker.engine, BERTH, docker.folder)


@pytest.fixture
def screen(client):
    opened = []

    def start(*arguments, **options):
        opened.append(Terminal(client.command(*arguments), **options))
        return opened[-1]
    yield start
    for one in opened:
        one.close()


# ---- terminals ------------------------------------------------------------------------------------------------------

def test_a_shell_on_a_terminal(client, screen, name):
    shell = screen('run', '-it', '--rm', '--name', name, 'bb', 'sh', rows=33, columns=101)
    shell.expect('# ')
    shell.send('stty size; tty\n')
    shell.expect('33 101')
    shell.expect('/dev/pts/0')
    shell.resize(20, 70)
    for _ in range(50):  # the size gets there by another request
        shell.send('stty size\n')
        if shell.expect(r'(\d+ \d+)\r').group(1) == '20 70':
            break
        time.sleep(0.1)
    else:
        pytest.fail('the new size never came')
    shell.send('trap "echo caught" INT; echo re""ady; sleep 3\n')
    shell.expect('ready')
    shell.send('\x03')
    shell.expect('caught')
    shell.send('exit 5\n')
    assert shell.wait() == 5


def test_the_terminal_is_given_back_as_it_was(client, screen, name):
    shell = screen('run', '-it', '--rm', '--name', name, 'bb', 'sh')
    before = shell.fresh
    shell.expect('# ')
    assert termios.tcgetattr(shell.master)[3] != before[3], 'raw meanwhile'
    shell.send('exit\n')
    assert shell.wait() == 0
    assert termios.tcgetattr(shell.master)[:4] == before[:4]


def test_detaching_and_coming_back(client, screen, name):
    shell = screen('run', '-it', '--name', name, 'bb', 'sh')
    shell.expect('# ')
    shell.send('\x10x\x10\x11')  # a beginning of the keys that goes on otherwise is no detaching
    assert shell.wait() == 0
    assert client.inspect(name)['State']['Running']
    again = screen('attach', '--detach-keys', 'ctrl-x,d', name)
    again.send('\n')
    again.expect('# ')
    again.send('\x18d')
    assert again.wait() == 1 and 'read escape sequence' in again.output
    assert client.inspect(name)['State']['Running']
    client.ok('rm', '-f', name)


def test_exec_on_a_terminal(client, screen, name):
    client.ok('run', '-d', '--name', name, 'bb', 'sleep', '1000')
    shell = screen('exec', '-it', '-e', 'PS1=> ', name, 'sh', rows=31, columns=90)
    shell.expect('> ')
    shell.send('stty size\n')
    shell.expect('31 90')
    shell.send('exit 9\n')
    assert shell.wait() == 9
    client.ok('rm', '-f', name)


def test_leaving_an_exec(client, screen, name):
    client.ok('run', '-d', '--name', name, 'bb', 'sleep', '1000')
    shell = screen('exec', '-it', name, 'sh')
    shell.expect('# ')
    shell.send('\x10\x11')
    shell.expect('read escape sequence')
    assert shell.wait() == 1
    client.ok('rm', '-f', name)


def test_a_password_is_not_shown_and_may_be_left(screen):
    login = screen('login', '-u', 'anna', 'registry.invalid:5')
    login.expect('Password: ')
    login.send('\x03')
    login.wait()
    assert termios.tcgetattr(login.master)[3] & termios.ECHO
    login = screen('login', '-u', 'anna', 'registry.invalid:5')
    login.expect('Password: ')
    wait_until(lambda: not termios.tcgetattr(login.master)[3] & termios.ECHO, 10, 'the echo is off')  # docker asks first
    login.send('secret\n')
    assert login.wait() == 1 and 'secret' not in login.output and 'registry.invalid' in login.output


def test_a_terminal_without_input(client, screen):
    shell = screen('run', '-t', '--rm', 'bb', 'sh', '-c', 'tty; exit 4')
    shell.expect('/dev/pts/0')
    assert shell.wait() == 4


def test_start_attached(client, screen, name):
    client.ok('create', '-it', '--name', name, 'bb', 'sh')
    shell = screen('start', '-ai', name)
    shell.expect('# ')
    shell.send('exit 3\n')
    assert shell.wait() == 3
    client.ok('rm', '-f', name)


# ---- signals --------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1])
def test_signals_are_handed_on(client, name, number):
    script = f'trap "echo got; exit 40" {number.name[3:]}; echo ready; while :; do sleep 0.1; done'
    # Without `timeout` between: the signal is for the client alone.
    process = subprocess.Popen(client.command('run', '--rm', '--name', name, 'bb', 'sh', '-c', script)[4:], env=client.environment(),
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == 'ready\n'
    process.send_signal(number)
    assert process.stdout.readline() == 'got\n'
    assert process.wait(20 * SLOWER) == 40


def test_signals_are_kept_when_asked(berth, name):
    process = subprocess.Popen(berth.command('run', '--sig-proxy=false', '--name', name, 'bb', 'sh', '-c', 'echo ready; sleep 1000')[4:],
                               env=berth.environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == 'ready\n'
    process.send_signal(signal.SIGTERM)
    assert process.wait(20 * SLOWER) == -signal.SIGTERM
    assert berth.inspect(name)['State']['Running']
    berth.ok('rm', '-f', name)


def test_a_reader_who_leaves(client, name):
    process = subprocess.Popen(client.command('run', '--rm', '--name', name, 'bb', 'yes')[4:], env=client.environment(), stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout.readline() == b'y\n'
    process.stdout.close()
    if client.cli == BERTH:
        assert process.wait(20 * SLOWER) != 0
    else:
        process.kill()
        process.wait()
    client('rm', '-f', name)


# ---- pulls ----------------------------------------------------------------------------------------------------------

@pytest.fixture
def registry():
    registry = registries.Registry()
    yield registry
    registry.close()


@pytest.fixture
def layers():
    return [images.busybox_root(), images.tar([images.folder('etc'), images.entry('etc/big', data=os.urandom(3_000_000))])]


def test_a_pull_in_lines_and_in_bars(client, screen, registry, layers):
    registry.add_image('app', '1', layers)
    image = f'{registry.address}/app:1'
    plain = client.ok('pull', image)
    assert '\x1b' not in plain and re.search(r'^[0-9a-f]{12}: Pull complete$', plain, re.M) and plain.splitlines()[-1] == image
    assert client.ok('pull', '-q', image) == image
    assert 'Image is up to date' in client.ok('pull', image)
    client.ok('rmi', image)
    bars = screen('pull', image, rows=30, columns=130)
    assert bars.wait(30) == 0
    assert '\x1b[' in bars.output and 'Pull complete' in bars.output and 'Downloaded newer image' in bars.output
    client.ok('rmi', image)


@pytest.mark.new_client('no run -q, other words')
def test_run_pulls_what_is_missing(client, screen, registry, layers):
    registry.add_image('app', '2', layers)
    image = f'{registry.address}/app:2'
    result = client('run', '--rm', image, 'echo', 'here')
    assert (result.code, result.out) == (0, 'here\n') and result.err.startswith(f"Unable to find image '{image}' locally\n")
    client.ok('rmi', image)
    result = client('run', '--rm', '-q', image, 'echo', 'here')
    assert (result.code, result.out, result.err) == (0, 'here\n', '')
    assert client('run', '--rm', '--pull', 'always', image, 'true').code == 0
    client.ok('rmi', image)


def test_push(client, registry):
    client.ok('tag', 'bb', f'{registry.address}/pushed:1')
    assert 'digest: sha256:' in client.ok('push', f'{registry.address}/pushed:1')
    client.ok('rmi', f'{registry.address}/pushed:1')


# ---- credentials ----------------------------------------------------------------------------------------------------

def test_login_writes_what_docker_writes(docker, berth, layers, tmp_path):
    registry = registries.Registry(('basic', 'anna', 'se:cret'))
    registry.add_image('app', '1', layers)
    written = {}
    try:
        for one, folder in ((docker, tmp_path / 'd'), (berth, tmp_path / 'b')):
            folder.mkdir()
            if one is docker:  # it keeps the mode of a file that is there; a new one gets 0600
                (folder / 'config.json').touch(0o600)
            (folder / 'config.json').write_text('{"psFormat": "{{.ID}}", "HttpHeaders": {"X": "y"}}')
            config = ('--config', str(folder))
            assert one(*config, 'login', '-u', 'anna', '--password-stdin', registry.address, input='wrong').code == 1
            result = one(*config, 'login', '-u', 'anna', '--password-stdin', registry.address, input='se:cret\n')
            assert result.code == 0 and 'Login Succeeded' in result.out, result
            assert stat.S_IMODE(os.stat(folder / 'config.json').st_mode) == 0o600
            written[one.cli] = json.loads((folder / 'config.json').read_text())
            assert one(*config, 'pull', '-q', f'{registry.address}/app:1').code == 0
        assert written[docker.cli] == written[berth.cli]
        assert base64.b64decode(written[berth.cli]['auths'][registry.address]['auth']) == b'anna:se:cret'
        # What one wrote the other reads.
        assert docker('--config', str(tmp_path / 'b'), 'pull', '-q', f'{registry.address}/app:1').code == 0
        assert berth('--config', str(tmp_path / 'd'), 'pull', '-q', f'{registry.address}/app:1').code == 0
        assert berth('--config', str(tmp_path / 'b'), 'logout', registry.address).code == 0
        assert json.loads((tmp_path / 'b/config.json').read_text())['auths'] == {}
        assert berth('--config', str(tmp_path / 'b'), 'pull', '-q', f'{registry.address}/app:1').code == 1
        docker.ok('rmi', f'{registry.address}/app:1')
    finally:
        registry.close()


def test_a_credential_helper(client, layers, tmp_path, monkeypatch):
    registry = registries.Registry(('basic', 'anna', 'secret'))
    registry.add_image('app', '1', layers)
    helper = tmp_path / 'docker-credential-test'
    helper.write_text('#!/bin/sh\ncat >/dev/null\n[ "$1" = get ] && echo \'{"ServerURL":"x","Username":"anna","Secret":"secret"}\'\nexit 0\n')
    helper.chmod(0o755)
    (tmp_path / 'config.json').write_text(json.dumps({'credHelpers': {registry.address: 'test'}}))
    monkeypatch.setenv('PATH', f'{tmp_path}:{os.environ["PATH"]}')
    try:
        client.ok('--config', str(tmp_path), 'pull', '-q', f'{registry.address}/app:1')
        client.ok('rmi', f'{registry.address}/app:1')
    finally:
        registry.close()


@pytest.mark.new_client('no run -q, other words')
def test_contexts_of_docker_are_read(docker, tmp_path):
    if docker.cli == BERTH:
        pytest.skip('berth writes no contexts')
    environment = {'HOME': str(tmp_path), 'PATH': os.environ['PATH']}

    def run(program, *arguments, **more):
        return subprocess.run([program, *arguments], capture_output=True, text=True, env={**environment, **more}, timeout=60)
    assert run(docker.cli, 'context', 'create', 'there', '--docker', 'host=unix://' + docker.engine.socket).returncode == 0
    for result in (run(BERTH, '--context', 'there', 'version'), run(BERTH, 'version', DOCKER_CONTEXT='there')):
        assert result.returncode == 0 and 'Server' in result.stdout, result
    assert run(docker.cli, 'context', 'use', 'there').returncode == 0
    assert 'Server' in run(BERTH, 'version').stdout
    result = run(BERTH, '--context', 'nowhere', 'ps')
    assert result.returncode == 1 and run(docker.cli, '--context', 'nowhere', 'ps').stderr.startswith(result.stderr.rstrip('\n'))


# ---- copies, changes ------------------------------------------------------------------------------------------------

@pytest.fixture
def tree(tmp_path):
    """a/ with a file, a folder, a link and odd names."""
    top = tmp_path / 'a'
    (top / 'inner').mkdir(parents=True)
    (top / 'file').write_text('content')
    (top / 'file').chmod(0o640)
    (top / 'inner/odd, name\\.[x]').write_text('odd')
    (top / 'link').symlink_to('file')
    (tmp_path / 'single').write_text('single')
    return tmp_path


def listing(client, name, path):
    return client.ok('exec', name, 'sh', '-c', f'cd {path} && find . | sort').splitlines()


def test_copies(client, tree, name):
    client.ok('run', '-d', '--name', name, 'bb', 'sleep', '1000')
    whole = ['.', './file', './inner', './inner/odd, name\\.[x]', './link']
    try:
        for source, target, path, wanted in [('a', '/new', '/new', whole), ('a', '/tmp', '/tmp/a', whole), ('a/.', '/home', '/home', sorted([*whole, './app'])), ('single', '/tmp/s2', '/tmp/s2', None),
                                             ('single', '/var', '/var/single', None), ('a/link', '/var', '/var/link', None)]:
            result = client('cp', f'{tree}/{source}', f'{name}:{target}')
            assert result.code == 0, (source, target, result)
            if wanted:
                assert listing(client, name, path) == wanted, (source, target)
        assert client.ok('exec', name, 'cat', '/tmp/s2', '/var/single') == 'singlesingle'
        assert client.ok('exec', name, 'readlink', '/var/link') == 'file'
        assert client.ok('exec', name, 'stat', '-c', '%a', '/new/file') == '640'
        # And back.
        out = tree / 'out'
        out.mkdir()
        client.ok('cp', f'{name}:/new', str(out))
        client.ok('cp', f'{name}:/new', str(out / 'renamed'))
        client.ok('cp', f'{name}:/new/.', str(out / 'contents'))
        client.ok('cp', f'{name}:/tmp/s2', str(out / 'single'))
        client.ok('cp', '-L', f'{name}:/new/link', str(out / 'followed'))
        for folder in ('new', 'renamed', 'contents'):
            assert (out / folder / 'file').read_text() == 'content' and (out / folder / 'inner/odd, name\\.[x]').read_text() == 'odd'
            assert os.readlink(out / folder / 'link') == 'file'
        assert (out / 'single').read_text() == 'single' and (out / 'followed').read_text() == 'content'
        assert stat.S_IMODE(os.stat(out / 'new/file').st_mode) == 0o640
        assert client('cp', f'{name}:/etc/passwd', '-').out.startswith('passwd\0')
        client.ok('cp', '-', f'{name}:/tmp', input=images.tar([images.entry('streamed', data=b'tar')]))
        assert client.ok('exec', name, 'cat', '/tmp/streamed') == 'tar'
        for wrong in ((f'{name}:/nosuch', str(out)), (str(tree / 'nosuch'), f'{name}:/tmp'), (str(tree / 'a'), f'{name}:/etc/passwd'), (f'{name}:/new', str(out / 'single')),
                      (f'{name}:/etc/passwd', str(out / 'none/x')), (str(tree / 'single'), f'{name}:/nosuch/'), (f'{name}:/etc/passwd', str(out / 'none') + '/')):
            result = client('cp', *wrong)
            assert result.code == 1 and result.err, wrong
    finally:
        client.ok('rm', '-f', name)


def test_copies_of_links_and_pipes(client, name, tmp_path):
    """A link that is named is followed, one that is in the way is replaced; a slash behind a name means a folder; what is no file stays none."""
    client.ok('run', '-d', '--name', name, 'bb', 'sh', '-c', 'mkdir /d; echo x > /d/f; ln -s /d /ld; mkfifo /p; sleep 1000')
    wait_until(lambda: client('exec', name, 'test', '-p', '/p').code == 0)
    try:
        (tmp_path / 'old').write_text('old')
        (tmp_path / 'into').mkdir()
        (tmp_path / 'named').symlink_to('made')
        (tmp_path / 'into/f').symlink_to('../old')
        client.ok('cp', f'{name}:/d/f', str(tmp_path / 'named'))
        assert (tmp_path / 'named').is_symlink() and (tmp_path / 'made').read_text() == 'x\n'
        client.ok('cp', f'{name}:/d/f', str(tmp_path / 'into'))
        assert not (tmp_path / 'into/f').is_symlink() and (tmp_path / 'into/f').read_text() == 'x\n' and (tmp_path / 'old').read_text() == 'old'
        client.ok('cp', f'{name}:/ld', str(tmp_path / 'link'))
        client.ok('cp', f'{name}:/ld/', str(tmp_path / 'folder'))
        assert os.readlink(tmp_path / 'link') == '/d' and (tmp_path / 'folder/f').read_text() == 'x\n'
        client.ok('cp', f'{name}:/p', str(tmp_path / 'pipe'))
        assert (tmp_path / 'pipe').is_fifo()
        assert client('cp', f'{name}:/etc/passwd/', str(tmp_path / 'none')).code == 1
    finally:
        client.ok('rm', '-f', name)


def test_diff_commit_export_update(client, name, tmp_path):
    client.ok('run', '-d', '--name', name, 'bb', 'sh', '-c', 'echo x > /etc/new; rm /etc/group; exec sleep 1000')
    try:
        wait_until(lambda: 'D /etc/group' in client.ok('diff', name), 10, 'the change')
        assert {'C /etc', 'A /etc/new', 'D /etc/group'} <= set(client.ok('diff', name).splitlines())
        client.ok('export', '-o', str(tmp_path / 'tree.tar'), name)
        assert 'etc/new' in subprocess.run(['tar', '-tf', tmp_path / 'tree.tar'], capture_output=True, text=True).stdout
        assert client.ok('update', '--memory', '64m', '--memory-swap', '128m', '--restart', 'on-failure:3', name) == name
        host = client.inspect(name)['HostConfig']
        assert (host['Memory'], host['MemorySwap'], host['RestartPolicy']) == (64 << 20, 128 << 20, {'Name': 'on-failure', 'MaximumRetryCount': 3})
        image = client.ok('commit', '-a', 'me', '-m', 'words', '-c', 'CMD ["cat","/etc/new"]', name, 'made:here')
        assert image.startswith('sha256:') and client.ok('run', '--rm', 'made:here') == 'x'
        assert client.ok('image', 'inspect', '-f', '{{.Author}} {{.Comment}}', 'made:here') == 'me words'
        client.ok('rmi', 'made:here')
    finally:
        client.ok('rm', '-f', name)


# ---- following ------------------------------------------------------------------------------------------------------

def test_logs_events_and_stats_go_on(client, name):
    events = client.popen('events', '--filter', f'container={name}', '--format', '{{.Action}} {{.Actor.Attributes.name}}')
    time.sleep(0.5)
    client.ok('run', '-d', '--name', name, 'bb', 'sh', '-c', 'echo one; sleep 1; echo two; sleep 1')
    logs = client.popen('logs', '-f', name)
    assert logs.stdout.readline() == b'one\n' and logs.stdout.readline() == b'two\n'
    assert logs.wait(20 * SLOWER) == 0
    client.ok('wait', name)
    client.ok('rm', name)
    seen = [events.stdout.readline().decode().split()[0] for _ in range(3)]
    assert seen[0] == 'create' and 'start' in seen
    events.kill()
    events.wait()


# ---- completion -----------------------------------------------------------------------------------------------------

def complete(berth, *words):
    script = 'source <("$BERTH" completion bash); COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _berth; printf "%s\\n" "${COMPREPLY[@]}"'
    done = subprocess.run(['bash', '-c', script, 'bash', 'berth', *words], capture_output=True, text=True,
                          env={**berth.environment(), 'BERTH': BERTH, 'DOCKER_HOST': 'unix://' + berth.engine.socket, 'PATH': engines.BIN + ':' + os.environ['PATH']})
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_completion_in_bash(berth, name):
    assert {'stop', 'start', 'stats'} <= set(complete(berth, 'st')) and 'ps' not in complete(berth, 'st')
    assert complete(berth, 'container', 'ren') == ['rename']
    assert set(complete(berth, 'ps', '--no')) == {'--no-trunc'}
    assert {'--network', '--network-alias'} == set(complete(berth, 'run', '--netw'))
    berth.ok('run', '-d', '--name', name, 'bb', 'sleep', '1000')
    try:
        assert complete(berth, 'stop', name[:4]) == [name] and complete(berth, 'logs', name) == [name]
        assert 'bb:latest' in complete(berth, 'run', '-it', '--rm', 'b') and 'none' in complete(berth, 'run', '--network', 'n')
    finally:
        berth.ok('rm', '-f', name)
    for shell, words in (('zsh', '#compdef berth'), ('fish', 'complete -c berth')):
        assert words in berth.ok('completion', shell)
    assert berth('completion', 'csh').code == 1
