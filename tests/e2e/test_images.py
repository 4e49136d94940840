"""docker load, import, images, rmi: archives in every form become images; what climbs out is refused."""
import gzip
import io
import json
import os
import subprocess
import tarfile

import pytest

import bombs
import engines
import images
from images import COMPRESSIONS, docker_archive, entry, folder, legacy_archive, oci_archive, tar


@pytest.fixture(scope='module')
def layers():
    """Two layers: the second replaces a file and removes another."""
    return [images.busybox_root(),
            tar([folder('etc'), entry('etc/motd', data=b'second layer\n'), entry('etc/.wh.not-a-program'),
                 folder('opt'), folder('opt/deep'), entry('opt/deep/file', data=b'deep\n', mode=0o640, uid=1000, gid=1234)])]


def engine_files(engine):
    return {name: sorted(os.listdir(os.path.join(engine.data, name))) for name in ('staging', 'layers', 'blobs/sha256')}


def check_two_layers(docker, name):
    assert docker.ok('run', '--rm', name, 'cat', '/etc/motd') == 'second layer'
    assert docker('run', '--rm', name, 'cat', '/etc/not-a-program').code == 1
    assert docker.ok('run', '--rm', name, 'stat', '-c', '%u:%g %a', '/opt/deep/file') == '1000:1234 640'
    assert docker.ok('run', '--rm', name, 'stat', '-c', '%a', '/tmp') == '1777'


def remove(docker, *names):
    docker.ok('rmi', *names)
    for name in names:
        assert docker('image', 'inspect', name).code == 1


@pytest.mark.parametrize('compression', [
    'plain', 'gzip', 'bzip2', pytest.param('xz', marks=pytest.mark.differs_today('asks a program that its root here may lack', alone=True)),
    pytest.param('zstd', marks=pytest.mark.differs('reads no zstd')),
])
def test_load_docker_archive(docker, layers, compression):
    archive, identity = docker_archive('archived:1', layers)
    out = docker.ok('load', input=COMPRESSIONS[compression](archive))
    assert out == 'Loaded image: archived:1'
    assert docker.inspect('archived:1')['Id'] == identity
    assert len(docker.inspect('archived:1')['RootFS']['Layers']) == 2
    check_two_layers(docker, 'archived:1')
    remove(docker, 'archived:1')


def test_load_legacy_layout(docker, layers):
    docker.ok('load', input=legacy_archive('ancient:1', layers, Env=['OLD=yes', 'PATH=/bin']))
    check_two_layers(docker, 'ancient:1')
    assert docker.ok('run', '--rm', 'ancient:1', 'sh', '-c', 'echo $OLD') == 'yes'
    remove(docker, 'ancient:1')


@pytest.mark.differs_today('reads no OCI layout that has no manifest.json')
@pytest.mark.parametrize('compress', [None, 'gzip'])
def test_load_oci_layout(docker, layers, compress):
    archive, identity = oci_archive('modern:1', layers, compress)
    assert docker.ok('load', input=archive) == 'Loaded image: modern:1'
    assert docker.inspect('modern:1')['Id'] == identity
    check_two_layers(docker, 'modern:1')
    remove(docker, 'modern:1')


def test_load_without_a_name_prints_the_id(docker):
    archive, identity = docker_archive(None, [tar([entry('only', data=b'this')])])
    assert docker.ok('load', input=archive) == 'Loaded image ID: ' + identity
    assert identity in docker.ok('images', '-q', '--no-trunc', '-f', 'dangling=true').split() or \
        identity in docker.ok('images', '-q', '--no-trunc').split()
    docker.ok('rmi', identity)


def test_load_from_a_file(docker, tmp_path):
    archive, _ = docker_archive('filed:1', [tar([entry('a')])])
    (tmp_path / 'image.tar').write_bytes(archive)
    assert docker.ok('load', '-i', str(tmp_path / 'image.tar')) == 'Loaded image: filed:1'
    remove(docker, 'filed:1')


def test_load_twice_is_the_same_image(docker):
    archive, identity = docker_archive('twice:1', [tar([entry('a', data=b'twice')])])
    docker.ok('load', input=archive)
    docker.ok('load', input=archive)
    assert docker.ok('images', '-q', '--no-trunc', 'twice') == identity
    remove(docker, 'twice:1')


def test_loading_a_name_again_moves_it(docker):
    _, old = docker_archive('moving:1', [tar([entry('a', data=b'old')])])
    docker.ok('load', input=docker_archive('moving:1', [tar([entry('a', data=b'old')])])[0])
    archive, new = docker_archive('moving:1', [tar([entry('a', data=b'new')])])
    docker.ok('load', input=archive)
    assert docker.inspect('moving:1')['Id'] == new
    assert docker.inspect(old)['RepoTags'] == []
    docker.ok('rmi', old, 'moving:1')


def test_import_makes_a_one_layer_image(docker):
    root = images.busybox_root()
    identity = docker.ok('import', '-c', 'CMD ["echo","hi there"]', '-c', 'ENV A=1', '-c', 'WORKDIR /tmp', '-m', 'by hand',
                         '-', 'imported:2', input=root)
    assert identity.startswith('sha256:')
    image = docker.inspect('imported:2')
    assert image['Id'] == identity and image['RootFS']['Layers'] == ['sha256:' + images.digest(root)]
    assert image['Comment'] == 'by hand'
    assert docker.ok('run', '--rm', 'imported:2') == 'hi there'
    assert docker.ok('run', '--rm', 'imported:2', 'sh', '-c', 'echo $A $PWD') == '1 /tmp'
    remove(docker, 'imported:2')


@pytest.mark.parametrize('compression', ['gzip', pytest.param('xz', marks=pytest.mark.differs_today('asks a program that its root here may lack', alone=True))])
def test_import_compressed(docker, compression):
    docker.ok('import', '-', 'packed:1', input=COMPRESSIONS[compression](images.busybox_root()))
    assert docker.ok('run', '--rm', 'packed:1', 'echo', 'unpacked') == 'unpacked'
    remove(docker, 'packed:1')


def test_import_keeps_what_a_root_is_made_of(docker):
    root = tarfile.open(fileobj=io.BytesIO(images.busybox_root()))
    entries = [(info, root.extractfile(info).read() if info.isreg() else b'') for info in root]
    fifo, device = tarfile.TarInfo('fifo'), tarfile.TarInfo('null')
    fifo.type = tarfile.FIFOTYPE
    device.type, device.devmajor, device.devminor, device.mode = tarfile.CHRTYPE, 1, 3, 0o666
    entries += [entry('suid', data=b'x', mode=0o4755), entry('hard', tarfile.LNKTYPE, link='suid', mode=0o4755),
                entry('ünï©ode ' + 'long' * 40, data=b'named\n'), entry('absolute', tarfile.SYMTYPE, link='/etc/passwd'),
                (fifo, b''), (device, b'')]
    docker.ok('import', '-', 'kinds:1', input=tar(entries))
    script = 'stat -c %a /suid; stat -c %h /hard; cat /ün*; head -n 1 /absolute; test -p /fifo && test -c /null && echo both'
    assert docker.ok('run', '--rm', 'kinds:1', 'sh', '-c', script).splitlines() == [
        '4755', '2', 'named', 'root:x:0:0:root:/root:/bin/sh', 'both']
    remove(docker, 'kinds:1')


def test_a_real_debian_runs(docker, debian):
    assert docker.ok('run', '--rm', debian, 'apt-get', '--version').startswith('apt ')
    assert docker.ok('run', '--rm', debian, 'cat', '/etc/debian_version').startswith('12')


def test_images_lists_what_is_there(docker):
    lines = docker.ok('images', '--format', '{{.Repository}} {{.Tag}} {{.ID}}').splitlines()
    assert any(line.startswith('bb latest ') for line in lines)
    assert docker.ok('images', '-q', 'bb') == docker.inspect('bb')['Id'].split(':')[1][:12]
    assert docker.ok('images', '-q', 'nothing-like-it') == ''


def test_image_inspect_has_what_clients_read(docker):
    image = docker.inspect('bb')
    assert image['RepoTags'] == ['bb:latest'] and image['RepoDigests'] == []
    assert image['Architecture'] == 'amd64' and image['Os'] == 'linux' and image['Size'] > 1_000_000
    assert image['Config']['Cmd'] == ['sh'] and image['RootFS']['Type'] == 'layers'
    assert image['Created'].startswith('2023-11-14T22:13:20')


def test_an_image_answers_to_name_tag_id_and_prefix(docker):
    identity = docker.inspect('bb')['Id']
    for name in ('bb', 'bb:latest', 'docker.io/library/bb:latest', identity, identity[7:], identity[7:19]):
        assert docker.inspect(name)['Id'] == identity


def test_rmi_says_what_it_did(docker):
    archive, identity = docker_archive('gone:1', [tar([entry('a', data=b'gone')])])
    docker.ok('load', input=archive)
    lines = docker.ok('rmi', 'gone:1').splitlines()
    assert lines[0] == 'Untagged: gone:1' and lines[1] == 'Deleted: ' + identity


def test_rmi_of_an_image_in_use_is_refused(docker, name):
    docker.ok('run', '-d', '--name', name, 'bb', 'sleep', '100')
    result = docker('rmi', 'bb')
    assert result.code == 1 and 'conflict' in result.err and docker.ok('ps', '-q')
    assert docker.inspect('bb')['RepoTags'] == ['bb:latest']


def test_rmi_of_an_unknown_image(docker):
    result = docker('rmi', 'nosuch')
    assert result.code == 1 and 'No such image: nosuch' in result.err


# ---- sizes and history ----------------------------------------------------------------------------------------------

def step(created_by, **more):
    return {'created': '2023-11-14T22:13:20Z', 'created_by': created_by, **more}


def history(docker, name):
    rows = docker.ok('history', '--no-trunc', '--human=false', '--format', '{{json .}}', name).splitlines()
    return [(row['ID'], row['CreatedBy'], row['Size'], row['Comment']) for row in map(json.loads, rows)]


def test_an_image_is_as_large_as_its_files_and_links(docker):
    below = tar([folder('d'), entry('d/file', data=b'x' * 1000), entry('link', tarfile.SYMTYPE, link='d/file'),
                 entry('hard', tarfile.LNKTYPE, link='d/file')])
    above = tar([entry('d/file', data=b'y' * 300), entry('.wh.hard')])
    docker.ok('load', input=docker_archive('sized:1', [below, above])[0])
    assert docker.inspect('sized:1')['Size'] == 1000 + 6 + 300
    assert docker.ok('images', '--format', '{{.Size}}', 'sized:1') == '1.31kB'
    remove(docker, 'sized:1')


def test_history_tells_each_step_and_its_layer(docker):
    layers = [tar([entry('a', data=b'a' * 10)]), tar([entry('b', data=b'b' * 20)])]
    steps = [step('ADD a'), step('ENV X=1', empty_layer=True), step('COPY b', comment='by hand'), step('CMD', empty_layer=True)]
    archive, identity = docker_archive('steps:1', layers, history=steps)
    docker.ok('load', input=archive)
    docker.ok('tag', 'steps:1', 'steps:2')
    assert history(docker, 'steps:1') == [
        (identity, 'CMD', '0', ''), ('<missing>', 'COPY b', '20', 'by hand'), ('<missing>', 'ENV X=1', '0', ''),
        ('<missing>', 'ADD a', '10', '')]
    docker.ok('rmi', 'steps:1', 'steps:2')


def test_history_over_the_wire(docker, api):
    archive, identity = docker_archive('steps:3', [tar([entry('a', data=b'a')])])
    docker.ok('load', input=archive)
    docker.ok('tag', 'steps:3', 'steps:4')
    rows = api.get('/images/steps:3/history').json
    assert [row['Id'] for row in rows] == [identity] and sorted(rows[0]['Tags']) == ['steps:3', 'steps:4']
    assert rows[0]['Created'] == 1_700_000_000 and rows[0]['Size'] == 1
    docker.ok('rmi', 'steps:3', 'steps:4')


def test_an_image_without_a_history(docker):
    docker.ok('load', input=docker_archive('mute:1', [tar([entry('a', data=b'a')])], history=[])[0])
    assert docker.ok('history', '-q', 'mute:1') == ''
    remove(docker, 'mute:1')


def test_a_history_that_is_longer_than_the_layers(docker):
    result = docker('load', input=docker_archive('boast:1', [tar([entry('a')])], history=[step('one'), step('two')])[0])
    assert result.code == 1 and 'too many non-empty layers in History section' in result.err
    assert docker('image', 'inspect', 'boast:1').code == 1


# ---- archives that lie ----------------------------------------------------------------------------------------------

def climbing(outside):
    """Layers that try to write to `outside`, an absolute folder of the host."""
    up = '../' * 12 + outside.lstrip('/')
    return {
        'dot dot': [entry(up + '/planted', data=b'x')],
        'absolute': [entry(outside + '/planted', data=b'x')],
        'link, then through it': [entry('way', tarfile.SYMTYPE, link=outside), entry('way/planted', data=b'x')],
        'relative link, then through it': [entry('way', tarfile.SYMTYPE, link=up), entry('way/planted', data=b'x')],
        'link in two steps': [folder('a'), entry('a/up', tarfile.SYMTYPE, link='../..'),
                              entry('way', tarfile.SYMTYPE, link='a/up/../../../../../../../../..' + outside),
                              entry('way/planted', data=b'x')],
        'hard link out, then written': [entry('way', tarfile.LNKTYPE, link=up + '/witness'), entry('way', data=b'x')],
        'hard link to an absolute name': [entry('way', tarfile.LNKTYPE, link=outside + '/witness'), entry('way', data=b'x')],
        'hard link through a link': [entry('out', tarfile.SYMTYPE, link=outside),
                                     entry('way', tarfile.LNKTYPE, link='out/witness'), entry('way', data=b'x')],
        'file over a link': [entry('way', tarfile.SYMTYPE, link=outside + '/witness'), entry('way', data=b'x')],
        'whiteout above': [entry('../' * 12 + outside.lstrip('/') + '/.wh.witness')],
        'whiteout through a link': [entry('way', tarfile.SYMTYPE, link=outside), entry('way/.wh.witness')],
        'folder mode through a link': [entry('way', tarfile.SYMTYPE, link=outside), folder('way', 0o700)],
    }


@pytest.mark.parametrize('how', list(climbing('/x')))
@pytest.mark.parametrize('verb', ['import', 'load'])
def test_a_tar_that_climbs_out_touches_nothing(docker, sealed, how, verb):
    before = sealed.stat().st_mode
    layer = tar(climbing(str(sealed))[how])
    archive = layer if verb == 'import' else docker_archive('climber:1', [layer])[0]
    result = docker(*(['import', '-', 'climber:1'] if verb == 'import' else ['load']), input=archive)
    assert sealed.stat().st_mode == before
    if result.code == 0:  # taken as names inside the image, which is harmless
        docker.ok('rmi', 'climber:1')
    else:
        assert docker('image', 'inspect', 'climber:1').code == 1


@pytest.mark.differs('takes ".." as a name inside the root')
def test_dot_dot_is_refused(docker, sealed):
    result = docker('import', '-', 'climber:1', input=tar(climbing(str(sealed))['dot dot']))
    assert result.code == 1 and len(result.err.strip().splitlines()) == 1


def test_an_archive_whose_paths_climb_out(docker, sealed):
    manifest = json.dumps([{'Config': '../' * 12 + str(sealed).lstrip('/') + '/witness', 'RepoTags': ['x:1'], 'Layers': []}])
    result = docker('load', input=tar([entry('manifest.json', data=manifest.encode())]))
    assert result.code == 1


@pytest.mark.parametrize('what', ['empty', 'garbage', 'cut', 'no manifest', 'layer of another digest', 'broken json'])
def test_load_of_a_broken_archive(docker, what):
    whole, _ = docker_archive('broken:1', [tar([entry('a', data=b'a' * 100_000)])])
    text = json.loads(images.config([tar([entry('a')])]))
    wrong = images.digest(b'') + '.json'
    data = {
        'empty': b'',
        'garbage': b'\x01garbage' * 4096,
        'cut': whole[:len(whole) // 2],
        'no manifest': tar([entry('file', data=b'x')]),
        'layer of another digest': tar([
            entry('l/layer.tar', data=tar([entry('b')])), entry(wrong, data=json.dumps(text).encode()),
            entry('manifest.json', data=json.dumps(
                [{'Config': wrong, 'RepoTags': ['broken:1'], 'Layers': ['l/layer.tar']}]).encode())]),
        'broken json': tar([entry('manifest.json', data=b'[{"Config":')]),
    }[what]
    result = docker('load', input=data)
    assert what == 'empty' or result.code == 1, result
    assert docker('image', 'inspect', 'broken:1').code == 1


in_the_full_run = pytest.mark.skipif(not os.environ.get('BERTH_E2E_LONG'), reason='half a minute of computing: make check-full does it')


@pytest.mark.berth
@pytest.mark.parametrize('verb,form', [('load', bombs.GZIP), pytest.param('import', bombs.ZSTD, marks=in_the_full_run),
                                       pytest.param('import', bombs.BZIP2, marks=[pytest.mark.long, in_the_full_run])])
def test_a_bomb(docker, engine, verb, form):
    """Some kilobytes of 10 GiB: a tar of one file; an archive by gzip whose layer is by gzip. Nothing is left, in one line."""
    before = engine_files(engine)
    data = bombs.pieces(form, bombs.header())
    if verb == 'load':
        data = gzip.compress(docker_archive('bomb:1', [data])[0])
        assert len(data) < 200_000
    result = docker(verb, *(['-', 'bomb:1'] if verb == 'import' else []), input=data)
    assert result.code == 1 and bombs.WORDS in result.err and len(result.err.splitlines()) == 1, result
    assert engine_files(engine) == before


@pytest.mark.berth
def test_a_layer_of_zeros(docker):
    """gzip makes a thousandth of it, and that is no bomb."""
    root = tar([entry('zeros', data=bytes(300 << 20))])
    docker.ok('import', '-', 'zeros:1', input=gzip.compress(root))
    docker.ok('rmi', 'zeros:1')


@pytest.mark.berth
@pytest.mark.parametrize('verb', ['import', 'load'])
def test_a_full_disk(docker, verb, tmp_path):
    from conftest import Docker
    small = engines.Berth()
    os.makedirs(small.data)
    subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=8m', 'none', small.data], check=True)
    try:
        small.start()
        client = Docker(small, docker.cli, docker.folder)
        before = engine_files(small)
        root = tar([entry('big', data=os.urandom(16 << 20))])
        data = docker_archive('big:1', [root])[0] if verb == 'load' else root
        result = client(verb, *(['-', 'big:1'] if verb == 'import' else []), input=data)
        assert result.code == 1 and 'o space left on device' in result.err and len(result.err.splitlines()) == 1, result
        assert engine_files(small) == before
    finally:
        assert small.stop_all().returncode == 0
        subprocess.run(['umount', '-l', small.data], check=True)
        small.remove_folder()


def test_import_with_a_bad_name_or_change(docker):
    root = tar([entry('a')])
    assert 'invalid reference format' in docker('import', '-', 'Bad:Name:x', input=root).err
    result = docker('import', '-c', 'FROM x', '-', 'x:1', input=root)
    assert result.code == 1 and docker('image', 'inspect', 'x:1').code == 1


@pytest.mark.differs_today('knows it since 28, and has other words')
def test_an_image_of_another_platform(docker, api, tmp_path):
    docker.needs((1, 48), 'has no such flag')
    other = ('--platform', 'linux/arm64')
    for words in (['save', '-o', str(tmp_path / 'x')], ['history'], ['image', 'inspect']):
        answer = docker(*words, *other, 'bb')
        assert answer.code == 1 and 'its platform (linux/amd64) does not match the specified platform (linux/arm64)' in answer.err, answer
        docker.ok(*words, '--platform', 'linux/amd64', 'bb')
    answer = docker('load', *other, '-i', str(tmp_path / 'x'))
    assert answer.code == 1 and 'linux/arm64' in answer.err
    docker.ok('load', '--platform', 'linux/amd64', '-i', str(tmp_path / 'x'))
    assert api.get('/images/bb/json?platform=nonsense').status == 400
