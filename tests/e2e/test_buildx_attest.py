"""Results of builds that are more than an image: what attests them, annotations, compression, several platforms."""
import base64
import hashlib
import io
import json
import tarfile

import pytest

from conftest import IMAGE
from test_buildx import buildx, in_the_full_run, project  # noqa: F401  fixtures
from test_pull import registry  # noqa: F401  a fixture

pytestmark = pytest.mark.berth

V1, V02 = 'https://slsa.dev/provenance/v1', 'https://slsa.dev/provenance/v0.2'


class Layout:
    """An OCI layout, out of an archive or a folder."""

    def __init__(self, path):
        self.files = {}
        if path.is_dir():
            self.files = {str(file.relative_to(path)): file.read_bytes() for file in path.rglob('*') if file.is_file()}
        else:
            with tarfile.open(path) as archive:
                self.files = {member.name: archive.extractfile(member).read() for member in archive if member.isfile()}
        self.index = json.loads(self.files['index.json'])
        self.top = self.index['manifests'][0]

    def blob(self, descriptor):
        data = self.files['blobs/' + descriptor['digest'].replace(':', '/')]
        assert 'sha256:' + hashlib.sha256(data).hexdigest() == descriptor['digest'] and len(data) == descriptor['size']
        return data

    def document(self, descriptor):
        return json.loads(self.blob(descriptor))


def check_attested(manifests, document, name):
    """An index of an image and of what attests it; the statement's predicate."""
    image, attest = manifests
    assert image['platform'] == {'architecture': 'amd64', 'os': 'linux'}
    assert attest['platform'] == {'architecture': 'unknown', 'os': 'unknown'}
    assert attest['annotations'] == {'vnd.docker.reference.digest': image['digest'], 'vnd.docker.reference.type': 'attestation-manifest'}
    manifest = document(attest)
    config = document(manifest['config'])
    assert config['rootfs']['diff_ids'] == [layer['digest'] for layer in manifest['layers']] and config['os'] == 'unknown'
    statement = document(manifest['layers'][0])
    assert manifest['layers'][0]['mediaType'] == 'application/vnd.in-toto+json'
    assert manifest['layers'][0]['annotations'] == {'in-toto.io/predicate-type': statement['predicateType']}
    assert statement['subject'] == [{'name': f'pkg:docker/{name}?platform=linux%2Famd64', 'digest': {'sha256': image['digest'][7:]}}]
    return statement['predicateType'], statement['predicate']


def test_provenance_of_an_archive(project, tmp_path):
    project.file('hello', 'hello\n')
    text = f'FROM {IMAGE}\nARG WHAT\nRUN --mount=type=secret,id=token true\nCOPY hello /\n'
    out = tmp_path / 'image.tar'
    project.ok(text, '--attest', 'type=provenance,mode=max', '--output', f'type=oci,dest={out}', '--build-arg', 'WHAT=much', '--label', 'a=b')
    layout = Layout(out)
    kind, predicate = check_attested(layout.document(layout.top)['manifests'], layout.document, f'{project.name}@latest')
    request = predicate['buildDefinition']['externalParameters']['request']
    assert kind == V1 and request['args']['build-arg:WHAT'] == 'much' and request['args']['label:a'] == 'b'
    assert request['secrets'] == [{'id': 'token', 'optional': True}] and {'name': 'context'} in request['locals']
    assert predicate['buildDefinition']['externalParameters']['configSource'] == {'path': 'Dockerfile'}
    (base,) = predicate['buildDefinition']['resolvedDependencies']
    assert base['uri'] == f'pkg:docker/{IMAGE.replace(":", "@")}?platform=linux%2Famd64' and len(base['digest']['sha256']) == 64
    metadata = predicate['runDetails']['metadata']
    assert metadata['startedOn'] <= metadata['finishedOn'] and metadata['buildkit_completeness'] == {'request': True, 'resolvedDependencies': False}
    assert 'FROM' in base64.b64decode(metadata['buildkit_metadata']['source']['infos'][0]['data']).decode()
    project.docker.ok('load', '-i', str(out))  # what attests it is passed over
    assert project.run('cat', '/hello') == 'hello'


@in_the_full_run
def test_provenance_that_says_less(project, tmp_path):
    """mode=min has no arguments; version 0.2 is the same in its words; nothing is there unasked."""
    text = f'FROM {IMAGE}\nARG WHAT\n'
    out = tmp_path / 'image.tar'
    project.ok(text, '--provenance', 'mode=min,version=v0.2,builder-id=me', '--output', f'type=oci,dest={out}', '--build-arg', 'WHAT=much')
    layout = Layout(out)
    kind, predicate = check_attested(layout.document(layout.top)['manifests'], layout.document, f'{project.name}@latest')
    assert kind == V02 and predicate['builder'] == {'id': 'me'} and predicate['invocation']['configSource'] == {'entryPoint': 'Dockerfile'}
    assert 'build-arg:WHAT' not in json.dumps(predicate) and predicate['metadata']['completeness'] == {'parameters': False, 'environment': True, 'materials': False}
    project.ok(text, '--output', f'type=oci,dest={out}')
    assert Layout(out).top['mediaType'] == 'application/vnd.oci.image.manifest.v1+json'
    project.ok(text, '--provenance', 'true')  # the daemon's own images have no place for it
    assert 'invalid mode odd' in project.fails(text, '--provenance', 'mode=odd')
    assert 'capture-usage' in project.fails(text, '--provenance', 'capture-usage=true')


@in_the_full_run
def test_provenance_of_a_push(project, registry, docker):
    name = f'{registry.address}/team/app'
    project.file('Dockerfile', f'FROM {IMAGE}\nRUN echo attested >/what\n')
    out = project.buildx.ok('build', '--progress', 'plain', '-t', f'{name}:1', '-t', f'{name}:2', '--provenance', 'true', '--push', str(project.folder))
    assert f'pushing {name}:1' in out and ('team/app', '1') in registry.manifests and ('team/app', '2') in registry.manifests
    shown = json.loads(project.buildx.ok('imagetools', 'inspect', '--format', '{{json .Provenance}}', f'{name}:1'))
    assert shown['SLSA']['buildDefinition']['externalParameters']['request']['frontend'] == 'dockerfile.v0'
    raw = json.loads(project.buildx.ok('imagetools', 'inspect', '--raw', f'{name}:1'))
    assert raw['mediaType'] == 'application/vnd.oci.image.index.v1+json' and len(raw['manifests']) == 2
    docker.ok('rmi', f'{name}:1', f'{name}:2')
    docker.ok('pull', f'{name}:1')
    assert docker.ok('run', '--rm', f'{name}:1', 'cat', '/what') == 'attested'
    docker.ok('rmi', f'{name}:1')


@in_the_full_run
def test_provenance_of_files(project, tmp_path):
    project.file('tree/a', 'a')
    project.file('tree/z/b', 'b')
    text = 'FROM scratch\nCOPY tree /\n'
    project.ok(text, '--provenance', 'mode=min', '--output', f'type=local,dest={tmp_path}/out', '--output', f'type=tar,dest={tmp_path}/out.tar')
    statement = json.loads((tmp_path / 'out/provenance.json').read_text())
    digest = hashlib.sha256(b'b').hexdigest()
    assert statement['predicateType'] == V1 and {'name': 'z/b', 'digest': {'sha256': digest}} in statement['subject']
    assert (tmp_path / 'out/z/b').read_text() == 'b' and not (tmp_path / 'out/z/provenance.json').exists()
    with tarfile.open(tmp_path / 'out.tar') as archive:
        assert {member.name.strip('/') for member in archive} == {'a', 'provenance.json', 'z', 'z/b'}


# ---- bills of materials ---------------------------------------------------------------------------------------------

GENERATOR = """#!/bin/sh
set -e
test -r /run/src/core/sbom/made && test "$PWD" = /work && test "$(id -u)" = 7 && touch /tmp/may
! touch /run/src/core/sbom/not 2>/dev/null
{predicate}
"""
STATEMENT = ('echo "{\\"_type\\":\\"https://in-toto.io/Statement/v0.1\\",\\"predicateType\\":\\"https://spdx.dev/Document\\",'
             '\\"predicate\\":{\\"name\\":\\"$(cat $BUILDKIT_SCAN_SOURCE/made)\\"}}" >$BUILDKIT_SCAN_DESTINATION/sbom.spdx.json')


def make_generator(project, what):
    project.file('generator/scan', GENERATOR.replace('{predicate}', what), 0o755)
    project.file('generator/Dockerfile', f'FROM {IMAGE}\nCOPY scan /\nWORKDIR /work\nUSER 7\nENTRYPOINT ["/scan"]\n')
    project.buildx.ok('build', '-t', f'{project.name}-generator', str(project.folder / 'generator'))


@in_the_full_run
@pytest.mark.container_only('HostConfig.Mounts')
def test_a_bill_of_materials(project, registry, tmp_path, docker):
    make_generator(project, STATEMENT)
    project.file('Dockerfile', f'FROM {IMAGE}\nRUN echo -n sand >/made\n')
    name, before = f'{registry.address}/team/app:1', docker.ok('images', '-aq')
    sbom = ('--attest', f'type=sbom,generator={project.name}-generator')
    out = project.buildx.ok('build', '--progress', 'plain', '-t', name, *sbom, '--provenance', 'mode=min', '--push', str(project.folder))
    assert f'generating sbom using {project.name}-generator' in out
    assert json.loads(project.buildx.ok('imagetools', 'inspect', '--format', '{{json .SBOM}}', name)) == {'SPDX': {'name': 'sand'}}
    assert 'SLSA' in json.loads(project.buildx.ok('imagetools', 'inspect', '--format', '{{json .Provenance}}', name))
    docker.ok('rmi', name)
    assert docker.ok('images', '-aq') == before
    project.ok(f'FROM {IMAGE}\nRUN echo -n sand >/made\n', *sbom, '--output', f'type=local,dest={tmp_path}/out')
    assert json.loads((tmp_path / 'out/sbom.spdx.json').read_text())['predicate'] == {'name': 'sand'}


@in_the_full_run
@pytest.mark.container_only('HostConfig.Mounts')
@pytest.mark.parametrize('what, says', [
    ('echo broken; exit 3', 'exit code: 3'), ('true', 'wrote no'), ('echo no-json >/run/out/sbom.spdx.json', 'sbom.spdx.json'),
    ('echo "{}" >/run/out/sbom.spdx.json', 'does not match required predicate type'), ('ln -s /etc/passwd /run/out/sbom.spdx.json', 'wrote no')])
def test_a_generator_that_fails(project, tmp_path, what, says):
    make_generator(project, what)
    out = project.fails(f'FROM {IMAGE}\nRUN echo -n sand >/made\n', '--attest', f'type=sbom,generator={project.name}-generator', '--output',
                        f'type=oci,dest={tmp_path}/x')
    assert says in out


# ---- the form of what comes ----------------------------------------------------------------------------------------

@in_the_full_run
def test_compression_and_annotations(project, tmp_path, docker):
    text = f'FROM {IMAGE}\nRUN echo squeezed >/what\n'
    out = tmp_path / 'image.tar'
    for compression, magic in (('gzip', b'\x1f\x8b'), ('zstd', b'\x28\xb5\x2f\xfd')):
        project.ok(text, '--output', f'type=oci,dest={out},compression={compression},compression-level=9,force-compression=true,'
                   'annotation.a=b,annotation-manifest-descriptor.c=d')
        layout = Layout(out)
        manifest = layout.document(layout.top)
        assert manifest['annotations'] == {'a': 'b'} and layout.top['annotations']['c'] == 'd'
        for layer in manifest['layers']:
            assert layout.blob(layer).startswith(magic) and layer['mediaType'].endswith(f'+{compression}')
        docker.ok('load', '-i', str(out))
        assert project.run('cat', '/what') == 'squeezed'
        docker.ok('rmi', project.name)
    project.ok(text, '--output', f'type=docker,dest={out},compression=gzip,oci-mediatypes=false')
    assert Layout(out).top['mediaType'] == 'application/vnd.docker.distribution.manifest.v2+json'
    project.ok(text, '--output', f'type=oci,dest={tmp_path}/folder,tar=false,compression=gzip')
    layout = Layout(tmp_path / 'folder')
    assert layout.top['annotations']['io.containerd.image.name'] == f'docker.io/library/{project.name}:latest'
    assert len([layout.blob(layer) for layer in layout.document(layout.top)['layers']]) == 2


@in_the_full_run
@pytest.mark.parametrize('output, says', [
    ('type=oci,dest=x,compression=estargz', 'compression=estargz is not supported'), ('type=oci,dest=x,compression=zstd,oci-mediatypes=false', 'conflicts'),
    ('type=oci,dest=x,compression=gzip,compression-level=12', '0 to 9'), ('type=oci,dest=x,annotation-odd.a=b', 'unrecognized annotation type'),
    ('type=oci,dest=x,annotation-index.a=b', 'index annotations not supported'), ('type=oci,dest=x,odd=1', 'odd=1 is not supported'),
    ('type=image,compression=zstd', 'without push=true')])
def test_forms_that_can_not_be(project, output, says, tmp_path):
    project.file('Dockerfile', f'FROM {IMAGE}\n')
    assert says in project.buildx.fails(*project.words('--output', output), cwd=tmp_path)


@in_the_full_run
def test_a_push_by_digest(project, registry, docker):
    name = f'{registry.address}/team/app'
    project.file('Dockerfile', f'FROM {IMAGE}\nRUN echo by-digest >/what\n')
    project.buildx.ok('create', '--name', 'straight', '--driver', 'remote', 'unix://' + docker.engine.socket)
    project.buildx.ok('build', '--builder', 'straight', '--output', f'type=image,"name={name}",push-by-digest=true,name-canonical=true,push=true,annotation.a=b,oci-mediatypes=true',
                      '--metadata-file', str(project.folder / 'meta'), str(project.folder))
    digest = json.loads((project.folder / 'meta').read_text())['containerimage.digest']
    assert ('team/app', digest) in registry.manifests and ('team/app', 'latest') not in registry.manifests
    assert docker.ok('images', '-q', name) == ''
    docker.ok('pull', f'{name}@{digest}')
    assert docker.ok('run', '--rm', f'{name}@{digest}', 'cat', '/what') == 'by-digest'
    docker.ok('rmi', f'{name}@{digest}')
    project.buildx.ok('rm', 'straight')


# ---- several platforms ----------------------------------------------------------------------------------------------

SEVERAL = (f'FROM --platform=$BUILDPLATFORM {IMAGE} AS one\nARG TARGETPLATFORM TARGETARCH\nRUN echo $TARGETPLATFORM >/for\n'
           'FROM scratch\nCOPY --from=one /for /\n')


def test_several_platforms(project, registry, tmp_path, docker):
    name = f'{registry.address}/team/several:1'
    project.file('Dockerfile', SEVERAL)
    out = project.buildx.ok('build', '--progress', 'plain', '--platform', 'linux/amd64,linux/arm64', '-t', name, '--push', str(project.folder))
    assert '[linux/arm64 one 3/3] RUN' in out and '[linux/amd64 stage-1 2/2] COPY' in out
    index = json.loads(project.buildx.ok('imagetools', 'inspect', '--raw', name))
    assert [entry['platform']['architecture'] for entry in index['manifests']] == ['amd64', 'arm64']
    assert docker.inspect(name)['Architecture'] == 'amd64'
    docker.ok('rmi', name)
    docker.ok('pull', '--platform', 'linux/arm64', name)
    assert docker.inspect(name)['Architecture'] == 'arm64'
    docker.ok('rmi', name)


@in_the_full_run
def test_several_platforms_as_files(project, tmp_path):
    out = tmp_path / 'image.tar'
    project.ok(SEVERAL, '--platform', 'linux/amd64,linux/arm64', '--provenance', 'true', '--output', f'type=oci,dest={out},annotation-index.a=b,'
               'annotation-manifest[linux/arm64].c=d', '--output', f'type=local,dest={tmp_path}/out', '--output', f'type=tar,dest={tmp_path}/out.tar')
    layout = Layout(out)
    index = layout.document(layout.top)
    assert index['annotations'] == {'a': 'b'} and len(index['manifests']) == 4
    for entry, platform in zip(index['manifests'], ('linux/amd64', 'linux/arm64')):
        manifest = layout.document(entry)
        assert manifest.get('annotations', {}) == ({'c': 'd'} if platform == 'linux/arm64' else {})
        with tarfile.open(fileobj=io.BytesIO(layout.blob(manifest['layers'][0]))) as layer:
            assert layer.extractfile('for').read().decode() == platform + '\n'
        folder = tmp_path / 'out' / platform.replace('/', '_')
        assert (folder / 'for').read_text() == platform + '\n' and 'slsa' in (folder / 'provenance.json').read_text()
    with tarfile.open(tmp_path / 'out.tar') as archive:
        assert 'linux_arm64/for' in archive.getnames() and 'linux_amd64/provenance.json' in archive.getnames()


@in_the_full_run
def test_several_platforms_that_can_not_be(project, tmp_path, registry):
    both = ('--platform', 'linux/amd64,linux/arm64')
    assert 'exporting multiple references to image store is currently unsupported' in project.fails(SEVERAL, *both, '--output', 'type=image')
    assert 'support exporting manifest lists' in project.fails(SEVERAL, *both, '--output', f'type=docker,dest={tmp_path}/x')
    out = project.fails(f'FROM {IMAGE}\nRUN true\n', '--platform', 'linux/arm64')  # nobody has that image for it
    assert IMAGE in out
