"""Stages of one Dockerfile side by side, through both doors: who waits for whom, who says what when, and what is left when it ends early."""
import os
import re
import subprocess
import tarfile
import threading
import time

import pytest

import engines
from test_build import Project, context, lines, project, staging  # noqa: F401
from test_buildx import PLUGINS, Buildx

# Each of two stages goes on when it has seen the other: one after the other they would wait for ever.
MEET = ('FROM bb AS one\nRUN --mount=type=cache,id=ID,target=/c touch /c/one; N=0; until [ -e /c/two ]; do sleep 0.1; N=$((N+1)); [ $N -lt 300 ] || exit 9; done; '
        'echo from one >/f\n'
        'FROM bb AS two\nRUN --mount=type=cache,id=ID,target=/c touch /c/two; N=0; until [ -e /c/one ]; do sleep 0.1; N=$((N+1)); [ $N -lt 300 ] || exit 9; done; '
        'echo from two >/f\n'
        'FROM bb\nCOPY --from=one /f /one\nCOPY --from=two /f /two\n')


@pytest.mark.differs_today('builds one stage after the other in its classic builder')
@pytest.mark.container_only('HostConfig.Mounts')
def test_two_stages_at_once_speak_in_order(project, name):
    out = project.ok(MEET.replace('ID', name), '--no-cache')
    assert project.run('cat', '/one', '/two').split('\n') == ['from one', 'from two']
    assert re.findall(r'^Step (\d+)/7', out, re.M) == list('1234567')
    assert out.index('Step 2/7') < out.index('Running in') < out.index('Step 4/7')


@pytest.mark.differs_today('builds one stage after the other in its classic builder')
@pytest.mark.container_only('HostConfig.Mounts')
def test_a_step_of_two_stages_is_done_once(project, name):
    step = f'RUN --mount=type=cache,id={name},target=/c echo done >>/c/times; sleep 0.3; cp /c/times /times\n'
    project.ok(f'FROM bb AS one\n{step}FROM bb AS two\n{step}RUN echo two >/two\nFROM bb\nCOPY --from=one /times /one\nCOPY --from=two /times /two\n')
    assert project.run('cat', '/one', '/two').split() == ['done', 'done']


FAILS = 'FROM bb AS slow\nRUN sleep 1000\nFROM bb AS bad\nRUN sleep 0.5; echo it is me; exit 3\nFROM bb\nCOPY --from=slow / /s\nCOPY --from=bad / /b\n'


@pytest.mark.differs_today('builds one stage after the other in its classic builder')
def test_a_failure_ends_the_others(project, docker):
    done = project.build(FAILS, '--force-rm')
    assert done.returncode == 3 and "The command '/bin/sh -c sleep 0.5; echo it is me; exit 3' returned a non-zero code: 3" in done.stderr
    assert 'it is me\n' in done.stdout and docker.ok('ps', '-aq') == '' and staging(docker) == []
    quiet = project.build(FAILS, '--force-rm', '-q')
    assert quiet.returncode == 3 and 'it is me' in quiet.stdout + quiet.stderr


LONG = 'FROM bb AS one\nRUN sleep 1000\nFROM bb AS two\nRUN sleep 1001\nFROM bb\nCOPY --from=one / /1\nCOPY --from=two / /2\n'


def two_run(docker):
    engines.wait_until(lambda: len(docker.ok('ps', '-q').split()) == 2, 20, 'both steps run')


@pytest.mark.differs_today('builds one stage after the other in its classic builder')
def test_both_end_with_their_client(project, docker):
    project.file('Dockerfile', LONG)
    client = subprocess.Popen(project.command('--no-cache'), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=project.environment())
    two_run(docker)
    client.terminate()
    client.wait()
    engines.wait_until(lambda: not docker.ok('ps', '-aq') and not staging(docker), 20, 'nothing is left')


@pytest.mark.berth
def test_both_end_with_a_daemon_that_was_killed(project, docker):
    project.file('Dockerfile', LONG)
    client = subprocess.Popen(project.command('--no-cache'), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=project.environment())
    two_run(docker)
    docker.engine.kill9()
    client.wait()
    docker.engine.start()
    docker.engine.restarted = True
    assert docker.ok('ps', '-aq') == '' and staging(docker) == []


@pytest.mark.differs_today('cancels builds of BuildKit alone')
def test_cancelling_by_id(api, docker):
    answers = []
    body = context(('Dockerfile', tarfile.REGTYPE, LONG.encode()))

    def build():
        answers.append(api.post('/build?buildid=some-id&nocache=1', body, headers={'Content-Type': 'application/x-tar'}))
    assert (api.post('/build/cancel').status, api.post('/build/cancel').message) == (400, 'build ID not provided')
    thread = threading.Thread(target=build)
    thread.start()
    two_run(docker)
    assert api.post('/build/cancel?id=another').status == 200
    time.sleep(0.2)
    assert thread.is_alive()
    assert api.post('/build/cancel?id=some-id').status == 200
    thread.join(30)
    assert 'cancelled' in lines(answers[0])[-1]['error']
    assert docker.ok('ps', '-aq') == '' and staging(docker) == []


def test_many_stages_of_many(project):
    """Each stands on one above and copies of another: none waits for ever, and the last has all."""
    text = 'FROM bb AS s0\nRUN echo 0 >>/all\n'
    text += ''.join(f'FROM s{i // 2} AS s{i}\nCOPY --from=s{i - 1} /all /all{i}\n' for i in range(1, 30))
    project.ok(text)
    assert project.run('sh', '-c', 'ls -d /all*').split() == sorted(['/all', '/all1', '/all3', '/all7', '/all14', '/all29'])


# ---- by BuildKit's door ---------------------------------------------------------------------------------------------

@pytest.fixture
def buildx(docker, tmp_path):
    if not os.path.exists(os.path.join(PLUGINS, 'docker-buildx')):
        pytest.skip('the plug-in is not here: tools/peers plugins-sid fetches it, make check-full does')
    plugins = tmp_path / 'home/.docker/cli-plugins'
    plugins.mkdir(parents=True)
    os.symlink(os.path.join(PLUGINS, 'docker-buildx'), plugins / 'docker-buildx')
    return Buildx(docker, tmp_path / 'home')


@pytest.mark.container_only('HostConfig.Mounts')
def test_steps_of_stages_overlap(buildx, docker, tmp_path, name):
    folder = tmp_path / 'context'
    folder.mkdir()
    (folder / 'Dockerfile').write_text(MEET.replace('ID', name + 'x'))
    words = ('build', '--progress', 'plain', '--no-cache', '-t', name, str(folder))
    out = buildx.ok(*words)
    assert re.search(r'\[one 2/2\] RUN ', out) and re.search(r'\[two 2/2\] RUN ', out) and re.search(r'\[stage-2 3/3\] COPY --from=two', out)
    assert docker.ok('run', '--rm', name, 'cat', '/one', '/two').split('\n') == ['from one', 'from two']
    docker.ok('rmi', name)


def test_the_others_are_cancelled(buildx, docker, tmp_path, name):
    folder = tmp_path / 'context'
    folder.mkdir()
    (folder / 'Dockerfile').write_text(FAILS)
    out = buildx.fails('build', '--progress', 'plain', '-t', name, str(folder))
    assert re.search(r'\[bad 2/2\] RUN sleep 0.5; echo it is me; exit 3', out) and 'exit code: 3' in out
    slow = re.search(r'#(\d+) \[slow 2/2\] RUN sleep 1000', out)
    assert slow and f'#{slow[1]} CANCELED' in out
