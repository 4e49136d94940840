"""docker run -v: folders and files of the host, and named volumes."""
import os

import pytest

pytestmark = pytest.mark.container_only('HostConfig.Binds')

import images


def test_a_folder_of_the_host(docker, tmp_path):
    (tmp_path / 'in').write_text('from the host\n')
    out = docker.ok('run', '--rm', '-v', f'{tmp_path}:/data', 'bb', 'sh', '-c', 'cat /data/in; echo back >/data/out')
    assert out == 'from the host' and (tmp_path / 'out').read_text() == 'back\n'


def test_a_file_of_the_host(docker, tmp_path):
    (tmp_path / 'file').write_text('one file\n')
    assert docker.ok('run', '--rm', '-v', f'{tmp_path}/file:/etc/one', 'bb', 'cat', '/etc/one') == 'one file'


def test_read_only(docker, tmp_path):
    result = docker('run', '--rm', '-v', f'{tmp_path}:/data:ro', 'bb', 'touch', '/data/x')
    assert result.code == 1 and 'Read-only' in result.err and os.listdir(tmp_path) == []


def test_a_missing_folder_is_made(docker, tmp_path):
    docker.ok('run', '--rm', '-v', f'{tmp_path}/made/here:/data', 'bb', 'touch', '/data/x')
    assert (tmp_path / 'made/here/x').exists()


def test_a_mount_deep_in_the_image(docker, tmp_path):
    (tmp_path / 'f').write_text('deep\n')
    assert docker.ok('run', '--rm', '-v', f'{tmp_path}:/a/b/c', 'bb', 'cat', '/a/b/c/f') == 'deep'


def test_a_target_behind_a_link_stays_inside(docker, sealed, tmp_path_factory):
    data = tmp_path_factory.mktemp('data')
    layer = images.tar([images.entry('way', images.tarfile.SYMTYPE, link='../../../../../../..' + str(sealed))])
    docker.ok('load', input=images.docker_archive('linked:1', [images.busybox_root(), layer])[0])
    docker.ok('run', '--rm', '-v', f'{data}:/way', 'linked:1', 'touch', '/way/x')
    assert os.listdir(data) == ['x']
    docker.ok('rmi', 'linked:1')


def test_named_volume_keeps_its_data(docker, name):
    docker.ok('run', '--rm', '-v', f'{name}:/data', 'bb', 'sh', '-c', 'echo kept >/data/file')
    assert docker.ok('run', '--rm', '-v', f'{name}:/elsewhere', 'bb', 'cat', '/elsewhere/file') == 'kept'


def test_a_new_named_volume_starts_with_what_the_image_has(docker, name):
    docker.ok('run', '--rm', '-v', f'{name}:/home', 'bb', 'true')
    assert docker.ok('run', '--rm', '-v', f'{name}:/x', 'bb', 'stat', '-c', '%u', '/x/app') == '1000'


def test_two_containers_share_a_volume(docker, name):
    docker.ok('run', '-d', '--name', name, '-v', f'{name}v:/data', 'bb', 'sleep', '100')
    docker.ok('run', '--rm', '-v', f'{name}v:/data', 'bb', 'sh', '-c', 'echo shared >/data/file')
    assert docker.ok('exec', name, 'cat', '/data/file') == 'shared'


def test_mounts_are_listed(docker, name, tmp_path):
    docker.ok('create', '--name', name, '-v', f'{tmp_path}:/host:ro', '-v', f'{name}v:/vol', 'bb')
    mounts = {mount['Destination']: mount for mount in docker.inspect(name)['Mounts']}
    assert mounts['/host'].items() >= {'Type': 'bind', 'Source': str(tmp_path), 'RW': False}.items()
    assert mounts['/vol'].items() >= {'Type': 'volume', 'Name': name + 'v', 'Driver': 'local', 'RW': True}.items()


def test_an_anonymous_volume_goes_with_rm(docker):
    docker.ok('run', '--rm', '-v', '/data', 'bb', 'touch', '/data/x')


@pytest.mark.parametrize('spec', ['relative/path:/data', '/a:relative', '/a:/', '/a:/b:nosuch'])
def test_a_bad_volume_is_refused(docker, spec):
    assert docker('run', '--rm', '-v', spec, 'bb', 'true').code == 125
