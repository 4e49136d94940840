"""What becomes of a build by the classic door: --squash, outputs, images of --cache-from; and `berth build --output`."""
import json
import os
import subprocess
import tarfile
import urllib.parse

import pytest

import engines
from conftest import IMAGE, Docker
from test_build import Project, project  # noqa: F401  a fixture
from test_buildx import in_the_full_run

BERTH = os.environ.get('BERTH_CLI', os.path.join(engines.BIN, 'berth'))


def post(project, api, **query):
    """The lines of a build's stream."""
    context = subprocess.run(['tar', '-C', project.folder, '-c', '.'], capture_output=True, check=True).stdout
    answer = api.post('/build?' + urllib.parse.urlencode(query), body=context, headers={'Content-Type': 'application/x-tar'})
    assert answer.status == 200, answer
    return [json.loads(line) for line in answer.body.decode().split('\r\n') if line]


@pytest.mark.differs_today('Docker squashes in experimental mode alone')
def test_one_layer_of_the_new_ones(project, api):
    project.file('gone', 'x' * 100000)
    project.file('Dockerfile', f'FROM {IMAGE}\nCOPY gone /gone\nRUN rm /gone /bin/rev && echo kept >/kept\nENV A=b\n')
    lines = post(project, api, t=project.name, squash='1')
    assert not [line for line in lines if 'error' in line], lines
    base, image = project.docker.inspect(IMAGE), project.image
    assert len(image['RootFS']['Layers']) == len(base['RootFS']['Layers']) + 1 and 'A=b' in image['Config']['Env']
    assert image['Size'] < base['Size'] + 50000
    assert project.run('cat', '/kept') == 'kept'
    assert project.docker('run', '--rm', project.name, 'ls', '/gone', '/bin/rev').code != 0
    history = project.docker.ok('history', '--no-trunc', '--format', '{{.Comment}}|{{.CreatedBy}}', project.name).split('\n')
    assert history[0].startswith('merge sha256:') and any('ENV A=b' in row for row in history)


@pytest.mark.differs_today('Docker takes all of one size and time for the same')
def test_a_squash_compares_contents(project, api):
    """Files of one size and time are not the same for that."""
    for path, text in (('one', 'first'), ('two', 'other')):
        project.file(path, text)
        os.utime(os.path.join(project.folder, path), (1700000000, 1700000000))
    project.file('Dockerfile', f'FROM {IMAGE}\nCOPY one /file\n')
    post(project, api, t=project.name + '-base')
    project.file('Dockerfile', f'FROM {project.name}-base\nCOPY two /file\n')
    post(project, api, t=project.name, squash='1')
    assert project.run('cat', '/file') == 'other'
    project.docker.ok('rmi', project.name, project.name + '-base')


@pytest.mark.berth
def test_an_image_of_cache_from_that_is_not_there(project):
    out = project.ok(f'FROM {IMAGE}\nRUN true\n', '--cache-from', 'no/such:image')
    assert '[Warning] --cache-from no/such:image is passed over: No such image: no/such:image' in out


@pytest.mark.berth
def test_outputs_of_the_classic_door(project, api):
    project.file('Dockerfile', f'FROM {IMAGE}\nRUN echo {project.name}\n')
    before = project.docker.ok('images', '-aq')
    assert any('Successfully built' in line.get('stream', '') for line in post(project, api, outputs='[{"Type":"cacheonly"}]'))
    assert project.docker.ok('images', '-aq') == before
    for outputs, status in (('[{"Type":"local","Attrs":{}}]', 501), ('[{"Type":"image"},{"Type":"image"}]', 400), ('{', 400),
                            ('[{"Type":"image","Attrs":{"push":"true"}}]', 501)):
        answer = api.post('/build?' + urllib.parse.urlencode({'outputs': outputs}), body=b'', headers={'Content-Type': 'application/x-tar'})
        assert answer.status == status, answer


@pytest.mark.berth
def test_berth_build_output(project, tmp_path):
    project.file('hello', 'from the result\n', 0o755)
    project.file('Dockerfile', 'FROM scratch\nCOPY hello /srv/hello\n')
    before = project.docker.ok('images', '-aq')

    def build(*options):
        done = subprocess.run([BERTH, '-H', 'unix://' + project.docker.engine.socket, 'build', *options, project.folder], capture_output=True, timeout=60)
        assert done.returncode == 0, done
        return done.stdout

    build('-o', str(tmp_path / 'out'))
    assert (tmp_path / 'out/srv/hello').read_text() == 'from the result\n' and os.access(tmp_path / 'out/srv/hello', os.X_OK)
    (tmp_path / 'piped.tar').write_bytes(build('--output', '-'))
    build('--output', f'type=oci,dest={tmp_path}/oci.tar')
    for name, member in (('piped.tar', 'srv/hello'), ('oci.tar', 'index.json')):
        with tarfile.open(tmp_path / name) as archive:
            assert archive.getmember(member)
    assert project.docker.ok('images', '-aq') == before and project.docker.ok('ps', '-aq') == ''
    for value, says in (('type=local', b'dest is required'), ('type=odd', b'type=odd'), ('type=oci,dest=x,compression=zstd', b'compression')):
        done = subprocess.run([BERTH, '-H', 'unix://' + project.docker.engine.socket, 'build', '-o', value, project.folder], capture_output=True, timeout=60)
        assert done.returncode != 0 and says in done.stderr


class Experimental(engines.Berth):
    def command(self):
        return [*super().command(), '--experimental']


@in_the_full_run
@pytest.mark.berth
def test_squash_by_the_client(busybox, tmp_path, name):
    """The docker CLI sends it to a daemon in experimental mode alone."""
    (tmp_path / 'context').mkdir()
    engine = Experimental().start()
    try:
        docker = Docker(engine, engines.default_cli(), str(tmp_path))
        docker.ok('load', input=busybox)
        Project(docker, tmp_path / 'context', name).ok(f'FROM {IMAGE}\nRUN echo one >/one\nRUN echo two >/two\n', '--squash')
        assert len(docker.inspect(name)['RootFS']['Layers']) == len(docker.inspect(IMAGE)['RootFS']['Layers']) + 1
        assert docker.ok('run', '--rm', name, 'cat', '/one', '/two').split() == ['one', 'two']
        assert engine.stop_all().returncode == 0
    finally:
        if engine.process.poll() is None:
            engine.process.kill()
        engine.process.wait()
        engine.remove_folder()
