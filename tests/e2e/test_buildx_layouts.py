"""Folders of the client's with an OCI layout, by BuildKit's door: caches that go there and come from there, and contexts."""
import hashlib
import json
import re
import tarfile

import pytest

from conftest import IMAGE
from test_buildx import Project, buildx, in_the_full_run, project  # noqa: F401  fixtures
from test_buildx_results import other  # noqa: F401  a fixture

pytestmark = pytest.mark.berth


def blob_of(folder, digest):
    data = (folder / 'blobs' / digest.replace(':', '/')).read_bytes()
    assert 'sha256:' + hashlib.sha256(data).hexdigest() == digest
    return data


def manifest_of(folder):
    index = json.loads((folder / 'index.json').read_text())
    return json.loads(blob_of(folder, index['manifests'][0]['digest']))


@in_the_full_run
def test_a_cache_in_a_folder(project, other, tmp_path):
    """Another daemon makes the same of it, to the bit; what is in the folder is not sent again."""
    text = f'FROM {IMAGE} AS one\nRUN echo one-{project.name} >/one\nFROM {IMAGE}\nCOPY --from=one /one /\nRUN date +%s.%N >/time\nENV A=b\n'
    folder = tmp_path / 'cache'
    out = project.ok(text, '--cache-to', f'type=local,dest={folder},mode=max')
    assert 'exporting cache to client directory' in out
    manifest = manifest_of(folder)
    blob_of(folder, manifest['config']['digest'])
    assert manifest['layers'] and all(blob_of(folder, layer['digest']) for layer in manifest['layers'])
    elsewhere = Project(other, other.docker, project.folder, project.name)
    out = elsewhere.ok(text, '--cache-from', f'type=local,src={folder}')
    assert 'importing cache manifest from local:sha256:' in out and out.count(' CACHED') == 4, out
    assert other.docker.inspect(project.name)['Id'] == project.docker.inspect(project.name)['Id']
    assert other.docker.ok('images', '-q').split() == [other.docker.ok('images', '-q', IMAGE), other.docker.ok('images', '-q', project.name)][::-1]
    times = {path: path.stat().st_mtime_ns for path in (folder / 'blobs/sha256').iterdir()}
    project.ok(text, '--cache-to', f'type=local,dest={folder},mode=max')
    assert times == {path: path.stat().st_mtime_ns for path in (folder / 'blobs/sha256').iterdir()}


@in_the_full_run
def test_a_cache_that_can_not_be_read(project, tmp_path):
    """It is said, and the build goes on."""
    text = f'FROM {IMAGE}\nRUN echo goes-on-{project.name}\n'
    folder = tmp_path / 'cache'
    project.ok(text, '--cache-to', f'type=local,dest={folder}')
    manifest = manifest_of(folder)
    config = folder / 'blobs' / manifest['config']['digest'].replace(':', '/')
    config.chmod(0o644)
    config.write_bytes(b'x' * config.stat().st_size)
    project.docker.ok('rmi', project.name)
    project.buildx.ok('prune', '-af')
    out = project.ok(text, '--cache-from', f'type=local,src={folder}')
    assert re.search(r'importing cache manifest from local:sha256[\s\S]*ERROR', out) and f'goes-on-{project.name}' in out


@pytest.fixture
def layout(project, tmp_path):
    """A folder with an image of one file."""
    project.ok(f'FROM {IMAGE}\nRUN echo from-the-layout >/where\n', '--output', f'type=oci,dest={tmp_path}/image.tar')
    with tarfile.open(tmp_path / 'image.tar') as archive:
        archive.extractall(tmp_path / 'layout')
    return tmp_path / 'layout'


def test_a_context_that_is_a_layout(project, layout):
    project.file('Dockerfile', f'FROM base\nCOPY --from=base /where /again\nRUN cat /where /again\n')
    out = project.buildx.ok(*project.words('--build-context', f'base=oci-layout://{layout}'))
    assert 'of an OCI layout' in out and project.run('cat', '/again') == 'from-the-layout'
    digest = json.loads((layout / 'index.json').read_text())['manifests'][0]['digest']
    out = project.buildx.ok(*project.words('--build-context', f'base=oci-layout://{layout}@{digest}'))
    assert 'of an OCI layout' not in out and re.search(r'#\d+ CACHED', out)  # it is here


@in_the_full_run
def test_a_layout_that_lies(project, layout):
    """A layer that is another, and a manifest that asks for too much."""
    before = project.docker.ok('images', '-aq', '--no-trunc')
    manifest = manifest_of(layout)
    layer = layout / 'blobs' / manifest['layers'][-1]['digest'].replace(':', '/')
    data = bytearray(layer.read_bytes())
    data[600] ^= 1
    layer.chmod(0o644)
    layer.write_bytes(data)
    project.file('Dockerfile', 'FROM base\nRUN true\n')
    project.buildx.ok('prune', '-af')
    assert 'digest' in project.buildx.fails(*project.words('--build-context', f'base=oci-layout://{layout}'))
    layer.unlink()
    assert 'not found' in project.buildx.fails(*project.words('--build-context', f'base=oci-layout://{layout}'))
    assert project.docker.ok('images', '-aq', '--no-trunc') == before
