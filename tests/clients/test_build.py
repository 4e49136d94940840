"""Images built by the classic door's clients: docker-compose 1.29 (python3-docker sends the context), `docker compose` 2 with
DOCKER_BUILDKIT=0, python3-docker itself."""
import io
import os
import subprocess

import docker
import pytest

DOCKERFILE = 'FROM bb:latest\nARG WORD=none\nCOPY hello /hello\nRUN echo $WORD >>/hello\nCMD ["cat", "/hello"]\n'
PROJECT = 'services:\n  one:\n    build: {context: ./one, args: {WORD: said}}\n    image: made-by-compose\n'


@pytest.fixture
def project(folder):
    os.mkdir(os.path.join(folder, 'one'))
    for name, text in (('docker-compose.yml', PROJECT), ('one/Dockerfile', DOCKERFILE), ('one/hello', 'hello\n')):
        with open(os.path.join(folder, name), 'w') as file:
            file.write(text)
    return folder


@pytest.mark.parametrize('command', ['docker-compose', 'docker compose'])
def test_compose_builds(command, project, environment, image):
    def compose(*words):
        return subprocess.run(['timeout', '-s', 'KILL', '60', *command.split(), '-p', 'made', *words], cwd=project, stdin=subprocess.DEVNULL,
                              env={**environment, 'COMPOSE_API_VERSION': '1.44', 'DOCKER_BUILDKIT': '0', 'COMPOSE_DOCKER_CLI_BUILD': '0'}, capture_output=True, text=True)
    done = compose('build')
    assert done.returncode == 0, done.stdout + done.stderr
    done = compose('run', '--rm', '-T', 'one')
    assert done.stdout == 'hello\nsaid\n', done
    compose('down', '--rmi', 'all')


def test_python_docker_builds(engine, image, project):
    client = docker.DockerClient(base_url='unix://' + engine.socket, version='auto')
    made, log = client.images.build(path=os.path.join(project, 'one'), tag='made-by-python', buildargs={'WORD': 'python'}, rm=True)
    assert client.containers.run(made.id, remove=True) == b'hello\npython\n'
    assert any('Successfully built' in line.get('stream', '') for line in log)
    with pytest.raises(docker.errors.BuildError) as error:
        client.images.build(fileobj=io.BytesIO(b'FROM bb:latest\nRUN exit 5\n'), rm=True, forcerm=True)
    assert 'returned a non-zero code: 5' in str(error.value)
    client.images.remove('made-by-python')
    client.close()
