"""--storage-driver vfs and btrfs: a container's root is a copy, or a snapshot, of the image, and no overlay."""
import io
import json
import os
import subprocess
import tarfile

import pytest

import engines
import images
from conftest import Docker
from images import docker_archive, entry, tar
from test_storage import CONTAINER, assert_same, hostile_layers, pax, tree_of

pytestmark = pytest.mark.berth


def mount_btrfs(engine):
    os.makedirs(engine.data)
    disk = os.path.join(engine.folder, 'disk')
    with open(disk, 'wb') as file:
        file.truncate(300 << 20)
    subprocess.run(['mkfs.btrfs', '-q', disk], check=True)
    mounted = subprocess.run(['mount', '-o', 'loop', disk, engine.data], capture_output=True, text=True)
    if mounted.returncode:
        engine.remove_folder()
        pytest.skip('this kernel has no btrfs: ' + mounted.stderr.strip())


@pytest.fixture(scope='module', params=['vfs', 'btrfs'])
def copying(request, tmp_path_factory):
    engine = engines.Berth(storage=request.param)
    if request.param == 'btrfs':
        mount_btrfs(engine)
    engine.start()
    client = Docker(engine, engines.default_cli(), str(tmp_path_factory.mktemp('client')))
    client.ok('load', input=docker_archive('same:1', hostile_layers())[0])
    yield client
    assert engine.stop_all().returncode == 0
    if request.param == 'btrfs':
        subprocess.run(['umount', engine.data], check=True)
    assert not engine.footprint()
    engine.remove_folder()


@pytest.fixture
def box(copying):
    name = copying.ok('run', '-d', *CONTAINER, '--network', 'none', 'same:1', 'sleep', '1000')
    yield name
    copying.ok('rm', '-f', name)


def test_what_is_shown(copying, box):
    assert copying.ok('info', '-f', '{{.Driver}}') == copying.engine.storage
    driver = copying.inspect(box)['GraphDriver']
    assert driver == {'Name': copying.engine.storage, 'Data': {'dir': f'{copying.engine.data}/containers/{box}/root'}}
    assert copying.ok('exec', box, 'sh', '-c', 'grep " / " /proc/mounts').split(' ')[2] != 'overlay'


def test_the_tree_is_the_same(copying, box, tmp_path):
    """As the overlay over EROFS images gives it."""
    other = engines.Berth(storage='erofs')
    other.start()
    client = Docker(other, engines.default_cli(), str(tmp_path))
    client.ok('load', input=docker_archive('same:1', hostile_layers())[0])
    first = client.ok('run', '-d', *CONTAINER, '--network', 'none', 'same:1', 'sleep', '1000')
    trees = [tree_of(f'/proc/{one.inspect(name)["State"]["Pid"]}/root', times=False) for one, name in ((client, first), (copying, box))]
    client.ok('rm', '-f', first)
    assert other.stop_all().returncode == 0
    other.remove_folder()
    assert_same(*trees)


def test_each_has_its_own(copying, box):
    other = copying.ok('run', '-d', *CONTAINER, 'same:1', 'sleep', '1000')
    copying.ok('exec', box, 'sh', '-c', 'echo mine >/real/kept')
    assert copying.ok('exec', other, 'cat', '/real/kept') == 'kept'
    copying.ok('rm', '-f', other)
    assert copying.ok('run', '--rm', *CONTAINER, 'same:1', 'cat', '/real/kept') == 'kept'
    copying.ok('restart', '-t', '0', box)
    assert copying.ok('exec', box, 'cat', '/real/kept') == 'mine'


def changes(copying, box):
    return copying.ok('diff', box).split('\n')


def test_diff_and_commit(copying, box):
    assert changes(copying, box) == ['']
    copying.ok('exec', box, 'sh', '-c', 'rm /plain; echo more >>/dotted; mkdir /new; echo x >/new/file; chmod 700 /merged/a; rm /link; ln -s elsewhere /link;'
              ' rm -r /covered; echo 1234567890 >/big')
    expected = ['A /big', 'A /new', 'A /new/file', 'C /dotted', 'C /link', 'C /merged', 'C /merged/a', 'D /covered', 'D /plain']
    assert sorted(changes(copying, box)) == expected
    copying.ok('stop', '-t', '0', box)
    assert sorted(changes(copying, box)) == expected
    copying.ok('commit', box, 'more:1')
    assert copying.ok('run', '--rm', *CONTAINER, 'more:1', 'sh', '-c', 'ls /plain /covered 2>&1; cat /new/file /dotted; stat -c %a /merged/a;'
                     ' readlink /link').split('\n')[-4:] == ['x', 'dottedmore', '700', 'elsewhere']
    history = json.loads(copying.ok('history', '--format', '{{json .}}', 'more:1').split('\n')[0])
    assert history['Size'] != '0B'
    again = copying.ok('create', *CONTAINER, 'more:1')
    assert changes(copying, again) == ['']
    copying.ok('rm', again)
    copying.ok('rmi', 'more:1')


def test_size(copying, box):
    copying.ok('exec', box, 'sh', '-c', 'head -c 100000 /dev/zero >/more; echo 1 >/real/kept')
    assert copying.ok('inspect', '--size', '-f', '{{.SizeRw}}', box) == '100002'


def test_files_in_and_out(copying, box, tmp_path):
    (tmp_path / 'in').write_text('from outside')
    copying.ok('cp', str(tmp_path / 'in'), f'{box}:/real/in')
    assert copying.ok('exec', box, 'cat', '/real/in') == 'from outside'
    copying.ok('stop', '-t', '0', box)
    copying.ok('cp', f'{box}:/real/in', str(tmp_path / 'out'))
    assert (tmp_path / 'out').read_text() == 'from outside'
    done = subprocess.run(copying.command('export', box), capture_output=True, env=copying.environment(), check=True)
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as exported:
        assert exported.extractfile('real/in').read() == b'from outside'
        assert 'covered/below' not in exported.getnames()


def test_a_volume_is_filled(copying):
    assert copying.ok('run', '--rm', *CONTAINER, '-v', '/real', 'same:1', 'cat', '/real/kept') == 'kept'


def test_hard_links_and_holes(copying):
    layer = tar([entry('one', data=b'same'), entry('two', tarfile.LNKTYPE, link='one'), pax('cap', {'SCHILY.xattr.user.a': 'b'}, data=b'x')])
    copying.ok('load', input=docker_archive('links:1', [images.busybox_root(), layer])[0])
    box = copying.ok('run', '-d', *CONTAINER, 'links:1', 'sh', '-c', 'echo more >>/two; sleep 1000')
    engines.wait_until(lambda: copying.ok('exec', box, 'cat', '/one') == 'samemore', 10, 'two names of one file')
    assert sorted(changes(copying, box)) == ['C /one', 'C /two']
    copying.ok('rm', '-f', box)
    copying.ok('rmi', 'links:1')


def test_saved_it_is_the_same(copying):
    done = subprocess.run(copying.command('save', 'same:1'), capture_output=True, env=copying.environment(), check=True)
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as saved:
        for layer in hostile_layers():
            assert saved.extractfile('blobs/sha256/' + images.digest(layer)).read() == layer


def test_berth_image_unpacks_it(copying, tmp_path):
    subprocess.run([os.path.join(engines.BIN, 'berth-image'), '--root', copying.engine.data, 'unpack', 'same:1',
                    str(tmp_path / 'root')], check=True)
    assert (tmp_path / 'root/real/kept').read_text() == 'kept' and not (tmp_path / 'root/real/gone').exists()


def test_deep_folders(copying):
    """As deep as an image likes; no stack ends before they do."""
    deep = 'd/' * 200
    layer = tar([entry(deep + 'end', data=b'end'), entry('x', data=b'x'), entry(deep + 'again', tarfile.LNKTYPE, link='x')])
    copying.ok('load', input=docker_archive('deep:1', [images.busybox_root(), layer])[0])
    box = copying.ok('run', '-d', *CONTAINER, '-v', '/d', 'deep:1', 'sh', '-c', f'cd /{deep[:-1]} && cat end again >/seen; sleep 1000')
    engines.wait_until(lambda: copying('exec', box, 'cat', '/seen').out.strip() == 'endx', 20, 'the end is reached')
    assert copying.ok('inspect', '--size', '-f', '{{.SizeRw}}', box) == '4'
    assert [line for line in changes(copying, box) if '/d' not in line[2:4]] == ['A /seen']
    copying.ok('rm', '-f', '-v', box)
    copying.ok('rmi', 'deep:1')


def test_what_goes(copying):
    """The image's tree goes with its top layer, a container's with the container; a killed daemon's leftovers at the next start."""
    layers = copying.engine.data + '/layers'
    before = sorted(os.listdir(layers))
    copying.ok('load', input=docker_archive('gone:1', [images.busybox_root(), tar([entry('x')])])[0])
    box = copying.ok('create', *CONTAINER, 'gone:1')
    assert len([name for name in os.listdir(layers) if name.endswith('.tree') and name not in before]) == 1
    copying.engine.kill9()
    stray = f'{layers}/{"0" * 64}.tree'
    os.mkdir(stray)
    copying.engine.start()
    assert not os.path.exists(stray)
    assert copying('start', '-a', box).code == 0
    copying.ok('rm', box)
    assert not os.path.exists(f'{copying.engine.data}/containers/{box}')
    copying.ok('rmi', 'gone:1')
    assert sorted(os.listdir(layers)) == before and os.listdir(copying.engine.data + '/staging') == []


def test_the_driver_changes(copying, box):
    """What a container is stays, whatever new ones become."""
    copying.ok('exec', box, 'touch', '/new')
    own, other = copying.engine.storage, 'erofs' if copying.engine.storage == 'vfs' else 'vfs'
    copying.ok('load', input=docker_archive('turn:1', [images.busybox_root(), tar([entry('y')])])[0])
    for storage in (other, own):
        copying.engine.terminate()
        copying.engine.storage = storage
        copying.engine.start()
        assert changes(copying, box) == ['A /new'] and copying.ok('exec', box, 'cat', '/real/kept') == 'kept'
        for image in ('same:1', 'turn:1'):
            assert copying.ok('run', '--rm', *CONTAINER, image, 'cat', '/etc/not-a-program') == 'text'
    copying.ok('rmi', 'turn:1')


def test_two_at_once(copying):
    """The image's tree is made once."""
    copying.ok('load', input=docker_archive('twice:1', [images.busybox_root(), tar([entry('big', data=os.urandom(3_000_000))])])[0])
    runs = [copying.popen('run', '--rm', *CONTAINER, 'twice:1', 'sh', '-c', 'wc -c </big') for _ in range(4)]
    assert [run.communicate()[0].strip() for run in runs] == [b'3000000'] * 4
    copying.ok('rmi', 'twice:1')


def test_full_disk(copying, tmp_path):
    """No room for the copy: one line, and nothing of the container is left."""
    engine = engines.Berth(storage='vfs')
    os.makedirs(engine.data)
    subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=50m', 'none', engine.data], check=True)
    try:
        engine.start()
        client = Docker(engine, engines.default_cli(), str(tmp_path))
        client.ok('load', input=docker_archive('big:1', [images.busybox_root(), tar([entry('big', data=os.urandom(12_000_000))])])[0])
        first = client.ok('create', *CONTAINER, 'big:1')
        result = client('create', *CONTAINER, 'big:1')
        assert result.code == 1 and 'no space left on device' in result.err.lower() and len(result.err.splitlines()) == 1
        assert os.listdir(engine.data + '/containers') == [first] and client.ok('ps', '-aq', '--no-trunc') == first
    finally:
        assert engine.stop_all().returncode == 0
        subprocess.run(['umount', '-l', engine.data], check=True)
        engine.remove_folder()


def test_btrfs_elsewhere(tmp_path):
    command = engines.Berth(folder=str(tmp_path), storage='btrfs').command()
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    assert done.stderr.splitlines() == ['berthd: image store: storage driver btrfs: the data root is not on a btrfs file system']


def test_where_an_overlay_can_not_be(tmp_path):
    """The data root is on an overlay itself, which can be no upper of another."""
    engine = engines.Berth(storage=None, folder=str(tmp_path))
    for name in ('upper', 'work', 'data'):
        os.makedirs(f'{engine.folder}/{name}')
    subprocess.run(['mount', '-t', 'overlay', '-o', f'lowerdir={engine.folder},upperdir={engine.folder}/upper,workdir={engine.folder}/work',
                    'none', engine.data], check=True)
    try:
        engine.start()
        client = Docker(engine, engines.default_cli(), str(tmp_path))
        assert client.ok('info', '-f', '{{.Driver}}') == 'vfs'
        client.ok('load', input=docker_archive('bb:1', [images.busybox_root()])[0])
        assert client.ok('run', '--rm', *CONTAINER, 'bb:1', 'cat', '/etc/not-a-program') == 'text'
    finally:
        assert engine.stop_all().returncode == 0
        subprocess.run(['umount', engine.data], check=True)
