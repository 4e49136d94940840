"""Another image's root in a container: --mount type=image."""
import io
import tarfile

import pytest

pytestmark = [pytest.mark.container_only('HostConfig.Mounts'), pytest.mark.differs('knows it since 28')]


def tar_of(files):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode='w') as archive:
        for path, text in files.items():
            entry = tarfile.TarInfo(path)
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))
    return out.getvalue()


@pytest.fixture(scope='module')
def data(docker):
    """An image of two layers, with nothing that runs, and one of a single layer: data:two, data:one."""
    docker.ok('import', '-', 'data:one', input=tar_of({'models/a': 'first\n', 'models/b': 'gone\n', 'top': 'top\n'}))
    docker.ok('create', '--name', 'data-maker', 'data:one', 'x')
    docker.ok('cp', '-', 'data-maker:/models', input=tar_of({'c': 'second\n', 'a': 'changed\n'}))
    docker.ok('commit', 'data-maker', 'data:two')
    docker.ok('rm', 'data-maker')
    yield
    docker('rmi', '-f', 'data:one', 'data:two')


@pytest.mark.new_client('image mounts came with 28')
def test_an_images_files_are_seen_and_kept(docker, data, name):
    said = docker.ok('run', '--name', name, '--mount', 'type=image,source=data:two,target=/x', '--mount', 'type=image,source=data:one,target=/y', 'bb', 'sh', '-c',
                     'cat /x/models/a /x/models/c /x/top /y/models/a; touch /x/new 2>&1; echo z 2>&1 >/y/top; grep -c " /[xy] .* ro[, ]" /proc/mounts')
    lines = said.splitlines()
    assert lines[:4] == ['changed', 'second', 'top', 'first']
    assert [line.rsplit(': ', 1)[1] for line in lines[4:6]] == ['Read-only file system'] * 2 and lines[6] == '2'
    mounts = {mount['Destination']: mount for mount in docker.inspect(name)['Mounts']}
    assert (mounts['/x']['Type'], mounts['/x']['Name'], mounts['/x']['RW']) == ('image', 'data:two', False) and mounts['/x']['Source']
    asked = docker.inspect(name)['HostConfig']['Mounts'][0]
    assert (asked['Type'], asked['Source'], asked['Target']) == ('image', 'data:two', '/x')
    assert docker.ok('ps', '-a', '--filter', f'name={name}', '--format', '{{.Mounts}}').strip() in ('data:two,data:one', 'data:one,data:two')
    docker.ok('start', '-a', name)  # again, from the record
    docker.ok('rm', name)


@pytest.mark.new_client('image mounts came with 28')
def test_a_part_of_it(docker, data, name, tmp_path):
    def part(path, image='data:two'):
        return ['--mount', f'type=image,source={image},target=/x,image-subpath={path}']
    assert docker.ok('run', '--rm', *part('models'), 'bb', 'ls', '/x').split() == ['a', 'b', 'c']
    assert docker.ok('run', '--rm', *part('models/a', 'data:one'), 'bb', 'cat', '/x') == 'first'
    for bad, message in [('../models', 'subpath must be a relative path'), ('/models', 'subpath must be a relative path'), ('nosuch', 'nosuch')]:
        refused = docker('run', '--rm', *part(bad), 'bb', 'true')
        assert refused.code in (125, 127) and message in refused.err
    # Files go in and out of a container that was never started, past the mount and not into it.
    docker.ok('create', '--name', name, *part('models/a'), '--mount', 'type=image,source=data:one,target=/y', 'bb', 'cat', '/x')
    docker.ok('cp', f'{name}:/x', str(tmp_path / 'out'))
    assert (tmp_path / 'out').read_text() == 'changed\n'
    assert 'mounted volume is marked read-only' in docker('cp', str(tmp_path / 'out'), f'{name}:/y/out').err
    assert docker.ok('start', '-a', name) == 'changed'
    docker.ok('rm', name)


@pytest.mark.new_client('image mounts came with 28')
def test_an_image_that_is_mounted_stays(docker, data, name):
    docker.ok('tag', 'data:two', f'{name}:1')
    docker.ok('rmi', 'data:two')
    docker.ok('run', '-d', '--name', name, '--mount', f'type=image,source={name}:1,target=/x', 'bb', 'sleep', '1000')
    refused = docker('rmi', f'{name}:1')
    assert refused.code == 1 and f'conflict: unable to remove repository reference "{name}:1" (must force) - container' in refused.err
    docker.ok('create', '--name', name + 'b', '--volumes-from', name, 'bb', 'cat', '/x/top')
    docker.ok('rm', '-f', name)
    refused = docker('rmi', f'{name}:1')
    assert refused.code == 1 and 'is using its referenced image' in refused.err
    docker.ok('rmi', '-f', f'{name}:1')
    assert docker.ok('start', '-a', name + 'b') == 'top'  # what it needs is kept for it; Docker has taken it away with the first container
    docker.ok('rm', name + 'b')


@pytest.mark.new_client('image mounts came with 28')
def test_what_is_no_image_mount(docker, api, data):
    def create(version='1.48', **mount):
        body = {'Image': 'bb', 'HostConfig': {'Mounts': [{'Type': 'image', 'Target': '/x', **mount}]}}
        answer = api.post(f'/v{version}/containers/create', body)
        return answer.status, answer.message.removeprefix('HostConfig.Mounts[0]: ')
    assert create(Source='nosuch:1') == (404, 'No such image: nosuch:1')
    assert create() == (400, 'invalid mount config for type "image": field Source must not be empty')
    status, message = create(Source='data:one', VolumeOptions={'NoCopy': True})
    assert status == 400 and 'VolumeOptions must not be specified' in message
    assert create(version='1.47', Source='data:one') == (400, 'Mount type "Image" needs API v1.48 or newer')
    bind = {'Image': 'bb', 'HostConfig': {'Mounts': [{'Type': 'bind', 'Source': '/tmp', 'Target': '/x', 'ImageOptions': {'Subpath': 'x'}}]}}
    assert 'ImageOptions must not be specified' in api.post('/containers/create', bind).message
    assert 'Duplicate mount point: /x' in docker('create', *2 * ['--mount', 'type=image,source=data:one,target=/x'], 'bb').err
