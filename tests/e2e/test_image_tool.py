"""berth-image by hand on a data root: one of its own, and a running daemon's; several at once; killed at any moment."""
import base64
import glob
import hashlib
import io
import json
import os
import random
import sqlite3
import subprocess
import tarfile
import threading
import time

import pytest

import engines
import images
import registries
from images import docker_archive, entry, folder, tar

pytestmark = pytest.mark.berth
TOOL = os.path.join(engines.BIN, 'berth-image')


@pytest.fixture(scope='module')
def layers():
    return [images.busybox_root(),
            tar([folder('etc'), entry('etc/motd', data=b'second layer\n'), entry('etc/.wh.not-a-program')])]


class Tool:
    def __init__(self, root):
        self.root = root

    def __call__(self, *words, **options):
        options.setdefault('timeout', 120)
        return subprocess.run([TOOL, '--root', self.root, *words], capture_output=True, check=False, **options)

    def ok(self, *words, **options):
        done = self(*words, **options)
        assert done.returncode == 0, done
        return done.stdout

    def refuses(self, *words, text, code=1, **options):
        done = self(*words, **options)
        assert done.returncode == code and text in done.stderr.decode(), done
        assert code == 2 or len(done.stderr.splitlines()) == 1, done

    def files(self):
        return {name: sorted(os.listdir(os.path.join(self.root, name))) for name in ('staging', 'layers', 'blobs/sha256')}


EMPTY = {'staging': [], 'layers': [], 'blobs/sha256': []}


@pytest.fixture(params=['erofs', 'overlay'])
def tool(request, tmp_path):
    own = Tool(str(tmp_path / 'root'))
    own.driver = request.param
    return own


def sums(place):
    """Names, modes, owners, times, contents."""
    found = {}
    for at, folders, names in os.walk(place):
        for name in folders + names:
            path = os.path.join(at, name)
            info = os.lstat(path)
            content = os.readlink(path) if os.path.islink(path) else hashlib.sha256(open(path, 'rb').read()).hexdigest() \
                if os.path.isfile(path) else ''
            found[os.path.relpath(path, place)] = (info.st_mode, info.st_uid, info.st_gid, int(info.st_mtime), content)
    return found


# ---- a root of its own ----------------------------------------------------------------------------------------------

def test_load_and_look(tool, layers, tmp_path):
    archive, image = docker_archive('app:1', layers)
    assert tool.ok('load', '-s', tool.driver, input=archive).decode() == image + '\n'
    rows = tool.ok('ls').decode().splitlines()
    assert len(rows) == 2 and rows[1].split()[:3] == ['app', '1', image[7:19]]
    assert tool.ok('ls', '-q').decode().split() == [image]
    [found] = json.loads(tool.ok('inspect', 'app:1'))
    assert found['Id'] == image and found['RepoTags'] == ['app:1']
    assert [layer['DiffID'] for layer in found['Layers']] == ['sha256:' + images.digest(layer) for layer in layers]
    assert found['Configuration'] == json.loads(images.config(layers))
    file = tmp_path / 'archive.tar'
    file.write_bytes(archive)
    assert tool.ok('load', '-q', '--file', str(file)).decode() == image + '\n'
    tool.refuses('inspect', 'nothing', text='No such image: nothing:latest')
    assert tool.ok('rm', 'app:1').decode().splitlines()[:2] == ['Untagged: app:1', 'Deleted: ' + image]
    assert tool.files() == EMPTY


def test_unpack_and_mount_are_the_same(tool, layers, tmp_path):
    archive, _ = docker_archive('app:1', layers)
    tool.ok('load', '-s', tool.driver, input=archive)
    place, point = tmp_path / 'tree', tmp_path / 'mount'
    point.mkdir()
    tool.ok('unpack', 'app:1', str(place))
    tool.ok('mount', 'app:1', str(point))
    try:
        tree = sums(place)
        assert tree == sums(point)
        assert tree['etc/motd'][4] == images.digest(b'second layer\n') and 'etc/not-a-program' not in tree
        with pytest.raises(OSError):
            (point / 'new').write_text('x')
        tool.ok('rm', 'app:1')
        assert tool.files() == EMPTY
        assert sums(point) == (tree if tool.driver == 'erofs' else {})  # a layer that is a file goes with its last user
    finally:
        subprocess.run(['umount', str(point)], check=True)
    tool.refuses('unpack', 'app:1', str(tmp_path / 'other'), text='No such image')
    tool.ok('load', input=archive)
    tool.refuses('unpack', 'app:1', str(place), text='not empty')


def test_one_layer_alone(tool, layers, tmp_path):
    tool.ok('import', '-s', tool.driver, '-', 'one:1', input=layers[0])
    tool.ok('unpack', 'one:1', str(tmp_path / 'tree'))
    point = tmp_path / 'mount'
    point.mkdir()
    tool.ok('mount', 'one:1', str(point))
    tree = sums(point)
    subprocess.run(['umount', str(point)], check=True)
    assert tree == sums(tmp_path / 'tree') and 'bin/busybox' in tree


def test_import_with_changes(tool, layers):
    image = tool.ok('import', '-s', tool.driver, '-c', 'CMD ["sh"]', '-c', 'ENV A=b', '-m', 'by hand', '--platform', 'linux/arm64', '-',
                    'made:1', input=layers[0]).decode().strip()
    [found] = json.loads(tool.ok('inspect', image))
    config = found['Configuration']['config']
    assert config['Cmd'] == ['sh'] and config['Env'] == ['A=b']
    assert found['Configuration']['architecture'] == 'arm64' and found['Configuration']['comment'] == 'by hand'
    tool.refuses('import', '-c', 'FROM x', '-', input=layers[0], text='FROM is not a valid change command')


def test_saved_and_loaded_it_is_the_same(tool, layers, tmp_path):
    archive, image = docker_archive('app:1', layers)
    tool.ok('load', '-s', tool.driver, input=archive)
    file = tmp_path / 'saved.tar'
    tool.refuses('save', '--file', str(file), 'app:1', 'nothing', text='No such image: nothing')
    assert not file.exists() and not os.path.exists(f'{file}.part')
    tool.ok('save', '--file', str(file), 'app:1')
    assert tool.ok('save', 'app:1') == file.read_bytes()
    other = Tool(str(tmp_path / 'other'))
    assert other.ok('load', '-q', '--file', str(file)).decode().strip() == image
    assert tool.files()['staging'] == []


@pytest.mark.parametrize('words, text', [
    ([], 'Usage: berth-image'), (['fly'], 'Usage: berth-image'), (['inspect'], 'Usage: berth-image'),
    (['ls', '--force'], 'ls has no option --force'), (['rm', '-q', 'x'], 'rm has no option --quiet'),
    (['push', '--root', 'x', 'a', 'b'], 'push has no option --root')])
def test_wrong_usage(tmp_path, words, text):
    done = subprocess.run([TOOL, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and text in done.stderr, done


def test_only_root_has_a_data_root(tmp_path):
    done = subprocess.run(['setpriv', '--reuid', '12345', '--clear-groups', TOOL, '--root', str(tmp_path / 'x'), 'ls'],
                          capture_output=True, text=True, check=False)
    assert done.returncode == 1 and 'must be run by root' in done.stderr


# ---- several at once ------------------------------------------------------------------------------------------------

def test_many_at_once(tool, layers):
    """Loads, removals and collections of one root in many processes: what is there at the end is whole."""
    archives = [docker_archive(f'app{i}:1', [layers[0], tar([entry(f'file{i}', data=b'x' * 5000)])])[0] for i in range(4)]
    failures = []

    def work(number):
        for turn in range(4):
            done = tool('load', '-q', '-s', tool.driver, input=archives[(number + turn) % 4])
            if done.returncode != 0:
                failures.append(done)
            for words in (['gc'], ['ls'], ['rm', f'app{number}:1']):
                done = tool(*words)
                if done.returncode != 0 and b'No such image' not in done.stderr:
                    failures.append(done)
    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures
    for archive in archives:
        tool.ok('load', '-s', tool.driver, input=archive)
    tool.ok('rm', *[f'app{i}:1' for i in range(4)])
    assert tool.files() == EMPTY


@pytest.mark.long
def test_killed_at_any_moment(tool, layers):
    """load, gc and rm: the store opens clean, nothing is half there, the next try succeeds."""
    archive, image = docker_archive('app:1', layers)
    verbs = [['load', '-s', tool.driver], ['gc'], ['rm', 'app:1']]
    for _ in range(int(os.environ.get('BERTH_E2E_TOOL_KILLS', '8'))):
        for words in verbs:
            begun = subprocess.Popen([TOOL, '--root', tool.root, *words], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
                                     stderr=subprocess.DEVNULL)
            killer = threading.Timer(random.uniform(0, 0.15), begun.kill)
            killer.start()
            try:
                begun.communicate(archive if words[0] == 'load' else b'')
            except BrokenPipeError:
                pass
            killer.cancel()
            tool.ok('gc')
            found = tool.ok('ls', '-q').decode().split()
            assert found in ([], [image])
            assert len(tool.files()['blobs/sha256']) == len(found) and len([name for name in tool.files()['layers'] if not name.endswith('.tar')]) == 2 * len(found)
            engines.settle(lambda: tool.files()['staging'])
        assert tool.ok('load', '-q', '-s', tool.driver, input=archive).decode().strip() == image


def test_many_pull_it_once(tool, layers):
    registry = registries.Registry()
    try:
        _, image, blobs = registry.add_image('app', '1', layers)
        running = [subprocess.Popen([TOOL, '--root', tool.root, 'pull', '-q', '-s', tool.driver, f'{registry.address}/app:1'],
                                    stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(5)]
        for pull in running:
            out, why = pull.communicate(timeout=120)
            assert pull.returncode == 0 and out.strip() == image, why
        assert [registry.count('GET', '/blobs/' + blob) for blob in blobs] == [1] * len(blobs)
    finally:
        registry.close()


def test_push(tool, layers, tmp_path):
    """By the name, as docker push; and back. What the registry has is not sent again."""
    registry = registries.Registry(('basic', 'anna', 'secret'))
    try:
        archive, image = docker_archive(f'{registry.address}/team/app:1', layers)
        tool.ok('load', '-s', tool.driver, input=archive)
        (tmp_path / 'login').mkdir()
        text = base64.b64encode(b'anna:secret').decode()
        (tmp_path / 'login/config.json').write_text(json.dumps({'auths': {registry.address: {'auth': text}}}))
        name, login = f'{registry.address}/team/app:1', {**os.environ, 'DOCKER_CONFIG': str(tmp_path / 'login')}
        tool.refuses('push', '-q', name, text='no basic auth credentials', env={**os.environ, 'DOCKER_CONFIG': '/nonexistent'})
        done = tool('push', name, env=login)
        digest = done.stdout.decode().strip()
        assert done.returncode == 0 and b'Pushed' in done.stderr and registry.manifests['team/app', '1'] == registry.manifests['team/app', digest]
        before = registry.count('PATCH', '/blobs/')
        assert tool.ok('push', '-q', name, env=login).decode().strip() == digest and registry.count('PATCH', '/blobs/') == before
        [found] = json.loads(tool.ok('inspect', name))
        assert found['RepoDigests'] == [f'{registry.address}/team/app@{digest}']
        other = Tool(str(tmp_path / 'other'))
        assert other.ok('pull', '-q', f'{name[:-2]}@{digest}', env=login).decode().strip() == image
        tool.refuses('push', f'{registry.address}/no/app:1', text='No such image', env=login)
        tool.refuses('push', f'{name[:-2]}@{digest}', text='by tag', env=login)
        assert tool.files()['staging'] == []
    finally:
        registry.close()


@pytest.mark.parametrize('form, compress', [('docker', 'gzip'), ('oci', 'zstd')])
def test_originals_are_kept(tool, layers, form, compress):
    """A push to another registry gives the very blobs, and with them the manifest."""
    source, target = registries.Registry(), registries.Registry()
    try:
        manifest, image, blobs = source.add_image('app', '1', layers, form, compress)
        name, other = f'{source.address}/app:1', f'{target.address}/copy:1'
        tool.ok('pull', '-s', tool.driver, '--keep-compressed', name)
        # Loaded anew under the other name: what is there stays what it is.
        saved = tool.ok('save', name)
        with tarfile.open(fileobj=io.BytesIO(saved)) as archive:
            changed = [(member, (archive.extractfile(member).read().replace(source.address.encode(), target.address.encode()).replace(b'/app:1', b'/copy:1')
                                 if member.name in ('manifest.json', 'index.json') else archive.extractfile(member).read()) if member.isreg() else b'')
                       for member in archive]
        for member, data in changed:
            member.size = len(data)
        tool.ok('load', input=tar(changed))
        assert tool.ok('push', '-q', other).decode().strip() == manifest
        assert {blob: target.blobs[blob] for blob in blobs} == {blob: source.blobs[blob] for blob in blobs}
        originals = glob.glob(f'{tool.root}/layers/*/original-*')
        assert sorted(os.path.basename(path) for path in originals) == sorted('original-' + blob[7:] for blob in blobs)
        # One that was damaged since is not sent as what it was.
        target.blobs.clear()
        with open(originals[0], 'r+b') as file:
            file.seek(100)
            file.write(b'damaged')
        tool.refuses('push', '-q', other, text='its original is damaged')
        tool.ok('gc')
        tool.ok('rm', name, other)
        assert tool.files() == EMPTY
    finally:
        source.close()
        target.close()


def test_originals_of_an_archive(tool, layers):
    target = registries.Registry()
    try:
        archive, _ = images.oci_archive(f'{target.address}/app:1', layers, 'gzip')
        tool.ok('load', '-s', tool.driver, '--keep-compressed', input=archive)
        tool.ok('push', '-q', f'{target.address}/app:1')
        blobs = {name[7:] for name in target.blobs}
        with tarfile.open(fileobj=io.BytesIO(archive)) as whole:
            names = {os.path.basename(name) for name in whole.getnames()}
        kept = {os.path.basename(path)[9:] for path in glob.glob(f'{tool.root}/layers/*/original-*')}
        assert len(kept) == 2 and kept <= names and kept <= blobs
    finally:
        target.close()


def test_help():
    whole = subprocess.run([TOOL, '--help'], capture_output=True, text=True, check=True).stdout
    for verb in ('load', 'save', 'import', 'pull', 'push', 'ls', 'inspect', 'rm', 'unpack', 'mount', 'gc'):
        for words in ([verb, '--help'], ['--help', verb], [verb, '--help', 'x', 'y', 'z']):
            done = subprocess.run([TOOL, *words], capture_output=True, text=True, check=True)
            assert done.stdout.startswith(f'Usage: berth-image {verb} [OPTIONS]') and done.stderr == ''
        assert f'\n  {verb} ' in whole
        for line in done.stdout.splitlines():
            assert line in whole or line.startswith('Usage: ') or not line.startswith(' ')
    assert '--force' not in subprocess.run([TOOL, 'ls', '--help'], capture_output=True, text=True, check=True).stdout


# ---- in a user namespace ---------------------------------------------------------------------------------------------

# As rootless engines have it: the user itself, and the ids that /etc/subuid gives.
MANY = """
import os, sys
ready, go = os.pipe2(0), os.pipe2(0)  # inherited
child = os.fork()
if child == 0:
    os.close(go[1])
    os.execvp('unshare', ['unshare', '-Um', 'sh', '-c', f'echo >&{ready[1]}; read go <&{go[0]}; exec "$@"', 'sh', *sys.argv[1:]])
os.read(ready[0], 1)
for kind in ('uid', 'gid'):
    with open(f'/proc/{child}/{kind}_map', 'w') as file:
        file.write('0 0 1\\n1 100001 65535\\n')
os.write(go[1], b'\\n')
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def inside(*words, many=True, **options):
    namespace = ['python3', '-c', MANY] if many else ['unshare', '-Urm']
    return subprocess.run([*namespace, *words], capture_output=True, check=False, timeout=120, **options)


class Inside(Tool):
    """The tool as root of a user namespace."""
    many = True

    def __call__(self, *words, **options):
        return inside(TOOL, '--root', self.root, *words, many=self.many, **options)

    def drivers(self):
        with sqlite3.connect(f'file:{self.root}/berth.db?mode=ro', uri=True) as records:
            return {driver for driver, in records.execute('SELECT driver FROM image_chains')}


def device(name):
    info, data = entry(name, tarfile.CHRTYPE)
    info.devmajor, info.devminor = 1, 3
    return info, data


@pytest.fixture
def marked(layers):
    """A whiteout, an opaque folder, a device, set-id bits, owners."""
    return [layers[0], tar([folder('d', mode=0o751), entry('d/hidden', data=b'h'), entry('suid', data=b's', mode=0o4755, uid=7, gid=8), device('null')]),
            tar([folder('d', mode=0o750, uid=1000, gid=1234), entry('d/.wh..wh..opq'), entry('d/shown', data=b's'), folder('bin'), entry('bin/.wh.sh')])]


def seen_inside(tree):
    """What root unpacked, as a user namespace has it: no device, other owners."""
    def moved(number):
        return number + 100_000 if number else 0
    return {name: (mode, moved(uid), moved(gid), *rest) for name, (mode, uid, gid, *rest) in tree.items() if name != 'null'}


@pytest.mark.parametrize('driver', [None, 'vfs'])
def test_in_a_user_namespace(driver, marked, tmp_path):
    """Loaded, unpacked, mounted, saved and removed without root's rights: the tree is root's."""
    archive, image = docker_archive('app:1', marked)
    by_root, own = Tool(str(tmp_path / 'by-root')), Inside(str(tmp_path / 'own'))
    option = ['-s', driver] if driver else []
    by_root.ok('load', '-s', 'overlay', input=archive)
    by_root.ok('unpack', 'app:1', str(tmp_path / 'wanted'))
    wanted = sums(tmp_path / 'wanted')
    assert 'null' in wanted and 'd/hidden' not in wanted and 'bin/sh' not in wanted and wanted['d'][1] == 1000
    assert own.ok('load', *option, input=archive).decode() == image + '\n'
    assert own.drivers() == {f'{driver or "overlay"}-user'}
    own.ok('unpack', 'app:1', str(tmp_path / 'tree'))
    assert sums(tmp_path / 'tree') == seen_inside(wanted)
    (tmp_path / 'point').mkdir()
    done = inside('sh', '-ec', f'{TOOL} --root {own.root} mount app:1 point; cp -a point/. copy; grep point /proc/self/mounts', cwd=tmp_path)
    assert done.returncode == 0 and b'userxattr' in done.stdout, done
    assert sums(tmp_path / 'copy') == seen_inside(wanted)
    # The tar is exact, with its device.
    assert own.ok('save', 'app:1') == by_root.ok('save', 'app:1')
    # Neither takes the other's for its own.
    Tool(own.root).refuses('unpack', 'app:1', str(tmp_path / 'other'), text='it was unpacked in a user namespace, and can\'t be used outside of it')
    Inside(by_root.root).refuses('mount', 'app:1', str(tmp_path / 'point'), text='it was unpacked outside of this user namespace')
    own.ok('gc')
    own.ok('rm', 'app:1')
    assert own.files() == EMPTY


@pytest.mark.parametrize('many', [True, False])
def test_pulled_in_a_user_namespace(many, tmp_path):
    own, registry = Inside(str(tmp_path / 'own')), registries.Registry()
    own.many = many
    try:
        _, image, _ = registry.add_image('app', '1', [tar([folder('d'), entry('d/x', data=b'x')]), tar([folder('d'), entry('d/.wh..wh..opq')])])
        assert own.ok('pull', '-q', f'{registry.address}/app:1').decode().strip() == image
        own.ok('unpack', f'{registry.address}/app:1', str(tmp_path / 'tree'))
        assert os.listdir(tmp_path / 'tree/d') == []
    finally:
        registry.close()


def test_refused_in_a_user_namespace(layers, tmp_path):
    own = Inside(str(tmp_path / 'own'))
    for driver in ('erofs', 'btrfs'):
        own.refuses('load', '-s', driver, text=f'storage driver {driver}: not in a user namespace')
    own.many = False
    archive, _ = docker_archive('app:1', layers)
    own.refuses('load', input=archive, text='its owner 1000:1000 has no id in this user namespace')
    assert own.files() == EMPTY
    Tool(own.root).refuses('load', '-s', 'overlay-user', text='storage driver overlay-user: not one of', input=archive)


# ---- beside a daemon ------------------------------------------------------------------------------------------------

def test_beside_a_daemon(docker, engine, layers, tmp_path):
    tool = Tool(engine.data)
    archive, image = docker_archive('hand:1', [*layers, tar([entry('hand', data=b'h')])])
    try:
        tool.ok('load', input=archive)
        assert docker.ok('run', '--name', 'user', 'hand:1', 'cat', '/etc/motd') == 'second layer'
        assert docker.ok('image', 'inspect', '-f', '{{.Id}}', 'hand:1') == image
        tool.refuses('rm', 'hand:1', text='is using its referenced image')
        tool.refuses('rm', '--force', image, text='image is being used by running container')
        tool.ok('gc')
        assert docker.ok('start', '-a', 'user') == 'second layer'
        docker.ok('rm', 'user')
        tool.ok('rm', 'hand:1')
        assert docker('image', 'inspect', 'hand:1').code == 1
        assert not [thing for thing in engine.mounts() if 'deleted' in thing]
        tool.ok('load', input=archive)  # the same chains anew
        assert docker.ok('run', '--rm', 'hand:1', 'cat', '/etc/motd') == 'second layer'
    finally:
        docker('rm', '-f', 'user')
        docker('rmi', '-f', 'hand:1')


def test_pulled_by_both_at_once(docker, engine, layers):
    """The daemon's clients and berth-image want the same image in the same data root: it comes once, and all have it."""
    tool, registry = Tool(engine.data), registries.Registry()
    try:
        _, image, blobs = registry.add_image('app', '1', [*layers, tar([entry('both', data=os.urandom(200_000))])])
        registry.fault(blobs[-1], registries.part_then(0.5, lambda request: (time.sleep(0.5), registries.close(request))))
        name = f'{registry.address}/app:1'
        clients = [docker.popen('pull', '-q', name) for _ in range(2)]
        hands = [subprocess.Popen([TOOL, '--root', tool.root, 'pull', '-q', name], stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(2)]
        for one in [*clients, *hands]:
            out, why = one.communicate(timeout=120)
            assert one.returncode == 0, (out, why)
        assert registry.count('GET', '/blobs/' + blobs[-1]) == 2  # with the one that broke
        assert docker.ok('image', 'inspect', '-f', '{{.Id}}', name) == image
        assert docker.ok('run', '--rm', name, 'cat', '/etc/motd') == 'second layer'
        tool.ok('gc')
        assert tool.files()['staging'] == []
        docker.ok('rmi', name)
    finally:
        docker('rmi', '-f', name)
        registry.close()
