"""Dockerfiles as people have them, by everybody who builds: packages out of a folder, a C project, an npm project, one static program. What comes of them runs."""
import hashlib
import os
import shutil
import subprocess

import pytest

import engines
from test_build_results import BERTH
from test_buildx import PLUGINS

pytestmark = [pytest.mark.berth, pytest.mark.long, pytest.mark.container_only('HostConfig.Mounts'),
              pytest.mark.skipif(not os.environ.get('BERTH_E2E_LONG'), reason='installs compilers: BERTH_E2E_LONG')]


def run(*words, **more):
    done = subprocess.run(words, capture_output=True, text=True, timeout=600, stdin=subprocess.DEVNULL, **more)
    assert done.returncode == 0, f'{words}: {done.stdout}{done.stderr}'
    return done.stdout


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


# ---- who builds -----------------------------------------------------------------------------------------------------

def compose_file(folder, name):
    """Of the same folder, outside of it."""
    write(folder.parent / 'compose.yaml', f'services:\n  app:\n    image: {name}\n    build: {{context: {folder.name}}}\n')
    return str(folder.parent / 'compose.yaml')


CLIENTS = {
    'classic': lambda folder, name: ((engines.default_cli(), 'build', '-t', name, str(folder)), {'DOCKER_BUILDKIT': '0'}),
    'buildx': lambda folder, name: ((engines.default_cli(), 'buildx', 'build', '-t', name, str(folder)), {}),
    'compose 1': lambda folder, name: (('docker-compose', '-f', compose_file(folder, name), 'build'), {'COMPOSE_API_VERSION': '1.44', 'COMPOSE_DOCKER_CLI_BUILD': '0', 'DOCKER_BUILDKIT': '0'}),
    'compose 2': lambda folder, name: ((engines.default_cli(), 'compose', '-f', compose_file(folder, name), 'build'), {}),
    'berth': lambda folder, name: ((BERTH, 'build', '-t', name, str(folder)), {}),
}


@pytest.fixture(scope='module')
def home(tmp_path_factory):
    """With the plug-ins of the docker CLI."""
    subprocess.run([os.path.join(engines.ROOT, 'tools/peers'), 'plugins-sid'], check=True, timeout=900)
    plugins = tmp_path_factory.mktemp('home') / '.docker/cli-plugins'
    plugins.mkdir(parents=True)
    for name in ('docker-buildx', 'docker-compose'):
        os.symlink(os.path.join(PLUGINS, name), plugins / name)
    return plugins.parent.parent


# ---- what is built --------------------------------------------------------------------------------------------------

def packages(folder):
    """A Debian with a package out of a folder that is a repository."""
    repository = folder / 'repository'
    repository.mkdir()
    run('apt-get', '-qq', '-o', 'APT::Sandbox::User=root', 'download', 'hello', cwd=repository)
    rows = ''
    for name in os.listdir(repository):
        data = (repository / name).read_bytes()
        rows += run('dpkg-deb', '-f', str(repository / name)) + f'Filename: ./{name}\nSize: {len(data)}\nSHA256: {hashlib.sha256(data).hexdigest()}\n\n'
    write(repository / 'Packages', rows)
    write(folder / 'Dockerfile', 'FROM debian:bookworm\nRUN rm -rf /etc/apt/sources.list.d && echo "deb [trusted=yes] file:/repository ./" >/etc/apt/sources.list\n'
          'RUN --mount=type=bind,source=repository,target=/repository apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends hello\n'
          'ENTRYPOINT ["hello"]\nCMD ["--greeting=out of a folder"]\n')
    return 'out of a folder'


def c_project(folder):
    """Two stages: the compiler stays in the first."""
    write(folder / 'src/main.c', '#include <stdio.h>\n#include "say.h"\nint main(void) { puts(WORDS); return 0; }\n')
    write(folder / 'src/say.h', '#define WORDS "compiled"\n')
    write(folder / 'src/Makefile', 'say: main.c say.h\n\t$(CC) -O2 -o $@ main.c\n')
    write(folder / '.dockerignore', '**/*.o\n')
    write(folder / 'Dockerfile', 'FROM debian:bookworm AS tools\nRUN apt-get -qq update && apt-get -qq install -y --no-install-recommends gcc libc6-dev make >/dev/null && rm -rf /var/lib/apt/lists/*\n'
          'FROM tools AS build\nWORKDIR /src\nCOPY src/ ./\nRUN make\nFROM debian:bookworm\nCOPY --from=build --chmod=755 /src/say /usr/local/bin/\nUSER nobody\nCMD ["say"]\n')
    return 'compiled'


def npm_project(folder):
    """A package of another folder and one of the project's own, by a cache that stays."""
    node = shutil.which('node')
    npm = os.path.join(os.path.dirname(os.path.realpath(shutil.which('npm'))), '..')
    shutil.copy(os.path.realpath(node), folder / 'node')
    shutil.copytree(npm, folder / 'npm')
    write(folder / 'dep/package.json', '{"name": "dep", "version": "1.0.0", "main": "index.js"}\n')
    write(folder / 'dep/index.js', "module.exports = () => 'by npm'\n")
    run('tar', '-C', str(folder), '--transform', 's,^dep,package,', '-czf', str(folder / 'dep-1.0.0.tgz'), 'dep')
    write(folder / 'package.json', '{"name": "app", "version": "1.0.0", "dependencies": {"dep": "file:dep-1.0.0.tgz"}}\n')
    write(folder / 'app.js', "console.log(require('dep')())\n")
    write(folder / '.dockerignore', 'dep\nnode_modules\n')
    write(folder / 'Dockerfile', 'FROM debian:bookworm AS node\nCOPY --chmod=755 node /usr/local/bin/\nCOPY npm /usr/local/lib/node_modules/npm\nRUN ln -s ../lib/node_modules/npm/bin/npm-cli.js '
          '/usr/local/bin/npm\nFROM node\nWORKDIR /app\nCOPY package.json *.tgz ./\nRUN --mount=type=cache,target=/root/.npm npm install --offline --no-audit --no-fund\nCOPY app.js .\nCMD ["node", "app.js"]\n')
    return 'by npm'


def static_program(folder):
    """One file and nothing else."""
    write(folder / 'main.c', '#include <stdio.h>\nint main(void) { puts("alone"); return 0; }\n')
    run('gcc', '-static', '-O2', '-o', str(folder / 'alone'), str(folder / 'main.c'))
    write(folder / '.dockerignore', '*\n!alone\n')
    write(folder / 'Dockerfile', 'FROM scratch\nCOPY alone /\nENTRYPOINT ["/alone"]\n')
    return 'alone'


@pytest.mark.parametrize('make', [packages, c_project, npm_project, static_program])
def test_everybody_builds_it(docker, debian, home, name, tmp_path, make):
    if make is npm_project and not (shutil.which('node') and shutil.which('npm')):
        pytest.skip('there is no node here')
    folder = tmp_path / 'project'
    folder.mkdir()
    says, made = make(folder), []
    for client, command in CLIENTS.items():
        if client == 'compose 1' and not shutil.which('docker-compose'):
            continue
        words, more = command(folder, name)
        run(*words, cwd=tmp_path, env={'PATH': os.environ['PATH'], 'HOME': str(home), 'DOCKER_HOST': 'unix://' + docker.engine.socket, **more})
        assert docker.ok('run', '--rm', name) == says, client
        made.append(docker.inspect(name)['RootFS']['Layers'])
        docker.ok('rmi', '-f', name)
    assert len(made) >= 4 and all(layers == made[0] for layers in made), 'one builder, one cache'
