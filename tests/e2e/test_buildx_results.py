"""What becomes of a build by BuildKit's door: folders, archives, pushes, caches of other daemons, answers about a Dockerfile, the history."""
import gzip
import hashlib
import io
import json
import os
import re
import subprocess
import tarfile

import pytest

import engines
import registries
from conftest import IMAGE, Docker
from test_buildx import Buildx, Project, buildx, in_the_full_run, project  # noqa: F401  fixtures
from test_pull import registry  # noqa: F401  a fixture

pytestmark = pytest.mark.berth

SMALL = 'FROM scratch\nCOPY tree /\n'


def images_of(docker):
    return set(docker.ok('images', '-aq', '--no-trunc').split())


@pytest.fixture
def tree(project):
    project.file('tree/bin/run', '#!/bin/sh\n', 0o755)
    project.file('tree/empty')
    project.file('tree/' + 'n' * 120 + '/long', 'long')
    project.file('tree/big', os.urandom(3 << 20))
    os.symlink('bin/run', project.folder / 'tree/link')
    os.link(project.folder / 'tree/big', project.folder / 'tree/twin')
    return project


def test_a_folder_of_the_clients(tree, tmp_path, docker):
    before, out = images_of(docker), tmp_path / 'out'
    (out / 'kept').mkdir(parents=True)
    said = tree.ok(SMALL, '--output', f'type=local,dest={out}')
    assert 'exporting to client directory' in said
    assert (out / 'kept').is_dir() and (out / 'empty').read_bytes() == b'' and os.readlink(out / 'link') == 'bin/run'
    assert (out / ('n' * 120) / 'long').read_text() == 'long'
    assert (out / 'big').read_bytes() == (tree.folder / 'tree/big').read_bytes() == (out / 'twin').read_bytes()
    assert (out / 'bin/run').stat().st_mode & 0o7777 == 0o755
    assert images_of(docker) == before


def members(path):
    with tarfile.open(path) as archive:
        return {member.name: member for member in archive}


@in_the_full_run
def test_a_tar_of_files(tree, tmp_path):
    tree.ok(SMALL, '--output', f'type=tar,dest={tmp_path}/out.tar', '--build-arg', 'SOURCE_DATE_EPOCH=1700000000')
    found = members(tmp_path / 'out.tar')
    assert found['bin/run'].mode == 0o755 and found['link'].linkname == 'bin/run' and found['big'].size == 3 << 20
    assert {member.mtime for member in found.values()} == {1700000000}


def blob(archive, digest):
    data = archive.extractfile('blobs/' + digest.replace(':', '/')).read()
    assert 'sha256:' + hashlib.sha256(data).hexdigest() == digest
    return data


def test_the_same_input_is_the_same_archive(project, tmp_path):
    text = f'FROM {IMAGE}\nCOPY hello /\nRUN mkdir /made && date +%N >/dev/null && touch /made/now\n'
    project.file('hello', 'hello\n')
    sums = set()
    for number in range(2):
        project.ok(text, '--no-cache', '--build-arg', 'SOURCE_DATE_EPOCH=1700000000', '--output',
                   f'type=oci,dest={tmp_path}/{number}.tar,rewrite-timestamp=true')
        sums.add(hashlib.sha256((tmp_path / f'{number}.tar').read_bytes()).hexdigest())
    assert len(sums) == 1
    with tarfile.open(tmp_path / '0.tar') as archive:
        index = json.load(archive.extractfile('index.json'))
        manifest = json.loads(blob(archive, index['manifests'][0]['digest']))
        assert json.loads(blob(archive, manifest['config']['digest']))['created'].startswith('2023-11-14T22:13:20')
        made = tarfile.open(fileobj=io.BytesIO(blob(archive, manifest['layers'][-1]['digest'])))
        assert made.getmember('made/now').mtime == 1700000000
        assert index['manifests'][0]['annotations']['io.containerd.image.name'] == f'docker.io/library/{project.name}:latest'


@in_the_full_run
def test_an_archive_is_loaded_again(project, tmp_path, docker):
    project.ok(f'FROM {IMAGE}\nRUN echo kept >/kept\n', '--output', f'type=docker,dest={tmp_path}/image.tar')
    assert docker.ok('images', '-q', project.name) == ''
    docker.ok('load', '-i', str(tmp_path / 'image.tar'))
    assert project.run('cat', '/kept') == 'kept'


@in_the_full_run
def test_several_outputs_at_once(project, tmp_path, docker):
    project.ok(f'FROM {IMAGE}\nRUN echo both >/both\n', '--output', f'type=local,dest={tmp_path}/one', '--output', f'type=tar,dest={tmp_path}/two', '--load')
    assert (tmp_path / 'one/both').read_text() == 'both\n' and 'both' in members(tmp_path / 'two')
    assert project.run('cat', '/both') == 'both'


@in_the_full_run
def test_the_cache_alone(project, docker):
    text = f'FROM {IMAGE}\nRUN echo cached-{project.name}\n'
    before = images_of(docker)
    project.ok(text, '--output', 'type=cacheonly')
    assert images_of(docker) == before
    assert re.search(r'#\d+ CACHED', project.ok(text, '--load'))
    assert docker.ok('images', '-q', project.name)


@in_the_full_run
@pytest.mark.parametrize('output, says', [
    ('type=local,dest=x,mode=odd', 'mode'), ('type=image,annotation.a=b', '--annotation a=b is not supported'),
    ('type=image,name=x,push-by-digest=true,push=true', 'push-by-digest')])
def test_what_an_output_can_not_be(project, output, says, tmp_path):
    project.file('Dockerfile', f'FROM {IMAGE}\n')
    assert says in project.buildx.fails(*project.words('--output', output), cwd=tmp_path)


# ---- registries, and other daemons ----------------------------------------------------------------------------------

class Other(Buildx):
    """A daemon with an empty root, and the same plug-in."""

    def __init__(self, first, engine, busybox, folder):
        super().__init__(Docker(engine, engines.default_cli(), str(folder)), first.home)
        self.docker.ok('load', input=busybox)


@pytest.fixture
def other(buildx, busybox, tmp_path):
    engine = engines.Berth()
    try:
        engine.start()
        yield Other(buildx, engine, busybox, tmp_path)
        engine.stop_all()
    finally:
        if engine.process.poll() is None:
            engine.process.kill()
        engine.process.wait()
        engine.remove_folder()


def test_a_push_is_a_cache_elsewhere(project, registry, other):
    name = f'{registry.address}/team/app:1'
    project.file('hello', 'hello\n')
    project.file('Dockerfile', f'FROM {IMAGE}\nRUN echo ran-here >/made\nWORKDIR /srv\nCOPY hello .\nENV A=b\nRUN cat hello >>/made\n')
    out = project.buildx.ok('build', '--progress', 'plain', '-t', name, '--push', str(project.folder))
    assert f'pushing {name}' in out and ('team/app', '1') in registry.manifests
    elsewhere = Project(other, other.docker, project.folder, project.name)
    out = other.ok(*elsewhere.words('--cache-from', name))
    assert f'importing cache manifest from {name}' in out and out.count(' CACHED') == 5
    assert elsewhere.run('cat', '/made') == 'ran-here\nhello'
    assert other.docker.inspect(project.name)['Id'] == project.docker.inspect(name)['Id']
    assert other.docker.ok('images', '-q', name) == ''
    project.docker.ok('rmi', name)


@in_the_full_run
@pytest.mark.container_only('HostConfig.Mounts')
def test_a_cache_in_a_registry(project, registry, other):
    """All stages, and steps that no image's history can say; the result is the same to the bit, a time in it too."""
    name = f'{registry.address}/team/cache:1'
    text = (f'FROM {IMAGE} AS one\nRUN --mount=type=tmpfs,target=/t echo one-{project.name} >/one\nFROM {IMAGE}\nCOPY --from=one /one /\n'
            'RUN date +%s.%N >/time\nENV A=b\n')
    out = project.ok(text, '--cache-to', f'type=registry,ref={name},mode=max')
    assert f'exporting cache to registry {name}' in out and ('team/cache', '1') in registry.manifests
    assert name in project.buildx.ok('imagetools', 'inspect', name)
    elsewhere = Project(other, other.docker, project.folder, project.name)
    out = elsewhere.ok(text, '--cache-from', f'type=registry,ref={name}')
    assert out.count(' CACHED') == 4, out
    assert other.docker.inspect(project.name)['Id'] == project.docker.inspect(project.name)['Id']
    assert elsewhere.run('cat', '/one', '/time') == project.run('cat', '/one', '/time')
    assert 'mode=odd' in project.fails(text, '--cache-to', f'type=registry,ref={name},mode=odd')
    out = project.fails(text, '--cache-to', 'type=registry,ref=127.0.0.1:1/no/registry')
    assert 'exporting cache to registry' in out
    assert re.search('exporting cache to registry[\\s\\S]*ERROR', project.ok(text, '--cache-to', 'type=registry,ref=127.0.0.1:1/no/registry,ignore-error=true'))


@in_the_full_run
def test_a_cache_of_several_platforms(project, registry, tmp_path, other):
    name = f'{registry.address}/team/several-cache:1'
    text = (f'FROM --platform=$BUILDPLATFORM {IMAGE} AS one\nARG TARGETPLATFORM\nRUN echo $TARGETPLATFORM {project.name} >/for\nFROM scratch\nCOPY --from=one /for /\n')
    both = ('--platform', 'linux/amd64,linux/arm64')
    project.ok(text, *both, '--cache-to', f'type=registry,ref={name},mode=max', '--cache-to', f'type=local,dest={tmp_path}/cache,mode=max', '--output', 'type=cacheonly')
    elsewhere = Project(other, other.docker, project.folder, project.name)
    for place in (f'type=local,src={tmp_path}/cache', name):
        out = elsewhere.ok(text, *both, '--cache-from', place, '--output', f'type=local,dest={tmp_path}/out')
        assert len(re.findall(r'#\d+ \[linux/\w+ (?:one|stage-1) [23]/[23]\] (?:RUN|COPY).*\n#\d+ CACHED', out)) == 4, out
        assert (tmp_path / 'out/linux_arm64/for').read_text() == f'linux/arm64 {project.name}\n'
        other.ok('prune', '-af')


def test_a_cache_that_is_not_there_is_said(project, registry):
    name = f'{registry.address}/no/such:1'
    out = project.ok(f'FROM {IMAGE}\nRUN echo goes-on\n', '--no-cache', '--cache-from', name)
    assert re.search(rf'#(\d+) \[?.*importing cache manifest from {name}[\s\S]*#\1 ERROR: .*{name}', out), out
    assert 'goes-on' in out


def buildkit_cache(add, image):
    """A cache as BuildKit writes it, older (an index) or newer: its document, by a function that keeps a blob and gives its digest."""
    def blob(kind, data):
        return {'mediaType': kind, 'digest': add(data), 'size': len(data)}
    layer = blob('application/vnd.oci.image.layer.v1.tar+gzip', gzip.compress(b'x' * 1024))
    config = blob('application/vnd.buildkit.cacheconfig.v0', json.dumps({'layers': [{'blob': layer['digest'], 'parent': -1}], 'records': [
        {'layers': [{'layer': 0, 'createdAt': '2023-11-14T22:13:20Z'}], 'digest': 'sha256:' + '2' * 64}]}).encode())
    kind = f'application/vnd.oci.image.{"manifest" if image else "index"}.v1+json'
    return kind, {'schemaVersion': 2, 'mediaType': kind, **({'config': config, 'layers': [layer]} if image else {'manifests': [layer, config]})}


@in_the_full_run
@pytest.mark.parametrize('image', [False, True])
def test_a_cache_of_buildkit_is_said(project, registry, tmp_path, image):
    """Its keys are those of build graphs: the build goes on without it."""
    folder = tmp_path / 'cache'
    (folder / 'blobs/sha256').mkdir(parents=True)

    def add(data):
        (folder / 'blobs/sha256' / registries.digest(data)[7:]).write_bytes(data)
        return registries.digest(data)
    kind, document = buildkit_cache(add, image)
    text = json.dumps(document).encode()
    (folder / 'index.json').write_text(json.dumps({'schemaVersion': 2, 'manifests': [{'mediaType': kind, 'digest': add(text), 'size': len(text),
                                                                                      'annotations': {'org.opencontainers.image.ref.name': 'latest'}}]}))
    registry.add_manifest('team/kit', '1', *buildkit_cache(registry.add_blob, image))
    for place in (f'type=local,src={folder}', f'type=registry,ref={registry.address}/team/kit:1'):
        out = project.ok(f'FROM {IMAGE}\nRUN echo goes-on\n', '--no-cache', '--cache-from', place)
        assert re.search(r"#(\d+) importing cache manifest from [\s\S]*#\1 ERROR: .*(a cache in BuildKit's own form, which is not supported|is not an image: .*cacheconfig)", out) and 'goes-on' in out, out


# ---- options --------------------------------------------------------------------------------------------------------

@in_the_full_run
def test_limits_and_hosts_of_steps(project):
    text = f'FROM {IMAGE}\nRUN ulimit -n && df /dev/shm | tail -1 && grep far /etc/hosts && ls /sys/class/net\n'
    out = project.ok(text, '--no-cache', '--ulimit', 'nofile=77:88', '--shm-size', '8m', '--add-host', 'far:10.9.8.7', '--network', 'none',
                     '--cgroup-parent', '/berth-test-parent')
    assert re.search(r'#\d+ [0-9.]+ 77\n', out) and re.search(r' 8192 ', out) and re.search(r'10\.9\.8\.7\s+far', out)
    assert 'eth0' not in out


@in_the_full_run
def test_stages_that_are_built_anew(project):
    text = f'FROM {IMAGE} AS one\nRUN echo one-{project.name}\nFROM {IMAGE} AS two\nRUN echo two-{project.name}\nFROM one\nCOPY --from=two /etc /two\n'
    project.ok(text)
    out = project.ok(text, '--no-cache-filter', 'TWO')
    assert re.search(rf'#\d+ [0-9.]+ two-{project.name}', out) and not re.search(rf'#\d+ [0-9.]+ one-{project.name}', out)


@in_the_full_run
def test_files_that_the_client_writes(project, tmp_path):
    project.file('Dockerfile', f'FROM {IMAGE}\nRUN true\n')
    done = project.buildx('build', '-t', project.name, '--progress', 'rawjson', '--metadata-file', str(tmp_path / 'meta'), '--iidfile', str(tmp_path / 'id'),
                          str(project.folder))
    assert done.returncode == 0, done.stderr
    image = project.docker.inspect(project.name)['Id']
    meta = json.loads((tmp_path / 'meta').read_text())
    assert meta['containerimage.config.digest'] == image and meta['image.name'] == project.name and (tmp_path / 'id').read_text() == image
    assert any('vertexes' in json.loads(line) for line in done.stderr.split('\n') if line)


@in_the_full_run
@pytest.mark.parametrize('option, says', [
    (('--allow', 'security.insecure'), 'security.insecure is not allowed'),
    (('--cache-to', 'type=azblob'), 'azblob')])
def test_what_is_refused_by_name(project, option, says):
    assert says in project.fails(f'FROM {IMAGE}\n', *option)


# ---- questions ------------------------------------------------------------------------------------------------------

def test_a_check_of_the_dockerfile(project):
    project.file('Dockerfile', f'FROM {IMAGE} as One\nMAINTAINER me\nRUN echo never-runs\n')
    done = project.buildx('build', '--check', str(project.folder))
    assert done.returncode == 1 and 'Check complete, 3 warnings have been found!' in done.stdout, done
    assert 'WARNING: StageNameCasing' in done.stdout and 'Dockerfile:1' in done.stdout and 'never-runs' not in done.stderr
    project.file('Dockerfile', f'FROM {IMAGE}\nRUN true\n')
    assert 'Check complete, no warnings found.' in project.buildx.ok('build', '--check', str(project.folder))


@in_the_full_run
def test_a_check_of_what_is_no_dockerfile(project):
    project.file('Dockerfile', f'FROM {IMAGE}\nFRM x\n')
    assert 'unknown instruction: FRM' in project.buildx.fails('build', '--check', str(project.folder))


@in_the_full_run
def test_targets_and_the_outline(project):
    project.file('Dockerfile', f'ARG BASE={IMAGE}\n# one makes it\nFROM $BASE AS one\n# WHAT is made\nARG WHAT=much\n'
                 'RUN --mount=type=secret,id=token,required echo $WHAT\nFROM one AS two\nARG MORE\nRUN echo $MORE\n')
    out = project.buildx.ok('build', '--call', 'targets', str(project.folder))
    assert re.search(r'one +makes it', out) and re.search(r'two \(default\)', out)
    out = project.buildx.ok('build', '--call', 'outline', '--target', 'one', str(project.folder))
    assert re.search(r'WHAT +much +is made', out) and re.search(r'token +true', out) and 'MORE' not in out


# ---- the history ----------------------------------------------------------------------------------------------------

def test_the_history_of_builds(project):
    project.ok(f'FROM {IMAGE}\nRUN echo remembered-{project.name}\n', '--build-arg', 'ODD=arg')
    project.fails(f'FROM {IMAGE}\nRUN echo then && false\n')
    rows = [json.loads(line) for line in project.buildx.ok('history', 'ls', '--format', 'json', '--no-trunc').strip().split('\n')]
    failed, well = rows[0], rows[1]
    assert failed['status'] == 'Error' and well['status'] == 'Completed' and well['total_steps'] >= 4
    reference = well['ref'].split('/')[-1]
    assert f'remembered-{project.name}' in project.buildx.ok('history', 'logs', reference)
    shown = project.buildx.ok('history', 'inspect', reference)
    assert re.search(r'ODD\s+arg', shown) and re.search(r'Dockerfile:\s+Dockerfile', shown)
    assert 'did not complete successfully: exit code: 1' in project.buildx.ok('history', 'inspect', failed['ref'].split('/')[-1])
    project.buildx.ok('history', 'rm', reference)
    assert reference not in project.buildx.ok('history', 'ls', '--no-trunc')
    project.buildx.fails('history', 'rm', 'nothing')
    project.buildx.ok('history', 'rm', '--all')
    assert project.buildx.ok('history', 'ls', '--format', 'json').strip() == ''


@in_the_full_run
def test_grpc_straight_on_the_socket(project, tmp_path):
    """Without /grpc and /session: the client's session is a call of its own."""
    project.buildx.ok('create', '--name', 'straight', '--driver', 'remote', 'unix://' + project.docker.engine.socket)
    project.file('hello', 'straight\n')
    project.file('Dockerfile', 'FROM scratch\nCOPY hello /\n')
    project.buildx.ok('build', '--builder', 'straight', '--output', f'type=local,dest={tmp_path}/out', str(project.folder))
    assert (tmp_path / 'out/hello').read_text() == 'straight\n'
    project.buildx.ok('rm', 'straight')


@in_the_full_run
def test_the_history_outlives_the_daemon(other, project, tmp_path):
    """Of kill -9, too: records, progress, errors, what is pinned; what was removed stays away, and a damaged file goes."""
    there = Project(other, other.docker, project.folder, project.name)
    there.ok(f'FROM {IMAGE}\nRUN echo remembered-{project.name}\n', '--build-arg', 'ODD=arg')
    there.fails(f'FROM {IMAGE}\nRUN echo then && false\n')
    there.ok(f'FROM {IMAGE}\nRUN echo removed-{project.name}\n')

    def rows():
        return [json.loads(line) for line in other.ok('history', 'ls', '--format', 'json', '--no-trunc').strip().split('\n')]

    before = rows()
    removed, failed, well = (row['ref'].split('/')[-1] for row in before)
    other.ok('history', 'rm', removed)
    engine = other.docker.engine
    engine.kill9()
    files = os.path.join(engine.data, 'builds')
    assert len(os.listdir(files)) == 2
    with open(os.path.join(files, 'f' * 32), 'w') as file:
        file.write('no build')
    engine.start()
    assert rows() == before[1:]
    assert f'remembered-{project.name}' in other.ok('history', 'logs', well)
    assert re.search(r'ODD\s+arg', other.ok('history', 'inspect', well))
    assert 'did not complete successfully: exit code: 1' in other.ok('history', 'inspect', failed)
    assert len(os.listdir(files)) == 2
    other.ok('history', 'rm', '--all')
    assert os.listdir(files) == []
