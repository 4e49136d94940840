"""What a RUN leaves behind: nothing, which is no layer, or a layer; and a daemon that is killed between two of them."""
import subprocess

import pytest

import engines
from test_build import project, staging  # noqa: F401


def layers(docker, image):
    return docker.inspect(image)['RootFS']['Layers']


def test_a_step_that_changes_nothing_has_no_layer(project, docker):
    steps = 'FROM bb\nRUN :\nRUN cat /etc/passwd >/dev/null; echo seen\nRUN echo made >/made\nRUN :\nRUN rm /made\n'
    out = project.ok(steps)
    assert '\nseen\n' in out
    base, image = layers(docker, 'bb'), project.image
    assert image['RootFS']['Layers'][:-2] == base  # the file, and its whiteout
    history = docker.ok('history', '--no-trunc', '--format', '{{.Size}} {{.CreatedBy}}', project.name).splitlines()
    assert [line.split()[0] for line in history[4::-1]] == ['0B', '0B', '5B', '0B', '0B'] and 'echo made' in history[2]
    again = project.ok(steps)
    assert again.count(' ---> Using cache\n') == 5 and project.image['Id'] == image['Id']
    assert docker.ok('ps', '-aq') == ''


def test_a_step_that_touches_a_file_has_a_layer(project, docker):
    project.ok('FROM bb\nRUN echo kept >/kept && chmod 640 /kept\nRUN touch -d "2001-02-03 04:05:06" /kept\n')
    assert len(layers(docker, project.name)) == len(layers(docker, 'bb')) + 2
    assert project.run('sh', '-c', 'stat -c "%Y %a" /kept; cat /kept') == '981173106 640\nkept'


def test_a_file_that_is_as_it_was(project, docker):
    """What was written and put back, and what came and went: the file and the folder were touched, as overlayfs has it."""
    project.ok('FROM bb\nRUN mkdir /folder && echo one >/folder/file\n'
               'RUN echo two >/folder/file && echo one >/folder/file\nRUN touch /folder/other && rm /folder/other\n')
    assert len(layers(docker, project.name)) == len(layers(docker, 'bb')) + 3
    assert project.run('sh', '-c', 'ls /folder; cat /folder/file') == 'file\none'


def test_a_folder_that_is_there_makes_no_layer(project, docker):
    project.ok('FROM bb\nRUN mkdir /there\nWORKDIR /there\nWORKDIR /made\nCMD pwd\n')
    assert len(layers(docker, project.name)) == len(layers(docker, 'bb')) + 2
    assert project.run() == '/made'


@pytest.mark.berth
def test_a_daemon_that_is_killed_between_steps(project, docker):
    """Steps that were done are found again, whether they had a layer or none; of the one that ran nothing is left."""
    done = 'FROM bb\nRUN : nothing\nRUN echo something >/something\n'
    project.file('Dockerfile', done + 'RUN sleep 1000\n')
    client = subprocess.Popen(project.command(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=project.environment())
    engines.wait_until(lambda: 'sleep 1000' in docker.ok('ps', '--no-trunc', '--format', '{{.Command}}'), 60, 'the last step runs')
    docker.engine.kill9()
    client.communicate()
    docker.engine.start()
    docker.engine.restarted = True
    assert docker.ok('ps', '-aq') == '' and staging(docker) == []
    out = project.ok(done + 'RUN cat /something\n')
    assert out.count(' ---> Using cache\n') == 2 and '\nsomething\n' in out
