"""One daemon for the session, on a socket of its own, and the programs that drive it: what stands in front of it here are not our words
but the libraries and tools that people have. tools/check-clients gets them."""
import contextlib
import os
import shutil
import subprocess
import sys

import docker
import pytest

sys.dont_write_bytecode = True
ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), '../..'))
sys.path.insert(0, os.path.join(ROOT, 'tests/e2e'))
import engines  # noqa: E402
import images  # noqa: E402

PLUGINS = os.path.join(ROOT, 'build/peers/plugins-sid/usr/libexec/docker/cli-plugins')
IMAGE = 'bb:latest'


@pytest.fixture(scope='session')
def engine():
    engine = engines.Berth()
    try:
        engine.start()
        yield engine
        result = engine.stop_all()
        assert result.returncode == 0, result.stderr
        left = engines.settle(engine.footprint)
        assert not left, 'left on the host after --stop-all:\n' + '\n'.join(left)
    finally:
        if engine.process and engine.process.poll() is None:
            engine.process.kill()
            engine.process.wait()
        engine.remove_folder()


@pytest.fixture(scope='session')
def image(engine):
    """The little image that every test may run."""
    archive = os.path.join(engine.folder, 'bb.tar')
    with open(archive, 'wb') as out:
        out.write(images.docker_archive(IMAGE, [images.busybox_root()])[0])
    subprocess.run([engines.default_cli(), '-H', 'unix://' + engine.socket, 'load', '-q', '-i', archive], check=True, capture_output=True)
    return IMAGE


@pytest.fixture(scope='session')
def home(engine):
    """A home with the plug-ins of the docker CLI, and nothing of the user's who runs the tests."""
    folder = os.path.join(engine.folder, 'home')
    plugins = os.path.join(folder, '.docker/cli-plugins')
    os.makedirs(plugins)
    for name in ('docker-compose', 'docker-buildx'):
        os.symlink(os.path.join(PLUGINS, name), os.path.join(plugins, name))
    return folder


@pytest.fixture(scope='session')
def environment(engine, home):
    kept = {name: os.environ[name] for name in ('PATH', 'LANG') if name in os.environ}
    return {**kept, 'HOME': home, 'DOCKER_HOST': 'unix://' + engine.socket}


@pytest.fixture(autouse=True)
def cleared(engine):
    """What a test leaves is not the next one's trouble; what the engine leaves, the session's end finds."""
    yield
    api = docker.APIClient('unix://' + engine.socket)
    for container in api.containers(all=True):
        with contextlib.suppress(docker.errors.NotFound):  # it was about to go by itself
            api.remove_container(container['Id'], force=True, v=True)
    for network in api.networks():
        if network['Name'] not in ('bridge', 'host', 'none'):
            api.remove_network(network['Id'])
    api.close()


@pytest.fixture
def folder(engine, request):
    path = os.path.join(engine.folder, request.node.name.replace('/', '_'))
    os.makedirs(path)
    yield path
    shutil.rmtree(path)
