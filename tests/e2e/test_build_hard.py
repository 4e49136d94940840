"""Builds that mean harm: files that are too much, steps that will not end, disks that are too small."""
import os
import subprocess
import tarfile

import pytest

import engines
from conftest import Docker
from test_build import Project, context, lines, post, project, staging  # noqa: F401  fixtures

in_the_full_run = pytest.mark.skipif(not os.environ.get('BERTH_E2E_LONG'), reason='hundreds of processes, a daemon of its own: make check-full does it')


def said(api, dockerfile):
    answer = post(api, context(('Dockerfile', tarfile.REGTYPE, dockerfile)))
    return answer.message if answer.status != 200 else lines(answer)[-1]['error']


@pytest.mark.berth
@pytest.mark.parametrize('dockerfile, message', [
    (b'FROM bb\nRUN echo ' + b'x' * 70000 + b'\n', 'dockerfile line greater than max allowed size of 65535'),
    (b'FROM bb\n' + b'ARG A\n' * 600000, 'more than 65536'),
    (b'ARG A\n' * 1000000 + b'FROM bb\n', '4194304'),
    (b'FROM bb\nRUN echo \0 x\n', 'NUL'),
    (b'FROM bb\n' + b'FROM bb\n' * 5000, 'more than 4096 stages'),
    (b'FROM bb\nENV a=xxxxxxxxxx\n' + b'ENV a=$a$a$a$a$a$a$a$a$a$a\n' * 40, 'longer than 131071 bytes'),
    (b'FROM bb AS one\nCOPY --from=two /x /x\nFROM one AS two\nCOPY --from=one /x /x\n', 'circular dependency detected on stage'),
    (b'FROM bb AS one\nCOPY --from=one /x /x\n', 'circular dependency detected on stage'),
    (b'FROM bb\nCOPY --from=7 /x /x\n', '7'),
], ids=['line', 'lines', 'size', 'NUL', 'stages', 'value', 'circle', 'itself', 'number'])
def test_files_that_are_too_much(api, docker, dockerfile, message):
    assert message in said(api, dockerfile)
    assert staging(docker) == []


def test_a_step_that_lets_go_of_its_output(project):  # noqa: F811
    out = project.ok('FROM bb\nRUN echo before; exec >&- 2>&-; echo after >/f; sleep 0.3\nRUN echo x | (sleep 0.1; cat) & wait; cat /f\n')
    assert 'before' in out and 'after' in out


def test_a_step_that_ends_all_it_can(project, docker):  # noqa: F811
    done = project.build('FROM bb\nRUN (sleep 1000 &) ; kill -9 -1; echo on\n', '--force-rm')
    assert done.returncode != 0 or 'on\n' in done.stdout  # whoever of them is first
    assert docker.ok('ps', '-aq') == ''


@in_the_full_run
def test_what_a_step_forks_ends_with_it(project, docker):  # noqa: F811
    """As many as there may be: all go with the step, and with a client that leaves."""
    project.ok('FROM bb\nRUN for i in $(seq 200); do (setsid sleep 1000 >/dev/null 2>&1 &); done\n')
    assert docker.ok('ps', '-aq') == ''
    project.file('Dockerfile', 'FROM bb\nRUN i=0; while [ $i -lt 300 ]; do setsid sleep 1000 & i=$((i+1)); done; echo all; wait\n')
    client = subprocess.Popen(project.command('--no-cache'), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=project.environment(), text=True)
    assert any(line == 'all\n' for line in client.stdout)
    client.terminate()
    client.wait()
    client.stdout.close()
    engines.wait_until(lambda: docker.ok('ps', '-aq') == '' and not staging(docker), 30, 'nothing is left')


@pytest.fixture
def small(busybox, tmp_path):
    """A daemon whose containers have 16 MiB for what they write."""
    with engines.on_a_small_disk('16m', 'containers') as engine:
        docker = Docker(engine, engines.default_cli(), str(tmp_path))
        docker.ok('load', input=busybox)
        yield docker


@in_the_full_run
@pytest.mark.berth
@pytest.mark.container_only('HostConfig.Mounts')
def test_a_step_that_fills_the_disk(small, tmp_path, name):
    folder = tmp_path / 'context'
    folder.mkdir()
    full = Project(small, folder, name)
    done = full.build('FROM bb\nRUN cat /dev/zero >/f\n', '--force-rm')
    assert 'returned a non-zero code: 1' in done.stderr and 'No space left on device' in done.stdout
    assert small.ok('ps', '-aq') == '' and staging(small) == []
    full.ok('FROM bb\nRUN echo well >/f\n')
    assert full.run('cat', '/f') == 'well'
