"""What a step gets of its client: secrets as variables, its ssh agent; and what it gets of networks and rights."""
import os
import re
import shutil
import subprocess

import pytest

from test_build_copy import modern, project  # noqa: F401
from test_buildx import buildx, in_the_full_run  # noqa: F401


@pytest.mark.container_only('HostConfig.Binds')
@pytest.mark.differs('has a BuildKit without them')
def test_secrets_as_variables(modern, tmp_path):
    (tmp_path / 'token').write_text('open=sesame\nand more')
    out = modern.ok('FROM bb\nRUN --mount=type=secret,id=token,env=TOKEN test ! -e /run/secrets/token && echo "$TOKEN" | rev\n'
                    'RUN --mount=type=secret,id=token,env=T,target=/srv/t echo "$T" | cmp - /srv/t; test -n "$T" && test -s /srv/t\n'
                    'RUN --mount=type=secret,id=none,env=NONE test -z "${NONE+set}"\nRUN test -z "$TOKEN$T"\n', '--secret', f'id=token,src={tmp_path / "token"}')
    assert 'emases=nepo' in out and 'erom dna' in out
    assert 'sesame' not in str(modern.docker.inspect(modern.name)) + modern.docker.ok('history', '--no-trunc', modern.name)
    assert 'secret missing: not found' in modern.fails('FROM bb\nRUN --mount=type=secret,id=missing,env=X,required true\n')
    engine = modern.docker.engine
    if hasattr(engine, 'state'):
        assert subprocess.run(['grep', '-rqa', 'open=sesame', engine.folder]).returncode == 1
        assert os.listdir(os.path.join(engine.state, 'build-secrets')) == []


@pytest.fixture
def agent(tmp_path):
    """An ssh agent with one key."""
    path = str(tmp_path / 'agent')
    process = subprocess.Popen(['ssh-agent', '-D', '-a', path], stdout=subprocess.DEVNULL)
    subprocess.run(['ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-C', 'a key of a test', '-f', str(tmp_path / 'key')], check=True)
    for _ in range(100):
        if os.path.exists(path):
            break
        __import__('time').sleep(0.05)
    subprocess.run(['ssh-add', '-q', str(tmp_path / 'key')], check=True, env={'SSH_AUTH_SOCK': path, 'PATH': os.environ['PATH']})
    yield path
    process.kill()
    process.wait()


def bring(project, program):  # noqa: F811
    """A program of this machine with its libraries."""
    path = shutil.which(program)
    for library in re.findall(r'(/\S+)', subprocess.run(['ldd', path], capture_output=True, text=True, check=True).stdout):
        project.file('root' + library, open(library, 'rb').read(), 0o755)
    project.file('root/bin/' + program, open(path, 'rb').read(), 0o755)


@pytest.mark.container_only('HostConfig.Binds')
@pytest.mark.skipif(not shutil.which('ssh-agent') or not shutil.which('ssh-add'), reason='needs ssh-agent and ssh-add')
@pytest.mark.differs('tells an ssh agent in other words')
def test_an_ssh_agent(modern, agent):
    bring(modern, 'ssh-add')
    base = 'FROM bb\nCOPY root /\n'
    out = modern.ok(base + 'RUN --mount=type=ssh ssh-add -l; ssh-add -l; echo "at $SSH_AUTH_SOCK"; stat -c "%a %u" $SSH_AUTH_SOCK\n'
                    'RUN --mount=type=ssh,target=/tmp/s,uid=1000,mode=0666,required SSH_AUTH_SOCK=/tmp/s ssh-add -l && stat -c "%a %u" /tmp/s\n'
                    'RUN --mount=type=ssh,id=other test -z "$SSH_AUTH_SOCK"\nRUN test ! -S /run/buildkit/ssh_agent.0\n', '--ssh', f'default={agent}')
    assert out.count('a key of a test') == 3 and 'at /run/buildkit/ssh_agent.0' in out
    assert re.search(r'#\d+ [0-9.]+ 600 0', out) and re.search(r'#\d+ [0-9.]+ 666 1000', out)
    assert 'unset ssh forward key' in modern.fails(base + 'RUN --mount=type=ssh,required true\n')


@in_the_full_run
@pytest.mark.container_only('HostConfig.Binds')
@pytest.mark.skipif(not shutil.which('ssh-agent'), reason='needs ssh-agent')
def test_an_agent_of_many_connections(modern, agent):
    bring(modern, 'ssh-add')
    out = modern.ok('FROM bb\nCOPY root /\nRUN --mount=type=ssh for i in $(seq 40); do ssh-add -l & done; wait; ssh-add -l && echo well\n', '--ssh', f'default={agent}')
    assert 'well' in out


@pytest.mark.differs_today('has no flags of RUN in its classic builder')
def test_networks_of_steps(project):  # noqa: F811
    project.ok('FROM bb\nRUN --network=none ls /sys/class/net >/none\nRUN --network=default ls /sys/class/net >/own\n')
    assert project.run('cat', '/none').split() == ['lo'] and 'eth0' in project.run('cat', '/own')


@pytest.mark.berth
@pytest.mark.parametrize('flags, says', [
    ('--security=insecure', 'security.insecure is not allowed'), ('--device=vendor.com/a=b', 'RUN --device=vendor.com/a=b is not supported'),
    ('--mount=type=ssh', 'docker buildx build'), ('--network=else', 'else'),
])
def test_what_steps_do_not_get(project, flags, says):  # noqa: F811
    assert says in project.fails(f'FROM bb\nRUN {flags} true\n')
