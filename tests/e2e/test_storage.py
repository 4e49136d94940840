"""--storage-driver: layers as EROFS images or as folders. What is told of it, that both give the same trees, where layers are mounted
and when no longer, and what is left of a load that was killed."""
import hashlib
import io
import json
import os
import random
import shutil
import stat
import subprocess
import tarfile
import time

import pytest

import engines
import images
from conftest import Docker
from images import docker_archive, entry, folder, tar

pytestmark = pytest.mark.berth
CONTAINER = ['--isolation', 'container']


def layer_mounts(engine):
    return [thing for thing in engine.mounts() if thing.startswith(f'mount {engine.state}/layers/')]


def loop_files(engine):
    """Files of the engine's that are in loop devices."""
    names = [engines.read(f'/sys/block/{name}/loop/backing_file').strip() for name in os.listdir('/sys/block')]
    return [name for name in names if name.startswith(engine.folder)]


@pytest.fixture
def start(tmp_path):
    """start(storage): another engine with that driver, and its client."""
    running = []

    def begin(storage, **options):
        engine = engines.Berth(storage=storage, **options)
        running.append(engine)
        engine.start()
        return Docker(engine, engines.default_cli(), str(tmp_path))
    yield begin
    for engine in running:
        result = engine.stop_all()
        assert result.returncode == 0, result.stderr
        left = engines.settle(lambda: [*engine.footprint(), *loop_files(engine)])
        assert not left, left
        engine.remove_folder()


# ---- what is told ---------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('word, name', [('erofs', 'erofs'), ('overlay', 'overlay2'), ('overlay2', 'overlay2')])
def test_the_driver_is_shown(start, busybox, word, name):
    docker = start(word)
    docker.ok('load', input=busybox)
    status = dict(json.loads(docker.ok('info', '-f', '{{json .DriverStatus}}')))
    assert docker.ok('info', '-f', '{{.Driver}}') == name
    assert status['Backing Filesystem'] == 'extfs'
    assert ('Mounted from' in status) == (name == 'erofs')
    container = docker.ok('create', *CONTAINER, 'bb')
    place = docker.engine.state if name == 'erofs' else docker.engine.data
    assert docker.inspect(container)['GraphDriver']['Data']['LowerDir'].startswith(place + '/layers/')
    for one in (docker.inspect(container), docker.inspect('bb')):
        assert one['GraphDriver']['Name'] == name
    docker.ok('rm', container)


def test_a_driver_that_there_is_not(engine, tmp_path):
    command = [*engines.Berth(folder=str(tmp_path), storage='zfs').command()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    assert done.stderr.splitlines() == ['berthd: image store: storage driver zfs: not one of erofs, overlay (overlay2), btrfs, vfs']


# ---- one data root, one driver after the other ----------------------------------------------------------------------

def test_layers_of_the_other_driver_go_on(start, busybox):
    docker = start('overlay')
    docker.ok('load', input=busybox)
    box = docker.ok('run', '-d', *CONTAINER, '--name', 'old', 'bb', 'sleep', '1000')
    for storage in ('erofs', 'overlay', 'erofs'):
        docker.engine.terminate()
        docker.engine.storage = storage
        docker.engine.start()
        assert docker.ok('info', '-f', '{{.Driver}}') == {'erofs': 'erofs', 'overlay': 'overlay2'}[storage]
        assert docker.ok('exec', box, 'cat', '/etc/not-a-program') == 'text'
        assert docker.ok('run', '--rm', *CONTAINER, 'bb', 'cat', '/etc/not-a-program') == 'text'
        # A layer of each driver in one image: the lower is there already.
        archive = docker_archive(f'{storage}:1', [images.busybox_root(), tar([entry('which', data=storage.encode())])])[0]
        docker.ok('load', input=archive)
        assert docker.ok('run', '--rm', *CONTAINER, f'{storage}:1', 'cat', '/which', '/etc/not-a-program') == storage + 'text'
    assert len(layer_mounts(docker.engine)) == 1  # of the second layer of erofs:1


# ---- mounts ---------------------------------------------------------------------------------------------------------

def test_a_layer_is_mounted_once_and_goes_with_its_image(start, busybox):
    docker = start('erofs')
    docker.ok('load', input=busybox)
    assert layer_mounts(docker.engine) == []
    names = [docker.ok('run', '-d', *CONTAINER, 'bb', 'sleep', '1000') for _ in range(3)]
    assert len(layer_mounts(docker.engine)) == 1
    docker.engine.kill9()
    docker.engine.start()
    names.append(docker.ok('run', '-d', *CONTAINER, 'bb', 'sleep', '1000'))
    assert len(layer_mounts(docker.engine)) == 1
    docker.ok('rm', '-f', *names)
    docker.ok('rmi', 'bb')
    assert layer_mounts(docker.engine) == [] and os.listdir(docker.engine.data + '/layers') == []


def test_an_image_that_goes_while_a_container_runs(start, busybox):
    """Forced away under a stopped container; the container starts again, and only with it the layer goes."""
    docker = start('erofs')
    docker.ok('load', input=busybox)
    box = docker.ok('run', '-d', *CONTAINER, 'bb', 'sleep', '1000')
    docker.ok('stop', '-t', '0', box)
    docker.ok('rmi', '-f', 'bb')
    docker.ok('start', box)
    assert docker.ok('exec', box, 'cat', '/etc/not-a-program') == 'text'
    docker.ok('rm', '-f', box)
    assert layer_mounts(docker.engine) == [] and os.listdir(docker.engine.data + '/layers') == []


def test_by_loop_devices_where_a_file_is_not_mounted(start, busybox):
    """A file on tmpfs can't be mounted itself."""
    docker = start('erofs', tmpfs=True)
    assert dict(json.loads(docker.ok('info', '-f', '{{json .DriverStatus}}')))['Mounted from'] == 'loop device'
    docker.ok('load', input=busybox)
    box = docker.ok('run', '-d', *CONTAINER, 'bb', 'sleep', '1000')
    assert len(loop_files(docker.engine)) == 1
    docker.engine.kill9()
    docker.engine.start()
    assert docker.ok('exec', box, 'cat', '/etc/not-a-program') == 'text'
    docker.ok('rm', '-f', box)
    docker.ok('rmi', 'bb')
    assert not engines.settle(lambda: loop_files(docker.engine))


@pytest.mark.parametrize('storage', ['erofs', 'overlay'])
def test_many_layers(start, storage):
    docker = start(storage)
    layers = [images.busybox_root()] + [tar([entry('top', data=b'%d' % i), entry(f'layer-{i}', data=b'x')]) for i in range(119)]
    docker.ok('load', input=docker_archive('many:1', layers)[0])
    assert docker.ok('run', '--rm', *CONTAINER, 'many:1', 'sh', '-c', 'cat /top; ls /layer-* | wc -l') == '118119'
    assert len(layer_mounts(docker.engine)) == (120 if storage == 'erofs' else 0)
    docker.ok('rmi', 'many:1')
    assert layer_mounts(docker.engine) == []


# ---- both drivers give the same tree --------------------------------------------------------------------------------

def xattrs(path):
    return {name: os.getxattr(path, name, follow_symlinks=False) for name in os.listxattr(path, follow_symlinks=False)
            if name.startswith('user.') or name == 'security.capability'}


def tree_of(root, times=True):
    """{name: what it is} and which names are one file; without what the engine itself puts into a container."""
    found, inodes = {}, {}
    for path, folders, names in os.walk(root):
        folders[:] = [name for name in folders if path != root or name not in ('proc', 'sys', 'dev')]
        for name in [*folders, *names]:
            full = os.path.join(path, name)
            info, short = os.lstat(full), os.path.relpath(full, root)
            if short in ('etc', 'etc/hosts', 'etc/hostname', 'etc/resolv.conf', '.dockerenv'):
                continue
            kind = stat.S_IFMT(info.st_mode)
            content = None
            if kind == stat.S_IFREG:
                with open(full, 'rb') as file:
                    content = hashlib.sha256(file.read()).hexdigest()
            elif kind == stat.S_IFLNK:
                content = os.readlink(full)
            links = info.st_nlink if kind == stat.S_IFREG else 0
            found[short] = (oct(info.st_mode), info.st_uid, info.st_gid, info.st_rdev, links, content, xattrs(full),
                            info.st_mtime_ns if times else 0)
            if kind == stat.S_IFREG and links > 1:
                inodes.setdefault(info.st_ino, set()).add(short)
    return found, sorted(map(sorted, inodes.values()))


def trees_of(start, archive, program, times=True):
    """The root of a container of the image, as each driver gives it, seen from the host."""
    trees = []
    for storage in ('erofs', 'overlay'):
        docker = start(storage)
        docker.ok('load', input=archive, seconds=120)
        box = docker.ok('run', '-d', *CONTAINER, '--network', 'none', 'same:1', *program)
        trees.append(tree_of(f'/proc/{docker.inspect(box)["State"]["Pid"]}/root', times))
        docker.ok('rm', '-f', box)
    return trees


def assert_same(erofs, overlay):
    for name in sorted({*erofs[0], *overlay[0]}):
        assert erofs[0].get(name) == overlay[0].get(name), name
    assert erofs[1] == overlay[1]


def test_a_debian_root_is_the_same(start):
    path = subprocess.run([os.path.join(engines.ROOT, 'tools/rootfs')], stdout=subprocess.PIPE, text=True, check=True,
                          timeout=240).stdout.strip()
    with open(path, 'rb') as file:
        archive = docker_archive('same:1', [file.read()])[0]
    erofs, overlay = trees_of(start, archive, ['sleep', '1000'])
    assert len(erofs[0]) > 5000
    assert_same(erofs, overlay)


def pax(name, headers, **options):
    info, data = entry(name, **options)
    info.pax_headers = headers
    return info, data


def hostile_layers():
    """What tars may say and no tool would: all of it stays inside, and both writers make the same of it."""
    lower = tar([
        folder('real'), entry('real/kept', data=b'kept'), entry('real/gone', data=b'gone'), folder('covered'),
        entry('covered/below', data=b'below'), folder('turns'), entry('turns/file', data=b'1'), entry('was-file', data=b'2'),
    ])
    upper = tar([
        entry('/absolute', data=b'absolute'), entry('real/../dotted', data=b'dotted'), entry('./././plain', data=b'plain'),
        entry('link', tarfile.SYMTYPE, link='real'), entry('out', tarfile.SYMTYPE, link='/etc'),
        entry('up', tarfile.SYMTYPE, link='../../../../tmp'), entry('link/through', data=b'through'), entry('out/inside', data=b'inside'), entry('up/inside', data=b'inside too'),
        entry('twice', data=b'first'), entry('twice', data=b'second', mode=0o600),
        folder('merged', 0o700), entry('merged/a', data=b'a'), folder('merged', 0o711),
        entry('real/.wh.gone'), folder('covered'), entry('covered/.wh..wh..opq'), entry('covered/above', data=b'above'),
        entry('turns', data=b'a file now'), folder('was-file'), entry('was-file/in', data=b'in'),
        entry('hard', tarfile.LNKTYPE, link='twice'), entry('pipe', tarfile.FIFOTYPE), entry('set-id', data=b'#!', mode=0o6755),
        entry('owned', data=b'x', uid=70000, gid=4000000000), entry('x' * 255, data=b'long'),
        entry('deep/' * 100 + 'end', data=b'deep'), entry('empty'),
        pax('attributed', {'SCHILY.xattr.user.one': 'two', 'SCHILY.xattr.trusted.overlay.opaque': 'y', 'mtime': '1600000000.123456789'},
            data=b'attributes'),
        entry('caf\udce9', data=b'no UTF-8'),
    ])
    return [images.busybox_root(), lower, upper]


def test_hostile_archives_are_the_same(start, sealed):
    archive = docker_archive('same:1', hostile_layers())[0]
    erofs, overlay = trees_of(start, archive, ['sleep', '1000'], times=False)  # parents that no entry tells have none of their own
    assert_same(erofs, overlay)
    tree = erofs[0]
    assert tree['tmp/inside'][5] == hashlib.sha256(b'inside too').hexdigest()
    assert 'real/through' in tree and 'etc/inside' in tree and 'real/gone' not in tree
    assert 'covered/above' in tree and 'covered/below' not in tree
    assert tree['attributed'][6] == {'user.one': b'two'}
    assert tree['owned'][1:3] == (70000, 4000000000)
    assert not os.path.exists('/etc/inside') and not os.path.exists('/tmp/inside')


# ---- kill -9 in the middle of a load --------------------------------------------------------------------------------

def check_store(docker):
    """Nothing is there that no image has."""
    engine = docker.engine
    listed = docker.ok('images', '-aq', '--no-trunc').split()
    layers = {layer for image in listed for layer in docker.inspect(image)['RootFS']['Layers']}
    assert len([name for name in os.listdir(engine.data + '/layers') if '.' not in name]) == len(layers)
    assert os.listdir(engine.data + '/staging') == []
    assert sorted('sha256:' + name for name in os.listdir(engine.data + '/blobs/sha256')) == sorted(set(listed))
    return listed


@pytest.mark.long
def test_a_load_is_killed_at_any_moment(start, tmp_path):
    """The next life finds a whole store: the image is there, all of it, or nothing of it; a second try succeeds."""
    draw, docker = random.Random(7), start(os.environ.get('BERTH_E2E_STORAGE'))
    layers = [images.busybox_root()] + [tar([entry(f'file-{i}', data=draw.randbytes(6_000_000))]) for i in range(4)]
    archive = tmp_path / 'big.tar'
    archive.write_bytes(docker_archive('big:1', layers)[0])
    began = time.monotonic()
    docker.ok('load', '-i', str(archive))
    took = time.monotonic() - began
    docker.ok('rmi', 'big:1')
    for _ in range(int(os.environ.get('BERTH_E2E_LOAD_KILLS', '8'))):
        with docker.popen('load', '-i', str(archive)) as client:
            time.sleep(draw.uniform(0, took * 1.5))
            docker.engine.kill9()
            client.communicate(timeout=60)
        docker.engine.start()
        listed = check_store(docker)
        for image in listed:
            assert docker.ok('run', '--rm', *CONTAINER, image, 'sh', '-c', 'cat /file-* | wc -c') == '24000000'
        docker.ok('load', '-i', str(archive))
        assert docker.ok('run', '--rm', *CONTAINER, 'big:1', 'sh', '-c', 'cat /file-* | wc -c') == '24000000'
        docker.ok('rmi', 'big:1')
        assert check_store(docker) == []
    assert not engines.settle(lambda: layer_mounts(docker.engine))


# ---- docker save: the exact tars ------------------------------------------------------------------------------------

def members(archive):
    with tarfile.open(fileobj=io.BytesIO(archive)) as saved:
        return {member.name: saved.extractfile(member).read() if member.isreg() else None for member in saved}


def save(docker, *names):
    done = subprocess.run(docker.command('save', *names), capture_output=True, env=docker.environment())
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize('storage, others', [('erofs', 'overlay'), ('overlay', 'erofs')])
def test_saved_and_loaded_it_is_the_same(start, storage, others):
    docker, other = start(storage), start(others)
    layers = hostile_layers()
    archive, identity = docker_archive('kept:1', layers)
    docker.ok('load', input=archive)
    saved = save(docker, 'kept:1')
    assert save(docker, 'kept:1') == saved  # the same image, the same bytes
    found = members(saved)
    for layer in layers:
        assert found['blobs/sha256/' + images.digest(layer)] == layer
    manifest = json.loads(found['manifest.json'])
    assert manifest == [{'Config': 'blobs/sha256/' + identity[7:], 'RepoTags': ['kept:1'],
                         'Layers': ['blobs/sha256/' + images.digest(layer) for layer in layers]}]
    for name, data in found.items():
        if name.startswith('blobs/sha256/') and data is not None:
            assert images.digest(data) == name[13:]
    described = json.loads(found['index.json'])['manifests']
    assert [one['annotations']['io.containerd.image.name'] for one in described] == ['docker.io/library/kept:1']
    oci = json.loads(found['blobs/sha256/' + described[0]['digest'][7:]])
    assert [layer['digest'] for layer in oci['layers']] == ['sha256:' + images.digest(layer) for layer in layers]
    assert [layer['size'] for layer in oci['layers']] == [len(layer) for layer in layers]
    other.ok('load', input=saved)
    assert other.inspect('kept:1')['Id'] == identity
    assert other.inspect('kept:1')['RootFS'] == docker.inspect('kept:1')['RootFS']
    # As an OCI layout too.
    with tarfile.open(fileobj=io.BytesIO(saved)) as whole:
        rest = [(member, found[member.name] or b'') for member in whole if member.name != 'manifest.json']
    other.ok('rmi', 'kept:1')
    other.ok('load', input=tar(rest))
    assert other.inspect('kept:1')['Id'] == identity


def test_which_images_are_saved(start, busybox):
    docker = start('erofs')
    docker.ok('load', input=busybox)
    docker.ok('tag', 'bb', 'bb:two')
    docker.ok('tag', 'bb', 'else:1')
    docker.ok('load', input=docker_archive('top:1', [images.busybox_root(), tar([entry('x', data=b'x')])])[0])

    def tags(*names):
        return {tuple(one['RepoTags'] or ()) for one in json.loads(members(save(docker, *names))['manifest.json'])}
    assert tags('bb') == {('bb:latest', 'bb:two')}  # a bare name: all its tags
    assert tags('bb:two') == {('bb:two',)}
    assert tags(docker.inspect('bb')['Id']) == {()}
    assert tags('bb:two', 'else:1', 'top') == {('bb:two', 'else:1'), ('top:1',)}
    found = members(save(docker, 'bb', 'top'))
    assert len([name for name in found if name.startswith('blobs/sha256/') and found[name] is not None]) == 2 + 2 + 2  # layers, configs, manifests
    result = docker('save', 'bb', 'nosuch')
    assert result.code == 1 and 'No such image: nosuch:latest' in result.err and result.out == ''


def test_what_one_tar_replaces_is_saved(start):
    """Files, folders and links that later entries of the same layer replace; holes; hard links; something behind a link."""
    docker = start('overlay')
    sparse = entry('sparse', data=b'')
    layer = tar([entry('a', data=b'first'), entry('b', tarfile.LNKTYPE, link='a'), entry('a', data=b'second and longer'),
                 folder('f'), folder('f/deep'), entry('f/deep/x', data=b'x' * 10_000), entry('f', data=b'a file now'),
                 folder('g'), entry('l', tarfile.SYMTYPE, link='/g'), entry('l/through', data=b'behind the link'),
                 entry('l', tarfile.SYMTYPE, link='elsewhere'), entry('.wh.gone'), sparse, entry('empty')])
    archive, image = docker_archive('kept:1', [images.busybox_root(), layer])
    docker.ok('load', input=archive)
    assert docker.ok('run', '--rm', 'kept:1', 'cat', '/a', '/b', '/f', '/g/through') == 'second and longerfirsta file nowbehind the link'
    saved = members(save(docker, 'kept:1'))
    assert saved['blobs/sha256/' + images.digest(layer)] == layer
    docker.ok('rmi', 'kept:1')
    assert os.listdir(docker.engine.data + '/layers') == [] == os.listdir(docker.engine.data + '/staging')


def test_what_an_older_version_unpacked_is_not_saved(start, busybox):
    docker = start('overlay')
    docker.ok('load', input=busybox)
    place = docker.engine.data + '/layers'
    [kept] = [name for name in os.listdir(place) if name.endswith('.tar')]
    shutil.rmtree(f'{place}/{kept}')
    result = docker('save', 'bb')
    assert result.code == 1 and 'its exact tar is not known' in result.err and result.out == ''
    assert len(result.err.splitlines()) == 1


def test_a_damaged_layer_is_not_saved_as_whole(start, busybox):
    docker = start('erofs')
    docker.ok('load', input=busybox)
    name = os.listdir(docker.engine.data + '/layers')[0]
    with open(f'{docker.engine.data}/layers/{name}/image.erofs', 'r+b') as image:
        image.seek(200_000)
        byte = image.read(1)
        image.seek(200_000)
        image.write(bytes([byte[0] ^ 1]))
    result = docker('save', 'bb')
    assert result.code == 1
    assert 'it is damaged' in engines.read(docker.engine.log)
